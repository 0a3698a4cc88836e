"""Send a million commands with the full ranges of numbers and texts in options, checkpoints and results.

python tests/attack/commands.py --commands 1000000 --seed 1

They go to a real service over its socket, in arrays, one by one where the JSON itself is broken, and as Structs through
`Client`. Many are refused; accepted ones run in real workers and return anything at all. An observer reads `log.db`
with plain SQLite and watches the processes. Broken promises: an answer of 500 or 503, a traceback on standard error, a
task that is `running` for more than 5 s without a process, a slot that does not come back, also after a start on the
same log, and a log that does not verify.
"""

import argparse
import atexit
import http.client
import json
import os
import random
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

from wild import MOMENTS, Wild, as_json

from tasktrail.api.client import Client
from tasktrail.events import Accepted, Checkpoint, Command, CreateTask, SaveCheckpoint, TasktrailError

SUPPORT = Path(__file__).parent.parent / "support"
ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join((str(SUPPORT), os.environ.get("PYTHONPATH", "")))}
WORKERS = 4
BATCH = 250
SENDERS = 2
OUR_SPACE = str(Path("/proc/self/ns/pid").readlink())
AHEAD = 100_000
"""A user level that goes before all waiting tasks."""
NOBODY = 987_654_321_012
"""A user without other tasks."""
RUNS_FOR = 5.0
"""Seconds that a task may be running without a process."""
NEVER_LONGER = 30.0
"""The same while nothing at all is recorded, because the disk or the machine stands still."""
COMMON = ("absorb", "absorb", "absorb", "produce", "produce")
ON_TASK = ("start_task", "cancel_task", "retry_task", "adjust_task", "save_checkpoint", "redeliver_notice")
ENDS = ("completed", "failed", "cancelled", "retried")


class UnixConnection(http.client.HTTPConnection):
    """HTTP on the service's socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=120)
        self._path = str(path)

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Service:
    """`tasktrail serve` on a folder, and its output."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.complaints: list[str] = []
        """Each traceback, and the lines after it."""
        self._follow = 0
        self.ready = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tasktrail", "serve", "--data", str(data)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env=ENVIRONMENT,
        )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()
        atexit.register(self._process.kill)
        if not self.ready.wait(120):
            raise SystemExit(f"the service did not get ready: {self.complaints}")

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if "ready" in line:
                self.ready.set()
            if "Traceback" in line:
                self._follow = 60
                self.complaints.append("")
            if self._follow:
                self._follow -= 1
                self.complaints[-1] += line[:300]

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join(10)


class Watcher(threading.Thread):
    """Follows `log.db` with plain SQLite: how long each task runs, and whether it has a process."""

    def __init__(self, log: Path, alive: Path) -> None:
        super().__init__(name="watcher", daemon=True)
        self._log, self._alive = log, alive
        self._over = threading.Event()
        self._running: dict[int, tuple[int, float, float]] = {}
        """Task → attempt, since when, and how many seconds things had been recorded by then."""
        self._moved = 0.0
        """The number of seconds in which anything was recorded."""
        self._looked = time.monotonic()
        self._suspects: set[tuple[int, int]] = set()
        self._position = 0
        self.stuck: list[str] = []
        self.longest = self.longest_moving = 0.0
        self.recorded: Counter[str] = Counter()
        self.fault = ""

    def run(self) -> None:
        try:
            while not self._over.wait(0.5):
                self._look()
        except Exception as error:  # noqa: BLE001 - told in the summary
            self.fault = repr(error)

    def _look(self) -> None:
        with sqlite3.connect(f"file:{self._log}?mode=ro", uri=True) as base:
            rows = base.execute(
                "SELECT position, task_id, event, attempt FROM events WHERE position > ? ORDER BY position",
                (self._position,),
            ).fetchall()
        base.close()
        now = time.monotonic()
        self._moved += now - self._looked if rows else 0.0
        self._looked = now
        for position, task_id, event, attempt in rows:
            self._position = position
            self.recorded[event] += 1
            if event == "started":
                self._running[task_id] = (attempt, now, self._moved)
            elif event in ENDS:
                self._running.pop(task_id, None)
        suspects = set()
        for task_id, (attempt, since, moved) in self._running.items():
            if not self._has_process(task_id, attempt):
                self.longest = max(self.longest, now - since)
                self.longest_moving = max(self.longest_moving, self._moved - moved)
                if self._moved - moved > RUNS_FOR or now - since > NEVER_LONGER:
                    suspects.add((task_id, attempt))
        for task_id, attempt in suspects & self._suspects:  # twice: it may just have ended
            self.stuck.append(f"task {task_id}, attempt {attempt}")
            self._running.pop(task_id)
        self._suspects = suspects

    def _has_process(self, task_id: int, attempt: int) -> bool:
        try:
            pid, space = (self._alive / str(task_id) / f"alive-{attempt}").read_text().split()
            # In another PID namespace the number means nothing here; then the file has to be enough.
            return space != OUR_SPACE or "tasktrail" in Path(f"/proc/{pid}/cmdline").read_text()
        except (OSError, ValueError):
            return False

    def end(self) -> None:
        self._over.set()
        self.join(30)
        self._look()


