"""Commands that people send about tasks. A new one is one function under `@wish`."""

from datetime import timedelta
from typing import TYPE_CHECKING

from eyes import Eyes, wish
from msgspec.structs import replace
from sim_cluster import REQUIREMENTS

from tasktrail.actors.core.messages import Intake
from tasktrail.events import (
    AdjustTask,
    CancelTask,
    Checkpoint,
    CreateGraph,
    CreateTask,
    EnableEndpoint,
    GraphTask,
    RedeliverNotice,
    RetryTask,
    SaveCheckpoint,
    StartTask,
    TaskCommand,
)
from tasktrail.events.task_events import Estimated

if TYPE_CHECKING:
    from tasktrail.events.task_events import DependencyPolicy

TYPES = ("plain", "plain", "other", "seldom")
LABELS = ("", "", "red", "blue")
KEYS = ("",) * 10 + ("a", "b")


@wish(3)
def create(eyes: Eyes, command_id: str) -> tuple[TaskCommand, Intake]:
    rng, last = eyes.rng, eyes.last
    depends_on = [max(0, last + 1 - rng.randint(0, 8)) for _ in range(rng.randint(-4, 3))]
    later = eyes.now + timedelta(seconds=rng.randint(-100, 2000))
    told = rng.random() < 0.2
    command = CreateTask(
        type=rng.choice(TYPES),
        label=rng.choice(LABELS),
        output_file=rng.choice(("", f"/out/{last % 5}", f"/out/{last}")),
        options={"fate": rng.choice(("", "", "", "deadly", "flaky"))},
        priority=rng.randint(0, 10),
        user_level=rng.choice((0, 0, 1)),
        user_id=rng.randint(0, 3),
        estimated_time=rng.choice((0.0, 0.0, 7200.0)),
        max_retries=rng.randint(0, 3),
        retry_delay=rng.choice((0.0, 1.0, 60.0, 3600.0)),
        resumable=rng.choice((None, False)),
        depends_on=tuple(depends_on),
        on_dependency_failure=rng.choice(("wait", "wait", "ignore", "fail", "cancel")),
        retry_backoff=rng.choice((1.0, 2.0)),
        retry_jitter=rng.choice((0.0, 0.5)),
        queue_timeout=rng.choice((None, None, 600.0)),
        total_timeout=rng.choice((None, None, None, 7200.0)),
        heartbeat_timeout=rng.choice((None, None, 60.0)),
        no_progress_timeout=rng.choice((None, None, 120.0)),
        deadline=rng.choice((None, None, None, later + timedelta(seconds=600))),
        parent_task_id=last or None if rng.random() < 0.1 else None,
        scheduled_for=later if rng.random() < 0.15 else None,
        held=rng.random() < 0.1,
        timeout=rng.choice((None, None, 30.0, 300.0)),
        notify_webhook=f"https://example.com/{rng.randint(1, 20)}" if told else "",
        callback_url=f"https://example.org/{rng.randint(1, 20)}" if told and rng.random() < 0.5 else "",
        notify_on=rng.choice(((), (), ("created", "retried", "completed"))),
        notify_email="a@example.com" if told and rng.random() < 0.5 else "",
        notify_targets=("ops", "team")[: last % 3] if told else (),
        command_id=command_id,
    )
    memory, temp = rng.choice((0, 1, 1, 4, 9, 15)), rng.choice((0, 0, 0, 1, 6))
    can_resume = rng.random() < 0.8
    command = replace(command, unique=rng.choice(KEYS), worker_label="gpu" if rng.random() < 0.05 else "")
    if eyes.nodes:
        command = replace(command, requires=rng.choice(REQUIREMENTS))
    return command, Intake(can_resume=can_resume, estimate=Estimated(memory=memory, temp=temp))


@wish(0.3)
def create_graph(eyes: Eyes, command_id: str) -> tuple[TaskCommand, Intake]:
    rng = eyes.rng
    first = GraphTask(name="a", type="plain", label="red", options={"fate": rng.choice(("", "flaky"))})
    policy: DependencyPolicy = rng.choice(("wait", "ignore", "fail", "cancel"))
    second = GraphTask(
        name="b",
        type="other",
        options={"fate": ""},
        depends_on=("a",),
        parent="a",
        on_dependency_failure=policy,
        unique=rng.choice(("", "a", "b")),
    )
    found = Intake(can_resume=rng.random() < 0.5, estimate=Estimated(memory=rng.choice((0, 2))))
    return CreateGraph(tasks=(first, second), command_id=command_id), Intake(by_name={"a": found, "b": found})


@wish(1)
def start(eyes: Eyes, command_id: str) -> tuple[TaskCommand, Intake]:
    return StartTask(task_id=eyes.task("pending"), command_id=command_id), Intake()


@wish(2)
def cancel(eyes: Eyes, command_id: str) -> tuple[TaskCommand, Intake]:
    children = eyes.rng.random() < 0.2
    return CancelTask(task_id=eyes.task("running"), command_id=command_id, children=children), Intake()


@wish(1.5)
def retry(eyes: Eyes, command_id: str) -> tuple[TaskCommand, Intake]:
    force = eyes.rng.random() < 0.5
    return RetryTask(task_id=eyes.task("failed", "cancelled"), command_id=command_id, force=force), Intake()


@wish(1)
def save_checkpoint(eyes: Eyes, command_id: str) -> tuple[TaskCommand, Intake]:
    checkpoint = Checkpoint(processed_bytes=eyes.rng.randrange(1000))
    return SaveCheckpoint(task_id=eyes.task("running"), command_id=command_id, checkpoint=checkpoint), Intake()


@wish(0.8)
def adjust(eyes: Eyes, command_id: str) -> tuple[TaskCommand, Intake]:
    rng = eyes.rng
    later = eyes.now + timedelta(seconds=rng.randint(-100, 2000))
    command = AdjustTask(
        task_id=eyes.task("pending", "retrying"),
        priority=rng.choice((None, 0, 5, 10)),
        scheduled_for=later if rng.random() < 0.2 else None,
        held=rng.choice((None, None, False, True)),
        command_id=command_id,
    )
    return command, Intake()


@wish(0.2)
def enable_endpoint(eyes: Eyes, command_id: str) -> tuple[TaskCommand, Intake]:
    disabled = sorted(eyes.receivers.disabled)
    some = f"https://example.com/{eyes.rng.randint(1, 20)}"
    return EnableEndpoint(target=eyes.rng.choice([*disabled, some]), command_id=command_id), Intake()


@wish(0.4)
def redeliver(eyes: Eyes, command_id: str) -> tuple[TaskCommand, Intake]:
    """Request a notice that was sent before; now and then one that the service cannot find."""
    if not eyes.receivers.got or eyes.rng.random() < 0.1:
        return RedeliverNotice(task_id=max(1, eyes.last), notice_id="unknown", command_id=command_id), Intake()
    wanted = eyes.rng.choice(eyes.receivers.got)
    command = RedeliverNotice(task_id=wanted.task_id, notice_id=wanted.notice_id, command_id=command_id)
    return command, Intake(redelivery=wanted)
