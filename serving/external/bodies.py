"""What a replica is asked, in the words of the OpenAI API and, for a vLLM, in its own."""

from __future__ import annotations

import hmac
import json
from typing import Any

from django.conf import settings

from serving.models import Completion, CompletionKind, Replica, ReplicaKind

# Neutral values; a server of another kind than vLLM may not know these fields.
NEUTRAL = {
    "top_k": 0,
    "min_p": 0.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
}


def request_of(completion: Completion, replica: Replica, model: str) -> tuple[str, dict[str, Any]]:
    """(path, body). A vLLM gets the tokens that were counted here; others render messages."""
    kept = completion.sampling
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": kept["max_tokens"],
        "temperature": kept["temperature"],
        "top_p": kept["top_p"],
        "seed": kept["seed"],
        "stop": kept["stop"] or None,
        "logit_bias": kept.get("logit_bias") or None,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if replica.kind == ReplicaKind.VLLM:
        # All of them, since a vLLM takes what is left out from the model's generation_config.json.
        body |= {name: kept.get(name, neutral) for name, neutral in NEUTRAL.items()}
        body |= {
            "prompt": completion.prompt_ids,
            "return_token_ids": True,
            "cache_salt": salt_of(completion),
        }
        if kept.get("logprobs") is not None:
            body |= {"logprobs": kept["logprobs"], "return_tokens_as_token_ids": True}
        path = "/v1/completions"
    else:
        body |= {
            name: kept[name]
            for name, neutral in NEUTRAL.items()
            if kept.get(name, neutral) != neutral
        }
        if completion.kind == CompletionKind.CHAT:
            path = "/v1/chat/completions"
            body["messages"] = completion.messages
        else:
            path = "/v1/completions"
            body["prompt"] = completion.prompt
    if kept.get("json_schema"):
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": json.loads(kept["json_schema"])},
        }
    return path, {name: value for name, value in body.items() if value is not None}


def salt_of(completion: Completion) -> str:
    """Of the payer: a prefix cache that is shared tells nobody what another has asked."""
    secret = settings.SECRET_KEY.encode()
    return hmac.digest(secret, f"cache:{completion.payer_id}".encode(), "sha256").hex()
