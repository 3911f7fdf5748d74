"""The chat page in a real Chromium, as a visitor uses it."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from chatplatform import tenancy
from chatplatform.testing import cast
from chatplatform.testing.backend import pair, running_key_server, signed
from chatplatform.testing.browser import Browser
from chatplatform.testing.clients import Caller
from chatplatform.testing.live import Live
from chatplatform.testing.stage import until
from conversations.tests.test_over_budget import LIMIT, MODEL
from conversations.tests.test_rate_limits import new_tenant
from tenants.services import token_issuers

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.processes]

SLOWLY = "[[sim: tps=25 tokens=90]] What is going on?"
OPENING_HOURS = b"# Opening hours\n\nThe shop is open from nine to six on weekdays, and closed on Sundays.\n"
HOSTILE = (
    "<script>window.pwned = 1</script> <img src=x onerror=window.pwned=2> "
    "[press me](javascript:window.pwned=3) ![seen](https://evil.example/pixel.png) "
    "<iframe src=https://evil.example></iframe> <b onclick=window.pwned=4>bold</b>"
)


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A visitor who has not been here before; whatever is tested, the console stays clean."""
    yield chromium
    assert chromium.complaints() == []


def home(live: Live, tenant: str = "acme") -> str:
    return f"http://{tenant}.localhost:{live.port}/"


def stored(live: Live, browser: Browser, tenant: str = "acme") -> dict[str, Any]:
    """The newest answer on the page, as the API has it."""
    conversation = browser.driver.current_url.rstrip("/").rpartition("/")[2]
    url = f"{live.api}/conversations/{conversation}/replies/{browser.answer('replyId')}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {live.keys[tenant]}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return dict(json.load(answer))


def test_the_text_grows_and_a_reload_in_the_middle_loses_nothing(live: Live, browser: Browser) -> None:
    browser.open(home(live))
    browser.write(SLOWLY)
    first = browser.until_text(40)
    second = browser.until_text(len(first) + 40)
    assert second.startswith(first)
    assert browser.answer("state") == "streaming"
    browser.driver.refresh()
    assert browser.until_answered() == stored(live, browser)["content"]
    assert [message.get_attribute("data-role") for message in browser.find("message")] == [
        "user",
        "assistant",
    ]


def test_the_stop_button_keeps_what_there_is(live: Live, browser: Browser) -> None:
    browser.open(home(live))
    browser.write("[[sim: tps=20 tokens=900]] Go on for ever")
    browser.until_text(30)
    browser.find("stop")[0].click()
    text = browser.until_answered("cancelled")
    reply = stored(live, browser)
    assert reply["status"] == "cancelled" and reply["content"] == text != ""
    assert browser.find("stopped")[0].is_displayed()


def test_sources_and_thumbs(live: Live, browser: Browser, handbook: None) -> None:
    browser.open(home(live, "globex"))
    browser.write("What are the opening hours of the shop?")
    text = browser.until_answered()
    assert "nine to six" in text
    reply = stored(live, browser, "globex")
    assert reply["provider"] == "local" and [source["title"] for source in reply["sources"]]
    [source, *_] = browser.find("source")
    source.find_element(By.TAG_NAME, "summary").click()
    assert "nine to six" in source.text
    assert browser.find("origin")[-1].is_displayed()  # it says that it is no model
    browser.find("thumb-up")[-1].click()
    pressed = "return [...document.querySelectorAll('[data-testid=thumb-up]')].at(-1).ariaPressed"
    browser.until(lambda: browser.script(pressed) == "true", "the thumb is up")
    browser.until(lambda: browser.find("feedback-status")[-1].text, "the rating is stored")
    browser.driver.refresh()
    assert browser.script(pressed) == "true"


@pytest.fixture
def handbook(live: Live, django_db_blocker: Any) -> Iterator[None]:
    """Globex has one document, and answers from it without a model."""
    with django_db_blocker.unblock(), _handbook():
        yield


