"""Handles Ctrl-C, or another signal that ends a command, while SQLite works."""

import signal
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from ..errors import ViewsFailed

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def heeding_ctrl_c() -> Iterator[None]:
    """Raise the exception of a signal handler instead of the SQLite error that it causes.

    Python drops an exception that is raised in a function called by SQLite. SQLite then reports that the function has
    failed, as it does for invalid UTF-8, which is damage.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    raised: list[BaseException] = []

    def heeding(usual: Callable[..., Any]) -> Callable[[int, FrameType | None], None]:
        def heed(number: int, frame: FrameType | None) -> None:
            try:
                usual(number, frame)
            except BaseException as error:
                raised.append(error)
                raise

        return heed

    before = {number: usual for number in _ENDING if callable(usual := signal.getsignal(number))}
    heeded = {number: heeding(usual) for number, usual in before.items()}
    try:
        for number, heed in heeded.items():
            signal.signal(number, heed)
        yield
    except (sqlite3.Error, ViewsFailed):
        if raised:
            raise raised[0] from None
        raise
    finally:
        for number, usual in before.items():
            if signal.getsignal(number) is heeded[number]:
                signal.signal(number, usual)
