"""EVM addresses: EIP-55 checksums, and the address of a private key, both without web3."""

from __future__ import annotations

import re

import coincurve

from ledger.chain.keccak import keccak256

_ADDRESS = re.compile(r"0x[0-9a-fA-F]{40}")
ZERO_ADDRESS = "0x" + "00" * 20


def to_checksum(address: str) -> str:
    """The EIP-55 spelling of `address`.

    Raises ValueError where it is no address, or is mixed case with a wrong checksum.
    """
    if not _ADDRESS.fullmatch(address):
        raise ValueError(f"{address!r} is not an address: 0x and 40 hexadecimal digits.")
    digits = address[2:].lower()
    digest = keccak256(digits.encode("ascii")).hex()
    spelled = "0x" + "".join(
        digit.upper() if int(digest[place], 16) >= 8 else digit
        for place, digit in enumerate(digits)
    )
    mixed = address[2:] not in (digits, digits.upper())
    if mixed and address != spelled:
        raise ValueError(f"{address!r} has a wrong checksum: was a letter mistyped?")
    return spelled


def is_address(text: str) -> bool:
    """Whether `text` is an address, its checksum right where it has one."""
    try:
        to_checksum(text)
    except ValueError:
        return False
    return True


def address_bytes(address: str) -> bytes:
    """The 20 bytes of `address`. Raises ValueError."""
    return bytes.fromhex(to_checksum(address)[2:])


def from_bytes(raw: bytes) -> str:
    """The checksummed address of 20 bytes. Raises ValueError."""
    return to_checksum("0x" + raw.hex())


def from_private_key(key: str) -> str:
    """The address whose transactions the hexadecimal private key signs. Raises ValueError."""
    secret = bytes.fromhex(key.removeprefix("0x"))
    public = coincurve.PrivateKey(secret).public_key.format(compressed=False)
    return from_bytes(keccak256(public[1:])[12:])