@contextmanager
def _handbook() -> Iterator[None]:
    from conversations.services import knowledge
    from tenants.services import configuration

    globex = cast.state("globex").ref
    with tenancy.in_tenant(globex):
        document = knowledge.ingest("hours.md", OPENING_HOURS).document_id
    configuration.change(globex, {"primary_model": "local"}, author="test", by_staff=True)
    try:
        yield
    finally:
        configuration.change(globex, {"primary_model": "auto"}, author="test", by_staff=True)
        with tenancy.in_tenant(globex):
            knowledge.remove_document(document)


def test_it_goes_on_by_itself_when_the_web_server_has_been_away(live: Live, browser: Browser) -> None:
    browser.open(home(live))
    browser.write("[[sim: tps=15 tokens=75]] What is going on?")
    browser.until_text(40)
    live.processes["daphne"].kill()
    live.stop("daphne")
    browser.until(lambda: not browser.is_connected, "the page has noticed")
    live.start("daphne")
    until(live.answers, "the web server is back")
    assert browser.until_answered() == stored(live, browser)["content"]
    assert browser.is_connected
    browser.complaints()  # of the connection that was lost


def test_a_deploy_in_the_middle_of_an_answer_is_not_noticed(live: Live, browser: Browser) -> None:
    browser.open(home(live))
    browser.write("[[sim: tps=15 tokens=90]] What is going on?")
    browser.until_text(40)
    process = live.processes.pop("daphne")
    process.terminate()
    assert process.wait(30) == 0
    live.start("daphne")
    until(live.answers, "the web server is back")
    assert browser.until_answered() == stored(live, browser)["content"]
    browser.until(lambda: browser.is_connected, "the socket is open again")
    assert [message.get_attribute("data-role") for message in browser.find("message")] == [
        "user",
        "assistant",
    ]
    # While there was no server, the browser itself says so; the page says nothing.
    assert all(
        "WebSocket connection to" in said or "ERR_CONNECTION_REFUSED" in said for said in browser.complaints()
    )


def test_two_visitors_do_not_see_each_other(live: Live, browser: Browser) -> None:
    browser.open(home(live))
    browser.write("[[sim: tokens=5]] My secret is blue")
    browser.until_answered()
    first = browser.driver.current_url
    browser.forget()
    browser.open(home(live))
    assert browser.driver.current_url != first and not browser.find("message")
    browser.driver.get(first)
    assert "blue" not in browser.driver.page_source and not browser.find("message")
    assert all("404" in complaint for complaint in browser.complaints())


def test_markdown_of_an_answer_cannot_do_anything(live: Live, browser: Browser) -> None:
    browser.open(home(live))
    browser.write(f"[[sim: text='{HOSTILE}']] Please")
    assert browser.until_answered() == HOSTILE
    for _ in range(2):  # as it streamed in, then as the server renders it
        inside = "document.querySelector('[data-role=assistant] [data-testid=message-text]')"
        bad = "script, iframe, img, [onclick], [onerror], a[href^=javascript]"
        assert browser.script(f"return {inside}.querySelectorAll({json.dumps(bad)}).length") == 0
        assert "press me" in browser.script(f"return {inside}.textContent")
        assert browser.script("return window.pwned ?? null") is None
        browser.driver.refresh()


def test_it_works_without_a_mouse(live: Live, browser: Browser) -> None:
    browser.open(home(live))
    browser.script("document.activeElement.blur()")
    browser.press(Keys.TAB)
    assert browser.driver.switch_to.active_element.get_attribute("class") == "skip-link"
    browser.press(Keys.ENTER)
    browser.until(lambda: focused(browser) == "composer-input", "the link leads to the message box")
    browser.press("[[sim: tps=20 tokens=900]] Hello", Keys.ENTER)
    browser.until_text(20)
    assert focused(browser) == "composer-input"
    browser.press(Keys.TAB)
    assert focused(browser) == "stop"
    browser.press(Keys.ENTER)
    browser.until_answered("cancelled")
    assert focused(browser) == "composer-input"


def focused(browser: Browser) -> str | None:
    return browser.driver.switch_to.active_element.get_attribute("data-testid")


