"""Faults to plant in the real core, each as small as a slip of the pen, and what the simulator must say of them."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from msgspec.structs import replace

from tasktrail.actors.core import commands, dispatch, lifecycle, reports
from tasktrail.actors.core.running import Running
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.core.turn import Turn
from tasktrail.actors.scheduler import Scheduler
from tasktrail.events import Cancelled, Failed, Retried, TaskState, attempts
from tasktrail.events import decide as rules
from tasktrail.events.errors import NotReady
from tasktrail.events.memory_log import MemoryEventLog
from tasktrail.events.state import _EVOLVE
from tasktrail.handlers.process.frames import Grant
from tasktrail.projections.outbox import Outbox

Plant = Callable[[pytest.MonkeyPatch], None]

PLANTED: dict[Plant, str] = {}
"""Function that plants a fault → what the simulator's complaint must match."""


def planted(complaint: str) -> Callable[[Plant], Plant]:
    """The fault is found by this complaint."""

    def enlist(function: Plant) -> Plant:
        PLANTED[function] = complaint
        return function

    return enlist


def _evolves(patch: pytest.MonkeyPatch, event: type[Any], **fields: Any) -> None:
    """After such an event these fields are wrong."""
    table: dict[type, Any] = _EVOLVE
    right = table[event]
    patch.setitem(table, event, lambda state, fact, at: replace(right(state, fact, at), **fields))


# --- attempts ---------------------------------------------------------------------------------------------------


@planted("I2|I7")
def fencing_dropped(patch: pytest.MonkeyPatch) -> None:
    """Reports of a stale attempt count."""
    patch.setattr("tasktrail.events.attempts._refuse_stale", lambda _state, _report: None)
    patch.setattr(reports, "_current", lambda turn, task_id, _attempt: turn.state.running.get(task_id))


@planted("I7: task .* two live attempts|I7: attempts without|I7: the limits have")
def retry_ignores_the_old_attempt(patch: pytest.MonkeyPatch) -> None:
    """A retry by hand starts although the cancelled attempt is not gone."""
    place = Turn.place

    def hasty(self: Turn, task: TaskState) -> None:
        running = self.state.running.pop(task.id, None)
        if running is not None:
            self.state.reserved.give_back(running.reserved_for, seen=running.seen)
        place(self, task)

    patch.setattr(Turn, "place", hasty)


