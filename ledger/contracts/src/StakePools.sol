// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";
import {StakeSlashing} from "./StakeSlashing.sol";

/// @title Stakes in pools, and the rewards that flow to them.
/// @notice Rewards are wei that somebody has sent here before they flow: `fund` adds to what a pool
/// streams to its stakers, second by second and in proportion to their stakes. What a stake has earned
/// is settled before anything that it depends on changes, so no later funding, period or stake reaches
/// back. A pool pays rewards from its own fundings alone, and stakes from stakes, so that the
/// contract always holds `principal + rewards + slashed` wei at least.
/// @notice A pool is flexible (leaving takes a cooldown) or locked (leaving takes the end of a term).
/// Kind and wait of a pool never change; other terms are another pool. Ids whose first 16 bytes are
/// zero are UUIDs of models: whoever funds or stakes there first opens that pool on the standard
/// terms. Every other id is opened by the timelock.
/// @notice A slash takes a stated share of one stake, names its evidence, waits for an appeal, and may
/// be called off by the timelock or the guardian. What it takes goes to the treasury. Nobody, the
/// timelock included, can take out stakes or rewards that are not theirs.
contract StakePools is StakeSlashing {
    using SafeCast for uint256;

    /// @notice That pool is open already.
    error PoolExists(bytes32 poolId);
    /// @notice That pool takes no new stakes.
    error PoolIsClosed(bytes32 poolId);
    /// @notice A pool is flexible or locked.
    error NoKind();
    /// @notice `asked` wei were asked for and `staked` are staked.
    error NotEnoughStaked(uint256 staked, uint256 asked);
    /// @notice The stake may leave at `releasesAt`, in seconds.
    error StillLocked(uint48 releasesAt);
    /// @notice Nothing is on its way out, or all of it is held by a slash.
    error NothingToWithdraw(bytes32 poolId, address account);
    /// @notice Nothing was earned that was not paid.
    error NothingToClaim(bytes32 poolId, address account);

    /// @notice A pool takes new stakes, or none.
    event PoolClosed(bytes32 indexed poolId, bool closed);
    /// @notice Later fundings of a pool stream over `period` seconds.
    event PeriodChanged(bytes32 indexed poolId, uint48 previous, uint48 period);
    /// @notice `from` funded a pool; `left` wei now stream at `rate` (wei a second times RATE_SCALE).
    event RewardsFunded(
        bytes32 indexed poolId, address indexed from, uint256 amount, uint256 left, uint256 rate
    );
    /// @notice `account` staked `amount` and has `staked` in all, in a locked pool until `releasesAt`.
    event Staked(
        bytes32 indexed poolId,
        address indexed account,
        uint256 amount,
        uint256 staked,
        uint48 releasesAt
    );
    /// @notice `amount` of the stake earns no more and may be withdrawn at `releasesAt`.
    event Unstaked(
        bytes32 indexed poolId, address indexed account, uint256 amount, uint48 releasesAt
    );
    /// @notice `account` was paid back `amount` of its stake.
    event Withdrawn(bytes32 indexed poolId, address indexed account, uint256 amount);
    /// @notice `account` was paid `amount` of rewards.
    event RewardsClaimed(bytes32 indexed poolId, address indexed account, uint256 amount);

    /// @param admin The timelock.
    /// @param slasher The ledger's sender.
    /// @param guardian Who may stop payments and call off a slash.
    /// @param treasury_ Where what is slashed goes.
    /// @param terms_ The first terms.
    /// @param openings The pools that are open from the start.
    constructor(
        address admin,
        address slasher,
        address guardian,
        address treasury_,
        Terms memory terms_,
        Opening[] memory openings
    ) {
        _grantRole(DEFAULT_ADMIN_ROLE, admin);
        _grantRole(SLASHER_ROLE, slasher);
        _grantRole(GUARDIAN_ROLE, guardian);
        _setTreasury(treasury_);
        _setTerms(terms_);
        for (uint256 i = 0; i < openings.length; ++i) {
            _openNew(openings[i]);
        }
    }

    // ---------------------------------------------------------------- stakes

    /// @notice Stake the OPEN that is sent along. In a locked pool the term begins anew for the whole
    /// stake.
    function stake(bytes32 poolId) external payable {
        if (paused) revert StakingPaused();
        if (msg.value == 0) revert ZeroAmount();
        Pool storage pool = _opened(poolId);
        if (pool.closed) revert PoolIsClosed(poolId);
        Position storage mine = _settle(pool, poolId, msg.sender);
        uint128 amount = msg.value.toUint128();
        mine.staked += amount;
        pool.staked += amount;
        principal += amount;
        if (pool.kind == Kind.Locked) mine.releasesAt = _after(pool.wait);
        emit Staked(poolId, msg.sender, amount, mine.staked, mine.releasesAt);
    }

    /// @notice Take `amount` out of the stake. A flexible pool's cooldown begins, anew where one runs;
    /// a locked pool pays at once after its term.
    function unstake(bytes32 poolId, uint128 amount) external {
        Pool storage pool = _known(poolId);
        Position storage mine = _settle(pool, poolId, msg.sender);
        if (amount == 0) revert ZeroAmount();
        if (amount > mine.staked) revert NotEnoughStaked(mine.staked, amount);
        bool locked = pool.kind == Kind.Locked;
        if (locked) _checkFree(mine, amount);
        pool.staked -= amount;
        mine.staked -= amount;
        if (!locked) {
            mine.cooling += amount;
            mine.releasesAt = _after(pool.wait);
        }
        emit Unstaked(poolId, msg.sender, amount, mine.releasesAt);
        if (locked) _payBack(poolId, amount);
    }

    /// @notice Get back what has cooled down, but for what a slash holds.
    function withdraw(bytes32 poolId) external {
        Position storage mine = positions[poolId][msg.sender];
        uint128 amount = _withdrawable(mine);
        // Zero is what is left when all is paid or held; nobody can be kept at or off it by a stranger.
        // slither-disable-next-line incorrect-equality
        if (amount == 0) revert NothingToWithdraw(poolId, msg.sender);
        if (block.timestamp < mine.releasesAt) revert StillLocked(mine.releasesAt);
        mine.cooling -= amount;
        _payBack(poolId, amount);
    }

    // --------------------------------------------------------------- rewards

    /// @notice Add the OPEN that is sent along to what the pool streams. It streams on for the mean of
    /// what was left and of the pool's period, each weighted by its wei: a tiny funding can neither
    /// stretch nor hurry a stream.
    function fund(bytes32 poolId) external payable {
        if (msg.value == 0) revert ZeroAmount();
        Pool storage pool = _opened(poolId);
        _flow(pool);
        uint256 amount = msg.value;
        uint256 left = pool.left;
        uint256 sum = left + amount;
        // Wei times seconds: what was left at its old rate, and the new wei over the period.
        uint256 area = amount * pool.period;
        if (left > 0) area += Math.mulDiv(left * left, RATE_SCALE, pool.rate);
        pool.left = sum.toUint128();
        // Rounded up, so that the last wei has flowed when the time is over.
        pool.rate = Math.mulDiv(sum, sum * RATE_SCALE, area, Math.Rounding.Ceil).toUint128();
        pool.rewards += uint128(amount);
        rewards += uint128(amount);
        emit RewardsFunded(poolId, msg.sender, amount, sum, pool.rate);
    }

    /// @notice Pay `account` what it has earned in a pool. Anyone may, and pays the gas.
    function claim(bytes32 poolId, address account) external {
        Pool storage pool = _known(poolId);
        Position storage theirs = _settle(pool, poolId, account);
        uint128 amount = theirs.earned;
        if (amount == 0) revert NothingToClaim(poolId, account);
        theirs.earned = 0;
        // Checked arithmetic: a pool that owed more than it was funded with could not be paid from another.
        pool.rewards -= amount;
        rewards -= amount;
        emit RewardsClaimed(poolId, account, amount);
        _pay(account, amount);
    }

    // -------------------------------------------------------- what is governed

    /// @notice Open a pool on terms of its own.
    function openPool(Opening calldata opening) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _openNew(opening);
    }

    /// @notice Let a pool take new stakes, or none. Those that it has stay as they are.
    function setClosed(bytes32 poolId, bool closed) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _known(poolId).closed = closed;
        emit PoolClosed(poolId, closed);
    }

    /// @notice Let later fundings of a pool stream over `period` seconds. What streams already goes on
    /// as it was.
    function setPeriod(bytes32 poolId, uint48 period) external onlyRole(DEFAULT_ADMIN_ROLE) {
        Pool storage pool = _known(poolId);
        _checkBounds(period, 1, PERIOD_LIMIT);
        emit PeriodChanged(poolId, pool.period, period);
        pool.period = period;
    }

    /// @notice Set the terms for pools that open and slashes that are proposed from now on.
    function setTerms(Terms calldata terms_) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setTerms(terms_);
    }

    /// @notice Stop or allow payments and new stakes. The guardian may stop them; only the admin allows
    /// them again.
    function setPaused(bool paused_) external {
        _checkRole(paused_ ? GUARDIAN_ROLE : DEFAULT_ADMIN_ROLE);
        paused = paused_;
        emit PauseChanged(paused_);
    }

    // ------------------------------------------------------------------ views

    /// @notice What `account` has in a pool now.
    /// @return staked The wei that earn.
    /// @return cooling The wei on their way out.
    /// @return releasesAt The end of the term or of the cooldown, in seconds.
    /// @return earned The wei of rewards that it may claim.
    /// @return withdrawable The wei of `cooling` that may be withdrawn at `releasesAt`.
    /// @return held The wei that a slash holds.
    /// @return slashId That slash; 0 for none.
    function position(bytes32 poolId, address account)
        external
        view
        returns (
            uint128 staked,
            uint128 cooling,
            uint48 releasesAt,
            uint128 earned,
            uint128 withdrawable,
            uint128 held,
            uint64 slashId
        )
    {
        Pool memory pool = pools[poolId];
        Position memory theirs = positions[poolId][account];
        (uint256 index,) = _flowed(pool);
        return (
            theirs.staked,
            theirs.cooling,
            theirs.releasesAt,
            theirs.earned + _share(theirs.staked, index - theirs.index),
            _withdrawable(theirs),
            slashes[theirs.slashId].amount,
            theirs.slashId
        );
    }

    /// @notice What a pool streams now.
    /// @return staked The wei that earn.
    /// @return left The wei that have not flowed yet.
    /// @return rate What flows each second, in wei times RATE_SCALE; 0 where nothing is left.
    /// @return endsAt When it has all flowed, if somebody is staked until then, in seconds.
    function stream(bytes32 poolId)
        external
        view
        returns (uint128 staked, uint128 left, uint128 rate, uint256 endsAt)
    {
        Pool memory pool = pools[poolId];
        (, uint128 flowed) = _flowed(pool);
        left = pool.left - flowed;
        endsAt = block.timestamp;
        if (left > 0) {
            rate = pool.rate;
            endsAt += Math.ceilDiv(left * RATE_SCALE, rate);
        }
        return (pool.staked, left, rate, endsAt);
    }

    /// @notice What is here, and what of it belongs to whom, in wei. `held` is never below the sum of
    /// the others.
    function solvency()
        external
        view
        returns (uint256 held, uint256 principal_, uint256 rewards_, uint256 slashed_)
    {
        return (address(this).balance, principal, rewards, slashed);
    }

    // ---------------------------------------------------------------- private

    function _openNew(Opening memory one) private {
        if (pools[one.poolId].kind != Kind.None) revert PoolExists(one.poolId);
        if (one.poolId == 0) revert UnknownPool(0);
        if (one.kind == Kind.None) revert NoKind();
        _checkBounds(one.wait, 0, WAIT_LIMIT);
        _checkBounds(one.period, 1, PERIOD_LIMIT);
        _open(one.poolId, one.kind, one.wait, one.period);
    }

    /// The term is over, and no slash holds what would leave.
    function _checkFree(Position storage mine, uint128 amount) private view {
        if (block.timestamp < mine.releasesAt) revert StillLocked(mine.releasesAt);
        uint128 held = slashes[mine.slashId].amount;
        if (mine.staked - amount < held) revert HeldBySlash(mine.slashId, held);
    }

    function _payBack(bytes32 poolId, uint128 amount) private {
        principal -= amount;
        emit Withdrawn(poolId, msg.sender, amount);
        _pay(msg.sender, amount);
    }
}
