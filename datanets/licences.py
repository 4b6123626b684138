"""The licences that a Datanet may carry, each with what a person wants to know before using it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """spdx: identifier of the SPDX list; the flags say what the licence allows or asks for."""

    spdx: str
    name: str
    url: str
    commercial: bool
    ai_training: bool = True
    attribution: bool = False
    share_alike: bool = False
    derivatives: bool = True


LICENCES = {
    item.spdx: item
    for item in (
        Licence(
            "CC-BY-4.0",
            "Creative Commons Attribution 4.0",
            "https://creativecommons.org/licenses/by/4.0/",
            commercial=True,
            attribution=True,
        ),
        Licence(
            "CC0-1.0",
            "Creative Commons Zero (public domain)",
            "https://creativecommons.org/publicdomain/zero/1.0/",
            commercial=True,
        ),
        Licence(
            "CC-BY-SA-4.0",
            "Creative Commons Attribution-ShareAlike 4.0",
            "https://creativecommons.org/licenses/by-sa/4.0/",
            commercial=True,
            attribution=True,
            share_alike=True,
        ),
        Licence(
            "CC-BY-NC-4.0",
            "Creative Commons Attribution-NonCommercial 4.0",
            "https://creativecommons.org/licenses/by-nc/4.0/",
            commercial=False,
            attribution=True,
        ),
        Licence(
            "ODC-By-1.0",
            "Open Data Commons Attribution 1.0",
            "https://opendatacommons.org/licenses/by/1-0/",
            commercial=True,
            attribution=True,
        ),
        Licence(
            "ODbL-1.0",
            "Open Database License 1.0",
            "https://opendatacommons.org/licenses/odbl/1-0/",
            commercial=True,
            attribution=True,
            share_alike=True,
        ),
        Licence(
            "CDLA-Permissive-2.0",
            "Community Data License Agreement Permissive 2.0",
            "https://cdla.dev/permissive-2-0/",
            commercial=True,
        ),
        Licence(
            "Apache-2.0",
            "Apache License 2.0",
            "https://www.apache.org/licenses/LICENSE-2.0",
            commercial=True,
            attribution=True,
        ),
        Licence("MIT", "MIT License", "https://opensource.org/license/mit", commercial=True,
                attribution=True),
        Licence(
            "PSF-2.0",
            "Python Software Foundation License 2.0",
            "https://docs.python.org/3/license.html",
            commercial=True,
            attribution=True,
        ),
    )
}  # fmt: skip

# A contribution may be freer than its Datanet, never tighter.
FREER = ("CC0-1.0", "CDLA-Permissive-2.0")


def choices() -> list[tuple[str, str]]:
    """Choices of a form field."""
    return [(item.spdx, f"{item.spdx}: {item.name}") for item in LICENCES.values()]


def allowed_for(datanet_licence: str) -> list[str]:
    """Licences that a contribution to a Datanet with this licence may carry."""
    return [datanet_licence, *(spdx for spdx in FREER if spdx != datanet_licence)]


def why_not_derived(source: str, derived: str) -> str:
    """Why a Datanet under `derived` cannot be made from a version under `source`; "" where it can.

    What is derived asks for no less than its source does: attribution where that asks for it, no
    commercial use where that forbids it, the very same licence where that is share-alike.
    """
    parent, child = LICENCES.get(source), LICENCES.get(derived)
    if parent is None or not parent.derivatives:
        return f"Its licence {source} does not allow that something is derived from it."
    if child is None:
        return f"“{derived}” is no licence that a Datanet can carry."
    if parent.share_alike and parent.spdx != child.spdx:
        return f"{source} is share-alike: what is derived from it carries {source}, too."
    if not parent.commercial and child.commercial:
        return f"{source} forbids commercial use, so {derived} cannot allow it."
    if parent.attribution and not child.attribution:
        return f"{source} asks for attribution, so {derived} must ask for it, too."
    return ""


def choices_derived_from(source: str) -> list[tuple[str, str]]:
    """Choices of a form field: the licences that something derived may carry."""
    return [(spdx, label) for spdx, label in choices() if not why_not_derived(source, spdx)]
