"""The work of each task type: the handler contract, the registry of task types, and the built-in types."""

from .contract import (
    Bounds,
    Diagnosis,
    Estimate,
    Finished,
    Job,
    NoOptions,
    Outcome,
    Packages,
    Rejected,
    Room,
    StopAsked,
    Stopped,
    TaskContext,
    TaskType,
    Unusable,
    handler,
)
from .functions import InputFile, OutputFile

__all__ = [
    "Bounds",
    "Diagnosis",
    "Estimate",
    "Finished",
    "InputFile",
    "Job",
    "NoOptions",
    "Outcome",
    "OutputFile",
    "Packages",
    "Rejected",
    "Room",
    "StopAsked",
    "Stopped",
    "TaskContext",
    "TaskType",
    "Unusable",
    "handler",
]
