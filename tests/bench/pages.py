"""Axis P: the page at a million tasks: time and size of each page, and the cost of 200 watching readers."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import httpx
import psutil
from harness import SUPPORT, Goal, Table, quantile
from million import million_tasks

PAGES = (
    "/",
    "/tasks",
    "/tasks?status=pending&sort=-priority",
    "/tasks?search=in",
    "/tasks/1",
    "/submit",
    "/batches",
    "/schedules",
    "/limits",
    "/log",
    "/log?task=1",
    "/log?kind=failed",
)
SEEN = ("/", "/tasks", "/tasks/1", "/log")
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
SHARED = ("/live", "/live/log")
EVENTS_A_SECOND = 100
_SERVE = """
import sys, threading, time
from tasktrail.config.settings import Config
from tasktrail.api.service import TaskService
from tasktrail.events import TasktrailError
from tasktrail.http.server import HttpServer
config = Config(workers=1, max_cpu=1, handlers=("bench_types",), snapshot_every=10**9)
rate = int(sys.argv[2])
with TaskService.open(sys.argv[1], config=config) as tasks:
    secret = tasks.paths.http_token
    server = HttpServer(tasks, socket_path=tasks.paths.socket, secret_file=secret)
    server.start()
    if not tasks.queue(0).pauses:
        tasks.pause()
    tasks._system.health.views.wait(600)  # they are checked after a start
    print(tasks.paths.socket, server.address, secret.read_text().strip(), flush=True)
    ended = threading.Event()
    def change():
        due = time.monotonic()
        number = 0
        while rate and not ended.is_set():
            number += 1
            try:
                tasks.adjust_task(1 + number % 1000, priority=number % 11)
            except TasktrailError:  # it is so already, or had started before the pause
                continue
            due += 1 / rate
            time.sleep(max(0.0, due - time.monotonic()))
    changing = threading.Thread(target=change)
    changing.start()
    sys.stdin.read()
    ended.set()
    changing.join()
    server.stop()
