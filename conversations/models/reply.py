"""The assistant's side of a turn. This row is the truth; the broker and the event log are hints."""

from __future__ import annotations

from decimal import Decimal

from django.db import models

from chatplatform.tenancy import Home
from conversations.models.conversation import Conversation, Message
from conversations.vocabulary import RUNNING, ReplyStatus


class Reply(models.Model):
    """One reply, its text in `message.content` (checkpointed while it is generated).

    `attempt` is the fencing token: only the attempt that is written here may append to the event log or settle.
    """

    home = Home.TENANT

    message = models.OneToOneField(Message, on_delete=models.CASCADE, primary_key=True, related_name="reply")
    user_message = models.OneToOneField(Message, on_delete=models.CASCADE, related_name="answer")
    conversation = models.ForeignKey(Conversation, on_delete=models.CASCADE, related_name="replies")
    status = models.CharField(max_length=12, choices=ReplyStatus.choices, default=ReplyStatus.QUEUED)
    attempt = models.PositiveSmallIntegerField(default=0)
    options = models.JSONField(
        default=dict, help_text="What the request asked for: max_tokens, use_cache, tools"
    )
    configuration = models.PositiveIntegerField(
        null=True, help_text="Number of the configuration version used"
    )

    model = models.CharField(max_length=200, blank=True, default="")
    provider = models.CharField(max_length=40, blank=True, default="")
    finish_reason = models.CharField(max_length=20, blank=True, default="")
    input_tokens = models.PositiveIntegerField(default=0)
    cached_input_tokens = models.PositiveIntegerField(default=0)
    cache_write_input_tokens = models.PositiveIntegerField(default=0)
    output_tokens = models.PositiveIntegerField(default=0)
    cost_usd = models.DecimalField(max_digits=18, decimal_places=9, default=Decimal(0))
    cache = models.CharField(max_length=10, blank=True, default="")
    sources = models.JSONField(default=list)
    degraded = models.BooleanField(default=False)
    notice = models.TextField(blank=True, default="")
    error_code = models.CharField(max_length=40, blank=True, default="")
    error_detail = models.TextField(blank=True, default="")

    created_at = models.DateTimeField(auto_now_add=True)
    started_at = models.DateTimeField(null=True)
    first_token_at = models.DateTimeField(null=True)
    completed_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name_plural = "replies"
        constraints = [
            models.UniqueConstraint(
                fields=["conversation"],
                condition=models.Q(status__in=[str(status) for status in RUNNING]),
                name="one_running_reply_per_conversation",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.status} {self.pk}"

    @property
    def running(self) -> bool:
        return self.status in RUNNING
