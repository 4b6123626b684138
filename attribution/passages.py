"""Which passages of an answer stand verbatim in records, as the attribute worker finds them.

It says where words stand, not where the model has them from; nothing is paid by it.
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from uuid import UUID

from django.utils import timezone

from accounts import leases
from accounts.ids import uuid7
from attribution import span_files
from attribution.bodies import Found, FoundPassage
from attribution.learnt import contributors_of_records
from attribution.merges import models_of
from attribution.models import Attribution, SpanIndex
from attribution.services import span_indexes
from attribution.spans import build, search
from attribution.spans.errors import SpansError
from attribution.spans.index import SpanIndex as OpenedIndex
from datanets.models import Version
from datanets.selectors import version_records, withheld_in
from datanets.services.lifelines import lifeline
from modelfactory.lineage import lineage_versions
from modelfactory.models import Model
from modelfactory.training.prompts import (
    PromptError,
    PromptTokenizer,
    load_tokenizer,
    render_example,
)

logger = logging.getLogger(__name__)

CONFIG = search.SpanConfig()
# A record is indexed whole, whatever part of it fitted the model's context.
NO_CUTOFF = 2**31
KEPT = 8

# Which records are withheld is asked again after so many seconds: it may take long in a large
# version. What is shown is filtered each time anyway.
WITHHELD_FOR = 10.0

_withheld: dict[UUID, tuple[float, frozenset[str]]] = {}
_opened: OrderedDict[tuple[str, frozenset[str]], OpenedIndex] = OrderedDict()
_lock = threading.Lock()


def are_indexed(model: Model) -> bool:
    """Whether no span index of the model's versions is still to come. Asks for what is missing."""
    at = timezone.now()
    rows = [
        span_indexes.request_span_index(
            version_id=version.pk,
            base_model_id=model.base_model_id,
            acting_user=None,
            at=at,
        )
        for version in lineage_versions(model.run)
    ]
    return not any(row.is_moving for row in rows)


def build_for(model: Model) -> None:
    """Build what is missing of the model's span indexes, here and now."""
    are_indexed(model)
    for version in lineage_versions(model.run):
        row = SpanIndex.objects.get(version=version, base_model=model.base_model_id)
        if row.state == SpanIndex.State.QUEUED:
            build_span_index(row.pk)


def build_span_index(index_id: UUID) -> None:
    """Claim and build a version's span index; only the claim's winner works."""
    owner = f"{leases.worker_name()}:{uuid7()}"
    if not span_indexes.claim(index_id=index_id, owner=owner, at=timezone.now()):
        return
    row = SpanIndex.objects.select_related("base_model").get(pk=index_id)
    try:
        with lifeline(SpanIndex, index_id, owner=owner):
            _build(row, owner)
    except (SpansError, PromptError, OSError, ValueError) as error:
        logger.warning("span index %s failed: %s", index_id, error)
        span_indexes.fail(index_id, str(error), timezone.now(), owner)
    except Exception as error:
        logger.exception("span index %s failed", index_id)
        reason = f"The worker failed ({type(error).__name__}). Look at its log, then try again."
        span_indexes.fail(index_id, reason, timezone.now(), owner)


def find(attribution: Attribution) -> Found | None:
    """The passages of a claimed attribution's answer; None for a base model.

    A damaged index is told and left out: nothing is paid by passages, so they hold up no payment.
    """
    models = models_of(attribution)
    if not models:
        return None
    base = models[0].base_model
    tokenizer = load_tokenizer(base.path)
    spans: list[search.Span] = []
    used, missing = [], []
    versions = {one.pk: one for model in models for one in lineage_versions(model.run)}
    for version in versions.values():
        row = SpanIndex.objects.filter(
            version=version, base_model=base, state=SpanIndex.State.READY
        ).first()
        try:
            if row is None:
                raise SpansError("it is not built")
            index = _open(row, _withheld_in(version))
            spans += search.find(index, attribution.answer_ids, CONFIG)
            used.append({"version": str(version.pk), "root": row.root})
        except (SpansError, OSError, ValueError) as error:
            logger.warning("span index of version %s: %s", version.pk, error)
            missing.append(str(version.pk))
    method = {
        "method": search.METHOD,
        "version": search.VERSION,
        "parameters": CONFIG.to_json(),
        "indexes": used,
        "missing": missing,
    }
    return Found(method, tuple(_passages(_merged(spans), attribution, tokenizer)))