def test_a_phone_does_not_scroll_sideways(live: Live, browser: Browser) -> None:
    browser.driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": 390, "height": 844, "deviceScaleFactor": 2, "mobile": True},
    )
    try:
        browser.open(home(live))
        browser.write(f"[[sim: text='{'unbreakable' * 30} `{'code_' * 60}` | a | b |']] {'long' * 60}")
        browser.until_answered()
        wide = (
            "return [document.documentElement.scrollWidth, document.getElementById('scroller').scrollWidth]"
        )
        assert max(browser.script(wide)) <= 390
    finally:
        browser.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_message_that_comes_too_soon_says_how_long_it_waits_and_is_kept(
    live: Live, browser: Browser, staff_api: Caller
) -> None:
    caller = new_tenant(staff_api, live, requests_per_minute=1)
    slug = caller.post("/conversations", {}).json()["tenant"]
    browser.open(home(live, slug))
    browser.write("[[sim: tokens=5]] First")
    browser.until_answered()
    browser.write("[[sim: tokens=5]] Second")
    first = browser.until(lambda: countdown(browser), "it says how long")
    assert 1 < first <= 60
    browser.until(lambda: 0 < countdown(browser) < first, "it counts down")
    assert browser.find("message")[-1].get_attribute("data-state") == "waiting"
    staff_api.patch(f"/tenants/{slug}/config", {"requests_per_minute": 100})
    until(lambda: caller.say(caller.begin()).status_code == 200, "more is allowed")
    browser.driver.refresh()
    browser.until(lambda: len(browser.find("message")) == 4, "it is sent, and answered")
    assert browser.until_answered() and not countdown(browser)


def countdown(browser: Browser) -> int:
    """The seconds that the newest message still waits; 0 if it does not say."""
    found = re.search(r"Sending in (\d+) seconds?…", browser.find("delivery")[-1].text)
    return int(found[1]) if found else 0


def test_a_budget_that_is_used_up_is_said_plainly(live: Live, browser: Browser, staff_api: Caller) -> None:
    caller = new_tenant(staff_api, live)
    slug = caller.post("/conversations", {}).json()["tenant"]
    poor = {"conversation_cost_budget_usd": LIMIT, "primary_model": MODEL}
    assert staff_api.patch(f"/tenants/{slug}/config", poor).status_code == 200
    until(lambda: caller.say(caller.begin(MODEL)).status_code == 402, "the budget is in force")
    browser.open(home(live, slug))
    browser.write("Too dear")
    browser.until(
        lambda: browser.find("message")[-1].get_attribute("data-state") == "failed", "it is refused"
    )
    said = browser.find("delivery")[-1]
    assert said.text.startswith("This conversation has used up its allowance. You can start a new one")
    again = said.find_element(By.CSS_SELECTOR, "[data-action=resend]")
    assert not again.is_displayed(), "the same again would be refused again"


@pytest.fixture
def shop(live: Live, browser: Browser, acme_api: Caller, committed: None) -> Iterator[str]:
    """Another site that Acme knows: a form, with a token for Ada that the shop's backend signed. Its origin."""
    backend, issuer = pair("ES256", "browser"), "https://browser-shop.example"
    acme = cast.state("acme").ref
    row = token_issuers.register(acme, "browser shop", issuer, public_key=backend.pem)
    form = f'<form method=post action="{home(live)}session"><input name=token value="%s"><button>Chat</button></form>'

    def page(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/html")
        handler.end_headers()
        handler.wfile.write((form % signed(backend, issuer, "acme", "ada-of-the-shop")).encode())

    try:
        with running_key_server() as server:
            server.answer = page
            origin = f"http://127.0.0.1:{server.port}"
            acme_api.patch("/tenants/acme/config", {"widget_origins": [origin]})
            yield origin
    finally:
        acme_api.patch("/tenants/acme/config", {"widget_origins": []})
        token_issuers.remove(acme, row.pk)
        browser.forget()


def test_a_shop_hands_its_customer_over(browser: Browser, acme_api: Caller, shop: str) -> None:
    """The cookie is taken, the chat is Ada's."""
    browser.driver.get(shop)
    browser.see("button").click()
    browser.until(lambda: browser.is_connected, "the socket is open")
    browser.write("Hello")
    browser.until_answered()
    conversation = browser.driver.current_url.rstrip("/").rpartition("/")[2]
    assert (
        acme_api.get(f"/conversations/{conversation}").json()["end_user"]["external_id"] == "ada-of-the-shop"
    )
