"""The proof: what must be true of every run, whatever went wrong in it.

Plain functions over plain data (history.py). Each yields what is wrong as a `Wrong`, with the reply it is about.
"""

from __future__ import annotations

from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chatplatform.testing.faults.history import LAST, Call, Epoch, Event, Evidence, Stored, View, position
from chatplatform.testing.simulator import signed

# Cursors of what was made up from the stored reply, because the log was gone: they sort before those of the log.
MADE_RESET, MADE_TEXT = (0, 1), (0, 2)
ENDED = frozenset(LAST)
GIVEN_UP = "Given up after"
# Said of a model whose circuit is open, which takes so many failed calls (run.py sets the breaker to it).
NOT_ASKED, OPENS_AFTER = "was not asked, because it has failed too often", 10
# What a client may be answered while things break. Anything else, a 500 before all, is a fault of ours.
USUAL = {200, 201, 202, 204}
OUTAGE = {
    (409, "idempotency_in_progress"),  # the first request has not been answered yet
    (409, "reply_in_progress"),  # the client was cut off before it heard the end of its last reply
    (502, "provider_error"),
    (503, "provider_unavailable"),
    (503, "database_unavailable"),
    (503, "shutting_down"),
    (504, "deadline_exceeded"),
}
CLOSES = {
    1000,
    1001,
    1006,  # no close frame: killed, or the network
    1012,  # how uvicorn says that it stops
    4408,
    4503,
}


@dataclass(frozen=True, slots=True)
class Wrong:
    """One broken promise. `reply_id` is empty where it is about no one reply."""

    rule: str
    what: str
    reply_id: str = ""

    def __str__(self) -> str:
        return f"{self.rule}: {self.what}" + (f" (reply {self.reply_id})" if self.reply_id else "")


def check(evidence: Evidence) -> list[Wrong]:
    """All that is wrong with a run; nothing, most of the time."""
    stored = {reply.reply_id: reply for reply in evidence.stored}
    found = [*messages(evidence, stored), *ends(evidence), *leftovers(evidence), *answers(evidence)]
    for view in evidence.views:
        found += view_of(view, stored.get(view.reply_id), evidence.calls)
    for reader, shown in evidence.whole:
        found += whole(reader, shown, stored)
    return found


# --- Messages ------------------------------------------------------------------------------------------------------
def messages(evidence: Evidence, stored: dict[str, Stored]) -> Iterator[Wrong]:
    """Every message that was accepted exists once and has one reply; nothing exists that nobody said."""
    answered = Counter((reply.tenant, reply.conversation, reply.question) for reply in evidence.stored)
    for said in evidence.said:
        if not said.replies:
            yield Wrong("accepted", f"{said.reader} never got {said.content!r} accepted")
        elif len(said.replies) > 1:
            yield Wrong("once", f"one key, {len(said.replies)} replies for {said.content!r}")
        for reply_id in said.replies:
            found = stored.get(reply_id)
            if found is None or found.question != said.content or found.tenant != said.tenant:
                yield Wrong("lost", f"what was accepted for {said.content!r} is not stored", reply_id)
        kept = evidence.user_messages[said.tenant, said.content]
        if said.replies and (kept, answered[said.tenant, said.conversation, said.content]) != (1, 1):
            yield Wrong("once", f"{said.content!r} is stored {kept} times")
    known = {(said.tenant, said.content) for said in evidence.said}
    for tenant, content in evidence.user_messages.keys() - known:
        yield Wrong("tenants", f"{tenant} has a message that none of its clients sent: {content!r}")
    keys = Counter((reply.tenant, reply.conversation, reply.key) for reply in evidence.stored if reply.key)
    for (_, _, key), times in keys.items():
        if times > 1:
            yield Wrong("once", f"the key {key} made {times} replies")


def ends(evidence: Evidence) -> Iterator[Wrong]:
    """Every reply has ended, and none has failed without a reason that the run gave it."""
    asked = {(said.tenant, said.content): said.tokens for said in evidence.said}
    calls = defaultdict(list)
    for call in evidence.calls.values():
        calls[call.question].append(call)
    faulty = sorted(call.at for call in evidence.calls.values() if call.fault)
    for reply in evidence.stored:
        if reply.status not in ENDED:
            yield Wrong("ended", f"is still {reply.status}", reply.reply_id)
            continue
        if reply.status == "failed" and not _excused(reply, calls[reply.question], faulty):
            yield Wrong("failed", f"failed without a fault of its provider: {reply.error}", reply.reply_id)
        if reply.provider == "local":
            continue  # a fallback in words of its own
        yield from one_call(reply.question, "the stored text", reply.content, evidence.calls, reply.reply_id)
        wanted = asked.get((reply.tenant, reply.question))
        if reply.status == "completed" and wanted is not None and len(reply.content.split()) != wanted:
            yield Wrong(
                "whole", f"completed with {len(reply.content.split())} of {wanted} tokens", reply.reply_id
            )


def _excused(reply: Stored, calls: list[Call], faulty: Sequence[float]) -> bool:
    """The provider failed this reply, or had failed others so often before that it was rightly left alone, or
    every attempt has died. `faulty` are the times of all calls that met a fault, in order."""
    if NOT_ASKED in reply.error and bisect(faulty, reply.ended_at) >= OPENS_AFTER:
        return True
    return GIVEN_UP in reply.error or any(call.fault for call in calls)


