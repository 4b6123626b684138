"""The second part of the sample, which goes on behind: a version, a run, answers, a payout.

Each stage looks whether its result is there already, so a start after a stop goes on where the last
one was. The same services, workers and HTTP API do the work as for a person; the home page shows
what is under way.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from accounts.api_keys import create_key, revoke_key
from accounts.models import User
from config.sample.foundation import python_answers
from config.sample.people import BUILDER, CONTRIBUTOR, STAFF
from config.tour.answers import await_receipt, complete
from config.tour.data import freeze
from config.tour.journey import Journey, StepFailed
from config.tour.people import tour_people
from datanets.models import Record
from ledger.models import Distribution
from ledger.selectors import balance
from ledger.services.chain import request_faucet
from ledger.services.deposits import grant_without_chain
from ledger.services.distributions import publish_distribution
from modelfactory.models import Model, Run
from modelfactory.services.bases import register_starter
from modelfactory.services.drafts import create_run
from modelfactory.services.publishing import publish_model
from modelfactory.services.runs import restart_run, start_run
from modelfactory.training.recipe import Recipe
from serving.errors import NoWorker
from serving.models import Completion, CompletionState, Deployment, DeploymentState
from serving.services.deployments import deploy

RUN_NAME = "Python answers"
MINUTES = 60.0
DEPOSIT = 20 * 10**18
ANSWERS = 6
EPOCHS = 4
# Wei a token: a whole OPEN buys about a million tokens.
INPUT_PRICE = 10**12
OUTPUT_PRICE = 2 * 10**12

Tell = Callable[[str], None]


def go_on(*, tell: Tell) -> None:
    """Brings the sample to its end. Raises StepFailed where a stage does not come to its own."""
    journey = Journey(
        file=Path("packages.jsonl"),
        base_url=settings.SITE_URL.rstrip("/"),
        minutes=MINUTES,
        people=tour_people(),
        datanet=python_answers(),
    )
    stages: Sequence[tuple[str, Callable[[Journey], str]]] = (
        ("version", _version),
        ("model", _model),
        ("deposit", _deposit),
        ("deployment", _deployment),
        ("answers", _answers),
        ("payout", _payout),
    )
    for name, stage in stages:
        tell(f"{name}: {stage(journey)}")


def _version(journey: Journey) -> str:
    datanet = journey.need("datanet")
    journey.version = datanet.versions.order_by("-number").first()
    if journey.version is None:
        freeze(journey)
    version = journey.need("version")
    return f"{version.record_count} records, root {version.root}"


def _model(journey: Journey) -> str:
    builder = journey.people[BUILDER.handle]
    run = Run.objects.filter(builder=builder, name=RUN_NAME).exclude(state="DRAFT").first()
    if run is None:
        run = create_run(
            name=RUN_NAME,
            base_model=register_starter(at=timezone.now()),
            versions=[journey.need("version")],
            recipe=Recipe(epochs=EPOCHS),
            goal="Answer in one sentence what a part of Python's standard library is for.",
            acting_user=builder,
            at=timezone.now(),
        )
        run = start_run(run=run, acting_user=builder, at=timezone.now())
    elif run.state == Run.State.FAILED:
        run = restart_run(run=run, acting_user=builder, at=timezone.now())
    journey.run = run
    journey.wait_for("the trained adapter", lambda: _has_succeeded(run), queue="train")
    journey.model = model = Model.objects.get(run=run)
    if model.state == Model.State.DRAFT:
        publish_model(
            model=model,
            input_price=INPUT_PRICE,
            output_price=OUTPUT_PRICE,
            summary="Says in one sentence what a part of Python's standard library is for.",
            acting_user=builder,
            at=timezone.now(),
        )
        model.refresh_from_db()
    before, after = model.evaluation["loss_before"], model.evaluation["loss_after"]
    return f"{model.slug}, loss {before:.3f} before and {after:.3f} after"


def _has_succeeded(run: Run) -> bool:
    run.refresh_from_db()
    if run.state in (Run.State.FAILED, Run.State.CANCELLED):
        raise StepFailed(f"The run ended {run.state}: {run.failure_reason}")
    return bool(run.state == Run.State.SUCCEEDED)


def _deposit(journey: Journey) -> str:
    builder = journey.people[BUILDER.handle]
    at = timezone.now()
    if settings.CHAIN_ENABLED:
        request_faucet(user=builder, amount=DEPOSIT, acting_user=builder, key="sample", at=at)
    else:
        grant_without_chain(user=builder, amount=DEPOSIT, acting_user=builder, key="sample", at=at)
    journey.wait_for("the deposit", lambda: _answered(builder) or balance(builder), queue="chain")
    return f"{balance(builder)} wei to spend"


def _deployment(journey: Journey) -> str:
    model = journey.need("model")
    deployment = Deployment.objects.filter(model=model).first()
    if deployment is None or deployment.state == DeploymentState.STOPPED:
        queue = f"generate.{model.base_model.slug}"
        journey.wait_for("a worker", lambda: _deploy(journey), queue=queue)
        deployment = Deployment.objects.get(model=model)
    journey.deployment = deployment

    def live() -> bool:
        deployment.refresh_from_db()
        if deployment.state == DeploymentState.STOPPED:
            raise StepFailed(f"The deployment was refused: {deployment.failure_reason}")
        return bool(deployment.state == DeploymentState.LIVE)

    journey.wait_for("the deployment", live, queue=f"generate.{model.base_model.slug}")
    return deployment.name


def _deploy(journey: Journey) -> Deployment | None:
    """None while no worker that serves the base is up yet."""
    try:
        return deploy(
            model=journey.need("model"),
            acting_user=journey.people[BUILDER.handle],
            at=timezone.now(),
        )
    except NoWorker:
        return None


def _answers(journey: Journey) -> str:
    builder = journey.people[BUILDER.handle]
    given = _answered(builder)
    if given < ANSWERS:
        key, journey.api_key = create_key(
            user=builder, name="Sample", acting_user=builder, at=timezone.now()
        )
        try:
            for question in _questions(journey)[given:]:
                complete(journey, question)
        finally:
            revoke_key(key=key, acting_user=builder, at=timezone.now())
    answers = Completion.objects.filter(payer=builder, state=CompletionState.SUCCEEDED)
    for pk in answers.filter(deployment=journey.deployment).values_list("pk", flat=True):
        await_receipt(journey, str(pk))
    return f"{_answered(builder)} with receipts"


def _answered(builder: User) -> int:
    return Completion.objects.filter(payer=builder, state=CompletionState.SUCCEEDED).count()


def _questions(journey: Journey) -> list[str]:
    """Real questions, every other one from the packages of the named contributor."""
    records = Record.objects.filter(datanet=journey.datanet, state="ACCEPTED").order_by(
        "content_hash"
    )
    own = records.filter(contributor=journey.people[CONTRIBUTOR.handle])[:ANSWERS]
    others = records.exclude(contributor=journey.people[CONTRIBUTOR.handle])[:ANSWERS]
    mixed = [record for pair in zip(own, others, strict=False) for record in pair]
    return [str(record.payload["messages"][0]["content"]) for record in mixed[:ANSWERS]]


def _payout(journey: Journey) -> str:
    staff = journey.people[STAFF.handle]
    distribution = Distribution.objects.order_by("-epoch").first()
    if distribution is None:
        distribution = publish_distribution(at=timezone.now(), acting_user=staff)
    if distribution is None:
        return "nobody with a wallet has earned anything yet"
    if not settings.CHAIN_ENABLED:
        return f"epoch {distribution.epoch} waits for a chain"

    def active() -> bool:
        distribution.refresh_from_db()
        if distribution.state == Distribution.State.FAILED:
            raise StepFailed(f"The distribution failed: {distribution.failure_reason}")
        return distribution.state == Distribution.State.ACTIVE

    journey.wait_for("the root on the chain", active, queue="chain")
    return f"epoch {distribution.epoch}, {distribution.amount} wei ready to claim"
