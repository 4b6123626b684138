"""`python -m tests.recovery.actions NAME '{"argument": …}'`: one thing done through the services.

Runs in the environment of the house under test and prints its result as one line of JSON.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.utils import timezone  # noqa: E402

from accounts.api_keys import create_key  # noqa: E402
from accounts.models import User  # noqa: E402
from attribution.models import Index  # noqa: E402
from attribution.services import indexes  # noqa: E402
from config.sample.foundation import python_answers  # noqa: E402
from config.tour.people import tour_people  # noqa: E402
from datanets.models import Contribution, Datanet, Record, Version  # noqa: E402
from datanets.services import contributions, reviews, uploads, versions  # noqa: E402
from ledger.selectors import balance  # noqa: E402
from ledger.services.chain import request_faucet  # noqa: E402
from ledger.services.distributions import publish_distribution  # noqa: E402
from modelfactory.models import BaseModel, Model, Run  # noqa: E402
from modelfactory.services import runs  # noqa: E402
from modelfactory.services.bases import register_base, register_starter  # noqa: E402
from modelfactory.services.drafts import create_run  # noqa: E402
from modelfactory.services.publishing import publish_model  # noqa: E402
from serving.errors import NoWorker  # noqa: E402
from serving.models import Deployment, DeploymentState  # noqa: E402
from serving.services import deployments  # noqa: E402

PATIENCE = 200.0
OPEN = 10**18


def begin_run(*, name: str, epochs: int) -> dict[str, Any]:
    """A run on the sample's records, whose first version is published where there is none."""
    people, datanet = tour_people(), _datanet()
    if not datanet.versions.exists():
        versions.request_version(datanet=datanet, acting_user=people["owner"], at=timezone.now())
        _until("the version", lambda: datanet.versions.exists())
    return {
        "run": str(_start_run(people["builder"], datanet.versions.latest("number"), name, epochs))
    }


def restart_run(*, run: str) -> dict[str, Any]:
    builder = tour_people()["builder"]
    runs.restart_run(run=Run.objects.get(pk=run), acting_user=builder, at=timezone.now())
    return {}


def put_in_service(*, run: str) -> dict[str, Any]:
    """Publish and deploy the run's model, and give its builder money and a key."""
    builder = tour_people()["builder"]
    model = Model.objects.get(run=run)
    publish_model(
        model=model,
        input_price=10**12,
        output_price=2 * 10**12,
        acting_user=builder,
        at=timezone.now(),
    )
    ask_faucet(keys=["service"])
    queue = f"generate.{model.base_model.slug}"
    _until("a worker", lambda: _deployed(model, builder))
    wanted = Deployment.objects.filter(base_model=model.base_model, state=DeploymentState.LIVE)
    _until(f"the deployments on {queue}", lambda: wanted.count() == 2)
    _until("the deposit", lambda: balance(builder) > 0)
    _, secret = create_key(user=builder, name="Recovery", acting_user=builder, at=timezone.now())
    return {"model": model.slug, "base": model.base_model.slug, "key": secret}


def ask_faucet(*, keys: list[str]) -> dict[str, Any]:
    """Deposits of one OPEN each; returns the ids of their intents."""
    builder = tour_people()["builder"]
    asked = [
        request_faucet(user=builder, amount=OPEN, acting_user=builder, key=key, at=timezone.now())
        for key in keys
    ]
    return {"intents": [str(intent.pk) for intent in asked]}


def prepare_contributions() -> dict[str, Any]:
    """One contribution whose columns wait to be mapped, one that waits to be submitted."""
    mapped, checked = _upload("to-map"), _upload("to-submit")
    for one in (mapped, checked):
        _until("the first rows", lambda one=one: _state(one) == "MAPPING")
    _map(checked)
    _until("the checked rows", lambda: _state(checked) == "READY")
    return {"mapped": str(mapped), "checked": str(checked)}


