"""What is in force now."""

from ledger.splits import Part, Split

DEFAULT_SPLIT = Split(
    version=0,
    parts=(
        Part("platform", 1000),
        Part("model_owner", 2000),
        Part("stakers", 2000),
        Part("contributors", 5000),
    ),
)


def current_split() -> Split:
    """The division of fees by the newest parameter version whose block is final."""
    return DEFAULT_SPLIT
