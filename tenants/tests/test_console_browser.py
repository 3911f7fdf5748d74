"""The staff console in a real browser: it works under its content security policy, and loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import pyotp
import pytest
from selenium.webdriver.common.by import By

from chatplatform import tenancy
from chatplatform.testing import cast, oidc_toolkit
from chatplatform.testing.browser import Browser
from chatplatform.testing.live import Live
from chatplatform.testing.oidc_toolkit import running_toolkit
from tenants.models import Tenant
from tenants.services import lifecycle, members, sign_in_providers
from tenants.tests.console import PASSWORD, person
from tenants.tests.people import member
from tenants.tests.test_second_factors import unused
from tenants.vocabulary import Tier

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.slow]
SLUG = "browser-born"


@pytest.fixture
def console(committed: None, live: Live) -> Iterator[str]:
    """The console's address; afterwards nothing is left of what was done in it."""
    user = person("browsing", superuser=True)
    yield f"http://localhost:{live.port}/admin/"
    with tenancy.in_platform():
        born = Tenant.objects.filter(slug=SLUG).exists()
        user.delete()
    if born:
        lifecycle.erase(SLUG)


def sign_in(browser: Browser, console: str) -> None:
    browser.driver.get(console)
    browser.see("[name=username]").send_keys("browsing")
    browser.see("[name=password]").send_keys(PASSWORD)
    browser.see("#login-form button").click()
    browser.see("#nav-sidebar")


def complaints(browser: Browser) -> list[str]:
    """What the console of the browser holds, hints aside."""
    return browser.complaints("SEVERE", "WARNING")


def test_no_page_breaks_the_policy_or_calls_elsewhere(chromium: Browser, console: str) -> None:
    sign_in(chromium, console)
    with tenancy.in_platform():
        acme = Tenant.objects.get(slug="acme")
    tenant = f"tenants/tenant/{acme.pk}/"
    pages = ["", "tenants/tenant/", f"{tenant}change/", f"{tenant}configuration/edit/", "tenants/user/add/"]
    pages += [
        "tenants/apikey/",
        "tenants/auditentry/?q=browsing",
        "auth/group/add/",
        "conversations/acme/?q=a",
    ]
    pages += [
        "billing/issueddocument/",
        "billing/issueddocument/issue/",
        "billing/modelprice/add/",
        "billing/plan/add/",
        f"{tenant}billing/",
    ]
    pages += [f"{tenant}members/", f"{tenant}sign-in/", "second-factor/app", "second-factor/all"]
    pages += ["spending/acme/", "spending/acme/ledger/", "spending/acme/holds/"]
    origin = console.removesuffix("/admin/")
    for page in pages:
        chromium.driver.get(console + page)
        # The theme's own scripts run: it opens its sidebar's user menu and takes the cloak off the page.
        chromium.see("h1")
        loaded = chromium.script("return performance.getEntriesByType('resource').map(one => one.name)")
        assert [url for url in loaded if not url.startswith(origin + "/")] == [], page
        assert complaints(chromium) == [], page


def test_a_tenant_is_born_before_ones_eyes(chromium: Browser, console: str) -> None:
    sign_in(chromium, console)
    chromium.driver.get(console + "tenants/tenant/add/")
    chromium.see("[name=name]").send_keys("Browser Börn")
    assert chromium.see("[name=slug]").get_attribute("value") == SLUG
    chromium.see("form.cp-card button[type=submit]").click()
    assert chromium.see("#api-key").text.startswith("cp_live_")
    chromium.until(lambda: "is provisioned" in chromium.see("[data-said]").text, "the tenant is there")
    assert len(chromium.driver.find_elements(By.CSS_SELECTOR, ".cp-steps .is-done")) == 4
    chromium.driver.refresh()
    chromium.see("[data-said]")
    assert chromium.driver.find_elements(By.ID, "api-key") == []
    assert complaints(chromium) == []


@pytest.fixture
def owner(committed: None, live: Live) -> Iterator[str]:
    """The address of Acme's own console, which has an owner."""
    acme = cast.state("acme")
    member(acme)
    yield f"http://acme.localhost:{live.port}/console/"
    members.forget_accounts(acme.ref)


