"""The switch that every trigger of pgtrigger asks first, without a subtransaction.

The library's own `_pgtrigger_should_ignore` reads a setting that is mostly not there and catches
the error. Caught errors roll a subtransaction back, and each rollback walks through all deferred
checks that the transaction has gathered: a million rows with a trigger take quadratic time. The
function below answers the same and catches nothing. Since every migration with a trigger writes
the library's own again, it is put in place after each `migrate`.
"""

from __future__ import annotations

from typing import Any, Final, LiteralString

from django.db import connections

# `pgtrigger.ignore` puts a text array there for a statement; an empty text is left behind.
SWITCH: Final[LiteralString] = """
CREATE OR REPLACE FUNCTION "public"._pgtrigger_should_ignore(trigger_name NAME)
RETURNS BOOLEAN LANGUAGE sql STABLE PARALLEL SAFE AS $$
    SELECT coalesce(
        trigger_name = ANY(nullif(current_setting('pgtrigger.ignore', true), '')::text[]), false
    )
$$
"""


def install_switch(*, using: str, **_: Any) -> None:
    """Receiver of `post_migrate`."""
    with connections[using].cursor() as cursor:
        cursor.execute(SWITCH)
