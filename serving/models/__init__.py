from serving.models.completions import (
    UNFINISHED,
    Completion,
    CompletionKind,
    CompletionState,
)
from serving.models.deployments import Deployment, DeploymentState

__all__ = [
    "UNFINISHED",
    "Completion",
    "CompletionKind",
    "CompletionState",
    "Deployment",
    "DeploymentState",
]
