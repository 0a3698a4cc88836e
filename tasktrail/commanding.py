"""The methods that make a command out of arguments. Whoever can `send` one, gets them."""

from os import PathLike
from pathlib import Path
from typing import Any

from .events import (
    Accepted,
    CancelTask,
    Checkpoint,
    CreateTask,
    EnableEndpoint,
    RedeliverNotice,
    RetryTask,
    SaveCheckpoint,
    StartTask,
)
from .operating import Operating, command_from_fields


class Commanding(Operating):
    """The commands of `surface.Tasks`. Each is durable when the method returns; a refusal changes nothing."""

    def create_task(self, **fields: Any) -> int:
        """A new task's id. The fields are those of `CreateTask`; paths may be relative to the current folder."""
        for name in ("input_file", "output_file"):
            path = fields.get(name)
            if isinstance(path, str | PathLike) and str(path):
                fields[name] = str(Path(path).absolute())
        return self.send(command_from_fields(CreateTask, {"actor": "python", **fields})).task_id

    def start_task(
        self, task_id: int, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Release a held task, or start a waiting one now, ahead of the queue."""
        return self._send_about(StartTask, task_id, reason, actor, command_id)

    def cancel_task(
        self, task_id: int, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Stop a task, whether it waits or runs."""
        return self._send_about(CancelTask, task_id, reason, actor, command_id)

    def retry_task(
        self,
        task_id: int,
        *,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
        force: bool = False,
    ) -> Accepted:
        """Give a failed or cancelled task another life; beyond `max_retries` only with `force`."""
        return self._send_about(RetryTask, task_id, reason, actor, command_id, force=force)

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
