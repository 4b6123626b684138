"""Addresses and personal signatures of externally owned accounts (EIP-55, EIP-191, EIP-2).

Keccak by pycryptodome and recovery by coincurve: the web process must not load web3 or eth_account.
"""

from __future__ import annotations

import re

import coincurve
from Crypto.Hash import keccak

# Order of the curve secp256k1. A signature (r, s) has a twin (r, n - s); EIP-2 keeps the lower one.
CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
PREFIX = b"\x19Ethereum Signed Message:\n"

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
_SIGNATURE = re.compile(r"0x[0-9a-fA-F]{130}")


class EthereumError(ValueError):
    """The text is no address, or the signature is not one that we accept."""


def keccak256(data: bytes) -> bytes:
    return keccak.new(digest_bits=256, data=data).digest()


def to_checksum(address: str) -> str:
    """The EIP-55 spelling.

    Raises EthereumError where it is no address, or is in mixed case with a wrong checksum.
    """
    if not _ADDRESS.fullmatch(address):
        raise EthereumError("An address is 0x and 40 hexadecimal digits.")
    digits = address[2:].lower()
    digest = keccak256(digits.encode()).hex()
    spelt = "0x" + "".join(
        digit.upper() if int(nibble, 16) >= 8 else digit
        for digit, nibble in zip(digits, digest, strict=False)
    )
    if address[2:] not in (digits, digits.upper()) and address != spelt:
        raise EthereumError("The address has a wrong checksum: was a letter mistyped?")
    return spelt


def message_hash(text: str) -> bytes:
    """What `personal_sign` signs for a text (EIP-191, version 0x45)."""
    data = text.encode()
    return keccak256(PREFIX + str(len(data)).encode() + data)


def recover(text: str, signature: str) -> str:
    """The checksummed address whose key made the personal signature of `text`.

    `signature` is 0x and 65 bytes in hex: r, s, v with v of 27, 28, 0 or 1.
    Raises EthereumError for anything else, for the twin signature with the higher s, and where no
    key fits.
    """
    if not _SIGNATURE.fullmatch(signature):
        raise EthereumError("A signature is 0x and 130 hexadecimal digits.")
    raw = bytes.fromhex(signature[2:])
    v = raw[64] - 27 if raw[64] >= 27 else raw[64]
    s = int.from_bytes(raw[32:64])
    if v not in (0, 1) or not 0 < s <= CURVE_ORDER // 2:
        raise EthereumError("This signature is not in the form that wallets give (low s, v 27/28).")
    try:
        key = coincurve.PublicKey.from_signature_and_message(
            raw[:64] + bytes([v]), message_hash(text), hasher=None
        )
    except Exception as error:  # coincurve raises bare Exception for an impossible signature
        raise EthereumError("No key fits this signature.") from error
    return to_checksum("0x" + keccak256(key.format(compressed=False)[1:])[12:].hex())
