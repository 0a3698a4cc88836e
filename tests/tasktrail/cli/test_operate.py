"""The commands of operators, and the questions about the queue, on the command line."""

import json
import shlex
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from msgspec.structs import replace

from tasktrail.actors.core.board import LimitsBoard, QueueBoard
from tasktrail.actors.core.limits import BYTE_LIMITS, Limits, Pause
from tasktrail.cli.operate import limit_pairs
from tasktrail.cli.queue import as_line, ask, ask_again, screen, summary
from tasktrail.cli.session import Environment, Session
from tasktrail.cli.terminal import TerminalLayout
from tasktrail.events import AdjustTask, CreateTask, Fact, RetryTask, Started, StartTask
from tasktrail.events.commands import (
    AddSchedule,
    DrainNode,
    DrainQueue,
    PauseQueue,
    RemoveSchedule,
    ResumeQueue,
    SetLimits,
)
from tasktrail.events.errors import ServiceUnreachable
from tasktrail.events.reports import AttemptEnded
from tasktrail.events.system_events import LimitsChanged, QueueDrained, ServiceStopped
from tasktrail.events.task_events import Completed
from tasktrail.words import rate

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("pause --reason why --actor me", PauseQueue(reason="why", actor="me")),
        ("pause --type noop --actor me", PauseQueue(type="noop", actor="me")),
        ("drain --actor me", DrainQueue(actor="me")),
        ("nodes drain local --reason why --actor me", DrainNode(node="local", reason="why", actor="me")),
        ("limits --max-memory 1GiB --actor me", SetLimits(max_memory=2**30, actor="me")),
        (
            "limits --type noop=2 --user 7=none --no-fair-share --actor me",
            SetLimits(types={"noop": 2}, users={"7": None}, fair_share=False, actor="me"),
        ),
        (
            "schedule add hourly noop --every 1h --retry-delay 90 --timeout 2.5m --actor me",
            AddSchedule(
                schedule="hourly",
                task=CreateTask(type="noop", retry_delay=90.0, timeout=150.0),
                every=3600.0,
                actor="me",
            ),
        ),
        (
            "schedule add nightly noop --every 60 --priority 4 --actor me",
            AddSchedule(schedule="nightly", task=CreateTask(type="noop", priority=4), every=60.0, actor="me"),
        ),
    ],
)
def test_a_line_becomes_a_command(cli: Cli, tasks: Any, line: str, command: Any) -> None:
    shown = cli(*line.split())
    assert (shown.code, tasks.sent[-1]) == (0, command)
    assert "accepted at position" in shown.out


def test_a_pause_is_undone_by_resume(cli: Cli, tasks: Any) -> None:
    cli("pause", "--user-id", "7")
    assert cli("resume", "--user-id", "7", "--actor", "me").code == 0
    assert tasks.sent[-1] == ResumeQueue(user_id=7, actor="me")
    shown = cli("resume", "--user-id", "7", "--json")
    assert shown.code == 1
    assert json.loads(shown.err)["code"] == "nothing_to_change"


def test_nodes_are_listed_drained_and_undrained(cli: Cli) -> None:
    (here,) = map(json.loads, cli("nodes", "--json").out.splitlines())
    assert (here["node"], here["state"]) == ("local", "ready")
    assert cli("nodes", "drain", "local", "--reason", "new disk").code == 0
    again = cli("nodes", "drain", "local", "--json")
    assert (again.code, json.loads(again.err)["code"]) == (1, "nothing_to_change")
    shown = cli("nodes").out
    assert "NODE" in shown
    assert "drained: new disk" in shown
    unknown = cli("nodes", "drain", "locl", "--json")
    assert unknown.code != 0
    assert "There is no node locl. There are: local" in unknown.err
    assert cli("nodes", "undrain", "local").code == 0
    assert json.loads(cli("nodes", "--json").out)["state"] == "ready"


