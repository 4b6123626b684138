"""Verify by file: what became of a file that somebody once uploaded."""

from __future__ import annotations

import hashlib
from urllib.parse import urlencode

from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from attribution import by_file


@require_http_methods(["GET", "HEAD", "POST"])
@never_cache
def verify_by_file(request: HttpRequest) -> HttpResponse:
    """`?sha256=` tells of the file with that hash. A posted file is hashed and let go, which is
    the way of browsers without scripts; with scripts the file stays where it is."""
    if request.method == "POST":
        file = request.FILES.get("file")
        if file is None:
            return _page(request, "", "Choose a file first, or paste its hash.", status=400)
        digest = hashlib.sha256()
        for chunk in file.chunks():
            digest.update(chunk)
        address = reverse("attribution:verify_by_file")
        return redirect(f"{address}?{urlencode({'sha256': digest.hexdigest()})}")
    asked = request.GET.get("sha256", "")
    sha256 = by_file.clean_sha256(asked)
    if asked.strip() and not sha256:
        problem = "That is no SHA-256: it has 64 digits and letters from a to f. Paste it whole."
        return _page(request, asked[:100], problem, status=400)
    return _page(request, sha256)


def _page(
    request: HttpRequest, asked: str, problem: str = "", *, status: int = 200
) -> HttpResponse:
    found = by_file.report_of(asked, request.user) if asked and not problem else None
    context = {"asked": asked, "problem": problem, "found": found}
    return render(request, "attribution/by_file.html", context, status=status)
