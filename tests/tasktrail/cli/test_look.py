"""list, show, history, log, stats, types: their output for people and for programs."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasktrail.actors.core.explanation import Why
from tasktrail.api.protocol import TypeInfo
from tasktrail.cli import terminal
from tasktrail.cli.queue import print_why
from tasktrail.cli.reference import option_lines
from tasktrail.cli.session import Environment, Session
from tasktrail.cli.terminal import plain
from tasktrail.events import Cancelled, Checkpoint, Created, Fact, Progressed, Started
from tasktrail.events.errors import UnknownTask
from tasktrail.events.reports import AttemptCheckpointed, AttemptEnded, AttemptProgressed
from tasktrail.events.system_events import Adjusted
from tasktrail.events.task_events import ERASED, Completed, Failed, ReadInput, Retried
from tasktrail.handlers.attempt_output import Output, PrintedWriter
from tasktrail.handlers.presets import Preset
from tasktrail.handlers.registry import Registry
from tasktrail.projections.attempts import Attempt
from tasktrail.words import duration, moment, percent, size


@pytest.fixture
def story(tasks: Any) -> int:
    """Create a task that failed once, was tried again and completed."""
    task_id: int = tasks.create_task(
        type="video_convert", input_file="/in/a film.mov", output_file="/out/b.mp4", options={"crf": 28}, max_retries=1
    )
    tasks.later(5)
    tasks.journal.record(task_id, Started(worker="w1"))
    for progress in (10.0, 20.0, 30.0):
        tasks.later()
        tasks.journal.send(AttemptProgressed(task_id=task_id, attempt=1, progress=progress, message="encoding"))
    tasks.journal.send(
        AttemptCheckpointed(task_id=task_id, attempt=1, checkpoint=Checkpoint(processed_frames=9), progress=30.0)
    )
    tasks.journal.send(
        AttemptEnded(
            task_id=task_id, attempt=1, outcome="failed", error="timeout while reading", error_type="TimeoutError"
        )
    )
    tasks.later(90)
    tasks.journal.record(task_id, Started(worker="w2", resumed=True))
    tasks.later(4000)
    tasks.journal.send(AttemptEnded(task_id=task_id, attempt=2, outcome="completed", memory_used=3 << 20, cpu_used=7.0))
    return task_id


def test_list_is_a_table_that_a_pipe_gets_uncut(cli: Callable[..., Any], tasks: Any) -> None:
    name = "x" * 300 + ".mov"
    tasks.create_task(type="video_convert", input_file=f"/in/{name}", priority=3, held=True)
    header, _line, row = cli("list").out.splitlines()
    assert header.split() == ["ID", "STATUS", "TYPE", "DONE", "INPUT", "CREATED", "PRIORITY", "MESSAGE"]
    assert row.split() == ["1", "pending", "video_convert", "0.0", "%", name, "2026-01-31", "12:00:00Z", "3", "held"]


def test_list_shows_statuses_as_they_can_be_filtered(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.create_task(type="noop", held=True)
    status = cli("list").out.splitlines()[2].split()[1]
    assert cli("list", "--status", status).out.splitlines()[2].split()[0] == "1"


def test_list_says_when_a_waiting_task_is_due(
    cli: Callable[..., Any], tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = tasks.journal.at
    tasks.create_task(type="noop", scheduled_for=at + timedelta(minutes=10))
    tasks.create_task(type="noop", scheduled_for=at - timedelta(minutes=10))
    tasks.create_task(type="noop", held=True, scheduled_for=at + timedelta(hours=5))
    tasks.create_task(type="noop", max_retries=1, retry_delay=120)
    tasks.journal.record(4, Started(worker="w"))
    tasks.journal.send(AttemptEnded(task_id=4, attempt=1, outcome="failed", error="timeout", error_type="TimeoutError"))
    assert "due 2026-01-31 12:10:00Z" in cli("list").out
    monkeypatch.setattr(terminal, "width_of", lambda _stream: 120)
    rows = {line.split()[0]: line for line in cli("list").out.splitlines()[2:]}
    assert rows["1"].endswith("due in 10 m")
    assert "due" not in rows["2"]
    assert rows["3"].endswith("held; due in 5 h")
    assert rows["4"].endswith("due in 2 m; timeout")


def test_list_as_json_is_a_task_a_line(cli: Callable[..., Any], tasks: Any) -> None:
    for number in range(3):
        tasks.create_task(type="noop", user_id=number)
    lines = [json.loads(line) for line in cli("list", "--json", "--user", "1,2", "--sort", "id").out.splitlines()]
    assert [line["id"] for line in lines] == [2, 3]
    assert lines[0].keys() == set(tasks.get_task(2).__struct_fields__)


def test_list_says_when_there_is_more_and_when_there_is_nothing(cli: Callable[..., Any], tasks: Any) -> None:
    assert cli("list").out == cli("list", "--sort", "priority", "--limit", "5").out == "There are no tasks.\n"
    assert cli("list", "--status", "failed").out == "No task passes the filters.\n"
    assert cli("list", "--user", "1", "--as-of", "0").out == "No task passes the filters as of position 0.\n"
    assert cli("list", "--as-of", "0").out == "There were no tasks as of position 0.\n"
    for _ in range(3):
        tasks.create_task(type="noop")
    assert "2 of 3" in cli("list", "--limit", "2").err
    assert cli("list", "--offset", "5").out == "All 3 are before --offset 5.\n"
    assert cli("list", "--offset", "5", "--json").out == ""


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("--status sleeping", "status"),
        ("--sort colour", "sort"),
        ("--limit 0", "limit"),
        ("--limit many", "limit"),
        ("--user me", "user_id"),
        ("--offset -1", "offset"),
    ],
)
def test_a_filter_that_is_not_allowed_is_named(cli: Callable[..., Any], line: str, field: str) -> None:
    shown = cli("list", *line.split(), "--json")
    assert shown.code == 1
    assert json.loads(shown.err)["field"] == field


@pytest.mark.parametrize("option", ["--limit", "--offset", "--sort", "--label"])
def test_an_empty_value_is_not_taken_for_an_option_that_was_left_out(
    cli: Callable[..., Any], tasks: Any, option: str
) -> None:
    tasks.create_task(type="noop")
    shown = cli("list", option, "", "--json")
    assert (shown.code, shown.out, json.loads(shown.err)["field"]) == (2, "", option.removeprefix("--"))


def test_text_of_others_cannot_steer_the_terminal(cli: Callable[..., Any], tasks: Any) -> None:
    evil = "\x1b]0;owned\x07[red]\u202egpj.exe"
    tasks.create_task(type="noop", input_file=f"/in/{evil}")
    tasks.journal.record(1, Started(worker=evil))
    tasks.journal.send(AttemptEnded(task_id=1, attempt=1, outcome="failed", error=evil))
    for line in ("list", "show 1", "history 1"):
        out = cli(*line.split()).out
        assert "[red]" in out
        assert not any(character in out for character in "\x1b\x07\u202e")


def test_show_aligns_every_field_with_its_unit(cli: Callable[..., Any], tasks: Any, story: int) -> None:
    lines = cli("show", str(story)).out.splitlines()
    pairs = {line.split(None, 1)[0]: line.split(None, 1)[1] for line in lines}
    assert pairs.keys() == set(tasks.get_task(story).__struct_fields__)
    assert len({len(line) - len(line.split(None, 1)[1]) for line in lines}) == 1
    assert pairs["duration"] == "1h 06m"
    assert pairs["memory_used"] == "3.0 MiB"
    assert pairs["created_at"] == "2026-01-31 12:00:00Z"
    assert pairs["options"] == '{"crf": 28}'
    assert pairs["held"] == "no"
    assert pairs["parent_task_id"] == "-"
    assert pairs["last_error"] == "timeout while reading"


def test_show_as_json_is_the_task(cli: Callable[..., Any], tasks: Any, story: int) -> None:
    task = json.loads(cli("show", str(story), "--json").out)
    assert task["input_file"] == "/in/a film.mov"
    assert task.keys() == set(tasks.get_task(story).__struct_fields__)


def test_show_answers_about_the_past(cli: Callable[..., Any], story: int) -> None:
    assert json.loads(cli("show", str(story), "--as-of", "3", "--json").out)["progress"] == 10.0
    at = "2026-01-31T12:00:06Z"
    told = json.loads(cli("show", str(story), "--as-of", at, "--json").out)
    assert (told["progress"], told["as_of_position"]) == (10.0, 3)
    assert [line.split() for line in cli("show", str(story), "--as-of", at).out.splitlines()[:2]] == [
        ["as_of", "2026-01-31", "12:00:06Z"],
        ["as_of_position", "3"],
    ]


def test_what_was_not_there_then_says_when_that_was(cli: Callable[..., Any], story: int) -> None:
    for command in ("show", "why"):
        shown = cli(command, str(story), "--as-of", "2026-01-31T12:59:59+01:00")
        assert (shown.code, f"Task {story} did not exist at 2026-01-31 11:59:59Z" in shown.err) == (1, True), command
        assert f"`tasktrail history {story}` shows when it was created" in shown.err
    listed = cli("list", "--as-of", "2026-01-31T12:59:59+01:00")
    assert listed.out == "There were no tasks as of 2026-01-31 11:59:59Z.\n"


def test_a_task_that_is_not_there_is_exit_code_1(cli: Callable[..., Any]) -> None:
    for line in ("show 9", "history 9"):
        shown = cli(*line.split())
        assert (shown.code, shown.out) == (1, "")
        assert "Task 9 does not exist" in shown.err


def test_history_tells_the_story_and_the_attempts(cli: Callable[..., Any], story: int) -> None:
    out = cli("history", str(story)).out
    told, _empty, attempts = out.partition("\n\n")
    assert _events(told) == ["created", "started", "checkpointed", "failed", "retried", "started", "completed"]
    assert "(and 3 before)" in told
    assert "timeout while reading" in attempts
    assert "1h 06m" in attempts
    assert "waited" in attempts.splitlines()[-1]


def test_attempts_are_a_table_or_an_object_a_line(cli: Callable[..., Any], story: int) -> None:
    told = [line.split()[:2] for line in cli("attempts", str(story)).out.splitlines()]
    assert told[0] == ["ATTEMPT", "OUTCOME"]
    objects = [json.loads(line) for line in cli("attempts", str(story), "--json").out.splitlines()]
    assert [[str(one["number"]), one["outcome"]] for one in objects] == told[2:]
    assert objects[0].keys() == set(Attempt.__struct_fields__)
    assert cli("attempts", str(story), "--as-of", "1").out == "No attempt has started.\n"


def test_history_counts_the_wait_that_still_goes_on(cli: Callable[..., Any], tasks: Any) -> None:
    task_id = tasks.create_task(type="noop", held=True)
    tasks.later(80)
    assert cli("history", str(task_id)).out.endswith("waited 1m 20s, ran 0.00 s; it still waits\n")


def test_without_a_service_a_task_that_was_cut_off_is_not_said_to_run(
    cli: Callable[..., Any], tasks: Any, environment: Any
) -> None:
    """After a kill -9, `why`, `queue` and `history` spoke as if it still ran."""
    task_id = tasks.create_task(type="noop")
    tasks.journal.record(task_id, Started(worker="w1"))
    assert "; it still runs\n" in cli("history", str(task_id)).out
    environment.running, environment.inside = None, tasks

    said = " ".join(cli("why", str(task_id)).out.split())
    assert said.startswith("task 1 is running: it is not waiting No service runs, so nothing works on it: ")
    assert " ".join(cli("queue").out.split()).endswith(
        "No service runs. 1 attempt has no recorded end; the next start goes on with it."
    )
    told = " ".join(cli("history", str(task_id)).out.split())
    assert told.endswith("; no end of the last attempt is recorded, and no service runs")


def test_show_says_nothing_about_dependencies_that_are_not_there(cli: Callable[..., Any], tasks: Any) -> None:
    """Then `wait` is recorded, and the documented default is `fail`: neither has any effect."""
    first = tasks.create_task(type="noop")
    second = tasks.create_task(type="noop", depends_on=(first,))
    told = [
        next(line.split() for line in cli("show", str(task_id)).out.splitlines() if "on_dependency_failure" in line)
        for task_id in (first, second)
    ]
    assert told == [["on_dependency_failure", "-"], ["on_dependency_failure", "fail"]]


def _events(told: str) -> list[str]:
    words = {"created", "started", "progressed", "checkpointed", "failed", "retried", "completed", "cancelled"}
    return [next(word for word in line.split() if word in words) for line in told.splitlines()[1:]]


def test_history_can_tell_every_event(cli: Callable[..., Any], tasks: Any, story: int) -> None:
    told = cli("history", str(story), "--all").out.partition("\n\n")[0]
    assert len(told.splitlines()) == 1 + len(tasks.events(story))


def test_history_tells_that_the_task_was_adjusted_and_released(cli: Callable[..., Any], tasks: Any) -> None:
    task_id = tasks.create_task(type="noop", held=True)
    cli("adjust", str(task_id), "--priority", "9")
    cli("start", str(task_id))
    _headline, created, adjusted, released, *_ = cli("history", str(task_id)).out.splitlines()
    assert "created" in created
    assert "adjusted: priority 9" in adjusted
    assert "adjusted: released" in released


def drawn_tree(cli: Callable[..., Any]) -> list[str]:
    """Return the lines, each cut before the text of its record."""
    return [line.partition(": ")[0] for line in cli("history", "1", "--tree").out.splitlines()]


def test_a_tree_sets_each_record_below_its_cause_and_branches_off_all_but_the_last(
    cli: Callable[..., Any], tasks: Any
) -> None:
    """Records made while an attempt ran stand beside the attempt, not in the middle of it."""
    began = tasks.journal.at
    facts = [
        Fact(1, 1, Created(type="noop"), began, command_id="abc", life=1),
        Fact(1, 2, Started(worker="w1"), began, attempt=1, life=1),
        Fact(1, 3, Progressed(progress=10.0), began, causation_id="event:2", attempt=1, life=1),
        Fact(0, 1, Adjusted(task_id=1, priority=9), began, command_id="def"),
        Fact(1, 4, Failed(outcome="failed", error="no", final=False), began, causation_id="event:2", attempt=1, life=1),
        Fact(1, 5, Retried(cause="rule"), began, causation_id="event:5", attempt=1, life=1),
    ]
    tasks.memory_log.append(facts, expected=0)
    assert drawn_tree(cli) == [
        "command abc",
        "└─ 1 created",
        "   2 started",
        "   ├─ 3 progressed",
        "   5 failed",
        "   6 retried",
        "command def",
        "└─ 4 adjusted",
    ]


def test_a_tree_draws_a_line_past_what_stands_below_an_elder_sibling(cli: Callable[..., Any], tasks: Any) -> None:
    began = tasks.journal.at
    facts = [
        Fact(1, 1, Created(type="noop"), began, command_id="abc", life=1),
        Fact(1, 2, Started(worker="w1"), began, command_id="abc", attempt=1, life=1),
        Fact(1, 3, Retried(cause="rule"), began, causation_id="event:2", attempt=1, life=1),
        Fact(1, 4, Cancelled(), began, causation_id="event:1", attempt=1, life=1),
    ]
    tasks.memory_log.append(facts, expected=0)
    assert drawn_tree(cli) == [
        "command abc",
        "└─ 1 created",
        "   ├─ 2 started",
        "   │  3 retried",
        "   4 cancelled",
    ]


def test_a_tree_of_many_retries_is_as_wide_as_that_of_one(cli: Callable[..., Any], tasks: Any) -> None:
    began = tasks.journal.at
    facts = [Fact(1, 1, Created(type="noop"), began, command_id="abc", life=1)]
    for number in range(1, 41):
        attempt = {"recorded_at": began, "attempt": number, "life": 1}
        last = len(facts)
        progressed, failed = Progressed(progress=10.0), Failed(outcome="failed", error="no", final=False)
        facts += [
            Fact(1, last + 1, Started(worker="w1"), **attempt),
            Fact(1, last + 2, progressed, causation_id=f"event:{last + 1}", **attempt),
            Fact(1, last + 3, failed, causation_id=f"event:{last + 1}", **attempt),
            Fact(1, last + 4, Retried(cause="rule"), causation_id=f"event:{last + 3}", **attempt),
        ]
    tasks.memory_log.append(facts, expected=0)
    drawn = drawn_tree(cli)
    assert len(drawn) == 1 + len(facts)
    assert drawn[-4:] == ["   158 started", "   ├─ 159 progressed", "   160 failed", "   161 retried"]
    assert "failed: failed" not in cli("history", "1", "--tree").out


def test_history_and_log_as_json_are_recorded_events(cli: Callable[..., Any], tasks: Any, story: int) -> None:
    history = [json.loads(line) for line in cli("history", str(story), "--json").out.splitlines()]
    log = [json.loads(line) for line in cli("log").out.splitlines()]
    assert history == log
    assert [line["position"] for line in log] == list(range(1, tasks.memory_log.head().position + 1))
    assert log[0]["event"] == "created"
    assert log[0]["data"]["type"] == "video_convert"
    assert log[0].keys() >= {"task_id", "version", "recorded_at", "actor", "reason", "command_id", "attempt", "hash"}


@pytest.mark.usefixtures("story")
def test_log_begins_after_a_position_and_ends_after_a_number(cli: Callable[..., Any]) -> None:
    lines = cli("log", "--after", "2", "--limit", "3").out.splitlines()
    assert [json.loads(line)["position"] for line in lines] == [3, 4, 5]
    assert cli("log", "--limit", "0").out == ""


def test_log_follows_what_is_yet_to_come(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.create_task(type="noop")
    tasks.script += [lambda: tasks.cancel_task(1), lambda: tasks.create_task(type="noop")]
    lines = cli("log", "--follow").out.splitlines()
    assert [json.loads(line)["event"] for line in lines] == ["created", "cancelled", "created"]
    tasks.script.append(lambda: pytest.fail("it should have ended"))
    assert len(cli("log", "--follow", "--limit", "2").out.splitlines()) == 2


@pytest.mark.parametrize("event", ["", "created,", "creatd"])
def test_an_event_that_there_is_not_is_refused_and_none_is_not_all(cli: Callable[..., Any], event: str) -> None:
    """An unset variable printed the whole log."""
    told = cli("log", "--event", event)
    assert (told.code, told.out) == (1, "")
    assert "there is no event" in told.err
    assert "The events are adjusted, cancelled," in told.err


@pytest.mark.usefixtures("story")
def test_stats_for_people_and_programs(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.create_task(type="noop")
    out = cli("stats").out
    assert "completed  1\n" in out
    assert "video_convert" in out
    assert out.endswith("each figure may be up to 10 % too high\n")
    stats = json.loads(cli("stats", "--json").out)
    assert (stats["total"], stats["counts"]["completed"], stats["counts"]["pending"]) == (2, 1, 1)


def test_types_are_listed_or_picked(cli: Callable[..., Any]) -> None:
    assert cli("types").out == "noop  (begins anew after a crash)\n  Do nothing.\n"
    assert json.loads(cli("types", "noop", "--json").out)["name"] == "noop"
    assert cli("types", "nope").code == 1


def test_the_options_of_the_built_in_types_read_well() -> None:
    for task_type in Registry.load():
        lines = dict(option_lines(msgspec.json.schema(task_type.options)))
        assert lines.keys() == set(task_type.options.__struct_fields__)
        assert all("{'" not in text for text in lines.values())


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ({"type": "integer"}, "integer"),
        ({"type": "integer", "minimum": 1}, "integer, from 1"),
        ({"type": "number", "exclusiveMinimum": 0}, "number, above 0"),
        ({"type": "integer", "maximum": 9}, "integer, up to 9"),
        ({"type": "integer", "minimum": 1, "maximum": 9, "default": 3}, "integer, 1 to 9; default 3"),
        ({"enum": ["a", "b"], "default": "a"}, "a | b; default a"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}, "string"),
        ({"type": "array", "items": {"type": "string"}}, "list of string"),
        ({"const": 1}, "1"),
        ({"$ref": "#/$defs/Other"}, "string"),
        ({"type": "string", "default": ""}, 'string; default ""'),
        ({"type": "boolean", "description": "Why."}, "boolean. Why."),
        ({}, "any JSON"),
    ],
)
def test_a_schema_in_words(option: dict[str, Any], text: str) -> None:
    schema = {"properties": {"name": option}, "$defs": {"Other": {"type": "string"}}}
    assert list(option_lines(schema)) == [("name", text)]


def test_an_option_without_a_default_is_needed() -> None:
    schema = {"properties": {"name": {"type": "string"}}, "required": ["name"]}
    assert list(option_lines(schema)) == [("name", "string; needed")]


def test_values_in_words() -> None:
    spans = (0.0, 0.127, 12.34, 59.96, 60, 245, 3600 * 3.5, 3600 * 52)
    assert [duration(span) for span in spans] == [
        "0.00 s",
        "0.13 s",
        "12.3 s",
        "60.0 s",
        "1m 00s",
        "4m 05s",
        "3h 30m",
        "2d 4h",
    ]
    assert [size(count) for count in (0, 1023, 1024, 1536 << 10, 5 << 30, 3 << 40)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 MiB",
        "5.0 GiB",
        "3.0 TiB",
    ]
    assert (percent(0), percent(99.96), percent(100)) == ("0.0 %", "99.9 %", "100 %")
    assert moment(None) == ""
    assert moment(datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)) == "2026-01-02 03:04:05Z"
    assert plain("schön [x]\n") == "schön [x]\\n"


def printed(tasks: Any, folder: Path, task_id: int, attempt: int, text: bytes) -> None:
    tasks.printed = folder
    writer = PrintedWriter(folder, task_id, attempt, 4000)
    writer.write(text)
    writer.close()


def test_output_prints_what_the_latest_attempt_or_another_has_printed(
    cli: Callable[..., Any], tasks: Any, story: int, tmp_path: Path
) -> None:
    printed(tasks, tmp_path, story, 1, b"first\n\x1b[31mred\x07\n")
    printed(tasks, tmp_path, story, 2, b"second")
    assert cli("output", str(story)).out == "second\n"
    assert cli("output", str(story), "--attempt", "1").out == "first\nred\\x07\n"
    answer = json.loads(cli("output", str(story), "--json").out)
    assert (answer["text"], answer["attempt"], answer["attempts"]) == ("second", 2, [1, 2])


def test_types_of_a_service_that_may_be_anybodys_steer_no_terminal(
    cli: Callable[..., Any], environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = TypeInfo(
        name="a\x07",
        summary="b\x07",
        resumable=False,
        needs_input=False,
        needs_output=False,
        options={"properties": {"c\x07": {"type": "d\x07"}}},
        presets=(Preset(name="e\x07", type="a", summary="f\x07"),),
        missing=("g\x07",),
        install="h\x07",
    )
    monkeypatch.setattr(environment, "types", lambda _session: ([info], []))
    out = cli("types").out
    assert "\x07" not in out
    assert out.count("\\x07") == 8


def test_output_of_a_service_that_lets_everything_through_steers_no_terminal(
    cli: Callable[..., Any], tasks: Any, story: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "first\n\x1b]0;owned\x07\tred\x9b2J\u202e\n"
    told = Output(task_id=story, attempt=1, attempts=(1,), text=text, size=len(text), next=len(text))
    monkeypatch.setattr(type(tasks), "output", lambda *_given, **_more: told)
    assert cli("output", str(story)).out == "first\n\tred\\x9b2J\\u202e\n"


def test_output_says_when_there_is_nothing(cli: Callable[..., Any], tasks: Any, story: int) -> None:
    result = cli("output", str(story))
    assert (result.code, result.out, result.err) == (0, "", f"task {story} has printed nothing\n")
    waiting = tasks.create_task(type="noop")
    assert cli("output", str(waiting)).err == f"task {waiting} has printed nothing yet\n"
    erased = tasks.journal.create("noop", input_file=ERASED)
    tasks.journal.start(erased)
    tasks.journal.record(erased, Completed())
    assert cli("output", str(erased)).err == f"the output of task {erased}, if any, was erased\n"


def test_output_that_is_followed_goes_on_until_the_attempt_has_ended(
    cli: Callable[..., Any], tasks: Any, tmp_path: Path
) -> None:
    task_id = tasks.create_task(type="noop")
    tasks.journal.record(task_id, Started(worker="w1"))
    tasks.printed = tmp_path
    writer = PrintedWriter(tmp_path, task_id, 1, 4000)
    writer.write("half a €".encode()[:-1])

    def more() -> None:
        writer.write("€".encode()[-1:] + b" and a half\n")

    def end() -> None:
        writer.write(b"the end")
        tasks.journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="completed"))

    tasks.script.extend((more, end))
    assert cli("output", str(task_id), "--follow").out == "half a € and a half\nthe end\n"


def test_show_and_history_end_with_the_last_lines_of_a_failed_attempt(
    cli: Callable[..., Any], tasks: Any, tmp_path: Path
) -> None:
    task_id = tasks.create_task(type="noop", max_retries=0)
    tasks.journal.record(task_id, Started(worker="w1"))
    tasks.journal.send(
        AttemptEnded(task_id=task_id, attempt=1, outcome="failed", error="no luck", error_type="ValueError")
    )
    assert "printed" not in cli("show", str(task_id)).out
    printed(tasks, tmp_path, task_id, 1, b"".join(b"line %d\n\n" % number for number in range(9)))
    for command in ("show", "history"):
        *_, head, first, _2, _3, _4, last = cli(command, str(task_id)).out.splitlines()
        assert head == f"attempt 1 printed 72 B (tasktrail output {task_id} --attempt 1), at the end:"
        assert (first, last) == ("  line 4", "  line 8")
    assert "printed" not in cli("show", str(task_id), "--json").out


def test_on_a_terminal_show_leaves_out_what_says_nothing(
    cli: Callable[..., Any], tasks: Any, story: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = {line.split()[0] for line in cli("show", str(story)).out.splitlines()}
    monkeypatch.setattr(terminal, "width_of", lambda _stream: 80)
    shown = {line.split()[0] for line in cli("show", str(story)).out.splitlines()}
    assert {"id", "type", "status", "input_file", "options", "duration", "last_error", "retry_count"} <= shown
    assert not {"timeout", "held", "label", "parent_task_id", "estimate", "priority_terms", "version"} & shown
    assert every <= {line.split()[0] for line in cli("show", str(story), "--wide").out.splitlines()}
    waiting = tasks.create_task(type="noop", priority=4)
    tasks.later(60)
    assert "effective_priority" in cli("show", str(waiting)).out


def test_show_says_in_words_what_was_read_and_what_is_waited_for(cli: Callable[..., Any], tasks: Any) -> None:
    """Nobody reads nanoseconds since 1970, or lists with brackets and quotes."""
    first, second = (tasks.create_task(type="noop", input_file="/in/a") for _ in range(2))
    waiting = tasks.create_task(type="noop", depends_on=(first, second), notify_on=("failed", "retried"))
    tasks.journal.record(first, Started(worker="w1"))
    read = ReadInput(size=134177, modified=1795971623619780522, sha256="d1bf")
    tasks.journal.send(AttemptEnded(task_id=first, attempt=1, outcome="completed", input_read=read))
    shown = " ".join(cli("show", str(first)).out.split())
    assert "input_read 131.0 KiB, modified 2026-11-29 17:00:23Z, sha256 d1bf" in shown
    shown = " ".join(cli("show", str(waiting)).out.split())
    assert f"depends_on {first}, {second} " in shown
    assert "notify_on failed, retried " in shown


def test_why_keeps_an_error_of_several_lines_together(capsys: pytest.CaptureFixture[str]) -> None:
    why = Why(task_id=1, status="failed", waiting=False, live=True, remark="It ended: no luck\nat all")
    print_why(why, Session(environment=Environment(), data=Path("here")))
    assert capsys.readouterr().out.endswith("\nIt ended: no luck\\nat all\n")


ODD = "A\x9b31mRED\x9d0;x\x07\u202eevil\x85\u2028\x7f\U000e0001é"
"""Characters that could control a terminal: C1, bidirectional and others; the last one is a letter."""


COMMANDS = [("log",), ("--json", "show", "1"), ("--json", "history", "1"), ("--json", "list")]


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.usefixtures("on_a_terminal")
def test_json_steers_no_terminal_and_says_the_same(
    cli: Callable[..., Any], tasks: Any, command: tuple[str, ...]
) -> None:
    """A log may contain such texts, however they came in; a handler's error can be anything."""
    tasks.create_task(type="noop", options={"text": ODD})

    told = cli(*command).out

    assert all(line.isprintable() for line in told.split("\n"))
    assert "é" in told
    assert any(ODD in texts(json.loads(line)) for line in told.split("\n") if line)


