"""A real Chromium for tests of the pages, and what they need to see of the chat page (docs/chat-page.md).

A click that leads to another page returns before that page is there: what is looked for after it is waited for (`see`).
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --disable-background-networking
    --disable-component-update --disable-sync --no-first-run --window-size=1280,800"""
PATIENCE = 30.0  # s; a busy machine is no fault of the page


class Browser:
    """One Chromium at one page at a time."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Open a chat page and wait for its socket."""
        self.driver.get(url)
        self.until(lambda: self.is_connected, "the socket is open")

    @property
    def is_connected(self) -> bool:
        # After a click the page may still be the one before, which has no chat.
        return bool(self.script("return document.getElementById('chat')?.dataset.connection === 'open'"))

    def forget(self) -> None:
        """Become another visitor; the page that is open would still ask in the name of the old one."""
        self.driver.get("about:blank")
        self.driver.execute_cdp_cmd("Network.clearBrowserCookies", {})

    def script(self, code: str, *arguments: Any) -> Any:
        return self.driver.execute_script(code, *arguments)

    def see(self, selector: str) -> WebElement:
        """Wait until a page is loaded on which this element (CSS) is to be seen."""
        return cast(WebElement, self.until(lambda: self._seen(selector), f"{selector} is to be seen"))

    def _seen(self, selector: str) -> WebElement | None:
        if self.script("return document.readyState") != "complete":
            return None
        found = self.driver.find_elements(By.CSS_SELECTOR, selector)
        return found[0] if found and found[0].is_displayed() else None

    def find(self, test_id: str) -> list[WebElement]:
        """The elements with this `data-testid`, in the page's order."""
        return self.driver.find_elements(By.CSS_SELECTOR, f"[data-testid={test_id}]")

    def write(self, text: str) -> None:
        """Type into the message box and send."""
        [box] = self.find("composer-input")
        box.send_keys(text, Keys.ENTER)

    def press(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    # --- The newest answer ---------------------------------------------------------------------------------------
    def answer(self, name: str) -> Any:
        """Of the newest answer: `rawText`, or anything of its `dataset`; None while there is none."""
        return self.script(
            "const all = document.querySelectorAll('[data-role=assistant]'), it = all[all.length - 1];"
            "return it ? (it[arguments[0]] ?? it.dataset[arguments[0]] ?? null) : null",
            name,
        )

    def until_text(self, length: int) -> str:
        """Wait until the newest answer has so many characters; its text."""
        self.until(lambda: len(self.answer("rawText") or "") >= length, f"{length} characters are there")
        return str(self.answer("rawText"))

    def until_answered(self, state: str = "completed") -> str:
        """Wait for the end of the newest answer; its whole text."""
        self.until(lambda: self.answer("state") == state, f"the answer is {state}")
        return str(self.answer("raw"))

    def until(self, ready: Callable[[], Any], what: str) -> Any:
        """What `ready` answers, as soon as that is true. An element that goes away with its page is not there yet."""
        wait = WebDriverWait(self.driver, PATIENCE, 0.05, ignored_exceptions=[StaleElementReferenceException])
        return wait.until(lambda _: ready(), message=what)

    def complaints(self, *levels: str) -> list[str]:
        """Errors on the console since the last call, violations of the content security policy among them."""
        entries = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] in (levels or {"SEVERE"})]


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A Chromium with a profile of its own. Skips the test where there is none, unless REQUIRE_BROWSER is set."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    driver = shutil.which("chromedriver")
    if not (program and driver):
        if os.environ.get("REQUIRE_BROWSER", "") not in ("", "0"):
            pytest.fail("REQUIRE_BROWSER is set, and there is no Chromium with its chromedriver.")
        pytest.skip("No Chromium with its chromedriver is installed.")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(prefix="chatplatform-chromium.", ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS.split(), f"--user-data-dir={profile}"):
            options.add_argument(flag)
        chrome = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield Browser(chrome)
        finally:
            chrome.quit()
