"""What was written into the books stays as it was written; and a hold over the limit is refused by the statement
that takes it."""

from __future__ import annotations

from django.db import migrations

# Written once: the models' `rights` take the application's roles their right to change them, and this refuses it to
# everybody, pretended replicas and the owner included. Dropping a tenant's schema is another matter.
ONLY_ADDED_TO = """
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
ALTER TABLE {table} ENABLE ALWAYS TRIGGER append_only;
"""
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
    dependencies = [("billing", "0001_initial"), ("tenants", "0004_audit_log")]

    operations = [
        migrations.RunSQL(REFUSE, "DROP FUNCTION public.refuse_over_budget(bigint)", hints=SHARED),
        migrations.RunSQL(ROOM, migrations.RunSQL.noop, hints=TENANT),
        *(
            migrations.RunSQL(
                ONLY_ADDED_TO.format(table=table), f"DROP TRIGGER append_only ON {table}", hints=TENANT
            )
            for table in (
                "billing_ledgerentry", "billing_invoice", "billing_invoiceline", "billing_payment"
            )
        ),
    ]
