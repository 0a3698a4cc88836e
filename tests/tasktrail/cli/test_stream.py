"""submit --from: commands are read as they come, and answers are printed in order."""

import io
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasktrail.cli.submit_from import MOST_AT_ONCE, send_stream
from tasktrail.events.errors import NotReady, ServiceUnreachable
from tasktrail.http.requests import MAX_COMMAND

NOOP = b'{"command":"create_task","type":"noop"}\n'


def answers(shown: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in shown.out.splitlines()]


def test_every_line_is_answered_in_order(cli: Callable[..., Any], tasks: Any) -> None:
    shown = cli("submit", "--from", "-", stdin=NOOP * 3 + b'{"command":"cancel_task","task_id":2}\n')
    assert shown.code == 0
    assert [answer["task_id"] for answer in answers(shown)] == [1, 2, 3, 2]
    assert [answer["position"] for answer in answers(shown)] == [1, 2, 3, 4]
    assert [answer["command_id"] for answer in answers(shown)] == [sent.command_id for sent in tasks.sent]


def test_commands_can_come_from_a_file_and_need_no_newline_at_the_end(cli: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "commands.jsonl"
    path.write_bytes(NOOP + NOOP.rstrip())
    assert len(answers(cli("submit", "--from", str(path)))) == 2


def test_a_whole_number_may_be_written_as_over_http(cli: Callable[..., Any], tasks: Any) -> None:
    line = b'{"command":"create_task","type":"noop","priority":5.0,"user_id":7.0}'
    shown = cli("submit", "--from", "-", stdin=line + b"\n" + line.replace(b"5.0", b"5.5"))
    created, refused = answers(shown)
    assert created["task_id"] == 1
    assert (tasks.sent[0].priority, tasks.sent[0].user_id) == (5, 7)
    assert (refused["code"], refused["field"]) == ("invalid_value", "priority")


BAD = [
    (b"huh", "malformed", ""),
    (b"[1]", "malformed", ""),
    (b'{"type":"noop"}', "malformed", "command"),
    (b'{"command":"explode"}', "malformed", "command"),
    (b'{"command":"create_task"}', "malformed", "type"),
    (b'{"command":"create_task","type":"noop","colour":"red"}', "malformed", "colour"),
    (b'{"command":"create_task","type":"noop","priority":11}', "invalid_value", "priority"),
    (b'{"command":"cancel_task","task_id":77}', "unknown_task", "task_id"),
    (b"\xff\xfe", "malformed", ""),
    (b"[" * 100_000, "malformed", ""),
    (b'{"command":"create_task","type":"' + b"x" * MAX_COMMAND + b'"}', "too_large", ""),
]


@pytest.mark.parametrize(("line", "code", "field"), BAD, ids=range(len(BAD)))
def test_a_bad_line_is_answered_with_its_problem_and_the_others_go_on(
    cli: Callable[..., Any], tasks: Any, line: bytes, code: str, field: str
) -> None:
    shown = cli("submit", "--from", "-", stdin=NOOP + b"\n" + line + b"\n" + NOOP)
    first, problem, last = answers(shown)
    assert shown.code == 1
    assert (first["task_id"], last["task_id"]) == (1, 2)
    assert (problem["code"], problem["line"]) == (code, 3)
    assert field in problem["field"]
    assert tasks.memory_log.head().position == 2


def test_who_sends_is_filled_in_and_paths_are_made_absolute(cli: Callable[..., Any], tasks: Any) -> None:
    cli("submit", "--from", "-", stdin=b'{"command":"create_task","type":"noop","input_file":"in","output_file":"/o"}')
    (sent,) = tasks.sent
    assert sent.actor.startswith("cli:")
    assert (sent.input_file, sent.output_file) == (str(Path("in").absolute()), "/o")


def test_what_the_line_says_itself_is_kept(cli: Callable[..., Any], tasks: Any) -> None:
    cli("submit", "--from", "-", stdin=b'{"command":"create_task","type":"noop","actor":"me","command_id":"c7"}')
    assert (tasks.sent[0].actor, tasks.sent[0].command_id) == ("me", "c7")


def test_many_lines_are_sent_together_but_not_all_at_once(tasks: Any) -> None:
    target = io.BytesIO()
    source: Any = io.BufferedReader(io.BytesIO(NOOP * (MOST_AT_ONCE + 10)), buffer_size=1 << 20)
    assert send_stream(tasks, source, target) == 0
    assert max(tasks.sent_together) <= MOST_AT_ONCE
    assert sum(tasks.sent_together) == MOST_AT_ONCE + 10
    assert len(target.getvalue().splitlines()) == MOST_AT_ONCE + 10


def test_an_answer_comes_before_the_next_line_is_written(tasks: Any) -> None:
    """A producer that waits for each answer must not wait for ever."""
    ours, theirs = os.pipe(), os.pipe()
    with (
        os.fdopen(ours[0], "rb") as source,
        os.fdopen(theirs[1], "wb") as target,
        os.fdopen(theirs[0], "rb") as answered,
    ):
        sending = threading.Thread(target=send_stream, args=(tasks, source, target))
        sending.start()
        with os.fdopen(ours[1], "wb", buffering=0) as producer:
            for number in (1, 2, 3):
                producer.write(NOOP)
                assert json.loads(answered.readline())["task_id"] == number
        sending.join(10)
        assert not sending.is_alive()
    assert tasks.sent_together == [1, 1, 1]


@pytest.mark.parametrize("error", [ServiceUnreachable("It is gone"), NotReady("It stops")])
def test_a_service_that_goes_away_leaves_no_line_unanswered(
    cli: Callable[..., Any], tasks: Any, error: Exception
) -> None:
    def lose(_commands: object) -> None:
        raise error

    tasks.send_many = lose
    shown = cli("submit", "--from", "-", stdin=b'{"command":"create_task","type":"noop","command_id":"c7"}\nhuh\n')
    assert shown.code == 3
    assert [answer["code"] for answer in answers(shown)] == [error.code, "malformed"]  # type: ignore[attr-defined]
    assert answers(shown)[0]["command_id"] == "c7"
