"""The outbox as data: what a fold of the log has led to, for a snapshot."""

from datetime import datetime

import msgspec

from ...events import TaskState
from ...events.system_events import ClockJumped
from .mail_pace import KeptPace
from .rules import Channel


class KeptNotice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A notice that waits, with its place in the order of sending."""

    notice_id: str
    channel: Channel
    target: str
    at: datetime
    task_id: int
    position: int
    turn: int
    tries: int = 0


class KeptOutbox(msgspec.Struct, frozen=True, kw_only=True):
    """The whole outbox."""

    position: int
    log_id: str
    turns: int
    disabled: list[str]
    tasks: list[TaskState]
    """Open tasks that notify somebody."""
    notices: list[KeptNotice]
    mail: KeptPace
    jumps: list[ClockJumped] = []
