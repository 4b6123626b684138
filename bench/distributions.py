"""How long a distribution of a million addresses takes, and how much memory.

    make bench NAME=distributions ARGS="--leaves 1000000"

**tree**: what stands between a published epoch and its transaction: the amounts of all addresses
read from PostgreSQL, the tree over them, the file of leaves and the file of nodes stored with their
hashes. This is what the bars of 20 s and 1 GB are for; the memory is that of the process at its
highest, over everything that it did here (publication, tree, rebuilding and proofs).
**publication**: the money leaves the earnings of all those accounts and their leaves are written,
10,000 accounts a transaction, all triggers on; no bar, since PostgreSQL writes it, and only for
accounts that an epoch pays. Afterwards the books are checked.
**rebuild**: what `python -m ledger.chain.distribution verify` does with the file.
**proof**: one address looked up, its proof read from the stored nodes.
Needs DATABASE_URL of a superuser; makes a database of its own beside it and drops it.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from bench import report

OPEN = 10**18
PROOFS = 200


def main() -> int:
    parser = report.parser(__doc__)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    options = parser.parse_args()
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    with tempfile.TemporaryDirectory() as folder, _database(), _chain(Path(folder)):
        result = report.Report("distributions", options)
        _measure(result, options)
        return result.finish()


def _measure(result: report.Report, options: argparse.Namespace) -> None:
    from accounts import blobs
    from ledger.chain import leaf_file
    from ledger.models import Distribution
    from ledger.services import roots

    count, whole = options.leaves, options.leaves >= 1_000_000
    _say(f"writing {count} people with a wallet and earnings")
    _world(count)
    _say("publication")
    publication = _seconds(lambda: _publish(count))
    _say("tree and files")
    began = time.process_time()
    tree = _seconds(lambda: roots.advance_distributions(at=_now()))
    tree_work = time.process_time() - began
    distribution = Distribution.objects.get()
    assert (distribution.leaf_count, distribution.state) == (count, Distribution.State.FUNDING)
    _say("rebuilding from the file")
    with blobs.local_path(distribution.data_sha256) as path:
        rebuilt: list[Any] = []
        rebuild = _seconds(lambda: rebuilt.append(leaf_file.read(path)))
        size = path.stat().st_size
    assert rebuilt[0].problems == []
    assert rebuilt[0].tree.root_hex == distribution.root
    _say("checking the books")
    _books_hold()
    Distribution.objects.update(state=Distribution.State.ACTIVE)
    proofs = [_seconds(lambda: _prove(distribution)) for _ in range(PROOFS)]

    result.add(
        "tree: read, build, store files", tree, "s", at_most=20 if whole else None,
        note=f"{count} leaves, from PostgreSQL to both files",
    )  # fmt: skip
    result.add("the same, time of the processor alone", tree_work, "s", note="of our process")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    result.add("peak memory of the process", peak, "MiB", at_most=1024)
    result.add("publication in PostgreSQL", publication, "s")
    result.add("publication", count / publication, "accounts/s")
    if _steps:
        result.add("one transaction of it, slowest", max(_steps), "s")
    result.add("rebuild from the file", rebuild, "s", note=f"{size / 1e6:.1f} MB")
    result.add("proof of one address, median", median(proofs) * 1000, "ms")
    result.add("proof of one address, slowest", max(proofs) * 1000, "ms")
    _compare_hashes(result)


def _publish(count: int) -> None:
    """What `publish_distribution` does before the tree."""
    from ledger.models import Distribution
    from ledger.services import distributions

    began, done = time.perf_counter(), 0
    distribution = distributions._gather_next(None, _now(), None, 1)
    while distribution is not None and distribution.state == Distribution.State.GATHERING:
        _steps.append(time.perf_counter() - began - sum(_steps))
        done += distributions.AT_ONCE
        if done % 100_000 == 0:
            _say(f"{done} of {count} accounts")
        distribution = distributions._gather_next(distribution, _now(), None, 1)


# Seconds of each transaction of the publication: so long earnings are locked.
_steps: list[float] = []


def _books_hold() -> None:
    from ledger.reconciliation import check_ledger

    wrong = [finding for finding in check_ledger() if not finding.holds]
    assert not wrong, wrong


def _prove(distribution: Any) -> None:
    from ledger.chain import distribution as trees
    from ledger.services.claims import claim_proof

    address = f"0x{random.choice(_numbers):040x}"
    ready = claim_proof(address)
    leaf = trees.leaf(
        chain_id=distribution.chain_id,
        distributor=distribution.distributor,
        account=ready.address,
        cumulative=ready.cumulative,
    )
    assert trees.verify(root=bytes.fromhex(distribution.root[2:]), leaf=leaf, proof=ready.proof)


def _compare_hashes(result: report.Report) -> None:
    """The Keccak that trees are made with, and that of pycryptodome, interleaved."""
    import numpy as np

    from ledger.chain.keccak import portable
    from ledger.chain.keccak_many import keccak256_many

    messages = np.random.default_rng(1).integers(0, 256, (65_536, 64), dtype=np.uint8)
    single = [message.tobytes() for message in messages[:8192]]
    runs = report.interleave(
        {
            "many": lambda: len(messages) / _seconds(lambda: keccak256_many(messages)),
            "portable": lambda: len(single) / _seconds(lambda: [portable(one) for one in single]),
        },
        rounds=3,
    )
    result.add("Keccak of many", median(runs["many"]), "hashes/s")
    result.add("Keccak of pycryptodome", median(runs["portable"]), "hashes/s")
    result.add("many / pycryptodome", report.ratio(runs["many"], runs["portable"]), "x")


# Addresses are spread by a multiplication, so that they come in no order of the tree.
_numbers: list[int] = []
SPREAD = 0x9E3779B97F4A7C15F39CC0605CEDC8341082276B


def _world(count: int) -> None:
    """People with a wallet and earnings; their entry is one, from OPEN that the house issued.

    Written with all triggers and foreign keys off, balances and postings as the triggers would
    have them: what is measured begins after this.
    """
    from django.db import connection, transaction

    from ledger.models import Account, Entry
    from ledger.services.opening import account_for
    from ledger.services.publishing import _UUID7

    issued = account_for(Account.Kind.ISSUED)
    _numbers.extend((number * SPREAD) % (1 << 160) for number in range(1, count + 1))
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL session_replication_role = replica")
        cursor.execute("CREATE TEMPORARY TABLE numbered (number int, address text, wei bigint)")
        with cursor.copy("COPY numbered FROM STDIN") as copy:
            for start in range(0, count, 50_000):
                copy.write(_lines(start, _numbers[start : start + 50_000]))
        entry = Entry(
            kind=Entry.Kind.GRANT, idempotency_key="world", body_hash="", legs=count + 1,
            effective_at=_now(),
        )  # fmt: skip
        entry.save(force_insert=True)
        for statement in WORLD:
            cursor.execute(
                statement.replace("{uuid}", _UUID7), {"entry": entry.pk, "issued": issued.pk}
            )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _lines(start: int, numbers: list[int]) -> str:
    """Rows for COPY: number, checksummed address, wei."""
    from ledger.chain import columns

    addresses = columns.parse_addresses([f"0x{number:040x}" for number in numbers])
    texts = columns.address_text(addresses).tobytes().decode("ascii")
    return "".join(
        f"{start + place}\t{texts[place * 42 : place * 42 + 42]}\t{10**15 + start + place}\n"
        for place in range(len(numbers))
    )


WORLD = (
    """
    CREATE TEMPORARY TABLE world ON COMMIT DROP AS
    SELECT n.*, {uuid} AS id, {uuid} AS account_id FROM numbered n
    """,
    """
    INSERT INTO accounts_user (id, password, is_superuser, handle, display_name, kind, is_staff,
                               is_active, date_joined)
    SELECT id, '!', false, 'person-' || number, '', 'PERSON', false, true, now() FROM world
    """,
    """
    INSERT INTO accounts_wallet (id, created_at, user_id, address, is_primary)
    SELECT {uuid}, now(), id, address, true FROM world
    """,
    """
    INSERT INTO ledger_account (id, created_at, kind, owner_id, shard, overdraft, balance)
    SELECT account_id, now(), 'EARNINGS', id, 0, false, wei FROM world
    """,
    """
    INSERT INTO ledger_posting (id, created_at, entry_id, account_id, amount)
    SELECT {uuid}, now(), %(entry)s, account_id, wei FROM world
    UNION ALL SELECT {uuid}, now(), %(entry)s, %(issued)s, -(SELECT sum(wei) FROM world)
    """,
    """
    UPDATE ledger_account SET balance = balance - (SELECT sum(wei) FROM world)
    WHERE id = %(issued)s
    """,
)


@contextmanager
def _database() -> Iterator[None]:
    """A database that is made for this run and dropped after it."""
    from django.db import connection

    before = connection.settings_dict["NAME"]
    connection.settings_dict["TEST"]["NAME"] = "bench_distributions"
    connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    try:
        yield
    finally:
        connection.creation.destroy_test_db(before, verbosity=0)


@contextmanager
def _chain(folder: Path) -> Iterator[None]:
    """Contracts that stand somewhere, and a store of files: no node is asked for a tree."""
    import json

    from django.test import override_settings

    file = folder / "deployment.json"
    contracts = {"Gateway": "0x" + "1" * 40, "RewardDistributor": "0x" + "2" * 40}
    file.write_text(
        json.dumps({"chain_id": 31337, "block": 0, "genesis_hash": "0x0", "addresses": contracts})
    )
    from django.conf import settings

    stores = settings.STORAGES | {
        "default": {
            "BACKEND": "django.core.files.storage.FileSystemStorage",
            "OPTIONS": {"location": str(folder / "blobs")},
        }
    }
    with override_settings(
        CHAIN_ENABLED=True, CHAIN_ID=31337, CHAIN_DEPLOYMENT=file, STORAGES=stores, DEBUG=False
    ):
        yield


def _seconds(work: Any) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _now() -> Any:
    from django.utils import timezone

    return timezone.now()


def _say(text: str) -> None:
    sys.stderr.write(f"{text} …\n")


if __name__ == "__main__":
    raise SystemExit(main())
