// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

/// @title The books of StakePools: what is in a pool, what a stake has earned, what is here for whom.
/// @notice What a stake has earned is settled before anything that it depends on changes.
abstract contract StakeBooks is AccessControl {
    /// @notice What leaving a pool takes.
    enum Kind {
        None,
        Flexible,
        Locked
    }

    /// @notice A pool.
    /// @param kind What leaving takes; None where the pool is not open yet.
    /// @param closed Whether new stakes are refused.
    /// @param wait The cooldown or the term, in seconds.
    /// @param period How long a funding streams where nothing streams yet, in seconds.
    /// @param updatedAt Up to when rewards have flowed.
    /// @param staked The wei that earn.
    /// @param rewards The wei that were funded and not paid out.
    /// @param left The part of `rewards` that has not flowed yet.
    /// @param rate What flows each second, in wei times RATE_SCALE.
    /// @param index What one staked wei has earned since the pool began, times INDEX_SCALE.
    struct Pool {
        Kind kind;
        bool closed;
        uint48 wait;
        uint48 period;
        uint48 updatedAt;
        uint128 staked;
        uint128 rewards;
        uint128 left;
        uint128 rate;
        uint256 index;
    }

    /// @notice What one account has in one pool.
    /// @param staked The wei that earn.
    /// @param cooling The wei that are on their way out and earn no more.
    /// @param earned Rewards that were settled and not paid.
    /// @param releasesAt The end of the term, or of the cooldown.
    /// @param slashId The slash that waits for this stake; 0 for none.
    /// @param index The pool's index up to which `earned` was settled.
    struct Position {
        uint128 staked;
        uint128 cooling;
        uint128 earned;
        uint48 releasesAt;
        uint64 slashId;
        uint256 index;
    }

    /// @notice The terms that the timelock may change.
    /// @param cooldown The wait of a pool that opens by itself, in seconds.
    /// @param period How long its fundings stream, in seconds.
    /// @param appealWindow How long a slash waits, in seconds.
    /// @param slashLimit The largest share of a slash, in basis points.
    /// @param appealBond What an appeal costs until it is decided, in wei.
    struct Terms {
        uint48 cooldown;
        uint48 period;
        uint48 appealWindow;
        uint16 slashLimit;
        uint128 appealBond;
    }

    /// @notice A pool to open on terms of its own.
    /// @param poolId Its id: a name in ASCII with zeros behind, or a model's.
    /// @param kind What leaving takes.
    /// @param wait The cooldown or the term, in seconds.
    /// @param period How long a funding streams, in seconds.
    struct Opening {
        bytes32 poolId;
        Kind kind;
        uint48 wait;
        uint48 period;
    }

    /// @notice Who may stop payments and new stakes, and call off a slash.
    bytes32 public constant GUARDIAN_ROLE = keccak256("GUARDIAN_ROLE");
    /// @notice Shares are counted in this many parts.
    uint256 public constant WHOLE = 10_000;
    /// @notice No slash may ever take more than this share of a stake, in basis points.
    uint256 public constant SLASH_CEILING = 5_000;
    /// @notice The longest term or cooldown, in seconds.
    uint256 public constant WAIT_LIMIT = 730 days;
    /// @notice The longest that a funding may stream, in seconds.
    uint256 public constant PERIOD_LIMIT = 365 days;
    /// @notice The shortest appeal window, in seconds.
    uint256 public constant WINDOW_FLOOR = 60;
    /// @notice The longest appeal window, in seconds.
    uint256 public constant WINDOW_LIMIT = 30 days;
    /// @notice The unit of a pool's rate.
    uint256 public constant RATE_SCALE = 1 << 32;
    /// @notice The unit of a pool's index.
    uint256 public constant INDEX_SCALE = 1 << 96;

    /// @notice Nothing was sent, or nothing asked.
    error ZeroAmount();
    /// @notice That address is empty.
    error ZeroAddress();
    /// @notice No such pool is open, and its id is not one that opens by itself.
    error UnknownPool(bytes32 poolId);
    /// @notice `value` is not between `low` and `high`.
    error OutOfBounds(uint256 value, uint256 low, uint256 high);
    /// @notice `to` refused `amount` of native OPEN.
    error TransferFailed(address to, uint256 amount);
    /// @notice Payments and new stakes are stopped.
    error StakingPaused();

    /// @notice A pool is open; `wait` and `period` in seconds.
    event PoolOpened(bytes32 indexed poolId, Kind kind, uint48 wait, uint48 period);
    /// @notice Other terms hold for pools that open and slashes that are proposed from now on.
    event TermsChanged(Terms terms);
    /// @notice Payments and new stakes were stopped or allowed again.
    event PauseChanged(bool paused);

    /// @notice A pool by its id.
    mapping(bytes32 poolId => Pool) public pools;
    /// @notice What an account has in a pool, as it was settled last; `position` has it as of now.
    mapping(bytes32 poolId => mapping(address account => Position)) public positions;
    /// @notice Whether payments and new stakes are stopped.
    bool public paused;
    /// @notice All stakes, in wei: those that earn and those on their way out.
    uint128 public principal;
    /// @notice All rewards and bonds that are here and not paid, in wei.
    uint128 public rewards;
    /// @notice The terms in force.
    Terms public terms;

    /// The pool, opened on the standard terms where its id is a model's.
    function _opened(bytes32 poolId) internal returns (Pool storage pool) {
        pool = pools[poolId];
        if (pool.kind == Kind.None) {
            if (poolId == 0 || uint256(poolId) >> 128 != 0) revert UnknownPool(poolId);
            _open(poolId, Kind.Flexible, terms.cooldown, terms.period);
        }
    }

    function _known(bytes32 poolId) internal view returns (Pool storage pool) {
        pool = pools[poolId];
        if (pool.kind == Kind.None) revert UnknownPool(poolId);
    }

    function _open(bytes32 poolId, Kind kind, uint48 wait, uint48 period) internal {
        Pool storage pool = pools[poolId];
        pool.kind = kind;
        pool.wait = wait;
        pool.period = period;
        pool.updatedAt = uint48(block.timestamp);
        emit PoolOpened(poolId, kind, wait, period);
    }

    /// Let rewards flow up to now. Time in which nobody is staked does not count.
    function _flow(Pool storage pool) internal {
        (uint256 index, uint128 flowed) = _flowed(pool);
        if (flowed > 0) {
            pool.index = index;
            pool.left -= flowed;
        }
        pool.updatedAt = uint48(block.timestamp);
    }

    /// The pool's index as of now, and the wei that have flowed since it was updated.
    function _flowed(Pool memory pool) internal view returns (uint256 index, uint128 flowed) {
        index = pool.index;
        // Both are counted by us, not read from a balance that a stranger could shift off zero.
        // slither-disable-next-line incorrect-equality
        if (pool.staked == 0 || pool.left == 0) return (index, 0);
        uint256 due = (block.timestamp - pool.updatedAt) * pool.rate / RATE_SCALE;
        flowed = uint128(Math.min(pool.left, due));
        index += flowed * INDEX_SCALE / pool.staked;
    }

    /// Write down what `account` has earned, before its stake changes.
    function _settle(Pool storage pool, bytes32 poolId, address account)
        internal
        returns (Position storage theirs)
    {
        _flow(pool);
        theirs = positions[poolId][account];
        uint256 grown = pool.index - theirs.index;
        if (grown > 0) {
            theirs.earned += _share(theirs.staked, grown);
            theirs.index = pool.index;
        }
    }

    /// Rounded down, so that all shares together never are more than what has flowed.
    function _share(uint128 staked, uint256 grown) internal pure returns (uint128) {
        return uint128(Math.mulDiv(staked, grown, INDEX_SCALE));
    }

    /// Last of all that a function does: whoever is called back finds everything written.
    function _pay(address to, uint256 amount) internal {
        if (paused) revert StakingPaused();
        if (!LowLevelCall.callNoReturn(to, amount, "")) revert TransferFailed(to, amount);
    }

    function _after(uint48 seconds_) internal view returns (uint48) {
        return uint48(block.timestamp) + seconds_;
    }

    function _checkBounds(uint256 value, uint256 low, uint256 high) internal pure {
        if (value < low || value > high) revert OutOfBounds(value, low, high);
    }

    function _setTerms(Terms memory terms_) internal {
        _checkBounds(terms_.cooldown, 0, WAIT_LIMIT);
        _checkBounds(terms_.period, 1, PERIOD_LIMIT);
        _checkBounds(terms_.appealWindow, WINDOW_FLOOR, WINDOW_LIMIT);
        _checkBounds(terms_.slashLimit, 0, SLASH_CEILING);
        terms = terms_;
        emit TermsChanged(terms_);
    }
}
