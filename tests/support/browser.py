"""A real browser: Chromium without a window, driven by the WebDriver protocol. It reaches this machine only."""

from __future__ import annotations

import base64
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, Self

import requests

from tests.support.ports import free_port
from tests.support.waiting import wait_until

_SECONDS: Final = 120
_ELEMENT: Final = "element-6066-11e4-a52e-4f735466cecf"
"""The key of an element's id, fixed by the protocol."""
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--window-size=1000,800",
)


def missing_programs() -> str:
    """Return the Debian packages that are missing for it, "" where it can be started."""
    programs = {"chromium": "chromium", "chromedriver": "chromium-driver"}
    return " ".join(package for program, package in programs.items() if shutil.which(program) is None)


class BrowserError(AssertionError):
    """The browser did not do what it was asked."""


class Browser:
    """One window with a profile of its own in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._url = f"http://127.0.0.1:{free_port()}"
        self._session = ""

    def __enter__(self) -> Self:
        with (self._folder / "chromedriver.log").open("wb") as log:
            self._driver = subprocess.Popen(
                ["chromedriver", f"--port={self._url.rpartition(':')[2]}"], stdout=log, stderr=log
            )
        try:
            wait_until(self._ready, "chromedriver is ready")
            arguments = [*_FLAGS, f"--user-data-dir={self._folder / 'profile'}"]
            wanted = {"alwaysMatch": {"goog:chromeOptions": {"args": arguments, "binary": shutil.which("chromium")}}}
            self._session = self._ask("POST", "/session", {"capabilities": wanted})["sessionId"]
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._session:
            self._ask("DELETE", f"/session/{self._session}")
        self._driver.terminate()
        self._driver.wait(_SECONDS)

    def open(self, url: str) -> None:
        """Go to an address, and wait until its page is there."""
        self._here("POST", "url", {"url": url})

    def click(self, selector: str) -> None:
        """Click what a CSS selector finds. The page that follows may not be there yet: see `expect`."""
        found = self._here("POST", "element", {"using": "css selector", "value": selector})
        self._here("POST", f"element/{found[_ELEMENT]}/click", {})

    def expect(self, words: str) -> None:
        """Wait until the page shows words, through as many redirects as it takes."""
        wait_until(lambda: words in self._text(), f'the browser shows "{words}"', _SECONDS)

    def screenshot(self, path: Path) -> None:
        """Write what the window shows, as PNG."""
        path.write_bytes(base64.b64decode(self._here("GET", "screenshot")))

    def _text(self) -> str:
        # between two documents there is no body, and a question that meets the change of documents is aborted
        script = {"script": "return document.body ? document.body.innerText : ''", "args": []}
        try:
            return str(self._here("POST", "execute/sync", script))
        except BrowserError:
            return ""

    def _here(self, verb: str, what: str, body: Any = None) -> Any:
        return self._ask(verb, f"/session/{self._session}/{what}", body)

    def _ready(self) -> bool:
        try:
            return bool(self._ask("GET", "/status")["ready"])
        except requests.ConnectionError:
            return False

    def _ask(self, verb: str, path: str, body: Any = None) -> Any:
        answer = requests.request(verb, self._url + path, json=body, timeout=_SECONDS).json()["value"]
        if isinstance(answer, dict) and answer.get("error"):
            raise BrowserError(f"{verb} {path}: {answer}")
        return answer
