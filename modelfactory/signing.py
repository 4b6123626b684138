"""Signed manifests: what a model was made of, so that anyone can check it later."""

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import (
    Ed25519PrivateKey,
    Ed25519PublicKey,
)
from django.conf import settings

from attribution.translog import canonical


def sign(manifest: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The envelope {manifest, signature}, and the SHA-256 of the manifest's canonical bytes."""
    body = canonical.dumps(manifest)
    key = load_key(Path(settings.MANIFEST_KEY_PATH))
    public = key.public_key().public_bytes_raw()
    signature = {
        "algorithm": "Ed25519",
        "public_key": base64.b64encode(public).decode(),
        "value": base64.b64encode(key.sign(body)).decode(),
    }
    return {"manifest": manifest, "signature": signature}, hashlib.sha256(body).hexdigest()


def verify(envelope: dict[str, Any]) -> bool:
    """Whether the signature fits the manifest and the key that the envelope names."""
    try:
        signature = envelope["signature"]
        public = Ed25519PublicKey.from_public_bytes(base64.b64decode(signature["public_key"]))
        public.verify(base64.b64decode(signature["value"]), canonical.dumps(envelope["manifest"]))
    except (InvalidSignature, KeyError, ValueError, TypeError):
        return False
    return True


def load_key(path: Path) -> Ed25519PrivateKey:
    """Read the key, or make it at the first use; one of two first users wins."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fresh = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        part = path.with_name(f"{path.name}.{os.getpid()}")
        part.touch(mode=0o600)
        part.write_bytes(fresh)
        try:
            os.link(part, path)
        except FileExistsError:
            pass
        finally:
            part.unlink()
    key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"{path} holds no Ed25519 key.")
    return key
