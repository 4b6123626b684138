"""A receipt's influences once more, from what its index publishes: standard library only.

Whoever may read the private part has the answer's sketch, and whoever may read the Datanets has the
files of the index. From both everything follows in whole numbers: the root, each group's influence,
each record's score, and how sure that is. What is computed here is what
`attribution.influence` computes with NumPy; the two share no code.

    influence = sketch · sum                                 per group
    score     = norm * sum(±(turned sketch * weight))        per record, + where its sign is set

A sign is a bit of the record's code, or the parity of some of its bits (`_spread`); the strongest
coordinates may have two (`_laid_out`).

Cost: one multiplication for each coordinate of each group, one addition for each byte of each
record's sketch: some seconds for ten thousand records.
"""

from __future__ import annotations

import hashlib
import json
import math
from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from attribution.translog import arrays, canonical, merkle
from attribution.translog.arrays import Table
from attribution.translog.money import integer
from attribution.translog.verify import BundleError, Report

SIGNS = b"openledger: signs of a sketch's coordinates"
SEGMENT = 128  # bytes of a code, of which each begins with nothing before it
# Where a bit tells several coordinates: which bits each parity adds, the newest first.
PARITIES = {2: ("101110001", "111101011"), 3: ("101101111", "110110011", "111001001")}
UNIT = 1_000  # thousandths of a deviation
# As in a null: units of a direction, and thousandths that nothing is further than.
SCALE, FURTHEST = 2**20, 1_000_000


def recompute(
    report: Report, receipt: Mapping[str, Any], private: Any, folder: Path | None
) -> None:
    """Add to `report` what the private part, and the index's files in `folder`, allow to check.

    `private` is the file that the house gives to the parties of a receipt.
    """
    if not report.run("private part", lambda: check_private(receipt, private)) or folder is None:
        return
    if "merge" not in receipt:
        _check_scores(report, receipt, private["private"], Files(folder), Answer(private))
        return
    # Each of several models that answered as one by its own index, whose files lie side by side.
    kept = private["private"]["parents"]
    for place, (stated, mine) in enumerate(zip(receipt["merge"]["parents"], kept, strict=True), 1):
        if stated["index_root"] and mine["sketch"]:
            files = Files(folder, stated["index_root"])
            _check_scores(report, stated, mine, files, Answer(private, mine["sketch"]), f" {place}")


def _check_scores(
    report: Report,
    stated: Mapping[str, Any],
    private: Mapping[str, Any],
    index: Files,
    answer: Answer,
    which: str = "",
) -> None:
    """`stated` is the receipt, or what it says of one of its models, the one called `which`."""
    checks: list[tuple[str, Callable[[], str | None]]] = [
        ("index", lambda: check_index(stated, index)),
        ("influences", lambda: check_influences(stated, index, answer)),
        ("records", lambda: check_records(private, index, answer)),
        ("certainty", lambda: check_certainty(stated, index, answer)),
    ]
    for name, check in checks:
        report.run(f"{name}{which}", check)


class Answer:
    """The answer's quantised sketch, or the part of it that one of several models made."""

    def __init__(self, private: Mapping[str, Any], part: Mapping[str, Any] | None = None) -> None:
        data = b64decode(private["sketch_base64"], validate=True)
        if part is not None:
            data = data[part["from"] : part["from"] + part["bytes"]]
        code = "b" if (part or private["private"]["sketch"])["bits"] == 8 else "h"
        self.codes: Sequence[int] = arrays.whole(code, data)


