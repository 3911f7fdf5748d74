"""A worker that is stopped gives its leases back, in the statement that keeps the text; see 0002 for how."""

from __future__ import annotations

from django.db import migrations, models

TENANT = """(
    SELECT id FROM public.tenants_tenant
    WHERE schema_name = substr(current_setting('role'), length(current_database()) + 2)
)"""

HAND_BACK = f"""
CREATE FUNCTION public.hand_back_work(reply uuid, tried integer) RETURNS void LANGUAGE sql SECURITY DEFINER
BEGIN ATOMIC
    UPDATE public.conversations_work AS work
    SET owner = '', lease_expires_at = NULL, enqueued_at = statement_timestamp(), handed_back = work.handed_back + 1
    WHERE work.id = reply AND work.tenant_id = {TENANT} AND work.attempt = tried AND work.state = 'pending';
END
"""


class Migration(migrations.Migration):
    dependencies = [("conversations", "0002_work_functions")]

    operations = [
        migrations.AddField(
            model_name="work",
            name="handed_back",
            field=models.PositiveSmallIntegerField(
                db_default=0, help_text="Attempts that a worker gave back because it was stopped: nobody's fault"
            ),
        ),
        migrations.RunSQL(HAND_BACK, "DROP FUNCTION public.hand_back_work", hints={"home": "shared"}),
    ]
