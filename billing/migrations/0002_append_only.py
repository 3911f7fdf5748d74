"""What was written into the books stays as it was written; and a hold over the limit is refused by the statement
that takes it."""

from __future__ import annotations

from django.db import migrations

from chatplatform.postgres import append_only

# A statement cannot raise by itself. With this at its end, all that it has written goes with the refusal.
REFUSE = """
CREATE FUNCTION public.refuse_over_budget(refused bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF refused > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'CB402', MESSAGE = 'over budget';
    END IF;
END
$$
"""
# Each turn changes the same rows of balances: with room on the page their index stays as it is.
ROOM = "ALTER TABLE billing_balance SET (fillfactor = 50)"
SHARED, TENANT = {"home": "shared"}, {"home": "tenant"}


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    operations = [
        migrations.RunSQL(REFUSE, "DROP FUNCTION public.refuse_over_budget(bigint)", hints=SHARED),
        migrations.RunSQL(
            append_only.FUNCTION, "DROP FUNCTION public.refuse_change() CASCADE", hints=SHARED
        ),
        migrations.RunSQL(ROOM, migrations.RunSQL.noop, hints=TENANT),
        *(
            migrations.RunSQL(append_only.made(table), append_only.unmade(table), hints=TENANT)
            for table in (
                "billing_ledgerentry", "billing_invoice", "billing_invoiceline", "billing_payment"
            )
        ),
    ]
