"""A task type whose work is a real program, as a conversion is: it says when each of its processes lives."""

import subprocess
import sys
import time
from pathlib import Path

import msgspec

from tasktrail.handlers import Stopped, TaskContext, handler

_LOOK_EVERY = 0.1


class Stamped(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the stamps go, how long it takes, and how its processes are related; see `stamping.py`."""

    folder: str
    seconds: float = 1.0
    shape: str = "plain"


@handler("stamped", options=Stamped, needs_input=False, needs_output=False)
def stamped(context: TaskContext[Stamped]) -> Stopped | None:
    """Have the program run, and say every tenth of a second how far it is."""
    of = context.options
    program = str(Path(__file__).with_name("stamping.py"))
    numbers = (str(context.task_id), str(context.attempt), str(of.seconds))
    child = subprocess.Popen(
        [sys.executable, "-S", "-I", program, of.folder, *numbers, of.shape],
        start_new_session=of.shape == "session",
    )
    begun = time.monotonic()
    while True:
        try:
            code = child.wait(_LOOK_EVERY)
        except subprocess.TimeoutExpired:
            if context.should_stop():
                child.kill()
                child.wait()
                return Stopped()
            context.progress(min(99.0, 100 * (time.monotonic() - begun) / of.seconds), f"pid {child.pid}")
        else:
            if code:
                raise RuntimeError(f"the program ended with exit code {code}")
            return None
