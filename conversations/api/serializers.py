"""What requests may hold, and the shapes of answers for the OpenAPI schema (CONTRACT §5)."""

from __future__ import annotations

from typing import Any

from drf_spectacular.utils import OpenApiExample
from rest_framework import serializers

from chatplatform.api.fields import Flag, Identifier, Line, Names, Number, Object, Text, Whole
from conversations.services.content import LARGEST
from conversations.vocabulary import ConversationStatus, Rating, ReplyStatus, Role
from tenants.api.serializers import EndUser

EVENTS = ["accepted", "delta", "reset", "tool", "completed", "failed", "cancelled"]
ID = "01968d1c-7c1e-7cc3-8f0a-3b1f0b6a2d11"
CONVERSATIONS = [
    OpenApiExample("As the tenant is configured", value={}, request_only=True),
    OpenApiExample(
        "With an end user of yours",
        value={"end_user": {"external_id": "u-1042", "name": "Ada"}, "metadata": {"order": "A-7"}},
        request_only=True,
    ),
]
MESSAGES = [
    OpenApiExample("Wait for the reply", value={"content": "Where is my order?"}, request_only=True),
    OpenApiExample("Stream it", value={"content": "Where is my order?", "stream": True}, request_only=True),
]
TICKETS = [OpenApiExample("For a page of yours", value={"conversation_id": ID}, request_only=True)]


class NewConversation(serializers.Serializer[Any]):
    model = Line(required=False, allow_null=True, max_length=200)
    fallback_model = Names(required=False, allow_null=True)
    temperature = Number(required=False, allow_null=True, min_value=0, max_value=2)
    system_prompt = Text(required=False, allow_null=True, allow_blank=True, max_length=100_000)
    end_user = EndUser(required=False, allow_null=True)
    channel = Line(required=False, max_length=40)
    metadata = Object(required=False)


class NewMessage(serializers.Serializer[Any]):
    # Length and characters are checked by conversations.services.content, once for all edges.
    content = serializers.JSONField(help_text=f"Text of at most {LARGEST:,} bytes of UTF-8")
    stream = Flag(default=False)
    use_cache = Flag(default=True)
    max_tokens = Whole(required=False, allow_null=True, min_value=1, max_value=1_000_000)
    tools = serializers.ListField(child=Text(max_length=100), required=False, allow_null=True, max_length=50)


class NewFeedback(serializers.Serializer[Any]):
    rating = serializers.ChoiceField(choices=Rating.choices)
    comment = Text(required=False, allow_null=True, allow_blank=True, max_length=4000)


class NewRating(serializers.Serializer[Any]):
    stars = Whole(min_value=1, max_value=5)
    comment = Text(required=False, allow_null=True, allow_blank=True, max_length=4000)


class NewEscalation(serializers.Serializer[Any]):
    reason = Text(required=False, allow_null=True, allow_blank=True, max_length=4000)


class NewTicket(serializers.Serializer[Any]):
    conversation_id = Identifier()
    origin = Line(required=False, allow_null=True, max_length=300)


class EventShape(serializers.Serializer[Any]):
    """One of the server-sent events, as its lines have it."""

    event = serializers.ChoiceField(choices=EVENTS)
    id = serializers.CharField(help_text="The cursor, for `Last-Event-ID`")
    data: Any = serializers.CharField(help_text="JSON")


class TokenUsageShape(serializers.Serializer[Any]):
    input_tokens = serializers.IntegerField()
    cached_input_tokens = serializers.IntegerField()
    cache_write_input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()


class SourceShape(serializers.Serializer[Any]):
    title = serializers.CharField()
    url = serializers.CharField(allow_null=True)
    document_id = serializers.CharField()
    quote = serializers.CharField()
    score = serializers.FloatField()


class ErrorShape(serializers.Serializer[Any]):
    code = serializers.CharField()
    detail = serializers.CharField()


class TimingShape(serializers.Serializer[Any]):
    queued_ms = serializers.IntegerField(allow_null=True)
    first_token_ms = serializers.IntegerField(allow_null=True)
    total_ms = serializers.IntegerField(allow_null=True)


class ReplyShape(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    status = serializers.ChoiceField(choices=ReplyStatus.choices)
    content = serializers.CharField()
    model = serializers.CharField(allow_null=True)
    provider = serializers.CharField(allow_null=True)
    finish_reason = serializers.ChoiceField(
        choices=["stop", "length", "tool_calls", "content_filter", "cancelled", "error"], allow_null=True
    )
    usage = TokenUsageShape()
    cost_usd = serializers.CharField()
    cache = serializers.ChoiceField(choices=["exact", "semantic"], allow_null=True)
    sources = SourceShape(many=True)
    attempts = serializers.IntegerField()
    degraded = serializers.BooleanField()
    notice = serializers.CharField(allow_null=True)
    error = ErrorShape(allow_null=True)
    timing = TimingShape()
    created_at = serializers.DateTimeField()
    completed_at = serializers.DateTimeField(allow_null=True)


class MessageShape(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    role = serializers.ChoiceField(choices=Role.choices)
    content = serializers.CharField()
    created_at = serializers.DateTimeField()
    reply = ReplyShape(allow_null=True)


class TurnShape(serializers.Serializer[Any]):
    user_message = MessageShape()
    reply = ReplyShape()


class EndUserShape(serializers.Serializer[Any]):
    external_id = serializers.CharField(allow_null=True)
    name = serializers.CharField(required=False)
    email = serializers.CharField(required=False)
    attributes = serializers.DictField(required=False)


class ConversationShape(serializers.Serializer[Any]):
    id = serializers.UUIDField()
    tenant = serializers.CharField()
    status = serializers.ChoiceField(choices=ConversationStatus.choices)
    channel = serializers.CharField()
    end_user = EndUserShape(allow_null=True)
    model = serializers.CharField(allow_null=True)
    metadata = serializers.DictField()
    greeting = serializers.CharField()
    created_at = serializers.DateTimeField()
    updated_at = serializers.DateTimeField()


class Page(serializers.Serializer[Any]):
    """One page of a list."""

    next = serializers.CharField(allow_null=True, help_text="Address of the next page")
    previous = serializers.CharField(allow_null=True, help_text="Address of the previous page")


class ConversationPage(Page):
    results = ConversationShape(many=True)


class MessagePage(Page):
    results = MessageShape(many=True)


class FeedbackShape(serializers.Serializer[Any]):
    rating = serializers.ChoiceField(choices=Rating.choices)
    comment = serializers.CharField(allow_null=True)


class TicketShape(serializers.Serializer[Any]):
    ticket = serializers.CharField()
    expires_in = serializers.IntegerField(help_text="Seconds")
