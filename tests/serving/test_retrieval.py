"""A deployment that looks records up: built by a worker, put in the prompt, charged, forgotten."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from django.utils import timezone

from accounts.models import OutboxMessage
from attribution.models import Attribution
from datanets.services.versions import publish_version
from ledger.models import Account
from modelfactory.models import RunVersion
from serving import workers
from serving.citing import cited
from serving.errors import NotDeployable
from serving.models import Completion, RecordVector, RetrievalIndex
from serving.questions import Question, Sampling
from serving.retrieval import search, working
from serving.services import retrieval
from serving.services.completions import quote, start_completion
from serving.tasks import record_withheld
from tests.ledger.books import balance_of
from tests.modelfactory.world import NOW, add_records, datanet

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True, scope="module")
def engines() -> Iterator[None]:
    yield
    workers.close_engines()


def told(topic: str) -> dict:
    return {
        "messages": [
            {"role": "user", "content": f"Tell me about the {topic}."},
            {"role": "assistant", "content": f"The {topic} stands behind the house."},
        ]
    }


@pytest.fixture
def records(tuned, builder, stranger):
    """Of one public Datanet, which the model was trained on."""
    net = datanet(builder)
    made = add_records(net, stranger, [told(one) for one in ("well", "barn", "orchard", "gate")])
    version = publish_version(datanet=net, acting_user=builder, at=NOW)
    RunVersion.objects.create(run=tuned.model.run, version=version)
    return made


@pytest.fixture
def looked_up(tuned, builder, records):
    index = retrieval.switch_on(deployment=tuned, acting_user=builder, at=timezone.now())
    working.build(index.pk)
    index.refresh_from_db()
    return index


def ask(deployment, payer, **sampling) -> Completion:
    made = start_completion(
        deployment=deployment,
        question=Question.chat("Tell me about the well."),
        sampling=Sampling(**{"max_tokens": 6, "temperature": 0, **sampling}),
        payer=payer,
        acting_user=payer,
        at=timezone.now(),
    )
    workers.run_completion(made.pk)
    made.refresh_from_db()
    return made


def again(deployment):
    return type(deployment).objects.with_parts().get(pk=deployment.pk)


def test_a_worker_builds_what_the_owner_switched_on(looked_up, tuned, records):
    assert (looked_up.state, looked_up.done, looked_up.total) == ("READY", 4, 4)
    assert looked_up.encoder == f"hidden-states:{tuned.base_model.weights_sha256}"
    assert set(looked_up.vectors.values_list("record", flat=True)) == {one.pk for one in records}


def test_it_is_asked_for_once_and_by_its_owner_alone(looked_up, tuned, builder, stranger):
    sent = OutboxMessage.objects.filter(task=retrieval.TASK).count()
    retrieval.switch_on(deployment=tuned, acting_user=builder, at=timezone.now())
    assert OutboxMessage.objects.filter(task=retrieval.TASK).count() == sent == 1
    for switch in (retrieval.switch_on, retrieval.switch_off):
        with pytest.raises(NotDeployable):
            switch(deployment=tuned, acting_user=stranger, at=timezone.now())


def test_a_base_has_nothing_to_retrieve(base_alone, staff):
    with pytest.raises(NotDeployable):
        retrieval.switch_on(deployment=base_alone, acting_user=staff, at=timezone.now())


def test_a_build_that_broke_off_goes_on_where_it_was(looked_up, monkeypatch):
    kept = set(looked_up.vectors.order_by("record")[:3].values_list("pk", flat=True))
    looked_up.vectors.exclude(pk__in=kept).delete()
    RetrievalIndex.objects.update(state="BUILDING", lease_owner="dead")
    retrieval.build_again(looked_up.pk, timezone.now())
    working.build(looked_up.pk)
    looked_up.refresh_from_db()
    assert looked_up.state == "READY"
    assert looked_up.vectors.count() == 4
    assert looked_up.vectors.filter(pk__in=kept).count() == 3


def test_a_worker_that_lost_its_lease_adds_nothing(looked_up, records):
    assert not retrieval.add(index_id=looked_up.pk, owner="late", lines=[], done=0)


def test_the_nearest_records_stand_in_the_prompt_and_in_the_receipts_wish(
    looked_up, tuned, client_person, records
):
    made = ask(again(tuned), client_person)
    cited = made.retrieval["records"]
    assert "[1]" in made.prompt
    assert "stands behind the house" in made.prompt
    assert {one["record"] for one in cited} <= {str(one.pk) for one in records}
    assert made.messages == [{"role": "user", "content": "Tell me about the well."}]
    wish = Attribution.objects.get(completion_id=made.pk)
    assert wish.retrieval == made.retrieval
    assert wish.retrieval["reward_ppb"] == 50_000_000
    assert wish.prompt_ids == made.prompt_ids


def test_what_was_read_is_charged_and_no_more_than_was_told(looked_up, tuned, client_person):
    before = balance_of(Account.Kind.USER, client_person.pk)
    offer = quote(
        deployment=again(tuned), question=Question.chat("Tell me about the well."), max_tokens=6
    )
    made = ask(again(tuned), client_person)
    assert len(offer.prompt.ids) < made.prompt_tokens
    assert made.prompt_tokens <= len(offer.prompt.ids) + offer.retrieval_tokens
    assert made.fee == made.prompt_tokens * 10**12 + made.completion_tokens * 2 * 10**12
    assert made.fee <= made.highest_fee == offer.highest_fee
    assert before - balance_of(Account.Kind.USER, client_person.pk) == made.fee


def test_both_searches_find_the_same(looked_up, client_person, monkeypatch):
    vector = np.asarray(looked_up.vectors.first().vector, np.float32)
    if not search.has_pgvector():
        pytest.skip("this PostgreSQL has no pgvector")

    def found():
        return [
            one.record_id
            for one in search.nearest(index=looked_up, vector=vector, reader=client_person, most=4)
        ]

    by_pgvector = found()
    monkeypatch.setattr(search, "has_pgvector", lambda: False)
    assert found() == by_pgvector
    assert by_pgvector[0] == looked_up.vectors.first().record_id


def test_a_withdrawn_record_leaves_at_once_and_its_vector_soon(
    looked_up, tuned, client_person, records
):
    gone = records[0]
    gone.state = "WITHDRAWN"
    gone.save(update_fields=["state"])
    made = ask(again(tuned), client_person)
    assert str(gone.pk) not in {one["record"] for one in made.retrieval["records"]}
    record_withheld({"record_id": str(gone.pk)})
    assert not RecordVector.objects.filter(record=gone).exists()


def test_records_that_the_asker_may_not_read_stay_out_of_the_prompt(
    looked_up, tuned, client_person, records
):
    type(records[0].datanet).objects.update(state="DRAFT")
    made = ask(again(tuned), client_person)
    assert made.retrieval == {}
    assert "stands behind" not in made.prompt
    assert Attribution.objects.get(completion_id=made.pk).retrieval is None


def test_switched_off_it_forgets_and_answers_alone(looked_up, tuned, builder, client_person):
    retrieval.switch_off(deployment=tuned, acting_user=builder, at=timezone.now())
    assert not RecordVector.objects.exists()
    made = ask(again(tuned), client_person)
    assert (made.retrieval_tokens, made.retrieval) == (0, None)


def test_the_page_shows_the_switch_to_the_owner_alone(client, tuned, builder, stranger, records):
    address = f"/deployments/{tuned.name}/retrieval/"
    assert client.post(address, {"on": "1"}).status_code == 302
    assert not RetrievalIndex.objects.exists()
    client.force_login(stranger)
    assert "Switch it on" not in client.get(tuned.get_absolute_url()).content.decode()
    client.post(address, {"on": "1"})
    assert not RetrievalIndex.objects.exists()
    assert client.get(address).status_code == 405
    client.force_login(builder)
    assert "Switch it on" in client.get(tuned.get_absolute_url()).content.decode()
    client.post(address, {"on": "1"})
    assert RetrievalIndex.objects.get().state == "QUEUED"
    assert "A worker takes it up" in client.get(tuned.get_absolute_url()).content.decode()


def test_the_api_switches_it_and_tells_how_far_it_is(client, tuned, builder, stranger, records):
    address = f"/api/v1/deployments/{tuned.name}/retrieval/"
    client.force_login(stranger)
    refused = client.post(address, {"on": True}, content_type="application/json")
    assert refused.status_code in (400, 403)
    client.force_login(builder)
    told = client.post(address, {"on": True}, content_type="application/json").json()
    assert told["retrieval"]["state"] == "QUEUED"
    told = client.post(address, {"on": False}, content_type="application/json").json()
    assert told["retrieval"]["state"] == "OFF"


def test_a_citation_in_an_answer_leads_to_its_record():
    record = "018f0000-0000-7000-8000-000000000001"
    answer = Completion(
        answer="<b> as [1] says, not [2]", retrieval={"records": [{"record": record}]}
    )
    shown = cited(answer)
    assert f'{record}/">[1]</a> says, not [2]' in shown
    assert shown.startswith("&lt;b&gt; as <a ")
