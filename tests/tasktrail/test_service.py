"""TaskService as an integrator sees it, with real worker processes."""

import errno
import json
import os
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread, current_thread
from typing import Any

import msgspec
import psutil
import pytest
from PIL import Image

from tasktrail import TaskFilters, TaskService
from tasktrail.actors.core.explanation import Obstacle
from tasktrail.actors.core.queue import ReadyQueue
from tasktrail.api.reader import Reader
from tasktrail.config.settings import Config
from tasktrail.events import Accepted, CancelTask, Checkpoint, Created, CreateTask, Recorded, TasktrailError
from tasktrail.events.commands import AdjustTask, SaveCheckpoint, SetLimits
from tasktrail.events.errors import (
    CannotStartNow,
    CommandIdReused,
    DataInUse,
    HistoryMissing,
    IllegalTransition,
    InvalidOptions,
    InvalidPath,
    InvalidValue,
    LogGone,
    LogLocked,
    Malformed,
    NeverFits,
    NotReady,
    OutputExists,
    OutputTaken,
    RetriesExhausted,
    UnknownDependency,
    UnknownTask,
    UnknownType,
    WaitTimeout,
)
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.system_events import Deduplicated
from tasktrail.handlers.presets import Preset
from tasktrail.handlers.registry import Registry

WITHIN = 20.0
Opener = Callable[..., TaskService]


def names(records: Iterable[Recorded]) -> list[str]:
    return [type(record.event).__name__ for record in records]


def nested(depth: int) -> list[Any]:
    """Lists within each other."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def until(service: TaskService, task_id: int, name: str) -> Recorded:
    """Wait for an event of the task."""
    for record in service.follow():
        if record.task_id == task_id and type(record.event).__name__ == name:
            return record
    raise AssertionError(f"the service stopped before {name}")


def test_a_task_runs_to_its_end_and_its_history_says_how(service: TaskService) -> None:
    task_id = service.create_task(type="echo", options={"value": [1, "two"]}, user_id=7, reason="a test")
    task = service.wait(task_id, timeout=WITHIN)
    assert (task.status, task.progress, task.user_id, task.attempt) == ("completed", 100.0, 7, 1)
    assert task.result["value"] == [1, "two"]
    assert names(service.events(task_id)) == ["Created", "Started", "Progressed", "Completed"]
    assert service.events(task_id)[0].reason == "a test"
    assert service.get_task_progress(task_id) == (100.0, "echoed")


def test_an_output_appears_whole_and_the_temp_folder_goes(service: TaskService, tmp_path: Path) -> None:
    task_id = service.create_task(type="write", output_file=tmp_path / "out.txt", options={"value": "hello"})
    assert service.wait(task_id, timeout=WITHIN).status == "completed"
    assert (tmp_path / "out.txt").read_text() == "hello"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out.txt"]
    service.close()
    assert list((tmp_path / "data" / "tmp").iterdir()) == []


def test_every_answer_sees_ones_own_commands(service: TaskService) -> None:
    for number in range(30):
        task_id = service.create_task(type="noop", held=True)
        assert service.get_task(task_id).status == "pending"
        assert service.list_tasks(TaskFilters(status="pending"))[1] == number + 1


def test_a_repeated_command_is_answered_as_before_when_its_files_have_come_and_gone(
    open_service: Opener, tmp_path: Path
) -> None:
    """A repetition was examined as if it were new, so it was refused once its own task had written its output."""
    (source := tmp_path / "in.txt").write_text("quiet")
    shout: dict[str, Any] = {"type": "shout", "input_file": str(source)}
    single = CreateTask(**shout, output_file=str(tmp_path / "single"), command_id="single")
    graph = [{**shout, "name": "a", "output_file": str(tmp_path / "graph")}]
    schedule: dict[str, Any] = {"task": {**shout, "output_file": f"{tmp_path}/{{fire_time}}"}, "every": 3600.0}
    tasks = open_service()
    first = tasks.send(single)
    ids = tasks.create_graph(graph, command_id="graph")
    scheduled = tasks.add_schedule("hourly", **schedule, command_id="schedule")
    for task_id in (first.task_id, *ids.values()):
        assert tasks.wait(task_id, timeout=WITHIN).status == "completed"
    source.unlink()
    for _start in range(2):
        assert tasks.send(single) == first
        assert tasks.create_graph(graph, command_id="graph") == ids
        assert tasks.add_schedule("hourly", **schedule, command_id="schedule") == scheduled
        with pytest.raises(CommandIdReused):
            tasks.send(msgspec.structs.replace(single, label="other"))
        with pytest.raises(InvalidPath, match="cannot be read"):
            tasks.send(msgspec.structs.replace(single, command_id="new"))
        assert tasks.list_tasks()[1] == 2
        tasks.close()
        tasks = open_service()


def test_a_repeated_command_is_answered_as_before_when_its_type_is_gone(open_service: Opener) -> None:
    tasks = open_service()
    noop = CreateTask(type="noop", command_id="once")
    first = tasks.send(noop)
    tasks.close()
    tasks = open_service(handlers=())
    assert tasks.send(noop) == first
    with pytest.raises(UnknownType):
        tasks.send(msgspec.structs.replace(noop, command_id="new"))


def test_a_repeated_command_is_answered_as_before_when_its_preset_has_changed_or_gone(open_service: Opener) -> None:
    """It was refused, or taken for another command, as its digest was that of the options that its preset now means."""
    once = CreateTask(type="echo", preset="mine", options={"count": 2.0}, command_id="once")
    graph = [{"name": "a", "type": "echo", "preset": "mine"}]
    schedule: dict[str, Any] = {"task": {"type": "echo", "preset": "mine"}, "every": 3600.0, "command_id": "schedule"}
    tasks = open_service(presets=(Preset(name="mine", type="echo", options={"value": 1}),))
    first = tasks.send(once)
    ids = tasks.create_graph(graph, command_id="graph")
    scheduled = tasks.add_schedule("hourly", **schedule)
    changed = Preset(name="mine", type="echo", options={"value": 2})
    of_another_type = Preset(name="mine", type="write")
    for now in ({"presets": (changed,)}, {"presets": (of_another_type,)}, {}, {"handlers": ()}):
        tasks.close()
        tasks = open_service(**now)
        assert tasks.send(once) == first
        assert tasks.create_graph(graph, command_id="graph") == ids
        assert tasks.add_schedule("hourly", **schedule) == scheduled
        with pytest.raises(CommandIdReused):
            tasks.send(msgspec.structs.replace(once, preset="other"))
    with pytest.raises(InvalidOptions, match="There is no preset"):
        tasks.send(msgspec.structs.replace(once, command_id="new"))


def test_a_repeated_command_is_answered_as_before_by_a_log_that_has_the_digest_of_what_it_means(
    open_service: Opener,
) -> None:
    """Logs from before digests were of what was sent."""
    preset = Preset(name="mine", type="echo", options={"value": 1})
    once = CreateTask(type="echo", preset="mine", options={"count": 2.0}, command_id="once")
    tasks = open_service(presets=(preset,))
    first = tasks.send(msgspec.structs.replace(once, preset="", options={"value": 1, "count": 2}))
    assert tasks.send(once) == first
    with pytest.raises(CommandIdReused):
        tasks.send(msgspec.structs.replace(once, options={"count": 3.0}))


@pytest.mark.parametrize("command_id", ["", "mine"], ids=["no id", "id"])
@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("\ud800", "half of a surrogate pair"),
        (object(), "holds a Python object, which JSON cannot represent"),
        (nested(5000), "nested deeper than 32 levels"),
    ],
    ids=["text", "object", "depth"],
)
def test_what_is_no_json_is_refused_by_its_name_with_and_without_a_command_id(
    open_service: Opener, tmp_path: Path, value: Any, said: str, command_id: str
) -> None:
    """A command with an id is compared with earlier ones: what could not be encoded raised the encoder's own error."""
    tasks, options = open_service(), {"value": value}
    more: dict[str, Any] = {"command_id": command_id}
    one: dict[str, Any] = {"type": "echo", "options": options}
    checkpoint = Checkpoint(data=options)
    ways: list[tuple[str, Callable[[], object]]] = [
        ("options", lambda: tasks.create_task(**one, **more)),
        ("tasks[0].options", lambda: tasks.create_graph([{**one, "name": "a"}], **more)),
        ("task.options", lambda: tasks.add_schedule("hourly", task=one, every=3600, **more)),
        ("task.options", lambda: tasks.add_source("new", [tmp_path], f"{tmp_path}/{{stem}}", task=one, **more)),
        ("options", lambda: tasks.create_batch([tmp_path], f"{tmp_path}/{{stem}}.txt", **one, **more)),
        ("checkpoint.data", lambda: tasks.send(SaveCheckpoint(task_id=1, checkpoint=checkpoint, **more))),
    ]
    for field, send in ways:
        with pytest.raises(InvalidValue, match=said) as told:
            send()
        assert told.value.field.startswith(f"{field}.value")


