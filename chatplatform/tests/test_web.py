"""What every answer and every cookie route has, found by looking at the URLs and not at a list."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client, override_settings
from django.urls import Resolver404, resolve

from chatplatform.asgi import application
from chatplatform.management.isolation.caller import Answer, Caller
from chatplatform.management.isolation.surface import Route, routes
from chatplatform.testing import cast
from tenants.auth import origins
from tenants.auth.authentication import VisitorAuthentication
from tenants.middleware import PLATFORM_URLS
from tenants.selectors import TenantState
from tenants.services import configuration

SOME = "01900000-0000-7000-8000-000000000001"
SIGNED = {
    "session",
    "webhooks/stripe",
}  # whose forms come from elsewhere: the Origin or a signature is checked
ANYBODYS = re.compile(r"(?:\.well-known/.*|favicon\.ico|livez|readyz|metrics)")
VALUES = {
    "slug": "acme",
    "app_label": "tenants",
    "url": "nowhere",
    "id": "1",
    "key_id": "x",
    "content_type_id": "1",
}


def address(route: Route) -> str:
    """An address that the route takes."""
    plain = route.pattern.replace("^", "").replace("$", "")
    found = re.sub(r"<(?:\w+:)?(\w+)>|\(\?P<(\w+)>[^)]*\)", lambda f: VALUES.get(f[1] or f[2], SOME), plain)
    return f"/{found}"


def browser(route: Route, **more: Any) -> Client:
    return Client(enforce_csrf_checks=True, headers={"host": host_of(route), **more})


async def asked(route: Route, method: str, **more: str) -> Answer:
    """The same for tests without a transaction, and without a thread and a loop for each request."""
    return await Caller(application).http(
        host_of(route), method, address(route), headers=more, body={"x": "1"}
    )


def host_of(route: Route) -> str:
    return "localhost" if route.platform else "acme.localhost"


async def test_no_cookie_route_takes_a_form_without_its_token(committed: None) -> None:
    found = [one for one in routes() if not one.of_api and not ANYBODYS.fullmatch(one.pattern)]
    passed = set()
    for route in found:
        answer = await asked(route, "POST", **{"x-csrftoken": ""})
        if answer.status != 403 or "CSRF token" not in answer.text:
            passed.add(route.pattern)
    assert len(found) > 100
    assert passed == SIGNED


def test_only_visitors_routes_look_at_cookies(acme: TenantState) -> None:
    """Others answer the same with all cookies that there are as with none: 401."""
    bearer_only = 0
    for route in routes():
        if route.methods is None or route.platform:
            continue
        view: Any = resolve(address(route)).func
        if VisitorAuthentication in view.cls.authentication_classes or not view.cls.authentication_classes:
            continue
        bearer_only += 1
        client = browser(route, cookie="cp_visitor=x; cp_member=x; cp_staff=x; sessionid=x")
        for method in route.methods:
            answer = client.generic(method, address(route), "{}", content_type="application/json")
            assert answer.status_code == 401, (route, method)
            assert not answer.cookies
    assert bearer_only > 10


def test_a_visitors_cookie_alone_changes_nothing(acme: TenantState) -> None:
    page = Client(headers={"host": "acme.localhost"}).get("/")
    conversation = page.headers["Location"].rsplit("/", 1)[1]
    cookie = f"cp_visitor={page.cookies['cp_visitor'].value}"
    for route in routes():
        if route.platform or route.methods is None or "POST" not in route.methods:
            continue
        view: Any = resolve(address(route)).func
        if VisitorAuthentication not in view.cls.authentication_classes:
            continue
        path = address(route).replace(SOME, conversation, 1)
        answer = browser(route, cookie=cookie).post(path, {}, content_type="application/json")
        assert answer.status_code == 403, (route, answer.content)


async def test_every_answer_has_its_headers(committed: None) -> None:
    with override_settings(SECURE_HSTS_SECONDS=31_536_000):
        for route in routes():
            check_headers(route, (await asked(route, "HEAD")).headers)
        nowhere = await Caller(application).http("nowhere.example", "GET", "/")
        assert nowhere.status == 404
        check_headers(Route("", False, None), nowhere.headers)


def check_headers(route: Route, headers: dict[str, str]) -> None:
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy, route
    assert not re.search(r"https?:|\*", policy), "nothing from elsewhere"
    assert ("unsafe" in policy) <= (route.platform and not route.of_api), route
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["strict-transport-security"] == "max-age=31536000; includeSubDomains"
    assert "SameSite=Lax" in headers.get("set-cookie", "SameSite=Lax"), route


@override_settings(ALLOWED_HOSTS=["*", ".localhost", "*.localhost"])
def test_a_wildcard_among_hosts_lets_no_page_open_anothers_socket(
    acme: TenantState, globex: TenantState
) -> None:
    assert origins.is_allowed("http://acme.localhost:8000", acme)
    for origin in ("http://globex.localhost", "http://x.localhost", "http://localhost", "http://acme.localhost.evil",
                   "http://x.acme.localhost", "http://*", "*", "null", ""):  # fmt: skip
        assert not origins.is_allowed(origin, acme), origin


def test_a_widget_origin_is_no_pattern(acme: TenantState) -> None:
    for pattern in ("*", "https://*", "https://*.example", "https://*.localhost"):
        try:
            configuration.change(acme.ref, {"widget_origins": [pattern]}, author="test", by_staff=True)
        except Exception:  # refused: better still
            continue
        changed = cast.state("acme")
        for origin in ("https://evil.example", "http://globex.localhost", "https://x.localhost"):
            assert not origins.is_allowed(origin, changed), (pattern, origin)


def test_platform_urls_are_not_on_tenants_hosts() -> None:
    for path in ("/admin/", "/metrics", "/webhooks/stripe"):
        resolve(path, PLATFORM_URLS)
        with pytest.raises(Resolver404):
            resolve(path)
