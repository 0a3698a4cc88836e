"""How commands fail: exit codes, words, problems as JSON, and never a traceback."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasktrail.api.wire import token_in
from tasktrail.cli.session import Environment, Session
from tasktrail.events.errors import (
    DataInUse,
    InvalidPath,
    InvalidValue,
    LogCorrupt,
    NotReady,
    OutcomeUnknown,
    ServiceUnreachable,
    UnknownTask,
)


def fails_with(environment: Any, error: BaseException) -> None:
    def fail(_session: Session) -> None:
        raise error

    environment.service = fail


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (UnknownTask("x"), 1),
        (DataInUse("x"), 1),
        (LogCorrupt("x"), 1),
        (OutcomeUnknown("x"), 1),
        (ServiceUnreachable("x"), 3),
        (NotReady("x"), 3),
        (KeyboardInterrupt(), 130),
        (ValueError("x"), 1),
        (PermissionError(13, "Permission denied", "/data/log.db"), 1),
    ],
)
def test_each_kind_of_failure_has_its_exit_code(
    cli: Callable[..., Any], environment: Any, error: BaseException, code: int
) -> None:
    fails_with(environment, error)
    shown = cli("submit", "noop")
    assert (shown.code, shown.out) == (code, "")
    assert "Traceback" not in shown.err


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("can't start new thread"),
        MemoryError(),
        OSError(errno.EMFILE, "Too many open files"),
        BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable"),
    ],
)
def test_a_process_that_gets_no_more_of_something_names_the_limits(
    cli: Callable[..., Any], environment: Any, error: Exception
) -> None:
    """It was called a fault of tasktrail, or left without advice."""
    fails_with(environment, error)
    shown = cli("submit", "noop").err
    assert "TasksMax" in shown
    assert "fault of tasktrail" not in shown


@pytest.mark.parametrize(
    ("number", "step"),
    [
        (errno.EACCES, "  See that you may read and write it, or run the command as the user it belongs to.\n"),
        (errno.ENOSPC, "  Free disk space, and repeat the command.\n"),
        (errno.EIO, ""),
    ],
)
def test_what_the_system_refuses_is_told_as_other_programs_tell_it_with_what_to_do_about_it(
    cli: Callable[..., Any], environment: Any, number: int, step: str
) -> None:
    fails_with(environment, OSError(number, os.strerror(number), "/data/log.db"))
    assert cli("submit", "noop").err == f"tasktrail: /data/log.db: {os.strerror(number)}\n{step}"
    told = json.loads(cli("--json", "submit", "noop").err)
    assert told.keys() == {"type", "title", "status", "detail", "code", "field", "remedy"}
    assert (told["detail"], told["code"]) == (f"/data/log.db: {os.strerror(number)}", "unexpected")
    assert told["remedy"] == step.strip()


def test_a_fault_of_our_own_is_a_problem_too_for_a_program(cli: Callable[..., Any], environment: Any) -> None:
    fails_with(environment, ZeroDivisionError("division by zero"))
    told = json.loads(cli("--json", "submit", "noop").err)
    assert (told["detail"], told["code"]) == ("ZeroDivisionError: division by zero", "unexpected")
    assert "This is a fault of tasktrail" in told["remedy"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it takes a device of Linux")
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_an_output_that_is_full_is_told_once_and_has_the_exit_code_of_a_refusal(unbuffered: str) -> None:
    """What click could not write stayed in Python's buffer: its end failed once more, with a code of its own, 120.

    "Repeat the command" was the advice: after a `submit` whose number could not be shown that makes a second task.
    """
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "tasktrail", "--version"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
        unheard = subprocess.run(command, stdout=full, stderr=full, env=environment, check=False)
    assert unheard.returncode == 1
    step = "  Make room. What the command has changed stays changed: look, before you repeat it.\n"
    assert (done.returncode, done.stderr) == (1, f"tasktrail: standard output: {os.strerror(errno.ENOSPC)}\n{step}")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="it takes a device of Linux")
@pytest.mark.parametrize(("line", "code"), [("nosuch", 2), ("nosuch --json", 2), ("--data nowhere start 1", 3)])
def test_a_message_that_nobody_can_get_changes_no_exit_code(tmp_path: Path, line: str, code: int) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "tasktrail", *line.split()], stderr=full, cwd=tmp_path, check=False
        )
    assert done.returncode == code


def test_an_error_says_what_where_and_what_to_do(cli: Callable[..., Any], environment: Any) -> None:
    fails_with(environment, InvalidPath("'/x' is a folder", field="output_file", remedy="Name a file in it."))
    assert cli("submit", "noop").err == "tasktrail: '/x' is a folder (field: output_file)\n  Name a file in it.\n"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        ("There is a token ci already", "token"),
        ("Task 3 was forgotten", "task_id"),
        ("output_file: '/x' is a folder", "output_file"),
        ("image_thumbnail has no option 'colour'", "task.options.colour"),
    ],
)
def test_an_error_that_names_its_field_does_not_say_it_twice(
    cli: Callable[..., Any], environment: Any, message: str, field: str
) -> None:
    fails_with(environment, InvalidValue(message, field=field, remedy="Give another."))
    assert cli("submit", "noop").err == f"tasktrail: {message}\n  Give another.\n"


@pytest.mark.parametrize(
    ("message", "field"), [("2030-01-01 is still to come", "to"), ("The disk has run out of room", "out")]
)
def test_a_word_of_the_sentence_is_no_name_of_a_field(
    cli: Callable[..., Any], environment: Any, message: str, field: str
) -> None:
    """With `diff --from … --to …` the user would not see which of the two is meant."""
    fails_with(environment, InvalidValue(message, field=field, remedy="Give another."))
    assert cli("submit", "noop").err == f"tasktrail: {message} (field: {field})\n  Give another.\n"


@pytest.mark.parametrize("line", ["list --limit 0", "list --offset -1", "list --status nothing", "list --sort size"])
def test_a_wrong_value_of_a_question_is_not_called_a_command(cli: Callable[..., Any], line: str) -> None:
    """ "Send the command again" was the advice, although nothing had been sent."""
    said = cli(*line.split())
    assert (said.code, said.err.splitlines()[1:]) == (1, ["  Correct the value and try again."])


def test_as_json_the_problem_is_on_stderr_as_the_routes_show_it(cli: Callable[..., Any], environment: Any) -> None:
    error = InvalidPath("'/x' is a folder", field="output_file", remedy="Name a file in it.")
    fails_with(environment, error)
    shown = cli("--json", "submit", "noop")
    assert shown.out == ""
    assert json.loads(shown.err) == {
        "type": "urn:tasktrail:problem:invalid_path",
        "title": "A path cannot be used",
        "status": 400,
        "detail": "'/x' is a folder",
        "code": "invalid_path",
        "field": "output_file",
        "remedy": "Name a file in it.",
    }


def test_wrong_usage_as_json_is_a_problem_too(cli: Callable[..., Any]) -> None:
    shown = cli("show", "--json", "x")
    assert shown.code == 2
    assert json.loads(shown.err)["code"] == "usage"


@pytest.mark.parametrize(
    ("line", "field", "meant"),
    [
        ("show x", "task_id", ""),
        ("completion", "shell", ""),
        ("list --statsu failed", "statsu", "--status"),
        ("list --type a --type b", "type", ""),
        ("lsit", "", "list"),
    ],
)
def test_wrong_usage_as_json_has_the_members_of_every_problem(
    cli: Callable[..., Any], line: str, field: str, meant: str
) -> None:
    told = json.loads(cli("--json", *line.split()).err)
    assert told.keys() == {"type", "title", "status", "detail", "code", "field", "remedy"}
    assert told["field"] == field
    assert "--help" in told["remedy"]
    assert meant in told["remedy"]
    assert "did you mean" not in told["detail"].lower()


def test_choices_are_told_in_one_line_and_not_as_escapes(cli: Callable[..., Any]) -> None:
    shown = cli("completion")
    assert shown.code == 2
    assert "Choose from: bash, zsh, fish" in shown.err
    assert "\\" not in shown.err


def test_text_of_an_error_cannot_steer_the_terminal(cli: Callable[..., Any], environment: Any) -> None:
    fails_with(environment, UnknownTask("\x1b[2J gone\x07", field="a\x07", remedy="\x07"))
    shown = cli("submit", "noop").err
    assert not {"\x1b", "\x07"} & set(shown)


def test_a_fault_of_our_own_is_one_line_that_says_how_to_see_more(cli: Callable[..., Any], environment: Any) -> None:
    fails_with(environment, ZeroDivisionError("oh"))
    shown = cli("submit", "noop")
    assert shown.err.splitlines()[0] == "tasktrail: ZeroDivisionError: oh"
    assert "-X dev" in shown.err


def test_writing_commands_need_a_service_reading_ones_do_not(
    cli: Callable[..., Any], environment: Any, tasks: Any
) -> None:
    tasks.create_task(type="noop")
    environment.running, environment.inside = None, tasks
    for line in ("submit noop", "submit --from -", "start 1", "retry 1"):
        shown = cli(*line.split())
        assert (shown.code, shown.out) == (3, "")
        assert "`tasktrail serve`" in shown.err
    for line in ("list", "show 1", "history 1", "log", "stats", "cancel 1"):  # a cancel needs no worker
        assert cli(*line.split()).code == 0


def test_reading_commands_with_a_url_never_fall_back_to_the_files(
    cli: Callable[..., Any], environment: Any, tasks: Any
) -> None:
    environment.running, environment.inside = None, tasks
    assert cli("list", "--url", "http://localhost:1").code == 3


def test_a_folder_without_a_log_is_told_and_not_made(tmp_path: Path) -> None:
    folder = tmp_path / "nothing"
    with pytest.raises(InvalidPath, match="There is no log"):
        Environment().files(Session(environment=Environment(), data=folder))
    assert not folder.exists()


def test_with_no_socket_the_client_is_not_even_loaded(tmp_path: Path) -> None:
    with pytest.raises(ServiceUnreachable):
        Environment().service(Session(environment=Environment(), data=tmp_path))


def test_a_reader_that_leaves_early_is_no_reason_to_complain(tmp_path: Path) -> None:
    (tmp_path / "commands.jsonl").write_text("")
    program = f"{sys.executable} -m tasktrail --help | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1)
    assert done.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_standard_stream_that_is_closed_is_no_failure(closed: str, tmp_path: Path) -> None:
    """Otherwise `submit 2>&-` made a task and exited with 1, and the next opened file got the stream's number."""
    code = (
        f"import sys; sys.argv = ['tasktrail', 'config', '--data', {str(tmp_path)!r}]; import tasktrail.__main__ as m"
    )
    program = f"{code}; sys.exit = lambda code: open({str(tmp_path / 'left')!r}, 'w').write(str(code)); m.main()"
    taken = "; import os; assert os.open('/', os.O_RDONLY) > 2"
    done = subprocess.run(["bash", "-c", f'"$0" -c "$1" {closed}', sys.executable, program + taken], check=False)
    assert (done.returncode, (tmp_path / "left").read_text()) == (0, "0")


def test_a_demo_that_finds_no_room_for_its_folder_says_how_to_choose_another(
    cli: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("x")
    shown = cli("demo", "--work", str(tmp_path / "file" / "demo"))
    assert shown.code == 1
    assert f"The folder {tmp_path / 'file' / 'demo'} cannot be made: Not a directory" in shown.err
    assert "--work" in shown.err


def test_a_token_file_that_cannot_be_read_is_nothing_for_the_service(tmp_path: Path) -> None:
    with pytest.raises(InvalidPath) as refused:
        token_in(tmp_path / "nope")
    assert refused.value.advice == "Check its spelling, and that you may read it."


def test_without_a_command_the_help_is_shown_as_it_is(cli: Callable[..., Any]) -> None:
    answer = cli()
    assert answer.code == 2
    assert "\nSend and change tasks:\n  submit " in answer.err
    assert "\\n" not in answer.err
