"""verify, rebuild, types and doctor on real folders, with no service running."""

import errno
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import pytest
from full_disks import leave_unbegun
from histories import BEGIN, Journal

from tasktrail import TaskService
from tasktrail.actors.snapshots import take_snapshots
from tasktrail.cli.session import Environment
from tasktrail.config.load import keys
from tasktrail.events import Created, Fact
from tasktrail.events.clock import SystemClock
from tasktrail.events.errors import UnusableOrder
from tasktrail.events.log.lock import DataLock
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.system_events import RatesConfigured, ScheduleAdded


@pytest.fixture
def environment() -> Environment:
    """The real ones."""
    return Environment()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with a log of some tasks."""
    folder = tmp_path / "data"
    folder.mkdir()
    log = SqliteEventLog(folder / "log.db", now=SystemClock().now())
    journal = Journal(log)
    for _ in range(3):
        journal.create("noop", input_file="/in/film.mov")
    log.close()
    return folder


def test_a_sound_log_is_told_with_its_head(cli: Callable[..., Any], data: Path) -> None:
    shown = cli("verify", "--data", str(data))
    assert shown.code == 0
    counted, head = shown.out.splitlines()
    assert counted.startswith("3 records, 3 tasks, ")
    assert "sound" in counted
    assert head.startswith("head 3 ")
    found = json.loads(cli("verify", "--data", str(data), "--json").out)
    assert (found["ok"], found["head"]) == (True, head.split()[2])


@pytest.mark.parametrize("size", ["no byte", "no table", "no entry"])
def test_what_a_first_start_on_a_full_disk_leaves_is_no_log(cli: Callable[..., Any], tmp_path: Path, size: str) -> None:
    """A user must not look for a backup of a log that was never recorded."""
    leave_unbegun(tmp_path / "log.db", size)
    for line in ("verify", "list", "log", f"backup {tmp_path / 'copy.db'}"):
        shown = cli(*line.split(), "--data", str(tmp_path))
        assert (shown.code, shown.err.partition(" in ")[0]) == (1, "tasktrail: There is no log"), line
    assert not (tmp_path / "copy.db").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("archive", "There is no log in"),
        ("archive --dry-run", "There is no log in"),
        ("forget --older-than 90d", "There is no log in"),
        ("run nosuch", "There is no task type 'nosuch'"),
        ("run photo.jpg small.jpg", "the type comes first, then the files"),
        ("run web-image a.png b.webp", "it is a preset of image_convert"),
        ("types web-image", "it is a preset of image_convert"),
        ("run image_thumbnail /nowhere.jpg /tmp/out.jpg", "'/nowhere.jpg' cannot be read"),
        ("run image_thumbnail /nowhere.jpg /tmp/out.jpg -o width=x", "option width of image_thumbnail has to be"),
        ("run image_thumbnail /etc/passwd /tmp/out.jpg --depends-on 4", "Task 4 does not exist (field: depends_on)"),
        ("run image_thumbnail /etc/passwd /tmp/out.jpg --parent 4", "Task 4 does not exist (field: parent_task_id)"),
        ("run image_thumbnail /etc/passwd /tmp/out.jpg --deadline 2020-01-01T00:00:00Z", "00+00:00 is over already\n"),
    ],
)
def test_a_first_command_that_is_refused_begins_no_log(
    cli: Callable[..., Any], tmp_path: Path, line: str, said: str
) -> None:
    """The mistyped --data must be reported, and a mistyped command must leave nothing behind."""
    shown = cli(*line.split(), "--data", str(tmp_path / "data"))
    assert (shown.code, said in shown.err) == (1, True)
    assert not (tmp_path / "data").exists()


def test_a_current_folder_that_was_removed_is_told(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "gone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    shown = cli("list", "--data", "tasks")
    assert shown.code == 1
    assert "The current folder is not there any more, in which 'tasks' would be" in shown.err
    assert "Change into a folder that is there" in shown.err


def tamper_with(data: Path) -> None:
    with closing(sqlite3.connect(data / "log.db")) as log, log:
        for (name,) in log.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            log.execute(f"DROP TRIGGER {name}")
        log.execute("UPDATE events SET actor = 'nobody' WHERE position = 2")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it takes a device of Linux")
@pytest.mark.parametrize("line", ["verify", "verify --json"])
def test_what_is_found_shows_in_the_exit_code_even_if_it_cannot_be_printed(data: Path, line: str) -> None:
    command = [sys.executable, "-m", "tasktrail", "--data", str(data), *line.split()]

    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}

    def ended(output: IO[bytes] | int) -> tuple[int, str]:
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, env=environment, check=False)
        return done.returncode, done.stderr

    def closed() -> tuple[int, str]:
        reader, writer = os.pipe()
        os.close(reader)
        try:
            return ended(writer)
        finally:
            os.close(writer)

    with Path("/dev/full").open("wb") as full:
        assert ended(full)[0] == closed()[0] == 1
        tamper_with(data)
        told = ended(full)
    assert told[0] == 4
    assert f"standard output: {os.strerror(errno.ENOSPC)}" in told[1]
    assert closed() == (4, "")


def test_a_changed_record_is_found(cli: Callable[..., Any], data: Path) -> None:
    tamper_with(data)
    shown = cli("verify", "--data", str(data))
    assert shown.code == 4
    assert "position 2: chain: " in shown.out
    assert "restore the newest backup" in " ".join(shown.out.split())
    assert "NOT sound: 3 findings; no views compared\n" in shown.out
    found = json.loads(cli("verify", "--data", str(data), "--json").out)["findings"]
    assert [finding["code"] for finding in found if finding["position"] == 2] == ["chain"]
    assert {finding["message"] for finding in found if finding["code"] == "schema"} == {
        "trigger events_are_not_changed is missing",
        "trigger events_are_not_deleted is missing",
    }


@pytest.mark.parametrize(
    ("order", "told"),
    [
        (
            ScheduleAdded(
                schedule="s", task=Created(type="noop"), cron="0 9 * * *", timezone="Europe/Newtown", starting_at=BEGIN
            ),
            "Newtown",
        ),
        *(
            (RatesConfigured(rates={name: rate}), f"{name}={rate}")
            for name, rate in (("batch:x", "3/m"), ("type:x", "-1/m"), ("type:x", "5/999999999d"), ("type:x", "0/m"))
        ),
    ],
)
def test_an_order_that_a_service_could_not_follow_is_found_and_refused_at_a_start(
    cli: Callable[..., Any], data: Path, order: ScheduleAdded | RatesConfigured, told: str
) -> None:
    log = SqliteEventLog(data / "log.db", now=SystemClock().now())
    log.append([Fact(0, 1, order, SystemClock().now(), "ops")], expected=3)
    log.close()
    shown = cli("verify", "--data", str(data))
    assert shown.code == 4
    assert "position 4: unusable: " in shown.out
    assert told in shown.out
    assert "NOT sound: 1 finding" in shown.out
    assert "Position" not in shown.out, "it is told once"
    with pytest.raises(UnusableOrder, match="Position 4"):
        TaskService.open(data)
    shown = cli("doctor", "--data", str(data))
    assert shown.code == 1
    assert told in shown.out


def test_a_log_that_is_gone_while_others_know_of_it_is_missed(cli: Callable[..., Any], data: Path) -> None:
    """No message advises to begin a new log."""
    assert cli("rebuild", "--data", str(data)).code == 0
    (data / "log.db").unlink()
    for line in ("verify", "list", "log", "limits", "why 1", f"backup {data / 'copy.db'}"):
        shown = cli(*line.split(), "--data", str(data))
        assert shown.code == (4 if line == "verify" else 1), line
        assert "has seen position 3" in " ".join(shown.err.split()), line
    (data / "views.db").unlink()
    assert cli("verify", "--data", str(data)).code == 4  # the mark of where it ended exists
    (data / "log.db-head").unlink()
    assert cli("verify", "--data", str(data)).code == 1


def test_a_file_that_is_no_log_fails_the_check(cli: Callable[..., Any], data: Path) -> None:
    (data / "log.db").write_bytes(b"no database" * 1000)
    shown = cli("verify", "--data", str(data))
    assert shown.code == 4
    assert "Traceback" not in shown.err
    assert "restore the newest backup" in shown.err
    assert "Run `tasktrail verify`" not in shown.err


@pytest.mark.parametrize("name", ["verify", "rebuild", "list", "stats", "log"])
def test_a_folder_without_a_log_is_refused_and_not_made(cli: Callable[..., Any], tmp_path: Path, name: str) -> None:
    shown = cli(name, "--data", str(tmp_path / "nothing"))
    assert shown.code == 1
    assert "There is no log in" in shown.err
    assert not (tmp_path / "nothing").exists()


@pytest.mark.parametrize("line", ["verify", "list", "log", "archive --dry-run", "seal", "backup COPY"])
def test_a_log_that_a_service_has_saved_is_named_where_there_is_none(
    cli: Callable[..., Any], data: Path, tmp_path: Path, line: str
) -> None:
    """A mark beside the log says that there was one; restoring a backup would lose what came after it."""
    (data / "log.db").rename(data / "log.db.rescued")
    shown = cli(*line.replace("COPY", str(tmp_path / "copy.db")).split(), "--data", str(data))
    assert shown.code == 1
    assert "log.db.rescued holds what a service saved" in shown.err
    assert "put it in the place of log.db" in " ".join(shown.err.split())


def test_views_that_differ_are_found_and_rebuilt(cli: Callable[..., Any], data: Path) -> None:
    where = ("--data", str(data))
    assert cli("list", *where).code == 0
    with sqlite3.connect(data / "views.db") as views:
        views.execute("UPDATE tasks SET status = 'completed' WHERE id = 1")
    views.close()
    assert "`tasktrail rebuild`" in " ".join(cli("verify", "--data", str(data)).out.split())
    (found, *_) = json.loads(cli("verify", "--data", str(data), "--json").out)["findings"]
    assert "`tasktrail rebuild`" in found["remedy"]
    assert cli("verify", *where).code == 4
    assert cli("rebuild", *where).out.splitlines() == [
        "position 3: views: task 1: status is 'completed', the fold says 'pending'",
        "views built from 3 records; differences to those before: 1",
    ]
    assert cli("verify", *where).code == 0
    assert cli("rebuild", *where).out == "views built from 3 records\n"
    assert json.loads(cli("rebuild", "--json", *where).out) == {"position": 3, "differences": [], "more": 0}


def test_deleted_views_are_built_by_whoever_reads(cli: Callable[..., Any], data: Path) -> None:
    before = cli("list", "--data", str(data)).out
    for path in data.glob("views.db*"):
        path.unlink()
    assert cli("list", "--data", str(data)).out == before
    assert "film.mov" in before


def test_a_snapshot_that_somebody_has_altered_is_found(cli: Callable[..., Any], data: Path) -> None:
    """A start continues from it, and its hash fits: a token that no record has would give access."""
    with closing(SqliteLogReader(data / "log.db")) as log:
        take_snapshots(log, data / "snapshots")
    assert cli("verify", "--data", str(data)).code == 0
    path = data / "snapshots" / "scheduler"
    whole = path.read_bytes()[:-64].replace(b'"everything":null', b'"everything":{"position":1,"actor":"nobody"}')
    path.write_bytes(whole + sha256(whole).hexdigest().encode())
    shown = cli("verify", "--data", str(data))
    assert shown.code == 4
    assert "position 3: snapshot: " in shown.out
    assert "tasktrail rebuild" in shown.out


def test_a_snapshot_that_knows_more_than_the_log_is_evidence_and_not_to_be_deleted(
    cli: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    assert cli("backup", str(tmp_path / "older.db"), "--data", str(data)).code == 0
    log = SqliteEventLog(data / "log.db", now=SystemClock().now())
    log.append([Fact(0, 1, RatesConfigured(), SystemClock().now(), "ops")], expected=3)
    log.close()
    with closing(SqliteLogReader(data / "log.db")) as reader:
        take_snapshots(reader, data / "snapshots")
    for file in data.glob("log.db*"):
        file.unlink()
    shutil.copy(tmp_path / "older.db", data / "log.db")
    shown = cli("verify", "--data", str(data))
    assert shown.code == 4
    assert "position 4: missing: " in shown.out
    assert "delete" not in shown.out


def test_a_folder_that_is_held_is_not_rebuilt(cli: Callable[..., Any], data: Path) -> None:
    with DataLock(data / "lock"):
        shown = cli("rebuild", "--data", str(data), "--json")
    assert shown.code == 1
    assert json.loads(shown.err)["code"] == "data_in_use"


def test_a_copy_without_a_service_can_be_read(cli: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(data, copy)
    assert cli("history", "1", "--data", str(copy)).code == 0
    assert len(cli("log", "--data", str(copy)).out.splitlines()) == 3


def test_types_need_no_data_folder_and_tell_what_cannot_be_loaded(cli: Callable[..., Any], tmp_path: Path) -> None:
    config = tmp_path / "other.toml"
    config.write_text('handlers = ["no_such_module"]\n')
    shown = cli("types", "--data", str(tmp_path / "nothing"), "--config", str(config))
    assert shown.code == 1
    assert "video_convert INPUT OUTPUT  (resumes after a crash)" in shown.out
    assert "no_such_module" in shown.err
    assert not (tmp_path / "nothing").exists()


def test_a_type_that_is_not_there_is_told_with_what_may_explain_it(cli: Callable[..., Any], tmp_path: Path) -> None:
    config = tmp_path / "other.toml"
    config.write_text('handlers = ["no_such_module"]\n')
    where = ("--data", str(tmp_path / "nothing"), "--config", str(config))

    assert "did you mean 'video_convert'?" in cli("types", "vidoe_convert", *where).err
    assert "Handlers of no_such_module cannot be loaded" in cli("types", "shout", *where).err


def test_a_preset_in_the_place_of_a_type_is_told_beside_a_log_too(cli: Callable[..., Any], data: Path) -> None:
    """`run` first looks for a task like the one that is wanted."""
    for line in ("list --type web-image", "run web-image a.png b.webp"):
        assert "it is a preset of image_convert" in cli(*line.split(), "--data", str(data)).err, line


def test_a_wrong_configuration_is_told_with_the_nearest_key(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "tasktrail.toml").write_text("wokers = 3\n")
    for line in ("types", "serve", "run noop"):
        shown = cli(*line.split(), "--data", str(tmp_path), "--json")
        assert shown.code == 1
        assert json.loads(shown.err)["code"] == "configuration"
        assert "workers" in shown.err


def test_doctor_says_what_is_well_and_what_is_not(cli: Callable[..., Any], tmp_path: Path) -> None:
    where = ("--data", str(tmp_path / "data"))
    shown = cli("doctor", *where)
    assert shown.code == 0
    assert "ok    python: " in shown.out
    findings = [json.loads(line) for line in cli("doctor", "--json", *where).out.splitlines()]
    assert {finding["level"] for finding in findings} <= {"ok", "warn"}
    assert not (tmp_path / "data").exists()


def test_doctor_fails_on_a_configuration_that_cannot_be_used(cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "tasktrail.toml").write_text("wokers = 3\n")
    shown = cli("doctor", "--data", str(tmp_path))
    assert shown.code == 1
    assert "FAIL  configuration: " in shown.out
    assert "workers" in shown.out


def test_doctor_can_be_asked_about_another_configuration(cli: Callable[..., Any], tmp_path: Path) -> None:
    config = tmp_path / "other.toml"
    config.write_text('handlers = ["no_such_module"]\n')
    shown = cli("doctor", "--data", str(tmp_path / "data"), "--config", str(config))
    assert "no_such_module" in shown.out
    assert shown.code == 1


def test_limits_without_a_service_are_those_of_the_configuration_that_is_named(
    cli: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    copy, config = tmp_path / "copy", tmp_path / "other.toml"
    shutil.copytree(data, copy)
    config.write_text("max_per_user = 7\n")
    for then in ((), ("--as-of", "1")):
        shown = cli("limits", "--json", "--data", str(copy), "--config", str(config), *then)
        assert json.loads(shown.out)["limits"]["max_per_user"] == 7


def test_a_backup_is_taken_checked_and_restored(cli: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    shown = cli("backup", "--data", str(data), str(tmp_path / "copy.db"))
    assert shown.code == 0
    first, head = shown.out.splitlines()
    assert re.fullmatch(rf"{tmp_path}/copy\.db: [\d.]+ KiB, checked", first)
    assert cli("verify", "--data", str(data)).out.splitlines()[-1] == head

    checked = cli("restore", str(tmp_path / "copy.db"), "--dry-run", "--data", str(tmp_path / "new"))
    assert (checked.code, checked.out.splitlines()[-1]) == (0, head)
    assert not (tmp_path / "new").exists()

    restored = cli("restore", str(tmp_path / "copy.db"), "--data", str(tmp_path / "new"))
    assert (restored.code, restored.out.splitlines()[-1]) == (0, head)
    assert cli("verify", "--data", str(tmp_path / "new")).out.splitlines()[-1] == head


@pytest.mark.parametrize("words", [("backup",), ("export", "tasks", "--out"), ("prove", "1", "--out")])
def test_a_folder_that_does_not_exist_becomes_no_file(
    cli: Callable[..., Any], data: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    """The next night's backup would be refused, because that file exists already."""
    shown = cli(*words, f"{tmp_path}/backups/", "--data", str(data))
    assert (shown.code, "There is no folder" in shown.err) == (2, True)
    assert not (tmp_path / "backups").exists()


