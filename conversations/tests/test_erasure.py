"""An end user is forgotten: nothing of what was said can be read any more, wherever one looks."""

from __future__ import annotations

import json
import subprocess
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from redis import Redis

from billing.models import Hold, LedgerEntry
from chatplatform import jobs, tenancy
from chatplatform.api.problem import Problem
from chatplatform.embedded import locations
from chatplatform.embedded.paths import ADMIN_LOGIN, DATABASE, postgres_program
from chatplatform.postgres.roles import admin_connection
from chatplatform.testing import cast
from chatplatform.testing.audit import written
from chatplatform.testing.clients import LAST, SLOW, Caller
from chatplatform.testing.commands import result_of
from chatplatform.testing.stage import until
from conversations.models import Conversation, Feedback, Message, Reply, Work
from conversations.services import erasure, words
from conversations.services.conversations import begin
from conversations.tests.spending import say
from conversations.tests.test_staff import answered, talk
from conversations.vocabulary import Role
from tenants import keyring, secrets
from tenants.audit import certificates
from tenants.models import Contact, DataKey, DeletedKeys, TenantIdempotencyRecord
from tenants.selectors import TenantState
from tenants.services import key_leftovers
from tenants.services.contacts import contact_for
from tenants.tests.console import Console, person

CANARY = "purple heron"


@pytest.fixture
def jane(in_acme: TenantState) -> Contact:
    contact = contact_for("jane", name="Jane")
    talk(in_acme, "My secret:", CANARY, contact=contact, system_prompt=CANARY)
    answered(in_acme, contact.conversations.get(), f"A {CANARY}!")
    message = Message.objects.get(role=Role.ASSISTANT, conversation__contact=contact)
    Feedback.objects.create(message=message, rating="up", comment=CANARY)
    return contact


def test_everything_of_a_contact_goes_and_nothing_of_others(jane: Contact) -> None:
    john = begin(contact=contact_for("john"))
    said = Message.objects.create(conversation=john, role=Role.USER, content="I stay")
    certificate = erasure.erase_contact(jane)
    for model in (Contact, DataKey):
        assert not model.objects.filter(id=jane.id).exists()
    assert [one.id for one in Conversation.objects.all()] == [john.id]
    assert [one.content for one in Message.objects.all()] == ["I stay"] and said.conversation_id == john.id
    removed = {"conversations": 1, "replies": 1, "feedback": 1, "messages": 3, "kept_answers": 0, "keys": 1}
    assert certificate["removed"] == removed and certificate["key_destroyed"]
    assert certificate["contact"] == str(jane.id)


def test_a_copy_of_what_was_stored_cannot_be_opened(jane: Contact) -> None:
    message = Message.objects.filter(role=Role.USER).latest("id")
    with connection.cursor() as cursor:
        cursor.execute("SELECT content FROM conversations_message WHERE id = %s", [message.id])
        copy = bytes(cursor.fetchone()[0])
    assert Message.opened(copy, message.id) == CANARY
    erasure.erase_contact(jane)
    keyring.dropped({"tenant_id": str(tenancy.current_tenant().id), "owner": str(jane.id)})
    with pytest.raises(secrets.UnknownKey):
        Message.opened(copy, message.id)


def test_every_process_drops_its_copy_of_the_key(jane: Contact, in_acme: TenantState) -> None:
    name = (in_acme.ref.id, jane.id.bytes)
    keyring._kept[name] = (1e9, "its key")
    keyring.drop(in_acme.ref.id, jane.id)
    assert name not in keyring._kept


def test_answers_that_are_kept_for_repeated_requests_go_too(jane: Contact) -> None:
    conversation = jane.conversations.get()
    about: dict[str, Any] = {"credential": "k", "body_hash": b"", "status": 200}
    kept: list[dict[str, Any]] = [
        {"path": "/api/v1/conversations", "answer": {"id": str(conversation.id)}},
        {"path": "/api/v1/conversations", "answer": {"id": "-", "end_user": {"external_id": "jane"}}},
        {"path": f"/api/v1/conversations/{conversation.id}/messages", "reply_id": uuid4()},
        {"path": "/api/v1/conversations", "answer": {"end_user": {"external_id": "john"}}},
    ]
    for number, one in enumerate(kept):
        TenantIdempotencyRecord.objects.create(key=str(number), **about, **one)
    assert erasure.erase_contact(jane)["removed"]["kept_answers"] == 3
    assert [one.key for one in TenantIdempotencyRecord.objects.all()] == ["3"]


def test_a_certificate_says_nothing_personal_and_cannot_be_changed(jane: Contact, tmp_path: Path) -> None:
    certificate = result_of("erase_contact", "acme", "jane", "--yes")
    assert certificates.is_genuine(json.loads(json.dumps(certificate)))
    assert "jane" not in json.dumps(certificate).lower()
    for name in certificate:
        assert not certificates.is_genuine({**certificate, name: "else"})
    assert written("action", "data")[-1] == ("contact.erased", {"certificate": certificate})
    file = tmp_path / "certificate.json"
    file.write_text(json.dumps(certificate))
    assert result_of("verify_certificate", str(file)) == {"genuine": True}


