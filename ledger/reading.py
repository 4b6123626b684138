"""What the ledger's pages show: postings with names, groups as bars, progress on the chain."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings

from accounts import pages
from ledger import calldata, selectors, truth
from ledger.chain import artifacts
from ledger.errors import LedgerError
from ledger.models import Account, Claim, Entry, Intent, Posting, Withdrawal
from ledger.onchain import current_deployment, raw_wallet_call
from ledger.truth import Truth

# The kinds of things that a posting is about, and the filter of each in an address.
NAMED = ("datanet", "model")
ABOUT = (*NAMED, "completion")
# Entries about a fee, in which whoever's account is private is the payer.
OF_A_FEE = frozenset({Entry.Kind.HOLD, Entry.Kind.CAPTURE, Entry.Kind.RELEASE})


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that another room shows: its name, and its page where there is one."""

    kind: str
    id: UUID
    name: str
    url: str


@dataclass(frozen=True, slots=True)
class Row:
    """A posting as a table shows it; an account that the reader may not see has no page."""

    posting: Posting
    holder: str
    account_url: str
    about: Sequence[Thing]
    truth: Truth


@dataclass(frozen=True, slots=True)
class Progress:
    """Something that goes to the chain, and how far it is."""

    subject: Any
    truth: Truth

    @property
    def settled(self) -> bool:
        return self.truth.settled


def with_names(postings: Iterable[Posting], *, user: Any) -> list[Row]:
    """Postings as `user` may see them, with the names of what they are about.

    What has no public name gets no link either: its address may spell the name.
    """
    rows = list(postings)
    truths = truth.of_entries({row.entry_id: row.entry for row in rows}.values())
    handles = selectors.owner_handles([row.account for row in rows])
    ids = {kind: [pk for row in rows if (pk := getattr(row, f"{kind}_id"))] for kind in ABOUT}
    names = {kind: pages.names(kind, found) for kind, found in ids.items()}
    linked = {kind: pages.known_names(kind, ids[kind]) for kind in NAMED}
    return [
        Row(
            posting=row,
            holder=_holder(row, handles, user),
            account_url=(
                pages.url("account", row.account_id) if row.account.is_visible_to(user) else ""
            ),
            about=[
                Thing(kind, pk, names[kind][pk], _about_url(kind, pk, row, linked, user))
                for kind in ABOUT
                if (pk := getattr(row, f"{kind}_id"))
            ],
            truth=truths[row.entry_id],
        )
        for row in rows
    ]


def _about_url(
    kind: str, pk: UUID, posting: Posting, linked: dict[str, dict[UUID, str]], user: Any
) -> str:
    """An answer is its payer's alone; to everybody else it is its receipt."""
    if kind != "completion":
        return pages.url(kind, pk) if pk in linked[kind] else ""
    account = posting.account
    is_payers = account.kind in Account.PRIVATE and account.owner_id == getattr(user, "pk", None)
    return pages.url("completion" if is_payers else "receipt_of_completion", pk)


def _holder(posting: Posting, handles: dict[UUID, str], user: Any) -> str:
    if not posting.account.is_visible_to(user):
        return "payer" if posting.entry.kind in OF_A_FEE else ""
    return handles.get(posting.account.owner_id, "") if posting.account.owner_id else ""


def name_of(kind: str, pk: UUID) -> str:
    return pages.names(kind, [pk])[pk]


def owner_of(account: Account) -> Thing | None:
    """The Datanet or completion that an account belongs to, where another room shows it."""
    kinds = {Account.Kind.TREASURY: "datanet", Account.Kind.SUSPENSE: "completion"}
    kind = kinds.get(Account.Kind(account.kind))
    if kind is None or account.owner_id is None:
        return None
    pk = account.owner_id
    has_page = kind not in NAMED or pages.known_names(kind, [pk])
    return Thing(kind, pk, name_of(kind, pk), pages.url(kind, pk) if has_page else "")


def claim_progress(claim: Claim) -> Progress:
    return Progress(claim, truth.of_claim(claim))


def intent_progress(intent: Intent) -> Progress:
    return Progress(intent, truth.of_intent(intent))


def withdrawal_progress(withdrawal: Withdrawal) -> Progress:
    return Progress(withdrawal, truth.of_withdrawal(withdrawal))


def called_by(intent: Intent) -> tuple[str, str]:
    """The contract's name and the function's signature; "" where it is not one of ours.

    The arguments are left out: those of a deposit name an account.
    """
    deployment = current_deployment()
    name = deployment.name(intent.to) if deployment else ""
    if name not in artifacts.CONTRACTS:
        return "", ""
    selector = bytes(intent.data[:4])
    functions = artifacts.load(name).functions.values()
    return name, next((one.signature for one in functions if one.selector == selector), "")


def cause_of(intent: Intent, user: Any) -> Thing | None:
    """Why it was asked of the chain: a distribution (of a claim, too), a checkpoint, an account.

    None where there is none, or where it is the account of somebody else than `user`.
    """
    kind, pk = intent.cause_kind, intent.cause_id
    if kind == "claim" and pk is not None:
        claim = Claim.objects.filter(pk=pk).first()
        kind, pk = "distribution", claim.distribution_id if claim else None
    if pk is None:
        return None
    if kind == "account" and not Account.objects.visible_to(user).filter(pk=pk).exists():
        return None
    return Thing(kind, pk, str(pk), pages.url(kind, pk))


def deposit_call(account: Account) -> dict[str, str] | None:
    """The call by which a wallet deposits for `account`; None where there is no Gateway yet."""
    deployment = current_deployment()
    if deployment is None:
        return None
    return raw_wallet_call(deployment.address("Gateway"), calldata.deposit(account.pk))


def chain_for_wallets() -> dict[str, Any] | None:
    """What `wallet_addEthereumChain` (EIP-3085) wants to know, or None without a chain."""
    if not settings.CHAIN_ENABLED:
        return None
    explorer = settings.CHAIN_EXPLORER_URL
    return {
        "chainId": hex(settings.CHAIN_ID),
        "chainName": "OpenLedger (local)" if settings.CHAIN_IS_LOCAL else "OpenLedger",
        "nativeCurrency": {"name": "OPEN", "symbol": "OPEN", "decimals": 18},
        "rpcUrls": [settings.CHAIN_PUBLIC_RPC_URL] if settings.CHAIN_PUBLIC_RPC_URL else [],
        "blockExplorerUrls": [explorer] if explorer else [],
    }


# Why the distributor refuses a claim, for a wallet whose estimate of the gas fails.
WHY_NO_CLAIM = {
    "NothingToClaim": "All of it was claimed already. Reload the page.",
    "WrongProof": "The proof is of another root than the one in force. Reload the page.",
    "ClaimsPaused": "The guardian has paused claims; nothing expires.",
    "OverTotal": "The distributor would pay more than was published; staff have to look at it.",
    "TransferFailed": "The address that is paid refuses OPEN.",
}


def claim_refusals() -> dict[str, str]:
    """By the selector of a custom error: why the distributor refuses, in a sentence."""
    errors = artifacts.load("RewardDistributor").errors
    return {
        "0x" + selector.hex(): WHY_NO_CLAIM.get(item.name, f"{item.name}.")
        for selector, item in errors.items()
    }


def failure_of(error: LedgerError) -> dict[str, str]:
    """A refusal as the API tells it."""
    return {"code": error.code, "message": error.message}
