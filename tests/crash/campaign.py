"""Kill the service again and again under a stream of commands, then check its log.

python tests/crash/campaign.py --kills 200 --seed 7

Each round starts the service, sends commands (some of them repetitions under an old command id), and kills it with -9
at a random moment, sometimes before it is ready. After the last kill the service runs until everything has settled.
Prints one line a round and a summary; a failure names the seed that repeats it.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from typing import Any

from tasktrail.actors.workers.worker_process import family
from tasktrail.api.reader import Reader
from tasktrail.projections import TaskFilters

SUPPORT = Path(__file__).parent.parent / "support"
MAX_A_ROUND = 40
"""Commands between two kills, few enough that the final backlog takes only a minute or two."""
COMPARE_EVERY = 5
"""After this many kills one round ends normally, to compare the Scheduler's memory with the log."""
STALLED_AFTER = 30.0
"""Seconds without a new record after which open tasks count as stuck."""


def said_by(data: Path) -> Path:
    """Return what all the services on a data folder have written to standard error."""
    return data.with_name(f"{data.name}.err")


class Service:
    """The service process, and its answers."""

    def __init__(self, data: Path, on_answer: Any) -> None:
        environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
        self.ready = threading.Event()
        self.comparison = ""
        """The result of comparing memory with the log; only after a normal end."""
        self._on_answer = on_answer
        with said_by(data).open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, str(SUPPORT / "service_process.py"), str(data), "2"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=environment,
            )
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith(b"\n"):
                return  # the kill cut the line: nothing was promised
            said = json.loads(line)
            if said == "ready":
                self.ready.set()
            elif isinstance(said, str):
                self.comparison = said
            else:
                self._on_answer(*said)

    def send(self, command: dict[str, Any]) -> bool:
        """Send a command; return False when the service is gone."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command).encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return False
        return True

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self._thread.join()

    def finish(self) -> int:
        """End normally."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = self._process.wait(timeout=60)
        self._thread.join()
        return code


