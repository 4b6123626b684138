"""What can be wrong with records, queries and index files. Every error names the culprit."""

from __future__ import annotations


class InfluenceError(Exception):
    """Base of all errors of this core."""


class RecordError(InfluenceError):
    """A record cannot be indexed: empty, too long, or with a gradient that is no number."""

    def __init__(self, record_id: str, reason: str) -> None:
        super().__init__(f"Record {record_id}: {reason}")
        self.record_id = record_id
        self.reason = reason


class QueryError(InfluenceError):
    """An answer cannot be attributed: no answer tokens, too long, or no finite gradient."""


class IndexFileError(InfluenceError):
    """An index file is missing, truncated or altered."""

    def __init__(self, path: object, reason: str) -> None:
        super().__init__(f"Index file {path}: {reason}")


class BadShardError(IndexFileError):
    """A shard is missing, damaged, of another build or of another shape: it is to be made again."""

    def __init__(self, path: object, name: str, reason: str) -> None:
        super().__init__(path, reason)
        self.name = name


class AdapterMismatchError(InfluenceError):
    """The index was built for another adapter or another base model."""


class UnsupportedAdapterError(InfluenceError):
    """The adapter has trainable parts that are not plain LoRA matrices."""


class BackendError(InfluenceError):
    """A backend of the passes is not installed, or cannot be used here."""


class DriftError(InfluenceError):
    """Appended records do not fit the curvature of the first fit; the index is to be built anew."""


class ReplayError(InfluenceError):
    """A training run cannot be replayed, or gives another adapter than the published one."""
