"""Clients as good clients are: they send again until they are answered, come back, and go on where they were.

All that they do is drawn from the run's seed; what they saw goes into the evidence.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import aiohttp

from chatplatform.testing.faults.history import Evidence, Said, View

ANSWER_WITHIN = 20.0  # s that a client waits for a whole answer before it asks again
SILENT = 17.0  # s without a byte after which a stream is dead: a comment is due every 15
NETWORK_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)


@dataclass
class Surroundings:
    """What all clients of a run share. `port` is the network's, not the web server's."""

    port: int
    keys: dict[str, str]
    evidence: Evidence
    stop: asyncio.Event

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.port}/api/v1"


class Visitor(ABC):
    """One client with one conversation. Subclasses say how it asks and reads."""

    kind = ""

    def __init__(self, number: int, tenant: str, around: Surroundings, random: Random) -> None:
        self.name, self.tenant = f"{self.kind}-{number}", tenant
        # What it intends is drawn apart from how long it waits, which depends on the machine.
        self.around, self.random, self.dice = around, random, Random(random.random())
        self.headers = {"Authorization": f"Bearer {around.keys[tenant]}"}
        self.conversation = ""
        self.doing = "nothing yet"
        self.changed = asyncio.Event()  # something was seen
        self._said = 0
        self._lurkers: list[asyncio.Task[None]] = []

    # --- Its life ----------------------------------------------------------------------------------------------
    async def visit(self) -> None:
        """Chat until it is told to stop, and bring the last turn to its end."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=3, sock_read=SILENT)
        async with aiohttp.ClientSession(timeout=timeout, read_bufsize=2**20) as self.session:
            try:
                await self.begin()
                await self.chat()
                self.doing = "waiting for a second reader"
                await asyncio.gather(*self._lurkers)
            finally:
                for lurker in self._lurkers:
                    lurker.cancel()
        self.doing = ""

    @abstractmethod
    async def chat(self) -> None:
        """Ask and read, until it is told to stop."""

    async def begin(self) -> None:
        """A conversation of its own."""
        self.doing = "beginning a conversation"
        key = self._id()
        while not self.conversation:
            status, about = await self.ask(
                "POST", "/conversations", {"model": "sim-signed=1"}, {"Idempotency-Key": key}
            )
            if status == 201:
                self.conversation = about["id"]
            else:
                await self.pause(0.5)

    def next_message(self) -> Said:
        """The next message; nobody else's is the same. Some meet a fault of the provider every time."""
        self._said += 1
        pick = self.random
        tokens, fault = pick.randint(10, 90), ""
        if pick.random() < 0.08:
            fault = " fault=" + pick.choice(("error", "unavailable", f"drop@{tokens // 2}", "truncate"))
        pace = f"tokens={tokens} tps={pick.randint(15, 40)} ttft={pick.uniform(0, 0.6):.2f}"
        content = f"{self.tenant} {self.name} {self._said} [[sim: signed=1 {pace}{fault}]]"
        said = Said(self.tenant, self.name, self.conversation, content, self._id(), tokens)
        self.around.evidence.said.append(said)
        return said

    def _id(self) -> str:
        return uuid.UUID(int=self.random.getrandbits(128)).hex

    async def pause(self, longest: float) -> None:
        await asyncio.sleep(self.dice.uniform(0.1, longest))

    async def until(self, ready: Callable[[], bool], seconds: float | None = None) -> None:
        """Wait until that is true of what was seen, for some seconds at most."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not ready():
                    self.changed.clear()
                    await self.changed.wait()

    # --- Its requests ------------------------------------------------------------------------------------------
    async def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and body; status 0 if the network failed."""
        try:
            async with (
                asyncio.timeout(ANSWER_WITHIN),
                self.session.request(
                    method, self.around.api + path, json=body, headers={**self.headers, **(headers or {})}
                ) as answer,
            ):
                found = await _said(answer)
                self.note(f"{method} {_named(path)}", answer.status, found)
                return answer.status, found
        except (*NETWORK_ERRORS, ValueError):
            return 0, {}

    def note(self, what: str, status: int, problem: Any) -> None:
        """Count an answer."""
        code = str(problem.get("code", "")) if status >= 400 and isinstance(problem, dict) else ""
        self.around.evidence.answers[what, status, code] += 1

    def view(self, reply_id: str, reader: str = "") -> View:
        """A new view of a reply."""
        found = View(reader or self.name, reply_id)
        self.around.evidence.views.append(found)
        return found

    # --- Reading over SSE --------------------------------------------------------------------------------------
    async def follow(self, view: View) -> None:
        """Read a reply to its end over SSE, from where the view is."""
        path = f"/conversations/{self.conversation}/replies/{view.reply_id}/events"
        while not view.ended:
            after = view.cursor
            headers = {"Last-Event-ID": after} if after else {}
            await self.stream("GET", path, None, headers, lambda _: view, after)
            if not view.ended:
                await self.pause(0.4)

    async def stream(
        self,
        method: str,
        path: str,
        body: Any,
        headers: dict[str, str],
        view_for: Callable[[str], View],
        after: str = "",
    ) -> int:
        """Take an event stream into the view of its reply, as far as it goes. The status; 0 if there was none."""
        url, view = self.around.api + path, None
        with contextlib.suppress(*NETWORK_ERRORS, ValueError):
            async with self.session.request(
                method, url, json=body, headers={**self.headers, **headers}
            ) as answer:
                if answer.content_type != "text/event-stream":
                    found = await _said(answer)
                    self.note(f"{method} stream", answer.status, found)
                    if answer.status == 204 and after:
                        self.around.evidence.strangers.append(f"{self.name}: 204 before the end, at {path}")
                    return answer.status
                event: dict[str, Any] = {}
                async for raw in answer.content:
                    line = raw.decode()
                    if not line.endswith("\n"):
                        break  # cut in the middle of a line
                    name, _, value = line.rstrip("\n").partition(": ")
                    if name:
                        event[name] = value
                    elif "data" in event:
                        data = json.loads(event["data"])
                        if view is None:
                            view = view_for(data["reply_id"])
                            view.sit(after)
                        view.take(event["event"], event["id"], data)
                        self.changed.set()
                        event = {}
                    else:
                        event = {}
                return answer.status
        return 0

    # --- Second readers ----------------------------------------------------------------------------------------
    def maybe_lurk(self, reply_id: str) -> None:
        """Sometimes the same reply is read a second time, from the beginning, a little later."""
        if self.random.random() < 0.35:
            delay = self.random.uniform(0, 3)
            self._lurkers.append(asyncio.create_task(self._lurk(reply_id, delay)))

    async def _lurk(self, reply_id: str, delay: float) -> None:
        await asyncio.sleep(delay)
        await self.follow(self.view(reply_id, f"{self.name} as a second reader"))

    async def cancel(self, reply_id: str) -> None:
        """Ask for a reply to stop, until somebody has heard it."""
        path = f"/conversations/{self.conversation}/replies/{reply_id}/cancel"
        while (await self.ask("POST", path, {}))[0] not in (200, 202):
            await self.pause(0.5)