@planted("I7: attempt .* goes on")
def stop_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A cancelled attempt is not told."""
    patch.setattr(Turn, "stop", lambda _self, running: setattr(running, "stopping", True))


@planted("I7: the output may be published|I7: task .* while it publishes")
def cancelled_attempt_publishes(patch: pytest.MonkeyPatch) -> None:
    """The grant is given whatever became of the task meanwhile."""
    patch.setattr(reports, "_publish_wanted", lambda turn, report: turn.order(Grant(report.task_id, report.attempt)))


@planted("I14: .*never")
def deferred_cancel_lost(patch: pytest.MonkeyPatch) -> None:
    """A cancel during publishing is put aside and forgotten."""
    handle = commands.handle

    def forgetful(turn: Turn, submit: Any) -> None:
        handle(turn, submit)
        for running in turn.state.running.values():
            running.deferred.clear()

    patch.setattr(commands, "handle", forgetful)


@planted("I6: task")
def crashes_uncounted(patch: pytest.MonkeyPatch) -> None:
    """A task that kills its worker is tried again for ever."""
    _evolves(patch, Failed, crash_count=0)


@planted("I6: task .* without its delay")
def retry_without_delay(patch: pytest.MonkeyPatch) -> None:
    """A failed task is tried again at once."""
    after = attempts._after_failure

    def hasty(*arguments: Any) -> tuple[Any, ...]:
        return tuple(
            replace(event, due_at=None) if isinstance(event, Retried) else event for event in after(*arguments)
        )

    patch.setattr(attempts, "_after_failure", hasty)


@planted("I6: task .* beyond its retries")
def retries_uncounted(patch: pytest.MonkeyPatch) -> None:
    """`max_retries` is looked at and never reached."""
    after = attempts._after_failure
    patch.setattr(attempts, "_after_failure", lambda state, *rest: after(replace(state, retry_count=-1), *rest))


# --- recovery ---------------------------------------------------------------------------------------------------


@planted("lost its checkpoint")
def recovery_loses_the_checkpoint(patch: pytest.MonkeyPatch) -> None:
    """A retry begins from nothing."""
    _evolves(patch, Retried, checkpoint=None)


@planted("begins at")
def recovery_resets_progress(patch: pytest.MonkeyPatch) -> None:
    """A retry shows 0 % although it goes on from a checkpoint."""
    _evolves(patch, Retried, progress=0.0)


@planted("resumes from None")
def checkpoint_not_handed_over(patch: pytest.MonkeyPatch) -> None:
    """The next attempt is not given what the last one saved."""
    patch.setattr(TaskState, "resume_from", property(lambda _self: None))


def after_resume(patch: pytest.MonkeyPatch, damage: Callable[[SchedulerState], None]) -> None:
    """Each time memory was made anew from the log, this happens to it."""
    resume = lifecycle.resume

    def forgetful(turn: Turn, running: dict[int, Running]) -> None:
        resume(turn, running)
        damage(turn.state)

    patch.setattr(lifecycle, "resume", forgetful)


@planted("I5: task .* nothing will wake it")
def timer_only_in_memory(patch: pytest.MonkeyPatch) -> None:
    """After a start, what waits for a time is forgotten."""
    after_resume(patch, lambda state: state.timers.clear())


@planted("I5: task .* will not hear")
def dependents_only_in_memory(patch: pytest.MonkeyPatch) -> None:
    """After a start, nobody is told when a dependency is done."""
    after_resume(patch, lambda state: state.dependents.clear())


@planted("I2: |I6|I7|goes on|outlives|a step broke")
def open_attempts_left_open(patch: pytest.MonkeyPatch) -> None:
    """A start does not close what the crash left open."""
    patch.setattr(lifecycle, "_interrupt", lambda *_: None)


@planted("I4: ")
def held_forgets_its_release(patch: pytest.MonkeyPatch) -> None:
    """A task that was released and has ended is read back as held."""
    table: dict[type, Any] = _EVOLVE
    cancelled = table[Cancelled]
    patch.setitem(table, Cancelled, lambda state, fact, at: replace(cancelled(state, fact, at), held=state.held))


# --- room and order ---------------------------------------------------------------------------------------------


@planted("I7: reservations leak")
def reservation_leaked(patch: pytest.MonkeyPatch) -> None:
    """What a stopped attempt was promised is never given back."""
    release = SchedulerState.release

    def leaky(self: SchedulerState, running: Running) -> None:
        release(self, running)
        if running.stopping:
            self.reserved.take(running.reserved_for)

    patch.setattr(SchedulerState, "release", leaky)


@planted("I7: more")
def limits_ignored(patch: pytest.MonkeyPatch) -> None:
    """More is promised than is allowed."""
    patch.setattr(dispatch, "obstacles", lambda *_: ())


@planted("I7: more attempts than slots")
def one_slot_too_many(patch: pytest.MonkeyPatch) -> None:
    """Off by one."""
    free = SchedulerState.free_slots
    patch.setattr(SchedulerState, "free_slots", property(lambda self: free.__get__(self) + 1))


@planted("I5: .* overtaken")
def backfill_without_bound(patch: pytest.MonkeyPatch) -> None:
    """Smaller tasks start past a big one for ever."""
    patch.setattr(dispatch, "_has_been_overtaken_enough", lambda *_: False)
    patch.setattr(dispatch, "BACKFILL_BOUND", 2)  # what the checker goes by


@planted("I5: ")
def too_big_stops_the_queue(patch: pytest.MonkeyPatch) -> None:
    """Room is kept for a task that can never have enough."""
    patch.setattr(dispatch, "is_too_big", lambda *_: False)
    patch.setattr(dispatch, "_has_been_overtaken_enough", lambda *_: True)


@planted("starts before|I5: task .* should wait for")
def dependency_unblocked_early(patch: pytest.MonkeyPatch) -> None:
    """One of several dependencies is enough."""
    unblock = SchedulerState.unblock

    def hasty(self: SchedulerState, completed: int, now: datetime) -> list[TaskState]:
        for task_id in self.dependents.get(completed, ()):
            self.blocked[task_id] = {completed}
        return unblock(self, completed, now)

    patch.setattr(SchedulerState, "unblock", hasty)


@planted("I6: task .* before it is due")
def due_time_ignored(patch: pytest.MonkeyPatch) -> None:
    """A task is ready although its time has not come."""
    place = Turn.place

    def hasty(self: Turn, task: TaskState) -> None:
        now, self.now = self.now, self.later(86400)
        place(self, task)
        self.now = now

    patch.setattr(Turn, "place", hasty)


# --- commands and the log ---------------------------------------------------------------------------------------


@planted("I1: command .* is acknowledged")
def acknowledged_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """The sender hears at once."""
    note = Scheduler._note_answer

    def hasty(self: Scheduler, effect: Any) -> None:
        effect.token.reply(effect.answer)
        note(self, effect)

    patch.setattr(Scheduler, "_note_answer", hasty)


@planted("I6: attempt .* before its Started is durable")
def ordered_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """The executor is told at once."""
    keep = Scheduler._keep

    def hasty(self: Any, staged: Any) -> None:
        keep(self, staged)
        if self._orders:
            self.house.watcher.ordered(self.house, self._orders)
            self._orders = []

    patch.setattr(Scheduler, "_keep", hasty)


@planted("I1: |I3: the log refuses")
def command_id_applied_twice(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks whether a command was carried out before."""
    patch.setattr(Scheduler, "_answer_repetition", lambda *_: False)


