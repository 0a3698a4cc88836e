"""Schedules that the code declares: present after a start, changed and removed with the code, never doubled."""

import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tasktrail import TaskService
from tasktrail.config.settings import Config
from tasktrail.events import Recorded
from tasktrail.events.system_events import ScheduleAdded, ScheduleRemoved

HOURLY = """
    @task(every="1h")
    def clean_up(days: int = 7) -> None:
        pass
"""
NIGHTLY = """
    @task(cron="0 3 * * *", timezone="Europe/Berlin", missed="skip", priority=4)
    def report() -> None:
        pass
"""


class Code:
    """A module whose text changes between two starts of a service."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def started(self, *parts: str, **settings: Any) -> TaskService:
        sys.modules.pop("periodic_code", None)
        text = "\n".join(map(dedent, ("from tasktrail import task, handler\nassert True", *parts)))
        (self.folder / "periodic_code.py").write_text(text)
        config = Config(**{"workers": 1, "handlers": ("periodic_code",), **settings})
        return TaskService.open(self.folder / "data", config=config)


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Code:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)  # two texts of one second would count as the same
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return Code(tmp_path)


def recorded(service: TaskService) -> list[tuple[str, str]]:
    """Return the name and actor of each recorded schedule event."""

    def is_about_schedules(record: Recorded) -> bool:
        return isinstance(record.event, ScheduleAdded | ScheduleRemoved)

    return [
        (f"{'+' if isinstance(record.event, ScheduleAdded) else '-'}{record.event.schedule}", record.actor)  # type: ignore[union-attr]  # see above
        for record in filter(is_about_schedules, service.log())
    ]


def test_a_start_adds_what_is_declared_and_says_that_it_came_from_the_code(code: Code) -> None:
    with code.started(HOURLY, NIGHTLY) as service:
        boards = {board.schedule: board for board in service.schedules()}
    hourly, nightly = boards["clean_up"].spec, boards["report"].spec

    assert boards["clean_up"].actor == "code:periodic_code:clean_up"
    assert (hourly.every, hourly.task.type, hourly.task.options) == (3600, "clean_up", {})
    assert (nightly.cron, nightly.timezone, nightly.missed) == ("0 3 * * *", "Europe/Berlin", "skip")
    assert nightly.task.priority == 4


def test_starts_without_a_change_record_nothing(code: Code) -> None:
    for _ in range(3):
        with code.started(HOURLY, NIGHTLY) as service:
            assert len(recorded(service)) == 2


def test_a_declaration_that_has_changed_or_gone_changes_and_ends_its_schedule(code: Code) -> None:
    with code.started(HOURLY, NIGHTLY) as service:
        first = {board.schedule: board.next_at for board in service.schedules()}
    with code.started(HOURLY.replace("1h", "30m")) as service:
        assert [(board.schedule, board.spec.every) for board in service.schedules()] == [("clean_up", 1800)]
        assert recorded(service)[2:] == [
            ("+clean_up", "code:periodic_code:clean_up"),
            ("-report", "code:periodic_code:report"),
        ]
    with code.started(HOURLY.replace('"1h"', '"30m", priority=3'), NIGHTLY) as service:
        boards = {board.schedule: board for board in service.schedules()}
        assert boards["clean_up"].spec.task.priority == 3
        assert boards["report"].next_at == first["report"]


def test_schedules_made_by_hand_are_not_touched(code: Code) -> None:
    with code.started(NIGHTLY, HOURLY.replace('(every="1h")', "")) as service:
        service.add_schedule("clean_up", {"type": "clean_up"}, every=60.0, actor="ops")
        service.add_schedule("by hand", {"type": "report"}, every=60.0, actor="ops")
    with code.started(HOURLY) as service:
        boards = {board.schedule: (board.actor, board.spec.every) for board in service.schedules()}
    assert boards == {"clean_up": ("ops", 60.0), "by hand": ("ops", 60.0)}


def test_a_module_that_cannot_be_loaded_keeps_its_schedules(code: Code) -> None:
    with code.started(HOURLY):
        pass
    with code.started("raise RuntimeError") as service:
        assert [board.schedule for board in service.schedules()] == ["clean_up"]
    with code.started("@handler('other')\ndef other(context): pass", handlers=()) as service:
        assert service.schedules() == []


def test_a_program_that_works_on_its_own_tasks_only_leaves_them_alone(code: Code) -> None:
    with code.started(HOURLY):
        pass
    with TaskService.open(code.folder / "data", config=Config(workers=1), own_only=True) as service:
        assert [board.schedule for board in service.schedules()] == ["clean_up"]
        assert len(recorded(service)) == 1


def test_what_is_declared_runs_by_itself(code: Code) -> None:
    with code.started(HOURLY.replace('"1h"', "1").replace("pass", "print('clean')")) as service:
        made = next(record for record in service.follow() if record.task_id)
        assert service.wait(made.task_id, 30).status == "completed"
        assert service.get_task(made.task_id).schedule == "clean_up"
