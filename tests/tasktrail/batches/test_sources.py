"""Watched folders of a real service: every file becomes a task once, also over restarts."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasktrail.api.service import TaskService
from tasktrail.events import Created, Task
from tasktrail.events.errors import InvalidOptions, InvalidPath, InvalidValue, UnknownType


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


def watch(service: TaskService, inbox: Path, **more: object) -> None:
    service.add_source(
        "inbox", [inbox], f"{inbox.parent}/out/{{stem}}.loud", task={"type": "shout", "max_retries": 0} | more, settle=0
    )


def nth(service: TaskService, number: int) -> Task:
    """Wait until the task of that number was created and has ended; return it."""
    for record in service.follow(events=("created",)):
        if record.task_id == number:
            break
    return service.wait(number, timeout=60)


def looked(service: TaskService) -> None:
    """Wait until everything has been looked at twice more."""
    for looks in list(service.watcher._states.values()):
        looks.look_at = 0.0
    service.watcher.look()
    service.watcher.look()


@pytest.mark.slow
def test_a_file_becomes_one_task_for_each_of_its_contents(
    open_service: Callable[..., TaskService], inbox: Path
) -> None:
    service = open_service()
    (inbox / "a.txt").write_text("this is a")
    watch(service, inbox)
    task = nth(service, 1)
    assert (task.status, task.batch, Path(task.output_file).read_text()) == ("completed", "inbox", "THIS IS A")
    (created,) = [record for record in service.events(1) if isinstance(record.event, Created)]
    assert (created.actor, created.reason) == ("source", "source inbox")
    Path(task.output_file).unlink()  # somebody has fetched it
    service.close()

    again = open_service()
    looked(again)
    assert again.stats().total == 1, "what has had its task gets no other, whatever became of the output"
    (inbox / "a.txt").write_text("this is b")
    assert Path(nth(again, 2).output_file).read_text() == "THIS IS B"
    (inbox / "bad.txt").write_text("broken")
    assert nth(again, 3).status == "failed"
    again.close()

    last = open_service()
    looked(last)
    assert last.stats().total == 3, "nor does what has failed"
    assert last.sources()[0].source == "inbox"


def test_a_second_file_for_the_same_output_is_refused_and_keeps_no_other_waiting(
    service: TaskService, inbox: Path
) -> None:
    (inbox / "a.txt").write_text("this is a")
    (inbox / "a.md").write_text("this is another a")
    (inbox / "b.txt").write_text("this is b")
    watch(service, inbox)
    nth(service, 2)
    looked(service)
    assert service.stats().total == 2
    assert {Path(nth(service, number).input_file).stem for number in (1, 2)} == {"a", "b"}
    before = (inbox.parent / "out" / "a.loud").read_text()
    for name in ("a.txt", "a.md"):  # the later of the two is new now
        os.utime(inbox / name, (1, 1))
    looked(service)
    assert service.stats().total == 2
    assert (inbox.parent / "out" / "a.loud").read_text() == before, "an output of another file is not ours to replace"


@pytest.mark.slow
def test_a_file_whose_output_went_to_another_one_meanwhile_has_had_its_task(
    open_service: Callable[..., TaskService], inbox: Path
) -> None:
    service = open_service()
    watch(service, inbox)
    for number, name in enumerate(("a.md", "a.txt"), 1):
        (inbox / name).write_text(f"this is {name}")
        Path(nth(service, number).output_file).unlink()  # somebody has fetched it
    service.close()
    again = open_service()
    looked(again)
    assert again.stats().total == 2
    (inbox / "a.txt").write_text("this is new")
    assert Path(nth(again, 3).output_file).read_text() == "THIS IS NEW", "the other file is not in its way"


@pytest.mark.parametrize(
    "more",
    [{"to": "{stem}.shorter"}, {"task": {"type": "squeeze"}}, {"task": {"type": "shout", "options": {"value": 2}}}],
)
def test_a_source_that_is_replaced_does_only_what_is_new(
    service: TaskService, inbox: Path, more: dict[str, Any]
) -> None:
    (inbox / "a.txt").write_text("this is a")
    watch(service, inbox)
    nth(service, 1)
    given = {"to": "{stem}.loud", "task": {"type": "shout"}} | more
    service.add_source("inbox", [inbox], f"{inbox.parent}/out/{given.pop('to')}", settle=0, replace=True, **given)
    (inbox / "b.txt").write_text("this is b")
    nth(service, 2)
    looked(service)
    assert service.stats().total == 2


@pytest.mark.parametrize("name", ["in", "link"])
def test_a_source_does_not_feed_on_its_own_outputs(service: TaskService, inbox: Path, name: str) -> None:
    (inbox.parent / "link").symlink_to(inbox)
    (inbox / "a.txt").write_text("this is a")
    to = f"{inbox.parent}/{name}/{{stem}}-s.txt"
    service.add_source("inbox", [inbox], to, task={"type": "shout"}, settle=0)
    nth(service, 1)
    for _ in range(3):
        looked(service)
    assert service.stats().total == 1


def test_two_sources_of_one_folder_do_not_feed_each_other(service: TaskService, inbox: Path) -> None:
    (inbox / "a.txt").write_text("this is a")
    for name in ("s", "t"):
        service.add_source(name, [inbox], f"{inbox}/{{stem}}-{name}.txt", task={"type": "shout"}, settle=0)
    for number in range(1, 5):
        nth(service, number)
    for _ in range(3):
        looked(service)
    assert sorted(path.stem for path in inbox.iterdir()) == ["a", "a-s", "a-s-t", "a-t", "a-t-s"]
    assert service.stats().total == 4, "each does what the other has made of files, and nothing that it made itself"


def test_an_older_file_that_takes_the_place_of_a_cancelled_one_is_another_content(
    service: TaskService, inbox: Path, tmp_path: Path
) -> None:
    service.pause(type="shout")
    (inbox / "a.txt").write_text("this is a")
    watch(service, inbox)
    for _record in service.follow(events=("created",)):
        break
    service.cancel_task(1)
    older = tmp_path / "older.txt"
    older.write_text("this is older")
    os.utime(older, (1, 1))
    older.rename(inbox / "a.txt")
    service.resume(type="shout")
    assert Path(nth(service, 2).output_file).read_text() == "THIS IS OLDER"


def test_a_source_that_can_do_nothing_keeps_no_other_waiting(
    service: TaskService, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (inbox / "a.txt").write_text("this is a")
    (inbox.parent / "closed").mkdir()
    service.add_source("broken", [inbox], f"{inbox.parent}/closed/", task={"type": "shout"}, settle=0)
    monkeypatch.setattr("os.access", lambda path, *_: not str(path).endswith("/closed"))
    watch(service, inbox)
    assert nth(service, 1).batch == "inbox"


def test_a_cancelled_task_comes_not_back(open_service: Callable[..., TaskService], inbox: Path) -> None:
    service = open_service()
    service.pause(type="shout")
    (inbox / "a.txt").write_text("this is a")
    watch(service, inbox)
    for _record in service.follow(events=("created",)):
        break
    service.cancel_task(1)
    service.close()
    again = open_service()
    looked(again)
    assert again.stats().total == 1


@pytest.mark.parametrize(
    ("more", "error", "field"),
    [
        ({"type": "shuot"}, UnknownType, "task.type"),
        ({"preset": "nothing"}, InvalidOptions, "task.preset"),
        ({"type": "image_thumbnail", "options": {"colour": 1}}, InvalidOptions, "task.options.colour"),
        ({"type": "", "options": {"widht": 1}}, InvalidOptions, "task.options.widht"),
        ({"type": "", "options": {"width": -1}}, InvalidOptions, "task.options.width"),
        ({"type": "", "options": {"burn_subtitles": 1, "depth": 8}}, InvalidOptions, "task.options"),
        ({"unique": "k"}, InvalidValue, "task.unique"),
        ({"output_file": "/a"}, InvalidValue, "task.output_file"),
    ],
)
def test_what_could_never_work_is_refused(
    service: TaskService, inbox: Path, more: dict[str, object], error: type[Exception], field: str
) -> None:
    with pytest.raises(error) as refused:
        watch(service, inbox, **more)
    assert getattr(refused.value, "field", "") == field
    assert service.sources() == []


def test_a_placeholder_has_to_have_a_value(service: TaskService, inbox: Path) -> None:
    for task in ({"type": "image_convert"}, {}):
        given: dict[str, Any] = {"options": {"height": 9.0}, **task}
        with pytest.raises(InvalidValue, match=r"\{heigth\} has no value here; did you mean \{height\}"):
            service.add_source("inbox", [inbox], f"{inbox}/{{stem}}-{{heigth}}.webp", task=given)
        service.add_source("inbox", [inbox], f"{inbox}/{{stem}}-{{height}}.webp", task=given, replace=True)


@pytest.mark.parametrize("name", ["inbox ", " inbox", "a,b", "a/b", "..", ""])
def test_a_name_that_no_batch_can_have_is_no_sources(service: TaskService, inbox: Path, name: str) -> None:
    with pytest.raises(InvalidValue, match=r"a name without|may not be empty|at least 1"):
        service.add_source(name, [inbox], f"{inbox.parent}/out/", task={"type": "shout"})


def test_nobody_watches_what_may_not_be_read(open_service: Callable[..., TaskService], inbox: Path) -> None:
    service = open_service(input_roots=(str(inbox),), output_roots=(str(inbox.parent),))
    with pytest.raises(InvalidPath, match="outside of input_roots"):
        watch(service, inbox.parent)
    with pytest.raises(InvalidValue, match="number"):
        service.add_source("x", [inbox], f"{inbox.parent}/{{number}}.loud", task={"type": "shout"})
    with pytest.raises(InvalidPath, match="outside of output_roots"):
        service.add_source("x", [inbox], "/elsewhere/{stem}.loud", task={"type": "shout"})


def test_a_tree_of_very_many_folders_is_looked_at_and_not_listened_to(
    service: TaskService, inbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.batches.watcher.MOST_LISTENED", 3)
    for number in range(3):
        (inbox / f"{number}").mkdir()
    (inbox / "2" / "a.txt").write_text("this is a")
    watch(service, inbox)
    assert nth(service, 1).status == "completed"
    assert service.watcher._listening == {}
    (inbox / "2").rename(inbox / "0" / "2")
    service.add_source("few", [inbox / "1"], f"{inbox.parent}/few", task={"type": "shout"}, settle=0)
    looked(service)
    assert list(service.watcher._listening) == ["few"]
