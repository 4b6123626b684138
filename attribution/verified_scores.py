"""Checks what a receipt says of influence: its private part, index, scores and top records.

The influences are computed again from the index's published integers and the answer's sketch; of
several models that answered as one, each by its own index.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from accounts.blobs import read_bytes
from attribution import bodies, index_files, selectors
from attribution.influence.confidence import Confidence
from attribution.influence.errors import InfluenceError
from attribution.influence.index import Index
from attribution.influence.recompute import differences, recompute
from attribution.models import Receipt, Rescoring
from attribution.translog import canonical
from attribution.translog.verify import BundleError, Report


def check_scores(report: Report, receipt: Receipt | Rescoring) -> None:
    report.run("private part", lambda: _check_private(receipt))
    report.run("index", lambda: _check_index(receipt))
    report.run("influences", lambda: _check_influences(receipt))
    report.run("records", lambda: _check_records(receipt))


def _check_private(receipt: Receipt | Rescoring) -> str | None:
    """That the private part and the sketch are the ones that were hashed; None where erased."""
    if not receipt.private:
        return None
    private = bodies.without_salts(receipt.private)
    if canonical.sha256(private) != receipt.public["private_sha256"]:
        raise BundleError("it is not the one whose hash is in the public part")
    salts = receipt.private.get("payer")
    if salts is not None and canonical.sha256(salts) != private["payer_sha256"]:
        raise BundleError("the salts are not the ones that were hashed")
    sketch = receipt.private["sketch"]
    if sketch and hashlib.sha256(_sketch(receipt)).hexdigest() != sketch["sha256"]:
        raise BundleError("the answer's sketch is not the one that was hashed")
    return f"sha256 {receipt.public['private_sha256']}"


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one model's index said: of the only one, or of each of several that answered as one.

    `sketch` is None where the private part was erased, or there is none.
    """

    public: dict[str, Any]
    private: dict[str, Any]
    sketch: bytes | None


def _readings(receipt: Receipt | Rescoring) -> list[_Reading]:
    private = receipt.private or {}
    whole = _sketch(receipt) if private.get("sketch") else None
    merge = receipt.public.get("merge")
    if merge is None:
        return [_Reading(receipt.public, private, whole)]
    parts = private.get("parents") or [{} for _ in merge["parents"]]
    found = []
    for public, part in zip(merge["parents"], parts, strict=True):
        sketch = None
        if whole is not None and part.get("sketch"):
            begin = part["sketch"]["from"]
            sketch = whole[begin : begin + part["sketch"]["bytes"]]
            if hashlib.sha256(sketch).hexdigest() != part["sketch"]["sha256"]:
                raise BundleError("a model's sketch is not the one that was hashed")
        found.append(_Reading(public, part, sketch))
    return found


def _check_index(receipt: Receipt | Rescoring) -> str | None:
    """That each index in the store is the one that the receipt names, down to every record."""
    told = []
    for one in _readings(receipt):
        index = _index(one.public["index_root"])
        if index is None:
            continue
        root = index.committed_root()
        if root != one.public["index_root"]:
            raise BundleError(f"its files lead to root {root}")
        if index.manifest.header["adapter_sha256"] != one.public["model"]["adapter_sha256"]:
            raise BundleError("it was built for another adapter")
        told.append(f"{len(index.records)} records, root {root}")
    return "; ".join(told) or None


def _check_influences(receipt: Receipt | Rescoring) -> str | None:
    told = []
    for one in _readings(receipt):
        index = _index(one.public["index_root"])
        if index is None or one.sketch is None:
            continue
        found = recompute(index, one.sketch, bits=one.private["sketch"]["bits"])
        claimed = whole(one.public["influence"]["groups"])
        refuse(differences(claimed, found.groups, "influence"))
        refuse(differences(one.public["shares"], found.shares, "share"))
        if not _follows(one.public.get("confidence"), found.confidence):
            raise BundleError("the confidence is not the one that the index's null gives")
        if dict(one.public["influence"]["records"]) != index.manifest.counts:
            raise BundleError("the numbers of records are not those of the index")
        told.append(
            f"{len(found.groups)} influences and {len(found.shares)} shares, to the last unit"
        )
    return "; ".join(told) or None


def _follows(stated: Mapping[str, Any] | None, found: Confidence | None) -> bool:
    """Whether it is what the index's null gives. Of version 1 the level, which decides nothing, was
    that of the day and not the index's."""
    made = bodies.confidence_part(found)
    if stated and made and made["version"] == 1:
        made["level_ppm"] = stated["level_ppm"]
    return stated == made


def _check_records(receipt: Receipt | Rescoring) -> str | None:
    """That those named are the best of each index."""
    told = []
    for one in _readings(receipt):
        index = _index(one.public["index_root"])
        if index is None or one.sketch is None:
            continue
        found = recompute(index, one.sketch, bits=one.private["sketch"]["bits"]).records
        stated = {line["record"]: int(line["influence"]) for line in one.private["records"]}
        known = {name: found[name] for name in stated if name in found}
        refuse(differences(stated, known, "score"))
        best = sorted((-score, name) for name, score in found.items() if score > 0)
        if [name for _, name in best[: len(stated)]] != list(stated):
            raise BundleError("they are not the records with the highest scores")
        told.append(f"{len(stated)} top records of {len(found)}")
    return "; ".join(told) or None


def _index(root: str | None) -> Index | None:
    if root is None:
        return None
    row = selectors.index_by_root(root)
    if row is None:
        raise BundleError(f"the index {root} is not here any more")
    try:
        return index_files.open_index(row, mends=False)
    except InfluenceError as error:
        raise BundleError(str(error)) from error


def _sketch(receipt: Receipt | Rescoring) -> bytes:
    if receipt.sketch_id is None:
        raise BundleError("the answer's sketch is gone")
    return read_bytes(receipt.sketch_id)


def whole(values: dict[str, str]) -> dict[str, int]:
    return {name: int(value) for name, value in values.items()}


def refuse(problems: list[str]) -> None:
    if problems:
        raise BundleError(" ".join(problems[:3]))
