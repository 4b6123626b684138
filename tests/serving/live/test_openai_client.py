"""The official `openai` client works against the API unchanged."""

from __future__ import annotations

import json
import time
from collections import Counter

import httpx
import openai
import pytest
from django.utils import timezone

from accounts import api_keys
from accounts.api_keys import Limits
from accounts.models import Scope
from attribution.models import Attribution
from ledger.models import Account
from serving.models import Completion, Embedding, EngineReport
from tests.ledger.books import OPEN, balance_of

MESSAGES = [{"role": "user", "content": "What does a contributor do?"}]


def chat(client: openai.OpenAI, model: str = "builder-tuned", **options):
    return client.chat.completions.create(
        **{"model": model, "messages": MESSAGES, "max_tokens": 12, "temperature": 0, **options}
    )


def test_a_chat_is_answered_counted_and_paid(client, live, client_person):
    answer = chat(client)
    made = Completion.objects.get()
    assert answer.id == f"chatcmpl-{made.pk}"
    assert (answer.object, answer.model) == ("chat.completion", "builder-tuned")
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.content == made.answer
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage.prompt_tokens == made.prompt_tokens == len(made.prompt_ids)
    assert answer.usage.completion_tokens == made.completion_tokens == len(made.answer_ids)
    assert answer.usage.total_tokens == made.prompt_tokens + made.completion_tokens
    assert made.state == "SUCCEEDED"
    fee = made.prompt_tokens * made.input_price + made.completion_tokens * made.output_price
    assert made.fee == fee
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - fee
    assert balance_of(Account.Kind.HOLD, client_person.pk) == 0
    wish = Attribution.objects.get(completion_id=made.pk)
    assert (wish.model_id, wish.answer_ids) == (live.model_id, made.answer_ids)


