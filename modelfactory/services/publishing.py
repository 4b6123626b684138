"""From a finished training to a model, and from a model to one that others may use."""

import json
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.utils.text import slugify

from accounts import audit, events, leases
from accounts.blobs import put_bytes, put_file
from accounts.models import User
from accounts.notifications import notify
from attribution.translog import canonical
from modelfactory import selectors, signing
from modelfactory.errors import ModelError
from modelfactory.licences import check as check_licences
from modelfactory.limits import HIGHEST_PRICE, INPUT_PRICE, OUTPUT_PRICE, SHOWN_FINDINGS
from modelfactory.lineage import lineage_versions
from modelfactory.models import Model, Run
from modelfactory.training.job import kept_folder

WHOLE = 10_000  # basis points
CREATED = "modelfactory.model_created"
SIGNED_FIGURES = ("loss_before", "loss_after", "held_out_records", "held_out_tokens")


def complete(*, run: Run, folder: Path, owner: str, at: datetime) -> Model | None:
    """RUNNING → SUCCEEDED with a model, unless the lease was lost meanwhile (None)."""
    result = json.loads((folder / "result.json").read_text("utf-8"))
    split = json.loads((folder / "split.json").read_text("utf-8"))
    with transaction.atomic():
        Run.objects.select_for_update().get(pk=run.pk)
        if not leases.finish(Run, run.pk, owner=owner, to_state=Run.State.SUCCEEDED):
            return None
        run.refresh_from_db()
        run.result = result | _stored_checkpoints(folder, result)
        # The records that measured a merge are its ancestors' own, which say what they held out.
        run.held_out = [] if run.kind == Run.Kind.MERGE else split["held_out"]
        run.findings = run.findings + _kept(split["findings"])
        run.finished_at, run.cancel_requested = at, False
        run.save(
            update_fields=["result", "held_out", "findings", "finished_at", "cancel_requested"]
        )
        model = _create(run, folder / "adapter", split, at)
        events.emit(CREATED, {"model_id": str(model.pk)}, at=at)
        audit.record(
            actor=None,
            verb="model.created",
            target=model,
            data={"run": str(run.pk), "adapter": model.adapter_sha256},
            at=at,
        )
        notify(
            user=run.builder,
            kind="modelfactory.model_created",
            title=f"The run {run.name} made a model",
            body=_loss_sentence(result["evaluation"]),
            url=model.get_absolute_url(),
            at=at,
        )
    return model


def publish_model(
    *,
    model: Model,
    input_price: int | None = None,
    output_price: int | None = None,
    summary: str | None = None,
    acting_user: User,
    at: datetime,
) -> Model:
    """DRAFT → PUBLISHED, or new prices and summary of a published one. Wei per token.

    Raises PermissionDenied, ModelError (STATE, PRICE, LICENCE).
    """
    _require_owner(model, acting_user)
    prices = (
        model.input_price if input_price is None else input_price,
        model.output_price if output_price is None else output_price,
    )
    _check_prices(model, prices)
    with transaction.atomic():
        model = Model.objects.select_for_update().get(pk=model.pk)
        if model.state == Model.State.TAKEN_DOWN:
            raise ModelError("STATE", "This model was taken down, so it cannot be published.")
        is_new = model.state == Model.State.DRAFT
        model.state = Model.State.PUBLISHED
        model.input_price, model.output_price = prices
        model.summary = model.summary if summary is None else summary[:2_000]
        model.published_at = model.published_at or at
        model.save(
            update_fields=["state", "input_price", "output_price", "summary", "published_at"]
        )
        audit.record(
            actor=acting_user,
            verb="model.published" if is_new else "model.priced",
            target=model,
            data={"input_price": str(prices[0]), "output_price": str(prices[1])},
            at=at,
        )
        if is_new:
            events.emit("modelfactory.model_published", {"model_id": str(model.pk)}, at=at)
    return model


