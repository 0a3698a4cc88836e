"""Makes Python's garbage collector wait."""

import gc
import os
from collections.abc import Iterator
from contextlib import contextmanager

_waiting: list[object] = []
"""One for each work under way for which the collector was switched off."""


@contextmanager
def collector_waits() -> Iterator[None]:
    """For work that makes many objects, of which none refer to each other in a circle: it would visit them in vain."""
    if not gc.isenabled():  # another thread does such work, or the user wants it so
        yield
        return
    mark = object()
    _waiting.append(mark)
    try:
        gc.disable()
        yield
    finally:
        gc.enable()
        _waiting.remove(mark)


def _go_on_in_child() -> None:
    """Switch it on in a process that was forked meanwhile, in which the thread that would do so does not exist."""
    if _waiting:
        gc.enable()


os.register_at_fork(after_in_child=_go_on_in_child)
