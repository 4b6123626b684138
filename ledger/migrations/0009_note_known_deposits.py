"""A row for each deposit that was credited before deposits had rows of their own."""

from django.db import migrations

# The key of such an entry is deposit:CHAIN:TRANSACTION:PLACE; its positive leg is the account.
FORWARD = """
INSERT INTO ledger_deposit
    (id, created_at, chain_id, tx_hash, log_index, account_id, amount, state, entry_id, undone)
SELECT e.id, e.created_at, split_part(e.idempotency_key, ':', 2)::bigint,
       split_part(e.idempotency_key, ':', 3), split_part(e.idempotency_key, ':', 4)::int,
       p.account_id, p.amount, 'CREDITED', e.id, 0
FROM ledger_entry e JOIN ledger_posting p ON p.entry_id = e.id AND p.amount > 0
WHERE e.kind = 'DEPOSIT' AND e.idempotency_key LIKE 'deposit:%'
  AND NOT EXISTS (SELECT 1 FROM ledger_entry r WHERE r.reverses_id = e.id)
ON CONFLICT DO NOTHING
"""


class Migration(migrations.Migration):
    dependencies = [("ledger", "0008_receivables")]

    operations = [migrations.RunSQL(FORWARD, migrations.RunSQL.noop)]
