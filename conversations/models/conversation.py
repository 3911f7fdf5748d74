"""What is said: conversations and their messages."""

from __future__ import annotations

from uuid import UUID

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from chatplatform.postgres.models import TenantModel
from conversations.vocabulary import ConversationStatus, Rating, Role
from tenants.fields import SealedTextField
from tenants.models import Contact


class Conversation(TenantModel):
    """A talk of one contact (or nobody in particular) with one tenant. Overrides apply to all its replies."""

    contact = models.ForeignKey(Contact, on_delete=models.CASCADE, null=True, related_name="conversations")
    status = models.CharField(
        max_length=12, choices=ConversationStatus.choices, default=ConversationStatus.OPEN
    )
    channel = models.CharField(max_length=40, default="api")
    model = models.CharField(max_length=200, blank=True, default="")
    fallback_model = models.JSONField(default=list, blank=True)
    temperature = models.FloatField(null=True, blank=True)
    system_prompt = SealedTextField(null=True)
    metadata = models.JSONField(default=dict, blank=True)
    greeting = models.TextField(blank=True, default="")
    stars = models.PositiveSmallIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1), MaxValueValidator(5)]
    )
    rating_comment = SealedTextField(null=True)
    escalation_reason = SealedTextField(null=True)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-id"]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def key_owner(self) -> UUID | None:
        """Whose key seals its texts."""
        return self.contact_id


class Message(TenantModel):
    """One thing said. Version 7 ids keep the order; an assistant's message has the id of its reply."""

    # `message_in_order` begins with it.
    conversation = models.ForeignKey(
        Conversation, on_delete=models.CASCADE, related_name="messages", db_index=False
    )
    role = models.CharField(max_length=10, choices=Role.choices)
    content = SealedTextField(default="")
    client_id = models.CharField(max_length=128, null=True, blank=True)  # noqa: DJ001 - unique only where given
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["id"]
        constraints = [
            models.UniqueConstraint(fields=["conversation", "client_id"], name="message_once_per_client_id"),
        ]
        indexes = [models.Index(fields=["conversation", "id"], name="message_in_order")]

    def __str__(self) -> str:
        return f"{self.role} {self.id}"

    @classmethod
    def sealed(cls, text: str, id: UUID, owner: UUID | None) -> bytes:
        """The text of this message, of this contact, as it is stored. For statements that are written out."""
        field: SealedTextField = cls._meta.get_field("content")  # type: ignore[assignment]
        return field.sealed(text, id, owner)

    @classmethod
    def opened(cls, stored: bytes, id: UUID) -> str:
        """What such a statement has read."""
        field: SealedTextField = cls._meta.get_field("content")  # type: ignore[assignment]
        return field.opened(bytes(stored), id)

    @property
    def key_owner(self) -> UUID | None:
        """Whose key seals its text."""
        return self.conversation.key_owner


class Feedback(TenantModel):
    """A thumb on an assistant's message; a later one replaces it."""

    message = models.OneToOneField(Message, on_delete=models.CASCADE, related_name="feedback")
    rating = models.CharField(max_length=4, choices=Rating.choices)
    comment = SealedTextField(null=True)
    updated_at = models.DateTimeField(auto_now=True)

    def __str__(self) -> str:
        return self.rating

    @property
    def key_owner(self) -> UUID | None:
        """Whose key seals its comment."""
        return self.message.key_owner
