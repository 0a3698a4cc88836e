"""The commands as methods, for every class that can send commands, whether its callers block or await."""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from itertools import takewhile
from os import PathLike
from pathlib import Path
from secrets import token_urlsafe
from types import MappingProxyType
from typing import Any, Never, TypeGuard, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from ..batches.request import MadeBatch, NewBatch
from ..events import (
    Accepted,
    AdjustTask,
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
    TasktrailError,
)
from ..events.commands import (
    PATH_FIELDS,
    AddSchedule,
    AddSource,
    AddToken,
    DrainNode,
    DrainQueue,
    EraseUser,
    PauseQueue,
    PauseSource,
    RemoveSchedule,
    RemoveSource,
    ResumeQueue,
    ResumeSource,
    RevokeToken,
    SetLimits,
    UndrainNode,
    id_for_task,
)
from ..events.errors import InvalidValue
from ..events.system_events import MissedRuns, Role
from ..events.task_events import DependencyPolicies, NoticeEvent, Original
from ..events.values import in_words
from ..handlers.urls import is_url
from ..intake.conversion import check_commands, command_from_fields
from ..intake.refusals import unknown_field
from ..projections import TaskFilters
from ..projections.queries.filters import filters_of
from .bulk import RETRYABLE, Answers, RetriedTasks, changeable
from .either_way import either_way
from .spreading import SpreadFilm, spread_film_of, spread_over

C = TypeVar("C", bound=Command)

BEGINS_WITH = "tt_"
"""The beginning of each token's secret, by which secret scanners recognise it."""

_AT_ONCE = 500
"""Commands sent together, where many tasks get one each."""
_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


