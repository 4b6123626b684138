"""Models: the list, the card, publication, and what can be taken away."""

import json
import zipfile
from io import BytesIO
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.blobs import read_bytes
from governance.selectors import current_parameters
from ledger.calldata import id_word
from modelfactory import cards, lineage, selectors, signing
from modelfactory.errors import BaseModelError, ModelError
from modelfactory.forms import PublishForm, RegisterBaseForm, StakersForm, StatementForm
from modelfactory.models import BaseModel, Model
from modelfactory.services import bases as base_services
from modelfactory.services import publishing
from modelfactory.views.common import now, own_model, person, posted, visible_model

PAGE = 24


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    models = Model.objects.visible_to(request.user).select_related("owner", "base_model")
    words = request.GET.get("q", "").strip()[:100]
    if words:
        models = models.filter(name__icontains=words) | models.filter(summary__icontains=words)
    models = models.exclude(state=Model.State.TAKEN_DOWN)
    context = {
        "page": Paginator(models, PAGE).get_page(request.GET.get("page")),
        "words": words,
        "bases": BaseModel.objects.ready(),
    }
    return render(request, "modelfactory/models.html", context)


@require_safe
def detail(request: HttpRequest, slug: str) -> HttpResponse:
    model = visible_model(request, slug)
    people, total = selectors.contributors_of(model)
    context = {
        "model": model,
        "run": model.run,
        "versions": _learnt(model),
        "ancestry": lineage.ancestry(model, current_parameters()),
        "descendants": Model.objects.visible_to(request.user)
        .filter(run__parents__model=model)
        .select_related("owner"),
        "people": people,
        "people_total": total,
        "samples": selectors.samples_of(model, request.user),
        "signature_holds": signing.verify(model.manifest),
        "is_owner": model.owner_id == request.user.pk,
        "stake_pool": f"0x{id_word(model.pk).hex()}",
        "stakers_percent": f"{model.stakers_bps / 100:g}",
        "is_withheld": model.state == Model.State.TAKEN_DOWN,
    }
    return render(request, "modelfactory/model.html", context)


def _learnt(model: Model) -> list[dict[str, Any]]:
    """The versions in its weights: its run's own, then those of the models above."""
    own = {rv.version_id: rv.weight for rv in model.run.run_versions.all()}
    return [
        {
            "version": version,
            "weight": own.get(version.pk, 1),
            "is_inherited": version.pk not in own,
        }
        for version in lineage.lineage_versions(model.run)
    ]


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def publish(request: HttpRequest, slug: str) -> HttpResponse:
    model = own_model(request, slug)
    initial = {
        "summary": model.summary,
        "input_price": model.input_price,
        "output_price": model.output_price,
    }
    form = PublishForm(posted(request), initial=initial)
    if request.method == "POST" and form.is_valid():
        try:
            publishing.publish_model(
                model=model, **form.cleaned_data, acting_user=person(request), at=now()
            )
        except ModelError as error:
            form.add_error(None, error.message)
        else:
            return redirect(model)
    return render(request, "modelfactory/publish.html", {"form": form, "model": model})


@login_required
@require_POST
def set_stakers_part(request: HttpRequest, slug: str) -> HttpResponse:
    """The part of the owner's that goes to those who stake on the model."""
    model = own_model(request, slug)
    form = StakersForm(request.POST)
    if not form.is_valid():
        messages.error(request, "Write a part between 0 and 100 %, for example 12.5.")
        return redirect(model)
    try:
        publishing.set_stakers_part(
            model=model,
            basis_points=form.cleaned_data["percent"],
            acting_user=person(request),
            at=now(),
        )
    except ModelError as error:
        messages.error(request, error.message)
    else:
        messages.success(request, "It holds for what is asked from now on.")
    return redirect(model)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def take_down(request: HttpRequest, slug: str) -> HttpResponse:
    if not person(request).is_staff:
        raise PermissionDenied("Only staff take a model down.")
    model = visible_model(request, slug)
    form = StatementForm(posted(request))
    if request.method == "POST" and form.is_valid():
        publishing.take_down_model(
            model=model, **form.cleaned_data, acting_user=person(request), at=now()
        )
        return redirect(model)
    return render(request, "modelfactory/take_down.html", {"form": form, "model": model})


@require_safe
def manifest(request: HttpRequest, slug: str) -> JsonResponse:
    """The signed manifest; it stays readable after a takedown, as the lineage of receipts."""
    model = visible_model(request, slug)
    response = JsonResponse(model.manifest, json_dumps_params={"indent": 1})
    response["Content-Disposition"] = f'attachment; filename="{model.slug}.manifest.json"'
    return response


@require_safe
def adapter(request: HttpRequest, slug: str) -> HttpResponse:
    """The adapter as PEFT reads it, in a zip with card and manifest; not after a takedown."""
    model = get_object_or_404(Model.objects.visible_to(request.user), slug=slug)
    if model.state == Model.State.TAKEN_DOWN:
        raise PermissionDenied("This model was taken down, so its adapter is not given out.")
    response = HttpResponse(_zip(model), content_type="application/zip")
    response["Content-Disposition"] = f'attachment; filename="{model.slug}.zip"'
    return response


def _zip(model: Model) -> bytes:
    packed = BytesIO()
    files: dict[str, Any] = {
        "adapter_model.safetensors": read_bytes(model.adapter_sha256),
        "adapter_config.json": json.dumps(model.adapter_config, indent=1, sort_keys=True),
        "manifest.json": json.dumps(model.manifest, indent=1, sort_keys=True),
        "README.md": cards.model_card(model),
    }
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(f"{model.slug}/{name}"), content)
    return packed.getvalue()


@require_safe
def bases(request: HttpRequest) -> HttpResponse:
    return render(request, "modelfactory/bases.html", {"bases": BaseModel.objects.all()})


@require_safe
def base(request: HttpRequest, slug: str) -> HttpResponse:
    found = get_object_or_404(BaseModel, slug=slug)
    models = Model.objects.visible_to(request.user).filter(base_model=found)
    context = {"base": found, "models": models.exclude(state=Model.State.TAKEN_DOWN)[:20]}
    return render(request, "modelfactory/base.html", context)


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def register_base(request: HttpRequest) -> HttpResponse:
    if not person(request).is_staff:
        raise PermissionDenied("Only staff register base models.")
    form = RegisterBaseForm(posted(request))
    if request.method == "POST" and form.is_valid():
        try:
            made = base_services.register_base(
                **form.cleaned_data, acting_user=person(request), at=now()
            )
        except BaseModelError as error:
            form.add_error("origin" if error.code == "ORIGIN" else "name", error.message)
        else:
            return redirect(made)
    return render(request, "modelfactory/register_base.html", {"form": form})


@login_required
@require_http_methods(["POST"])
def check_base(request: HttpRequest, slug: str) -> HttpResponse:
    found = get_object_or_404(BaseModel, slug=slug)
    try:
        base_services.check_again(base=found, acting_user=person(request), at=now())
    except BaseModelError as error:
        messages.error(request, error.message)
    return redirect(found)
