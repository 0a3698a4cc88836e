"""Functions as task types, through a whole service: submitted, awaited, cancelled, retried; by function and by name."""

import asyncio
import os
import pickle
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from msgspec.structs import replace

from tasktrail import AsyncClient, Client, Estimate, InputFile, NamedTask, OutputFile, TaskContext, TaskService, task
from tasktrail.actors.workers.worker_process import MARK
from tasktrail.cli.own_modules import hiding_python
from tasktrail.errors import TaskNotCompleted
from tasktrail.events import CreateTask, Failed, Retried
from tasktrail.events.errors import InvalidOptions, InvalidPath, InvalidValue, NotReady, ServiceUnreachable, WaitTimeout
from tasktrail.functions.default_client import _async_clients, default_async_client, default_client
from tasktrail.http.server import HttpServer
from tasktrail.testing import inline_service

WITHIN = 30.0
release = threading.Event()


@task
def add(a: int, b: int = 2) -> int:
    """Add two numbers."""
    return a + b


@task
async def double(number: float) -> dict[str, float]:
    """Return twice the number."""
    return {"double": 2 * number}


@task
def seats(given: dict[int, str], halves: list[dict[float, int]] | None = None) -> dict[int, str]:
    """Return the seats."""
    assert halves in (None, [{0.5: 1}])
    return {**given, 0: ""}


@task
def capitals(source: InputFile, target: OutputFile) -> int:
    """Write a text in capitals."""
    return target.write_text(source.read_text().upper())


@task(max_retries=0)
def forgets(target: OutputFile) -> None:
    """Write nothing."""


@task("stubborn", max_retries=5, retry_delay=0.0, retry_on=(LookupError,), priority=7, timeout=60.0)
def fails_twice(context: TaskContext[Any]) -> int:
    """Fail twice."""
    if context.attempt < 3:
        raise KeyError(context.attempt)
    return context.attempt


@task(max_retries=5, retry_delay=0.0, retry_on=(LookupError,))
def broken() -> None:
    """Fail for good."""
    raise ValueError("no number")


@task(grace=WITHIN)
def patient(context: TaskContext[Any]) -> None:
    """Wait until stopped."""
    while not context.should_stop():
        release.wait(0.01)
    context.check_stop()


@pytest.fixture
def service(tmp_path: Path) -> Iterator[TaskService]:
    functions = (add, double, seats, capitals, forgets, fails_twice, broken, patient)
    with inline_service(tmp_path / "data", *functions) as tasks:
        yield tasks


def test_a_submitted_function_gives_its_result(service: TaskService) -> None:
    handle = add.using(service).submit(40)
    number: int = handle.result(WITHIN)
    assert number == 42
    assert (handle.status, handle.task().result, handle.task().options) == ("completed", {"value": 42}, {"a": 40})
    assert double.using(service).submit(number=1.5).result(WITHIN) == {"double": 3.0}
    assert add.using(service).handle(handle.id).result(WITHIN) == 42


def test_a_program_that_knows_only_the_name_submits_too_and_the_service_checks(service: TaskService) -> None:
    named = NamedTask("add").using(service)
    assert named.submit(a=1, b=2).result(WITHIN) == 3
    assert named.handle(1).result(WITHIN) == 3
    with pytest.raises(InvalidOptions, match=r"option a of add has to be a whole number, not text"):
        named.submit(a="one")
    with pytest.raises(InvalidOptions, match="add has no option 'c'"):
        named.submit(a=1, c=2)
    with pytest.raises(InvalidOptions, match="option a of add has to be given"):
        named.submit()