def test_a_member_gets_in_and_around_on_a_telephone(chromium: Browser, owner: str) -> None:
    screen = {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True}
    chromium.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
    try:
        chromium.driver.get(owner + "members")
        enter(chromium)
        chromium.until(lambda: chromium.driver.current_url == owner + "members", "the wanted page")
        pages = ["", "usage", "invoices", "members/invite", "account", "sign-in-settings"]
        pages += ["sign-in-settings/providers/add", "account/second-factors", "second-factor/app"]
        for page in [*pages, "second-factor/passkey"]:
            chromium.driver.get(owner + page)
            chromium.see("h1")
            assert chromium.script("return document.documentElement.scrollWidth") <= 390, page
            assert complaints(chromium) == [], page
    finally:
        chromium.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_passkey_is_made_and_lets_in(chromium: Browser, owner: str) -> None:
    driver = chromium.driver
    driver.execute_cdp_cmd("WebAuthn.enable", {})
    security_key = {"protocol": "ctap2", "transport": "internal", "hasUserVerification": True}
    made = driver.execute_cdp_cmd(
        "WebAuthn.addVirtualAuthenticator",
        {"options": {**security_key, "isUserVerified": True, "automaticPresenceSimulation": True}},
    )
    try:
        driver.get(owner + "second-factor/passkey")
        enter(chromium)
        chromium.see("[data-passkey=create] button").click()
        assert len(chromium.see(".codes").find_elements(By.TAG_NAME, "li")) == 10
        chromium.forget()
        driver.get(owner + "account")
        enter(chromium)
        chromium.see("[data-passkey=get] button").click()
        chromium.until(lambda: driver.current_url == owner + "account", "the wanted page")
        assert "Passkey" in chromium.see("main").text
        assert complaints(chromium) == []
    finally:
        driver.execute_cdp_cmd("WebAuthn.removeVirtualAuthenticator", made)
        driver.execute_cdp_cmd("WebAuthn.disable", {})


def test_an_app_and_a_recovery_code_let_in_and_sessions_are_ended(chromium: Browser, owner: str) -> None:
    driver = chromium.driver
    driver.get(owner + "second-factor/app")
    enter(chromium)
    chromium.see("summary").click()
    app = pyotp.TOTP(chromium.see(".secret code").text.replace(" ", ""))
    prove(chromium, app.now())
    recovery = chromium.see(".codes li").text
    for code in (unused(app), recovery):
        chromium.forget()
        driver.get(owner + "account")
        enter(chromium)
        prove(chromium, code)
        chromium.until(lambda: driver.current_url == owner + "account", "the wanted page")

    def there_are(sessions: int) -> bool:
        return len(driver.find_elements(By.CSS_SELECTOR, ".agent")) == sessions

    assert there_are(3)
    for button, left in ((".rows .button", 2), (".card-foot .button", 1)):
        chromium.see(button).click()
        chromium.until(partial(there_are, left), "others are ended")
    assert "this browser" in chromium.see(".rows").text
    assert complaints(chromium) == []


def test_a_provider_lets_in(chromium: Browser, owner: str, settings: Any) -> None:
    settings.ALLOW_PRIVATE_KEY_SERVERS = True
    with running_toolkit() as there:
        with cast.on_tier("acme", Tier.ENTERPRISE):
            provider = sign_in_providers.save(
                cast.state("acme").ref,
                name="Work",
                issuer=there.issuer,
                client_id=oidc_toolkit.CLIENT,
                client_secret=there.client_secret,
                admitted="@example.com",
                role="viewer",
                asks_second_factor=False,
            )
        there.allow(f"{owner}with/{provider.pk}/answer")
        try:
            chromium.driver.get(owner + "usage")
            chromium.see(".door a.button").click()
            chromium.see("[name=username]").send_keys("ada")
            chromium.see("[name=password]").send_keys(oidc_toolkit.PASSWORD)
            chromium.see("button").click()
            chromium.until(lambda: chromium.driver.current_url == owner + "usage", "the wanted page")
            assert "ada@example.com" in chromium.see(".console-head").text
            assert complaints(chromium) == []
        finally:
            sign_in_providers.remove(provider)


def enter(browser: Browser) -> None:
    """The password, at the door of the console."""
    browser.see("[name=email]").send_keys("owner@example.com")
    browser.see("[name=password]").send_keys(PASSWORD)
    browser.see("form button[type=submit]").click()


def prove(browser: Browser, code: str) -> None:
    """A code, wherever one is asked for."""
    browser.see("[name=code]").send_keys(code)
    browser.see("form:has([name=code]) button").click()
