"""Back up a service under load, restore every copy, kill both half-way: nothing acknowledged is missing anywhere.

PYTHONPATH=tests/support python tests/attack/backup.py --backups 100 --megabytes 1000 --rate 1000 --seed 7

A log of some size is written first. A service is started on it, and when it is idle, commands are sent at a rate. Most
backups are made from the one before (`--base`). Each has to hold every command that was acknowledged before the backup
was requested, and to verify when it is restored. Some backups and restores are killed with -9 at a random moment. A
killed backup leaves no file with a backup's name, and leaves the one before as it was; a killed restore leaves the old
log or the new one, whole, and either starts. The time of a backup is printed for each GB; more than 10 s is a broken
promise once the log has 100 MB.
"""

import argparse
import hashlib
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
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import psutil

from tasktrail.events import Created, Fact
from tasktrail.events.clock import SystemClock
from tasktrail.events.log.event_log import Answer
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections.verification import verify

SUPPORT = Path(__file__).parent.parent / "support"
GB = 1_000_000_000
SECONDS_A_GB = 10.0
WORTH_TIMING = 100_000_000
IDLE = 0.1
"""Seconds of CPU in a second, below which a service is idle."""


def write_log(data: Path, size: int) -> None:
    """Write a log of about that many bytes: held tasks, with realistic paths and options."""
    data.mkdir(parents=True)
    log = SqliteEventLog(data / "log.db", now=SystemClock().now())
    task_id = 0
    while (data / "log.db").stat().st_size < size or not task_id:
        facts, answers = [], []
        for _ in range(2000):
            task_id += 1
            name = f"{task_id % 97}/film-{task_id}"
            event = Created(
                type="quick",
                input_file=f"/srv/media/incoming/{name}.mov",
                output_file=f"/srv/media/outgoing/{name}.mp4",
                options={"height": 720, "codec": "h264", "quality": task_id % 50},
                held=True,
            )
            command_id = f"before-{task_id:032d}"
            at = SystemClock().now()
            facts.append(Fact(task_id, 1, event, at, "attack", "", command_id, command_id, "", 0, 1))
            answers.append(Answer(command_id, command_id.encode(), task_id, task_id))
        log.append(facts, answers, expected=task_id - 2000)
    log.close()


