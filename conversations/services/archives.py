"""A contact or a whole tenant as an archive, and a tenant out of one.

A ZIP file: `manifest.json` says what it is of, and the SHA-256 and number of rows of each other file; these have one
JSON object a line, a file for each table. Texts are in the clear: an archive is for people, or for another installation
with other keys. They are sealed anew when it is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID
from zipfile import ZIP_DEFLATED, BadZipFile, ZipFile

from django.core.serializers.json import DjangoJSONEncoder
from django.db import connection, models, transaction
from django.utils import timezone

from billing.models import Balance, BudgetNotice, Hold, Invoice, InvoiceLine, LedgerEntry, Payment
from chatplatform import tenancy
from conversations.models import Chunk, Conversation, Document, Feedback, Message, MessageWords, Reply
from conversations.vocabulary import RUNNING, ReplyStatus
from tenants import audit
from tenants.fields import SealedTextField
from tenants.models import Contact, DataKey, Tenant, TenantIdempotencyRecord
from tenants.models.configuration import FIELDS
from tenants.services import configuration, provisioning
from tenants.vocabulary import AuditAction

FORMAT, MANIFEST, BATCH = 1, "manifest.json", 500
# In the order in which they can be read again; and what is of this installation alone, or made anew.
CARRIED: tuple[type[models.Model], ...] = (
    Contact, Conversation, Message, Reply, Feedback, Document, Chunk, LedgerEntry, Balance, BudgetNotice, Invoice,
    InvoiceLine, Payment,
)  # fmt: skip
LEFT: tuple[type[models.Model], ...] = (TenantIdempotencyRecord, DataKey, Hold, MessageWords)
OF_CONTACT: Mapping[type[models.Model], str] = {
    Contact: "pk",
    Conversation: "contact",
    Message: "conversation__contact",
    Reply: "conversation__contact",
    Feedback: "message__conversation__contact",
    LedgerEntry: "contact",
}
Row = dict[str, Any]


class Unreadable(ValueError):
    """A file is no archive of ours, or not whole."""


def export_contact(contact: Contact, file: Path) -> dict[str, int]:
    """Write all that the current tenant has of a contact; how many rows of which table."""
    audit.record(AuditAction.CONTACT_EXPORTED, contact.id)
    tables = {
        model: model._default_manager.filter(**{path: contact.pk}) for model, path in OF_CONTACT.items()
    }
    return _write(file, {"of": "contact", "contact": str(contact.id)}, tables)


def export_tenant(tenant: Tenant, file: Path) -> dict[str, int]:
    """Write all that a tenant has, but keys, members, host names and the audit log; as above."""
    version = configuration.current(tenant.ref)
    settings = {"name": tenant.name, "slug": tenant.slug, "tier": tenant.tier}
    about = {"of": "tenant", **settings, "configuration": {name: getattr(version, name) for name in FIELDS}}
    with tenancy.in_tenant(tenant.ref):
        audit.record(AuditAction.TENANT_EXPORTED, tenant.id)
        return _write(file, about, {model: model._default_manager.all() for model in CARRIED})


def import_tenant(file: Path, slug: str | None = None) -> Tenant:
    """A new tenant out of an archive, under its old slug or another one. It gets no keys but a first one, which nobody
    is shown. Raises Unreadable before anything is made, Problem (`slug_taken`, say).
    """
    try:
        with ZipFile(file) as archive:
            manifest = _checked(archive)
            tenant, _, _ = provisioning.request_tenant(
                manifest["name"],
                slug or manifest["slug"],
                tier=manifest["tier"],
                configuration={
                    name: value for name, value in manifest["configuration"].items() if name in FIELDS
                },
            )
            tenant = provisioning.provision(tenant.id)
            with tenancy.in_tenant(tenant.ref), transaction.atomic():
                for model in CARRIED:
                    _read(archive, model)
                audit.record(AuditAction.TENANT_IMPORTED, tenant.id, rows=_rows(manifest))
            return tenant
    except (BadZipFile, KeyError, OSError) as error:
        raise Unreadable(f"{file} is no archive of a tenant.") from error


# --- Writing -----------------------------------------------------------------------------------------------------
def _write(file: Path, about: Row, tables: Mapping[type[models.Model], Any]) -> dict[str, int]:
    files: dict[str, Row] = {}
    file.touch(mode=0o600)
    with ZipFile(file, "w", ZIP_DEFLATED) as archive:
        for model, rows in tables.items():
            digest, count = hashlib.sha256(), 0
            with archive.open(_name(model), "w", force_zip64=True) as out:
                for line in _lines(model, rows):
                    digest.update(line)
                    out.write(line)
                    count += 1
            files[_name(model)] = {"sha256": digest.hexdigest(), "rows": count}
        manifest = {"format": FORMAT, **about, "exported_at": timezone.now(), "files": files}
        archive.writestr(MANIFEST, json.dumps(manifest, cls=DjangoJSONEncoder, indent=2))
    return _rows(manifest)


def _lines(model: type[models.Model], rows: Any) -> Iterator[bytes]:
    last = None
    while True:
        page = rows.order_by("pk")
        batch = list(page.filter(pk__gt=last)[:BATCH] if last else page[:BATCH])
        for row in batch:
            values = {field.attname: _shown(field, row) for field in _columns(model)}
            yield json.dumps(values, cls=DjangoJSONEncoder, ensure_ascii=False).encode() + b"\n"
        if len(batch) < BATCH:
            return
        last = batch[-1].pk


def _shown(field: Any, row: models.Model) -> Any:
    value = getattr(row, field.attname)
    if isinstance(value, datetime):
        return value.isoformat()  # the encoder would leave out microseconds
    return value.tolist() if hasattr(value, "tolist") else value


def _columns(model: type[models.Model]) -> list[Any]:
    return [field for field in model._meta.concrete_fields if not field.generated]


def _name(model: type[models.Model]) -> str:
    return f"{model._meta.db_table}.jsonl"


def _rows(manifest: Row) -> dict[str, int]:
    return {name.removesuffix(".jsonl"): one["rows"] for name, one in manifest["files"].items()}


# --- Reading -----------------------------------------------------------------------------------------------------
def _checked(archive: ZipFile) -> Row:
    """The manifest, if all that it names is there and as it was written. Raises Unreadable, KeyError."""
    manifest: Row = json.loads(archive.read(MANIFEST))
    if manifest.get("format") != FORMAT or manifest.get("of") != "tenant":
        raise Unreadable("This is not an archive of a tenant, or of another version.")
    for name, said in manifest["files"].items():
        digest = hashlib.sha256()
        with archive.open(name) as lines:
            for line in lines:
                digest.update(line)
        if digest.hexdigest() != said["sha256"]:
            raise Unreadable(f"{name} is not what was written.")
    return manifest


def _read(archive: ZipFile, model: type[models.Model]) -> None:
    """Insert the rows of a table as they were: the models' own way would change times and counts."""
    columns = _columns(model)
    quoted = ", ".join(connection.ops.quote_name(field.column) for field in columns)
    places = ", ".join(["%s"] * len(columns))
    insert = f"INSERT INTO {model._meta.db_table} ({quoted}) VALUES ({places})"  # noqa: S608 - our own models say
    with archive.open(_name(model)) as lines, connection.cursor() as cursor:
        for line in lines:
            row = json.loads(line)
            _put_right(model, row)
            cursor.execute(insert, [_stored(field, row) for field in columns])


def _put_right(model: type[models.Model], row: Row) -> None:
    """What was under way when it was written is nowhere under way now."""
    if model is Reply and row["status"] in RUNNING:
        row |= {"status": ReplyStatus.FAILED, "error_code": "internal_error"}
    if model is Balance:
        row |= {"held_usd": 0, "held_tokens": 0}


def _stored(field: Any, row: Row) -> Any:
    value = row[field.attname]
    if isinstance(field, SealedTextField):
        return None if value is None else field.sealed(value, UUID(row["id"]), _owner(field.model, row))
    if value is not None and not isinstance(field, models.JSONField) and not isinstance(value, list):
        value = field.target_field.to_python(value) if field.is_relation else field.to_python(value)
    return field.get_db_prep_save(value, connection)


def _owner(model: type[models.Model], row: Row) -> UUID | None:
    """Whose key seals the texts of a row; what it hangs on was read before."""
    if model is Conversation:
        return UUID(row["contact_id"]) if row["contact_id"] else None
    made = {field.attname: row[field.attname] for field in model._meta.concrete_fields if field.is_relation}
    owner: UUID | None = model(**made).key_owner  # type: ignore[attr-defined]
    return owner
