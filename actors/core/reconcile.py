"""Slots against processes: what is believed to run is compared, again and again, with what the executor holds.

Every known way to lose an attempt is closed where it is; this is for those that are not known. A question goes to the
executor behind the orders that were given before, and its answer comes behind the reports of what has ended, so
whoever is missing in an answer is really missing. It takes two answers in a row, for executors that are less exact, and
for nothing to be killed by one slip.
"""

from ...handlers.process.frames import AttemptEnded, AttemptsHeld, Stop, TellHeld
from . import reports
from .running import Key, Reconciliation
from .turn import Turn

FORGOTTEN = "AttemptForgotten"
"""The error type of an attempt that no executor holds."""


def ask(turn: Turn) -> None:
    """Ask the executor what it holds, if there is anything to compare."""
    state = turn.state
    look = state.look
    if not state.running and not look.held and not look.strange:
        return
    look.number += 1
    look.asked = frozenset((entry.task_id, entry.attempt) for entry in state.running.values())
    turn.order(TellHeld(look.number))


def heard(turn: Turn, report: AttemptsHeld) -> None:
    """Compare. An attempt that nobody holds is ended as lost, one that nobody wants is stopped."""
    state = turn.state
    look = state.look
    if report.number != look.number:
        state.stale_reports += 1
        return
    held = frozenset(report.attempts)
    known = frozenset((entry.task_id, entry.attempt) for entry in state.running.values())
    missing, strange = (look.asked & known) - held, held - known
    lost, unwanted = missing & look.missing, strange & look.strange
    # A number further: the same answer once more would be one to an older question.
    state.look = Reconciliation(look.number + 1, held=bool(held), missing=missing - lost, strange=strange)
    for key in sorted(lost):
        _end(turn, key)
    for task_id, attempt in sorted(unwanted):
        turn.order(Stop(task_id, attempt))


def _end(turn: Turn, key: Key) -> None:
    task_id, attempt = key
    turn.order(Stop(task_id, attempt))  # should it be there all the same
    error = f"The executor did not hold attempt {attempt} any more: no process of it was left, and no end was reported"
    reports.handle(turn, AttemptEnded(task_id, attempt, "lost", error=error, error_type=FORGOTTEN))