def test_a_command_id_that_a_command_to_the_service_has_used_is_refused_in_those_words(open_service: Opener) -> None:
    """It was said to belong to task 0, which nobody can look at."""
    tasks = open_service()
    tasks.pause(command_id="once")
    with pytest.raises(CommandIdReused, match=r"^Command id once was used for a command to the service\. "):
        tasks.create_task(type="noop", command_id="once")
    task_id = tasks.create_task(type="noop", command_id="task")
    with pytest.raises(CommandIdReused, match=rf"^Command id task was used for task {task_id}\. "):
        tasks.resume(command_id="task")


def test_numbers_that_are_equal_are_the_same_in_a_repetition(open_service: Opener) -> None:
    """Senders of some languages write 2.0 where they wrote 2. It was refused as another command."""
    tasks = open_service()

    def send(value: Any, kind: str) -> Any:
        task: dict[str, Any] = {"type": "echo", "options": {"value": value, "count": 2.0}}
        if kind == "task":
            return tasks.send(CreateTask(**task, command_id=kind))
        if kind == "graph":
            return tasks.create_graph([{**task, "name": "a"}], command_id=kind)
        if kind == "schedule":
            return tasks.add_schedule("hourly", task=task, every=3600.0, command_id=kind)
        checkpoint = Checkpoint(last_position=3.0, data={"value": value})
        return tasks.send(SaveCheckpoint(task_id=running, checkpoint=checkpoint, command_id=kind))

    running = tasks.create_task(type="patient")
    until(tasks, running, "Started")
    whole = [2, {"deep": [2, 2**53]}, True, "2", 0]
    alike = ([2.0, {"deep": [2, 2.0**53]}, True, "2", -0.0], whole)
    others = [[2.5, *whole[1:]], [True, *whole[1:]], ["2", *whole[1:]], [*whole[:2], 1, "2", 0], [*whole[:3], 2, 0]]
    others.append([2, {"deep": [2, 2**53 + 1]}, *whole[2:]])
    for kind in ("task", "graph", "schedule", "checkpoint"):
        first = send(whole, kind)
        for value in alike:
            assert send(value, kind) == first
        for value in others:
            with pytest.raises(CommandIdReused):
                send(value, kind)


def test_one_moment_is_the_same_in_a_repetition_whatever_zone_it_is_written_in(
    open_service: Opener, tmp_path: Path
) -> None:
    """Senders of some languages write the zone of their machine. It was refused as another command."""
    tasks = open_service()
    (tmp_path / "a.txt").write_text("a")
    early, late = {"scheduled_for": "2100-01-01T00:00:00Z"}, {"scheduled_for": "2100-01-01T02:00:00Z"}
    moved = {"scheduled_for": "2100-01-01T02:00:00+02:00"}
    task_id = tasks.create_task(type="noop", held=True)

    def sent(moment: dict[str, Any], way: str) -> object:
        more: dict[str, Any] = {"command_id": way}
        match way:
            case "task":
                return tasks.create_task(type="noop", **moment, **more)
            case "graph":
                return tasks.create_graph([{"name": "one", "type": "noop", **moment}], **more)
            case "adjust":
                return tasks.send(
                    msgspec.convert({"command": "adjust_task", "task_id": task_id, **moment, **more}, AdjustTask)
                )
            case "schedule":
                return tasks.add_schedule(
                    "hourly", task={"type": "noop"}, every=3600, starting_at=moment["scheduled_for"], **more
                )
        made = tasks.create_batch([tmp_path / "a.txt"], f"{tmp_path}/{{stem}}.loud", type="shout", task=moment, **more)
        return made.created

    for way in ("task", "graph", "adjust", "schedule", "batch"):
        assert sent(early, way) == sent(moved, way)
        with pytest.raises(CommandIdReused):
            sent(late, way)


