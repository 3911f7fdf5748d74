"""The work table is the one shared table that tenants' contexts reach, by way of functions that run as its owner and
see to it that the row is the tenant's. Now the table sees to it, too: a function that forgets to, finds its own rows
only. FORCE, because it is the owner whom they run as.

The platform's role and the owner itself see all rows. A dump by anybody but a superuser has to say so:
`pg_dump --enable-row-security`.
"""

from __future__ import annotations

from django.db import migrations

OWN_ROWS = r"""
ALTER TABLE public.conversations_work ENABLE ROW LEVEL SECURITY;
ALTER TABLE public.conversations_work FORCE ROW LEVEL SECURITY;
DO $do$
BEGIN
    EXECUTE format('CREATE POLICY all_rows ON public.conversations_work TO %I USING (true)', current_database() || '_platform');
    EXECUTE format($policy$
        CREATE POLICY own_rows ON public.conversations_work TO %I USING (
            CASE WHEN starts_with(current_setting('role'), current_database() || '_t_') THEN tenant_id = (
                SELECT id FROM public.tenants_tenant
                WHERE schema_name = substr(current_setting('role'), length(current_database()) + 2)
            )
            ELSE true END
        )
    $policy$, current_database() || '_owner');
END
$do$;
"""
ALL_ROWS = """
DROP POLICY own_rows ON public.conversations_work;
DROP POLICY all_rows ON public.conversations_work;
ALTER TABLE public.conversations_work NO FORCE ROW LEVEL SECURITY;
ALTER TABLE public.conversations_work DISABLE ROW LEVEL SECURITY;
"""


class Migration(migrations.Migration):
    dependencies = [("conversations", "0005_work_functions_keep_their_plans")]

    operations = [migrations.RunSQL(OWN_ROWS, ALL_ROWS, hints={"home": "shared"})]
