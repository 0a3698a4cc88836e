"""An output appears whole or not at all, and never replaces a file that is not the task's own."""

import contextlib
import errno
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from tasktrail.events.errors import OutputExists
from tasktrail.handlers.errors import OutputMissing
from tasktrail.handlers.publish import part_path, publish, remove_part, settle, stage, staged_path, unstage


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "film.mp4"


@pytest.fixture
def work_dir(tmp_path: Path) -> Path:
    return tmp_path / "tmp" / "7"


def write_part(output: Path, text: str) -> Path:
    part = part_path(output, 7)
    part.write_text(text)
    settle(part)
    return part


def test_the_part_is_hidden_beside_the_output_and_has_its_suffix(output: Path) -> None:
    part = part_path(output, 7)

    assert (part.parent, part.name) == (output.parent, ".film.tasktrail-7.mp4")


def test_the_part_of_a_long_name_still_fits(tmp_path: Path) -> None:
    part = part_path(tmp_path / ("ü" * 120 + ".webp"), 123456)
    part.touch()

    assert part != part_path(tmp_path / ("ö" * 120 + ".webp"), 123456)


def test_publishing_moves_the_part(output: Path, work_dir: Path) -> None:
    part = write_part(output, "new")

    publish(part, output, overwrite=False, work_dir=work_dir)

    assert output.read_text() == "new"
    assert not part.exists()


def test_a_foreign_file_is_kept_and_the_part_as_well(output: Path, work_dir: Path) -> None:
    output.write_text("foreign")
    part = write_part(output, "new")

    with pytest.raises(OutputExists, match=r"film\.mp4"):
        publish(part, output, overwrite=False, work_dir=work_dir)

    assert (output.read_text(), part.read_text()) == ("foreign", "new")


def test_a_foreign_link_is_kept_even_when_it_leads_nowhere(output: Path, work_dir: Path) -> None:
    output.symlink_to("nowhere")

    with pytest.raises(OutputExists):
        publish(write_part(output, "new"), output, overwrite=False, work_dir=work_dir)

    assert output.is_symlink()


def test_overwrite_replaces_a_foreign_file(output: Path, work_dir: Path) -> None:
    output.write_text("foreign")

    publish(write_part(output, "new"), output, overwrite=True, work_dir=work_dir)

    assert output.read_text() == "new"


def test_overwrite_replaces_no_device_pipe_or_socket(output: Path, work_dir: Path) -> None:
    """As root a rename would replace /dev/null by a plain file, for all programs of the machine."""
    part = write_part(output, "new")
    os.mkfifo(output)

    with pytest.raises(OutputExists, match="no regular file"):
        publish(part, output, overwrite=True, work_dir=work_dir)

    assert stat.S_ISFIFO(output.lstat().st_mode)
    assert part.exists()


def test_after_a_crash_the_own_earlier_output_is_replaced(output: Path, work_dir: Path) -> None:
    """A second run of an encoder need not give the same bytes."""
    publish(write_part(output, "first run"), output, overwrite=False, work_dir=work_dir)

    publish(write_part(output, "second run"), output, overwrite=False, work_dir=work_dir)

    assert output.read_text() == "second run"


def test_after_a_crash_between_the_two_names_the_output_is_published(output: Path, work_dir: Path) -> None:
    publish(write_part(output, "first run"), output, overwrite=False, work_dir=work_dir)
    os.link(output, part_path(output, 7))

    publish(write_part(output, "first run"), output, overwrite=False, work_dir=work_dir)

    assert output.read_text() == "first run"
    assert not part_path(output, 7).exists()


def test_a_file_that_somebody_put_in_place_of_the_own_output_is_kept(output: Path, work_dir: Path) -> None:
    publish(write_part(output, "first run"), output, overwrite=False, work_dir=work_dir)
    output.unlink()
    output.write_text("foreign")

    with pytest.raises(OutputExists):
        publish(write_part(output, "second run"), output, overwrite=False, work_dir=work_dir)


def test_without_a_work_folder_equal_bytes_are_taken_for_the_own_output(output: Path) -> None:
    output.write_text("same")

    publish(write_part(output, "same"), output, overwrite=False)

    with pytest.raises(OutputExists):
        publish(write_part(output, "other"), output, overwrite=False)