async def _said(answer: aiohttp.ClientResponse) -> dict[str, Any]:
    """The body of a whole answer. One that is not ours, as a server's own "500", says nothing but its status."""
    text = await answer.text()
    with contextlib.suppress(ValueError):
        found = json.loads(text)
        if isinstance(found, dict):
            return found
    return {}


def _named(path: str) -> str:
    last = path.partition("?")[0].rpartition("/")[2]
    return last if last.isalpha() else "reply"


class ByTurns(Visitor):
    """Does one turn after the other."""

    async def chat(self) -> None:
        while not self.around.stop.is_set():
            await self.turn(self.next_message())
            await self.pause(0.8)

    @abstractmethod
    async def turn(self, said: Said) -> None:
        """Say this, and read the reply to its end."""


class Patient(ByTurns):
    """Asks over REST, and waits for the whole answer."""

    kind = "rest"

    async def turn(self, said: Said) -> None:
        self.doing = f"asking {said.content!r}"
        path, headers = f"/conversations/{self.conversation}/messages", {"Idempotency-Key": said.key}
        while True:
            status, body = await self.ask(
                "POST", path, {"content": said.content, "use_cache": False}, headers
            )
            reply = body.get("reply") or {}
            if reply:
                said.replies.add(reply["id"])
            if reply.get("status") in ("completed", "failed", "cancelled"):
                self.around.evidence.whole.append((self.name, reply))
                return
            await self.pause(0.6 if status else 0.3)


class Streaming(ByTurns):
    """Asks and reads over SSE, and comes back with Last-Event-ID, or with its key again."""

    kind = "sse"

    async def turn(self, said: Said) -> None:
        self.doing = f"asking {said.content!r}"
        views: dict[str, View] = {}
        stopping = self._maybe_cancel(views)
        path, headers = f"/conversations/{self.conversation}/messages", {"Idempotency-Key": said.key}
        body = {"content": said.content, "use_cache": False, "stream": True}

        def view_for(reply_id: str) -> View:
            said.replies.add(reply_id)
            if reply_id not in views:
                views[reply_id] = self.view(reply_id)
                self.maybe_lurk(reply_id)
            return views[reply_id]

        while not views:
            await self.stream("POST", path, body, headers, view_for)
            await self.pause(0.4)
        view = next(iter(views.values()))
        while not view.ended:
            self.doing = f"reading {view.reply_id}"
            if self.dice.random() < 0.3:
                await self.stream("POST", path, body, headers, view_for)
                await self.pause(0.3)
            else:
                await self.follow(view)
        if stopping is not None:
            await stopping

    def _maybe_cancel(self, views: dict[str, View]) -> asyncio.Task[None] | None:
        if self.random.random() >= 0.2:
            return None
        words = self.random.randint(0, 30)

        async def watch() -> None:
            await self.until(lambda: bool(views))
            view = next(iter(views.values()))
            await self.until(lambda: view.ended or len(view.text.split()) >= words)
            await self.cancel(view.reply_id)

        return asyncio.create_task(watch())
