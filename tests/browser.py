"""A headless Chromium over the DevTools protocol, for tests of pages."""

import json
import os
import shutil
import subprocess
import sys
import time

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)

# Chromium reads messages from its file descriptor 3, and writes to 4.
LAUNCH = """\
import fcntl, os, sys
ends = [fcntl.fcntl(int(end), fcntl.F_DUPFD, 10) for end in sys.argv[1:3]]
for number, end in enumerate(ends, 3):
    os.dup2(end, number)
os.execv(sys.argv[3], sys.argv[3:])
"""


class Browser:
    """A Chromium with one page. Messages go through a pipe, so that no port and no other package is needed.

    Attributes:
        log: what the page wrote to the console, and the violations of its policy and the errors of its scripts.
    """

    def __init__(self, profile):
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        self._messages, self._buffer, self._count, self.log = [], b"", 0, []
        command = [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
            "--no-first-run", "--disable-background-networking", f"--user-data-dir={profile}", "about:blank",
        ]  # fmt: skip
        self._process = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(to_read), str(to_write), *command],
            pass_fds=(to_read, to_write), stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        target = next(t for t in self._send("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self._session = self._send("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method, **parameters):
        """Return the result of a command to the page."""
        return self._send(method, self._session, **parameters)

    def _send(self, method, session=None, **parameters):
        self._count += 1
        message = {"id": self._count, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]
            if answer.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                self.log.append(json.dumps(answer["params"])[:1000])

    def _receive(self):
        while b"\0" not in self._buffer:
            part = os.read(self._from, 1 << 16)
            assert part, "Chromium ended"
            self._buffer += part
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def open(self, url):
        """Load a page anew, even where only the fragment differs."""
        self.send("Page.navigate", url="about:blank")
        self.send("Page.navigate", url=url)
        self.wait("location.href !== 'about:blank' && document.readyState === 'complete'")

    def run(self, expression):
        """Return the value of a JavaScript expression; promises are awaited."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def wait(self, expression, seconds=20):
        """Wait until an expression is true, and return its value."""
        deadline = time.monotonic() + seconds
        while not (value := self.run(expression)):
            assert time.monotonic() < deadline, f"{expression} never became true; {self.log}; {self.run(TEXT)}"
            time.sleep(0.02)
        return value

    def text(self, selector):
        """Return the text of an element."""
        return self.run(f"document.querySelector({json.dumps(selector)})?.innerText")

    def texts(self, selector):
        """Return the texts of elements."""
        return self.run(f"[...document.querySelectorAll({json.dumps(selector)})].map((each) => each.innerText)")

    def press(self, *keys):
        """Press keys one after the other: `Tab`, `ArrowDown`, `Ctrl+Enter`."""
        for key in keys:
            *modifiers, name = key.split("+")
            held = sum({"Alt": 1, "Ctrl": 2, "Meta": 4, "Shift": 8}[each] for each in modifiers)
            text = {"Enter": "\r", "Space": " "}.get(name, "")
            event = {"key": " " if name == "Space" else name, "code": name, "modifiers": held}
            event["windowsVirtualKeyCode"] = KEYS[name]
            self.send("Input.dispatchKeyEvent", type="keyDown", text=text, **event)
            self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def type(self, text):
        """Type a text into what has the focus."""
        self.send("Input.insertText", text=text)

    def point(self, expression):
        """Move the mouse to an element."""
        box = self.run(f"(() => {{ const box = ({expression}).getBoundingClientRect(); return [box.x, box.y]; }})()")
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=box[0] + 4, y=box[1] + 4)

    def size(self, width, height):
        """Set the size of the window."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def prefer(self, **features):
        """Set what media queries find: `prefers_color_scheme="dark"`."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=listed)

    def close(self):
        """End the browser."""
        self._process.terminate()
        self._process.wait(10)
        os.close(self._to)
        os.close(self._from)


TEXT = "document.body.innerText"
KEYS = {
    "Tab": 9, "Enter": 13, "Space": 32, "End": 35, "Home": 36,
    "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40,
}  # fmt: skip
