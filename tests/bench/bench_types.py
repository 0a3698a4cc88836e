"""The measured task types: one that does nothing, one that reports when it began."""

import time

from tasktrail.handlers import Finished, TaskContext, handler


@handler("noop", needs_input=False, needs_output=False, needs_folder=False, short=True)
def noop(_context: TaskContext[object]) -> None:
    """Do nothing."""


@handler("stamp", needs_input=False, needs_output=False, needs_folder=False)
def stamp(_context: TaskContext[object]) -> Finished:
    """Report when the handler's first line ran, by the clock that all processes of a machine share."""
    return Finished(result={"began": time.clock_gettime(time.CLOCK_MONOTONIC)})
