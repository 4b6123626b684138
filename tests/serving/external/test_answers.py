"""A server elsewhere answers for a deployment: same stream, same price, same books."""

from __future__ import annotations

from django.utils import timezone

from accounts.models import OutboxMessage
from attribution.models import Attribution
from ledger.models import Account
from serving import streams
from serving.external import adapters, worker
from serving.models import Replica, ReplicaAdapter
from serving.services.deployments import deploy
from serving.services.pins import request_pin
from tests.ledger.books import OPEN, balance_of, fund, person
from tests.serving.external.vllm_server import TEXT


def test_a_model_is_loaded_under_its_hash_before_it_is_live(deployed, order):
    row = ReplicaAdapter.objects.get()
    assert len(row.name) == 64
    assert set(order[0].loaded) == {row.name}
    assert order[1].loaded == {}
    assert row.deployment == deployed
    assert not order[0].asked


def test_the_answer_is_streamed_kept_charged_and_attributed(deployed, order, ask, client_person):
    made = ask(deployed)
    assert (made.state, made.answer, made.finish_reason) == ("SUCCEEDED", TEXT, "stop")
    assert made.answer_ids == order[0].tokenizer.encode(TEXT)
    assert made.fee == (
        made.prompt_tokens * made.input_price + made.completion_tokens * made.output_price
    )
    assert balance_of(Account.Kind.USER, client_person.pk) == 10 * OPEN - made.fee
    assert Attribution.objects.get(completion_id=made.pk).answer_ids == made.answer_ids
    entries = streams.connection_of_this_process().xrange(streams.key_of(made.pk))
    assert b"".join(fields.get(b"text", b"") for _, fields in entries).decode() == TEXT
    assert entries[-1][1] == {b"end": b"1"}
    assert made.first_token_at
    assert made.replica.answered == 1
    assert made.replica.usage_differed == 0


def test_it_is_asked_with_our_tokens_all_settings_and_a_salt_of_the_payer(deployed, order, ask):
    made = ask(deployed, temperature=0.7, seed=3, top_k=5, stop=("END",))
    asked = order[0].asked[0]
    assert asked["path"] == "/v1/completions"
    assert asked["prompt"] == made.prompt_ids
    assert (asked["temperature"], asked["seed"], asked["top_k"]) == (0.7, 3, 5)
    # What is left out a vLLM takes from the model's generation_config.json.
    assert (asked["min_p"], asked["repetition_penalty"], asked["top_p"]) == (0.0, 1.0, 1.0)
    assert asked["stop"] == ["END"]
    assert len(asked["cache_salt"]) >= 43
    assert str(made.payer_id) not in asked["cache_salt"]


def test_another_payer_has_another_salt(deployed, order, ask, client_person, monkeypatch):
    first = ask(deployed)
    other = person("other")
    fund(other, OPEN)
    first.pk, first.payer = None, other
    from serving.external.bodies import salt_of

    assert salt_of(first) != order[0].asked[0]["cache_salt"]


def test_the_base_alone_is_asked_by_its_name_there(deployed, servers, ask):
    base = deployed.__class__.objects.get(model=None)
    assert ask(base).state == "SUCCEEDED"
    assert [one["model"] for server in servers for one in server.asked] == ["starter-there"]


def test_probabilities_are_told_by_token(deployed, order, ask):
    made = ask(deployed, logprobs=1, max_tokens=3)
    assert [place[0] for place in made.logprobs["answer"]] == made.answer_ids
    assert made.logprobs["answer"][0][2] == [[made.answer_ids[0], -0.5]]
    assert made.finish_reason == "length"


def test_requests_go_to_the_queue_of_those_who_ask_servers(deployed, start):
    start(deployed)
    message = OutboxMessage.objects.order_by("id").last()
    assert (message.queue, message.task) == ("external", "serving.tasks.ask_elsewhere")


def test_where_all_servers_fail_the_engine_here_answers(deployed, start, live_worker):
    Replica.objects.update(state="FAILING")
    start(deployed)
    message = OutboxMessage.objects.order_by("id").last()
    assert (message.queue, message.task) == ("generate.starter", "serving.tasks.generate")


def test_a_model_that_no_server_loads_is_refused_with_the_reason(
    make_model, replicas, servers, builder, settings, tmp_path
):
    Replica.objects.update(adapter_folder=str(tmp_path / "elsewhere"))
    made = deploy(model=make_model(), acting_user=builder, at=timezone.now())
    worker.load_deployment(made.pk)
    made.refresh_from_db()
    assert made.state == "STOPPED"
    assert "No adapter found" in made.failure_reason


def test_the_longest_unused_adapter_makes_room(make_model, deployed, order, builder):
    Replica.objects.update(max_adapters=1)
    seen = set()
    for number in range(2, 6):
        made = deploy(
            model=make_model(f"other{number}", seed=number), acting_user=builder, at=timezone.now()
        )
        worker.load_deployment(made.pk)
        seen.add(made.pk)
    assert all(len(server.loaded) <= 1 for server in order)
    assert ReplicaAdapter.objects.count() == sum(len(server.loaded) for server in order)


def test_a_pinned_adapter_stays_and_comes_back(make_model, deployed, order, builder, client_person):
    pin = request_pin(deployment=deployed, days=1, acting_user=client_person, at=timezone.now())
    message = OutboxMessage.objects.order_by("id").last()
    assert (message.queue, message.task) == ("external", "serving.tasks.pin_elsewhere")
    worker.keep_pins(deployed.base_model_id)
    pin.refresh_from_db()
    assert pin.state == "ACTIVE"
    Replica.objects.update(max_adapters=1)
    pinned = adapters.name_of(deployed)
    for number in range(2, 5):
        made = deploy(
            model=make_model(f"other{number}", seed=number), acting_user=builder, at=timezone.now()
        )
        worker.load_deployment(made.pk)
    assert pinned in order[0].loaded
    order[0].evict()
    worker.check_replicas()
    assert pinned in order[0].loaded
