"""Build the index of an adapter into a folder.

    load the model -> fit the curvature -> choose coordinates -> one pass, shard by shard
    -> put the shards together -> manifest

Everything up to the manifest lives in a work folder beside it, under a fingerprint of all that
the result depends on: a build that was stopped goes on after its last finished shard, a build of
something else begins anew. The manifest is written last, so a folder that has one is whole.

Cost: one forward and backward over all records, and up to three over the fit sample.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from attribution.influence import assemble, confidence, curvature
from attribution.influence.backends.registry import Backend, load
from attribution.influence.checkpoints import State, averaged
from attribution.influence.commit import RecordEntry
from attribution.influence.confidence import Null
from attribution.influence.config import METHOD, METHOD_VERSION, InfluenceConfig
from attribution.influence.curvature import Factors, whitened_gradients
from attribution.influence.errors import IndexFileError, InfluenceError
from attribution.influence.examples import IndexedExample, check_examples
from attribution.influence.files import own_folder, whole
from attribution.influence.fit import Selection, fit_sample, select
from attribution.influence.gradients import batches
from attribution.influence.index import FORMAT, MANIFEST, IndexManifest, file_sha256
from attribution.influence.model import AdaptedModel
from attribution.influence.quantise import Query, quantise_query
from attribution.influence.shards import Shard, make_shard, shard_path, shard_spans
from attribution.translog import canonical

T = TypeVar("T")
Progress = Callable[[int, int], None]  # (batches' worth of records done, of how many)
WORK, FACTORS, SELECTION = "work", "factors.npz", "selection.npz"


def build(
    config: InfluenceConfig,
    base_folder: Path | str,
    adapter_folder: Path | str,
    examples: Sequence[IndexedExample],
    out_folder: Path | str,
    device: str = "cpu",
    on_progress: Progress | None = None,
    foreign: Sequence[IndexedExample] = (),
    states: Sequence[State] = (),
    backend: Backend = "hooks",
) -> IndexManifest:
    """Build, resume or find finished the index of ``adapter_folder`` over ``examples``.

    ``states`` are the checkpoints over which influence is averaged, the published adapter the last
    (``checkpoints``); none where the configuration asks for one.

    ``foreign`` are records that the model did not learn, for the null of its confidence
    (``confidence``); without them the index says nothing of how sure an influence is. With
    ``backend="bergson"`` the passes are Bergson's, over all processes of torch.distributed.

    Raises BackendError where the backend is not installed, RecordError for a record that cannot
    be indexed, UnsupportedAdapterError for an adapter that is not plain LoRA, InfluenceError where
    its curvature is zero or not finite.
    """
    model = averaged(load(backend, base_folder, adapter_folder, device), states, config)
    return build_with(model, config, examples, Path(out_folder), on_progress, foreign)


def build_with(
    model: AdaptedModel,
    config: InfluenceConfig,
    examples: Sequence[IndexedExample],
    out_folder: Path,
    on_progress: Progress | None = None,
    foreign: Sequence[IndexedExample] = (),
) -> IndexManifest:
    """The same for a model that is loaded already, with its checkpoints."""
    ordered = checked(model, config, examples)
    fingerprint = fingerprint_of(model, config, ordered, foreign)
    crew, kept = model.crew, out_folder
    out_folder = crew.folder(kept)
    finished = finished_index(out_folder, fingerprint)
    if crew.agree(finished is not None, model.device) and finished:
        return finished
    work = work_folder(out_folder, fingerprint)
    fitted = fit_in(work, model, config, ordered, fingerprint, on_progress)
    spans = shard_spans(len(ordered), config)
    numbered = ((number, ordered[span.start : span.stop]) for number, span in enumerate(spans))
    tick, done = ticker(on_progress, len(ordered)), 0
    for number, _ in make_shards(model, fitted, numbered, config, work, tick):
        done = spans[number].stop
        if on_progress:
            on_progress(done, len(ordered))
    entries = [assemble.entry_of(example) for example in ordered]
    manifest = put_together(model, fitted, entries, config, work, out_folder, foreign)
    shutil.rmtree(out_folder / WORK)
    if out_folder != kept:
        shutil.rmtree(out_folder)
    return manifest


@dataclass(frozen=True, slots=True)
class Fitted:
    """What a pass over the records needs, and the header of the index that it leads to. Shards
    are made ``of`` this very fit: another machine's of the same records is not the same to the
    last bit, and shards of two fits are in two bases."""

    factors: Factors
    selection: Selection
    header: Mapping[str, Any]
    of: str


def fit_name(fingerprint: str, factors_sha256: str, selection_sha256: str) -> str:
    """What shards of this build and this fit are bound to."""
    named = {"build": fingerprint, "factors": factors_sha256, "selection": selection_sha256}
    return canonical.sha256(named)


def checked(
    model: AdaptedModel, config: InfluenceConfig, examples: Sequence[IndexedExample]
) -> list[IndexedExample]:
    """The records in the order of their rows. Raises RecordError for one that cannot be indexed,
    InfluenceError where the model has not as many checkpoints as the configuration says."""
    if 1 + len(model.checkpoints) != config.checkpoints:
        raise InfluenceError(f"The model does not have {config.checkpoints} checkpoints.")
    check_examples(examples, model.context_length)
    return in_order(examples)


def in_order(examples: Sequence[IndexedExample]) -> list[IndexedExample]:
    return sorted(examples, key=lambda example: (example.group_id, example.record_id))


def fit_in(
    work: Path,
    model: AdaptedModel,
    config: InfluenceConfig,
    ordered: Sequence[IndexedExample],
    fingerprint: str,
    on_progress: Progress | None,
) -> Fitted:
    """Fit on the seeded sample, or find in ``work`` what was fitted. Raises InfluenceError,
    RecordError for a gradient that is not finite, IndexFileError where nothing can be written."""
    tick = ticker(on_progress, len(ordered))
    sample = [ordered[place] for place in fit_sample(len(ordered), config)]
    factors = _factors(model, sample, config, work, tick)
    selection = _selection(model, factors, sample, ordered, config, work, tick)
    of = fit_name(fingerprint, file_sha256(work / FACTORS), file_sha256(work / SELECTION))
    return Fitted(factors, selection, _header(model, config, selection, ordered, fingerprint), of)


def put_together(
    model: AdaptedModel,
    fitted: Fitted,
    entries: Sequence[RecordEntry],
    config: InfluenceConfig,
    work: Path,
    out_folder: Path,
    foreign: Sequence[IndexedExample],
) -> IndexManifest:
    """From all shards in ``work`` to the index. Raises IndexFileError naming a shard that is
    missing, damaged or of another build, or a file that cannot be written."""
    selection = fitted.selection
    group_ids = sorted({entry.group_id for entry in entries})
    spans = shard_spans(len(entries), config)
    size = config.code_bytes(len(selection.weights))
    with own_folder(work, "rows-") as rows:
        arrays, _ = assemble.gather(work, rows, group_ids, selection, spans, fitted.of, size)
        arrays |= {"coordinates": selection.coordinates, "weights": selection.weights}
        null = null_of(model, fitted.factors, arrays, entries, config, foreign)
        return assemble.write(out_folder, fitted.header, entries, arrays, work / FACTORS, null)


def fingerprint_of(
    model: AdaptedModel,
    config: InfluenceConfig,
    ordered: Sequence[IndexedExample],
    foreign: Sequence[IndexedExample],
) -> str:
    records = hashlib.sha256("".join(example.digest() for example in ordered).encode())
    against = {"foreign": digest_of(foreign), "null": confidence.VERSION} if foreign else {}
    return canonical.sha256(
        against
        | _over(model)
        | {
            "format": FORMAT,
            "method": METHOD,
            "version": METHOD_VERSION,
            "parameters": config.published(),
            "base": model.base_sha256,
            "adapter": model.adapter_sha256,
            "records": records.hexdigest(),
        }
    )


def _over(model: AdaptedModel) -> dict[str, Any]:
    """The checkpoints for the header, and so under the root; nothing for one state alone."""
    return {"checkpoints": model.stated_checkpoints} if model.checkpoints else {}


def null_of(
    model: AdaptedModel,
    factors: Factors,
    arrays: Mapping[str, Any],
    entries: Sequence[RecordEntry],
    config: InfluenceConfig,
    foreign: Sequence[IndexedExample],
) -> Null | None:
    """What ``foreign`` records score against the index's; None where there are none.

    Raises RecordError for one that cannot be indexed.
    """
    if not foreign:
        return None
    check_examples(foreign, model.context_length)
    queries: dict[int, Query] = {}
    lengths = [len(example.input_ids) for example in foreign]
    for batch in batches(lengths, range(len(foreign)), config.batch_tokens):
        vectors = whitened_gradients(model, factors, [foreign[place] for place in batch])
        for place, vector in zip(batch, vectors.cpu().numpy(), strict=True):
            queries[place] = quantise_query(vector[arrays["coordinates"]], config.query_bits)
    counts: dict[str, int] = {}
    for entry in entries:
        counts[entry.group_id] = counts.get(entry.group_id, 0) + 1
    return confidence.fit(
        [queries[place] for place in range(len(foreign))],
        arrays["codes"],
        arrays["norms"],
        arrays["weights"],
        list(confidence.rows_by_group(counts).values()),
        digest_of(foreign),
        config.sketch_block,
        config.rate(len(arrays["weights"])),
        config.twice(len(arrays["weights"])),
    )


def digest_of(foreign: Sequence[IndexedExample]) -> str:
    return hashlib.sha256("".join(one.digest() for one in foreign).encode()).hexdigest()


def finished_index(out_folder: Path, fingerprint: str) -> IndexManifest | None:
    path = out_folder / MANIFEST
    if not path.is_file():
        return None
    manifest = IndexManifest.read(path)
    return manifest if manifest.header["fingerprint"] == fingerprint else None


def work_folder(out_folder: Path, fingerprint: str, *, alone: bool = True) -> Path:
    """Where the build with this fingerprint stands. What else stands beside it goes, unless it
    need not be ``alone``: whoever makes a part does not know what others begin."""
    work = out_folder / WORK / fingerprint[:16]
    if alone and (out_folder / WORK).is_dir():
        for other in (out_folder / WORK).iterdir():
            if other != work:
                shutil.rmtree(other)
    work.mkdir(parents=True, exist_ok=True)
    return work


def make_shards(
    model: AdaptedModel,
    fitted: Fitted,
    numbered: Iterable[tuple[int, Sequence[IndexedExample]]],
    config: InfluenceConfig,
    work: Path,
    tick: Callable[[], None],
) -> Iterator[tuple[int, Path]]:
    """The pass over the records, shard by shard, each told as it stands in ``work``; one that
    stands there already is not made again.

    Raises IndexFileError where a shard cannot be written, RecordError; what is finished stays.
    """
    for number, rows in numbered:
        path = shard_path(work, number)
        is_made = Shard.load(path, fitted.of) is not None
        if not model.crew.agree(is_made, model.device):
            shard = make_shard(model, fitted.factors, fitted.selection, rows, config, tick)
            shard.save(path, fitted.of)
        yield number, path


def ticker(on_progress: Progress | None, total: int) -> Callable[[], None]:
    """Called after each batch of each pass; a caller renews its lease there."""
    return (lambda: on_progress(0, total)) if on_progress else (lambda: None)


def _factors(
    model: AdaptedModel,
    sample: Sequence[IndexedExample],
    config: InfluenceConfig,
    work: Path,
    tick: Callable[[], None],
) -> Factors:
    path = work / FACTORS
    known = _if_there(Factors.load, path, model.device)
    if model.crew.agree(known is not None, model.device) and known:
        return known
    factors = curvature.fit(model, sample, config, tick)
    with whole(path) as partial:
        factors.save(partial)
    return factors


def _selection(
    model: AdaptedModel,
    factors: Factors,
    sample: Sequence[IndexedExample],
    ordered: Sequence[IndexedExample],
    config: InfluenceConfig,
    work: Path,
    tick: Callable[[], None],
) -> Selection:
    path = work / SELECTION
    known = _if_there(Selection.load, path)
    if model.crew.agree(known is not None, model.device) and known:
        return known
    groups = len({example.group_id for example in ordered})
    selection = select(model, factors, sample, groups, config, tick)
    with whole(path) as partial:
        selection.save(partial)
    return selection


def _if_there(load: Callable[..., T], *where: Any) -> T | None:
    try:
        return load(*where)
    except IndexFileError:
        return None


def _header(
    model: AdaptedModel,
    config: InfluenceConfig,
    selection: Selection,
    ordered: Sequence[IndexedExample],
    fingerprint: str,
) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "method": METHOD,
        "version": METHOD_VERSION,
        "parameters": config.published(),
        "base_sha256": model.base_sha256,
        "adapter_sha256": model.adapter_sha256,
        "fingerprint": fingerprint,
        **_over(model),
        "dimension": model.whole_dimension,
        "width": len(selection.coordinates),
        "sketch_width": len(selection.weights),
        "clip": repr(selection.clip),
        "sketch_clip": repr(selection.sketch_clip),
        "record_count": len(ordered),
    }
