from datanets.models.contributions import (
    Contribution,
    ContributionState,
    RowError,
    Upload,
    UploadPart,
    UploadState,
)
from datanets.models.datanets import Datanet, DatanetState, DataType, Membership, Role
from datanets.models.prints import NearLink, RecordPrint
from datanets.models.records import (
    Reason,
    Record,
    RecordState,
    RecordText,
    Report,
    ReportReason,
    ReportState,
    Review,
    Verdict,
)
from datanets.models.slashes import (
    ContributionStake,
    Slash,
    SlashReason,
    SlashState,
)
from datanets.models.versions import Version, VersionBuild, VersionBuildState, VersionRecord

__all__ = [
    "Contribution",
    "ContributionStake",
    "ContributionState",
    "DataType",
    "Datanet",
    "DatanetState",
    "Membership",
    "NearLink",
    "Reason",
    "Record",
    "RecordPrint",
    "RecordState",
    "RecordText",
    "Report",
    "ReportReason",
    "ReportState",
    "Review",
    "Role",
    "RowError",
    "Slash",
    "SlashReason",
    "SlashState",
    "Upload",
    "UploadPart",
    "UploadState",
    "Verdict",
    "Version",
    "VersionBuild",
    "VersionBuildState",
    "VersionRecord",
]
