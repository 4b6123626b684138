"""Steps 5 and 6: paid answers over HTTP, each traced to the records that influenced it."""

import time
from typing import Any

import httpx
from django.conf import settings
from django.utils import timezone

from accounts.api_keys import create_key
from attribution.models import ContributorShare, Receipt
from config.tour.journey import Journey, StepFailed
from datanets.models import Record
from ledger.selectors import balance
from ledger.services.chain import request_faucet
from ledger.services.deposits import grant_without_chain
from modelfactory.models import Model
from serving.models import Completion, Deployment, DeploymentState
from serving.services.deployments import deploy

DEPOSIT = 5 * 10**18
QUESTIONS = 3
ANSWER_TOKENS = 48


def ask(journey: Journey) -> dict[str, Any]:
    """Deposit OPEN, deploy the model, and ask it questions of its own field with an API key."""
    builder = journey.people["builder"]
    deposited = _deposit(journey)
    journey.deployment = deployment = _deployed(journey, journey.need("model"))
    _, journey.api_key = create_key(
        user=builder, name="Tour", acting_user=builder, at=timezone.now()
    )
    records = Record.objects.filter(datanet=journey.need("datanet"), state="ACCEPTED")
    spoken, seconds = 0, 0.0
    for record in records.order_by("content_hash")[:QUESTIONS]:
        started = time.monotonic()
        reply = complete(journey, _question(record.payload))
        seconds += time.monotonic() - started
        spoken += reply["usage"]["completion_tokens"]
    completions = Completion.objects.filter(pk__in=journey.completions)
    return {
        "deposited_wei": str(deposited),
        "deployment": deployment.name,
        "answers": completions.count(),
        "completion_tokens": spoken,
        "tokens_per_second": round(spoken / seconds, 1),
        "fees_wei": str(sum(completions.values_list("fee", flat=True))),
    }


def attribute(journey: Journey) -> dict[str, Any]:
    """Wait for the receipts and tell who was credited most."""
    receipts = [await_receipt(journey, pk) for pk in journey.need("completions")]
    shares: dict[str, int] = {}
    rows = ContributorShare.objects.filter(receipt__in=receipts).select_related("contributor")
    for row in rows:
        name = row.contributor.handle if row.contributor else "treasury"
        shares[name] = shares.get(name, 0) + (row.amount or 0)
    top = sorted(shares.items(), key=lambda item: (-item[1], item[0]))[:3]
    return {
        "receipts": len(receipts),
        "log_indexes": [receipt.log_index for receipt in receipts],
        "top_contributors": {name: f"{amount} wei" for name, amount in top},
    }


def complete(journey: Journey, question: str) -> dict[str, Any]:
    """One chat completion over HTTP, as a client would; its id is kept on the journey."""
    deployment = journey.need("deployment")
    try:
        reply = httpx.post(
            f"{journey.base_url}/v1/chat/completions",
            headers={"Authorization": f"Bearer {journey.need('api_key')}"},
            json={
                "model": deployment.name,
                "messages": [{"role": "user", "content": question}],
                "max_tokens": ANSWER_TOKENS,
                "temperature": 0.7,
                "seed": 7,
            },
            timeout=120,
        )
    except httpx.ConnectError as error:
        raise StepFailed(f"The web process does not answer at {journey.base_url}.") from error
    if reply.status_code != 200:
        raise StepFailed(f"The API answered {reply.status_code}: {reply.text[:300]}")
    body: dict[str, Any] = reply.json()
    journey.completions.append(reply.headers["X-Completion-Id"])
    return body


def await_receipt(journey: Journey, completion_id: str) -> Receipt:
    """The completion's receipt, once it stands in the log and its money is settled."""

    def written() -> Receipt | None:
        receipt = Receipt.objects.filter(completion_id=completion_id).first()
        return receipt if receipt is not None and receipt.log_index is not None else None

    return journey.wait_for("the receipt", written, queue="attribute")


def _question(payload: dict[str, Any]) -> str:
    for message in payload.get("messages", []):
        if message["role"] == "user":
            return str(message["content"])
    return str(payload.get("text", ""))[:200]


def _deposit(journey: Journey) -> int:
    """From the local chain's faucet through the Gateway; without a chain, from the ledger."""
    builder = journey.people["builder"]
    key = f"tour:{journey.need('run').pk}"
    before = balance(builder)
    if settings.CHAIN_ENABLED:
        request_faucet(
            user=builder, amount=DEPOSIT, acting_user=builder, key=key, at=timezone.now()
        )
    else:
        grant_without_chain(
            user=builder, amount=DEPOSIT, acting_user=builder, key=key, at=timezone.now()
        )
    journey.wait_for("the deposit", lambda: balance(builder) >= before + DEPOSIT, queue="chain")
    return balance(builder) - before


def _deployed(journey: Journey, model: Model) -> Deployment:
    deployment = deploy(model=model, acting_user=journey.people["builder"], at=timezone.now())

    def live() -> bool:
        deployment.refresh_from_db()
        if deployment.state == DeploymentState.STOPPED:
            raise StepFailed(f"The deployment was refused: {deployment.failure_reason}")
        return bool(deployment.state == DeploymentState.LIVE)

    journey.wait_for("the deployment", live, queue=f"generate.{model.base_model.slug}")
    return deployment