def test_who_is_not_there_is_not_found(in_acme: TenantState, globex: TenantState) -> None:
    with tenancy.in_tenant(globex.ref):
        other = contact_for("homer")
    for name in ("homer", str(other.id), "", "x" * 300):
        with pytest.raises(Problem):
            erasure.access_contact(name)


# --- The staff console -----------------------------------------------------------------------------------------
def test_staff_erase_the_contact_of_a_conversation(jane: Contact, acme: TenantState) -> None:
    conversation = jane.conversations.get()
    path = f"conversations/acme/{conversation.id}/erase-contact/"
    looker = Console(person("looker", "conversations.view_conversation"))
    assert "Erase" not in looker.text(f"conversations/acme/{conversation.id}/")
    assert looker.post(path).status_code == 403
    eraser = Console(person("eraser", "conversations.view_conversation", "tenants.delete_contact"))
    assert path in eraser.text(f"conversations/acme/{conversation.id}/")
    assert "Erase Jane" in eraser.text(path)
    assert Contact.objects.filter(id=jane.id).exists()
    assert eraser.post(path).status_code == 302
    assert not Contact.objects.filter(id=jane.id).exists()
    assert eraser.get(path).status_code == 404


# --- Where it really is ----------------------------------------------------------------------------------------
def forms(text: str) -> list[bytes]:
    """A text as it may lie about: as it is, in UTF-16, in hex, in base64 wherever it begins."""
    raw = text.encode()
    coded = [b64encode(b"-" * before + raw)[4 if before else 0 : -4] for before in range(3)]
    return [raw, text.encode("utf-16-le"), text.encode("utf-16-be"), raw.hex().encode(), *coded]


def traces(key: bytes) -> list[bytes]:
    """Parts of a wrapped key, one of which is whole even where PostgreSQL has compressed a page in its WAL."""
    return [key[start : start + 6] for start in range(0, len(key) - 5, 3)]


def holds(data: bytes, parts: list[bytes]) -> bool:
    return any(part in data for part in parts)


def files_with(parts: list[bytes]) -> list[str]:
    """The files below DATA_DIR that have one of these: tables, WAL, logs."""
    found = []
    for file in Path(settings.DATA_DIR).rglob("*"):
        with suppress(FileNotFoundError):  # PostgreSQL removes what it needs no more
            if file.is_file() and holds(file.read_bytes(), parts):
                found.append(str(file.relative_to(settings.DATA_DIR)))
    return found


def dumped(program: str = "pg_dumpall", *options: str) -> bytes:
    """All databases as a backup has them; or one, by pg_dump."""
    where = locations(settings.DATA_DIR)
    database = ["-d", DATABASE] if program == "pg_dump" else []
    command = [
        str(postgres_program(program)),
        "-h",
        str(where.sockets),
        "-U",
        ADMIN_LOGIN,
        *database,
        *options,
    ]
    return subprocess.run(command, capture_output=True, check=True).stdout


def keys_with(parts: list[bytes]) -> list[str]:
    """The keys of Valkey that have one of these."""
    server: Any = Redis.from_url(settings.EVENT_LOG_URL)
    found = []
    for key in server.scan_iter():
        kept = {b"stream": server.xrange, b"string": server.get}.get(server.type(key), server.dump)(key)
        if holds(str(kept).encode(), parts):
            found.append(key.decode())
    return found


def places(parts: list[bytes]) -> list[str]:
    with admin_connection() as admin:
        admin.execute("CHECKPOINT")
    Redis.from_url(settings.EVENT_LOG_URL).save()  # its own dump is among the files then
    dump = ["a dump"] if holds(dumped(), parts) else []
    return [*dump, *files_with(parts), *keys_with(parts)]


def wrapped_key(contact: str) -> bytes:
    with tenancy.in_tenant(cast.state("acme").ref):
        return bytes(DataKey.objects.get(contact__external_id=contact).wrapped)


def cleared() -> bool:
    """Do what a job does every minute; whether it is done."""
    key_leftovers.clear()
    with tenancy.in_platform():
        return not DeletedKeys.objects.exists()


def chat_of(acme_api: Caller, canary: str, name: str, control: str) -> str:
    """A contact's conversation with the canary wherever people can write; the control goes where it is not sealed."""
    one = acme_api.begin(end_user=name, system_prompt=f"{canary} prompt", metadata={"of": control})
    said = {"headers": {"Idempotency-Key": uuid4().hex}}
    reply = acme_api.ask(one, f"{canary} one", **said)["reply"]["id"]
    with acme_api.socket(one) as socket:
        socket.say(f"{canary} two")
        assert socket.until(*LAST)[-1]["type"] == "completed"
    for _ in range(2):
        rated = acme_api.post(
            f"/conversations/{one}/messages/{reply}/feedback", {"rating": "up", "comment": canary}, **said
        )
        assert rated.json() == {"rating": "up", "comment": canary}, rated.text
    for path, body in (("rating", {"stars": 1, "comment": canary}), ("escalate", {"reason": canary})):
        assert acme_api.post(f"/conversations/{one}/{path}", body, **said).status_code == 200
    return one


