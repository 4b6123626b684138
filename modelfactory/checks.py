"""Looking at a draft's records before it starts, with the row numbers of what is wrong."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from datanets.models import Record, Version, VersionRecord
from modelfactory.limits import CHECKED_ROWS
from modelfactory.models import Run
from modelfactory.training.data import Finding, Row, examine
from modelfactory.training.prompts import PromptError, PromptTokenizer, load_tokenizer


@dataclass
class Checked:
    """`lengths` are tokens a usable record, cut; `usable` is scaled up to all records."""

    rows: int = 0
    usable: int = 0
    lengths: list[int] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def check_run(run: Run, versions: Sequence[Version]) -> Checked:
    """Render the first `CHECKED_ROWS` records as the model would read them."""
    if run.base_model is None or not run.base_model.is_ready:
        total = sum(v.record_count for v in versions)
        return Checked(usable=total)
    try:
        tokenizer = load_tokenizer(run.base_model.folder)
    except PromptError:
        # The folder is on the worker only: what is left to know is the number of records.
        return Checked(usable=sum(v.record_count for v in versions))
    rows = list(rows_of(versions, limit=CHECKED_ROWS))
    items, findings = examine(rows, tokenizer, cutoff=run.parsed_recipe.cutoff)
    total = sum(v.record_count for v in versions)
    usable = len(items) + max(0, total - len(rows)) if items else 0
    return Checked(len(rows), usable, [len(i.example.input_ids) for i in items], findings)


def rows_of(versions: Sequence[Version], *, limit: int) -> list[Row]:
    """Records in the order of the versions, numbered through from 1; withheld ones left out."""
    rows: list[Row] = []
    number = 0
    for version in versions:
        entries = (
            VersionRecord.objects.filter(version=version)
            .order_by("position")
            .values_list("record_id", "record__payload")
        )
        gone = Record.objects.withheld().filter(version_entries__version=version)
        withheld = set(gone.values_list("pk", flat=True))
        for record_id, payload in entries[: limit - number]:
            number += 1
            if record_id in withheld:
                continue
            rows.append(Row(str(record_id), number, payload))
    return rows


def scaled(lengths: Sequence[int], records: int) -> list[int]:
    """Repeat the sample's lengths up to the number of records."""
    times, rest = divmod(records, len(lengths))
    return [*list(lengths) * times, *lengths[:rest]]


@dataclass(frozen=True)
class Piece:
    """Text of one token, and whether it is learnt."""

    text: str
    learnt: bool


def first_batch(run: Run, tokenizer: PromptTokenizer, count: int = 3) -> list[list[Piece]]:
    """The first records as the model sees them, in runs of learnt and given text."""
    versions = list(run.versions.all())
    rows = rows_of(versions, limit=count)
    items, _ = examine(rows, tokenizer, cutoff=run.parsed_recipe.cutoff)
    shown = []
    for item in items:
        pieces: list[Piece] = []
        ids, mask = item.example.input_ids, item.example.loss_mask
        start = 0
        for at in range(1, len(ids) + 1):
            if at == len(ids) or mask[at] != mask[start]:
                text = tokenizer.tokenizer.decode(ids[start:at], skip_special_tokens=False)
                pieces.append(Piece(text, bool(mask[start])))
                start = at
        shown.append(pieces)
    return shown
