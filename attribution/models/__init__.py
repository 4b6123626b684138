from attribution.models.log import Checkpoint, LogLeaf

__all__ = ["Checkpoint", "LogLeaf"]