class Commands(ABC):
    """All commands. Each is durable when its method returns; a refusal is a `TasktrailError` and changes nothing."""

    def __reduce__(self) -> Never:
        """Refuse to be pickled, also as a part of a handle, in words that help."""
        name = type(self).__name__
        raise TypeError(
            f"A {name} cannot be pickled: each process makes its own. Hand over the ids of tasks, and use "
            "`handle` of the function there."
        )

    @abstractmethod
    async def _send_all(self, commands: Sequence[Command], *, checked: bool) -> list[Accepted | TasktrailError]:
        """Send the commands; return an answer to each, in order. `checked`: their values were checked when made."""

    @abstractmethod
    async def _find_ids(self, filters: TaskFilters) -> list[int]:
        """Return the ids of all tasks that pass the filters, in order, all as of the same time."""

    @abstractmethod
    async def _make_batch(self, wanted: NewBatch) -> MadeBatch:
        """Create the tasks of a batch, as far as it can be done."""

    @either_way
    async def make_batch(self, wanted: NewBatch) -> MadeBatch:
        """Make the batch that a Struct describes; `create_batch` takes its fields."""
        return await self._make_batch(wanted)

    @either_way
    async def send(self, command: Command) -> Accepted:
        """Send any command. It is durable when this returns; a refusal raises and changes nothing.

        Paths in it may be relative to the current folder, and begin with `..`.
        """
        check_commands([command])
        return _accepted(await self._send_all([with_absolute_paths(command)], checked=False))

    @either_way
    async def send_many(self, commands: Sequence[Command]) -> list[Accepted | TasktrailError]:
        """Send commands; return an answer to each, in order. They share commits: much quicker than one by one."""
        check_commands(commands)
        return await self._send_all([with_absolute_paths(command) for command in commands], checked=False)

    @either_way
    async def send_each(self, ids: Sequence[int], command: Callable[[int], Command]) -> Answers:
        """Send each task a command of its own, some hundreds at a time. A refusal does not stop the others."""
        return await self._send_each(ids, command)

    @either_way
    async def find_ids(self, filters: TaskFilters | None = None) -> list[int]:
        """Return the ids of all tasks that pass the filters, smallest first: dependencies before their dependents."""
        return await self._find_ids(filters_of(filters))

    @either_way
    async def create_task(
        self,
        /,
        type: str,  # noqa: A002 - the field's name
        input_file: str | PathLike[str] = "",
        output_file: str | PathLike[str] = "",
        *,
        options: Mapping[str, Any] = _NO_OPTIONS,
        preset: str = "",
        priority: int = 0,
        user_level: int = 0,
        estimated_time: float = 0.0,
        max_retries: int = 3,
        retry_delay: float = 60.0,
        retry_backoff: float = 1.0,
        retry_max_delay: float | None = None,
        retry_jitter: float = 0.0,
        resumable: bool | None = None,
        parent_task_id: int | None = None,
        depends_on: Sequence[int] = (),
        on_dependency_failure: DependencyPolicies = "fail",
        notify_email: str = "",
        notify_webhook: str = "",
        callback_url: str = "",
        notify_on: Sequence[NoticeEvent] = (),
        notify_targets: Sequence[str] = (),
        user_id: int = 0,
        document_id: int = 0,
        label: str = "",
        batch: str = "",
        worker_label: str = "",
        requires: Mapping[str, str] = _NO_OPTIONS,
        unique: str = "",
        scheduled_for: datetime | str | None = None,
        held: bool = False,
        timeout: float | None = None,  # noqa: ASYNC109 - a field of the task
        queue_timeout: float | None = None,
        total_timeout: float | None = None,
        heartbeat_timeout: float | None = None,
        no_progress_timeout: float | None = None,
        deadline: datetime | str | None = None,
        overwrite: bool = False,
        original: Original = "keep",
        original_folder: str | PathLike[str] = "",
        reason: str = "",
        actor: str = "python",
        command_id: str = "",
        correlation_id: str = "",
        traceparent: str = "",
        **unknown: Never,
    ) -> int:
        """Create a task. Returns its id, or that of the open task with the same `unique` key.

        The fields are those of `CreateTask`; paths may be relative to the current folder, and begin with `..`.

        Raises `Malformed` for any other field.
        """
        fields = {name: value for name, value in locals().items() if name not in ("self", "unknown")}
        for name in unknown:
            raise unknown_field(name, CreateTask, remedy="help(TaskService.create_task) shows the fields there are.")
        command = command_from_fields(CreateTask, with_absolute_paths(fields))
        return (await self._send_checked(command)).task_id

    @either_way
    async def create_graph(
        self,
        tasks: Sequence[Mapping[str, Any]],
        *,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
        traceparent: str = "",
    ) -> dict[str, int]:
        """Create several tasks, all or none. Returns their ids by name.

        Each has a `name` and the fields of `CreateTask`. In `depends_on` and `parent` stand ids or names of others.
        """
        return (await self._send(CreateGraph, reason, actor, command_id, tasks=tasks, traceparent=traceparent)).ids

    @either_way
    async def spread_film(
        self,
        film: Mapping[str, Any],
        parts: int,
        *,
        reason: str = "",
        actor: str = "python",
        command_id: str = "",
        traceparent: str = "",
    ) -> SpreadFilm:
        """Convert one film on several nodes: create a task for each of `parts` parts, and one that joins them.

        All tasks are created, or none. `film` holds the fields of a `CreateTask` of type `video_convert`. The file has
        the same bytes as if one task made it. A conversion that cannot be spread is one task; the answer says why.
        """
        shared = {"reason": reason, "actor": actor, "command_id": command_id, "traceparent": traceparent}
        fields = with_absolute_paths(film)
        given = {"type": "video_convert", **_named_values(fields, "film"), **shared}
        spreading = spread_over(command_from_fields(CreateTask, given), parts)
        accepted = await self._send_checked(spreading.command)
        if not isinstance(spreading.command, CreateGraph):
            return SpreadFilm(task_id=accepted.task_id, not_spread=spreading.not_spread)
        return spread_film_of(spreading.command, accepted.ids)

    @either_way
    async def create_batch(
        self,
        /,
        inputs: Sequence[str | PathLike[str]],
        to: str | PathLike[str],
        *,
        batch: str = "",
        type: str = "",  # noqa: A002 - the field's name
        options: Mapping[str, Any] = _NO_OPTIONS,
        preset: str = "",
        task: Mapping[str, Any] = _NO_OPTIONS,
        again: bool = False,
        dry_run: bool = False,
        reason: str = "",
        actor: str = "python",
        command_id: str = "",
        correlation_id: str = "",
        traceparent: str = "",
    ) -> MadeBatch:
        """Create a task for each of many files, all together, under one name.

        Args:
            inputs: files, folders with all below them, and patterns with `* ? [ ] **`. Like `to` they may be relative
                to the current folder, and begin with `..`.
            to: the outputs: a folder, or a path with `{stem}`, `{suffix}`, `{folder}`, `{number}`, `{type}` or an
                option's name in braces.
            batch: its name; by default made of the first input and the time.
            type: the task type; by default it follows from each file's kind and the output's suffix.
            options: of the type.
            preset: the name of a set of options, which also decides the type.
            task: other fields of `CreateTask`, the same for all.
            again: include files that an earlier batch has done already.
            dry_run: only report what would be done.
            reason: why; recorded.
            actor: who; recorded.
            command_id: repeating it makes no task twice. Once it has created tasks, the answer is `repeated`: it has
                those tasks, whatever files there are now.
            correlation_id: recorded.
            traceparent: the trace that the tasks belong to.

        Raises:
            CommandIdReused: the id belongs to another batch or command.
            InvalidValue: the pattern cannot be read, or there are more files than one batch may have.
            OutputsCollide: two files would get the same output.
        """
        given = {name: value for name, value in locals().items() if name not in ("self", "inputs", "to", "task")}
        given |= {"inputs": inputs, "to": to, **_named_values(task, "task")}
        return await self._make_batch(command_from_fields(NewBatch, with_absolute_paths(given)))

    @either_way
    async def start_task(
        self, task_id: int, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Release a held task, or start a waiting one now, ahead of the queue."""
        return await self._send(StartTask, reason, actor, command_id, task_id=task_id)

    @either_way
    async def cancel_task(
        self,
        task_id: int,
        *,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
        children: bool = False,
    ) -> Accepted:
        """Stop a task, whether it waits or runs; with `children` also all open tasks below it, at once."""
        return await self._send(CancelTask, reason, actor, command_id, task_id=task_id, children=children)

    @either_way
    async def retry_task(
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
        return await self._send(RetryTask, reason, actor, command_id, task_id=task_id, force=force, delay=delay)

    @either_way
    async def retry_tasks(
        self,
        filters: TaskFilters | None = None,
        *,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
        force: bool = False,
        delay: float = 0.0,
    ) -> RetriedTasks:
        """Give every failed task that passes the filters another life; `status` may ask for cancelled ones, too.

        With a `command_id` each of the commands gets an id made from it, so repeating gives no task two lives. The
        answer is for the tasks that pass the filters then.
        """
        like = _command(RetryTask, reason, actor, command_id, task_id=1, force=force, delay=delay)

        def retry(task_id: int) -> RetryTask:
            own = id_for_task(like.command_id, task_id) if like.command_id else ""
            return replace(like, task_id=task_id, command_id=own)

        ids = await self._find_ids(changeable(filters_of(filters), RETRYABLE, usual=("failed",)))
        answers = await self._send_each(ids, retry)
        return RetriedTasks(retried=answers.done, refused=answers.refused, position=answers.position)

    @either_way
    async def save_checkpoint(self, task_id: int, checkpoint: Checkpoint) -> Accepted:
        """Save a checkpoint of a running task from outside its handler."""
        return await self._send(SaveCheckpoint, "", None, None, task_id=task_id, checkpoint=checkpoint)

    @either_way
    async def redeliver(
        self, task_id: int, notice_id: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Send a notice of the task once more, under its old id. Raises `UnknownNotice`, `EndpointDisabled`."""
        return await self._send(RedeliverNotice, reason, actor, command_id, task_id=task_id, notice_id=notice_id)

    @either_way
    async def enable_endpoint(
        self, target: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Send notices again to an endpoint that is disabled. Raises `UnknownEndpoint`."""
        return await self._send(EnableEndpoint, reason, actor, command_id, target=target)

    # --- for operators ------------------------------------------------------------------------------------------

    @either_way
    async def pause(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        user_id: int | None = None,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> Accepted:
        """Start no more tasks: none at all, none of a type, or none of a user. Running ones go on."""
        return await self._change(PauseQueue, reason, actor, command_id, type=type, user_id=user_id)

    @either_way
    async def resume(
        self,
        *,
        type: str | None = None,  # noqa: A002 - the field's name
        user_id: int | None = None,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> Accepted:
        """Undo a pause of the same scope; without a scope also a drain."""
        return await self._change(ResumeQueue, reason, actor, command_id, type=type, user_id=user_id)

    @either_way
    async def drain(self, *, reason: str = "", actor: str | None = None, command_id: str | None = None) -> Accepted:
        """Start nothing more, and record when the last attempt has ended."""
        return await self._change(DrainQueue, reason, actor, command_id)

    @either_way
    async def adjust_task(
        self,
        task_id: int,
        *,
        priority: int | None = None,
        scheduled_for: datetime | None = None,
        held: bool | None = None,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> Accepted:
        """Change a waiting task's priority or time, or hold or release it."""
        change = {"task_id": task_id, "priority": priority, "scheduled_for": scheduled_for, "held": held}
        return await self._change(AdjustTask, reason, actor, command_id, **change)

    @either_way
    async def set_limits(
        self,
        *,
        reset: bool = False,
        max_concurrent: int | None = None,
        max_memory: int | None = None,
        max_cpu: float | None = None,
        max_temp_size: int | None = None,
        max_per_type: int | None = None,
        max_per_user: int | None = None,
        max_per_label: int | None = None,
        types: Mapping[str, int | None] | None = None,
        users: Mapping[int, int | None] | None = None,
        labels: Mapping[str, int | None] | None = None,
        rates: Mapping[str, str | None] | None = None,
        fair_share: bool | None = None,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> Accepted:
        """Change the limits; those left out stay. The fields are those of `SetLimits`."""
        keyed = {str(user): number for user, number in users.items()} if isinstance(users, Mapping) else users
        return await self._change(
            SetLimits,
            reason,
            actor,
            command_id,
            reset=reset,
            max_concurrent=max_concurrent,
            max_memory=max_memory,
            max_cpu=max_cpu,
            max_temp_size=max_temp_size,
            max_per_type=max_per_type,
            max_per_user=max_per_user,
            max_per_label=max_per_label,
            types=types,
            users=keyed,
            labels=labels,
            rates=rates,
            fair_share=fair_share,
        )

    @either_way
    async def add_schedule(
        self,
        schedule: str,
        task: Mapping[str, Any],
        *,
        cron: str = "",
        every: float | None = None,
        timezone: str = "UTC",
        starting_at: datetime | None = None,
        missed: MissedRuns = "once",
        max_missed: int = 10,
        replace: bool = False,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> Accepted:
        """Create a task again and again. `task` holds fields of `CreateTask`, the others are those of `AddSchedule`.

        Its paths may be relative to the current folder.
        """
        return await self._change(
            AddSchedule,
            reason,
            actor,
            command_id,
            schedule=schedule,
            task=task,
            cron=cron,
            every=every,
            timezone=timezone,
            starting_at=starting_at,
            missed=missed,
            max_missed=max_missed,
            replace=replace,
        )

    @either_way
    async def remove_schedule(
        self, schedule: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """End a schedule; tasks that it has created stay."""
        return await self._change(RemoveSchedule, reason, actor, command_id, schedule=schedule)

    @either_way
    async def add_source(
        self,
        source: str,
        inputs: Sequence[str | PathLike[str]],
        to: str | PathLike[str],
        *,
        task: Mapping[str, Any] = _NO_OPTIONS,
        settle: float = 5.0,
        poll: float = 60.0,
        replace: bool = False,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> Accepted:
        """Watch folders: each new or changed file becomes one task, once it is no longer being written.

        `inputs` and `to` are those of `create_batch`; `task` holds what the tasks share, such as type, preset or
        options. `settle`: seconds that a file must stay unchanged; `poll`: seconds between two scans of all folders.
        """
        fields = {"source": source, "settle": settle, "poll": poll, "replace": replace}
        return await self._change(AddSource, reason, actor, command_id, task=task, inputs=inputs, to=to, **fields)

    @either_way
    async def remove_source(
        self, source: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Stop watching the folders of a source; tasks that it has created stay."""
        return await self._change(RemoveSource, reason, actor, command_id, source=source)

    @either_way
    async def pause_source(
        self, source: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Let a source make no tasks until `resume_source`."""
        return await self._change(PauseSource, reason, actor, command_id, source=source)

    @either_way
    async def resume_source(
        self, source: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Let a paused source go on, also with files that came meanwhile."""
        return await self._change(ResumeSource, reason, actor, command_id, source=source)

    @either_way
    async def drain_node(
        self, node: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Start nothing more on a node, until `undrain_node`; what runs there goes on. `local` is this machine.

        Raises:
            UnknownNode: no node has this name; the message lists the nodes.
            NothingToChange: it is being drained already.
        """
        return await self._change(DrainNode, reason, actor, command_id, node=node)

    @either_way
    async def undrain_node(
        self, node: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Let attempts start on a node again."""
        return await self._change(UndrainNode, reason, actor, command_id, node=node)

    @either_way
    async def add_token(
        self,
        token: str,
        role: Role,
        *,
        user_id: int | None = None,
        expires_at: datetime | None = None,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> str:
        """Add a token and return its secret. The secret cannot be had again: only its hash is sent and kept."""
        secret = f"{BEGINS_WITH}{token_urlsafe(32)}"
        digest = sha256(secret.encode()).hexdigest()
        fields = {"token": token, "role": role, "user_id": user_id, "expires_at": expires_at, "digest": digest}
        await self._change(AddToken, reason, actor, command_id, **fields)
        return secret

    @either_way
    async def revoke_token(
        self, token: str, *, reason: str = "", actor: str | None = None, command_id: str | None = None
    ) -> Accepted:
        """Make a token invalid at once."""
        return await self._change(RevokeToken, reason, actor, command_id, token=token)

    @either_way
    async def erase_user(
        self,
        user_id: int,
        *,
        partly: bool = False,
        reason: str = "",
        actor: str | None = None,
        command_id: str | None = None,
    ) -> Accepted:
        """Erase the personal data of a user's tasks for ever. The user must have nothing unfinished.

        The erasure is certain once this returns. The log has `erasure_finished` when no file of the data folder holds
        the data any more. `partly`: erase although some tasks were recorded unencrypted, and stay readable.
        """
        return await self._change(EraseUser, reason, actor, command_id, user_id=user_id, partly=partly)

    async def _send_each(self, ids: Sequence[int], command: Callable[[int], Command]) -> Answers:
        done: list[int] = []
        refused: dict[int, TasktrailError] = {}
        last = 0
        for start in range(0, len(ids), _AT_ONCE):
            some = ids[start : start + _AT_ONCE]
            commands = [command(task_id) for task_id in some]
            check_commands(commands)
            for task_id, answer in zip(some, await self._send_all(commands, checked=False), strict=True):
                if isinstance(answer, TasktrailError):
                    refused[task_id] = answer
                else:
                    done.append(task_id)
                    last = max(last, answer.position)
        return Answers(done=tuple(done), refused=refused, position=last)

    async def _change(
        self, kind: type[Command], reason: str, actor: str | None, command_id: str | None, **fields: Any
    ) -> Accepted:
        """Send a command in which None means that a field is left out."""
        given = {name: value for name, value in fields.items() if value is not None}
        return await self._send(kind, reason, actor, command_id, **given)

    async def _send(
        self, kind: type[Command], reason: str, actor: str | None, command_id: str | None, **fields: Any
    ) -> Accepted:
        return await self._send_checked(_command(kind, reason, actor, command_id, **fields))

    async def _send_checked(self, command: Command) -> Accepted:
        return _accepted(await self._send_all([command], checked=True))


def _command(kind: type[C], reason: str, actor: str | None, command_id: str | None, **fields: Any) -> C:
    who = {"reason": reason, "actor": actor or "python", "command_id": command_id or ""}
    return command_from_fields(kind, with_absolute_paths({**fields, **who}))


def _accepted(answers: Sequence[Accepted | TasktrailError]) -> Accepted:
    (answer,) = answers
    if isinstance(answer, TasktrailError):
        raise answer
    return answer


def with_absolute_paths(given: Any) -> Any:
    """Make all paths absolute in a command or a task, whether a program has built it or only its fields.

    Its values may still be of wrong types. Those stay as they are, for the conversion to refuse.
    """
    if isinstance(given, Mapping):
        fields: Mapping[str, Any] = given
    elif isinstance(given, Struct):
        fields = {name: getattr(given, name) for name in given.__struct_fields__ if name in _WITH_PATHS}
    else:
        return given
    changed = {
        name: made
        for name, absolute in _WITH_PATHS.items()
        if name in fields and (made := absolute(fields[name])) != fields[name]
    }
    if isinstance(given, Mapping):
        return {**given, **changed}
    return replace(given, **changed) if changed else given


def _named_values(given: object, field: str) -> Mapping[str, Any]:
    """Return the mapping. Raises `InvalidValue` if it is none."""
    if not isinstance(given, Mapping):
        raise InvalidValue(f"{field} has to be a dict of fields, not {in_words(given)}", field=field)
    return given


def _each(absolute: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def each(values: object) -> object:
        if not isinstance(values, Iterable) or isinstance(values, str | bytes | Mapping):
            return values
        return tuple(map(absolute, values))

    return each


def _absolute_path(path: object) -> object:
    """Make a path or a pattern absolute; what is none, or is an address, stays as it is.

    A `..` in front climbs from the current folder. One behind a name stays and is refused later: a program may have put
    somebody else's words behind the folder.
    """
    if not _is_local(path):
        return path
    given = Path(path)
    if given.is_absolute():
        return str(given)
    climbs = len(list(takewhile("..".__eq__, given.parts)))
    return str(Path(os.path.abspath("../" * climbs), *given.parts[climbs:]))  # noqa: PTH100


def _absolute_pattern(to: object) -> object:
    """Make the pattern of outputs absolute. A slash at its end, which means a folder, stays."""
    made = _absolute_path(to)
    return f"{made}/" if _is_local(to) and str(to).endswith("/") and made != "/" else made


def _is_local(path: object) -> TypeGuard[str | PathLike[str]]:
    return isinstance(path, str | PathLike) and bool(str(path)) and not is_url(str(path))


_WITH_PATHS: Mapping[str, Callable[[Any], Any]] = {
    **dict.fromkeys(PATH_FIELDS, _absolute_path),
    "inputs": _each(_absolute_path),
    "to": _absolute_pattern,
    "task": with_absolute_paths,
    "tasks": _each(with_absolute_paths),
}
"""The fields of commands that hold paths, or tasks with paths → what makes these absolute."""
