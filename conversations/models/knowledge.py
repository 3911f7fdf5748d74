"""What a tenant knows: documents, and the chunks of them that retrieval finds."""

from __future__ import annotations

from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchVector, SearchVectorField
from django.db import models
from pgvector.django import VectorField

from chatplatform.postgres.models import TenantModel


class DocumentStatus(models.TextChoices):
    READY = "ready", "Ready"
    FAILED = "failed", "Could not be read"


class Document(TenantModel):
    """One source, known by its name. `checksum` (SHA-256 of the bytes, hex) tells whether it changed.

    A document whose new version cannot be read keeps the chunks of the last good one, and says why in `error`.
    """

    title = models.CharField(max_length=300)
    source = models.CharField(
        max_length=500, unique=True, help_text="File name or path that it was ingested from"
    )
    url = models.URLField(max_length=1000, blank=True, default="", help_text="Where a reader finds it")
    content_type = models.CharField(max_length=40)
    checksum = models.CharField(max_length=64)
    status = models.CharField(max_length=8, choices=DocumentStatus.choices, default=DocumentStatus.READY)
    error = models.CharField(max_length=500, blank=True, default="")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["source"]

    def __str__(self) -> str:
        return self.title


class Chunk(TenantModel):
    """A passage of a document under one heading.

    `embedding` holds `dimension` float32 numbers of `embedding_model`: the column has no fixed dimension, so
    that models can change; vectors of different models are never compared. `search` is PostgreSQL's own.
    """

    document = models.ForeignKey(Document, on_delete=models.CASCADE, related_name="chunks")
    position = models.PositiveIntegerField()
    heading = models.CharField(max_length=500, blank=True, default="")
    text = models.TextField()
    embedding = VectorField()
    embedding_model = models.CharField(max_length=100)
    dimension = models.PositiveIntegerField()
    search = models.GeneratedField(
        expression=SearchVector("heading", weight="A", config="english")
        + SearchVector("text", weight="B", config="english"),
        output_field=SearchVectorField(),
        db_persist=True,
    )

    class Meta:
        ordering = ["document", "position"]
        constraints = [
            models.UniqueConstraint(fields=["document", "position"], name="chunk_once_per_position")
        ]
        indexes = [GinIndex(fields=["search"], name="chunk_search")]

    def __str__(self) -> str:
        return f"{self.document_id} #{self.position}"
