"""Which tenant a request is for: by credential, by X-Tenant-ID, by host name; and all of them must agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from chatplatform import tenancy
from chatplatform.testing import cast
from chatplatform.testing.clients import Caller
from chatplatform.testing.live import Live
from tenants import selectors
from tenants.models import Domain
from tenants.selectors import TenantState
from tenants.services import domains
from tenants.vocabulary import Tier


def ask(live: Live, path: str, host: str | None = None, **headers: str) -> httpx2.Response:
    given = {"Host": host, **headers} if host is not None else headers
    return httpx2.get(f"{live.url}{path}", headers=given)


def as_acme(live: Live) -> dict[str, str]:
    return {"Authorization": f"Bearer {live.keys['acme']}"}


def code(answer: httpx2.Response) -> tuple[int, Any]:
    return answer.status_code, answer.json().get("code")


@pytest.fixture
def own_domain(committed: None) -> Iterator[str]:
    """A host name of Acme's own."""
    with cast.on_tier("acme", Tier.ENTERPRISE):
        domain = domains.add(cast.state("acme").ref, "chat.acme.example")
    yield "chat.acme.example"
    with tenancy.in_platform():
        Domain.objects.filter(pk=domain.pk).delete()


# --- Credential, header, host ----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.0.0.1:1234",
        "acme.localhost",
        "ACME.LOCALHOST.:80",
        "localhost",
        "unknown.example",
        "[::1]:8000",
    ],
)
def test_the_api_answers_on_every_host_that_does_not_disagree(live: Live, host: str) -> None:
    begun = httpx2.post(f"{live.api}/conversations", json={}, headers={"Host": host, **as_acme(live)})
    assert (begun.status_code, begun.json()["tenant"]) == (201, "acme")


def test_another_tenants_host_is_a_mismatch(live: Live) -> None:
    assert code(ask(live, "/api/v1/conversations", "globex.localhost", **as_acme(live))) == (
        403,
        "tenant_mismatch",
    )


def test_a_tenants_own_domain_counts(live: Live, own_domain: str) -> None:
    assert ask(live, "/api/v1/conversations", own_domain, **as_acme(live)).status_code == 200
    globex = {"Authorization": f"Bearer {live.keys['globex']}"}
    assert code(ask(live, "/api/v1/conversations", own_domain, **globex)) == (403, "tenant_mismatch")


def test_x_tenant_id_may_agree_and_must_not_disagree(acme_api: Caller) -> None:
    assert acme_api.get("/conversations", headers={"X-Tenant-ID": "acme"}).status_code == 200
    for other in ("globex", "nobody", "ACME", ""):
        answer = acme_api.get("/conversations", headers={"X-Tenant-ID": other})
        assert code(answer) == (403, "tenant_mismatch"), other


def test_a_platform_key_acts_for_the_tenant_it_names(staff_api: Caller) -> None:
    for slug in ("acme", "globex"):
        answer = staff_api.post("/conversations", headers={"X-Tenant-ID": slug})
        assert (answer.status_code, answer.json()["tenant"]) == (201, slug)


def test_a_platform_key_has_to_name_a_tenant_that_exists(staff_api: Caller) -> None:
    assert code(staff_api.get("/conversations")) == (400, "tenant_required")
    assert code(staff_api.get("/conversations", headers={"X-Tenant-ID": "nobody"})) == (404, "not_found")


def test_a_platform_key_cannot_contradict_the_host(staff_api: Caller) -> None:
    answer = staff_api.get("/conversations", headers={"X-Tenant-ID": "acme", "Host": "globex.localhost"})
    assert code(answer) == (403, "tenant_mismatch")


# --- Hosts and pages -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "host", ["unknown.example", "nobody.localhost", "127.0.0.1", "", "acme.localhost.evil.example"]
)
def test_an_unknown_host_has_no_pages(live: Live, host: str) -> None:
    answer = ask(live, "/", host)
    assert code(answer) == (404, "not_found")
    assert answer.headers["X-Request-ID"] == answer.json()["request_id"]


@pytest.mark.parametrize("host", ["acme.localhost", "Acme.Localhost:99", "acme.localhost."])
def test_a_tenants_host_has_its_page(live: Live, host: str) -> None:
    page = httpx2.get(f"{live.url}/", headers={"Host": host}, follow_redirects=False)
    assert page.status_code == 302
    cookie = page.headers["Set-Cookie"].partition(";")[0]
    shown = httpx2.get(live.url + page.headers["Location"], headers={"Host": host, "Cookie": cookie})
    assert shown.status_code == 200
    assert "Acme" in shown.text


@pytest.mark.parametrize(
    "host", ["a" * 300, "a..b", "-", "x y", "é.localhost", "acme.localhost:port", "%00", "../etc"]
)
@pytest.mark.parametrize("path", ["/", "/api/v1/conversations"])
def test_an_odd_host_is_no_server_error(live: Live, host: str, path: str) -> None:
    answer = httpx2.get(f"{live.url}{path}", headers=[(b"host", host.encode())])
    assert 400 <= answer.status_code < 500


@pytest.mark.parametrize("probe", ["/livez", "/readyz"])
@pytest.mark.parametrize("host", ["127.0.0.1", "unknown.example", "globex.localhost", "x y"])
def test_probes_answer_to_any_host(live: Live, probe: str, host: str) -> None:
    assert ask(live, probe, host).status_code == 200


def test_metrics_and_admin_are_not_on_tenants_hosts(live: Live) -> None:
    for path in ("/metrics", "/admin/"):
        assert ask(live, path, "acme.localhost").status_code == 404
        assert ask(live, path, "127.0.0.1").status_code == 404
    assert b"# HELP" in ask(live, "/metrics", "localhost").content


# --- In the process --------------------------------------------------------------------------------------------
def test_a_host_name_is_cleaned() -> None:
    assert selectors.host_name("ACME.Localhost.:8000") == "acme.localhost"
    assert selectors.host_name("[::1]:8000") == "[::1]"
    assert selectors.host_name("x y") == ""


def test_a_host_stands_for_one_tenant(acme: TenantState, globex: TenantState) -> None:
    assert selectors.tenant_id_for_host("acme.localhost") == acme.ref.id
    assert selectors.tenant_id_for_host("globex.localhost") == globex.ref.id
    for other in ("localhost", "a.acme.localhost", "acme", "acme.example", ".localhost"):
        assert selectors.tenant_id_for_host(other) is None


def test_a_host_is_not_confused_with_a_slug_that_is_kept(acme: TenantState) -> None:
    selectors.tenant_by_slug("acme")
    assert selectors.cached_host("slug:acme")[0]
    assert selectors.tenant_id_for_host(selectors.host_name("slug:acme")) is None


@pytest.mark.usefixtures("everything_included")
def test_hosts_of_a_tenant_are_its_own(acme: TenantState) -> None:
    domains.add(acme.ref, "chat.acme.example")
    assert selectors.hosts_of(acme) == {"acme.localhost", "chat.acme.example"}


def test_a_host_that_expires_while_one_looks_is_merely_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    class Expiring(dict[str, Any]):
        """Has an entry when asked for it, and none any more when it is taken."""

        def __contains__(self, key: object) -> bool:
            return True

    monkeypatch.setattr(selectors, "_ids", Expiring())
    assert selectors.cached_host("acme.localhost") == (False, None)
    monkeypatch.setattr(selectors, "_ids", {"nobody.example": None})
    assert selectors.cached_host("nobody.example") == (True, None)