@dataclass(frozen=True)
class Files:
    """An index's files under their own names, or as the house's downloads are named: with the
    beginning of the root, `root` being the one that is meant where several lie in the folder."""

    folder: Path
    root: str = ""

    def read(self, name: str) -> bytes:
        path = self.folder / self.root / name
        if not path.is_file():
            found = sorted(self.folder.glob(f"{self.root[:12]}*-{name}"))
            if len(found) != 1:
                raise BundleError(f"{name} is not in the folder")
            path = found[0]
        return path.read_bytes()

    def table(self, name: str) -> Table:
        try:
            return arrays.read(self.read(f"{name}.npy"))
        except arrays.ArrayError as error:
            raise BundleError(f"{name}.npy: {error}") from error

    @cached_property
    def manifest(self) -> dict[str, Any]:
        value: dict[str, Any] = canonical.loads(self.read("manifest.json"))
        return value

    @cached_property
    def records(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in self.read("records.jsonl").splitlines()]

    @cached_property
    def codes(self) -> Table:
        return self.table("codes")

    @cached_property
    def norms(self) -> Sequence[int]:
        return self.table("norms").values


def check_private(receipt: Mapping[str, Any], file: Any) -> str:
    """That the private part, its salts and the sketch are those that the receipt hashes."""
    private = file["private"]
    if private is None:
        raise BundleError("the private part was erased")
    shared = {name: value for name, value in private.items() if name != "payer"}
    if canonical.sha256(shared) != receipt["private_sha256"]:
        raise BundleError("it is not the one whose hash is in the public part")
    if "payer" in private and canonical.sha256(private["payer"]) != private["payer_sha256"]:
        raise BundleError("the salts are not the ones that were hashed")
    sketch = b64decode(file["sketch_base64"], validate=True)
    if private["sketch"] is not None:
        if hashlib.sha256(sketch).hexdigest() != private["sketch"]["sha256"]:
            raise BundleError("the answer's sketch is not the one that was hashed")
    elif sketch:
        raise BundleError("the receipt names no sketch")
    return f"sha256 {receipt['private_sha256']}"


def check_index(receipt: Mapping[str, Any], index: Files) -> str:
    """That the files lead to the root that the receipt names, down to every record."""
    header, groups = index.manifest["header"], index.manifest["groups"]
    leaves = [canonical.dumps(header), *(canonical.dumps(group) for group in groups)]
    root = merkle.root(leaves).hex()
    if root != receipt["index_root"]:
        raise BundleError(f"the manifest leads to root {root}")
    if header["adapter_sha256"] != receipt["model"]["adapter_sha256"]:
        raise BundleError("the index was built for another adapter")
    sums, members = index.table("sums"), _record_leaves(index)
    counts = {group["group"]: integer(group["count"]) for group in groups}
    if counts != receipt["influence"]["records"]:
        raise BundleError("the numbers of records are not those of the index")
    for place, group in enumerate(groups):
        name = group["group"]
        if hashlib.sha256(arrays.little(sums.row(place))).hexdigest() != group["sum_sha256"]:
            raise BundleError(f"the sum of {name} is not the one under the root")
        mine = members.pop(name, [])
        if len(mine) != counts[name] or merkle.root(mine).hex() != group["records_root"]:
            raise BundleError(f"the records of {name} are not those under the root")
    if members:
        raise BundleError("there are records of groups that the manifest does not name")
    return f"{len(index.records)} records, root {root}"


def _record_leaves(index: Files) -> dict[str, list[bytes]]:
    vectors = index.table("vectors")
    found: dict[str, list[bytes]] = {}
    for row, entry in enumerate(index.records):
        leaf = {
            "record": entry["record"],
            "content_hash": entry["content_hash"],
            "tokens_sha256": entry["tokens_sha256"],
            "sketch_sha256": hashlib.sha256(index.codes.row(row).tobytes()).hexdigest(),
            "norm": index.norms[row],
            "vector_sha256": vectors.row(row).tobytes().hex(),
        }
        found.setdefault(entry["group"], []).append(canonical.dumps(leaf))
    return found


def check_influences(receipt: Mapping[str, Any], index: Files, answer: Answer) -> str:
    """That each group's influence is the exact dot product of the sketch and its sum."""
    sums, stated = index.table("sums"), receipt["influence"]["groups"]
    names = [group["group"] for group in index.manifest["groups"]]
    if set(names) != set(stated):
        raise BundleError("influences and index name other groups")
    for place, name in enumerate(names):
        row = sums.row(place)
        found = sum(left * right for left, right in zip(answer.codes, row, strict=True))
        if found != integer(stated[name]):
            raise BundleError(f"the influence of {name} is {found}, the receipt says otherwise")
    return f"{len(names)} influences from sums of {sums.width} integers"


