// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {StakeBooks} from "./StakeBooks.sol";

/// @title Slashing of stakes: a stated share, evidence, an appeal window, and somebody who may stop it.
/// @notice A slash takes a stated share of one stake, names its evidence, waits for an appeal, and may
/// be called off by the timelock or the guardian. What it takes goes to the treasury.
abstract contract StakeSlashing is StakeBooks {
    /// @notice A slash that waits.
    /// @param poolId The pool.
    /// @param account Whose stake.
    /// @param executableAt When its appeal window ends.
    /// @param share The share of the stake, in basis points.
    /// @param window By how many seconds an appeal moves that end.
    /// @param appealed Whether the account appealed, which may be done once.
    /// @param amount What the share was when it was proposed, in wei.
    /// @param bond What an appeal costs until it is decided, in wei.
    struct Slash {
        bytes32 poolId;
        address account;
        uint48 executableAt;
        uint16 share;
        uint24 window;
        bool appealed;
        uint128 amount;
        uint128 bond;
    }

    /// @notice Who may propose a slash: the ledger's sender.
    bytes32 public constant SLASHER_ROLE = keccak256("SLASHER_ROLE");

    /// @notice `amount` wei of the stake are held until slash `slashId` is decided.
    error HeldBySlash(uint64 slashId, uint256 amount);
    /// @notice Slash `slashId` of that stake is decided first.
    error SlashWaits(uint64 slashId);
    /// @notice No such slash waits.
    error UnknownSlash(uint64 slashId);
    /// @notice A slash names its evidence.
    error NoEvidence();
    /// @notice The appeal window ends at `executableAt`, in seconds.
    error AppealOpen(uint48 executableAt);
    /// @notice The appeal window ended at `executableAt`, in seconds.
    error AppealOver(uint48 executableAt);
    /// @notice The slash was appealed before.
    error AppealedBefore(uint64 slashId);
    /// @notice Only the account whose stake it is may appeal.
    error NotTheirs(address caller, address account);
    /// @notice The bond of an appeal is `asked` wei; `sent` were sent.
    error WrongBond(uint256 sent, uint256 asked);

    /// @notice `amount`, that is `share` basis points of a stake, is to be taken at `executableAt`; an
    /// appeal costs `bond` wei until it is decided.
    event SlashProposed(
        uint64 indexed slashId,
        bytes32 indexed poolId,
        address indexed account,
        uint16 share,
        uint256 amount,
        bytes32 evidence,
        uint48 executableAt,
        uint256 bond
    );
    /// @notice The account appealed with a bond; the slash now waits until `executableAt`.
    event SlashAppealed(
        uint64 indexed slashId,
        address indexed account,
        uint256 bond,
        bytes32 statement,
        uint48 executableAt
    );
    /// @notice `amount` was taken from the stake, and the bond of an appeal with it.
    event SlashExecuted(
        uint64 indexed slashId,
        bytes32 indexed poolId,
        address indexed account,
        uint256 amount,
        uint256 bond
    );
    /// @notice The slash is off; a bond went back into what the account may claim.
    event SlashCanceled(
        uint64 indexed slashId, bytes32 indexed poolId, address indexed account, uint256 bond
    );
    /// @notice What was slashed went to the treasury.
    event SlashedCollected(address indexed treasury, uint256 amount);
    /// @notice What is slashed goes to `treasury` from now on.
    event TreasuryChanged(address previous, address treasury);

    /// @notice A slash that waits, by its number.
    mapping(uint64 slashId => Slash) public slashes;
    /// @notice How many slashes were proposed.
    uint64 public lastSlash;
    /// @notice Where what is slashed goes.
    address public treasury;
    /// @notice What was slashed and not collected, in wei.
    uint128 public slashed;

    /// @notice Propose to take `share` basis points of a stake, for a reason whose file has the hash
    /// `evidence`. The share is held from now on; what is left may leave as ever.
    function proposeSlash(bytes32 poolId, address account, uint16 share, bytes32 evidence)
        external
        onlyRole(SLASHER_ROLE)
        returns (uint64 slashId)
    {
        _checkBounds(share, 1, terms.slashLimit);
        if (evidence == 0) revert NoEvidence();
        Position storage theirs = positions[poolId][account];
        if (theirs.slashId != 0) revert SlashWaits(theirs.slashId);
        // Both are parts of `principal`, so their sum fits.
        uint128 amount = uint128((uint256(theirs.staked) + theirs.cooling) * share / WHOLE);
        if (amount == 0) revert ZeroAmount();
        uint48 executableAt = _after(terms.appealWindow);
        slashId = ++lastSlash;
        theirs.slashId = slashId;
        slashes[slashId] = Slash({
            poolId: poolId,
            account: account,
            executableAt: executableAt,
            share: share,
            window: uint24(terms.appealWindow),
            appealed: false,
            amount: amount,
            bond: terms.appealBond
        });
        emit SlashProposed(
            slashId, poolId, account, share, amount, evidence, executableAt, terms.appealBond
        );
    }

    /// @notice Appeal against a slash of one's own stake, with the bond and a statement whose file has
    /// the hash `statement`. The slash waits for another window, so that the holders can decide.
    function appeal(uint64 slashId, bytes32 statement) external payable {
        Slash storage one = _waiting(slashId);
        if (msg.sender != one.account) revert NotTheirs(msg.sender, one.account);
        if (one.appealed) revert AppealedBefore(slashId);
        if (block.timestamp >= one.executableAt) revert AppealOver(one.executableAt);
        if (msg.value != one.bond) revert WrongBond(msg.value, one.bond);
        one.appealed = true;
        one.executableAt += one.window;
        rewards += one.bond;
        emit SlashAppealed(slashId, msg.sender, msg.value, statement, one.executableAt);
    }

    /// @notice Carry out a slash whose appeal window is over. Anyone may.
    function executeSlash(uint64 slashId) external {
        if (paused) revert StakingPaused();
        Slash memory one = _waiting(slashId);
        if (block.timestamp < one.executableAt) revert AppealOpen(one.executableAt);
        Pool storage pool = pools[one.poolId];
        Position storage theirs = _settle(pool, one.poolId, one.account);
        // In the order in which the slash held them, so that what may be withdrawn stays the same.
        uint128 fromStaked = uint128(Math.min(theirs.staked, one.amount));
        theirs.staked -= fromStaked;
        theirs.cooling -= one.amount - fromStaked;
        pool.staked -= fromStaked;
        uint128 bond = one.appealed ? one.bond : 0;
        principal -= one.amount;
        rewards -= bond;
        slashed += one.amount + bond;
        _forget(slashId, theirs);
        emit SlashExecuted(slashId, one.poolId, one.account, one.amount, bond);
    }

    /// @notice Call a slash off. The bond of an appeal goes back into what the account may claim.
    function cancelSlash(uint64 slashId) external {
        if (!hasRole(DEFAULT_ADMIN_ROLE, msg.sender)) _checkRole(GUARDIAN_ROLE);
        Slash memory one = _waiting(slashId);
        Position storage theirs = positions[one.poolId][one.account];
        uint128 bond = one.appealed ? one.bond : 0;
        theirs.earned += bond;
        pools[one.poolId].rewards += bond;
        _forget(slashId, theirs);
        emit SlashCanceled(slashId, one.poolId, one.account, bond);
    }

    /// @notice Send what was slashed to the treasury. Anyone may.
    function collectSlashed() external {
        uint128 amount = slashed;
        if (amount == 0) revert ZeroAmount();
        slashed = 0;
        emit SlashedCollected(treasury, amount);
        _pay(treasury, amount);
    }

    /// @notice Send what is slashed to `treasury_` from now on.
    function setTreasury(address treasury_) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setTreasury(treasury_);
    }

    /// A slash holds the stake first and what is on its way out last.
    function _withdrawable(Position memory theirs) internal view returns (uint128) {
        uint256 held = slashes[theirs.slashId].amount;
        uint256 fromCooling = held > theirs.staked ? held - theirs.staked : 0;
        return uint128(theirs.cooling - fromCooling);
    }

    function _waiting(uint64 slashId) internal view returns (Slash storage one) {
        one = slashes[slashId];
        if (one.amount == 0) revert UnknownSlash(slashId);
    }

    function _forget(uint64 slashId, Position storage theirs) internal {
        theirs.slashId = 0;
        delete slashes[slashId];
    }

    function _setTreasury(address treasury_) internal {
        if (treasury_ == address(0)) revert ZeroAddress();
        emit TreasuryChanged(treasury, treasury_);
        treasury = treasury_;
    }
}
