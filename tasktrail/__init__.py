"""tasktrail runs long tasks and never loses one: an event log is the only truth, views are folds of it.

Each public name is imported on first use, so that a worker process or a CLI call loads only what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api.client import AsyncClient, Client
    from .api.service import TaskService
    from .config.settings import Config
    from .events import Accepted, Checkpoint, CreateTask, Task, TasktrailError
    from .functions.handle import AsyncTaskHandle, TaskHandle
    from .functions.task_function import NamedTask, task
    from .handlers import Estimate, Finished, InputFile, OutputFile, Rejected, Stopped, TaskContext, handler
    from .projections import TaskFilters

__version__ = "0.1.0"

__all__ = [
    "Accepted",
    "AsyncClient",
    "AsyncTaskHandle",
    "Checkpoint",
    "Client",
    "Config",
    "CreateTask",
    "Estimate",
    "Finished",
    "InputFile",
    "NamedTask",
    "OutputFile",
    "Rejected",
    "Stopped",
    "Task",
    "TaskContext",
    "TaskFilters",
    "TaskHandle",
    "TaskService",
    "TasktrailError",
    "__version__",
    "handler",
    "task",
]

_HOMES = {
    "Accepted": ".events",
    "AsyncClient": ".api.client",
    "Checkpoint": ".events",
    "Client": ".api.client",
    "Config": ".config.settings",
    "CreateTask": ".events",
    "Task": ".events",
    "TasktrailError": ".events",
    "Estimate": ".handlers",
    "Finished": ".handlers",
    "InputFile": ".handlers",
    "OutputFile": ".handlers",
    "Rejected": ".handlers",
    "Stopped": ".handlers",
    "TaskContext": ".handlers",
    "handler": ".handlers",
    "TaskFilters": ".projections",
    "AsyncTaskHandle": ".functions.handle",
    "TaskHandle": ".functions.handle",
    "NamedTask": ".functions.task_function",
    "task": ".functions.task_function",
    "TaskService": ".api.service",
}


def __dir__() -> list[str]:
    """Return the public names, which a Python prompt offers to complete."""
    return list(__all__)


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
