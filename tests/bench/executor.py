"""The raw executor: start-up, memory, no-op attempts a second beside their floor, how soon a kill is told, and how soon
an attempt begins in a sandboxed process that was kept for it.

    PYTHONPATH=tests/support python tests/bench/executor.py [--workers 2 16] [--attempts 40000] [--rounds 5]
        [--kills 20] [--starts 200]

The floor is a pair of pipes to a child process that answers each frame with a frame and decodes nothing else; both are
measured in turn, round by round, so that a busy machine slows both. One JSON line per figure.
"""

import argparse
import json
import os
import selectors
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from inline_executor import Reports

from tasktrail.actors.workers.local_executor import LocalExecutor
from tasktrail.events.reports import AttemptEnded, AttemptProgressed, CapacityChanged, Report, Run, Stop
from tasktrail.events.task_events import Estimated
from tasktrail.handlers.process.sandbox import Sandbox

BENCH = Path(__file__).parent
SUPPORT = Path(__file__).parent.parent / "support"
_RESERVED = Estimated(memory=64 * 1024 * 1024)
"""The reservation of an attempt whose type declares no need."""
_GAP = 0.02
"""Seconds."""
HOMES = {name: f"sample_handlers:{name}" for name in ("noop", "hog", "parent")}
_ECHO = """
import os, msgspec
decoder, encode = msgspec.msgpack.Decoder(), msgspec.msgpack.encode
while data := os.read(0, 65536):
    body = encode(decoder.decode(data[4:])[:2])
    os.write(1, len(body).to_bytes(4, "little") + body)
"""


def run(task_type: str, task_id: int, **options: object) -> Run:
    """Make a run in a folder that is never created."""
    return Run(task_id, 1, task_type, "", "", options, None, f"/nowhere/{task_id}", grace=0.2)


class Drain:
    """Keeps one no-op attempt in flight per worker until a number of them have ended."""

    def __init__(self, executor: LocalExecutor, workers: int) -> None:
        self._executor = executor
        self._workers = workers
        self._next = 0
        self._left = 0
        self._done = threading.Event()
        self._ready = threading.Event()
        begun = time.perf_counter()
        executor.open(self._take)
        self._ready.wait()
        self.start_up = time.perf_counter() - begun

    def rate(self, attempts: int) -> float:
        """Return attempts a second."""
        self._left = attempts
        self._done.clear()
        begun = time.perf_counter()
        self._executor.do([self._new() for _ in range(self._workers)])
        self._done.wait()
        return attempts / (time.perf_counter() - begun)

    def _new(self) -> Run:
        self._next += 1
        return run("noop", self._next)

    def _take(self, reports: list[Report]) -> None:
        orders = []
        for report in reports:
            if type(report) is AttemptEnded:
                self._left -= 1
                if self._left >= self._workers:
                    orders.append(self._new())
                elif self._left == 0:
                    self._done.set()
            elif isinstance(report, CapacityChanged) and report.slots == self._workers:
                self._ready.set()
        if orders:
            self._executor.do(orders)


