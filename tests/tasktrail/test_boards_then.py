"""Queue, reasons to wait, limits, tokens, sources, schedules and nodes as of an earlier time."""

from collections.abc import Callable
from contextlib import nullcontext
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from histories import Journal

from tasktrail.actors.archiver import Archiver
from tasktrail.actors.core.explanation import WaitReason
from tasktrail.api import source as source_module
from tasktrail.api.reader import Reader
from tasktrail.api.reader_process import Standing, StandingQuestion, answer_from_past
from tasktrail.api.service import TaskService
from tasktrail.events import Created, CreateTask
from tasktrail.events.commands import AddSchedule, AddSource, AddToken, DrainNode, FileTask, SetLimits, UndrainNode
from tasktrail.events.system_events import NodeDrainStarted, NodeJoined, ScheduleAdded
from tasktrail.projections.errors import BeyondTheLog

Opener = Callable[..., TaskService]


def orders(service: TaskService) -> int:
    """Set one of each kind and return the position; then take all of them back."""
    service.pause(type="echo", reason="new licence", actor="anna")
    waiting = service.create_task(type="echo", priority=3)
    service.send(SetLimits(max_per_user=2))
    service.send(AddToken(token="ci", role="auditor", digest="a" * 64))
    service.send(AddSchedule(schedule="nightly", task=CreateTask(type="echo"), every=3600))
    service.send(AddSource(source="inbox", inputs=("/nowhere",), to="/out/{stem}.jpg", task=FileTask(type="echo")))
    position = service.send(DrainNode(node="local", reason="new disk")).position
    service.send(UndrainNode(node="local"))
    service.cancel_task(waiting)
    service.revoke_token("ci")
    service.remove_schedule("nightly")
    service.remove_source("inbox")
    service.send(SetLimits(reset=True))
    service.resume(type="echo")
    return position


def told(reader: Any, at: Any) -> dict[str, Any]:
    board = reader.queue(as_of=at)
    return {
        "queue": [(one.task_id, one.shut_by) for one in board.entries],
        "why": [one.reason for one in reader.why(1, as_of=at).reasons],
        "pauses": [(one.type, one.actor, one.reason) for one in reader.limits(as_of=at).pauses],
        "limits": reader.limits(as_of=at).limits.max_per_user,
        "tokens": [(one.token, one.role) for one in reader.tokens(as_of=at)],
        "schedules": [one.schedule for one in reader.schedules(as_of=at)],
        "sources": [one.source for one in reader.sources(as_of=at)],
        "nodes": [(one.node, one.state) for one in reader.nodes(as_of=at)],
    }


THEN = {
    "queue": [(1, ("pause of type echo",))],
    "why": [WaitReason.PAUSED, WaitReason.NODE_DRAINING],
    "pauses": [("echo", "anna", "new licence")],
    "limits": 2,
    "tokens": [("ci", "auditor")],
    "schedules": ["nightly"],
    "sources": ["inbox"],
    "nodes": [("local", "drained")],
}


def test_what_stood_then_is_told_by_the_service_without_one_and_from_an_archive(
    open_service: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Archiver, "size", 4)
    service = open_service()
    position = orders(service)
    moment = next(service.log(position - 1, 1)).recorded_at
    assert told(service, position) == THEN
    assert told(service, moment) == THEN
    assert (service.tokens(), service.schedules(), service.sources()) == ([], [], [])
    over = service.why(1, as_of=service.watermark.position)
    assert (over.status, over.live) == ("cancelled", False), "as every client is told it"
    archived = service.archive()
    assert archived.until >= position
    assert told(service, position) == THEN
    service.close()
    with Reader(tmp_path / "data") as reader:
        assert told(reader, position) == THEN
        over = reader.why(1, as_of=reader.stats().position)
        assert (over.status, over.waiting) == ("cancelled", False)


def test_limits_of_then_lie_over_those_of_the_configuration_that_holds(open_service: Opener, tmp_path: Path) -> None:
    """The service's configuration, or the one given to a reader; the data folder may have none, or another one."""
    service = open_service(max_per_type=7, max_per_user=4)
    position = service.send(SetLimits(max_per_type=2)).position
    service.send(SetLimits(reset=True))
    config = service.config
    assert (service.limits(as_of=position).limits.max_per_type, service.limits().limits.max_per_type) == (2, 7)
    assert service.limits(as_of=position).limits.max_per_user == 4
    service.close()
    with Reader(tmp_path / "data", config=lambda: config) as reader:
        assert reader.limits(as_of=position).limits.max_per_user == reader.limits().limits.max_per_user == 4


def test_rates_of_then_are_those_of_the_configuration_of_then(open_service: Opener) -> None:
    """They are recorded, since they decide which starts are counted."""
    service = open_service(rates=("type:echo=5/m",))
    position = service.pause(type="echo").position
    service.close()
    service = open_service()
    assert service.limits().limits.rates == {}
    assert service.limits(as_of=position).limits.rates == {"type:echo": "5/m"}


