"""A user is erased: its personal data is in no file any more, and everything else stays as it was."""

import json
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from subprocess import CalledProcessError
from threading import Event, Semaphore
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from deep_folders import dig, few_descriptors
from from_outside import content
from msgspec.structs import asdict
from owner import secret_file

from tasktrail import Client, TaskFilters, TaskService
from tasktrail.actors import eraser
from tasktrail.actors.snapshots import delete_snapshots, take_snapshots, with_snapshots
from tasktrail.backups.restore import restore
from tasktrail.cli import erase
from tasktrail.config.settings import Config
from tasktrail.events import Created, Recorded
from tasktrail.events.context import Belongings
from tasktrail.events.errors import (
    CommandIdReused,
    Erased,
    HistoryMissing,
    IllegalTransition,
    KeptInPlain,
    KeysUnreadable,
    NothingToChange,
    UserHasWork,
)
from tasktrail.events.log.event_log import Erasable
from tasktrail.events.log.keys import Keys
from tasktrail.events.log.personal import BEGINS
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.system_events import ErasureFinished, RetentionRule, ServiceStarted, UserErased
from tasktrail.events.task_events import ERASED
from tasktrail.handlers.workspace import TempFiles
from tasktrail.http.server import HttpServer
from tasktrail.projections.proof.provenance import made_by, statement
from tasktrail.projections.rebuilding import build_anew, build_beside
from tasktrail.projections.verification import Verification, verify
from tasktrail.whatif.ask import what_if

WITHIN = 120.0
ADA, BOB = 7, 8
SUPPORT = str(Path(__file__).parents[1] / "support")
PLACES = (
    "input", "output", "label", "batch", "unique", "webhook", "actor", "cancelled", "complained", "printed",
    "told", "saved", "returned", "drawn", "refused",
)  # fmt: skip

Opener = Callable[..., TaskService]


def canary(user: int, place: str) -> str:
    """Return a unique word; not ASCII, so that JSON could escape it."""
    return f"canary{user}ü{place}"


def found_in(folder: Path, user: int = ADA) -> dict[str, list[str]]:
    """Map each place to the files that hold its canary."""
    files = [path for path in (folder, *folder.rglob("*")) if path.is_file()]
    found: dict[str, list[str]] = {}
    for path in files:
        try:
            read = content(path)
        except CalledProcessError:  # the service continues, and has deleted it
            continue
        for place in PLACES:
            word = canary(user, place)
            forms = (word, json.dumps(word)[1:-1], quote(word), word.replace("ü", "u"))  # the last one is the search's
            if any(form.encode() in read or form in str(path) for form in forms):
                found.setdefault(place, []).append(path.name)
    return found


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port without a listener: notices for it wait for another try."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield int(bound.getsockname()[1])


@pytest.fixture
def encrypted(open_service: Opener, closed_port: int) -> Callable[..., TaskService]:
    """Open the service with encryption of personal data."""

    def make(**settings: Any) -> TaskService:
        return open_service(
            **{
                "personal_data": "encrypted",
                "handlers": ("sample_handlers", "telltale_handlers"),
                "allow_endpoints": (f"127.0.0.1:{closed_port}",),
                "snapshot_every": 1,
                **settings,
            }
        )

    return make


def live(tasks: TaskService, folder: Path, port: int, user: int = ADA) -> dict[str, int]:
    """Create three tasks of a user that leave canaries in every possible place."""

    def word(place: str) -> str:
        return canary(user, place)

    source = folder / f"{word('input')}.txt"
    source.write_text("read")
    common: dict[str, Any] = {
        "type": "telltale",
        "input_file": str(source),
        "user_id": user,
        "actor": word("actor"),
        "label": word("label"),
        "batch": word("batch"),
        "notify_webhook": f"http://127.0.0.1:{port}/{word('webhook')}",
    }
    words = {place: word(place) for place in ("printed", "told", "saved", "returned", "drawn")}
    done = tasks.create_task(**common, output_file=str(folder / f"{word('output')}.out"), options=words)
    assert tasks.wait(done, WITHIN).status == "completed"
    broken = tasks.create_task(
        **common, output_file=str(folder / "broken.out"), options={**words, "complained": word("complained")}
    )
    assert tasks.wait(broken, WITHIN).status == "failed"
    held = tasks.create_task(**common, output_file=str(folder / "held.out"), held=True, unique=word("unique"))
    tasks.cancel_task(held, reason=word("cancelled"), actor=word("actor"))
    with pytest.raises(IllegalTransition):  # that is recorded, too
        tasks.cancel_task(held, actor=word("refused"))
    return {"done": done, "broken": broken, "held": held}


def wait_until_finished(tasks: TaskService, position: int) -> Recorded:
    """Wait for the record that the erasure is finished."""
    for record in tasks.follow(after=position):
        if isinstance(record.event, ErasureFinished) and record.event.erasure == position:
            return record
    raise AssertionError