class Sender(threading.Thread):
    """Sends a number of commands, and counts their answers."""

    def __init__(self, number: int, *, seed: int, commands: int, socket_path: Path) -> None:
        super().__init__(name=f"sender-{number}", daemon=True)
        self._rng = random.Random(f"{seed}/{number}")
        self._json = Wild(self._rng, python=False)
        self._python = Wild(self._rng, python=True)
        self._left = commands
        self._socket = socket_path
        self._ids = [1]
        self.sent = 0
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []

    def run(self) -> None:
        try:
            self._connection = UnixConnection(self._socket)
            with Client("http://localhost", socket=self._socket) as self._client:
                while self._left > 0 and len(self.broken) < 20:
                    self._round()
        except Exception as error:  # noqa: BLE001 - told in the summary
            self.broken.append(f"the sender broke: {error!r}"[:300])

    def _round(self) -> None:
        dice = self._rng.random()
        number = min(BATCH, self._left)
        if dice < 0.1:
            self._send_structs(number)
        elif dice < 0.15:
            number = 1
            self._post(self._garbage())
        else:
            self._post(("[" + ",".join(as_json(self._wish(), self._rng) for _ in range(number)) + "]").encode())
        self._left -= number
        self.sent += number

    # --- over HTTP ----------------------------------------------------------------------------------------------

    def _post(self, body: bytes) -> None:
        self._connection.request("POST", "/v1/commands", body, {"content-type": "application/json"})
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 500:
            self.broken.append(f"{answer.status} for {body[:200]!r}: {text[:200]!r}")
        told = json.loads(text)
        for one in told if isinstance(told, list) else [told]:
            status = int(one.get("status", 202))
            self.counts[one.get("code", "accepted")] += 1
            if status >= 500:
                self.broken.append(f"{status} in an array: {one}"[:300])
            if "position" in one:
                self._remember(one["task_id"])

    def _garbage(self) -> bytes:
        rng = self._rng
        text = as_json(self._wish(), rng).encode()
        match rng.randrange(6):
            case 0:
                return text[: rng.randrange(len(text))]
            case 1:
                return text.replace(
                    b":", b":" + rng.choice((b"NaN", b"-Infinity", b"01", b"+1", b".5", b"0x10")) + b",", 1
                )
            case 2:
                return text[:-1] + b',"options":{"value":"\\ud800"}}'
            case 3:
                return text[:-1] + b',"options":{"value":"\xff\xfe"}}'
            case 4:
                return b"[" * rng.choice((50, 1000, 100_000))
            case _:
                return rng.randbytes(rng.randint(0, 300))

    def _wish(self) -> dict[str, Any]:
        rng, wild = self._rng, self._json
        dice = rng.random()
        if dice < 0.6:
            return {"command": "create_task", **self._fields()}
        if dice < 0.85:
            return self._about_a_task(rng.choice(ON_TASK))
        if dice < 0.9:
            tasks = [{"name": rng.choice("abc") + str(place), **self._fields()} for place in range(rng.randint(0, 3))]
            return {"command": "create_graph", "tasks": tasks}
        if dice < 0.93:
            late = {"starting_at": "9990-01-01T00:00:00Z"} | self._some({"cron": wild.text, "timezone": wild.text})
            every = {"every": wild.number()} if rng.random() < 0.8 else {}
            return {"command": "add_schedule", "schedule": wild.text(), "task": self._fields(), **late, **every}
        if dice < 0.96:
            kinds = {kind: wild.integer() for kind in rng.sample(("users", "labels", "types"), 2)}
            return {"command": "set_limits", **{kind: {wild.text(): number} for kind, number in kinds.items()}}
        return {"command": rng.choice(("create_task", wild.text())), wild.text(): wild.value(), "options": wild.value()}

    def _fields(self) -> dict[str, Any]:
        rng, wild = self._rng, self._json
        options: dict[str, Any] = {"seed": rng.getrandbits(40)}
        options |= self._some({"value": wild.value, "text": wild.text, "number": wild.number, "integer": wild.integer})
        fields: dict[str, Any] = {"type": rng.choice(COMMON), "options": options}
        if rng.random() < 0.3:
            numbers = ("priority", "user_id", "document_id", "max_retries", "estimated_time", "parent_task_id")
            fields[rng.choice(numbers)] = wild.number()
        if rng.random() < 0.2:
            fields[rng.choice(("retry_delay", "retry_backoff", "retry_jitter", "retry_max_delay"))] = wild.number()
        if rng.random() < 0.05:
            fields[rng.choice(("queue_timeout", "total_timeout", "heartbeat_timeout", "timeout"))] = wild.number()
        if rng.random() < 0.05:
            fields[rng.choice(("scheduled_for", "deadline"))] = rng.choice((*MOMENTS, wild.text()))
        if rng.random() < 0.2:
            texts = ("label", "reason", "actor", "correlation_id", "command_id", "notify_email", "notify_webhook")
            fields[rng.choice((*texts, "input_file", "output_file", "type"))] = wild.text()
        if rng.random() < 0.05:
            fields["depends_on"] = [wild.integer() if rng.random() < 0.5 else rng.choice(self._ids)]
        return fields

    def _some(self, makers: dict[str, Any]) -> dict[str, Any]:
        return {name: make() for name, make in makers.items() if self._rng.random() < 0.3}

    def _about_a_task(self, command: str) -> dict[str, Any]:
        rng, wild = self._rng, self._json
        fields: dict[str, Any] = {"command": command}
        fields["task_id"] = rng.choice(self._ids) if rng.random() < 0.8 else wild.number()
        fields |= self._some({"reason": wild.text, "command_id": wild.text})
        if command == "save_checkpoint":
            makers = {"processed_frames": wild.integer, "processed_bytes": wild.number, "last_position": wild.number}
            fields["checkpoint"] = self._some({**makers, "data": wild.value}) | {"data": {wild.text(): wild.value()}}
        elif command == "adjust_task":
            fields |= self._some({"priority": wild.integer, "scheduled_for": lambda: rng.choice(MOMENTS)})
        elif command == "redeliver_notice":
            fields["notice_id"] = wild.text()
        return fields

    def _remember(self, task_id: int) -> None:
        if task_id:
            self._ids.append(task_id)
            del self._ids[:-500]

    # --- from Python --------------------------------------------------------------------------------------------

    def _send_structs(self, number: int) -> None:
        answers = self._client.send_many([self._struct() for _ in range(number)])
        for answer in answers:
            if isinstance(answer, Accepted):
                self.counts["accepted"] += 1
                self._remember(answer.task_id)
            elif isinstance(answer, TasktrailError):
                self.counts[answer.code] += 1
                if answer.status >= 500:
                    self.broken.append(f"{answer.status} from Python: {answer}"[:300])

    def _struct(self) -> Command:
        rng, wild = self._rng, self._python
        if rng.random() < 0.3:
            data = {wild.text(): wild.value()}
            checkpoint = Checkpoint(processed_frames=wild.integer(), last_position=wild.number(), data=data)
            return SaveCheckpoint(task_id=rng.choice((*self._ids[-5:], wild.integer())), checkpoint=checkpoint)
        options = {"seed": rng.getrandbits(40), "value": wild.value()}
        return CreateTask(type=rng.choice(COMMON), options=options, reason=wild.text(), user_id=wild.integer())


