"""Pages that look over all rooms: home, search, explorer, staff."""

from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.db import connection
from django.http import HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.shortcuts import redirect, render
from django.templatetags.static import static
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from config import books, lookup, selectors, status
from ledger.errors import LedgerError
from ledger.services import caps, halting


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    context = {"totals": selectors.totals(), "activity": selectors.activity(request.user)}
    return render(request, "house/home.html", context | selectors.newest())


@require_safe
def activity(request: HttpRequest) -> HttpResponse:
    """The part of the home page that is asked for again while work goes on."""
    context = {"totals": selectors.totals(), "activity": selectors.activity(request.user)}
    return render(request, "house/activity.html", context)


@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """Answer 200 where the database answers; load balancers and the supervisor ask."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})


@require_safe
def favicon(request: HttpRequest) -> HttpResponse:
    """Where browsers look for an icon of what is no page, such as JSON or a download."""
    return redirect(static("icon.svg"))


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    text = request.GET.get("q", "").replace("\0", "").strip()[:200]
    if text and (url := lookup.page_of(text, request.user)):
        return redirect(url)
    found = selectors.find(text, request.user) if text else {}
    return render(request, "house/search.html", {"text": text, "found": found})


@require_safe
def explorer(request: HttpRequest) -> HttpResponse:
    return render(request, "house/explorer.html", selectors.latest_proofs())


@require_safe
def status_page(request: HttpRequest) -> HttpResponse:
    """Whether the books agree and the machinery runs; for everybody."""
    return render(request, "house/status.html", {"status": status.overview(at=timezone.now())})


@require_POST
def reconcile(request: HttpRequest) -> HttpResponseBase:
    if not request.user.is_authenticated:
        return redirect_to_login("/staff/")
    if not request.user.is_staff:
        raise PermissionDenied
    books.request_reconciliation(acting_user=request.user, at=timezone.now())
    messages.info(request, "The books are being compared; the result stands here in a moment.")
    return redirect("status")


@require_POST
def lift_halt(request: HttpRequest) -> HttpResponseBase:
    """Staff have looked at a chain that took back what was final."""
    if not request.user.is_authenticated:
        return redirect_to_login("/staff/")
    if not request.user.is_staff:
        raise PermissionDenied
    note = request.POST.get("note", "").replace("\0", "").strip()[:2000]
    if not note:
        messages.error(request, "Write down what you found; it is kept in the audit trail.")
        return redirect("staff")
    try:
        halting.lift_halt(
            chain_id=settings.CHAIN_ID, acting_user=request.user, note=note, at=timezone.now()
        )
    except LedgerError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "Mirror and sender go on from the last shared block.")
    return redirect("staff")


@require_POST
def lift_cap(request: HttpRequest, intent_id: UUID) -> HttpResponseBase:
    """Staff have looked at an intent that moves more than the caps let out by themselves."""
    if not request.user.is_authenticated:
        return redirect_to_login("/staff/")
    if not request.user.is_staff:
        raise PermissionDenied
    note = request.POST.get("note", "").replace("\0", "").strip()[:2000]
    if not note:
        messages.error(request, "Write down why it is right; it is kept in the audit trail.")
        return redirect("staff")
    try:
        caps.lift_cap(intent_id=intent_id, acting_user=request.user, note=note, at=timezone.now())
    except LedgerError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "It goes out with the sender's next step.")
    return redirect("staff")


@require_safe
def staff(request: HttpRequest) -> HttpResponseBase:
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    if not request.user.is_staff:
        raise PermissionDenied
    at = timezone.now()
    context = selectors.staff_overview(at) | {"books": status.books()}
    return render(request, "house/staff.html", context)
