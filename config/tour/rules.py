"""Step 10: holders change the split of fees, and the next answer is split by it."""

from typing import Any

from django.conf import settings

from config.tour.answers import complete
from config.tour.journey import Journey, StepFailed, StepSkipped
from governance import headless
from governance.selectors import current_split
from ledger.models import Entry
from serving.models import Completion


def change_the_split(journey: Journey) -> dict[str, Any]:
    """Wrap, delegate, propose, vote, queue and execute; then ask once more."""
    if not settings.CHAIN_ENABLED or not settings.CHAIN_IS_LOCAL:
        raise StepSkipped("Proposals are walked on a local chain only.")
    before = current_split()
    wanted = _other_split({part.kind: part.basis_points for part in before.parts})
    headless.change_split(wanted)

    def in_force() -> Any:
        split = current_split()
        return split if {p.kind: p.basis_points for p in split.parts} == wanted else None

    after = journey.wait_for("the new split", in_force, queue="chain")
    journey.need("completions")
    complete(journey, "What changed?")
    completion = Completion.objects.get(pk=journey.completions[-1])
    entry = Entry.objects.get(kind=Entry.Kind.CAPTURE, cause_id=completion.pk)
    if entry.parameter_version != after.version:
        raise StepFailed("The next answer was still split by the old version.")
    return {
        "before": {part.kind: part.basis_points for part in before.parts},
        "after": wanted,
        "version": after.version,
        "next_fee_wei": str(completion.fee),
    }


def _other_split(now: dict[str, int]) -> dict[str, int]:
    """Move one part in a hundred between stakers and contributors, to and fro."""
    step = 100 if now["contributors"] <= 5000 else -100
    return now | {"stakers": now["stakers"] - step, "contributors": now["contributors"] + step}
