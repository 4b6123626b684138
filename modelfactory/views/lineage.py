"""From a model to another: merging, and starting a run from one or again from scratch."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from governance.selectors import current_parameters
from governance.words import percent
from modelfactory.errors import RunError
from modelfactory.forms import MergeForm
from modelfactory.models import Model
from modelfactory.services import drafts, merging
from modelfactory.views.common import draft, now, person, posted, visible_model

SHOWN = 50


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def merge(request: HttpRequest, slug: str) -> HttpResponse:
    """Choose other models of the same base and each one's part."""
    model = visible_model(request, slug)
    if model.state != Model.State.PUBLISHED:
        raise PermissionDenied("Only a published model can be merged.")
    same = Model.objects.published().filter(base_model=model.base_model).exclude(pk=model.pk)
    others = same.select_related("owner", "run", "base_model").order_by("-published_at")
    form = MergeForm(posted(request), models=[model, *others[:SHOWN]], first=model)
    if request.method == "POST" and form.is_valid():
        try:
            run = merging.start_merge(
                name=form.cleaned_data["name"],
                goal=form.cleaned_data["goal"],
                parents=form.parents,
                acting_user=person(request),
                at=now(),
            )
        except RunError as error:
            form.add_error(None, error.message)
        else:
            return redirect("modelfactory:run", run.pk)
    parameters = current_parameters()
    context = {
        "form": form,
        "model": model,
        "alone": len(form.models) < 2,
        "royalty": percent(parameters.governed("royalty.model_bps")),
        "depth": parameters.governed("royalty.depth"),
    }
    status = 422 if form.errors else 200
    return render(request, "modelfactory/merge.html", context, status=status)


@login_required
@require_POST
def from_scratch(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Let a draft start without its parent."""
    run = draft(request, run_id)
    drafts.set_parent(run=run, parent=None, acting_user=person(request))
    return redirect("modelfactory:wizard-review", run.pk)