def one_call(question: str, where: str, text: str, calls: dict[int, Call], reply_id: str) -> Iterator[Wrong]:
    """A text is what one call of the provider said, from its start on without a hole, and that call was for this."""
    number = text.partition(".")[0]
    if not text:
        return
    call = calls.get(int(number)) if number.isdecimal() else None
    if call is None:
        yield Wrong("text", f"{where} is of no call: {text[:80]!r}", reply_id)
    elif call.question != question:
        yield Wrong("tenants", f"{where} answers {call.question!r}, not {question!r}", reply_id)
    elif text != "".join(signed(call.number, len(text.split()))):
        yield Wrong("text", f"{where} is not what call {call.number} said: {text!r}", reply_id)


# --- What one reader saw of one reply --------------------------------------------------------------------------------
def view_of(view: View, reply: Stored | None, calls: dict[int, Call]) -> Iterator[Wrong]:
    """Order, one end, the stored text, and no attempt that speaks after a newer one."""
    if reply is None:
        yield Wrong("lost", f"{view.reader} saw a reply that is not stored", view.reply_id)
        return
    yield from order(view)
    yield from one_end(view)
    if view.to_the_end and view.ended and view.text != reply.content:
        yield Wrong(
            "same text", f"{view.reader} has {view.text!r}, stored is {reply.content!r}", view.reply_id
        )
    for event in view.events:
        if event.kind in ENDED and (event.kind != reply.status or event.reply != reply.shown):
            yield Wrong("same end", f"{view.reader} was told {event.kind} {event.reply}", view.reply_id)
    if reply.provider != "local":
        yield from attempts(view, reply, calls)


def order(view: View) -> Iterator[Wrong]:
    """Cursors only rise, so nothing comes twice. A reset that was made up from the stored reply has a low cursor of
    its own; what the log has after it must still be newer than all that came from the log before."""
    sitting, last, last_of_log = -1, (0, 0), (0, 0)
    for event in view.events:
        if event.sitting != sitting:
            sitting = event.sitting
            after = view.sittings[sitting]
            last = position(after) if after else (0, 0)
            last_of_log = last
        here = position(event.cursor)
        if event.kind == "accepted":
            if here < last:
                yield _back(view, event)
        elif here == MADE_RESET and event.kind == "reset":
            last = here
            continue
        elif here <= last or (here > MADE_TEXT and here <= last_of_log):
            yield _back(view, event)
        last = max(last, here)
        last_of_log = max(last_of_log, here)


def _back(view: View, event: Event) -> Wrong:
    return Wrong(
        "order", f"{view.reader} got {event.kind} at {event.cursor}, which is not newer", view.reply_id
    )


def one_end(view: View) -> Iterator[Wrong]:
    """Exactly one last event, and nothing after it (a repeated message may be acknowledged again)."""
    kinds = [event.kind for event in view.events]
    count = sum(kind in ENDED for kind in kinds)
    if count > 1 or (count == 0 and view.to_the_end):
        yield Wrong("one end", f"{view.reader} saw {count} last events", view.reply_id)
    if count:
        first = next(number for number, kind in enumerate(kinds) if kind in ENDED)
        if after := [kind for kind in kinds[first + 1 :] if kind not in ENDED and kind != "accepted"]:
            yield Wrong("one end", f"{view.reader} got {', '.join(after)} after the end", view.reply_id)


def attempts(view: View, reply: Stored, calls: dict[int, Call]) -> Iterator[Wrong]:
    """Each text between two resets is of one call; a call never comes back once a later one has spoken, but to who
    asks for all from the beginning."""
    newest = 0
    for number, epoch in enumerate(view.epochs()):
        if epoch.again:
            newest = 0
        where = f"what {view.reader} saw after reset {number}"
        yield from one_call(reply.question, where, epoch.text, calls, reply.reply_id)
        call = _number(epoch)
        # What PostgreSQL had when the log was gone may be the last attempt's: it is text so far, not a voice.
        if call is None or (epoch.cursor and position(epoch.cursor) == MADE_RESET):
            continue
        if call < newest:
            yield Wrong("stale", f"{view.reader} heard call {call} after call {newest}", view.reply_id)
        newest = call
    stored = reply.content.partition(".")[0]
    if stored.isdecimal() and int(stored) < newest:
        yield Wrong("stale", f"call {stored} settled it after call {newest} had spoken", view.reply_id)


def _number(epoch: Epoch) -> int | None:
    digits, dot, _ = epoch.text.partition(".")
    return int(digits) if dot and digits.isdecimal() else None


def whole(reader: str, shown: dict[str, object], stored: dict[str, Stored]) -> Iterator[Wrong]:
    """An answer that came in one piece is the stored reply."""
    reply = stored.get(str(shown["id"]))
    if reply is None:
        yield Wrong("lost", f"{reader} was answered with a reply that is not stored", str(shown["id"]))
    elif reply.shown != shown:
        yield Wrong("same text", f"{reader} was answered {shown}, stored is {reply.shown}", reply.reply_id)


# --- The rest ------------------------------------------------------------------------------------------------------
def leftovers(evidence: Evidence) -> Iterator[Wrong]:
    """Nothing is held any more, nobody saw what is another's, and the logs tell of no surprise."""
    for what in evidence.left:
        yield Wrong("released", what)
    for what in evidence.strangers:
        yield Wrong("tenants", what)
    for what in evidence.troubles:
        yield Wrong("log", what)
    for what in evidence.unsettled:
        yield Wrong("settles", what)


def answers(evidence: Evidence) -> Iterator[Wrong]:
    """Only statuses and close codes that an outage explains."""
    for (what, status, code), times in evidence.answers.items():
        if what == "close":
            if status not in CLOSES:
                yield Wrong("answers", f"a socket was closed with {status}, {times} times")
        elif status not in USUAL and (status, code) not in OUTAGE:
            yield Wrong("answers", f"{what} was answered {status} {code}, {times} times")
