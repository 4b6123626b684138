"""Two servers that speak vLLM's protocol, registered as replicas of the starter base."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.utils import timezone

from accounts import workers
from modelfactory.training.prompts import load_tokenizer
from serving.models import Completion, Deployment, Replica, ReplicaKind
from serving.questions import Question, Sampling
from serving.services.completions import start_completion
from serving.services.deployments import deploy
from serving.services.replicas import register_replica
from tests.serving.external.vllm_server import Server, running

KEY = "sk-replica-secret-0123456789"


@pytest.fixture(autouse=True)
def nearby(settings, tmp_path) -> None:
    """This machine may be called; adapters are written where the servers read them."""
    settings.EXTERNAL_ENGINE_NETWORKS = ["127.0.0.0/8"]
    settings.EXTERNAL_ADAPTER_DIR = tmp_path / "adapters"


@pytest.fixture
def external_worker(db) -> None:
    workers.beat(
        name="external@test", queue="external", pid=1, device="cpu", dtype="", at=timezone.now()
    )


@pytest.fixture(scope="package")
def running_servers(endless_folder) -> Iterator[list[Server]]:
    tokenizer = load_tokenizer(endless_folder)
    with running(Server(tokenizer)) as one, running(Server(tokenizer)) as two:
        yield [one, two]


@pytest.fixture
def servers(running_servers) -> list[Server]:
    """As new, on the ports that they have."""
    for server in running_servers:
        port = server.port
        server.__init__(server.tokenizer, key=KEY)
        server.port = port
    return running_servers


@pytest.fixture
def add_replica(base, staff) -> Callable[..., Replica]:
    def add(server: Server, name: str, **changes) -> Replica:
        values = {
            "kind": ReplicaKind.VLLM,
            "base_url": server.url + "/v1",
            "served_name": server.base,
            "key": KEY,
        }
        return register_replica(
            **{**values, **changes},
            name=name,
            base_model=base,
            acting_user=staff,
            at=timezone.now(),
        )

    return add


@pytest.fixture
def replicas(servers, add_replica, external_worker) -> list[Replica]:
    return [add_replica(servers[0], "one"), add_replica(servers[1], "two")]


@pytest.fixture
def deployed(make_model, replicas, builder) -> Deployment:
    """A model on its base, loaded by the replica that it belongs to."""
    from serving.external import worker

    made = deploy(model=make_model(), acting_user=builder, at=timezone.now())
    for one in Deployment.objects.all():
        worker.load_deployment(one.pk)
    made.refresh_from_db()
    assert made.state == "LIVE", made.failure_reason
    return made


@pytest.fixture
def order(deployed, replicas, servers) -> list[Server]:
    """The servers in the order in which the deployment's requests are sent to them."""
    from serving.external import adapters, routing

    found = routing.standings(deployed.base_model, adapters.name_of(deployed))
    by_name = {replica.pk: server for replica, server in zip(replicas, servers, strict=True)}
    return [by_name[one.replica.pk] for one in found]


@pytest.fixture
def start(client_person) -> Callable[..., Completion]:
    """Hold and queue a request; no worker takes it yet."""

    def made(deployment: Deployment, **sampling) -> Completion:
        return start_completion(
            deployment=deployment,
            question=Question.chat("What is a record?"),
            sampling=Sampling(**{"max_tokens": 64, "temperature": 0, **sampling}),
            payer=client_person,
            acting_user=client_person,
            at=timezone.now(),
        )

    return made


@pytest.fixture
def ask(start) -> Callable[..., Completion]:
    """Ask, and have this process be the worker."""
    from serving.external import worker

    def answered(deployment: Deployment, **sampling) -> Completion:
        made = start(deployment, **sampling)
        worker.run_completion(made.pk)
        made.refresh_from_db()
        return made

    return answered
