"""How `check_isolation` walks conversations and knowledge."""

from __future__ import annotations

from django.http import HttpResponse

from chatplatform.isolation import Call, Command, Elsewhere, Job, Planted, Walks, Who
from chatplatform.tenancy import in_tenant
from conversations.models import Feedback
from conversations.rag.retrieval import find
from conversations.services import conversations, embedding, knowledge, turns
from conversations.services.turns import Options
from tenants import selectors
from tenants.auth import contacts
from tenants.auth.contacts import Session
from tenants.auth.principal import Principal
from tenants.models import Contact
from tenants.services import tokens
from tenants.vocabulary import Scope

KEY, VISITOR, TOKEN, STAFF = Who.KEY, Who.VISITOR, Who.TOKEN, Who.STAFF
QUESTION = "How long is the secret guarantee of the treasure chest?"
TEXT = "# Guarantee\n\nThe secret guarantee of the treasure chest is {} years long.\n"
ONE = "conversations/<uuid:conversation_id>"
LEAST = 12  # tokens of an answer: enough for a canary, and soon said


def plant(tenant: Planted) -> None:
    """A document, an end user, and a conversation of theirs with one turn that the built-in model has answered."""
    ids, canary = tenant.ids, tenant.canary
    with in_tenant(tenant.ref):
        document = knowledge.ingest("guarantee.md", TEXT.format(canary).encode(), title=f"Chest {canary}")
        contact = Contact.objects.create(external_id=f"u-{canary}", name=canary, attributes={"word": canary})
        talk = conversations.begin(contact=contact, metadata={"word": canary}, system_prompt=canary)
        conversations.rate(talk, 3, canary)
        state = selectors.state(tenant.ref.id)
        caller = Principal(f"contact:{contact.pk}", frozenset({Scope.CHAT}), state, contact_id=contact.pk)
        turn = turns.accept(caller, talk.pk, f"{QUESTION} {canary}", options=Options(False, LEAST, ()))
        Feedback.objects.create(message_id=turn.reply_id, rating="up", comment=canary)
    ids |= {
        "contact": str(contact.pk),
        "conversation_id": str(talk.pk),
        "message_id": str(turn.reply_id),
        "reply_id": str(turn.reply_id),
        "document": str(document.document_id),
    }
    answer = HttpResponse()
    contacts.write(answer, Session(contact.pk), tenant.ref)
    tenant.credentials[VISITOR] = {"Cookie": f"{contacts.COOKIE}={answer.cookies[contacts.COOKIE].value}"}
    token = tokens.issue(state, contact, by=ids["key_id"])
    tenant.credentials[TOKEN] = {"Authorization": f"Bearer {token}"}


def searched(question: str) -> str:
    """What full-text and vector search bring up for a question, as it stands in prompts and sources."""
    found = find(f"{QUESTION} {question}", limit=20, using=embedding.outside_of_turns())
    return repr((found.nearest, found.answering))


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
    },
    sockets=frozenset({"ws/<uuid:conversation_id>", ""}),
    tasks={
        "conversations.generate_reply": Job(("reply_id",), of_tenant=True),
        "conversations.mail_escalation": Job(("conversation_id",), of_tenant=True, fails_for_others=True),
        "conversations.return_dead_holds": Job(),
    },
    commands={
        "show_usage": Command(("{slug}",)),
        "ingest_knowledge": Elsewhere("Planting does what it does; it has no other way into a tenant."),
        "evaluate_retrieval": Elsewhere(
            "It asks the question sets of a file, by the searches that are walked."
        ),
    },
    keys=frozenset({"events", "reply", "ticket", "connections", "circuit"}),
    searches={"conversations.Chunk": searched},
)
