"""From a checked body to its completions: one for each prompt and choice, all or none."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass, replace

from django.db import transaction
from django.utils import timezone

from accounts import rate_limits
from accounts.models import ApiKey
from serving import merges, selectors
from serving.errors import InvalidRequest
from serving.limits import CHOICES
from serving.merges import MergeWish
from serving.models import Completion
from serving.openai_api import bodies
from serving.questions import Question, Sampling
from serving.services.completions import start_completion


@dataclass(frozen=True, slots=True)
class Wish:
    """One choice: the first of a prompt pays for reading it, the others do not."""

    question: Question
    number: int


def wishes(body: bodies.ChatBody | bodies.TextBody) -> list[Wish]:
    """Raises InvalidRequest where there are too many together."""
    questions, choices = body.questions(), body.choices
    if len(questions) * choices > CHOICES:
        raise InvalidRequest(f"Ask for at most {CHOICES} answers at a time.", parameter="n")
    return [Wish(question, number) for question in questions for number in range(choices)]


def start(
    key: ApiKey,
    name: str,
    wished: list[Wish],
    sampling: Sampling,
    merge_wish: MergeWish | None = None,
) -> list[Completion]:
    """Hold and queue all of them in one transaction. Raises a Refusal; then none is asked."""
    at = timezone.now()
    deployment = selectors.usable_deployment(name=name, user=key.user)
    merge = None
    if merge_wish is not None:
        merge = merges.resolve(wish=merge_wish, deployment=deployment, user=key.user, at=at)
    # One alone is all or nothing by itself.
    with transaction.atomic() if len(wished) > 1 else nullcontext():
        started = [
            start_completion(
                deployment=deployment,
                question=wish.question,
                sampling=_of_its_own(sampling, wish.number),
                payer=key.user,
                api_key=key,
                acting_user=key.user,
                prompt_is_paid=wish.number > 0,
                merge=merge,
                at=at,
            )
            for wish in wished
        ]
    rate_limits.count_tokens(key.pk, sum(one.prompt_tokens for one in started))
    return started


def _of_its_own(sampling: Sampling, number: int) -> Sampling:
    """A seed draws the same again, but not the same for each choice."""
    if sampling.seed is None or number == 0:
        return sampling
    return replace(sampling, seed=(sampling.seed + number) % 2**63)