def set_stakers_part(*, model: Model, basis_points: int, acting_user: User, at: datetime) -> Model:
    """Give that part of what the owner keeps of later fees to those who staked on the model.

    Fees that are held already keep the part of their hold. Raises PermissionDenied, ModelError
    (PART, STATE).
    """
    _require_owner(model, acting_user)
    if isinstance(basis_points, bool) or not isinstance(basis_points, int):
        raise ModelError("PART", "A part is a whole number of basis points.")
    if not 0 <= basis_points <= WHOLE:
        raise ModelError("PART", "The part of the stakers is between 0 and 100 %.")
    with transaction.atomic():
        model = Model.objects.select_for_update().get(pk=model.pk)
        if model.state == Model.State.TAKEN_DOWN:
            raise ModelError("STATE", "This model was taken down, so it earns nothing to share.")
        before, model.stakers_bps = model.stakers_bps, basis_points
        model.save(update_fields=["stakers_bps"])
        audit.record(
            actor=acting_user,
            verb="model.stakers_part_set",
            target=model,
            data={"before": before, "basis_points": basis_points},
            at=at,
        )
    return model


def take_down_model(*, model: Model, statement: str, acting_user: User, at: datetime) -> Model:
    """Staff stop a model with a statement that everyone reads.

    Raises PermissionDenied, ModelError (STATEMENT).
    """
    if not acting_user.is_staff:
        raise PermissionDenied("Only staff take a model down.")
    if not statement.strip():
        raise ModelError("STATEMENT", "Say why, for the owner and for everyone who used it.")
    with transaction.atomic():
        model = Model.objects.select_for_update().get(pk=model.pk)
        model.state, model.statement = Model.State.TAKEN_DOWN, statement.strip()
        model.save(update_fields=["state", "statement"])
        audit.record(
            actor=acting_user,
            verb="model.taken_down",
            target=model,
            data={"statement": model.statement},
            at=at,
        )
        events.emit("modelfactory.model_taken_down", {"model_id": str(model.pk)}, at=at)
        notify(
            user=model.owner,
            kind="modelfactory.model_taken_down",
            title=f"Your model {model.name} was taken down",
            body=model.statement,
            url=model.get_absolute_url(),
            at=at,
        )
    return model


