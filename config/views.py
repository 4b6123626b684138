"""Pages that look over all rooms: home, search, explorer, staff."""

from django.contrib.auth.decorators import user_passes_test
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe


@require_safe
def home(request: HttpRequest) -> HttpResponse:
    return render(request, "house/home.html")


@require_safe
def health(request: HttpRequest) -> JsonResponse:
    """Answer 200 where the database answers; load balancers and the supervisor ask."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok"})


@require_safe
def search(request: HttpRequest) -> HttpResponse:
    return render(request, "house/search.html")


@require_safe
def explorer(request: HttpRequest) -> HttpResponse:
    return render(request, "house/explorer.html")


@user_passes_test(lambda user: user.is_staff)
@require_safe
def staff(request: HttpRequest) -> HttpResponse:
    return render(request, "house/staff.html")
