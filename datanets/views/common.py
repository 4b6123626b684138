"""How every Datanet page begins: who asks, for which Datanet, and may they."""

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.contrib import messages
from django.contrib.auth.views import redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils import timezone

from accounts.models import User
from datanets import access
from datanets.errors import DatanetError
from datanets.models import Datanet, DatanetState

View = Callable[..., HttpResponseBase]
LEVELS: dict[str, Callable[[Any, Datanet], bool]] = {
    "view": lambda user, datanet: True,
    "contribute": access.may_contribute,
    "review": access.may_review,
    "own": access.may_own,
    "signed in": lambda user, datanet: user.is_authenticated,
}


def with_datanet(level: str = "view") -> Callable[[View], View]:
    """Give the view the Datanet of its slug: 404 for strangers, 410 once it was taken down."""

    def decorate(view: View) -> View:
        @wraps(view)
        def inner(request: HttpRequest, slug: str, *args: Any, **kwargs: Any) -> HttpResponseBase:
            datanet = Datanet.objects.select_related("owner").filter(slug=slug).first()
            if datanet is None:
                raise Http404
            if not Datanet.objects.visible_to(request.user).filter(pk=datanet.pk).exists():
                return _unseen(request, datanet)
            if not LEVELS[level](request.user, datanet):
                return refused(request)
            return view(request, datanet, *args, **kwargs)

        return inner

    return decorate


def person(request: HttpRequest) -> User:
    """Who asks, where a decorator has let only people in."""
    assert isinstance(request.user, User)
    return request.user


def refused(request: HttpRequest) -> HttpResponse:
    """A stranger signs in; somebody without the role is told so."""
    if not request.user.is_authenticated:
        return redirect_to_login(request.get_full_path())
    raise PermissionDenied


def act(
    request: HttpRequest, then: str, service: Callable[..., Any], done: str = "", **values: Any
) -> HttpResponse:
    """Call a service as the person, say what came of it, and go to `then`."""
    try:
        service(acting_user=request.user, at=timezone.now(), **values)
    except DatanetError as error:
        messages.error(request, error.message)
    else:
        if done:
            messages.success(request, done)
    return redirect(then)


def tab_context(request: HttpRequest, datanet: Datanet, tab: str) -> dict[str, Any]:
    """What the head and tabs of a Datanet's pages need."""
    roles = access.roles_of(request.user, datanet)
    return {
        "datanet": datanet,
        "tab": tab,
        "roles": roles,
        "is_owner": "OWNER" in roles,
        "is_reviewer": bool({"OWNER", "REVIEWER"} & roles),
        "may_contribute": datanet.state == DatanetState.PUBLISHED or bool(roles),
    }


def _unseen(request: HttpRequest, datanet: Datanet) -> HttpResponse:
    if datanet.state == DatanetState.TAKEN_DOWN and datanet.published_at:
        return render(request, "datanets/taken_down.html", {"datanet": datanet}, status=410)
    raise Http404
