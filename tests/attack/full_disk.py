"""A disk fills up and is freed, under load, with running attempts, views that follow and notices that go out.

Each cycle writes a file until nothing fits any more, waits until the service refuses a command, watches it for a while,
and removes the file. Promised: the service never ends and interrupts nothing; it reports that it is not ready within a
second of its first refusal, and takes commands again within two seconds after there is space; everything acknowledged
is in the log, which verifies, and the views are its fold. At the end it is started on a full disk.

The disk is a tmpfs, which only root may mount: otherwise nothing is run. Sizes: 100 cycles, with --short 3.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx

HERE = Path(__file__).parent
SIZE, MORE = 64, 4
"""MiB of the disk, at first and for each cycle, whose history stays."""
LONG = 3
"""Attempts that run all the time."""
SENDERS = 3
PATIENCE = 90.0
"""Seconds for anything without a bound of its own."""
READY_WITHIN = 2.0
TOLD_WITHIN = 1.0


class Disk:
    """A small separate file system, and the file that fills it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._filler = root / "filler"

    def fill(self, rng: random.Random) -> None:
        """Fill it until nothing fits, or only a few pages."""
        spare = rng.choice((0, 0, 0, 4096, 16384, 65536))
        with self._filler.open("wb", buffering=0) as file:
            with contextlib.suppress(OSError):
                while file.write(bytes(1 << 20)):
                    pass
            with contextlib.suppress(OSError):
                while file.write(bytes(4096)):
                    pass
            if spare:
                file.truncate(max(0, file.tell() - spare))

    def free(self) -> None:
        """Make room again."""
        self._filler.unlink(missing_ok=True)


@contextlib.contextmanager
def mounted(size: int) -> Iterator[Disk]:
    """Mount a tmpfs of that many MiB. Raises `OSError` when it cannot be mounted."""
    root = Path(tempfile.mkdtemp(prefix="full-disk-"))
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=700", "tmpfs", str(root)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise OSError(done.stderr.strip())
        try:
            yield Disk(root)
        finally:
            subprocess.run(["umount", "-l", str(root)], check=False)
    finally:
        root.rmdir()


class Receiver:
    """Takes webhooks and remembers which tasks they were about."""

    def __init__(self) -> None:
        self.tasks: set[int] = set()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                receiver.tasks.add(int(body["subject"].removeprefix("task/")))
                self.send_response(204)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        self.url = f"http://{self.address}/notices"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Service:
    """`tasktrail serve` on a data folder."""

    def __init__(self, data: Path, said: Path) -> None:
        self.data = data
        environment = {**os.environ, "PYTHONPATH": str(HERE.parent / "support")}
        self._said = said.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tasktrail", "--data", str(data), "serve", "--port", "0"],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
        )

    def web(self) -> httpx.Client:
        """Return a separate client for each thread."""
        transport = httpx.HTTPTransport(uds=str(self.data / "tasktrail.sock"))
        return httpx.Client(transport=transport, base_url="http://localhost", timeout=40.0)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.kill()
            self._said.close()


