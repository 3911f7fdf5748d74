"""How `check_isolation` walks conversations and knowledge."""

from __future__ import annotations

import json
from pathlib import Path

from django.http import HttpResponse

from chatplatform.isolation import Call, Command, Elsewhere, Job, Planted, Walks, Who
from chatplatform.tenancy import in_platform, in_tenant
from conversations.models import Conversation, Feedback, Message
from conversations.rag.retrieval import find
from conversations.services import conversations, embedding, erasure, knowledge, turns, words
from conversations.services.turns import Options
from tenants import selectors
from tenants.auth import contacts
from tenants.auth.contacts import Session
from tenants.auth.principal import Principal
from tenants.models import Contact, Tenant
from tenants.services import lifecycle, tokens
from tenants.vocabulary import Scope

KEY, VISITOR, TOKEN, STAFF = Who.KEY, Who.VISITOR, Who.TOKEN, Who.STAFF
QUESTION = "How long is the secret guarantee of the treasure chest?"
TEXT = "# Guarantee\n\nThe secret guarantee of the treasure chest is {} years long.\n"
ONE = "conversations/<uuid:conversation_id>"
ARCHIVE, OF_ONE = "{folder}/tenant.zip", "{folder}/contact.zip"
LEAST = 12  # tokens of an answer: enough for a canary, and soon said


def plant(tenant: Planted) -> None:
    """A document, an end user, and a conversation of theirs with one turn that the built-in model has answered."""
    ids, canary = tenant.ids, tenant.canary
    with in_tenant(tenant.ref):
        document = knowledge.ingest("guarantee.md", TEXT.format(canary).encode(), title=f"Chest {canary}")
        contact, talk = _talk(tenant, "")
        for name in ("spare_", "staffs_spare_", "commands_spare_"):
            _talk(tenant, name)
        erased, _ = _talk(tenant, "erased_")
        certificate = Path(ids["folder"], "certificate.json")
        certificate.write_text(json.dumps(erasure.erase_contact(erased)))
        talk.escalation_reason = canary
        talk.save(update_fields=["escalation_reason"])
        conversations.rate(talk, 3, canary)
        state = selectors.state(tenant.ref.id)
        caller = Principal(f"contact:{contact.pk}", frozenset({Scope.CHAT}), state, contact_id=contact.pk)
        turn = turns.accept(caller, talk.pk, f"{QUESTION} {canary}", options=Options(False, LEAST, ()))
        Feedback.objects.create(message_id=turn.reply_id, rating="up", comment=canary)
        words.catch_up(words.MOST_IN_SEARCH)
    ids |= {
        "certificate": str(certificate),
        "imported_slug": f"{tenant.ref.slug}-2",
        "message_id": str(turn.reply_id),
        "reply_id": str(turn.reply_id),
        "document": str(document.document_id),
    }
    answer = HttpResponse()
    contacts.write(answer, Session(contact.pk), tenant.ref)
    tenant.credentials[VISITOR] = {"Cookie": f"{contacts.COOKIE}={answer.cookies[contacts.COOKIE].value}"}
    token = tokens.issue(state, contact, by=ids["key_id"])
    tenant.credentials[TOKEN] = {"Authorization": f"Bearer {token}"}


def forget(tenant: Planted) -> None:
    """Remove the tenant that was made out of an archive of this one."""
    with in_platform():
        there = Tenant.objects.filter(slug=tenant.ids.get("imported_slug", "")).exists()
    if there:
        lifecycle.erase(tenant.ids["imported_slug"])


def _talk(tenant: Planted, name: str) -> tuple[Contact, Conversation]:
    """An end user with an empty conversation."""
    word = {"word": tenant.canary}
    contact = Contact.objects.create(
        external_id=f"{name}u-{tenant.canary}", name=tenant.canary, attributes=word
    )
    talk = conversations.begin(contact=contact, metadata=word, system_prompt=tenant.canary)
    tenant.ids |= {f"{name}contact": str(contact.pk), f"{name}conversation_id": str(talk.pk)}
    return contact, talk


def searched(question: str) -> str:
    """What full-text and vector search bring up for a question, as it stands in prompts and sources."""
    found = find(f"{QUESTION} {question}", limit=20, using=embedding.outside_of_turns())
    return repr((found.nearest, found.answering))


def searched_by_words(question: str) -> str:
    """The messages that have all words of the planted question, and those that have all of this one."""
    words.catch_up(words.MOST_IN_SEARCH)
    found = [words.with_words(Message.objects.all(), asked) for asked in (QUESTION, question)]
    return repr([message.content for some in found for message in some])