@planted("I1: another command")
def command_id_means_anything(patch: pytest.MonkeyPatch) -> None:
    """The id alone decides that it is the same command."""
    answer = Scheduler._answer_repetition

    def lax(self: Any, submit: Any) -> bool:
        known = self._answers.get(submit.token.command_id) or self._log.answer(submit.token.command_id)
        return answer(self, replace(submit, token=replace(submit.token, digest=known.digest)) if known else submit)

    patch.setattr(Scheduler, "_answer_repetition", lax)


@planted("I14: the commit failed")
def unknown_told_as_refused(patch: pytest.MonkeyPatch) -> None:
    """After a failed commit the senders are told that nothing has happened."""

    def sure(self: Any, _error: Any) -> None:
        for ticket, _ in self._answered:
            ticket.reply(NotReady("The commit failed"))

    patch.setattr(Scheduler, "_answer_all", sure)


@planted("I5: stuck|I7: slots leak|I7: attempts without|I14")
def reports_lost_with_the_commit(patch: pytest.MonkeyPatch) -> None:
    """What the executor reported is not looked at again after a failed commit."""
    start_over = Scheduler._start_over

    def forgetful(self: Any, error: Any) -> None:
        self._reports = []
        start_over(self, error)

    patch.setattr(Scheduler, "_start_over", forgetful)


@planted("I13|I3: the log refuses")
def epoch_not_checked(patch: pytest.MonkeyPatch) -> None:
    """A service that was replaced may go on writing."""
    patch.setattr(MemoryEventLog, "_check_owner", lambda _self: None)


@planted("I3: the log refuses|I2")
def ended_twice(patch: pytest.MonkeyPatch) -> None:
    """A finished task can be cancelled."""
    patch.setattr(rules, "_cancel", lambda state: (Cancelled(attempt_running=state.status == "running"),))


@planted("I3: time runs back")
def log_follows_the_clock_back(patch: pytest.MonkeyPatch) -> None:
    """Records are stamped with a clock that was set back."""
    begin = Turn.__init__

    def naive(self: Turn, state: SchedulerState, now: Any) -> None:
        begin(self, state, now)
        self._recorded_at = now

    patch.setattr(Turn, "__init__", naive)


@planted("I5|I14: .*never|never answered|outlives")
def commit_retried_by_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """After a clock that was set back, nothing is recorded until it has caught up."""

    def naive(self: Any) -> bool:
        if self._retry_at is None:
            self._not_before = None
            return False
        self._not_before = self._not_before or self._clock.now().timestamp() + 1.0
        return bool(self._clock.now().timestamp() < self._not_before)

    patch.setattr(Scheduler, "_not_before", None, raising=False)
    patch.setattr(Scheduler, "_is_too_early", naive)


# --- notices ----------------------------------------------------------------------------------------------------


@planted("I9: .* has the ids")
def notice_id_changes_over_restart(patch: pytest.MonkeyPatch) -> None:
    """A receiver cannot tell a repetition from news."""
    apply = Outbox.apply

    def fresh(self: Any, records: Any) -> None:
        apply(self, records)
        self._log_id = str(id(self))

    patch.setattr(Outbox, "apply", fresh)


@planted("I9: notices never arrive")
def failed_notice_given_up(patch: pytest.MonkeyPatch) -> None:
    """One try, well or not, and the outbox forgets."""
    patch.setattr(Outbox, "_schedule", _only_new(Outbox._schedule))


def _only_new(schedule: Callable[..., None]) -> Callable[..., None]:
    def once(self: Any, name: str, pending: Any, *rest: Any) -> None:
        if pending.tries == 0:
            schedule(self, name, pending, *rest)

    return once