@pytest.mark.processes
def test_after_a_real_chat_the_words_are_nowhere_and_cannot_be_opened(
    acme_api: Caller, committed: None
) -> None:
    canary, control, name = f"heron{uuid4().hex}", f"control{uuid4().hex}", f"jane-{uuid4().hex}"
    one = chat_of(acme_api, canary, name, control)
    acme_api.start(acme_api.begin(SLOW, end_user=name), f"{canary} three")
    said = [row["content"] for row in acme_api.get(f"/conversations/{one}/messages").json()["results"]]
    assert f"{canary} one" in said and f"{canary} two" in said
    with tenancy.in_tenant(cast.state("acme").ref):
        words.catch_up(10_000)
        assert words.with_words(Message.objects.all(), canary).count() >= 2
    # What is to be nowhere afterwards would be found: what is not sealed, in a dump and in files, and the wrapped key.
    assert {"a dump"} < set(places(forms(control)))
    key = wrapped_key(name)
    assert any("pg_wal" in file for file in files_with(traces(key))) and holds(dumped(), [key.hex().encode()])
    kept_apart = ("--exclude-table-data=*.tenants_datakey", "--exclude-table-data=*.tenants_tenantkey")
    assert not holds(dumped("pg_dump", *kept_apart), [key.hex().encode()])
    assert all(place.startswith("cp:") for place in places(forms(canary)))  # event logs

    older = psycopg.connect(locations(settings.DATA_DIR).database_admin_url)
    older.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    older.execute("SELECT 1")
    answer = acme_api.http.delete(f"/tenants/acme/contacts/{name}")
    assert answer.status_code == 200, answer.text
    assert certificates.is_genuine(answer.json()) and answer.json()["removed"]["conversations"] == 2
    assert acme_api.get(f"/conversations/{one}").status_code == 404
    assert acme_api.http.delete(f"/tenants/acme/contacts/{name}").status_code == 404
    assert places(forms(canary)) == []
    assert not cleared() and files_with(traces(key)), "an older transaction might still look"
    older.close()
    until(cleared, "PostgreSQL lets go of the key")
    assert files_with(traces(key)) == [] and not holds(dumped(), [key.hex().encode()])


# --- While they are here ---------------------------------------------------------------------------------------
@pytest.mark.processes
def test_who_is_erased_in_the_middle_of_a_reply_is_sent_away(acme_api: Caller, committed: None) -> None:
    """Sockets are closed, streams end, the reply stops without a trace, what it held and its call are settled."""
    name = f"jane-{uuid4().hex}"
    here, waits = (acme_api.begin(SLOW, end_user=name) for _ in range(2))
    token = acme_api.post("/tokens", {"end_user": {"external_id": name}}).json()["token"]
    visitor = Caller(acme_api.live, token)
    with ThreadPoolExecutor(1) as pool, visitor.socket(here) as mine, acme_api.socket(here) as backends:
        mine.say("Go on")
        reply = mine.until("delta")[-1]["reply_id"]
        waiting = pool.submit(acme_api.say, waits)
        other = until(lambda: running_in(waits), "the other reply runs")
        with acme_api.reading(here, reply) as stream:
            next(stream)
            assert acme_api.http.delete(f"/tenants/acme/contacts/{name}").status_code == 200
            assert [event for event in stream if event.kind in LAST] == []
        assert mine.close_code() == backends.close_code() == 4404
        assert waiting.result().status_code == 404
    assert visitor.post("/conversations").status_code == 401
    with tenancy.in_tenant(cast.state("acme").ref):
        until(lambda: not Hold.objects.filter(reply__in=[reply, other]).exists(), "nothing is held any more")
        booked = LedgerEntry.objects.filter(reply__in=[reply, other])
        until(lambda: booked.count() == 2, "both calls are booked, for they are billed")
        assert not Message.objects.filter(id__in=[reply, other]).exists()
        assert not DataKey.objects.filter(contact__external_id=name).exists()
    with tenancy.in_platform():
        assert not Work.objects.filter(id__in=[reply, other]).exists()


def running_in(conversation: str) -> str | None:
    """The reply that a worker is at in a conversation of Acme's."""
    with tenancy.in_tenant(cast.state("acme").ref):
        found = Reply.objects.filter(conversation_id=UUID(conversation), status="generating").first()
        return str(found.pk) if found else None


@pytest.mark.usefixtures("committed")
def test_what_is_held_for_a_reply_that_nobody_has_begun_is_given_back() -> None:
    with tenancy.in_tenant(cast.state("acme").ref), jobs.taken_by(lambda *_: None):
        contact = contact_for(f"jane-{uuid4().hex}")
        say(begin(contact=contact, model="local").pk)()
        assert Hold.objects.filter(contact=contact.id).exists()
        erasure.erase_contact(contact)
        assert not Hold.objects.filter(contact=contact.id).exists()
