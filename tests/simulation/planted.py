"""Faults to plant in the real core, each as small as a typo, and the simulator's complaint about each."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from tasktrail.actors.core import attempts, commands, dispatch, lifecycle, state, timeouts
from tasktrail.actors.core.limits import UNLIMITED, Limits
from tasktrail.actors.core.resources import NOTHING_USED, Ceiling, MachineSample, Reserved, used_of
from tasktrail.actors.core.routing import Workers
from tasktrail.actors.core.state import Outputs, Running, SchedulerState
from tasktrail.actors.core.unit_of_work import BY_SCHEDULER, UnitOfWork
from tasktrail.actors.scheduler import JumpWatch
from tasktrail.events import Checkpointed, Failed, Retried, TaskState
from tasktrail.events import decide as rules
from tasktrail.events.clock_jumps import Jumps
from tasktrail.events.reports import Grant, PublishWanted
from tasktrail.events.state import _EVOLVE
from tasktrail.events.system_events import ClockJumped

Plant = Callable[[pytest.MonkeyPatch], None]

PLANTED: dict[Plant, str] = {}
"""Function that plants a fault → the pattern of the simulator's complaint."""


def planted(complaint: str) -> Callable[[Plant], Plant]:
    """Register a fault that this complaint finds."""

    def enlist(function: Plant) -> Plant:
        PLANTED[function] = complaint
        return function

    return enlist


def _evolves(patch: pytest.MonkeyPatch, event: type[Any], **fields: Any) -> None:
    """Give these fields wrong values after such an event."""
    table: dict[type, Any] = _EVOLVE
    right = table[event]
    patch.setitem(table, event, lambda state, fact, at: replace(right(state, fact, at), **fields))


# --- room ---------------------------------------------------------------------------------------------------------


@planted("I7: .* are still to be used")
def reservation_gone_once_seen(patch: pytest.MonkeyPatch) -> None:
    """An attempt that a sample has seen has used all that was reserved for it."""
    patch.setattr(state, "used_of", lambda task, *_measured: used_of(task))


# --- keys -------------------------------------------------------------------------------------------------------


@planted("I8: tasks .* are open with one key")
def key_given_up_between_attempts(patch: pytest.MonkeyPatch) -> None:
    """A task that waits for a retry no longer has its key."""
    hold = SchedulerState._hold_key

    def hasty(self: SchedulerState, task: TaskState) -> None:
        hold(self, replace(task, status="failed") if task.status == "retrying" else task)

    patch.setattr(SchedulerState, "_hold_key", hasty)


# --- attempts ---------------------------------------------------------------------------------------------------


@planted("I2|I3|I7|fails an attempt that does not run")
def fencing_dropped(patch: pytest.MonkeyPatch) -> None:
    """Reports of a stale attempt count."""
    patch.setattr(rules, "_refuse_stale", lambda _state, _report: None)


@planted("I7: task .* two live attempts|I7: attempts without|I7: the limits have")
def retry_ignores_the_old_attempt(patch: pytest.MonkeyPatch) -> None:
    """A retry by hand starts although the cancelled attempt is still there."""
    place = UnitOfWork.place

    def hasty(self: UnitOfWork, task: TaskState) -> None:
        running = self.state.running.pop(task.id, None)
        if running is not None:
            self.state.reserved.give_back(running.reserved_for, running.used)
        place(self, task)

    patch.setattr(UnitOfWork, "place", hasty)


