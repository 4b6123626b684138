"""The governed values in words that a person reads."""

from __future__ import annotations

from decimal import Decimal

from governance.registry import GOVERNED, Governed, Unit
from ledger.words import open_text

SETTING_WORDS = {
    "split.platform": "Platform's part of a fee",
    "split.model_owner": "Model owner's part of a fee",
    "split.stakers": "Stakers' part of a fee",
    "split.contributors": "Contributors' part of a fee",
    "voting_delay": "From a proposal to its vote",
    "voting_period": "Length of a vote",
    "late_quorum_extension": "Time left once the quorum is reached late",
    "timelock_delay": "From queueing to executing",
    "proposal_threshold": "Votes that a proposer needs",
    "quorum_percent": "Part of all GOPEN that must vote for or abstain",
    "distribution_delay": "Wait before a distribution's root is in force",
}
PART_WORDS = {
    "platform": "Platform",
    "model_owner": "Model owner",
    "stakers": "Stakers",
    "contributors": "Contributors",
}
PERIODS = {
    "voting_delay", "voting_period", "late_quorum_extension", "timelock_delay",
    "distribution_delay",
}  # fmt: skip
UNITS = (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1))


def percent(basis_points: int) -> str:
    """1250 -> "12.5 %"."""
    return f"{(Decimal(basis_points) / 100).normalize():f} %"


def period(seconds: int) -> str:
    """90 -> "1 minute 30 seconds"."""
    told = []
    for name, length in UNITS:
        count, seconds = divmod(seconds, length)
        if count:
            told.append(f"{count} {name}{'' if count == 1 else 's'}")
    return " ".join(told) or "none"


def label_of(key: str) -> str:
    """What a parameter is called; an undeclared one by its key."""
    declared = GOVERNED.get(key)
    return declared.label if declared else SETTING_WORDS.get(key, key)


def show_governed(declared: Governed, value: int) -> str:
    """A governed number with its unit."""
    match declared.unit:
        case Unit.BASIS_POINTS:
            return percent(value)
        case Unit.SECONDS:
            return period(value)
        case Unit.WEI:
            return f"{open_text(value)} OPEN"
    return str(value)


def show_setting(key: str, value: int) -> str:
    """A value with its unit."""
    if key in GOVERNED:
        return show_governed(GOVERNED[key], value)
    if key.startswith("split."):
        return percent(value)
    if key in PERIODS:
        return period(value)
    if key == "proposal_threshold":
        return f"{open_text(value)} GOPEN"
    return f"{value} %" if key == "quorum_percent" else str(value)
