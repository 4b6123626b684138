"""What `manage.py check` says of the ledger; the commands that start something run it too."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register

from ledger.keys import SAFE_KEY, look_at_key


@register("ledger")
def check_key(app_configs: Any, **_: Any) -> Sequence[CheckMessage]:
    """An unsafe key of the chain: E001 everybody knows it, E002 in the open, E003 unreadable."""
    found = look_at_key() if settings.CHAIN_ENABLED else None
    if found is None or not found.problem:
        return []
    return [Error(found.problem, hint=SAFE_KEY, id=found.code)]
