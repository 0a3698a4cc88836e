"""What an attempt is given, and where it may read and write, through the whole service."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasktrail import TaskService
from tasktrail.config.load import checked, load_config, with_live_keys
from tasktrail.config.settings import Config
from tasktrail.events import CreateTask, Task
from tasktrail.events.commands import AddSchedule
from tasktrail.events.errors import InvalidPath, InvalidValue
from tasktrail.events.task_events import Checkpointed, Completed, Created, Failed, Retried, Started
from tasktrail.handlers.process.limits import MEMORY_FLOOR
from tasktrail.handlers.process.sandbox import check_apart
from tasktrail.intake.examination import refuse_odd
from tasktrail.projections import TaskFilters

WITHIN = 20.0
GIB = 1024**3
Opener = Callable[..., TaskService]


@pytest.fixture
def start(open_service: Opener) -> Callable[..., TaskService]:
    """A service with the types of tests/support/limit_handlers.py."""

    def make(**settings: Any) -> TaskService:
        return open_service(handlers=("limit_handlers",), workers=1, **settings)

    return make


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "in.txt"
    path.write_text("hello")
    return path


def look(service: TaskService, text: Path, output: Path, **options: Any) -> int:
    return service.create_task(type="looker", input_file=str(text), output_file=str(output), options=options)


def kinds(service: TaskService, task_id: int) -> list[type]:
    return [type(record.event) for record in service.events(task_id)]


def test_a_look_that_shows_more_to_be_needed_sends_the_task_back_once(
    start: Opener, text: Path, tmp_path: Path
) -> None:
    service = start()

    task_id = look(service, text, tmp_path / "out.txt", memory=3 * GIB, temp=7 * GIB)
    task = service.wait(task_id, WITHIN)

    assert (task.status, task.attempt, task.retry_count, task.crash_count) == ("completed", 2, 0, 0)
    assert kinds(service, task_id) == [Created, Started, Failed, Retried, Started, Completed]
    assert task.result["memory"] >= 6 * GIB > MEMORY_FLOOR, "the second attempt is bound by the better estimate"
    assert task.estimate is not None
    assert (task.estimate.memory, task.estimate.seconds, task.estimate.basis) == (3 * GIB, 2.5, {"size": 5})


def test_a_look_that_shows_less_to_be_needed_changes_nothing_and_is_kept(
    start: Opener, text: Path, tmp_path: Path
) -> None:
    service = start()

    task_id = look(service, text, tmp_path / "out.txt", memory=1000, temp=10)
    task = service.wait(task_id, WITHIN)

    assert kinds(service, task_id) == [Created, Started, Completed]
    assert task.estimate is not None
    assert task.estimate.memory == 1000
    assert task.temp_used == len("hello")
    assert task.time_used >= 0
    assert (tmp_path / "out.txt").read_text() == "hello"


def test_a_look_can_refuse_the_input(start: Opener, text: Path, tmp_path: Path) -> None:
    service = start()

    task = service.wait(look(service, text, tmp_path / "out.txt", unusable=True), WITHIN)

    assert (task.status, task.error) == ("failed", "nothing can be done with in.txt")


def test_a_task_that_hoards_temp_files_is_stopped_by_name(start: Opener) -> None:
    service = start(max_task_temp=1_000_000)

    task = service.wait(service.create_task(type="hoarder", options={"bytes": 2_000_000}), WITHIN)

    assert (task.status, task.error_type, task.temp_used) == ("failed", "TempQuotaReached", 2_000_000)


def test_a_task_whose_folders_cannot_be_counted_is_stopped_by_name(start: Opener) -> None:
    service = start(max_task_temp=1_000_000)

    task = service.wait(service.create_task(type="digger"), WITHIN)

    assert (task.status, task.error_type) == ("failed", "TempQuotaReached")
    assert "cannot be counted" in task.error


@pytest.fixture
def roots(tmp_path: Path) -> dict[str, Path]:
    folders = {name: tmp_path / name for name in ("inputs", "outputs", "elsewhere")}
    for folder in folders.values():
        folder.mkdir()
    return folders


def rooted(roots: dict[str, Path], start: Opener, **settings: Any) -> TaskService:
    return start(input_roots=(str(roots["inputs"]),), output_roots=(str(roots["outputs"]),), **settings)


def test_a_link_that_leads_out_of_the_roots_is_refused_when_the_command_comes(
    start: Opener, roots: dict[str, Path], text: Path
) -> None:
    service = rooted(roots, start)
    link = roots["inputs"] / "link.txt"
    link.symlink_to(text)

    with pytest.raises(InvalidPath, match="outside of input_roots") as refused:
        look(service, link, roots["outputs"] / "out.txt")
    assert f"Use a file below {roots['inputs']}" in refused.value.advice


@pytest.mark.parametrize("name", ["missing", "missing/one", "file", "folder", "link"])
def test_whoever_sends_tasks_does_not_learn_what_there_is_outside_of_the_roots(
    start: Opener, roots: dict[str, Path], name: str
) -> None:
    service, outside = rooted(roots, start), roots["elsewhere"]
    (roots["inputs"] / "in.txt").write_text("x")
    (outside / "file").write_text("x")
    (outside / "folder").mkdir()
    (outside / "link").symlink_to(outside / "nowhere")

    for input_file, output_file, told in (
        (outside / name, roots["outputs"] / "out.txt", "input_roots"),
        (roots["inputs"] / "in.txt", outside / name, "output_roots"),
    ):
        with pytest.raises(InvalidPath, match=f"outside of {told} "):
            service.create_task(type="looker", input_file=str(input_file), output_file=str(output_file))


@pytest.mark.parametrize("letter", ["a", "ä"])
def test_a_name_that_the_folder_cannot_hold_is_refused_when_the_command_comes(
    start: Opener, text: Path, tmp_path: Path, letter: str
) -> None:
    """The handler writes to a shorter hidden name, so it would fail only after all the work is done."""
    service = start()
    longest = os.pathconf(tmp_path, "PC_NAME_MAX") // len(letter.encode()) * letter

    with pytest.raises(InvalidPath, match="name takes 256 bytes, at most 255"):
        look(service, text, tmp_path / (longest + letter))

    assert service.wait(look(service, text, tmp_path / longest), WITHIN).status == "completed"


def held(service: TaskService, input_file: Path, output: Path, task_type: str = "looker") -> int:
    return service.create_task(type=task_type, input_file=str(input_file), output_file=str(output), held=True)


def test_an_input_that_became_a_link_out_of_the_roots_while_it_waited_is_not_opened(
    start: Opener, roots: dict[str, Path], text: Path
) -> None:
    service = rooted(roots, start)
    inside = roots["inputs"] / "in.txt"
    inside.write_text("harmless")
    task_id = held(service, inside, roots["outputs"] / "out.txt")
    inside.unlink()
    inside.symlink_to(text)

    service.start_task(task_id)
    task = service.wait(task_id, WITHIN)

    assert (task.status, task.error_type) == ("failed", "InvalidPath")
    assert "leads outside of input_roots by now" in task.error
    assert list(roots["outputs"].iterdir()) == []


def test_an_input_that_became_a_pipe_while_it_waited_does_not_hang_the_worker(
    start: Opener, roots: dict[str, Path]
) -> None:
    service = rooted(roots, start)
    inside = roots["inputs"] / "in.txt"
    inside.write_text("harmless")
    task_id = held(service, inside, roots["outputs"] / "out.txt")
    inside.unlink()
    os.mkfifo(inside)

    service.start_task(task_id)

    assert "is no longer a regular file" in service.wait(task_id, WITHIN).error


def test_an_output_folder_that_became_a_link_out_of_the_roots_while_it_waited_gets_nothing(
    start: Opener, roots: dict[str, Path]
) -> None:
    service = rooted(roots, start)
    inside, folder = roots["inputs"] / "in.txt", roots["outputs"] / "deep"
    inside.write_text("harmless")
    folder.mkdir()
    task_id = held(service, inside, folder / "out.txt")
    folder.rmdir()
    folder.symlink_to(roots["elsewhere"])

    service.start_task(task_id)

    assert "leads outside of output_roots by now" in service.wait(task_id, WITHIN).error
    assert list(roots["elsewhere"].iterdir()) == []


@pytest.mark.parametrize("sandbox", ["auto", "off"])
def test_an_input_that_went_while_the_task_waited_is_named(start: Opener, roots: dict[str, Path], sandbox: str) -> None:
    service = rooted(roots, start, sandbox=sandbox)
    folder = roots["inputs"] / "timeout"  # a word that a retry rule looks for in an error's text
    folder.mkdir()
    for number, instead in enumerate(("nothing", "a loop of links", "a file for its folder")):
        (folder / "in.txt").write_text("harmless")
        task_id = held(service, folder / "in.txt", roots["outputs"] / f"{number}.txt")
        (folder / "in.txt").unlink()
        match instead:
            case "a loop of links":
                (folder / "in.txt").symlink_to(folder / "in.txt")
            case "a file for its folder":
                folder.rmdir()
                folder.write_text("a file in its place")
        service.start_task(task_id)
        task = service.wait(task_id, WITHIN)
        assert (task.status, task.error_type, task.attempt) == ("failed", "InvalidPath", 1)
        told = "is not there any more (field: input_file). Put it back, then retry the task."
        assert task.error == f"The input '{folder / 'in.txt'}' {told}"
        if instead == "a loop of links":
            (folder / "in.txt").unlink()


@pytest.mark.parametrize("sandbox", ["auto", "off"])
@pytest.mark.parametrize("instead", ["nothing", "a file", "a loop of links"])
def test_an_output_folder_that_went_while_the_task_waited_is_named(
    start: Opener, roots: dict[str, Path], sandbox: str, instead: str
) -> None:
    service = rooted(roots, start, sandbox=sandbox)
    inside, folder = roots["inputs"] / "in.txt", roots["outputs"] / "timeout"
    inside.write_text("harmless")
    folder.mkdir()
    task_id = held(service, inside, folder / "out.txt")
    folder.rmdir()
    match instead:
        case "a file":
            folder.write_text("in its place")
        case "a loop of links":
            folder.symlink_to(folder)

    service.start_task(task_id)
    task = service.wait(task_id, WITHIN)

    assert (task.status, task.error_type, task.attempt) == ("failed", "InvalidPath", 1)
    assert f"The folder '{folder}' of the output is not there any more" in task.error
    assert "retry the task" in task.error


def test_an_output_folder_that_is_turned_while_the_handler_works_publishes_nothing(
    start: Opener, roots: dict[str, Path]
) -> None:
    service = rooted(roots, start, sandbox="off")  # within the sandbox the handler could not turn it
    inside, folder = roots["inputs"] / "in.txt", roots["outputs"] / "deep"
    inside.write_text("harmless")
    folder.mkdir()

    task_id = service.create_task(type="turner", input_file=str(inside), output_file=str(folder / "out.txt"))

    assert "leads outside of output_roots by now" in service.wait(task_id, WITHIN).error
    assert not (roots["elsewhere"] / "out.txt").exists()


OWN = ["log.db", "http-token", "tasktrail.toml", "views.db", "new", "tmp/new", "snapshots/new"]


def own(tmp_path: Path) -> Path:
    """Return the data folder of `start`, with a file in each of its folders."""
    data = tmp_path / "data"
    for name in ("http-token", "tasktrail.toml", "tmp/kept", "snapshots/kept"):
        (data / name).parent.mkdir(exist_ok=True)
        (data / name).write_text("")
    return data


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("way", ["data", "link"])
def test_no_task_may_write_among_the_services_own_files(
    start: Opener, text: Path, tmp_path: Path, name: str, way: str
) -> None:
    service = start()
    data = own(tmp_path)
    (tmp_path / "link").symlink_to(data)
    before = (data / "log.db").stat().st_ino
    output = str(tmp_path / way / name)
    task: dict[str, Any] = {"type": "looker", "input_file": str(text), "output_file": output, "overwrite": True}

    with pytest.raises(InvalidPath, match="among tasktrail's own files") as refused:
        service.create_task(**task)
    assert (refused.value.field, "outside of the data folder" in refused.value.advice) == ("output_file", True)
    with pytest.raises(InvalidPath, match="among tasktrail's own files") as refused:
        service.create_graph([{"name": "a", **task}])
    assert refused.value.field == "tasks[0].output_file"
    with pytest.raises(InvalidPath, match="among tasktrail's own files"):
        service.send(AddSchedule(schedule="s", every=60.0, task=CreateTask(**task)))
    assert (data / "log.db").stat().st_ino == before


@pytest.mark.parametrize("name", ["log.db", "http-token", "tasktrail.toml", "tmp/kept", "snapshots/kept"])
def test_no_task_may_read_the_services_own_files(start: Opener, tmp_path: Path, name: str) -> None:
    service = start()
    link = tmp_path / "link.txt"
    link.symlink_to(own(tmp_path) / name)

    for path in (tmp_path / "data" / name, link):
        with pytest.raises(InvalidPath, match="among tasktrail's own files") as refused:
            look(service, path, tmp_path / "out.txt")
        assert refused.value.field == "input_file"


def test_a_folder_for_temp_files_that_lies_elsewhere_is_the_services_own_too(
    start: Opener, text: Path, tmp_path: Path
) -> None:
    service = start(temp_dir=str(tmp_path / "apart"))

    with pytest.raises(InvalidPath, match="among tasktrail's own files"):
        look(service, text, tmp_path / "apart" / "out.txt")


def test_a_key_that_lies_elsewhere_is_the_services_own_too(start: Opener, text: Path, tmp_path: Path) -> None:
    """In the data folder no task reaches it; on a disk of its own, as advised, any task could read and replace it."""
    key = tmp_path / "another-disk" / "master.txt"
    key.parent.mkdir()
    service = start(personal_data="encrypted", master_key=str(key))
    service.wait(look(service, text, tmp_path / "first.txt"), WITHIN)
    before = key.read_bytes()

    with pytest.raises(InvalidPath, match=f"is {key}, among tasktrail's own files") as refused:
        look(service, key, tmp_path / "out.txt")
    assert refused.value.advice == "Use another file."
    with pytest.raises(InvalidPath, match="among tasktrail's own files"):
        service.create_task(type="looker", input_file=str(text), output_file=str(key), overwrite=True)
    assert key.read_bytes() == before
    assert str(key) in Config(master_key=str(key)).for_workers().protected


def test_seals_that_lie_elsewhere_are_the_services_own_too(start: Opener, text: Path, tmp_path: Path) -> None:
    """They show whether the log was changed: a task that could replace them could hide that."""
    seals = tmp_path / "another-disk" / "seals"
    seals.mkdir(parents=True)
    seal = seals / "1.seal"
    seal.write_text("sealed")
    service = start(seals_dir=str(seals))

    for command in (
        {"input_file": str(seal), "output_file": str(tmp_path / "out.txt")},
        {"input_file": str(text), "output_file": str(seal), "overwrite": True},
        {"input_file": str(text), "output_file": str(seals / "2.seal")},
    ):
        with pytest.raises(InvalidPath, match=f"lies in {seals}, among tasktrail's own files"):
            service.create_task(type="looker", **command)
    assert str(seals) in Config(seals_dir=str(seals)).for_workers().protected


def test_no_output_takes_the_place_of_a_folder_of_seals_that_is_not_there_yet(
    start: Opener, text: Path, tmp_path: Path
) -> None:
    """The first seal makes the folder. A file in its place would keep the log from being sealed."""
    seals = tmp_path / "seals-to-come"
    service = start(seals_dir=str(seals))

    with pytest.raises(InvalidPath, match=f"is {seals}, among tasktrail's own files"):
        service.create_task(type="looker", input_file=str(text), output_file=str(seals))
    with pytest.raises(InvalidPath, match=f"lies in {seals}, among tasktrail's own files"):
        check_apart(str(seals / "2.seal"), (str(seals),), "output_file", followed=False)


def test_a_configuration_that_lies_elsewhere_is_the_services_own_too(tmp_path: Path) -> None:
    """It may hold the password of a mail server. A picture of it would show that."""
    file, link = tmp_path / "etc" / "tasktrail.toml", tmp_path / "data" / "tasktrail.toml"
    for folder in (file.parent, link.parent):
        folder.mkdir()
    file.write_text("workers = 3")
    link.symlink_to(file)

    for config in (load_config(tmp_path, file=file), load_config(link.parent)):
        reloaded, _ = with_live_keys(config, config)
        for one in (config, checked(config), reloaded):
            assert str(file) in one.for_workers().protected


def test_a_key_that_is_renewed_behind_its_link_is_the_services_own_too(tmp_path: Path) -> None:
    """ACME clients write each new key of TLS to a file of its own. The service reads it when the link leads there."""
    old, new, link = (tmp_path / name for name in ("key-1.pem", "key-2.pem", "key.pem"))
    for path in (old, new):
        path.write_text("secret")
    link.symlink_to(old)
    protected = Config(tls_key=str(link)).private_paths()
    link.unlink()
    link.symlink_to(new)

    for path in (old, new, link):
        with pytest.raises(InvalidPath, match="among tasktrail's own files"):
            check_apart(str(path), protected, "input_file", followed=True)


@pytest.mark.parametrize("name", [".tasktrail-7.d/out.txt", ".out.tasktrail-7.txt", ".out.tasktrail-7"])
def test_no_output_may_have_a_hidden_name_that_another_task_works_under(
    start: Opener, text: Path, tmp_path: Path, name: str
) -> None:
    service = start()
    (tmp_path / ".tasktrail-7.d").mkdir()

    with pytest.raises(InvalidPath, match="unfinished outputs"):
        look(service, text, tmp_path / name)


@pytest.mark.parametrize("sandbox", ["off", "auto"])
def test_paths_that_became_links_to_the_services_own_files_while_a_task_waited_are_not_followed(
    start: Opener, text: Path, tmp_path: Path, sandbox: str
) -> None:
    service = start(sandbox=sandbox)
    data = own(tmp_path)
    before = (data / "log.db").stat().st_ino
    folder, inside = tmp_path / "deep", tmp_path / "inside.txt"
    folder.mkdir()
    inside.write_text("harmless")
    overwriting: dict[str, Any] = {
        "type": "looker",
        "input_file": str(text),
        "output_file": str(folder / "log.db"),
        "overwrite": True,
    }
    writes = service.create_task(**overwriting, held=True)
    reads = held(service, inside, tmp_path / "out.txt")
    folder.rmdir()
    folder.symlink_to(data)
    inside.unlink()
    inside.symlink_to(data / "http-token")

    for task_id in (writes, reads):
        service.start_task(task_id)
        task = service.wait(task_id, WITHIN)
        assert (task.status, task.error_type) == ("failed", "InvalidPath")
        assert "among tasktrail's own files" in task.error
        assert ".py" not in task.error, "it is about the user's files, not about a place in our code"

    assert (data / "log.db").stat().st_ino == before
    assert not (tmp_path / "out.txt").exists()


def test_a_folder_that_is_turned_to_the_services_own_while_the_handler_works_gets_nothing(
    start: Opener, text: Path, tmp_path: Path
) -> None:
    service = start(sandbox="off")  # within the sandbox the handler could not turn it
    folder = tmp_path / "outputs" / "deep"
    folder.mkdir(parents=True)
    (tmp_path / "elsewhere").symlink_to(tmp_path / "data")

    task_id = service.create_task(type="turner", input_file=str(text), output_file=str(folder / "new.txt"))

    assert "among tasktrail's own files" in service.wait(task_id, WITHIN).error
    assert not (tmp_path / "data" / "new.txt").exists()


@pytest.mark.parametrize(
    ("paths", "field", "remedy"),
    [
        ({}, "input_file", "right after the type"),
        ({"input_file": "{text}"}, "output_file", "after the input"),
        ({"input_file": "{text}s", "output_file": "{text}.out"}, "input_file", "Check its spelling"),
    ],
)
def test_a_file_that_is_missing_is_told_with_what_to_do(
    start: Opener, text: Path, paths: dict[str, str], field: str, remedy: str
) -> None:
    named = {name: path.format(text=text) for name, path in paths.items()}
    with pytest.raises(InvalidPath) as refused:
        start().create_task(type="looker", **named)  # type: ignore[arg-type]  # paths only
    assert refused.value.field == field
    assert remedy in refused.value.advice


NAMES = [
    "-rf",
    "--",
    "%d%s%n",
    "@list",
    "a b'c\"d$(id)`id`;&|",
    "http:evil",
    "concat:a|b",
    "file:x",
    "data:,x",
    "~",
    "*?[x]",
    "line\nbreak",
    "tab\tbell\x07escape\x1b[2Jdelete\x7f",
]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_are_names_of_plain_files(start: Opener, tmp_path: Path, name: str) -> None:
    service = start()
    source, target = tmp_path / f"{name}.txt", tmp_path / f"{name}.out"
    source.write_text(name)

    task = service.wait(look(service, source, target), WITHIN)

    assert (task.status, target.read_text()) == ("completed", name)


def test_a_name_that_no_file_can_have_is_refused(start: Opener, tmp_path: Path) -> None:
    service = start()

    with pytest.raises(InvalidValue, match="NUL"):
        service.create_task(type="looker", input_file=f"{tmp_path}/nul\0", output_file=str(tmp_path / "out"))


def test_control_characters_in_anything_but_a_path_are_refused(start: Opener, tmp_path: Path) -> None:
    service = start()

    with pytest.raises(InvalidValue, match="label holds a control character"):
        service.create_task(type="looker", output_file=str(tmp_path / "out"), label="line\nbreak")


@pytest.mark.parametrize("text", ["line\nbreak", "colour\x9b31m", "next\x85line", "\x7f"])
def test_no_text_of_a_command_steers_a_terminal(text: str) -> None:
    for field in ("label", "reason", "command_id", "actor"):
        command = msgspec.structs.replace(CreateTask(type="looker"), **{field: text})
        with pytest.raises(InvalidValue, match=f"{field} holds a control character"):
            refuse_odd(command)


@pytest.mark.parametrize("name", ["a\nb", "a\x7fb", "a\x9bb", "a\x80b"])
def test_neither_names_of_batches_nor_filters_have_control_characters(name: str) -> None:
    with pytest.raises(msgspec.ValidationError, match="batch"):
        msgspec.convert({"command": "create_task", "type": "noop", "batch": name}, CreateTask)
    with pytest.raises(InvalidValue, match="no control characters"):
        TaskFilters.parse({"batch": name})


def cut_behind_a_checkpoint(service: TaskService, source: Path, task_id: int) -> Task:
    """Cut the task's input after its first checkpoint; return the task at its end."""
    next(r for r in service.follow() if r.task_id == task_id and isinstance(r.event, Checkpointed | Failed))
    os.truncate(source, 5)
    return service.wait(task_id, WITHIN)


def test_an_input_that_was_cut_is_read_again_from_zero_and_never_published_in_part(
    start: Opener, text: Path, tmp_path: Path
) -> None:
    service, output = start(), tmp_path / "out.txt"
    text.write_text("hello again")

    task_id = service.create_task(type="cutter", input_file=text, output_file=output, max_retries=0)
    once = cut_behind_a_checkpoint(service, text, task_id)

    assert (once.status, once.error_type) == ("failed", "InputChanged")
    assert "it was cut from 11 to 5 bytes" in once.error
    assert not output.exists()

    text.write_text("hello again")
    task_id = service.create_task(type="cutter", input_file=text, output_file=output, max_retries=1, retry_delay=0)
    again = cut_behind_a_checkpoint(service, text, task_id)

    failed = next(record.event for record in service.events(task_id) if isinstance(record.event, Failed))
    assert (failed.error_type, failed.rule, failed.final) == ("InputChanged", "type:InputChanged", False)
    assert (again.status, again.attempt, again.result) == ("completed", 2, {"resumed": False})
    assert output.read_text() == "hello"
