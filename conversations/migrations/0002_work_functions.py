"""What a tenant's role may do with its own work rows, and with no others', in the statement it is running anyway.

Without these, each step of a turn changes its role to the platform's and back: two round trips more. The functions
know the tenant from the role itself (`SET ROLE` shows in `current_setting('role')` also where a function runs as its
owner), so a tenant cannot name another one. Their bodies are parsed here, once: no search_path can lead them astray.
"""

from __future__ import annotations

from django.db import migrations

# Names of schemas are unique; a role that is no tenant's has none.
TENANT = """(
    SELECT id FROM public.tenants_tenant
    WHERE schema_name = substr(current_setting('role'), length(current_database()) + 2)
)"""

# Without a tenant, the column's NOT NULL refuses.
ADD = f"""
CREATE FUNCTION public.add_work(reply uuid) RETURNS void LANGUAGE sql SECURITY DEFINER
BEGIN ATOMIC
    INSERT INTO public.conversations_work
        (id, tenant_id, state, attempt, owner, created_at, enqueued_at, cancel_requested)
    VALUES (reply, {TENANT}, 'pending', 0, '', statement_timestamp(), statement_timestamp(), false);
END
"""

TAKE = f"""
CREATE FUNCTION public.take_work(reply uuid, holder text, seconds double precision)
RETURNS TABLE (attempt integer, cancel_requested boolean) LANGUAGE sql SECURITY DEFINER
BEGIN ATOMIC
    UPDATE public.conversations_work AS work
    SET owner = holder, attempt = work.attempt + 1,
        lease_expires_at = statement_timestamp() + make_interval(secs => seconds)
    WHERE work.id = reply AND work.tenant_id = {TENANT} AND work.state = 'pending'
        AND (work.lease_expires_at IS NULL OR work.lease_expires_at < statement_timestamp())
    RETURNING work.attempt::integer, work.cancel_requested;
END
"""

SETTLE = f"""
CREATE FUNCTION public.settle_work(reply uuid, seconds double precision) RETURNS void LANGUAGE sql SECURITY DEFINER
BEGIN ATOMIC
    UPDATE public.conversations_work AS work
    SET state = 'settled', owner = '', lease_expires_at = statement_timestamp() + make_interval(secs => seconds)
    WHERE work.id = reply AND work.tenant_id = {TENANT};
END
"""


def sql(forwards: str, backwards: str) -> migrations.RunSQL:
    return migrations.RunSQL(forwards, backwards, hints={"home": "shared"})


class Migration(migrations.Migration):
    dependencies = [("conversations", "0001_initial")]

    operations = [
        sql(ADD, "DROP FUNCTION public.add_work"),
        sql(TAKE, "DROP FUNCTION public.take_work"),
        sql(SETTLE, "DROP FUNCTION public.settle_work"),
    ]
