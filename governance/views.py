"""Pages of the holders. Nothing is decided here: a wallet signs, and the chain's mirror follows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.core.paginator import Paginator
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.models import User
from governance import calls, selectors
from governance.forms import (
    DelegateForm,
    SplitProposalForm,
    TextProposalForm,
    UnwrapForm,
    ValuesProposalForm,
    VoteForm,
    WrapForm,
)
from governance.models import Proposal, ProposalState
from governance.motions import Motion, split_motion, text_motion, values_motion
from governance.registry import GOVERNED
from governance.rows import parameter_rows
from governance.words import PART_WORDS, label_of, percent, show_setting
from ledger.errors import WaitingForChain
from ledger.onchain import current_deployment, require_deployment
from ledger.reading import chain_for_wallets

PAGE = 20


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """All proposals, what is in force, and the reader's own power."""
    page = Paginator(selectors.proposals(), PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "governance/index.html",
        {
            **_common(request),
            "page": page,
            "standings": [selectors.standing(proposal) for proposal in page.object_list],
            "parameters": selectors.current_parameters(),
            "split": _split_words(),
            "supply": selectors.supply_now(),
        },
    )


@require_safe
def proposal(request: HttpRequest, number: str) -> HttpResponse:
    """One proposal: where it stands, what it does, and what the reader may do."""
    found = _proposal(number)
    standing = selectors.standing(found)
    return render(
        request,
        "governance/proposal.html",
        {
            **_common(request, found),
            "proposal": found,
            "standing": standing,
            "actions": selectors.actions_of(found),
            "change": _change(found),
            "votes": found.votes.all()[:100],
            "vote_form": VoteForm(),
            "step": _next_step(standing),
            "takes_back": standing.state == ProposalState.PENDING,
        },
    )


@require_safe
def live(request: HttpRequest, number: str) -> HttpResponse:
    """The part of a proposal's page that changes by itself."""
    standing = selectors.standing(_proposal(number))
    context = {"proposal": standing.proposal, "standing": standing}
    return render(request, "governance/live.html", context)


@require_safe
def parameters(request: HttpRequest) -> HttpResponse:
    """Every governed value, who can change it, and when it last did."""
    return render(
        request,
        "governance/parameters.html",
        {
            "rows": parameter_rows(),
            "parameters": selectors.current_parameters(),
            "pending": selectors.pending_version(),
            "deployment": current_deployment(),
        },
    )


@require_safe
def power(request: HttpRequest) -> HttpResponse:
    """Wrapping, unwrapping, delegating, and what it comes to."""
    return render(
        request,
        "governance/power.html",
        {
            **_common(request),
            "supply": selectors.supply_now(),
            "wrap_form": WrapForm(prefix="wrap"),
            "unwrap_form": UnwrapForm(prefix="unwrap"),
            "delegate_form": DelegateForm(prefix="delegate"),
        },
    )


@require_http_methods(["GET", "HEAD", "POST"])
def propose_split(request: HttpRequest) -> HttpResponse:
    """Fill in another split; the answer shows what the wallet would sign."""
    form = SplitProposalForm(request.POST or None)
    call = None
    if request.method == "POST" and form.is_valid() and _has_chain(form):
        facts = tuple((PART_WORDS[n], percent(points)) for n, points in form.split.items())
        motion = split_motion(require_deployment(), form.split, form.description)
        call = _propose_call(motion, form, facts)
    return _propose_page(request, form, call, "split")


@require_http_methods(["GET", "HEAD", "POST"])
def propose_values(request: HttpRequest) -> HttpResponse:
    """Fill in other governed numbers; the answer shows what the wallet would sign."""
    form = ValuesProposalForm(request.POST or None)
    call = None
    if request.method == "POST" and form.is_valid() and _has_chain(form):
        facts = tuple(
            (
                label_of(key),
                f"{show_setting(key, form.parameters.governed(key))} to {show_setting(key, after)}",
            )
            for key, (_, after) in form.changes.items()
        )
        motion = values_motion(require_deployment(), form.changes, form.description)
        call = _propose_call(motion, form, facts)
    return _propose_page(request, form, call, "values")


@require_http_methods(["GET", "HEAD", "POST"])
def propose_text(request: HttpRequest) -> HttpResponse:
    """Fill in a text to decide."""
    form = TextProposalForm(request.POST or None)
    call = None
    if request.method == "POST" and form.is_valid() and _has_chain(form):
        call = _propose_call(text_motion(require_deployment(), form.description), form, ())
    return _propose_page(request, form, call, "text")


