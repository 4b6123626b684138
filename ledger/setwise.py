"""Reading many rows without an object for each."""

from collections.abc import Iterator

from django.db import connection, transaction

ROWS = 20_000


def leaves_under(epoch: int) -> Iterator[tuple[str, int]]:
    """Every address that was ever paid with its cumulative wei as of `epoch`, in no order.

    An address's total less what later epochs have added; read by a cursor of the server, so that
    memory does not grow with the number of addresses, in one snapshot.
    """
    with transaction.atomic(), connection.chunked_cursor() as cursor:
        cursor.execute(
            """
            SELECT address, cumulative FROM (
                SELECT p.address, p.published - coalesce(later.amount, 0) AS cumulative
                FROM ledger_payoutaddress p
                LEFT JOIN (
                    SELECT l.payee_id, sum(l.amount) AS amount
                    FROM ledger_distributionleaf l
                    JOIN ledger_distribution d ON d.id = l.distribution_id
                    WHERE d.epoch > %s GROUP BY l.payee_id
                ) later ON later.payee_id = p.id
            ) leaves WHERE cumulative > 0
            """,
            [epoch],
        )
        while rows := cursor.fetchmany(ROWS):
            for address, cumulative in rows:
                yield address, int(cumulative)
