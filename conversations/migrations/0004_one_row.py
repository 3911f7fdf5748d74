"""PostgreSQL takes a function that returns a table for one of 1,000 rows, and would read all conversations of a tenant
to join them with these. There is one row at most."""

from __future__ import annotations

from django.db import migrations

TAKE = "ALTER FUNCTION public.take_work(uuid, text, double precision)"


class Migration(migrations.Migration):
    dependencies = [("conversations", "0003_hand_back")]

    operations = [
        migrations.RunSQL(f"{TAKE} ROWS 1", f"{TAKE} ROWS 1000", hints={"home": "shared"}),
    ]
