"""Whatever makes no sense is refused with a code and a sentence, and nothing at all is written."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.urls import reverse

from accounts.fields import WEI_LIMIT
from accounts.ids import uuid7
from accounts.models import AuditEvent, OutboxMessage
from ledger.errors import LedgerError
from ledger.fees import Passing
from ledger.models import (
    Account,
    Budget,
    Claim,
    Deposit,
    Distribution,
    Entry,
    Hold,
    Intent,
    PayoutAddress,
    Posting,
    RelayReserve,
    Stake,
    TopUpRule,
    Withdrawal,
)  # fmt: skip
from ledger.services import claims, deposits, stakes, transfers, withdrawals
from ledger.services.budgets import set_budget
from ledger.services.chain import request_faucet
from ledger.services.holds import release_hold
from ledger.services.opening import account_for
from ledger.services.posting import Refs
from ledger.services.topups import set_top_up
from tests.ledger.books import (
    FIRST,
    NOON,
    SECOND,
    activate,
    capture,
    earn,
    fund,
    hold_for,
    link,
    publish,
    terms_with,
)
from tests.ledger.test_fees import royalty

pytestmark = pytest.mark.django_db
NO_AMOUNTS = [0, -1, 1.5, 1.0, True, "1", None, WEI_LIMIT, 10**100]
SENTENCE = re.compile(r"[A-Z0-9“'].{12,}[.:]", re.DOTALL)
JSON = "application/json"


@pytest.fixture
def world(payer: Any, contributor: Any, builder: Any, deployed: Any) -> Any:
    """A payer with a hold and a wallet; two wallets with a root in force."""
    for one, address in ((contributor, FIRST), (builder, SECOND)):
        link(one, address)
    for number, one in enumerate((contributor, builder)):
        earn(one, 100 + number, number)
    activate(publish())
    earn(contributor, 50, 5)
    return payer


WRITTEN = (
    Entry, Posting, Hold, Deposit, Withdrawal, Stake, Claim, Intent, Budget, TopUpRule,
    PayoutAddress, Distribution, RelayReserve, AuditEvent, OutboxMessage,
)  # fmt: skip


def rows() -> list[int]:
    balances = sum(abs(balance) for balance in Account.objects.values_list("balance", flat=True))
    return [balances, *(model._base_manager.count() for model in WRITTEN)]


def refused(code: str, act: Callable[[], Any]) -> str:
    """What is said; code, sentence, and not one row more."""
    before = rows()
    with pytest.raises(LedgerError) as refusal:
        act()
    assert refusal.value.code == code
    assert SENTENCE.fullmatch(refusal.value.message), refusal.value.message
    assert rows() == before
    return refusal.value.message


VERBS: dict[str, Callable[[Any, Any], Any]] = {
    "hold": lambda user, amount: hold_for(user, amount),
    "deposit": lambda user, amount: fund(user, amount, 99),
    "stake": lambda user, amount: stakes.lock_stake(
        staker=user, amount=amount, cause_kind="contribution", cause_id=uuid7(),
        acting_user=user, at=NOON,
    ),
    "withdrawal": lambda user, amount: withdrawals.request_withdrawal(
        user=user, source=Account.Kind.USER, address=FIRST, amount=amount, key="bad",
        acting_user=user, at=NOON,
    ),
    "transfer": lambda user, amount: transfers.make_earnings_spendable(
        user=user, amount=amount, key="bad", acting_user=user, at=NOON
    ),
    "faucet": lambda user, amount: request_faucet(
        user=user, amount=amount, acting_user=user, key="bad", at=NOON
    ),
    "grant": lambda user, amount: deposits.grant_without_chain(
        user=user, amount=amount, acting_user=user, key="bad", at=NOON
    ),
    "budget": lambda user, amount: set_budget(
        user=user, limit=amount, hard_stop=True, acting_user=user, at=NOON
    ),
    "top-up": lambda user, amount: set_top_up(
        user=user, below=amount, amount=amount, monthly_limit=amount, is_on=True, acting_user=user,
        at=NOON,
    ),
    "claim": lambda _, amount: claims.record_claim(
        address=FIRST, amount=amount, cumulative=100, chain_id=31337, tx_hash="0xbad",
        log_index=0, at=NOON,
    ),
}  # fmt: skip


def test_what_is_no_amount_moves_nothing_by_any_verb(world: Any) -> None:
    account_for(Account.Kind.EARNINGS, world.pk)
    for verb in VERBS.values():
        for amount in NO_AMOUNTS:
            refused("invalid_amount", partial(verb, world, amount))


@pytest.mark.parametrize("amount", [-1, 1.5, "1", WEI_LIMIT])
def test_a_capture_of_no_amount_leaves_the_hold_as_it_is(world: Any, amount: Any) -> None:
    hold = hold_for(world, 1000)
    refused("invalid_amount", lambda: capture(hold, amount))
    assert Hold.objects.get(pk=hold.pk).state == Hold.State.PENDING


def test_more_than_is_held_is_not_captured(world: Any) -> None:
    hold = hold_for(world, 1000)
    refused("invalid_amount", lambda: capture(hold, 1001))


def test_an_expired_and_a_closed_hold_are_not_captured(world: Any) -> None:
    hold = hold_for(world, 1000)
    refused("hold_expired", lambda: capture(hold, 1000, at=NOON + timedelta(hours=1)))
    refused("hold_expired", lambda: hold_for(world, 5, expires_at=NOON))
    release_hold(hold=hold, reason="It failed.", acting_user=None, at=NOON)
    refused("hold_closed", lambda: capture(hold, 1000))


def test_an_unknown_account_gets_and_gives_nothing(world: Any, contributor: Any) -> None:
    for address in (SECOND, "0x" + "99" * 20, "rubbish"):
        refused(
            "unknown_account",
            partial(
                claims.request_relayed_claim,
                address=address,
                acting_user=contributor,
                at=NOON,
            ),
        )
        refused(
            "unknown_account",
            partial(
                withdrawals.request_withdrawal,
                user=contributor, source=Account.Kind.EARNINGS, address=address, amount=10**18,
                key="bad", acting_user=contributor, at=NOON,
            ),
        )  # fmt: skip
    refused("unknown_account", lambda: claims.claim_proof("0x" + "99" * 20))
    refused(
        "unknown_account",
        lambda: claims.record_claim(
            address="0x" + "99" * 20, amount=1, cumulative=1, chain_id=31337, tx_hash="0xbad",
            log_index=0, at=NOON,
        ),
    )  # fmt: skip


def test_a_self_referring_royalty_divides_nothing(world: Any, builder: Any) -> None:
    model = uuid7()
    terms = replace(
        terms_with(model_owner=builder), royalties=Passing(10, (royalty(model, 1, builder.pk),))
    )
    hold = hold_for(world, 1000, terms=terms)
    said = refused(
        "self_royalty",
        lambda: capture(hold, 1000, refs=Refs(model=model, completion=hold.cause_id)),
    )
    assert "self-referring" in said


def test_a_damaged_file_of_nodes_is_neither_shown_nor_relayed(
    world: Any, contributor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = claims.published.proof
    monkeypatch.setattr(
        claims.published, "proof", lambda *given: tuple(b"\7" * 32 for _ in real(*given))
    )
    refused("wrong_proof", lambda: claims.claim_proof(FIRST))
    refused(
        "wrong_proof",
        lambda: claims.request_relayed_claim(address=FIRST, acting_user=contributor, at=NOON),
    )
    assert not Intent.objects.filter(kind=Intent.Kind.CLAIM).exists()


# ---------------------------------------------------------------------- by API


@pytest.mark.parametrize("path", ["withdrawals", "deposits"])
def test_by_api_what_is_no_amount_has_a_code_and_a_sentence(
    client: Any, world: Any, path: str
) -> None:
    wallet = link(world, "0x" + "33" * 20).address
    client.force_login(world)
    before = rows()
    for number, amount in enumerate(
        ["0", "-1", "1.5", "1e3", 1, 1.5, None, True, str(WEI_LIMIT), []]
    ):
        answer = client.post(
            f"/api/v1/{path}/", {"amount": amount, "address": wallet}, content_type=JSON,
            headers={"Idempotency-Key": f"bad-{number}"},
        )  # fmt: skip
        assert answer.status_code == 400
        told = answer.json()
        assert told["code"] in ("invalid_amount", "limit_reached", "null"), told
        assert len(told["message"]) > 15
    assert rows() == before


NO_WEI = ["-1", "1.5", "1e3", "", 1, 1.5, None, True, [], str(WEI_LIMIT), "9" * 5000, "\u0661"]


@pytest.mark.parametrize(
    ("name", "good", "fields"),
    [
        ("api-budget", {"limit": "5"}, ["limit"]),
        (
            "api-top-up",
            {"is_on": True, "below": "1", "amount": "2", "monthly_limit": "3"},
            ["below", "amount", "monthly_limit"],
        ),
        (
            "api-payout-choices",
            {"claims": "OWN", "push": False, "maximum_fee": "0"},
            ["maximum_fee"],
        ),
    ],
)
def test_by_api_a_choice_of_no_amount_has_a_code_and_a_sentence(
    client: Any, world: Any, name: str, good: dict[str, Any], fields: list[str]
) -> None:
    client.force_login(world)
    before = rows()
    for field in fields:
        for amount in NO_WEI:
            answer = client.put(reverse(name), good | {field: amount}, content_type=JSON)
            told = answer.json()
            assert answer.status_code == 400, (field, amount)
            assert told["code"] in ("invalid_amount", "null"), told
            assert len(told["message"]) > 15
    assert rows() == before
    assert client.put(reverse(name), good, content_type=JSON).status_code == 200


def test_by_api_what_cannot_be_refunded_has_a_code_and_a_sentence(client: Any, world: Any) -> None:
    held, released = hold_for(world, 1000), hold_for(world, 1000)
    release_hold(hold=released, reason="It failed.", acting_user=None, at=NOON)
    world.is_staff = True
    world.save(update_fields=["is_staff"])
    client.force_login(world)
    before = rows()
    for completion, reason, status, code in (
        (held.cause_id, "It broke.", 400, "nothing_to_refund"),
        (released.cause_id, "It broke.", 400, "nothing_to_refund"),
        (uuid7(), "It broke.", 404, "not_found"),
        ("rubbish", "It broke.", 400, "invalid"),
        (held.cause_id, "", 400, "blank"),
        (held.cause_id, "x" * 501, 400, "max_length"),
    ):
        body = {"completion": str(completion), "reason": reason}
        answer = client.post(reverse("api-refunds"), body, content_type=JSON)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
        assert len(answer.json()["message"]) > 8
    assert rows() == before


def test_by_api_anothers_proof_has_a_code_and_a_sentence(client: Any, world: Any) -> None:
    proof = ["0x" + node.hex() for node in claims.claim_proof(FIRST).proof]
    before = rows()
    for changes, code in (
        ({"address": SECOND}, "wrong_proof"),
        ({"cumulative": "101"}, "wrong_proof"),
        ({"address": "rubbish"}, "invalid_entry"),
        ({"cumulative": str(WEI_LIMIT)}, "invalid_amount"),
        ({"cumulative": 100}, "invalid_amount"),
        ({"proof": ["0x12"]}, "invalid"),
    ):
        body = {"address": FIRST, "cumulative": "100", "proof": proof} | changes
        answer = client.post(reverse("api-proof-check"), body, content_type=JSON)
        assert (answer.status_code, answer.json()["code"]) == (400, code), changes
        assert len(answer.json()["message"]) > 15
    assert rows() == before


def test_by_api_what_is_refused_before_any_service_has_a_code_as_well(client: Any) -> None:
    for answer, code in (
        (client.get("/api/v1/balance/"), "not_authenticated"),
        (client.put("/api/v1/payout-checks/"), "method_not_allowed"),
        (client.get(f"/api/v1/distributions/{uuid7()}/"), "not_found"),
        (client.post("/api/v1/payout-checks/", "{", content_type=JSON), "parse_error"),
    ):
        assert answer.json()["code"] == code, answer.content
        assert answer.json()["message"] == answer.json()["detail"]
