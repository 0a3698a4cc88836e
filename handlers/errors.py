"""What can go wrong around handlers: with their registration, their output, their temp files."""

from typing import ClassVar


class TasktrailError(Exception):
    """Stands in for the root of `events.errors`."""

    code: ClassVar[str] = "error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = ""
    remedy: ClassVar[str] = ""

    def __init__(self, message: str, *, field: str = "", remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.advice = remedy or self.remedy

    def __str__(self) -> str:
        return f"{self.message} {self.advice}"


class HandlerFault(TasktrailError):
    """Stands in for the one of `events.errors`."""


class UnknownType(TasktrailError):
    """No handler is registered for the task type."""

    code = "unknown_type"


class OutputExists(TasktrailError):
    """The output is already there and the task may not overwrite it."""

    code = "output_exists"


class DuplicateType(HandlerFault):
    """Two handlers claim the same task type. The first one found keeps it."""

    code = "duplicate_type"
    title = "A task type is claimed twice"
    remedy = "Rename one of the two types, or uninstall the package that brings the second."


class BrokenHandlers(HandlerFault):
    """A module of handlers cannot be imported or holds none."""

    code = "broken_handlers"
    title = "Handlers cannot be loaded"
    remedy = "Repair or uninstall the package, or take the module out of `handlers` in the configuration."


class OutputMissing(TasktrailError):
    """The handler said it is done but wrote nothing."""

    code = "output_missing"
    title = "There is no output"
    remedy = "The handler must write to context.output_part, or be registered with needs_output=False."


class BadAnswer(TasktrailError):
    """The handler returned, or reported, something that cannot be recorded."""

    code = "bad_answer"
    title = "The handler's answer cannot be recorded"
    remedy = "Return None, a dict of plain JSON values, Finished, Stopped or Rejected; keep large data in files."


class CheckpointRefused(TasktrailError):
    """The checkpoint was not recorded, because the attempt is to end."""

    code = "checkpoint_refused"
    title = "The checkpoint was not recorded"
    remedy = "Let the exception end the handler; the next attempt goes on from the checkpoint before."


class TempSpaceFull(TasktrailError):
    """The temp folder has reached its quota and nothing in it may be removed."""

    code = "temp_space_full"
    status = 507
    title = "The temp folder is full"
    remedy = "Raise max_temp_size, or wait until running tasks end."
