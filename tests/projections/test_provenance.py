"""What a file was made from: the log's content, in the form that others read, signed so that they can check it."""

import base64
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
from archiving import archive
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from forgery import forged_envelopes, forging
from histories import BEGIN, Journal
from PIL import Image

from tasktrail import TaskService, __version__
from tasktrail.config.settings import Config
from tasktrail.events import Completed, Failed
from tasktrail.events.commands import RetryTask
from tasktrail.events.errors import Erased, InvalidPath, LogCorrupt, UnknownTask
from tasktrail.events.log.keys import Keys
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.system_events import UserErased
from tasktrail.projections.errors import NothingMade, SealUnfit
from tasktrail.projections.proof.notes import PrivateKey
from tasktrail.projections.proof.provenance import made_by, makers_of, provenance, signed, statement
from tasktrail.projections.proof.seals import kept_key, make_seal, private_key

NAME = "tasktrail/0123456789ab"
CHECKER = Path(__file__).parents[2] / "docs" / "examples" / "check_provenance.py"
STEERING = "\x1b[2A\u202e\x9b\nrecorded at position 1"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service has made small.jpg of in.png, by a batch, and other.jpg by itself; a third task was cancelled.

    Then it was told to hash small inputs only, and made two more, one of them by a batch. One file could not be made
    smaller, so it made nothing in its place, and then another file. The last task made a folder of two pages.
    """
    folder = tmp_path_factory.mktemp("house")
    Image.linear_gradient("L").save(folder / "in.png")
    Image.new("RGB", (64, 48), "teal").save(folder / "in.jpg", quality=10, optimize=True)
    larger: dict[str, Any] = {"type": "image_convert", "input_file": folder / "in.jpg", "options": {"quality": 95}}
    with TaskService.open(folder / "data", config=Config(workers=1)) as tasks:
        work: dict[str, Any] = {"type": "image_thumbnail", "input_file": folder / "in.png"}
        of_a_batch = tasks.create_task(**work, output_file=folder / "small.jpg", batch="b", options={"width": 32})
        alone = tasks.create_task(**work, output_file=folder / "other.jpg", options={"width": 48})
        cancelled = tasks.create_task(**work, output_file=folder / "never.jpg", held=True)
        tasks.cancel_task(cancelled)
        for task_id in (of_a_batch, alone):
            assert tasks.wait(task_id, timeout=60).status == "completed"
    with TaskService.open(folder / "data", config=Config(workers=1, hash_inputs_up_to=100)) as tasks:
        unhashed = tasks.create_task(**work, output_file=folder / "unhashed.jpg", options={"width": 16})
        of_another = tasks.create_task(**work, output_file=folder / "tiny.jpg", batch="c", options={"width": 8})
        for task_id in (unhashed, of_another):
            assert tasks.wait(task_id, timeout=60).status == "completed"
        stays = tasks.create_task(**larger, output_file=folder / "6.jpg", original="replace")
        made = tasks.create_task(**larger, output_file=folder / "7.jpg")
        (folder / "in.txt").write_text("\n".join(f"line {number}" for number in range(150)))
        drawn: dict[str, Any] = {"type": "document_preview", "input_file": folder / "in.txt"}
        pages = tasks.create_task(**drawn, output_file=folder / "pages", options={"pages": "1-2"})
        assert [tasks.wait(task_id, timeout=60).status for task_id in (stays, made, pages)] == ["completed"] * 3
    return folder


@pytest.fixture
def log(house: Path) -> Iterator[SqliteLogReader]:
    with closing(SqliteLogReader(house / "data" / "log.db")) as opened:
        yield opened


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def test_a_statement_names_input_output_options_times_and_the_record(house: Path, log: SqliteLogReader) -> None:
    said = statement(log, made_by(log, 1), NAME)
    assert said["subject"] == [{"name": "small.jpg", "digest": {"sha256": digest(house / "small.jpg")}}]
    built, run = said["predicate"]["buildDefinition"], said["predicate"]["runDetails"]
    (source,) = built["resolvedDependencies"]
    assert source["uri"] == (house / "in.png").as_uri()
    assert source["digest"] == {"sha256": digest(house / "in.png")}
    assert built["externalParameters"]["options"] == {"width": 32}
    (record,) = log.read(run["byproducts"][0]["annotations"]["position"] - 1, 1)
    assert (record.task_id, record.name) == (1, "completed")
    assert run["metadata"]["startedOn"] < run["metadata"]["finishedOn"]
    assert run["builder"]["version"] == {"tasktrail": __version__, "pillow": version("pillow")}
    assert msgspec.json.decode(msgspec.json.encode(said)) == said


@pytest.mark.parametrize("task_id", [1, 2, 5])
def test_the_input_is_told_by_its_hash_in_a_batch_or_alone(task_id: int, house: Path, log: SqliteLogReader) -> None:
    (source,) = statement(log, made_by(log, task_id), NAME)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert source["digest"] == {"sha256": digest(house / "in.png")}


def test_an_input_whose_bytes_nobody_hashed_is_told_by_size_and_time(house: Path, log: SqliteLogReader) -> None:
    (source,) = statement(log, made_by(log, 4), NAME)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert "digest" not in source
    seen = (house / "in.png").stat()
    assert source["annotations"] == {"size": seen.st_size, "modified_ns": str(seen.st_mtime_ns)}


def test_a_program_that_reads_every_number_as_a_double_reads_the_same(log: SqliteLogReader) -> None:
    said = json.dumps(statement(log, made_by(log, 4), NAME))
    assert json.loads(said, parse_int=float) == json.loads(said)


def test_the_signature_is_that_of_a_dsse_envelope(log: SqliteLogReader) -> None:
    key = PrivateKey.made(NAME)
    envelope = json.loads(json.dumps(signed(statement(log, made_by(log, 1), NAME), key)))
    payload = base64.b64decode(envelope["payload"])
    covered = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public.text.split("+", 2)[2])[1:])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    public.verify(signature, covered)
    with pytest.raises(InvalidSignature):
        public.verify(signature, covered.replace(b"small.jpg", b"other.jpg"))


@pytest.mark.slow
def test_a_checker_that_was_not_written_by_us_takes_the_statement_and_no_other_file(
    house: Path, log: SqliteLogReader, tmp_path: Path
) -> None:
    key = PrivateKey.made(NAME)
    written = tmp_path / "task-1.intoto.json"
    written.write_text(json.dumps(signed(statement(log, made_by(log, 1), NAME), key)))

    def check(file: str, by: str) -> tuple[int, str]:
        command = [sys.executable, str(CHECKER), str(written), str(house / file), by]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.stderr
        return done.returncode, done.stdout

    code, told = check("small.jpg", key.public.text)
    assert code == 0
    assert told.startswith(f"made by {NAME}/tasks/1/attempts/1 (image_thumbnail)\nfrom file:///")
    assert check("other.jpg", key.public.text)[0] == 4
    assert check("small.jpg", PrivateKey.made(NAME).public.text)[0] == 4
    assert check("small.jpg", "seals/key") == (4, "NOT shown: this is no key for seals: give NAME+HASH+KEY itself\n")
    genuine = written.read_text()
    for other in forged_envelopes(genuine):
        written.write_text(other)
        assert check("small.jpg", key.public.text)[0] == 4, other[:80]


def test_what_is_signed_cannot_steer_the_terminal_of_who_checks_it_nor_put_in_lines(
    house: Path, log: SqliteLogReader, tmp_path: Path
) -> None:
    """Whoever holds the key can sign any text."""
    key, written = PrivateKey.made(NAME), tmp_path / "task-1.intoto.json"
    said = statement(log, made_by(log, 1), f"{NAME}{STEERING}")
    (source,) = said["predicate"]["buildDefinition"]["resolvedDependencies"]
    source["uri"] = f"file:///in.png{STEERING}"
    written.write_text(json.dumps(signed(said, key)))
    command = [sys.executable, str(CHECKER), str(written), str(house / "small.jpg"), key.public.text]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, len(done.stdout.splitlines())) == (0, "", 3)
    assert done.stdout.replace("\n", "").isprintable()


def test_the_newest_seal_is_named_where_it_covers_the_record(log: SqliteLogReader, tmp_path: Path) -> None:
    seal, key = make_seal(log, tmp_path / "seals", tmp_path / "seal-key", datetime(2026, 1, 31, tzinfo=UTC))

    def named(size: int) -> list[dict[str, Any]]:
        one = seal._replace(checkpoint=seal.checkpoint._replace(size=size))
        beside = statement(log, made_by(log, 1), NAME, seal=one)["predicate"]["runDetails"]["byproducts"]
        return [found["annotations"] for found in beside if found["name"] == "seal"]

    (told,) = named(seal.checkpoint.size)
    assert key.opened(told["note"]) == seal.checkpoint
    assert (told["size"], told["root"]) == (log.head().position, seal.checkpoint.root.hex())
    done = log.read_task(1)[-1].position
    assert (len(named(done)), named(done - 1)) == (1, [])


def test_nothing_is_signed_beside_a_newest_seal_that_cannot_be_read_or_has_the_name_of_another(
    log: SqliteLogReader, tmp_path: Path
) -> None:
    seals = tmp_path / "seals"
    seal, _public = make_seal(log, seals, tmp_path / "seal-key", datetime(2026, 1, 31, tzinfo=UTC))
    make = partial(provenance, log, 1, seals, partial(private_key, tmp_path / "seal-key", seals=seals))
    assert make()
    newer = seals / f"{seal.checkpoint.size + 7}.note"
    newer.write_text(seal.note)
    with pytest.raises(SealUnfit, match=f"{newer.name}, cannot be read, or is not"):
        make()
    newer.unlink()
    newer.mkdir()
    with pytest.raises(SealUnfit, match="cannot be read"):
        make()
    newer.rmdir()
    seal.path.unlink()
    assert make()


def test_the_maker_of_a_file_is_found_wherever_it_lies_and_not_once_it_was_changed(
    house: Path, log: SqliteLogReader, tmp_path: Path
) -> None:
    file = tmp_path / "moved.bin"
    file.write_bytes((house / "small.jpg").read_bytes())
    assert (makers_of(log, file), makers_of(log, house / "other.jpg")) == ((1, ()), (2, ()))
    with file.open("r+b") as opened:
        opened.seek(30)
        opened.write(b"x")
    with pytest.raises(UnknownTask, match="As far as this log shows, no task has made") as refused:
        makers_of(log, file)
    assert refused.value.advice == "It was changed since, or made elsewhere."
    outputs = tmp_path / "outputs"
    outputs.mkdir()
    (outputs / "small.jpg").write_bytes((house / "small.jpg").read_bytes())
    with pytest.raises(UnknownTask, match="no task has made") as refused:
        makers_of(log, outputs)
    assert refused.value.advice.endswith(" If each of its files was made by a task of its own, name one of them.")
    with pytest.raises(InvalidPath, match=r"cannot be read.*\n?.*Name a file that you may read"):
        makers_of(log, tmp_path / "none")


def complete(journal: Journal, output: Path, **fields: Any) -> int:
    """Return the number of a task that has made a file."""
    output.write_bytes(b"made")
    task_id = journal.create(output_file=str(output), **fields)
    journal.start(task_id)
    journal.record(task_id, Completed(result={"sha256": sha256(b"made").hexdigest()}))
    return task_id


def test_the_maker_of_a_folder_is_found_and_anybody_can_check_it(
    house: Path, log: SqliteLogReader, tmp_path: Path
) -> None:
    pages = Path(shutil.copytree(house / "pages", tmp_path / "moved"))
    key, written = PrivateKey.made(NAME), tmp_path / "pages.intoto.json"

    def check() -> int:
        command = [sys.executable, str(CHECKER), str(written), str(pages), key.public.text]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert not done.stderr
        return done.returncode

    assert makers_of(log, pages) == (8, ())
    written.write_text(json.dumps(signed(statement(log, made_by(log, 8), NAME), key)))
    assert check() == 0
    (pages / "more").write_bytes(b"")
    assert check() == 4
    with pytest.raises(UnknownTask):
        makers_of(log, pages)
    (pages / "more").unlink()
    first, second = sorted(pages.iterdir())
    # In the lines that are hashed, this one name reads as two files.
    listed = f"{first.name}\n{digest(second)}  {second.name}"
    second.rename(tmp_path / "second")
    first.rename(pages / listed)
    assert check() == 4
    with pytest.raises(InvalidPath, match=r"cannot be read: .*line end"):
        makers_of(log, pages)
    (pages / listed).rename(first)
    second.mkdir()
    assert check() == 4
    with pytest.raises(InvalidPath, match=r"cannot be read: .*no plain file"):
        makers_of(log, pages)


@pytest.mark.parametrize("gone", [(), ("forgotten",), ("erased",), ("erased", "forgotten")])
def test_of_a_file_without_a_maker_it_is_said_what_the_log_has_lost(tmp_path: Path, gone: tuple[str, ...]) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    task_id = complete(journal, tmp_path / "made.jpg")
    if "erased" in gone:
        journal.record(0, UserErased(keys=("0123456789abcdef",), tasks=(task_id,)))
    if "forgotten" in gone:
        journal.forget(task_id)
    (tmp_path / "made.jpg").write_bytes(b"other")
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader, pytest.raises(UnknownTask) as refused:
        makers_of(reader, tmp_path / "made.jpg")
    told = f", or by a task that was {' or '.join(gone)}: what is known of their files is gone." if gone else "."
    assert refused.value.advice == f"It was changed since, or made elsewhere{told}"
    log.close()


@pytest.mark.parametrize("erased", [False, True])
def test_of_a_file_whose_makers_key_is_missing_it_is_not_said_that_it_was_made_elsewhere(
    tmp_path: Path, *, erased: bool
) -> None:
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN, encrypted=True)) as log:
        journal = Journal(log)
        made = tmp_path / "made.jpg"
        made.write_bytes(b"made")
        task_id = journal.create(output_file=str(made), user_id=7)
        journal.start(task_id)
        journal.record(task_id, Completed(result={"sha256": sha256(b"made").hexdigest()}))
        if erased:
            journal.record(0, UserErased(keys=log.belongings(7).keys, tasks=(task_id,)))
    path = tmp_path / "log.db"
    with closing(SqliteLogReader(path)) as reader, closing(Keys(path)) as keys:
        assert makers_of(reader, made, keys).task_id == task_id
    (tmp_path / "keys.db").unlink()
    with closing(SqliteLogReader(path)) as reader, closing(Keys(path)) as keys:
        with pytest.raises(UnknownTask) as refused:
            makers_of(reader, made, keys)
        with pytest.raises(Erased) as unreadable:
            made_by(reader, task_id)
    told, other = "that was erased: what is known", "whose key is missing here: `tasktrail verify` counts"
    assert (told in refused.value.advice, other in refused.value.advice) == (erased, not erased)
    assert "`tasktrail verify`" in unreadable.value.advice


@pytest.mark.parametrize("archived", [False, True])
def test_of_several_makers_the_one_whose_output_lies_there_is_named(tmp_path: Path, *, archived: bool) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    for name in ("first.jpg", "again.jpg", "third.jpg"):
        complete(journal, tmp_path / name)
    if archived:
        archive(journal, 7)
    elsewhere = tmp_path / "elsewhere.jpg"
    elsewhere.write_bytes(b"made")
    (tmp_path / "link.jpg").symlink_to(tmp_path / "again.jpg")
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        assert makers_of(reader, tmp_path / "first.jpg") == (1, (2, 3))
        assert makers_of(reader, tmp_path / "link.jpg") == (2, (1, 3))
        assert makers_of(reader, elsewhere) == (3, (1, 2))
        (subject,) = statement(reader, made_by(reader, 1), NAME, (2, 3))["subject"]
    assert subject["annotations"] == {"also_made_by": [2, 3]}
    log.close()


def test_what_the_task_was_given_by_those_it_depends_on_is_a_source_too(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    part = complete(journal, tmp_path / "part")
    number = journal.create("count")
    journal.start(number)
    journal.record(number, Completed(result={"n": 1}))
    failed = journal.create("count")
    journal.start(failed)
    journal.record(failed, Failed(outcome="failed", error="no", error_type="ValueError", final=True))
    waits_for = (part, number, failed)
    of_a_film: dict[str, Any] = {"input_file": "/in.mov", "depends_on": waits_for, "on_dependency_failure": "ignore"}
    whole = complete(journal, tmp_path / "whole", **of_a_film)
    journal.send(RetryTask(task_id=failed, force=True))
    journal.start(failed)
    journal.record(failed, Completed())
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        built = statement(reader, made_by(reader, whole), NAME)["predicate"]["buildDefinition"]
        records = {task_id: reader.last_of(task_id) for task_id in (part, number)}
    source, *given = built["resolvedDependencies"]
    assert source["uri"] == "file:///in.mov"
    # Dependencies that ended before the attempt began were handed to it; failed ones had nothing to give.
    at = {
        task_id: {"position": record.position, "hash": record.hash.hex()}
        for task_id, record in records.items()
        if record is not None
    }
    assert given == [
        {
            "uri": f"urn:tasktrail:0123456789ab:tasks:{part}:attempts:1",
            "digest": {"sha256": sha256(b"made").hexdigest()},
            "annotations": at[part],
        },
        {"uri": f"urn:tasktrail:0123456789ab:tasks:{number}:attempts:1", "annotations": at[number]},
    ]
    log.close()


def test_nothing_is_signed_of_a_changed_record_of_what_the_task_depended_on(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    part = complete(journal, tmp_path / "part")
    whole = complete(journal, tmp_path / "whole", depends_on=(part,))
    log.close()
    with forging(tmp_path / "log.db") as conn:
        right, wrong = sha256(b"made").hexdigest(), sha256(b"other").hexdigest()
        changed = "UPDATE events SET data = replace(data, ?, ?) WHERE task_id = ? AND event = 'completed'"
        assert conn.execute(changed, (right, wrong, part)).rowcount == 1
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader, pytest.raises(LogCorrupt):
        made_by(reader, whole)


def test_what_has_made_no_file_says_so(log: SqliteLogReader) -> None:
    with pytest.raises(SealUnfit, match=r"has not completed.*`tasktrail show 3`"):
        statement(log, made_by(log, 3), NAME)
    with pytest.raises(UnknownTask):
        statement(log, made_by(log, 99), NAME)


def test_a_key_is_made_only_once_there_is_something_to_sign(log: SqliteLogReader, tmp_path: Path) -> None:
    key = tmp_path / "seal-key"
    for task_id in (3, 99):
        with pytest.raises((SealUnfit, UnknownTask)):
            provenance(log, task_id, tmp_path / "seals", partial(private_key, key))
    assert not key.exists()
    with pytest.raises(SealUnfit, match="was never sealed"):
        provenance(log, 1, tmp_path / "seals", partial(kept_key, key))
    assert not key.exists()
    made = provenance(log, 1, tmp_path / "seals", partial(private_key, key))
    assert key.exists()
    assert made == provenance(log, 1, tmp_path / "seals", partial(kept_key, key))


def test_what_was_not_published_was_not_made(house: Path, log: SqliteLogReader) -> None:
    """The result is about bytes that are gone, since the original has stayed."""
    done = log.read_task(6)[-1].event
    assert isinstance(done, Completed)
    assert done.result["sha256"] == digest(house / "7.jpg")
    assert makers_of(log, house / "7.jpg") == (7, ())
    with pytest.raises(SealUnfit, match="the original stays: the result is not smaller"):
        made_by(log, 6)


@pytest.mark.parametrize("told", ["", "told", "A" * 64, None, 5, ["a" * 64]])
def test_what_is_no_hash_in_a_result_does_not_hide_the_one_that_was_found(told: object) -> None:
    assert Completed(result={"sha256": told}, output_sha256="b" * 64).made_sha256 == "b" * 64
    assert Completed(result={"sha256": told}).made_sha256 == ""
    assert Completed(result={"sha256": "a" * 64}).made_sha256 == "a" * 64


@pytest.mark.parametrize("archived", [False, True])
def test_what_was_found_of_an_output_counts_and_not_what_its_result_says(tmp_path: Path, *, archived: bool) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=BEGIN)
    journal = Journal(log)
    found, told = sha256(b"made").hexdigest(), sha256(b"told").hexdigest()
    task_id = journal.create(output_file=str(tmp_path / "made"))
    journal.start(task_id)
    journal.record(task_id, Completed(result={"sha256": told}, output_sha256=found))
    if archived:
        archive(journal, 3)
    for name in ("made", "told"):
        (tmp_path / name).write_bytes(name.encode())
    with closing(SqliteLogReader(tmp_path / "log.db")) as reader:
        assert made_by(reader, task_id).digest == found
        assert makers_of(reader, tmp_path / "made") == (task_id, ())
        with pytest.raises(UnknownTask):
            makers_of(reader, tmp_path / "told")
    log.close()


def test_a_task_without_an_output_has_made_no_file_whatever_its_result_says(filed: Journal, tmp_path: Path) -> None:
    (tmp_path / "seen").write_bytes(b"made")
    function = filed.create()
    filed.start(function)
    filed.record(function, Completed(result={"sha256": digest(tmp_path / "seen")}))
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:
        with pytest.raises(NothingMade):
            made_by(log, function)
        with pytest.raises(UnknownTask):
            makers_of(log, tmp_path / "seen")
        maker = complete(filed, tmp_path / "made", depends_on=(function,))
        assert makers_of(log, tmp_path / "seen") == (maker, ())
        [given] = statement(log, made_by(log, maker), NAME)["predicate"]["buildDefinition"]["resolvedDependencies"]
        assert "digest" not in given


@pytest.mark.parametrize("event", ["created", "started", "completed", "service_started"])
def test_nothing_is_signed_of_a_record_that_is_not_what_its_hash_says(event: str, house: Path, tmp_path: Path) -> None:
    path = shutil.copy(house / "data" / "log.db", tmp_path)
    with forging(Path(path)) as conn:
        conn.execute(
            "UPDATE events SET data = data || ' ' WHERE position = "
            "(SELECT min(position) FROM events WHERE event = ? AND task_id IN (0, 1))",
            (event,),
        )
    with closing(SqliteLogReader(Path(path))) as changed, pytest.raises(LogCorrupt, match="was changed"):
        provenance(changed, 1, tmp_path / "seals", partial(private_key, tmp_path / "seal-key"))


def swap_tasks_in_the_index(path: Path) -> None:
    """Have the index of a log lead from task 1 to the records of task 2, and back. The records stay as they are."""
    swap = [f"UPDATE events SET task_id = {new} WHERE task_id = {old}" for old, new in ((1, -1), (2, 1), (-1, 2))]
    of_index = "type = 'index' AND name = 'one_version_once'"
    with forging(path) as conn:
        for statement in swap:
            conn.execute(statement)
        (kept,) = conn.execute(f"SELECT * FROM sqlite_schema WHERE {of_index}").fetchall()
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute(f"DELETE FROM sqlite_schema WHERE {of_index}")
        conn.execute("PRAGMA writable_schema = RESET")
        for statement in swap:  # the pages of the index stay as they are
            conn.execute(statement)
        conn.execute("PRAGMA writable_schema = ON")
        conn.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", kept)
        conn.execute("PRAGMA writable_schema = RESET")


def take_attempts_from_the_index(path: Path) -> None:
    """Have SQLite take the versions in the index for attempts."""
    with forging(path) as conn:
        conn.execute("PRAGMA writable_schema = ON")
        changed = "UPDATE sqlite_schema SET sql = replace(sql, '(task_id, version)', '(task_id, attempt)')"
        conn.execute(f"{changed} WHERE name = 'one_version_once'")
        conn.execute("PRAGMA writable_schema = RESET")


@pytest.mark.parametrize("lie", [swap_tasks_in_the_index, take_attempts_from_the_index])
def test_nothing_is_signed_that_only_an_index_says(lie: Callable[[Path], None], house: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(house / "data" / "log.db", tmp_path))
    lie(path)
    with closing(SqliteLogReader(path)) as lying:
        hashes = list(lying.hashes())
        with pytest.raises(LogCorrupt, match="index"):
            provenance(lying, 1, tmp_path / "seals", partial(private_key, tmp_path / "seal-key"))
    with closing(SqliteLogReader(house / "data" / "log.db")) as genuine:
        assert list(genuine.hashes()) == hashes, "no record was changed"


def test_nobody_is_signed_to_have_made_the_same_by_a_record_that_was_changed(house: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(house / "data" / "log.db", tmp_path))
    hashes = digest(house / "other.jpg"), digest(house / "small.jpg")
    with forging(path) as conn:
        conn.execute("UPDATE events SET data = replace(data, ?, ?) WHERE task_id = 2", hashes)
    with closing(SqliteLogReader(path)) as changed:
        made = makers_of(changed, house / "small.jpg")
        assert (made.task_id, made.others) == (1, (2,))
        with pytest.raises(LogCorrupt, match="was changed"):
            provenance(changed, 1, tmp_path / "seals", partial(private_key, tmp_path / "seal-key"), made.others)
