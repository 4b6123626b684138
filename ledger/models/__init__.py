from ledger.models.accounts import Account
from ledger.models.chain import (
    ChainBlock,
    ChainHead,
    ChainLog,
    ChainWallet,
    Intent,
    IntentAttempt,
)
from ledger.models.deposits import Deposit
from ledger.models.distributions import (
    Claim,
    Distribution,
    DistributionCredit,
    DistributionLeaf,
    PayoutAddress,
)
from ledger.models.entries import Entry, Posting
from ledger.models.gone import GoneBlock
from ledger.models.holds import Hold
from ledger.models.pools import (
    PoolFunding,
    PoolMirror,
    PoolSlash,
    SlashFile,
    StakePool,
    StakePosition,
)
from ledger.models.refunds import Refund
from ledger.models.relays import PayoutChoice, RelayReserve
from ledger.models.spending import Budget, BudgetNotice, TopUpRule
from ledger.models.stakes import Stake
from ledger.models.withdrawals import Withdrawal, WithdrawalBatch

__all__ = [
    "Account",
    "Budget",
    "BudgetNotice",
    "ChainBlock",
    "ChainHead",
    "ChainLog",
    "ChainWallet",
    "Claim",
    "Deposit",
    "Distribution",
    "DistributionCredit",
    "DistributionLeaf",
    "Entry",
    "GoneBlock",
    "Hold",
    "Intent",
    "IntentAttempt",
    "PayoutAddress",
    "PayoutChoice",
    "PoolFunding",
    "PoolMirror",
    "PoolSlash",
    "Posting",
    "Refund",
    "RelayReserve",
    "SlashFile",
    "Stake",
    "StakePool",
    "StakePosition",
    "TopUpRule",
    "Withdrawal",
    "WithdrawalBatch",
]
