"""Calls rendered without web3 equal the calls that eth-abi encodes."""

from uuid import UUID

import pytest
from eth_abi.abi import encode
from hypothesis import given
from hypothesis import strategies as st

from ledger import calldata
from ledger.chain import artifacts
from ledger.chain.addresses import from_bytes
from ledger.chain.keccak import keccak256

WORDS = st.binary(min_size=32, max_size=32)
ADDRESSES = st.binary(min_size=20, max_size=20).map(from_bytes)
UINT256 = st.integers(min_value=0, max_value=2**256 - 1)


def encoded(signature, values):
    types = signature[signature.index("(") + 1 : -1].split(",")
    return keccak256(signature.encode())[:4] + encode(types, values)


@given(ADDRESSES, UINT256, st.lists(WORDS, max_size=20))
def test_a_claim_is_encoded_as_the_contract_reads_it(account, cumulative, proof):
    data = calldata.claim(account=account, cumulative=cumulative, proof=proof)

    assert data == encoded("claim(address,uint256,bytes32[])", [account, cumulative, proof])


@given(st.uuids())
def test_a_deposit_names_the_account_and_gives_its_id_back(account_id):
    data = calldata.deposit(account_id)

    assert data == encoded("deposit(bytes32)", [account_id.bytes.rjust(32, b"\0")])
    assert calldata.id_from_word(data[4:]) == account_id


@given(st.uuids(), UINT256)
def test_funding_is_encoded(batch_id, amount):
    word = batch_id.bytes.rjust(32, b"\0")

    assert calldata.fund_distributor(batch_id, amount) == encoded(
        "fundDistributor(bytes32,uint256)", [word, amount]
    )


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**128 - 1), WORDS, WORDS)
def test_publishing_is_encoded(epoch, total, root, data_sha256):
    data = calldata.publish(epoch=epoch, total=total, root=root, data_sha256=data_sha256)

    assert data == encoded(
        "publish(uint64,uint128,bytes32,bytes32)", [epoch, total, root, data_sha256]
    )


def test_a_word_that_is_no_id_of_ours_is_told_apart():
    assert calldata.id_from_word(b"\x01" + b"\0" * 31) is None
    assert calldata.id_from_word(b"") is None


@pytest.mark.parametrize("number", [-1, 2**256, 1.0, True])
def test_it_refuses_what_is_no_uint256(number):
    with pytest.raises(ValueError, match="does not fit"):
        calldata.fund_distributor(UUID(int=1), number)


def test_it_refuses_a_node_that_is_no_bytes32():
    with pytest.raises(ValueError, match="32 bytes"):
        calldata.claim(account="0x" + "11" * 20, cumulative=1, proof=[b"short"])


def test_an_activation_has_no_arguments():
    assert calldata.activate() == keccak256(b"activate()")[:4]


@given(st.uuids(), st.lists(st.tuples(ADDRESSES, UINT256), max_size=20))
def test_a_batch_of_withdrawals_is_encoded(batch_id, payments):
    data = calldata.withdraw(batch_id, payments)

    selector = keccak256(b"withdraw(bytes32,(address,uint256)[])")[:4]
    word = batch_id.bytes.rjust(32, b"\0")
    assert data == selector + encode(["bytes32", "(address,uint256)[]"], [word, payments])


UINT128 = st.integers(0, 2**128 - 1)
ID64 = st.integers(0, 2**64 - 1)


@given(st.uuids(), WORDS, UINT256)
def test_funding_a_pool_is_encoded(batch_id, pool_id, amount):
    data = calldata.fund_stakers(batch_id=batch_id, pool_id=pool_id, amount=amount)

    gateway = artifacts.load("Gateway")
    word = calldata.id_word(batch_id)
    assert data == gateway.encode_call("fundStakers", word, pool_id, amount)


@given(WORDS, UINT128, ADDRESSES, st.integers(0, 2**16 - 1), WORDS, ID64)
def test_every_call_to_the_pools_is_the_one_of_the_abi(pool, amount, account, share, hash_, slash):
    encode_call = artifacts.load("StakePools").encode_call

    assert calldata.stake(pool) == encode_call("stake", pool)
    assert calldata.unstake(pool, amount) == encode_call("unstake", pool, amount)
    assert calldata.withdraw_stake(pool) == encode_call("withdraw", pool)
    assert calldata.claim_rewards(pool, account) == encode_call("claim", pool, account)
    assert calldata.propose_slash(
        pool_id=pool, account=account, share=share, evidence=hash_
    ) == encode_call("proposeSlash", pool, account, share, hash_)
    assert calldata.appeal_slash(slash, hash_) == encode_call("appeal", slash, hash_)
    assert calldata.execute_slash(slash) == encode_call("executeSlash", slash)


def test_the_id_of_a_pool_is_a_models_or_a_name():
    model = UUID("0190c5a2-7d6e-7000-8000-000000000001")
    assert calldata.pool_of_model(model) == b"\0" * 16 + model.bytes
    assert calldata.pool_named("locked") == b"locked" + b"\0" * 26
    for name in ("", "x" * 33):
        with pytest.raises(ValueError, match="letters"):
            calldata.pool_named(name)