def check_records(private: Mapping[str, Any], index: Files, answer: Answer) -> str:
    """That the records that are named are those with the highest scores, and have these."""
    scores = record_scores(index, answer)
    named = [(integer(one["influence"]), one["record"]) for one in private["records"]]
    best = sorted(
        (-score, entry["record"]) for score, entry in zip(scores, index.records, strict=True)
    )
    wanted = [(-score, record) for score, record in best if score < 0][: len(named)]
    if wanted != named:
        raise BundleError("they are not the records with the highest scores")
    return f"{len(named)} top records of {len(scores)}"


def record_scores(index: Files, answer: Answer) -> list[int]:
    """In the order of the index's rows."""
    block = int(index.manifest["header"]["parameters"].get("sketch_block", 1))
    weights = index.table("weights").values
    turned = _turn(list(answer.codes[: len(weights)]), block)
    products = [value * weight for value, weight in zip(turned, weights, strict=True)]
    rate = _rate(index, len(weights))
    products = _laid_out(products, index.codes.width * 8, rate, _twice(index, len(weights), rate))
    table = _by_byte(products)
    scores = []
    for row, norm in enumerate(index.norms):
        code = _spread(index.codes.row(row).tobytes(), rate)
        scores.append(norm * sum(table[256 * at + byte] for at, byte in enumerate(code)))
    return scores


def _rate(index: Files, width: int) -> int:
    """Coordinates that a bit tells: one where so few bytes suffice, and before method version 4."""
    stated = index.manifest["header"]["parameters"]
    rate = int(stated.get("sketch_rate", 1))
    return rate if width * rate > int(stated["sketch_width"]) else 1


def _twice(index: Files, width: int, rate: int) -> int:
    """Coordinates that have two signs: as many as signs are left, since method version 5."""
    stated = index.manifest["header"]["parameters"]
    if rate != 2 or not float(stated.get("sketch_part", 0)):
        return 0
    return max(0, min(width, int(stated["sketch_width"]) - width))


