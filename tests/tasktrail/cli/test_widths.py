"""Output for people fits their terminal: nothing is cut, no word is broken, and text to be typed again stays whole."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from recorded_world import World
from rich.cells import cell_len

from tasktrail.actors.core.recorded_nodes import NodeDrain
from tasktrail.cli import terminal
from tasktrail.cli.session import Environment
from tasktrail.cli.terminal import Column, folded, table, wrapped
from tasktrail.events import Checkpoint, Started
from tasktrail.events.clock import SystemClock
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.reports import AttemptCheckpointed, AttemptEnded, AttemptProgressed
from tasktrail.events.system_events import DeliveryAttempted, EndpointEnabled

WIDTHS = (60, 80, 120, 200)
NAME = "Aufzeichnung der Sitzung vom 3. März 2026, zweiter Teil (Rohschnitt).mov"
ERROR = (
    "the encoder stopped at frame 18432 of 90000 because the picture before it refers to a frame that is not there; "
    "the file may have been cut by the program that copied it"
)
HOOK = "https://notices.example.org/hooks/tasktrail/receive?customer=4711"


@pytest.fixture(params=WIDTHS)
def width(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """The terminal that standard output and standard error are on."""
    monkeypatch.setattr(terminal, "width_of", lambda _stream: request.param)
    return int(request.param)


def lines_of(shown: Any, width: int) -> list[str]:
    """Return the output's lines, which fit, except for single words longer than the screen."""
    lines: list[str] = (shown.out + shown.err).splitlines()
    assert lines
    assert [line for line in lines if cell_len(line) > width and len(line.split()) > 1] == []
    assert "…" not in shown.out
    return lines


def words_of(shown: Any) -> set[str]:
    return set((shown.out + shown.err).split())


@pytest.fixture
def busy(tasks: Any) -> dict[str, str]:
    """Create tasks of every status with long names and texts; return the parts that a user may type again."""
    common = {"type": "video_thumbnail", "input_file": f"/in/{NAME}", "notify_webhook": HOOK}
    running, failed, held, waiting = (
        tasks.create_task(**common, output_file=f"/out/{number}.jpg", held=number == 2, user_id=4711, priority=7)
        for number in range(4)
    )
    for task_id in (running, failed):
        tasks.later(3700)
        tasks.journal.record(task_id, Started(worker="w1"))
        tasks.later(3)
        tasks.journal.send(AttemptProgressed(task_id=task_id, attempt=1, progress=37.5, message=ERROR))
        point = Checkpoint(processed_frames=9)
        tasks.journal.send(AttemptCheckpointed(task_id=task_id, attempt=1, checkpoint=point, progress=37.5))
    tasks.later(90)
    tasks.journal.send(
        AttemptEnded(task_id=failed, attempt=1, outcome="failed", error=ERROR, memory_used=3 << 30, cpu_used=7.0)
    )
    (notice,) = [one for one in tasks.notices(failed) if one.event == "failed"]
    outcome: dict[str, Any] = {"ok": False, "final": True, "disabled": True, "detail": ERROR, "target": HOOK}
    event = DeliveryAttempted(notice_id=notice.notice_id, task_id=failed, channel="webhook", **outcome)
    tasks.journal.record(0, event)
    tasks.later(3 * 86400)
    return {"notice": notice.notice_id, "running": str(running), "held": str(held), "waiting": str(waiting)}


def schedule(cli: Callable[..., Any], name: str) -> None:
    times = ("--cron", "30 2 * * 1-5", "--timezone", "America/Argentina/Buenos_Aires")
    assert cli("schedule", "add", name, "video_thumbnail", "/in/a.mov", "/out/{fire_time}.jpg", *times).code == 0