def make_work(*, mapped: str, checked: str, run: str) -> dict[str, Any]:
    """One piece of each kind of work; returns table, id and the state that it shall reach."""
    people, datanet, at = tour_people(), _datanet(), timezone.now()
    wanted = [("datanets_contribution", _upload("to-read"), "MAPPING")]
    _map(mapped)
    wanted.append(("datanets_contribution", mapped, "READY"))
    contributions.submit_contribution(
        contribution=Contribution.objects.get(pk=checked),
        licence=datanet.licence,
        consent=True,
        acting_user=people["owner"],
        at=at,
    )
    wanted.append(("datanets_contribution", checked, "SUBMITTED"))
    reviews.accept_records(
        datanet=datanet,
        records=list(
            Record.objects.filter(datanet=datanet, state="PENDING").values_list("pk", flat=True)[:3]
        ),
        acting_user=people["reviewer"],
        at=at,
    )
    build = versions.request_version(datanet=datanet, acting_user=people["owner"], at=at)
    wanted.append(("datanets_versionbuild", build.pk, "DONE"))
    version = datanet.versions.latest("number")
    wanted.append(
        ("modelfactory_run", _start_run(people["builder"], version, "Lost", 1), "SUCCEEDED")
    )
    base = register_base(
        origin=BaseModel.objects.get(slug="starter").origin,
        source=BaseModel.Source.FOLDER,
        name="Lost base",
        acting_user=people["staff"],
        at=at,
    )
    wanted.append(("modelfactory_basemodel", base.pk, "READY"))
    index = Index.objects.get(model__run=run)
    Index.objects.filter(pk=index.pk).update(state="FAILED", attempts=0)
    indexes.request_index(model_id=index.model_id, acting_user=people["staff"], at=at)
    wanted.append(("attribution_index", index.pk, "READY"))
    wanted.append(("serving_deployment", _redeploy(people["builder"], run), "LIVE"))
    for intent in ask_faucet(keys=["lost"])["intents"]:
        wanted.append(("ledger_intent", intent, "FINAL"))
    distribution = publish_distribution(at=at, acting_user=people["staff"])
    if distribution is not None:
        wanted.append(("ledger_distribution", distribution.pk, "ACTIVE"))
    return {"work": [[table, str(pk), state] for table, pk, state in wanted]}


def _start_run(builder: User, version: Version, name: str, epochs: int) -> Any:
    run = create_run(
        name=name,
        base_model=register_starter(at=timezone.now()),
        versions=[version],
        recipe={"epochs": epochs},
        acting_user=builder,
        at=timezone.now(),
    )
    return runs.start_run(run=run, acting_user=builder, at=timezone.now()).pk


def _redeploy(builder: User, run: str) -> Any:
    deployment = Deployment.objects.get(model__run=run)
    deployments.stop(deployment=deployment, acting_user=builder, at=timezone.now())
    assert deployment.model is not None
    return deployments.deploy(model=deployment.model, acting_user=builder, at=timezone.now()).pk


def _deployed(model: Model, builder: User) -> bool:
    """False while no worker that serves the base is up yet."""
    try:
        deployments.deploy(model=model, acting_user=builder, at=timezone.now())
    except NoWorker:
        return False
    return True


def _datanet() -> Datanet:
    found = python_answers()
    assert found is not None, "the sample was not seeded"
    return found


def _upload(name: str) -> Any:
    """A small file of the owner's, uploaded; returns its contribution's id."""
    rows = [
        {"question": f"What is {name} {number}?", "answer": f"Number {number} of {name}."}
        for number in range(5)
    ]
    data = "\n".join(json.dumps(row) for row in rows).encode()
    upload = uploads.start_upload(
        datanet=_datanet(),
        name=f"{name}.jsonl",
        size=len(data),
        acting_user=tour_people()["owner"],
        at=timezone.now(),
    )
    upload = uploads.append_chunk(upload=upload, offset=0, data=data, at=timezone.now())
    contribution = uploads.contribution_of(upload)
    assert contribution is not None
    return contribution.pk


def _map(pk: Any) -> None:
    contribution = Contribution.objects.get(pk=pk)
    contributions.set_mapping(
        contribution=contribution,
        mapping=contribution.preview["mapping"],
        acting_user=tour_people()["owner"],
        at=timezone.now(),
    )


def _state(pk: Any) -> str:
    return str(Contribution.objects.values_list("state", flat=True).get(pk=pk))


def _until(what: str, look: Callable[[], Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < deadline, f"{what} did not come; see {settings.DATA_DIR}"
        time.sleep(0.2)


ACTIONS = (begin_run, restart_run, put_in_service, ask_faucet, prepare_contributions, make_work)

if __name__ == "__main__":
    chosen = {action.__name__: action for action in ACTIONS}[sys.argv[1]]
    result = chosen(**json.loads(sys.argv[2]))
    sys.stdout.write(f"{json.dumps(result)}\n")
