// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";
import {StakePools} from "./StakePools.sol";

/// @title The door between the chain and the ledger.
/// @notice A deposit names the ledger's account that it is for. The operator pays withdrawals in
/// batches, each number once, moves earnings to the distributor and the stakers' part of fees to the
/// pools; there is no other place that funds can go. A withdrawal whose recipient refuses it stays
/// here and is told of, so that the ledger credits it back.
contract Gateway is AccessControl {
    /// @notice One payment of a batch.
    struct Withdrawal {
        address to;
        uint256 amount;
    }

    /// @notice Who may pay withdrawals, fund the distributor and the pools: the ledger's sender.
    bytes32 public constant OPERATOR_ROLE = keccak256("OPERATOR_ROLE");
    /// @notice Who may stop outgoing payments.
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");
    /// @notice The most payments in a batch: a transaction may use 16.78 million gas (EIP-7825).
    uint256 public constant BATCH_LIMIT = 300;
    /// @notice The gas that a recipient may use; a batch of refusals must still fit a transaction.
    uint256 public constant RECIPIENT_GAS = 10_000;

    /// @notice Nothing was sent.
    error ZeroAmount();
    /// @notice The account is empty.
    error NoAccount();
    /// @notice The batch holds none or too many payments.
    error BatchSize(uint256 size, uint256 limit);
    /// @notice This batch was paid before.
    error AlreadyPaid(bytes32 batchId);
    /// @notice `held` wei are here and `asked` were asked for.
    error NotEnough(uint256 held, uint256 asked);
    /// @notice The distributor refused `amount`.
    error TransferFailed(address to, uint256 amount);
    /// @notice The caller left too little gas for a recipient to be judged fairly.
    error NotEnoughGas();
    /// @notice Outgoing payments are stopped.
    error PaymentsPaused();

    /// @notice `from` deposited `amount` for the ledger's account `accountId`.
    event Deposited(bytes32 indexed accountId, address indexed from, uint256 amount);
    /// @notice Payment `index` of a batch was made.
    event Withdrawn(bytes32 indexed batchId, address indexed to, uint256 index, uint256 amount);
    /// @notice Payment `index` of a batch was refused by its recipient and stays here.
    event Refused(bytes32 indexed batchId, address indexed to, uint256 index, uint256 amount);
    /// @notice A batch is done; `refused` wei of it stay here.
    event BatchPaid(bytes32 indexed batchId, uint256 paid, uint256 refused);
    /// @notice `amount` went to the distributor.
    event DistributorFunded(bytes32 indexed batchId, address indexed distributor, uint256 amount);
    /// @notice `amount` went to a pool, as rewards of those who staked there.
    event StakersFunded(
        bytes32 indexed batchId, bytes32 indexed poolId, address indexed stakePools, uint256 amount
    );
    /// @notice Another distributor gets the earnings from now on.
    event DistributorChanged(address previous, address distributor);
    /// @notice Other pools get the stakers' part of fees from now on.
    event StakePoolsChanged(address previous, address stakePools);
    /// @notice Outgoing payments were stopped or allowed again.
    event PauseChanged(bool paused);

    /// @notice Where earnings go.
    address payable public distributor;
    /// @notice Where the stakers' part of fees goes.
    StakePools public stakePools;
    /// @notice Whether outgoing payments are stopped.
    bool public paused;
    /// @notice Whether a batch was paid.
    mapping(bytes32 batchId => bool) public done;

    /// @param admin The timelock.
    /// @param operator The ledger's sender.
    /// @param guardian Who may stop payments.
    /// @param distributor_ Where earnings go.
    /// @param stakePools_ Where the stakers' part of fees goes.
    constructor(
        address admin,
        address operator,
        address guardian,
        address payable distributor_,
        StakePools stakePools_
    ) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(OPERATOR_ROLE, operator);
        _grantRole(GUARDIAN_ROLE, guardian);
        _setDistributor(distributor_);
        _setStakePools(stakePools_);
    }

    /// @notice Deposit the OPEN that is sent along for the ledger's account `accountId`.
    function deposit(bytes32 accountId) external payable {
        if (msg.value == 0) revert ZeroAmount();
        if (accountId == 0) revert NoAccount();
        emit Deposited(accountId, msg.sender, msg.value);
    }

    /// @notice Pay a batch of withdrawals, once.
    function withdraw(bytes32 batchId, Withdrawal[] calldata payments)
        external
        onlyRole(OPERATOR_ROLE)
    {
        if (payments.length == 0 || payments.length > BATCH_LIMIT) {
            revert BatchSize(payments.length, BATCH_LIMIT);
        }
        _start(batchId);
        _checkHeld(payments);
        uint256 paid = 0;
        uint256 refused = 0;
        for (uint256 i = 0; i < payments.length; ++i) {
            Withdrawal calldata payment = payments[i];
            if (_pay(payment.to, payment.amount)) {
                paid += payment.amount;
                emit Withdrawn(batchId, payment.to, i, payment.amount);
            } else {
                refused += payment.amount;
                emit Refused(batchId, payment.to, i, payment.amount);
            }
        }
        emit BatchPaid(batchId, paid, refused);
    }

    /// @notice Move `amount` to the distributor, once.
    function fundDistributor(bytes32 batchId, uint256 amount) external onlyRole(OPERATOR_ROLE) {
        _startMove(batchId, amount);
        address payable to = distributor;
        emit DistributorFunded(batchId, to, amount);
        if (!LowLevelCall.callNoReturn(to, amount, "")) revert TransferFailed(to, amount);
    }

    /// @notice Move `amount` to a pool as rewards of its stakers, once. The pool of a model opens by it.
    function fundStakers(bytes32 batchId, bytes32 poolId, uint256 amount)
        external
        onlyRole(OPERATOR_ROLE)
    {
        _startMove(batchId, amount);
        StakePools to = stakePools;
        emit StakersFunded(batchId, poolId, address(to), amount);
        to.fund{value: amount}(poolId);
    }

    /// @notice Stop or allow payments. The guardian may stop them; only the admin allows them again.
    function setPaused(bool paused_) external {
        _checkRole(paused_ ? GUARDIAN_ROLE : DEFAULT_ADMIN_ROLE);
        paused = paused_;
        emit PauseChanged(paused_);
    }

    /// @notice Send earnings to `distributor_` from now on.
    function setDistributor(address payable distributor_) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setDistributor(distributor_);
    }

    /// @notice Send the stakers' part of fees to `stakePools_` from now on.
    function setStakePools(StakePools stakePools_) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setStakePools(stakePools_);
    }

    function _startMove(bytes32 batchId, uint256 amount) private {
        if (amount == 0) revert ZeroAmount();
        if (amount > address(this).balance) revert NotEnough(address(this).balance, amount);
        _start(batchId);
    }

    function _start(bytes32 batchId) private {
        if (paused) revert PaymentsPaused();
        if (done[batchId]) revert AlreadyPaid(batchId);
        done[batchId] = true;
    }

    function _checkHeld(Withdrawal[] calldata payments) private view {
        uint256 asked = 0;
        for (uint256 i = 0; i < payments.length; ++i) {
            if (payments[i].amount == 0) revert ZeroAmount();
            asked += payments[i].amount;
        }
        if (asked > address(this).balance) revert NotEnough(address(this).balance, asked);
    }

    /// The returned data is not copied: a recipient cannot make the batch pay for its memory.
    function _pay(address to, uint256 amount) private returns (bool paid) {
        // 63/64 of the gas go along at most; with less here, a sender could starve a recipient and
        // have its payment told as refused.
        if (gasleft() < RECIPIENT_GAS + 60_000) revert NotEnoughGas();
        uint256 allowance = RECIPIENT_GAS;
        assembly ("memory-safe") {
            paid := call(allowance, to, amount, 0, 0, 0, 0)
        }
    }

    function _setDistributor(address payable distributor_) private {
        emit DistributorChanged(distributor, distributor_);
        distributor = distributor_;
    }
    function _setStakePools(StakePools stakePools_) private {
        emit StakePoolsChanged(address(stakePools), address(stakePools_));
        stakePools = stakePools_;
    }
}
