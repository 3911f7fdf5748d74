"""Tables whose rows are written once: nobody changes or deletes them, whatever their role.

Two fences again. The tenants' roles and the platform's lose the right to; and a trigger, which carries the name that
such a table is known by, refuses it to everybody, its owner included. To drop the table, or its schema, is another
matter: a tenant can be erased.
"""

from __future__ import annotations

TRIGGER = "append_only"

FUNCTION = """
CREATE FUNCTION public.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$
"""
# In the schema that is being migrated; roles as in `names.py`.
REVOKE = """
DO $$ BEGIN
    EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON {table} FROM %I, %I',
        current_database() || '_' || current_schema(), current_database() || '_platform');
END $$
"""
# Every table of a schema that is append-only.
FIND = """
SELECT tgrelid::regclass::text FROM pg_trigger JOIN pg_class ON pg_class.oid = tgrelid
WHERE tgname = %s AND relnamespace = %s::regnamespace
"""


def made(table: str) -> str:
    """The SQL that makes a table of the current schema append-only."""
    trigger = (
        f"CREATE TRIGGER {TRIGGER} BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();"
    )
    return trigger + REVOKE.format(table=table)


def unmade(table: str) -> str:
    """The SQL that takes it back, but for the rights."""
    return f"DROP TRIGGER {TRIGGER} ON {table}"
