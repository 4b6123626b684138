"""What a wallet paid on an OP Stack chain: execution, data on L1, and the operator's fee.

Formulas: ethereum-optimism/specs at fd72cf7, specs/protocol/isthmus/exec-engine.md ("Fee Formula",
"Receipts") and specs/protocol/jovian/exec-engine.md ("Fee Formula Update", "Receipts").
"""

from __future__ import annotations

from typing import Any

import pytest
from django.db.models import Sum

from ledger.chain.client import ChainClient
from ledger.chain.surcharges import (
    DATA_FEE,
    ENVELOPE,
    NOTHING,
    OPERATOR_FEE,
    ORACLE,
    surcharge,
)
from ledger.chain.wire import UnreachableError, to_receipt
from ledger.models.chain import Intent
from tests.chain_fixtures import Chain
from tests.ledger.chain.faulty_node import FaultyNode
from tests.ledger.chain.paying import Payer, ask_for

GAS, PRICE = 21_003, 6_000_000
EXECUTION = GAS * PRICE
RECEIPT = {
    "transactionHash": "0x" + "11" * 32, "blockHash": "0x" + "22" * 32, "blockNumber": "0x5",
    "status": "0x1", "gasUsed": hex(GAS), "effectiveGasPrice": hex(PRICE), "logs": [],
    "contractAddress": None,
}  # fmt: skip
# What the fields of a receipt of OP Mainnet look like, with an operator's fee.
L1 = {"l1Fee": "0x24a", "l1GasPrice": "0x17ed9e79", "l1GasUsed": "0x640"}
OPERATOR = {"operatorFeeScalar": hex(1_439), "operatorFeeConstant": hex(1_256)}


def fee(**fields: str | None) -> int:
    return to_receipt(RECEIPT | fields).fee


def test_elsewhere_it_is_the_gas_alone() -> None:
    assert fee() == EXECUTION


def test_the_data_on_l1_comes_on_top() -> None:
    assert fee(**L1) == EXECUTION + 0x24A


def test_since_isthmus_the_operator_takes_a_millionth_of_the_scalar_and_a_constant() -> None:
    # 21,003 × 1,439 / 10^6 = 30.22…: the division rounds down.
    assert fee(**L1, **OPERATOR) == EXECUTION + 0x24A + 30 + 1_256


def test_since_jovian_the_operator_takes_a_hundredfold_of_the_scalar_and_a_constant() -> None:
    jovian = {"daFootprintGasScalar": "0x190"}
    assert fee(**L1, **OPERATOR, **jovian) == EXECUTION + 0x24A + GAS * 1_439 * 100 + 1_256
    # Such a chain may have set it to zero; it is Jovian all the same.
    zero = {"daFootprintGasScalar": "0x0"}
    assert fee(**OPERATOR, **zero) == EXECUTION + GAS * 1_439 * 100 + 1_256


def test_a_receipt_without_the_operators_fields_has_no_such_fee() -> None:
    """They are there only where one of them is not zero."""
    assert fee(**L1, daFootprintGasScalar="0x190") == EXECUTION + 0x24A
    assert fee(l1Fee=None, operatorFeeScalar=None) == EXECUTION


def test_the_largest_that_the_spec_allows_is_exact() -> None:
    gas, scalar, constant = 2**64 - 1, 2**32 - 1, 2**64 - 1
    largest = RECEIPT | {
        "gasUsed": hex(gas), "effectiveGasPrice": "0x0", "daFootprintGasScalar": "0x1",
        "operatorFeeScalar": hex(scalar), "operatorFeeConstant": hex(constant),
    }  # fmt: skip
    assert to_receipt(largest).fee == gas * scalar * 100 + constant
    assert to_receipt(largest).fee.bit_length() == 103


def test_nonsense_in_a_fee_is_no_receipt() -> None:
    with pytest.raises(UnreachableError):
        fee(l1Fee="much")