"""


def tables(*, quick: bool) -> Iterator[Table]:
    """Make tables of milliseconds and bytes of each page, and of the CPU and growth for watching readers."""
    number = 2_000 if quick else 1_000_000
    loads, followers = (5, 20) if quick else (200, 200)
    found: dict[str, tuple[float, float]] = {}

    def page(path: str, which: int) -> float:
        if path not in found:
            with served(number) as house:
                found.update({one: _load(house.web, one, loads) for one in PAGES})
        return found[path][which] if which else found.pop(path)[0]

    sizes = Table("P2", f"Bytes of a page, {number:,} tasks", "bytes")
    times = Table("P1", f"A page from request to last byte, p99, {number:,} tasks", "ms")
    for path in PAGES:
        sizes.add(path, lambda path=path: page(path, 1), Goal(at_most=150_000))  # type: ignore[misc]  # one a path
        times.add(path, lambda path=path: page(path, 0), Goal(at_most=100))  # type: ignore[misc]  # one a path
    yield sizes
    yield times

    if shutil.which(CHROMIUM) is not None:
        paints: dict[str, float] = {}

        def paint(path: str) -> float:
            if path not in paints:
                with served(number) as house:
                    paints.update(_painted(house, 2 if quick else 10))
            return paints.pop(path)

        painted = Table("P4", f"First paint in Chromium, the slowest of ten visits, {number:,} tasks", "ms")
        for path in SEEN:
            painted.add(path, partial(paint, path), Goal(at_most=500))
        yield painted

    looked: dict[str, float] = {}

    def look(what: str) -> float:
        if what not in looked:
            looked.update(_look_on(number, followers, 2 if quick else 20))
        return looked.pop(what)

    following = Table("P3", f"{followers} open pages at {EVENTS_A_SECOND} events a second, {number:,} tasks", "mixed")
    following.add("CPU of the service, percent of a core", lambda: look("cpu"), Goal(at_most=100))
    following.add("CPU without followers, percent of a core", lambda: look("alone"))
    following.add("resident memory at the end over its start, MB", lambda: look("growth"))
    following.add("updates a page got a second", lambda: look("updates"))
    following.add("a page beside them, p99 in ms", lambda: look("beside"))
    yield following


class House(NamedTuple):
    """A service, and clients of it."""

    web: httpx.Client
    """Over its socket."""
    process: subprocess.Popen[str]
    address: str
    secret: str


@contextmanager
def served(number: int, rate: int = 0) -> Iterator[House]:
    """Run a service with that many tasks in a separate process, which changes `rate` of them a second."""
    service = subprocess.Popen(
        [sys.executable, "-c", _SERVE, str(million_tasks(number)), str(rate)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(SUPPORT), "PATH": ""},
    )
    assert service.stdout is not None
    socket, address, secret = service.stdout.readline().split()
    transport = httpx.HTTPTransport(uds=socket)
    with service, httpx.Client(transport=transport, base_url="http://localhost", timeout=60) as web:
        yield House(web, service, address, secret)
        assert service.stdin is not None
        service.stdin.close()


def _load(web: httpx.Client, path: str, loads: int) -> tuple[float, float]:
    took = []
    answer = web.get(path)
    for _ in range(loads):
        begun = time.perf_counter()
        answer = web.get(path)
        took.append((time.perf_counter() - begun) * 1000)
    assert answer.status_code == 200, (path, answer.text)
    return quantile(took, 0.99), float(len(answer.content))


_FIRST_PAINT = """() => new Promise(say => {
    const tell = list => list.getEntriesByName("first-contentful-paint").forEach(one => say(one.startTime));
    new PerformanceObserver(tell).observe({type: "paint", buffered: true});
})"""


def _painted(house: House, visits: int) -> dict[str, float]:
    """Map each page to the slowest milliseconds from the request to its first picture, each in a new browser."""
    from playwright.sync_api import sync_playwright

    for path in SEEN:
        house.web.get(path)  # the service has answered before, the browser has not asked before
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"] * (os.geteuid() == 0))

        def visit(path: str) -> float:
            shown = {"authorization": f"Bearer {house.secret}"}
            with browser.new_context(extra_http_headers=shown) as context:
                page = context.new_page()
                page.goto(f"{house.address}{path}")
                return float(page.evaluate(_FIRST_PAINT))

        visit(SEEN[0])  # Chromium's own processes exist from here on
        found = {path: max(visit(path) for _ in range(visits)) for path in SEEN}
        browser.close()
    return found


def _look_on(number: int, followers: int, seconds: float) -> dict[str, float]:
    with served(number, EVENTS_A_SECOND) as house:
        process = psutil.Process(house.process.pid)
        assert house.web.get("/healthz").status_code == 200
        socket = million_tasks(number) / "tasktrail.sock"
        alone = _cpu_over(process, seconds)
        figures = asyncio.run(_followed(str(socket), process, followers, seconds))
        return {**figures, "alone": alone}


def _cpu_over(process: psutil.Process, seconds: float) -> float:
    before, begun = sum(process.cpu_times()[:2]), time.perf_counter()
    time.sleep(seconds)
    return 100 * (sum(process.cpu_times()[:2]) - before) / (time.perf_counter() - begun)


def _followed_at(place: int) -> str:
    """Half of the readers share one view; each of the others watches a view of its own."""
    return f"/live/log?task={place}" if place % 2 else SHARED[place // 2 % len(SHARED)]


async def _followed(socket: str, process: psutil.Process, followers: int, seconds: float) -> dict[str, float]:
    """Measure while all but the last few read everything; those stop after the first bytes."""
    got = [0] * followers
    first = asyncio.Event()
    transport = httpx.AsyncHTTPTransport(uds=socket, limits=httpx.Limits(max_connections=None))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", timeout=60) as web:

        async def look(place: int) -> None:
            async with web.stream("GET", _followed_at(place)) as answer:
                async for line in answer.aiter_lines():
                    got[place] += line.startswith("data: ")
                    if min(got):
                        first.set()
                    if place >= followers - 5 and got[place]:
                        await asyncio.sleep(1000)  # it stops reading

        lookers = [asyncio.create_task(look(place)) for place in range(followers)]
        async with asyncio.timeout(60):
            await first.wait()
        await asyncio.sleep(min(5, seconds))
        before, begun = sum(process.cpu_times()[:2]), time.perf_counter()
        resident, seen = process.memory_info().rss, sum(got)
        took = []
        while time.perf_counter() < begun + seconds:
            started = time.perf_counter()
            await web.get("/")
            took.append((time.perf_counter() - started) * 1000)
            await asyncio.sleep(0.2)
        wall = time.perf_counter() - begun
        cpu = 100 * (sum(process.cpu_times()[:2]) - before) / wall
        growth = (process.memory_info().rss - resident) / 1e6
        updates = (sum(got) - seen) / wall / followers
        for one in lookers:
            one.cancel()
        await asyncio.gather(*lookers, return_exceptions=True)
    return {"cpu": cpu, "growth": growth, "updates": updates, "beside": quantile(took, 0.99)}
