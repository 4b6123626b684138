"""A mirror of a chain that no node stands behind: blocks, events and intents as rows."""

from ledger.calldata import id_word
from ledger.models import ChainBlock, ChainHead, ChainLog, Intent, IntentAttempt
from tests.ledger.books import NOON

CHAIN = 31337


def word(number):
    return "0x" + f"{number:064x}"


def head(number, *, safe=None, final=0):
    values = {"number": number, "hash": word(number), "genesis_hash": word(0)}
    values |= {"safe_number": final if safe is None else safe, "final_number": final}
    return ChainHead.objects.update_or_create(chain_id=CHAIN, defaults=values)[0]


def block(number, hash_number=None):
    return ChainBlock.objects.create(
        chain_id=CHAIN,
        number=number,
        hash=word(hash_number or number + 0xB10C0000),
        parent_hash=word(number + 0xB10BFFFF),
        timestamp=int(NOON.timestamp()),
    )


def log(in_block, tx_hash, *, contract="Gateway", event="Deposited", index=0, **arguments):
    return ChainLog.objects.create(
        block=in_block,
        tx_hash=tx_hash,
        log_index=index,
        contract=contract,
        address="0x" + "0c" * 20,
        event=event,
        arguments=arguments,
        applied_at=NOON,
    )


def account_word(account):
    return "0x" + id_word(account.pk).hex()


def intent(key="one", **changes):
    values = {"kind": Intent.Kind.ANCHOR, "chain_id": CHAIN, "to": "0x" + "0c" * 20, "data": b""}
    return Intent.objects.create(key=key, **values | changes)


def attempt(of, tx_hash, nonce=1):
    return IntentAttempt.objects.create(
        intent=of, nonce=nonce, tx_hash=tx_hash, raw=b"", maximum_fee=1, priority_fee=1
    )