def test_who_gives_a_file_as_an_option_or_a_list_as_words_is_told_how_to_give_it(service: TaskService) -> None:
    with pytest.raises(InvalidOptions, match="capitals has no option 'source'") as refused:
        service.create_task("capitals", options={"source": "in.txt"})
    assert refused.value.advice.endswith("`input_file` and `output_file` (CLI: capitals INPUT OUTPUT).")
    with pytest.raises(InvalidOptions, match="has to be a list or null, not text") as refused:
        service.create_task("seats", options={"given": {}, "halves": "1,2"})
    assert refused.value.advice == "Write it as JSON (CLI: -o 'halves=[1, 2]')."
    with pytest.raises(InvalidOptions, match="has to be an object, not text") as refused:
        service.create_task("seats", options={"given": "Ada"})
    assert refused.value.advice == "Write it as JSON (CLI: -o 'given={\"a\": 1}')."


def test_numbers_as_keys_come_back_as_numbers(service: TaskService) -> None:
    """JSON has only text keys."""
    assert seats.using(service).submit({1: "Ada", -2: "Ben"}, [{0.5: 1}]).result(WITHIN) == {1: "Ada", -2: "Ben", 0: ""}
    assert NamedTask("seats").using(service).submit(given={"7": "Cy"}).result(WITHIN) == {"7": "Cy", "0": ""}
    with pytest.raises(InvalidOptions, match=r"given of seats"):
        NamedTask("seats").using(service).submit(given={"one": "Cy"})


def test_files_are_the_tasks_own(service: TaskService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "in.txt").write_text("hello")
    monkeypatch.chdir(tmp_path)
    handle = capitals.using(service).submit(Path("in.txt"), Path("out.txt"))
    assert handle.result(WITHIN) == 5
    assert (tmp_path / "out.txt").read_text() == "HELLO"
    assert handle.task().output_file == str(tmp_path / "out.txt")
    with pytest.raises(InvalidPath, match="needs an output file"):
        NamedTask("capitals").using(service).with_fields(input_file="in.txt").submit()


def test_who_forgets_the_output_is_told_in_the_words_of_a_function(service: TaskService, tmp_path: Path) -> None:
    with pytest.raises(TaskNotCompleted, match=r"Write to the OutputFile that the function is given"):
        forgets.using(service).submit(tmp_path / "out.txt").result(WITHIN)


