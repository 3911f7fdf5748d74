"""A message that a budget has no room for is refused everywhere alike, and leaves nothing behind (CONTRACT §7)."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any

import pytest

from chatplatform.testing.clients import Caller
from chatplatform.testing.live import Live
from chatplatform.testing.stage import until
from conversations.tests.test_rate_limits import new_tenant

MODEL = "gpt-4o-mini"
LIMIT = "0.000001"


@pytest.fixture
def poor(staff_api: Caller, live: Live) -> Caller:
    """A tenant whose conversations may cost next to nothing."""
    caller = new_tenant(staff_api, live)
    slug = caller.post("/conversations", {}).json()["tenant"]
    answer = staff_api.patch(f"/tenants/{slug}/config", {"conversation_cost_budget_usd": LIMIT})
    assert answer.status_code == 200, answer.text
    until(lambda: caller.say(caller.begin(MODEL)).status_code == 402, "the budget is in force")
    return caller


def check_refusal(problem: dict[str, Any]) -> None:
    assert (problem["status"], problem["code"], problem["level"]) == (402, "budget_exceeded", "conversation")
    assert (Decimal(problem["limit"]), Decimal(problem["spent"])) == (Decimal(LIMIT), Decimal(0))


def test_rest_streams_and_sockets_are_refused_alike_and_nothing_is_sent(poor: Caller, live: Live) -> None:
    conversation, said = poor.begin(MODEL), f"Too dear {uuid.uuid4()}"
    key = {"Idempotency-Key": uuid.uuid4().hex}
    for answer in (
        poor.say(conversation, said),
        poor.say(conversation, said, stream=True),
        poor.say(conversation, said, headers=key),
        replayed := poor.say(conversation, said, headers=key),
    ):
        assert (answer.status_code, answer.headers["content-type"]) == (402, "application/problem+json")
        check_refusal(answer.json())
    assert replayed.headers["Idempotent-Replayed"] == "true"
    with poor.socket(conversation) as socket:
        socket.say(said, client_id="dear")
        [frame] = [frame for frame in socket.until("error") if frame["type"] == "error"]
        assert frame["client_id"] == "dear"
        check_refusal(frame["error"])
    assert poor.get(f"/conversations/{conversation}/messages").json()["results"] == []
    assert said not in str(live.simulator.requests())
