"""A build cut in parts that any number of processes, on any number of machines, make.

    plan        check the records, fit on the seeded sample, write down what each part is
    make_part   one part's shards, from its own records; goes on after its last finished shard
    merge       all shards, one behind the other: the index

A part is a range of shards, and a shard depends on nothing but the fit and its own records; what
is added up across shards are whole numbers. So an index has the same bytes in however many parts
it was made, one included (`build`), on machines of one kind with one number of threads. On others
a gradient differs by 1e-5 of itself, and the index is as right, but another. Shards are bound to
the very fit that the plan names, so those of two fits never meet.

The plan is a folder, the work folder of `build`:

    plan.json           header of the index, parts, hash and size of the files below
    factors.npz         the curvature
    selection.npz       coordinates, weights, clips
    entries.jsonl       what the index says of each record: ids and hashes, for the merge
    records-00000.npz   the records of part 0 as token ids, of no use once its shards are made;
                        foreign.npz those of the null

`python -m attribution.influence` makes a part of it without anything else of ours.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attribution.influence import assemble
from attribution.influence.build import (
    FACTORS,
    SELECTION,
    Fitted,
    Progress,
    checked,
    fingerprint_of,
    fit_in,
    fit_name,
    make_shards,
    put_together,
    ticker,
    work_folder,
)
from attribution.influence.commit import RecordEntry
from attribution.influence.config import METHOD_VERSION, InfluenceConfig
from attribution.influence.curvature import Factors
from attribution.influence.errors import AdapterMismatchError, IndexFileError
from attribution.influence.examples import IndexedExample, check_examples
from attribution.influence.files import whole
from attribution.influence.fit import Selection
from attribution.influence.index import IndexManifest, check_file, file_sha256
from attribution.influence.model import AdaptedModel
from attribution.influence.shards import shard_spans
from attribution.translog import canonical

FORMAT = "openledger-index-plan/1"
PLAN, ENTRIES, FOREIGN = "plan.json", "entries.jsonl", "foreign.npz"
OnShard = Callable[[int, Path], None]  # (number of the shard, its file)


@dataclass(frozen=True, slots=True)
class Part:
    """Shards ``first`` to ``first + shards`` - 1, with ``rows`` records in the file ``records``."""

    number: int
    first: int
    shards: int
    rows: int
    records: str


@dataclass(frozen=True, slots=True)
class Plan:
    """A planned build. ``files`` has the size and SHA-256 of each file of the folder."""

    folder: Path
    header: Mapping[str, Any]
    parts: Sequence[Part]
    files: Mapping[str, Mapping[str, Any]]

    @property
    def fingerprint(self) -> str:
        return str(self.header["fingerprint"])

    @property
    def config(self) -> InfluenceConfig:
        return InfluenceConfig.read(self.header["parameters"])

    @classmethod
    def open(cls, folder: Path) -> Plan:
        """Raises IndexFileError where it is missing or no plan. Files are checked as they are
        read, since a worker needs those of its own part alone."""
        path = folder / PLAN
        try:
            value = canonical.loads(path.read_bytes())
            stated = value["format"]
            parts = [Part(**part) for part in value["parts"]]
            plan = cls(folder, value["header"], parts, value["files"])
        except FileNotFoundError as error:
            raise IndexFileError(path, "it is missing.") from error
        except (ValueError, KeyError, TypeError) as error:
            raise IndexFileError(path, f"it is no plan of a build ({error}).") from error
        if stated != FORMAT:
            raise IndexFileError(path, f"its format is {stated!r}, not {FORMAT!r}.")
        version = plan.header.get("version")
        if version != METHOD_VERSION:
            # Shards of two methods make no index.
            raise IndexFileError(path, f"it is of method version {version}.")
        return plan

    def save(self) -> None:
        body = {
            "format": FORMAT,
            "header": dict(self.header),
            "parts": [asdict(part) for part in self.parts],
            "files": dict(self.files),
        }
        with whole(self.folder / PLAN) as partial:
            partial.write_bytes(canonical.dumps(body))

    def fitted(self, model: AdaptedModel) -> Fitted:
        """Raises IndexFileError where a file was altered, AdapterMismatchError."""
        for what, found in (("adapter", model.adapter_sha256), ("base", model.base_sha256)):
            stated = self.header[f"{what}_sha256"]
            if stated != found:
                raise AdapterMismatchError(
                    f"The build in {self.folder} is planned for {what} {stated[:12]}, "
                    f"not for {found[:12]}."
                )
        if self.header.get("checkpoints", []) != model.stated_checkpoints:
            raise AdapterMismatchError(
                f"The build in {self.folder} is planned for other checkpoints of the run."
            )
        for name in (FACTORS, SELECTION):
            self.check(name)
        factors = Factors.load(self.folder / FACTORS, model.device)
        return Fitted(factors, Selection.load(self.folder / SELECTION), self.header, self.of)

    @property
    def of(self) -> str:
        """What the shards are bound to."""
        hashes = (str(self.files[name]["sha256"]) for name in (FACTORS, SELECTION))
        return fit_name(self.fingerprint, *hashes)

    def entries(self) -> list[RecordEntry]:
        """What the index says of its records, in the order of its rows. Raises IndexFileError."""
        self.check(ENTRIES)
        lines = (self.folder / ENTRIES).read_bytes().splitlines()
        return [RecordEntry.from_json(canonical.loads(line)) for line in lines]

    def records_of(self, part: Part) -> list[IndexedExample]:
        return self._examples(part.records)

    def foreign(self) -> list[IndexedExample]:
        return self._examples(FOREIGN) if FOREIGN in self.files else []

    def check(self, name: str) -> None:
        """Raises IndexFileError unless the file is what was planned."""
        check_file(self.folder / name, self.files.get(name), verify=True)

    def _examples(self, name: str) -> list[IndexedExample]:
        self.check(name)
        return load_examples(self.folder / name)


def plan(
    model: AdaptedModel,
    config: InfluenceConfig,
    examples: Sequence[IndexedExample],
    out_folder: Path,
    parts: int,
    foreign: Sequence[IndexedExample] = (),
    on_progress: Progress | None = None,
) -> Plan:
    """Check all records, fit, and cut the build of the index in ``out_folder`` in ``parts``, or as
    many as there are shards. Resumes: what is fitted is not fitted again.

    Raises what ``build`` raises before its pass.
    """
    ordered = checked(model, config, examples)
    if foreign:
        check_examples(foreign, model.context_length)
    fingerprint = fingerprint_of(model, config, ordered, foreign)
    work = work_folder(out_folder, fingerprint)
    fitted = fit_in(work, model, config, ordered, fingerprint, on_progress)
    spans = shard_spans(len(ordered), config)
    cut = list(_cut(len(spans), max(1, parts)))
    made = []
    for number, shards in enumerate(cut):
        first, last = spans[shards.start].start, spans[shards.stop - 1].stop
        name = f"records-{number:05d}.npz"
        save_examples(work / name, ordered[first:last])
        made.append(Part(number, shards.start, len(shards), last - first, name))
    if foreign:
        save_examples(work / FOREIGN, foreign)
    with whole(work / ENTRIES) as partial:
        entries = (assemble.entry_of(example).to_json() for example in ordered)
        partial.write_bytes(b"".join(canonical.dumps(entry) + b"\n" for entry in entries))
    names = [FACTORS, SELECTION, ENTRIES, *(part.records for part in made)]
    names += [FOREIGN] if foreign else []
    files = {
        name: {"size": (work / name).stat().st_size, "sha256": file_sha256(work / name)}
        for name in names
    }
    planned = Plan(work, fitted.header, made, files)
    if planned.of != fitted.of:
        raise IndexFileError(work / FACTORS, "another process has put its own in its place.")
    planned.save()
    return planned


def make_part(
    model: AdaptedModel,
    planned: Plan,
    number: int,
    on_shard: OnShard = lambda number, path: None,
    on_progress: Progress | None = None,
) -> list[Path]:
    """Make the part's shards; those that stand in the plan's folder are not made again. Each is
    told to ``on_shard`` as soon as it is whole.

    Raises RecordError for a record whose gradient is not finite, IndexFileError for a file of the
    plan that was altered or a shard that cannot be written, AdapterMismatchError.
    """
    part, config = planned.parts[number], planned.config
    fitted = planned.fitted(model)
    records = planned.records_of(part)
    check_examples(records, model.context_length)
    spans = shard_spans(len(records), config)
    numbered = (
        (part.first + place, records[span.start : span.stop]) for place, span in enumerate(spans)
    )
    tick, made = ticker(on_progress, part.rows), []
    shards = make_shards(model, fitted, numbered, config, planned.folder, tick)
    for shard, path in shards:
        made.append(path)
        on_shard(shard, path)
        if on_progress:
            on_progress(spans[shard - part.first].stop, part.rows)
    return made


def merge(model: AdaptedModel, planned: Plan, out_folder: Path) -> IndexManifest:
    """The index from all parts' shards, which stand in the plan's folder. Costs no gradients but
    those of the foreign records, and needs no other record.

    Raises IndexFileError naming a shard that is missing, damaged or of another build.
    """
    fitted, entries = planned.fitted(model), planned.entries()
    out_folder.mkdir(parents=True, exist_ok=True)
    return put_together(
        model, fitted, entries, planned.config, planned.folder, out_folder, planned.foreign()
    )


def save_examples(path: Path, examples: Sequence[IndexedExample]) -> None:
    """Token ids one behind the other, masks beside them, names as JSON. Raises IndexFileError."""
    names = [[one.record_id, one.group_id, one.content_hash] for one in examples]
    offsets = np.cumsum([0, *(len(one.input_ids) for one in examples)], dtype="<i8")
    ids = [np.asarray(one.input_ids, dtype="<i4") for one in examples]
    masks = [np.asarray(one.loss_mask, dtype=np.uint8) for one in examples]
    with whole(path) as partial, partial.open("wb") as out:
        np.savez(
            out,
            names=np.frombuffer(json.dumps(names).encode(), dtype=np.uint8),
            offsets=offsets,
            input_ids=np.concatenate(ids),
            loss_mask=np.concatenate(masks),
        )


def load_examples(path: Path) -> list[IndexedExample]:
    """Raises IndexFileError where the file is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names = json.loads(arrays["names"].tobytes())
            offsets, ids, masks = (arrays[name] for name in ("offsets", "input_ids", "loss_mask"))
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise IndexFileError(path, f"it cannot be read ({error}).") from error
    return [
        IndexedExample(
            record_id,
            group_id,
            ids[begin:end].tolist(),
            masks[begin:end].tolist(),
            content_hash,
        )
        for (record_id, group_id, content_hash), begin, end in zip(
            names, offsets[:-1], offsets[1:], strict=True
        )
    ]


def _cut(shards: int, parts: int) -> Iterator[range]:
    """``shards`` in ``parts`` ranges of nearly the same length, none of them empty."""
    parts = min(parts, shards)
    for number in range(parts):
        yield range(number * shards // parts, (number + 1) * shards // parts)