def test_the_paths_of_a_schedule_count_from_the_current_folder(
    service: TaskService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in.txt").write_text("hello")
    monkeypatch.chdir(tmp_path)
    service.add_schedule(
        "loud", {"type": "capitals", "input_file": Path("in.txt"), "output_file": "{fire_time}"}, every=3600
    )
    (board,) = [board for board in service.schedules() if board.schedule == "loud"]
    service.remove_schedule("loud")
    assert (board.spec.task.input_file, board.spec.task.output_file) == (
        str(tmp_path / "in.txt"),
        str(tmp_path / "{fire_time}"),
    )


def test_a_file_for_a_function_that_takes_none_is_refused(service: TaskService) -> None:
    """`tasktrail run add 40` looks as if it passed an argument."""
    with pytest.raises(InvalidPath, match=r"add reads no file(.|\n)*-o KEY=VALUE") as refused:
        service.create_task("add", "40", options={"a": 1})
    assert (refused.value.field, refused.value.status) == ("input_file", 422)
    with pytest.raises(InvalidPath, match="add writes no file"):
        service.create_task("add", output_file="out.txt", options={"a": 1})


@pytest.mark.parametrize(
    ("given", "advice"),
    [
        ("b=40", "(CLI: -o b=40)"),
        ("b=x=1 2", "(CLI: -o 'b=x=1 2')"),
        ("b=http://there/a", "(CLI: -o b=VALUE)"),
        ("c=40", "(CLI: -o KEY=VALUE)"),
        ("b", "(CLI: -o KEY=VALUE)"),
    ],
)
def test_an_option_in_the_place_of_a_file_is_told_as_it_has_to_be_written(
    service: TaskService, given: str, advice: str
) -> None:
    plain = CreateTask(type="add", options={"a": 1})
    for command in (replace(plain, input_file=given), replace(plain, output_file=given)):
        with pytest.raises(InvalidPath) as refused:
            service.send(command)
        assert advice in refused.value.advice


def test_it_is_tried_again_after_the_errors_that_it_names_and_no_others(service: TaskService) -> None:
    handle = fails_twice.using(service).submit()
    assert handle.result(WITHIN) == 3
    events = [record.event for record in service.events(handle.id)]
    assert [event.rule for event in events if isinstance(event, Failed)] == ["retry_on:LookupError"] * 2
    assert sum(isinstance(event, Retried) for event in events) == 2

    lost = broken.using(service).submit()
    with pytest.raises(TaskNotCompleted, match="no number") as caught:
        lost.result(WITHIN)
    assert (caught.value.task.retry_count, caught.value.task.error_type) == (0, "ValueError")


def test_the_types_defaults_hold_however_the_task_came(service: TaskService) -> None:
    stated = fails_twice.using(service).submit().task()
    plain = service.get_task(service.create_task("stubborn", timeout=5.0))
    ids = service.create_graph([{"name": "one", "type": "stubborn", "priority": 2}])
    in_graph = service.get_task(ids["one"])

    assert (stated.priority, stated.max_retries, stated.timeout) == (7, 5, 60.0)
    assert (plain.priority, plain.max_retries, plain.timeout) == (7, 5, 5.0)
    assert (in_graph.priority, in_graph.max_retries, in_graph.timeout) == (2, 5, 60.0)


def test_the_node_that_a_type_requires_holds_for_all_its_tasks_but_those_with_their_own(tmp_path: Path) -> None:
    """Each task of a type with `requires` ended in a KeyError, however it was created."""

    @task("rendering", requires={"zone": "a"})
    def rendering() -> None:
        """Work on a certain node."""

    with inline_service(tmp_path / "data", rendering) as tasks:
        usual = rendering.with_fields(held=True).submit().task()
        own = tasks.get_task(tasks.create_task(type="rendering", held=True, requires={"zone": "b"}))
        with pytest.raises(InvalidValue, match=r"^requires=\{\} counts as left out"):
            rendering.with_fields(requires={})
    assert (usual.requires, own.requires) == ({"zone": "a"}, {"zone": "b"})


def test_the_receivers_of_a_type_hold_for_all_its_tasks_and_are_checked(tmp_path: Path) -> None:
    """A `TaskType` could name receivers to which nothing would ever be sent, and nobody was told."""

    @task("watched", notify_email="me@example.org", notify_on=["failed"])
    def watched() -> None:
        """Work."""

    @task("nobody", notify_targets=["ops"])
    def nobody() -> None:
        """Tell somebody whom the configuration does not know."""

    @task("inside", callback_url="https://10.0.0.1/done")
    def inside() -> None:
        """Tell a program that the configuration does not allow."""

    with inline_service(tmp_path / "data", watched, nobody, inside) as tasks:
        own = watched.submit().task()
        other = watched.with_fields(notify_email="you@example.org").submit().task()
        ids = tasks.create_graph([{"name": "one", "type": "watched"}])
        for function, field, said in (
            (nobody, "notify_targets", "^By default of nobody: There is no target 'ops'"),
            (inside, "callback_url", "^By default of inside: callback_url: "),
        ):
            with pytest.raises(InvalidValue, match=said) as caught:
                function.submit()
            assert caught.value.field == field
        said = "^Task one: By default of nobody: There is no target 'ops'"
        with pytest.raises(InvalidValue, match=said):
            tasks.create_graph([{"name": "one", "type": "nobody"}])
        # Else each of the files would be refused, or not one file of the folder would ever get its task.
        said = "^By default of nobody: There is no target 'ops'"
        with pytest.raises(InvalidValue, match=said):
            tasks.create_batch([tmp_path], f"{tmp_path}/{{stem}}.out", type="nobody")
        with pytest.raises(InvalidValue, match=said) as caught:
            tasks.add_source("inbox", [tmp_path], f"{tmp_path}/{{stem}}.out", task={"type": "nobody"})
        assert caught.value.field == "task.notify_targets"
        with pytest.raises(InvalidValue, match=r"^notify_on names no end"):
            watched.with_fields(notify_email="you@example.org", notify_on=["started"]).submit()
        silent = watched.with_fields(notify_on=["started"]).submit().task()
        graphed = tasks.get_task(ids["one"])
        told = inside.with_fields(callback_url="https://example.org/done", held=True).submit().task()
    assert (own.notify_email, own.notify_on) == ("me@example.org", ("failed",))
    assert (other.notify_email, other.notify_on) == ("you@example.org", ("failed",))
    assert graphed.notify_email == "me@example.org"
    assert (silent.notify_email, silent.notify_on) == ("me@example.org", ("started",))
    assert told.callback_url == "https://example.org/done"


def test_repeating_a_command_is_harmless_where_the_type_has_defaults(service: TaskService) -> None:
    first = fails_twice.using(service).with_fields(command_id="once").submit()
    again = service.create_task("stubborn", command_id="once")
    assert first.id == again


@pytest.mark.parametrize(
    "needs", [Estimate(memory=3 << 30, seconds=90.0), lambda _job: Estimate(memory=3 << 30, seconds=90.0)]
)
def test_what_a_function_says_it_needs_is_reserved(tmp_path: Path, needs: Any) -> None:
    @task("heavy", estimate=needs)
    def heavy() -> None:
        """Take much."""

    with inline_service(tmp_path / "data", heavy):
        waiting = heavy.with_fields(held=True).submit().task()
    assert (waiting.estimated_memory, waiting.estimated_time) == (3 << 30, 90.0)


def test_a_handle_waits_and_cancels(service: TaskService) -> None:
    handle = patient.using(service).submit()
    with pytest.raises(WaitTimeout):
        handle.result(0.05)
    handle.cancel(reason="enough")
    assert handle.wait(WITHIN).status == "cancelled"
    with pytest.raises(TaskNotCompleted, match="has been cancelled"):
        handle.result(WITHIN)
    assert repr(handle) == f"<task {handle.id}>"


def test_without_a_service_to_be_found_the_error_says_where_it_was_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TASKTRAIL_URL", raising=False)
    monkeypatch.setenv("TASKTRAIL_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ServiceUnreachable, match="nowhere"):
        add.submit(1)


def test_within_an_attempt_the_error_says_that_none_can_be_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TASKTRAIL_URL", raising=False)
    monkeypatch.delenv("TASKTRAIL_DATA", raising=False)
    monkeypatch.setenv(MARK, "1")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ServiceUnreachable, match=r"within a task(.|\n)*depends_on"):
        add.submit(1)
    with pytest.raises(ServiceUnreachable, match=r"within a task(.|\n)*depends_on"):
        asyncio.run(add.submit_async(1))


@pytest.mark.parametrize("given", [None, 2.5, "17", ["17"]])
def test_dependencies_that_are_none_are_refused_by_name(service: TaskService, given: Any) -> None:
    with pytest.raises(InvalidValue, match=r"^depends_on") as refused:
        add.using(service).with_fields(depends_on=given).submit(1)
    assert refused.value.field.startswith("depends_on")


def test_the_service_of_a_test_goes_before_all_that_the_environment_names(
    service: TaskService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKTRAIL_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TASKTRAIL_DATA", str(tmp_path / "nowhere"))
    handle = add.submit(40)
    assert (handle.result(WITHIN), service.get_task(handle.id).options) == (42, {"a": 40})
    with inline_service(tmp_path / "inner", add) as inner:
        assert inner.get_task(add.submit(1).id).options == {"a": 1}
    assert add.handle(handle.id).task().options == {"a": 40}
    with pytest.raises(ServiceUnreachable, match="listen=True"):
        asyncio.run(add.submit_async(1))


def test_the_service_of_a_test_listens_if_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKTRAIL_DATA", str(tmp_path / "nowhere"))

    async def program() -> None:
        assert await (await add.submit_async(1)) == 3
        async with AsyncClient.connect(tmp_path / "data") as tasks:
            assert await (await add.using(tasks).submit_async(2)) == 4

    with inline_service(tmp_path / "data", add, listen=True):
        asyncio.run(program())
        with Client.connect(tmp_path / "data") as tasks:
            assert add.using(tasks).submit(3).result(WITHIN) == 5
    with pytest.raises(ServiceUnreachable, match="tasktrail serve"):
        AsyncClient.connect(tmp_path / "data")


def test_an_attempt_in_the_service_of_a_test_finds_none_as_in_any_other(tmp_path: Path) -> None:
    @task
    def submits() -> int:
        return add.submit(1).id

    lost = pytest.raises(TaskNotCompleted, match=r"within a task(.|\n)*depends_on")
    with inline_service(tmp_path / "data", add, submits), lost:
        submits.with_fields(max_retries=0).submit().result(WITHIN)


def test_an_address_in_the_environment_goes_before_a_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKTRAIL_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("TASKTRAIL_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(ServiceUnreachable, match=r"127\.0\.0\.1:1"):
        add.submit(1)
    assert default_client() is default_client()
    default_client().close()


def test_tasks_that_wait_while_the_function_changes_are_of_the_new_one(tmp_path: Path) -> None:
    def before() -> None:
        @task
        def measure(size: int, unit: str = "cm") -> str:
            return f"{size} {unit}"

        @task("weigh")
        def old_name(kilos: int) -> int:
            return kilos

        with inline_service(tmp_path / "data", measure, old_name) as tasks:
            tasks.pause()
            for submitted in (measure.using(tasks).submit(3), measure.using(tasks).submit(3, unit="in")):
                assert submitted.status == "pending"
            assert old_name.using(tasks).submit(5).status == "pending"

    before()

    @task
    def measure(size: int, digits: int = 1) -> float:
        return float(f"{size:.{digits}f}")

    @task
    def gone(kilos: int) -> int:
        return kilos

    with inline_service(tmp_path / "data", measure, gone) as tasks:
        tasks.resume()
        assert measure.using(tasks).handle(1).result(WITHIN) == 3.0
        failed = tasks.wait(2, WITHIN)
        assert (failed.status, failed.error) == (
            "failed",
            "The options do not fit: Object contains unknown field `unit`",
        )
        (obstacle,) = tasks.why(3).reasons
        assert obstacle.reason == "NoHandler"


# --- as processes of their own ------------------------------------------------------------------------------------

APP = dedent(
    """
    from tasktrail import task


    @task
    def add(a: int, b: int = 2) -> int:
        return a + b


    if __name__ == "__main__":
        print(add.submit(40).result(timeout=30))
    """
)


class House:
    """A folder with programs, and a service on `./tasktrail-data` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("TASKTRAIL_")}
        self.service: subprocess.Popen[str] | None = None

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "tasktrail", *words]

    def serve(self, *words: str) -> str:
        """Start the service; return its output up to `ready`."""
        self.service = subprocess.Popen(
            self.command("serve", *words), cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True
        )
        assert self.service.stderr
        said = ""
        for line in self.service.stderr:
            said += line
            if re.match("ready", line):
                self.rest = threading.Thread(target=self.service.stderr.read)
                self.rest.start()
                return said
        pytest.fail(said)

    def stop(self) -> None:
        if self.service is not None:
            self.service.send_signal(signal.SIGTERM)
            self.service.wait(WITHIN)
            self.rest.join()
            assert self.service.stderr
            self.service.stderr.close()
            self.service = None

    def run(self, *command: str) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.stop()


@pytest.mark.slow
def test_a_file_of_ten_lines_and_two_commands_are_enough(house: House) -> None:
    (house.folder / "app.py").write_text(APP)
    house.serve("app.py")
    assert house.run(sys.executable, "app.py") == "42\n"
    by_name = 'from tasktrail import NamedTask; print(NamedTask("add").submit(a=1, b=1).result(30))'
    assert house.run(sys.executable, "-c", by_name) == "2\n"
    assert "completed" in house.run(*house.command("run", "add", "-o", "a=1"))
    with Client.connect(house.folder / "tasktrail-data") as tasks:
        assert tasks.get_task(3).result == {"value": 3}


@pytest.mark.slow
def test_a_module_of_a_package_is_found_by_name_and_by_file(house: House) -> None:
    package = house.folder / "mine"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "app.py").write_text(APP)
    by_name = "from mine.app import add; print(add.submit(1).result(30))"
    for words in ("mine.app", "mine/app.py"):
        house.serve(words)
        assert house.run(sys.executable, "-c", by_name) == "3\n"
        house.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["missing.py"], 2, "There is no file missing.py"),
        (["missing"], 2, "There is no module 'missing'"),
        (["json.py"], 2, "'json' is the name of another module"),
        (["empty.py"], 1, "There is no handler in empty"),
        (["empty.py"], 1, "  Mark a function with @task, or a function or class with @handler(...), or leave it out."),
        (["taken.py"], 1, '  Give one of the two another name, as in @task("NAME") and @handler("NAME"), or leave'),
        (["notes.txt"], 2, "notes.txt is no file of Python"),
        (["my photos"], 2, "my photos is a folder without a module of its own"),
        (["./my photos/"], 2, "is a folder, and no module. Name a file, as in my photos/app.py."),
        (["."], 2, ". is a folder, and no module. Name a file, as in app.py."),
        (["./empty"], 2, "There is no module './empty', neither installed nor in this folder. Did you mean the file"),
        (["./missing"], 2, "There is no module './missing', neither installed nor in this folder.\n"),
        (["broken.py"], 1, "Parameter 'a' of f has no annotation"),
        (["lacking.py"], 1, f"Install what is missing where tasktrail is ({sys.prefix})"),
        (["taken.py"], 1, "Task type 'image_thumbnail' of taken:image_thumbnail is already claimed"),
        (["--host", "192.0.2.1"], 1, "'192.0.2.1' is no loopback address, and there are no tokens"),
        (["--host", "somewhere"], 1, "'somewhere' is no address"),
        (["--standby"], 1, "Only a log on PostgreSQL"),
        (["--read-only"], 1, "Only a log on PostgreSQL"),
    ],
)
def test_what_cannot_be_served_is_refused_at_once_and_leaves_no_data_folder(
    house: House, words: list[str], code: int, said: str
) -> None:
    (house.folder / "json.py").write_text(APP)
    (house.folder / "empty.py").write_text("")
    (house.folder / "notes.txt").write_text("")
    (house.folder / "my photos").mkdir()
    (house.folder / "broken.py").write_text("from tasktrail import task\n\n@task\ndef f(a): ...\n")
    (house.folder / "lacking.py").write_text("import no_such_library\n")
    (house.folder / "taken.py").write_text("from tasktrail import task\n\n@task\ndef image_thumbnail() -> None: ...\n")
    command = [sys.executable, "-P", "-m", "tasktrail", "serve", *words]
    done = subprocess.run(
        command, cwd=house.folder, env=house.environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert not (house.folder / "tasktrail-data").exists()


def test_a_file_with_the_name_of_a_module_of_python_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers die of it, and say only that there is no module `tasktrail`."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(tmp_path / "missing")]))
    for name in ("types.py", "app.py", "test.py", "queue.txt"):
        (tmp_path / name).touch()
    for name in ("email", "data", "json.d"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
    (tmp_path / "html").mkdir()
    assert hiding_python() == [tmp_path / "email", tmp_path / "types.py"]


@pytest.mark.slow
def test_a_served_file_beside_one_that_hides_a_module_of_python_is_warned_of(house: House) -> None:
    (house.folder / "app.py").write_text(APP)
    (house.folder / "sched.py").touch()
    assert f"rename this file: workers import it in place of Python's own module path={house.folder / 'sched.py'}" in (
        " ".join(house.serve("app.py").split())
    )


@pytest.mark.slow
def test_a_port_that_is_taken_leaves_no_data_folder(house: House) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-P", "-m", "tasktrail", "serve", "--port", str(port)]
        done = subprocess.run(
            command, cwd=house.folder, env=house.environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert (done.returncode, f"Port {port} of 127.0.0.1 cannot be listened on: Address already" in done.stderr) == (
        1,
        True,
    )
    assert not (house.folder / "tasktrail-data").exists()


# --- for programs with an event loop ------------------------------------------------------------------------------


@pytest.fixture
def data(service: TaskService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the data folder of a service that answers over HTTP, and is found by the environment alone."""
    server = HttpServer(service, socket_path=service.paths.socket, secret_file=service.paths.http_token)
    server.start()
    with monkeypatch.context() as patch:
        patch.setattr("tasktrail.functions.default_client._of_tests", [])
        yield tmp_path / "data"
    assert server.stop()


def test_an_asyncio_program_submits_and_awaits(data: Path) -> None:
    async def program() -> None:
        async with AsyncClient.connect(data) as tasks:
            first = await add.using(tasks).submit_async(40)
            assert await first == 42
            after = await double.using(tasks).with_fields(depends_on=first).submit_async(number=2.0)
            assert await after.result(WITHIN) == {"double": 4.0}
            assert (await after.task()).depends_on == (first.id,)
            assert await NamedTask("add").using(tasks).handle_async(first.id) == 42

            waits = await patient.using(tasks).submit_async()
            with pytest.raises(WaitTimeout):
                await waits.wait(0.05)
            await waits.cancel(reason="enough")
            with pytest.raises(TaskNotCompleted, match="has been cancelled"):
                await waits
            assert repr(waits) == f"<task {waits.id}>"
            assert await add.using(tasks).handle_async(first.id).result(WITHIN) == 42

    asyncio.run(program())


def test_the_client_of_a_loop_is_found_as_the_other_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKTRAIL_URL", raising=False)
    monkeypatch.setenv("TASKTRAIL_DATA", str(data))

    async def program() -> None:
        handles = [await NamedTask("add").submit_async(a=number) for number in range(3)]
        assert await asyncio.gather(*handles) == [2, 3, 4]
        assert default_async_client() is default_async_client()

    asyncio.run(program())
    assert add.submit(1).result(WITHIN) == 3
    default_client().close()


def test_the_client_of_a_loop_is_closed_with_it(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TASKTRAIL_URL", raising=False)
    monkeypatch.setenv("TASKTRAIL_DATA", str(data))
    used: list[AsyncClient] = []

    async def program() -> None:
        handle = await add.submit_async(1)
        assert await handle == 3
        used.append(default_async_client())

    for _ in range(2):
        asyncio.run(program())
    other = asyncio.new_event_loop()
    other.run_until_complete(program())
    other.run_until_complete(used[2].close())
    other.close()
    asyncio.run(program())
    assert len(set(map(id, used))) == 4
    assert not _async_clients
    for client in used:
        with pytest.raises(NotReady, match="closed"):
            asyncio.run(client.stats())


def test_a_client_is_not_handed_to_other_processes_and_says_what_is(service: TaskService) -> None:
    handle = add.using(service).submit(1)
    for held in (service, handle, add.using(service), Client("http://127.0.0.1:1"), AsyncClient("http://127.0.0.1:1")):
        with pytest.raises(TypeError, match=r"(TaskService|Client) cannot be pickled.*id"):
            pickle.dumps(held)
    assert pickle.loads(pickle.dumps(add.handle(handle.id))).result(WITHIN) == 3


def test_a_client_of_the_wrong_kind_is_refused(service: TaskService) -> None:
    async def program() -> None:
        async with AsyncClient("http://127.0.0.1:1") as tasks:
            with pytest.raises(TypeError, match=r"await \.submit_async"):
                add.using(tasks).submit(1)

    asyncio.run(program())
    with pytest.raises(TypeError, match="a TaskService, which would block the loop"):
        asyncio.run(add.using(service).submit_async(1))
