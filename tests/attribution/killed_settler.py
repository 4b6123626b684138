"""Claims attributions, and is killed when their money is settled and nothing is committed.

    python -m tests.attribution.killed_settler GROUP ATTRIBUTION...

GROUP is who helped. The database is that of DATABASE_URL.
"""

import os
import signal
import sys
from uuid import UUID

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

import django

django.setup()

from attribution.bodies import Evidence  # noqa: E402
from attribution.services import receipts, writing  # noqa: E402
from attribution.services.writing import Scored  # noqa: E402
from ledger.models import Entry  # noqa: E402
from tests.attribution.world import NOON  # noqa: E402

OWNER = "killed"


def die(**_):
    assert Entry.objects.filter(kind=Entry.Kind.SETTLEMENT).exists()
    os.kill(os.getpid(), signal.SIGKILL)


def main(group, *ids):
    evidence = Evidence(influences={group: 5}, counts={group: 1})
    writing.append_hashes = die
    for one in ids:
        assert receipts.claim(attribution_id=UUID(one), owner=OWNER, at=NOON)
    scored = [Scored(UUID(one), evidence) for one in ids]
    writing.write_receipts(owner=OWNER, scored=scored, at=NOON)


if __name__ == "__main__":
    main(*sys.argv[1:])
