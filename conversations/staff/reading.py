"""One conversation as a page shows it. To be called inside the staff view; what it returns asks no database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils.safestring import SafeString

from conversations import markdown, selectors
from conversations.models import Conversation, Message, Reply
from conversations.staff.calls import Call, calls_of
from conversations.staff.listing import COLOURS as STATUS_COLOURS
from conversations.staff.listing import contact_names
from conversations.vocabulary import ConversationStatus, Role

PAGE = 200  # messages
COLOURS = {"completed": "success", "failed": "danger", "cancelled": "warning"}


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of small print."""

    label: str
    value: str


@dataclass(frozen=True, slots=True)
class Bubble:
    """One message. `html` is Markdown made safe; people's own words are shown as they wrote them, in `text`."""

    id: UUID
    role: str
    who: str
    at: datetime
    text: str
    html: SafeString | None
    status: str
    status_colour: str
    facts: Sequence[Fact]
    sources: Sequence[dict[str, Any]]
    notice: str
    error: str
    feedback: str
    feedback_comment: str
    configuration: int | None
    attempts: int
    calls: Sequence[Call]


@dataclass(frozen=True, slots=True)
class Transcript:
    id: UUID
    status_label: str
    status_colour: str
    contact: str
    contact_id: UUID | None
    contact_detail: str
    facts: Sequence[Fact]
    greeting: SafeString | None
    system_prompt: str
    bubbles: Sequence[Bubble]
    earlier: UUID | None
    escalation_reason: str
    stars: int | None
    rating_comment: str


def transcript(conversation_id: UUID, before: UUID | None = None) -> Transcript | None:
    """The newest messages of a conversation (or those before one), oldest first. None: no such conversation."""
    one = Conversation.objects.select_related("contact").filter(id=conversation_id).first()
    if one is None:
        return None
    messages = selectors.messages_of(one).order_by("-id")
    if before:
        messages = messages.filter(id__lt=before)
    page = list(messages[: PAGE + 1])
    more, page = len(page) > PAGE, page[:PAGE][::-1]
    contact, detail = contact_names(one)
    calls = calls_of(message.id for message in page if message.role == Role.ASSISTANT)
    return Transcript(
        id=one.id,
        status_label=one.get_status_display(),
        status_colour=STATUS_COLOURS[ConversationStatus(one.status)],
        contact=contact,
        contact_id=one.contact_id,
        contact_detail=detail,
        facts=_conversation_facts(one),
        greeting=markdown.to_html(one.greeting) if one.greeting and not more else None,
        system_prompt=one.system_prompt or "",
        bubbles=[_bubble(message, contact, calls.get(message.id, ())) for message in page],
        earlier=page[0].id if more else None,
        escalation_reason=one.escalation_reason or "",
        stars=one.stars,
        rating_comment=one.rating_comment or "",
    )


def _conversation_facts(one: Conversation) -> list[Fact]:
    facts = [Fact("Channel", one.channel), Fact("Model asked for", one.model)]
    if one.temperature is not None:
        facts.append(Fact("Temperature", str(one.temperature)))
    facts += [Fact(str(name), _plain(value)) for name, value in one.metadata.items()]
    if one.contact:
        facts += [Fact(str(name), _plain(value)) for name, value in one.contact.attributes.items()]
    return [fact for fact in facts if fact.value]


def _bubble(message: Message, contact: str, calls: Sequence[Call]) -> Bubble:
    reply: Reply | None = getattr(message, "reply", None) if message.role == Role.ASSISTANT else None
    feedback = getattr(message, "feedback", None)
    who = {Role.USER: contact, Role.AGENT: "Agent"}.get(Role(message.role), "Assistant")
    return Bubble(
        id=message.id,
        role=message.role,
        who=who,
        at=message.created_at,
        text=message.content,
        html=None if message.role == Role.USER else markdown.to_html(message.content),
        status=reply.get_status_display() if reply else "",
        status_colour=COLOURS.get(reply.status, "info") if reply else "",
        facts=_reply_facts(reply) if reply else (),
        sources=[_source(one) for one in reply.sources] if reply else (),
        notice=reply.notice if reply else "",
        error=" – ".join(filter(None, [reply.error_code, reply.error_detail])) if reply else "",
        feedback=feedback.rating if feedback else "",
        feedback_comment=(feedback.comment or "") if feedback else "",
        configuration=reply.configuration if reply else None,
        attempts=reply.attempt if reply else 0,
        calls=calls,
    )


def _reply_facts(reply: Reply) -> list[Fact]:
    tokens = f"{reply.input_tokens:,} in, {reply.output_tokens:,} out"
    if reply.cached_input_tokens:
        tokens += f", {reply.cached_input_tokens:,} from the provider’s cache"
    facts = [
        Fact("Model", " · ".join(filter(None, [reply.provider, reply.model]))),
        Fact("Tokens", tokens if reply.input_tokens or reply.output_tokens else ""),
        Fact("Cost", f"${reply.cost_usd.normalize():f}" if reply.cost_usd else "$0"),
        Fact("Attempts", str(reply.attempt)),
        Fact("Ended by", reply.finish_reason),
        Fact("Cache", reply.cache),
        Fact("First token", _span(reply.created_at, reply.first_token_at)),
        Fact("In all", _span(reply.created_at, reply.completed_at)),
        Fact("Degraded", "yes" if reply.degraded else ""),
    ]
    return [fact for fact in facts if fact.value]


def _source(source: dict[str, Any]) -> dict[str, Any]:
    """Title, quote and score; a link only if it leads to the web."""
    url = str(source.get("url") or "")
    score = source.get("score")
    return {
        "title": source.get("title") or "Untitled",
        "url": url if url.startswith(("https://", "http://")) else "",
        "quote": source.get("quote") or "",
        "score": f"{score:.2f}" if isinstance(score, int | float) else "",
    }


def _span(start: datetime, end: datetime | None) -> str:
    if end is None:
        return ""
    seconds = (end - start).total_seconds()
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else repr(value) if value is not None else ""
