"""PostgreSQL plans what is inside a function once, for one search_path; with a schema for each tenant it did so again
at nearly every call. These name all that they use with its schema, so one path of their own does for all."""

from __future__ import annotations

from django.db import migrations

FUNCTIONS = (
    "add_work(uuid)",
    "take_work(uuid, text, double precision)",
    "settle_work(uuid, double precision)",
    "hand_back_work(uuid, integer)",
)


def change(function: str) -> migrations.RunSQL:
    alter = f"ALTER FUNCTION public.{function}"
    return migrations.RunSQL(
        f"{alter} SET search_path = pg_catalog, pg_temp",
        f"{alter} RESET search_path",
        hints={"home": "shared"},
    )


class Migration(migrations.Migration):
    dependencies = [("conversations", "0004_one_row")]

    operations = [change(function) for function in FUNCTIONS]
