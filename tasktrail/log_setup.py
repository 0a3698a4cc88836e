"""What the service says on standard error: lines for people, or one JSON object a line.

structlog's loggers and those of the standard library (pykka, uvicorn, httpx) come out alike. Tracebacks never show
local variables: they may hold secrets and personal data. The same line comes a few times a minute at most, so that a
flood of requests or a fault in a loop does not fill a disk.
"""

import logging
import re
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal, TextIO

import msgspec
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor

QUIET = ("httpx", "httpcore", "asyncio")
"""Libraries whose info lines tell nothing and may hold addresses with tokens in them."""

SAME_LINES = 20
"""How often the same line may come in a minute; numbers in it, and the fields beside it, do not make it another."""
ALL_LINES = 600
"""How many lines may come in a minute, whatever they say."""
_MINUTE = 60.0


class Pace:
    """Holds back lines that come too often, and counts them. Safe to use from many threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
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
            if self._all >= ALL_LINES:
                self._left_out += 1
                return False, told
            number = self._lines[line] = self._lines.get(line, 0) + 1
            if number > SAME_LINES:
                self._left_out += 1
                return False, told
            self._all += 1
            return True, told

    def __call__(self, _logger: Any, method: str, line: Any) -> Any:
        """As a processor of structlog."""
        passes, left_out = self.take(method, line.get("event"))
        if not passes:
            raise structlog.DropEvent
        return {**line, "left_out": left_out} if left_out else line

    def filter(self, record: logging.LogRecord) -> bool:
        """As a filter of the standard library."""
        passes, left_out = self.take(record.levelname, record.msg)
        if passes and left_out:
            record.msg, record.args = f"{record.getMessage()} (left_out={left_out})", ()
        return passes


class _Unfailing:
    """A stream that swallows what cannot be written: a log on a full disk must not end whoever had something to say."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, if it can be."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Pass on, if it can be."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def set_up_logging(
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["console", "json"] = "console",
    stream: TextIO | None = None,
) -> None:
    """Send all logging of this process to `stream` (standard error). Calling it again replaces what was set up.

    Call it before the actors start: loggers keep what they find at their first line.
    """
    stream = stream or sys.stderr
    pace = Pace()
    unfailing: Any = _Unfailing(stream)
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    last = _for_programs() if form == "json" else _for_people(stream)
    structlog.configure(
        processors=[pace, *common, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(unfailing),
        cache_logger_on_first_use=True,
    )
    _join_standard_library(level, unfailing, common, last, pace)


def _for_programs() -> list[Processor]:
    return [
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
        structlog.processors.JSONRenderer(serializer=_to_json),
    ]


def _for_people(stream: TextIO) -> list[Processor]:
    return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)]


def _to_json(line: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(line, enc_hook=repr).decode()


def _join_standard_library(
    level: str, stream: TextIO, common: list[Processor], last: list[Processor], pace: Pace
) -> None:
    handler = logging.StreamHandler(stream)
    handler.addFilter(pace)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *common],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in QUIET:
        logging.getLogger(name).setLevel(logging.WARNING)
