"""The sentence that `history` and `log` show for an event of the service."""

from datetime import UTC, datetime
from typing import Any

import pytest

from tasktrail.events import Checkpoint, Created, Progressed
from tasktrail.events.system_events import (
    SYSTEM_TAGS,
    AcceptedLoss,
    Adjusted,
    ClockJumped,
    CommandRefused,
    Deduplicated,
    DeliveryAttempted,
    DeliveryPostponed,
    EndpointEnabled,
    ErasureFinished,
    LimitsChanged,
    NodeChanged,
    NodeDrainEnded,
    NodeDrainStarted,
    NodeJoined,
    NodeLeft,
    QueueDrained,
    QueuePaused,
    QueueResumed,
    RatesConfigured,
    RedeliveryRequested,
    RetentionConfigured,
    RetentionRule,
    ScheduleAdded,
    ScheduleRemoved,
    SegmentArchived,
    ServiceStarted,
    ServiceStopped,
    SourceAdded,
    SourcePaused,
    SourceRemoved,
    SourceResumed,
    SystemEvent,
    TasksForgotten,
    TokenAdded,
    TokenRevoked,
    UserErased,
    WorkerExited,
)
from tasktrail.events.task_events import Checkpointed, Failed
from tasktrail.projections.describe import describe

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
NOTICE: dict[str, Any] = {"notice_id": "n", "task_id": 1, "channel": "email", "target": "a@b.example"}
SERVICE: dict[str, Any] = {"version": "1", "epoch": 2, "pid": 7, "host": "here"}
DAILY = ScheduleAdded(schedule="nightly", task=Created(type="scan"), cron="0 3 * * *", starting_at=NOON)

