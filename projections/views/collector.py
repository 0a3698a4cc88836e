"""Makes Python's garbage collector wait."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def collector_waits() -> Iterator[None]:
    """For work of a few seconds at most that makes many objects, of which none refer to each other in a circle."""
    if not gc.isenabled():  # another thread does such work, or the user wants it so
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
