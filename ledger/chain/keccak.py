"""Keccak-256 without web3: the web process hashes, checks addresses and builds trees with this."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module


def _fastest() -> Callable[[bytes], bytes]:
    # safe-pysha3 is native and several times faster, but has no wheel on some platforms.
    try:
        native = import_module("sha3").keccak_256
    except ImportError:
        new = import_module("Crypto.Hash.keccak").new

        def portable(data: bytes) -> bytes:
            digest: bytes = new(digest_bits=256, data=data).digest()
            return digest

        return portable

    def fast(data: bytes) -> bytes:
        digest: bytes = native(data).digest()
        return digest

    return fast


keccak256: Callable[[bytes], bytes] = _fastest()