def test_a_filesystem_without_hard_links_will_do(output: Path, work_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)

    publish(write_part(output, "new"), output, overwrite=False, work_dir=work_dir)

    assert output.read_text() == "new"
    output.unlink()
    output.write_text("foreign")
    with pytest.raises(OutputExists):
        publish(write_part(output, "newer"), output, overwrite=False, work_dir=work_dir)


def test_settling_what_was_never_written_is_an_error(output: Path) -> None:
    with pytest.raises(OutputMissing, match="output_part"):
        settle(part_path(output, 7))


def test_removing_the_part_of_an_attempt_says_whether_there_was_one(output: Path) -> None:
    write_part(output, "half")

    assert remove_part(output, 7)
    assert not remove_part(output, 7)
    assert not remove_part(Path("/nowhere/at/all.txt"), 7)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def write_with_mode(path: Path, made_with: int) -> None:
    """Create a file with that mode, which works even where the sandbox ignores chmod."""
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, made_with))


@pytest.fixture
def _no_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.usefixtures("_no_umask")
@pytest.mark.parametrize(("made_with", "published"), [(0o6777, 0o644), (0o1755, 0o644), (0o666, 0o644), (0o600, 0o600)])
def test_an_output_has_no_set_id_bit_and_no_more_than_the_umask_at_the_start_allows(
    output: Path, monkeypatch: pytest.MonkeyPatch, made_with: int, published: int
) -> None:
    monkeypatch.setattr("tasktrail.handlers.publish._UMASK", 0o022)
    stage(output, 7)
    write_with_mode(staged_path(output, 7), made_with)

    unstage(output, 7)
    settle(part_path(output, 7))
    publish(part_path(output, 7), output, overwrite=False)

    assert mode(output) == published


@pytest.mark.usefixtures("_no_umask")
def test_the_same_holds_for_a_folder_and_for_each_file_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasktrail.handlers.publish._UMASK", 0o022)
    part = part_path(tmp_path / "pages", 7)
    part.mkdir()
    write_with_mode(part / "a", 0o6777)
    part.chmod(0o3777)

    settle(part)

    assert (mode(part), mode(part / "a")) == (0o755, 0o644)


_ANYBODY = 0xFFFFFFFF
_OWNER, _USER, _GROUP, _MASK, _OTHERS = 1, 2, 4, 16, 32


def access_list(*entries: tuple[int, int, int]) -> bytes:
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="this system has no access lists")
def test_where_the_folder_says_who_may_change_what_is_in_it_the_umask_takes_nothing_of_that(output: Path) -> None:
    """As for every file made there. The mode's group bits limit everyone on the list."""
    rights = [(_OWNER, 7, _ANYBODY), (_USER, 7, 1001), (_GROUP, 5, _ANYBODY), (_MASK, 7, _ANYBODY)]
    try:
        os.setxattr(output.parent, "system.posix_acl_default", access_list(*rights, (_OTHERS, 5, _ANYBODY)))
    except OSError as error:
        pytest.skip(f"nor does this disk: {error}")
    stage(output, 7)
    write_with_mode(staged_path(output, 7), 0o4676)

    unstage(output, 7)
    settle(part_path(output, 7))

    assert mode(part_path(output, 7)) == 0o664


