"""What a key has spent in a month, and its cap.

A request's highest price is counted when it is held, and what was not used is taken off when it
ends; so what runs at the same time cannot go over the cap together.

Lock order: after the ledger's accounts, at the hold as at the capture.
"""

from datetime import UTC, date, datetime
from typing import Any
from uuid import UUID

from django.db import connection
from django.db.models import F

from accounts.amounts import open_text
from accounts.models import ApiKey, KeySpending

_COUNT = """
INSERT INTO accounts_keyspending AS known (key_id, month, amount)
VALUES (%(key)s, %(month)s, %(amount)s)
ON CONFLICT (key_id, month) DO UPDATE SET amount = known.amount + EXCLUDED.amount
RETURNING amount, (SELECT spend_cap FROM accounts_apikey WHERE id = %(key)s)
"""


class KeyCapReached(Exception):
    """The key may not spend that much more this month; the message says what is left."""


def count(*, key: ApiKey, amount: int, at: datetime) -> None:
    """Count `amount` wei as spent by the key, in the caller's transaction.

    Raises KeyCapReached; the caller rolls back.
    """
    values: dict[str, Any] = {"key": key.pk, "month": month_of(at), "amount": amount}
    with connection.cursor() as cursor:
        cursor.execute(_COUNT, values)
        spent, cap = map(int, cursor.fetchone())
    if cap and spent > cap:
        left = max(0, cap - (spent - amount))
        raise KeyCapReached(
            f"This may cost up to {open_text(amount)} OPEN, and the key “{key.name}” may spend "
            f"{open_text(left)} OPEN more this month. Raise its cap on the page of your keys "
            "(/people/me/keys/), or wait for the next month (UTC)."
        )


def give_back(*, key_id: UUID, amount: int, counted_at: datetime) -> None:
    """Take off what was counted at `counted_at` and not spent."""
    if amount:
        KeySpending.objects.filter(key_id=key_id, month=month_of(counted_at)).update(
            amount=F("amount") - amount
        )


def spent(keys: list[ApiKey], at: datetime) -> dict[UUID, int]:
    """Wei of this month by key, with what is held."""
    rows = KeySpending.objects.filter(key__in=keys, month=month_of(at))
    return dict(rows.values_list("key_id", "amount"))


def month_of(at: datetime) -> date:
    return at.astimezone(UTC).date().replace(day=1)