class OpNode(FaultyNode):
    """A node whose chain has the oracle of fees, as Fjord and Isthmus define it."""

    asked = 0
    # Wei for a byte of data on L1, of which at least a hundred are counted.
    byte, constant, scalar = 10**13, 0, 0

    def _forward(self, method: str, parameters: list[Any]) -> dict[str, Any]:
        call = parameters[0] if method == "eth_call" else {}
        if call.get("to") != ORACLE:
            return super()._forward(method, parameters)
        self.asked += 1
        data = bytes.fromhex(call["data"][2:])
        return {"result": f"0x{self.fee(data):064x}"}

    def fee(self, data: bytes) -> int:
        value = int.from_bytes(data[4:])
        if data[:4] == bytes.fromhex("275aedd2"):
            return value * self.scalar // 10**6 + self.constant
        assert data[:4] == bytes.fromhex("f1c7a58b")
        size = value + 68
        counted = -42_585_600 + 836_500 * (size + size // 255 + 16)
        return max(100_000_000, counted) * self.byte // 10**6


@pytest.mark.parametrize("sizes", [[0], [200, 0, 4_000], [1, 30_000, 100_000], [350] * 100])
def test_what_may_come_on_top_is_never_less_than_the_oracle_says(sizes: list[int]) -> None:
    node = OpNode("")
    node.constant, node.scalar = 5_000, 1_439
    client = ChainClient("")
    client.batch = lambda calls: [  # type: ignore[method-assign]
        node._forward(method, parameters)["result"] for method, parameters in calls
    ]
    bound = surcharge(client)
    gas = 21_000 * len(sizes)
    exact = sum(
        node.fee(DATA_FEE + (size + ENVELOPE).to_bytes(32))
        + node.fee(OPERATOR_FEE + (21_000).to_bytes(32))
        for size in sizes
    )
    size = sum(sizes) + ENVELOPE * len(sizes)
    told = bound.of(count=len(sizes), size=size, gas=gas)
    assert 2 * exact <= told < 6 * exact


def test_a_chain_without_the_oracle_takes_nothing_on_top(chain_settings: Chain) -> None:
    assert surcharge(chain_settings.client) == NOTHING


def test_a_wallet_that_cannot_pay_for_the_data_on_l1_signs_nothing_and_says_so(
    chain_settings: Chain, db: None
) -> None:
    """It has enough for value and gas; an OP Stack node would refuse it for the rest."""
    with OpNode(chain_settings.url) as node:
        payer = Payer(chain_settings, node.url)
        view = payer.client.look(payer.address)
        gas = 21_000 * view.fees.maximum
        on_top = 2 * 100 * node.byte
        chain_settings.client.rpc("anvil_setBalance", payer.address, hex(1_000 + gas + on_top // 2))
        payer.began_with = chain_settings.balance(payer.address)
        intents = ask_for(1)
        payer.step()
        assert (Intent.objects.get().state, payer.alarms) == (Intent.State.NEW, {"funds"})
        assert node.asked == 4

        chain_settings.client.rpc("anvil_setBalance", payer.address, hex(10 * (gas + on_top)))
        payer.began_with = chain_settings.balance(payer.address)
        payer.finish()
    payer.paid_once(intents)


def test_an_intent_keeps_all_of_it(chain_settings: Chain, db: None) -> None:
    """The node's receipts carry the fields of an OP Stack chain, which anvil's do not."""

    class Receipts(FaultyNode):
        def _forward(self, method: str, parameters: list[Any]) -> dict[str, Any]:
            told = super()._forward(method, parameters)
            if method == "eth_getTransactionReceipt" and told.get("result"):
                told["result"] |= L1 | OPERATOR | {"daFootprintGasScalar": "0x190"}
            return told

    with Receipts(chain_settings.url) as node:
        payer = Payer(chain_settings, node.url)
        ask_for(3)
        payer.finish()
    paid = sum(1_000 + number for number in range(3))
    execution = payer.began_with - chain_settings.balance(payer.address) - paid
    on_top = 3 * (0x24A + 21_000 * 1_439 * 100 + 1_256)
    assert int(Intent.objects.aggregate(total=Sum("fee"))["total"]) == execution + on_top
