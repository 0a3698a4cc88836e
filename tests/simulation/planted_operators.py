"""Faults to plant in operators' orders: limits, pauses, adjustments, schedules, notices, `why`."""

from collections.abc import Iterable
from typing import Any

import pytest
from msgspec.structs import replace
from planted import after_resume, planted
from planted_log import PLANTED

from tasktrail.actors.core import commands, dispatch, explanation, limits, routing, schedules, step, timeouts
from tasktrail.actors.core.limits import LimitChanges, LimitKind, Limits, Pauses, RunningCounts
from tasktrail.actors.core.queue import EQUAL, ReadyQueue, Share
from tasktrail.actors.core.rates import Rates
from tasktrail.actors.core.resources import MachineSample
from tasktrail.actors.core.schedules import Schedules
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.core.unit_of_work import UnitOfWork
from tasktrail.actors.core.windows import Windows
from tasktrail.events import Created, TaskState
from tasktrail.projections.outbox import Outbox

__all__ = ["PLANTED"]

# --- what must hold over a restart ------------------------------------------------------------------------------


@planted("although .* is paused|I4: pauses")
def pause_forgotten_after_restart(patch: pytest.MonkeyPatch) -> None:
    """A pause lives in memory only."""

    def forget(state: SchedulerState) -> None:
        state.durable.pauses = Pauses()

    after_resume(patch, forget)


@planted("I4: .*limits")
def limits_forgotten_after_restart(patch: pytest.MonkeyPatch) -> None:
    """After a start the configuration holds, whatever operators have changed."""

    def forget(state: SchedulerState) -> None:
        state.durable.limit_changes = LimitChanges()
        state.configure(state.configured)

    after_resume(patch, forget)


@planted("I1: command schedule|runs twice|after a later run")
def schedule_fired_twice_after_restart(patch: pytest.MonkeyPatch) -> None:
    """How far a schedule has come is kept in memory only."""
    apply = Schedules.apply

    def forgetful(self: Schedules, fact: Any, position: int) -> list[str]:
        before = {name: one.done_until for name, one in self.by_name.items()}
        changed = apply(self, fact, position)
        if isinstance(fact.event, Created) and fact.event.schedule in before:
            self.by_name[fact.event.schedule].done_until = before[fact.event.schedule]
        return changed

    patch.setattr(Schedules, "apply", forgetful)


@planted("I4: task|instead of|I4: the fold|I4: `tasks`")
def adjustment_lost(patch: pytest.MonkeyPatch) -> None:
    """A changed priority is recorded, and memory keeps the old one."""
    overlay = SchedulerState.apply.__globals__["overlay"]
    patch.setattr(
        "tasktrail.actors.core.state.overlay",
        lambda state, event, at: overlay(state, replace(event, priority=None), at),
    )


@planted("I4: endpoints|I4: `disabled`")
def enabled_endpoint_stays_disabled(patch: pytest.MonkeyPatch) -> None:
    """An endpoint is enabled again, without effect."""
    apply = SchedulerState.apply

    def deaf(self: SchedulerState, fact: Any, position: int) -> None:
        disabled = dict(self.durable.disabled)
        apply(self, fact, position)
        self.durable.disabled |= disabled

    patch.setattr(SchedulerState, "apply", deaf)


# --- limits and pauses --------------------------------------------------------------------------------------------


@planted("I7: .* of type")
def type_limit_ignored(patch: pytest.MonkeyPatch) -> None:
    """The limit of a type can be set and is not checked."""
    full = limits.is_full
    patch.setattr(limits, "is_full", lambda key, *rest: key[0] is not LimitKind.TYPE and full(key, *rest))


@planted("I7: .* of (type|user_id|label) .* where")
def own_limit_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """The general number counts although there is a specific one."""
    limit_of = limits.limit_of
    patch.setattr(limits, "limit_of", lambda key, limits: limit_of(key, replace(limits, types={}, users={}, labels={})))


@planted("I12: .* starts of")
def rate_forgotten_over_a_restart(patch: pytest.MonkeyPatch) -> None:
    """A new service begins with an empty window."""
    patch.setattr(SchedulerState, "look_at_rates", lambda _self: None)


@planted("I12: .* starts of")
def rate_of_each_not_looked_at(patch: pytest.MonkeyPatch) -> None:
    """A type, user or label without a rate of its own has none."""
    patch.setattr(Rates, "of", lambda self, key: self._rates.get(key))


@planted("I15: .* outside of")
def windows_looked_at_only_at_a_start(patch: pytest.MonkeyPatch) -> None:
    """A window that closes while the service runs is not noticed."""
    patch.setattr(Windows, "are_outdated", lambda _self, _now: False)


@planted("I16: ")
def any_worker_will_do(patch: pytest.MonkeyPatch) -> None:
    """The label that a task needs is checked while it waits, and not when a worker is chosen."""
    place = routing.Workers.place
    patch.setattr(routing.Workers, "place", lambda self, _label, most, *, short: place(self, "", most, short=short))


@planted("I7: .* counted")
def label_counted_only_at_start(patch: pytest.MonkeyPatch) -> None:
    """An ended attempt still counts against the limit of its label."""
    give_back = RunningCounts.give_back

    def forgetful(self: RunningCounts, task: TaskState) -> None:
        give_back(self, replace(task, spec=replace(task.spec, label="")))

    patch.setattr(RunningCounts, "give_back", forgetful)