def lost_slots(client: Client, alive: Path, within: float = 90.0) -> int:
    """Return the slots that a task ahead of all others cannot be started in.

    Its user is one that no drawn limit can have named.
    """
    ids = [client.create_task(type="linger", user_level=AHEAD, user_id=NOBODY) for _ in range(WORKERS)]
    deadline = time.monotonic() + within
    there = 0
    while there < WORKERS and time.monotonic() < deadline:
        there = sum(any(alive.glob(f"{task_id}/alive-*")) for task_id in ids)
        time.sleep(0.05)
    for task_id in ids:
        with suppress(TasktrailError):  # it is over: then its slot counts as lost
            client.cancel_task(task_id)
    return WORKERS - there


def play(folder: Path, commands: int, seed: int) -> list[str]:
    """Return what went wrong."""
    data = folder / "data"
    alive = data / "tmp"
    data.mkdir(mode=0o700)
    keys = (
        'handlers = ["wild_handlers"]',
        f"workers = {WORKERS}",
        f"max_concurrent = {WORKERS}",
        f"max_user_level = {AHEAD}",
        "",
    )
    (data / "tasktrail.toml").write_text("\n".join(keys))
    service = Service(data)
    watcher = Watcher(data / "log.db", alive)
    watcher.start()
    share = -(-commands // SENDERS)
    senders = [
        Sender(number, seed=seed, commands=share, socket_path=data / "tasktrail.sock") for number in range(SENDERS)
    ]
    begun = told = time.monotonic()
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders) and service.alive:
        time.sleep(0.2)
        if time.monotonic() - told > 10:
            told = time.monotonic()
            sent = sum(sender.sent for sender in senders)
            print(f"{sent:,} commands, {sent / (told - begun):,.0f} a second", flush=True)
    seconds = time.monotonic() - begun
    broken = [complaint for sender in senders for complaint in sender.broken]
    if not service.alive:
        broken.append("the service has ended")
    counts = sum((sender.counts for sender in senders), Counter[str]())
    sent = sum(sender.sent for sender in senders)
    print(f"{sent:,} commands in {seconds:,.0f} s; answers: {dict(counts.most_common())}", flush=True)
    broken += _look_after(service, data, alive, "while it ran")
    service = Service(data)
    broken += _look_after(service, data, alive, "after a new start")
    watcher.end()
    print(f"recorded: {dict(watcher.recorded.most_common())}", flush=True)
    broken += [f"running without a process for more than {RUNS_FOR:.0f} s: {what}" for what in watcher.stuck]
    if not watcher.recorded["completed"] or not counts["invalid_value"]:
        broken.append("nothing ran, or nothing was refused: this campaign could not fail")
    broken += [f"the watcher broke: {watcher.fault}"] * bool(watcher.fault)
    print(
        f"longest time without a process: {watcher.longest:.1f} s, "
        f"{watcher.longest_moving:.1f} s of them while anything was recorded",
        flush=True,
    )
    checked = subprocess.run(
        [sys.executable, "-m", "tasktrail", "verify", "--data", str(data)],
        capture_output=True,
        text=True,
        env=ENVIRONMENT,
        check=False,
    )
    if checked.returncode:
        broken.append(f"verify: {checked.stdout[-500:]}{checked.stderr[-500:]}")
    return broken


def _look_after(service: Service, data: Path, alive: Path, when: str) -> list[str]:
    broken = []
    with Client.connect(data) as client:
        try:
            if lost := lost_slots(client, alive):
                broken.append(f"{lost} of {WORKERS} slots lost {when}")
        except TasktrailError as error:
            broken.append(f"slots could not be tried {when}: {error}")
    service.stop()
    return broken + [f"standard error {when}: {line}" for line in service.complaints[:5]]


def main() -> int:
    """Return 0 when every promise was kept."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commands", type=int, default=1_000_000)
    parser.add_argument("--short", action="store_true", help="20,000 commands")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    arguments = parser.parse_args()
    commands = 20_000 if arguments.short else arguments.commands
    print(f"seed {arguments.seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="commands-"))
    try:
        broken = play(folder, commands, arguments.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for complaint, times in Counter(broken).most_common(20):
        print(f"BROKEN {times} times: {complaint}")
    print(f"{commands:,} commands, {len(broken)} broken promises; seed {arguments.seed}")
    return min(len(broken), 1)


if __name__ == "__main__":
    sys.exit(main())