@contextmanager
def echoes(count: int) -> Iterator[list["subprocess.Popen[bytes]"]]:
    """Start the floor's children."""
    children = [
        subprocess.Popen([sys.executable, "-c", _ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        for _ in range(count)
    ]
    yield children
    for child in children:
        child.kill()
        child.communicate()


def floor_rate(children: list["subprocess.Popen[bytes]"], jobs: int) -> float:
    """Return round trips a second with one job in flight per child."""
    selector = selectors.DefaultSelector()
    encode, decoder = msgspec.msgpack.encode, msgspec.msgpack.Decoder()

    def send(child: "subprocess.Popen[bytes]", number: int) -> None:
        body = encode([number, 1, "noop", {}])
        assert child.stdin is not None
        os.write(child.stdin.fileno(), len(body).to_bytes(4, "little") + body)

    for number, child in enumerate(children):
        assert child.stdout is not None
        selector.register(child.stdout.fileno(), selectors.EVENT_READ, child)
        send(child, number)
        decoder.decode(os.read(child.stdout.fileno(), 65536)[4:])  # wait until it is ready
    begun, sent, ended = time.perf_counter(), 0, 0
    for child in children:
        send(child, sent)
        sent += 1
    while ended < jobs:
        for key, _ in selector.select():
            decoder.decode(os.read(key.fd, 65536)[4:])
            ended += 1
            if sent < jobs:
                send(key.data, sent)
                sent += 1
    selector.close()
    return jobs / (time.perf_counter() - begun)


def memory(reports: Reports, executor: LocalExecutor) -> dict[str, int]:
    """Return resident and private bytes of a reaper and its idle worker."""
    executor.do([run("hog", 1)])
    result = reports.end(1).result
    return {
        f"{who}_{kind.lower()}": _bytes_of(result[pid], kind)
        for who, pid in (("reaper", "reaper"), ("worker", "pid"))
        for kind in ("Rss", "Private_Dirty")
    }


def _bytes_of(pid: int, kind: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{kind}:"))


def first_words(reports: Reports, task_id: int) -> str:
    """Return the message of the attempt's first progress report."""
    said = reports.until(lambda report: isinstance(report, AttemptProgressed) and report.task_id == task_id)
    assert isinstance(said, AttemptProgressed)
    return said.message


def kill_latencies(reports: Reports, executor: LocalExecutor, times: int) -> dict[str, list[float]]:
    """Return ms from the kill (or the end of a 200 ms grace) to the reported end, including a detached child."""
    taken: dict[str, list[float]] = {"stop_ignored": [], "worker_killed": [], "reaper_killed": []}
    task_id = 1
    for _ in range(times):
        for how, spent in taken.items():
            task_id += 1
            executor.do([run("parent", task_id, shape="grandchild")])
            worker, reaper, *_ = json.loads(first_words(reports, task_id))
            begun = time.perf_counter()
            if how == "stop_ignored":
                executor.do([Stop(task_id, 1)])
            else:
                os.kill(worker if how == "worker_killed" else reaper, signal.SIGKILL)
            reports.end(task_id)
            spent.append((time.perf_counter() - begun) * 1000 - (200 if how == "stop_ignored" else 0))
    return taken


def tell(figure: str, **values: object) -> None:
    """Print one line."""
    print(json.dumps({"figure": figure, **values}), flush=True)


def measure_rates(workers: int, attempts: int, rounds: int) -> None:
    """Measure no-op attempts and the floor, in turn."""
    executor = LocalExecutor(slots=workers, homes=HOMES, pythonpath=[str(SUPPORT)])
    drain = Drain(executor, workers)
    tell("start_up", workers=workers, ms=round(drain.start_up * 1000))
    with echoes(workers) as children:
        pairs = [(drain.rate(attempts), floor_rate(children, attempts)) for _ in range(rounds)]
    executor.close(10)
    tell(
        "noop_attempts",
        workers=workers,
        per_second=round(statistics.median(rate for rate, _ in pairs)),
        floor=round(statistics.median(floor for _, floor in pairs)),
        ratio=round(statistics.median(rate / floor for rate, floor in pairs), 2),
        spread=[round(min(rate for rate, _ in pairs)), round(max(rate for rate, _ in pairs))],
    )


def measure_kills(times: int) -> None:
    """Measure memory and kill latencies on one slot."""
    executor = LocalExecutor(slots=1, homes=HOMES, pythonpath=[str(SUPPORT)])
    reports = Reports(executor)
    tell("memory", **memory(reports, executor))
    for how, spent in kill_latencies(reports, executor, times).items():
        tell("kill", how=how, p50_ms=round(statistics.median(spent), 1), worst_ms=round(max(spent), 1), n=times)
    executor.close(10)


def measure_starts(times: int) -> None:
    """Measure from the order to the handler's first line, with the machine idle between two of them."""
    homes = {"stamp": "bench_types:stamp"}
    executor = LocalExecutor(slots=1, homes=homes, pythonpath=[str(BENCH)], sandbox=Sandbox(mode="auto"))
    reports, taken = Reports(executor), []
    for task_id in range(1, times + 3):
        time.sleep(_GAP)
        begun = time.clock_gettime(time.CLOCK_MONOTONIC)
        executor.do([msgspec.structs.replace(run("stamp", task_id), estimate=_RESERVED)])
        taken.append((reports.end(task_id).result["began"] - begun) * 1e6)
    executor.close(10)
    taken = sorted(taken[2:])  # the first one loads the type and makes the process
    tell("start", p50_us=round(statistics.median(taken)), p99_us=round(taken[times * 99 // 100]), n=times)


def main() -> None:
    """Measure everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[2, 16])
    parser.add_argument("--attempts", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--starts", type=int, default=200)
    arguments = parser.parse_args()
    for workers in arguments.workers:
        measure_rates(workers, arguments.attempts, arguments.rounds)
    measure_kills(arguments.kills)
    measure_starts(arguments.starts)


if __name__ == "__main__":
    main()