@pytest.mark.usefixtures("busy")
def test_list_shows_id_status_and_the_name_of_the_input(cli: Callable[..., Any], width: int) -> None:
    shown = cli("list", "--sort", "id")
    rows = [line for line in lines_of(shown, width) if re.match(r" *\d+ ", line)]
    assert [row.split()[:3] for row in rows] == [
        ["1", "running", "video_thumbnail"],
        ["2", "failed", "video_thumbnail"],
        ["3", "pending", "video_thumbnail"],
        ["4", "pending", "video_thumbnail"],
    ]
    column = lines_of(shown, width)[0].index("INPUT")
    folded_name = "".join(line[column:].partition("  ")[0] for line in lines_of(shown, width)[2:])
    assert NAME.replace(" ", "") in folded_name.replace(" ", "")
    assert words_of(shown) >= set(ERROR.split())
    if width >= 120:
        assert "3 d ago" in shown.out


@pytest.mark.parametrize("line", ["list", "schedule list", "source list", "token list"])
def test_that_there_is_nothing_fits_too(cli: Callable[..., Any], width: int, line: str) -> None:
    shown = cli(*line.split())
    assert shown.code == 0, shown.err
    lines_of(shown, width)


@pytest.mark.parametrize("line", ["list", "queue", "top --once", "stats", "why 4", "history 2 --all"])
@pytest.mark.usefixtures("busy")
def test_what_stands_in_a_table_is_what_a_wide_one_says(
    cli: Callable[..., Any], width: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = cli(*line.split())
    lines_of(shown, width)
    monkeypatch.setattr(terminal, "width_of", lambda _stream: 10_000)
    whole = {word.lower().strip(":·") for word in words_of(cli(*line.split()))} | {"·", "─", ""}
    pieces = {word.lower().strip(":·") for word in words_of(shown) if not set(word) <= {"─"}}
    name = NAME.lower().replace(" ", "")
    assert {piece for piece in pieces - whole if piece not in name} == set()
    assert {"video_thumbnail", "effective"} & pieces


def test_the_queue_shows_which_task_is_next(cli: Callable[..., Any], width: int, busy: dict[str, str]) -> None:
    shown = cli("queue")
    lines_of(shown, width)
    (row,) = [line.split() for line in shown.out.splitlines() if "video_thumbnail" in line]
    assert row[:3] == ["1", busy["waiting"], "video_thumbnail"]
    assert set(NAME.split()) <= words_of(shown)
    assert set(NAME.split()) <= words_of(cli("top", "--once"))


def test_notices_and_endpoints_show_what_redeliver_and_enable_take(
    cli: Callable[..., Any], width: int, busy: dict[str, str]
) -> None:
    shown = cli("notices", "2")
    lines_of(shown, width)
    assert words_of(shown) >= {busy["notice"], HOOK, "disabled", *ERROR.split()}
    shown = cli("endpoints")
    lines_of(shown, width)
    assert words_of(shown) >= {HOOK, *ERROR.split()}


def test_schedules_show_the_name_that_remove_takes(cli: Callable[..., Any], width: int) -> None:
    names = ("nightly-thumbnails-of-the-archive", "thumbs")
    for name in names:
        schedule(cli, name)
    shown = cli("schedule", "list")
    lines_of(shown, width)
    assert words_of(shown) >= {*names, "video_thumbnail", "(America/Argentina/Buenos_Aires)", "in"}


def test_nodes_fit_with_all_that_each_has(
    cli: Callable[..., Any], tasks: Any, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (local,) = tasks.nodes()
    has = {"memory": 2**38, "memory_free": 2**37, "temp": 2**40, "temp_free": 2**39, "cpu_percent": 100.0, "gpus": 8.0}
    gpu = replace(
        local, node="gpu-1.rechenzentrum.example", **has, labels={"zone": "keller"}, last_seen=tasks.journal.at
    )
    monkeypatch.setattr(tasks, "nodes", lambda **_asked: (gpu,))
    shown = cli("nodes")
    lines_of(shown, width)
    assert words_of(shown) >= {gpu.node, "ready", "256.0", "512.0", "zone=keller"}
    drain = NodeDrain(since=tasks.journal.at, actor="me", reason=ERROR, position=1)
    monkeypatch.setattr(tasks, "nodes", lambda **_asked: (replace(gpu, state="draining", drain=drain),))
    shown = cli("nodes")
    lines_of(shown, width)
    assert words_of(shown) >= {gpu.node, "draining:", *ERROR.split()}


def test_the_history_has_short_times_on_a_terminal_and_whole_ones_when_asked(
    cli: Callable[..., Any], width: int, busy: dict[str, str]
) -> None:
    shown = cli("history", "2")
    lines_of(shown, width)
    assert "3 d ago" in shown.out
    assert words_of(shown) >= {"created", "started", "failed", *ERROR.split()}
    wide = cli("history", "2", "--wide").out
    assert "3 d ago" not in wide
    assert "2026-01-31 12:00:00Z" in wide
    assert busy


def test_limits_and_their_pauses_wrap(cli: Callable[..., Any], width: int) -> None:
    cli("pause", "--type", "video_thumbnail", "--reason", ERROR)
    cli("limits", *(word for number in range(9) for word in ("--type", f"video_thumbnail_{number}=3")))
    shown = cli("limits")
    lines_of(shown, width)
    assert words_of(shown) >= {"video_thumbnail", "max_concurrent", *ERROR.split()}
    assert "video_thumbnail_8=3" in shown.out


@pytest.mark.usefixtures("busy")
def test_one_task_is_shown_field_by_field(cli: Callable[..., Any], width: int) -> None:
    shown = cli("show", "2")
    lines_of(shown, width)
    assert words_of(shown) >= {"2", "failed", "video_thumbnail", *ERROR.split()}


def test_what_came_of_a_task_has_a_line_for_each_thing(cli: Callable[..., Any], tasks: Any, width: int) -> None:
    task_id = tasks.create_task(type="noop")
    tasks.journal.record(task_id, Started(worker="w1"))
    tasks.journal.send(AttemptCheckpointed(task_id=task_id, attempt=1, checkpoint=Checkpoint(processed_frames=77123)))
    assert "77123" in cli("show", str(task_id)).out
    result = {"frames": 90000, "codec": "h264", "notes": [ERROR], "audio_tracks": 0, "subtitles": []}
    tasks.journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="completed", result=result))
    lines = lines_of(cli("show", str(task_id)), width)
    begin = lines.index("result")
    assert [line.split()[:2] for line in lines[begin + 1 : begin + 4]] == [
        ["audio_tracks", "0"],
        ["codec", "h264"],
        ["frames", "90000"],
    ]
    assert lines[begin + 4].startswith("  notes ")
    assert {"subtitles", "checkpoint", "77123"}.isdisjoint(" ".join(lines).split())


