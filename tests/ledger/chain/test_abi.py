"""Our ABI coding equals eth_abi's, and refuses what does not fit."""

from __future__ import annotations

import contextlib

import eth_abi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.chain import abi, artifacts
from ledger.chain.addresses import from_bytes

# Letters of one to four bytes in UTF-8. An alphabet of one's own spares hypothesis the table of all
# of Unicode, which takes seconds to build where it is not cached.
LETTERS = "\0a~\x7fé߿€\uffff😀\U0010ffff"
SCALARS = {
    "uint256": st.integers(0, 2**256 - 1),
    "uint8": st.integers(0, 255),
    "int128": st.integers(-(2**127), 2**127 - 1),
    "bool": st.booleans(),
    "address": st.binary(min_size=20, max_size=20).map(from_bytes),
    "bytes32": st.binary(min_size=32, max_size=32),
    "bytes4": st.binary(min_size=4, max_size=4),
    "bytes": st.binary(max_size=70),
    "string": st.text(LETTERS, max_size=40),
}


@st.composite
def typed(draw: st.DrawFn, depth: int = 2) -> tuple[str, object]:
    shape = draw(
        st.sampled_from(["scalar"] if depth == 0 else ["scalar", "list", "fixed", "tuple"])
    )
    if shape == "scalar":
        kind = draw(st.sampled_from(sorted(SCALARS)))
        return kind, draw(SCALARS[kind])
    if shape == "tuple":
        members = draw(st.lists(typed(depth=depth - 1), min_size=1, max_size=3))
        return f"({','.join(kind for kind, _ in members)})", tuple(value for _, value in members)
    kind, value = draw(typed(depth=depth - 1))
    count = draw(st.integers(1 if shape == "fixed" else 0, 3))
    return f"{kind}[{count if shape == 'fixed' else ''}]", [value] * count


def lowered(value: object) -> object:
    """eth_abi gives addresses in lower case and arrays as tuples."""
    if isinstance(value, list | tuple):
        return tuple(lowered(part) for part in value)
    if isinstance(value, str) and value.startswith("0x") and len(value) == 42:
        return value.lower()
    return value


@given(st.lists(typed(), max_size=4))
def test_it_codes_as_eth_abi_does(pairs: list[tuple[str, object]]) -> None:
    types = [kind for kind, _ in pairs]
    values = [value for _, value in pairs]

    data = abi.encode(types, values)

    assert data == eth_abi.encode(types, values)
    assert lowered(abi.decode(types, data)) == lowered(eth_abi.decode(types, data))


@given(st.lists(typed(), min_size=1, max_size=3), st.binary(max_size=200))
def test_garbage_is_refused_with_one_kind_of_error(pairs, garbage) -> None:
    with contextlib.suppress(abi.AbiError):
        abi.decode([kind for kind, _ in pairs], garbage)


@pytest.mark.parametrize(
    ("kind", "value"),
    [("uint8", 256), ("uint256", -1), ("uint256", 1.0), ("uint256", True), ("bytes32", b"x"),
     ("uint256[2]", [1]), ("quantity", 1)],
)  # fmt: skip
def test_a_value_that_does_not_fit_is_refused(kind: str, value: object) -> None:
    with pytest.raises(abi.AbiError):
        abi.encode([kind], [value])


def test_a_claimed_length_beyond_the_data_costs_nothing() -> None:
    with pytest.raises(abi.AbiError):
        abi.decode(["uint256[]"], (32).to_bytes(32) + (2**255).to_bytes(32))


def test_a_call_is_decoded_into_the_names_of_its_arguments() -> None:
    parameters = artifacts.load("Parameters")
    data = parameters.encode_call("setSplit", (500, 2500, 2000, 5000))

    decoded = parameters.decode_call(data)

    assert decoded is not None
    assert decoded[0].signature == "setSplit((uint16,uint16,uint16,uint16))"
    assert decoded[1]["parts"] == {
        "platform": 500, "modelOwner": 2500, "stakers": 2000, "contributors": 5000,
    }  # fmt: skip
    assert parameters.decode_call(b"\1\2\3\4") is None
