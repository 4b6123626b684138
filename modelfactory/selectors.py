"""Reading: records of a model, what a run would cost, whom it would credit, where it stands."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import Count
from django.urls import reverse

from accounts.models import User, WorkerHeartbeat
from accounts.workers import live_workers
from datanets import clusters
from datanets.models import Record, VersionRecord
from modelfactory import checks, parents
from modelfactory.errors import RunError
from modelfactory.licences import Verdict
from modelfactory.licences import check as check_licences
from modelfactory.lineage import lineage_runs, lineage_versions
from modelfactory.models import BaseModel, Model, Run, RunEvent
from modelfactory.training.data import BLOCKING, MINIMUM_RECORDS, Finding, Problem
from modelfactory.training.estimate import Estimate, Shape, estimate

SHOWN_SAMPLES = 3
# A record that says nearly what another one of the run says, which came first.
REPEATED = "REPEATED"
NOT_TRAINED = {str(problem) for problem in BLOCKING} | {"WITHDRAWN", REPEATED}


class TrainingRecord(NamedTuple):
    record_id: UUID
    contributor_id: UUID
    datanet_id: UUID
    content_hash: str
    payload: dict[str, Any]


def training_records(model_id: UUID | str) -> Iterator[TrainingRecord]:
    """Exactly the records that the model was trained on, once each, in the run's order; then
    those of the models that it was made from, which are in its weights as well."""
    seen: set[str] = set()
    for run in lineage_runs(Run.objects.get(model__pk=model_id)):
        yield from _trained_in(run, seen)


def _trained_in(run: Run, seen: set[str]) -> Iterator[TrainingRecord]:
    left_out = set(run.held_out)
    left_out |= {f["record"] for f in run.findings if f["problem"] in NOT_TRAINED}
    for run_version in run.run_versions.select_related("version"):
        entries = (
            VersionRecord.objects.filter(version=run_version.version)
            .order_by("position")
            .values_list(
                "record_id",
                "record__contributor_id",
                "record__datanet_id",
                "record__content_hash",
                "record__payload",
            )
        )
        for row in entries.iterator(chunk_size=2_000):
            if str(row[0]) not in left_out and str(row[0]) not in seen:
                seen.add(str(row[0]))
                yield TrainingRecord(*row)


def repeated_records(run: Run) -> dict[UUID, UUID]:
    """Records of the run's versions that repeat others of them, with those that came first."""
    ids = VersionRecord.objects.filter(version__run_versions__run=run).order_by("record_id")
    found = ids.values_list("record_id", flat=True).distinct()
    return clusters.repeated_among(list(found.iterator(chunk_size=10_000)))


@dataclass(frozen=True)
class Credit:
    """A contributor and how many of the run's records are theirs."""

    user: User
    records: int
    share: float


@dataclass(frozen=True)
class Review:
    """Everything that the last step of the wizard shows, and what forbids the start."""

    refusals: list[RunError]
    warnings: list[str]
    findings: list[Finding]
    checked: int
    records: int
    contributors: int
    credits: list[Credit]
    licence: Verdict
    estimate: Estimate | None
    device: str
    workers: int
    queue_position: int

    def to_json(self) -> dict[str, Any]:
        """What is kept with the run when it starts."""
        figures = self.estimate
        return {
            "records": self.records,
            "contributors": self.contributors,
            "device": self.device,
            "seconds_low": figures and figures.seconds_low,
            "seconds_high": figures and figures.seconds_high,
            "memory_bytes": figures and figures.memory_bytes,
            "steps": figures and figures.steps,
            "trainable_parameters": figures and figures.trainable_parameters,
            "index_seconds_low": figures and figures.index_seconds_low,
            "index_seconds_high": figures and figures.index_seconds_high,
            "states": figures and figures.states,
            "kept_bytes": figures and figures.kept_bytes,
        }


def review(run: Run, user: User, *, at: datetime) -> Review:
    """Check a draft as a whole. Reads at most `CHECKED_ROWS` records; the worker reads all."""
    versions = list(run.versions.select_related("datanet"))
    base = run.base_model
    workers = train_workers(at)
    device = workers[0].device if workers else "cpu"
    checked = checks.check_run(run, versions)
    records = sum(v.record_count for v in versions)
    figures = None
    if base is not None and checked.lengths:
        figures = estimate(
            shape=Shape.from_config(base.config, parameters=base.parameters),
            lengths=checks.scaled(checked.lengths, records_read(run)),
            recipe=run.parsed_recipe,
            device=device,
            tokens_per_second=measured_speed(base, device),
        )
    licence = check_licences(lineage_versions(run), base.licence if base else "")
    people, total = credited(run)
    return Review(
        refusals=_refusals(run, user, checked.usable, licence),
        warnings=_warnings(workers, licence, checked.findings),
        findings=checked.findings,
        checked=checked.rows,
        records=records,
        contributors=total,
        credits=people,
        licence=licence,
        estimate=figures,
        device=device,
        workers=len(workers),
        queue_position=queue_length() + 1,
    )


def may_have_price(model: Model) -> bool:
    """Whether the licences of all its records allow that somebody pays for it."""
    versions = lineage_versions(model.run)
    return check_licences(versions, model.base_model.licence).commercial


def records_read(run: Run) -> int:
    """Records of one epoch: a version's count times its weight."""
    return sum(rv.weight * rv.version.record_count for rv in run.run_versions.all())


