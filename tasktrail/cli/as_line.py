"""A command as the line that a person would type for it."""

import os
import shlex
from typing import TYPE_CHECKING

from .session import DEFAULT_DATA, Session

if TYPE_CHECKING:
    from ..actors.core.explanation import Lifting
    from ..events.commands import SetLimits


def as_line(command: "Lifting", session: Session) -> str:
    """`tasktrail resume --type work`, quoted for a shell; it names the same service as this command line does."""
    return shlex.join(("tasktrail", *_words(command), *_where(session)))


def _words(command: "Lifting") -> tuple[str, ...]:
    from ..events import AdjustTask, RetryTask, StartTask
    from ..events.commands import ResumeQueue, SetLimits
    from ..events.recorded import timestamp

    match command:
        case StartTask(task_id=task_id):
            return ("start", str(task_id))
        case RetryTask(task_id=task_id, force=force):
            return ("retry", str(task_id), *(["--force"] if force else []))
        case AdjustTask(task_id=task_id, scheduled_for=at):
            return ("adjust", str(task_id), *(["--scheduled-for", timestamp(at)] if at else []))
        case ResumeQueue(type=str(name)):
            return ("resume", "--type", name)
        case ResumeQueue(user_id=int(user)):
            return ("resume", "--user-id", str(user))
        case ResumeQueue():
            return ("resume",)
        case SetLimits():
            return ("limits", *_limits(command))


def _limits(command: "SetLimits") -> tuple[str, ...]:
    plain = ("max_concurrent", "max_memory", "max_cpu", "max_temp_size")
    given = {name: getattr(command, name) for name in plain}
    words = [(f"--{name.replace('_', '-')}", f"{value:.17g}") for name, value in given.items() if value is not None]
    for flag, table in (("--type", command.types), ("--user", command.users), ("--label", command.labels)):
        words += [(flag, f"{name}={number}") for name, number in table.items()]
    return tuple(word for pair in words for word in pair)


def _where(session: Session) -> tuple[str, ...]:
    """What was typed, and does not stand in the environment, has to be typed again."""
    words: tuple[str, ...] = ()
    if str(session.data) != os.environ.get("TASKTRAIL_DATA", str(DEFAULT_DATA)):
        words += ("--data", str(session.data))
    if session.url and session.url != os.environ.get("TASKTRAIL_URL"):
        words += ("--url", session.url)
    return words
