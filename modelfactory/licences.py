"""Whether a model may be made of these versions and this base, and under which licence."""

from collections.abc import Sequence
from dataclasses import dataclass

from datanets.licences import LICENCES, Licence
from datanets.models import Version

# Base licences under which adapters may be published and sold.
PERMISSIVE = {"apache-2.0", "mit", "bsd-3-clause", "bsd-2-clause", "cc0-1.0", "cc-by-4.0", "isc"}


@dataclass(frozen=True)
class Verdict:
    """`licence` is the adapter's; `conditions` are sentences for the model's card."""

    allowed: bool
    licence: str
    conditions: tuple[str, ...]
    refusals: tuple[str, ...]
    warnings: tuple[str, ...]
    commercial: bool


def check(versions: Sequence[Version], base_licence: str) -> Verdict:
    """Combine the licences of all versions and of the base model."""
    facts = {v.licence: LICENCES.get(v.licence) for v in versions}
    known = [licence for licence in facts.values() if licence is not None]
    refusals = [
        f"The licence {spdx} is not one that can be trained on here."
        for spdx, licence in facts.items()
        if licence is None or not licence.ai_training
    ]
    share_alike = sorted({licence.spdx for licence in known if licence.share_alike})
    restricted = sorted({licence.spdx for licence in known if not licence.commercial})
    if len(share_alike) > 1:
        refusals.append(
            f"{' and '.join(share_alike)} each ask for their own licence on what is made of them. "
            "Leave out one of the two."
        )
    if share_alike and restricted:
        refusals.append(
            f"{share_alike[0]} forbids added limits, {restricted[0]} adds one. "
            "Leave out one of the two."
        )
    return Verdict(
        allowed=not refusals,
        licence=_resulting(share_alike, restricted, base_licence),
        conditions=tuple(_conditions(known)),
        refusals=tuple(refusals),
        warnings=tuple(_warnings(base_licence)),
        commercial=not restricted,
    )


def _resulting(share_alike: list[str], restricted: list[str], base_licence: str) -> str:
    if share_alike or restricted:
        return (share_alike or restricted)[0]
    if base_licence.lower() in PERMISSIVE:
        return next((s for s in LICENCES if s.lower() == base_licence.lower()), base_licence)
    return base_licence or "CC-BY-4.0"


def _conditions(known: Sequence[Licence]) -> list[str]:
    said = []
    if any(licence.attribution for licence in known):
        said.append("The contributors are credited on the model's card and on every receipt.")
    if any(licence.share_alike for licence in known):
        said.append("The adapter is shared under the same licence.")
    if any(not licence.commercial for licence in known):
        said.append("Non-commercial: the model cannot have a price.")
    return said


def _warnings(base_licence: str) -> list[str]:
    if not base_licence:
        return ["The base model's card names no licence. Read its card before you publish."]
    if base_licence.lower() not in PERMISSIVE:
        return [f"The base model's licence {base_licence} may limit use. Read its card."]
    return []