def test_a_task_is_adjusted(cli: Cli, tasks: Any) -> None:
    task_id = tasks.create_task(type="noop")
    shown = cli("adjust", str(task_id), "--priority", "9", "--hold", "--actor", "me", "--json")
    assert json.loads(shown.out)["task_id"] == task_id
    assert tasks.sent[-1] == AdjustTask(task_id=task_id, priority=9, held=True, actor="me")


@pytest.mark.parametrize(
    "line",
    [
        "adjust 1 --priority 11",
        "adjust 1 --hold --release",
        "limits --type noop",
        "limits --type noop=0",
        "limits --max-memory much",
        "limits --user bob=2",
        "schedule add often noop --every 60 --depends-on 1",
        "schedule add often noop --every 60 --deadline 2099-01-01T00:00:00Z",
    ],
)
def test_a_value_that_makes_no_sense_is_a_usage_error(cli: Cli, line: str) -> None:
    assert cli(*line.split()).code == 2


def test_limits_shows_what_holds_and_who_has_paused_what(cli: Cli) -> None:
    cli("limits", "--max-concurrent", "3", "--type", "noop=1")
    cli("pause", "--type", "noop", "--reason", "repair", "--actor", "ops")
    cli("limits", "--rate", "type:noop=10/m", "--rate", "user:*=100/h")
    shown = " ".join(cli("limits").out.split())
    assert "max_concurrent 3 (changed)" in shown
    assert "types noop=1 (changed)" in shown
    assert "rates type:noop=10/m, user:*=100/h (changed)" in shown
    assert "max_memory no limit" in shown
    assert "max_cpu 100 %" in shown
    assert "max_task_temp three times the estimate, at least 1 GiB" in shown
    assert "type noop since" in shown
    assert "by ops: repair" in shown
    answer = json.loads(cli("limits", "--json").out)
    assert (answer["limits"]["max_concurrent"], answer["changes"]["types"]) == (3, {"noop": 1})


@pytest.mark.parametrize("name", sorted(BYTE_LIMITS))
def test_limits_shows_bytes_in_their_unit(name: str) -> None:
    board = LimitsBoard(limits=replace(Limits(), **{name: 20 * 2**30}), changes=LimitsChanged(), pauses=(), position=0)
    assert dict(limit_pairs(board))[name] == "20.0 GiB"


@pytest.mark.parametrize("what", ["schedule", "token"])
def test_an_empty_list_says_how_to_add_something(cli: Cli, what: str) -> None:
    assert cli(what, "list").out == f"There is no {what}. `tasktrail {what} add --help` tells how to add one.\n"
    assert cli(what, "list", "--json").out == ""


def test_a_schedule_says_in_words_how_often_it_makes_tasks(cli: Cli) -> None:
    cli("schedule", "add", "seldom", "noop", "--every", "1234567")
    assert "every 14d 6h" in cli("schedule", "list").out


def test_schedules_are_listed_and_removed(cli: Cli, tasks: Any) -> None:
    cli("schedule", "add", "nightly", "noop", "--cron", "30 2 * * *", "--timezone", "Europe/Berlin", "--actor", "ops")
    shown = cli("schedule", "list").out
    assert "30 2 * * * (Europe/Berlin)" in shown
    assert "nightly" in shown
    assert json.loads(cli("schedule", "list", "--json").out)["next_at"].endswith(":30:00Z")
    cli("schedule", "remove", "nightly", "--actor", "me")
    assert tasks.sent[-1] == RemoveSchedule(schedule="nightly", actor="me")
    assert cli("schedule", "remove", "nightly").code == 1


