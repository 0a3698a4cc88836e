"""Originals on a real service: only a result that was checked and is smaller replaces them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pyvips
from PIL import Image
from sounds import tone, write

from tasktrail.api.service import TaskService
from tasktrail.events import Task
from tasktrail.events.errors import InvalidPath


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "sub").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text("aaabbb")
    (tmp_path / "in" / "sub" / "b.txt").write_text("ccc")
    (tmp_path / "in" / "same.txt").write_text("abc")
    return tmp_path / "in"


def squeezed(service: TaskService, path: Path, output: Path | None = None, **more: Any) -> Task:
    given: dict[str, Any] = {"original": "replace", "max_retries": 0} | more
    return service.wait(service.create_task("squeeze", path, output or path, **given), timeout=60)


def test_a_smaller_result_takes_the_place_of_its_original(service: TaskService, folder: Path) -> None:
    task = squeezed(service, folder / "a.txt")
    assert (task.status, task.original, (folder / "a.txt").read_text()) == ("completed", "replace", "ab")
    assert task.result["original"] == {"replaced": str(folder / "a.txt")}

    task = squeezed(service, folder / "sub" / "b.txt", folder / "b.short")
    assert (folder / "b.short").read_text() == "c"
    assert not (folder / "sub" / "b.txt").exists()


@pytest.mark.parametrize(
    ("text", "why"),
    [("abc", "the result is not smaller: 3 bytes instead of 3"), ("precious  ", "the result is precious")],
)
def test_else_the_original_stays_and_the_result_goes(service: TaskService, folder: Path, text: str, why: str) -> None:
    (folder / "same.txt").write_text(text)
    before = (folder / "same.txt").stat()
    task = squeezed(service, folder / "same.txt", folder / "same.short")
    assert (task.status, task.result["original"]) == ("completed", {"kept": why})
    assert (folder / "same.txt").stat().st_ino == before.st_ino
    assert sorted(path.name for path in folder.iterdir()) == ["a.txt", "same.txt", "sub"], "and nothing else is left"


def test_a_result_that_does_not_hold_fails_the_task(service: TaskService, folder: Path) -> None:
    (folder / "a.txt").write_text("torn   ")
    task = squeezed(service, folder / "a.txt")
    assert (task.status, task.error) == ("failed", "the result is torn")
    assert (folder / "a.txt").read_text() == "torn   "


def test_originals_are_moved_aside_each_to_its_place(service: TaskService, folder: Path) -> None:
    aside = folder / "originals"
    task = {"original": "move", "original_folder": aside}
    made = service.create_batch([folder], folder, type="squeeze", batch="tidy", task=task)
    for one in made.created:
        service.wait(one.task_id, timeout=60)
    assert (aside / "a.txt").read_text() == "aaabbb"
    assert (aside / "sub" / "b.txt").read_text() == "ccc"
    assert ((folder / "a.txt").read_text(), (folder / "same.txt").read_text()) == ("ab", "abc")
    batch = service.batch("tidy")
    assert (batch.bytes_before, batch.bytes_after, batch.originals_kept) == (12, 6, 1)

    again = service.create_batch([folder], folder, type="squeeze", task=task)
    assert [Path(one.input_file).name for one in again.skipped] == ["a.txt", "same.txt", "b.txt"]
    assert (again.created, again.refused, again.left_out) == ((), (), ()), "what stands there is the result"
    os.chmod(folder / "a.txt", 0o600)  # noqa: PTH101 - it stays the result
    (folder / "same.txt").write_text("xx")
    third = service.create_batch([folder], folder, type="squeeze", task=task)
    assert [Path(one.input_file).name for one in third.created] == ["same.txt"], "a new content is new work"


def test_a_result_of_another_name_is_no_new_input(service: TaskService, folder: Path) -> None:
    def batch() -> Any:
        return service.create_batch([folder], f"{folder}/{{folder}}/{{stem}}.short", type="squeeze",
                                    task={"original": "replace"})  # fmt: skip

    first = batch()
    for one in first.created:
        service.wait(one.task_id, timeout=60)
    assert sorted(path.name for path in folder.rglob("*.*")) == ["a.short", "b.short", "same.txt"]
    again = batch()
    assert again.created == ()
    assert sorted(Path(one.input_file).name for one in again.left_out) == ["a.short", "b.short"]
    assert [Path(one.input_file).name for one in again.skipped] == ["same.txt"]


@pytest.mark.parametrize("wish", [{"original": "replace"}, {"original": "move", "original_folder": "old"}])
def test_a_result_that_stands_for_its_original_is_not_replaced_by_that_of_a_namesake(
    service: TaskService, folder: Path, monkeypatch: pytest.MonkeyPatch, wish: dict[str, Any]
) -> None:
    monkeypatch.chdir(folder.parent)

    def batch(**more: Any) -> Any:
        to = folder.parent / "out" / "{stem}.short"
        return service.create_batch([folder / "a.txt"], to, type="squeeze", task={**wish, **more})

    result = folder.parent / "out" / "a.short"
    assert service.wait(batch().created[0].task_id, timeout=60).status == "completed"
    (folder / "a.txt").write_text("xxyyzz")
    made = batch()
    assert made.created == ()
    (refused,) = made.refused
    assert (refused.problem["code"], result.read_text()) == ("output_exists", "ab")
    assert "which has replaced its original" in refused.problem["detail"]
    assert service.wait(batch(overwrite=True).created[0].task_id, timeout=60).status == "completed"
    assert result.read_text() == "xyz"


def test_another_wish_for_the_original_is_another_wish(service: TaskService, folder: Path) -> None:
    def batch(**task: Any) -> tuple[list[str], list[str]]:
        made = service.create_batch([folder], folder.parent / "out" / "{stem}.short", type="squeeze", task=task)
        assert made.refused == ()
        for one in made.created:
            assert service.wait(one.task_id, timeout=60).status == "completed"
        return tuple([Path(one.input_file).stem for one in some] for some in (made.created, made.skipped))  # type: ignore[return-value]  # of two

    assert batch(original="replace") == (["a", "same", "b"], [])
    assert batch(original="replace") == ([], ["same"]), "whose original has stayed"
    assert batch() == (["same"], []), "there was no result"
    assert (folder.parent / "out" / "same.short").read_text() == "abc"
    assert batch() == ([], ["same"])
    (folder / "a.txt").write_text("xxyy")
    (folder.parent / "out" / "a.short").unlink()
    assert batch() == (["a"], ["same"])
    assert batch(original="replace") == (["a", "same"], []), "the original is still there"
    assert not (folder / "a.txt").exists()
    assert (folder.parent / "out" / "a.short").read_text() == "xy"


def test_what_has_given_way_over_a_link_is_done(service: TaskService, folder: Path) -> None:
    (folder.parent / "link").symlink_to(folder)
    for inputs, to, created in ((folder, "link", 3), (folder, "link", 0), (folder, "in", 0), ("link", "in", 0)):
        made = service.create_batch(
            [folder.parent / inputs], folder.parent / to, type="squeeze", task={"original": "replace"}
        )
        assert (len(made.created), len(made.skipped), made.refused) == (created, 3 - created, ())
        for one in made.created:
            service.wait(one.task_id, timeout=60)


def test_a_watched_folder_does_not_feed_on_itself(open_service: Callable[..., TaskService], folder: Path) -> None:
    service = open_service()
    aside = folder / "originals"
    task = {"type": "squeeze", "original": "move", "original_folder": aside}
    service.add_source("tidy", [folder], folder, task=task, settle=0)
    ended = 0
    for record in service.follow(events=("completed",)):
        ended += record.event is not None
        if ended == 3:
            break
    for _ in range(2):
        for looks in list(service.watcher._states.values()):
            looks.look_at = 0.0
        service.watcher.look()
    assert service.stats().total == 3
    assert (folder / "a.txt").read_text() == "ab"
    assert (aside / "sub" / "b.txt").read_text() == "ccc"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"original_folder": "aside"}, "needs an original_folder, and only move"),
        ({"original": "move"}, "needs an original_folder"),
        ({"original": "replace", "type": "shout"}, "cannot replace its input"),
        ({"original": "replace", "output_file": "film.mp4", "input_file": "photo.jpg"}, "cannot replace one of kind"),
        ({"original": "replace", "input_file": "link.txt"}, "is a link"),
        ({"original": "move", "original_folder": "."}, "is in .* already"),
        ({"original": "move", "original_folder": "a.txt"}, "is no folder"),
        (
            {"original": "move", "original_folder": "link", "output_file": "sub/a.txt"},
            "would be the name of the result and of the original",
        ),
        ({"original": "move", "original_folder": "/dev/shm"}, "on another disk"),
    ],
)
def test_what_cannot_be_is_told_beforehand(
    service: TaskService, folder: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], said: str
) -> None:
    monkeypatch.chdir(folder)
    (folder / "link.txt").symlink_to("a.txt")
    (folder / "link").symlink_to("sub")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(64))
    if given.get("original_folder") == "/dev/shm" and os.stat("/dev/shm").st_dev == folder.stat().st_dev:  # noqa: PTH116
        pytest.skip("one disk")
    fields = {"type": "squeeze", "input_file": "a.txt", "output_file": "out.txt"} | given
    with pytest.raises(InvalidPath, match=said):
        service.create_task(fields.pop("type"), **fields)
    assert service.stats().total == 0


def test_an_original_outside_of_the_roots_of_outputs_stays(
    open_service: Callable[..., TaskService], folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    service = open_service(output_roots=(tmp_path / "out",))
    with pytest.raises(InvalidPath, match="outside of output_roots"):
        service.create_task("squeeze", folder / "a.txt", tmp_path / "out" / "a.txt", original="replace")


def test_pictures_and_sounds_give_way(service: TaskService, folder: Path) -> None:
    photo, deep, sound = folder / "photo.bmp", folder / "deep.tif", folder / "tone.wav"
    Image.effect_noise((64, 64), 40).convert("RGB").save(photo)
    pyvips.Image.gaussnoise(64, 64).cast("ushort").copy(interpretation="grey16").tiffsave(deep)
    write(sound, tone(2.0))

    for kind, original, made, lost in (
        ("image_convert", photo, "photo.jpg", ""),
        ("image_convert", deep, "deep.jpg", "16 bits a channel became 8"),
        ("audio_convert", sound, "tone.flac", ""),
    ):
        task = service.wait(service.create_task(kind, original, folder / made, original="replace"), timeout=60)
        assert (task.status, original.exists(), (folder / made).exists()) == ("completed", bool(lost), not lost), task
        assert task.result["original"] == ({"kept": lost} if lost else {"replaced": str(original)})


def test_what_a_task_before_makes_may_give_way(service: TaskService, folder: Path) -> None:
    ids = service.create_graph(
        [
            {"name": "first", "type": "shout", "input_file": folder / "a.txt", "output_file": folder / "big"},
            {
                "name": "second",
                "type": "squeeze",
                "input_file": folder / "big",
                "output_file": folder / "small",
                "depends_on": ["first"],
                "original": "move",
                "original_folder": folder / "old" / "here",
            },
        ]
    )
    assert service.wait(ids["second"], timeout=60).status == "completed"
    assert ((folder / "small").read_text(), (folder / "old" / "here" / "big").read_text()) == ("AB", "AAABBB")


@pytest.mark.parametrize(
    "task", [{"original": "move"}, {"original_folder": "/tmp/x"}, {"original": "replace", "type": "shout"}]
)
def test_a_source_is_told_what_can_never_be(service: TaskService, folder: Path, task: dict[str, Any]) -> None:
    with pytest.raises(InvalidPath) as caught:
        service.add_source("tidy", [folder], folder, task=task)
    assert caught.value.field.startswith("task.original")
    assert service.sources() == []
