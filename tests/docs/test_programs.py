"""The programs of the how-to pages run as they are printed there, as processes beside a real service."""

import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasktrail import Client, TaskFilters

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "docs" / "examples"
WITHIN = 60

pytestmark = pytest.mark.slow
Program = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Program]:
    """Start a program in the folder of the example. All end with the test."""
    started: list[subprocess.Popen[str]] = []
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"}

    def start(*words: object) -> subprocess.Popen[str]:
        command = [sys.executable, *map(str, words)]
        program = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(program)
        return program

    yield start
    for program in reversed(started):
        program.terminate()
        program.communicate(timeout=WITHIN)


def serve(folder: Path, example: str, run: Program) -> subprocess.Popen[str]:
    """Put the example's files into a folder, and run a service on `data` that has its task type."""
    for file in (EXAMPLES / example).iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    return ready(run("-m", "tasktrail", "--data", "data", "serve", "work.py"))


def ready(program: subprocess.Popen[str], word: str = "ready") -> subprocess.Popen[str]:
    """Wait until the program has printed this; later output is read as well, so that it never waits for a reader."""
    assert program.stderr is not None
    for line in program.stderr:
        if word in line:
            threading.Thread(target=program.stderr.read, daemon=True).start()
            return program
    raise AssertionError(program.communicate(timeout=WITHIN))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def output(program: subprocess.Popen[str]) -> str:
    printed, errors = program.communicate(timeout=WITHIN)
    assert program.returncode == 0, errors
    return printed


def own_lines(example: str) -> int:
    return sum(1 for line in (EXAMPLES / example).read_text().splitlines() if line)


@pytest.mark.parametrize("example", ["fastapi-site/app.py", "django-site/views.py"])
def test_a_web_program_takes_no_more_than_twenty_five_lines(example: str) -> None:
    assert own_lines(example) <= 25


def test_a_fastapi_program_submits_follows_and_awaits(tmp_path: Path, run: Program) -> None:
    serve(tmp_path, "fastapi-site", run)
    with (tmp_path / "app.py").open("a", encoding="utf-8") as program:
        program.write(programs_of("fastapi")[-1])
    port = free_port()
    ready(run("-m", "uvicorn", "app:app", "--port", port), "Uvicorn running")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WITHIN, trust_env=False) as web:
        task_id = web.post("/counts", params={"text": "one two three"}).json()
        with web.stream("GET", f"/counts/{task_id}/events") as followed:
            told = [json.loads(line.removeprefix("data: ")) for line in followed.iter_lines() if line[:5] == "data:"]
        assert [told[0]["event"], told[-1]["event"]] == ["created", "completed"]
        assert web.get(f"/counts/{task_id}").json() == 3
        assert web.get("/counts/99").status_code == 404


def test_several_processes_of_a_django_site_share_one_service(tmp_path: Path, run: Program) -> None:
    serve(tmp_path, "django-site", run)
    (tmp_path / "refusals.py").write_text(programs_of("django")[-1], encoding="utf-8")
    with (tmp_path / "settings.py").open("a", encoding="utf-8") as settings:
        settings.write('MIDDLEWARE = ["refusals.Refusals"]\n')
    ports = [free_port(), free_port()]
    for port in ports:
        words = ("runserver", "--noreload", "--settings=settings", f"--pythonpath={tmp_path}", f"127.0.0.1:{port}")
        run("-m", "django", *words)
    sites = [httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=WITHIN, trust_env=False) for port in ports]
    for site in sites:
        until_it_listens(site)
    ids = [site.post("/counts", content="to be or not to be").json()["task"] for site in sites * 5]
    assert len(set(ids)) == 10
    for task_id in ids:
        for site in sites:
            told = site.get(f"/counts/{task_id}", params={"wait": ""}).json()
            assert (told["status"], told["result"]) == ("completed", {"value": 6})
    refused = sites[0].get("/counts/99")
    assert (refused.status_code, "Task 99 does not exist" in refused.json()["detail"]) == (404, True)
    for site in sites:
        site.close()


def until_it_listens(site: httpx.Client) -> None:
    pause = threading.Event()
    for _ in range(10 * WITHIN):
        try:
            site.get("/")
        except httpx.ConnectError:
            pause.wait(0.1)
        else:
            return
    raise AssertionError(site.base_url)


def test_a_plain_asyncio_program_submits_a_hundred_follows_and_awaits_them(tmp_path: Path, run: Program) -> None:
    serve(tmp_path, "asyncio-program", run)
    lines = output(run("hundred.py")).splitlines()
    assert sorted(lines) == sorted([*(f"{number} of 100" for number in range(1, 101)), "328350"])


