"""Any JSON at any POST of the API is answered below 500, with a problem document if it is refused."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatplatform.testing.clients import Caller

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12), st.sampled_from(["local", "sim-fast", "up", "acme", "\x00", "\u202e", "https://x", "0-0"]),
)  # fmt: skip
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
NAMES = """
    content stream use_cache max_tokens tools model fallback_model temperature system_prompt end_user channel metadata
    rating comment stars reason conversation_id origin name slug tier rate_limits model_preferences external_id
    scope expires_in issuer public_key overlap
""".split()
bodies = st.dictionaries(st.sampled_from(NAMES) | st.text(max_size=6), anything, max_size=6)
CALLS = [
    "/conversations", "/conversations/{c}/messages", "/conversations/{c}/messages/{r}/feedback",
    "/conversations/{c}/rating",
    "/conversations/{c}/resolve", "/conversations/{c}/escalate", "/conversations/{c}/replies/{r}/cancel", "/ws-tickets",
    "/tokens", "/tenants/acme/token-issuers", "/tenants/acme/api-keys/nosuchkey123/rotate",
]  # fmt: skip
LIMITS = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


def check(answer: Any) -> None:
    assert answer.status_code < 500, answer.text
    if answer.status_code >= 400:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["request_id"]


@LIMITS
@given(path=st.sampled_from(CALLS), body=bodies, repeat=st.booleans())
def test_any_body_is_answered(acme_api: Caller, path: str, body: dict[str, Any], repeat: bool) -> None:
    if "c" not in kept:
        kept["c"] = acme_api.begin("sim-tokens=2")
        kept["r"] = acme_api.ask(kept["c"])["reply"]["id"]
    headers = {"Idempotency-Key": str(uuid4())} if repeat else {}
    # A reply of a model that the body chose may fail; that is no fault of the body's.
    url = path.format(**kept)
    first = acme_api.post(url, body, headers=headers)
    check(first)
    if repeat and path not in ("/ws-tickets", "/tokens"):
        again = acme_api.post(url, body, headers=headers)
        assert again.status_code == first.status_code
        check(again)


kept: dict[str, str] = {}


@LIMITS
@given(body=st.dictionaries(st.sampled_from(NAMES), anything, max_size=4))
def test_any_tenant_is_answered(staff_api: Caller, body: dict[str, Any]) -> None:
    body.pop("name", None)  # without a name none is made
    answer = staff_api.post("/tenants", body)
    check(answer)
    assert answer.status_code == 422


@LIMITS
@given(
    body=st.dictionaries(
        st.sampled_from(["greeting", "temperature", "widget_origins", "primary_model", "x"]),
        anything,
        min_size=1,
        max_size=3,
    )
)
def test_any_configuration_is_answered(globex_api: Caller, body: dict[str, Any]) -> None:
    body["no_such_field"] = 1  # so that nothing changes
    check(globex_api.patch("/tenants/globex/config", body))


@LIMITS
@given(
    frame=st.dictionaries(
        st.sampled_from(["type", "content", "client_id", "reply_id", "after", "cursor"]), anything, max_size=4
    )
)
def test_any_frame_is_answered(acme_api: Caller, frame: dict[str, Any]) -> None:
    frame.pop("content", None)
    if frame.get("type") == "ack":
        return
    with acme_api.socket(acme_api.begin("sim-tokens=2")) as socket:
        socket.raw(json.dumps(frame))
        answer = socket.receive()
        assert answer["type"] == "error"
        assert answer["error"]["status"] < 500
