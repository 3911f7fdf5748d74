"""The OpenAPI document and its page."""

from __future__ import annotations

import importlib
import re
from typing import Any

import httpx2
import pytest
import yaml

from chatplatform.api.problem import Code, Problem
from chatplatform.testing.clients import Caller
from chatplatform.testing.live import Live

jsonschema: Any = importlib.import_module("jsonschema")  # has no types
CALLS = {
    "/api/v1/conversations": {"get", "post"},
    "/api/v1/conversations/{conversation_id}": {"get"},
    "/api/v1/conversations/{conversation_id}/messages": {"get", "post"},
    "/api/v1/conversations/{conversation_id}/replies/{reply_id}": {"get"},
    "/api/v1/conversations/{conversation_id}/replies/{reply_id}/events": {"get"},
    "/api/v1/conversations/{conversation_id}/replies/{reply_id}/cancel": {"post"},
    "/api/v1/conversations/{conversation_id}/messages/{message_id}/feedback": {"post"},
    "/api/v1/conversations/{conversation_id}/rating": {"post"},
    "/api/v1/conversations/{conversation_id}/resolve": {"post"},
    "/api/v1/conversations/{conversation_id}/escalate": {"post"},
    "/api/v1/ws-tickets": {"post"},
    "/api/v1/tokens": {"post"},
    "/api/v1/tenants": {"post"},
    "/api/v1/tenants/{slug}": {"get"},
    "/api/v1/tenants/{slug}/usage": {"get"},
    "/api/v1/tenants/{slug}/contacts/{contact}": {"delete"},
    "/api/v1/usage/daily": {"get"},
    "/api/v1/invoices": {"get"},
    "/api/v1/invoices/{invoice_id}": {"get"},
    "/api/v1/tenants/{slug}/config": {"get", "patch"},
    "/api/v1/tenants/{slug}/token-issuers": {"get", "post"},
    "/api/v1/tenants/{slug}/token-issuers/{issuer_id}": {"get", "delete"},
    "/api/v1/tenants/{slug}/api-keys": {"get"},
    "/api/v1/tenants/{slug}/api-keys/{key_id}": {"get", "delete"},
    "/api/v1/tenants/{slug}/api-keys/{key_id}/rotate": {"post"},
}
VERBS = {"get", "put", "post", "patch", "delete"}


@pytest.fixture(scope="module")
def schema(live: Live) -> dict[str, Any]:
    answer = httpx2.get(f"{live.api}/schema", headers={"Accept": "application/vnd.oai.openapi"})
    assert answer.status_code == 200
    document: dict[str, Any] = yaml.safe_load(answer.text)
    return document


def resolved(schema: dict[str, Any], shape: dict[str, Any]) -> dict[str, Any]:
    """A schema with the document's components, as a JSON schema of its own."""
    return {"components": schema["components"], **shape}


def test_it_is_openapi_3_1(schema: dict[str, Any]) -> None:
    assert re.fullmatch(r"3\.1\.\d+", schema["openapi"])
    assert schema["info"]["title"]
    for shape in schema["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(shape)


def test_it_has_every_call_of_the_contract_and_no_other(schema: dict[str, Any]) -> None:
    found = {path: set(item) & VERBS for path, item in schema["paths"].items()}
    assert {path: verbs for path, verbs in found.items() if "schema" not in path} == CALLS


def test_every_reference_leads_somewhere(schema: dict[str, Any]) -> None:
    references = set(re.findall(r"'\$ref': '([^']+)'", str(schema)))
    assert references
    for reference in references:
        place: Any = schema
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_operations_have_names_of_their_own(schema: dict[str, Any]) -> None:
    names = [item[verb]["operationId"] for item in schema["paths"].values() for verb in set(item) & VERBS]
    assert len(names) == len(set(names))


def test_examples_are_as_it_says(schema: dict[str, Any]) -> None:
    found = 0
    for item in schema["paths"].values():
        for verb in set(item) & VERBS:
            body = item[verb].get("requestBody", {}).get("content", {}).get("application/json", {})
            for example in body.get("examples", {}).values():
                fits(example["value"], resolved(schema, body["schema"]))
                found += 1
    assert found >= 6


def test_every_call_says_what_it_does_what_it_needs_and_how_it_fails(schema: dict[str, Any]) -> None:
    for path, item in schema["paths"].items():
        for verb in set(item) & VERBS:
            call = item[verb]
            assert call.get("summary") and "scope `" in call["description"], (verb, path)
            assert "default" not in call["responses"], "it would allow any status"
            shape = call["responses"]["401"]["content"]["application/problem+json"]["schema"]
            fits(Problem(Code.NOT_FOUND).body() | {"request_id": "1"}, resolved(schema, shape))


def answer_shape(schema: dict[str, Any], path: str, verb: str, status: str) -> dict[str, Any]:
    content = schema["paths"][f"/api/v1{path}"][verb]["responses"][status]["content"]
    return resolved(schema, content["application/json"]["schema"])


def fits(shown: Any, shape: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator(shape, format_checker=jsonschema.FormatChecker()).validate(shown)


def test_answers_are_as_it_says(schema: dict[str, Any], acme_api: Caller, staff_api: Caller) -> None:
    conversation = acme_api.begin()
    turn = acme_api.ask(conversation)
    one = "/conversations/{conversation_id}"
    path = f"/conversations/{conversation}"
    for template, shown in (
        (one, acme_api.get(path).json()),
        (f"{one}/messages", acme_api.get(f"{path}/messages").json()),
        (f"{one}/replies/{{reply_id}}", turn["reply"]),
        ("/conversations", acme_api.get("/conversations").json()),
        ("/tenants/{slug}", staff_api.get("/tenants/acme").json()),
        ("/tenants/{slug}/usage", acme_api.get("/tenants/acme/usage").json()),
        ("/tenants/{slug}/config", acme_api.get("/tenants/acme/config").json()),
        ("/tenants/{slug}/api-keys", acme_api.get("/tenants/acme/api-keys").json()),
        ("/tenants/{slug}/token-issuers", acme_api.get("/tenants/acme/token-issuers").json()),
    ):
        fits(shown, answer_shape(schema, template, "get", "200"))
    token = acme_api.post("/tokens", {"end_user": "ada"}).json()
    fits(token, answer_shape(schema, "/tokens", "post", "201"))
    fits(turn, answer_shape(schema, f"{one}/messages", "post", "200"))


def test_the_docs_page_comes_with_its_own_scripts(live: Live) -> None:
    page = httpx2.get(f"{live.api}/docs", headers={"Accept": "text/html"})
    assert page.status_code == 200
    assert "text/html" in page.headers["Content-Type"]
    assert "<style" not in page.text and "style=" not in page.text, "the policy takes files alone"
    for address in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert not address.startswith(("http", "//")), "nothing from elsewhere"
        if address.startswith("/"):
            assert httpx2.get(live.url + address).status_code == 200, address