def test_evidence_is_what_was_recorded_by_then(service: TaskService) -> None:
    first = service.create_task(type="echo", held=True)
    behind = service.create_task(type="echo", depends_on=[first])
    position = service.events(behind)[0].position
    service.start_task(first)
    assert service.wait(behind, 30).status == "completed"
    (one,) = service.why(behind, as_of=position).reasons
    assert (one.reason, one.evidence) == (WaitReason.DEPENDENCY, (service.events(first)[0].position,))
    service.cancel_task(service.create_task(type="echo", held=True))
    again = service.retry_task(3, delay=3600).position
    retried = service.events(3)[-1].position
    assert retried == again
    service.cancel_task(3)
    assert [(one.reason, one.evidence) for one in service.why(3, as_of=retried).reasons] == [
        (WaitReason.RETRY_DELAY, (retried,))
    ]


def test_page_and_queue_tell_that_what_ran_was_promised_what_a_look_into_its_input_had_shown(
    open_service: Opener, tmp_path: Path
) -> None:
    service = open_service(handlers=("limit_handlers",))
    (source := tmp_path / "in.txt").write_text("some")
    options = {"memory": 300 << 20, "temp": 5 << 20}
    task_id = service.create_task("looker", str(source), str(tmp_path / "out.txt"), options=options, retry_delay=0)
    assert service.wait(task_id, timeout=60).attempt == 2
    again = next(one.position for one in service.events(task_id) if one.name == "started" and one.attempt == 2)
    there = service.queue(as_of=again).resources
    page = service.past(again, lambda past: answer_from_past(past, StandingQuestion(again, 9)))
    assert isinstance(page, Standing)
    assert (there.reserved_memory, there.reserved_temp) == (page.reserved_memory, page.reserved_temp)
    assert (page.reserved_memory, page.reserved_temp) == (300 << 20, 5 << 20)


def test_that_no_service_ran_is_told_of_when_it_had_stopped(open_service: Opener) -> None:
    service = open_service()
    waiting = service.create_task(type="echo", held=True)
    service.close()
    service = open_service()
    started = next(one.position for one in service.log() if one.name == "service_started" and one.position > 2)
    for position, held in ((started - 1, [WaitReason.HELD, WaitReason.SHUTTING_DOWN]), (started, [WaitReason.HELD])):
        why = service.why(waiting, as_of=position)
        assert [one.reason for one in why.reasons] == held
        assert bool(service.queue(as_of=position).stopped_at) is (WaitReason.SHUTTING_DOWN in held)
    assert service.queue().stopped_at == 0
    stopped = service.why(waiting, as_of=started - 1).reasons[-1]
    assert (stopped.evidence, stopped.detail) == ((started - 1,), "no service ran: the last one had stopped")


def test_how_far_a_long_fold_is_is_told(service: TaskService, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(source_module, "_LONG", 3)
    monkeypatch.setattr(source_module, "_REPORT_EVERY", 2)
    for _ in range(2):
        service.create_task(type="echo", held=True)
    service.source.folding = lambda: nullcontext(lambda reached, goal: told.append((reached, goal)))
    service.limits(as_of=2)
    assert told == []
    service.limits(as_of=3)
    assert told == [(2, 3)]


def test_the_drain_of_one_machine_holds_nothing_on_a_cluster(journal: Journal, tmp_path: Path) -> None:
    task_id = journal.create(held=True)
    alone = journal.record(0, NodeDrainStarted(node="local"))[-1].position
    joined = journal.record(0, NodeJoined(node="gpu-1", cpus=4.0))[-1].position
    with Reader(tmp_path / "data") as reader:
        told = [{one.reason for one in reader.why(task_id, as_of=at).reasons} for at in (alone, joined)]
    assert [WaitReason.NODE_DRAINING in reasons for reasons in told] == [True, False]


def test_a_schedule_ran_next_behind_the_moment_also_where_its_runs_were_forgotten(
    journal: Journal, tmp_path: Path
) -> None:
    added = ScheduleAdded(schedule="daily", task=Created(type="echo"), every=86400, starting_at=journal.at)
    journal.record(0, added)
    moment = journal.at + timedelta(days=7, hours=1)
    with Reader(tmp_path / "data") as reader:
        (board,) = reader.schedules(as_of=moment)
    assert board.next_at == journal.at + timedelta(days=8)


def test_what_is_still_to_come_is_refused(service: TaskService) -> None:
    head = service.watermark.position
    for ask in (service.queue, service.limits, service.tokens, service.sources, service.schedules, service.nodes):
        with pytest.raises(BeyondTheLog):
            ask(as_of=head + 1000)
        with pytest.raises(BeyondTheLog):
            ask(as_of=datetime.now().astimezone() + timedelta(hours=1))


def test_a_task_that_ran_holds_what_it_was_promised(service: TaskService) -> None:
    task_id = service.create_task(type="patient")
    started = next(one.position for one in service.follow(task_id=task_id) if one.name == "started")
    service.cancel_task(task_id)
    service.wait(task_id, timeout=30)
    board = service.queue(as_of=started)
    assert [(one.task_id, one.attempt) for one in board.running] == [(task_id, 1)]
    assert board.resources.reserved_memory == board.running[0].memory > 0
    assert board.resources.sample.memory_total is None
    assert service.queue(as_of=started - 1).running == ()
