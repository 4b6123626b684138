// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ERC20} from "@openzeppelin/contracts/token/ERC20/ERC20.sol";
import {ERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Permit.sol";
import {ERC20Votes} from "@openzeppelin/contracts/token/ERC20/extensions/ERC20Votes.sol";
import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";
import {Nonces} from "@openzeppelin/contracts/utils/Nonces.sol";
import {Time} from "@openzeppelin/contracts/utils/types/Time.sol";

/// @title GOPEN, the vote in OpenLedger.
/// @notice Wraps native OPEN one to one: what is deposited is minted, what is burnt is paid back.
/// Votes count once they are delegated, to oneself or to another. The clock is the block's
/// timestamp, so that periods mean the same on chains of any block time.
contract GovernanceToken is ERC20, ERC20Permit, ERC20Votes {
    /// @notice Nothing was sent, or nothing asked back.
    error ZeroAmount();
    /// @notice `to` refused `amount` of native OPEN.
    error TransferFailed(address to, uint256 amount);

    /// @notice `amount` of native OPEN became GOPEN of `account`.
    event Wrapped(address indexed account, uint256 amount);
    /// @notice `amount` of GOPEN of `account` became native OPEN again.
    event Unwrapped(address indexed account, uint256 amount);

    constructor() ERC20("Governance OPEN", "GOPEN") ERC20Permit("Governance OPEN") {}

    /// @notice Sending OPEN here wraps it.
    receive() external payable {
        deposit();
    }

    /// @notice Wrap the OPEN that is sent along.
    function deposit() public payable {
        _wrap(msg.sender);
    }

    /// @notice Wrap the OPEN that is sent along and let `delegatee` vote with all GOPEN of the sender.
    function depositAndDelegate(address delegatee) external payable {
        _wrap(msg.sender);
        _delegate(msg.sender, delegatee);
    }

    /// @notice Burn `amount` of GOPEN and get as much OPEN back.
    function withdraw(uint256 amount) external {
        if (amount == 0) revert ZeroAmount();
        _burn(msg.sender, amount);
        emit Unwrapped(msg.sender, amount);
        if (!LowLevelCall.callNoReturn(msg.sender, amount, "")) {
            revert TransferFailed(msg.sender, amount);
        }
    }

    /// @inheritdoc ERC20Permit
    function nonces(address owner) public view override(ERC20Permit, Nonces) returns (uint256) {
        return super.nonces(owner);
    }

    /// @notice Now, in the unit in which votes are counted: seconds.
    function clock() public view override returns (uint48) {
        return Time.timestamp();
    }

    /// @notice What `clock` counts (ERC-6372).
    // solhint-disable-next-line func-name-mixedcase
    function CLOCK_MODE() public pure override returns (string memory) {
        return "mode=timestamp";
    }

    function _wrap(address account) private {
        if (msg.value == 0) revert ZeroAmount();
        _mint(account, msg.value);
        emit Wrapped(account, msg.value);
    }

    function _update(address from, address to, uint256 value) internal override(ERC20, ERC20Votes) {
        super._update(from, to, value);
    }
}
