"""The request for a batch, and the answer."""

from typing import Annotated, Any

import msgspec

from ..events.commands import MAX_GRAPH, CommandId, FileTask, Text, Traceparent, says


class NewBatch(FileTask, frozen=True, kw_only=True, tag_field="command", tag="create_batch", omit_defaults=True):
    """Ask for a task for each of many files. All that are possible are created together, under one name.

    The fields of a task apply to every task of the batch. `batch` is its name, by default made of the first input and
    the time.
    """

    inputs: Annotated[
        tuple[Text, ...],
        msgspec.Meta(min_length=1, max_length=MAX_GRAPH),
        says("Files, folders with all below them, and patterns with * ? [ ] **."),
    ]
    to: Annotated[
        str,
        msgspec.Meta(min_length=1, max_length=4096),
        says(
            "The outputs: a folder, or a path with {stem}, {suffix}, {folder}, {number}, {type} or an "
            "option's name in braces."
        ),
    ]
    again: Annotated[bool, says("Include files that an earlier batch has done.")] = False
    dry_run: Annotated[bool, says("Only report what would be done.")] = False
    command_id: CommandId = ""
    actor: Text = ""
    reason: Text = ""
    correlation_id: Text = ""
    traceparent: Traceparent = ""


class Made(msgspec.Struct, frozen=True, kw_only=True):
    """A task of the batch."""

    task_id: int
    """0 in a dry run."""
    type: str
    input_file: str
    output_file: str


class Skipped(msgspec.Struct, frozen=True, kw_only=True):
    """A file for which an earlier batch has a task already."""

    task_id: int
    input_file: str
    output_file: str
    why: str
    open: bool = False
    """That task has not ended."""
    failed: bool = False
    """That task has failed, on the same content."""


class LeftOut(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a folder or pattern that gets no task."""

    input_file: str
    why: str
    task_id: int = 0
    """The task whose output the file is, if that is the reason; else 0."""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """A file for which a task is impossible."""

    input_file: str
    problem: dict[str, Any]
    """The reason, in the form of every error: `detail`, `code`, `field`, `remedy` and more."""


class MadeBatch(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of the request. Every file that was found is in one of the lists."""

    batch: str
    """The batch's name."""
    position: int
    """The position of the last event that it led to; 0 if no task was created."""
    created: tuple[Made, ...]
    skipped: tuple[Skipped, ...]
    left_out: tuple[LeftOut, ...]
    refused: tuple[Refused, ...]
    repeated: bool = False
    """An earlier request with this command id made the batch. `created` are its tasks; the other lists are not kept."""