@pytest.mark.usefixtures("_no_umask")
@pytest.mark.skipif(not hasattr(os, "setxattr"), reason="as above")
def test_no_list_lets_everybody_else_in(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasktrail.handlers.publish._UMASK", 0o022)
    part = part_path(output, 7)
    write_with_mode(part, 0o666)
    rights = [(_OWNER, 6, _ANYBODY), (_USER, 6, 1001), (_GROUP, 6, _ANYBODY), (_MASK, 6, _ANYBODY)]
    try:
        os.setxattr(part, "system.posix_acl_access", access_list(*rights, (_OTHERS, 6, _ANYBODY)))
    except OSError as error:
        pytest.skip(f"this disk has no such access lists: {error}")

    settle(part)

    assert mode(part) == 0o664


def test_a_filesystem_that_keeps_no_modes_will_do_but_not_with_a_set_id_bit(
    output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise PermissionError(errno.EPERM, "no modes here")

    part = write_part(output, "new")
    monkeypatch.setattr(os, "fchmod", refuse)
    part.chmod(0o755)
    settle(part)
    part.chmod(0o4755)
    with pytest.raises(PermissionError):
        settle(part)


def test_a_link_is_no_output_and_what_it_leads_to_keeps_its_mode(output: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.touch()
    precious.chmod(0o755)
    part_path(output, 7).symlink_to(precious)

    with pytest.raises(OutputMissing, match="a link"):
        settle(part_path(output, 7))

    assert mode(precious) == 0o755


def test_a_pipe_is_no_output_and_nobody_waits_for_its_writer(output: Path) -> None:
    os.mkfifo(part_path(output, 7))

    with pytest.raises(OutputMissing, match="no regular file"):
        settle(part_path(output, 7))


def test_nor_is_a_socket(output: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(output.parent):
        listening.bind(part_path(output, 7).name)  # the whole path would be too long for it

        with pytest.raises(OutputMissing, match="no regular file"):
            settle(part_path(output, 7))


def test_what_an_attempt_hides_beside_its_output_is_gone_at_the_next(output: Path) -> None:
    for name in ("hide", "published"):
        (stage(output, 7) / name).mkdir(0o300)
    staged_path(output, 7).write_text("new")
    unstage(output, 7)
    assert list(output.parent.iterdir()) == [part_path(output, 7)]
    (stage(output, 7) / "hide").mkdir(0o300)
    assert remove_part(output, 7)
    assert not list(output.parent.iterdir())


# --- folders -------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "pages"


def fill(folder: Path, **files: str) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


def part_with(folder: Path, **files: str) -> Path:
    part = fill(part_path(folder, 7), **files)
    settle(part)
    return part


def content(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_is_published_as_a_whole(folder: Path, work_dir: Path, *, overwrite: bool) -> None:
    part = part_with(folder, a="1", b="2")
    publish(part, folder, overwrite=overwrite, work_dir=work_dir)
    assert content(folder) == {"a": "1", "b": "2"}
    assert not part.exists()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_replaces_no_other_folder(folder: Path, work_dir: Path, *, overwrite: bool) -> None:
    fill(folder, letter="of somebody")
    part = part_with(folder, a="1")
    with pytest.raises(OutputExists, match="replaces nothing"):
        publish(part, folder, overwrite=overwrite, work_dir=work_dir)
    assert (content(folder), content(part)) == ({"letter": "of somebody"}, {"a": "1"})


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_replaces_no_file_and_no_link(folder: Path, work_dir: Path, *, overwrite: bool) -> None:
    part = part_with(folder, a="1")
    for make in (lambda: folder.write_text("x"), lambda: folder.symlink_to("nowhere")):
        make()
        with pytest.raises(OutputExists):
            publish(part, folder, overwrite=overwrite, work_dir=work_dir)
        folder.unlink()


@pytest.mark.parametrize("again", ["1", "2"])
def test_after_a_crash_the_own_earlier_folder_is_published_again(folder: Path, work_dir: Path, again: str) -> None:
    publish(part_with(folder, a="1"), folder, overwrite=False, work_dir=work_dir)
    publish(part_with(folder, a=again), folder, overwrite=False, work_dir=work_dir)
    assert content(folder) == {"a": again}


def test_the_same_files_are_taken_for_the_own_folder(folder: Path) -> None:
    fill(folder, a="1")
    publish(part_with(folder, a="1"), folder, overwrite=False)
    with pytest.raises(OutputExists):
        publish(part_with(folder, a="1", b="2"), folder, overwrite=False)
    assert content(folder) == {"a": "1"}


@pytest.mark.parametrize("odd", ["link", "folder", "pipe"])
def test_a_folder_with_anything_but_plain_files_is_refused(folder: Path, odd: str) -> None:
    staged = stage(folder, 7) / staged_path(folder, 7).name
    fill(staged, a="1")
    match odd:
        case "link":
            (staged / "odd").symlink_to("/etc/passwd")
        case "folder":
            (staged / "odd").mkdir()
        case _:
            os.mkfifo(staged / "odd")
    unstage(folder, 7)
    with pytest.raises(OutputMissing, match="'odd' is no plain file"):
        settle(part_path(folder, 7))


def test_a_folder_that_was_not_published_is_removed(folder: Path) -> None:
    part = part_with(folder, a="1")
    assert remove_part(folder, 7)
    assert not part.exists()
    assert not remove_part(folder, 7)