def _laid_out(products: list[int], steps: int, rate: int, twice: int) -> list[int]:
    """A product for each sign, parity by parity, zero for those that are of no coordinate. The
    first `twice` have both signs of a step; such steps stand evenly among the others."""
    if not twice:
        return products + [0] * (steps * rate - len(products))
    laid = [0] * (2 * steps)
    both = [at * steps // twice for at in range(twice)]
    for at, step in enumerate(both):
        laid[step] = laid[steps + step] = products[at]
    taken = set(both)
    ones = [step for step in range(steps) if step not in taken]
    free = ones + [steps + step for step in ones]
    for at, product in zip(free, products[twice:], strict=False):
        laid[at] = product
    return laid


def _spread(code: bytes, rate: int) -> bytes:
    """The signs that a code's bits stand for, those of each parity after those of the one before.
    As a whole number, a segment's bits of three steps ago are a shift by three."""
    if rate == 1:
        return code
    found = b""
    for adds in PARITIES[rate]:
        for begin in range(0, len(code), SEGMENT):
            part = code[begin : begin + SEGMENT]
            bits, parity = int.from_bytes(part, "big"), 0
            for ago, added in enumerate(adds):
                parity ^= bits >> ago if added == "1" else 0
            found += parity.to_bytes(len(part), "big")
    return found


def _by_byte(products: Sequence[int]) -> list[int]:
    """For each byte of a sketch and each of its values, what it adds. The first bit is highest."""
    table: list[int] = []
    for begin in range(0, len(products), 8):
        sums = [0]
        for product in products[begin : begin + 8]:
            sums = [total + sign for total in sums for sign in (-product, product)]
        table += sums
    return table


def _turn(values: list[int], block: int) -> list[int]:
    """Signs, then a Walsh-Hadamard transform of each whole block; the rest times sqrt(block)."""
    if block == 1:
        return values
    stream = hashlib.shake_256(SIGNS).digest((len(values) + 7) // 8)
    signed = [
        value if stream[at >> 3] >> (7 - (at & 7)) & 1 else -value
        for at, value in enumerate(values)
    ]
    whole = len(signed) - len(signed) % block
    found: list[int] = []
    for begin in range(0, whole, block):
        part, step = signed[begin : begin + block], 1
        while step < block:
            for at in range(0, block, 2 * step):
                first, second = part[at : at + step], part[at + step : at + 2 * step]
                part[at : at + step] = [a + b for a, b in zip(first, second, strict=True)]
                part[at + step : at + 2 * step] = [
                    a - b for a, b in zip(first, second, strict=True)
                ]
            step *= 2
        found += part
    return found + [value * math.isqrt(block) for value in signed[whole:]]


def check_certainty(receipt: Mapping[str, Any], index: Files, answer: Answer) -> str | None:
    """That how sure the influences are follows from the null under the index's root."""
    null, stated = index.manifest["header"].get("confidence"), receipt.get("confidence")
    if not null or not stated:
        if bool(null) != bool(stated):
            raise BundleError("the index has a null and the receipt says nothing of it")
        return None
    if hashlib.sha256(index.read("null.npy")).hexdigest() != null["null_sha256"]:
        raise BundleError("the null is not the one under the root")
    moments = index.table("null")
    width = int(index.manifest["header"]["sketch_width"])
    length = max(1, math.isqrt(sum(code * code for code in answer.codes[:width])))
    u = [score // length for score in record_scores(index, answer)]
    z = _above(u, [moments.row(row) for row in range(len(u))])
    rows = _rows(index.manifest["groups"])
    scores = {
        name: _z(_top(z[mine], int(null["top"])), *null["groups"][place])
        for place, (name, mine) in enumerate(rows.items())
    }
    if stated["groups"] != scores or stated["threshold"] != null["threshold"]:
        raise BundleError("the confidence is not the one that the index's null gives")
    if stated["apart"] != _apart(u, rows):
        raise BundleError("how far the groups stand apart is not what their records give")
    return f"{max(scores.values())} thousandths of a deviation at most"


def _above(u: Sequence[int], null: Sequence[Sequence[int]]) -> list[int]:
    """How far each record is above its null, without its part along the null's directions."""
    z = [_z(value, *row[:2]) for value, row in zip(u, null, strict=True)]
    if len(null[0]) == 2:
        return z
    z = [max(-FURTHEST, min(FURTHEST, value)) for value in z]
    parts = [
        sum(value * row[at] for value, row in zip(z, null, strict=True)) // SCALE
        for at in range(3, len(null[0]))
    ]
    left = [
        value - sum(part * along for part, along in zip(parts, row[3:], strict=True)) // SCALE
        for value, row in zip(z, null, strict=True)
    ]
    return [value * UNIT // row[2] for value, row in zip(left, null, strict=True)]


def _z(value: int, mean: int, deviation: int) -> int:
    return (value - mean) * UNIT // deviation


def _top(z: Sequence[int], count: int) -> int:
    kept = sorted(z)[-min(count, len(z)) :]
    return sum(kept) // len(kept)


def _rows(groups: Sequence[Mapping[str, Any]]) -> dict[str, slice]:
    found, begin = {}, 0
    for group in groups:
        count = integer(group["count"])
        found[group["group"]] = slice(begin, begin + count)
        begin += count
    return found


def _apart(u: Sequence[int], rows: Mapping[str, slice]) -> dict[str, int]:
    """Deviations of each group's sum under permuted labels: drawing without replacement."""
    if len(rows) < 2:
        return {}
    count, total = len(u), sum(u)
    spread = count * sum(value * value for value in u) - total * total
    found = {}
    for name, mine in rows.items():
        n = len(u[mine])
        above = count * sum(u[mine]) - n * total
        squared = n * (count - n) * spread // (count - 1)
        found[name] = above * UNIT // max(1, math.isqrt(squared))
    return found