def _refusals(run: Run, user: User, usable: int, licence: Verdict) -> list[RunError]:
    found = []
    wizard = {
        step: reverse(f"modelfactory:wizard-{step}", args=[run.pk])
        for step in ("data", "base", "settings")
    }
    versions = run.versions.all()
    allowed = run.versions.model.objects.usable_by(user).filter(pk__in=[v.pk for v in versions])
    if not versions:
        found.append(RunError("RECORDS", "Choose a version to train on.", url=wizard["data"]))
    elif allowed.count() != len(versions):
        found.append(
            RunError("VERSION", "You may not train on one of the versions.", url=wizard["data"])
        )
    elif usable < MINIMUM_RECORDS:
        found.append(_too_few(run, usable))
    if run.base_model is None or not run.base_model.is_ready:
        found.append(RunError("BASE", "Choose a base model that loads.", url=wizard["base"]))
    elif run.parsed_recipe.cutoff > run.base_model.context_length:
        found.append(
            RunError(
                "CUTOFF",
                f"The cutoff length is {run.parsed_recipe.cutoff}, but {run.base_model.name} reads "
                f"at most {run.base_model.context_length} tokens. Shorten it.",
                url=wizard["settings"],
            )
        )
    found += [RunError("LICENCE", said, url=wizard["data"]) for said in licence.refusals]
    found += parents.refusals(run)
    return found


def _too_few(run: Run, usable: int) -> RunError:
    names = ", ".join(sorted({v.datanet.name for v in run.versions.select_related("datanet")}))
    first = run.versions.select_related("datanet").first()
    return RunError(
        "RECORDS",
        f"{usable} usable records in {names} are too few: a run needs {MINIMUM_RECORDS} or more. "
        "Add records, have them accepted, publish a version, then choose that one.",
        url=first.datanet.get_absolute_url() if first else "",
    )


def _warnings(
    workers: list[WorkerHeartbeat], licence: Verdict, findings: list[Finding]
) -> list[str]:
    said = list(licence.warnings)
    if not workers:
        said.append("No training worker answers now. The run waits until one does.")
    cut = sum(f.problem == Problem.TOO_LONG for f in findings)
    if cut:
        said.append(f"{cut} records are longer than the cutoff length and will be cut.")
    bad = sum(f.problem in BLOCKING for f in findings)
    if bad:
        said.append(f"{bad} records cannot be used and will be left out.")
    return said


def credited(run: Run, *, limit: int = 20) -> tuple[list[Credit], int]:
    """Contributors of the run's records, most first, and how many there are."""
    counts = (
        VersionRecord.objects.filter(version__in=lineage_versions(run))
        .values("record__contributor")
        .annotate(records=Count("record", distinct=True))
        .order_by("-records", "record__contributor")
    )
    rows = list(counts)
    total = sum(row["records"] for row in rows) or 1
    users = User.objects.in_bulk([row["record__contributor"] for row in rows[:limit]])
    people = [
        Credit(users[row["record__contributor"]], row["records"], row["records"] / total)
        for row in rows[:limit]
    ]
    return people, len(rows)


def measured_speed(base: BaseModel, device: str) -> float | None:
    """Tokens a second in the newest finished run of this base on this kind of device."""
    result = (
        Run.objects.filter(
            base_model=base, device=device, state=Run.State.SUCCEEDED, kind=Run.Kind.TRAIN
        )
        .order_by("-finished_at")
        .values_list("result", flat=True)
        .first()
    )
    return (
        float(result["tokens_per_second"]) if result and result.get("tokens_per_second") else None
    )


def train_workers(at: datetime) -> list[WorkerHeartbeat]:
    return list(live_workers(queue="train", at=at))


def queue_length() -> int:
    return Run.objects.filter(state__in=[Run.State.QUEUED, Run.State.RUNNING]).count()


def queue_position(run: Run) -> int:
    """Runs that come before this one, itself counted; 0 where it does not wait."""
    if run.state != Run.State.QUEUED:
        return 0
    before = Run.objects.filter(state=Run.State.QUEUED, queued_at__lt=run.queued_at).count()
    return before + Run.objects.filter(state=Run.State.RUNNING).count() + 1


def curve(run: Run) -> dict[str, list[list[float]]]:
    """[step, loss] of training and evaluation. After a resume the later event of a step counts."""
    points: dict[str, dict[int, float]] = {"PROGRESS": {}, "EVALUATION": {}}
    events = RunEvent.objects.filter(run=run, kind__in=list(points)).order_by("sequence")
    for kind, step, data in events.values_list("kind", "step", "data"):
        points[kind][step] = data["loss"]
    return {
        "training": [[step, loss] for step, loss in sorted(points["PROGRESS"].items())],
        "evaluation": [[step, loss] for step, loss in sorted(points["EVALUATION"].items())],
    }


def latest_figures(run: Run) -> dict[str, Any]:
    """The newest PROGRESS event's data: loss, tokens/s, memory, ETA."""
    event = RunEvent.objects.filter(run=run, kind="PROGRESS").order_by("-sequence").first()
    return event.data if event else {}


def contributors_of(model: Model) -> tuple[list[Credit], int]:
    return credited(model.run)


def samples_of(model: Model, user: Any) -> list[dict[str, Any]]:
    """The first held-out questions and answers whose records this reader may see now."""
    if model.state == Model.State.TAKEN_DOWN:
        return []
    samples = model.evaluation.get("answers", {}).get("samples", [])
    records = Record.objects.visible_to(user).exclude(pk__in=Record.objects.withheld().values("pk"))
    readable = records.filter(pk__in=[sample["record"] for sample in samples])
    seen = {str(pk) for pk in readable.values_list("pk", flat=True)}
    return [sample for sample in samples if sample["record"] in seen][:SHOWN_SAMPLES]
