from attribution.models.indexes import Index
from attribution.models.log import Checkpoint, LogLeaf
from attribution.models.receipts import Attribution, ContributorShare, Receipt, RecordInfluence

__all__ = [
    "Attribution",
    "Checkpoint",
    "ContributorShare",
    "Index",
    "LogLeaf",
    "Receipt",
    "RecordInfluence",
]
