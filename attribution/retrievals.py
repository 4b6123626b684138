"""The records that were put into a prompt, as a receipt states them.

Serving hands them over as {"method": …, "reward_ppb": n, "records": [{"record", "group",
"distance"}, …]} in the order of their citations: the first is [1]. Public is only whose records
they were, as with influence; which ones is for the payer, the credited and staff.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from attribution.groups import parse
from datanets.models import Record

SNIPPET = 240


def public_part(retrieval: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Method, reward in parts of 10**9, and how many records of each group; None without any."""
    if not retrieval or not retrieval["records"]:
        return None
    counts = Counter(one["group"] for one in retrieval["records"])
    return {
        "method": dict(retrieval["method"]),
        "reward_ppb": retrieval["reward_ppb"],
        "groups": dict(sorted(counts.items())),
    }


def private_part(retrieval: Mapping[str, Any] | None) -> list[dict[str, str]] | None:
    """The records in the order of their citations, with their contributors and distances."""
    if not retrieval or not retrieval["records"]:
        return None
    return [
        {
            "record": one["record"],
            "contributor": str(parse(one["group"]).contributor),
            "distance": one["distance"],
        }
        for one in retrieval["records"]
    ]


def reward_percent(public: Mapping[str, Any]) -> str:
    """For a sentence; "0" where nothing was retrieved. Money is never computed from it."""
    retrieval = public.get("retrieval") or {"reward_ppb": 0}
    return f"{retrieval['reward_ppb'] / 10**7:g}"


@dataclass(frozen=True)
class RetrievedLine:
    """A cited record as a reader may see it."""

    number: int
    record: Record
    snippet: str
    readable: bool


def lines_of(private: Mapping[str, Any], user: Any) -> list[RetrievedLine]:
    """What a receipt's private part says was retrieved; records that were erased are left out."""
    stated = private.get("retrieved") or []
    ids = [UUID(one["record"]) for one in stated]
    visible = Record.objects.visible_to(user).filter(pk__in=ids)
    readable = {one.pk for one in visible if not one.is_withheld}
    found = Record.objects.select_related("contributor").in_bulk(ids)
    return [
        RetrievedLine(
            number, found[pk], found[pk].excerpt[:SNIPPET] if pk in readable else "", pk in readable
        )
        for number, pk in enumerate(ids, 1)
        if pk in found
    ]
