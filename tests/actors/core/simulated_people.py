"""People: they send commands, sensible or not, as the random numbers have it."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from random import Random

from tasktrail.actors.core.messages import Intake
from tasktrail.events import (
    CancelTask,
    Checkpoint,
    CreateTask,
    RetryTask,
    SaveCheckpoint,
    StartTask,
    TaskCommand,
    TaskState,
)


class SimulatedPeople:
    """They see the tasks as the log has them."""

    def __init__(self, rng: Random, tasks: Mapping[int, TaskState]) -> None:
        self._rng = rng
        self._tasks = tasks

    def command(self, command_id: str, now: datetime) -> tuple[TaskCommand, Intake]:
        """A command, sensible or not, and what was found out about it."""
        rng = self._rng
        kind = rng.choice(("create", "create", "create", "start", "cancel", "retry", "checkpoint"))
        last = len(self._tasks)
        task_id = self._target(kind, last)
        match kind:
            case "create":
                return self._create(command_id, last, now), self._intake()
            case "start":
                return StartTask(task_id=task_id, command_id=command_id), Intake()
            case "cancel":
                return CancelTask(task_id=task_id, command_id=command_id), Intake()
            case "retry":
                return RetryTask(task_id=task_id, command_id=command_id, force=rng.random() < 0.5), Intake()
            case _:
                checkpoint = Checkpoint(processed_bytes=rng.randrange(1000))
                return SaveCheckpoint(task_id=task_id, command_id=command_id, checkpoint=checkpoint), Intake()

    def _target(self, kind: str, last: int) -> int:
        """Mostly a task of late that the command makes sense for, now and then one that is not there."""
        if self._rng.random() < 0.3:
            return max(0, last + 2 - int(self._rng.expovariate(0.15)))
        wanted = {"start": ("pending",), "retry": ("failed", "cancelled")}.get(kind, ("running", "retrying"))
        recent = range(max(1, last - 20), last + 1)
        fitting = [i for i in recent if i in self._tasks and self._tasks[i].status in wanted]
        return self._rng.choice(fitting) if fitting else last

    def _create(self, command_id: str, last: int, now: datetime) -> CreateTask:
        rng = self._rng
        depends_on = [max(0, last + 1 - rng.randint(0, 8)) for _ in range(rng.randint(-4, 3))]
        later = now + timedelta(seconds=rng.randint(-100, 2000))
        return CreateTask(
            type=rng.choice(("plain", "plain", "other", "seldom")),
            output_file=rng.choice(("", "/out")),
            options={"fate": rng.choice(("", "", "", "deadly", "flaky"))},
            priority=rng.randint(0, 10),
            user_level=rng.choice((0, 0, 1)),
            max_retries=rng.randint(0, 3),
            retry_delay=rng.choice((0.0, 1.0, 60.0, 3600.0)),
            resumable=rng.choice((None, False)),
            depends_on=tuple(depends_on),
            on_dependency_failure="wait",
            parent_task_id=last or None if rng.random() < 0.1 else None,
            scheduled_for=later if rng.random() < 0.15 else None,
            held=rng.random() < 0.1,
            timeout=rng.choice((None, None, 30.0, 300.0)),
            command_id=command_id,
        )

    def _intake(self) -> Intake:
        rng = self._rng
        memory, temp = rng.choice((0, 1, 1, 4, 9, 15)), rng.choice((0, 0, 0, 1, 6))
        return Intake(can_resume=rng.random() < 0.8, estimated_memory=memory, estimated_temp=temp)
