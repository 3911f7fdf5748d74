"""What browsers see from outside where PUBLIC_SCHEME is https: a web server behind what would be the proxy."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import httpx2
import pytest
from django.conf import settings
from websockets.exceptions import InvalidStatus

from chatplatform import tenancy
from chatplatform.testing import cast
from chatplatform.testing.clients import opened
from chatplatform.testing.live import Live
from conversations.tests.test_delivery import another_web_server
from tenants.services import members
from tenants.tests.console import PASSWORD, person
from tenants.tests.people import member

pytestmark = [pytest.mark.slow, pytest.mark.processes]
HTTPS = {"PUBLIC_SCHEME": "https", "PUBLIC_PORT": "443"}
HOSTS = ("acme.localhost", "globex.localhost")


@pytest.fixture(scope="module")
def web(live: Live) -> Iterator[Live]:
    with another_web_server(live, "daphne", **HTTPS) as other:
        yield other


class Browser:
    """At one host, with a cookie jar for it. The proxy says that the request came by https."""

    def __init__(self, web: Live, host: str) -> None:
        self.host, self.jar, self.set = host, dict[str, str](), list[str]()
        known = {"Host": host, "X-Forwarded-Proto": "https", "Accept": "text/html"}
        self.http = httpx2.Client(base_url=web.url, headers=known, timeout=30)

    def ask(self, method: str, path: str, **form: str) -> httpx2.Response:
        cookies = "; ".join(f"{name}={value}" for name, value in self.jar.items())
        more = {"Cookie": cookies, "Origin": f"https://{self.host}"}
        answer = self.http.request(method, path, data=form or None, headers=more)
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000; includeSubDomains"
        for cookie in answer.headers.get_list("Set-Cookie"):
            self.set.append(cookie)
            name, _, value = cookie.partition(";")[0].partition("=")
            self.jar[name] = value
        return answer

    def post(self, path: str, **form: str) -> httpx2.Response:
        self.ask("GET", path)
        return self.ask("POST", path, csrfmiddlewaretoken=self.jar["__Host-cp_csrf"], **form)


@pytest.fixture
def signed_in(web: Live, committed: None) -> Iterator[dict[str, Browser]]:
    """Visitors of both tenants who are members, too; and somebody of the staff."""
    found = {host: Browser(web, host) for host in (*HOSTS, "localhost")}
    tenants = [cast.state(host.partition(".")[0]) for host in HOSTS]
    user = person("outside", superuser=True)
    try:
        for tenant in tenants:
            member(tenant)
        for host in HOSTS:
            assert found[host].ask("GET", "/").status_code == 302
            entered = found[host].post("/console/sign-in", email="owner@example.com", password=PASSWORD)
            assert (entered.status_code, entered.headers["Location"]) == (302, "/console/")
        assert (
            found["localhost"].post("/admin/login/", username="outside", password=PASSWORD).status_code == 302
        )
        yield found
    finally:
        for tenant in tenants:
            members.forget_accounts(tenant.ref)
        with tenancy.in_platform():
            user.delete()


def test_every_cookie_is_for_its_host_by_https_alone(signed_in: dict[str, Browser]) -> None:
    names = set()
    for browser in signed_in.values():
        for cookie in browser.set:
            name, *said = cookie.replace("=", "; ", 1).split("; ")
            names.add(name)
            flags = {flag.lower() for flag in said[1:]}
            assert {"secure", "path=/", "samesite=lax"} <= flags, cookie
            assert not any(flag.startswith("domain") for flag in flags), cookie
            assert ("httponly" in flags) is (name != "__Host-cp_csrf"), cookie
    assert names == {f"__Host-cp_{name}" for name in ("csrf", "visitor", "member", "staff")}


def test_a_tenants_cookies_are_nothing_at_another(web: Live, signed_in: dict[str, Browser]) -> None:
    for browser in signed_in.values():
        theirs = Browser(web, "globex.localhost")
        theirs.jar = {name: value for name, value in browser.jar.items() if "csrf" not in name}
        inside = browser.host == "globex.localhost"
        assert theirs.ask("GET", "/console/account").status_code == (200 if inside else 302), browser.host
        assert ("Set-Cookie" in theirs.ask("GET", "/").headers) is not inside, "a visitor who is not known"


@pytest.mark.parametrize(
    "origin", ["https://globex.localhost", "http://acme.localhost", "https://localhost", "null"]
)
def test_only_the_tenants_page_by_https_acts_for_it(
    web: Live, signed_in: dict[str, Browser], origin: str
) -> None:
    acme = signed_in["acme.localhost"]
    conversation = acme.ask("GET", "/").headers["Location"].rsplit("/", 1)[1]
    cookies = "; ".join(f"{name}={value}" for name, value in acme.jar.items())
    known = {"Host": acme.host, "X-Forwarded-Proto": "https", "Cookie": cookies}
    with opened(web, conversation, "", {**known, "Origin": f"https://{acme.host}"}):
        pass
    with pytest.raises(InvalidStatus) as refused, opened(web, conversation, "", {**known, "Origin": origin}):
        pass
    assert refused.value.response.status_code == 403
    form = {"csrfmiddlewaretoken": acme.jar["__Host-cp_csrf"]}
    answer = acme.http.post("/console/sign-out", data=form, headers={"Cookie": cookies, "Origin": origin})
    assert answer.status_code == 403


def test_the_deployment_check_is_clean() -> None:
    command = (sys.executable, "manage.py", "check", "--deploy", "--fail-level", "WARNING")
    environment = {
        **os.environ,
        **HTTPS,
        "DJANGO_SECRET_KEY": "a-key-for-checks-that-is-as-long-as-one-of-a-deployment",
    }
    checked = subprocess.run(command, env=environment, cwd=settings.BASE_DIR, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr
