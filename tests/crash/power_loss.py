"""Cut the power, in simulation: every disk that a service could leave is checked against its acknowledgements.

python tests/crash/power_loss.py --images 1000 --seed 7

One run of the service is recorded with strace: each write, truncation, fsync and unlink of log and views, and each
acknowledgement on standard output, in one order. A power cut may come between any two of them. Everything fsynced by
then is on the disk; of the rest, a disk may have kept nothing, some writes, or some 512-byte sectors of them, in any
combination, and a name in a folder that was not fsynced may exist or not. For random cuts and combinations the files
are rebuilt and opened as a start would: everything acknowledged before the cut is in the log, the log verifies, and the
views are not ahead of it.

The same is done first with a service whose log does not fsync: if nothing were lost there, this check would be blind.
Without strace it says so and exits with success.
"""

import argparse
import json
import os
import random
import re
import runpy
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tasktrail.api.reader import Reader
from tasktrail.backups.evidence import missing_record
from tasktrail.events import TasktrailError
from tasktrail.events.clock import SystemClock
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.paths import DataPaths

SUPPORT = Path(__file__).parent.parent / "support"
CALLS = "pwrite64,write,fdatasync,fsync,ftruncate,unlink,openat"
FILES = re.compile(r"(log|views)\.db(-wal|-journal)?")
SECTOR = 512
COMMANDS = 300
_CALL = re.compile(r"(?P<pid>\d+) +(?P<call>\w+)\((?P<rest>.*)")
_RESUMED = re.compile(r"(?P<pid>\d+) +<\.\.\. (?P<call>\w+) resumed>.*= (?P<answer>-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FILE = re.compile(r"^(?P<fd>\d+)<(?P<path>[^>]*)>")


class Step(NamedTuple):
    """One operation, in the order of the trace."""

    kind: str
    """write, cut (a truncation), sync, make, drop, names (the folder was synced), ack."""
    file: str = ""
    data: bytes = b""
    at: int = 0
    began: int = 0
    """For a sync: how many steps had happened when it began; it need not cover later ones."""
    ack: tuple[str, int] = ("", 0)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def read_trace(trace: Path, data: Path) -> list[Step]:
    """Return the steps of a recorded run that concern log, views and acknowledgements."""
    steps: list[Step] = []
    waiting: dict[str, tuple[str, int]] = {}
    voice = ""
    with trace.open(errors="replace") as lines:
        for line in lines:
            if resumed := _RESUMED.match(line):
                file, began = waiting.pop(resumed["pid"], ("", 0))
                if file and resumed["answer"] == "0":
                    steps.append(_synced(file, began))
                continue
            call = _CALL.match(line)
            if call is None:
                continue
            if call["call"] in ("fdatasync", "fsync") and "<unfinished" in line:
                waiting[call["pid"]] = (_place(call["rest"], data), len(steps))
                continue
            if call["call"] == "write":
                said = _TEXT.search(call["rest"])
                if said and _bytes(said[1]) == b'"ready"\n':
                    voice = call["rest"].partition(">")[0]  # children write to other pipes
                elif said and voice and call["rest"].startswith(voice):
                    steps += _acknowledged(_bytes(said[1]))
                continue
            steps += _steps(call["call"], call["rest"], data, len(steps))
    return steps


def _place(rest: str, data: Path) -> str:
    """Return the file's name in the data folder, `.` for the folder itself; empty for any other file."""
    found = _FILE.match(rest)
    path = Path(os.fsdecode(_bytes(found["path"]))) if found and "\\x" in found["path"] else Path()
    if path == data:
        return "."
    return path.name if path.parent == data and FILES.fullmatch(path.name) else ""


def _synced(file: str, began: int) -> Step:
    return Step("names") if file == "." else Step("sync", file, began=began)


def _steps(call: str, rest: str, data: Path, now: int) -> Iterator[Step]:
    match call:
        case "fdatasync" | "fsync":
            file = _place(rest, data)
            if file and rest.rstrip().endswith("= 0"):
                yield _synced(file, now)
        case "pwrite64" if file := _place(rest, data):
            text, numbers = _TEXT.search(rest), re.search(r'", (\d+), (\d+)', rest)
            assert text, rest[:80]
            assert numbers, rest[-80:]
            assert len(_bytes(text[1])) == int(numbers[1]), "strace has cut a write short"
            yield Step("write", file, _bytes(text[1]), int(numbers[2]))
        case "ftruncate" if file := _place(rest, data):
            size = re.search(r">, (\d+)", rest)
            assert size, rest[:80]
            yield Step("cut", file, at=int(size[1]))
        case "unlink" | "openat" if text := _TEXT.search(rest):
            path = Path(os.fsdecode(_bytes(text[1])))
            if path.parent == data and FILES.fullmatch(path.name):
                if call == "unlink":
                    yield Step("drop", path.name)
                elif "O_CREAT" in rest:
                    yield Step("make", path.name)


def _acknowledged(said: bytes) -> Iterator[Step]:
    for line in said.splitlines():
        answer = json.loads(line)
        if isinstance(answer, list) and not answer[1]:
            yield Step("ack", ack=(answer[0], answer[3]))


class Disk:
    """The possible content of a disk after some steps. Each file is a list of writes, some of them surely there."""

    def __init__(self) -> None:
        self.files: dict[int, list[tuple[int, Step]]] = {}
        self.synced: dict[int, int] = {}
        """File → number of the step up to which all its writes are on the disk."""
        self.names: dict[str, int] = {}
        """As the running system sees them."""
        self.kept_names: dict[str, int] = {}
        """As they are on the disk for sure."""
        self.changes: list[tuple[str, int | None]] = []
        """Of names, since the folder was last synced."""
        self.acknowledged: dict[str, int] = {}

    def do(self, number: int, step: Step) -> None:
        """Apply a step."""
        match step.kind:
            case "make" if step.file not in self.names:
                self.names[step.file] = number
                self.files[number] = []
                self.synced[number] = 0
                self.changes.append((step.file, number))
            case "drop" if step.file in self.names:
                del self.names[step.file]
                self.changes.append((step.file, None))
            case "write" | "cut":
                self.files[self.names[step.file]].append((number, step))
            case "sync" if step.file in self.names:
                self.synced[self.names[step.file]] = step.began
            case "names":
                self.kept_names = dict(self.names)
                self.changes.clear()
            case "ack":
                self.acknowledged.setdefault(*step.ack)

    def image(self, folder: Path, rng: random.Random, mode: str) -> None:
        """Write one of the possible disks to a folder."""
        names = dict(self.kept_names)
        # A file system keeps changes of names in order: an initial part of them is there.
        for name, file in self.changes[: rng.randint(0, len(self.changes))]:
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file
        for name, file in names.items():
            (folder / name).write_bytes(self._content(file, rng, mode))

    def _content(self, file: int, rng: random.Random, mode: str) -> bytes:
        content = bytearray()
        for number, step in self.files[file]:
            sure = number < self.synced[file]
            if not sure and (mode == "nothing" or (mode == "some" and rng.random() < 0.5)):
                continue
            if step.kind == "cut":
                if sure or rng.random() < 0.5:
                    del content[step.at :]
                    content.extend(bytes(step.at - len(content)))
                continue
            for begin in range(0, len(step.data), SECTOR):
                if sure or mode != "torn" or rng.random() < 0.5:
                    piece = step.data[begin : begin + SECTOR]
                    content.extend(bytes(max(0, step.at + begin - len(content))))
                    content[step.at + begin : step.at + begin + len(piece)] = piece
        return bytes(content)


def record(data: Path, trace: Path, *, fsync: bool) -> None:
    """Run a service under strace, with commands, to its normal end."""
    child = [sys.executable, str(Path(__file__)), "--serve", str(data), *([] if fsync else ["--no-fsync"])]
    strace = ["strace", "-f", "-y", "-xx", "-s", "200000", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", str(trace)]
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT)}
    with subprocess.Popen(
        [*strace, *child], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as process:
        assert process.stdin
        assert process.stdout
        assert json.loads(process.stdout.readline()) == "ready"
        for number in range(COMMANDS):
            command: dict[str, Any] = {"command": "create_task", "command_id": f"c{number}", "type": "quick"}
            command |= {"reason": "x" * (number * 37 % 900), "held": number % 3 == 0}
            process.stdin.write(json.dumps(command).encode() + b"\n")
            process.stdin.flush()
            time.sleep(0.004)  # so that they are not all one commit
        process.stdin.close()
        process.stdout.read()
    assert process.returncode == 0, "the service did not end in good order"


def look(folder: Path, acknowledged: dict[str, int]) -> list[str]:
    """Return what is wrong with an image."""
    paths = DataPaths(folder)
    if not paths.log.exists():
        return ["there is no log"] if acknowledged else []
    try:
        missing = missing_record(paths)
        log = SqliteEventLog(paths.log, now=SystemClock().now())
        try:
            answers = {command_id: log.answer(command_id) for command_id in acknowledged}
        finally:
            log.close()
        with Reader(folder) as reader:
            findings = reader.verify().findings
    except (TasktrailError, sqlite3.Error) as error:
        return [f"{type(error).__name__}: {error}"]
    lost = [one for one, position in acknowledged.items() if getattr(answers[one], "position", 0) != position]
    wrong = [f"{len(lost)} acknowledged and lost: {lost[:3]}"] if lost else []
    wrong += [f"the views are ahead: {missing[0].position} of {missing[1]}"] if missing else []
    return wrong + [f"position {finding.position}: {finding.message}" for finding in findings]


def images(work: Path, number: int, rng: random.Random, *, fsync: bool) -> tuple[Counter[str], list[str]]:
    """Record a run and check that many images of it; return the counts, and what was wrong."""
    data, trace = work / "data", work / "trace"
    data.mkdir()
    record(data, trace, fsync=fsync)
    steps = read_trace(trace, data)
    counted, found = Counter(step.kind for step in steps), []
    assert counted["ack"] == COMMANDS, counted
    disk, done = Disk(), 0
    for cut in sorted(rng.choices(range(len(steps) + 1), k=number)):
        for at in range(done, cut):
            disk.do(at, steps[at])
        done = cut
        mode = rng.choice(["nothing", "some", "some", "torn"])
        folder = work / "image"
        folder.mkdir()
        disk.image(folder, rng, mode)
        found += [f"cut {cut} of {len(steps)}, {mode}: {wrong}" for wrong in look(folder, disk.acknowledged)]
        shutil.rmtree(folder)
        counted["images"] += 1
    for path in (data, trace):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    return counted, found


def serve(data: str, *, fsync: bool) -> None:
    """Run the service of tests/support, with a log that fsyncs or, as a control, does not."""
    if not fsync:
        begin = SqliteEventLog.append

        def append(log: SqliteEventLog, *args: Any, **kwargs: Any) -> Any:
            log._conn.execute("PRAGMA synchronous = OFF")
            return begin(log, *args, **kwargs)

        setattr(SqliteEventLog, "append", append)  # noqa: B010 - the type checker need not believe it
    sys.argv = ["service_process.py", data, "2"]
    runpy.run_path(str(SUPPORT / "service_process.py"), run_name="__main__")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--serve", metavar="DATA", help=argparse.SUPPRESS)
    parser.add_argument("--no-fsync", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, fsync=not options.no_fsync)
        return 0
    if shutil.which("strace") is None:
        print("power loss: strace is missing, so no images were made")
        return 0
    rng = random.Random(options.seed)
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="tasktrail-power-", dir=memory if memory.is_dir() else None) as folder:
        work = Path(folder).resolve()
        counted, lost = images(work, max(40, options.images // 10), rng, fsync=False)
        print(f"without fsync: {counted['images']} images, {len(lost)} findings", flush=True)
        if not lost:
            print("nothing was lost without fsync: these images show nothing")
            return 1
        counted, found = images(work, options.images, rng, fsync=True)
    print(*found[:20], sep="\n")
    told = ", ".join(f"{counted[kind]} {kind}s" for kind in ("write", "sync", "ack", "image") if counted[kind])
    print(f"power loss: {counted['images']} images, {told}, {len(found)} findings, seed {options.seed}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
