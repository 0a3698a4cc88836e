"""Spans of handwritten records: ids, restarts, lives, and a receiver that takes no spans."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from tasktrail.actors.messages import Committed, Orders
from tasktrail.events import Cancelled, Completed, Created, Event, Failed, Recorded, Retried, Started, TaskState
from tasktrail.events.clock import SystemClock
from tasktrail.events.reports import Run, Stop
from tasktrail.events.state import create, evolve
from tasktrail.telemetry import tracing as tracing_module
from tasktrail.telemetry.spans import Seen, Spans, TraceSpan, attempt_id, life_id
from tasktrail.telemetry.tracing import Tracing

BEGIN = datetime(2026, 1, 31, 12, tzinfo=UTC)
LOG = "0123456789ab"


class History:
    """Records of one task, ten seconds apart, each with the task after it."""

    def __init__(self, spec: Created | None = None) -> None:
        self.spec = spec or Created(type="work")
        self.at = BEGIN
        self.state: TaskState = create(1, self.spec, self.at)
        self.position = 1

    def add(self, event: Event, *, queued_at: datetime | None = None) -> Seen:
        self.at += timedelta(seconds=10)
        self.position += 1
        self.state = evolve(self.state, event, self.at)  # type: ignore[arg-type]  # task events
        state = self.state
        record = Recorded(
            1, state.version, event, self.at, attempt=state.attempt, life=state.life, position=self.position
        )
        return Seen(record, state, queued_at)


def made(spans: Spans, *seen: Seen) -> list[TraceSpan]:
    return [span for one in seen for span in spans.of(one)]


def lasting(span: TraceSpan) -> tuple[str, float, float]:
    """Return the name, and the seconds since the beginning."""
    return span.name, (span.began - BEGIN).total_seconds(), (span.ended - BEGIN).total_seconds()


def test_each_part_of_a_life_has_its_time() -> None:
    history, spans = History(), Spans(LOG)
    found = made(
        spans,
        history.add(Started(), queued_at=BEGIN + timedelta(seconds=4)),
        history.add(Failed(outcome="failed", error="no", error_type="OSError", final=False)),
        history.add(Retried(cause="rule")),
        history.add(Started(), queued_at=BEGIN + timedelta(seconds=30)),
        history.add(Completed()),
    )
    assert [lasting(span) for span in found] == [
        ("wait work", 4, 10),
        ("attempt work", 10, 20),
        ("wait work", 30, 40),
        ("attempt work", 40, 50),
        ("task work", 0, 50),
    ]
    assert [span.error for span in found] == ["", "OSError", "", "", ""]
    assert found[1].span_id == attempt_id(LOG, 1, 1)
    assert {span.parent for span in found[:-1]} == {found[-1].span_id} == {life_id(LOG, 1, 1)}


def test_an_attempt_that_began_before_the_service_has_its_whole_time() -> None:
    history = History()
    history.add(Started())
    (attempt,) = made(Spans(LOG), history.add(Failed(outcome="interrupted", error="stopped", final=False)))
    assert lasting(attempt) == ("attempt work", 10, 20)


def test_a_retry_by_hand_begins_a_life_of_its_own() -> None:
    history, spans = History(), Spans(LOG)
    found = made(
        spans,
        history.add(Cancelled()),
        history.add(Retried(cause="manual")),
        history.add(Started()),
        history.add(Completed()),
    )
    lives = [span for span in found if span.name == "task work"]
    assert [lasting(life)[1:] for life in lives] == [(0, 10), (20, 40)]
    assert lives[0].span_id != lives[1].span_id
    assert lives[0].trace_id == lives[1].trace_id


def test_what_never_started_is_the_life_alone() -> None:
    found = made(Spans(LOG), History().add(Failed(outcome="not_started", error="too late", final=True)))
    assert [(span.name, span.error) for span in found] == [("task work", "not_started")]


def test_a_clock_that_was_set_back_makes_no_span_end_before_it_begins() -> None:
    (wait,) = made(Spans(LOG), History().add(Started(), queued_at=BEGIN + timedelta(days=1)))
    assert wait.began == wait.ended


class Receiver:
    """Keeps the spans that it gets."""

    def __init__(self) -> None:
        self.got: list[TraceSpan] = []
        self.closed = False

    def send(self, spans: Sequence[TraceSpan]) -> bool:
        self.got += spans
        return True

    def close(self) -> None:
        self.closed = True


def commit(seen: Seen) -> Committed:
    assert seen.task is not None
    return Committed([seen.record], {1: seen.task}, {}, 0.0)


def test_what_cannot_wait_is_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracing_module, "_WAITING", 2)
    receiver, history = Receiver(), History()
    tracing = Tracing(receiver, lambda: LOG, SystemClock())
    with tracing._sending:  # as if the receiver had not answered yet
        for _ in range(5):
            tracing.put(commit(history.add(Started())))
    tracing.close()
    assert (tracing.sent, tracing.dropped, len(receiver.got)) == (2, 3, 2)
    assert receiver.closed


def test_only_orders_to_run_are_marked() -> None:
    tracing = Tracing(Receiver(), lambda: LOG, SystemClock())
    run = Run(1, 1, "work", "", "", {}, None, "/tmp/1")
    stop = Stop(1, 1)
    marked, same = tracing.marked(Orders([run, stop])).orders
    assert isinstance(marked, Run)
    assert marked.traceparent.split("-")[2] == attempt_id(LOG, 1, 1)
    assert same is stop
    tracing.close()
