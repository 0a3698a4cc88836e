"""Where our lines go: to structlog once the program has configured it, and until then to the standard library.

structlog prints to standard output when nobody has configured it, and that belongs to the program that we are part of.
"""

import logging
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import structlog
from structlog.typing import EventDict


class _Log:
    """Looks at each line anew where it goes: a program may configure structlog after it has imported us."""

    def __init__(self, name: str) -> None:
        self._configured = structlog.get_logger(name)
        self._plain = structlog.wrap_logger(
            logging.getLogger(name),
            processors=[structlog.stdlib.filter_by_level, _as_record],
            wrapper_class=structlog.stdlib.BoundLogger,
        )

    def __getattr__(self, name: str) -> Any:
        return getattr(self._configured if structlog.is_configured() else self._plain, name)


def _as_record(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """What a method of the standard library takes: the event and what else it says as one text."""
    raised = {"exc_info": line.pop("exc_info")} if "exc_info" in line else {}
    words = [str(line.pop("event", "")), *(f"{name}={value!r}" for name, value in line.items())]
    return {"msg": " ".join(words), **raised}


def get_logger(name: str = "tasktrail") -> Any:
    """A logger with the methods of structlog's. Standard library: a child of `tasktrail`, or itself."""
    return _Log(name)


# --- How many lines of the service's log may come in a minute, so that no flood and no loop fills a disk. ---

SAME_LINES = 20
"""How often the same line may come in a minute; numbers in it, and the fields beside it, do not make it another."""
ALL_LINES = 600
"""How many lines may come in a minute, whatever they say."""
_MINUTE = 60.0


class RateLimit:
    """Holds back lines that come too often, and counts them. Safe to use from many threads."""

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
        """Whether the line may come, and how many were left out before it in the minutes that are over."""
        line = level, re.sub(r"\d+", "#", str(event)[:200].partition("\n")[0])
        with self._lock:
            told = 0
            if self._clock() - self._begun >= _MINUTE:
                told, self._left_out = self._left_out, 0
                self._begun, self._all = self._clock(), 0
                self._lines.clear()
            if self._all >= self._most:
                self._left_out += 1
                return False, told
            number = self._lines[line] = self._lines.get(line, 0) + 1
            if number > self._same:
                self._left_out += 1
                return False, told
            self._all += 1
            return True, told

    def leave_out(self, number: int) -> None:
        """Count lines that were left out before anybody asked."""
        with self._lock:
            self._left_out += number
