"""A page of one tenant's conversations, filtered and searched. To be called inside the staff view."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, Max, Q, QuerySet

from conversations.models import Conversation, Message, MessageWords
from conversations.services import words
from conversations.vocabulary import ConversationStatus, Role

PAGE = 25
FIRST_WORDS = 140
COLOURS = {
    ConversationStatus.OPEN: "info",
    ConversationStatus.ESCALATED: "warning",
    ConversationStatus.RESOLVED: "success",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a visitor asked to see. `before` and `after` are ids of conversations: newest first, so before is older."""

    q: str = ""
    status: str = ""
    channel: str = ""
    before: UUID | None = None
    after: UUID | None = None


@dataclass(frozen=True, slots=True)
class Scan:
    """What a search through what was said has looked at: how many messages, and how many are not indexed yet."""

    messages: int
    missing: int


@dataclass(frozen=True, slots=True)
class Row:
    """One conversation in the list."""

    id: UUID
    contact: str
    contact_detail: str
    status_label: str
    status_colour: str
    channel: str
    messages: int
    last_activity: datetime
    first_words: str


@dataclass(frozen=True, slots=True)
class Listing:
    rows: Sequence[Row]
    older: UUID | None
    newer: UUID | None
    scan: Scan | None
    channels: Sequence[str]


def listing(wanted: Wanted) -> Listing:
    """The page of conversations that was asked for, newest first."""
    conversations = _filtered(wanted)
    scan = None
    if wanted.q:
        found, scan = _said(wanted.q)
        conversations = conversations.filter(_named(wanted.q) | Q(id__in=found))
    page, older, newer = _page(conversations, wanted)
    channels = Conversation.objects.order_by("channel").values_list("channel", flat=True).distinct()
    return Listing(list(_rows(page)), older, newer, scan, list(channels[:50]))


def _filtered(wanted: Wanted) -> QuerySet[Conversation]:
    conversations = Conversation.objects.all()
    if wanted.status:
        conversations = conversations.filter(status=wanted.status)
    if wanted.channel:
        conversations = conversations.filter(channel=wanted.channel)
    return conversations


def _named(q: str) -> Q:
    """By who it is, or by its id."""
    by_contact = Q(contact__name__icontains=q) | Q(contact__email__icontains=q)
    by_contact |= Q(contact__external_id__icontains=q)
    try:
        return by_contact | Q(id=UUID(q)) | Q(contact_id=UUID(q))
    except ValueError:
        return by_contact


def _said(q: str) -> tuple[QuerySet[Message, UUID], Scan]:
    """The conversations in which one message holds all the words."""
    words.catch_up(words.MOST_IN_SEARCH)
    found = words.with_words(Message.objects.all(), q).order_by().values_list("conversation_id", flat=True)
    return found, Scan(MessageWords.objects.count(), words.missing().count())


def _page(
    conversations: QuerySet[Conversation], wanted: Wanted
) -> tuple[list[Conversation], UUID | None, UUID | None]:
    """The rows, and the ids from which the older and the newer page begin (None: there is none)."""
    with_contact = conversations.select_related("contact")
    if wanted.after:
        rows = list(with_contact.filter(id__gt=wanted.after).order_by("id")[: PAGE + 1])
        more_newer, rows = len(rows) > PAGE, rows[:PAGE][::-1]
        more_older = bool(rows) and conversations.filter(id__lt=rows[-1].id).exists()
    else:
        older_than = with_contact.filter(id__lt=wanted.before) if wanted.before else with_contact
        rows = list(older_than.order_by("-id")[: PAGE + 1])
        more_older, rows = len(rows) > PAGE, rows[:PAGE]
        more_newer = bool(wanted.before and rows) and conversations.filter(id__gt=rows[0].id).exists()
    return rows, rows[-1].id if rows and more_older else None, rows[0].id if rows and more_newer else None


def _rows(conversations: Sequence[Conversation]) -> Iterator[Row]:
    ids = [conversation.id for conversation in conversations]
    counted = Message.objects.filter(conversation_id__in=ids).values("conversation_id")
    rows: Any = counted.order_by().annotate(count=Count("id"), last=Max("created_at"))
    totals: dict[UUID, dict[str, Any]] = {row["conversation_id"]: row for row in rows}
    said = Message.objects.filter(conversation_id__in=ids, role=Role.USER)
    first = said.order_by("conversation_id", "id").distinct("conversation_id")
    began = {message.conversation_id: message.content for message in first}
    for one in conversations:
        total = totals.get(one.id, {"count": 0, "last": one.created_at})
        name, detail = contact_names(one)
        yield Row(
            id=one.id,
            contact=name,
            contact_detail=detail,
            status_label=one.get_status_display(),
            status_colour=COLOURS[ConversationStatus(one.status)],
            channel=one.channel,
            messages=total["count"],
            last_activity=max(total["last"], one.updated_at),
            first_words=_shortened(str(began.get(one.id, ""))),
        )


def contact_names(conversation: Conversation) -> tuple[str, str]:
    """Who it is with, and what else is known of them."""
    contact = conversation.contact
    if contact is None:
        return "Anonymous visitor", ""
    known = [contact.name, contact.external_id or "", contact.email]
    first, *rest = [one for one in known if one] or ["Visitor"]
    return first, " · ".join(one for one in rest if one != first)


def _shortened(text: str) -> str:
    words = " ".join(text[: FIRST_WORDS * 4].split())
    return words if len(words) <= FIRST_WORDS else words[: FIRST_WORDS - 1].rstrip() + "…"