READ = Call(KEY, shows=True)
POST_BY_BOTH = (Call(KEY, "POST", body={}), Call(VISITOR, "POST", body={}))

WALKS = Walks(
    plant,
    api={
        "conversations": (
            READ,
            Call(TOKEN, shows=True),
            Call(KEY, "POST", 201, {"metadata": {"x": "{canary}"}}),
        ),
        ONE: (READ, Call(VISITOR, shows=True), Call(TOKEN, shows=True)),
        f"{ONE}/messages": (
            READ,
            Call(VISITOR, shows=True),
            Call(TOKEN, shows=True),
            Call(KEY, "POST", body={"content": "Hello {canary}", "max_tokens": LEAST}, shows=True),
            Call(VISITOR, "POST", body={"content": QUESTION, "stream": True}, shows=True),
        ),
        f"{ONE}/messages/<uuid:message_id>/feedback": (
            Call(KEY, "POST", body={"rating": "up", "comment": "{canary}"}),
        ),
        f"{ONE}/replies/<uuid:reply_id>": (READ, Call(VISITOR, shows=True)),
        f"{ONE}/replies/<uuid:reply_id>/events": (READ, Call(VISITOR, shows=True)),
        f"{ONE}/replies/<uuid:reply_id>/cancel": (Call(KEY, "POST", 202, {}),),
        f"{ONE}/rating": (Call(KEY, "POST", body={"stars": 5, "comment": "{canary}"}),),
        f"{ONE}/resolve": POST_BY_BOTH[:1],
        f"{ONE}/escalate": POST_BY_BOTH,
        "tenants/<slug:slug>/usage": (Call(KEY),),
        "tenants/<slug:slug>/contacts/<path:contact>": (
            Call(KEY, "DELETE", body={}, ids={"contact": "spare_contact"}),
        ),
        "ws-tickets": (
            Call(KEY, "POST", 201, {"conversation_id": "{conversation_id}"}),
            Call(TOKEN, "POST", 201, {"conversation_id": "{conversation_id}"}),
        ),
    },
    pages={
        "": (Call(VISITOR, status=302, open=True), Call(Who.NOBODY, status=302, open=True)),
        "c/new": (Call(VISITOR, "POST", 302, {}, open=True),),
        "c/<uuid:conversation_id>": (Call(VISITOR, shows=True),),
    },
    staff={
        "admin/conversations/": (Call(STAFF, query="pick", everybody=True),),
        "admin/conversations/<slug:slug>/": (
            Call(STAFF, shows=True),
            Call(STAFF, query="q={canary}", shows=True),
        ),
        "admin/spending/<slug:slug>/holds/": (Call(STAFF),),
        "admin/spending/<slug:slug>/holds/return/": (Call(STAFF, "POST", 302, {}),),
        "admin/conversations/<slug:slug>/<uuid:conversation_id>/": (Call(STAFF, shows=True),),
        "admin/conversations/<slug:slug>/<uuid:conversation_id>/erase-contact/": (
            Call(STAFF, shows=True),
            Call(STAFF, "POST", 302, {}, ids={"conversation_id": "staffs_spare_conversation_id"}),
        ),
    },
    sockets=frozenset({"ws/<uuid:conversation_id>", ""}),
    tasks={
        "conversations.generate_reply": Job(("reply_id",), of_tenant=True),
        "conversations.mail_escalation": Job(("conversation_id",), of_tenant=True, fails_for_others=True),
        "conversations.return_dead_holds": Job(),
        "conversations.index_words": Job(),
        "conversations.expire_conversations": Job(),
    },
    commands={
        "show_usage": Command(("{slug}",)),
        "export_tenant": (
            Command(("{slug}", ARCHIVE), shows=True, writes=ARCHIVE),
            Command(
                ("{slug}", OF_ONE, "--contact", "{contact}"), shows=True, writes=OF_ONE, fails_for_others=True
            ),
        ),
        "import_tenant": Command((ARCHIVE, "--slug", "{imported_slug}")),
        "erase_contact": Command(("{slug}", "{commands_spare_contact}", "--yes"), fails_for_others=True),
        "ingest_knowledge": Elsewhere("Planting does what it does; it has no other way into a tenant."),
        "evaluate_retrieval": Elsewhere(
            "It asks the question sets of a file, by the searches that are walked."
        ),
    },
    keys=frozenset({"events", "reply", "ticket", "connections", "circuit"}),
    searches={"conversations.Chunk": searched, "conversations.MessageWords": searched_by_words},
    forget=forget,
)
