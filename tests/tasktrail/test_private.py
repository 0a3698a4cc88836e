"""The files in a data folder are private to its owner, whatever existed before and whatever the umask is."""

import errno
import os
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import click
import pytest

from tasktrail import Client
from tasktrail import paths as paths_module
from tasktrail.api.reader import Reader
from tasktrail.api.service import TaskService
from tasktrail.backups.backup import back_up
from tasktrail.backups.restore import restore
from tasktrail.cli.app import run
from tasktrail.cli.completion import suggestions
from tasktrail.config.settings import Config
from tasktrail.doctor.facts import collect_facts
from tasktrail.doctor.rules import apply_rules
from tasktrail.events.errors import InvalidPath
from tasktrail.events.existence import is_dir
from tasktrail.following.erasure import is_due, mark_due
from tasktrail.functions.default_client import default_client
from tasktrail.handlers.contract import Diagnosis
from tasktrail.http.server import HttpServer
from tasktrail.paths import DataPaths, close_to_others, is_shared, loose

Opener = Callable[..., TaskService]


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def closed(data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder of another user. Root may do everything, so only the system's answer is faked."""
    data.mkdir()
    monkeypatch.setattr(os, "access", lambda path, _mode: Path(path) != data)
    return data


@pytest.mark.parametrize("use_of", [Client.connect, TaskService.open, lambda data: back_up(data, data.parent / "b.db")])
def test_whoever_may_not_look_into_a_folder_is_told_whose_it_is(closed: Path, use_of: Callable[[Path], object]) -> None:
    with pytest.raises(InvalidPath) as refused:
        use_of(closed)
    assert f"The data folder {closed} is {closed.owner()}'s" in refused.value.message
    assert "its owner" in refused.value.advice


def test_the_command_line_says_it_too_and_not_where_a_service_is_named(
    closed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKTRAIL_DATA", str(closed))
    assert run(["list"]) == 1
    assert "may not look into it\n" in capsys.readouterr().err
    assert run(["--url", "http://127.0.0.1:1", "list"]) == 3


@pytest.fixture
def found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Enter a folder in which another user has made a data folder."""
    monkeypatch.chdir(tmp_path)
    for variable in ("TASKTRAIL_DATA", "TASKTRAIL_URL", "SUDO_UID"):
        monkeypatch.delenv(variable, raising=False)
    path = tmp_path / "tasktrail-data"
    path.mkdir()
    if os.geteuid() == 0:
        os.chown(path, 4242, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 4242)
    return path


@pytest.mark.parametrize("words", [["list"], ["run", "noop"], ["doctor"], ["types"]])
def test_a_folder_of_another_user_has_to_be_named(
    found: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """Its configuration names modules that would be loaded."""
    assert run(words) == 1
    assert f"The data folder {found} was found here, and is " in (said := capsys.readouterr().err)
    assert "--data" in said
    assert not list(found.iterdir())

    run(["--data", "tasktrail-data", *words])
    assert "was found here" not in capsys.readouterr().err


def test_a_link_to_a_folder_may_be_another_users_too(found: Path, tmp_path: Path) -> None:
    found.rmdir()
    (tmp_path / "mine").mkdir()
    found.symlink_to("mine")
    os.chown(found, 4343, -1, follow_symlinks=False) if os.geteuid() == 0 else None
    with pytest.raises(InvalidPath, match="was found here"):
        DataPaths(found).refuse_foreign()


def test_a_program_has_to_name_it_as_well(found: Path) -> None:
    with pytest.raises(InvalidPath, match="was found here"):
        default_client()
    assert not list(found.iterdir())


def test_neither_tab_nor_sudo_needs_a_folder_that_is_not_trusted(found: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    find = Mock(return_value=())
    assert not suggestions(click.Context(click.Command("list")), find)
    find.assert_not_called()
    monkeypatch.setenv("SUDO_UID", str(found.stat().st_uid))
    DataPaths(found).refuse_foreign()


def test_the_way_to_a_folder_may_be_closed_as_well(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def shut(_path: Path) -> None:
        raise PermissionError

    monkeypatch.setattr(Path, "stat", shut)
    with pytest.raises(InvalidPath, match="another user"):
        DataPaths(data).refuse_unusable()


@pytest.mark.parametrize("use_of", [Client.connect, lambda data: back_up(data, data.parent / "b.db")])
def test_a_file_is_called_no_folder(data: Path, use_of: Callable[[Path], object]) -> None:
    data.touch()
    with pytest.raises(InvalidPath, match="is a file, and no folder"):
        use_of(data)


@pytest.mark.parametrize("below", ["", "tasks"])
@pytest.mark.parametrize("use_of", [Client.connect, TaskService.open, lambda data: back_up(data, data.parent / "b.db")])
def test_a_link_to_a_disk_that_is_not_mounted_is_named(
    tmp_path: Path, use_of: Callable[[Path], object], below: str
) -> None:
    """A start used to say that the folder cannot be made because it exists, and `doctor` that it will be made."""
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "disk" / "data")
    with pytest.raises(InvalidPath) as refused:
        use_of(link / below)
    assert refused.value.message == f"{link} is a link to {tmp_path / 'disk' / 'data'}, which does not exist"
    assert "mount" in refused.value.advice


@pytest.mark.parametrize("use_of", [Client.connect, TaskService.open, lambda data: back_up(data, data.parent / "b.db")])
def test_a_folder_whose_name_no_log_can_be_opened_by_is_not_made(
    tmp_path: Path, use_of: Callable[[Path], object]
) -> None:
    """SQLite treats such a path as UTF-8. The log used to be called damaged, and a backup was asked for."""
    data = tmp_path / os.fsdecode(b"\xe4") / "data"
    with pytest.raises(InvalidPath, match=r"\\xe4.data' is not UTF-8 here") as refused:
        use_of(data)
    assert "Rename" in refused.value.advice
    assert list(tmp_path.iterdir()) == []


def test_a_locale_that_reads_names_otherwise_is_not_worked_in(
    data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "fsencode", lambda path: str(path).encode("latin-1"))
    assert run(["--data", str(data / "\xe4"), "list"]) == 1
    assert "PYTHONUTF8=1" in capsys.readouterr().err


SOMEBODY = 4711
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files for others")


@pytest.fixture
def of_somebody(data: Path) -> Path:
    """Make a data folder with a log that belongs to another user than root, who acts."""
    with TaskService.open(data):
        pass
    (data / "notes.txt").write_text("no file of ours")
    (data / "tasktrail.toml").write_text("workers = 1\n")
    for path in (data, *data.rglob("*")):
        os.lchown(path, SOMEBODY, SOMEBODY)
    return data


@as_root
def test_what_root_restores_belongs_to_whom_the_folder_belongs(of_somebody: Path, tmp_path: Path) -> None:
    back_up(of_somebody, tmp_path / "b.db")
    os.chown(of_somebody / "notes.txt", 0, 0)
    os.chown(of_somebody / "tasktrail.toml", 0, 0)
    secret = tmp_path / "of root"
    secret.write_text("")
    (of_somebody / "views.db-old").hardlink_to(secret)
    (of_somebody / "snapshots-old").symlink_to(secret)
    restored = restore(tmp_path / "b.db", of_somebody, force=True)
    roots = {path.name for path in of_somebody.rglob("*") if path.lstat().st_uid == 0}
    assert roots == {"notes.txt", "tasktrail.toml", "views.db-old", "snapshots-old"}
    assert (Path(restored.kept) / "log.db").stat().st_uid == SOMEBODY
    assert secret.stat().st_uid == 0


@as_root
def test_doctor_finds_what_root_has_left_in_the_folder_of_somebody(of_somebody: Path) -> None:
    def owner() -> Diagnosis:
        return next(one for one in apply_rules(collect_facts(of_somebody, Config()), Config()) if one.name == "owner")

    os.chown(of_somebody / "tasktrail.toml", 0, 0)
    assert owner().level == "ok"
    os.chown(of_somebody / "log.db", 0, 0)
    found = owner()
    assert found.level == "fail"
    assert str(of_somebody / "log.db") in found.message
    assert f"chown -R {SOMEBODY} {of_somebody}" in found.remedy


@as_root
def test_views_that_root_has_built_anew_belong_to_whom_the_folder_belongs(of_somebody: Path) -> None:
    (of_somebody / "views.db").unlink()
    assert run(["--data", str(of_somebody), "rebuild"]) == 0
    assert (of_somebody / "views.db").stat().st_uid == SOMEBODY


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def wrong(folder: Path) -> dict[str, str]:
    """Return the files open to others; a task's work folder counts as a whole."""
    found = {}
    for path in (folder, *folder.rglob("*")):
        if path.parent.parent.name != "tmp" and mode(path) != (0o700 if path.is_dir() else 0o600):
            found[str(path.relative_to(folder))] = oct(mode(path))
    return found


def use(service: TaskService) -> None:
    task_id = service.create_task(type="save", options={"count": 3})
    assert service.wait(task_id, 20).status == "completed"


@pytest.mark.usefixtures("umask")
def test_every_file_and_folder_is_the_owners_alone(open_service: Opener, data: Path) -> None:
    service = open_service(snapshot_every=10)
    server = HttpServer(service, socket_path=service.paths.socket, port=0, secret_file=service.paths.http_token)
    server.start()
    use(service)
    assert wrong(data) == {}
    there = {path.name for path in data.iterdir()}
    assert {"log.db", "log.db-wal", "views.db", "views.db-wal", "lock", "tasktrail.sock"} <= there
    server.stop()
    service.close()
    assert wrong(data) == {}


def test_what_was_there_before_is_closed(open_service: Opener, data: Path) -> None:
    open_service(snapshot_every=10).close()
    for path in (data, *data.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    (data / "tmp" / "7").mkdir(mode=0o777)
    assert set(map(str, loose(DataPaths(data)))) >= {str(data), str(data / "log.db"), str(data / "tmp" / "7")}
    service = open_service(snapshot_every=10)
    assert wrong(data) == {}
    use(service)
    assert wrong(data) == {}


def test_a_folder_made_beforehand_is_closed(open_service: Opener, data: Path) -> None:
    data.mkdir()
    data.chmod(0o755)
    open_service()
    assert wrong(data) == {}


def test_views_that_a_reader_makes_are_private_too(open_service: Opener, data: Path) -> None:
    open_service().close()
    (data / "views.db").unlink()
    before = os.umask(0)
    try:
        Reader(data).close()
    finally:
        os.umask(before)
    assert mode(data / "views.db") == 0o600


@pytest.mark.parametrize("other", ["letter.txt", "Documents/", "output/", "snapshots/"])
def test_a_folder_with_other_things_in_it_stays_as_it_is_and_so_do_those(
    open_service: Opener, data: Path, other: str
) -> None:
    data.mkdir()
    data.chmod(0o755)
    (data / "letter.txt").write_text("Dear all")
    (data / "letter.txt").chmod(0o644)
    if other.endswith("/"):
        (data / other).mkdir()
        (data / other / "a").write_text("of mine")
    for path in data.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    theirs = {path: mode(path) for path in (data, *data.rglob("*"))}
    service = open_service()
    use(service)
    assert {path: mode(path) for path in theirs} == theirs
    own = [data / name for name in ("log.db", "log.db-wal", "views.db", "lock")]
    assert [mode(path) for path in own] == [0o600] * 4
    assert is_shared(service.paths)


def test_links_are_not_followed(data: Path, tmp_path: Path) -> None:
    data.mkdir()
    outside = tmp_path / "tasktrail.toml"
    outside.write_text("")
    outside.chmod(0o644)
    (data / "tasktrail.toml").symlink_to(outside)
    (data / "snapshots").symlink_to(tmp_path)
    tmp_path.chmod(0o755)
    close_to_others(DataPaths(data))
    assert (mode(outside), mode(tmp_path)) == (0o644, 0o755)


@pytest.mark.parametrize("name", ["log.db", "http-token"])
def test_a_link_that_takes_the_place_of_a_file_meanwhile_is_not_followed(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """In a folder that others may write to, they can put a link there between the look and the change."""
    data.mkdir()
    outside, exchanged, closed = tmp_path / "outside", data / name, data / "lock"
    for file in (outside, exchanged, closed):
        file.touch(0o644)

    def seen(paths: DataPaths) -> Iterator[Path]:
        for path in loose(paths):
            if path == exchanged:
                path.unlink()
                path.symlink_to(outside)
            yield path

    monkeypatch.setattr(paths_module, "loose", seen)
    close_to_others(DataPaths(data))
    assert (mode(outside), mode(closed)) == (0o644, 0o600)


def test_a_socket_and_an_unreadable_file_are_closed_too(data: Path) -> None:
    data.mkdir()
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind(str(data / "tasktrail.sock"))
        (data / "tasktrail.sock").chmod(0o666)
        (data / "lock").touch()
        (data / "lock").chmod(0o044)
        close_to_others(DataPaths(data))
        assert (mode(data / "tasktrail.sock"), mode(data / "lock")) == (0o600, 0o600)


def test_an_old_c_library_closes_files_too_but_no_links(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has no chmod that leaves links alone."""
    outside = tmp_path / "outside"
    data.mkdir()
    for file in (outside, data / "log.db", data / "lock"):
        file.touch(0o644)
    seen = [*loose(DataPaths(data))]
    (data / "lock").unlink()
    (data / "lock").symlink_to(outside)
    chmod = os.chmod

    def old(path: Path, mode: int, *, follow_symlinks: bool = True) -> None:
        if not follow_symlinks:
            raise NotImplementedError("chmod: follow_symlinks unavailable on this platform")
        chmod(path, mode)

    monkeypatch.setattr(os, "chmod", old)
    monkeypatch.setattr(paths_module, "loose", lambda _paths: seen)
    close_to_others(DataPaths(data))
    assert data / "lock" in seen
    assert (mode(outside), mode(data / "log.db")) == (0o644, 0o600)


def test_the_locks_of_a_database_stay(data: Path) -> None:
    """Whoever opens a database's file and closes it again drops the locks that its process has on it."""
    data.mkdir()
    with closing(sqlite3.connect(data / "log.db", isolation_level=None)) as conn:
        conn.execute("CREATE TABLE log (position)")
        conn.execute("BEGIN IMMEDIATE")
        (data / "log.db").chmod(0o644)
        close_to_others(DataPaths(data))
        other = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        tried = subprocess.run([sys.executable, "-c", other, data / "log.db"], capture_output=True, check=False)
        assert b"database is locked" in tried.stderr
    assert mode(data / "log.db") == 0o600


def test_the_temp_folder_of_everybody_stays_as_it_is(data: Path, tmp_path: Path) -> None:
    everybodys = tmp_path / "var-tmp"
    (everybodys / "7").mkdir(parents=True)
    (everybodys / "somebody").mkdir()
    for folder in (everybodys, everybodys / "7", everybodys / "somebody"):
        folder.chmod(0o755)
    data.mkdir(mode=0o700)
    close_to_others(DataPaths(data, everybodys))
    assert [mode(everybodys / name) for name in (".", "7", "somebody")] == [0o755, 0o700, 0o755]


def test_the_doctor_names_what_is_open(open_service: Opener, data: Path) -> None:
    open_service().close()

    def diagnosis() -> Any:
        return next(one for one in apply_rules(collect_facts(data, Config()), Config()) if one.name == "privacy")

    assert diagnosis().level == "ok"
    (data / "log.db").chmod(0o644)
    found = diagnosis()
    assert found.level == "warn"
    assert str(data / "log.db") in found.message
    assert "chmod" in found.remedy
    (data / "log.db").chmod(0o600)
    (data / "letter.txt").touch()
    data.chmod(0o755)
    assert "also holds other things" in diagnosis().message


def test_what_is_still_to_be_erased_is_noted_through_no_link(tmp_path: Path) -> None:
    """Root may work in the folder of a user, who can lay a link there to any file."""
    paths, precious = DataPaths(tmp_path / "data"), tmp_path / "precious"
    paths.make()
    precious.write_text("kept")
    paths.erasing.symlink_to(precious)

    with pytest.raises(OSError, match="symbolic links"):
        mark_due(paths, is_user=True)
    assert precious.read_text() == "kept"


def test_a_folder_in_which_its_own_user_may_not_look_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may look anywhere, so the system's answer is written here."""
    (tmp_path / "seals").mkdir(0o700)
    (tmp_path / "seals" / "6.note").touch(0o644)

    def refused(path: Path) -> bool:
        if path.parent.name == "seals":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return is_dir(path)

    monkeypatch.setattr(paths_module, "is_dir", refused)
    with pytest.raises(InvalidPath, match=r"6\.note cannot be opened: Permission denied.*\n?.*chmod -R u\+rwX"):
        close_to_others(DataPaths(tmp_path))


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "file without end"])
def test_what_is_still_to_be_erased_is_read_from_no_pipe_and_no_file_without_end(tmp_path: Path, kind: str) -> None:
    paths = DataPaths(tmp_path)
    os.mkfifo(paths.erasing) if kind == "pipe" else paths.erasing.symlink_to("/dev/zero")
    assert is_due(paths)
