"""The node and the key, for the worker of the `chain` queue and for commands; never for the web.

The key's secrets are read from the environment right here, so that no settings object of another
process holds them.
"""

from __future__ import annotations

import os
from functools import lru_cache

from django.conf import settings

from ledger.chain.client import ChainClient
from ledger.chain.signers import KeySigner, load_signer


@lru_cache(maxsize=1)
def node() -> ChainClient:
    """The node at CHAIN_RPC_URL."""
    return ChainClient(settings.CHAIN_RPC_URL)


@lru_cache(maxsize=1)
def signer() -> KeySigner:
    """CHAIN_KEYSTORE with CHAIN_KEYSTORE_PASSWORD; on the local chain CHAIN_PRIVATE_KEY or anvil's.

    Raises UnsafeKeyError where a development key would sign on another chain.
    """
    return load_signer(
        chain_id=settings.CHAIN_ID,
        private_key=os.environ.get("CHAIN_PRIVATE_KEY", ""),
        keystore=settings.CHAIN_KEYSTORE,
        password=os.environ.get("CHAIN_KEYSTORE_PASSWORD", ""),
    )
