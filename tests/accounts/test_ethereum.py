"""Addresses and personal signatures are read as wallets write them, and in no second way."""

from __future__ import annotations

import contextlib
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import coincurve
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accounts.ethereum import CURVE_ORDER, EthereumError, message_hash, recover, to_checksum

VECTORS = Path(__file__).resolve().parents[3] / "shared/vectors/eth/ethers-accounts.json.gz"
ACCOUNTS: list[dict[str, Any]] = (
    json.loads(gzip.decompress(VECTORS.read_bytes())) if VECTORS.is_file() else []
)
KEY = "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80"
ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"


def sign(key: str, text: str) -> str:
    """As a wallet does: r, s, v with v of 27 or 28."""
    raw = coincurve.PrivateKey(bytes.fromhex(key[2:])).sign_recoverable(
        message_hash(text), hasher=None
    )
    return "0x" + raw[:64].hex() + f"{raw[64] + 27:02x}"


@pytest.mark.skipif(not ACCOUNTS, reason=f"no public test vectors in {VECTORS}")
def test_every_published_account_is_recovered_from_its_signature() -> None:
    keyed = [account for account in ACCOUNTS if "privateKey" in account]
    assert len(ACCOUNTS) == 259
    assert keyed
    for account in ACCOUNTS:
        address = account["address"]
        assert to_checksum(address.lower()) == to_checksum(address) == address
    for account in keyed:
        assert recover("hello", sign(account["privateKey"], "hello")) == account["address"]


TEXTS = ["", "hello", "é", "\u2014 \U0001f600", "a" * 1000, "line\nline", "\x00\x7f", "12"]

# In a process of its own: importing eth_account raises the recursion limit of the whole process.
ORACLE = """
import json, sys
from eth_account import Account
from eth_account.messages import encode_defunct
texts, key = json.load(sys.stdin)
signed = [Account.sign_message(encode_defunct(text=text), key) for text in texts]
json.dump(["0x" + bytes(one.signature).hex() for one in signed], sys.stdout)
"""


def test_our_recovery_agrees_with_eth_account() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ORACLE],
        input=json.dumps([TEXTS, KEY]),
        capture_output=True,
        text=True,
        check=True,
    )
    signatures = json.loads(done.stdout)
    assert [recover(text, one) for text, one in zip(TEXTS, signatures, strict=True)] == [
        ADDRESS
    ] * len(TEXTS)
    assert signatures == [sign(KEY, text) for text in TEXTS]


def test_v_may_also_count_from_zero() -> None:
    signature = sign(KEY, "text")
    v = int(signature[-2:], 16) - 27
    assert recover("text", signature[:-2] + f"{v:02x}") == ADDRESS


def test_the_twin_of_a_signature_is_refused() -> None:
    signature = sign(KEY, "text")
    raw = bytes.fromhex(signature[2:])
    high = CURVE_ORDER - int.from_bytes(raw[32:64])
    twin = raw[:32] + high.to_bytes(32) + bytes([55 - raw[64]])
    with pytest.raises(EthereumError, match="low s"):
        recover("text", "0x" + twin.hex())


@settings(deadline=None)
@given(st.integers(0, 64 * 8 - 1))
def test_no_flipped_bit_recovers_the_same_address(bit: int) -> None:
    raw = bytearray(bytes.fromhex(sign(KEY, "text")[2:]))
    raw[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(EthereumError):
        assert recover("text", "0x" + raw.hex()) != ADDRESS


@pytest.mark.parametrize(
    "signature",
    [
        "",
        "0x",
        "0x" + "00" * 65,
        "0x" + "ff" * 65,
        sign(KEY, "text")[2:],
        sign(KEY, "text")[:-2],
        sign(KEY, "text") + "00",
        sign(KEY, "text")[:-2] + "1d",
        sign(KEY, "text") + "\n",
        "0x" + "0" * 64 + sign(KEY, "text")[66:],
    ],
)
def test_what_is_no_signature_is_refused(signature: str) -> None:
    with pytest.raises(EthereumError):
        recover("text", signature)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "0x",
        ADDRESS[:-1],
        ADDRESS + "0",
        ADDRESS[2:],
        "0xF39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    ],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(EthereumError):
        to_checksum(address)
