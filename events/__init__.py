"""The domain: commands, events, the state of a task, `decide`, `evolve`, and the log."""

from .commands import (
    Accepted,
    AdjustTask,
    CancelTask,
    Command,
    CreateGraph,
    CreateTask,
    EnableEndpoint,
    GraphTask,
    LifeCommand,
    OperatorCommand,
    RedeliverNotice,
    RetryTask,
    SaveCheckpoint,
    StartTask,
    TaskCommand,
)
from .errors import TasktrailError
from .log.event_log import Answer, EventLog, Head
from .recorded import Event, Fact, Recorded
from .state import Status, TaskState
from .system_events import SystemEvent
from .task import Task
from .task_events import (
    Cancelled,
    Checkpoint,
    Checkpointed,
    Completed,
    Created,
    Failed,
    Progressed,
    Retried,
    Started,
    TaskEvent,
)

__all__ = [
    "Accepted",
    "AdjustTask",
    "Answer",
    "CancelTask",
    "Cancelled",
    "Checkpoint",
    "Checkpointed",
    "Command",
    "Completed",
    "CreateGraph",
    "CreateTask",
    "Created",
    "EnableEndpoint",
    "Event",
    "EventLog",
    "Fact",
    "Failed",
    "GraphTask",
    "Head",
    "LifeCommand",
    "OperatorCommand",
    "Progressed",
    "Recorded",
    "RedeliverNotice",
    "Retried",
    "RetryTask",
    "SaveCheckpoint",
    "StartTask",
    "Started",
    "Status",
    "SystemEvent",
    "Task",
    "TaskCommand",
    "TaskEvent",
    "TaskState",
    "TasktrailError",
]
