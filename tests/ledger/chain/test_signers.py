"""Whatever keeps the key, the same bytes come out: a contract that every signer keeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import coincurve
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1 as K1
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from ledger.chain.addresses import from_bytes
from ledger.chain.keccak import keccak256
from ledger.chain.keyservices import (
    CURVE_ORDER,
    AwsKeyService,
    GoogleKeyService,
    KeyService,
    RemoteSigner,
    open_service,
)
from ledger.chain.local import LOCAL_CHAIN_ID
from ledger.chain.signers import DigestSigner, KeySigner, SigningError, UnsafeKeyError
from tests.chain_fixtures import OPEN, Chain
from tests.ledger.chain.key_services import KEY_ID, RESOURCE, TOKEN, KeyServer
from tests.ledger.chain.paying import Payer, ask_for

OWN_KEY = "0x" + "11" * 32
TRANSACTION = {
    "type": 2, "chainId": LOCAL_CHAIN_ID, "nonce": 0, "to": "0x" + "22" * 20, "data": b"",
    "value": 5, "gas": 21_000, "maxFeePerGas": 10**9, "maxPriorityFeePerGas": 1,
}  # fmt: skip

Make = Callable[[KeyServer], KeyService]


def google(server: KeyServer) -> KeyService:
    return GoogleKeyService(f"{server.url}/v1", RESOURCE, token=TOKEN)


def aws(server: KeyServer) -> KeyService:
    boto3 = pytest.importorskip("boto3")
    client = boto3.client(
        "kms", region_name="eu-central-1", endpoint_url=server.url,
        aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret",
    )  # fmt: skip
    return AwsKeyService(client, KEY_ID)


@pytest.fixture
def server() -> Iterator[KeyServer]:
    with KeyServer() as server:
        yield server


@pytest.fixture(params=["memory", "google", "aws"])
def signer(request: pytest.FixtureRequest, server: KeyServer) -> DigestSigner:
    if request.param == "memory":
        return KeySigner(OWN_KEY, chain_id=LOCAL_CHAIN_ID)
    make = {"google": google, "aws": aws}[request.param]
    return RemoteSigner(make(server), chain_id=LOCAL_CHAIN_ID)


def address_of(digest: bytes, signature) -> str:
    compact = signature.r.to_bytes(32) + signature.s.to_bytes(32) + bytes([signature.y_parity])
    point = coincurve.PublicKey.from_signature_and_message(compact, digest, hasher=None)
    return from_bytes(keccak256(point.format(compressed=False)[1:])[12:])


def test_a_signature_names_its_address_and_has_the_low_s(signer) -> None:
    for number in range(8):
        digest = keccak256(bytes([number]))
        signature = signer.sign_digest(digest)
        assert address_of(digest, signature) == signer.address
        assert signature.s <= CURVE_ORDER // 2


def test_it_signs_for_its_own_chain_alone(signer) -> None:
    with pytest.raises(UnsafeKeyError):
        signer.sign(TRANSACTION | {"chainId": 10})


def test_the_chain_takes_what_it_signed(signer, chain_settings: Chain, db: None) -> None:
    payer = Payer(chain_settings)
    payer.signer, payer.address = signer, signer.address
    chain_settings.client.rpc("anvil_setBalance", signer.address, hex(OPEN))
    payer.began_with, payer.first_nonce = OPEN, chain_settings.client.nonce(signer.address)
    intents = ask_for(3)
    payer.finish()
    payer.paid_once(intents)


@pytest.mark.parametrize("make", [google, aws])
def test_a_service_that_gives_the_high_s_is_put_right(server, make: Make) -> None:
    server.high_s = True
    signer = RemoteSigner(make(server), chain_id=LOCAL_CHAIN_ID)
    signature = signer.sign_digest(keccak256(b"x"))
    assert signature.s <= CURVE_ORDER // 2
    assert address_of(keccak256(b"x"), signature) == signer.address


@pytest.mark.parametrize("make", [google, aws])
def test_a_service_that_signs_with_another_key_is_found_out(server, make: Make) -> None:
    signer = RemoteSigner(make(server), chain_id=LOCAL_CHAIN_ID)
    server.another = generate_private_key(K1())
    with pytest.raises(SigningError, match="another key"):
        signer.sign(TRANSACTION)


@pytest.mark.parametrize("make", [google, aws])
def test_a_key_of_another_curve_is_refused(make: Make) -> None:
    with KeyServer(SECP256R1()) as server, pytest.raises(SigningError, match="secp256k1"):
        RemoteSigner(make(server), chain_id=LOCAL_CHAIN_ID)


@pytest.mark.parametrize("make", [google, aws])
def test_a_service_that_stumbles_is_asked_again(server, make: Make) -> None:
    server.fails = 2
    signer = RemoteSigner(make(server), chain_id=LOCAL_CHAIN_ID)
    server.fails = 1
    signer.sign(TRANSACTION)


@pytest.mark.parametrize("make", [google, aws])
def test_a_service_that_is_away_or_talks_nonsense_is_a_signing_error(server, make: Make) -> None:
    signer = RemoteSigner(make(server), chain_id=LOCAL_CHAIN_ID)
    server.garbage = True
    with pytest.raises(SigningError):
        signer.sign(TRANSACTION)
    server.garbage = False
    server.fails = 100
    with pytest.raises(SigningError):
        signer.sign(TRANSACTION)


def test_while_the_service_is_away_nothing_is_signed_and_all_goes_on_later(
    server, chain_settings: Chain, db: None
) -> None:
    signer = RemoteSigner(google(server), chain_id=LOCAL_CHAIN_ID)
    payer = Payer(chain_settings)
    payer.signer, payer.address = signer, signer.address
    chain_settings.client.rpc("anvil_setBalance", signer.address, hex(OPEN))
    payer.began_with, payer.first_nonce = OPEN, chain_settings.client.nonce(signer.address)
    intents = ask_for(2)
    server.fails = 6
    for _ in range(2):
        with pytest.raises(SigningError):
            payer.step()
        payer.clock.pass_(61)
    assert payer.alarms == {"signer"}
    payer.finish()
    payer.paid_once(intents)
    payer.contiguous(2)
    assert payer.alarms == set()


def test_what_is_asked_is_the_digest_and_the_key_that_was_named(server) -> None:
    digest = keccak256(b"only this")
    RemoteSigner(google(server), chain_id=1).sign_digest(digest)
    RemoteSigner(aws(server), chain_id=1).sign_digest(digest)
    paths = [path for path, _ in server.asked]
    assert paths == [
        f"/v1/{RESOURCE}/publicKey", f"/v1/{RESOURCE}:asymmetricSign",
        "TrentService.GetPublicKey", "TrentService.Sign",
    ]  # fmt: skip
    assert server.asked[3][1]["SigningAlgorithm"] == "ECDSA_SHA_256"


def test_a_wrong_token_is_refused_with_what_the_service_said(server) -> None:
    wrong = GoogleKeyService(f"{server.url}/v1", RESOURCE, token="stale")
    with pytest.raises(SigningError, match="401"):
        RemoteSigner(wrong, chain_id=1)


def test_a_service_is_named_by_a_setting(server) -> None:
    named = open_service(f"{server.url}/v1/keys/payer", token=TOKEN)
    with pytest.raises(SigningError, match="404"):
        named.public_key()
    assert server.asked == [("/v1/keys/payer/publicKey", None)]
    for name in ("", "aws:", "vault:key", "https://host/without-a-name", "payer"):
        with pytest.raises(ValueError, match="names no key service"):
            open_service(name)
