"""An export has everything, as of one position, whole or not at all."""

import base64
import csv
import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import msgspec
import pytest
from click.testing import CliRunner
from forgery import forged_envelopes, forging
from histories import BEGIN, Journal, random_history
from hypothesis import given
from hypothesis import strategies as st

from tasktrail import TaskFilters
from tasktrail.api.reader import Reader
from tasktrail.cli.app import run
from tasktrail.events.errors import InvalidPath
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.recorded import timestamp
from tasktrail.exports import parquet
from tasktrail.exports.columns import EXPORT_COLUMNS, row_values
from tasktrail.exports.file import whole_file, write_rows
from tasktrail.exports.forms import form_of
from tasktrail.exports.rows import opened
from tasktrail.projections.attempts import attempts
from tasktrail.projections.errors import BeyondTheLog
from tasktrail.projections.proof.notes import PrivateKey, PublicKey
from tasktrail.projections.proof.provenance import signed
from tasktrail.projections.proof.seals import make_seal
from tasktrail.projections.queries.as_of import fold_to
from tasktrail.projections.queries.current_list import CurrentList
from tasktrail.projections.queries.stats import read_counts
from tasktrail.projections.views.checksums import teach
from tasktrail.words import size

FILTERS = [
    "",
    "status=completed",
    "status=failed,cancelled",
    "type=video_convert",
    "user_id=1,2",
    "search=clip",
    "label=night",
]

Command = Callable[..., str]


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Journal]]:
    """Make a data folder on which no service runs."""
    data = tmp_path_factory.mktemp("data")
    with closing(SqliteEventLog(data / "log.db", now=BEGIN)) as log:
        journal = Journal(log)
        random_history(journal, 1_500, seed=7)
        yield data, journal


@pytest.fixture
def reader(history: tuple[Path, Journal]) -> Iterator[Reader]:
    with Reader(history[0]) as opened_reader:
        yield opened_reader


def command_of(what: str, *arguments: str) -> list[str]:
    return [*(["log", "export"] if what == "log" else ["export", what]), *arguments]


@pytest.fixture
def export(history: tuple[Path, Journal]) -> Command:
    """Return the command's output."""

    def call(*arguments: str) -> str:
        with CliRunner().isolation() as streams:
            code = run([*command_of(*arguments), "--data", str(history[0])])
            sys.stdout.flush()
            told = streams[0].getvalue().decode()
            assert code == 0, streams[1].getvalue().decode()
        return told

    return call


def filters_of(text: str, **more: Any) -> TaskFilters:
    return TaskFilters.parse(dict([text.split("=")] if text else []) | more)


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def listed(reader: Reader, filters: TaskFilters) -> list[Any]:
    """List the same tasks, page by page."""
    found: list[Any] = []
    while True:
        page = msgspec.structs.replace(filters, sort="id", limit=500, offset=len(found))
        tasks, total = reader.list_tasks(page)
        found += tasks
        if len(found) == total:
            return found


def exported(reader: Any, what: Any, filters: TaskFilters) -> tuple[int, list[Any]]:
    with opened(reader, what, filters) as found:
        return found.position, [row for _reached, row in found.rows if row is not None]


def settled(tasks: list[Any]) -> list[Any]:
    """Drop the values that change with the clock while a task waits."""
    return [msgspec.structs.replace(task, effective_priority=0.0, priority_terms=None) for task in tasks]


@pytest.mark.parametrize("text", FILTERS)
def test_tasks_are_all_that_a_list_has_in_the_order_of_their_ids(reader: Reader, text: str) -> None:
    position, tasks = exported(reader, "tasks", filters_of(text))
    assert position == reader.stats().position
    assert settled(tasks) == settled(listed(reader, filters_of(text)))
    assert tasks


@pytest.mark.parametrize("text", ["", "status=running,retrying", "user_id=1"])
def test_tasks_of_the_past_are_a_fold_of_the_log_up_to_there(reader: Reader, text: str) -> None:
    for position in (1, 200, 600, reader.stats().position):
        with fold_to(reader.source.log(), position) as past:
            expected, _total = past.list(filters_of(text, sort="id", limit="500"))
            assert exported(reader, "tasks", filters_of(text, as_of=str(position))) == (position, expected)


