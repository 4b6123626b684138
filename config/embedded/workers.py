"""The product's own processes on one machine: web, relay, beat and the Celery workers.

Workers that compute use threads, not forks: CUDA does not survive a fork, and one process holds the
model of all requests. Only `default` and `ingest` fork, since reading files keeps a core busy. The
worker of `chain` is alone in importing web3, those of `train`, `attribute` and `generate` in
importing torch.
"""

import os
import sys
from collections.abc import Mapping

from config.embedded.paths import REPOSITORY
from config.embedded.supervisor import Service

STARTER = "starter"
# Connections to PostgreSQL that a process of many threads lends among them; see DATABASE_POOL.
POOLED = {"web": "24", "generate": "20"}
WEB_WORKERS = 2
# What computes for long: whoever waits for a page or a first token goes before it.
COMPUTE = frozenset({"generate", "attribute", "train"})
TRUE = ("1", "true", "yes", "on")
# A run takes long to end by itself; its lease and its checkpoint bring it back instead.
GRACE_SECONDS = 6.0


def celery(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "celery", "-A", "config.celery:app", *arguments)


def worker(name: str, queues: str, *, pool: str, slots: int) -> tuple[str, ...]:
    return celery(
        *("worker", "--hostname", f"{name}@%h", "--queues", queues, "--loglevel", "INFO"),
        *("--pool", pool, "--concurrency", str(slots), "--without-gossip", "--without-mingle"),
    )


def _pool_of(name: str) -> dict[str, str]:
    return {"DATABASE_POOL": POOLED[name]} if name in POOLED else {}


def generate_queues(environ: Mapping[str, str] = os.environ) -> str:
    """The queues of the base models that this machine serves, `generate.starter` by default."""
    bases = environ.get("GENERATE_BASES", STARTER).split(",")
    return ",".join(f"generate.{base.strip()}" for base in bases)


def web(*, host: str, port: int) -> tuple[str, ...]:
    return (
        *(sys.executable, "-m", "gunicorn", "config.asgi:application"),
        *("--worker-class", "uvicorn_worker.UvicornWorker", "--workers", str(WEB_WORKERS)),
        *("--bind", f"{host}:{port}", "--graceful-timeout", "5", "--timeout", "60"),
        *("--error-logfile", "-", "--no-control-socket"),
    )


def services(*, host: str, port: int, environment: Mapping[str, str]) -> list[Service]:
    """Everything between the browser and the state of record, in the order to start it in."""
    beat = celery("beat", "--loglevel", "WARNING", "--pidfile=")
    commands = {
        "web": web(host=host, port=port),
        "relay": (sys.executable, "manage.py", "relay"),
        "beat": beat,
        "worker": worker("worker", "default,ingest", pool="prefork", slots=2),
        "chain": worker("chain", "chain", pool="threads", slots=2),
        "generate": worker("generate", generate_queues(environment), pool="threads", slots=20),
        "attribute": worker("attribute", "attribute", pool="threads", slots=2),
        "train": worker("train", "train", pool="threads", slots=1),
    }
    if not environment.get("CHAIN_RPC_URL"):
        del commands["chain"]
    if environment.get("EXTERNAL_ENGINES", "").lower() in TRUE:
        # A thread waits for each answer of a server elsewhere.
        commands["external"] = worker("external", "external", pool="threads", slots=64)
    return [
        Service(
            name=name,
            command=command,
            environment={**_pool_of(name), **environment},
            folder=REPOSITORY,
            grace=GRACE_SECONDS,
            yields=name in COMPUTE,
            # The web process prints nothing but the e-mails of the console backend.
            echo=name == "web",
        )
        for name, command in commands.items()
    ]
