// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {TimelockController} from "@openzeppelin/contracts/governance/TimelockController.sol";

/// @title The owner of every governed contract.
/// @notice OpenZeppelin's TimelockController under a name of its own, so that its artifact is built
/// and committed with the others. The deployer's admin role is renounced once the governor may
/// propose; from then on it changes only through itself.
contract Timelock is TimelockController {
    /// @param minDelay Seconds between queueing and executing.
    /// @param proposers Who may queue.
    /// @param executors Who may execute; the zero address stands for everybody.
    /// @param admin Who hands out the roles until it renounces.
    constructor(uint256 minDelay, address[] memory proposers, address[] memory executors, address admin)
        TimelockController(minDelay, proposers, executors, admin)
    {}
}