class Campaign:
    """One service, its senders, and the findings."""

    def __init__(self, disk: Disk, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk = disk
        self.data = disk.root / "data"
        self.said = Path(tempfile.mkstemp(prefix="full-disk-", suffix=".log")[1])
        self.receiver = Receiver()
        self.data.mkdir(mode=0o700)
        (self.data / "tasktrail.toml").write_text(
            f'handlers = ["crash_handlers"]\nworkers = {LONG + 2}\nallow_endpoints = ["{self.receiver.address}"]\n'
            "snapshot_every = 2000\n"
        )
        self.service = Service(self.data, self.said)
        self.acknowledged: dict[str, int] = {}
        self.with_notice: set[int] = set()
        self.refused_at = 0.0
        self.accepted_at = 0.0
        self.not_ready_at = 0.0
        self.ready_at = 0.0
        self.reasons: set[str] = set()
        self.refusals = 0
        self.broken: list[str] = []
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []

    # --- load -------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Wait until the service is ready; start the attempts that never end, and the senders."""
        self.until(self._is_ready, "the service to get ready")
        with self.service.web() as web:
            for number in range(LONG):
                options = {"number": 10_000_000, "seconds": 0.25}
                self._create(web, f"long-{number}", type="steps", options=options, priority=10)
        for number in range(SENDERS):
            self._spawn(partial(self._send, number))
        self._spawn(self._watch)

    def _spawn(self, work: Callable[[], None]) -> None:
        def guarded() -> None:
            try:
                work()
            except BaseException as error:  # noqa: BLE001 - told by the main thread
                self.fault(f"a thread of the campaign broke: {error!r}")

        self._threads.append(threading.Thread(target=guarded, daemon=True))
        self._threads[-1].start()

    def _send(self, number: int) -> None:
        rng = random.Random(self.rng.random() + number)
        with self.service.web() as web:
            count = 0
            while not self._over.wait(rng.random() * 0.1):
                count += 1
                more: dict[str, Any] = {"notify_webhook": self.receiver.url} if count % 10 == 0 else {}
                self._create(web, f"{number}-{count}", type="quick", label="x" * rng.randrange(60), **more)

    def _create(self, web: httpx.Client, command_id: str, **fields: Any) -> None:
        """Send a command until it is accepted."""
        body = {"command": "create_task", "command_id": command_id, **fields}
        while not self._over.is_set() or not self.acknowledged:
            try:
                answer = web.post("/v1/commands", json=body)
            except httpx.HTTPError as error:
                if self.service.process.poll() is not None:
                    return
                self.fault(f"no answer to {command_id}: {error!r}")
                continue
            now = time.monotonic()
            if answer.status_code == 202:
                with self._lock:
                    self.accepted_at = now
                    self.acknowledged[command_id] = answer.json()["task_id"]
                    if "notify_webhook" in fields:
                        self.with_notice.add(answer.json()["task_id"])
                return
            if answer.status_code != 503:
                self.fault(f"{command_id} is answered with {answer.status_code} {answer.text[:300]}")
                return
            with self._lock:
                self.refusals += 1
                self.refused_at = self.refused_at or now
                self.reasons.add(answer.json()["code"])
            self._over.wait(0.1)

    def _watch(self) -> None:
        """Check readiness all the time."""
        while not self._over.wait(0.02):
            ready = self._is_ready()
            with self._lock:
                if ready:
                    self.ready_at = time.monotonic()
                elif not self.not_ready_at:
                    self.not_ready_at = time.monotonic()

    def _is_ready(self) -> bool:
        try:
            with self.service.web() as web:
                answer = web.get("/readyz")
        except httpx.HTTPError:
            return False
        if answer.status_code != 200:
            self.reasons.add(f"readyz:{answer.json()['code']}")
        return answer.status_code == 200

    # --- cycles -----------------------------------------------------------------------------------------------------

    def cycle(self, number: int) -> str:
        """Fill, watch, free, watch."""
        with self._lock:
            self.refused_at = self.not_ready_at = 0.0
        self.disk.fill(self.rng)
        self.until(lambda: self.refused_at > 0, "a refusal on the full disk")
        self.until(lambda: self.not_ready_at > 0, "readyz to tell")
        told = self.not_ready_at - self.refused_at
        if told > TOLD_WITHIN:
            self.fault(f"cycle {number}: readyz told {told:.2f} s after the first refusal")
        self._ask_while_full(number)
        self._over.wait(self.rng.random() * 1.5)
        self.disk.free()
        freed = time.monotonic()
        self.until(lambda: self.accepted_at > freed and self.ready_at > freed, "commands to be accepted again")
        back = self.accepted_at - freed if self.accepted_at > freed else 0.0
        took = time.monotonic() - freed
        if took > READY_WITHIN:
            self.fault(f"cycle {number}: accepting {took:.2f} s after there was room")
        self._over.wait(0.2 + self.rng.random() * 0.8)
        return f"told after {max(0.0, told):.2f} s, back after {min(took, back or took):.2f} s"

    def _ask_while_full(self, number: int) -> None:
        with self.service.web() as web:
            for path in ("/v1/queue", "/v1/tasks?limit=1", "/v1/tasks/1/events", "/healthz"):
                begun = time.monotonic()
                answer = web.get(path)
                took = time.monotonic() - begun
                views_lag = path.startswith("/v1/tasks?") and answer.status_code == 503
                if (answer.status_code != 200 and not views_lag) or took > 5:
                    self.fault(f"cycle {number}: {path} answers {answer.status_code} after {took:.1f} s: {answer.text}")

    def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for a condition. Raises when it does not come, or the service ends."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            if self.service.process.poll() is not None:
                raise AssertionError(f"the service ended with {self.service.process.returncode} before {what}")
            if time.monotonic() > deadline:
                raise AssertionError(f"waited {PATIENCE:g} s in vain for {what}")
            time.sleep(0.01)

    def fault(self, what: str) -> None:
        """Record a broken promise."""
        with self._lock:
            self.broken.append(what)
        print(f"  BROKEN: {what}", flush=True)

    # --- the end ----------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Check that everything acknowledged is there, nothing was interrupted, notices arrive, and all verifies."""
        self._over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        last = max(self.acknowledged.values())
        self.until(lambda: self._views_have(last), "the views to catch up")
        self._await_notices()
        with contextlib.closing(sqlite3.connect(f"file:{self.data / 'log.db'}?mode=ro", uri=True)) as log:
            ended = log.execute("SELECT task_id, data FROM events WHERE event = 'failed'").fetchall()
            running = log.execute("SELECT count(*) FROM events WHERE event = 'started' AND task_id <= ?", (LONG,))
            if ended or running.fetchone()[0] != LONG:
                self.fault(f"attempts were interrupted: {ended[:3]}")
        code = self.service.stop()
        if code != 0:
            self.fault(f"the service ended with {code}")
        with contextlib.closing(sqlite3.connect(self.data / "log.db")) as log:
            answers = dict(log.execute("SELECT command_id, task_id FROM answers"))
            created = dict(log.execute("SELECT command_id, task_id FROM events WHERE event = 'created'"))
        for command_id, task_id in self.acknowledged.items():
            if answers.get(command_id) != task_id or created.get(command_id) != task_id:
                self.fault(f"{command_id} was acknowledged as task {task_id} and is not in the log so")
        if len(created) != log_size(self.data, "created"):
            self.fault("a command was carried out twice")
        verified = subprocess.run(
            [sys.executable, "-m", "tasktrail", "--data", str(self.data), "verify"],
            env={**os.environ, "PYTHONPATH": str(HERE.parent / "support")},
            capture_output=True,
            text=True,
            check=False,
        )
        if verified.returncode:
            self.fault(f"verify: {verified.stdout[-500:]} {verified.stderr[-500:]}")

    def _await_notices(self) -> None:
        """Wait for the notices. One receiver gets one at a time, so many may be under way; they must keep arriving."""
        while missing := self._missing():
            with contextlib.suppress(AssertionError):
                self.until(partial(self._fewer_than, missing), "another notice")
            if not self._fewer_than(missing):
                self.fault(f"{missing} of {len(self.with_notice)} notices never arrived")
                return

    def _missing(self) -> int:
        return len(self.with_notice - self.receiver.tasks)

    def _fewer_than(self, missing: int) -> bool:
        return self._missing() < missing

    def _views_have(self, task_id: int) -> bool:
        with self.service.web() as web:
            return web.get(f"/v1/tasks/{task_id}").status_code == 200

    def close(self) -> None:
        self._over.set()
        if self.service.process.poll() is None:
            self.service.process.kill()
            self.service.process.wait()
        self.receiver.close()


def log_size(data: Path, event: str) -> int:
    """Return the number of such events."""
    with contextlib.closing(sqlite3.connect(data / "log.db")) as log:
        return int(log.execute("SELECT count(*) FROM events WHERE event = ?", (event,)).fetchone()[0])


def start_without_room(disk: Disk, said: Path) -> list[str]:
    """Start a service on the full disk: it answers reads, and takes commands by itself when there is room."""
    disk.fill(random.Random(0))
    service = Service(disk.root / "data", said)
    broken: list[str] = []
    try:
        status = wait_for(service, lambda web: web.get("/readyz").status_code)
        task = wait_for(service, lambda web: web.get("/v1/tasks/1").status_code)
        events = wait_for(service, lambda web: web.get("/v1/tasks/1/events").status_code)
        if (status, task, events) != (503, 200, 200):
            broken.append(f"started on a full disk: readyz {status}, a task {task}, its events {events}")
        disk.free()
        freed = time.monotonic()
        while wait_for(service, lambda web: web.get("/readyz").status_code) != 200:
            if time.monotonic() - freed > PATIENCE:
                break
            time.sleep(0.02)
        if time.monotonic() - freed > READY_WITHIN:
            broken.append(f"started on a full disk: ready {time.monotonic() - freed:.1f} s after there was room")
        if (code := service.stop()) != 0:
            broken.append(f"started on a full disk: ended with {code}")
    finally:
        disk.free()
        if service.process.poll() is None:
            service.process.kill()
    return broken


def wait_for(service: Service, ask: Callable[[httpx.Client], int]) -> int:
    """Return the status of an answer, once there is one; 0: the service has ended."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and service.process.poll() is None:
        try:
            with service.web() as web:
                return ask(web)
        except httpx.HTTPError:
            time.sleep(0.05)
    return 0


def main() -> int:
    """Return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="3 cycles")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cycles", type=int, default=100)
    arguments = parser.parse_args()
    cycles = 3 if arguments.short else arguments.cycles
    try:
        with mounted(SIZE + MORE * cycles) as disk:
            return attack(disk, cycles, arguments.seed or random.SystemRandom().randrange(1 << 30))
    except OSError as error:
        print(f"full_disk: not run: no tmpfs can be mounted ({error})")
        return 0


def attack(disk: Disk, cycles: int, seed: int) -> int:
    """Play that many cycles."""
    print(f"seed {seed}", flush=True)
    campaign = Campaign(disk, seed)
    done = 0
    try:
        campaign.begin()
        for number in range(1, cycles + 1):
            found = campaign.cycle(number)
            done = number
            if number % 10 == 0 or cycles <= 10:
                print(f"cycle {number}: {found}; {len(campaign.acknowledged)} acknowledged", flush=True)
        campaign.finish()
        campaign.broken += start_without_room(disk, campaign.said)
    except AssertionError as error:
        campaign.fault(str(error))
    finally:
        campaign.close()
    if campaign.broken:
        print(f"the service said: {campaign.said.read_text()[-3000:]}")
    else:
        campaign.said.unlink()
    print(
        f"full_disk: {done} of {cycles} cycles, {len(campaign.acknowledged)} acknowledged, {campaign.refusals} refused "
        f"({', '.join(sorted(campaign.reasons))}), {len(campaign.with_notice)} with a notice, "
        f"{len(campaign.broken)} promises broken, seed {seed}"
    )
    return 1 if campaign.broken else 0


if __name__ == "__main__":
    sys.exit(main())
