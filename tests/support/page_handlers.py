"""A task type that reports what it is told to, for tests of how pages show it."""

import threading
from typing import Any

import msgspec

from tasktrail.handlers import TaskContext, handler


class Saying(msgspec.Struct, frozen=True, kw_only=True):
    """Options."""

    message: str = ""
    percent: float = 40.0
    error: str = ""
    result: dict[str, Any] = {}
    written: str = ""
    wait: bool = False


@handler("saying", options=Saying, needs_folder=False)
def saying(context: TaskContext[Saying]) -> dict[str, Any]:
    """Report, and then end as told, or wait until it is stopped."""
    asked = context.options
    if asked.message:
        context.progress(asked.percent, asked.message)
        print(asked.message)
    if asked.error:
        raise type(asked.error[:60], (Exception,), {})(asked.error)
    while asked.wait and not context.should_stop():
        threading.Event().wait(0.02)
    if asked.written:
        context.output_part.write_text(asked.written)
    return asked.result
