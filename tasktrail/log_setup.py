"""The service's log on standard error: lines for people, or one JSON object a line.

Lines of structlog's loggers and of the standard library's (pykka, uvicorn, httpx) look alike. Tracebacks never show
local variables: they may hold secrets and personal data. The same line is written a few times a minute at most, so
that a flood of requests or a fault in a loop does not fill a disk.
"""

import io
import logging
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import Any, Literal, TextIO

import msgspec
import structlog
from structlog.tracebacks import ExceptionDictTransformer
from structlog.typing import Processor

from .actors.logger import RateLimit
from .actors.service_log import SERVICE_LOG_LINES

QUIET = ("httpx", "httpcore", "asyncio", "watchfiles")
"""Libraries whose info lines are useless (a watched folder has changed) or hold addresses with tokens."""


class _Paced:
    """Drops log lines that come too often, except `SERVICE_LOG_LINES`, which have a limit of their own.

    Serves structlog and the standard library.
    """

    def __init__(self, pace: RateLimit) -> None:
        self._take = pace.take

    def __call__(self, _logger: Any, method: str, line: Any) -> Any:
        """Called by structlog as a processor."""
        if line.get("event") in SERVICE_LOG_LINES:
            return line
        passes, left_out = self._take(method, line.get("event"))
        if not passes:
            raise structlog.DropEvent
        return {**line, "left_out": left_out} if left_out else line

    def filter(self, record: logging.LogRecord) -> bool:
        """Called by the standard library as a filter."""
        passes, left_out = self._take(record.levelname, record.msg)
        if passes and left_out:
            record.msg, record.args = f"{record.getMessage()} (left_out={left_out})", ()
        return passes


class _Printed(io.TextIOBase):
    """Replaces standard output or error, and logs each line that is printed there."""

    def __init__(self, name: str, real: TextIO) -> None:
        self._name = name
        self._real = real
        self._begun = ""

    def writable(self) -> bool:
        """It can be written to."""
        return True

    def fileno(self) -> int:
        """The descriptor of the real stream."""
        return self._real.fileno()

    def write(self, text: str) -> int:
        """Log the lines that are complete, and keep the rest."""
        *lines, begun = (self._begun + text).split("\n")
        self._begun = begun[-_PRINTED_LIMIT:]
        for line in filter(str.strip, lines):
            structlog.get_logger("tasktrail").info("printed", text=line[:_PRINTED_LIMIT], stream=self._name)
        return len(text)


_PRINTED_LIMIT = 1000
"""The most characters of a printed line that are logged."""


def log_what_is_printed() -> None:
    """Log what Python code prints in this process from now on, such as handlers at their import.

    What a library in C writes is not logged.
    """
    sys.stdout, sys.stderr = _Printed("stdout", sys.stdout), _Printed("stderr", sys.stderr)


class _Unfailing:
    """A stream that ignores failed writes: a log on a full disk must not end the code that writes to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, and ignore a failure."""
        with suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush, and ignore a failure."""
        with suppress(OSError, ValueError):
            self._stream.flush()


def set_up_logging(
    level: Literal["debug", "info", "warning", "error"] = "info",
    form: Literal["console", "json"] = "console",
    stream: TextIO | None = None,
) -> None:
    """Send all logging of this process to `stream`, by default standard error. A second call replaces the first.

    Call it before the actors start: a logger keeps the configuration that it finds at its first line.
    """
    stream = stream or sys.stderr
    pace = _Paced(RateLimit())
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
    if form == "json":
        _join_python()


def _for_programs() -> list[Processor]:
    return [
        structlog.processors.ExceptionRenderer(ExceptionDictTransformer(show_locals=False)),
        structlog.processors.JSONRenderer(serializer=_to_json),
    ]


_QUOTED = set(" \t=\r\n\"'")
"""A value with one of these characters is shown by its `repr`; the event itself never is."""


def _for_people(stream: TextIO) -> list[Processor]:
    renderer = structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=_write_traceback)
    return [_without_empty, _printable, renderer]


def _write_traceback(stream: TextIO, exc_info: Any) -> None:
    """Write a traceback, without control characters besides its line breaks: an error may quote a file or a client."""
    text = io.StringIO()
    structlog.dev.plain_traceback(text, exc_info)
    stream.write("\n".join(map(_escaped, text.getvalue().split("\n"))))


def _without_empty(_logger: Any, _method: str, line: Any) -> Any:
    """Leave empty values out of lines for people, and a `task_id` or an `attempt` of 0."""
    empty = {"task_id": ("", None, 0), "attempt": ("", None, 0)}
    return {name: value for name, value in line.items() if name == "event" or value not in empty.get(name, ("", None))}


def _printable(_logger: Any, _method: str, line: Any) -> Any:
    """Keep each entry on one line, without control characters, whatever a handler or a client has put into it."""
    for name, value in line.items():
        if isinstance(value, str) and (name == "event" or not _QUOTED & set(value)) and name != "exception":
            line[name] = _escaped(value)
    return line


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else repr(one)[1:-1] for one in text)


def _to_json(line: dict[str, Any], **_: Any) -> str:
    return msgspec.json.encode(line, enc_hook=repr).decode()


def _join_python() -> None:
    """Log what Python itself would print: warnings and uncaught errors."""
    log = structlog.get_logger("tasktrail")
    logging.captureWarnings(capture=True)
    unraisable_before = sys.unraisablehook

    def uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        log.critical("an error was not caught", exc_info=(kind, error, trace))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and args.exc_type is not SystemExit:
            name = args.thread.name if args.thread is not None else ""
            log.error("a thread has ended by an error", thread=name, exc_info=args.exc_value)

    def unraisable(args: "sys.UnraisableHookArgs") -> None:
        if args.exc_type is KeyboardInterrupt:  # a signal, which the command line repeats
            unraisable_before(args)
        else:
            log.error("an error could not be raised", where=repr(args.object)[:200], exc_info=args.exc_value)

    sys.excepthook, threading.excepthook, sys.unraisablehook = uncaught, in_thread, unraisable


def _join_standard_library(
    level: str, stream: TextIO, common: list[Processor], last: list[Processor], pace: _Paced
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
