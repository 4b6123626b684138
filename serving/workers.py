"""The generate worker: one engine per base in the process, one thread per request.

Imported by tasks alone: this module brings torch. The engine batches what the threads ask for; a
watcher renews the leases of all of them and looks for cancelled ones.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils import timezone

from accounts import leases
from accounts.ids import uuid7
from modelfactory.models import BaseModel, Model
from modelfactory.training.devices import choose_device
from modelfactory.workers import materialise_adapter
from serving import carrying, logprobs, merges, pinning, streams
from serving.engine.engine import Engine
from serving.engine.names import adapter_name
from serving.engine.types import EngineError, Finish, Request
from serving.giving_way import GivingWay
from serving.models import Completion, Deployment
from serving.reporting import Reporter
from serving.services import deployments
from serving.services.running import Answer
from serving.turns import Turns, Waker
from serving.watching import Watched

logger = logging.getLogger(__name__)

MAX_ACTIVE = int(os.environ.get("ENGINE_MAX_ACTIVE", "16"))
THREADS = int(os.environ.get("ENGINE_THREADS", "1"))
INT8 = os.environ.get("ENGINE_INT8", "0") == "1"
GRAPHS = os.environ.get("ENGINE_CUDA_GRAPHS", "1") == "1"
# Cores that the engine keeps to itself where the rest of the process is bound to others.
CPUS = frozenset(int(one) for one in os.environ.get("ENGINE_CPUS", "").split(",") if one.strip())

SWITCH_SECONDS = 0.001
# Between two pieces of an answer, for each other one that is written: 250 pieces a second or less,
# whatever the engine gives. With 20 answers a piece comes every 76 ms.
PIECE_SECONDS = 0.004
LONGEST_PIECE_SECONDS = 0.12
# Places beside those that one key may have, so that another's request begins at once.
RESERVED = max(1, MAX_ACTIVE // 4)

_engines: dict[str, Engine] = {}
_engines_lock = threading.Lock()
_reporter = Reporter(
    leases.worker_name(),
    lambda: dict(_engines),
    lambda base, engine: pinning.keep(engine, base, ensure_adapter, at=timezone.now()),
)
_turns = Turns(most=MAX_ACTIVE)
_way = GivingWay(_turns, lambda: list(_engines.values()))
_waker = Waker(_turns, lambda: list(_engines))


def engine_for(base: BaseModel) -> Engine:
    """The process's engine of this base, loaded by the first who needs it."""
    with _engines_lock:
        engine = _engines.get(base.slug)
        if engine is None:
            # A thread that waits for its turn, such as the one with a first token, waits for 1 ms
            # behind each busy one instead of 5.
            sys.setswitchinterval(SWITCH_SECONDS)
            device, dtype = choose_device()
            started = time.monotonic()
            engine = Engine(
                base.path,
                device=device,
                dtype=dtype,
                threads=THREADS,
                max_active=MAX_ACTIVE + RESERVED,
                max_context=base.context_length,
                base_sha256=base.weights_sha256,
                # What was packed outlives the process; another base's adapters are other blobs.
                adapter_folder=settings.DATA_DIR / "adapters" / base.weights_sha256[:32],
                cpus=CPUS,
                int8=INT8,
                graphs=GRAPHS,
            )
            _engines[base.slug] = engine
            _reporter.start()
            _waker.start()
            if device == "cpu":
                _way.start()
            logger.info(
                "engine for %s (%s) on %s (%s), %d threads, loaded in %.1f s",
                base.slug,
                engine.backend.kind,
                device,
                dtype,
                THREADS,
                time.monotonic() - started,
            )
        return engine


def close_engines() -> None:
    with _engines_lock:
        for engine in _engines.values():
            engine.close()
        _engines.clear()


def load_deployment(deployment_id: UUID) -> None:
    """Load what a deployment needs, then say that it is live, or why it is not."""
    owner = f"{leases.worker_name()}:{uuid7()}"
    deployment = deployments.claim_loading(
        deployment_id=deployment_id, owner=owner, at=timezone.now()
    )
    if deployment is None:
        return
    try:
        with carrying.watcher.watch(Watched(Deployment, deployment_id, owner)):
            ensure_adapter(engine_for(deployment.base_model), deployment.model)
    except (EngineError, OSError, ValueError) as error:
        logger.warning("deployment %s refused: %s", deployment.name, error)
        deployments.refuse(deployment_id=deployment_id, reason=str(error), at=timezone.now())
    else:
        deployments.mark_live(deployment_id=deployment_id, at=timezone.now())


def keep_pins(base_id: UUID) -> None:
    """Have in memory what is pinned of a base, at once; the reporter does so at each report."""
    base = BaseModel.objects.get(pk=base_id)
    pinning.keep(engine_for(base), base.slug, ensure_adapter, at=timezone.now())