class Client:
    """Sends commands, remembers what was acknowledged, and repeats some under the same id."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.sent: dict[str, dict[str, Any]] = {}
        self.acknowledged: dict[str, tuple[int, int]] = {}
        self.refused: dict[str, str] = {}
        self.complaints: list[str] = []
        self._last_task = 0

    def on_answer(self, command_id: str, code: str, task_id: int, position: int) -> None:
        if code:
            self.refused[command_id] = code
            if command_id in self.acknowledged:
                self.complaints.append(f"{command_id} was acknowledged and is now refused: {code}")
            return
        before = self.acknowledged.setdefault(command_id, (task_id, position))
        if before != (task_id, position):
            self.complaints.append(f"{command_id} was answered {before}, repeated it is {(task_id, position)}")
        self._last_task = max(self._last_task, task_id)

    def command(self) -> dict[str, Any]:
        """Return the next command: a new one, or one sent before."""
        rng = self.rng
        if self.sent and rng.random() < 0.15:
            return self.sent[rng.choice(list(self.sent))]
        command: dict[str, Any] = {"command_id": f"{len(self.sent):06d}-{rng.getrandbits(32):08x}", "actor": "campaign"}
        if self._last_task and rng.random() < 0.25:
            command |= {"command": rng.choice(["cancel_task", "retry_task", "start_task"])}
            command |= {"task_id": rng.randint(1, self._last_task)}
            if command["command"] == "retry_task":
                command["force"] = True
        else:
            command |= self._task()
        self.sent[command["command_id"]] = command
        return command

    def _task(self) -> dict[str, Any]:
        rng = self.rng
        kind = rng.choices(["quick", "steps", "timeout", "dies", "family"], [60, 27, 10, 1, 2])[0]
        task: dict[str, Any] = {"command": "create_task", "type": kind, "priority": rng.randint(0, 10)}
        task |= {"max_retries": rng.randint(0, 2), "retry_delay": rng.choice([0, 0.05])}
        if kind in ("steps", "family"):
            task["options"] = {"seconds": rng.choice([0.001, 0.01, 0.03])}
        if self._last_task and rng.random() < 0.1:
            task["depends_on"] = [rng.randint(1, self._last_task)]
        return task


def one_round(data: Path, client: Client, *, kill: bool = True) -> int:
    """Start, send, then kill at a random moment or end normally; return the number of commands sent."""
    rng = client.rng
    service = Service(data, client.on_answer)
    sent = 0
    if kill and rng.random() < 0.1:
        time.sleep(rng.uniform(0, 0.3))  # during the start
    else:
        if not service.ready.wait(60):
            raise SystemExit("the service did not come up within 60 s")
        until = time.monotonic() + rng.expovariate(1 / 0.3)
        while time.monotonic() < until and sent < MAX_A_ROUND and service.send(client.command()):
            sent += 1
            if rng.random() < 0.3:
                time.sleep(rng.uniform(0, 0.004))
    if kill:
        service.kill()
    else:
        _end_well(service, client)
    return sent


def _end_well(service: Service, client: Client) -> None:
    """End normally, with tasks still open: memory must equal the log."""
    if service.finish() != 0:
        client.complaints.append("the service did not stop in good order")
    if service.comparison != "same":
        client.complaints.append(service.comparison or "memory was not compared with the log")


def settle(data: Path, client: Client) -> None:
    """Let the service run until no open task can still end; then stop it normally."""
    service = Service(data, client.on_answer)
    if not service.ready.wait(60):
        raise SystemExit("the service did not come up within 60 s")
    for command in list(client.sent.values()):
        if command["command_id"] not in client.refused:
            service.send(command)  # unanswered commands are repeated, answered ones are sent again
    with Reader(data) as reader:
        if left := _work_off(reader):
            client.complaints.append(f"nothing was recorded for {STALLED_AFTER} s, still open: {left[:5]}")
    _wait_for_snapshot(data)
    _end_well(service, client)


def _wait_for_snapshot(data: Path) -> None:
    """Wait for a snapshot, which is due by now. A separate process takes it, and a stop ends that process."""
    until = time.monotonic() + STALLED_AFTER
    while not _snapshot(data).exists() and time.monotonic() < until:
        time.sleep(0.1)


def _snapshot(data: Path) -> Path:
    return data / "snapshots" / "scheduler"


def _work_off(reader: Reader) -> list[str]:
    """Wait until nothing is open, or nothing moves any more; return what is open then."""
    position, moved_at = 0, time.monotonic()
    while (left := _open_tasks(reader)) and time.monotonic() - moved_at < STALLED_AFTER:
        time.sleep(0.2)
        if (reached := reader.stats().position) != position:
            position, moved_at = reached, time.monotonic()
    return left


def _open_tasks(reader: Reader) -> list[str]:
    """Return the unfinished tasks, except those whose dependency did not complete."""
    open_tasks, _total = reader.list_tasks(TaskFilters(status=("pending", "running", "retrying"), limit=500))
    return [
        f"{task.id} {task.type} {task.status}"
        for task in open_tasks
        if all(reader.get_task(other).status == "completed" for other in task.depends_on)
    ]


def inspect(data: Path, client: Client) -> list[str]:
    """Return the faults that the log shows."""
    found = list(client.complaints)
    with Reader(data) as reader:
        seen: dict[str, int] = {}
        for record in reader.log():
            if record.command_id:
                seen[record.command_id] = record.position
        for command_id, (task_id, position) in client.acknowledged.items():
            if seen.get(command_id) != position:
                found.append(
                    f"{command_id} (task {task_id}) was acknowledged at {position}, found at {seen.get(command_id)}"
                )
        if not _snapshot(data).exists():
            found.append("no snapshot was ever taken")
        verification = reader.verify()
        found += [f"position {finding.position}: {finding.message}" for finding in verification.findings]
    found += [f"process {pid} is left" for pid in left_processes(data)]
    if tracebacks := said_by(data).read_text(errors="replace").count("Traceback"):
        found.append(f"{tracebacks} tracebacks in {said_by(data)}")
    return found


def left_processes(data: Path) -> list[int]:
    """Return the processes that carry the mark of this data folder's workers."""
    mark = f"TASKTRAIL_WORKER={family(data / 'workers.lock')}".encode()
    left = []
    for entry in Path("/proc").glob("[1-9]*"):
        try:
            if mark in (entry / "environ").read_bytes():
                left.append(int(entry.name))
        except OSError:
            continue
    return left


def run(kills: int, seed: int, *, loud: bool = True, backend: str = "sqlite") -> list[str]:
    """Run a whole campaign; return what was wrong."""
    data = Path(tempfile.mkdtemp(prefix="tasktrail-crash-"))
    with ExitStack() as stack:
        if backend == "postgresql":
            sys.path.insert(0, str(SUPPORT))
            stack.enter_context(import_module("postgresql_server").new_place(data))
        return _run(data, kills, seed, loud=loud)


def _run(data: Path, kills: int, seed: int, *, loud: bool) -> list[str]:
    rng = random.Random(seed)
    client = Client(rng)
    for number in range(1, kills + 1):
        sent = one_round(data, client)
        if number % COMPARE_EVERY == 0:
            one_round(data, client, kill=False)
        if loud:
            print(f"kill {number}: {sent} sent, {len(client.acknowledged)} acknowledged so far", flush=True)
    settle(data, client)
    found = inspect(data, client)
    if loud:
        said = f"{len(client.sent)} commands, {len(client.acknowledged)} acknowledged"
        print(f"{kills} kills, {said}, {len(found)} findings")
    if found:
        print(f"seed {seed}, data kept in {data}")
    else:
        shutil.rmtree(data)
        said_by(data).unlink()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--backend", choices=["sqlite", "postgresql"], default="sqlite")
    options = parser.parse_args()
    found = run(options.kills, options.seed, backend=options.backend)
    print(*found[:50], sep="\n")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