KILLED_AT = """
import os, signal, sys
sys.path.insert(0, os.getcwd())
import shop, tasktrail.api.client

line, words = int(sys.argv[1]), sys.argv[2:]

def kill_there(frame, event, argument):
    if frame.f_code.co_filename != shop.__file__:
        return None
    if event == "line" and frame.f_lineno == line:
        os.kill(os.getpid(), signal.SIGKILL)
    return kill_there

sys.settrace(kill_there)
shop.main(*words)
"""
"""The program, killed when it comes to a line."""


def steps(*functions: str) -> list[int]:
    """Return the lines inside of these functions."""
    source = (EXAMPLES / "outbox" / "shop.py").read_text()
    found: list[int] = []
    for function in functions:
        match = re.search(rf"^def {function}\(.*?(?=^\S|\Z)", source, re.MULTILINE | re.DOTALL)
        assert match
        first = source[: match.start()].count("\n") + 2
        found += range(first, first + match[0].rstrip().count("\n"))
    return found


@pytest.mark.timeout(600)  # it starts a hundred programs
@pytest.mark.parametrize("every", [4, pytest.param(1, marks=pytest.mark.long)])
def test_an_order_and_its_task_are_both_there_or_neither_wherever_the_programs_are_killed(
    tmp_path: Path, run: Program, every: int
) -> None:
    serve(tmp_path, "outbox", run)
    (tmp_path / "killed_at.py").write_text(KILLED_AT)
    ends: Counter[int] = Counter()
    kills = [(line, ["order", "lamp", "chair"]) for line in steps("place_order", "main")]
    kills += [(line, ["relay"]) for line in steps("relay", "main")]
    for line, words in kills[::every]:
        if words == ["relay"]:
            output(run("shop.py", "order", "table"))
        program = run("killed_at.py", line, *words)
        program.communicate(timeout=WITHIN)
        ends[program.returncode] += 1
        output(run("shop.py", "relay"))
        with closing(sqlite3.connect(tmp_path / "shop.db")) as shop, Client.connect(tmp_path / "data") as tasks:
            orders = {row[0] for row in shop.execute("SELECT id FROM orders")}
            sent = [row[0] for row in shop.execute("SELECT task_id FROM outbox")]
            made = tasks.find_ids(TaskFilters(type="invoice"))
            assert sorted(sent) == made, line
            assert len(made) == len(orders), line
    assert ends.keys() == {0, -signal.SIGKILL}
    assert ends[-signal.SIGKILL] >= 20 // every


def test_an_order_whose_task_is_refused_says_why_and_holds_up_no_other(tmp_path: Path, run: Program) -> None:
    service = serve(tmp_path, "outbox", run)
    output(run("shop.py", "order", "lamp"))
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop, shop:
        shop.execute("UPDATE outbox SET fields = json_set(fields, '$.options.order', 'red')")
    output(run("shop.py", "order", "chair"))
    output(run("shop.py", "relay"))
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop:
        (refused, taken) = shop.execute("SELECT task_id, refusal FROM outbox ORDER BY id").fetchall()
    assert refused[0] is None
    assert "options.order" in refused[1]
    assert taken == (1, None)
    service.terminate()
    service.wait(WITHIN)
    output(run("shop.py", "order", "table"))
    relay = run("shop.py", "relay")
    assert "ServiceUnreachable" in relay.communicate(timeout=WITHIN)[1]
    ready(run("-m", "tasktrail", "--data", "data", "serve", "work.py"))
    output(run("shop.py", "relay"))
    with Client.connect(tmp_path / "data") as tasks:
        done: list[Any] = [tasks.wait(task_id, timeout=WITHIN).result for task_id in (1, 2)]
    assert [one["value"] for one in done] == ["one chair for order 2", "one table for order 3"]


PAGES = {
    "fastapi": ("fastapi-site/app.py", "fastapi-site/work.py"),
    "django": ("django-site/views.py", "django-site/settings.py"),
    "asyncio": ("asyncio-program/hundred.py",),
    "outbox": ("outbox/shop.py",),
}


def programs_of(page: str) -> list[str]:
    text = (ROOT / "docs" / "how-to" / f"{page}.md").read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_shows_the_program_that_runs(page: str) -> None:
    shown = programs_of(page)
    for example in PAGES[page]:
        assert (EXAMPLES / example).read_text() in shown, example


@pytest.mark.timeout(600)
def test_a_strict_type_checker_has_nothing_against_the_programs(tmp_path: Path) -> None:
    environment = {**os.environ, "MYPYPATH": str(ROOT)}
    strict = ("--strict", "--follow-imports=silent", "--ignore-missing-imports", "--config-file=", "--cache-dir=cache")
    said = {}
    for example in sorted({program.split("/")[0] for programs in PAGES.values() for program in programs}):
        files = [Path(shutil.copy(file, tmp_path)).name for file in (EXAMPLES / example).glob("*.py")]
        checker = subprocess.Popen(
            [sys.executable, "-m", "mypy", *strict, *files],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        said[example] = checker.communicate(timeout=10 * WITHIN)[0]
    assert all(one.startswith("Success") for one in said.values()), said
