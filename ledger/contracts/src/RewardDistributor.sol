// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";
import {MerkleProof} from "@openzeppelin/contracts/utils/cryptography/MerkleProof.sol";

/// @title Pays what the ledger owes, by one Merkle root for all accounts.
/// @notice A leaf holds everything that an account has ever earned, and a claim pays what it has not
/// had yet, so a root replaces the one before it and no claim expires. A root is taken only when the
/// contract holds what it owes. The guardian may stop and revoke but never move funds, and nobody
/// can take funds out but by a claim.
contract RewardDistributor is AccessControl {
    /// @notice Who may publish roots: the sender of the ledger.
    bytes32 public constant PUBLISHER_ROLE = keccak256("PUBLISHER_ROLE");
    /// @notice Who may revoke a pending root and pause claims.
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");
    /// @notice The longest delay that may be set, in seconds.
    uint48 public constant DELAY_LIMIT = 30 days;

    /// @notice The epoch must be `expected`.
    error WrongEpoch(uint64 epoch, uint64 expected);
    /// @notice The total fell from `last` to `total`.
    error TotalFell(uint128 total, uint128 last);
    /// @notice `held` wei are here and `owed` would be owed.
    error Insolvent(uint256 held, uint256 owed);
    /// @notice A root is empty.
    error EmptyRoot();
    /// @notice The root of `epoch` waits already; it is activated or revoked first.
    error RootPending(uint64 epoch);
    /// @notice No root waits.
    error NothingPending();
    /// @notice The pending root may be activated at `readyAt`, in seconds.
    error TooEarly(uint48 readyAt);
    /// @notice The delay is above its limit.
    error DelayTooLong(uint48 delay, uint48 limit);
    /// @notice The proof does not lead from this account and amount to the root.
    error WrongProof(address account, uint256 cumulative);
    /// @notice `account` has had `claimed` already.
    error NothingToClaim(address account, uint256 cumulative, uint256 claimed);
    /// @notice More would be paid out than the root's total.
    error OverTotal(uint256 paid, uint256 total);
    /// @notice `to` refused `amount` of native OPEN.
    error TransferFailed(address to, uint256 amount);
    /// @notice Claims are stopped.
    error ClaimsPaused();

    /// @notice `amount` arrived.
    event Funded(address indexed from, uint256 amount);
    /// @notice A root waits until `activatesAt`.
    event RootProposed(uint64 indexed epoch, bytes32 root, uint128 total, uint48 activatesAt);
    /// @notice A root is in force.
    event RootActivated(uint64 indexed epoch, bytes32 root, uint128 total);
    /// @notice `dataHash` is the SHA-256 of the file that holds the leaves under an epoch's root.
    event LeavesPublished(uint64 indexed epoch, bytes32 dataHash);
    /// @notice The guardian withdrew a pending root.
    event RootRevoked(uint64 indexed epoch, bytes32 root);
    /// @notice `account` was paid `amount`, and has had `cumulative` in all.
    event Claimed(address indexed account, uint256 amount, uint256 cumulative);
    /// @notice Roots wait `delay` seconds from now on.
    event DelayChanged(uint48 previous, uint48 delay);
    /// @notice Claims were stopped or allowed again.
    event PauseChanged(bool paused);

    /// @notice A root that waits.
    /// @param root The root.
    /// @param total The sum of all cumulative amounts under it.
    /// @param activatesAt When it may be put in force, in seconds.
    struct Pending {
        bytes32 root;
        uint128 total;
        uint48 activatesAt;
    }

    /// @notice The root in force.
    bytes32 public root;
    /// @notice The epoch of the root in force; 0 before the first.
    uint64 public epoch;
    /// @notice The sum of all cumulative amounts under the root in force.
    uint128 public total;
    /// @notice How long a new root waits, in seconds.
    uint48 public delay;
    /// @notice Whether a root waits. Packed with the epoch, so that publishing reads it for nothing.
    bool public hasPending;
    /// @notice The sum of all amounts that were paid.
    uint128 public totalClaimed;
    /// @notice Whether claims are stopped.
    bool public paused;
    /// @notice The root that waits, if any.
    Pending public pending;
    /// @notice What an account has had in all.
    mapping(address account => uint256) public claimed;

    /// @param admin The timelock.
    /// @param publisher The ledger's sender.
    /// @param guardian Who may revoke and pause.
    /// @param delay_ How long a new root waits, in seconds; 0 for not at all.
    constructor(address admin, address publisher, address guardian, uint48 delay_) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(PUBLISHER_ROLE, publisher);
        _grantRole(GUARDIAN_ROLE, guardian);
        _setDelay(delay_);
    }

    /// @notice Anyone may fund what is owed.
    receive() external payable {
        emit Funded(msg.sender, msg.value);
    }

    /// @notice Publish the root of the next epoch; with a delay it waits first.
    /// @param epoch_ The last one plus 1.
    /// @param total_ The sum of all cumulative amounts; never less than before.
    /// @param root_ The StandardMerkleTree root over
    /// (uint256 chainId, address distributor, address account, uint256 cumulative).
    /// @param dataHash The SHA-256 of the published file of leaves.
    function publish(uint64 epoch_, uint128 total_, bytes32 root_, bytes32 dataHash)
        external
        onlyRole(PUBLISHER_ROLE)
    {
        if (hasPending) revert RootPending(epoch + 1);
        if (root_ == 0) revert EmptyRoot();
        if (epoch_ != epoch + 1) revert WrongEpoch(epoch_, epoch + 1);
        if (total_ < total) revert TotalFell(total_, total);
        _checkSolvent(total_);
        emit LeavesPublished(epoch_, dataHash);
        uint48 wait = delay;
        if (wait == 0) {
            _activate(epoch_, total_, root_);
            return;
        }
        uint48 activatesAt = uint48(block.timestamp) + wait;
        hasPending = true;
        pending = Pending({root: root_, total: total_, activatesAt: activatesAt});
        emit RootProposed(epoch_, root_, total_, activatesAt);
    }

    /// @notice Put the pending root in force once its delay is over. Anyone may.
    function activate() external {
        if (!hasPending) revert NothingPending();
        Pending memory next = pending;
        if (block.timestamp < next.activatesAt) revert TooEarly(next.activatesAt);
        delete pending;
        _checkSolvent(next.total);
        _activate(epoch + 1, next.total, next.root);
    }

    /// @notice Withdraw the pending root, so that another may be published for its epoch.
    function revoke() external onlyRole(GUARDIAN_ROLE) {
        if (!hasPending) revert NothingPending();
        emit RootRevoked(epoch + 1, pending.root);
        hasPending = false;
        delete pending;
    }

    /// @notice Pay `account` what it has earned and not had. Anyone may, and pays the gas.
    function claim(address account, uint256 cumulative, bytes32[] calldata proof) external {
        if (paused) revert ClaimsPaused();
        if (!MerkleProof.verifyCalldata(proof, root, leaf(account, cumulative))) {
            revert WrongProof(account, cumulative);
        }
        uint256 had = claimed[account];
        if (cumulative <= had) revert NothingToClaim(account, cumulative, had);
        uint256 amount = cumulative - had;
        uint256 paid = totalClaimed + amount;
        // A tree whose leaves add up to more than its total could pay one account with another's money.
        if (paid > total) revert OverTotal(paid, total);
        claimed[account] = cumulative;
        totalClaimed = uint128(paid);
        emit Claimed(account, amount, cumulative);
        // All state is written above, so a recipient that calls back finds nothing left to take.
        if (!LowLevelCall.callNoReturn(account, amount, "")) revert TransferFailed(account, amount);
    }

    /// @notice Stop or allow claims. The guardian may stop them; only the admin allows them again.
    function setPaused(bool paused_) external {
        _checkRole(paused_ ? GUARDIAN_ROLE : DEFAULT_ADMIN_ROLE);
        paused = paused_;
        emit PauseChanged(paused_);
    }

    /// @notice Let new roots wait `delay_` seconds.
    function setDelay(uint48 delay_) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setDelay(delay_);
    }

    /// @notice The leaf of an account here, on this chain.
    function leaf(address account, uint256 cumulative) public view returns (bytes32) {
        return keccak256(
            bytes.concat(keccak256(abi.encode(block.chainid, address(this), account, cumulative)))
        );
    }

    function _activate(uint64 epoch_, uint128 total_, bytes32 root_) private {
        root = root_;
        epoch = epoch_;
        total = total_;
        hasPending = false;
        emit RootActivated(epoch_, root_, total_);
    }

    function _checkSolvent(uint128 total_) private view {
        uint256 owed = total_ - totalClaimed;
        if (address(this).balance < owed) revert Insolvent(address(this).balance, owed);
    }

    function _setDelay(uint48 delay_) private {
        if (delay_ > DELAY_LIMIT) revert DelayTooLong(delay_, DELAY_LIMIT);
        emit DelayChanged(delay, delay_);
        delay = delay_;
    }
}