def test_a_stream_says_the_same_and_ends_with_the_usage(client, live):
    whole = chat(client)
    chunks = list(chat(client, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[:-1] == [None] * (len(reasons) - 1)
    assert reasons[-1] == whole.choices[0].finish_reason
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1
    assert not any(chunk.usage for chunk in chat(client, stream=True))


def test_the_headers_name_the_completion(client, live):
    raw = client.chat.completions.with_raw_response.create(
        model="builder-tuned", messages=MESSAGES, max_tokens=2
    )
    completion = Completion.objects.get()
    assert raw.headers["x-completion-id"] == str(completion.pk)
    assert raw.headers["x-receipt-id"] == str(completion.pk)
    assert raw.headers["x-highest-fee-wei"] == str(completion.highest_fee)
    assert raw.headers["x-ratelimit-limit-requests"] == "6000"
    assert "q=6000" in raw.headers["ratelimit-policy"]


def test_a_key_without_the_scope_or_over_its_limit_is_told_so(house, live, client_person):
    def client_with(scopes, **limits) -> openai.OpenAI:
        _, secret = api_keys.create_key(
            user=client_person,
            name="narrow",
            acting_user=client_person,
            at=timezone.now(),
            scopes=scopes,
            limits=Limits(**limits),
        )
        return openai.OpenAI(base_url=f"{house.address}/v1", api_key=secret, max_retries=0)

    with pytest.raises(openai.PermissionDeniedError) as refused:
        chat(client_with([Scope.READ]))
    assert refused.value.code == "scope_missing"
    once = client_with([Scope.ASK], requests_per_minute=1)
    chat(once, max_tokens=2)
    with pytest.raises(openai.RateLimitError) as limited:
        chat(once, max_tokens=2)
    assert 1 <= int(limited.value.response.headers["retry-after"]) <= 60
    with pytest.raises(openai.APIStatusError) as capped:
        chat(client_with([Scope.ASK], spend_cap=1))
    assert (capped.value.status_code, capped.value.code) == (402, "key_cap_reached")


def test_the_base_and_its_adapter_answer_differently_and_greedily_the_same_again(client, live):
    tuned, base = chat(client), chat(client, model="starter")
    assert tuned.choices[0].message.content != base.choices[0].message.content
    assert chat(client).choices[0].message.content == tuned.choices[0].message.content


def test_a_seed_draws_the_same_again_and_a_stop_string_ends(client, live):
    drawn = [
        chat(client, temperature=1.0, seed=3, max_tokens=24).choices[0].message.content
        for _ in range(2)
    ]
    assert drawn[0] == drawn[1]
    stop = drawn[0][4:7]
    cut = chat(client, temperature=1.0, seed=3, max_tokens=24, stop=[stop])
    assert cut.choices[0].finish_reason == "stop"
    assert cut.choices[0].message.content == drawn[0][: drawn[0].index(stop)]


def test_a_text_is_completed_from_text_and_from_tokens(client, live):
    options = {"model": "starter", "max_tokens": 6, "temperature": 0}
    answer = client.completions.create(prompt="The list method append", **options)
    assert (answer.object, answer.usage.completion_tokens) == ("text_completion", 6)
    made = Completion.objects.get()
    again = client.completions.create(prompt=made.prompt_ids, **options)
    assert again.choices[0].text == answer.choices[0].text
    stream = client.completions.create(prompt=made.prompt_ids, stream=True, **options)
    assert "".join(chunk.choices[0].text for chunk in stream) == answer.choices[0].text


def test_several_choices_pay_for_the_prompt_once(client, live, client_person):
    answer = chat(client, n=3, temperature=1.0, seed=7, max_tokens=8)
    first, *others = made = list(Completion.objects.order_by("id"))
    texts = [choice.message.content for choice in answer.choices]
    assert [choice.index for choice in answer.choices] == [0, 1, 2]
    assert sorted(texts) == sorted(one.answer for one in made)
    assert len(set(texts)) == 3
    assert [one.input_price for one in others] == [0, 0]
    assert answer.usage.prompt_tokens == first.prompt_tokens
    assert answer.usage.completion_tokens == sum(one.completion_tokens for one in made)
    fee = sum(one.fee for one in made)
    assert answer.openledger["fee_wei"] == str(fee)
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - fee
    again = chat(client, n=3, temperature=1.0, seed=7, max_tokens=8, stream=True)
    streamed = Counter()
    for chunk in again:
        for choice in chunk.choices:
            streamed[choice.index] += 1
    assert set(streamed) == {0, 1, 2}


def test_several_prompts_are_answered_in_their_order(client, live):
    prompts = ["The list method", "A Datanet is"]
    options = {"model": "starter", "max_tokens": 4, "temperature": 0}
    together = client.completions.create(prompt=prompts, **options)
    alone = [client.completions.create(prompt=one, **options) for one in prompts]
    assert [one.text for one in together.choices] == [one.choices[0].text for one in alone]


def test_probabilities_are_told_for_each_token(client, live):
    answer = chat(client, logprobs=True, top_logprobs=2, max_tokens=5)
    told = answer.choices[0].logprobs.content
    assert "".join(one.token for one in told).startswith(answer.choices[0].message.content)
    assert len(told) == answer.usage.completion_tokens
    for one in told:
        assert one.token == one.top_logprobs[0].token  # greedy
        assert one.logprob == one.top_logprobs[0].logprob <= 0
        assert len(one.top_logprobs) == 2
    stream = list(chat(client, logprobs=True, top_logprobs=2, max_tokens=5, stream=True))
    streamed = [
        one
        for chunk in stream
        for choice in chunk.choices
        if choice.logprobs
        for one in choice.logprobs.content
    ]
    assert streamed == told


def test_an_echo_tells_the_prompt_s_probabilities_as_lm_eval_reads_them(client, live):
    text = "A Datanet is a set of records."
    answer = client.completions.create(
        model="starter", prompt=text, max_tokens=1, temperature=0, echo=True, logprobs=1
    )
    made = Completion.objects.get()
    told = answer.choices[0].logprobs
    assert answer.choices[0].text == text + made.answer
    assert len(told.tokens) == len(made.prompt_ids) + 1
    assert told.token_logprobs[0] is None
    assert told.top_logprobs[0] is None
    assert all(value <= 0 for value in told.token_logprobs[1:])
    for value, top in zip(told.token_logprobs[1:], told.top_logprobs[1:], strict=True):
        assert value <= max(top.values()) + 1e-6
    assert told.text_offset == sorted(told.text_offset)


def test_a_bias_forbids_a_token_and_a_penalty_moves_on(client, live):
    plain = chat(client, max_tokens=1)
    made = Completion.objects.get()
    forbidden = chat(client, max_tokens=1, logit_bias={str(made.answer_ids[0]): -100})
    assert forbidden.choices[0].message.content != plain.choices[0].message.content
    looped = chat(client, max_tokens=30)
    penalised = chat(client, max_tokens=30, frequency_penalty=2.0, presence_penalty=2.0)
    assert looped.choices[0].message.content != penalised.choices[0].message.content


def test_an_answer_is_held_to_a_schema(client, live):
    schema = {
        "type": "object",
        "properties": {"sure": {"type": "boolean"}, "word": {"enum": ["yes", "no"]}},
        "required": ["sure", "word"],
        "additionalProperties": False,
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "said", "schema": schema}}
    answer = chat(client, max_tokens=60, response_format=wanted)
    said = json.loads(answer.choices[0].message.content)
    assert set(said) == {"sure", "word"}
    assert said["word"] in ("yes", "no")


def test_the_worker_reports_what_its_engine_holds(client, live):
    chat(client, max_tokens=3)
    until = time.monotonic() + 20
    while True:
        found = EngineReport.objects.filter(base="starter").first()
        if found and found.snapshot["engine"]["answer_tokens"] and found.snapshot["adapters"]:
            break
        assert time.monotonic() < until
        time.sleep(0.2)
    assert "builder-tuned" in [one["name"] for one in found.snapshot["adapters"]]
    assert sum(found.snapshot["first_token"]["counts"]) >= 1


def test_a_receipt_s_event_comes_to_who_asks_for_it(house, live, secret):
    body = {"model": "builder-tuned", "messages": MESSAGES, "max_tokens": 2, "stream": True}
    headers = {"Authorization": f"Bearer {secret}"}
    url = f"{house.address}/v1/chat/completions"
    plain = httpx.post(url, json=body, headers=headers, timeout=60).text
    named = httpx.post(
        url, json=body, headers=headers | {"X-OpenLedger-Events": "receipt"}, timeout=60
    ).text
    assert "event:" not in plain
    made = Completion.objects.order_by("-id").first()
    assert f'event: receipt\ndata: {{"completion_id":"{made.pk}"' in named
    assert named.endswith("data: [DONE]\n\n")


def test_the_models_are_listed_with_their_base(client, live):
    listed = client.models.list().data
    assert [one.id for one in listed] == ["starter", "builder-tuned"]
    assert [one.parent for one in listed] == [None, "starter"]
    one = client.models.retrieve("builder-tuned")
    assert (one.id, one.owned_by) == ("builder-tuned", "builder")


@pytest.mark.parametrize(
    ("options", "error", "code"),
    [
        ({"model": "nobody-has-this"}, openai.NotFoundError, "model_not_found"),
        ({"max_tokens": 600}, openai.BadRequestError, "context_length_exceeded"),
        ({"max_tokens": -1}, openai.BadRequestError, None),
        ({"n": 17}, openai.BadRequestError, None),
        ({"logit_bias": {"999999": 1}}, openai.BadRequestError, None),
        (
            {"tools": [{"type": "function", "function": {"name": "f"}}]},
            openai.BadRequestError,
            None,
        ),
        ({"messages": []}, openai.BadRequestError, None),
        (
            {"messages": [{"role": "user", "content": "word " * 2_000}]},
            openai.BadRequestError,
            "context_length_exceeded",
        ),
    ],
)
def test_a_bad_request_is_the_clients_own_exception(
    client, live, client_person, options, error, code
):
    with pytest.raises(error) as raised:
        chat(client, **options)
    assert raised.value.code == code
    assert raised.value.body["message"]
    with pytest.raises(error):
        chat(client, stream=True, **options)
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN


def test_without_a_good_key_it_is_401(house, client, live):
    for key in ("olk_wrong", "sk-other", "olk_" + "0" * 40):
        with pytest.raises(openai.AuthenticationError) as raised:
            chat(client.with_options(api_key=key))
        assert raised.value.code == "invalid_api_key"


def test_without_a_balance_it_is_402(house, live, stranger):
    from django.utils import timezone

    from accounts import api_keys

    _, key = api_keys.create_key(
        user=stranger, name="poor", acting_user=stranger, at=timezone.now()
    )
    poor = openai.OpenAI(base_url=f"{house.address}/v1", api_key=key, max_retries=0)
    with pytest.raises(openai.APIStatusError) as raised:
        chat(poor)
    assert raised.value.status_code == 402
    assert (raised.value.code, raised.value.type) == ("insufficient_funds", "insufficient_quota")
    assert "/wallet/" in raised.value.body["message"]


def test_many_at_once_are_all_answered_and_paid_exactly(client, live, client_person):
    from concurrent.futures import ThreadPoolExecutor

    def one(number: int):
        return chat(client, model=("starter", "builder-tuned")[number % 2], max_tokens=4 + number)

    with ThreadPoolExecutor(12) as threads:
        answers = list(threads.map(one, range(12)))
    made = {str(row.pk): row for row in Completion.objects.all()}
    assert len(made) == 12
    for answer in answers:
        row = made[answer.id.removeprefix("chatcmpl-")]
        assert row.state == "SUCCEEDED"
        assert answer.choices[0].message.content == row.answer
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - sum(
        row.fee for row in made.values()
    )


def test_texts_become_vectors_of_the_base(client, live, client_person):
    answer = client.embeddings.create(model="starter", input=["A record.", "A file."])
    made = Embedding.objects.get()
    assert [one.index for one in answer.data] == [0, 1]
    assert {len(one.embedding) for one in answer.data} == {made.dimensions}
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == made.prompt_tokens
    assert answer.openledger == {
        "embedding_id": str(made.pk), "entry_id": str(made.entry_id), "fee_wei": str(made.fee),
    }  # fmt: skip
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - made.fee
    plain = client.embeddings.create(model="starter", input="A file.", encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(answer.data[1].embedding, abs=1e-5)
    for wrong in ({"model": "builder-tuned"}, {"dimensions": 8}, {"input": ""}):
        with pytest.raises(openai.BadRequestError):
            client.embeddings.create(**{"model": "starter", "input": "a", **wrong})
