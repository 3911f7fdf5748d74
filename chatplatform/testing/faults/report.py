"""A failure, as a person needs it: what is wrong, what happened when, and the history of the replies in question."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from chatplatform.testing.faults.history import View
from chatplatform.testing.faults.run import Result

SHOWN_WRONG, SHOWN_REPLIES, SHOWN_EVENTS = 20, 3, 60


def report(result: Result, log: Path | None = None) -> str:
    """All of it, as text. `log` is where the processes' log was kept."""
    return "\n".join(_lines(result, log))


def _lines(result: Result, log: Path | None) -> Iterator[str]:
    plan = result.plan
    yield f"seed {plan.seed}, {plan.web_server}; again: make test-faults SEED={plan.seed}"
    for wrong in result.wrong[:SHOWN_WRONG]:
        yield f"  WRONG {wrong}"
    if len(result.wrong) > SHOWN_WRONG:
        yield f"  … and {len(result.wrong) - SHOWN_WRONG} more"
    yield "planned:"
    yield from (f"  {fault}" for fault in plan.faults)
    yield "what happened:"
    yield from (f"  {line}" for line in result.diary)
    yield "answers:"
    for (what, status, code), times in sorted(result.evidence.answers.items()):
        yield f"  {times:5}  {what} {status} {code}"
    if log is not None:
        yield f"the processes' log: {log}"
    for reply_id in list(dict.fromkeys(wrong.reply_id for wrong in result.wrong if wrong.reply_id))[
        :SHOWN_REPLIES
    ]:
        yield from _reply(result, reply_id)


def _reply(result: Result, reply_id: str) -> Iterator[str]:
    yield f"reply {reply_id}:"
    question = ""
    for reply in result.evidence.stored:
        if reply.reply_id == reply_id:
            question = reply.question
            yield f"  asked: {reply.tenant} {reply.conversation}: {reply.question}"
            yield f"  stored: {reply.status}, attempt {reply.attempt}, {reply.provider} {reply.error}"
            yield f"  text: {reply.content!r}"
    for call in result.evidence.calls.values():
        if call.question == question:
            yield f"  call {call.number}" + (f" met {call.fault}" if call.fault else "")
    for view in result.evidence.views:
        if view.reply_id == reply_id:
            yield from _view(view, result)


def _view(view: View, result: Result) -> Iterator[str]:
    yield f"  {view.reader}, connections after {view.sittings}:"
    began = result.began
    events = view.events
    half = SHOWN_EVENTS // 2
    if len(events) > SHOWN_EVENTS:
        events = [*events[:half], *events[-half:]]
        yield f"    (only the first and last {half} of {len(view.events)} events)"
    for event in events:
        yield f"    {event.at - began:6.2f} s {event}"
