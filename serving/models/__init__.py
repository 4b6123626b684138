from serving.models.completions import (
    UNFINISHED,
    Completion,
    CompletionKind,
    CompletionState,
)
from serving.models.deployments import Deployment, DeploymentState
from serving.models.embeddings import Embedding, EmbeddingState
from serving.models.engines import EngineReport
from serving.models.pins import Pin, PinState
from serving.models.replicas import Replica, ReplicaAdapter, ReplicaKind, ReplicaState
from serving.models.retrieval import RecordVector, RetrievalIndex, RetrievalState

__all__ = [
    "UNFINISHED",
    "Completion",
    "CompletionKind",
    "CompletionState",
    "Deployment",
    "DeploymentState",
    "Embedding",
    "EmbeddingState",
    "EngineReport",
    "Pin",
    "PinState",
    "RecordVector",
    "Replica",
    "ReplicaAdapter",
    "ReplicaKind",
    "ReplicaState",
    "RetrievalIndex",
    "RetrievalState",
]
