"""The Scheduler state of a reader equals, at each position, a fold of the whole log up to there."""

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from histories import BEGIN, Journal, random_history

from tasktrail.actors.core.board import limits_board, queue_board, schedule_boards, source_boards, token_boards
from tasktrail.actors.core.explanation import explain
from tasktrail.actors.core.limits import Limits
from tasktrail.actors.core.state import SchedulerState
from tasktrail.actors.feed import Endings
from tasktrail.api.source import state_from_log
from tasktrail.events import CancelTask
from tasktrail.events.errors import LogCorrupt, LogUnreachable, NotReady
from tasktrail.events.log.log_reader import LogReader
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.reports import AttemptEnded
from tasktrail.events.system_events import QueuePaused, TokenAdded, TokenRevoked
from tasktrail.following import scheduler_state
from tasktrail.following.scheduler_state import FollowedState


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        yield Journal(log)


@pytest.fixture
def log(journal: Journal, tmp_path: Path) -> Iterator[LogReader]:
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:
        assert log.head() == journal.log.head()
        yield log


class Shown:
    """A clock that shows the time it is set to."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    def now(self) -> datetime:
        return self._journal.at

    def monotonic(self) -> float:
        return 0.0


def answers(state: SchedulerState, now: datetime) -> Any:
    """Ask every question about each task that waits or runs."""
    board = queue_board(state, now, 1000, live=False)
    why = {task_id: explain(state, task_id, now, live=False) for task_id in state.tasks.open_ids()}
    return (
        (board.position, board.ready, board.blocked, board.entries, board.pauses),
        {task_id: found and found() for task_id, found in why.items()},
        (
            limits_board(state).changes,
            schedule_boards(state),
            source_boards(state.durable),
            token_boards(state.durable),
        ),
    )


@pytest.mark.parametrize("seed", range(12))
def test_what_is_folded_as_it_comes_is_what_the_whole_log_folds_to(
    seed: int, journal: Journal, log: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_state, "_OVER", 3)  # so that finished tasks leave, and some come back
    chance = Random(seed)
    random_history(journal, 60, seed)
    followed = FollowedState(None, Limits(), Shown(journal))
    followed.caught_up(log, log.head().position)
    for step in range(15):
        before = log.head().position
        random_history(journal, chance.randrange(1, 12), 1000 * seed + step)
        journal.at += timedelta(seconds=chance.choice((0, 0, 90)))  # retries fall due
        for record in list(log.read(before)):
            followed.records_folded([record])
        whole = state_from_log(log.read(), Limits(), journal.at)
        assert followed.ask(answers) == answers(whole, journal.at)


def test_a_log_that_speaks_of_a_task_that_is_not_there_is_told_as_damaged(journal: Journal, log: LogReader) -> None:
    journal.create(depends_on=(journal.create(),))
    _, waiting = log.read()
    with pytest.raises(LogCorrupt, match="Task 2 waits for task 1, which was never created"):
        state_from_log([waiting], Limits(), journal.at)
    journal.send(CancelTask(task_id=1))
    with pytest.raises(LogCorrupt, match="Position 3 speaks of task 1, which was never created"):
        state_from_log(list(log.read())[1:], Limits(), journal.at)


def test_a_task_waits_no_more_for_one_that_has_completed(
    journal: Journal, log: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler_state, "_OVER", 0)
    first = journal.create(output_file="/out/1")
    then = journal.create(output_file="/out/2", depends_on=(first,))
    followed = FollowedState(None, Limits(), Shown(journal))
    followed.caught_up(log, log.head().position)
    assert followed.ask(lambda state, now: queue_board(state, now, 9, live=False)).blocked == 1
    followed.records_folded(journal.start(first))
    assert [one.task_id for one in followed.ask(lambda state, now: queue_board(state, now, 9)).running] == [first]
    followed.records_folded(journal.send(AttemptEnded(task_id=first, attempt=1, outcome="completed")))
    board = followed.ask(lambda state, now: queue_board(state, now, 9, live=False))
    assert (board.blocked, [one.task_id for one in board.entries], board.running) == (0, [then], ())
    assert followed.ask(lambda state, _now: state._passing) == set()  # of each task that ever ran it would be too much
    late = journal.create(output_file="/out/3", depends_on=(first,))  # which is not in memory any more
    followed.records_folded(journal.records[-1:])
    board = followed.ask(lambda state, now: queue_board(state, now, 9, live=False))
    assert (board.blocked, [one.task_id for one in board.entries]) == (0, [then, late])


def test_tokens_are_known_as_soon_as_they_are_recorded_and_forgotten_when_they_are_revoked(
    journal: Journal, log: LogReader
) -> None:
    told = list[int]()
    followed = FollowedState(None, Limits(), Shown(journal), lambda: told.append(len(followed.tokens)))
    followed.caught_up(log, 0)
    assert followed.tokens == {}
    followed.records_folded(journal.record(0, TokenAdded(token="ci", role="reader", digest="d" * 64)))
    assert [token.token for token in followed.tokens.values()] == ["ci"]
    followed.records_folded(journal.record(0, QueuePaused()))
    followed.records_folded(journal.record(0, TokenRevoked(token="ci")))
    assert followed.tokens == {}
    assert told == [0, 1, 0]


def test_nothing_is_answered_from_memory_that_may_hold_what_was_erased(journal: Journal, log: LogReader) -> None:
    journal.create(label="canary")
    followed = FollowedState(None, Limits(), Shown(journal))
    followed.caught_up(log, 1)
    followed.erasing()
    with pytest.raises(NotReady, match="being folded"):
        followed.ask(lambda state, _now: state)


def stopped(_position: int, _end: int) -> None:
    raise ZeroDivisionError


def test_a_page_that_fails_in_the_middle_leads_to_a_new_fold(
    journal: Journal, log: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = journal.create(output_file="/out/1")
    followed = FollowedState(None, Limits(), Shown(journal))
    followed.caught_up(log, 1)
    journal.create(output_file="/out/2", depends_on=(first,))
    with monkeypatch.context() as patch:
        patch.setattr(FollowedState, "_wait", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            followed.records_folded(journal.records[-1:])
    with pytest.raises(ZeroDivisionError):
        followed.caught_up(log, 2, stopped)
    with pytest.raises(LogUnreachable, match="ended at position 2 while it was read up to 3"):
        followed.caught_up(log, 3)
    followed.caught_up(log, 2)
    assert followed.ask(lambda state, now: queue_board(state, now, 9, live=False)).blocked == 1


def test_a_question_is_not_held_up_by_a_long_fold_and_what_was_configured_meanwhile_holds(
    journal: Journal, log: LogReader, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal.create()
    folded = FollowedState(None, Limits(), Shown(journal))
    asked = list[float]()
    fold = FollowedState._fold

    def long(self: FollowedState, state: SchedulerState, log: LogReader, *rest: Any) -> None:
        began = time.monotonic()
        with pytest.raises(NotReady, match="being folded"):
            folded.ask(lambda state, _now: state)
        asked.append(time.monotonic() - began)
        folded.configure(Limits(max_concurrent=3))
        fold(self, state, log, *rest)

    monkeypatch.setattr(FollowedState, "_fold", long)
    folded.caught_up(log, 1)
    assert asked[0] < scheduler_state._ASK_WITHIN / 2
    assert folded.ask(lambda state, _now: state.limits.max_concurrent) == 3


def test_whoever_waits_is_told_that_it_has_caught_up_since_much_may_have_ended_unseen(
    journal: Journal, log: LogReader
) -> None:
    heard, woken, endings = list[int](), list[int](), Endings()
    folded = FollowedState(None, Limits(), Shown(journal), on_records=lambda records: heard.append(len(records)))
    folded.caught_up(log, 0)
    folded.records_folded(journal.record(0, QueuePaused()))
    folded.erasing()
    folded.caught_up(log, 1)
    assert heard == [0, 1, 0]
    with endings.expecting(7, lambda: woken.append(7)):
        endings.wake_all()
    endings.wake_all()
    assert woken == [7]