def texts(value: Any) -> list[str]:
    """Return all texts in a JSON value."""
    if isinstance(value, dict | list):
        return [text for one in (value.values() if isinstance(value, dict) else value) for text in texts(one)]
    return [value] if isinstance(value, str) else []


def test_json_for_a_pipe_is_as_it_is(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.create_task(type="noop", options={"text": ODD})
    assert "\x9b31m" in cli("log").out


@pytest.mark.usefixtures("on_a_terminal")
def test_problems_in_json_steer_no_terminal_either(
    cli: Callable[..., Any], tasks: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **_more: Any) -> None:
        raise UnknownTask(ODD)

    monkeypatch.setattr(tasks, "get_task", refuse)
    told = cli("--json", "show", "1").err
    assert ODD in texts(json.loads(told))
    assert told.rstrip("\n").isprintable()


def test_of_an_earlier_moment_it_is_told_what_was_due_later(cli: Callable[..., Any], tasks: Any) -> None:
    then = tasks.journal.at
    tasks.create_task(type="noop", scheduled_for=then + timedelta(hours=1))
    tasks.later(7200)
    assert "due " not in cli("list").out
    assert "due 2026-01-31 13:00:00Z" in cli("list", "--as-of", then.isoformat()).out


def test_of_an_earlier_moment_whole_times_are_told_on_a_terminal(
    cli: Callable[..., Any], story: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An age would be relative to now."""
    monkeypatch.setattr(terminal, "width_of", lambda _stream: 200)
    for line in (("list",), ("attempts", str(story))):
        assert " ago" in cli(*line).out
        shown = cli(*line, "--as-of", "2026-01-31T12:00:06Z").out
        assert "2026-01-31 12:00:0" in shown
        assert " ago" not in shown