@require_POST
def encode(request: HttpRequest, name: str) -> JsonResponse:
    """Calldata for wrap, unwrap or delegate. Nothing is written; the wallet decides."""
    form_class, make = _ENCODERS.get(name, (None, None))
    if form_class is None or make is None:
        raise Http404
    return _encoded(form_class(request.POST, prefix=name), make)


@require_POST
def encode_vote(request: HttpRequest, number: str) -> JsonResponse:
    """Calldata of a vote on one proposal."""
    found = _proposal(number)
    return _encoded(
        VoteForm(request.POST), lambda data: calls.vote(found, data["support"], data["reason"])
    )


@require_POST
def encode_step(request: HttpRequest, number: str, function: str) -> JsonResponse:
    """Calldata that queues, executes or takes back a proposal."""
    found = _proposal(number)
    return _encoded(forms.Form(request.POST), lambda data: calls.move_on(found, function))


Make = Callable[[dict[str, Any]], calls.Call]
_ENCODERS: dict[str, tuple[type[forms.Form], Make]] = {
    "wrap": (WrapForm, lambda data: calls.wrap(data["amount"], data["delegate"])),
    "unwrap": (UnwrapForm, lambda data: calls.unwrap(data["amount"])),
    "delegate": (DelegateForm, lambda data: calls.delegate(data["delegate"])),
}


def _encoded(form: forms.Form, make: Make) -> JsonResponse:
    if not form.is_valid():
        return JsonResponse({"errors": form.errors.get_json_data()}, status=422)
    try:
        return JsonResponse(make(form.cleaned_data).as_json())
    except WaitingForChain as error:
        return JsonResponse({"errors": {"__all__": [{"message": error.message}]}}, status=409)


def _proposal(number: str) -> Proposal:
    return get_object_or_404(Proposal, number=number)


def _common(request: HttpRequest, proposal: Proposal | None = None) -> dict[str, Any]:
    user = request.user
    mine = selectors.holdings_of(user, proposal) if isinstance(user, User) else []
    return {
        "holdings": mine,
        "chain": chain_for_wallets(),
        "deployment": current_deployment(),
    }


def _split_words() -> list[tuple[str, str]]:
    split = selectors.current_split()
    return [(PART_WORDS[part.kind], percent(part.basis_points)) for part in split.parts]


def _change(proposal: Proposal) -> list[tuple[str, str, str, bool]]:
    """Parameter, before, after and whether it differs, for all that a proposal sets."""
    split = selectors.proposed_split(proposal)
    values = selectors.proposed_values(proposal)
    if split is None and not values:
        return []
    earlier = selectors.parameters_before(proposal)
    before: dict[str, int] = {part.kind: part.basis_points for part in earlier.split.parts}
    rows = [
        (word, percent(before[name]), percent(split[name]), before[name] != split[name])
        for name, word in PART_WORDS.items()
        if split is not None
    ]
    return rows + [_value_change(key, earlier, after) for key, after in values.items()]


def _value_change(
    key: str, earlier: selectors.Parameters, after: int
) -> tuple[str, str, str, bool]:
    if key not in GOVERNED:
        told = str(earlier.values[key]) if key in earlier.values else "never set"
        return key, told, str(after), True
    before, obeyed = earlier.governed(key), GOVERNED[key].obeyed(after)
    shown = show_setting(key, after)
    if obeyed != after:
        shown += f" (counts as {show_setting(key, obeyed)})"
    return label_of(key), show_setting(key, before), shown, before != obeyed


def _next_step(standing: selectors.Standing) -> str:
    if standing.state == ProposalState.SUCCEEDED:
        return "queue"
    return "execute" if standing.executable else ""


def _has_chain(form: forms.Form) -> bool:
    if current_deployment() is not None:
        return True
    form.add_error(None, "This instance has no chain, or its contracts are not deployed yet.")
    return False


def _propose_call(
    motion: Motion, form: TextProposalForm, facts: tuple[tuple[str, str], ...]
) -> calls.Call:
    return calls.propose(motion, (("Title", form.cleaned_data["title"]), *facts))


def _propose_page(
    request: HttpRequest, form: forms.Form, call: calls.Call | None, kind: str
) -> HttpResponse:
    context = {**_common(request), "form": form, "call": call, "kind": kind}
    context["threshold"] = next(
        (row.shown for row in parameter_rows() if row.key == "proposal_threshold"), ""
    )
    status = 422 if form.is_bound and not form.is_valid() else 200
    return render(request, "governance/propose.html", context, status=status)