def test_backup_and_restore_answer_programs(cli: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    taken = json.loads(cli("backup", "--data", str(data), str(tmp_path), "--json").out)
    assert (taken["position"], len(taken["head"])) == (3, 64)
    assert taken["size"] == Path(taken["path"]).stat().st_size
    refused = cli("restore", taken["path"], "--data", str(data), "--json")
    assert (refused.code, json.loads(refused.err)["code"]) == (1, "data_not_empty")
    restored = json.loads(cli("restore", taken["path"], "--data", str(data), "--force", "--json").out)
    assert (restored["position"], restored["replaced_position"], restored["head"]) == (3, 3, taken["head"])
    assert (Path(restored["kept"]) / "log.db").exists()


def test_a_restore_lists_the_tokens_that_are_valid_again_and_none_of_their_secrets(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    """One that was revoked after the backup would otherwise let somebody in again without a word."""
    data, now = tmp_path / "data", datetime.now(UTC)
    with TaskService.open(data) as service:
        secrets = [
            service.add_token("ada", "submitter", user_id=7, expires_at=now + timedelta(days=1)),
            service.add_token("ops", "operator"),
            service.add_token("gone", "admin"),
        ]
        service.revoke_token("gone")
        service.backup(tmp_path / "copy.db")
        service.revoke_token("ops")

    for more in (["--dry-run"], ["--force"]):
        shown = cli("restore", str(tmp_path / "copy.db"), "--data", str(data), *more)
        assert shown.code == 0
        assert "token revoke" in shown.out
        ada, ops = (line.strip() for line in shown.out.splitlines() if line.startswith("  "))
        assert re.fullmatch(r"ada: submitter of user 7, added [-\d]+ [:\d]+Z, expires [-\d]+ [:\d]+Z", ada)
        assert re.fullmatch(r"ops: operator of all users, added [-\d]+ [:\d]+Z", ops)
        assert not any(secret in shown.out for secret in secrets)
    answer = cli("restore", str(tmp_path / "copy.db"), "--data", str(data), "--force", "--json").out
    assert [token["token"] for token in json.loads(answer)["tokens"]] == ["ada", "ops"]
    assert "digest" not in answer


def test_an_incremental_backup_says_what_is_new_and_what_was_not_read(
    cli: Callable[..., Any], data: Path, tmp_path: Path
) -> None:
    def backup(*words: object) -> Any:
        return cli("backup", "--data", str(data), *map(str, words))

    folder = tmp_path / "backups"
    folder.mkdir()
    first = backup(folder, "--base", folder).out.splitlines()
    assert (
        first[1]
        == f"the whole log was copied: No file in {folder} has the name of a backup, tasktrail-TIME-POSITION.db"
    )
    with closing(SqliteEventLog(data / "log.db", now=SystemClock().now())) as log:
        log.append([Fact(4, 1, Created(type="noop", held=True), SystemClock().now(), life=1)], expected=3)
    earlier = first[0].partition(":")[0]
    told = backup(tmp_path / "new.db", "--base", folder).out.splitlines()
    assert re.fullmatch(rf"{tmp_path}/new\.db: [\d.]+ KiB, what is new checked", told[0])
    assert told[1] == f"1 record, 0 B more than {earlier}, which was not read again"
    assert told[2].startswith("head 4 ")
    told = backup(tmp_path / "checked.db", "--base", earlier, "--check").out.splitlines()
    assert told[0].endswith(" KiB, checked")
    assert told[1] == f"1 record, 0 B more than {earlier}"
    found = json.loads(backup(tmp_path / "told.db", "--base", folder, "--json").out)
    assert (found["base"], found["records_added"], found["checked_from"], found["note"]) == (earlier, 1, 4, "")
    assert found["bytes_added"] == found["size"] - Path(earlier).stat().st_size
    refused = cli("backup", "--data", str(data), str(tmp_path / "no.db"), "--base", str(data / "log.db"), "--json")
    assert (refused.code, json.loads(refused.err)["code"]) == (1, "base_unfit")


def test_a_backup_over_a_file_is_refused(cli: Callable[..., Any], data: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("text")
    shown = cli("backup", "--data", str(data), str(tmp_path / "precious"))
    assert shown.code == 1
    assert "exists already" in shown.err
    assert (tmp_path / "precious").read_text() == "text"


@pytest.mark.parametrize("option", ["--accept-loss", "--accept-lost-keys"])
def test_a_loss_is_accepted_with_a_reason_only(cli: Callable[..., Any], data: Path, option: str) -> None:
    shown = cli("serve", "--data", str(data), option, "--reason", " ")
    assert (shown.code, f"{option} needs a --reason" in shown.err) == (2, True)


@pytest.mark.parametrize("command", [["doctor"], ["backup", "b.db"], ["restore", "b.db"]])
def test_what_works_on_files_is_not_led_to_another_folder_by_an_address(
    cli: Callable[..., Any], data: Path, command: list[str]
) -> None:
    shown = cli(*command, "--data", str(data), "--url", "http://127.0.0.1:1")
    assert shown.code == 2
    assert f"{command[0]} works on a data folder (--data)" in shown.err


def test_config_prints_every_key_its_value_and_where_it_is_set(
    cli: Callable[..., Any], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data.mkdir(exist_ok=True)
    (data / "tasktrail.toml").write_text('workers = 3\nwebhook_secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"\n')
    monkeypatch.setenv("TASKTRAIL_MAX_MEMORY", "4GiB")
    shown = cli("config", "--data", str(data), "--json")
    told = {line["key"]: line for line in map(json.loads, shown.out.splitlines())}
    assert told.keys() == {key.name for key in keys()}
    assert (told["workers"]["value"], told["workers"]["from"]) == (3, str(data / "tasktrail.toml"))
    assert (told["max_memory"]["value"], told["max_memory"]["from"]) == (4 << 30, "TASKTRAIL_MAX_MEMORY")
    assert told["port"]["from"] == "default"
    rows = cli("config", "--data", str(data)).out
    assert "***" in rows
    assert "MfKQ9r8GKYqr" not in rows + shown.out


def test_config_tells_a_misspelt_variable_and_shows_the_keys_all_the_same(
    cli: Callable[..., Any], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKTRAIL_WORKRES", "3")
    shown = cli("config", "--data", str(data))
    assert shown.code == 1
    assert "did you mean TASKTRAIL_WORKERS?" in shown.err
    assert "`tasktrail config`" in shown.err
    assert "workers" in shown.out
