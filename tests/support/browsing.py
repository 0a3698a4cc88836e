"""A service that people look at, and a person who looks: the helpers of the page's tests."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from PIL import Image

from tasktrail import Client
from tasktrail.events import Checkpointed, Progressed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, BrowserType, ConsoleMessage, Page, Request

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SUPPORT = Path(__file__).parent
WITHIN = 20.0
"""The most seconds that a test waits for anything."""
CONFIGURATION = """
handlers = ["browser_handlers"]
sandbox = "off"  # a staged task follows a file that the test writes
workers = 2
"""
Role = Literal["owner", "reader", "submitter", "operator", "auditor", "admin"]


def start_browser(chromium: "BrowserType", *flags: str) -> "Browser":
    """Start Chromium in its own sandbox, except as root, for whom Chromium refuses the sandbox."""
    return chromium.launch(executable_path=CHROMIUM, args=[*flags, *["--no-sandbox"] * (os.geteuid() == 0)])


class Service:
    """`tasktrail serve` on a data folder of its own, always on the same port."""

    def __init__(
        self, folder: Path, configuration: str = CONFIGURATION, before: Callable[[Path], None] = lambda _data: None
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.data.mkdir(parents=True)
        (self.data / "tasktrail.toml").write_text(configuration, encoding="utf-8")
        before(self.data)
        self.address = ""
        self.opened = False
        """Whether its owner has logged in with a browser."""
        self._said: deque[str] = deque(maxlen=50)
        self.start()

    def start(self) -> None:
        """Start the service, and return when it takes commands."""
        port = urlsplit(self.address).port or 0
        ready = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tasktrail", "--data", str(self.data), "serve", "--port", str(port)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        )
        threading.Thread(target=self._listen, args=(self._process, ready), daemon=True).start()
        assert ready.wait(WITHIN), self.said()

    def _listen(self, process: "subprocess.Popen[str]", ready: threading.Event) -> None:
        assert process.stderr is not None
        with process.stderr as lines:
            for line in lines:
                self._said.append(line)
                if found := re.match(r"ready (http://\S+)", line):
                    self.address = found[1]
                    ready.set()

    def said(self) -> str:
        """Return its last lines of output."""
        return "".join(self._said)

    def stop(self) -> None:
        """Stop the service normally."""
        if self._process.poll() is None:
            self._process.terminate()
            self._process.wait(WITHIN)

    def kill(self) -> None:
        """Kill the service without warning, as when memory runs out."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(WITHIN)

    def client(self) -> Client:
        """Return a Python client of the service."""
        return Client.connect(self.data)

    def command(self, *words: str) -> str:
        """Return the output of a command of the command line."""
        command = [sys.executable, "-m", "tasktrail", "--data", str(self.data), *words]
        env = {**os.environ, "PYTHONPATH": str(SUPPORT)}
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=env).stdout

    def secret(self) -> str:
        """Return the secret that the owner of the data shows."""
        return (self.data / "http-token").read_text(encoding="utf-8").strip()

    def token(self, role: str, user: int | None) -> str:
        """Return a new token of that role."""
        bound = ("--user", str(user)) if user is not None else ()
        return self.command("token", "add", f"{role}-{time.monotonic_ns()}", "--role", role, *bound).strip()

    def staged(self, **fields: Any) -> "Staged":
        """Create a task that does what it is told."""
        words = self.folder / f"words-{time.monotonic_ns()}"
        words.touch()
        with self.client() as tasks:
            return Staged(tasks.create_task(type="staged", options={"words": str(words)}, **fields), words)


class Staged:
    """A task that does what the test tells it."""

    def __init__(self, task_id: int, words: Path) -> None:
        self.id = task_id
        self._words = words

    def tell(self, line: str) -> None:
        """Give an instruction: `40 half of it`, `end`, or `fail because`."""
        with self._words.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")


class Visit:
    """One session of a browser, and everything that went wrong in it."""

    def __init__(self, context: "BrowserContext", service: Service) -> None:
        self._service = service
        self._expected: list[str] = []
        self._faults: list[str] = []
        context.on("console", self._heard)
        context.on("weberror", lambda error: self._faults.append(f"page error: {error.error}"))
        context.on("request", self._asked)
        self.page: Page = context.new_page()

    def expect(self, pattern: str) -> None:
        """Accept a fault that the test causes on purpose."""
        self._expected.append(pattern)

    def faults(self) -> list[str]:
        """Return the faults that no test has announced."""
        return [fault for fault in self._faults if not any(re.search(pattern, fault) for pattern in self._expected)]

    def go(self, path: str) -> "Page":
        """Open a page."""
        self.page.goto(self._service.address + path)
        return self.page

    def log_in(self, role: Role, user: int | None) -> None:
        """Log in: the owner by an address that works once, and later by the secret; others by a token."""
        if role == "owner" and not self._service.opened:
            self._service.opened = True
            with self._service.client() as client:
                self.page.goto(client.login_address())
            return
        self.go("/login")
        shown = self._service.secret() if role == "owner" else self._service.token(role, user)
        self.page.get_by_label("Token").fill(shown)
        self.page.get_by_role("button", name="Log in").click()

    def _heard(self, message: "ConsoleMessage") -> None:
        if message.type in ("error", "warning", "assert"):
            self._faults.append(f"console: {message.text} ({message.location.get('url', '')})")

    def _asked(self, request: "Request") -> None:
        if not request.url.startswith(f"{self._service.address}/"):
            self._faults.append(f"request to {request.url}")


def furnish(service: Service) -> None:
    """Fill a service with an example of everything that pages show, with names that are hard to fit."""
    long_name = f"{'very' * 40}-long <b>name<b>.png"
    picture = service.folder / long_name
    Image.radial_gradient("L").resize((640, 480)).save(picture)
    with service.client() as tasks:
        tasks.set_limits(max_concurrent=3, types={"staged": 2}, labels={"n" * 100: 1}, reason=f"a reason {'x' * 150}")
        done = tasks.create_task(
            "image_thumbnail",
            picture,
            service.folder / "small.jpg",
            label="l" * 200,
            batch="holiday",
            options={"width": 64},
            reason="to see it <i>small</i>",
        )
        tasks.wait(done, timeout=WITHIN)
        tasks.pause(type="print", reason="paper is out")
        tasks.add_schedule("nightly", {"type": "print", "options": {"title": "News"}}, cron="30 2 * * *")
        tasks.add_schedule("s" * 200, {"type": "print", "options": {"title": "x"}}, every=3600)
    failed = service.staged(max_retries=0, label="import", batch="b" * 100)
    failed.tell(f"fail {'word' * 60} is no picture")
    ran = service.staged(label="import", batch="b" * 100, user_id=7)
    ran.tell("40 half of the way")
    with service.client() as tasks:
        tasks.wait(failed.id, timeout=WITHIN)
        waiting = tasks.create_task(
            "print", options={"title": "Poster"}, batch="b" * 100, priority=3, parent_task_id=ran.id
        )
        tasks.create_task("print", options={"title": "Book"}, depends_on=[ran.id, waiting])
        held = tasks.create_task("print", options={"title": "Card"}, held=True)
        gone = tasks.create_task("print", options={"title": "Stamp"})
        tasks.cancel_task(gone, reason="nobody wants it")
        tasks.adjust_task(held, priority=9, reason="customer waits")
        tasks.create_task("a_type_whose_name_" + "goes_on_" * 8 + "for_long", held=True)
        for record in tasks.follow():
            if record.task_id == ran.id and isinstance(record.event, Progressed | Checkpointed):
                return
