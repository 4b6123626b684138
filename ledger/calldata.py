"""Calls to our contracts as bytes, without web3, so that pages and services may render them.

Source: Solidity contract ABI specification, sections "Function Selector" and "Argument Encoding".
"""

from collections.abc import Sequence
from uuid import UUID

from ledger.chain.addresses import address_bytes
from ledger.chain.keccak import keccak256

WORD = 32


def deposit(account_id: UUID) -> bytes:
    """`Gateway.deposit(bytes32 accountId)`."""
    return _call("deposit(bytes32)", [id_word(account_id)])


def fund_distributor(batch_id: UUID, amount: int) -> bytes:
    """`Gateway.fundDistributor(bytes32 batchId, uint256 amount)`; the amount is wei."""
    return _call("fundDistributor(bytes32,uint256)", [id_word(batch_id), _uint(amount)])


def withdraw(batch_id: UUID, payments: Sequence[tuple[str, int]]) -> bytes:
    """`Gateway.withdraw(bytes32 batchId, (address to, uint256 amount)[] payments)`; wei."""
    head = [id_word(batch_id), _uint(2 * WORD), _uint(len(payments))]
    words = [word for address, amount in payments for word in (_address(address), _uint(amount))]
    return _call("withdraw(bytes32,(address,uint256)[])", [*head, *words])


def fund_stakers(*, batch_id: UUID, pool_id: bytes, amount: int) -> bytes:
    """`Gateway.fundStakers(bytes32 batchId, bytes32 poolId, uint256 amount)`; the amount is wei."""
    words = [id_word(batch_id), _bytes32(pool_id), _uint(amount)]
    return _call("fundStakers(bytes32,bytes32,uint256)", words)


def stake(pool_id: bytes) -> bytes:
    """`StakePools.stake(bytes32 poolId)`; what is sent along is staked."""
    return _call("stake(bytes32)", [_bytes32(pool_id)])


def unstake(pool_id: bytes, amount: int) -> bytes:
    """`StakePools.unstake(bytes32 poolId, uint128 amount)`; the amount is wei."""
    return _call("unstake(bytes32,uint128)", [_bytes32(pool_id), _uint(amount, 128)])


def withdraw_stake(pool_id: bytes) -> bytes:
    """`StakePools.withdraw(bytes32 poolId)`, once the cooldown is over."""
    return _call("withdraw(bytes32)", [_bytes32(pool_id)])


def claim_rewards(pool_id: bytes, account: str) -> bytes:
    """`StakePools.claim(bytes32 poolId, address account)`; anyone may call it for anyone."""
    return _call("claim(bytes32,address)", [_bytes32(pool_id), _address(account)])


def propose_slash(*, pool_id: bytes, account: str, share: int, evidence: bytes) -> bytes:
    """`StakePools.proposeSlash(bytes32, address, uint16 share, bytes32 evidence)`.

    The share is basis points of the stake, the evidence the SHA-256 of the file that says why.
    """
    return _call(
        "proposeSlash(bytes32,address,uint16,bytes32)",
        [_bytes32(pool_id), _address(account), _uint(share, 16), _bytes32(evidence)],
    )


def appeal_slash(slash_id: int, statement: bytes) -> bytes:
    """`StakePools.appeal(uint64 slashId, bytes32 statement)`; the bond is sent along."""
    return _call("appeal(uint64,bytes32)", [_uint(slash_id, 64), _bytes32(statement)])


def execute_slash(slash_id: int) -> bytes:
    """`StakePools.executeSlash(uint64 slashId)`, once its appeal window is over."""
    return _call("executeSlash(uint64)", [_uint(slash_id, 64)])


def pool_of_model(model_id: UUID) -> bytes:
    """The id of a model's pool: its UUID at the right, so that the pool opens by itself."""
    return id_word(model_id)


def pool_named(name: str) -> bytes:
    """The id of a pool that the timelock opened: its name in ASCII, zeros behind.

    Raises ValueError for an empty name and one that does not fit.
    """
    raw = name.encode("ascii")
    if not 0 < len(raw) <= WORD:
        raise ValueError(f"{name!r} has not 1 to {WORD} letters.")
    return raw.ljust(WORD, b"\x00")


def publish(*, epoch: int, total: int, root: bytes, data_sha256: bytes) -> bytes:
    """`RewardDistributor.publish(uint64, uint128, bytes32 root, bytes32 dataHash)`."""
    return _call(
        "publish(uint64,uint128,bytes32,bytes32)",
        [_uint(epoch, 64), _uint(total, 128), _bytes32(root), _bytes32(data_sha256)],
    )


def activate() -> bytes:
    """`RewardDistributor.activate()`, once a root's delay is over."""
    return _call("activate()", [])


def claim(*, account: str, cumulative: int, proof: Sequence[bytes]) -> bytes:
    """`RewardDistributor.claim(address account, uint256 cumulative, bytes32[] proof)`."""
    head = [_address(account), _uint(cumulative), _uint(3 * WORD)]
    tail = [_uint(len(proof)), *(_bytes32(node) for node in proof)]
    return _call("claim(address,uint256,bytes32[])", [*head, *tail])


def id_word(identifier: UUID) -> bytes:
    """A UUID as a bytes32: the 16 bytes at the right, zeros before them."""
    return identifier.bytes.rjust(WORD, b"\x00")


def id_from_word(word: bytes) -> UUID | None:
    """The UUID that `id_word` wrote, or None where the word holds something else."""
    if len(word) != WORD or any(word[:16]):
        return None
    return UUID(bytes=word[16:])


def hex_data(data: bytes) -> str:
    return "0x" + data.hex()


def _call(signature: str, words: Sequence[bytes]) -> bytes:
    return keccak256(signature.encode("ascii"))[:4] + b"".join(words)


def _uint(number: int, bits: int = 256) -> bytes:
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < 1 << bits:
        raise ValueError(f"{number!r} does not fit a uint{bits}.")
    return number.to_bytes(WORD, "big")


def _address(address: str) -> bytes:
    return address_bytes(address).rjust(WORD, b"\x00")


def _bytes32(value: bytes) -> bytes:
    if len(value) != WORD:
        raise ValueError(f"A bytes32 has 32 bytes, not {len(value)}.")
    return value
