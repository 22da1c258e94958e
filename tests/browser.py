"""Pages in a real headless Chromium, driven through its DevTools protocol."""

import base64
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find():
    """Path of a Chromium; skips the test where there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    return found


class Page:
    """One tab.

    Parameters
    ----------
    socket : websocket connection to the tab
    """

    def __init__(self, socket):
        self.socket, self.numbers = socket, count(1)

    def call(self, method, **params):
        """Result of one DevTools command; events that come before it are passed over."""
        number = next(self.numbers)
        self.socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(self.socket.recv(timeout=60))
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def text(self):
        """What a reader of the page sees."""
        found = self.call("Runtime.evaluate", expression="document.body ? document.body.innerText : ''")
        return found["result"]["value"]

    def wait_for(self, *words, timeout_s=60):
        """Wait until all words are on the page; its text."""
        deadline = time.monotonic() + timeout_s
        while not all(word in self.text() for word in words):
            assert time.monotonic() < deadline, f"{words} not all in: {self.text()}"
            time.sleep(0.2)
        return self.text()

    def screenshot(self, path):
        """Write a PNG of the window."""
        Path(path).write_bytes(base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"]))


@contextmanager
def open_page(url, folder, *, width=1500, height=1200):
    """A page in a browser of its own, whose profile is in ``folder``."""
    from websockets.sync.client import connect

    options = [
        "--headless=new",
        "--no-sandbox",
        "--enable-unsafe-swiftshader",
        "--disable-dev-shm-usage",
        "--hide-scrollbars",
    ]
    options += [f"--user-data-dir={folder}", f"--window-size={width},{height}", "--remote-debugging-port=0"]
    process = subprocess.Popen(
        [find(), *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        line = next(line for line in process.stderr if line.startswith("DevTools listening on "))
        with connect(line.split()[-1], max_size=None) as socket:
            browser = Page(socket)
            target = browser.call("Target.createTarget", url=url)["targetId"]
        base = line.split()[-1].split("/devtools/")[0]
        with connect(f"{base}/devtools/page/{target}", max_size=None) as socket:
            yield Page(socket)
    finally:
        process.terminate()
        process.wait(10)
        process.stderr.close()
