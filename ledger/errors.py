"""What the ledger refuses, each with a code for machines and a sentence for people."""


class LedgerError(Exception):
    """Base of all refusals. Nothing was written where one is raised."""

    code = "ledger_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidAmount(LedgerError):
    """Not a whole number of wei, or zero, negative, or 2**256 and more."""

    code = "invalid_amount"


class InvalidEntry(LedgerError):
    """Legs that do not balance, shares that make no whole, a second reversal."""

    code = "invalid_entry"


class InsufficientFunds(LedgerError):
    code = "insufficient_funds"


class UnknownAccount(LedgerError):
    code = "unknown_account"


class BudgetReached(LedgerError):
    """It could go over the payer's own budget for the month, which they made a stop."""

    code = "budget_reached"


class InvalidMonth(LedgerError):
    code = "invalid_month"


class IdempotencyConflict(LedgerError):
    """The same idempotency key came with another body."""

    code = "idempotency_conflict"


class HoldExpired(LedgerError):
    code = "hold_expired"


class HoldClosed(LedgerError):
    """The hold was captured or released before."""

    code = "hold_closed"


class StakeClosed(LedgerError):
    """The stake was returned or slashed whole before."""

    code = "stake_closed"


class NothingToClaim(LedgerError):
    code = "nothing_to_claim"


class ClaimOnItsWay(LedgerError):
    code = "claim_on_its_way"


class WaitingForChain(LedgerError):
    """This instance runs without a chain, or the contracts are not deployed yet."""

    code = "waiting_for_chain"


class WrongProof(LedgerError):
    """A proof of another address, amount, contract or chain, or no proof at all."""

    code = "wrong_proof"


class ExpiredProof(LedgerError):
    """A proof under the root of an earlier epoch."""

    code = "expired_proof"


class LimitReached(LedgerError):
    code = "limit_reached"


class SpendingBlocked(LedgerError):
    """A deposit of this account was undone by the chain after it had been spent."""

    code = "spending_blocked"


class SelfRoyalty(LedgerError):
    """Something would descend from itself, and so pay a royalty to itself."""

    code = "self_royalty"


class NothingToRefund(LedgerError):
    """Only a fee that was captured can be given back."""

    code = "nothing_to_refund"


class ReasonMissing(LedgerError):
    """What is done to somebody else's money says why."""

    code = "reason_missing"