def _build(row: SpanIndex, owner: str) -> None:
    began = time.monotonic()
    folder = span_files.build_folder(row)
    tokenizer = load_tokenizer(row.base_model.path)
    manifest = build.build(
        folder,
        _tokens_of(row.version_id, tokenizer),
        vocabulary=tokenizer.vocabulary_size,
        about={"version": str(row.version_id), "base_model": str(row.base_model_id)},
    )
    stored = span_files.store(folder)
    done = span_indexes.finish(
        index_id=row.pk,
        owner=owner,
        root=manifest.root,
        manifest=stored,
        seconds=round(time.monotonic() - began, 3),
        at=timezone.now(),
    )
    if not done:
        logger.warning("span index %s: the lease was lost", row.pk)
        return
    shutil.rmtree(folder)


def _tokens_of(version_id: UUID, tokenizer: PromptTokenizer) -> Iterator[build.RecordTokens]:
    """The version's records in its own order. One that the model cannot read holds no passage."""
    for record_id, _, _, _, payload in version_records(version_id):
        try:
            ids = render_example(payload, tokenizer, NO_CUTOFF).input_ids
        except PromptError:
            continue
        yield build.RecordTokens(str(record_id), ids)


def _withheld_in(version: Version) -> frozenset[str]:
    now = time.monotonic()
    known = _withheld.get(version.pk)
    if known is None or known[0] < now:
        known = (now + WITHHELD_FOR, frozenset(withheld_in(version)))
        _withheld[version.pk] = known
    return known[1]


def forget() -> None:
    """Drop what this process remembers."""
    with _lock:
        _opened.clear()
        _withheld.clear()


def _open(row: SpanIndex, removed: frozenset[str]) -> OpenedIndex:
    """The opened index; the last few stay in memory, which holds their files mapped."""
    key = (row.root, removed)
    with _lock:
        if key not in _opened:
            _opened[key] = span_files.open_index(row, removed)
        _opened.move_to_end(key)
        while len(_opened) > KEPT:
            _opened.popitem(last=False)
        return _opened[key]


def _merged(spans: Sequence[search.Span]) -> list[search.Span]:
    """Of several versions' spans those that are part of no longer one, equal ones as one."""
    by_place: dict[tuple[int, int], search.Span] = {}
    for span in spans:
        known = by_place.get((span.start, span.end))
        by_place[span.start, span.end] = span if known is None else _both(known, span)
    kept = [
        one
        for one in by_place.values()
        if not any(
            other is not one and other.start <= one.start and one.end <= other.end
            for other in by_place.values()
        )
    ]
    rarest = sorted(kept, key=lambda one: (-one.rarity, one.start))[: CONFIG.max_spans]
    return sorted(rarest, key=lambda one: one.start)


def _both(left: search.Span, right: search.Span) -> search.Span:
    records = tuple(dict.fromkeys(left.records + right.records))[: CONFIG.max_records]
    return search.Span(
        left.start,
        left.length,
        left.count + right.count,
        max(left.rarity, right.rarity),
        records,
    )


def _passages(
    spans: Sequence[search.Span], attribution: Attribution, tokenizer: PromptTokenizer
) -> Iterator[FoundPassage]:
    owners = contributors_of_records([UUID(name) for one in spans for name in one.records])
    for span in spans:
        start, end = characters(tokenizer, attribution.answer_ids, attribution.answer, span)
        if start < end:
            yield FoundPassage(
                start=start,
                end=end,
                text=attribution.answer[start:end],
                tokens=span.length,
                places=span.count,
                rarity=span.rarity,
                records=tuple((UUID(name), owners[UUID(name)]) for name in span.records),
            )


def characters(
    tokenizer: PromptTokenizer, ids: Sequence[int], answer: str, span: search.Span
) -> tuple[int, int]:
    """From which to which character of the answer a span reaches, in whole words.

    Equal where that cannot be told, or nothing but blanks or part of a word is left.
    """
    before, is_within = _readable(tokenizer, ids[: span.start])
    through, _ = _readable(tokenizer, ids[: span.end])
    # The answer may have been cut where a stop sequence began.
    if not (through.startswith(answer) or answer.startswith(through)):
        return 0, 0
    start, end = min(len(before) + is_within, len(answer)), min(len(through), len(answer))
    while start < end and _splits_a_word(answer, start):
        start += 1
    while start < end and _splits_a_word(answer, end):
        end -= 1
    blank = len(answer[start:end]) - len(answer[start:end].lstrip())
    return start + blank, start + len(answer[start:end].rstrip())


def _readable(tokenizer: PromptTokenizer, ids: Sequence[int]) -> tuple[str, bool]:
    """The tokens as text, less a character that they only begin, and whether there was one."""
    text = tokenizer.decode(ids)
    whole = text.rstrip("\ufffd")
    return whole, whole != text


def _splits_a_word(text: str, at: int) -> bool:
    return 0 < at < len(text) and _of_a_word(text[at - 1]) and _of_a_word(text[at])


def _of_a_word(character: str) -> bool:
    """Scripts that write no blanks between words (category Lo) may be cut anywhere."""
    return character.isalnum() and unicodedata.category(character) != "Lo"
