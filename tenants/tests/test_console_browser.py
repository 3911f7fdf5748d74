"""The staff console in a real browser: it works under its content security policy, and loads nothing from elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support import expected_conditions as expected
from selenium.webdriver.support.ui import WebDriverWait

from chatplatform import tenancy
from chatplatform.testing.live import Live
from tenants.models import StaffLook, Tenant
from tenants.services import lifecycle
from tenants.tests.console import PASSWORD, person

pytestmark = [pytest.mark.browser, pytest.mark.processes, pytest.mark.slow]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
SLUG = "browser-born"


@pytest.fixture
def browser() -> Iterator[WebDriver]:
    """Chromium without a window, which keeps what it complains about."""
    if not (CHROMIUM and DRIVER):
        if os.environ.get("REQUIRE_BROWSER") == "1":
            pytest.fail("There is no Chromium with its driver here.")
        pytest.skip("There is no Chromium with its driver here.")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,800"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def console(committed: None, live: Live) -> Iterator[str]:
    """The console's address; afterwards nothing is left of what was done in it."""
    user = person("browsing", superuser=True)
    yield f"http://localhost:{live.port}/admin/"
    with tenancy.in_platform():
        born = Tenant.objects.filter(slug=SLUG).exists()
        StaffLook.objects.filter(user=user).delete()
        user.delete()
    if born:
        lifecycle.erase(SLUG)


def press(browser: WebDriver, selector: str) -> None:
    WebDriverWait(browser, 10).until(expected.element_to_be_clickable((By.CSS_SELECTOR, selector))).click()


def sign_in(browser: WebDriver, console: str) -> None:
    browser.get(console)
    browser.find_element(By.NAME, "username").send_keys("browsing")
    browser.find_element(By.NAME, "password").send_keys(PASSWORD)
    press(browser, "#login-form button")
    WebDriverWait(browser, 10).until(expected.presence_of_element_located((By.ID, "nav-sidebar")))


def complaints(browser: WebDriver) -> list[str]:
    """What the console of the browser holds, hints aside."""
    log: list[dict[str, str]] = browser.get_log("browser")  # type: ignore[attr-defined]
    return [entry["message"] for entry in log if entry["level"] in {"SEVERE", "WARNING"}]


def test_no_page_breaks_the_policy_or_calls_elsewhere(browser: WebDriver, console: str) -> None:
    sign_in(browser, console)
    with tenancy.in_platform():
        acme = Tenant.objects.get(slug="acme")
    tenant = f"tenants/tenant/{acme.pk}/"
    pages = ["", "tenants/tenant/", f"{tenant}change/", f"{tenant}configuration/edit/", "tenants/user/add/"]
    pages += ["tenants/apikey/", "tenants/stafflook/", "auth/group/add/", "conversations/acme/?q=a"]
    origin = console.removesuffix("/admin/")
    for page in pages:
        browser.get(console + page)
        loaded = browser.execute_script(
            "return performance.getEntriesByType('resource').map(one => one.name)"
        )
        assert [url for url in loaded if not url.startswith(origin + "/")] == [], page
        assert complaints(browser) == [], page
        # The theme's own scripts run: it opens its sidebar's user menu and takes the cloak off the page.
        assert browser.find_element(By.CSS_SELECTOR, "h1").is_displayed(), page


def test_a_tenant_is_born_before_ones_eyes(browser: WebDriver, console: str) -> None:
    sign_in(browser, console)
    browser.get(console + "tenants/tenant/add/")
    browser.find_element(By.NAME, "name").send_keys("Browser Börn")
    assert browser.find_element(By.NAME, "slug").get_attribute("value") == SLUG
    press(browser, "form.cp-card button[type=submit]")
    assert browser.find_element(By.ID, "api-key").text.startswith("cp_live_")
    said = (By.CSS_SELECTOR, "[data-said]")
    WebDriverWait(browser, 30).until(expected.text_to_be_present_in_element(said, "is provisioned"))
    assert len(browser.find_elements(By.CSS_SELECTOR, ".cp-steps .is-done")) == 4
    browser.refresh()
    assert browser.find_elements(By.ID, "api-key") == []
    assert complaints(browser) == []