def test_why_tells_the_reasons_their_evidence_and_that_no_service_runs(cli: Cli, tasks: Any) -> None:
    first = tasks.create_task(type="noop", held=True)
    second = tasks.create_task(type="noop", depends_on=(first,))
    cli("pause", "--actor", "ops")
    shown = cli("why", str(second)).out
    assert f"task {second} is pending, effective priority 0.0 = 0 base + 0.0 wait" in shown
    assert "Paused: everything is paused by ops" in shown
    assert "lifted by: the end of the pause\n      tasktrail resume\n" in shown
    assert "evidence: position 3" in shown
    assert f"Dependency: waits for task {first}" in shown
    assert "No service runs." in shown
    third = tasks.create_task(type="noop", depends_on=(first, second))
    shown = cli("why", str(third)).out
    assert f"Dependency: waits for tasks {first}, {second}\n    lifted by: tasks {first}, {second} completed" in shown
    assert "evidence: positions 1, 2" in shown
    answer = json.loads(cli("why", str(second), "--json").out)
    assert [one["reason"] for one in answer["reasons"]] == ["Paused", "Dependency"]
    assert [one["evidence"] for one in answer["reasons"]] == [[3], [1]]
    assert answer["reasons"][0]["commands"] == [{"command": "resume_queue"}]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        (ResumeQueue(type="two words"), "resume --type 'two words'"),
        (ResumeQueue(user_id=0), "resume --user-id 0"),
        (SetLimits(max_concurrent=3), "limits --max-concurrent 3"),
        (SetLimits(max_memory=2**40 + 1), "limits --max-memory 1099511627777"),
        (SetLimits(max_cpu=100.0), "limits --max-cpu 100"),
        (SetLimits(types={"a=b": 2}), "limits --type a=b=2"),
        (SetLimits(users={"7": 2}, labels={"x": 1}), "limits --user 7=2 --label x=1"),
        (SetLimits(rates={"user:*": "3/15m"}), "limits --rate 'user:*=3/15m'"),
        (StartTask(task_id=3), "start 3"),
        (RetryTask(task_id=3, force=True), "retry 3 --force"),
        (
            AdjustTask(task_id=3, scheduled_for=datetime(2026, 8, 1, tzinfo=UTC)),
            "adjust 3 --scheduled-for 2026-08-01T00:00:00.000000Z",
        ),
    ],
)
def test_what_lifts_a_reason_is_a_line_that_can_be_run_as_it_is(
    cli: Cli, tasks: Any, command: Any, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKTRAIL_DATA", "here")
    session = Session(environment=Environment(), data=Path("here"))
    assert as_line(command, session) == f"tasktrail {line}"
    elsewhere = Session(environment=Environment(), data=Path("over there"), url="http://127.0.0.1:1")
    assert as_line(command, elsewhere) == f"tasktrail {line} --data 'over there' --url http://127.0.0.1:1"
    cli(*shlex.split(line), "--actor", "")
    assert replace(tasks.sent[-1], actor="", command_id="", reason="") == command


@pytest.mark.parametrize(
    ("every", "told"),
    [("soon", "is not a duration: take seconds, or a unit as in 10m, 2h or 1d."), ("1ms", "0.001 is not in the range")],
)
def test_what_is_no_duration_or_too_short_is_refused(cli: Cli, every: str, told: str) -> None:
    refused = cli("schedule", "add", "nightly", "noop", "--every", every)
    assert refused.code == 2
    assert told in refused.err


def test_why_of_a_task_that_has_ended_or_never_was(cli: Cli, tasks: Any) -> None:
    task_id = tasks.create_task(type="noop")
    cli("cancel", str(task_id))
    told = cli("why", str(task_id)).out
    assert "is cancelled: it is not waiting\nIt ended at position 2, by " in told
    assert told.endswith(": because\n")
    assert cli("why", "99").code == 1


def test_queue_shows_the_order_with_its_terms(cli: Cli, tasks: Any) -> None:
    tasks.create_task(type="noop", priority=1)
    tasks.create_task(type="noop", priority=2, user_level=1, estimated_time=4000.0)
    tasks.create_task(type="noop", priority=3)
    cli("pause", "--type", "other")
    shown = cli("queue").out
    assert (
        "0 run, 3 wait for room, 0 for another task, 0 for a time, a release or a handler; paused: type other" in shown
    )
    assert "2 base + 10 user + 0.0 wait - 20 long" in shown
    answer = json.loads(cli("queue", "--json", "--limit", "2").out)
    assert [(one["place"], one["task_id"]) for one in answer["entries"]] == [(1, 3), (2, 1)]
    assert answer["ready"] == 3
    assert not answer["live"]


def test_queue_says_that_users_go_first_who_have_fewer_running(cli: Cli, tasks: Any) -> None:
    tasks.create_task(type="noop")
    assert "Fair share" not in cli("queue").out
    cli("limits", "--fair-share")
    assert "Fair share: the user with the fewest running tasks goes first" in cli("queue").out
    assert json.loads(cli("queue", "--json").out)["fair_share"]


def test_top_shows_it_all_once_in_a_pipe(cli: Cli, tasks: Any) -> None:
    tasks.create_task(type="noop", priority=7)
    for words in (("top",), ("top", "--once")):
        shown = cli(*words)
        assert shown.code == 0
        assert "1 waits for room" in shown.out
        assert "7 base + 0.0 wait" in shown.out
    answer = json.loads(cli("top", "--json").out)
    assert answer["queue"]["entries"][0]["task_id"] == 1
    assert answer["stats"]["total"] == 1


class Restarting:
    """Answers as `tasks` does, except for one look, when there is no service."""

    def __init__(self, tasks: Any) -> None:
        self._answers = iter([tasks.queue, self._gone, tasks.queue])
        self.stats = tasks.stats

    def queue(self, limit: int) -> QueueBoard:
        return next(self._answers)(limit)  # type: ignore[no-any-return]  # the tasks are any

    def _gone(self, _limit: int) -> QueueBoard:
        raise ServiceUnreachable("No service answers")


def test_top_outlives_a_restart_of_the_service(tasks: Any) -> None:
    tasks.create_task(type="noop")
    service: Any = Restarting(tasks)
    layout = TerminalLayout(tasks.journal.at, 80)
    first = screen(*ask(service), layout)
    lost, kept = ask_again(service, first, layout)
    assert "No service answers; asking again." in lost.splitlines()[0]
    assert lost.endswith(first)
    assert kept is first
    lost, kept = ask_again(service, kept, layout)
    assert not lost
    assert kept is not first


def test_show_tells_what_the_priority_is_made_of(cli: Cli, tasks: Any) -> None:
    tasks.create_task(type="noop", priority=4, user_level=2)
    assert "4 base + 20 user + 0.0 wait" in cli("show", "1").out


def test_no_waiting_task_is_left_out_of_the_first_line(cli: Cli, tasks: Any) -> None:
    first = tasks.create_task(type="noop", held=True)
    tasks.create_task(type="noop", depends_on=(first,))
    tasks.create_task(type="noop")
    line = "0 run, 1 waits for room, 1 for another task, 1 for a time, a release or a handler"
    assert line in cli("queue").out
    assert line in cli("top").out


def test_the_first_line_counts_one_as_one(tasks: Any) -> None:
    tasks.create_task(type="noop")
    board = replace(tasks.queue(10), running=(None,), ready=1, aside=1)
    assert summary(board, tasks.stats()).startswith(
        "1 runs, 1 waits for room, 0 for another task, 1 needs more than can ever be free"
    )


def test_the_first_line_says_when_the_drain_is_over(tasks: Any) -> None:
    """As `limits` does: a user who waits for the end of a drain looks at either."""
    board = tasks.queue(10)
    for drained, told in ((False, "; draining: all"), (True, "; drained: all")):
        pause = Pause(since=tasks.journal.at, actor="ops", reason="", position=1, drain=True, drained=drained)
        assert summary(replace(board, pauses=(pause,)), tasks.stats()).endswith(told)


def test_the_first_line_names_nodes_on_which_nothing_starts(tasks: Any) -> None:
    board = replace(tasks.queue(10), node_drains={"a": "draining", "local": "drained"})
    assert summary(board, tasks.stats()).endswith("; draining: node a; drained: node local")


def test_the_first_line_tells_of_those_that_need_more_than_there_is(tasks: Any) -> None:
    for _ in range(3):
        tasks.create_task(type="noop")
    board = replace(tasks.queue(10), ready=1, aside=2, entries=())
    assert summary(board, tasks.stats()) == (
        "0 run, 1 waits for room, 0 for another task, 2 need more than can ever be free (see why), "
        "0 for a time, a release or a handler"
    )


def test_why_says_how_many_more_are_ahead(cli: Cli, tasks: Any) -> None:
    for _ in range(13):
        tasks.create_task(type="noop")
    assert "and 2 more" in cli("why", "13").out
    assert "more" not in cli("why", "11").out


def test_what_is_no_number_is_called_so(cli: Cli) -> None:
    for none in ("abc", "0", "9" * 20):
        assert f"'{none}' is not the number of a task. `tasktrail list` shows" in cli("why", none).err
    assert "'few' is not a valid integer." in cli("limits", "--max-concurrent", "few").err


def test_a_second_one_who_drains_waits_with_the_first(cli: Cli, tasks: Any) -> None:
    cli("drain", "--actor", "first")
    asked = len(tasks.sent)
    drained = Fact(task_id=0, version=2, event=QueueDrained(), recorded_at=tasks.journal.at)
    tasks.script.append(lambda: tasks.memory_log.append([drained], expected=1))
    shown = cli("drain", "--wait")
    assert (shown.code, shown.out, shown.err) == (0, "drained at position 2\n", "")
    assert len(tasks.sent) == asked


def run_two(tasks: Any) -> None:
    """Let two tasks run that end one after the other while a caller waits for the drain."""
    for number in (1, 2):
        tasks.create_task(type="noop")
        tasks.journal.record(number, Started(worker="w"))

    def drained() -> None:
        fact = Fact(task_id=0, version=2, event=QueueDrained(), recorded_at=tasks.journal.at)
        tasks.memory_log.append([fact], expected=tasks.memory_log.head().position)

    tasks.script.extend([*(partial(tasks.journal.record, number, Completed()) for number in (1, 2)), drained])
    tasks.queue = lambda _limit: SimpleNamespace(running=[SimpleNamespace(task_id=1), SimpleNamespace(task_id=2)])


def test_who_waits_for_a_drain_is_told_for_how_many(cli: Cli, tasks: Any) -> None:
    run_two(tasks)
    shown = cli("drain", "--wait")
    assert shown == (0, "accepted at position 5\ndrained at position 8\n", "waiting for 2 tasks that run\n")


def test_as_json_a_drain_that_is_waited_for_says_nothing_more(cli: Cli, tasks: Any) -> None:
    run_two(tasks)
    shown = cli("drain", "--wait", "--json")
    assert json.loads(shown.out)["position"] == 5
    assert shown.err == "drained at position 8\n"


def test_who_waits_for_a_drain_needs_no_views(cli: Cli, tasks: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The number is only shown. Views without room end no wait, and thousands of cancelled tasks do not prolong it."""
    run_two(tasks)
    monkeypatch.setattr(tasks, "list_tasks", None)
    assert cli("drain", "--wait").code == 0


@pytest.mark.usefixtures("on_a_terminal")
def test_on_a_terminal_it_counts_down(cli: Cli, tasks: Any) -> None:
    run_two(tasks)
    shown = cli("drain", "--wait")
    first, second = shown.err.index("waiting for 2 tasks that run"), shown.err.index("waiting for 1 task that runs")
    assert (shown.code, first < second) == (0, True)


def test_a_drain_that_the_service_does_not_live_to_see_is_not_over(cli: Cli, tasks: Any) -> None:
    """`drain --wait && …` continues only where nothing runs any more."""
    run_two(tasks)
    tasks.script.pop()
    shown = cli("drain", "--wait")
    assert (shown.code, shown.out) == (3, "accepted at position 5\n")
    assert "stopped before the drain was over" in shown.err


def test_who_no_longer_waits_for_a_drain_is_told_that_it_goes_on(cli: Cli, tasks: Any) -> None:
    def press() -> None:
        raise KeyboardInterrupt

    tasks.script.append(press)
    shown = cli("drain", "--wait")
    assert (shown.code, shown.out) == (130, "accepted at position 1\n")
    assert shown.err == "the drain goes on; `tasktrail resume` ends it\n"


def test_a_graph_that_is_no_json_is_told_with_the_name_of_its_file(cli: Cli, tmp_path: Path) -> None:
    file = tmp_path / "graph.json"
    file.write_text('[{"name": "a"')
    shown = cli("submit", "--graph", str(file))
    assert shown.code == 1
    assert f"{file} is no JSON that can be read" in shown.err
    file.write_text("[]", encoding="utf-8-sig")
    assert cli("submit", "--graph", str(file)).err.endswith("Save it as UTF-8 without a byte order mark.\n")


@pytest.mark.parametrize(
    ("per_minute", "told"), [(0.0, "0 a minute"), (18.0, "18 a minute"), (0.5, "30 an hour"), (0.0125, "18 a day")]
)
def test_a_rate_is_told_in_a_unit_that_suits(per_minute: float, told: str) -> None:
    assert rate(per_minute) == told


def test_an_adjustment_of_nothing_names_the_options(cli: Cli, tasks: Any) -> None:
    tasks.create_task(type="noop", held=True)
    shown = cli("adjust", "1")
    assert shown.code == 2
    assert "--priority, --scheduled-for, --hold or --release" in shown.err


@pytest.mark.parametrize("line", ["retry 1", "start 1", "adjust 1 --priority 3", "cancel 1"])
def test_a_refusal_names_the_task_in_what_to_do(cli: Cli, tasks: Any, line: str) -> None:
    tasks.create_task(type="noop")
    tasks.journal.record(1, Started(worker="w"))
    if line == "cancel 1":
        tasks.journal.send(AttemptEnded(task_id=1, attempt=1, outcome="completed"))
    shown = cli(*line.split())
    assert shown.code == 1
    assert "`tasktrail history 1`" in shown.err


def test_the_statuses_that_can_be_meant_are_listed_with_commas(cli: Cli) -> None:
    assert "only pending, running or retrying" in cli("cancel", "--status", "failed", "--yes").err


def test_an_earlier_queue_shows_what_ran_and_what_was_reserved(cli: Cli, tasks: Any) -> None:
    tasks.send(CreateTask(type="noop"))
    tasks.journal.record(1, Started(node=""))
    tasks.send(CreateTask(type="noop", priority=4))
    tasks.send(PauseQueue(type="noop", reason="new licence", actor="anna"))
    position = tasks.memory_log.head().position
    tasks.send(ResumeQueue(type="noop"))
    tasks.send(StartTask(task_id=2))
    shown = cli("queue", "--as-of", str(position)).out
    for told in ("1 runs, 1 waits for room", "reserved for what runs:", "type noop", f"as of position {position}"):
        assert told in shown
    assert json.loads(cli("queue", "--as-of", str(position), "--json").out)["running"][0]["task_id"] == 1
    why = cli("why", "2", "--as-of", str(position)).out
    assert "type noop is paused by anna: new licence" in why
    assert "tasktrail resume" not in why, "nothing of then can be lifted"
    assert "those of today" in cli("limits", "--as-of", str(position)).out
    log, head = tasks.memory_log, tasks.memory_log.head().position
    stop = Fact(0, len(log.read_task(0)) + 1, ServiceStopped(), tasks.journal.at, "service")
    stopped = log.append([stop], expected=head)[-1].position
    told = f"No service ran: the last one had stopped at position {stopped}."
    assert [told in cli("queue", "--as-of", str(at)).out for at in (stopped - 1, stopped)] == [False, True]
    assert "new licence" not in cli("limits").out


@pytest.mark.parametrize(
    "line", ["limits --max-concurrent 2 --as-of 1", "nodes --as-of 1 drain local", "nodes --as-of 1 undrain local"]
)
def test_the_past_is_not_changed(cli: Cli, tasks: Any, line: str) -> None:
    refused = cli(*line.split())
    assert (refused.code, tasks.sent) == (2, [])
    assert "The past cannot be changed" in refused.err


@pytest.mark.parametrize("line", ["token list", "source list", "schedule list"])
def test_a_moment_at_which_there_was_none_says_so(cli: Cli, tasks: Any, line: str) -> None:
    tasks.send(CreateTask(type="noop"))
    assert cli(*line.split(), "--as-of", "1").out.startswith("There was no ")
