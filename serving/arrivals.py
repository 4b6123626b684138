"""Whose request was let in just now: told by a web process to the other ones and to the workers.

One short stream of Redis for all. An entry is of use for LONGEST_SECONDS; what is lost costs
somebody's request its way free, and nothing else. Each entry names who pays (`payer`).
"""

from __future__ import annotations

import time
from uuid import UUID

from serving.following import Name, following

KEY = "arrivals"
KEEP = 64
# How long others give way to one who came.
LONGEST_SECONDS = 0.1


def tell(payer: UUID) -> None:
    """On an event loop: somebody's request has just come."""
    following().tell(KEY, entry(payer), keep=KEEP)


def entry(payer: UUID) -> dict[str, str]:
    return {"payer": str(payer)}


def payer_of(fields: dict[bytes, bytes]) -> UUID:
    return UUID(fields[b"payer"].decode())


def is_new(name: Name) -> bool:
    """Whether an entry of that name was written just now; its name begins with its milliseconds."""
    return time.time() - name[0] / 1_000 < LONGEST_SECONDS
