"""The audit log, which takes the place of the table of staff's looks. That one stays in the database for this version:
processes of the version before still write to it, and `tenants.audit.looks` moves what they wrote."""

from __future__ import annotations

from django.db import migrations, models

import chatplatform.postgres.models

# ALWAYS: so that pretending to be a replica does not get around it. Who owns the table can still switch it off;
# what they change then, `verify_audit_log` finds.
REFUSE = """
CREATE FUNCTION public.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'The table % can only be added to.', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON public.tenants_auditentry
    FOR EACH STATEMENT EXECUTE FUNCTION public.refuse_change();
ALTER TABLE public.tenants_auditentry ENABLE ALWAYS TRIGGER append_only;
"""
# Django no longer knows that these rows have to go before a tenant or an account does.
LET_GO = """
DO $$
DECLARE one record;
BEGIN
    FOR one IN SELECT conname FROM pg_constraint
        WHERE conrelid = 'public.tenants_stafflook'::regclass AND contype = 'f'
    LOOP
        EXECUTE format('ALTER TABLE public.tenants_stafflook DROP CONSTRAINT %I', one.conname);
    END LOOP;
END
$$
"""
SHARED = {"home": "shared"}


class Migration(migrations.Migration):
    dependencies = [("tenants", "0003_tokens")]

    operations = [
        migrations.CreateModel(
            name="AuditHead",
            fields=[
                ("id", models.UUIDField(default=chatplatform.postgres.models.uuid7, editable=False, primary_key=True, serialize=False)),
                ("chain", models.UUIDField(unique=True)),
                ("sequence", models.BigIntegerField(default=0)),
                ("hash", models.CharField(blank=True, max_length=64)),
                ("key", models.CharField(blank=True, max_length=8)),
                ("signature", models.CharField(blank=True, max_length=64)),
                ("anchored", models.BigIntegerField(default=0, help_text="The last sequence number that was anchored")),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
            options={"abstract": False},
        ),
        migrations.CreateModel(
            name="AuditEntry",
            fields=[
                ("id", models.UUIDField(default=chatplatform.postgres.models.uuid7, editable=False, primary_key=True, serialize=False)),
                ("chain", models.UUIDField(help_text="The tenant, or zeros for the platform")),
                ("sequence", models.BigIntegerField(help_text="From 1 on in each chain, without gaps")),
                ("action", models.CharField(max_length=40)),
                ("actor_kind", models.CharField(max_length=20)),
                ("actor_id", models.CharField(blank=True, max_length=200)),
                ("object_kind", models.CharField(max_length=100)),
                ("object_id", models.CharField(blank=True, max_length=200)),
                ("data", models.JSONField(default=dict)),
                ("request", models.CharField(blank=True, help_text="The request's id, as in the logs", max_length=64)),
                ("address", models.CharField(blank=True, help_text="Keyed hash of the address that it came from", max_length=16)),
                ("at", models.DateTimeField(db_index=True)),
                ("key", models.CharField(help_text="Which key the hash was made with", max_length=8)),
                ("previous", models.CharField(blank=True, help_text="The hash of the entry before it", max_length=64)),
                ("hash", models.CharField(max_length=64)),
            ],
            options={
                "verbose_name_plural": "audit entries",
                "ordering": ["-at", "-sequence"],
                "indexes": [
                    models.Index(fields=["action", "at"], name="audit_action_at"),
                    models.Index(fields=["actor_id", "at"], name="audit_actor_at"),
                    models.Index(fields=["object_id", "at"], name="audit_object_at"),
                ],
                "constraints": [
                    models.UniqueConstraint(fields=("chain", "sequence"), name="audit_sequence_per_chain")
                ],
            },
        ),
        migrations.RunSQL(REFUSE, "DROP FUNCTION public.refuse_change() CASCADE", hints=SHARED),
        migrations.RunSQL(LET_GO, migrations.RunSQL.noop, hints=SHARED),
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel(name="StaffLook")]),
    ]
