"""Shows a page in headless Chromium, and drives and inspects it over Chrome's DevTools protocol."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

from tornado.websocket import WebSocketClientConnection, websocket_connect

OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
_KEY_CODES = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "End": 35, "Home": 36, "PageDown": 34, " ": 32}
SHIFT, CTRL = 8, 2
"""Modifiers of keys and clicks."""


class Browser:
    """Chromium with one page. A context manager.

    Args:
        folder: an empty folder for the profile, and for files that the page saves.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.events: list[dict[str, Any]] = []
        """Events from the browser, the oldest first."""
        self._numbers = itertools.count(1)
        self._loop = asyncio.new_event_loop()

    def __enter__(self) -> Browser:
        command = ["chromium", *OPTIONS, "--remote-debugging-port=0", f"--user-data-dir={self.folder / 'profile'}", "about:blank"]
        self._process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
        assert self._process.stderr is not None
        address = next(line.split()[-1] for line in self._process.stderr if line.startswith("DevTools listening on"))
        self._socket: WebSocketClientConnection = self._loop.run_until_complete(_connect(address))
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._call("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(self.folder), eventsEnabled=True)
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._call("Browser.close")
        self._loop.run_until_complete(_close(self._socket))
        assert self._process.stderr is not None
        self._process.stderr.read()  # otherwise a full pipe would block it
        self._process.wait(timeout=30)
        self._process.stderr.close()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def open(self, url: str, width: int = 1100, height: int = 800) -> None:
        """Show a page in a window of this size, and wait until it is loaded."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        del self.events[:]
        self.call("Page.navigate", url=url)
        self.wait_for(lambda event: event["method"] == "Page.loadEventFired")

    def call(self, method: str, **arguments: Any) -> Any:
        """Call a method of the protocol for the page."""
        return self._call(method, self._session, **arguments)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page; for a promise, the value that it resolves to."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, modifiers: int = 0) -> None:
        """Press and release a key, such as 'ArrowLeft' or ' '."""
        code = _KEY_CODES.get(key, ord(key[0].upper()))
        for kind in ("rawKeyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, modifiers=modifiers, windowsVirtualKeyCode=code)

    def click(self, selector: str, modifiers: int = 0) -> None:
        """Scroll to the element that a CSS selector finds, and click its centre."""
        script = f"""(() => {{
          const element = document.querySelector({json.dumps(selector)});
          element.scrollIntoView({{ block: "center" }});
          const {{ x, y, width, height }} = element.getBoundingClientRect();
          return [x + width / 2, y + height / 2];
        }})()"""
        x, y = self.evaluate(script)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1, modifiers=modifiers)

    def fill(self, selector: str, value: str) -> None:
        """Set the value of an input or a selection, as if it were typed."""
        self.evaluate(f"""(() => {{
          const element = document.querySelector({json.dumps(selector)});
          element.value = {json.dumps(value)};
          element.dispatchEvent(new Event("input", {{ bubbles: true }}));
        }})()""")

    def wait_for(self, is_wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for the first event of this kind since the page was opened."""
        for event in self.events:
            if is_wanted(event):
                return event
        while True:
            message = self._receive()
            if "method" in message and is_wanted(message):
                return message

    def _call(self, method: str, session: str | None = None, **arguments: Any) -> Any:
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": arguments} | ({"sessionId": session} if session else {})
        self._loop.run_until_complete(_send(self._socket, json.dumps(message)))
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        text = self._loop.run_until_complete(_receive(self._socket))
        assert text is not None, "the browser is gone"
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message


async def _connect(address: str) -> WebSocketClientConnection:
    return await websocket_connect(address)


async def _send(socket: WebSocketClientConnection, text: str) -> None:
    await socket.write_message(text)


async def _close(socket: WebSocketClientConnection) -> None:
    socket.close()


async def _receive(socket: WebSocketClientConnection) -> str | bytes | None:
    return await asyncio.wait_for(socket.read_message(), timeout=60)
