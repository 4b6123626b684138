"""Who waits for whom when earnings are paid out.

A publication locks many earnings accounts and then escrow; a claim that is booked locks escrow and
then, for a relay fee that goes back, an earnings account. So that the two never wait in a circle, a
publication runs alone and everything that moves escrow or relay fees runs beside its like only.
"""

from django.db import connection

PUBLICATION = 0x6F6C_6469  # "oldi"
TREES = 0x6F6C_7472  # "oltr"


def publish_alone() -> None:
    """Wait for any other publication and for all below, until the end of the transaction."""
    _wait("SELECT pg_advisory_xact_lock(%s)", PUBLICATION)


def beside_no_publication() -> None:
    """Wait for a publication that runs, and let none begin until the end of the transaction.

    Call it before any row is locked.
    """
    _wait("SELECT pg_advisory_xact_lock_shared(%s)", PUBLICATION)


def build_alone() -> None:
    """Wait for any other tree that is built, until the end of the transaction."""
    _wait("SELECT pg_advisory_xact_lock(%s)", TREES)


def _wait(statement: str, lock: int) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, [lock])
