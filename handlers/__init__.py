"""How each kind of work is done: the handler contract, the registry of task types, and the built-in types."""

from .contract import (
    Bounds,
    Estimate,
    Finished,
    Job,
    NoOptions,
    Outcome,
    Packages,
    Rejected,
    Stopped,
    TaskContext,
    TaskType,
    Unusable,
    handler,
)

__all__ = [
    "Bounds",
    "Estimate",
    "Finished",
    "Job",
    "NoOptions",
    "Outcome",
    "Packages",
    "Rejected",
    "Stopped",
    "TaskContext",
    "TaskType",
    "Unusable",
    "handler",
]
