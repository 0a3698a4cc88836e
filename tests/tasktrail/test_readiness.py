"""/readyz gives the reason in words, for each cause; `doctor` agrees; optional parts make no service unready."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasktrail import Client, health
from tasktrail.api.service import TaskService
from tasktrail.doctor.facts import collect_facts
from tasktrail.doctor.rules import apply_rules
from tasktrail.events import TasktrailError
from tasktrail.events.errors import DiskFailed, Fenced, LogCorrupt, LogFull, LogGone, LogLocked
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.http.server import HttpServer

Open = Callable[..., TaskService]


@pytest.fixture
def web(service: TaskService) -> Iterator[httpx.Client]:
    server = HttpServer(service, socket_path=service.paths.socket)
    server.start()
    transport = httpx.HTTPTransport(uds=str(service.paths.socket))
    with httpx.Client(transport=transport, base_url="http://localhost") as client:
        yield client
    assert server.stop()


def not_ready(web: httpx.Client) -> tuple[str, str]:
    answer = web.get("/readyz")
    assert answer.status_code == 503
    return answer.json()["code"], answer.json()["detail"]


def degraded(web: httpx.Client) -> list[str]:
    answer = web.get("/readyz")
    assert answer.status_code == 200, answer.text
    told: list[str] = answer.json()["degraded"]
    return told


@pytest.fixture
def settled(service: TaskService) -> TaskService:
    """Return a service whose views are checked and whose workers are ready."""
    assert service._system.health.views.wait(30)
    task_id = service.create_task(type="quick")
    service.wait(task_id, 60)
    return service


def hang(service: TaskService, name: str) -> Any:
    (child,) = [child for child in service._system._supervisor._children if child.name == name]
    child.since = service._system.clock.monotonic() + 3600  # so that the watch leaves it as it is
    child.asked = None  # and receives no answer to an earlier ping
    child.unwell = f"{name} has done nothing for 7 s"
    return child


@pytest.mark.parametrize("kind", [LogFull, DiskFailed, LogLocked])
def test_a_log_that_cannot_be_written(settled: TaskService, web: httpx.Client, kind: type[TasktrailError]) -> None:
    settled._system.health.log_trouble = kind("log.db cannot grow")
    assert not_ready(web) == (kind.code, "log.db cannot grow")
    settled._system.health.log_trouble = None
    assert degraded(web) == []


@pytest.mark.parametrize("kind", [LogGone, LogCorrupt, Fenced])
def test_a_log_that_is_lost(settled: TaskService, web: httpx.Client, kind: type[TasktrailError]) -> None:
    settled._system.health.fatal = kind("log.db is not ours any more")
    code, told = not_ready(web)
    assert code in (kind.code, "not_ready")
    assert told == "log.db is not ours any more"
    settled._system.health.fatal = None


def test_a_fault_of_our_own(settled: TaskService, web: httpx.Client) -> None:
    settled._system.health.fatal = RuntimeError("odd")
    assert not_ready(web) == ("not_ready", "The service cannot go on: odd")
    settled._system.health.fatal = None


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("scheduler", "no command is decided, and nothing starts"),
        ("worker_pool", "nothing starts, and nothing that runs is heard"),
        ("projector", "questions are not answered"),
    ],
)
def test_an_actor_that_is_needed_and_hangs(settled: TaskService, web: httpx.Client, name: str, means: str) -> None:
    child = hang(settled, name)
    assert not_ready(web) == ("not_ready", f"{name} has done nothing for 7 s: {means}")
    child.unwell, child.since = "", 0.0


@pytest.mark.parametrize("name", ["notifier", "janitor", "resource_monitor", "snapshotter", "inspector"])
def test_an_actor_that_helps_and_hangs_leaves_the_service_ready(
    settled: TaskService, web: httpx.Client, name: str
) -> None:
    child = hang(settled, name)
    (told,) = degraded(web)
    assert told.startswith(f"{name} has done nothing for 7 s: ")
    assert settled.ready
    child.unwell, child.since = "", 0.0


def test_every_actor_is_needed_or_helps(settled: TaskService) -> None:
    assert {child.name for child in settled._system._children()} == health._NEEDED.keys() | health._HELPS.keys()


def test_several_reasons_are_told_together(settled: TaskService, web: httpx.Client) -> None:
    settled._system.health.log_trouble = LogFull("log.db cannot grow")
    child = hang(settled, "scheduler")
    code, told = not_ready(web)
    assert code == "log_full"
    assert told.startswith("log.db cannot grow; scheduler has done nothing for 7 s")
    child.unwell, child.since = "", 0.0
    settled._system.health.log_trouble = None


def test_what_is_out_of_order_although_commands_are_accepted(
    settled: TaskService, web: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled._system.health.views_trouble = OSError("the disk is full")
    settled._system.health.notices.trouble = OSError("the log is locked")
    monkeypatch.setattr(settled._system, "load", lambda: None)
    assert degraded(web) == [
        "the views lag behind: the disk is full",
        "no notices are sent: the log is locked",
        "the Scheduler has not answered within 2 s",
    ]


def test_views_that_are_checked_and_a_handler_that_is_missing(open_service: Open) -> None:
    service = open_service(handlers=("sample_handlers", "no_such_module"))
    assert service._system.health.views.wait(30)
    assert any("no_such_module" in told for told in service.degraded)
    service._system.health.views.doubt(service._system.health.views.generation)
    assert "the views are being checked or rebuilt: questions wait for that" in service.degraded
    service._system.health.views.vouch()


def test_doctor_says_what_readyz_says(settled: TaskService, web: httpx.Client) -> None:
    assert web.get("/readyz").status_code == 200
    child = hang(settled, "janitor")
    config = settled._system.config
    with Client.connect(settled.paths.data) as client:
        assert client.check_ready() == degraded(web)
    facts = collect_facts(settled.paths.data, config)
    assert facts.service_degraded == ("janitor has done nothing for 7 s: old temp files stay",)
    assert [one.level for one in apply_rules(facts, config) if one.name == "service"] == ["warn"]
    child.unwell, child.since = "", 0.0
    settled._system.health.log_trouble = LogFull("log.db cannot grow")
    facts = collect_facts(settled.paths.data, config)
    assert facts.service_trouble[0] == "log.db cannot grow"
    settled._system.health.log_trouble = None


_START = """
import sys
from tasktrail import Config, TaskService
with TaskService.open(sys.argv[1], config=Config(workers=1, sandbox="off")):
    print(sorted({"sqlite_utils", "numpy", "httpx", "structlog", "asyncio"} & set(sys.modules)))
"""


def test_a_start_with_nothing_to_migrate_or_to_say_imports_nothing_for_that(tmp_path: Path) -> None:
    SqliteEventLog(tmp_path / "log.db", now=datetime(2026, 1, 31, 12, tzinfo=UTC)).close()
    done = subprocess.run([sys.executable, "-c", _START, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]"], "what is imported here, each start waits for"