def test_no_file_holds_a_word_of_an_erased_user_and_all_of_another_stays(
    encrypted: Opener, tmp_path: Path, closed_port: int
) -> None:
    (tmp_path / "files").mkdir()
    tasks = encrypted()
    mine = live(tasks, tmp_path / "files", closed_port)
    other = live(tasks, tmp_path / "files", closed_port, BOB)
    tasks.list_tasks(TaskFilters(search=canary(ADA, "input")))
    backup = tasks.backup(tmp_path / "before.db")
    aside = tasks.paths.data / "replaced-20260131T120000000000Z"
    aside.mkdir()
    for copy in (aside / "views.db", tasks.paths.data / "views.db.new"):
        copy.write_bytes(content(tasks.paths.views))
    before = found_in(tasks.paths.data)
    assert not any(name.startswith("log.db") for names in before.values() for name in names)
    assert {"input", "output", "label", "complained", "printed", "drawn"} <= before.keys()
    position = tasks.erase_user(ADA, actor="officer", reason="asked for").position
    wait_until_finished(tasks, position)

    assert found_in(tasks.paths.data) == {}
    assert found_in(tmp_path / "before.db") == {}
    assert aside.is_dir()
    for task_id in mine.values():
        task = tasks.get_task(task_id)
        assert (task.input_file, task.output_file, task.user_id, task.options) == (ERASED, ERASED, 0, {})
        assert [record.actor for record in tasks.notes(task_id)][-1] == "officer"
    assert [tasks.get_task(task_id).status for task_id in mine.values()] == ["completed", "failed", "cancelled"]
    assert tasks.get_task(mine["broken"]).error == ERASED
    assert tasks.notices(mine["done"]) == []  # no further notice is sent
    assert tasks.notices(other["done"])
    assert tasks.list_tasks(TaskFilters(search="canary7"))[1] == 0
    assert tasks.get_task(other["done"]).input_file.endswith(f"{canary(BOB, 'input')}.txt")
    assert tasks.list_tasks(TaskFilters(user_id=BOB))[1] == 3
    assert canary(BOB, "printed") in str(tasks.output(other["done"]))
    assert tasks.verify().findings == ()
    assert tasks.rebuild().differences == ()
    with closing(SqliteLogReader(Path(backup.path))) as log:
        assert verify(log).ok
        assert [record.event.user_id for record in log.read() if isinstance(record.event, Created)] == [0] * 6
        assert what_if(log.read(), tasks.config, total=log.head().position)


def test_neither_a_page_nor_a_stream_keeps_what_it_has_shown_of_an_erased_user(
    encrypted: Opener, tmp_path: Path, closed_port: int
) -> None:
    (tmp_path / "files").mkdir()
    tasks = encrypted()
    server = HttpServer(tasks, socket_path=tasks.paths.socket, secret_file=secret_file(tasks.paths.data))
    server.start()
    try:
        http = httpx.Client(base_url="http://localhost", transport=httpx.HTTPTransport(uds=str(tasks.paths.socket)))
        with http, http.stream("GET", "/v1/events?follow=true&after=0") as followed:
            lines = followed.iter_lines()
            mine = live(tasks, tmp_path / "files", closed_port)
            last = tasks.watermark.position
            assert any(line.startswith(f'{{"position":{last},') for line in lines)  # all was read for the stream
            addresses = [f"/tasks/{task_id}" for task_id in mine.values()] + [f"/v1/events?follow=true&limit={last}"]
            before = [http.get(address).text for address in addresses]
            position = tasks.erase_user(ADA).position
            finished = wait_until_finished(tasks, position).position
            assert any(line.startswith(f'{{"position":{finished},') for line in lines)
            after = [http.get(address).text for address in addresses]
    finally:
        server.stop()
    assert all("canary7" in text for text in before)
    assert not any("canary7" in text for text in after)


def test_an_erased_task_is_in_no_stream_of_its_former_user(encrypted: Opener) -> None:
    tasks = encrypted()
    first = tasks.create_task(type="noop", user_id=ADA)
    assert tasks.wait(first, WITHIN).status == "completed"
    server = HttpServer(tasks, socket_path=tasks.paths.socket, secret_file=secret_file(tasks.paths.data))
    server.start()
    try:
        headers = {"authorization": f"Bearer {tasks.add_token('ada', 'reader', user_id=ADA)}"}
        with httpx.Client(base_url=server.address, headers=headers, trust_env=False) as mine:
            after = tasks.events(first)[0].position
            assert len(mine.get(f"/v1/events?after={after}").text.splitlines()) == len(tasks.events(first)) - 1
            wait_until_finished(tasks, tasks.erase_user(ADA).position)
            assert mine.get(f"/v1/events?after={after}").text == ""
    finally:
        server.stop()


def test_an_attempt_cannot_make_folders_that_keep_an_erasure_from_its_end(
    encrypted: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TempFiles, "clean_up", lambda _self: [])  # otherwise it would run within the hour
    tasks = encrypted()
    task_id = tasks.create_task(type="echo", user_id=ADA, held=True)
    tasks.cancel_task(task_id)
    dig(tasks.paths.temp / str(task_id), 1100)

    with few_descriptors():
        wait_until_finished(tasks, tasks.erase_user(ADA).position)

    assert not (tasks.paths.temp / str(task_id)).exists()


