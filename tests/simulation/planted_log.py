"""Faults to plant in answers to commands, in writing the log, and in sending notices."""

from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace
from planted import PLANTED, planted

from tasktrail.actors import scheduler as module
from tasktrail.actors.core.messages import LimitsConfigured, Sampled, Submit
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.core.unit_of_work import UnitOfWork
from tasktrail.actors.messages import Orders
from tasktrail.actors.scheduler import Scheduler, _WaitingMessages
from tasktrail.events import Cancelled
from tasktrail.events import decide as rules
from tasktrail.events.errors import NotReady
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.projections.mail_limit import MailPace
from tasktrail.projections.outbox import Outbox, PendingNotices

__all__ = ["PLANTED"]


@planted("I4: task .* is read back")
def adjustments_not_read_back(patch: pytest.MonkeyPatch) -> None:
    """Of a finished task that is needed again, only its own records are read."""
    read_task = MemoryEventLog.read_task
    patch.setattr(MemoryEventLog, "read_task", lambda self, task_id, **_: read_task(self, task_id))


# --- commands and the log ---------------------------------------------------------------------------------------


@planted("I1: command .* is acknowledged")
def acknowledged_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """The sender gets the answer at once."""
    note = Scheduler._note_answer

    def hasty(self: Scheduler, effect: Any) -> None:
        effect.token.reply(effect.answer)
        note(self, effect)

    patch.setattr(Scheduler, "_note_answer", hasty)


@planted("I6: attempt .* before its Started is durable")
def ordered_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """The executor gets the order at once."""
    keep = Scheduler._keep

    def hasty(self: Any, staged: Any) -> None:
        keep(self, staged)
        if self._orders:
            self._order(Orders(self._orders))
            self._orders = []

    patch.setattr(Scheduler, "_keep", hasty)


@planted("I1: |I3: the log refuses")
def command_id_applied_twice(patch: pytest.MonkeyPatch) -> None:
    """It is not checked whether a command was carried out before."""
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
    """After a failed commit the senders hear that nothing has happened."""

    def sure(self: Any, _error: Any) -> None:
        for ticket, _ in self._answered:
            ticket.reply(NotReady("The commit failed"))

    patch.setattr(Scheduler, "_answer_all", sure)


@planted("I5: stuck|I7: slots leak|I7: attempts without|I14")
def reports_lost_with_the_commit(patch: pytest.MonkeyPatch) -> None:
    """Reports that came while the log could not be written are dropped."""
    take = _WaitingMessages.take
    looked_at = (Sampled, LimitsConfigured)
    patch.setattr(_WaitingMessages, "take", lambda self: (one for one in take(self) if isinstance(one, looked_at)))


@planted("I1: |I3: the log refuses|I4")
def batch_thrown_away_with_the_commit(patch: pytest.MonkeyPatch) -> None:
    """A batch that could not be written is forgotten, and memory continues as if it had been written."""
    wait = Scheduler._wait

    def forgetful(self: Scheduler, error: Any, *seconds: float) -> None:
        wait(self, error, *seconds)
        self._facts, self._orders, self._answers = [], [], {}

    patch.setattr(Scheduler, "_wait", forgetful)


@planted("I3: the log refuses|I4|I14|I5")
def batch_written_twice(patch: pytest.MonkeyPatch) -> None:
    """It is not checked whether a commit that was reported as failed has happened."""
    patch.setattr(module, "already_appended", lambda *_: None)


@planted("I3: the log refuses|I4|I1|I6")
def commands_staged_on_top_of_what_waits(patch: pytest.MonkeyPatch) -> None:
    """Commands are stepped although the batch before them is not in the log, and forgotten with their answer."""

    def careless(self: Scheduler, message: Any, trouble: Any) -> None:
        if isinstance(message, Submit):
            self._stage(message)
            self._facts = []
        message.token.reply(trouble) if isinstance(message, Submit) else self._kept.add(message)

    patch.setattr(Scheduler, "_refuse_or_keep", careless)


@planted("I13|I3: the log refuses")
def epoch_not_checked(patch: pytest.MonkeyPatch) -> None:
    """A service that was replaced may continue to write."""
    patch.setattr(MemoryEventLog, "_check_owner", lambda _self: None)


@planted("I3: the log refuses|I2")
def ended_twice(patch: pytest.MonkeyPatch) -> None:
    """A finished task can be cancelled."""
    patch.setattr(rules, "_cancel", lambda state: (Cancelled(attempt_running=state.status == "running"),))


@planted("I3: time runs back")
def log_follows_the_clock_back(patch: pytest.MonkeyPatch) -> None:
    """Records are stamped with a clock that was set back."""
    begin = UnitOfWork.__init__

    def naive(self: UnitOfWork, state: SchedulerState, now: Any) -> None:
        begin(self, state, now)
        self._recorded_at = now

    patch.setattr(UnitOfWork, "__init__", naive)


@planted("I5|I14: .*never|never answered|outlives")
def commit_retried_by_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    """After the clock was set back, nothing is recorded until it has caught up."""

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
    """A receiver cannot distinguish a repetition from news."""
    apply = Outbox.apply

    def fresh(self: Any, records: Any) -> None:
        apply(self, records)
        self._log_id = str(id(self))

    patch.setattr(Outbox, "apply", fresh)


@planted("I9: notices never arrive")
def failed_notice_given_up(patch: pytest.MonkeyPatch) -> None:
    """After one try, successful or not, the outbox forgets."""
    patch.setattr(PendingNotices, "schedule", _only_new(PendingNotices.schedule))


@planted("I9: more than .* mails")
def address_gets_any_number_of_mails(patch: pytest.MonkeyPatch) -> None:
    """Earlier mails to an address do not count."""
    patch.setattr(MailPace, "count_delivered", lambda *_: None)


def _only_new(schedule: Callable[..., None]) -> Callable[..., None]:
    def once(self: PendingNotices, name: str, *rest: Any) -> None:
        if self.by_id[name].tries == 0:
            schedule(self, name, *rest)

    return once
