"""The methods of `Commands`: what they send, and what they refuse before they send."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasktrail import Client, TaskService
from tasktrail.api.commands import Commands
from tasktrail.api.either_way import Blocking
from tasktrail.api.reader import Reader
from tasktrail.backups.backup import back_up
from tasktrail.backups.restore import restore
from tasktrail.batches.request import MadeBatch, NewBatch
from tasktrail.events import (
    Accepted,
    CancelTask,
    Checkpoint,
    Command,
    CreateGraph,
    CreateTask,
    GraphTask,
    TasktrailError,
)
from tasktrail.events.commands import AddSchedule, AddSource, FileTask
from tasktrail.events.errors import InvalidPath, InvalidValue
from tasktrail.intake.conversion import _NESTED
from tasktrail.intake.refusals import KINDS
from tasktrail.projections import TaskFilters


class Sent(Commands, Blocking):
    """Keeps what is sent, and whether its values were checked before."""

    def __init__(self) -> None:
        self.commands: list[tuple[Command, bool]] = []

    async def _send_all(self, commands: Sequence[Command], *, checked: bool) -> list[Accepted | TasktrailError]:
        self.commands += [(command, checked) for command in commands]
        return [Accepted(1, 1, command.command_id) for command in commands]

    async def _find_ids(self, filters: TaskFilters) -> list[int]:  # noqa: ARG002 - none
        return []

    async def _make_batch(self, wanted: NewBatch) -> MadeBatch:
        self.batch = wanted
        return MadeBatch(batch="b", position=0, created=(), skipped=(), left_out=(), refused=())


@pytest.fixture
def tasks() -> Sent:
    return Sent()


WRONG: list[tuple[Callable[[Any], object], str, str]] = [
    (lambda tasks: tasks.create_graph(5), "tasks", "has to be a list, not a whole number"),
    (lambda tasks: tasks.create_graph("abc"), "tasks", "has to be a list, not text"),
    (lambda tasks: tasks.create_graph([5]), "tasks[0]", "has to be an object, not a whole number"),
    (lambda tasks: tasks.add_schedule("nightly", 5), "task", "has to be an object, not a whole number"),
    (lambda tasks: tasks.set_limits(users=5), "users", "has to be an object, not a whole number"),
    (lambda tasks: tasks.set_limits(types=[1]), "types", "has to be an object, not a list"),
    (lambda tasks: tasks.retry_tasks(delay="soon"), "delay", "has to be a number, not text"),
    (lambda tasks: tasks.create_graph([GraphTask(name="a", type="t", priority=99)]), "tasks[0].priority", "at most 10"),
    (lambda tasks: tasks.add_schedule("s", CreateTask(type="t", priority=99), every=60), "task.priority", "at most 10"),
    (lambda tasks: tasks.save_checkpoint(1, Checkpoint(processed_bytes="5")), "checkpoint.processed_bytes", "whole"),  # type: ignore[arg-type]  # as a program may
    (lambda tasks: tasks.cancel_task("7"), "task_id", "has to be a whole number, not text"),
    (lambda tasks: tasks.create_batch(5, "/out"), "inputs", "has to be a list, not a whole number"),
    (lambda tasks: tasks.create_batch([], "/out"), "inputs", "may not be empty"),
    (lambda tasks: tasks.create_batch([5], "/out"), r"inputs[0]", "has to be text, not a whole number"),
    (lambda tasks: tasks.create_batch(["/a"], 5), "to", "has to be text, not a whole number"),
    (lambda tasks: tasks.add_source("s", ["/a", None], "/out"), "inputs[1]", "has to be text, not null"),
    (lambda tasks: tasks.add_source("s", ["/a"], 5), "to", "has to be text, not a whole number"),
    (lambda tasks: tasks.create_batch(["/a"], "/out", task={"priority": 99}), "priority", "at most 10"),
    (lambda tasks: tasks.create_batch(["/a"], "/out", batch="a/b"), "batch", "a name without"),
    (lambda tasks: tasks.cancel_task(None), "task_id", "has to be a whole number, not null"),
]


@pytest.mark.parametrize(("method", "field", "words"), WRONG)
def test_an_argument_of_a_wrong_kind_is_refused_by_its_name(
    tasks: Sent, method: Callable[[Any], object], field: str, words: str
) -> None:
    with pytest.raises(InvalidValue, match=words) as caught:
        method(tasks)
    assert (caught.value.field, tasks.commands) == (field, [])


def test_the_tasks_of_a_graph_may_come_from_a_generator(tasks: Sent) -> None:
    tasks.create_graph({"name": name, "type": "noop"} for name in "ab")  # type: ignore[arg-type]  # works all the same
    ((graph, _checked),) = tasks.commands
    assert isinstance(graph, CreateGraph)
    assert [task.name for task in graph.tasks] == ["a", "b"]


def test_options_as_a_struct_are_refused_with_what_makes_a_dict_of_them(tasks: Sent) -> None:
    class Wanted(msgspec.Struct):
        width: int

    with pytest.raises(InvalidValue, match="options has to be an object, not Wanted") as refused:
        tasks.create_task("image_thumbnail", options=Wanted(320))  # type: ignore[arg-type]  # as a program may
    assert refused.value.advice == "Give a dict: msgspec.structs.asdict(Wanted(...)) makes one."


def test_one_command_in_place_of_several_and_the_other_way_round_is_refused_by_its_kind(tasks: Sent) -> None:
    """Every field of the command was printed, and what to do was not said."""
    with pytest.raises(InvalidValue) as one:
        tasks.send_many(CreateTask(type="noop"))  # type: ignore[arg-type]  # as a program may
    assert one.value.message == "commands have to be a list of commands, not one CreateTask"
    assert "`send_many([CreateTask(...)])`" in one.value.advice
    with pytest.raises(InvalidValue) as several:
        tasks.send([CreateTask(type="noop")])  # type: ignore[arg-type]  # the same
    assert several.value.message == "A command is one Struct such as CreateTask or CancelTask, not a list of them"
    assert (several.value.advice, tasks.commands) == ("Send several with `send_many`.", [])


OPENING: list[tuple[Callable[[Any], object], str]] = [
    (TaskService.open, "data"),
    (Client.connect, "data"),
    (Reader, "data"),
    (lambda wrong: back_up(wrong, "there"), "data"),
    (lambda wrong: back_up("here", wrong), "destination"),
    (lambda wrong: back_up("here", "there", base=wrong), "base"),
    (lambda wrong: restore(wrong, "there"), "source"),
    (lambda wrong: restore("here", wrong), "data"),
]


@pytest.mark.parametrize(("method", "field"), OPENING)
def test_what_is_no_path_is_refused_by_the_name_of_its_argument(method: Callable[[Any], object], field: str) -> None:
    with pytest.raises(InvalidPath, match=f"{field} has to be a path, not 5") as caught:
        method(5)
    assert caught.value.field == field


@pytest.mark.parametrize(("method", "field"), OPENING)
def test_an_empty_path_is_not_taken_for_the_current_folder(method: Callable[[Any], object], field: str) -> None:
    """As of a variable of the environment that is not set: a service would have begun a log there."""
    with pytest.raises(InvalidPath, match=f"{field} is empty") as caught:
        method("")
    assert caught.value.field == field


@pytest.mark.parametrize("wrong", ["a\ud800", "a\0b"])
@pytest.mark.parametrize(("method", "field"), OPENING)
def test_what_no_file_can_be_called_is_refused_by_the_name_of_its_argument(
    method: Callable[[Any], object], field: str, wrong: str
) -> None:
    with pytest.raises(InvalidPath, match="no file can have") as caught:
        method(wrong)
    assert (caught.value.field, caught.value.message.isprintable()) == (field, True)


@pytest.mark.parametrize("wrong", ["x" * 300, "/".join(["y" * 200] * 25)], ids=["name", "path"])
@pytest.mark.parametrize(("method", "field"), OPENING)
def test_a_path_that_is_too_long_is_refused_by_the_name_of_its_argument(
    method: Callable[[Any], object], field: str, wrong: str
) -> None:
    """From Python it was an OSError, which only the command line put into words."""
    with pytest.raises(InvalidPath, match=f"{field} can be no path: File name too long") as caught:
        method(wrong)
    assert caught.value.field == field


def test_what_a_method_has_made_of_its_arguments_need_not_be_checked_again(tasks: Sent) -> None:
    tasks.create_task("noop")
    tasks.create_graph([{"name": "a", "type": "noop"}])
    tasks.cancel_task(1)
    tasks.pause()
    assert all(checked for _command, checked in tasks.commands)


def test_a_command_that_a_program_has_built_is_checked_on_its_way(tasks: Sent) -> None:
    tasks.send(CreateTask(type="noop"))
    tasks.send_many([CancelTask(task_id=1)])
    assert [checked for _command, checked in tasks.commands] == [False, False]


def test_paths_count_from_the_current_folder(tasks: Sent, monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.chdir(tmp_path)
    tasks.create_task("noop", "in.jpg")
    tasks.create_graph([{"name": "a", "type": "noop", "output_file": "out.jpg"}])
    one, graph = (command for command, _checked in tasks.commands)
    assert isinstance(one, CreateTask)
    assert isinstance(graph, CreateGraph)
    assert (one.input_file, graph.tasks[0].output_file) == (f"{tmp_path}/in.jpg", f"{tmp_path}/out.jpg")


def test_paths_in_commands_that_a_program_has_built_count_from_there_too(
    tasks: Sent, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    tasks.send(CreateTask(type="noop", input_file="in.jpg", output_file="s3://bucket/out.jpg"))
    tasks.send_many(
        [
            CreateGraph(tasks=(GraphTask(name="a", type="noop"), GraphTask(name="b", type="noop", input_file="b.jpg"))),
            AddSchedule(schedule="s", task=CreateTask(type="noop", output_file="out.jpg"), every=60),
            AddSource(source="s", inputs=("films", "/more/*"), to="small/", task=FileTask(original_folder="old")),
            CancelTask(task_id=1),
        ]
    )
    one, graph, schedule, source, cancel = (command for command, _checked in tasks.commands)
    assert one == CreateTask(type="noop", input_file=f"{tmp_path}/in.jpg", output_file="s3://bucket/out.jpg")
    assert isinstance(graph, CreateGraph)
    assert [task.input_file for task in graph.tasks] == ["", f"{tmp_path}/b.jpg"]
    assert isinstance(schedule, AddSchedule)
    assert schedule.task.output_file == f"{tmp_path}/out.jpg"
    assert isinstance(source, AddSource)
    assert (source.inputs, source.to) == ((f"{tmp_path}/films", "/more/*"), f"{tmp_path}/small/")
    assert source.task.original_folder == f"{tmp_path}/old"
    assert cancel == CancelTask(task_id=1)


def test_a_path_may_climb_from_the_current_folder(tasks: Sent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    tasks.create_task("noop", "../in.jpg", Path("./../../out.jpg"))
    tasks.create_batch(["../films", "../**/*.jpg"], "../small/", task={"original": "move", "original_folder": "../old"})
    tasks.send(AddSource(source="s", inputs=("..",), to="../{stem}.jpg"))

    (one, _), (source, _) = tasks.commands
    assert isinstance(one, CreateTask)
    assert (one.input_file, one.output_file) == (f"{tmp_path}/in.jpg", f"{tmp_path.parent}/out.jpg")
    assert tasks.batch.inputs == (f"{tmp_path}/films", f"{tmp_path}/**/*.jpg")
    assert (tasks.batch.to, tasks.batch.original_folder) == (f"{tmp_path}/small/", f"{tmp_path}/old")
    assert isinstance(source, AddSource)
    assert (source.inputs, source.to) == ((str(tmp_path),), f"{tmp_path}/{{stem}}.jpg")


def test_what_climbs_out_of_a_folder_that_a_program_named_is_left_for_the_check(
    tasks: Sent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The program may have put somebody else's words behind the folder."""
    monkeypatch.chdir(tmp_path)
    tasks.create_task("noop", "/uploads/../etc/x", "uploads/../../out.jpg")
    tasks.create_batch(["/uploads/../etc", "../a/../*.jpg"], "small/../{stem}.jpg")

    ((one, _),) = tasks.commands
    assert isinstance(one, CreateTask)
    assert (one.input_file, one.output_file) == ("/uploads/../etc/x", f"{tmp_path}/uploads/../../out.jpg")
    assert tasks.batch.inputs == ("/uploads/../etc", f"{tmp_path.parent}/a/../*.jpg")
    assert tasks.batch.to == f"{tmp_path}/small/../{{stem}}.jpg"


@pytest.mark.parametrize("wrong", [5, None, b"in.jpg"])
def test_a_path_of_a_wrong_kind_is_left_for_the_check(tasks: Sent, wrong: Any) -> None:
    built: list[Command] = [
        CreateTask(type="noop", input_file=wrong),
        CreateGraph(tasks=wrong),
        AddSchedule(schedule="s", task=wrong, every=60),
        AddSource(source="s", inputs=wrong, to=wrong, task=wrong),
        AddSource(source="s", inputs=("",), to="", task=FileTask()),
    ]
    tasks.send_many(built)
    assert [command for command, _checked in tasks.commands] == built


def test_the_fields_that_hold_structs_are_known() -> None:
    found = {
        field.encode_name
        for kind in KINDS
        for field in msgspec.inspect.type_info(kind).fields  # type: ignore[attr-defined]  # each of them is a Struct
        if "StructType" in repr(field.type)
    }
    assert found == _NESTED
