"""Every call of the OpenAPI document, with what Schemathesis makes up for it: no failure here, and nothing that the
document does not say."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from chatplatform.testing import cast
from chatplatform.testing.clients import Caller
from chatplatform.testing.live import Live
from tenants.services import lifecycle, provisioning

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
FEW = settings(
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
VALID = ("tenant", "end user", "other")
PUBLIC_KEY = '{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}'
SLUG, WRONG = "conformance", "cp_live_000000000000_00000000000000000000000000000000000000"


@pytest.fixture(scope="module")
def key(live: Live, django_db_blocker: Any) -> Iterator[str]:
    """Of a tenant whose configuration may become anything."""
    with django_db_blocker.unblock():
        tenant, _, _ = provisioning.request_tenant("Conformance", SLUG)
        provisioning.provision(tenant.pk)
        yield cast.key(SLUG)
        lifecycle.erase(SLUG)


@pytest.mark.parametrize(
    ("whose", "examples"),
    [("tenant", 6), ("end user", 2), ("other", 1), ("nobody", 1), ("wrong", 1), ("forged", 1)],
)
def test_every_call_answers_as_the_document_says(live: Live, key: str, whose: str, examples: int) -> None:
    shown = _shown(live, key, whose)
    headers = {"Authorization": f"Bearer {shown}"} if shown else {}
    document: Any = schemathesis.openapi.from_url(f"{live.api}/schema")
    found = [one.ok() for one in document.get_all_operations()]
    calls = [one for one in found if not one.path.endswith("/schema")]
    assert len(calls) > 25
    real = _real(live, key) if whose == "tenant" else {}
    for operation in calls:
        _try(live, operation, headers, real, examples, may_be_401_only=whose not in VALID)


def _try(
    live: Live, operation: Any, headers: Any, real: dict[str, str], examples: int, *, may_be_401_only: bool
) -> None:
    turns = cycle((real, {}))  # what is there, and what Schemathesis makes up

    @settings(FEW, max_examples=examples)
    @given(case=operation.as_strategy())
    def answers(case: Any) -> None:
        case.headers.pop("Authorization", None)
        case.cookies.clear()
        there = {**next(turns), "slug": SLUG}
        case.path_parameters = {
            name: there.get(name, made_up) for name, made_up in case.path_parameters.items()
        }
        answer = case.call_and_validate(base_url=live.url, headers=headers, checks=CHECKS)
        assert answer.status_code == 401 or not may_be_401_only

    answers()


def _shown(live: Live, key: str, whose: str) -> str | None:
    """What somebody shows. A forged token is an end user's in which a letter of the signature was changed."""
    if whose in ("tenant", "nobody", "wrong"):
        return {"tenant": key, "wrong": WRONG}.get(whose)
    if whose == "other":
        return cast.key("acme")
    token = str(Caller(live, key).post("/tokens", {"end_user": "ada"}).json()["token"])
    return token if whose == "end user" else token[:-9] + ("A" if token[-9] != "A" else "B") + token[-8:]


def _real(live: Live, key: str) -> dict[str, str]:
    """Identifiers of what is there: no call answers 404 whatever happens."""
    api = Caller(live, key)
    conversation = api.begin(end_user="ada")
    turn = api.ask(conversation)
    issuer = {"name": "Shop", "issuer": "https://shop.example.com", "public_key": PUBLIC_KEY}
    return {
        "conversation_id": conversation,
        "message_id": turn["reply"]["id"],
        "reply_id": turn["reply"]["id"],
        "contact": "ada",
        "key_id": cast.key(SLUG).split("_")[2],
        "issuer_id": str(api.post(f"/tenants/{SLUG}/token-issuers", issuer).json()["id"]),
    }
