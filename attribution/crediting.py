"""From integer influences to who is credited with which part, by plain arithmetic.

Nothing here reads the database: `manage.py verify` runs the same functions on a receipt's public
part and must come to the same credits.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from attribution import groups
from attribution.influence.shares import WHOLE, portion, shares
from ledger.services.settlement import Credit
from ledger.splits import divide

CREDITED = "CREDITED"
NO_POSITIVE_INFLUENCE = "NO_POSITIVE_INFLUENCE"
NO_CLEAR_INFLUENCE = "NO_CLEAR_INFLUENCE"
NO_ANSWER = "NO_ANSWER"
# Of one of several models that answered as one: its index could not be built in time.
NO_INDEX = "NO_INDEX"
NO_CONTRIBUTORS = "NO_CONTRIBUTORS"
BEST_FIRST = (
    CREDITED,
    NO_CLEAR_INFLUENCE,
    NO_POSITIVE_INFLUENCE,
    NO_INDEX,
    NO_ANSWER,
    NO_CONTRIBUTORS,
)


@dataclass(frozen=True, slots=True)
class Crediting:
    """`shares` are parts of 10**9 by group; `credits` the same by whom the ledger pays.

    Of several models that answered as one, `parents` are what each would have credited alone.
    """

    outcome: str
    shares: dict[str, int]
    credits: tuple[Credit, ...]
    parents: tuple[Crediting, ...] = ()


def credit(
    *,
    influences: Mapping[str, int],
    counts: Mapping[str, int],
    model_id: UUID | None,
    has_answer: bool = True,
    is_clear: bool = True,
    has_index: bool = True,
) -> Crediting:
    """Who is credited, given every group's influence and how many records it has.

    Where nobody's records helped, or no more than they would any text, or there is no index to say
    so, the contributors' part goes to the treasuries of the Datanets, by their number of records.
    Without a model there are no contributors.
    """
    if model_id is None:
        return Crediting(NO_CONTRIBUTORS, {}, ())
    earned = shares(influences) if has_answer else {}
    if earned and is_clear:
        return Crediting(CREDITED, earned, credit_of_shares(earned, model_id))
    outcome = NO_CLEAR_INFLUENCE if earned else NO_POSITIVE_INFLUENCE
    outcome = outcome if has_index else NO_INDEX
    outcome = outcome if has_answer else NO_ANSWER
    return Crediting(outcome, {}, _treasuries(counts, model_id))


def of_body(public: Mapping[str, Any]) -> Crediting:
    """What a model's influences credit; `public` is a receipt's body, or what it says of one of
    several models. What retrieval pays is not in it."""
    return credit(
        influences={name: int(value) for name, value in public["influence"]["groups"].items()},
        counts=public["influence"]["records"],
        model_id=UUID(public["model"]["id"]) if public["model"] else None,
        has_answer=public["outcome"] != NO_ANSWER,
        is_clear=(public.get("confidence") or {}).get("clear", True),
        has_index=public["outcome"] != NO_INDEX,
    )


def of_merge(parents: Sequence[Mapping[str, Any]]) -> Crediting:
    """What several models that answered as one credit, by what a receipt says of each."""
    return combine([(int(one["share_ppb"]), of_body(one)) for one in parents])


def reward(
    credited: Crediting, retrieval: Mapping[str, Any] | None, model_id: UUID | None
) -> Crediting:
    """`credited` with the micro-reward of the records that were put into the prompt.

    `retrieval` is the receipt's public part: `reward_ppb` of the contributors' part goes to their
    contributors by the number of records, whatever their influence; everybody else's credit
    shrinks in proportion. Shares stay those of influence.
    """
    if not retrieval or not retrieval["reward_ppb"] or model_id is None:
        return credited
    part = int(retrieval["reward_ppb"])
    retrieved = credit_of_shares(portion(retrieval["groups"]), model_id)
    credits = {one.key: one for one in (*credited.credits, *retrieved)}
    weights: dict[str, int] = defaultdict(int)
    for one in credited.credits:
        weights[one.key] += one.share_ppb * (WHOLE - part)
    for one in retrieved:
        weights[one.key] += one.share_ppb * part
    shared = {key: share for key, share in portion(weights).items() if share}
    ordered = tuple(replace(credits[key], share_ppb=shared[key]) for key in sorted(shared))
    return Crediting(credited.outcome, credited.shares, ordered)


def combine(parents: Sequence[tuple[int, Crediting]]) -> Crediting:
    """Several models that answered as one: each is credited as if alone, and these by its share.

    `parents` are (share in parts of 10**9, credited alone). A credit names its model, so somebody
    whose records two models learnt from has a credit for each. The part of a model without anybody
    to credit is the others'. The outcome is the best of theirs.
    """
    credits = {one.key: one for _, alone in parents for one in alone.credits}
    weights: dict[str, int] = defaultdict(int)
    for share, alone in parents:
        for one in alone.credits:
            weights[one.key] += one.share_ppb * share
    shared = {key: share for key, share in portion(weights).items() if share}
    outcomes = {alone.outcome for _, alone in parents}
    return Crediting(
        next(one for one in BEST_FIRST if one in outcomes),
        {},
        tuple(replace(credits[key], share_ppb=shared[key]) for key in sorted(shared)),
        tuple(alone for _, alone in parents),
    )


def amounts(credits: tuple[Credit, ...], amount: int) -> dict[str, int]:
    """Wei for each credit by its key, exactly as the ledger divides them."""
    if not credits:
        return {}
    return divide(amount, [(credit.key, credit.share_ppb) for credit in credits])


def credit_of_shares(earned: Mapping[str, int], model_id: UUID) -> tuple[Credit, ...]:
    """Shares of groups as credits: one for a contributor and a Datanet, over all its versions."""
    parts: dict[tuple[UUID, UUID], int] = defaultdict(int)
    for name, part in earned.items():
        group = groups.parse(name)
        parts[group.contributor, group.datanet] += part
    return tuple(
        Credit(
            kind="contributor",
            owner_id=contributor,
            share_ppb=part,
            datanet_id=datanet,
            model_id=model_id,
        )
        for (contributor, datanet), part in sorted(parts.items())
        if part
    )


def _treasuries(counts: Mapping[str, int], model_id: UUID) -> tuple[Credit, ...]:
    records: dict[str, int] = defaultdict(int)
    for name, count in counts.items():
        records[str(groups.parse(name).datanet)] += count
    return tuple(
        Credit(
            kind="treasury",
            owner_id=UUID(datanet),
            share_ppb=part,
            datanet_id=UUID(datanet),
            model_id=model_id,
        )
        for datanet, part in sorted(portion(records).items())
        if part
    )


def influence_by_credit(influences: Mapping[str, int], credited: Crediting) -> dict[str, int]:
    """The influence that earned each credit: the sum over its versions; 0 for a treasury."""
    found = {one.key: 0 for one in credited.credits}
    earned = {
        (one.owner_id, one.datanet_id): one.key
        for one in credited.credits
        if one.kind == "contributor"
    }
    for name in credited.shares:
        group = groups.parse(name)
        key = earned.get((group.contributor, group.datanet))
        if key is not None:
            found[key] += influences[name]
    return found
