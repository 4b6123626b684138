"""Step 4: from a version to an evaluated adapter."""

from typing import Any

from django.utils import timezone

from config.tour.journey import Journey, StepFailed
from modelfactory.models import BaseModel, Model, Run
from modelfactory.services.bases import register_starter
from modelfactory.services.drafts import create_run
from modelfactory.services.publishing import publish_model
from modelfactory.services.runs import start_run

# Wei a token: a whole OPEN buys about a million tokens.
INPUT_PRICE = 10**12
OUTPUT_PRICE = 2 * 10**12


def train(journey: Journey) -> dict[str, Any]:
    """Fine-tune the starter model with the recipe's defaults and publish the result."""
    builder = journey.people["builder"]
    run = create_run(
        name=f"Tour of {journey.file.stem}",
        base_model=_starter(journey),
        versions=[journey.need("version")],
        goal="Answer like the records.",
        acting_user=builder,
        at=timezone.now(),
    )
    journey.run = run = start_run(run=run, acting_user=builder, at=timezone.now())

    def trained() -> bool:
        run.refresh_from_db()
        if run.state in (Run.State.FAILED, Run.State.CANCELLED):
            raise StepFailed(f"The run ended {run.state}: {run.failure_reason}")
        return bool(run.state == Run.State.SUCCEEDED)

    journey.wait_for("the trained adapter", trained, queue="train")
    journey.model = model = Model.objects.get(run=run)
    publish_model(
        model=model,
        input_price=INPUT_PRICE,
        output_price=OUTPUT_PRICE,
        acting_user=builder,
        at=timezone.now(),
    )
    return {
        "model": model.slug,
        "device": run.device,
        "steps": run.steps,
        "loss_before": round(model.evaluation["loss_before"], 4),
        "loss_after": round(model.evaluation["loss_after"], 4),
        "adapter": model.adapter_sha256,
    }


def _starter(journey: Journey) -> BaseModel:
    base = register_starter(at=timezone.now())

    def ready() -> bool:
        base.refresh_from_db()
        if base.state == BaseModel.State.FAILED:
            raise StepFailed(f"The starter model does not load: {base.failure_reason}")
        return base.is_ready

    journey.wait_for("the starter model's check", ready, queue="train")
    return base
