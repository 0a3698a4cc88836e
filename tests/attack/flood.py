"""Floods a service's port: idle connections, unread streams, bodies that do not end, long questions.

Meanwhile two clients submit tasks, one through the Unix socket and one through the port, and the command line is used.
Promised: 99 of 100 submits are answered within 250 ms, the service and the processes that read for it stay below 512
MiB, standard error grows by less than 1 MB a minute, nothing acknowledged is missing, and the memory is given back.
"""

import argparse
import asyncio
import json
import math
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import msgspec
import psutil
from PIL import Image
from served import served

from tasktrail import Client
from tasktrail.events import Checkpoint, Checkpointed, Completed, Created, Fact, Started
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.projections import TaskFilters

MIB = 1024 * 1024
BODY = 14 * MIB
CHECKPOINT = 200_000
"""Bytes of each of the large records in the streams."""
MAX_RSS = 512 * MIB
MAX_ERRORS = 1_000_000
"""Bytes of standard error a minute."""
DOCUMENT = 4711
HEAD = "Host: 127.0.0.1\r\nContent-Type: application/json\r\n"


class Size(msgspec.Struct, frozen=True):
    """How much of each kind, and for how long."""

    records: int
    idle: int
    streams: int
    bodies: int
    questions: int
    seconds: float
    p99: float
    """Seconds. The promise is 0.25; a short run has too few submits for it."""


FULL = Size(150_000, 10_000, 1_000, 500, 50, 60.0, 0.25)
SHORT = Size(6_000, 600, 60, 40, 12, 6.0, 2.0)


