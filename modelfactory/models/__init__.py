from modelfactory.models.bases import BaseModel
from modelfactory.models.models import Model
from modelfactory.models.runs import Run, RunEvent, RunParent, RunVersion

__all__ = ["BaseModel", "Model", "Run", "RunEvent", "RunParent", "RunVersion"]
