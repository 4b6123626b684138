// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {AccessControl} from "@openzeppelin/contracts/access/AccessControl.sol";
import {LowLevelCall} from "@openzeppelin/contracts/utils/LowLevelCall.sol";
import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

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
contract StakePools is AccessControl {
    using SafeCast for uint256;

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

    /// @notice Who may propose a slash: the ledger's sender.
    bytes32 public constant SLASHER_ROLE = keccak256("SLASHER_ROLE");
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
    /// @notice That pool is open already.
    error PoolExists(bytes32 poolId);
    /// @notice That pool takes no new stakes.
    error PoolIsClosed(bytes32 poolId);
    /// @notice A pool is flexible or locked.
    error NoKind();
    /// @notice `value` is not between `low` and `high`.
    error OutOfBounds(uint256 value, uint256 low, uint256 high);
    /// @notice `asked` wei were asked for and `staked` are staked.
    error NotEnoughStaked(uint256 staked, uint256 asked);
    /// @notice The stake may leave at `releasesAt`, in seconds.
    error StillLocked(uint48 releasesAt);
    /// @notice Nothing is on its way out, or all of it is held by a slash.
    error NothingToWithdraw(bytes32 poolId, address account);
    /// @notice Nothing was earned that was not paid.
    error NothingToClaim(bytes32 poolId, address account);
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
    /// @notice `to` refused `amount` of native OPEN.
    error TransferFailed(address to, uint256 amount);
    /// @notice Payments and new stakes are stopped.
    error StakingPaused();

    /// @notice A pool is open; `wait` and `period` in seconds.
    event PoolOpened(bytes32 indexed poolId, Kind kind, uint48 wait, uint48 period);
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
    /// @notice `amount`, that is `share` basis points of a stake, is to be taken at `executableAt`; an appeal
    /// costs `bond` wei until it is decided.
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
    /// @notice Other terms hold for pools that open and slashes that are proposed from now on.
    event TermsChanged(Terms terms);
    /// @notice What is slashed goes to `treasury` from now on.
    event TreasuryChanged(address previous, address treasury);
    /// @notice Payments and new stakes were stopped or allowed again.
    event PauseChanged(bool paused);

    /// @notice A pool by its id.
    mapping(bytes32 poolId => Pool) public pools;
    /// @notice What an account has in a pool, as it was settled last; `position` has it as of now.
    mapping(bytes32 poolId => mapping(address account => Position)) public positions;
    /// @notice A slash that waits, by its number.
    mapping(uint64 slashId => Slash) public slashes;
    /// @notice How many slashes were proposed.
    uint64 public lastSlash;
    /// @notice Whether payments and new stakes are stopped.
    bool public paused;
    /// @notice Where what is slashed goes.
    address public treasury;
    /// @notice All stakes, in wei: those that earn and those on their way out.
    uint128 public principal;
    /// @notice All rewards and bonds that are here and not paid, in wei.
    uint128 public rewards;
    /// @notice What was slashed and not collected, in wei.
    uint128 public slashed;
    /// @notice The terms in force.
    Terms public terms;

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
        pool.rate = Math.mulDiv(sum, sum * RATE_SCALE, area).toUint128();
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

    // -------------------------------------------------------------- slashing

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

    /// @notice Send what is slashed to `treasury_` from now on.
    function setTreasury(address treasury_) external onlyRole(DEFAULT_ADMIN_ROLE) {
        _setTreasury(treasury_);
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
        rate = left == 0 ? 0 : pool.rate;
        endsAt = block.timestamp + (rate == 0 ? 0 : Math.ceilDiv(left * RATE_SCALE, rate));
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

    /// The pool, opened on the standard terms where its id is a model's.
    function _opened(bytes32 poolId) private returns (Pool storage pool) {
        pool = pools[poolId];
        if (pool.kind == Kind.None) {
            if (poolId == 0 || uint256(poolId) >> 128 != 0) revert UnknownPool(poolId);
            _open(poolId, Kind.Flexible, terms.cooldown, terms.period);
        }
    }

    function _known(bytes32 poolId) private view returns (Pool storage pool) {
        pool = pools[poolId];
        if (pool.kind == Kind.None) revert UnknownPool(poolId);
    }

    function _openNew(Opening memory one) private {
        if (pools[one.poolId].kind != Kind.None) revert PoolExists(one.poolId);
        if (one.poolId == 0) revert UnknownPool(0);
        if (one.kind == Kind.None) revert NoKind();
        _checkBounds(one.wait, 0, WAIT_LIMIT);
        _checkBounds(one.period, 1, PERIOD_LIMIT);
        _open(one.poolId, one.kind, one.wait, one.period);
    }

    function _open(bytes32 poolId, Kind kind, uint48 wait, uint48 period) private {
        Pool storage pool = pools[poolId];
        pool.kind = kind;
        pool.wait = wait;
        pool.period = period;
        pool.updatedAt = uint48(block.timestamp);
        emit PoolOpened(poolId, kind, wait, period);
    }

    /// Let rewards flow up to now. Time in which nobody is staked does not count.
    function _flow(Pool storage pool) private {
        (uint256 index, uint128 flowed) = _flowed(pool);
        if (flowed > 0) {
            pool.index = index;
            pool.left -= flowed;
        }
        pool.updatedAt = uint48(block.timestamp);
    }

    /// The pool's index as of now, and the wei that have flowed since it was updated.
    function _flowed(Pool memory pool) private view returns (uint256 index, uint128 flowed) {
        index = pool.index;
        if (pool.staked == 0 || pool.left == 0) return (index, 0);
        uint256 due = (block.timestamp - pool.updatedAt) * pool.rate / RATE_SCALE;
        flowed = uint128(Math.min(pool.left, due));
        index += flowed * INDEX_SCALE / pool.staked;
    }

    /// Write down what `account` has earned, before its stake changes.
    function _settle(Pool storage pool, bytes32 poolId, address account)
        private
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
    function _share(uint128 staked, uint256 grown) private pure returns (uint128) {
        return uint128(Math.mulDiv(staked, grown, INDEX_SCALE));
    }

    /// The term is over, and no slash holds what would leave.
    function _checkFree(Position storage mine, uint128 amount) private view {
        if (block.timestamp < mine.releasesAt) revert StillLocked(mine.releasesAt);
        uint128 held = slashes[mine.slashId].amount;
        if (mine.staked - amount < held) revert HeldBySlash(mine.slashId, held);
    }

    /// A slash holds the stake first and what is on its way out last.
    function _withdrawable(Position memory theirs) private view returns (uint128) {
        uint256 held = slashes[theirs.slashId].amount;
        uint256 fromCooling = held > theirs.staked ? held - theirs.staked : 0;
        return uint128(theirs.cooling - fromCooling);
    }

    function _waiting(uint64 slashId) private view returns (Slash storage one) {
        one = slashes[slashId];
        if (one.amount == 0) revert UnknownSlash(slashId);
    }

    function _forget(uint64 slashId, Position storage theirs) private {
        theirs.slashId = 0;
        delete slashes[slashId];
    }

    function _payBack(bytes32 poolId, uint128 amount) private {
        principal -= amount;
        emit Withdrawn(poolId, msg.sender, amount);
        _pay(msg.sender, amount);
    }

    /// Last of all that a function does: whoever is called back finds everything written.
    function _pay(address to, uint256 amount) private {
        if (paused) revert StakingPaused();
        if (!LowLevelCall.callNoReturn(to, amount, "")) revert TransferFailed(to, amount);
    }

    function _after(uint48 seconds_) private view returns (uint48) {
        return uint48(block.timestamp) + seconds_;
    }

    function _checkBounds(uint256 value, uint256 low, uint256 high) private pure {
        if (value < low || value > high) revert OutOfBounds(value, low, high);
    }

    function _setTerms(Terms memory terms_) private {
        _checkBounds(terms_.cooldown, 0, WAIT_LIMIT);
        _checkBounds(terms_.period, 1, PERIOD_LIMIT);
        _checkBounds(terms_.appealWindow, WINDOW_FLOOR, WINDOW_LIMIT);
        _checkBounds(terms_.slashLimit, 0, SLASH_CEILING);
        terms = terms_;
        emit TermsChanged(terms_);
    }

    function _setTreasury(address treasury_) private {
        if (treasury_ == address(0)) revert ZeroAddress();
        emit TreasuryChanged(treasury, treasury_);
        treasury = treasury_;
    }
}
