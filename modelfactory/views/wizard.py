"""The wizard: five steps, each with an address, kept as a draft run between them."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from datanets.models import Version
from governance.selectors import current_parameters
from governance.words import percent
from modelfactory import checks, selectors
from modelfactory.errors import RunError
from modelfactory.forms import BaseForm, DataForm, GoalForm, RecipeForm
from modelfactory.models import Model, Run
from modelfactory.services import drafts, runs
from modelfactory.training.prompts import PromptError, load_tokenizer
from modelfactory.training.recipe import RecipeError
from modelfactory.views.common import draft, now, person, posted

STEPS = (
    ("goal", "Goal"),
    ("data", "Data"),
    ("base", "Base model"),
    ("settings", "Settings"),
    ("review", "Review"),
)


def page(request: HttpRequest, run: Run, step: str, context: dict[str, object]) -> HttpResponse:
    context |= {"run": run, "steps": STEPS, "current": step}
    return render(request, f"modelfactory/wizard/{step}.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def begin(request: HttpRequest) -> HttpResponse:
    """A new draft; `?version=` of a Datanet's page chooses its data at once, `?parent=` of a
    model's page the adapter that it starts from."""
    form = GoalForm(posted(request))
    if request.method == "POST" and form.is_valid():
        acting_user = person(request)
        run = drafts.create_draft(**form.cleaned_data, acting_user=acting_user, at=now())
        version = _wished_version(request)
        if version is not None:
            drafts.set_data(run=run, versions=[version], acting_user=acting_user)
        parent = _wished_parent(request)
        if parent is not None:
            drafts.set_parent(run=run, parent=parent, acting_user=acting_user)
        return redirect("modelfactory:wizard-data", run.pk)
    open_drafts = Run.objects.owned_by(request.user).filter(state=Run.State.DRAFT)[:10]
    context = {
        "form": form,
        "drafts": open_drafts,
        "version": _wished_version(request),
        "parent": _wished_parent(request),
    }
    return render(
        request, "modelfactory/wizard/begin.html", context | {"steps": STEPS, "current": "goal"}
    )


def _wished_version(request: HttpRequest) -> Version | None:
    try:
        wished = UUID(request.GET.get("version", ""))
    except ValueError:
        return None
    return Version.objects.usable_by(request.user).filter(pk=wished).first()


def _wished_parent(request: HttpRequest) -> Model | None:
    return Model.objects.published().filter(slug=request.GET.get("parent", "")).first()


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def goal(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = draft(request, run_id)
    form = GoalForm(posted(request), initial={"name": run.name, "goal": run.goal})
    if request.method == "POST" and form.is_valid():
        drafts.set_goal(run=run, **form.cleaned_data, acting_user=person(request))
        return redirect("modelfactory:wizard-data", run.pk)
    return page(request, run, "goal", {"form": form})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def data(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = draft(request, run_id)
    form = DataForm(posted(request), user=request.user)
    if request.method == "POST" and form.is_valid():
        drafts.set_data(
            run=run, versions=form.cleaned_data["weighted"], acting_user=person(request)
        )
        return redirect("modelfactory:wizard-base", run.pk)
    chosen = {rv.version_id: rv.weight for rv in run.run_versions.all()}
    if request.method == "POST":
        ticked = set(request.POST.getlist("versions"))
        chosen = {v.pk: 1 for v in form.fields["versions"].queryset if str(v.pk) in ticked}  # type: ignore[attr-defined]
    versions = form.fields["versions"].queryset.order_by("datanet__name", "-number")  # type: ignore[attr-defined]
    rows = [(version, chosen.get(version.pk)) for version in versions]
    return page(request, run, "data", {"form": form, "rows": rows})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def base(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = draft(request, run_id)
    first = BaseForm().fields["base_model"].queryset.first()  # type: ignore[attr-defined]
    form = BaseForm(posted(request), initial={"base_model": run.base_model or first})
    if request.method == "POST" and form.is_valid():
        drafts.set_base(run=run, **form.cleaned_data, acting_user=person(request))
        return redirect("modelfactory:wizard-settings", run.pk)
    return page(request, run, "base", {"form": form})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def settings(request: HttpRequest, run_id: UUID) -> HttpResponse:
    """Simple or advanced, by `?advanced=1`; what is not shown keeps its value."""
    run = draft(request, run_id)
    simple = request.GET.get("advanced") != "1"
    form = RecipeForm(posted(request), recipe=run.parsed_recipe, simple=simple)
    if request.method == "POST" and form.is_valid():
        drafts.set_recipe(run=run, recipe=form.parsed, acting_user=person(request))
        return redirect("modelfactory:wizard-review", run.pk)
    return page(request, run, "settings", {"form": form, "simple": simple})


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def review(request: HttpRequest, run_id: UUID) -> HttpResponse:
    run = draft(request, run_id)
    if request.method == "POST":
        try:
            started = runs.start_run(run=run, acting_user=person(request), at=now())
        except (RunError, RecipeError) as error:
            messages.error(request, str(error))
            return redirect("modelfactory:wizard-review", run.pk)
        return redirect("modelfactory:run", started.pk)
    parameters = current_parameters()
    context = {
        "review": selectors.review(run, person(request), at=now()),
        "batch": _batch(run),
        "parents": run.parents.select_related("model__owner"),
        "royalty": percent(parameters.governed("royalty.model_bps")),
    }
    return page(request, run, "review", context)


def _batch(run: Run) -> list[list[checks.Piece]]:
    """The first batch as the model sees it; nothing where it cannot be rendered."""
    if run.base_model is None or not run.base_model.is_ready:
        return []
    try:
        return checks.first_batch(run, load_tokenizer(run.base_model.folder))
    except PromptError:
        return []


@login_required
@require_POST
def delete(request: HttpRequest, run_id: UUID) -> HttpResponse:
    drafts.delete_draft(run=draft(request, run_id), acting_user=person(request), at=now())
    messages.info(request, "The draft is deleted.")
    return redirect("modelfactory:runs")
