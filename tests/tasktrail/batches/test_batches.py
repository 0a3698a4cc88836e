"""A batch on a real service: every file found is done once, skipped, left out or refused, and none is lost."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasktrail.api.service import TaskService
from tasktrail.batches.planner import Plan
from tasktrail.batches.request import MadeBatch
from tasktrail.events import CreateGraph, CreateTask
from tasktrail.events.errors import (
    CommandIdReused,
    InvalidOptions,
    InvalidPath,
    InvalidValue,
    NotReady,
    OutputsCollide,
    UnknownBatch,
    UnknownType,
)
from tasktrail.handlers.document.libreoffice import find_libreoffice
from tasktrail.projections import TaskFilters


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a.txt", "b.txt", "sub/a.txt"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"this is {name}")
    return tmp_path / "in"


@pytest.fixture
def make(service: TaskService, folder: Path) -> Callable[..., MadeBatch]:
    """Make a batch of the folder and wait for its end."""

    def make(*inputs: Path, **more: Any) -> MadeBatch:
        given = {"to": f"{folder.parent}/out/{{folder}}/{{stem}}.loud", "type": "shout", **more}
        made = service.create_batch(inputs or [folder], given.pop("to"), **given)
        if not more.get("dry_run"):
            for one in made.created:
                service.wait(one.task_id, timeout=60)
        return made

    return make


def lists(made: MadeBatch) -> tuple[int, int, int, int]:
    return len(made.created), len(made.skipped), len(made.left_out), len(made.refused)


def test_what_is_no_file_and_a_link_to_nothing_are_called_that(make: Callable[..., MadeBatch], folder: Path) -> None:
    os.mkfifo(folder / "pipe.jpg")
    (folder / "gone.jpg").symlink_to("nowhere.jpg")
    (folder / "empty.jpg").touch()
    made = make(folder, type="", to=f"{folder.parent}/out/", dry_run=True)
    told = {Path(one.input_file).name: (one.problem["detail"], one.problem["remedy"]) for one in made.refused}
    assert told == {
        "empty.jpg": ("empty.jpg is empty", "It may be damaged: copy it again."),
        "gone.jpg": (f"'{folder / 'gone.jpg'}' cannot be read: No such file or directory", "See where the link leads."),
        "pipe.jpg": ("pipe.jpg is not a regular file", "Leave it out, or name the files instead of the folder."),
    }


def test_every_file_has_its_output_and_one_name_holds_the_set(
    make: Callable[..., MadeBatch], service: TaskService, folder: Path
) -> None:
    made = make(batch="letters", task={"priority": 3}, actor="me", reason="why not")

    assert [Path(one.output_file).read_text() for one in made.created] == [
        "THIS IS A.TXT",
        "THIS IS B.TXT",
        "THIS IS SUB/A.TXT",
    ]
    tasks, total = service.list_tasks(TaskFilters(batch="letters"))
    assert total == 3
    assert {(task.batch, task.priority, task.type) for task in tasks} == {("letters", 3, "shout")}
    created = [record for task in tasks for record in service.events(task.id)[:1]]
    assert {(record.actor, record.reason, record.command_id) for record in created} == {
        ("me", "why not", created[0].command_id)
    }, "one command made them all"
    batch = service.batch("letters")
    assert (batch.total, batch.by_status, batch.progress) == (3, {"completed": 3}, 100.0)
    size = sum(path.stat().st_size for path in folder.rglob("*.txt"))
    assert (batch.bytes_before, batch.bytes_after) == (size, size)
    assert batch.completed_at is not None
    assert service.batches() == [batch]


@pytest.mark.parametrize("change", [{}, {"again": True}, {"batch": ""}], ids=["as it is", "again", "unnamed"])
def test_a_batch_that_is_repeated_by_its_id_gets_the_first_answer(
    make: Callable[..., MadeBatch], service: TaskService, folder: Path, change: dict[str, Any]
) -> None:
    """It was planned anew: answered with what was done by then, or refused if other tasks were due."""
    (folder / "c.jpg").write_text("no picture")
    fields = {"batch": "letters", "command_id": "mine", "options": {"value": 2.0}, **change}
    first = make(**fields)
    assert (lists(first), first.repeated) == ((3, 0, 0, 1), False)
    again = msgspec.structs.replace(first, refused=(), repeated=True)
    assert make(**fields) == again
    (folder / "new.txt").write_text("new")
    assert make(**{**fields, "options": {"value": 2}}, reason="again", actor="her") == again
    shutil.rmtree(folder)
    assert make(**fields) == again
    assert lists(make(**{**fields, "command_id": "other"})) == (0, 0, 0, 1), "there is nothing to read any more"
    assert service.list_tasks()[1] == 3


def test_a_batch_with_the_id_of_another_batch_or_command_is_refused(
    make: Callable[..., MadeBatch], service: TaskService, folder: Path
) -> None:
    made = make(command_id="batch")
    first = made.created[0].task_id
    task_id = service.create_task(type="noop", command_id="task")
    service.pause(command_id="pause")
    for used, by in (("batch", f"task {first}"), ("task", f"task {task_id}"), ("pause", "a command to the service")):
        with pytest.raises(CommandIdReused, match=f"^Command id {used} was used for {by}[.]"):
            make(folder / "a.txt", command_id=used)
    with pytest.raises(CommandIdReused):
        service.create_graph([{"name": "file-1", "type": "noop"}], command_id="batch")
    assert lists(make(folder / "a.txt", command_id="batch", dry_run=True)) == (0, 1, 0, 0), "it sends nothing"
    assert service.list_tasks()[1] == 4


def test_a_batch_that_has_created_nothing_leaves_its_id_unused(make: Callable[..., MadeBatch], folder: Path) -> None:
    make()
    assert lists(make(command_id="mine")) == (0, 3, 0, 0)
    (folder / "new.txt").write_text("new")
    made = make(command_id="mine")
    assert (lists(made), made.repeated) == ((1, 3, 0, 0), False)
    assert lists(make(command_id="mine")) == (1, 0, 0, 0)


@pytest.mark.parametrize("gone", [False, True], ids=["new file", "nothing left to do"])
def test_a_batch_that_is_made_while_its_repetition_is_planned_is_the_answer_to_both(
    make: Callable[..., MadeBatch],
    service: TaskService,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    gone: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    """The ids of its tasks are those of the first plan, and the second may have other files."""
    first: list[MadeBatch] = []
    plan = service.plan_batch

    def and_meanwhile(*asked: Any) -> Plan:
        monkeypatch.undo()
        if gone:
            first.append(make(command_id="mine"))
            return plan(*asked)
        (folder / "0.txt").write_text("new")
        planned = plan(*asked)
        (folder / "0.txt").unlink()
        first.append(make(command_id="mine", task={"overwrite": True}))
        return planned

    monkeypatch.setattr(service, "plan_batch", and_meanwhile)
    second = make(command_id="mine", task={} if gone else {"overwrite": True})
    assert second == msgspec.structs.replace(first[0], repeated=True)
    assert [Path(one.input_file).name for one in second.created] == ["a.txt", "b.txt", "a.txt"]
    assert service.list_tasks()[1] == 3


def test_what_is_forgotten_of_a_batch_is_left_out_of_its_answer(service: TaskService, folder: Path) -> None:
    service.pause(type="shout")
    to = f"{folder.parent}/out/{{folder}}/{{stem}}.loud"
    made = service.create_batch([folder], to, type="shout", command_id="mine")
    kept = made.created[2]
    for one in made.created[:2]:
        service.cancel_task(one.task_id)
    service.forget(0)
    again = service.create_batch([folder], to, type="shout", command_id="mine")
    assert again == msgspec.structs.replace(made, created=(kept,), repeated=True)


def test_what_is_done_is_skipped_until_it_changes(
    make: Callable[..., MadeBatch], service: TaskService, folder: Path
) -> None:
    first = make(batch="one")
    again = make()
    assert lists(again) == (0, 3, 0, 0)
    assert [one.why for one in again.skipped] == [f"done by task {one.task_id}" for one in first.created]

    (folder / "a.txt").write_text("this is new")
    os.utime(folder / "b.txt", (1, 1))  # another time, the same bytes
    changed = make()
    assert lists(changed) == (1, 2, 0, 0)
    assert Path(changed.created[0].output_file).read_text() == "THIS IS NEW", "its own outdated output gives way"

    os.utime(folder / "b.txt", (2, 2))
    (folder / "b.txt").write_text("that is b.txt")  # same length, other bytes
    assert lists(make()) == (1, 2, 0, 0)

    (folder.parent / "out" / "b.loud").unlink()
    assert lists(make()) == (1, 2, 0, 0), "an output that is gone is made anew"
    assert lists(make(options={"value": 1})) == (3, 0, 0, 0), "other options are another wish"
    assert lists(make(options={"value": 1}, again=True)) == (3, 0, 0, 0)
    assert service.stats().counts["completed"] == 12


def test_an_output_that_somebody_has_changed_is_not_replaced(make: Callable[..., MadeBatch], folder: Path) -> None:
    make()
    (folder / "a.txt").write_text("this is new")
    output = folder.parent / "out" / "a.loud"
    output.write_text("precious, and of another length")
    made = make()
    assert lists(made) == (0, 2, 0, 1)
    assert made.refused[0].problem["code"] == "output_exists"
    assert output.read_text() == "precious, and of another length"
    assert lists(make(task={"overwrite": True})) == (1, 2, 0, 0)


def test_an_output_that_another_file_has_led_to_is_not_replaced(make: Callable[..., MadeBatch], folder: Path) -> None:
    make(folder / "a.txt")
    (folder / "a.md").write_text("this is another")
    made = make(folder / "a.md")
    assert lists(made) == (0, 0, 0, 1)
    assert made.refused[0].problem["code"] == "output_exists"


def test_a_bad_file_fails_once_and_is_told_again(
    make: Callable[..., MadeBatch], service: TaskService, folder: Path
) -> None:
    (folder / "bad.txt").write_text("broken")
    (folder / "unlucky.txt").write_text("flaky")
    made = make(task={"max_retries": 0})
    assert lists(made) == (5, 0, 0, 0)
    assert service.batch(made.batch).by_status == {"completed": 3, "failed": 2}
    again = make(task={"max_retries": 0})
    assert [Path(one.input_file).name for one in again.created] == ["unlucky.txt"], "another try may succeed"
    (bad,) = [one for one in again.skipped if one.failed]
    assert bad.why == f"task {bad.task_id} failed: bad.txt is broken"
    (folder / "bad.txt").write_text("mended")
    assert [Path(one.input_file).name for one in make(task={"max_retries": 0}).created] == ["bad.txt", "unlucky.txt"]


def test_a_bad_file_of_the_year_2400_fails_once(make: Callable[..., MadeBatch], folder: Path) -> None:
    """Its time is later than a record can hold, so another time is recorded."""
    bad = folder / "bad.txt"
    bad.write_text("broken")
    os.utime(bad, (13_569_465_600, 13_569_465_600))
    assert len(make(bad).created) == 1
    (again,) = make(bad).skipped
    assert again.failed


def test_two_files_for_one_output_stop_everything(make: Callable[..., MadeBatch], service: TaskService) -> None:
    with pytest.raises(OutputsCollide, match=r"in/a.txt and .*in/sub/a.txt would both become .*a.loud"):
        make(to="/tmp/{stem}.loud")
    assert service.stats().total == 0


def test_one_output_may_not_be_the_input_of_another_file(make: Callable[..., MadeBatch], folder: Path) -> None:
    with pytest.raises(OutputsCollide, match="would replace"):
        make(to=str(folder / "{folder}/b.txt"))


def test_a_path_over_a_link_leads_to_the_same_place(make: Callable[..., MadeBatch], folder: Path) -> None:
    link = folder.parent / "link"
    link.symlink_to(folder)
    with pytest.raises(OutputsCollide, match="would replace"):
        make(to=str(link / "{folder}" / "b.txt"), task={"overwrite": True})

    beside = str(link / "{folder}" / "{stem}-loud.txt")
    assert lists(make(to=beside)) == (3, 0, 0, 0)
    assert lists(make(to=beside)) == (0, 3, 3, 0), "outputs are no inputs"
    assert lists(make(link, to=str(folder / "{folder}" / "{stem}-loud.txt"))) == (0, 3, 3, 0)
    (folder / "a.txt").write_text("this is new")
    assert lists(make(link, to=str(folder / "{folder}" / "{stem}-loud.txt"))) == (1, 2, 3, 0)


def test_outputs_beside_their_inputs_are_no_inputs(make: Callable[..., MadeBatch], folder: Path) -> None:
    beside = str(folder / "{folder}/{stem}-loud.txt")
    assert lists(make(to=beside)) == (3, 0, 0, 0)
    second = make(to=beside)
    assert lists(second) == (0, 3, 3, 0)
    assert {one.why.partition(" of")[0] for one in second.left_out} == {"the output"}


def test_a_folder_alone_takes_the_types_suffix(make: Callable[..., MadeBatch], folder: Path) -> None:
    made = make(to=f"{folder.parent}/flat/")
    assert [Path(one.output_file).relative_to(folder.parent).as_posix() for one in made.created] == [
        "flat/a.loud",
        "flat/b.loud",
        "flat/sub/a.loud",
    ]


@pytest.fixture
def media(tmp_path: Path) -> Path:
    """Write files that begin with the bytes of the type in their name."""
    heads = {
        "a.mp4": b"\0\0\0\x18ftypisom",
        "b.avi": b"RIFF\0\0\0\0AVI ",
        "c.png": b"\x89PNG\r\n\x1a\n",
        "d.bmp": b"BM",
        "e.pdf": b"%PDF-1.7",
    }
    (tmp_path / "media").mkdir()
    for name, head in heads.items():
        (tmp_path / "media" / name).write_bytes(head)
    return tmp_path / "media"


def chosen(made: MadeBatch) -> dict[str, str]:
    """Return type and output's name of each file, or why there is none."""
    found = {Path(one.input_file).name: f"{one.type}: {Path(one.output_file).name}" for one in made.created}
    return found | {Path(one.input_file).name: f"- {one.why}" for one in made.left_out}


