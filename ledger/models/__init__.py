from ledger.models.accounts import Account
from ledger.models.distributions import (
    Claim,
    Distribution,
    DistributionCredit,
    DistributionLeaf,
    PayoutAddress,
)
from ledger.models.entries import Entry, Posting
from ledger.models.holds import Hold

__all__ = [
    "Account",
    "Claim",
    "Distribution",
    "DistributionCredit",
    "DistributionLeaf",
    "Entry",
    "Hold",
    "PayoutAddress",
    "Posting",
]
