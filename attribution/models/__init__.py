from attribution.models.exact_audits import ExactAudit
from attribution.models.indexes import Index, IndexAudit, IndexPart, PastIndex
from attribution.models.log import Checkpoint, LogLeaf
from attribution.models.receipts import (
    Attribution,
    ContributorShare,
    Receipt,
    ReceiptParent,
    RecordInfluence,
)
from attribution.models.rescorings import Rescoring
from attribution.models.spans import Passage, PassageRecord, SpanIndex
from attribution.models.totals import CreditHorizon, CreditTotal

__all__ = [
    "Attribution",
    "Checkpoint",
    "ContributorShare",
    "CreditHorizon",
    "CreditTotal",
    "ExactAudit",
    "Index",
    "IndexAudit",
    "IndexPart",
    "LogLeaf",
    "Passage",
    "PassageRecord",
    "PastIndex",
    "Receipt",
    "ReceiptParent",
    "RecordInfluence",
    "Rescoring",
    "SpanIndex",
]