def ensure_adapter(engine: Engine, model: Model | None) -> str | None:
    """Have the model's adapter in the engine; returns its name there, None for the base.

    Raises EngineError, also where the adapter's files are gone.
    """
    if model is None:
        return None
    name = adapter_name(model.adapter_sha256, model.adapter_config)
    with tempfile.TemporaryDirectory(prefix="adapter-") as folder:
        try:
            engine.ensure_adapter(name, lambda: materialise_adapter(model.pk, Path(folder)))
        except OSError as error:
            logger.exception("the adapter of %s cannot be read", model.slug)
            raise EngineError(
                f"The files of the adapter {model.name} cannot be read on the server. Nothing was "
                "charged. Ask another model, or tell its owner."
            ) from error
    # Until it is asked by the name of its deployment.
    _reporter.names.setdefault(name, model.slug)
    return name


def ensure_merged(engine: Engine, merge: dict[str, Any]) -> str:
    """Have a completion's merge in the engine; returns its name there. Raises EngineError."""
    models = Model.objects.in_bulk([UUID(one["model"]) for one in merge["parents"]])
    names = {pk: ensure_adapter(engine, model) or "" for pk, model in models.items()}
    return engine.ensure_merged(merges.of_engine(merge, names))


def _adapter_of(completion: Completion, engine: Engine) -> str | None:
    if completion.merge is None:
        return ensure_adapter(engine, completion.deployment.model)
    return ensure_merged(engine, completion.merge)


def run_completion(completion_id: UUID) -> None:
    """Answer with this process's engine: this completion, or whatever is next in turn."""
    carrying.carry_in_turn(completion_id, _generate, _turns, _way)


def _generate(completion: Completion, watched: Watched, writer: streams.Writer) -> Answer | None:
    """Run the request and show its tokens; None where the lease was lost."""
    engine = engine_for(completion.deployment.base_model)
    if completion.retrieval_tokens:
        # Brings a second model into the process, which those who retrieve nothing never need.
        from serving.retrieval import working

        working.put_records(completion, watched.owner)
    request = Request(
        request_id=str(completion.pk),
        input_ids=tuple(completion.prompt_ids),
        adapter=_adapter_of(completion, engine),
        max_tokens=completion.sampling["max_tokens"],
        temperature=completion.sampling["temperature"],
        top_p=completion.sampling["top_p"],
        seed=completion.sampling["seed"],
        stop=tuple(completion.sampling["stop"]),
        owner=str(completion.payer_id),
        deadline=time.monotonic() + (completion.deadline - timezone.now()).total_seconds(),
        **_more_sampling(completion.sampling),
    )
    if request.adapter is not None:
        _reporter.names[request.adapter] = completion.merge_title or completion.deployment.name
    ids: list[int] = []
    pieces: list[str] = []
    told: list[Any] = []
    finish = unseen = ""
    streams.close_idle_connection()
    watched.engine = engine
    shown = time.perf_counter()
    with engine.generate(request) as tokens:
        # While the first token is computed, not after it: its note takes a write to the disk.
        if tokens.is_about_to_begin() and not carrying.may_show(completion, watched.owner):
            return None
        for token in tokens:
            if token.id is not None:
                (_reporter.between if ids else _reporter.first_token).add(token.at - shown)
                shown = token.at
                ids.append(token.id)
            place = logprobs.place(token.logprob) if token.logprob else None
            if place is not None:
                told.append(place)
            if token.text or place is not None:
                pieces.append(token.text)
                unseen += token.text
            if token.finish_reason is not None:
                finish = token.finish_reason.value
            # What came while the last piece was written goes out as one, and the more answers are
            # written at a time the larger are the pieces: those who only begin must not wait for
            # a process that is busy with others' tokens. One answer alone shows each as it comes.
            if place is not None or (unseen and (finish or not tokens.has_more)):
                writer.text(unseen, place)
                unseen = ""
                _way.begun(completion.payer_id)
                if others := _turns.running - 1:
                    tokens.gather(min(PIECE_SECONDS * others, LONGEST_PIECE_SECONDS))
        prompt = [logprobs.place(one) for one in tokens.prompt_logprobs]
        return Answer(
            ids,
            "".join(pieces),
            finish or Finish.CANCELLED.value,
            cached_tokens=tokens.cached_tokens,
            logprobs=None if request.logprobs is None else {"prompt": prompt, "answer": told},
        )


def _more_sampling(kept: dict[str, Any]) -> dict[str, Any]:
    """What a completion of an earlier release does not have."""
    return {
        "top_k": kept.get("top_k", 0),
        "min_p": kept.get("min_p", 0.0),
        "presence_penalty": kept.get("presence_penalty", 0.0),
        "frequency_penalty": kept.get("frequency_penalty", 0.0),
        "repetition_penalty": kept.get("repetition_penalty", 1.0),
        "logit_bias": {int(token): bias for token, bias in kept.get("logit_bias", {}).items()},
        "logprobs": kept.get("logprobs"),
        "json_schema": kept.get("json_schema"),
        "prompt_logprobs": bool(kept.get("echo")) and kept.get("logprobs") is not None,
    }