def test_views_that_an_erasure_is_about_to_make_anew_are_not_compared(
    encrypted: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = Event(), Event()
    replace_views = eraser.Eraser._replace_views

    def late(self: eraser.Eraser) -> None:
        begun.set()
        assert go_on.wait(WITHIN)
        replace_views(self)

    monkeypatch.setattr(eraser.Eraser, "_replace_views", late)
    tasks = encrypted()
    other = tasks.create_task(type="echo", user_id=BOB)
    tasks.wait(other, WITHIN)
    tasks.wait(tasks.create_task(type="echo", user_id=ADA, label=canary(ADA, "label")), WITHIN)
    position = tasks.erase_user(ADA).position
    assert begun.wait(WITHIN)
    found = tasks.verify()
    with closing(SqliteLogReader(tasks.paths.log)) as log:
        built = build_beside(log, tasks.paths.views)
    with closing(sqlite3.connect(tasks.paths.views)) as views:
        views.execute("UPDATE tasks SET priority = 9 WHERE id = ?", (other,))
        views.commit()
    drifted = tasks.verify()
    go_on.set()
    assert [finding.message.partition(":")[0] for finding in drifted.findings] == [f"task {other}"], "but others are"
    assert (found.findings, found.views_position) == ((), None)
    assert built.differences == ()
    wait_until_finished(tasks, position)
    assert tasks.verify().views_position


def test_who_has_work_is_not_erased(encrypted: Opener, tmp_path: Path) -> None:
    tasks = encrypted()
    held = tasks.create_task(type="echo", user_id=ADA, held=True)
    running = tasks.create_task(type="patient", user_id=ADA)
    word = canary(ADA, "label")
    tasks.add_schedule("nightly", {"type": "echo", "user_id": ADA, "label": word}, every=3600)
    inbox = tmp_path / canary(ADA, "input")
    inbox.mkdir()
    tasks.add_source(
        "inbox", [inbox], f"{inbox}/{{stem}}.out", task={"type": "telltale", "user_id": ADA, "label": word}
    )
    with pytest.raises(UserHasWork, match=f"task {held}, task {running}, schedule nightly, source inbox"):
        tasks.erase_user(ADA)
    tasks.remove_source("inbox")
    tasks.cancel_task(held)
    tasks.cancel_task(running)
    tasks.wait(running, WITHIN)
    with pytest.raises(UserHasWork, match="schedule nightly"):
        tasks.erase_user(ADA)
    tasks.remove_schedule("nightly")
    other = tasks.create_task(type="echo", user_id=BOB, depends_on=(running,), held=True, on_dependency_failure="wait")
    with pytest.raises(UserHasWork, match=f"results that task {other} needs"):
        tasks.erase_user(ADA)
    tasks.cancel_task(other)
    position = tasks.erase_user(ADA).position
    (erasure,) = tasks.log(position - 1, 1)
    assert isinstance(erasure.event, UserErased)
    assert erasure.event.tasks == (held, running)
    wait_until_finished(tasks, position)
    assert found_in(tasks.paths.data) == {}
    assert tasks.verify().findings == ()


@pytest.mark.slow
def test_what_was_recorded_before_is_told_and_stays_readable(open_service: Opener, encrypted: Opener) -> None:
    with open_service() as tasks:
        plain = tasks.create_task(type="noop", user_id=ADA, label="before")
        tasks.wait(plain, WITHIN)
    tasks = encrypted()
    with pytest.raises(KeptInPlain, match="1 task of user 7"):
        tasks.erase_user(ADA)
    with pytest.raises(NothingToChange):
        tasks.erase_user(ADA, partly=True)
    later = tasks.create_task(type="noop", user_id=ADA, label="after")
    tasks.wait(later, WITHIN)
    position = tasks.erase_user(ADA, partly=True).position
    (record,) = tasks.log(position - 1, 1)
    assert isinstance(record.event, UserErased)
    assert (record.event.tasks, record.event.plain) == ((later,), 1)
    wait_until_finished(tasks, position)
    assert [tasks.get_task(task_id).label for task_id in (plain, later)] == ["before", ""]


def test_an_erased_user_may_come_back_under_another_key(encrypted: Opener) -> None:
    tasks = encrypted()
    first = tasks.create_task(type="noop", user_id=ADA, label="one", command_id="the first")
    tasks.wait(first, WITHIN)
    with pytest.raises(NothingToChange):
        tasks.erase_user(BOB)
    wait_until_finished(tasks, tasks.erase_user(ADA).position)
    with pytest.raises(Erased):
        tasks.retry_task(first, force=True)
    with closing(SqliteLogReader(tasks.paths.log)) as log, pytest.raises(Erased, match="when and by whom"):
        statement(log, made_by(log, first), "name")
    with pytest.raises(CommandIdReused):  # it can no longer be compared
        tasks.create_task(type="noop", user_id=ADA, label="one", command_id="the first")
    second = tasks.create_task(type="noop", user_id=ADA, label="two", command_id="the second")
    assert tasks.create_task(type="noop", user_id=ADA, label="two", command_id="the second") == second
    tasks.wait(second, WITHIN)
    assert tasks.get_task(second).label == "two"
    assert tasks.verify().findings == ()


@pytest.mark.slow
def test_a_log_with_a_repeated_key_is_sound_while_encrypted_as_a_backup_and_erased(
    encrypted: Opener, tmp_path: Path
) -> None:
    with encrypted() as tasks:
        first = tasks.create_task(type="noop", user_id=ADA, unique="k", held=True)
        assert tasks.create_task(type="noop", user_id=ADA, unique="k") == first
        assert tasks.verify().findings == ()
        tasks.backup(tmp_path / "copy.db")
        tasks.start_task(first)
        tasks.wait(first, WITHIN)
        wait_until_finished(tasks, tasks.erase_user(ADA).position)
        assert tasks.verify().findings == ()
    assert restore(tmp_path / "copy.db", tmp_path / "restored").tasks == 1


@pytest.mark.slow
def test_a_service_does_not_start_without_the_keys_of_its_log(encrypted: Opener, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with encrypted() as tasks:
        tasks.wait(tasks.create_task(type="noop", user_id=ADA, label="one"), WITHIN)
        held = tasks.create_task(type="noop", user_id=ADA, label="held", held=True)
    (data / "keys.db").rename(tmp_path / "keys.db")
    with pytest.raises(KeysUnreadable, match="is not there"):
        encrypted()
    with pytest.raises(KeysUnreadable, match=f"task {held}"):
        encrypted(personal_data="plain")
    (tmp_path / "keys.db").rename(data / "keys.db")
    master = (data / "master-key").read_bytes()
    (data / "master-key").write_bytes(b"other 00\n")
    with pytest.raises(KeysUnreadable, match="master key"):
        encrypted()
    (data / "master-key").write_bytes(master)
    with encrypted(master_key=str(tmp_path / "elsewhere")) as tasks:
        assert tasks.get_task(held).label == "held"
    assert not (data / "master-key").exists()
    with encrypted(personal_data="plain", master_key=str(tmp_path / "elsewhere")) as tasks:
        tasks.start_task(held)  # records of an encrypted task are still encrypted
        tasks.wait(held, WITHIN)
        new = tasks.create_task(type="noop", user_id=ADA, label="new")
        assert [tasks.get_task(one).label for one in (held, new)] == ["held", "new"]


def test_a_service_does_not_start_without_the_keys_of_what_makes_new_tasks(encrypted: Opener, tmp_path: Path) -> None:
    with encrypted() as tasks:
        tasks.add_schedule("nightly", {"type": "echo", "user_id": ADA, "options": {"value": "hers"}}, every=3600)
        tasks.add_source("inbox", [tmp_path / "in"], tmp_path / "out", task={"type": "telltale", "user_id": ADA})
        tasks.pause_source("inbox")
        tasks.add_schedule("of nobody", {"type": "noop"}, every=3600)
    (tmp_path / "data" / "keys.db").unlink()
    with pytest.raises(KeysUnreadable, match="to be done: schedule nightly, source inbox"):
        encrypted(personal_data="plain")


def test_what_nobody_can_read_any_more_is_given_up_when_somebody_says_so(encrypted: Opener, tmp_path: Path) -> None:
    """The key was destroyed, and the restored log is older than the erasure."""
    data = tmp_path / "data"
    with encrypted() as tasks:
        held = tasks.create_task(type="noop", user_id=ADA, held=True)
        behind = tasks.create_task(type="noop", depends_on=[held])
        readable = tasks.create_task(type="noop", user_id=ADA + 1, label="hers", held=True)
        tasks.add_schedule("nightly", {"type": "noop", "user_id": ADA}, every=3600)
        tasks.add_source("inbox", [tmp_path / "in"], tmp_path / "out", task={"type": "telltale", "user_id": ADA})
        tasks.backup(tmp_path / "copy.db")
        tasks.remove_schedule("nightly")
        tasks.remove_source("inbox")
        tasks.cancel_task(behind)
        tasks.cancel_task(held)
        wait_until_finished(tasks, tasks.erase_user(ADA).position)
        config = tasks._system.config
    restore(tmp_path / "copy.db", data, force=True)
    with pytest.raises(KeysUnreadable, match=f"task {held}, schedule nightly, source inbox.*--accept-lost-keys"):
        encrypted()
    with TaskService.open(data, config=config, accept_lost_keys="Ada is erased", actor="anna") as tasks:
        assert tasks.get_task(held).status == "cancelled"
        assert tasks.get_task(behind).error_type == "DependencyFailed"
        assert (tasks.get_task(readable).label, tasks.get_task(readable).status) == ("hers", "pending")
        assert (tasks.schedules(), tasks.sources()) == ([], [])
        *_, start = (record for record in tasks.log() if isinstance(record.event, ServiceStarted))
        assert (start.actor, start.reason) == ("anna", "Ada is erased")
        assert tasks.verify().findings == ()
    with encrypted() as tasks:
        assert tasks.get_task(held).status == "cancelled"


def test_who_accepts_that_records_are_gone_does_not_give_up_what_has_lost_its_keys(
    encrypted: Opener, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with encrypted() as tasks:
        held = tasks.create_task(type="noop", user_id=ADA, label="hers", held=True)
        tasks.backup(tmp_path / "older.db")
        tasks.wait(tasks.create_task(type="noop", user_id=ADA), WITHIN)
        config = tasks._system.config
    shutil.copy(tmp_path / "older.db", data / "log.db")
    for name in ("keys.db", "master-key"):
        (data / name).rename(tmp_path / name)
    with pytest.raises(KeysUnreadable, match=r"keys\.db is not there.*--accept-lost-keys"):
        TaskService.open(data, config=config, accept_loss="the disk died")
    with closing(Keys(data / "log.db")) as keys:
        keys.make()
    with pytest.raises(KeysUnreadable, match=rf"task {held}.*--accept-lost-keys"):
        TaskService.open(data, config=config, accept_loss="the disk died")
    for name in ("keys.db", "master-key"):
        (tmp_path / name).replace(data / name)
    with pytest.raises(HistoryMissing):
        TaskService.open(data, config=config, accept_lost_keys="Ada is erased")
    with TaskService.open(data, config=config, accept_loss="the disk died") as tasks:
        assert (tasks.get_task(held).label, tasks.get_task(held).status) == ("hers", "pending")


def test_a_log_whose_keys_are_gone_for_good_is_given_new_ones(encrypted: Opener, tmp_path: Path) -> None:
    data = tmp_path / "data"
    with encrypted() as tasks:
        held = tasks.create_task(type="noop", user_id=ADA, label="hers", held=True)
        config = tasks._system.config
    for name in ("keys.db", "master-key"):
        (data / name).unlink()
    with pytest.raises(KeysUnreadable, match=r"is not there.*--accept-lost-keys"):
        encrypted()
    with TaskService.open(data, config=config, accept_lost_keys="the disk died", actor="anna") as tasks:
        assert tasks.get_task(held).status == "cancelled"
        *_, start = (record for record in tasks.log() if isinstance(record.event, ServiceStarted))
        assert (start.actor, start.reason) == ("anna", "the disk died")
    with encrypted() as tasks:
        task_id = tasks.create_task(type="noop", user_id=ADA, label="new")
        assert tasks.wait(task_id, WITHIN).label == "new"


def test_that_lost_keys_were_accepted_is_recorded_though_nothing_is_left_to_be_done(
    encrypted: Opener, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    with encrypted() as tasks:
        tasks.wait(tasks.create_task(type="noop", user_id=ADA, label="hers"), WITHIN)
        config = tasks._system.config
    for name in ("keys.db", "master-key"):
        (data / name).unlink()
    with TaskService.open(data, config=config, accept_lost_keys="the disk died", actor="anna") as tasks:
        *_, start = (record for record in tasks.log() if isinstance(record.event, ServiceStarted))
        assert (start.actor, start.reason) == ("anna", "the disk died")
        [finding] = tasks.verify().findings
        assert (finding.code, "gone for good, `tasktrail rebuild`" in finding.remedy) == ("key", True)
        tasks.rebuild()
        assert tasks.verify().ok


@pytest.mark.parametrize("lost", ["keys.db", "master-key"])
def test_where_half_of_the_keys_is_gone_for_good_the_other_half_is_moved_away(
    encrypted: Opener, tmp_path: Path, lost: str
) -> None:
    data, key = tmp_path / "data", tmp_path / "key"
    with encrypted(master_key=str(key)) as tasks:
        held = tasks.create_task(type="noop", user_id=ADA, held=True)
        config = tasks._system.config
    gone, left = (data / lost, key) if lost == "keys.db" else (key, data / "keys.db")
    gone.unlink()
    with pytest.raises(KeysUnreadable, match=r"gone for good, move (the other|this one) away"):
        TaskService.open(data, config=config, accept_lost_keys="the disk died")
    left.rename(tmp_path / "left")
    with TaskService.open(data, config=config, accept_lost_keys="the disk died") as tasks:
        assert tasks.get_task(held).status == "cancelled"


def test_a_check_tells_of_keys_that_are_missing_and_of_one_that_is_back(encrypted: Opener, tmp_path: Path) -> None:
    data, kept = tmp_path / "data", tmp_path / "kept"
    kept.mkdir()
    with encrypted() as tasks:
        tasks.wait(first := tasks.create_task(type="noop", user_id=ADA, label="one"), WITHIN)
        tasks.wait(tasks.create_task(type="noop", user_id=BOB, label="two"), WITHIN)
        for name in ("keys.db", "master-key"):
            shutil.copy(data / name, kept / name)
        erasure = tasks.erase_user(ADA).position
        wait_until_finished(tasks, erasure)
        with closing(SqliteLogReader(data / "log.db")) as log:
            take_snapshots(log, data / "snapshots")
        assert told_of_keys(tasks.verify()) == (True, 0, 0, [])
        left = [record.position for record in tasks.log() if record.task_id == first + 1]
        tasks.paths.log.with_name("keys.db").rename(tmp_path / "keys.db")
        number = len([one for one in left if is_encrypted(tasks.paths.log, one)])
        assert told_of_keys(tasks.verify()) == (False, number, left[0], [(left[0], "key")])  # the views know more
    (data / "views.db").unlink()
    with closing(SqliteLogReader(data / "log.db")) as log, closing(Keys(data / "log.db")) as keys:
        found = with_snapshots(verify(log, keys=keys), log, data / "snapshots")  # which can be read without a key
        assert told_of_keys(found) == (True, number, left[0], [])
    for name in ("keys.db", "master-key"):
        shutil.copy(kept / name, data / name)
    with encrypted() as tasks:
        found = tasks.verify()
        assert told_of_keys(found) == (False, 0, 0, [(erasure, "key")])
        assert "1 of the keys that were destroyed here are there again" in found.findings[0].message


@pytest.mark.parametrize("spoil", ["another master key", "no master key", "another user's key"])
def test_a_check_that_cannot_use_the_keys_does_not_blame_the_views(
    encrypted: Opener, tmp_path: Path, spoil: str
) -> None:
    data = tmp_path / "data"
    with encrypted() as tasks:
        for user in (ADA, BOB):
            tasks.wait(tasks.create_task(type="noop", user_id=user, label="one"), WITHIN)
        first = next(record.position for record in tasks.log() if isinstance(record.event, Created))
    if spoil == "another user's key":
        with closing(sqlite3.connect(data / "keys.db")) as conn, conn:
            conn.execute("UPDATE keys SET wrapped = (SELECT wrapped FROM keys WHERE user_id = ?)", (BOB,))
    else:
        (data / "master-key").unlink()
    if spoil == "another master key":
        (tmp_path / "other").mkdir()
        with closing(Keys(tmp_path / "other" / "log.db")) as other:
            other.make()
        shutil.copy(tmp_path / "other" / "master-key", data / "master-key")
    with closing(SqliteLogReader(data / "log.db")) as log, closing(Keys(data / "log.db")) as keys:
        found = verify(log, data / "views.db", keys=keys)
    assert [(one.position, one.code) for one in found.findings] == [(first, "key")]
    assert "rebuild" not in found.findings[0].remedy
    assert "Put `keys.db` and the master key back together" in found.findings[0].remedy


def test_a_check_repeats_nothing_of_what_a_key_that_is_back_can_read(encrypted: Opener, tmp_path: Path) -> None:
    """The views no longer have the data. Rebuilding them is bad advice, because it would bring the data back."""
    data = tmp_path / "data"
    with encrypted() as tasks:
        tasks.wait(tasks.create_task(type="noop", user_id=ADA, label="canary"), WITHIN)
        kept = {name: (data / name).read_bytes() for name in ("keys.db", "master-key")}
        erasure = tasks.erase_user(ADA).position
        wait_until_finished(tasks, erasure)
    for name, kept_file in kept.items():
        (data / name).write_bytes(kept_file)
    with closing(SqliteLogReader(data / "log.db")) as log, closing(Keys(data / "log.db")) as keys:
        found = verify(log, data / "views.db", keys=keys)
    assert told_of_keys(found) == (False, 0, 0, [(erasure, "key")])
    assert found.views_position is None
    assert "canary" not in str(found)
    assert "rebuild" not in found.findings[0].remedy


def told_of_keys(found: Verification) -> tuple[bool, int, int, list[tuple[int, str]]]:
    return (
        found.ok,
        found.without_key,
        found.without_key_since,
        [(one.position, one.code) for one in found.findings],
    )


def is_encrypted(log: Path, position: int) -> bool:
    with closing(sqlite3.connect(log)) as conn:
        ((data,),) = conn.execute("SELECT data FROM events WHERE position = ?", (position,))
    return str(data).startswith(BEGINS)


def test_what_an_erasure_that_was_cut_short_has_left_is_no_fault(
    encrypted: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, begun = tmp_path / "data", Event()
    with monkeypatch.context() as patch, encrypted(snapshot_every=1_000_000) as tasks:
        held = tasks.create_task(type="noop", user_id=ADA, label="one", held=True)
        with closing(SqliteLogReader(data / "log.db")) as log:
            take_snapshots(log, data / "snapshots")
        shutil.copytree(data / "snapshots", tmp_path / "kept")
        tasks.cancel_task(held)

        def build(*_args: Any) -> None:
            begun.set()
            tasks._system.stopping.wait(WITHIN)

        patch.setattr(eraser, "build_anew", build)
        tasks.erase_user(ADA)
        assert begun.wait(WITHIN)
    shutil.copytree(tmp_path / "kept", data / "snapshots", dirs_exist_ok=True)  # as if it had been killed before that
    with closing(SqliteLogReader(data / "log.db")) as log, closing(Keys(data / "log.db")) as keys:
        found = with_snapshots(verify(log, data / "views.db", keys=keys), log, data / "snapshots")
    assert found.findings == ()


@pytest.mark.slow
def test_a_service_that_stops_leaves_the_rest_to_the_next_start(
    encrypted: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, told = Event(), Event()
    with monkeypatch.context() as patch, encrypted() as tasks:
        task = tasks.create_task(type="noop", user_id=ADA, label="one")
        tasks.wait(task, WITHIN)

        def build(*args: Any) -> None:
            begun.set()
            tasks._system.stopping.wait(WITHIN)
            try:
                build_anew(*args)
            finally:
                told.set()

        patch.setattr(eraser, "build_anew", build)
        position = tasks.erase_user(ADA).position
        assert begun.wait(WITHIN)
    assert told.wait(WITHIN)
    with encrypted() as tasks:
        assert wait_until_finished(tasks, position).position > position + 1
        assert tasks.get_task(task).label == ""


def test_an_erasure_is_not_over_as_long_as_a_snapshot_cannot_be_deleted(
    encrypted: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files of snapshots have the personal data of all unfinished and some finished tasks."""
    tried, allowed = Semaphore(0), Event()

    def delete(folder: Path) -> None:
        if not allowed.is_set():
            tried.release()
            raise PermissionError(13, "Permission denied", str(folder))
        delete_snapshots(folder)

    monkeypatch.setattr("tasktrail.actors.snapshotter.delete_snapshots", delete)
    with encrypted() as tasks:
        task = tasks.create_task(type="noop", user_id=ADA, label="one")
        tasks.wait(task, WITHIN)
        position = tasks.erase_user(ADA).position
        assert tried.acquire(timeout=WITHIN)
        assert tried.acquire(timeout=WITHIN), "it was not tried again"
        assert tasks.get_task(task).label == "", "all else waits for that"
        assert not [record for record in tasks.log() if isinstance(record.event, ErasureFinished)]
        allowed.set()
        wait_until_finished(tasks, position)


@pytest.mark.slow
def test_what_says_that_a_user_was_erased_outlives_the_tasks(encrypted: Opener) -> None:
    with encrypted() as tasks:
        tasks.wait(tasks.create_task(type="noop", user_id=ADA, label="one"), WITHIN)
        erasure = tasks.erase_user(ADA).position
        wait_until_finished(tasks, erasure)
        assert tasks.forget(0).tasks == 1
        with closing(SqliteLogReader(tasks.paths.log)) as log:
            assert isinstance(next(log.read(erasure - 1, 1)).event, UserErased)
        assert tasks.verify().findings == ()


def test_a_task_that_nobody_can_read_is_kept_where_any_user_is(encrypted: Opener) -> None:
    keep, all_others = RetentionRule(older_than=None, user_id=BOB), RetentionRule(older_than=0.0)
    with encrypted() as tasks:
        tasks.wait(tasks.create_task(type="noop", user_id=ADA, label="one"), WITHIN)
        wait_until_finished(tasks, tasks.erase_user(ADA).position)
        assert tasks._system.forgetter.forget((keep, all_others), 1, actor="retention").tasks == 0
        assert tasks._system.forgetter.forget((all_others,), actor="retention").tasks == 1


def test_others_are_served_while_it_is_looked_for_what_belongs_to_a_user(
    encrypted: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = encrypted()
    first = service.create_task(type="echo", user_id=ADA)
    service.wait(first, WITHIN)
    looked, go_on = Event(), Event()
    search = SqliteLogReader.belongings

    def slow(log: SqliteLogReader, user_id: int) -> Belongings:
        found = search(log, user_id)
        looked.set()
        assert go_on.wait(WITHIN)
        return found

    monkeypatch.setattr(SqliteLogReader, "belongings", slow)
    with ThreadPoolExecutor(1) as pool:
        erasing = pool.submit(service.erase_user, ADA)
        assert looked.wait(WITHIN)
        second, other = service.create_task(type="echo", user_id=ADA), service.create_task(type="echo", user_id=BOB)
        for task_id in (second, other):
            assert service.wait(task_id, WITHIN).status == "completed"
        go_on.set()
        position = erasing.result(WITHIN).position
    event = next(service.log(position - 1, 1)).event
    assert isinstance(event, UserErased)
    assert event.tasks == (first, second)
    wait_until_finished(service, position)
    assert service.list_tasks(TaskFilters(user_id=ADA))[1] == 0
    assert service.list_tasks(TaskFilters(user_id=BOB))[1] == 1


def test_the_scheduler_looks_through_nothing_that_was_looked_through_before(
    encrypted: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = encrypted()
    for _ in range(3):
        service.wait(service.create_task(type="echo", user_id=ADA), WITHIN)
    known: list[Belongings] = []
    search = SqliteEventLog.belongings

    def noting(log: SqliteEventLog, user_id: int, told: Belongings) -> Belongings:
        known.append(told)
        return search(log, user_id, told)

    monkeypatch.setattr(SqliteEventLog, "belongings", noting)
    position = service.erase_user(ADA).position
    assert [told.tasks for told in known] == [(1, 2, 3)]
    wait_until_finished(service, position)


def test_views_are_built_by_one_at_a_time(encrypted: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[bool] = []
    with encrypted() as tasks:
        tasks.wait(tasks.create_task(type="noop", user_id=ADA, label="one"), WITHIN)

        def build(*args: Any) -> None:
            held.append(tasks._system.rebuilding.locked())
            build_anew(*args)

        monkeypatch.setattr(eraser, "build_anew", build)
        with tasks.rebuilding():
            position = tasks.erase_user(ADA).position
        wait_until_finished(tasks, position)
    assert held == [True]


@pytest.mark.parametrize(("plain", "told"), [(0, False), (2, True)])
def test_a_dry_run_says_that_the_erasure_would_be_refused(
    capsys: pytest.CaptureFixture[str], plain: int, *, told: bool
) -> None:
    session: Any = SimpleNamespace(as_json=False)
    erase._print_erasable(session, Erasable(user_id=ADA, tasks=3, records=9, plain=plain))
    shown = capsys.readouterr().out
    assert "would be erased of user 7: 3 tasks, 9 records" in shown
    assert ("`erase` needs --partly" in shown) == told


@pytest.mark.slow
def test_the_command_tells_what_there_is_erases_and_waits_until_it_is_done(encrypted: Opener) -> None:
    tasks = encrypted()
    task = tasks.create_task(type="noop", user_id=ADA)
    tasks.wait(task, WITHIN)

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "tasktrail", "--data", str(tasks.paths.data), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=WITHIN, check=False)

    def call(*arguments: str) -> list[dict[str, Any]]:
        done = run("--json", *arguments)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        return said if done.returncode == 0 else [*said, json.loads(done.stderr)]

    server = HttpServer(tasks, socket_path=tasks.paths.socket, secret_file=secret_file(tasks.paths.data))
    server.start()
    try:
        head = tasks.watermark.position
        (found,) = call("erase", "7", "--dry-run")
        assert found == {"user_id": ADA, "tasks": 1, "records": 1, "plain": 0}
        with Client.connect(tasks.paths.data) as client:
            assert asdict(client.erasable(ADA)) == asdict(tasks.erasable(ADA)) == found
            assert client.erasable(BOB) == Erasable(user_id=BOB, tasks=0, records=0, plain=0)
        assert tasks.watermark.position == head
        (refused,) = call("erase", "8")
        assert refused["code"] == "nothing_to_change"
        done = run("--json", "erase", "7", "--reason", "asked for")
        assert done.stderr.startswith("erased: the personal data of 1 task; finished at position ")
        (record,) = tasks.log(json.loads(done.stdout)["position"] - 1, 1)
        assert isinstance(record.event, UserErased)
        assert any(isinstance(later.event, ErasureFinished) for later in tasks.log(record.position))
        assert "the user of 1 task was erased" in run("history", str(task)).stdout
        (found,) = call("erase", "7", "--dry-run")
        assert (found["tasks"], found["records"]) == (0, 0)
    finally:
        server.stop()


def promised(tasks: TaskService) -> int:
    """Return the position of the erasure. Without an answer, ask again: the kill may have come before the promise."""
    found = [record.position for record in tasks.log() if isinstance(record.event, UserErased)]
    return found[0] if found else tasks.erase_user(ADA).position


KILLED = """
import os, signal, sys
from pathlib import Path
from tasktrail import TaskService
from tasktrail.config.settings import Config
from tasktrail.actors import eraser
from tasktrail.events.log import keys

def dies(*_):
    os.kill(os.getpid(), signal.SIGKILL)

modules = {"keys": keys, "keys.Keys": keys.Keys, "Eraser": eraser.Eraser, "eraser": eraser}
module, name, at = modules[sys.argv[2]], sys.argv[3], int(sys.argv[4])
real, calls = getattr(module, name), []

def counted(*args, **more):
    calls.append(name)
    if len(calls) == at:
        dies()
    return real(*args, **more)

config = Config(workers=1, personal_data="encrypted", handlers=("telltale_handlers",))
tasks = TaskService.open(sys.argv[1], config=config, own_only=True)
setattr(module, name, counted)
position = tasks.erase_user(7).position
print(position, flush=True)
for record in tasks.follow(after=position):
    if record.name == "erasure_finished":
        sys.exit(3)
"""
POINTS = [
    ("keys.Keys", "destroy", 1),
    ("keys", "_write_masters", 1),
    ("keys", "_connect", 1),
    ("keys", "_write_masters", 2),
    ("keys", "_wipe", 2),
    ("Eraser", "_replace_views", 1),
    ("eraser", "PutInPlace", 1),
    ("Eraser", "_delete_files", 1),
    ("eraser", "remove_entry", 3),
    ("eraser", "ErasureDone", 1),
]
"""The places of the kill: before a function runs for the nth time."""


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """Make a data folder with the tasks of two users, once, because six tasks take long."""
    folder = tmp_path_factory.mktemp("lived")
    (folder / "files").mkdir()
    config = Config(
        workers=1, personal_data="encrypted", handlers=("telltale_handlers",), allow_endpoints=("127.0.0.1:9",)
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", SUPPORT)
        with TaskService.open(folder / "data", config=config) as tasks:
            live(tasks, folder / "files", 9)
            return folder / "data", live(tasks, folder / "files", 9, BOB)["done"]


@pytest.mark.slow
@pytest.mark.parametrize(("module", "name", "at"), POINTS)
def test_a_kill_in_the_middle_costs_only_time(
    encrypted: Opener, lived: tuple[Path, int], tmp_path: Path, module: str, name: str, at: int
) -> None:
    before, other = lived
    shutil.copytree(before, tmp_path / "data")
    _, master = (tmp_path / "data" / "master-key").read_text().split()
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "data"), module, name, str(at)],
        capture_output=True,
        text=True,
        timeout=WITHIN,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    tasks = encrypted()
    wait_until_finished(tasks, promised(tasks))
    assert found_in(tasks.paths.data) == {}
    assert [path for path in tasks.paths.data.glob("*master*") if master in path.read_text()] == []
    assert tasks.get_task(other).input_file.endswith(f"{canary(BOB, 'input')}.txt")
    assert tasks.verify().findings == ()
    assert sum(isinstance(record.event, ErasureFinished) for record in tasks.log()) == 1
