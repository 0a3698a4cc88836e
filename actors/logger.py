"""Writes our log lines, and limits their number.

They go to structlog once the program has configured it, and until then to the standard library: structlog without a
configuration would print to standard output, which belongs to the program that uses us.
"""

import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partialmethod
from typing import Any

_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR, "exception": logging.ERROR}


class Log:
    """Decides anew for each line where it goes: a program may configure structlog after it has imported us.

    Writing a line imports nothing and never raises. Most lines report trouble, such as a lack of file descriptors, and
    the code that reports it has to go on.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._configured: Any = None

    def _write(self, level: str, event: str, /, **fields: Any) -> None:
        try:
            if is_configured():
                structlog = sys.modules["structlog"]
                self._configured = self._configured or structlog.get_logger(self._name)
                getattr(self._configured, level)(event, **fields)
            else:
                _write_plainly(logging.getLogger(self._name), level, event, fields)
        except Exception as error:  # noqa: BLE001 - whatever the program has configured may raise
            with suppress(Exception):
                sys.stderr.write(f"a line could not be logged: {event} ({type(error).__name__}: {error})\n")

    info = partialmethod(_write, "info")
    warning = partialmethod(_write, "warning")
    error = partialmethod(_write, "error")
    exception = partialmethod(_write, "exception")
    """An error, with the traceback of the exception that is being handled."""


def is_configured() -> bool:
    """Whether the program has configured structlog."""
    is_so = getattr(sys.modules.get("structlog"), "is_configured", None)  # missing while a thread is importing it
    return is_so is not None and is_so()


def _write_plainly(log: logging.Logger, level: str, event: str, fields: dict[str, Any]) -> None:
    """Write the event and its fields as one text, as if the original caller had called the standard library."""
    if log.isEnabledFor(_LEVELS[level]):
        raised = fields.pop("exc_info", level == "exception")
        text = " ".join([event, *(f"{name}={value!r}" for name, value in fields.items())])
        log.log(_LEVELS[level], text, exc_info=raised, stacklevel=3)


def get_logger(name: str = "tasktrail") -> Log:
    """Return the log of a module. In the standard library it is `tasktrail` or a child of it."""
    return Log(name)


SAME_LINES = 20
"""How often the same line may be written in a minute. Lines that differ only in numbers or fields are the same."""
ALL_LINES = 600
"""How many lines may be written in a minute in all."""
_MINUTE = 60.0


class RateLimit:
    """Holds back lines that come too often, and counts them, so that no flood fills a disk. Threads may share it."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, *, same: int = SAME_LINES, most: int = ALL_LINES
    ) -> None:
        self._clock = clock
        self._same = same
        self._most = most
        self._lock = threading.Lock()
        self._begun = clock()
        self._lines: dict[tuple[str, str], int] = {}
        self._all = 0
        self._left_out = 0

    def take(self, level: str, event: object) -> tuple[bool, int]:
        """Whether the line may be written, and how many lines were left out in the minutes before."""
        line = level, re.sub(r"\d+", "#", str(event)[:200].partition("\n")[0])
        with self._lock:
            before = 0
            if self._clock() - self._begun >= _MINUTE:
                before, self._left_out = self._left_out, 0
                self._begun, self._all = self._clock(), 0
                self._lines.clear()
            if self._all >= self._most:
                self._left_out += 1
                return False, before
            number = self._lines[line] = self._lines.get(line, 0) + 1
            if number > self._same:
                self._left_out += 1
                return False, before
            self._all += 1
            return True, before

    def leave_out(self, number: int) -> None:
        """Count lines that were left out elsewhere."""
        with self._lock:
            self._left_out += number


_logger = get_logger()

SAME_ERROR_EVERY = 60.0
"""Seconds until the same error is logged again. An error that happens again and again must not fill the disk."""
_logged: dict[tuple[str, ...], tuple[float, int]] = {}


def log_error(event: str, error: BaseException, **about: str) -> None:
    """Log an error with its traceback. If the same error was logged within `SAME_ERROR_EVERY`, only count it."""
    key, now = (event, type(error).__name__, *about.values()), time.monotonic()
    at, left_out = _logged.get(key, (now - SAME_ERROR_EVERY, 0))
    if now - at < SAME_ERROR_EVERY:
        _logged[key] = at, left_out + 1
        return
    _logged[key] = now, 0
    _logger.error(event, exc_info=error, **about, **({"like_it_before": left_out} if left_out else {}))
