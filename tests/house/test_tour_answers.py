"""The tour asks over HTTP; where nobody listens it says so."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from config.embedded import paths
from config.tour.answers import complete
from config.tour.journey import Journey, StepFailed


def test_a_web_process_that_is_away_fails_the_step_with_its_address() -> None:
    address = f"http://127.0.0.1:{paths.free_port(6800)}"
    journey = Journey(file=Path("records.jsonl"), base_url=address, api_key="olk_0")
    journey.deployment = SimpleNamespace(name="base")  # type: ignore[assignment]
    with pytest.raises(StepFailed, match=f"The web process does not answer at {address}"):
        complete(journey, "Who is there?")