def test_a_log_that_has_the_digest_of_a_number_as_it_was_written_answers_as_before(
    open_service: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Logs from before numbers that are equal were the same."""
    once = CreateTask(type="echo", options={"value": 2.0}, command_id="once")
    tasks = open_service()
    with monkeypatch.context() as before:
        before.setattr("tasktrail.api.service.alike", lambda command: command)
        first = tasks.send(once)
    assert tasks.send(once) == first
    with pytest.raises(CommandIdReused):
        tasks.send(msgspec.structs.replace(once, options={"value": 3.0}))


def test_one_open_task_for_a_key_over_restarts_and_for_every_way_in(open_service: Opener) -> None:
    tasks = open_service()
    first = tasks.create_task(type="noop", unique="k", held=True)
    again = CreateTask(type="noop", unique="k", command_id="again")
    accepted = tasks.send(again)
    assert (accepted.task_id, accepted.existing) == (first, True)
    graph: list[dict[str, Any]] = [
        {"name": "a", "type": "noop", "depends_on": ["b"]},
        {"name": "b", "type": "noop", "unique": "k"},
    ]
    assert tasks.create_graph(graph, command_id="graph") == {"a": 2, "b": first}
    tasks.add_schedule("often", {"type": "noop", "unique": "k"}, every=1.0)
    for record in tasks.follow():
        if isinstance(record.event, Deduplicated) and record.event.schedule:
            assert record.event.task_id == first
            break
    tasks.remove_schedule("often")
    assert tasks.verify().ok
    tasks.close()
    tasks = open_service()
    assert tasks.create_task(type="noop", unique="k") == first
    assert tasks.send(again) == accepted
    assert tasks.create_graph(graph, command_id="graph") == {"a": 2, "b": first}
    tasks.start_task(first)
    tasks.wait(2, timeout=WITHIN)
    assert tasks.create_task(type="noop", unique="k") == 3
    assert tasks.verify().ok


def test_a_task_that_needs_a_worker_with_a_label_waits_for_it_and_others_run(open_service: Opener) -> None:
    tasks = open_service(workers=2, worker_labels=("gpu=1",))
    first = tasks.create_task(type="patient", worker_label="gpu")
    until(tasks, first, "Started")
    second = tasks.create_task(type="noop", worker_label="gpu")
    assert tasks.wait(tasks.create_task(type="noop"), timeout=WITHIN).status == "completed"
    assert [reason.reason for reason in tasks.why(second).reasons] == ["WorkerLabel"]
    tasks.cancel_task(first)
    assert tasks.wait(second, timeout=WITHIN).status == "completed"
    lost = tasks.create_task(type="noop", worker_label="tpu")
    assert tasks.why(lost).reasons[0].detail == "no worker offers tpu"
    tasks.cancel_task(lost)


def test_rates_and_windows_are_configured_told_and_lifted(open_service: Opener) -> None:
    later = (datetime.now(UTC).hour + 2) % 24
    tasks = open_service(rates=("type:noop=1/h",), windows=(f"echo={later}-{later + 1}",))
    tasks.wait(tasks.create_task(type="noop"), timeout=WITHIN)
    outside = tasks.create_task(type="echo", options={"value": 1})
    assert [reason.reason for reason in tasks.why(outside).reasons] == ["Window"]
    second = tasks.create_task(type="noop")
    (reason,) = tasks.why(second).reasons
    assert reason.reason == "RateLimit"
    assert list(tasks.limits().reached) == ["type:noop"]
    tasks.send(reason.commands[0])
    assert tasks.wait(second, timeout=WITHIN).status == "completed"
    assert tasks.limits().limits.rates == {"type:noop": "2/h"}
    tasks.close()
    tasks = open_service(rates=("type:noop=1/h",))
    third = tasks.create_task(type="noop")
    assert "RateLimit" in [reason.reason for reason in tasks.why(third).reasons], "the window goes on"
    for name, rate in (("type:noop", "10/m\n"), ("user:*\n", "1/m"), ("user:5\n", "1/m")):
        with pytest.raises(InvalidValue):
            tasks.set_limits(rates={name: rate})
    with pytest.raises(InvalidValue):
        tasks.send(SetLimits(users={"5\n": 1}))
    assert tasks.verify().ok


def test_a_higher_priority_runs_first(open_service: Opener) -> None:
    single = open_service(workers=1)
    blocker = single.create_task(type="patient")
    until(single, blocker, "Started")
    ids = [single.create_task(type="noop", priority=priority) for priority in (1, 9, 5)]
    single.cancel_task(blocker)
    for task_id in ids:
        single.wait(task_id, timeout=WITHIN)
    started = [record.task_id for record in single.log() if names([record]) == ["Started"] and record.task_id in ids]
    assert started == [ids[1], ids[2], ids[0]]


def test_a_running_task_is_cancelled_and_its_process_gone(service: TaskService) -> None:
    task_id = service.create_task(type="deaf")
    inner = int(until(service, task_id, "Progressed").event.message)  # type: ignore[union-attr]
    pid = outer_pid(inner)
    service.cancel_task(task_id, reason="enough")
    task = service.wait(task_id, timeout=WITHIN)
    assert (task.status, service.events(task_id)[-1].reason) == ("cancelled", "enough")
    _wait_gone(pid)


def outer_pid(inner: int) -> int:
    """Return the newest process below us with that name, in its own PID namespace if it has one.

    The workers of a service that other tests share may have the same numbers.
    """
    found: list[psutil.Process] = []
    for process in psutil.Process().children(recursive=True):
        with suppress(OSError):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            if any(line.startswith("NSpid:") and int(line.split()[-1]) == inner for line in lines):
                found.append(process)
    assert found, f"no process below us calls itself {inner}"
    return max(found, key=psutil.Process.create_time).pid


def _wait_gone(pid: int, within: float = 5.0) -> None:
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        Event().wait(0.005)  # not a busy loop: the service needs the CPU
    pytest.fail(f"process {pid} is still there after {within} s")


def test_an_attempt_that_runs_too_long_times_out(service: TaskService) -> None:
    task_id = service.create_task(type="deaf", timeout=0.3, max_retries=0)
    task = service.wait(task_id, timeout=WITHIN)
    failed = service.events(task_id)[-1].event
    assert (task.status, failed.outcome) == ("failed", "timed_out")  # type: ignore[union-attr]


def test_a_timed_out_attempt_is_retried_by_the_rule_once_its_process_is_gone(service: TaskService) -> None:
    task_id = service.create_task(type="deaf", timeout=0.2, max_retries=1, retry_delay=0)
    task = service.wait(task_id, timeout=WITHIN)
    told = [name for name in names(service.events(task_id)) if name != "Progressed"]  # it may not get that far
    assert told[-4:] == ["Failed", "Retried", "Started", "Failed"]
    assert (task.status, task.attempt, task.retry_count) == ("failed", 2, 1)


def test_a_killed_worker_is_lost_and_the_task_is_tried_again(service: TaskService) -> None:
    task_id = service.create_task(type="parent", options={"shape": "plain"})
    inner, _reaper, *theirs = json.loads(until(service, task_id, "Progressed").event.message)  # type: ignore[union-attr]
    worker, *children = (outer_pid(number) for number in (inner, *theirs))
    os.kill(worker, signal.SIGKILL)
    failed = until(service, task_id, "Failed")
    assert failed.event.outcome == "lost"  # type: ignore[union-attr]
    for pid in children:
        _wait_gone(pid)
    assert service.events(task_id)[failed.version].event.cause == "crash"  # type: ignore[union-attr]
    service.cancel_task(task_id)


def _now(service: TaskService) -> Any:
    return service.source.clock.now()


def test_a_poison_task_is_stopped_and_others_go_on(service: TaskService) -> None:
    poison = service.create_task(type="dies")
    good = [service.create_task(type="noop") for _ in range(20)]
    task = service.wait(poison, timeout=WITHIN)
    assert (task.status, task.attempt, task.crash_count) == ("failed", 3, 3)
    assert {service.wait(task_id, timeout=WITHIN).status for task_id in good} == {"completed"}


def test_retry_by_hand_follows_the_seed_and_force_is_recorded(service: TaskService) -> None:
    task_id = service.create_task(type="noop", held=True, max_retries=0)
    service.cancel_task(task_id)
    with pytest.raises(RetriesExhausted):
        service.retry_task(task_id)
    service.retry_task(task_id, force=True, actor="anna")
    (retried,) = (record for record in service.events(task_id) if names([record]) == ["Retried"])
    assert (retried.actor, retried.event.forced, retried.life) == ("anna", True, 2)  # type: ignore[union-attr]


def test_a_held_task_waits_for_start(service: TaskService) -> None:
    task_id = service.create_task(type="noop", held=True)
    with pytest.raises(WaitTimeout):
        service.wait(task_id, timeout=0.2)
    service.start_task(task_id)
    assert service.wait(task_id, timeout=WITHIN).status == "completed"


def test_start_refuses_with_the_reasons(service: TaskService) -> None:
    first = service.create_task(type="noop", held=True)
    second = service.create_task(type="noop", depends_on=[first])
    with pytest.raises(CannotStartNow, match="Dependency"):
        service.start_task(second)
    service.start_task(first)
    assert service.wait(second, timeout=WITHIN).status == "completed"


def test_checkpoints_are_saved_and_loaded(service: TaskService) -> None:
    task_id = service.create_task(type="save", options={"count": 3})
    service.wait(task_id, timeout=WITHIN)
    assert service.load_checkpoint(task_id) == Checkpoint(processed_frames=3)
    with pytest.raises(IllegalTransition):
        service.save_checkpoint(task_id, Checkpoint(processed_frames=4))


def test_many_commands_are_answered_in_order_and_refusals_stand_among_them(service: TaskService) -> None:
    answers = service.send_many(
        [CreateTask(type="noop"), CancelTask(task_id=999), CreateTask(type="nope"), CreateTask(type="noop")]
    )
    kinds = [answer.task_id if isinstance(answer, Accepted) else answer.code for answer in answers]
    assert kinds == [1, "unknown_task", "unknown_type", 2]


@pytest.mark.parametrize("fields", [{"task_id": 2**70}, {"task_id": [7]}, {"task_id": 7, "actor": 5}])
def test_a_refused_command_with_anything_in_it_leaves_a_log_that_opens_again(
    open_service: Opener, fields: dict[str, Any]
) -> None:
    with open_service() as service:
        [answer] = service.send_many([CancelTask(**fields)])
        assert isinstance(answer, TasktrailError)
        assert answer.status < 500
    with open_service() as service:
        assert "CommandRefused" in names(service.log())


def test_a_folder_that_nothing_can_be_written_in_is_refused_at_once(
    service: TaskService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr("os.access", lambda path, *_: not str(path).endswith("/closed"))  # root may write anywhere
    with pytest.raises(InvalidPath, match="Nothing can be written in the folder") as refused:
        service.create_task(type="write", output_file=tmp_path / "closed" / "a.txt")
    assert (refused.value.field, service.list_tasks(TaskFilters())[1]) == ("output_file", 0)


def test_an_output_has_one_unfinished_task_that_writes_it_whatever_it_is_called(
    service: TaskService, tmp_path: Path
) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    first = service.create_task(type="write", output_file=str(folder / "a.txt"), held=True)
    for name in (folder / "a.txt", f"{folder}//a.txt", f"{folder}/./a.txt", tmp_path / "link" / "a.txt"):
        with pytest.raises(OutputTaken, match=f"^Task {first} is not finished") as refused:
            service.send(CreateTask(type="write", output_file=str(name)))
        assert refused.value.field == "output_file"
    assert service.list_tasks()[1] == 1
    on_purpose = service.create_task(
        type="write", output_file=str(tmp_path / "link" / "a.txt"), overwrite=True, held=True
    )
    assert service.get_task(on_purpose).output_file == str(tmp_path / "link" / "a.txt"), "as it was said"
    service.cancel_task(first)
    with pytest.raises(OutputTaken, match=f"^Task {on_purpose} "):
        service.retry_task(first)


def test_a_second_service_is_refused(open_service: Opener) -> None:
    open_service()
    with pytest.raises(DataInUse, match=str(os.getpid())):
        open_service()


@pytest.mark.slow
def test_closing_interrupts_what_runs_and_the_next_start_goes_on(service: TaskService, open_service: Opener) -> None:
    task_id = service.create_task(type="steps", options={"number": 100, "seconds": 0.02})
    until(service, task_id, "Checkpointed")
    service.close()
    again = open_service()
    task = again.wait(task_id, timeout=WITHIN)
    assert (task.status, task.result["done"], task.retry_count) == ("completed", 100, 0)
    assert task.result["here"] < 100
    assert "interrupted" in [getattr(record.event, "outcome", "") for record in again.events(task_id)]


def test_a_service_of_ones_own_leaves_the_work_of_others_as_it_is(
    service: TaskService, open_service: Opener, tmp_path: Path
) -> None:
    half_done = service.create_task(type="steps", options={"number": 1000, "seconds": 0.02})
    until(service, half_done, "Checkpointed")
    waiting = service.create_task(type="noop", held=True)
    service.close()
    with TaskService.open(tmp_path / "data", config=service._system.config, own_only=True) as own:
        before = [own.events(task_id) for task_id in (half_done, waiting)]
        assert own.wait(own.create_task(type="noop"), timeout=WITHIN).status == "completed"
        last = own.start_task(waiting).position
    after = open_service()
    story = after.events(half_done)
    assert story[: len(before[0])] == before[0]
    assert all(record.position > last for record in story[len(before[0]) :])
    assert after.wait(waiting, timeout=WITHIN).status == "completed"


def test_deleted_views_come_back_the_same(service: TaskService, open_service: Opener, tmp_path: Path) -> None:
    for number in range(20):
        service.create_task(type="echo", options={"value": number}, user_id=number % 3)
    failing = service.create_task(type="timeout", max_retries=0)
    service.wait(failing, timeout=WITHIN)
    for number in range(1, 21):
        service.wait(number, timeout=WITHIN)
    before = service.list_tasks(), service.list_tasks(TaskFilters(search="timeout")), service.stats().counts
    service.close()
    for path in (tmp_path / "data").glob("views.db*"):
        path.unlink()
    again = open_service()
    assert (again.list_tasks(), again.list_tasks(TaskFilters(search="timeout")), again.stats().counts) == before


def test_views_that_were_deleted_come_back_for_whoever_reads_the_file_itself(
    service: TaskService, tmp_path: Path
) -> None:
    service.wait(service.create_task(type="noop"), timeout=WITHIN)
    (tmp_path / "data" / "views.db").unlink()
    assert service.verify().ok
    (tmp_path / "data" / "views.db").unlink()
    with service.source.views_apart() as views:
        assert views.position == service.watermark.position


@pytest.mark.parametrize("deleted", ["views.db", "views.db*"])
def test_views_that_are_deleted_under_a_service_at_rest_come_back_with_the_next_question(
    service: TaskService, tmp_path: Path, deleted: str
) -> None:
    task_id = service.create_task(type="noop", user_id=3)
    before = service.wait(task_id, timeout=WITHIN)
    assert service.list_tasks() == ([before], 1)
    for path in (tmp_path / "data").glob(deleted):
        path.unlink()
    assert service.list_tasks() == ([before], 1)
    assert service.create_task(type="noop", held=True) == task_id + 1
    assert service.list_tasks(TaskFilters(user_id=0))[1] == 1
    assert service.verify().ok


def test_who_waits_at_a_service_that_is_closed_is_told(service: TaskService, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: its files are closed, and nothing would report an end any more."""
    task_id = service.create_task(type="noop", held=True)
    service.close()
    monkeypatch.setattr(SqliteLogReader, "last_of", lambda *_: pytest.fail("it was opened"))
    with pytest.raises(NotReady):
        service.wait(task_id, timeout=1)


def test_a_forked_process_is_told_at_once_that_the_service_is_in_its_parent(
    service: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has none of the threads, so it would wait for nothing, and must not stop what its parent goes on with."""
    task_id = service.create_task(type="noop", held=True)
    uses: list[Callable[[], object]] = [
        service.stats,
        service.list_tasks,
        service.queue,
        lambda: service.create_task(type="noop"),
        lambda: service.wait(task_id),
        lambda: list(service.follow()),
    ]
    with monkeypatch.context() as child:
        child.setattr(service._running, "_process", 1)
        for use in uses:
            with pytest.raises(NotReady, match="The service runs in process 1,"):
                use()
        service.close()
    service.start_task(task_id)
    assert service.wait(task_id, timeout=WITHIN).status == "completed"


def test_who_waits_while_another_program_has_locked_the_log_hears_of_the_end(
    service: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = service.create_task(type="noop")
    service.wait(task_id, timeout=WITHIN)

    def locked(_reader: SqliteLogReader, _task_id: int) -> None:
        raise LogLocked("somebody has it")

    monkeypatch.setattr(SqliteLogReader, "last_of", locked)
    assert service.wait(task_id, timeout=WITHIN).status == "completed"


@pytest.mark.slow
def test_waiting_for_a_task_that_has_just_ended_comes_back(service: TaskService) -> None:
    """The end may be reported before anything listens, while the views still lag behind it."""
    for _ in range(150):
        task_id = service.create_task(type="noop")
        while service._system.consumers.committed.position < 3 * task_id + 1:
            Event().wait(0.005)  # not a busy loop: the service needs the CPU
        assert service.wait(task_id, timeout=WITHIN).status == "completed"


def test_the_past_can_be_asked(service: TaskService) -> None:
    task_id = service.create_task(type="noop", held=True)
    created = service.events(task_id)[0]
    service.start_task(task_id)
    service.wait(task_id, timeout=WITHIN)
    assert service.get_task(task_id, as_of=created.position).status == "pending"
    assert service.list_tasks(TaskFilters(as_of=created.position))[0][0].status == "pending"
    with pytest.raises(UnknownTask):
        service.get_task(task_id, as_of=created.position - 1)


def test_following_sees_every_record_once(service: TaskService) -> None:
    seen: list[int] = []

    def look() -> None:
        for record in service.follow():
            seen.append(record.position)
            if record.task_id == 50 and names([record]) == ["Completed"]:
                return

    watcher = Thread(target=look)
    watcher.start()
    for _ in range(50):
        service.create_task(type="noop")
    watcher.join(WITHIN)
    assert not watcher.is_alive()
    assert seen == list(range(1, len(seen) + 1))


def test_recovery_is_reported(service: TaskService, open_service: Opener) -> None:
    assert service.recover_tasks().unfinished == 0
    service.create_task(type="noop", held=True)
    service.close()
    assert open_service().recover_tasks().unfinished == 1


def reasons(service: TaskService, task_id: int) -> dict[str, Obstacle]:
    """Return reasons by name. A busy machine, or workers that are not ready yet, may add others."""
    return {str(one.reason): one for one in service.why(task_id).reasons}


def test_operators_change_the_queue_and_why_tells(service: TaskService, open_service: Opener) -> None:
    service.pause(actor="ops", reason="maintenance")
    service.set_limits(max_concurrent=2, users={7: 1}, reason="test")
    task_id = service.create_task(type="noop", priority=2, user_id=7)
    assert reasons(service, task_id)["Paused"].detail == "everything is paused by ops: maintenance"
    assert service.queue().entries[0].terms.base == 2
    service.adjust_task(task_id, priority=9, held=True)
    assert reasons(service, task_id).keys() >= {"Paused", "Held"}
    service.close()
    again = open_service()
    assert (again.limits().limits.max_concurrent, again.limits().limits.users) == (2, {"7": 1})
    assert again.get_task(task_id).priority == 9
    again.start_task(task_id)
    again.resume()
    assert again.wait(task_id, WITHIN).status == "completed"
    assert again.why(task_id).waiting is False
    with pytest.raises(UnknownTask):
        again.why(99)


def test_a_place_in_the_queue_is_counted_by_whoever_asks_and_not_by_the_scheduler(
    service: TaskService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks at each waiting task, of which there may be a hundred thousand."""
    service.pause()
    ids = [service.create_task(type="noop") for _ in range(3)]
    looked, counted = [], []
    ahead_of = ReadyQueue.ahead_of

    def watched(queue: ReadyQueue, *args: Any, **kwargs: Any) -> Callable[[], int]:
        looked.append(current_thread())
        count = ahead_of(queue, *args, **kwargs)

        def counting() -> int:
            counted.append(current_thread())
            return count()

        return counting

    monkeypatch.setattr(ReadyQueue, "ahead_of", watched)
    assert service.why(ids[2]).place == 3
    assert counted == [current_thread()] != looked


def test_the_retry_that_why_tells_of_is_accepted(service: TaskService) -> None:
    """An ended task is no longer in memory: only the log knows how many retries it has left."""
    ended = service.create_task(type="noop", held=True)
    service.cancel_task(ended)
    waiting = service.create_task(type="noop", depends_on=[ended], on_dependency_failure="wait")
    found = reasons(service, waiting)["DependencyFailed"]
    assert (found.tasks, found.evidence) == ((ended,), (service.events(ended)[-1].position,))
    for command in found.commands:
        service.send(command)
    assert reasons(service, waiting).keys() >= {"Dependency"}


def test_a_type_whose_handler_is_away_can_be_paused_before_it_comes_back(open_service: Opener) -> None:
    """Its tasks would all start at once; a name that neither handlers nor log know is a misspelling."""
    before = open_service()
    task_id = before.create_task(type="echo", held=True)
    before.close()
    service = open_service(handlers=("crash_handlers",))
    assert service.pause(type="echo").position
    assert service.set_limits(types={"echo": 1}).position
    assert "Paused" in reasons(service, task_id)
    for name in ("ecco", " "):
        with pytest.raises(UnknownType):
            service.pause(type=name)


def test_a_mistyped_type_is_no_filter_and_one_that_is_gone_still_is(open_service: Opener, tmp_path: Path) -> None:
    before = open_service()
    task_id = before.create_task(type="echo", held=True)
    before.close()
    with open_service(handlers=("crash_handlers",)) as service:
        readings = [service, Reader(tmp_path / "data"), Reader(tmp_path / "data", registry=Registry())]
        for reading in readings:
            assert [task.id for task in reading.list_tasks(TaskFilters(type="echo"))[0]] == [task_id]
            for slip in ("ecko", ("echo", "ecko")):
                with pytest.raises(UnknownType, match="did you mean 'echo'"):
                    reading.list_tasks(TaskFilters(type=slip))
        for reading in readings[:2]:
            assert reading.list_tasks(TaskFilters(type="image_convert")) == ([], 0)
        with pytest.raises(UnknownType):
            service.retry_tasks(TaskFilters(type="ecko"))


def test_a_list_of_tasks_of_any_type_loads_no_types(service: TaskService, tmp_path: Path) -> None:
    """Without a service each command would load them anew."""
    service.create_task(type="echo")
    service.close()
    with Reader(tmp_path / "data", load=lambda: pytest.fail("the types were loaded")) as reader:
        assert reader.list_tasks()[1] == 1


def test_a_share_of_the_disk_is_kept_free_with_and_without_a_service(service: TaskService, tmp_path: Path) -> None:
    kept = min(1024**3, shutil.disk_usage(tmp_path).total // 100)
    running = service.limits().limits
    service.close()
    with Reader(tmp_path / "data") as reader:
        alone = reader.limits().limits
    assert {(limits.temp_low, limits.temp_high) for limits in (running, alone)} == {(kept, 2 * kept)}


def test_a_schedule_makes_tasks_by_itself_and_they_say_so(service: TaskService) -> None:
    now = datetime.now(UTC)
    service.add_schedule("soon", {"type": "noop"}, every=1, starting_at=now + timedelta(seconds=0.2), reason="test")
    made = next(record for record in service.follow() if isinstance(record.event, Created))
    service.remove_schedule("soon")
    task = service.wait(made.task_id, WITHIN)
    assert (task.status, task.schedule, task.fire_time) == ("completed", "soon", now + timedelta(seconds=0.2))
    assert service.schedules() == []


def test_evidence_that_only_the_log_has_is_found(service: TaskService) -> None:
    first = service.create_task(type="noop", held=True)
    second = service.create_task(type="noop", depends_on=(first,))
    position = service.events(first)[0].position
    assert reasons(service, first)["Held"].evidence == (position,)
    assert reasons(service, second)["Dependency"].evidence == (position,)


def _deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("fields", "error", "field"),
    [
        ({"type": "nope"}, UnknownType, "type"),
        ({"type": ""}, InvalidValue, "type"),
        ({"type": "noop", "priority": 11}, InvalidValue, "priority"),
        ({"type": "noop", "priority": -1}, InvalidValue, "priority"),
        ({"type": "noop", "priority": "high"}, InvalidValue, "priority"),
        ({"type": "noop", "max_retries": -1}, InvalidValue, "max_retries"),
        ({"type": "noop", "retry_delay": float("nan")}, InvalidValue, "retry_delay"),
        ({"type": "noop", "depends_on": [99]}, UnknownDependency, "depends_on"),
        ({"type": "noop", "depends_on": [0]}, InvalidValue, "depends_on[0]"),
        ({"type": "noop", "parent_task_id": 99}, UnknownDependency, "parent_task_id"),
        ({"type": "noop", "colour": "red"}, Malformed, "colour"),
        ({"type": "noop", "options": {"x": 1}}, InvalidOptions, "options.x"),
        ({"type": "echo", "options": {"value": float("inf")}}, InvalidValue, "options.value"),
        ({"type": "echo", "options": {"value": {1, 2}}}, InvalidValue, "options.value"),
        ({"type": "echo", "options": {"value": _deep(100)}}, InvalidValue, "options.value" + 32 * "[0]"),
        ({"type": "echo", "options": {"value": "x" * 40_000}}, InvalidValue, "options"),
        ({"type": "echo", "options": {"count": "many"}}, InvalidOptions, "options.count"),
        ({"type": "noop", "reason": "a\0b"}, InvalidValue, "reason"),
        ({"type": "noop", "reason": "\ud800"}, InvalidValue, "reason"),
        ({"type": "noop", "notify_email": "x" * 5000}, InvalidValue, "notify_email"),
        ({"type": "image_thumbnail", "output_file": "/tmp/x.png"}, InvalidPath, "input_file"),
        (
            {"type": "image_thumbnail", "input_file": "/no/such.png", "output_file": "/tmp/x.png"},
            InvalidPath,
            "input_file",
        ),
        (
            {"type": "image_thumbnail", "input_file": "/tmp/a\0b", "output_file": "/tmp/x.png"},
            TasktrailError,
            "input_file",
        ),
        (
            {"type": "image_thumbnail", "input_file": "/dev/zero", "output_file": "/tmp/x.png"},
            InvalidPath,
            "input_file",
        ),
        ({"type": "image_thumbnail", "input_file": "/tmp", "output_file": "/tmp/x.png"}, InvalidPath, "input_file"),
        (
            {"type": "image_thumbnail", "input_file": "/etc/hostname", "output_file": "/tmp/x.xyz"},
            InvalidPath,
            "output_file",
        ),
        ({"type": "write", "output_file": "/no/such/folder/x"}, InvalidPath, "output_file"),
        ({"type": "write", "output_file": "/tmp"}, InvalidPath, "output_file"),
        ({"type": "write", "output_file": "/tmp/../etc/x"}, InvalidPath, "output_file"),
        ({"type": "write", "output_file": "/etc/hostname"}, OutputExists, "output_file"),
        ({"type": "write"}, InvalidPath, "output_file"),
    ],
)
def test_bad_input_gets_a_typed_error_and_records_nothing(
    service: TaskService, fields: dict[str, Any], error: type[TasktrailError], field: str
) -> None:
    service.create_task(type="noop", held=True)
    with pytest.raises(error) as caught:
        service.create_task(**fields)
    assert caught.value.field == field
    assert caught.value.advice.endswith((".", "`", ")"))
    assert service.list_tasks()[1] == 1


@pytest.mark.parametrize("overwrite", [False, True])
def test_an_output_takes_the_place_of_no_device_or_pipe(
    service: TaskService, tmp_path: Path, *, overwrite: bool
) -> None:
    """Nor a link to one, such as /dev/stdout."""
    pipe, link = tmp_path / "pipe", tmp_path / "link"
    os.mkfifo(pipe)
    link.symlink_to("/dev/null")

    for output in (pipe, link):
        with pytest.raises(InvalidPath, match="not a regular file") as caught:
            service.create_task(type="write", output_file=output, overwrite=overwrite)
        assert caught.value.field == "output_file"


def test_an_input_that_a_task_waited_for_has_yet_to_write_need_not_be_there(
    service: TaskService, tmp_path: Path
) -> None:
    picture, middle, small = (tmp_path / name for name in ("in.png", "middle.jpg", "small.jpg"))
    Image.new("RGB", (64, 64)).save(picture)
    first = service.create_task(type="image_thumbnail", input_file=picture, output_file=middle, held=True, user_id=1)
    second: dict[str, Any] = {"type": "image_thumbnail", "input_file": middle, "output_file": small}
    for others in ([], [first]):  # waits for no other task; the file of another user
        with pytest.raises(InvalidPath, match="cannot be read"):
            service.create_task(**second, depends_on=others)

    task_id = service.create_task(**second, depends_on=[first], user_id=1)

    service.start_task(first)
    assert service.wait(task_id, timeout=WITHIN).status == "completed"
    assert small.exists()
    middle.unlink()
    with pytest.raises(InvalidPath, match="cannot be read"):
        service.create_task(**second, depends_on=[first], user_id=1, overwrite=True)


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("~/photo.jpg", "a `~` is not read as a home folder"),
        ("*.jpg", "`tasktrail batch`"),
        ("nothere.jpg", "Check its spelling."),
        ("width=300", "a value is given as an option (CLI: -o width=300)"),
        ("breadth=300", "Check its spelling."),
    ],
)
def test_an_input_that_is_not_there_is_told_with_what_was_probably_meant(
    service: TaskService, tmp_path: Path, name: str, advice: str
) -> None:
    with pytest.raises(InvalidPath, match="cannot be read") as refused:
        service.create_task(type="image_thumbnail", input_file=tmp_path / name, output_file=tmp_path / "small.jpg")
    assert advice in refused.value.advice
    assert ("-o" in refused.value.advice) is (name == "width=300")


