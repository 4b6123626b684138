"""From whatever a stranger holds (an id, a hash, a number) to the page that shows it."""

import re
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django.urls import reverse

from accounts import pages
from accounts.models import User
from attribution.models import Checkpoint, ExactAudit, Receipt, Rescoring
from datanets.models import Datanet, Record, Version
from ledger import explorer, truth
from ledger.chain.addresses import is_address
from ledger.models import Account, Distribution, Entry, Intent
from modelfactory.models import Model, Run
from serving.models import Deployment

BLOCK = re.compile(r"#?\d{1,3}(,\d{3})+|#?\d{1,18}", re.ASCII)
HASH = re.compile(r"(0x)?[0-9a-f]{64}", re.IGNORECASE)

# The kind of a page, and the rows that `user` may see of it.
BY_ID: list[tuple[str, Callable[[Any], Any]]] = [
    ("receipt", lambda user: Receipt.objects.all()),
    ("rescoring", lambda user: Rescoring.objects.visible_to(user)),
    ("exact_audit", lambda user: ExactAudit.objects.visible_to(user)),
    ("entry", lambda user: Entry.objects.all()),
    ("account", lambda user: Account.objects.visible_to(user)),
    ("distribution", lambda user: Distribution.objects.all()),
    ("intent", lambda user: Intent.objects.all()),
    ("checkpoint", lambda user: Checkpoint.objects.all()),
    ("version", lambda user: Version.objects.filter(datanet__in=_datanets(user))),
    ("record", lambda user: Record.objects.visible_to(user)),
    ("datanet", lambda user: Datanet.objects.visible_to(user)),
    ("model", lambda user: Model.objects.visible_to(user)),
    ("run", lambda user: Run.objects.visible_to(user)),
    ("deployment", lambda user: Deployment.objects.visible_to(user)),
]


def _datanets(user: Any) -> Any:
    return Datanet.objects.visible_to(user).values("pk")


def page_of(text: str, user: Any) -> str:
    """Return the URL of what `text` names, or "" where nothing that `user` may see has it.

    An id, a hash, an address, the number of a block, or `@` and a person's handle.
    """
    text = text.strip()
    try:
        return _by_id(UUID(text), user)
    except ValueError:
        pass
    if HASH.fullmatch(text):
        return _by_hash(text.lower().removeprefix("0x"), user)
    if is_address(text):
        return pages.url("address", text) if explorer.address(text) else ""
    if BLOCK.fullmatch(text):
        number = text.removeprefix("#").replace(",", "")
        return pages.url("block", number) if truth.block_of(number) else ""
    # Without the sign a handle is a word like any other, and the search lists who has it.
    return _by_handle(text[1:]) if text.startswith("@") else ""


def _by_handle(handle: str) -> str:
    person = User.objects.filter(handle=handle.lower()).first()
    return reverse("people:person", args=[person.handle]) if person else ""


def _by_id(identifier: UUID, user: Any) -> str:
    for kind, visible in BY_ID:
        if visible(user).filter(pk=identifier).exists():
            return pages.url(kind, identifier)
    receipt = Receipt.objects.filter(completion_id=identifier).first()
    return pages.url("receipt", receipt.pk) if receipt else ""


def _by_hash(digest: str, user: Any) -> str:
    """Merkle roots, content hashes, adapter hashes, transactions and blocks."""
    prefixed = f"0x{digest}"
    visible = _datanets(user)
    candidates: list[tuple[str, Any]] = [
        ("version", Version.objects.filter(root=digest, datanet__in=visible)),
        ("record", Record.objects.visible_to(user).filter(content_hash=digest)),
        ("model", Model.objects.visible_to(user).filter(adapter_sha256=digest)),
        ("model", Model.objects.visible_to(user).filter(manifest_sha256=digest)),
        ("receipt", Receipt.objects.filter(leaf_hash=digest)),
        ("rescoring", Rescoring.objects.filter(leaf_hash=digest)),
        ("distribution", Distribution.objects.filter(root=prefixed)),
        ("checkpoint", Checkpoint.objects.filter(root=digest)),
    ]
    for kind, rows in candidates:
        found = rows.values_list("pk", flat=True).first()
        if found is not None and (url := pages.url(kind, found)):
            return url
    return _on_the_chain(prefixed, user)


def _on_the_chain(prefixed: str, user: Any) -> str:
    if explorer.transaction(prefixed, user) is not None:
        return pages.url("transaction", prefixed)
    return pages.url("block", prefixed) if explorer.block(prefixed, user) is not None else ""