def fill(path: Path, records: int) -> int:
    """Write a log of completed tasks, and one that has saved large checkpoints; return its last position."""
    moment = datetime.now(UTC) - timedelta(days=1)
    log = SqliteEventLog(path, now=moment)
    position = 0
    created = Created(type="image_thumbnail", input_file="/in.png", output_file="/out.jpg", options={"size": 200})
    for first in range(1, records // 3, 5_000):
        facts = []
        for task_id in range(first, min(first + 5_000, records // 3)):
            facts += [
                Fact(task_id, 1, created, moment, life=1),
                Fact(task_id, 2, Started(effective_priority=5.0), moment, attempt=1, life=1),
                Fact(task_id, 3, Completed(), moment, attempt=1, life=1),
            ]
        log.append(facts, expected=position)
        position += len(facts)
    task_id = records // 3
    facts = [
        Fact(task_id, 1, created, moment, life=1),
        Fact(task_id, 2, Started(effective_priority=5.0), moment, attempt=1, life=1),
    ]
    for version in range(3, 103):
        saved = Checkpointed(checkpoint=Checkpoint(data={"text": "x" * CHECKPOINT}))
        facts.append(Fact(task_id, version, saved, moment, attempt=1, life=1))
    facts.append(Fact(task_id, 103, Completed(), moment, attempt=1, life=1))
    log.append(facts, expected=position)
    log.close()
    return position + len(facts)


@contextmanager
def serving(data: Path, errors: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run a service on the folder; return its port's address, which recognises all requests."""
    with served(data, errors) as running:
        os.environ["TASKTRAIL_TOKEN"] = (data / "http-token").read_text().strip()
        yield running


class Flood:
    """The attacker: one event loop with all its sockets."""

    def __init__(self, address: str, size: Size, head: int, random_: random.Random) -> None:
        url = httpx.URL(address)
        self._target = (url.host, url.port or 0)
        self._size = size
        self._head = head
        self._random = random_
        self._lines = f"{HEAD}Authorization: Bearer {os.environ['TASKTRAIL_TOKEN']}\r\n"
        self._half = memoryview(b" " * (BODY - 1))
        self.seen: Counter[str] = Counter()

    async def _connect(self, buffer: int = 0) -> socket.socket:
        one = socket.socket()
        one.setblocking(False)  # noqa: FBT003 - the library's own
        if buffer:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        try:
            await asyncio.get_running_loop().sock_connect(one, self._target)
        except BaseException:
            one.close()
            raise
        return one

    async def idle(self) -> None:
        """Hold a silent connection; when it is closed, open another a while later."""
        while True:
            with suppress(OSError):
                with await self._connect() as one:
                    self.seen["idle connections"] += 1
                    await asyncio.get_running_loop().sock_recv(one, 1)
                self.seen["idle connections closed by the service"] += 1
            await asyncio.sleep(self._random.uniform(20, 60))

    async def stream(self) -> None:
        """Open a stream without reading it, from a place where records are small or large."""
        while True:
            with suppress(OSError), await self._connect(buffer=4096) as one:
                after = self._random.choice((0, self._head - 110, self._head - 60))
                accept = self._random.choice(("Accept: text/event-stream\r\n", ""))
                text = f"GET /v1/events?follow=true&after={after} HTTP/1.1\r\n{accept}{self._lines}\r\n"
                loop = asyncio.get_running_loop()
                await loop.sock_sendall(one, text.encode())
                status = (await loop.sock_recv(one, 12))[9:].decode() or "cut"
                self.seen[f"streams: {status}"] += 1
                if status == "200":
                    await asyncio.sleep(self._size.seconds)
            await asyncio.sleep(self._random.uniform(1, 5))

    async def body(self) -> None:
        """Send a request without the last byte of its body."""
        while True:
            with suppress(OSError), await self._connect() as one:
                loop = asyncio.get_running_loop()
                text = f"POST /v1/commands HTTP/1.1\r\n{self._lines}Content-Length: {BODY}\r\n\r\n"
                await loop.sock_sendall(one, text.encode())
                self.seen["bodies begun"] += 1
                sending = asyncio.create_task(loop.sock_sendall(one, self._half))
                try:
                    status = (await loop.sock_recv(one, 12))[9:].decode() or "cut"
                finally:
                    sending.cancel()
                    await asyncio.gather(sending, return_exceptions=True)
                self.seen[f"bodies: {status}"] += 1
            await asyncio.sleep(self._random.uniform(1, 5))

    async def question(self) -> None:
        """Ask for a list as of an earlier time, again and again."""
        while True:
            with suppress(OSError), await self._connect() as one:
                loop = asyncio.get_running_loop()
                text = f"GET /v1/tasks?as_of={self._head} HTTP/1.1\r\n{self._lines}\r\n"
                await loop.sock_sendall(one, text.encode())
                status = (await loop.sock_recv(one, 4096))[9:12].decode() or "cut"
                self.seen[f"long questions: {status}"] += 1
            await asyncio.sleep(1)

    async def run(self, ready: threading.Event, over: threading.Event) -> None:
        """Run everything, until it is over."""
        kinds = [(self.question, self._size.questions), (self.stream, self._size.streams)]
        kinds += [(self.body, self._size.bodies), (self.idle, self._size.idle)]
        tasks = []
        for kind, number in kinds:
            for begun in range(number):
                tasks.append(asyncio.create_task(kind()))
                if begun % 50 == 49:
                    await asyncio.sleep(0.02)  # the backlog is not the target
        ready.set()
        await asyncio.to_thread(over.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


SUBMITTER = """
import json, os, sys, time
from pathlib import Path
from tasktrail import Client
from tasktrail.events.errors import TasktrailError
where, seconds, document, picture, out = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
token, unix = os.environ["TASKTRAIL_TOKEN"], "http://localhost"
client = Client(where, token=token) if where.startswith("http:") else Client(unix, socket=Path(where))
took, refused, end = [], [], time.monotonic() + seconds
while time.monotonic() < end:
    begun = time.monotonic()
    try:
        client.create_task(type="image_thumbnail", input_file=picture, output_file=f"{out}-{len(took)}.jpg", held=True,
                           document_id=document)
        took.append(time.monotonic() - begun)
    except TasktrailError as error:
        refused.append(f"{error.code}: {error}")
    time.sleep(max(0.0, 0.04 - (time.monotonic() - begun)))
print(json.dumps([took, refused]))
"""


def submitters(data: Path, address: str, seconds: float) -> list[subprocess.Popen[bytes]]:
    """Start two processes that submit, 25 a second each; each prints how long the answers took, and the refusals."""
    picture = data.parent / "in.png"
    places = (str(data / "tasktrail.sock"), address)
    return [
        subprocess.Popen(
            [
                sys.executable,
                "-c",
                SUBMITTER,
                where,
                str(seconds),
                str(DOCUMENT),
                str(picture),
                str(data.parent / f"out{number}"),
            ],
            stdout=subprocess.PIPE,
        )
        for number, where in enumerate(places)
    ]


def memory_of(service: psutil.Process) -> tuple[int, int]:
    """Return resident bytes of the service with the processes that read for it, and how many of these there are.

    Shared pages are counted in each. Workers and reapers are not counted: they do no work here.
    """
    total, readers = service.memory_info().rss, 0
    for child in service.children():
        with suppress(psutil.Error):
            if "tasktrail.api.reader_process" in child.cmdline():
                total += child.memory_info().rss
                readers += 1
    return total, readers


def p(values: list[float], share: float) -> float:
    """Return a percentile, in seconds."""
    return sorted(values)[min(len(values) - 1, math.ceil(share * len(values)) - 1)]


def attack(folder: Path, size: Size, seed: int) -> list[str]:
    """Run everything; return the broken promises."""
    data, errors = folder / "data", folder / "stderr"
    data.mkdir(mode=0o700)
    Image.new("RGB", (64, 48), "teal").save(folder / "in.png")
    begun = time.monotonic()
    head = fill(data / "log.db", size.records)
    print(f"a log of {head:,} records, made in {time.monotonic() - begun:.1f} s", flush=True)
    with serving(data, errors) as (process, address):
        service = psutil.Process(process.pid)
        before, _ = memory_of(service)
        print(f"the service answers at {address}; {before / MIB:.0f} MiB", flush=True)
        flood = Flood(address, size, head, random.Random(seed))
        ready, over = threading.Event(), threading.Event()

        def strike() -> None:
            os.nice(5)  # of this thread: the service must not wait for the attacker's own arithmetic
            asyncio.run(flood.run(ready, over))

        attacker = threading.Thread(target=strike)
        attacker.start()
        ready.wait(120)
        print(f"the flood stands: {dict(flood.seen)}", flush=True)
        said, started = errors.stat().st_size, time.monotonic()
        clients = submitters(data, address, size.seconds)
        most, readers, commands = watch(service, data, clients)
        took, refused = [], []
        for one in clients:
            answers, refusals = json.loads(one.communicate()[0])
            took.append(answers)
            refused += refusals
        minutes = (time.monotonic() - started) / 60
        told = (errors.stat().st_size - said) / minutes
        over.set()
        attacker.join(60)
        print(f"seen by the attacker: {dict(sorted(flood.seen.items()))}", flush=True)
        after = calmed(service, before)
        with Client("http://localhost", socket=data / "tasktrail.sock") as client:
            kept = client.list_tasks(TaskFilters(document_id=DOCUMENT, limit=1))[1]
    return judged(size, took, refused, kept, most, after, told, readers, commands)


def watch(service: psutil.Process, data: Path, clients: list[subprocess.Popen[bytes]]) -> tuple[int, int, list[int]]:
    """Return the most resident bytes and readers while the clients run, and the exit codes of the command line."""
    most = readers = 0
    codes: list[int] = []
    command = [sys.executable, "-m", "tasktrail", "--data", str(data), "stats"]
    using: subprocess.Popen[bytes] | None = None
    while any(one.poll() is None for one in clients):
        if using is None or using.poll() is not None:
            codes += [] if using is None else [using.returncode]
            using = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        now, reading = memory_of(service)
        most, readers = max(most, now), max(readers, reading)
        time.sleep(0.25)
    if using is not None:
        codes.append(using.wait(60))
    return most, readers, codes


def calmed(service: psutil.Process, before: int) -> int:
    """Return resident bytes once memory was given back, at most 45 s later."""
    deadline = time.monotonic() + 45
    now = memory_of(service)
    while time.monotonic() < deadline and (now[1] or now[0] > before + 32 * MIB):
        time.sleep(0.5)
        now = memory_of(service)
    return now[0]


def judged(
    size: Size,
    took: list[list[float]],
    refused: list[str],
    kept: int,
    most: int,
    after: int,
    told: float,
    readers: int,
    commands: list[int],
) -> list[str]:
    """Print the figures; return the broken promises."""
    broken = []
    for where, answers in zip(("Unix socket", "port"), took, strict=True):
        if not answers:
            broken.append(f"no submit through the {where} was answered")
            continue
        p50, p99, worst = p(answers, 0.5), p(answers, 0.99), max(answers)
        print(
            f"{len(answers)} submits, {where}: p50 {p50 * 1e3:.0f} ms, p99 {p99 * 1e3:.0f} ms, max {worst * 1e3:.0f} ms"
        )
        if p99 > size.p99:
            broken.append(f"p99 through the {where} is {p99 * 1e3:.0f} ms, more than {size.p99 * 1e3:.0f} ms")
    acknowledged = sum(map(len, took))
    print(
        f"{len(refused)} submits refused {Counter(refused).most_common(3)}; {kept} of {acknowledged} acknowledged kept"
    )
    print(f"memory: at most {most / MIB:.0f} MiB with {readers} reading processes, {after / MIB:.0f} MiB afterwards")
    print(f"standard error: {told / 1e3:.1f} kB a minute")
    print(f"command line: {len(commands)} runs, {sum(map(bool, commands))} failed")
    if kept < acknowledged:
        broken.append(f"{acknowledged - kept} acknowledged tasks are missing")
    if refused:
        broken.append(f"{len(refused)} submits were refused")
    if most > MAX_RSS:
        broken.append(f"{most / MIB:.0f} MiB resident")
    if after > most // 2 + 64 * MIB and after > 200 * MIB:
        broken.append(f"{after / MIB:.0f} MiB are not given back")
    if told > MAX_ERRORS:
        broken.append(f"{told / 1e6:.1f} MB of standard error a minute")
    if any(commands):
        broken.append("the command line has failed")
    return broken


def main() -> int:
    """Return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a small flood of a few seconds")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, help="how long the flood stands")
    arguments = parser.parse_args()
    size = SHORT if arguments.short else FULL
    if arguments.seconds:
        size = msgspec.structs.replace(size, seconds=arguments.seconds)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = size.idle + size.streams + size.bodies + size.questions + 200
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, max(hard, needed)))
    folder = Path(tempfile.mkdtemp(prefix="tasktrail-flood-"))
    try:
        broken = attack(folder, size, arguments.seed)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for one in broken:
        print(f"BROKEN: {one}")
    print(f"flood: {len(broken)} promises broken", flush=True)
    return min(len(broken), 1)


if __name__ == "__main__":
    sys.exit(main())