def test_a_zero_in_the_result_is_shown(cli: Callable[..., Any], tasks: Any, width: int) -> None:
    """A user's function returns `{"value": 0}`, and the user asked for that 0."""
    results: tuple[dict[str, Any], ...] = ({"value": 0, "left": 0.0, "ok": False}, {"value": ""})
    for task_id, result in enumerate(results, 1):
        tasks.create_task(type="noop")
        tasks.journal.record(task_id, Started(worker="w1"))
        tasks.journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="completed", result=result))
    lines = lines_of(cli("show", "1"), width)
    begin = lines.index("result")
    assert [line.split() for line in lines[begin + 1 : begin + 4]] == [["left", "0"], ["ok", "no"], ["value", "0"]]
    assert "result" not in lines_of(cli("show", "2"), width)


def test_types_and_their_options_wrap(cli: Callable[..., Any], width: int, environment: Any, tmp_path: Path) -> None:
    environment.running = None
    shown = cli("types", "--data", str(tmp_path))
    lines_of(shown, width)
    assert words_of(shown) >= {"video_thumbnail", "document_preview", "width"}


def test_the_doctor_and_verify_and_backup_fit(
    cli: Callable[..., Any], width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shown = cli("doctor", "--data", "data")
    lines_of(shown, width)
    assert {"ok", "warn", "FAIL"} & words_of(shown)


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """A data folder with a log, and no service."""
    world = World(slots=2, max_concurrent=2, length=lambda _run: 60.0)
    for number in range(8):
        world.create(type=("video_thumbnail", "document_preview")[number % 2])
    world.settle()
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "tasktrail.toml").write_text("workers = 2\n")
    log = SqliteEventLog(folder / "log.db", now=SystemClock().now())
    log.append(world.records, expected=0)
    log.close()
    return folder