@planted("I7: attempt .* goes on")
def stop_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A cancelled attempt is not told to stop."""
    patch.setattr(UnitOfWork, "stop", lambda _self, running: setattr(running, "stopping", True))


@planted("I7: the output may be published|I7: task .* while it publishes")
def cancelled_attempt_publishes(patch: pytest.MonkeyPatch) -> None:
    """The grant is given whatever happened to the task meanwhile."""
    handle = attempts._handle_attempt_report

    def careless(work: UnitOfWork, report: Any) -> None:
        if isinstance(report, PublishWanted):
            work.order(Grant(report.task_id, report.attempt))
        else:
            handle(work, report)

    patch.setattr(attempts, "_handle_attempt_report", careless)


@planted("I14: .*never")
def deferred_cancel_lost(patch: pytest.MonkeyPatch) -> None:
    """A cancel during publishing is postponed and forgotten."""
    handle = commands.handle

    def forgetful(work: UnitOfWork, submit: Any) -> None:
        handle(work, submit)
        for running in work.state.running.values():
            running.deferred.clear()

    patch.setattr(commands, "handle", forgetful)


@planted("I6: task")
def crashes_uncounted(patch: pytest.MonkeyPatch) -> None:
    """A task that kills its worker is tried again for ever."""
    _evolves(patch, Failed, crash_count=0)


@planted("I6: task")
def any_checkpoint_forgives(patch: pytest.MonkeyPatch) -> None:
    """A task that begins at zero each time, and kills its worker after a checkpoint, is tried again for ever."""
    _evolves(patch, Checkpointed, crash_count=0)


@planted("I6: task .* without its delay")
def retry_without_delay(patch: pytest.MonkeyPatch) -> None:
    """A failed task is tried again at once."""
    after = rules._after_failure

    def hasty(*arguments: Any, **options: Any) -> tuple[Any, ...]:
        return tuple(
            replace(event, due_at=None) if isinstance(event, Retried) else event
            for event in after(*arguments, **options)
        )

    patch.setattr(rules, "_after_failure", hasty)


@planted("I6: task .* beyond its retries")
def retries_uncounted(patch: pytest.MonkeyPatch) -> None:
    """`max_retries` is read and never reached."""
    after = rules._after_failure
    patch.setattr(
        rules, "_after_failure", lambda state, *rest, **options: after(replace(state, retry_count=-1), *rest, **options)
    )


@planted("starts, and .* write /out")
def outputs_forgotten(patch: pytest.MonkeyPatch) -> None:
    """The outputs of unfinished tasks are unknown."""
    patch.setattr(Outputs, "claim", lambda *_: None)


# --- the clock --------------------------------------------------------------------------------------------------


@planted("is ended by .* after|starts while the service drains")
def jump_not_noticed(patch: pytest.MonkeyPatch) -> None:
    """Attempts are timed by the wall clock."""
    patch.setattr(JumpWatch, "look", lambda self: (self._clock.now(), None))


@planted("is ended by .* after")
def attempts_judged_before_they_are_heard(patch: pytest.MonkeyPatch) -> None:
    """After a failed commit, attempts are judged before the reports that could not be recorded."""
    go_on = lifecycle.recover

    def hasty(work: UnitOfWork, running: dict[int, Running]) -> None:
        go_on(work, running)
        timeouts.tick(work)

    patch.setattr(lifecycle, "recover", hasty)


@planted("is ended by (queue_timeout|total_timeout) after")
def jump_not_folded(patch: pytest.MonkeyPatch) -> None:
    """Durations that began before a jump are counted by the clock."""
    patch.setattr(Jumps, "moved", lambda _self, at: at)


@planted("goes on after")
def timers_of_attempts_not_set_anew(patch: pytest.MonkeyPatch) -> None:
    """When the clock is set back, running attempts are checked too late."""

    def lazy(work: UnitOfWork, jump: ClockJumped) -> None:
        work.record(0, jump, BY_SCHEDULER)
        for entry in work.state.running.values():
            entry.set_clock(jump.shows - jump.shown)
        work.look_again()
        timeouts.tick(work)

    patch.setattr(timeouts, "clock_jumped", lazy)


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
    """Do this each time that memory was made anew from the log."""
    resume = lifecycle.recover

    def forgetful(work: UnitOfWork, running: dict[int, Running]) -> None:
        resume(work, running)
        damage(work.state)

    patch.setattr(lifecycle, "recover", forgetful)


@planted("I5: task .* nothing will wake it")
def timer_only_in_memory(patch: pytest.MonkeyPatch) -> None:
    """After a start, tasks that wait for a time are forgotten."""
    after_resume(patch, lambda state: state.timers.clear())


@planted("I5: task .* will not hear")
def dependents_only_in_memory(patch: pytest.MonkeyPatch) -> None:
    """After a start, no task is notified when a dependency is done."""
    after_resume(patch, lambda state: state.dependents.clear())


@planted("I2: |I6|I7|goes on|outlives|a step broke")
def open_attempts_left_open(patch: pytest.MonkeyPatch) -> None:
    """A start does not close what the crash left open."""
    patch.setattr(lifecycle, "_interrupt", lambda *_: None)


# --- room and order ---------------------------------------------------------------------------------------------


@planted("I7: reservations leak")
def reservation_leaked(patch: pytest.MonkeyPatch) -> None:
    """The reservation of a stopped attempt is never given back."""
    release = SchedulerState.release

    def leaky(self: SchedulerState, running: Running) -> None:
        release(self, running)
        if running.stopping:
            self.reserved.take(running.reserved_for)

    patch.setattr(SchedulerState, "release", leaky)


@planted("I7: reservations leak")
def use_forgotten_at_the_end(patch: pytest.MonkeyPatch) -> None:
    """What an attempt had used counts as not used when it ends."""
    give_back = Reserved.give_back
    patch.setattr(Reserved, "give_back", lambda self, task, _used: give_back(self, task, NOTHING_USED))


@planted("I7: more")
def limits_ignored(patch: pytest.MonkeyPatch) -> None:
    """More is promised than is allowed."""
    patch.setattr(dispatch, "fits", lambda *_: True)


@planted("I7: more attempts than slots")
def one_slot_too_many(patch: pytest.MonkeyPatch) -> None:
    """Off by one."""
    room = Workers.room
    patch.setattr(Workers, "room", lambda self, most: room(self, most) + 1)


def choose_with(patch: pytest.MonkeyPatch, **otherwise: Any) -> None:
    """Let the dispatch use something else than the real state."""
    choose = dispatch.choose
    patch.setattr(dispatch, "choose", lambda situation, waiting: choose(situation._replace(**otherwise), waiting))


@planted("I5: .* overtaken")
def backfill_without_bound(patch: pytest.MonkeyPatch) -> None:
    """Smaller tasks start past a big one for ever."""
    choose_with(patch, bound=10**9)
    patch.setattr(dispatch, "BACKFILL_BOUND", 2)  # which the checker uses


@planted("I5: ")
def too_big_stops_the_queue(patch: pytest.MonkeyPatch) -> None:
    """Room is kept for a task that can never have enough."""
    patch.setattr(dispatch, "ceiling_of", lambda *_: Ceiling(UNLIMITED, UNLIMITED))
    choose_with(patch, bound=0, others_run=True)


@planted("I5: room is kept")
def room_kept_that_would_not_do(patch: pytest.MonkeyPatch) -> None:
    """Memory held by other programs is ignored in deciding whether keeping room would help."""

    def best(limits: Limits, sample: MachineSample, _reserved: Reserved) -> Ceiling:
        return Ceiling(min(limits.max_memory, sample.memory_total), limits.max_temp_size)

    patch.setattr(dispatch, "ceiling_of", best)
    patch.setattr(dispatch, "BACKFILL_BOUND", 2)


@planted("starts before|I5: task .* should wait for")
def dependency_unblocked_early(patch: pytest.MonkeyPatch) -> None:
    """One of several dependencies is enough."""
    unblock = SchedulerState.unblock

    def hasty(self: SchedulerState, completed: int) -> list[TaskState]:
        for task_id in self.dependents.get(completed, ()):
            self.blocked[task_id] = {completed}
        return unblock(self, completed)

    patch.setattr(SchedulerState, "unblock", hasty)


@planted("I6: task .* before it is due")
def due_time_ignored(patch: pytest.MonkeyPatch) -> None:
    """A task is ready although its time has not come."""
    place = UnitOfWork.place

    def hasty(self: UnitOfWork, task: TaskState) -> None:
        now, self.now = self.now, self.later(86400)
        place(self, task)
        self.now = now

    patch.setattr(UnitOfWork, "place", hasty)


@planted("I7: slots are held for nothing|I5: stuck for ever")
def comparison_left_out(patch: pytest.MonkeyPatch) -> None:
    """Attempts that the executor has forgotten are never found."""
    patch.setattr(attempts, "reconcile", lambda _turn, _report: None)