SENTENCES: list[tuple[SystemEvent, str]] = [
    (ServiceStarted(**SERVICE), "service 1 started on here, pid 7, epoch 2"),
    (
        ServiceStarted(**SERVICE, accepted_loss=AcceptedLoss(known_position=9, log_position=5)),
        "service 1 started on here, pid 7, epoch 2, without what was recorded up to 9",
    ),
    (
        ServiceStarted(**SERVICE, rebuilt_indexes=("a", "b")),
        "service 1 started on here, pid 7, epoch 2; damaged indexes were rebuilt: a, b",
    ),
    (ServiceStopped(), "service stopped"),
    (RatesConfigured(), "rates configured: none"),
    (RatesConfigured(rates={"user:*": "1/s", "type:a": "9/m"}), "rates configured: user:* 1/s, type:a 9/m"),
    (Deduplicated(task_id=3), "task 3 is unfinished and has the key of the task asked for: no other was created"),
    (Deduplicated(task_id=3, name="a"), "task 3 is unfinished and has the key of a: no other was created"),
    (
        Deduplicated(task_id=3, schedule="nightly", fire_time=NOON),
        "task 3 is unfinished and has the key of the run of schedule nightly: no other was created",
    ),
    (
        ClockJumped(shown=NOON, shows=NOON.replace(hour=13)),
        "the clock was set from 2026-01-31T12:00:00.000000Z to 2026-01-31T13:00:00.000000Z",
    ),
    (Adjusted(task_id=3, held=True), "task 3 adjusted: held"),
    (
        Adjusted(task_id=3, held=False, priority=9, scheduled_for=NOON),
        "task 3 adjusted: released, priority 9, not before 2026-01-31 12:00:00Z",
    ),
    (Adjusted(task_id=3, ignored_dependency=2), "task 3 adjusted: waits no longer for task 2"),
    (Adjusted(task_id=3), "task 3 adjusted: nothing"),
    (WorkerExited(pid=8, exit_code=-9, why="killed"), "worker 8 ended with exit code -9: killed"),
    (DeliveryAttempted(**NOTICE, ok=True), "email to a@b.example delivered"),
    (DeliveryAttempted(**NOTICE, ok=False, detail="busy"), "email to a@b.example not delivered: busy"),
    (
        DeliveryAttempted(**NOTICE, ok=False, final=True, disabled=True),
        "email to a@b.example given up; the endpoint is disabled",
    ),
    (
        DeliveryPostponed(**NOTICE, until=NOON, limit=30),
        "email to a@b.example waits until 2026-01-31 12:00:00Z: at most 30 an hour",
    ),
    (RedeliveryRequested(**NOTICE, told=4), "email to a@b.example is to be sent again"),
    (EndpointEnabled(target="a@b.example"), "endpoint a@b.example enabled"),
    (LimitsChanged(max_concurrent=4, types={"scan": 1}), "limits changed: max_concurrent 4, types {'scan': 1}"),
    (LimitsChanged(fair_share=False), "limits changed: fair_share off"),
    (QueuePaused(), "the queue paused"),
    (QueuePaused(type="scan", drain=True), "type scan is to be drained"),
    (QueueResumed(user_id=5), "user 5 resumed"),
    (QueueDrained(), "the queue is drained: nothing runs any more"),
    (DAILY, "schedule nightly added: scan at `0 3 * * *` in UTC"),
    (
        ScheduleAdded(schedule="often", task=Created(type="scan"), every=90.0, starting_at=NOON),
        "schedule often added: scan every 90 s",
    ),
    (
        ScheduleAdded(schedule="seldom", task=Created(type="scan"), every=1234567.0, starting_at=NOON),
        "schedule seldom added: scan every 1234567 s",
    ),
    (ScheduleRemoved(schedule="nightly"), "schedule nightly removed"),
    (CommandRefused(command="cancel_task", code="forbidden"), "cancel_task refused: forbidden"),
    (
        CommandRefused(command="cancel_task", code="illegal_transition", named_task=7, times=3),
        "cancel_task refused: illegal_transition, task 7, 3 in all",
    ),
    (CommandRefused(), "more commands refused, 1 in all"),
    (TokenAdded(token="ci", role="reader", digest="0" * 64), "token ci added: reader"),
    (
        TokenAdded(token="ada", role="operator", user_id=7, expires_at=NOON, digest="0" * 64),
        "token ada added: operator for user 7 until 2026-01-31 12:00:00Z",
    ),
    (TokenRevoked(token="ci"), "token ci revoked"),
    (SourceAdded(source="inbox", inputs=("/in", "/b/*"), to="/out/"), "source inbox added: /in, /b/* to /out/"),
    (SourceRemoved(source="inbox"), "source inbox removed"),
    (SourcePaused(source="inbox"), "source inbox paused"),
    (SourceResumed(source="inbox"), "source inbox resumed"),
    (
        NodeJoined(node="a", cpus=4.0, memory=1024, gpus=2.0, labels={"zone": "x"}),
        "node a joined: 4 CPUs, 1,024 bytes of memory, 2 GPUs, zone=x",
    ),
    (NodeChanged(node="a", cpus=4.0), "node a changed: 4 CPUs, 0 bytes of memory"),
    (NodeLeft(node="a"), "node a left"),
    (NodeDrainStarted(node="a"), "node a is being drained"),
    (NodeDrainEnded(node="a"), "node a is not drained any more"),
    (UserErased(keys=("k",), tasks=(1, 2)), "the user of 2 tasks was erased"),
    (UserErased(keys=("k",), tasks=(1, 2), plain=3), "the user of 2 tasks was erased, 3 more are in plain text"),
    (ErasureFinished(erasure=41), "the erasure at position 41 is finished"),
    (RetentionConfigured(), "retention configured: everything is kept"),
    (
        RetentionConfigured(
            rules=(RetentionRule(user_id=7), RetentionRule(older_than=90 * 86400.0, status="completed", type="scan"))
        ),
        "retention configured: user 7: kept; completed, scan, older than 90 days",
    ),
    (
        SegmentArchived(first=1, last=65536, root="a", sha256="b", size=3_300_000, newest_task=9),
        "positions 1 to 65536 archived: 3,300,000 bytes",
    ),
    (
        SegmentArchived(first=1, last=9, root="a", sha256="b", size=70, newest_task=9, replaces="c"),
        "positions 1 to 9 archived anew, without what was dropped: 70 bytes",
    ),
    (RetentionConfigured(archive_after=60.0), "retention configured: everything is kept; archived after 60 s"),
    (
        RetentionConfigured(rules=(RetentionRule(older_than=12.5 * 86400),), archive_after=90 * 86400.0),
        "retention configured: all that is over, older than 1080000 s; archived after 90 days",
    ),
    (
        TasksForgotten(tasks="1-40,44", positions="2-90", stubs="00", rule=RetentionRule(older_than=3600.0)),
        "tasks 1-40,44 forgotten: all that is over, older than 3600 s",
    ),
]


@pytest.mark.parametrize(("event", "sentence"), SENTENCES)
def test_an_event_of_the_service_is_told_in_a_sentence(event: SystemEvent, sentence: str) -> None:
    assert describe(event) == sentence


@pytest.mark.parametrize(("progress", "told"), [(0.0, "0.0 %"), (92.75, "92.7 %"), (99.97, "99.9 %"), (100.0, "100 %")])
def test_progress_is_rounded_down_as_everywhere(progress: float, told: str) -> None:
    assert describe(Progressed(progress=progress, message="joining")) == f"{told}: joining"
    assert describe(Checkpointed(checkpoint=Checkpoint(), progress=progress)) == f"checkpoint saved at {told}"


def test_why_a_task_failed_is_said_once() -> None:
    """The error of a task that failed because another did begins with the rule."""
    for error, told in (("DependencyFailed: task 3 has failed", ""), ("no luck", " [DependencyFailed]")):
        event = Failed(outcome="not_started", error=error, rule="DependencyFailed", final=True)
        assert describe(event) == f"not started for good: {error}{told}"


def test_every_event_of_the_service_has_its_sentence_here() -> None:
    assert {type(event) for event, _ in SENTENCES} == set(SYSTEM_TAGS)