class Load:
    """A service in a separate process, and a stream of commands at a rate."""

    def __init__(self, data: Path, rate: int) -> None:
        self.acknowledged: dict[str, int] = {}
        self.sent = 0
        self._rate = rate
        self._stop = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, str(SUPPORT / "service_process.py"), str(data), "1"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SUPPORT)},
        )
        assert self._process.stdout
        if json.loads(self._process.stdout.readline()) != "ready":
            raise SystemExit("the service did not come up")
        _until_idle(psutil.Process(self._process.pid))
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._send, self._listen)]
        for thread in self._threads:
            thread.start()

    def _send(self) -> None:
        assert self._process.stdin
        begun = time.monotonic()
        while not self._stop.is_set():
            due = int((time.monotonic() - begun) * self._rate)
            lines = []
            while self.sent < due:
                self.sent += 1
                command = {
                    "command": "create_task",
                    "command_id": f"now-{self.sent:08d}",
                    "type": "quick",
                    "held": True,
                }
                lines.append(json.dumps(command).encode() + b"\n")
            self._process.stdin.write(b"".join(lines))
            self._process.stdin.flush()
            self._stop.wait(0.02)

    def _listen(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if not line.startswith(b"["):
                continue  # its last word
            said = json.loads(line)
            if not said[1]:
                self.acknowledged[said[0]] = said[3]

    def reached(self, number: int) -> None:
        """Wait until that many are acknowledged."""
        until = time.monotonic() + 120
        while len(self.acknowledged) < number:
            if time.monotonic() > until:
                raise SystemExit("the service acknowledges nothing any more")
            time.sleep(0.01)

    def end(self) -> None:
        """Stop normally."""
        self._stop.set()
        self._threads[0].join()
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(timeout=120)
        self._threads[1].join()


def _until_idle(service: psutil.Process) -> None:
    """Wait until a service that has just started has folded its views and saved its first snapshot."""
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline:
        processes = [service, *service.children(recursive=True)]
        before = sum(sum(one.cpu_times()[:2]) for one in processes)
        time.sleep(1)
        with suppress(psutil.NoSuchProcess):  # one of them has just ended: look again
            if sum(sum(one.cpu_times()[:2]) for one in processes) - before < IDLE:
                return
    raise SystemExit("the service does not come to rest")


def tasktrail(*words: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "tasktrail", *map(str, words), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def told(process: "subprocess.Popen[str]") -> dict[str, Any] | None:
    """Return a command's output; None when it failed or was killed."""
    out, _err = process.communicate()
    answer: dict[str, Any] | None = json.loads(out) if process.returncode == 0 else None
    return answer


def digest_of(path: Path) -> str:
    """Return a short digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def missing_in(log: Path, acknowledged: dict[str, int]) -> list[str]:
    """Return the commands that a log lacks at the place of their acknowledgement."""
    with closing(SqliteLogReader(log)) as reader:
        have = {record.command_id: record.position for record in reader.read() if record.command_id.startswith("now-")}
    return [one for one, position in acknowledged.items() if have.get(one) != position]


class Attack:
    """One run. `found` lists what was wrong."""

    def __init__(self, work: Path, rng: random.Random) -> None:
        self.work = work
        self.rng = rng
        self.found: list[str] = []
        self.slowest = {"whole": 0.0, "incremental": 0.0}
        self.verified = self.killed = self.half_way = 0
        self._seconds = {"whole": 0.0, "incremental": 0.0}
        """How long the last one took."""
        self._earlier: Path | None = None

    def back_up(self, load: Load, number: int) -> None:
        """Make one backup under load, restore and verify it. The first of five is full, the others have a base."""
        copy, new = self.work / f"{number}.db", self.work / "restored"
        kind = "whole" if self._earlier is None or number % 5 == 1 else "incremental"
        load.reached(len(load.acknowledged) + 10)
        before = dict(load.acknowledged)
        begun = time.monotonic()
        taken = told(self._start(kind, copy))
        seconds = self._seconds[kind] = time.monotonic() - begun
        if taken is None or bool(taken["base"]) != (kind == "incremental"):
            self.found.append(f"{kind} backup {number} failed: {taken}")
            return
        if taken["size"] >= WORTH_TIMING:
            self.slowest[kind] = max(self.slowest[kind], seconds / taken["size"] * GB)
        restored = told(tasktrail("--data", new, "restore", copy))
        if restored is None or restored["head"] != taken["head"]:
            self.found.append(f"{kind} backup {number} was not restored as it was taken")
        else:
            self.verified += 1
            if lost := missing_in(new / "log.db", before):
                self.found.append(f"backup {number} lacks {len(lost)} of {len(before)} that were acknowledged before")
        print(
            f"  {kind} backup {number}: {taken['size'] / 1e6:.0f} MB in {seconds:.2f} s, {taken['records_added']} "
            f"records added, {len(before)} acknowledged before",
            flush=True,
        )
        shutil.rmtree(new, ignore_errors=True)
        if self._earlier is not None:
            self._earlier.unlink()
        self._earlier = copy

    def _start(self, kind: str, copy: Path) -> "subprocess.Popen[str]":
        base = ("--base", self._earlier) if kind == "incremental" else ()
        return tasktrail("--data", self.work / "data", "backup", copy, *base)

    def kill_a_backup(self, number: int, kind: str) -> None:
        """Kill a backup: half a backup has no name, and the one it is based on is whole."""
        assert self._earlier is not None
        copy, before = self.work / f"killed-{number}.db", digest_of(self._earlier)
        part = self.work / f".{copy.name}.part"
        process = self._start(kind, copy)
        while not part.exists() and process.poll() is None:
            time.sleep(0.002)
        time.sleep(self.rng.uniform(0, self._seconds[kind] / 2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.killed += 1
        self.half_way += part.exists()
        if copy.exists():
            with closing(SqliteLogReader(copy)) as log:
                if not verify(log).ok:
                    self.found.append(f"a killed {kind} backup has a name and is not sound: {copy.name}")
            copy.unlink()
        part.unlink(missing_ok=True)
        if digest_of(self._earlier) != before:
            self.found.append(f"a killed {kind} backup has changed the one before it")

    def kill_a_restore(self, old: Path, copy: Path) -> None:
        """Kill a restore: the old log or the new one is in its place, whole."""
        data = self.work / "half"
        shutil.copytree(old, data)
        due = {_head(data / "log.db"), _head(copy)}
        process = tasktrail("--data", data, "restore", copy, "--force")
        time.sleep(self.rng.uniform(0.1, 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        self.killed += 1
        with closing(SqliteLogReader(data / "log.db")) as log:
            if _head(data / "log.db") not in due or not verify(log).ok:
                self.found.append("a killed restore has left a log that was never there")
        again = told(tasktrail("--data", data, "restore", copy, "--force"))
        if again is None:
            self.found.append("a killed restore could not be repeated")
        shutil.rmtree(data)


def _head(log: Path) -> tuple[int, str]:
    with closing(SqliteLogReader(log)) as reader:
        head = reader.head()
    return head.position, head.hash.hex()


def run(options: argparse.Namespace, work: Path) -> Attack:
    attack = Attack(work, random.Random(options.seed))
    write_log(work / "data", options.megabytes * 1_000_000)
    load = Load(work / "data", options.rate)
    begun = time.monotonic()
    for number in range(1, options.backups + 1):
        attack.back_up(load, number)
        if number % 3 == 0:
            for kind in attack.slowest:
                attack.kill_a_backup(number, kind)
    seconds = time.monotonic() - begun
    load.end()
    print(f"  {len(load.acknowledged)} of {load.sent} acknowledged, {len(load.acknowledged) / seconds:.0f} a second")
    if lost := missing_in(work / "data" / "log.db", load.acknowledged):
        attack.found.append(f"the log itself lacks {len(lost)}")
    write_log(work / "small", 1_000_000)
    small = told(tasktrail("--data", work / "small", "backup", work / "small.db"))
    assert small is not None
    with closing(SqliteEventLog(work / "small" / "log.db", now=SystemClock().now())) as log:
        fact = Fact(small["position"] + 1, 1, Created(type="quick", held=True), SystemClock().now(), life=1)
        log.append([fact], expected=small["position"])
    for _ in range(options.kills):
        attack.kill_a_restore(work / "small", work / "small.db")
    return attack


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backups", type=int, default=100)
    parser.add_argument("--kills", type=int, default=20, help="of restores")
    parser.add_argument("--megabytes", type=int, default=200, help="size of the log at the begin")
    parser.add_argument("--rate", type=int, default=1000, help="commands a second")
    parser.add_argument("--short", action="store_true", help="4 backups of 5 MB, 2 kills")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    options = parser.parse_args()
    if options.short:
        options.backups, options.kills, options.megabytes = 4, 2, 5
    with tempfile.TemporaryDirectory(prefix="tasktrail-backup-") as folder:
        attack = run(options, Path(folder))
    for kind, slowest in attack.slowest.items():
        if slowest > SECONDS_A_GB:
            attack.found.append(f"a backup took {slowest:.1f} s a GB ({kind})")
    print(*attack.found[:20], sep="\n")
    print(
        f"{attack.verified} of {options.backups} backups restored and verified, a whole one at most "
        f"{attack.slowest['whole']:.1f} s a GB, one from an earlier one {attack.slowest['incremental']:.1f}, "
        f"{attack.killed} killed, {attack.half_way} of them half-way, {len(attack.found)} findings, "
        f"seed {options.seed}"
    )
    return 1 if attack.found else 0


if __name__ == "__main__":
    sys.exit(main())
