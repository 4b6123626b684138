"""What `manage.py doctor` looks at: what is up, what is missing, what to do."""

import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import redis
from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor

from accounts.models import OutboxMessage
from accounts.workers import live_workers
from config.embedded.browser import find_chromium
from ledger.chain.deployment import read_deployment
from ledger.keys import SAFE_KEY, look_at_key
from ledger.models import ChainHead
from ledger.selectors import intents_held_by_caps
from ledger.words import open_text

QUEUES = ("default", "ingest", "train", "attribute", "chain", "generate")
LATE_SECONDS = 30


@dataclass(frozen=True)
class Finding:
    """One thing looked at. `what_to_do` is "" where nothing is to be done."""

    name: str
    well: bool
    fact: str
    what_to_do: str = ""


def examine(*, at: datetime) -> Iterator[Finding]:
    """Every finding, in the order in which things lean on one another."""
    yield _python()
    yield _data_dir()
    database = _database()
    yield database
    yield _redis()
    yield _files()
    if settings.CHAIN_ENABLED:
        yield _chain()
        yield _key()
        yield _contracts()
    else:
        yield Finding("chain", True, "off: no deposits, claims, anchors or votes")
    if database.well:
        yield _migrations()
        yield from _workers(at)
        yield _outbox(at)
        if settings.CHAIN_ENABLED:
            yield _mirror()
            yield _caps()
    yield _web()
    yield _browser()


def _python() -> Finding:
    version = platform.python_version()
    well = sys.version_info[:2] in ((3, 11), (3, 12))
    return Finding("python", well, version, "" if well else "Use Python 3.11 or 3.12.")


def _data_dir() -> Finding:
    folder = Path(settings.DATA_DIR)
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free / 1e9
    return Finding(
        "data",
        free > 1,
        f"{folder}, {free:.0f} GB free",
        "" if free > 1 else "Free some disk: uploads and checkpoints are written there.",
    )


def _database() -> Finding:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            version = cursor.fetchone()[0].split()[0]
            cursor.execute("SELECT 1 FROM pg_available_extensions WHERE name = 'vector'")
            vector = "with" if cursor.fetchone() else "without"
    except DatabaseError as error:
        return Finding("database", False, str(error).strip(), _start_hint("DATABASE_URL"))
    return Finding("database", True, f"PostgreSQL {version} {vector} pgvector")


def _redis() -> Finding:
    try:
        client = redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2)
        version = client.info("server")["redis_version"]
    except redis.RedisError as error:
        return Finding("redis", False, str(error), _start_hint("REDIS_URL"))
    return Finding("redis", True, f"Redis {version}")


def _start_hint(variable: str) -> str:
    return f"Set {variable} to one of yours, or start everything with `make demo`."


def _files() -> Finding:
    try:
        name = default_storage.save("doctor/probe", ContentFile(b"probe"))
        default_storage.delete(name)
    except Exception as error:  # a storage backend raises what its library raises
        return Finding("files", False, str(error), "Check BLOB_BUCKET and its credentials.")
    return Finding("files", True, f"writable ({type(default_storage._wrapped).__name__})")  # type: ignore[attr-defined]


def _rpc(method: str, *params: object) -> str:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": list(params)}
    answer = httpx.post(settings.CHAIN_RPC_URL, json=body, timeout=5).json()
    return str(answer["result"])


def _chain() -> Finding:
    try:
        identifier = int(_rpc("eth_chainId"), 16)
        block = int(_rpc("eth_blockNumber"), 16)
    except (httpx.HTTPError, KeyError, ValueError) as error:
        return Finding("chain", False, f"no answer: {error}", _start_hint("CHAIN_RPC_URL"))
    well = identifier == settings.CHAIN_ID
    hint = "" if well else f"Set CHAIN_ID={identifier}, or another CHAIN_RPC_URL."
    return Finding("chain", well, f"id {identifier}, block {block}", hint)


def _key() -> Finding:
    """The key of this process; most have none."""
    found = look_at_key()
    if found.problem:
        return Finding("key", False, found.problem, SAFE_KEY)
    return Finding("key", True, found.fact)


