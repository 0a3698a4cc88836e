"""Axis S: a million tasks waiting: a start, from the snapshot and by folding the whole log, memory, metrics, a seal."""

import atexit
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import NamedTuple

import httpx
import psutil
from harness import SUPPORT, Goal, Table, quantile, scratch
from storage import fill, started

from tasktrail.actors.snapshots import take_snapshots
from tasktrail.events.log.sqlite_reader import SqliteLogReader

_EVERY = 10**9
"""Records until the next snapshot, so that none is taken during the measurement."""


def tables(*, quick: bool) -> Iterator[Table]:
    """Make tables of seconds from exec until ready, and bytes of memory for each waiting task."""
    number = 2_000 if quick else 1_000_000
    start = Table("S1", f"Process start until ready, {number:,} waiting tasks", "s")
    start.add("from the snapshot", lambda: started(million_tasks(number), snapshot_every=_EVERY)[0], Goal(at_most=3))
    start.add("by the whole log", lambda: started(million_tasks(number))[0])
    yield start
    memory = Table("S2", f"Resident memory of a waiting task, {number:,} of them", "bytes")
    memory.add("from the snapshot", lambda: _memory(number))
    yield memory
    scraping: dict[str, float] = {}

    def scrape(what: str) -> float:
        if what not in scraping:
            scraping.update(_scrapes(million_tasks(number)))
        return scraping.pop(what)

    metrics = Table("S3", f"A scrape of /metrics, {number:,} waiting tasks", "ms")
    metrics.add("p50", lambda: scrape("p50"), Goal(at_most=20))
    metrics.add("p99", lambda: scrape("p99"), Goal(at_most=20))
    metrics.add("CPU of the service", lambda: scrape("CPU"))
    yield metrics
    seal = Table("S4", f"A seal of {number:,} records of as many tasks", "s")
    seal.add("time", lambda: _sealed(number).seconds)
    seal.add("CPU", lambda: _sealed(number).cpu)
    seal.add("CPU, and the proof of growth for a witness", lambda: _sealed(number, grown=True).cpu)
    yield seal
    sealing = Table("S5", f"Resident memory of the process that seals {number:,} records of as many tasks", "MiB")
    sealing.add("a seal", lambda: _sealed(number).memory)
    sealing.add("and the proof of growth for a witness", lambda: _sealed(number, grown=True).memory)
    yield sealing


class _Cost(NamedTuple):
    seconds: float
    cpu: float
    memory: float


_SEAL = """
import sys
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections.proof.growth import tree_of
from tasktrail.projections.proof.seals import make_seal
folder = Path(sys.argv[2])
with closing(SqliteLogReader(Path(sys.argv[1]))) as log:
    seal, _ = make_seal(log, folder / "seals", folder / "seal-key", datetime.now(UTC))
    if len(sys.argv) > 3:
        tree_of(log, seal.checkpoint.size).consistency(seal.checkpoint.size - 1)
"""


@cache
def _log(number: int) -> Path:
    folder = Path(mkdtemp(prefix="tasktrail-bench-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    fill(folder / "log.db", number, ended=False)
    return folder / "log.db"


def _sealed(number: int, *, grown: bool = False) -> _Cost:
    """Return the cost of a process that seals the log for the first time; `grown`: and proves growth, for a witness."""
    with scratch() as folder:
        command = [sys.executable, "-c", _SEAL, str(_log(number)), str(folder), *["grown"] * grown]
        begun = time.perf_counter()
        process = subprocess.Popen(command)
        _, status, used = os.wait4(process.pid, 0)
        took = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        assert process.returncode == 0
        return _Cost(took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


_SERVE = """
import sys
from tasktrail.config.settings import Config
from tasktrail.api.service import TaskService
from tasktrail.http.server import HttpServer
config = Config(workers=1, max_cpu=1, handlers=("bench_types",), snapshot_every=10**9)
with TaskService.open(sys.argv[1], config=config) as tasks:
    server = HttpServer(tasks, socket_path=tasks.paths.socket)
    server.start()
    tasks._system.health.views.wait(600)  # they are checked after a start
    print(tasks.paths.socket, flush=True)
    sys.stdin.read()
    server.stop()
"""


def _scrapes(folder: Path) -> dict[str, float]:
    """Return milliseconds of a scrape over the Unix socket, from the request to the last byte, and of CPU."""
    service = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(SUPPORT), "PATH": ""},
    )
    assert service.stdout is not None
    transport = httpx.HTTPTransport(uds=service.stdout.readline().strip())
    took = []
    with service, httpx.Client(transport=transport, base_url="http://localhost", timeout=60) as web:
        before = sum(psutil.Process(service.pid).cpu_times()[:2])
        for _ in range(200):
            begun = time.perf_counter()
            page = web.get("/metrics")
            took.append((time.perf_counter() - begun) * 1000)
            assert "tasktrail_queue_tasks{" in page.text
        cpu = (sum(psutil.Process(service.pid).cpu_times()[:2]) - before) * 1000 / len(took)
    return {"p50": quantile(took, 0.5), "p99": quantile(took, 0.99), "CPU": cpu}


def _memory(number: int) -> float:
    """Return how much more memory a service with that many tasks has than one with a single task."""
    full = started(million_tasks(number), snapshot_every=_EVERY)[1]
    return (full - started(million_tasks(1), snapshot_every=_EVERY)[1]) / number


@cache
def million_tasks(number: int) -> Path:
    """Make a data folder with that many waiting tasks, its views up to date, its snapshots taken."""
    folder = Path(mkdtemp(prefix="tasktrail-bench-"))
    atexit.register(rmtree, folder, ignore_errors=True)
    fill(folder / "log.db", number, ended=False)
    started(folder)
    log = SqliteLogReader(folder / "log.db")
    take_snapshots(log, folder / "snapshots")
    log.close()
    return folder
