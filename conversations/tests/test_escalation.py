"""Asking for a person: the mail to the tenant's people, with the broker there and without it."""

from __future__ import annotations

from typing import Any

import pytest
from django.core import mail
from pytest_django import DjangoCaptureOnCommitCallbacks

from chatplatform import jobs
from conversations.models import Conversation
from conversations.services import conversations
from conversations.vocabulary import ConversationStatus
from tenants import selectors
from tenants.selectors import TenantState
from tenants.services import configuration

ADDRESS = "help@acme.example"


@pytest.fixture
def talk(in_acme: TenantState) -> Conversation:
    """A conversation of a tenant that has an address."""
    configuration.change(in_acme.ref, {"escalation_email": ADDRESS}, author="test", by_staff=True)
    selectors.forget()
    return Conversation.objects.create()


def broker(monkeypatch: pytest.MonkeyPatch, *, away: bool) -> list[Any]:
    """What is enqueued."""
    sent: list[Any] = []

    def enqueue(*job: Any, **more: Any) -> bool:
        sent.append(job)
        return not away

    monkeypatch.setattr(jobs, "enqueue", enqueue)
    return sent


def test_a_worker_sends_the_mail_once(
    talk: Conversation,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    sent = broker(monkeypatch, away=False)
    for _ in range(2):
        with django_capture_on_commit_callbacks(execute=True):
            conversations.escalate(talk, "Now")
    assert sent == [(conversations.MAIL, str(talk.pk))]
    assert mail.outbox == []


def test_without_a_broker_the_request_sends_it(
    talk: Conversation,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    broker(monkeypatch, away=True)
    with django_capture_on_commit_callbacks(execute=True):
        conversations.escalate(talk, "Now")
    assert [(one.to, str(talk.pk) in str(one.body)) for one in mail.outbox] == [([ADDRESS], True)]


def test_without_a_mail_server_either_the_status_is_kept(
    talk: Conversation,
    monkeypatch: pytest.MonkeyPatch,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    def refuse(*mail: Any) -> None:
        raise ConnectionRefusedError

    broker(monkeypatch, away=True)
    monkeypatch.setattr(conversations, "send_mail", refuse)
    with django_capture_on_commit_callbacks(execute=True):
        assert conversations.escalate(talk, None).status == ConversationStatus.ESCALATED
    talk.refresh_from_db()
    assert talk.status == ConversationStatus.ESCALATED
