"""Indexes that nobody looks into, and that were written with every turn.

The messages of a conversation are found by `message_in_order`; replies are not looked for by time; and of the work
there is only as much as is under way, of which whoever looks through it wants nearly all. With no index on what they
change, and with room in its pages, taking and settling work writes no index at all.

The foreign keys stay. Django drops one with its index, and then checks all rows to make it again; so the index is
dropped here by its name, which is the same in every schema.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations, models


def without_index(
    model: str, column: str, index: str, home: str, **key: Any
) -> migrations.SeparateDatabaseAndState:
    """Drop the index of a foreign key, which is otherwise what `key` says."""
    drop = migrations.RunSQL(
        f"DROP INDEX IF EXISTS {index}",
        f"CREATE INDEX IF NOT EXISTS {index} ON conversations_{model} ({column}_id)",
        hints={"home": home},
    )
    field: Any = models.ForeignKey(db_index=False, on_delete=models.CASCADE, **key)
    return migrations.SeparateDatabaseAndState([drop], [migrations.AlterField(model, column, field)])


MESSAGES = "conversations_message_conversation_id_f1a2d5e9"
WORK = "conversations_work_tenant_id_fa888b31"


class Migration(migrations.Migration):
    dependencies = [("conversations", "0007_words")]

    operations = [
        without_index(
            "message", "conversation", MESSAGES, "tenant", related_name="messages", to="conversations.conversation"
        ),
        migrations.RemoveIndex("reply", "reply_by_time"),
        without_index("work", "tenant", WORK, "shared", related_name="+", to="tenants.tenant"),
        migrations.RemoveIndex("work", "work_by_lease"),
        migrations.RunSQL(
            "ALTER TABLE conversations_work SET (fillfactor = 50)",
            "ALTER TABLE conversations_work RESET (fillfactor)",
            hints={"home": "shared"},
        ),
    ]