def _kept(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All that left a record out, and the first of those that only cut one."""
    cut = [f for f in findings if f["problem"] == "TOO_LONG"]
    return [f for f in findings if f["problem"] != "TOO_LONG"] + cut[:SHOWN_FINDINGS]


def _stored_checkpoints(folder: Path, result: dict[str, Any]) -> dict[str, Any]:
    """The run's states for attribution with the hashes of their files, the last one its adapter;
    nothing where the recipe asked for none."""
    states = result.get("checkpoints", [])
    if not states:
        return {}
    folders = [kept_folder(folder, number) for number in range(len(states) - 1)]
    blobs = [
        put_file(one / "adapter_model.safetensors", "application/octet-stream")
        for one in (*folders, folder / "adapter")
    ]
    return {
        "checkpoints": [
            state | {"adapter_sha256": blob.pk} for state, blob in zip(states, blobs, strict=True)
        ]
    }


def _create(run: Run, adapter: Path, split: dict[str, Any], at: datetime) -> Model:
    assert run.base_model is not None
    blob = put_file(adapter / "adapter_model.safetensors", "application/octet-stream")
    config = json.loads((adapter / "adapter_config.json").read_text("utf-8"))
    verdict = check_licences(lineage_versions(run), run.base_model.licence)
    slug = _free_slug(f"{run.builder.handle}-{slugify(run.name) or 'model'}")
    manifest = _manifest(run, slug, blob.pk, blob.size, config, split, verdict.licence, at)
    envelope, digest = signing.sign(manifest)
    put_bytes(canonical.dumps(manifest), "application/json")
    price = verdict.commercial
    return Model.objects.create(
        slug=slug,
        name=run.name,
        summary=run.goal,
        run=run,
        owner=run.builder,
        base_model=run.base_model,
        adapter_sha256=blob.pk,
        adapter_bytes=blob.size,
        adapter_config=config,
        manifest=envelope,
        manifest_sha256=digest,
        evaluation=run.result["evaluation"],
        licence=verdict.licence,
        input_price=INPUT_PRICE if price else 0,
        output_price=OUTPUT_PRICE if price else 0,
        created_at=at,
    )


def _manifest(
    run: Run,
    slug: str,
    adapter_sha256: str,
    adapter_bytes: int,
    adapter_config: dict[str, Any],
    split: dict[str, Any],
    licence: str,
    at: datetime,
) -> dict[str, Any]:
    """Everything that the model was made of, in canonical JSON's types."""
    base = run.base_model
    assert base is not None
    evaluation = {name: run.result["evaluation"][name] for name in SIGNED_FIGURES}
    made_from = _parents(run)
    return {
        **({"parents": made_from} if made_from else {}),
        "kind": "openledger.model/1",
        "model": slug,
        "run": str(run.pk),
        "builder": str(run.builder_id),
        "created_at": at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "licence": licence,
        "base": {
            "slug": base.slug,
            "origin": base.origin if base.source == base.Source.HUB else base.slug,
            "weights_sha256": base.weights_sha256,
            "licence": base.licence,
        },
        "versions": [
            {
                "datanet": str(rv.version.datanet_id),
                "number": rv.version.number,
                "root": rv.version.root,
                "manifest_sha256": rv.version.manifest_id,
                "records": rv.version.record_count,
                "weight": rv.weight,
            }
            for rv in run.run_versions.select_related("version")
        ],
        "recipe": run.recipe,
        "training": {
            "device": run.device,
            "dtype": run.dtype,
            "steps": run.result["steps"],
            "tokens": run.result["tokens"],
            "held_out": len(split["held_out"]),
            "held_out_sha256": sha256(canonical.dumps(sorted(split["held_out"]))).hexdigest(),
            **_repeated(run),
            **_checkpoints(run),
        },
        "evaluation": evaluation,
        "adapter": {
            "sha256": adapter_sha256,
            "bytes": adapter_bytes,
            "config_sha256": sha256(canonical.dumps(adapter_config)).hexdigest(),
        },
    }


def _repeated(run: Run) -> dict[str, Any]:
    """How many records were left out since they repeat others, and which, by hash: the list of
    [record, the one that came first] in the order of ids. Nothing where there was none."""
    pairs = sorted(
        [found["record"], found["first"]]
        for found in run.findings
        if found["problem"] == selectors.REPEATED
    )
    if not pairs:
        return {}
    return {
        "repeated": len(pairs),
        "repeated_sha256": sha256(canonical.dumps(pairs)).hexdigest(),
    }


def _checkpoints(run: Run) -> dict[str, Any]:
    """The states that were kept for attribution; nothing where there is the adapter alone."""
    states = run.result.get("checkpoints", [])
    named = [{name: state[name] for name in ("step", "adapter_sha256")} for state in states]
    return {"checkpoints": named} if named else {}


def _parents(run: Run) -> list[dict[str, Any]]:
    """The models that it started from, with the adapters that were loaded; weights in basis
    points. A merge has more than one."""
    return [
        {
            "model": one.model.slug,
            "id": str(one.model_id),
            "manifest_sha256": one.model.manifest_sha256,
            "adapter_sha256": one.model.adapter_sha256,
            "weight": one.weight,
        }
        for one in run.parents.select_related("model")
    ]


def _free_slug(wish: str) -> str:
    stem, slug, number = wish[:180], wish[:180], 1
    while Model.objects.filter(slug=slug).exists():
        number += 1
        slug = f"{stem}-{number}"
    return slug


def _check_prices(model: Model, prices: tuple[int, int]) -> None:
    if not all(0 <= price <= HIGHEST_PRICE for price in prices):
        raise ModelError("PRICE", "A price is between 0 and 1 OPEN a token.")
    if any(prices) and not selectors.may_have_price(model):
        raise ModelError(
            "LICENCE", "Its records may not be used commercially, so the model has no price."
        )


def _require_owner(model: Model, acting_user: User) -> None:
    if model.owner_id != acting_user.pk:
        raise PermissionDenied("Only the owner of a model publishes and prices it.")


def _loss_sentence(evaluation: dict[str, Any]) -> str:
    return (
        f"The loss on {evaluation['held_out_records']} held-out records went from "
        f"{evaluation['loss_before']:.3f} to {evaluation['loss_after']:.3f}."
    )
