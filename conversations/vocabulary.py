"""Closed vocabularies of the conversations app."""

from __future__ import annotations

from django.db import models


class ConversationStatus(models.TextChoices):
    OPEN = "open", "Open"
    ESCALATED = "escalated", "Escalated"
    RESOLVED = "resolved", "Resolved"


class Role(models.TextChoices):
    USER = "user", "User"
    ASSISTANT = "assistant", "Assistant"
    AGENT = "agent", "Agent"


class ReplyStatus(models.TextChoices):
    QUEUED = "queued", "Queued"
    GENERATING = "generating", "Generating"
    COMPLETED = "completed", "Completed"
    FAILED = "failed", "Failed"
    CANCELLED = "cancelled", "Cancelled"


RUNNING = (ReplyStatus.QUEUED, ReplyStatus.GENERATING)
LAST_EVENTS = frozenset({"completed", "failed", "cancelled"})


class Rating(models.TextChoices):
    UP = "up", "Up"
    DOWN = "down", "Down"


class ResetReason(models.TextChoices):
    """Why a reader must forget the text so far."""

    RESTART = "restart", "Another attempt began"
    FAILOVER = "failover", "Another model took over"
    LOG_LOST = "log_lost", "The event log is gone; the stored text follows"