@pytest.mark.parametrize("to", ["new/", "new"])
def test_a_folder_alone_keeps_the_suffix_that_can_be_written(service: TaskService, media: Path, to: str) -> None:
    assert chosen(service.create_batch([media], f"{media}/{to}", dry_run=True)) == {
        "a.mp4": "video_convert: a.mp4",
        "b.avi": "video_convert: b.mp4",
        "c.png": "image_convert: c.png",
        "d.bmp": "image_convert: d.bmp",
        "e.pdf": "document_convert: e.pdf",
    }


def test_a_folder_of_texts_needs_no_libreoffice(
    service: TaskService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("one page")
    planned = chosen(service.create_batch([tmp_path / "in"], f"{tmp_path}/out/", dry_run=True))
    assert planned == {"a.txt": "document_convert: a.pdf" if find_libreoffice() else "document_preview: a.png"}
    monkeypatch.setattr("tasktrail.handlers.document.convert.options.find_libreoffice", lambda: None)
    planned = chosen(service.create_batch([tmp_path / "in"], f"{tmp_path}/out/", dry_run=True))
    assert planned == {"a.txt": "document_preview: a.png"}


@pytest.mark.parametrize("to", ["out/", "out/{stem}.pdf"])
def test_an_office_document_without_libreoffice_is_left_out_with_what_to_install(
    service: TaskService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, to: str
) -> None:
    """It was told that no type makes a .docx, or a .pdf."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.docx").write_bytes(b"PK\x03\x04")
    for name in ("convert", "preview"):
        monkeypatch.setattr(f"tasktrail.handlers.document.{name}.options.find_libreoffice", lambda: None)
    planned = chosen(service.create_batch([tmp_path / "in"], f"{tmp_path}/{to}", dry_run=True))
    assert planned["a.docx"].startswith("- a document, which document_convert cannot read here. Install LibreOffice (")


def test_a_folder_of_pages_that_is_done_is_skipped_until_somebody_changes_it(
    service: TaskService, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.txt").write_text("one page")

    def again() -> MadeBatch:
        return service.create_batch([tmp_path / "in"], f"{tmp_path}/out/{{stem}}", type="document_preview")

    (made,) = again().created
    assert service.wait(made.task_id, timeout=60).status == "completed"
    assert [path.name for path in (tmp_path / "out" / "a").iterdir()] == ["page-001.png"]
    assert lists(again()) == (0, 1, 0, 0)
    (tmp_path / "out" / "a" / ".DS_Store").write_text("a note of the system")
    assert lists(again()) == (0, 1, 0, 0), "the pages are all there"
    with (tmp_path / "out" / "a" / "page-001.png").open("ab") as page:
        page.write(b"x")
    changed = again()
    assert lists(changed) == (0, 0, 0, 1)
    assert "is a folder" in changed.refused[0].problem["detail"]


def test_a_film_that_becomes_a_picture_gives_a_frame(service: TaskService, media: Path) -> None:
    frame = service.create_batch([media / "a.mp4"], f"{media}/{{stem}}.jpg", dry_run=True)
    assert chosen(frame) == {"a.mp4": "video_thumbnail: a.jpg"}
    sheet = service.create_batch([media / "a.mp4"], f"{media}/{{stem}}.jpg", options={"rows": 2}, dry_run=True)
    assert chosen(sheet) == {"a.mp4": "video_preview: a.jpg"}, "which alone has such an option"


@pytest.mark.parametrize(
    ("output", "named", "chosen"),
    [
        ("{stem}.mp4", "", "video_convert"),
        ("{stem}.mp4", "video_convert", "video_convert"),
        ("{stem}.webp", "", "image_convert"),
        ("", "", "image_convert"),
    ],
)
def test_a_gif_is_an_image_and_a_film(
    *, output: str, named: str, chosen: str, service: TaskService, tmp_path: Path
) -> None:
    path = tmp_path / "in" / "dance.gif"
    path.parent.mkdir()
    path.write_bytes(b"GIF89a")
    made = service.create_batch([path.parent], f"{tmp_path}/out/{output}", type=named, dry_run=True)
    assert ([task.type for task in made.created], made.left_out) == ([chosen], ())


def test_an_option_that_does_not_fit_is_told(service: TaskService, media: Path) -> None:
    given: dict[str, Any] = {"options": {"widht": 7}, "dry_run": True}
    assert chosen(service.create_batch([media / "c.png", media / "d.bmp"], f"{media}/{{stem}}.jpg", **given)) == {
        "c.png": "- an image; image_convert has no option 'widht'; did you mean 'width'?",
        "d.bmp": "- an image; image_convert has no option 'widht'; did you mean 'width'?",
    }
    with pytest.raises(InvalidOptions, match="did you mean 'width'"):
        service.create_batch([media], f"{media}/{{stem}}.jpg", type="image_convert", **given)


@pytest.mark.parametrize("given", [{"type": "image_convert"}, {"preset": "web-image"}, {}])
def test_a_whole_number_may_be_written_with_a_fraction(
    service: TaskService, media: Path, given: dict[str, Any]
) -> None:
    to, options = f"{media}/{{stem}}-{{width}}.webp", {"width": 100.0}
    made = service.create_batch([media / "c.png"], to, options=options, dry_run=True, **given)
    assert chosen(made) == {"c.png": "image_convert: c-100.webp"}


def test_a_dry_run_leaves_nothing(make: Callable[..., MadeBatch], service: TaskService, folder: Path) -> None:
    made = make(dry_run=True)
    assert lists(made) == (3, 0, 0, 0)
    assert {one.task_id for one in made.created} == {0}
    assert service.stats().total == 0
    assert not (folder.parent / "out").exists()


def test_what_another_task_is_to_write_is_refused_by_its_number(
    make: Callable[..., MadeBatch], service: TaskService, folder: Path
) -> None:
    (folder.parent / "out").mkdir()
    command = CreateTask(type="write", output_file=str(folder.parent / "out" / "b.loud"), held=True)
    held = service.send(command).task_id
    made = make()
    assert lists(made) == (2, 0, 0, 1)
    assert made.refused[0].problem["detail"].startswith(f"Task {held} is not finished and will write")


def test_open_tasks_of_an_earlier_batch_are_not_asked_for_twice(service: TaskService, folder: Path) -> None:
    service.pause(type="shout")
    to = f"{folder.parent}/out/{{folder}}/{{stem}}.loud"
    first = service.create_batch([folder], to, type="shout")
    second = service.create_batch([folder], to, type="shout")
    assert lists(second) == (0, 3, 0, 0)
    assert {one.open for one in second.skipped} == {True}
    third = service.create_batch([folder], to, type="shout", again=True)
    assert (third.skipped, third.refused) == (second.skipped, ()), "what is not done yet is not done once more"
    assert [one.task_id for one in second.skipped] == [one.task_id for one in first.created]


@pytest.mark.parametrize(
    ("more", "error", "field"),
    [
        ({"to": "/out/{stem"}, InvalidValue, "to"),
        ({"to": ""}, InvalidValue, "to"),
        ({"to": "/out/{nothing}"}, InvalidValue, "to"),
        ({"type": "shuot"}, UnknownType, ""),
        ({"batch": "a,b"}, InvalidValue, "batch"),
        ({"task": {"input_file": "/a"}}, InvalidValue, "input_file"),
        ({"task": {"unique": "k"}}, InvalidValue, "unique"),
    ],
)
def test_a_wish_that_means_nothing_is_refused_as_a_whole(
    make: Callable[..., MadeBatch],
    service: TaskService,
    more: dict[str, Any],
    error: type[Exception],
    field: str,
) -> None:
    with pytest.raises(error) as refused:
        make(**more)
    assert getattr(refused.value, "field", "") in (field, "type")
    assert service.stats().total == 0


def test_the_outputs_folder_may_not_be_among_our_own_files(
    make: Callable[..., MadeBatch], service: TaskService
) -> None:
    with pytest.raises(InvalidPath, match="among tasktrail's own files"):
        make(to=f"{service.paths.data}/new/{{stem}}{{number}}")
    assert not (service.paths.data / "new").exists()


def test_files_whose_folder_cannot_be_made_are_refused_and_keep_no_other_from_its_task(
    make: Callable[..., MadeBatch], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda *_: True)  # as for root, who can make no folder there either
    assert lists(make(to="/proc/nothing/{number}.loud")) == (0, 0, 0, 3)
    assert lists(make(to=f"{folder}/a.txt/{{number}}.loud")) == (0, 0, 0, 3), "a file is no folder"
    long = folder / f"{'x' * 249}.txt"
    long.write_text("this is long")
    assert lists(make(to=f"{folder.parent}/out/{{folder}}/{{stem}}-or-even-longer/x.loud")) == (3, 0, 0, 1)


@pytest.mark.parametrize("there", ["out", "out/sub"])
def test_a_folder_that_nothing_can_be_written_into_is_told_before_anything_starts(
    make: Callable[..., MadeBatch], service: TaskService, folder: Path, monkeypatch: pytest.MonkeyPatch, there: str
) -> None:
    closed = folder.parent / there
    closed.mkdir(parents=True)
    monkeypatch.setattr("os.access", lambda path, *_: str(path) != str(closed))  # root may write anywhere
    for dry_run in (True, False):
        with pytest.raises(InvalidPath, match="Nothing can be written in") as refused:
            make(dry_run=dry_run)
        assert refused.value.field == "to"
    assert service.stats().total == 0


def test_an_output_may_not_be_the_folder_of_another(make: Callable[..., MadeBatch], folder: Path) -> None:
    (folder / "sub.md").write_text("this is named like the folder")
    with pytest.raises(OutputsCollide, match=r"in/sub.md would become .*out/sub, which is to be the folder of other"):
        make(to=f"{folder.parent}/out/{{folder}}/{{stem}}")


def test_a_name_that_is_too_long_for_a_folder_to_be_made_is_refused_alone(
    make: Callable[..., MadeBatch], folder: Path
) -> None:
    (folder / f"{'x' * 251}.txt").write_text("this is long")
    for dry_run in (True, False):
        made = make(to=f"{folder.parent}/new/{{folder}}/{{stem}}.loud", dry_run=dry_run)
        assert lists(made) == (3, 0, 0, 1)
        assert "at most 255 are possible" in made.refused[0].problem["detail"]


@pytest.mark.parametrize("gone", [("a.txt",), ("a.txt", "b.txt"), ("a.txt", "b.txt", "sub/a.txt")])
def test_files_that_vanish_after_the_plan_keep_no_other_from_its_task(
    service: TaskService, folder: Path, monkeypatch: pytest.MonkeyPatch, gone: tuple[str, ...]
) -> None:
    plan_batch = service.plan_batch

    def plan(*given: Any) -> Any:
        plan = plan_batch(*given)
        for name in gone:
            (folder / name).unlink()
        return plan

    monkeypatch.setattr(service, "plan_batch", plan)
    made = service.create_batch([folder], f"{folder.parent}/out/{{folder}}/{{stem}}.loud", type="shout")
    assert lists(made) == (3 - len(gone), 0, 0, len(gone))
    assert {one.problem["field"] for one in made.refused} == {"input_file"}
    assert made.refused[0].problem["detail"].startswith("'/"), "and not with a name of our own"
    for one in made.created:
        assert service.wait(one.task_id, timeout=60).status == "completed"


def test_a_refusal_of_the_whole_is_no_refusal_of_a_file(
    service: TaskService, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(_graph: CreateGraph, _of_batch: bytes) -> NotReady:
        return NotReady("The log cannot be written")

    monkeypatch.setattr(service, "_send_batch", refuse)
    with pytest.raises(NotReady, match="cannot be written"):
        service.create_batch([folder], f"{folder.parent}/out/{{folder}}/{{stem}}.loud", type="shout")


def test_an_output_that_was_touched_after_its_task_is_not_replaced(
    make: Callable[..., MadeBatch], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make(folder / "a.txt")
    output = Path(made.created[0].output_file)
    output.write_text("Y" * output.stat().st_size)
    monkeypatch.setattr("tasktrail.batches.planner._TO_THE_END", -60.0)  # as if that had happened a minute later
    (folder / "a.txt").write_text("this is new")
    assert lists(make(folder / "a.txt")) == (0, 0, 0, 1)


def test_after_a_cancelled_task_a_new_content_still_replaces_the_output(
    make: Callable[..., MadeBatch], service: TaskService, folder: Path
) -> None:
    make(folder / "a.txt")
    (folder / "a.txt").write_text("this is new")
    service.pause(type="shout")
    to = f"{folder.parent}/out/{{folder}}/{{stem}}.loud"
    second = service.create_batch([folder / "a.txt"], to, type="shout")
    service.cancel_task(second.created[0].task_id)
    service.resume(type="shout")
    third = make(folder / "a.txt")
    assert Path(third.created[0].output_file).read_text() == "THIS IS NEW"


def test_there_is_no_batch_of_that_name(service: TaskService) -> None:
    with pytest.raises(UnknownBatch):
        service.batch("none")
    assert service.batches() == []
