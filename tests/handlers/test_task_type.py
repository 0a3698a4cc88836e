"""A type may be declared with the names of its functions; the runtime does the common part of every handler."""

import asyncio
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import msgspec
import PIL
import pytest
from inline_executor import Reports

from tasktrail.actors.inline_executor import InlineExecutor
from tasktrail.events import Checkpoint
from tasktrail.events.reports import AttemptProgressed, Run, Stop
from tasktrail.handlers import Diagnosis, Estimate, StopAsked, Stopped, TaskContext, TaskType, handler
from tasktrail.handlers.contract import Packages, loaded, versions_of
from tasktrail.handlers.pieces import recalled, remove_others
from tasktrail.handlers.registry import Registry
from tasktrail.testing import context_for, job_for, run_handler, task_type_of


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Make a module that declares a type whose work is in another module; return its name."""
    name = f"declared_{abs(hash(request.node.name))}"
    work = f"{name}_work"
    (tmp_path / f"{work}.py").write_text(
        dedent("""
        from tasktrail.handlers import Estimate, Diagnosis

        def run(context):
            return {"ran": True}

        def probe(job):
            return Estimate(memory=7)

        def checkup():
            yield Diagnosis("library", "ok", "it is there")
        """)
    )
    (tmp_path / f"{name}.py").write_text(
        dedent(f"""
        from tasktrail.handlers import TaskType

        late = TaskType(
            name="late",
            summary="Loads its work late.",
            run="{work}:run",
            probe="{work}:probe",
            checkup="{work}:checkup",
            preload=("json",),
        )
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_what_a_declared_type_names_is_loaded_when_it_is_called(module: str, tmp_path: Path) -> None:
    registry = Registry.load([module], group="tasktrail.no.such.group")

    late = registry.get("late")
    assert registry.homes() == {"late": f"{module}:late"}
    assert f"{module}_work" not in sys.modules
    assert late.late_modules == (f"{module}_work", "json")
    assert late.probe_input(job_for(late.options())) == Estimate(memory=7)
    assert list(late.diagnoses()) == [Diagnosis("library", "ok", "it is there")]
    assert run_handler(late, context_for(late, tmp_path)).result == {"ran": True}  # type: ignore[union-attr]  # finished


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"run": "package.module"}, ValueError),
        ({"run": 3}, TypeError),
        ({"run": print, "probe": ":f"}, ValueError),
        ({"run": print, "checkup": 3}, TypeError),
    ],
)
def test_a_place_that_names_no_function_is_refused(wrong: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"mine: .* has to be .*package\.module:function"):
        TaskType(name="mine", summary="", **wrong)


def test_every_place_that_a_built_in_type_names_is_there() -> None:
    for task_type in Registry.load():
        for place in (task_type.run, task_type.probe, task_type.checkup):
            assert place is None or callable(loaded(place))


@handler("deep")
def deep(context: TaskContext[Any]) -> None:
    """Ask deep inside, within an `except` that catches everything."""
    while True:
        try:
            context.progress(1, "waiting")
            context.check_stop()
        except Exception:  # noqa: BLE001 - as careless handlers do
            return


@handler("grouped")
async def grouped(context: TaskContext[Any]) -> None:
    """Ask in one of several tasks of asyncio."""

    async def ask() -> None:
        while True:
            context.progress(1, "waiting")
            context.check_stop()
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group:
        group.create_task(ask())
        group.create_task(ask())


@handler("rude")
def rude(_context: TaskContext[Any]) -> None:
    """Stop without being asked."""
    raise StopAsked


@pytest.mark.parametrize("kind", [deep, grouped])
def test_a_stop_that_is_noticed_deep_inside_ends_the_attempt_as_stopped(tmp_path: Path, kind: object) -> None:
    executor = InlineExecutor({"it": task_type_of(kind)})
    reports = Reports(executor)
    executor.do([Run(1, 1, "it", "", "", {}, None, str(tmp_path))])
    reports.until(lambda report: isinstance(report, AttemptProgressed))

    executor.do([Stop(1, 1)])

    assert (reports.end(1).outcome, reports.end(1).error) == ("stopped", "")
    executor.close(5)


def test_a_stop_that_nobody_asked_for_is_no_answer(tmp_path: Path) -> None:
    executor = InlineExecutor({"rude": task_type_of(rude)})
    reports = Reports(executor)
    executor.do([Run(1, 1, "rude", "", "", {}, None, str(tmp_path))])

    assert (reports.end(1).outcome, reports.end(1).error_type) == ("failed", "BadAnswer")
    executor.close(5)


def test_a_test_of_a_handler_sees_the_same(tmp_path: Path) -> None:
    assert run_handler(deep, context_for(deep, tmp_path, stop_after=2)) == Stopped()
    assert run_handler(grouped, context_for(grouped, tmp_path, stop_after=2)) == Stopped()


class Kept(msgspec.Struct, frozen=True):
    fingerprint: str
    frames: int


@pytest.mark.parametrize(
    ("data", "found"),
    [
        ({"fingerprint": "mark", "frames": 3}, Kept("mark", 3)),
        ({"fingerprint": "another", "frames": 3}, None),
        ({"fingerprint": "mark"}, None),
    ],
)
def test_what_was_saved_is_recalled_for_the_same_work_only(data: dict[str, Any], found: Kept | None) -> None:
    assert recalled(Checkpoint(data=data), "mark", Kept) == found
    assert recalled(None, "mark", Kept) is None


def test_files_that_nothing_names_any_more_are_removed(tmp_path: Path) -> None:
    for name in ("segment-1", "segment-2", "sound.mp4", "other"):
        (tmp_path / name).touch()

    remove_others(tmp_path, ("segment-*", "sound.*"), keep={"segment-1"})

    assert {path.name for path in tmp_path.iterdir()} == {"segment-1", "other"}


def test_versions_are_those_that_are_installed_by_the_names_of_their_distributions() -> None:
    assert versions_of(Packages()) == {}
    assert versions_of(Packages(modules=("PIL", "no_such_package"))) == {"pillow": PIL.__version__}
