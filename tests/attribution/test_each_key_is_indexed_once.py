"""A receipt has fifty rows, which go into each index of their tables: none is there twice."""

import pytest
from django.db import connection

BEGINS_ANOTHER = """
SELECT less.relname, more.relname
FROM pg_index i
JOIN pg_index j ON i.indrelid = j.indrelid AND i.indexrelid <> j.indexrelid
JOIN pg_class less ON less.oid = i.indexrelid
JOIN pg_class more ON more.oid = j.indexrelid AND more.relam = less.relam
JOIN pg_class owner ON owner.oid = i.indrelid
WHERE owner.relname LIKE 'attribution\\_%%' AND NOT i.indisunique
    AND i.indpred IS NULL AND j.indpred IS NULL AND i.indexprs IS NULL AND j.indexprs IS NULL
    AND i.indnkeyatts < j.indnkeyatts
    AND (i.indkey::int2[])[0:i.indnkeyatts - 1] = (j.indkey::int2[])[0:i.indnkeyatts - 1]
    AND (i.indclass::oid[])[0:i.indnkeyatts - 1] = (j.indclass::oid[])[0:i.indnkeyatts - 1]
ORDER BY 1
"""


@pytest.mark.django_db
def test_no_index_is_the_beginning_of_another():
    with connection.cursor() as cursor:
        cursor.execute(BEGINS_ANOTHER)
        twice = cursor.fetchall()
    assert not twice, twice