@planted("I5: task .* before it in the order")
def fair_share_ignored(patch: pytest.MonkeyPatch) -> None:
    """Fair share can be switched on and changes nothing."""
    patch.setattr(SchedulerState, "_share", lambda *_: EQUAL)


@planted("I5: task .* before it in the order")
def users_do_not_take_turns(patch: pytest.MonkeyPatch) -> None:
    """Of users with equally many running tasks, the one who has just had a start gets the next."""
    share = SchedulerState._share
    patch.setattr(SchedulerState, "_share", lambda state, user: Share(share(state, user).running, 0))


@planted("I5: task .* before it in the order|I4")
def turns_forgotten_after_restart(patch: pytest.MonkeyPatch) -> None:
    """Whose turn it is lives in memory only."""
    after_resume(patch, lambda state: state.durable.fair_share.last_starts.clear())


@planted("I5: task .* nobody starts it|I5: task .* before it in the order")
def gate_wakes_nobody(patch: pytest.MonkeyPatch) -> None:
    """A limit has a free place, and the task that waited for it is not told."""
    patch.setattr(ReadyQueue, "wake", lambda *_: None)


@planted("I5: task .* before it in the order|I5: .* overtaken|is queued although")
def adjusted_task_keeps_its_place(patch: pytest.MonkeyPatch) -> None:
    """A priority is changed, and the queue is not told."""
    adjust = commands._adjust

    def lazy(work: UnitOfWork, *rest: Any) -> int:
        place = work.place
        work.place = lambda task: None if task.id in work.state.queue else place(task)  # type: ignore[method-assign]  # the fault
        return adjust(work, *rest)

    patch.setattr(commands, "_adjust", lazy)


@planted("although everything is paused")
def drain_starts_one_more(patch: pytest.MonkeyPatch) -> None:
    """The task that was next when the drain came still starts."""

    def hasty(work: UnitOfWork) -> None:
        pauses = work.state.durable.pauses
        pause = pauses.everything
        if pause is not None and pause.drain and not pause.drained:
            pauses.everything = None
            if work.state.free_slots > 0 and not work.state.draining:
                task = dispatch._next_fitting(work.state).task
                if task is not None:
                    dispatch.start_now(work, task)
            pauses.everything = pause
        dispatch.dispatch(work)

    patch.setattr(step, "dispatch", hasty)


@planted("drained, and that is not recorded")
def drain_never_ends(patch: pytest.MonkeyPatch) -> None:
    """The last attempt has ended, and no one is told."""
    patch.setattr(commands, "note_drained", lambda _turn: None)


@planted("although .* is paused")
def pause_ignored_by_hand(patch: pytest.MonkeyPatch) -> None:
    """`StartTask` goes ahead of the queue, and past a pause as well."""

    def hasty(work: UnitOfWork, task: TaskState) -> Any:
        return tuple(one for one in explanation.why_not_now(work, task) if one.reason != "Paused")

    patch.setattr(commands, "why_not_now", hasty)


@planted("although temp space is low")
def disk_low_without_hysteresis(patch: pytest.MonkeyPatch) -> None:
    """With one byte more than the low mark everything starts again."""

    def after(self: MachineSample, _before: MachineSample, limits: Limits) -> MachineSample:
        return replace(self, disk_low=self.temp_free < limits.temp_low)

    patch.setattr(MachineSample, "after", after)


# --- schedules ----------------------------------------------------------------------------------------------------


@planted("schedule .* makes .* at once|should skip it")
def missed_runs_all_made(patch: pytest.MonkeyPatch) -> None:
    """The policy for missed runs is not read."""
    due = schedules.due_runs

    def eager(schedule: Any, now: Any) -> Iterable[Any]:
        plain = replace(schedule, spec=replace(schedule.spec, missed="all", max_missed=5))
        return due(plain, now)

    patch.setattr(timeouts, "due_runs", eager)


@planted("I5: schedule .* has not run")
def missed_runs_forgotten(patch: pytest.MonkeyPatch) -> None:
    """Every run that comes late is skipped, whatever the policy."""
    due = schedules.due_runs

    def lazy(schedule: Any, now: Any) -> Iterable[Any]:
        return due(replace(schedule, spec=replace(schedule.spec, missed="skip")), now)

    patch.setattr(timeouts, "due_runs", lazy)


# --- notices and why ----------------------------------------------------------------------------------------------


@planted("I9: notices never arrive")
def redelivery_forgotten(patch: pytest.MonkeyPatch) -> None:
    """A notice is requested once more, without effect."""
    patch.setattr(Outbox, "_redelivery_requested", lambda *_: None)


@planted("why has no reason|starts at .* although .* paused")
def why_knows_no_pauses(patch: pytest.MonkeyPatch) -> None:
    """A paused task seems to wait for nothing."""
    patch.setattr(explanation, "pauses_of", lambda *_: ())


@planted("why says that task .*(NotBefore|RetryDelay)")
def why_does_not_look_at_the_clock(patch: pytest.MonkeyPatch) -> None:
    """A task whose time has come seems to wait for it."""
    own_timers = explanation.own_timers

    def slow(state: SchedulerState, task: TaskState, now: Any) -> Any:
        return own_timers(state, task, now.replace(year=now.year - 1))

    patch.setattr(explanation, "own_timers", slow)
