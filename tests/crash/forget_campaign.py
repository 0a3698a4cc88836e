"""Kill whoever forgets tasks at each of its calls of the system that change a file, and look what is left.

    python tests/crash/forget_campaign.py --most 1000 --seed 7

A folder with finished tasks is copied; a child forgets most of them, and strace kills it at the nth call of a kind, for
each kind and each n that a thread reaches. Then the log has to verify, and has either all of the tasks or none of
them. The next start has to clear up what was left: nothing of a forgotten task in any file, log and views sound, and
every other task as it was. Without strace it says so and ends well.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

from tasktrail import TaskFilters, TaskService
from tasktrail.config.settings import Config
from tasktrail.events.errors import TaskForgotten
from tasktrail.events.log.sqlite import LogReader
from tasktrail.projections.verification import verify

CALLS = ("pwrite64", "fdatasync", "fsync", "ftruncate", "unlink", "unlinkat", "rmdir", "rename", "openat")
CANARY = "qzxcanary"
GONE, KEPT = 12, 3
_PATIENCE = 30
"""Seconds."""
CONFIG = Config(workers=1, handlers=("sample_handlers",), snapshot_every=20)


def prepare(data: Path) -> None:
    """Tasks that have completed, with something printed, snapshots and views."""
    with TaskService.open(data, config=CONFIG) as service:
        for number in range(GONE + KEPT):
            user = 7 if number >= GONE else 0
            word = "kept" if user else CANARY
            task_id = service.create_task(type="echo", label=word, options={"value": word}, user_id=user)
            service.wait(task_id, 60)
    (data / "output" / "1").mkdir(parents=True, exist_ok=True)
    (data / "output" / "1" / "1.0").write_text(CANARY)


def forget(data: Path) -> int:
    """What the child does."""
    with TaskService.open(data, config=CONFIG, own_only=True) as service:
        return service.forget(0, user_id=0).tasks


def check(data: Path) -> str:
    """Whether it was forgotten, in a word, after a kill and after the start behind it. Raises AssertionError."""
    with closing(LogReader(data / "log.db")) as log:
        found = verify(log)
        assert not found.findings, found.findings
        gone = bool(log.drops())
        positions = [record.position for record in log.read()]
    assert positions == list(range(1, found.position + 1))
    assert bool(found.stubs) == gone
    with TaskService.open(data, config=CONFIG, own_only=True) as service:
        if gone:
            assert service._system.cleared.wait(1, 60), "nothing was cleared up"
        assert service.verify().findings == ()
        tasks, total = service.list_tasks(TaskFilters(user_id=7))
        assert (total, {task.label for task in tasks}) == (KEPT, {"kept"})
        assert service.list_tasks(TaskFilters(user_id=0))[1] == (0 if gone else GONE)
        for task_id in range(1, GONE + 1):
            try:
                assert service.get_task(task_id).label == CANARY
            except TaskForgotten:
                assert gone
        if not gone:
            assert service.forget(0, user_id=0).tasks == GONE
        assert service.create_task(type="noop", held=True) > GONE + KEPT
    left = [path.name for path in data.rglob("*") if path.is_file() and CANARY.encode() in path.read_bytes()]
    assert not left, left
    return "forgotten" if gone else "all there"


def numbers(data: Path) -> dict[str, int]:
    """How often a thread makes each call, at most: strace counts those of each thread by themselves."""
    trace = data.parent / "trace"
    tracing = ["strace", "-f", "-qq", "-o", str(trace), "-e", f"trace={','.join(CALLS)}"]
    subprocess.run([*tracing, *_child(data)], check=True, capture_output=True, timeout=120)
    made = re.findall(r"^(\d+) +(\w+)\(", trace.read_text(errors="replace"), re.MULTILINE)
    most: Counter[str] = Counter()
    for (_thread, call), times in Counter(made).items():
        most[call] = max(most[call], times)
    return dict(most)


def _child(data: Path) -> list[str]:
    return [sys.executable, str(Path(__file__).resolve()), "--forget", str(data)]


def killed(data: Path, call: str, number: int) -> bool:
    """Run the child; whether it was killed at its nth call of a kind.

    Where it is a process of the child's that is killed there, again and again, all are killed after a while.
    """
    tracing = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}"]
    injected = ["-e", f"inject={call}:signal=SIGKILL:when={number}"]
    command = [*tracing, *injected, *_child(data)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True) as child:
        try:
            _said, complaint = child.communicate(timeout=_PATIENCE)
        except subprocess.TimeoutExpired:
            _kill_below(child.pid)
            child.communicate()
            return True
    if child.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL):
        return True
    assert child.returncode == 0, complaint.decode()
    return False


def _kill_below(pid: int) -> None:
    """Kill a process and all below it, the lowest first; workers have sessions of their own."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            _kill_below(int(child))
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--most", type=int, default=10**6, help="of all there are, so many, chosen at random")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--calls", default=",".join(CALLS))
    parser.add_argument("--forget", type=Path)
    arguments = parser.parse_args()
    support = str(Path(__file__).parent.parent / "support")
    sys.path.append(support)
    os.environ["PYTHONPATH"] = support  # for the workers
    if arguments.forget:
        return 0 if forget(arguments.forget) == GONE else 1
    if shutil.which("strace") is None:
        sys.stdout.write("strace is not there: nothing was killed\n")
        return 0
    outcomes: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder:
        origin, data = Path(folder, "origin"), Path(folder, "data")
        prepare(origin)
        shutil.copytree(origin, data, symlinks=True)
        most = numbers(data)
        places = [(call, number) for call in arguments.calls.split(",") for number in range(1, most.get(call, 0) + 1)]
        random.Random(arguments.seed).shuffle(places)
        kills = 0
        for call, number in places[: arguments.most]:
            shutil.rmtree(data, ignore_errors=True)
            shutil.copytree(origin, data, symlinks=True)
            kills += killed(data, call, number)  # or it has made fewer of them this time
            try:
                outcome = check(data)
            except AssertionError as error:
                sys.stdout.write(f"killed at {call} {number}: {error}\n")
                return 1
            outcomes[outcome] = outcomes.get(outcome, 0) + 1
    told = ", ".join(f"{number} times {outcome}" for outcome, number in sorted(outcomes.items()))
    sys.stdout.write(f"{kills} kills: {told}; log and views sound after each\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
