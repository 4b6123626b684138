"""What the tour carries from step to step, and how it waits for the workers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from django.utils import timezone

from accounts import workers
from accounts.models import User
from datanets.models import Datanet, Version
from modelfactory.models import Model, Run
from serving.models import Deployment

POLL_SECONDS = 0.25
Found = TypeVar("Found")


class StepFailed(Exception):
    """A step did not come to its end; the message says what happened and what to do."""


class StepSkipped(Exception):
    """A step that does not apply here, with the reason."""


@dataclass
class Journey:
    """The file, the people and what the steps have made so far."""

    file: Path
    base_url: str
    contributor_column: str = ""
    minutes: float = 9.0
    people: dict[str, User] = field(default_factory=dict)
    datanet: Datanet | None = None
    version: Version | None = None
    run: Run | None = None
    model: Model | None = None
    deployment: Deployment | None = None
    api_key: str = ""
    completions: list[str] = field(default_factory=list)
    claimant: User | None = None

    def __post_init__(self) -> None:
        self.deadline = time.monotonic() + self.minutes * 60

    def need(self, name: str) -> Any:
        """Return what an earlier step made. Raises StepFailed where that step did not."""
        value = getattr(self, name)
        if not value:
            raise StepFailed(f"An earlier step made no {name}.")
        return value

    def wait_for(self, what: str, look: Callable[[], Found | None], *, queue: str) -> Found:
        """Ask `look` until it returns something true.

        Raises StepFailed where the tour's time is over, naming `queue` if no worker serves it.
        """
        while True:
            if found := look():
                return found
            if time.monotonic() > self.deadline:
                raise StepFailed(self._why(what, queue))
            time.sleep(POLL_SECONDS)

    def _why(self, what: str, queue: str) -> str:
        if not workers.live_workers(at=timezone.now(), queue=queue).exists():
            return f"No worker serves the queue {queue}, so {what} never came. Start one."
        return f"{what} did not come within {self.minutes:g} minutes; look at the worker's log."


@contextmanager
def failing_as(what: str) -> Iterator[None]:
    """Turn an error of the product into a failed step that says which call it was."""
    try:
        yield
    except (StepFailed, StepSkipped):
        raise
    except Exception as error:
        raise StepFailed(f"{what}: {error}") from error
