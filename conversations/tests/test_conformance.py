"""Every call of the OpenAPI document, with what Schemathesis makes up for it: no failure here, and nothing that the
document does not say."""

from __future__ import annotations

from collections.abc import Iterator
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
SLUG, WRONG = "conformance", "cp_live_000000000000_00000000000000000000000000000000000000"


@pytest.fixture(scope="module")
def key(live: Live, django_db_blocker: Any) -> Iterator[str]:
    """Of a tenant whose configuration may become anything."""
    with django_db_blocker.unblock():
        tenant, _, _ = provisioning.request_tenant("Conformance", SLUG)
        provisioning.provision(tenant.pk)
        yield cast.key(SLUG)
        lifecycle.erase(SLUG)


@pytest.mark.parametrize(("whose", "examples"), [("tenant", 6), ("nobody", 1), ("wrong", 1)])
def test_every_call_answers_as_the_document_says(live: Live, key: str, whose: str, examples: int) -> None:
    shown = {"tenant": key, "wrong": WRONG}.get(whose)
    headers = {"Authorization": f"Bearer {shown}"} if shown else {}
    document: Any = schemathesis.openapi.from_url(f"{live.api}/schema")
    found = [one.ok() for one in document.get_all_operations()]
    calls = [one for one in found if not one.path.endswith("/schema")]
    assert len(calls) > 25
    for operation in calls:

        @settings(FEW, max_examples=examples)
        @given(case=operation.as_strategy())
        def answers(case: Any) -> None:
            case.headers.pop("Authorization", None)
            case.cookies.clear()
            if "slug" in case.path_parameters:
                case.path_parameters = {**case.path_parameters, "slug": SLUG}
            answer = case.call_and_validate(base_url=live.url, headers=headers, checks=CHECKS)
            assert whose == "tenant" or answer.status_code == 401

        answers()
