"""Takes documents into the current tenant's knowledge, and out of it."""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePath
from uuid import UUID

from django.conf import settings
from django.db import router, transaction

from chatplatform.api.problem import Problem
from chatplatform.postgres.models import uuid7
from chatplatform.tenancy import current_tenant
from conversations.models.knowledge import Chunk, Document, DocumentStatus
from conversations.rag.chunking import Piece, chunk, embedded_text
from conversations.rag.documents import Limits, ParsedDocument, UnreadableDocument
from conversations.rag.embeddings import Embedder
from conversations.rag.parsing import TYPES, parse, title_from
from conversations.services import embedding
from tenants import audit
from tenants import selectors as tenants
from tenants.vocabulary import AuditAction, Feature

__all__ = ["Change", "IngestResult", "UnreadableDocument", "ingest", "missing", "remove_document"]


class Change(enum.StrEnum):
    """What an ingestion did."""

    ADDED = "added"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What became of one document; `chunks` is how many it has now."""

    document_id: UUID
    name: str
    title: str
    change: Change
    chunks: int


def ingest(name: str, data: bytes, *, url: str | None = None, title: str | None = None) -> IngestResult:
    """Take in the document `name`, or its new version.

    The same bytes under the same name, url, title and embedding model change nothing. A new version replaces the
    chunks of the old one in one transaction. Raises UnreadableDocument, or Problem if its embeddings could not be had
    (`model_unpriced`, `budget_exceeded`, `provider_unavailable`); both leave an earlier version as it was, with the
    reason on it. A name of more than 500 characters is refused, and so is all where the plan has no knowledge.
    """
    tenants.check_included(current_tenant().id, Feature.KNOWLEDGE)
    if not name or len(name) > 500 or "\0" in name:
        raise UnreadableDocument("A document needs a name of 1 to 500 characters.")
    checksum = hashlib.sha256(data).hexdigest()
    known = Document.objects.filter(source=name).first()
    document_id = known.id if known else uuid7()
    using = embedding.outside_of_turns(document_id)
    if known and _is_current(known, checksum, url, title, using):
        return IngestResult(known.id, name, known.title, Change.UNCHANGED, known.chunks.count())
    try:
        parsed = parse(name, data, limits())
        if title:
            parsed = ParsedDocument(title[:300], parsed.sections, parsed.content_type)
        pieces = chunk(parsed)
        vectors = using.embed([embedded_text(piece) for piece in pieces])
    except (UnreadableDocument, Problem) as error:
        reason = error.detail if isinstance(error, Problem) else str(error)
        _remember_failure(document_id, name, checksum, reason)
        raise
    values = {
        "title": parsed.title,
        "url": url or "",
        "content_type": parsed.content_type,
        "checksum": checksum,
    }
    return _store(document_id, name, values, pieces, [vector.tolist() for vector in vectors], using.name)


def remove_document(document_id: UUID) -> bool:
    """Forget a document and its chunks. False if there is none of that id."""
    with transaction.atomic(using=_database()):
        gone = Document.objects.filter(id=document_id).delete()[0] > 0
        if gone:
            audit.record(AuditAction.DOCUMENT_REMOVED, document_id)
    return gone


def missing(names: Iterable[str]) -> list[Document]:
    """The documents of the tenant whose names are not among these."""
    return list(Document.objects.exclude(source__in=list(names)))


def limits() -> Limits:
    """What the settings allow a document to be."""
    return Limits(file_bytes=settings.MAX_DOCUMENT_BYTES)


def _is_current(known: Document, checksum: str, url: str | None, title: str | None, using: Embedder) -> bool:
    same_text = known.checksum == checksum and known.status == DocumentStatus.READY
    same_label = (url or "") == known.url and title in (None, known.title)
    return same_text and same_label and not known.chunks.exclude(embedding_model=using.name).exists()


def _remember_failure(document_id: UUID, name: str, checksum: str, reason: str) -> None:
    """Put the reason where staff see it. An earlier version stays as it was, and stays in use."""
    failed = {"status": DocumentStatus.FAILED, "error": reason[:500]}
    content_type = TYPES.get(PurePath(name).suffix.lower(), "unknown")
    new = {
        "id": document_id,
        "checksum": checksum,
        "title": title_from(name)[:300],
        "content_type": content_type,
    }
    Document.objects.update_or_create(source=name, defaults=failed, create_defaults={**new, **failed})


def _store(
    document_id: UUID,
    name: str,
    values: dict[str, str],
    pieces: list[Piece],
    vectors: list[list[float]],
    model: str,
) -> IngestResult:
    values = {**values, "status": DocumentStatus.READY, "error": ""}
    with transaction.atomic(using=_database()):
        stored, is_new = Document.objects.update_or_create(
            source=name, defaults=values, create_defaults={**values, "id": document_id}
        )
        # Two ingestions of one document at once: the second waits here, and replaces what the first wrote.
        Document.objects.select_for_update().get(id=stored.id)
        stored.chunks.all().delete()
        Chunk.objects.bulk_create(
            Chunk(
                document=stored,
                position=piece.position,
                heading=piece.heading,
                text=piece.text,
                embedding=vector,
                embedding_model=model,
                dimension=len(vector),
            )
            for piece, vector in zip(pieces, vectors, strict=True)
        )
        change = Change.ADDED if is_new else Change.CHANGED
        audit.record(
            AuditAction.DOCUMENT_INGESTED,
            stored.id,
            change=str(change),
            checksum=values["checksum"],
            chunks=len(pieces),
        )
    return IngestResult(stored.id, stored.source, stored.title, change, len(pieces))


def _database() -> str:
    return router.db_for_write(Document) or "default"
