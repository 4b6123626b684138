"""Whether an index is what it says: gradients of records drawn at random, computed once more.

Records are drawn from the whole index, and one group by its number of records; of the group every
full-width vector is made again and added up. The draw follows from a seed that nobody could choose
when the index was built (`services.audits` takes the newest head of the log).

Another machine, or another number of threads, moves a gradient by 1e-5 of itself, and with it a few
of its many bits and integers by one step. So a record is *exact* where all is the same, *close*
within the stated tolerances, and otherwise it *differs*.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attribution.influence import assemble
from attribution.influence.config import InfluenceConfig
from attribution.influence.curvature import Beat
from attribution.influence.errors import RecordError
from attribution.influence.examples import IndexedExample
from attribution.influence.fit import Selection
from attribution.influence.gradients import derived_seed
from attribution.influence.scorer import Scorer
from attribution.influence.shards import Shard, make_shard

# Parts of a sketch's bits; steps of its norm, of 65,535. A sum may be off by a step each record.
BITS = 1e-3
PATH_BITS = 2e-3  # where bits were found together, one that changes takes its neighbours along
NORM_STEPS = 66
EXACT, CLOSE, DIFFERS = "exact", "close", "differs"


@dataclass(frozen=True, slots=True)
class Audited:
    """Verdicts by record, and that of the group's sum; ``group`` is empty where every group is too
    large to be made again."""

    records: dict[str, str]
    group: str
    group_records: int
    group_sum: str

    @property
    def holds(self) -> bool:
        return DIFFERS not in (*self.records.values(), self.group_sum)


def draw(scorer: Scorer, seed: str, records: int, group_max: int) -> tuple[list[str], str]:
    """Ids of the records, and a group of at most ``group_max`` records ("" where none is)."""
    entries = scorer.index.records
    chance = np.random.default_rng(derived_seed("audit", seed, scorer.index.manifest.root))
    places = chance.choice(len(entries), size=min(records, len(entries)), replace=False)
    drawn = [entries[int(place)].record_id for place in sorted(places)]
    small = {n: c for n, c in scorer.index.manifest.counts.items() if c <= group_max}
    if not small:
        return drawn, ""
    weights = np.array(list(small.values()), dtype=np.float64)
    return drawn, str(chance.choice(list(small), p=weights / weights.sum()))


def audit(
    scorer: Scorer,
    config: InfluenceConfig,
    examples: Mapping[str, IndexedExample],
    record_ids: Sequence[str],
    group: str,
    beat: Beat = lambda: None,
) -> Audited:
    """Make the drawn records' gradients again. ``examples`` has them and all of the group, by id.

    Raises RecordError for one that is not there any more, or is not what was indexed.
    """
    index = scorer.index
    row_of = {entry.record_id: row for row, entry in enumerate(index.records)}
    wanted = {*record_ids, *(e.record_id for e in index.records if e.group_id == group)}
    ordered = sorted(wanted, key=lambda name: row_of[name])
    for name in ordered:
        if name not in examples:
            raise RecordError(name, "it is in the index, but not among the training records.")
        if assemble.entry_of(examples[name]) != index.records[row_of[name]]:
            raise RecordError(name, "it is not what was indexed.")
    header = index.manifest.header
    selection = Selection(
        np.asarray(index.coordinates),
        np.asarray(index.weights),
        float(header["clip"]),
        float(header["sketch_clip"]),
    )
    chosen = [examples[name] for name in ordered]
    config = replace(config, **index.sketched_by)
    made = make_shard(scorer.model, scorer.factors, selection, chosen, config, beat)
    verdicts = {
        name: _record_verdict(scorer, row_of[name], made, place)
        for place, name in enumerate(ordered)
    }
    count = index.manifest.counts.get(group, 0)
    return Audited(verdicts, group, count, _sum_verdict(scorer, group, made, count))


def _record_verdict(scorer: Scorer, row: int, made: Shard, place: int) -> str:
    index = scorer.index
    flipped = int(np.unpackbits(index.codes[row] ^ made.codes[place]).sum())
    steps = abs(int(index.norms[row]) - int(made.norms[place]))
    same_vector = index.vectors[row].tobytes() == made.vectors[place].tobytes()
    if flipped == 0 and steps == 0 and same_vector:
        return EXACT
    bits = 8 * index.codes.shape[1]
    allowed = (BITS if index.sketch_rate == 1 else PATH_BITS) * bits
    near = flipped <= allowed and steps <= NORM_STEPS
    return CLOSE if near else DIFFERS


def _sum_verdict(scorer: Scorer, group: str, made: Shard, count: int) -> str:
    """The full-width sum, to the last unit or within one step of each record."""
    if not group:
        return ""
    # Records that were drawn from other groups are in other rows; of this group all were made.
    again = made.sums[[str(name) for name in made.groups].index(group)]
    stated = scorer.index.sums[scorer.index.manifest.group_ids.index(group)]
    if np.array_equal(again, stated):
        return EXACT
    return CLOSE if int(np.abs(again - stated).max()) <= count else DIFFERS