class TestOnFiles:
    """Commands that read the files of a data folder."""

    @pytest.fixture
    def environment(self) -> Environment:
        return Environment()

    @pytest.mark.parametrize("line", ["whatif --max-concurrent 4 --workers 4", "verify", "list", "queue", "stats"])
    def test_they_fit_the_terminal(self, cli: Callable[..., Any], width: int, recorded: Path, line: str) -> None:
        shown = cli(*line.split(), "--data", str(recorded))
        assert shown.code == 0
        lines_of(shown, width)

    def test_whatif_names_the_tasks_that_move(self, cli: Callable[..., Any], width: int, recorded: Path) -> None:
        shown = cli("whatif", "--max-concurrent", "4", "--workers", "4", "--data", str(recorded))
        moving = [line.split() for line in shown.out.splitlines() if re.match(r" *\d+ .*(thumb|prev)", line)]
        assert sorted(int(row[0]) for row in moving) == list(range(3, 9))
        assert {"recorded", "replayed", "asked", "video_thumbnail", "document_preview"} <= words_of(shown)
        lines_of(shown, width)

    def test_a_backup_and_its_restore(self, cli: Callable[..., Any], width: int, recorded: Path) -> None:
        copy = recorded.parent / "copy.db"
        shown = cli("backup", str(copy), "--data", str(recorded))
        assert str(copy) in shown.out
        lines_of(shown, width)
        lines_of(cli("backup", str(recorded.parent), "--base", str(copy), "--data", str(recorded)), width)
        lines_of(cli("restore", str(copy), "--data", str(recorded), "--dry-run"), width)


def test_an_endpoint_that_was_enabled_again_is_told_of(cli: Callable[..., Any], width: int, tasks: Any) -> None:
    tasks.journal.record(0, EndpointEnabled(target=HOOK))
    lines_of(cli("endpoints"), width)


@pytest.mark.parametrize("line", ["show 12345", "frobnicate", "list --sort colour", "submit", "limits --type x=0"])
def test_errors_wrap_between_words(
    cli: Callable[..., Any], width: int, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = cli(*line.split())
    assert shown.code
    lines_of(shown, width)
    monkeypatch.setattr(terminal, "width_of", lambda _stream: None)
    assert words_of(shown) == words_of(cli(*line.split()))


def test_a_command_between_backticks_is_not_broken() -> None:
    lines = wrapped("Nobody answers. Start one with `tasktrail serve --port 80`, or `a b` it.", 36)
    assert lines == ["Nobody answers. Start one with", "`tasktrail serve --port 80`, or", "`a b` it."]


_TEXT = st.text(st.sampled_from("ab ─ü漢字-/"), max_size=60).map(str.strip)


@given(text=_TEXT, width=st.integers(8, 90))
def test_wrapping_loses_nothing_and_breaks_no_word(text: str, width: int) -> None:
    lines = wrapped(text, width)
    assert [word for line in lines for word in line.split()] == text.split()
    assert all(cell_len(line) <= width or " " not in line for line in lines)
    pieces = folded(text, width)
    assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
    assert all(cell_len(piece) <= width for piece in pieces)


@given(
    rows=st.lists(st.tuples(st.integers(1, 10**15).map(str), _TEXT, _TEXT, _TEXT), min_size=1, max_size=4),
    width=st.integers(30, 200),
)
def test_a_table_keeps_its_keys_and_loses_no_text(rows: list[tuple[str, str, str, str]], width: int) -> None:
    columns = (
        Column("ID", right=True),
        Column("NAME", "name"),
        Column("COUNT", leaves=1),
        Column("MESSAGE", "text", leaves=2),
    )
    numbered = [(key, name, str(len(name)), text) for key, name, text, _rest in rows]
    lines = list(table(columns, numbered, width))
    shown = "\n".join(lines)
    assert [line for line in lines if cell_len(line) > width and len(line.split()) > 2] == []
    for key, _name, count, text in numbered:
        assert key in shown.split()
        assert count in shown.split()
        assert [word for word in text.split() if word.replace("─", "") not in shown.replace("─", "")] == [] or any(
            cell_len(word) > 20 for word in text.split()
        )
