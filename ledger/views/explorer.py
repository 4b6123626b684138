"""Public pages of entries, accounts, distributions and of what is ours on the chain.

Who earns is shown by handle; who pays is shown to themselves and to staff.
"""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import user_passes_test
from django.core.paginator import Paginator
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts import blobs
from accounts.people.access import signed_in_user
from ledger import explorer as chain
from ledger import reading, selectors, truth
from ledger.errors import LedgerError
from ledger.models import Account, Distribution, Entry, Intent
from ledger.services.roots import retry_distribution

PAGE = 50
LEGS = 200


@require_safe
def entry(request: HttpRequest, pk: UUID) -> HttpResponse:
    found = get_object_or_404(Entry.objects.select_related("reverses", "reversed_by"), pk=pk)
    # A publication's entry has some thousand legs.
    legs = found.postings.select_related("account", "entry").order_by("id")
    page = Paginator(legs, LEGS).get_page(request.GET.get("page"))
    return render(
        request,
        "ledger/entry.html",
        {
            "entry": found,
            "page": page,
            "rows": reading.with_names(page.object_list, user=request.user),
            "total": selectors.total_of(found.postings.all()),
            "cause_id": selectors.cause_for(found, request.user),
            "truth": truth.of_entry(found),
        },
    )


@require_safe
def account(request: HttpRequest, pk: UUID) -> HttpResponse:
    found = get_object_or_404(Account.objects.visible_to(request.user), pk=pk)
    all_postings = selectors.postings_of(found)
    postings = all_postings.select_related("entry", "account").order_by("-id")
    page = Paginator(postings, PAGE).get_page(request.GET.get("page"))
    return render(
        request,
        "ledger/account.html",
        {
            "account": found,
            "balance": found.shards.total(),
            "page": page,
            "rows": reading.with_names(page.object_list, user=request.user),
            "handle": selectors.owner_handle(found),
            "owner": reading.owner_of(found),
            "posted": selectors.total_of(all_postings),
            "shards": found.shards.count(),
        },
    )


@require_safe
def intent(request: HttpRequest, pk: UUID) -> HttpResponse:
    found = get_object_or_404(Intent, pk=pk)
    contract, function = reading.called_by(found)
    return render(
        request,
        "ledger/intent.html",
        {
            "intent": found,
            "truth": truth.of_intent(found),
            "attempts": found.tries.all(),
            "contract": contract,
            "function": function,
            "cause": reading.cause_of(found, request.user),
        },
    )


@require_safe
def transaction(request: HttpRequest, tx_hash: str) -> HttpResponse:
    """By its hash: what we asked for with it, what it did in our contracts, what that entered."""
    found = chain.transaction(tx_hash, request.user)
    if found is None:
        raise Http404("Nothing of ours is in a transaction with this hash.")
    return render(request, "ledger/transaction.html", {"transaction": found, "truth": found.truth})


@require_safe
def block(request: HttpRequest, wanted: str) -> HttpResponse:
    """By its number or hash: our events in it."""
    found = chain.block(wanted, request.user)
    if found is None:
        raise Http404("The mirror has no such block; it keeps those with events of ours for ever.")
    return render(request, "ledger/block.html", {"found": found, "truth": found.truth})


@require_safe
def address(request: HttpRequest, wanted: str) -> HttpResponse:
    """What an address of the chain is to us, and what it was paid."""
    found = chain.address(wanted)
    if found is None:
        raise Http404("This address is no contract, wallet or payee of this instance.")
    return render(request, "ledger/address.html", {"found": found})


@require_safe
def distributions(request: HttpRequest) -> HttpResponse:
    page = Paginator(Distribution.objects.all(), PAGE).get_page(request.GET.get("page"))
    at = truth.head()
    rows = [(one, truth.of_distribution(one, at)) for one in page]
    return render(request, "ledger/distributions.html", {"page": page, "rows": rows})


@require_safe
def distribution(request: HttpRequest, pk: UUID) -> HttpResponse:
    found = get_object_or_404(Distribution.objects.select_related("entry"), pk=pk)
    leaves = found.leaves.select_related("payee").order_by("-amount", "id")
    return render(
        request,
        "ledger/distribution.html",
        {
            "distribution": found,
            "page": Paginator(leaves, PAGE).get_page(request.GET.get("page")),
            "entries": list(selectors.publications_of(found)),
            "why": selectors.why_not_active(found),
            "truth": truth.of_distribution(found),
            "intents": [reading.intent_progress(i) for i in selectors.intents_of(found)],
        },
    )


@require_safe
def distribution_data(request: HttpRequest, pk: UUID) -> FileResponse:
    """The file of leaves whose hash went on the chain with the root."""
    found = get_object_or_404(Distribution, pk=pk)
    if not found.data_sha256:
        raise Http404("The tree is built when the distribution goes to a chain.")
    return FileResponse(
        blobs.open_blob(found.data_sha256),
        content_type="application/json",
        as_attachment=True,
        filename=f"distribution-{found.epoch}.json",
    )


@require_POST
@user_passes_test(lambda user: user.is_staff)
def retry(request: HttpRequest, pk: UUID) -> HttpResponse:
    """Staff start a failed distribution again."""
    found = get_object_or_404(Distribution, pk=pk)
    try:
        retry_distribution(
            distribution=found, acting_user=signed_in_user(request), at=timezone.now()
        )
    except LedgerError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, f"Distribution {found.epoch} is on its way again.")
    return redirect("ledger:distribution", pk=pk)
