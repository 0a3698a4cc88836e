"""Ctrl-C in the middle of SQLite's work."""

import signal
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from ..errors import ViewsFailed


@contextmanager
def heeding_ctrl_c() -> Iterator[None]:
    """Raise `KeyboardInterrupt` in the place of the error that it has become.

    Python drops it where it comes up in a function that SQLite calls. SQLite then says that the function has failed, as
    it does of text that is no UTF-8, which is damage. Nothing is changed for who handles Ctrl-C in a way of his own.
    """
    usual = signal.default_int_handler
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGINT) is not usual:
        yield
        return
    came = False

    def heed(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True
        usual(number, frame)

    try:
        signal.signal(signal.SIGINT, heed)
        yield
    except (sqlite3.Error, ViewsFailed):
        if came:
            raise KeyboardInterrupt from None
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is heed:
            signal.signal(signal.SIGINT, usual)
