"""Changing many rows in one statement. Django's bulk_update compares each row with each value."""

from collections.abc import Mapping
from typing import LiteralString
from uuid import UUID

from django.db import connection


def add_to_published(amounts: Mapping[UUID, int]) -> None:
    """Add wei to the totals of PayoutAddress rows, by their ids."""
    _run(
        """
        UPDATE ledger_payoutaddress p SET published = p.published + v.value
        FROM unnest(%s::uuid[], %s::numeric[]) AS v(id, value) WHERE p.id = v.id
        """,
        amounts,
    )


def set_positions(positions: Mapping[UUID, int]) -> None:
    """Write where each DistributionLeaf stands in its tree, by the ids of the leaves."""
    _run(
        """
        UPDATE ledger_distributionleaf l SET position = v.value
        FROM unnest(%s::uuid[], %s::numeric[]) AS v(id, value) WHERE l.id = v.id
        """,
        positions,
    )


def _run(statement: LiteralString, values: Mapping[UUID, int]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, [list(values), [str(value) for value in values.values()]])
