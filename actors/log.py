"""Where our lines go: to structlog once the program has configured it, and until then to the standard library.

structlog prints to standard output when nobody has configured it, and that belongs to the program that we are part of.
"""

import logging
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
