"""The lines on the stream, for people and for programs."""

import io
import json
import logging
import os
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

import tasktrail
from tasktrail import TaskService
from tasktrail.actors.logger import ALL_LINES, SAME_LINES, RateLimit
from tasktrail.actors.secret import Secret
from tasktrail.actors.service_log import SERVICE_LOG_LINES
from tasktrail.events.errors import UnknownTask
from tasktrail.log_setup import QUIET, set_up_logging


@pytest.fixture(autouse=True)
def logging_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for module, name in ((sys, "excepthook"), (threading, "excepthook"), (sys, "unraisablehook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in QUIET}
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


class OwnLines(io.StringIO):
    """Drops the lines of threads: services of other tests in this process may write something, too."""

    def __init__(self) -> None:
        super().__init__()
        self._owner = threading.get_ident()

    def write(self, text: str) -> int:
        return super().write(text) if threading.get_ident() == self._owner else len(text)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def fail_with(secret: str) -> None:
    hidden = secret + "!"
    raise ValueError(f"no luck with {len(hidden)} letters")


def test_json_lines_hold_event_level_time_and_fields() -> None:
    stream = OwnLines()
    set_up_logging("info", "json", stream)
    structlog.get_logger("tasktrail").info("started", task_id=7, odd={1, 2}.__class__, password=Secret("canary"))
    (line,) = lines(stream)
    assert (line["event"], line["level"], line["task_id"], line["password"]) == ("started", "info", 7, "***")
    assert line["odd"] == "<class 'set'>"
    assert line["timestamp"].endswith("Z")


def test_lines_for_people_leave_out_what_is_empty() -> None:
    stream = OwnLines()
    set_up_logging("info", "console", stream)
    structlog.get_logger("tasktrail").info("accepted", task_id=7, progress=0.0, correlation_id="", reason="", user=None)
    line = stream.getvalue()
    assert "task_id=7" in line
    assert "progress=0.0" in line
    assert not any(name in line for name in ("correlation_id", "reason", "user"))
    structlog.get_logger("tasktrail").info("queue paused", task_id=0, attempt=0)
    assert stream.getvalue().splitlines()[-1].rstrip().endswith("queue paused")
    stream = OwnLines()
    set_up_logging("info", "json", stream)
    structlog.get_logger("tasktrail").info("accepted", correlation_id="", task_id=0)
    assert (lines(stream)[0]["correlation_id"], lines(stream)[0]["task_id"]) == ("", 0)


def test_each_look_of_the_library_that_watches_folders_is_no_line() -> None:
    stream = OwnLines()
    set_up_logging("info", "console", stream)
    logging.getLogger("watchfiles.main").info("%d change detected", 1)
    assert stream.getvalue() == ""


def test_lines_of_the_standard_library_come_out_alike() -> None:
    stream = OwnLines()
    set_up_logging("info", "json", stream)
    logging.getLogger("pykka").info("Started %s", "Scheduler")
    logging.getLogger("uvicorn.error").warning("late")
    assert [(line["logger"], line["event"], line["level"]) for line in lines(stream)] == [
        ("pykka", "Started Scheduler", "info"),
        ("uvicorn.error", "late", "warning"),
    ]


@pytest.mark.parametrize("form", ["console", "json"])
def test_a_traceback_shows_the_error_but_no_local_variables(form: Any) -> None:
    stream = OwnLines()
    set_up_logging("info", form, stream)
    for log in (structlog.get_logger(), logging.getLogger("pykka")):
        try:
            fail_with("canary" + "-9")
        except ValueError:
            log.exception("broke")
    text = stream.getvalue()
    assert text.count("no luck with 9 letters") == 2
    assert "fail_with" in text
    assert "canary-9" not in text
    assert form == "console" or "exception" in lines(stream)[1]


def test_no_error_steers_the_terminal_on_which_its_traceback_is_shown() -> None:
    stream = OwnLines()
    set_up_logging("info", "console", stream)
    for log in (structlog.get_logger(), logging.getLogger("pykka")):
        try:
            raise ValueError("\x1b]0;mine\x07\x9b2J of a file")
        except ValueError:
            log.exception("broke")
    text = stream.getvalue()
    assert text.count(r"ValueError: \x1b]0;mine\x07\x9b2J of a file") == 2
    assert all(line.isprintable() for line in text.splitlines())


@pytest.mark.parametrize(("level", "expected"), [("debug", 4), ("info", 3), ("warning", 2), ("error", 1)])
def test_what_is_less_important_is_left_out(level: Any, expected: int) -> None:
    stream = OwnLines()
    set_up_logging(level, "json", stream)
    for log in (structlog.get_logger(), logging.getLogger("tests")):
        for method in (log.debug, log.info, log.warning, log.error):
            method("line")
    assert len(lines(stream)) == 2 * expected


def test_requests_of_the_http_client_are_not_told() -> None:
    stream = OwnLines()
    set_up_logging("debug", "json", stream)
    logging.getLogger("httpx").info("HTTP Request: POST https://example.org/hook?token=canary")
    assert lines(stream) == []


def test_console_lines_have_no_colours_unless_somebody_looks() -> None:
    stream = OwnLines()
    set_up_logging("info", "console", stream)
    structlog.get_logger().info("started", task_id=7)
    logging.getLogger("pykka").info("Started %s", "Scheduler")
    assert "\x1b" not in stream.getvalue()
    assert "task_id=7" in stream.getvalue()
    assert "Started Scheduler" in stream.getvalue()


def test_the_same_line_comes_a_few_times_a_minute_and_those_left_out_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(RateLimit.__init__, "__defaults__", (lambda: now,))
    stream = OwnLines()
    set_up_logging("info", "json", stream)
    ours, theirs = structlog.get_logger(), logging.getLogger("uvicorn.error")
    for number in range(1000):
        ours.warning("a connection was refused", number=number)
        theirs.warning("Invalid request %d", number)
        theirs.warning(f"Unknown method {number}")
    assert len(lines(stream)) == 3 * SAME_LINES
    ours.warning("another line")
    assert "left_out" not in lines(stream)[-1]
    now = 61.0
    ours.warning("a connection was refused")
    assert lines(stream)[-1]["left_out"] == 3 * (1000 - SAME_LINES)
    theirs.warning("Invalid request")
    assert lines(stream)[-1]["event"] == "Invalid request"


def test_those_left_out_are_told_by_a_line_of_the_standard_library_too(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(RateLimit.__init__, "__defaults__", (lambda: now,))
    stream = OwnLines()
    set_up_logging("info", "console", stream)
    for _ in range(SAME_LINES + 5):
        logging.getLogger("asyncio").error("broke")
    now = 61.0
    logging.getLogger("asyncio").error("broke %s", "again")
    assert "broke again (left_out=5)" in stream.getvalue()


def test_there_are_so_many_lines_a_minute_whatever_they_say() -> None:
    stream = OwnLines()
    set_up_logging("info", "json", stream)
    texts = ["x" * (number % 180 + 1) + "y" * (number // 180) for number in range(5 * ALL_LINES)]
    for text in texts:
        logging.getLogger("tests").info(text)
    assert len(lines(stream)) == ALL_LINES


def test_setting_up_again_replaces_what_was_there() -> None:
    first, second = OwnLines(), OwnLines()
    set_up_logging("info", "json", first)
    set_up_logging("info", "json", second)
    logging.getLogger("pykka").info("once")
    structlog.get_logger().info("once")
    assert first.getvalue() == ""
    assert len(lines(second)) == 2


def test_what_python_itself_would_print_is_json_too() -> None:
    stream = OwnLines()
    set_up_logging("info", "json", stream)
    try:
        fail_with("canary" + "-9")
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
        threading.excepthook(threading.ExceptHookArgs((ValueError, error, error.__traceback__, None)))

    class Odd:
        def __del__(self) -> None:
            raise ValueError("in __del__")

    Odd()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("mind the gap", stacklevel=1)
    told = lines(stream)
    assert [line["event"].partition(":")[0] for line in told[:3]] == [
        "an error was not caught",
        "a thread has ended by an error",
        "an error could not be raised",
    ]
    assert "mind the gap" in told[3]["event"]
    assert "no luck with 9 letters" in repr(told[0]["exception"])
    assert "canary-9" not in stream.getvalue()


def test_a_line_for_people_is_one_line_and_no_order_to_the_terminal() -> None:
    stream = OwnLines()
    set_up_logging("info", "console", stream)
    structlog.get_logger().warning("attempt failed", error="red \x1b[31m\nforged line \x9b1m", type="a\u202eb")
    (line,) = stream.getvalue().splitlines()
    assert "red \\x1b[31m\\nforged line \\x9b1m" in line
    assert "a\\u202eb" in line


def test_a_service_for_own_tasks_only_says_nothing_of_them_its_program_does(
    tmp_path: Path,
) -> None:
    stream = io.StringIO()
    set_up_logging("info", "json", stream)
    with TaskService.open(tmp_path / "data", own_only=True) as tasks:
        tasks.pause()
        with pytest.raises(UnknownTask):
            tasks.cancel_task(99)
    said = {json.loads(line)["event"] for line in stream.getvalue().splitlines()}
    assert said & SERVICE_LOG_LINES == set()


@pytest.mark.parametrize(
    ("set_up", "on_error"),
    [
        ("", "a view was odd error='ValueError: no luck'"),
        ("logging.basicConfig(format='%(name)s %(levelname)s %(message)s')", "tasktrail WARNING a view was odd error="),
        ("logging.getLogger('tasktrail').setLevel(logging.CRITICAL)", ""),
        ("structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))", "a view was odd"),
    ],
)
def test_inside_a_program_lines_go_where_the_program_says_and_never_to_its_output(set_up: str, on_error: str) -> None:
    program = (
        "import logging, sys, structlog\n"
        "from tasktrail.actors.logger import get_logger\n"
        f"{set_up}\n"
        "logger = get_logger()\n"
        "logger.info('small talk')\n"
        "logger.warning('a view was odd', error='ValueError: no luck')\n"
        "try:\n    raise ValueError('100%')\nexcept ValueError:\n    logger.exception('an actor broke')\n"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert ended.stdout == ""
    assert on_error in ended.stderr
    assert (ended.stderr == "") == (on_error == "")
    assert not on_error or ("an actor broke" in ended.stderr and "ValueError: 100%" in ended.stderr)
    assert "small talk" not in ended.stderr or "structlog.configure" in set_up


def test_all_of_our_lines_take_that_way() -> None:
    home = Path(tasktrail.__file__).parent
    sources = [Path(folder, name) for folder, _, names in os.walk(home, followlinks=True) for name in names]
    asking = [path.name for path in sources if path.suffix == ".py" and "structlog.get_logger" in path.read_text()]
    assert set(asking) == {"logger.py", "log_setup.py"}