def _mirror() -> Finding:
    """How far the chain was read, and whether something stopped it."""
    try:
        head = ChainHead.objects.filter(chain_id=settings.CHAIN_ID).first()
    except DatabaseError as error:
        return Finding("mirror", False, f"cannot be read: {error}", "Run `manage.py migrate`.")
    if head is None:
        return Finding("mirror", True, "nothing was read yet")
    if head.halted_at is not None:
        hint = "Look at the chain, then lift it on /staff/ or with `manage.py lift_halt --note …`."
        return Finding("mirror", False, f"halted: {head.halt_reason}", hint)
    if head.told:
        return Finding("mirror", False, f"{head.told} {head.trouble}", "See docs/chain.md.")
    return Finding("mirror", True, f"block {head.number}, final up to {head.final_number}")


def _caps() -> Finding:
    """Whether something waits for a person's word."""
    try:
        held = intents_held_by_caps()
    except DatabaseError as error:
        return Finding("caps", False, f"cannot be read: {error}", "Run `manage.py migrate`.")
    if not held:
        return Finding("caps", True, "hold nothing back")
    moved = open_text(sum(intent.outflow for intent in held))
    hint = "Look at each and let it through, on /staff/ or by `manage.py lift_cap`."
    return Finding("caps", False, f"{len(held)} intents wait, with {moved} OPEN", hint)


def _contracts() -> Finding:
    path = Path(settings.CHAIN_DEPLOYMENT)
    try:
        deployment = read_deployment(path)
    except (KeyError, ValueError) as error:
        hint = "Give it back as the deployment wrote it."
        return Finding("contracts", False, f"{path} cannot be read: {error}", hint)
    if deployment is not None and deployment.missing:
        lacking = ", ".join(deployment.missing)
        hint = (
            "`CHAIN_RESET=1 make demo` starts the local chain over with all contracts."
            if settings.CHAIN_IS_LOCAL
            else "Run `manage.py deploy_contracts`: it says how to get there."
        )
        return Finding("contracts", False, f"{path} lacks {lacking}", hint)
    if deployment is not None:
        return Finding("contracts", True, f"deployed, addresses in {path}")
    return Finding("contracts", False, "not deployed", "Run `manage.py deploy_contracts`.")


def _migrations() -> Finding:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        return Finding("schema", False, f"{len(missing)} to apply", "Run `manage.py migrate`.")
    return Finding("schema", True, "up to date")


def _workers(at: datetime) -> Iterator[Finding]:
    alive: dict[str, list[str]] = {}
    for worker in live_workers(at=at):
        where = f"{worker.queue}: {worker.device} {worker.dtype}, pid {worker.pid}"
        alive.setdefault(worker.queue.split(".")[0], []).append(where)
    for queue in QUEUES:
        if queue == "chain" and not settings.CHAIN_ENABLED:
            continue
        found = alive.get(queue, [])
        hint = "" if found else f"Start a worker for `{queue}`, or everything with `make demo`."
        yield Finding(f"worker {queue}", bool(found), "; ".join(found) or "none alive", hint)


def _outbox(at: datetime) -> Finding:
    waiting = OutboxMessage.objects.filter(sent_at__isnull=True, available_at__lte=at)
    oldest = waiting.order_by("available_at").values_list("available_at", flat=True).first()
    age = (at - oldest).total_seconds() if oldest else 0.0
    hint = "Start `manage.py relay`." if age > LATE_SECONDS else ""
    fact = f"{waiting.count()} waiting" + (f", the oldest for {age:.0f} s" if oldest else "")
    return Finding("outbox", not hint, fact, hint)


def _web() -> Finding:
    address = settings.SITE_URL
    try:
        answer = httpx.get(f"{address.rstrip('/')}/health/", timeout=5)
        well = answer.status_code == httpx.codes.OK
    except httpx.HTTPError as error:
        return Finding("web", False, f"{address}: {error}", "Start it with `make demo`.")
    host = urlsplit(address).hostname or ""
    hint = "" if well else f"See its log; ALLOWED_HOSTS must hold {host}."
    return Finding("web", well, f"{address} answers {answer.status_code}", hint)


def _browser() -> Finding:
    found = find_chromium()
    if found is None:
        return Finding("chromium", True, "none; only the browser tests need one")
    return Finding("chromium", True, str(found))
