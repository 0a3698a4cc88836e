"""Where our log lines go, and how many of them.

They go to structlog once the program has configured it, and until then to the standard library: structlog without a
configuration would print to standard output, which belongs to the program that uses us.
"""

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, MutableMapping
from typing import Any


class _Log:
    """Decides anew for each line where it goes: a program may configure structlog after it has imported us."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loggers: tuple[Any, Any] | None = None

    def __getattr__(self, name: str) -> Any:
        import structlog  # noqa: PLC0415 - a fifth of a start's imports, and most starts have nothing to say

        if self._loggers is None:
            plain = structlog.wrap_logger(
                logging.getLogger(self._name),
                processors=[structlog.stdlib.filter_by_level, _as_record],
                wrapper_class=structlog.stdlib.BoundLogger,
            )
            self._loggers = structlog.get_logger(self._name), plain
        configured, plain = self._loggers
        return getattr(configured if structlog.is_configured() else plain, name)


def is_configured() -> bool:
    """Whether the program has configured structlog."""
    structlog = sys.modules.get("structlog")
    return structlog is not None and structlog.is_configured()


def _as_record(_logger: Any, _method: str, line: MutableMapping[str, Any]) -> dict[str, Any]:
    """The arguments for the standard library's method: the event and its fields as one text."""
    raised = {"exc_info": line.pop("exc_info")} if "exc_info" in line else {}
    words = [str(line.pop("event", "")), *(f"{name}={value!r}" for name, value in line.items())]
    return {"msg": " ".join(words), **raised}


def get_logger(name: str = "tasktrail") -> Any:
    """A logger with the methods of structlog's. Standard library: a child of `tasktrail`, or itself."""
    return _Log(name)


SAME_LINES = 20
"""How often the same line may come in a minute. Lines that differ only in numbers or fields count as the same."""
ALL_LINES = 600
"""How many lines may come in a minute in all."""
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
