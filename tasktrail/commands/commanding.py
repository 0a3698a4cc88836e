"""The methods that make a command out of arguments. Whoever can `send` one, gets them."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from ..events import (
    Accepted,
    CancelTask,
    Checkpoint,
    Command,
    CreateGraph,
    CreateTask,
    EnableEndpoint,
    RedeliverNotice,
    RetryTask,
    SaveCheckpoint,
    StartTask,
    Task,
    TasktrailError,
)
from ..projections import TaskFilters
from .operating import Operating, command_from_fields
from .retrying import RetriedTasks, retry_all


class Commanding(Operating):
    """The commands of `surface.Tasks`. Each is durable when the method returns; a refusal changes nothing."""

    @abstractmethod
    def send_many(self, commands: Sequence[Command]) -> list[Accepted | TasktrailError]:
        """An answer each, in order."""

    @abstractmethod
    def list_tasks(self, filters: TaskFilters | None = None) -> tuple[list[Task], int]:
        """One page, and how many there are in all."""

    def create_task(self, **fields: Any) -> int:
        """A new task's id. The fields are those of `CreateTask`; paths may be relative to the current folder."""
        return self.send(command_from_fields(CreateTask, {"actor": "python", **_with_paths(fields)})).task_id

    def create_graph(
        self,
        tasks: Sequence[Mapping[str, Any]],
        *,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> dict[str, int]:
        """Several new tasks, all or none; their ids by name.

        Each has a `name`, the fields of `CreateTask`, and in `depends_on` and `parent` names of others or ids.
        """
        fields = {"reason": reason, "actor": actor or "python", "command_id": command_id or ""}
        graph = command_from_fields(CreateGraph, {"tasks": [_with_paths(task) for task in tasks], **fields})
        return self.send(graph).ids

    def start_task(
        self, task_id: int, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Release a held task, or start a waiting one now, ahead of the queue."""
        return self._send_about(StartTask, task_id, reason, actor, command_id)

    def cancel_task(
        self,
        task_id: int,
        *,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
        children: bool = False,
    ) -> Accepted:
        """Stop a task, whether it waits or runs; with `children` also everything open below it, all at once."""
        return self._send_about(CancelTask, task_id, reason, actor, command_id, children=children)

    def retry_task(
        self,
        task_id: int,
        *,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
        force: bool = False,
        delay: float = 0.0,
    ) -> Accepted:
        """Give a failed or cancelled task another life, at once unless `delay` asks for seconds to wait.

        Beyond `max_retries` only with `force`.
        """
        return self._send_about(RetryTask, task_id, reason, actor, command_id, force=force, delay=delay)

    def retry_tasks(
        self,
        filters: TaskFilters | None = None,
        *,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
        force: bool = False,
        delay: float = 0.0,
    ) -> RetriedTasks:
        """Give every failed task that passes the filters another life; `status` may ask for cancelled ones, too."""
        like = RetryTask(
            task_id=1, force=force, delay=delay, reason=reason, actor=actor or "python", command_id=command_id or ""
        )
        return retry_all(self, filters or TaskFilters(), like)

    def save_checkpoint(self, task_id: int, checkpoint: Checkpoint) -> Accepted:
        """Save resume data of a running task from outside its handler."""
        return self._send_about(SaveCheckpoint, task_id, "", None, None, checkpoint=checkpoint)

    def redeliver(
        self, task_id: int, notice_id: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Send a notice of the task once more, under its old id. Raises `UnknownNotice`, `EndpointDisabled`."""
        return self._send_about(RedeliverNotice, task_id, reason, actor, command_id, notice_id=notice_id)

    def enable_endpoint(
        self, target: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Send notices again to an endpoint that is disabled. Raises `UnknownEndpoint`."""
        fields = {"target": target, "reason": reason, "actor": actor or "python", "command_id": command_id or ""}
        return self.send(command_from_fields(EnableEndpoint, fields))

    def _send_about(
        self,
        kind: type[StartTask | CancelTask | RetryTask | SaveCheckpoint | RedeliverNotice],
        task_id: int,
        reason: str,
        actor: str | None,
        command_id: str | None,
        **more: Any,
    ) -> Accepted:
        fields = {"task_id": task_id, "reason": reason, "actor": actor or "python", "command_id": command_id or ""}
        return self.send(command_from_fields(kind, {**fields, **more}))


def _with_paths(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields with paths counted from the current folder."""
    found = dict(fields)
    for name in ("input_file", "output_file"):
        path = found.get(name)
        if isinstance(path, str | PathLike) and str(path):
            found[name] = str(Path(path).absolute())
    return found