def test_an_input_in_a_folder_that_may_not_be_entered_is_not_called_misspelt(
    service: TaskService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look, hidden = os.stat, str(tmp_path / "photo.jpg")

    def stat(path: Any, *args: Any, **more: Any) -> os.stat_result:
        if path == hidden:  # root, as whom the tests may run, is refused nothing
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return look(path, *args, **more)

    monkeypatch.setattr(os, "stat", stat)
    with pytest.raises(InvalidPath, match="Permission denied") as refused:
        service.create_task(type="image_thumbnail", input_file=hidden, output_file=tmp_path / "small.jpg")
    assert "permissions of the folders" in refused.value.advice


def test_seals_lie_where_the_configuration_of_the_service_says(open_service: Opener, tmp_path: Path) -> None:
    """It need not be the one in the data folder: `serve --config` names another."""
    assert open_service(seals_dir=str(tmp_path / "elsewhere")).seals_folder() == tmp_path / "elsewhere"


def test_a_user_level_above_the_configured_bound_is_refused_by_every_way_in(open_service: Opener) -> None:
    """The bound on how long a task can be overtaken is stated for levels up to that bound."""
    service = open_service(max_user_level=3)
    work: dict[str, Any] = {"type": "noop", "held": True}
    assert service.get_task(service.create_task(**work, user_level=3)).priority_terms.user == 30
    ways: dict[str, Callable[[], Any]] = {
        "user_level": lambda: service.create_task(**work, user_level=4),
        "tasks[1].user_level": lambda: service.create_graph(
            [{"name": "a", **work}, {"name": "b", **work, "user_level": 90_000_000_000_000}]
        ),
    }
    for field, way in ways.items():
        with pytest.raises(InvalidValue, match="at most 3 is allowed") as refused:
            way()
        assert (refused.value.field, "`max_user_level`" in refused.value.advice) == (field, True)
    with pytest.raises(InvalidValue, match="user_level is 4"):
        service.add_schedule("often", {"type": "noop", "user_level": 4}, every=60)
    assert (service.list_tasks()[1], service.schedules()) == (1, [])


def test_a_misspelt_option_is_told_with_the_nearest_one(service: TaskService) -> None:
    with pytest.raises(InvalidOptions, match="image_thumbnail has no option 'widht'; did you mean 'width'"):
        service.create_task(type="image_thumbnail", options={"widht": 1})


@pytest.mark.parametrize("task_id", [0, -1, 99, 2**60, "one", None])
def test_an_unknown_task_gets_a_typed_error(service: TaskService, task_id: Any) -> None:
    for ask in (service.cancel_task, service.start_task, service.retry_task):
        with pytest.raises((UnknownTask, InvalidValue)):
            ask(task_id)


def test_a_finished_task_refuses_what_its_state_does_not_allow(service: TaskService) -> None:
    task_id = service.create_task(type="noop")
    service.wait(task_id, timeout=WITHIN)
    head = service.stats().position
    for ask in (service.cancel_task, service.start_task, service.retry_task):
        with pytest.raises(IllegalTransition):
            ask(task_id)
    assert service.stats().position == head


def test_the_log_is_readable_with_plain_sqlite(service: TaskService, tmp_path: Path) -> None:
    task_id = service.create_task(type="noop", reason="为什么")
    service.wait(task_id, timeout=WITHIN)
    service.close()
    with sqlite3.connect(tmp_path / "data" / "log.db") as plain:
        rows = plain.execute(
            "SELECT event, reason, json_extract(data, '$.type') FROM events WHERE task_id = 1"
        ).fetchall()
    plain.close()
    assert rows[0] == ("created", "为什么", "noop")


def test_a_task_that_could_never_fit_is_refused_with_the_numbers_and_accepted_once_the_limit_is_raised(
    tmp_path: Path,
) -> None:
    source = tmp_path / "in.png"
    source.write_bytes(b"no picture, which only a worker would find")
    wanted: dict[str, Any] = {"input_file": str(source), "output_file": str(tmp_path / "out.png"), "held": True}
    with TaskService.open(tmp_path / "data", config=Config(workers=1, max_memory=10_000_000)) as service:
        with pytest.raises(NeverFits) as caught:
            service.create_task(type="image_thumbnail", **wanted)
        service.send(SetLimits(max_memory=2**40))
        task_id = service.create_task(type="image_thumbnail", **wanted)

        assert service.get_task(task_id).estimated_memory > 10_000_000
    assert "bytes of memory, and max_memory is 10,000,000" in str(caught.value)
    assert caught.value.status == 413


def test_the_holes_of_a_file_that_are_more_than_the_disk_has_room_for_are_refused_at_once(tmp_path: Path) -> None:
    holes = tmp_path / "holes.mp4"
    with holes.open("wb") as file:
        file.truncate(2 * shutil.disk_usage(tmp_path).total)
    with TaskService.open(tmp_path / "data", config=Config(workers=1)) as service, pytest.raises(NeverFits) as caught:
        service.create_task(type="video_convert", input_file=str(holes), output_file=str(tmp_path / "out.mp4"))
    assert "bytes of temp space, and the disk has" in str(caught.value)


@pytest.mark.parametrize("name", ["log.db-wal", "log.db-shm"])
def test_a_write_ahead_log_deleted_under_a_service_stops_it_and_costs_nothing(
    service: TaskService, open_service: Opener, tmp_path: Path, name: str
) -> None:
    ids = [service.create_task(type="echo", held=True) for _ in range(5)]
    (tmp_path / "data" / name).unlink()
    with pytest.raises(LogGone, match="saved into"):
        service.create_task(type="echo", held=True)
    assert service.failed.wait(WITHIN)
    service.close()
    _, total = open_service().list_tasks(TaskFilters())
    assert total >= len(ids)


def test_a_log_deleted_under_a_service_is_saved_and_the_next_start_says_so(
    service: TaskService, open_service: Opener, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    ids = [service.create_task(type="echo", held=True) for _ in range(5)]
    (data / "log.db").unlink()
    assert service.failed.wait(WITHIN)  # even without any question
    assert isinstance(service.fatal, LogGone)
    service.close()
    with pytest.raises(LogGone, match=r"log\.db\.rescued holds what a service saved"):
        open_service()
    (data / "log.db-wal").unlink(missing_ok=True)
    (data / "log.db-shm").unlink(missing_ok=True)
    (data / "log.db.rescued").rename(data / "log.db")
    tasks, _ = open_service().list_tasks(TaskFilters())
    assert {task.id for task in tasks} == set(ids)


def test_who_sees_first_that_the_log_was_deleted_may_not_know_what_was_saved_and_the_end_says_it(
    service: TaskService, tmp_path: Path
) -> None:
    service.create_task(type="echo", held=True)
    (tmp_path / "data" / "log.db").unlink()
    service._system._look_at_files()
    service.close()
    assert "All of it was saved as" in str(service.fatal)


def test_a_log_that_lost_its_end_is_refused_even_when_no_view_had_seen_it(
    service: TaskService, open_service: Opener, tmp_path: Path
) -> None:
    service.create_task(type="echo", held=True)
    service.close()
    data = tmp_path / "data"
    shutil.copytree(data, tmp_path / "older")
    again = open_service()
    again.create_task(type="echo", held=True)
    again.close()
    for name in ("log.db", "views.db"):
        shutil.copy(tmp_path / "older" / name, data / name)
    with pytest.raises(HistoryMissing, match=r"log\.db-head has seen position"):
        open_service()
    with TaskService.open(
        data, config=Config(handlers=("sample_handlers",)), accept_loss="there is no other"
    ) as accepting:
        assert accepting.create_task(type="echo", held=True) == 2
    open_service()
