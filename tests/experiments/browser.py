"""A real browser without a window: Chromium, driven over a pipe in its own DevTools protocol.

It is looked for in the environment variable CHROMIUM, then on the PATH under the names it is installed with.
"""

import base64
import fcntl
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "chrome-headless-shell")
_ARGUMENTS = (
    "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-extensions", "--hide-scrollbars", "about:blank",
)  # fmt: skip
_SECONDS = 180


class Browser:
    """One page; everything it asks for, and everything it complains of, is remembered.

    Attributes:
        requests: addresses that the page asked for.
        complaints: errors of the console, exceptions, and what its security policy refused.
    """

    def __init__(self, reading: Any, writing: Any) -> None:
        self._reading, self._writing, self._number, self._session = reading, writing, 0, None
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self._loaded = False
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **parameters: Any) -> Any:
        """Answer of the browser to a command of the protocol."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        self._writing.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._notice(answer)
        assert "error" not in answer, (method, answer)
        return answer["result"]

    def open(self, path: Path, width: int, height: int = 900, scheme: str = "light") -> None:
        """Load a file in a window of so many CSS pixels, and wait for it."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self._loaded = False
        self.call("Page.navigate", url=path.as_uri())
        while not self._loaded:
            self._notice(self._next())
        self.evaluate("Promise.all([...document.images].map(image => image.decode().catch(() => 0))).then(() => 0)")

    def evaluate(self, expression: str) -> Any:
        """The value of some JavaScript in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        size = self.call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        shot = self.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
        path.write_bytes(base64.b64decode(shot["data"]))

    def _next(self) -> dict[str, Any]:
        message = bytearray()
        while (byte := self._reading.read(1)) != b"\0":
            assert byte, "the browser is gone"
            message += byte
        answer: dict[str, Any] = json.loads(message)
        return answer

    def _notice(self, event: dict[str, Any]) -> None:
        parameters = event.get("params", {})
        match event.get("method"):
            case "Page.loadEventFired":
                self._loaded = True
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Runtime.exceptionThrown":
                self.complaints.append(str(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled" if parameters["type"] in ("error", "warning", "assert"):
                self.complaints.append(str(parameters["args"]))
            case "Log.entryAdded" if parameters["entry"]["level"] in ("error", "warning"):
                self.complaints.append(parameters["entry"]["text"])


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """A browser of this test's own; the test is skipped where none is installed.

    Args:
        profile: an empty folder for what the browser remembers.
    """
    found = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: CHROMIUM is not set and none of {', '.join(NAMES)} is on the PATH")
    (commands, writing), (reading, answers) = os.pipe(), os.pipe()
    process = _spawn([found, f"--user-data-dir={profile}", *_ARGUMENTS], commands, answers)
    # A browser that hangs fails the test instead of holding it.
    watchdog = threading.Timer(_SECONDS, os.killpg, (process, signal.SIGKILL))
    watchdog.start()
    with os.fdopen(reading, "rb") as replies, os.fdopen(writing, "wb", buffering=0) as orders:
        try:
            yield Browser(replies, orders)
        finally:
            watchdog.cancel()
            os.killpg(process, signal.SIGKILL)
            os.waitpid(process, 0)


def _spawn(command: list[str], commands: int, answers: int) -> int:
    """Start a browser, which reads from descriptor 3 and writes to 4, in a group of its own; closes both here."""
    high = [fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 10) for descriptor in (commands, answers)]
    silent = [(os.POSIX_SPAWN_OPEN, descriptor, os.devnull, os.O_WRONLY, 0) for descriptor in (1, 2)]
    moved = [(os.POSIX_SPAWN_DUP2, old, new) for old, new in zip(high, (3, 4), strict=True)]
    try:
        return os.posix_spawn(command[0], command, os.environ, file_actions=[*silent, *moved], setsid=True)
    finally:
        for descriptor in (commands, answers, *high):
            os.close(descriptor)
