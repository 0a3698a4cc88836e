"""The executor of a played history: runs nothing, and tells what the log says that attempts did."""

from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import count

import msgspec

from ...events import Checkpoint, Created
from ...handlers.process.frames import AttemptCheckpointed, AttemptEnded, AttemptProbed, Report, Run, Stop
from .attempts import NOWHERE, Attempts, Plan
from .course import LifeKey

AttemptKey = tuple[int, int]
"""Task and attempt."""
Call = tuple[datetime, int, int, "Moment"]
"""When, its order among what comes at the same moment, a number that no other has, and what comes."""

GONE_WITHIN = timedelta(seconds=0.75)
"""An attempt that was asked to stop is gone by then, unless the log shows when: the usual grace, and a little more."""
_OWN_END_WITHIN = timedelta(seconds=5)
"""When a service stops, an attempt whose recorded end would have come by then comes to that: when the service was asked
to is not known."""
_SAVED = Checkpoint()
"""Stands for any checkpoint: the core only asks whether there is one."""


class Moment(msgspec.Struct, frozen=True, gc=False):
    """Something that a played attempt does."""

    live: "Live"
    kind: str
    """`end`, `save`, or `gone`."""
    after: timedelta = timedelta(0)


class Live(msgspec.Struct, eq=False):
    """An attempt that is being played."""

    task_id: int
    attempt: int
    life: LifeKey
    plan: Plan
    done_before: timedelta
    """What earlier attempts have done and saved, so that this one has less to do."""
    began_at: datetime
    ends_at: datetime | None
    saved: timedelta | None = None
    stopped_at: datetime | None = None
    over: bool = False


class Hands:
    """Plays attempts.

    Args:
        attempts: what the log says of them.
        push: puts a moment into the order of things to come.
        gone_after: attempt → how long after it was asked to stop it was gone, as far as that is known.
    """

    def __init__(
        self,
        attempts: Attempts,
        push: Callable[[Call], None],
        gone_after: dict[AttemptKey, timedelta],
    ) -> None:
        self._attempts = attempts
        self._push = push
        self._gone_after = gone_after
        self._numbers = count(1)
        self._played: dict[LifeKey, int] = {}
        self._saved: dict[LifeKey, timedelta] = {}
        self.live: dict[int, Live] = {}
        self._stopping: dict[AttemptKey, Live] = {}
        self.guessed = 0
        """Attempts whose end the log does not tell."""

    def skip(self, life: LifeKey) -> None:
        """An attempt of this life was over before the beginning of the tape."""
        self._played[life] = self._played.get(life, 0) + 1

    def run(self, order: Run, life: int, spec: Created, began_at: datetime) -> None:
        """An attempt begins, or began before the beginning of the tape."""
        key = (order.task_id, life)
        plan = self._attempts.plan(key, self._played.get(key, 0), spec)
        before = self._saved.get(key, timedelta(0)) if order.checkpoint is not None else timedelta(0)
        ends_at = None if plan.after is None else began_at + max(timedelta(0), plan.after - before)
        live = Live(order.task_id, order.attempt, key, plan, before, began_at, ends_at)
        self.live[order.task_id] = live
        if ends_at is not None:
            self._push((ends_at, 2 * plan.position, next(self._numbers), Moment(live, "end")))
        for after, position in plan.saves:
            if after > before and (plan.after is None or after <= plan.after):
                moment = Moment(live, "save", after)
                self._push((began_at + after - before, 2 * position, next(self._numbers), moment))

    def set_clock(self, by: timedelta) -> None:
        """The wall clock was put forward: nothing has lasted longer for that."""
        for live in {*self.live.values(), *self._stopping.values()}:
            live.began_at += by
            live.ends_at = live.ends_at and live.ends_at + by
            live.stopped_at = live.stopped_at and live.stopped_at + by

    def stop(self, order: Stop, now: datetime, *, draining: bool) -> None:
        """An attempt is asked to stop. It ends when the recorded one did, if that was stopped, too."""
        live = self.live.get(order.task_id)
        if live is None or live.attempt != order.attempt:
            return
        plan = live.plan
        if draining and not plan.was_cut and live.ends_at is not None and now <= live.ends_at <= now + _OWN_END_WITHIN:
            return
        live.stopped_at = now
        self._stopping[live.task_id, live.attempt] = live
        if plan.gone_after is not None:
            gone_at = live.began_at + plan.gone_after - live.done_before
            if now <= gone_at <= now + _OWN_END_WITHIN:
                self._push((gone_at, 2 * plan.gone_position, next(self._numbers), Moment(live, "gone")))
                return
        gone_at = now + self._gone_after.get((live.task_id, live.attempt), GONE_WITHIN)
        self._push((gone_at, NOWHERE, next(self._numbers), Moment(live, "gone")))

    def stopping(self) -> Live | None:
        """The attempt that was asked to stop first, and may be gone by now."""
        return next(iter(self._stopping.values()), None)

    def vanish(self, live: Live, now: datetime) -> Report:
        """A stopped attempt is gone: the log shows it by what was started in its place."""
        if live.stopped_at is not None:
            self._gone_after[live.task_id, live.attempt] = now - live.stopped_at
        self.cut(live)
        return AttemptEnded(live.task_id, live.attempt, "stopped")

    def reports(self, moment: Moment) -> list[Report]:
        """What is told when a moment has come; nothing when the attempt is over by then."""
        live = moment.live
        if live.over or (live.stopped_at is not None and moment.kind == "end"):
            return []
        match moment.kind:
            case "save":
                live.saved = moment.after
                return [AttemptCheckpointed(live.task_id, live.attempt, _SAVED)]
            case "end":
                return self._end(live)
            case _:
                self.cut(live)
                return [AttemptEnded(live.task_id, live.attempt, "stopped")]

    def _end(self, live: Live) -> list[Report]:
        plan = live.plan
        self._forget(live)
        self._played[live.life] = self._played.get(live.life, 0) + plan.used
        self._saved.pop(live.life, None)
        self.guessed += plan.guessed
        end = AttemptEnded(
            live.task_id,
            live.attempt,
            plan.end,
            error=plan.error,
            error_type=plan.error_type,
            exit_code=plan.exit_code,
        )
        return [end] if plan.estimate is None else [AttemptProbed(live.task_id, live.attempt, plan.estimate), end]

    def cut(self, live: Live) -> None:
        """The attempt is over before its end. One that was not cut in the log has the rest of it to do again."""
        self._forget(live)
        if live.plan.was_cut:
            self._played[live.life] = self._played.get(live.life, 0) + 1
            self._saved.pop(live.life, None)
        elif live.saved is not None:
            self._saved[live.life] = live.saved

    def cut_all(self) -> None:
        """The service is gone, and everything that ran with it."""
        for live in list(self.live.values()):
            self.cut(live)

    def _forget(self, live: Live) -> None:
        live.over = True
        self._stopping.pop((live.task_id, live.attempt), None)
        if self.live.get(live.task_id) is live:
            del self.live[live.task_id]
