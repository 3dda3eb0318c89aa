"""Checks the layout of the built guide in a browser with a width of 1,100 pixels: no text is cut off, no line of code is wrapped, no inline
code is broken within a word, no picture is missing or distorted.

`make docs` calls it. Without Chromium it only says that nothing was checked.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Empty, Queue
from shutil import which
from threading import Thread

BUILT = Path(__file__).parent / "_build" / "html"
WIDTH = 1100  # pixels
SHORT = 40  # characters of a word; shorter ones must not be broken, as in docs/conf.py
TIMEOUT = 120.0  # seconds
BROWSER = ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")

LOOK = """<!doctype html><meta charset="utf-8"><script>
const pages = PAGES, found = [];
function look(name, page) {
  const words = element => element.getAttribute("src") || element.textContent.trim().replace(/\\s+/g, " ").slice(0, 60);
  const told = (element, what) => found.push(`${name}: ${what}: ${words(element)}`);
  const right = page.querySelector("article").getBoundingClientRect().right;
  for (const element of page.querySelectorAll("article :is(pre, table, .table-wrapper, p, li, dt, .output_area)")) {
    if (element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0) told(element, "cut");
    if (element.getBoundingClientRect().right > right + 4) told(element, "reaches out of the page");
  }
  for (const code of page.querySelectorAll("article .highlight pre")) {
    code.style.whiteSpace = "pre";
    if (code.scrollWidth > code.clientWidth + 1) told(code, "wrapped line of code");
    code.style.whiteSpace = "";
  }
  for (const word of page.querySelectorAll("article code .pre")) {
    if (word.textContent.length < SHORT && word.getClientRects().length > 1) told(word, "broken within a word");
  }
  for (const image of page.images) {
    if (image.naturalWidth === 0) { told(image, "missing picture"); continue; }
    const stretched = image.width * image.naturalHeight / (image.height * image.naturalWidth);
    if (image.height > 20 && !(0.98 < stretched && stretched < 1.02)) told(image, "distorted picture");
    if (image.getBoundingClientRect().right > right + 4) told(image, "reaches out of the page");
  }
}
async function main() {
  const frame = document.createElement("iframe");
  frame.style = "width:WIDTHpx;height:2000px;border:0";
  document.body.append(frame);
  for (const name of pages) {
    const loaded = new Promise(done => frame.onload = done);
    frame.src = name;
    await loaded;
    look(name, frame.contentDocument);
  }
  await fetch("/found", {method: "POST", body: JSON.stringify(found)});
}
onload = () => main().catch(error => fetch("/found", {method: "POST", body: JSON.stringify([String(error)])}));
</script><body></body>"""


class _Guide(SimpleHTTPRequestHandler):
    """Serves the built guide and a page that checks all others, and receives its findings."""

    def __init__(self, *request: object, pages: Sequence[str], found: Queue[list[str]], directory: str) -> None:
        self.looking = LOOK.replace("PAGES", json.dumps(list(pages))).replace("WIDTH", str(WIDTH)).replace("SHORT", str(SHORT))
        self.found = found
        super().__init__(*request, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        if self.path != "/look":
            super().do_GET()
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(self.looking.encode())

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(204)
        self.end_headers()
        self.found.put(json.loads(text))

    def log_message(self, *_: object) -> None:
        """Do not log requests."""


def findings(built: Path) -> list[str]:
    """A line for each text or picture that is cut off, distorted or missing.

    Args:
        built: folder with the pages.

    Raises:
        queue.Empty: the browser did not answer.
    """
    pages = sorted(path.relative_to(built).as_posix() for path in built.rglob("*.html") if "_static" not in path.parts)
    found: Queue[list[str]] = Queue()
    handler = partial(_Guide, pages=pages, found=found, directory=str(built))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, tempfile.TemporaryDirectory() as profile:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}/look"
        # With a debugging port, a headless browser does not end when it has drawn its page. It is ended when it has sent its findings.
        command = ["chromium", *BROWSER, f"--user-data-dir={profile}", "--remote-debugging-port=0", address]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return found.get(timeout=TIMEOUT)
        finally:
            browser.terminate()
            browser.wait()
            server.shutdown()


def main() -> int:
    """Check the guide. Returns 1 if there are findings, else 0."""
    if which("chromium") is None:
        sys.stderr.write(f"chromium is not installed: it was not checked whether the guide fits a page of {WIDTH} pixels\n")
        return 0
    try:
        found = findings(BUILT)
    except Empty:
        found = [f"the browser did not answer within {TIMEOUT:g} s"]
    sys.stderr.write("".join(f"{line}\n" for line in found))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
