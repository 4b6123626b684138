"""Key services on this machine which speak as AWS KMS and Google Cloud KMS do.

What they answer has the fields, encodings and status codes of the services' own references:
AWS KMS `GetPublicKey` and `Sign` (JSON 1.1, `X-Amz-Target: TrentService.…`), Cloud KMS v1
`cryptoKeyVersions.getPublicKey` and `asymmetricSign` (REST). What was asked is kept.
"""

from __future__ import annotations

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256K1,
    EllipticCurve,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ledger.chain.keyservices import CURVE_ORDER

RESOURCE = "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1"
KEY_ID = "1234abcd-12ab-34cd-56ef-1234567890ab"
ARN = f"arn:aws:kms:eu-central-1:111122223333:key/{KEY_ID}"
TOKEN = "ya29.token"


class KeyServer:
    """One key behind both protocols. `fails` counts failures down; `another` signs instead."""

    def __init__(self, curve: EllipticCurve | None = None) -> None:
        self.key = generate_private_key(curve or SECP256K1())
        self.another: EllipticCurvePrivateKey | None = None
        self.high_s = False
        self.fails = 0
        self.garbage = False
        self.asked: list[tuple[str, Any]] = []

    def __enter__(self) -> Self:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.reply(*server.google(self.path, None, dict(self.headers)))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                target = self.headers.get("X-Amz-Target", "")
                if target:
                    self.reply(*server.aws(target, body))
                else:
                    self.reply(*server.google(self.path, body, dict(self.headers)))

            def reply(self, status: int, content: Any) -> None:
                data = b"<html>" if server.garbage else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.http.shutdown()
        self.http.server_close()

    def google(self, path: str, body: Any, headers: dict[str, str]) -> tuple[int, Any]:
        self.asked.append((path, body))
        if self.fails:
            self.fails -= 1
            return 503, {"error": {"code": 503, "status": "UNAVAILABLE"}}
        if headers.get("Authorization") != f"Bearer {TOKEN}":
            return 401, {"error": {"code": 401, "status": "UNAUTHENTICATED"}}
        if path == f"/v1/{RESOURCE}/publicKey":
            pem = self._public(Encoding.PEM).decode()
            return 200, {
                "pem": pem,
                "algorithm": "EC_SIGN_SECP256K1_SHA256",
                "pemCrc32c": "1",
                "name": RESOURCE,
                "protectionLevel": "HSM",
            }
        if path == f"/v1/{RESOURCE}:asymmetricSign":
            digest = base64.b64decode(body["digest"]["sha256"])
            if len(digest) != 32:
                return 400, {"error": {"code": 400, "status": "INVALID_ARGUMENT"}}
            return 200, {
                "signature": base64.b64encode(self.sign(digest)).decode(),
                "signatureCrc32c": "1",
                "name": RESOURCE,
                "protectionLevel": "HSM",
            }
        return 404, {"error": {"code": 404, "status": "NOT_FOUND"}}

    def aws(self, target: str, body: Any) -> tuple[int, Any]:
        self.asked.append((target, body))
        if self.fails:
            self.fails -= 1
            return 500, {"__type": "KMSInternalException", "message": "try again"}
        if body["KeyId"] != KEY_ID:
            return 400, {"__type": "NotFoundException", "message": "Invalid keyId"}
        if target == "TrentService.GetPublicKey":
            return 200, {
                "KeyId": ARN,
                "PublicKey": base64.b64encode(self._public(Encoding.DER)).decode(),
                "CustomerMasterKeySpec": "ECC_SECG_P256K1",
                "KeySpec": "ECC_SECG_P256K1",
                "KeyUsage": "SIGN_VERIFY",
                "SigningAlgorithms": ["ECDSA_SHA_256"],
            }
        if target == "TrentService.Sign":
            digest = base64.b64decode(body["Message"])
            if (body["MessageType"], len(digest)) != ("DIGEST", 32):
                return 400, {"__type": "ValidationException", "message": "Digest is invalid length"}
            return 200, {
                "KeyId": ARN,
                "Signature": base64.b64encode(self.sign(digest)).decode(),
                "SigningAlgorithm": body["SigningAlgorithm"],
            }
        return 400, {"__type": "UnknownOperationException"}

    def sign(self, digest: bytes) -> bytes:
        """DER; with the high s where it is told so, as services give one in half of the cases."""
        key = self.another or self.key
        r, s = decode_dss_signature(key.sign(digest, ECDSA(Prehashed(SHA256()))))
        low = min(s, CURVE_ORDER - s)
        return encode_dss_signature(r, CURVE_ORDER - low if self.high_s else low)

    def _public(self, encoding: Encoding) -> bytes:
        return self.key.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)