def test_a_time_means_the_last_position_of_then(reader: Reader, history: tuple[Path, Journal]) -> None:
    """Exporting again as of the reported position gives the same, including waiting times."""
    moment = history[1].records[600].recorded_at + timedelta(milliseconds=1)
    last = max(one.position for one in history[1].records if one.recorded_at <= moment)
    for asked, what in product((reader, Elsewhere(reader)), ("log", "tasks", "attempts")):
        due = exported(reader, what, TaskFilters(as_of=last))
        assert exported(asked, what, TaskFilters(as_of=moment.isoformat())) == due
        for beyond in ("9999-12-31T00:00:00Z", 10**9):
            with pytest.raises(BeyondTheLog):
                exported(asked, what, TaskFilters(as_of=beyond))


class Elsewhere:
    """A reader behind an address, as an export sees it: it can only be asked."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)


def test_attempts_are_those_of_each_task_that_passes(reader: Reader, history: tuple[Path, Journal]) -> None:
    for filters in (TaskFilters(), TaskFilters(type="video_convert"), TaskFilters(as_of=500, user_id=2)):
        position, found = exported(reader, "attempts", filters)
        tasks = [task.id for task in exported(reader, "tasks", filters)[1]]
        records = [
            [one for one in history[1].records if one.task_id == task and one.position <= position] for task in tasks
        ]
        assert found == [attempt for own in records for attempt in attempts(own)]
        assert found


def test_the_log_is_all_records_or_those_about_the_tasks_that_pass(
    reader: Reader, history: tuple[Path, Journal]
) -> None:
    assert exported(reader, "log", TaskFilters())[1] == history[1].records
    assert exported(reader, "log", TaskFilters(as_of=99))[1] == history[1].records[:99]
    chosen = {task.id for task in exported(reader, "tasks", TaskFilters(status="failed"))[1]}
    own = exported(reader, "log", TaskFilters(status="failed"))[1]
    assert {one.task_id or getattr(one.event, "task_id", 0) for one in own} == chosen
    assert {one.task_id for one in own} > chosen  # and the service's records about them, under task id 0


def test_who_exports_again_as_of_its_position_gets_the_same(export: Command, history: tuple[Path, Journal]) -> None:
    """Waiting times count up to the last record, not up to the time of the question."""
    now = export("tasks", "--status", "pending")
    assert "effective_priority" in now
    assert now == export("tasks", "--status", "pending", "--as-of", str(len(history[1].records)))


def test_json_lines_are_what_the_commands_print(export: Command, reader: Reader, history: tuple[Path, Journal]) -> None:
    assert lines(export("log")) == [json.loads(msgspec.json.encode(one.flat())) for one in history[1].records]
    (first, *_rest) = lines(export("tasks", "--status", "completed"))
    assert first == json.loads(msgspec.json.encode(reader.get_task(first["id"])))
    (attempt, *_rest) = lines(export("attempts", "--status", "completed"))
    assert attempt == json.loads(msgspec.json.encode(reader.attempts(first["id"])[0]))


@pytest.mark.parametrize("what", ["log", "tasks", "attempts"])
def test_csv_has_the_same_values_under_the_names_of_the_columns(export: Command, what: Any) -> None:
    position = "700"
    objects = lines(export(what, "--as-of", position))
    written = export(what, "--as-of", position, "--format", "csv", "--as-written")
    rows = list(csv.DictReader(io.StringIO(written, newline="")))
    assert len(rows) == len(objects)
    kinds = dict(EXPORT_COLUMNS[what])
    for row, found in zip(rows, objects, strict=True):
        assert list(row) == list(kinds) == list(found)
        assert {name: back(row[name], kinds[name], found[name]) for name in row} == found


@given(text=st.text(alphabet="=+-@\t\r\n＝＋－＠'\",;a0.e ", max_size=6))
def test_no_cell_of_csv_is_a_formula_and_all_others_are_as_they_were(history: tuple[Path, Journal], text: str) -> None:
    record = msgspec.structs.replace(history[1].records[5], reason=text)

    def cells(*, as_written: bool) -> list[str]:
        line = form_of("csv", "log", "", as_written=as_written).line(record).decode()
        (row,) = csv.reader(io.StringIO(line, newline=""))
        return row

    place = [column.name for column in EXPORT_COLUMNS["log"]].index("reason")
    safe, exact = cells(as_written=False), cells(as_written=True)
    assert (safe[:place], safe[place + 1 :]) == (exact[:place], exact[place + 1 :])
    assert exact[place] == text
    formula = text[:1] in set("=+-@\t\r\n＝＋－＠") and not re.fullmatch(r"-?\d+(\.\d+)?(e\d+)?", text, re.ASCII)
    assert safe[place] == (f"'{text}" if formula else text)


def test_formulas_stay_as_written_only_where_that_is_asked_for(tmp_path: Path) -> None:
    formula = '=HYPERLINK("http://a.example/?"&A1;"x")'
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        Journal(log).create(options={"text": formula}, label=formula)

    def cells(*more: str) -> dict[str, str]:
        with CliRunner().isolation() as streams:
            assert run([*command_of("tasks", "--format", "csv", *more), "--data", str(tmp_path)]) == 0
            sys.stdout.flush()
            (row,) = csv.DictReader(io.StringIO(streams[0].getvalue().decode(), newline=""))
        return row

    assert cells()["label"] == f"'{formula}"
    assert cells("--as-written")["label"] == formula
    assert cells()["options"] == cells("--as-written")["options"] == json.dumps({"text": formula}).replace(" ", "")
    with CliRunner().isolation():
        assert run([*command_of("tasks", "--as-written"), "--data", str(tmp_path)]) == 2


def back(text: str, kind: str, found: Any) -> Any:
    """Read a cell as JSON would."""
    match kind:
        case "text":
            return text if isinstance(found, str) else json.loads(text or "null")
        case "time" if text:
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", text)
            assert datetime.fromisoformat(text) == datetime.fromisoformat(found)
            return found
        case _ if not text:
            return None
        case _:
            return json.loads(text)


# The context attributes of CloudEvents 1.0.2, section "Required Attributes" and those that follow it.
REQUIRED = {"specversion", "id", "source", "type"}
OPTIONAL = {"subject", "time", "datacontenttype", "sequence", "data"}


def test_cloud_events_have_the_attributes_of_the_specification(export: Command, history: tuple[Path, Journal]) -> None:
    events = lines(export("log", "--format", "cloudevents"))
    assert len(events) == len(history[1].records)
    for event, record in zip(events, history[1].records, strict=True):
        assert REQUIRED <= event.keys() <= REQUIRED | OPTIONAL
        assert all(isinstance(event[name], str) and event[name] for name in event if name != "data")
        assert all(re.fullmatch("[a-z0-9]{1,20}", name) for name in event)
        assert event["specversion"] == "1.0"
        assert re.fullmatch(r"urn:tasktrail:[0-9a-f]{12}", event["source"])
        assert datetime.fromisoformat(event["time"]) == record.recorded_at.astimezone(UTC)
        assert event["type"] == f"tasktrail.{record.name}"
        assert event["data"] == json.loads(msgspec.json.encode(record.flat()))
    assert len({(event["source"], event["id"]) for event in events}) == len(events)
    assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)


IN_PARQUET = {
    "whole": "BIGINT",
    "number": "DOUBLE",
    "truth": "BOOLEAN",
    "time": "TIMESTAMP WITH TIME ZONE",
    "text": "VARCHAR",
    "json": "JSON",
}


@pytest.mark.parametrize("what", ["log", "tasks", "attempts"])
def test_parquet_has_the_same_values_in_columns_with_types(export: Command, tmp_path: Path, what: Any) -> None:
    out = tmp_path / "it's.parquet"
    told = json.loads(export(what, "--as-of", "700", "--format", "parquet", "--out", str(out), "--json"))
    objects = lines(export(what, "--as-of", "700"))
    with duckdb.connect() as database:
        found = database.execute("SELECT * FROM read_parquet($file)", {"file": str(out)})
        stored = [str(column[1]) for column in found.description]
        rows = found.fetchall()
    assert stored == [IN_PARQUET[column.kind] for column in EXPORT_COLUMNS[what]]
    for row, one in zip(rows, objects, strict=True):
        for value, column in zip(row, EXPORT_COLUMNS[what], strict=True):
            assert as_json(value, column.kind, one[column.name]) == one[column.name]
    assert told["rows"] == len(objects)
    assert told["sha256"] == sha256(out.read_bytes()).hexdigest()
    assert list(tmp_path.iterdir()) == [out]


def as_json(value: Any, kind: str, found: Any) -> Any:
    """Return a value as JSON would."""
    if kind == "time" and value is not None:
        assert value == datetime.fromisoformat(found)
        return found
    return json.loads(value) if kind == "json" and value is not None else value


def test_the_name_of_the_file_says_its_format_unless_another_is_asked_for(export: Command, tmp_path: Path) -> None:
    for name, begins in (("a.CSV", b"id,"), ("a.parquet", b"PAR1"), ("a.jsonl", b"{"), ("a.txt", b"{"), ("csv", b"{")):
        export("tasks", "--out", str(tmp_path / name))
        assert (tmp_path / name).read_bytes().startswith(begins), name
    export("tasks", "--out", str(tmp_path / "b.csv"), "--format", "jsonl")
    assert (tmp_path / "b.csv").read_bytes().startswith(b"{")


def test_a_file_named_as_packed_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "tasks.csv.gz"
    with CliRunner().isolation() as streams:
        assert run(["export", "tasks", "--out", str(out)]) == 2
        assert "would not be packed" in streams[1].getvalue().decode()
    assert not out.exists()


def test_a_dash_means_standard_output(export: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert export("log", "--out", "-") == export("log")
    assert not (tmp_path / "-").exists()


def test_parquet_needs_a_file_and_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with CliRunner().isolation() as streams:
        assert run(["export", "tasks", "--format", "parquet"]) == 2
        assert "needs --out" in streams[1].getvalue().decode()
    monkeypatch.setattr(parquet, "find_spec", lambda _name: None)
    with CliRunner().isolation() as streams:
        assert run(["export", "tasks", "--format", "parquet", "--out", str(tmp_path / "a")]) == 1
        assert "Install tasktrail[parquet]" in streams[1].getvalue().decode()


def test_a_task_is_no_cloud_event_and_the_log_is_exported_below_its_own_name() -> None:
    with CliRunner().isolation() as streams:
        assert run(["export", "tasks", "--format", "cloudevents"]) == 2
        assert run(["export", "log"]) == 2
        assert "'log' is not one of 'tasks', 'attempts'" in streams[1].getvalue().decode()


@pytest.mark.parametrize("option", [("--after", "0"), ("--limit", "3"), ("--event", "created"), ("--follow",)])
def test_an_option_of_log_itself_is_none_of_its_export(option: tuple[str, ...]) -> None:
    with CliRunner().isolation() as streams:
        assert run(["log", *option, "export"]) == 2
        assert "not for `log export`" in streams[1].getvalue().decode()


def test_a_file_says_what_is_in_it(export: Command, tmp_path: Path) -> None:
    out = tmp_path / "tasks.jsonl"
    told = json.loads(export("tasks", "--as-of", "700", "--out", str(out), "--json"))
    assert out.read_text() == export("tasks", "--as-of", "700")
    assert (told["file"], told["rows"], told["size"]) == (str(out), len(lines(out.read_text())), out.stat().st_size)
    assert (
        export("log", "--as-of", "12", "--out", str(out)) == f"{out}: 12 records as of position 12, {told_size(out)}\n"
    )
    assert list(tmp_path.iterdir()) == [out]


def told_size(path: Path) -> str:
    return size(path.stat().st_size)


@pytest.mark.parametrize("error", [KeyboardInterrupt(), InvalidPath("no"), OSError(28, "No space left on device")])
def test_what_is_broken_off_leaves_the_file_as_it_was(tmp_path: Path, error: BaseException) -> None:
    out = tmp_path / "tasks.jsonl"
    out.write_text("of yesterday")
    with pytest.raises((KeyboardInterrupt, InvalidPath)), whole_file(out) as part:  # noqa: PT012
        part.write_bytes(b"half")
        raise error
    assert out.read_text() == "of yesterday"
    assert list(tmp_path.iterdir()) == [out]


def test_a_pipe_or_a_missing_folder_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for out in (tmp_path / "pipe", tmp_path / "nowhere" / "tasks.jsonl"):
        with pytest.raises(InvalidPath), whole_file(out):
            pytest.fail("there is nowhere to write to")


@pytest.mark.slow
def test_ctrl_c_leaves_nothing(history: tuple[Path, Journal], tmp_path: Path) -> None:
    data, out = history[0], tmp_path / "log.jsonl"
    program = (
        "import signal, sys, tasktrail.exports.rows as rows\n"
        "from tasktrail.cli.app import run\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # processes started in the background ignore it
        "of = rows._records\n"
        "def slowly(*given):\n"
        "    for number, row in enumerate(of(*given)):\n"
        "        if number == 500:\n"
        "            print('half', flush=True)\n"
        "            while True: pass\n"  # a system call that begins after the signal would not end by it
        "        yield row\n"
        "rows._records = slowly\n"
        f"sys.exit(run(['log', 'export', '--data', {str(data)!r}, '--out', {str(out)!r}]))\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"half\n"
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 130
    assert list(tmp_path.iterdir()) == []


def test_columns_name_every_field_once_and_fit_their_values(reader: Reader) -> None:
    fit = {"whole": int, "number": float, "truth": bool, "time": datetime, "text": str, "json": str}
    for what, columns in EXPORT_COLUMNS.items():
        assert len(dict(columns)) == len(columns)
        for row in exported(reader, what, TaskFilters())[1]:
            for value, column in zip(row_values(row), columns, strict=True):
                assert value is None or type(value) is fit[column.kind], column


# --- signed ---------------------------------------------------------------------------------------------------------

CHECKER = Path(__file__).parents[2] / "docs" / "examples" / "check_export.py"


class Signed(NamedTuple):
    """A file, its signed statement, and the key."""

    file: Path
    statement: Path
    key: str

    def check(self, *, key: str = "") -> tuple[int, str]:
        """Run a checker that was not written by us."""
        done = subprocess.run(
            [sys.executable, CHECKER, self.file, key or self.key], capture_output=True, text=True, check=False
        )
        assert not done.stderr
        return done.returncode, done.stdout


@pytest.fixture
def sealed(history: tuple[Path, Journal], export: Command, tmp_path: Path) -> Iterator[Signed]:
    """Export failed tasks as of position 700, from a log that was sealed at its end."""
    data = history[0]
    with closing(SqliteLogReader(data / "log.db")) as log:
        _seal, key = make_seal(log, data / "seals", data / "seal-key", BEGIN)
    out = tmp_path / "failed.csv"
    export("tasks", "--status", "failed", "--as-of", "700", "--format", "csv", "--out", str(out), "--sign")
    yield Signed(out, tmp_path / "failed.csv.intoto.json", key.text)
    shutil.rmtree(data / "seals")
    (data / "seal-key").unlink()


def test_a_signed_export_names_query_position_and_seal(sealed: Signed, history: tuple[Path, Journal]) -> None:
    said = json.loads(base64.b64decode(json.loads(sealed.statement.read_text())["payload"]))
    assert said["subject"] == [
        {"name": "failed.csv", "digest": {"sha256": sha256(sealed.file.read_bytes()).hexdigest()}}
    ]
    told, record = said["predicate"], history[1].records[699]
    assert (told["position"], told["hash"], told["recorded_at"]) == (
        700,
        record.hash.hex(),
        timestamp(record.recorded_at),
    )
    assert told["query"] == {"of": "tasks", "format": "csv", "status": "failed", "as_of": "700"}
    assert told["rows"] == len(sealed.file.read_text().splitlines()) - 1 > 0
    checkpoint = PublicKey(sealed.key).opened(told["seal"]["note"])
    assert (checkpoint.size, checkpoint.root.hex()) == (told["seal"]["size"], told["seal"]["root"])
    assert checkpoint.size == len(history[1].records)
    code, out = sealed.check()
    assert code == 0
    assert "as of position 700" in out


def test_an_unsigned_export_tells_that_the_statement_beside_it_is_of_an_earlier_one(
    sealed: Signed, export: Command
) -> None:
    kept = sealed.statement.read_bytes()
    command = ("tasks", "--status", "cancelled", "--format", "csv", "--out", str(sealed.file))
    assert "failed.csv.intoto.json is of an earlier export" in " ".join(export(*command).split())
    assert (sealed.statement.read_bytes(), sealed.check()[0]) == (kept, 4)
    assert "earlier export" not in export(*command, "--sign")
    assert sealed.check()[0] == 0


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("of", ["tasks", "log"])
def test_of_a_log_with_a_changed_record_nothing_is_signed(
    history: tuple[Path, Journal], tmp_path: Path, of: str
) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(history[0], changed)
    with forging(changed / "log.db") as conn:
        conn.execute("UPDATE events SET reason = 'another' WHERE position = 20")
    (folder := tmp_path / "out").mkdir()
    out = folder / "evil.jsonl"
    out.write_text("of yesterday")
    with CliRunner().isolation() as streams:
        code = run([*command_of(of, "--out", str(out), "--sign"), "--data", str(changed)])
        assert (code, "position 20" in streams[1].getvalue().decode()) == (1, True)
    assert {path.name: path.read_text() for path in folder.iterdir()} == {"evil.jsonl": "of yesterday"}


@pytest.mark.usefixtures("sealed")
def test_where_the_statement_cannot_be_written_nothing_is(history: tuple[Path, Journal], tmp_path: Path) -> None:
    (tmp_path / "all.jsonl.intoto.json").mkdir()
    line = ["export", "tasks", "--out", str(tmp_path / "all.jsonl"), "--sign", "--data", str(history[0])]
    with CliRunner().isolation() as streams:
        assert (run(line), "all.jsonl.intoto.json" in streams[1].getvalue().decode()) == (1, True)
    assert not (tmp_path / "all.jsonl").exists()


@pytest.mark.usefixtures("sealed")
@pytest.mark.parametrize("as_of", ["", "700"])
def test_what_is_signed_is_what_the_log_says_whatever_views_say(
    history: tuple[Path, Journal], tmp_path: Path, as_of: str
) -> None:
    edited = tmp_path / "edited"
    shutil.copytree(history[0], edited)
    with closing(teach(sqlite3.connect(edited / "views.db", isolation_level=None))) as conn:
        conn.execute("UPDATE tasks SET label = 'planted', spec = json_set(spec, '$.label', 'planted') WHERE id = 3")
        owners = "id, type, user_id, document_id, parent_task_id, label, batch, spec"
        conn.execute(f"UPDATE tasks SET spec_sum = row_sum({owners}) WHERE id = 3")

    def exported(data: Path, *sign: str) -> list[Any]:
        out = tmp_path / "tasks.jsonl"
        at = ("--as-of", as_of) if as_of else ()
        assert run(["export", "tasks", *at, "--out", str(out), *sign, "--data", str(data), "--json"]) == 0
        return [json.loads(line) for line in out.read_text().splitlines()]

    assert "planted" in {task["label"] for task in exported(edited)}
    assert exported(edited, "--sign") == exported(history[0]) == exported(history[0], "--sign")


@pytest.mark.slow
def test_an_envelope_that_is_written_otherwise_is_not_taken(sealed: Signed) -> None:
    for other in forged_envelopes(sealed.statement.read_text()):
        sealed.statement.write_text(other)
        assert sealed.check()[0] == 4, other[:80]


def test_a_signed_file_under_another_name_is_told_apart_from_a_changed_one(sealed: Signed) -> None:
    other = sealed.file.with_name("other.csv")
    shutil.copy(sealed.file, other)
    shutil.copy(sealed.statement, f"{other}.intoto.json")
    code, out = Signed(other, sealed.statement, sealed.key).check()
    assert code == 4
    assert f"the file was signed under the name {sealed.file.name}" in out


@pytest.mark.parametrize("place", ["log", "name"])
def test_what_is_signed_cannot_steer_the_terminal_of_who_checks_it_nor_put_in_lines(
    sealed: Signed, history: tuple[Path, Journal], place: str
) -> None:
    """Whoever holds the key can sign any text."""
    steering = "\x1b[2A\u202e\x9b\nnewest seal then: 1 records"
    said = json.loads(base64.b64decode(json.loads(sealed.statement.read_text())["payload"]))
    part, field = {"log": (said["predicate"], "log"), "name": (said["subject"][0], "name")}[place]
    part[field] += steering
    key = PrivateKey((history[0] / "seal-key").read_text())
    sealed.statement.write_text(json.dumps(signed(said, key)))
    code, out = sealed.check()
    assert (code, len(out.splitlines())) == {"log": (0, 3), "name": (4, 1)}[place]
    assert out.replace("\n", "").isprintable()


@pytest.mark.slow
def test_one_changed_byte_of_file_or_statement_or_another_key_fails(sealed: Signed) -> None:
    file, statement = sealed.file.read_bytes(), sealed.statement.read_bytes()
    envelope = json.loads(statement)
    payload = base64.b64decode(envelope["payload"])
    forged = base64.b64encode(payload.replace(b'"position":700', b'"position":701')).decode()
    assert sealed.check(key=PrivateKey.made(PublicKey(sealed.key).name).public.text)[0] == 4
    assert sealed.check(key="seals/key") == (
        4,
        "NOT as it was signed: this is no key for seals: give NAME+HASH+KEY itself\n",
    )
    for content, said in (
        (file[:-2] + bytes((file[-2] ^ 1,)) + file[-1:], statement),
        (file + b"\n", statement),
        (file, json.dumps(envelope | {"payload": forged}).encode()),
        (file, json.dumps(envelope | {"payloadType": "application/json"}).encode()),
        (file, json.dumps(envelope | {"signatures": []}).encode()),
    ):
        sealed.file.write_bytes(content)
        sealed.statement.write_bytes(said)
        code, out = sealed.check()
        assert (code, out.split(":")[0]) == (4, "NOT as it was signed")
    sealed.file.write_bytes(file)
    sealed.statement.write_bytes(statement)
    assert sealed.check()[0] == 0
    sealed.file.rename(sealed.file.with_name("other.csv"))
    assert sealed.check()[0] == 4


def test_without_a_seal_or_a_file_nothing_is_signed(history: tuple[Path, Journal], tmp_path: Path) -> None:
    data = ["--data", str(history[0])]
    for arguments, code, told in (
        (["tasks", "--sign"], 2, "--sign needs --out"),
        (["tasks", "--sign", "--url", "http://127.0.0.1:1", "--out", str(tmp_path / "a")], 2, "not through --url"),
        (["tasks", "--sign", "--out", str(tmp_path / "a")], 1, "seals"),
    ):
        with CliRunner().isolation() as streams:
            assert run(["export", *arguments, *data]) == code
            assert told in streams[1].getvalue().decode()
    assert list(tmp_path.iterdir()) == []
    assert not (history[0] / "seal-key").exists()


@pytest.mark.parametrize("text", [*FILTERS, "status=pending,running", "document_id=1,2,3", "batch=a"])
def test_no_filter_makes_sqlite_sort_all_tasks_before_the_first(reader: Reader, text: str) -> None:
    with reader.source.views_apart() as views:
        conn = views._conn
        statement, values = CurrentList(conn, filters_of(text), read_counts(conn)).rows("tasks.id")
        plan = conn.execute(f"EXPLAIN QUERY PLAN {statement}", values).fetchall()
    assert "TEMP B-TREE" not in str(plan)


def test_it_is_told_how_far_an_export_is(reader: Reader) -> None:
    told: list[tuple[int, int]] = []
    with opened(reader, "log", TaskFilters()) as found:
        rows = write_rows(found, form_of("jsonl", "log", ""), io.BytesIO().write, lambda *far: told.append(far))
    assert told == [(place + 1, rows) for place in range(0, rows, 500)]
    assert len(told) > 1
