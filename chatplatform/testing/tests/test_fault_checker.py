"""The proof of the fault suite can fail: each broken promise, doctored into a history that keeps them all, is seen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chatplatform.testing.faults import logs
from chatplatform.testing.faults.checker import NOT_ASKED, OPENS_AFTER, check
from chatplatform.testing.faults.history import Call, Evidence, Said, Stored, View
from chatplatform.testing.faults.schedule import Kind, draw

QUESTION, FOREIGN = "acme ws-0 1", "globex ws-1 1"
TEXT = "7.0 7.1 7.2 7.3"
SHOWN = {"id": "r", "status": "completed", "content": TEXT}
DELTAS = (("10-0", "7.0 7.1"), ("11-0", " 7.2"), ("12-0", " 7.3"))


def good() -> Evidence:
    """A reply that was taken over once, with one reader who came back in the middle and one who came late."""
    evidence = Evidence(
        said=[Said("acme", "ws-0", "c", QUESTION, "k", 4, {"r"})],
        stored=[Stored("acme", "r", "c", QUESTION, "k", "completed", TEXT, 2, shown=SHOWN)],
        whole=[("rest-0", SHOWN)],
        calls={5: Call(5, QUESTION, ""), 7: Call(7, QUESTION, ""), 8: Call(8, FOREIGN, "")},
        views=[reader(), log()],
    )
    evidence.user_messages["acme", QUESTION] = 1
    evidence.answers["POST messages", 200, ""] = 1
    return evidence


def reader() -> View:
    view = View("ws-0", "r")
    view.sit()
    view.take("accepted", "1-0", {})
    view.take("delta", "2-0", {"text": "5.0 5.1"})
    view.sit("2-0")
    view.take("reset", "9-0", {"reason": "restart"})
    for cursor, text in DELTAS:
        view.take("delta", cursor, {"text": text})
    view.take("completed", "13-0", {"reply": SHOWN})
    return view


def log() -> View:
    """What a reader gets when the log is gone."""
    view = View("late", "r")
    view.sit()
    view.take("reset", "0-1", {"reason": "log_lost"})
    view.take("delta", "0-2", {"text": TEXT})
    view.take("completed", f"{2**63}-0", {"reply": SHOWN})
    return view


def rules(evidence: Evidence) -> set[str]:
    return {wrong.rule for wrong in check(evidence)}


def test_a_history_that_keeps_all_promises_is_right() -> None:
    assert check(good()) == []


def test_a_server_may_begin_anew_before_it_hears_where_to_go_on() -> None:
    evidence, view = good(), View("ws-0", "r")
    view.sit()
    before = [("accepted", "1-0", {}), ("delta", "2-0", {"text": "5.0 5.1"})]
    for kind, cursor, data in before:
        view.take(kind, cursor, data)
    view.sit("2-0")
    for kind, cursor, data in [*before, ("reset", "9-0", {"reason": "restart"})]:
        view.take(kind, cursor, data)
    for cursor, text in DELTAS:
        view.take("delta", cursor, {"text": text})
    view.take("completed", "13-0", {"reply": SHOWN})
    evidence.views = [view, log()]
    assert check(evidence) == []


@pytest.mark.parametrize("has", [[("accepted", "0-0")], [("accepted", "1-0"), ("delta", "2-0")]])
def test_a_server_that_began_anew_answers_the_wish_all_the_same(has: list[tuple[str, str]]) -> None:
    """The wish was held up by the network, and what the server sent unasked as well."""
    evidence, view = good(), View("ws-0", "r")
    rest = [*reader().events[2:]]
    text = {"delta": "5.0 5.1", "reset": "restart", "accepted": ""}
    for _ in range(2):
        view.sit(view.cursor)
        for kind, cursor in has:
            view.take(kind, cursor, {"text": text[kind]})
    for event in [*rest, *rest]:
        view.take(event.kind, event.cursor, {"text": event.text, "reply": event.reply})
    evidence.views = [view, log()]
    assert check(evidence) == []


def test_the_answer_to_a_wish_comes_once() -> None:
    evidence, view = good(), reader()
    view.sit("13-0")
    for _ in range(2):
        view.take("reset", "20-0", {"reason": "restart"})
    evidence.views.append(view)
    assert "order" in rules(evidence)


def test_who_asks_for_all_from_the_beginning_hears_earlier_calls_again() -> None:
    evidence = good()
    first, twice = reader(), reader()
    twice.events = twice.events[:-1]  # cut off before the end
    twice.sit()
    for event in first.events:
        twice.take(event.kind, event.cursor, {"text": event.text, "reply": event.reply})
    evidence.views = [twice, log()]
    assert check(evidence) == []


@pytest.mark.parametrize(
    "again", [("delta", "2-0", {"text": "others"}), ("delta", "9-0", {"text": "5.0 5.1"})]
)
def test_it_may_not_begin_with_anything_else(again: tuple[str, str, dict[str, str]]) -> None:
    evidence, view = good(), View("ws-0", "r")
    view.sit()
    view.take("delta", "10-0", {"text": "5.0 5.1"})
    view.sit("10-0")
    view.take(*again)
    evidence.views.append(view)
    assert "order" in rules(evidence)


def doubled(view: View) -> None:
    view.events.insert(5, replace(view.events[4], cursor="10-1"))


def doubled_with_its_cursor(view: View) -> None:
    view.events.insert(5, view.events[4])


def missing(view: View) -> None:
    del view.events[4]


def swapped(view: View) -> None:
    view.events[3:5] = view.events[4:2:-1]


def two_ends(view: View) -> None:
    view.take("completed", "14-0", {"reply": SHOWN})


def no_end(view: View) -> None:
    del view.events[-1]


def text_after_the_end(view: View) -> None:
    view.take("delta", "14-0", {"text": " 7.4"})


def other_end(view: View) -> None:
    view.events[-1] = replace(view.events[-1], kind="failed")


def end_with_another_reply(view: View) -> None:
    view.events[-1] = replace(view.events[-1], reply={**SHOWN, "content": ""})


def stale_attempt_speaks(view: View) -> None:
    view.events.insert(5, replace(view.events[4], cursor="10-1", text=" 5.2"))


def stale_attempt_begins_again(view: View) -> None:
    again = [replace(event, text=event.text.replace("7.", "5.")) for event in view.events[2:5]]
    view.events[5:5] = [replace(event, cursor=f"11-{n}") for n, event in enumerate(again, 1)]


def cursor_back_on_return(view: View) -> None:
    view.sittings[1] = "9-0"


def back_after_a_made_up_reset(view: View) -> None:
    made = replace(view.events[2], kind="reset", cursor="0-1", text="log_lost")
    view.events[4:4] = [made, replace(view.events[2], cursor="9-0", text="7.0 7.1")]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (doubled, "text"),
        (doubled_with_its_cursor, "order"),
        (missing, "text"),
        (swapped, "order"),
        (two_ends, "one end"),
        (no_end, "one end"),
        (text_after_the_end, "one end"),
        (other_end, "same end"),
        (end_with_another_reply, "same end"),
        (stale_attempt_speaks, "text"),
        (stale_attempt_begins_again, "stale"),
        (cursor_back_on_return, "order"),
        (back_after_a_made_up_reset, "order"),
    ],
)
def test_what_a_reader_must_not_see(change: Callable[[View], None], rule: str) -> None:
    evidence = good()
    change(evidence.views[0])
    assert rule in rules(evidence)


def lost(evidence: Evidence) -> None:
    evidence.stored.clear()


def never_accepted(evidence: Evidence) -> None:
    evidence.said[0].replies.clear()


def two_replies_for_one_key(evidence: Evidence) -> None:
    evidence.said[0].replies.add("s")
    evidence.stored.append(replace(evidence.stored[0], reply_id="s", shown={**SHOWN, "id": "s"}))


def stored_twice(evidence: Evidence) -> None:
    evidence.user_messages["acme", QUESTION] = 2


def answered_twice(evidence: Evidence) -> None:
    evidence.stored.append(replace(evidence.stored[0], reply_id="s", key="", shown={**SHOWN, "id": "s"}))


def said_by_nobody(evidence: Evidence) -> None:
    evidence.user_messages["acme", FOREIGN] = 1


def still_running(evidence: Evidence) -> None:
    evidence.stored[0].status = "generating"


def failed_for_no_reason(evidence: Evidence) -> None:
    evidence.stored[0].status = "failed"


def cut_short(evidence: Evidence) -> None:
    evidence.said[0].tokens = 9


def other_text_than_shown(evidence: Evidence) -> None:
    evidence.stored[0].content = "7.0 7.1 7.2"


def settled_by_a_stale_attempt(evidence: Evidence) -> None:
    evidence.stored[0].content = TEXT.replace("7.", "5.")


def text_of_another_tenant(evidence: Evidence) -> None:
    evidence.stored[0].content = TEXT.replace("7.", "8.")


def whole_answer_differs(evidence: Evidence) -> None:
    evidence.whole[0] = ("rest-0", {**SHOWN, "content": "7.0"})


def work_is_left(evidence: Evidence) -> None:
    evidence.left.append("work is left")


def message_of_a_stranger(evidence: Evidence) -> None:
    evidence.strangers.append("ws-0 was sent what globex said")


def unexpected_answer(evidence: Evidence) -> None:
    evidence.answers["POST messages", 500, "internal_error"] = 1


def not_authenticated_in_an_outage(evidence: Evidence) -> None:
    evidence.answers["handshake", 401, ""] = 1


def closed_by_an_error(evidence: Evidence) -> None:
    evidence.answers["close", 1011, ""] = 1


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        (lost, "lost"),
        (never_accepted, "accepted"),
        (two_replies_for_one_key, "once"),
        (stored_twice, "once"),
        (answered_twice, "once"),
        (said_by_nobody, "tenants"),
        (still_running, "ended"),
        (failed_for_no_reason, "failed"),
        (cut_short, "whole"),
        (other_text_than_shown, "same text"),
        (settled_by_a_stale_attempt, "stale"),
        (text_of_another_tenant, "tenants"),
        (whole_answer_differs, "same text"),
        (work_is_left, "released"),
        (message_of_a_stranger, "tenants"),
        (unexpected_answer, "answers"),
        (not_authenticated_in_an_outage, "answers"),
        (closed_by_an_error, "answers"),
    ],
)
def test_what_must_not_be_left_behind(change: Callable[[Evidence], None], rule: str) -> None:
    evidence = good()
    change(evidence)
    assert rule in rules(evidence)


def test_a_reply_may_fail_if_its_provider_did() -> None:
    evidence = good()
    evidence.stored[0].status = "failed"
    evidence.calls[7].fault = "drop@4"
    assert "failed" not in rules(evidence)


@pytest.mark.parametrize(("faulty", "excused"), [(OPENS_AFTER, True), (OPENS_AFTER - 1, False)])
def test_a_model_is_left_alone_only_after_it_has_failed_often(faulty: int, excused: bool) -> None:
    evidence = good()
    evidence.stored[0] = replace(
        evidence.stored[0], status="failed", ended_at=100.0, error=f"openai {NOT_ASKED} in the last minute."
    )
    for number in range(100, 100 + faulty):
        evidence.calls[number] = Call(number, FOREIGN, "error", at=99.0)
    evidence.calls[200] = Call(200, FOREIGN, "error", at=101.0)  # too late to be the reason
    assert ("failed" not in rules(evidence)) == excused


# --- Logs and schedules ----------------------------------------------------------------------------------------------
def test_errors_and_tracebacks_in_the_log_are_found_and_outages_are_not(tmp_path: Path) -> None:
    log = tmp_path / "live.log"
    log.write_text(
        '{"event": "fine", "level": "warning", "logger": "a"}\n'
        '{"event": "bad", "level": "error", "logger": "a"}\n'
        '{"event": "worse", "level": "info", "exception": "Traceback\\n  File \\"x.py\\"\\nKeyError: 1"}\n'
        '{"event": "Bad Gateway: /x", "level": "error", "logger": "django.request"}\n'
        '{"event": "Internal Server Error: /x", "level": "error", "logger": "django.request"}\n'
        'Traceback (most recent call last):\n  File "y.py", line 1\nValueError: 2\n\n'
        "During handling of the above exception, another exception occurred:\n\n"
        'Traceback (most recent call last):\n  File "z.py", line 1\nIndexError: 3\n'
    )
    found = logs.troubles(log)
    assert len(found) == 4
    assert [entry for entry in found if "KeyError: 1" in entry and "x.py" in entry]
    assert [entry for entry in found if "IndexError: 3" in entry and "z.py" in entry]


def test_a_seed_draws_the_same_schedule_again_and_another_seed_another() -> None:
    assert draw(5, 25) == draw(5, 25) != draw(6, 25)


def test_twenty_seeds_draw_every_kind_of_fault() -> None:
    drawn = {fault.kind for seed in range(20) for fault in draw(seed, 25).faults}
    assert drawn == set(Kind)
