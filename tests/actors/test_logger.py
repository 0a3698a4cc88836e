"""Where our log lines go, and that the code continues whatever happens to a line."""

import logging
import subprocess
import sys
import types
from typing import Any

import pytest
import structlog

from tasktrail.actors.logger import get_logger, is_configured

_WITHOUT_DESCRIPTORS = """
import sys
from tasktrail.actors.logger import get_logger, log_error
class Refusal:
    def find_spec(name, *_):
        raise OSError(24, "Too many open files", name)
sys.meta_path.insert(0, Refusal)
get_logger().warning("an actor has died and is started anew", actor="projector")
log_error("a message could not be handled", OSError("the disk is gone"), actor="projector")
print("structlog" in sys.modules)
"""


def test_a_line_imports_nothing_since_it_may_tell_that_there_are_no_descriptors_left() -> None:
    done = subprocess.run([sys.executable, "-c", _WITHOUT_DESCRIPTORS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr
    warned, wrong, *_, raised = done.stderr.splitlines()
    assert warned == "an actor has died and is started anew actor='projector'"
    assert (wrong, raised) == ("a message could not be handled actor='projector'", "OSError: the disk is gone")


def test_the_standard_library_is_told_who_has_said_it(caplog: pytest.LogCaptureFixture) -> None:
    get_logger("tasktrail.traces").warning("spans do not arrive", dropped=7, method="GET")
    (line,) = caplog.records
    assert (line.name, line.levelno, line.funcName) == (
        "tasktrail.traces",
        logging.WARNING,
        "test_the_standard_library_is_told_who_has_said_it",
    )
    assert line.getMessage() == "spans do not arrive dropped=7 method='GET'"


def _cannot(*_: Any) -> Any:
    raise OSError("no room is left")


class _Stubborn(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:  # noqa: ARG002 - what the library calls
        raise OSError("no room is left")


@pytest.mark.parametrize("configured", [True, False])
def test_a_line_that_cannot_be_written_ends_nothing(
    *, configured: bool, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest
) -> None:
    stubborn = _Stubborn()
    if configured:
        structlog.configure(processors=[_cannot])
    else:
        logging.getLogger("tasktrail").addFilter(stubborn)
        request.addfinalizer(lambda: logging.getLogger("tasktrail").removeFilter(stubborn))
    get_logger().error("an actor hangs", actor="projector")
    assert capsys.readouterr().err == "a line could not be logged: an actor hangs (OSError: no room is left)\n"


def test_while_another_thread_imports_structlog_it_counts_as_not_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "structlog", types.ModuleType("structlog"))
    assert not is_configured()
