"""The node and the key, for the worker of the `chain` queue and for commands; never for the web.

The key's secrets are read from the environment right here, so that no settings object of another
process holds them.
"""

from __future__ import annotations

import os
from functools import lru_cache

from django.conf import settings

from ledger.chain.client import ChainClient
from ledger.chain.signers import DigestSigner, load_signer


@lru_cache(maxsize=1)
def node() -> ChainClient:
    """The node at CHAIN_RPC_URL."""
    return ChainClient(settings.CHAIN_RPC_URL)


@lru_cache(maxsize=1)
def signer() -> DigestSigner:
    """CHAIN_KMS with CHAIN_KMS_TOKEN, else CHAIN_KEYSTORE with CHAIN_KEYSTORE_PASSWORD; on the
    local chain CHAIN_PRIVATE_KEY or anvil's first.

    Raises UnsafeKeyError where a development key would sign on another chain, SigningError where
    the key service does not answer, OSError and ValueError for a keystore that cannot be opened.
    """
    if settings.CHAIN_KMS:
        from ledger.chain.keyservices import RemoteSigner, open_service

        service = open_service(settings.CHAIN_KMS, token=os.environ.get("CHAIN_KMS_TOKEN", ""))
        return RemoteSigner(service, chain_id=settings.CHAIN_ID)
    return load_signer(
        chain_id=settings.CHAIN_ID,
        private_key=os.environ.get("CHAIN_PRIVATE_KEY", ""),
        keystore=settings.CHAIN_KEYSTORE,
        password=os.environ.get("CHAIN_KEYSTORE_PASSWORD", ""),
    )
