"""Task types for the kill campaign: quick, resumable and failing ones, and some that die or leave children."""

import os
import subprocess
import sys
import time

import msgspec

from tasktrail.events import Checkpoint
from tasktrail.handlers import Stopped, TaskContext, handler
from tasktrail.handlers.pieces import Pieces


class Steps(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The number of pieces of work, and how many seconds each takes."""

    number: int = 5
    seconds: float = 0.01


@handler("quick", needs_input=False, needs_output=False)
def quick(_context: TaskContext[object]) -> None:
    """End at once."""


@handler("steps", options=Steps, resumable=True, needs_input=False, needs_output=False)
def steps(context: TaskContext[Steps]) -> dict[str, int] | Stopped:
    """Work in pieces, with a checkpoint after each; says how many were done here."""
    done = context.checkpoint.processed_frames if context.checkpoint else 0
    here = 0
    while done < context.options.number:
        if context.should_stop():
            return Stopped()
        time.sleep(context.options.seconds)
        done, here = done + 1, here + 1
        context.save_checkpoint(Checkpoint(processed_frames=done), progress=100 * done / context.options.number)
    return {"done": done, "here": here}


@handler("pieces", options=Steps, resumable=True, needs_input=False, needs_output=False)
def pieces(context: TaskContext[Steps]) -> dict[str, int] | Stopped:
    """Work in files, as a long film does; says how many were found and how many made here."""
    files = Pieces(context, "these")
    found, number = len(files), context.options.number
    for missing in files.missing(number):
        if context.should_stop():
            return Stopped()
        time.sleep(context.options.seconds)
        files.part(missing).write_bytes(b"piece %d" % missing)
        files.keep(missing, 100 * len(files) / number, "")
    return {"found": found, "made": len(files) - found}


@handler("timeout", needs_input=False, needs_output=False)
def timeout(_context: TaskContext[object]) -> None:
    """Fail with an error that is tried again."""
    raise TimeoutError("timeout of the other side")


@handler("dies", needs_input=False, needs_output=False)
def dies(_context: TaskContext[object]) -> None:
    """Kill the worker."""
    os._exit(3)


@handler("family", options=Steps, needs_input=False, needs_output=False)
def family(context: TaskContext[Steps]) -> None:
    """Start a child in a session of its own, which would outlive a plain kill, and wait a little."""
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"], start_new_session=True)
    time.sleep(context.options.seconds)
