"""Keys of all kinds are replaced while people chat, and nobody notices."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import jwt
import pytest
from django.conf import settings
from django.utils import timezone

from chatplatform import tenancy
from chatplatform.testing import cast
from chatplatform.testing.clients import LAST, Caller, opened
from chatplatform.testing.commands import result_of
from chatplatform.testing.live import Live
from chatplatform.testing.stage import until
from tenants import keyring
from tenants.models import TenantKey
from tenants.services import key_rotation
from tenants.tests.tokens import age, soon

KEY, OLD_KEYS = (settings.DATA_DIR / "secrets" / name for name in ("master_key", "master_old_keys"))
pytestmark = [pytest.mark.processes, pytest.mark.slow]


class Load:
    """Clients that go on until they are told to stop; `done` counts the turns of each, by name."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.pool, self.stopped = pool, threading.Event()
        self.done: Counter[str] = Counter()
        self.running: dict[str, Future[None]] = {}

    def add(self, name: str, turn: Callable[[], object]) -> None:
        """A client whose turns are this; it ends at the first that fails."""

        def go_on() -> None:
            while not self.stopped.is_set():
                turn()
                self.done[name] += 1

        self.running[name] = self.pool.submit(go_on)

    def goes_on(self) -> None:
        """Wait until every client has ended two more turns, one of them begun after this. Raises what one has met."""
        before = Counter(self.done)

        def have_all() -> bool:
            for one in self.running.values():
                if one.done():
                    one.result()
            return all(self.done[name] >= before[name] + 2 for name in self.running)

        until(have_all, "all clients go on")


@contextmanager
def load() -> Iterator[Load]:
    with ThreadPoolExecutor(8) as pool:
        made = Load(pool)
        try:
            yield made
        finally:
            made.stopped.set()
        for one in made.running.values():
            one.result()


def turn_of_somebody_new(caller: Caller) -> None:
    """Each is the first of an end user, so that keys are made all the while."""
    conversation = caller.begin(end_user=f"r-{uuid4()}")
    said = f"Number {uuid4()}"
    assert caller.ask(conversation, said)["reply"]["status"] == "completed"
    assert caller.get(f"/conversations/{conversation}/messages").json()["results"][0]["content"] == said


def visit(live: Live, token: str) -> None:
    """A turn of an end user over a socket, with a ticket that the token gets."""
    visitor = Caller(live, token)
    answer = visitor.post("/conversations")
    assert answer.status_code == 201, answer.text
    conversation = answer.json()["id"]
    ticket = visitor.post("/ws-tickets", {"conversation_id": conversation}).json()["ticket"]
    with opened(live, conversation, f"?ticket={ticket}") as socket:
        socket.say("Hello")
        assert socket.until(*LAST)[-1]["type"] == "completed"
    visitor.http.close()


def test_no_request_fails_while_keys_are_rotated(live: Live, committed: None) -> None:
    key = cast.key("acme")
    caller = Caller(live, key)
    signed_by: set[str] = set()

    def token() -> str:
        answer = caller.post("/tokens", {"end_user": {"external_id": "rotating"}})
        assert answer.status_code == 201, answer.text
        made = str(answer.json()["token"])
        signed_by.add(jwt.get_unverified_header(made)["kid"])
        return made

    first, staying = token(), caller.begin()
    with caller.socket(staying) as socket, load() as clients:

        def say() -> None:
            socket.say("Still here", client_id=uuid4().hex)
            assert socket.until(*LAST)[-1]["type"] == "completed"

        clients.add("old key", lambda: turn_of_somebody_new(caller))
        clients.add("first token", lambda: visit(live, first))
        clients.add("new tokens", lambda: visit(live, token()))
        clients.add("socket", say)
        clients.goes_on()

        for _ in range(2):
            result_of("rotate_signing_keys")
            age("next", soon())
            signer = result_of("rotate_signing_keys")["current"]
            until(partial(signed_by.__contains__, signer), "the next key signs", within=6)
            clients.goes_on()

        another = result_of("rotate_api_key", key.split("_")[2], "--overlap", "1h")["api_key"]
        clients.add("new key", lambda: turn_of_somebody_new(Caller(live, another)))
        clients.goes_on()

        assert result_of("rotate_keys", "--tenant", "acme")["rotated"]["acme"]["data_keys"]
        clients.goes_on()
        was = KEY.read_text()
        for master_key in (uuid4().hex, was):
            replace_master_key(master_key)
            clients.goes_on()
    answer = caller.get(f"/conversations/{staying}/messages").json()["results"]
    assert answer[0]["content"] == "Still here"


def replace_master_key(key: str) -> None:
    """As operators are told to, and the processes go on running."""
    old = KEY.read_text()
    put(OLD_KEYS, key)  # every process can unwrap what the first one wraps
    put(OLD_KEYS, f"{key} {old}")
    put(KEY, key)
    assert result_of("rotate_keys", "--master")["tenant_keys"] >= 3
    with tenancy.in_platform():  # a quarter of an hour goes by
        TenantKey.objects.filter(current=False).update(replaced_at=timezone.now() - key_rotation.GRACE * 2)
    assert result_of("rotate_keys", "--master")["left"] == 0
    OLD_KEYS.unlink()
    for slug in cast.NAMES:
        keyring.drop(
            cast.state(slug).ref.id
        )  # what processes keep is forgotten: they have to unwrap it all again


def put(file: Path, text: str) -> None:
    """Written aside and renamed, so that nobody reads half of it."""
    draft = file.with_suffix(".draft")
    draft.write_text(text)
    draft.rename(file)
