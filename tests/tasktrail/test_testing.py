"""The test helpers for authors of handlers: as strict as a worker, and as real as possible without one."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from tasktrail import Checkpoint, Finished, Stopped, TaskContext, TaskService, handler
from tasktrail.config.settings import Config
from tasktrail.events import Started
from tasktrail.events.errors import InvalidOptions
from tasktrail.handlers.errors import BadAnswer, OutputMissing
from tasktrail.testing import SimulatedCrash, context_for, inline_service, run_handler

WITHIN = 30.0
seen: list[tuple[int, str]] = []


@handler("inline_shout", needs_input=True, needs_output=True)
def shout(context: TaskContext[Any]) -> dict[str, int]:
    """Write the input in capitals."""
    context.output_part.write_text(context.input_file.read_text().upper())
    return {"thread": threading.get_native_id()}


@handler("inline_flaky")
async def flaky(context: TaskContext[Any]) -> None:
    """Fail the first time."""
    seen.append((context.attempt, threading.current_thread().name))
    if context.attempt == 1:
        raise TimeoutError("not yet")


@handler("inline_lazy", needs_output=True)
def lazy(_context: TaskContext[Any]) -> None:
    """Write nothing."""


@handler("inline_odd")
def odd(_context: TaskContext[Any]) -> Any:
    """Return a value that cannot be recorded."""
    return {"set": {1, 2}, "itself": object()}


@handler("inline_waiting")
async def waiting(context: TaskContext[Any]) -> str | Stopped:
    """Ask for a stop before it waits."""
    while not context.should_stop():  # noqa: ASYNC110 - it is asked while it waits
        await asyncio.sleep(0)
    return Stopped()


@handler("inline_count", resumable=True)
def count(context: TaskContext[Any]) -> dict[str, int]:
    """Run without paths, as a type does that declares nothing."""
    if context.checkpoint is None:
        context.save_checkpoint(Checkpoint(processed_frames=1))
    return {"attempt": context.attempt}


@handler("inline_count_slowly")
async def count_slowly(context: TaskContext[Any]) -> Finished:
    """Do the same, awaited."""
    await asyncio.sleep(0)
    return Finished(result={"attempt": context.attempt})


@handler("inline_hopeful")
def hopeful(context: TaskContext[Any]) -> None:
    """Write an output that was not requested."""
    context.output_part.write_text("here")


def test_a_service_without_processes_runs_a_type_that_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("quiet")
    with inline_service(tmp_path / "data", shout, flaky) as tasks:
        source, output = str(tmp_path / "in.txt"), str(tmp_path / "out.txt")
        task = tasks.wait(tasks.create_task(type="inline_shout", input_file=source, output_file=output), WITHIN)
        assert (task.status, task.error) == ("completed", "")
        assert (tmp_path / "out.txt").read_text() == "QUIET"
        assert {info.name for info in tasks.types()} >= {"inline_shout", "inline_flaky", "image_thumbnail"}


def test_its_retries_are_those_of_the_service(tmp_path: Path) -> None:
    seen.clear()
    with inline_service(tmp_path / "data", flaky, config=Config(workers=2)) as tasks:
        task = tasks.wait(tasks.create_task(type="inline_flaky", max_retries=1, retry_delay=0), WITHIN)
        assert (task.status, task.attempt) == ("completed", 2)
        assert sum(isinstance(record.event, Started) for record in tasks.events(task.id)) == 2
    assert seen == [(1, f"attempt-{task.id}"), (2, f"attempt-{task.id}")]


def test_what_it_has_recorded_is_there_for_a_service_with_processes(tmp_path: Path) -> None:
    with inline_service(tmp_path / "data", flaky) as tasks:
        task_id = tasks.create_task(type="inline_flaky", held=True)
    with TaskService.open(tmp_path / "data") as again:
        assert again.get_task(task_id).type == "inline_flaky"


def test_a_handler_is_judged_as_a_worker_would(tmp_path: Path) -> None:
    with pytest.raises(OutputMissing):
        run_handler(lazy, context_for(lazy, tmp_path, output_file=tmp_path / "out.txt"))
    with pytest.raises(BadAnswer):
        run_handler(odd, context_for(odd, tmp_path))
    with pytest.raises(InvalidOptions):
        context_for(odd, tmp_path, options={"unknown": 1})


@pytest.mark.parametrize("kind", [count, count_slowly])
def test_a_type_without_an_output_finishes(tmp_path: Path, kind: Any) -> None:
    context = context_for(kind, tmp_path)
    assert run_handler(kind, context) == Finished(result={"attempt": 1})
    assert run_handler(kind, context.resumed()) == Finished(result={"attempt": 2})


def test_it_goes_on_after_a_crash(tmp_path: Path) -> None:
    context = context_for(count, tmp_path, crash_after=1)
    with pytest.raises(SimulatedCrash):
        run_handler(count, context)
    assert run_handler(count, context.resumed()) == Finished(result={"attempt": 2})


@pytest.mark.parametrize("kind", [lazy, hopeful, shout])
def test_an_output_that_has_no_path_is_missing(tmp_path: Path, kind: Any) -> None:
    (tmp_path / "in.txt").write_text("quiet")
    with pytest.raises(OutputMissing, match="no output_file"):
        run_handler(kind, context_for(kind, tmp_path, input_file=tmp_path / "in.txt"))


def test_the_service_says_the_same_of_it(tmp_path: Path) -> None:
    with inline_service(tmp_path / "data", hopeful) as tasks:
        task = tasks.wait(tasks.create_task(type="inline_hopeful", max_retries=0), WITHIN)
    assert (task.status, task.error_type) == ("failed", "OutputMissing")
    assert "no output_file" in task.error


def test_an_async_handler_that_asks_is_told_and_not_cancelled(tmp_path: Path) -> None:
    context = context_for(waiting, tmp_path, stop_after=5)
    assert run_handler(waiting, context) == Stopped()
