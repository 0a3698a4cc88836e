"""`@task` makes a function a task type; `.submit` has a service run it. `NamedTask` needs only the type's name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import update_wrapper
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, Self, TypeVar, cast, overload

import msgspec

from ..api.either_way import Awaited
from ..events.errors import InvalidValue
from ..handlers.contract import (
    NO_PACKAGES,
    Bounds,
    Estimate,
    Estimator,
    Packages,
    Periodic,
    TaskContext,
    TaskType,
)
from ..handlers.errors import InvalidFunction
from ..handlers.functions import FunctionSpec, ParameterRole, runner, shape_of
from ..intake.type_defaults import FIELD_DEFAULTS, RECEIVERS, names_receivers
from .default_client import default_async_client, default_client
from .handle import AsyncTaskHandle, TaskHandle

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping

    from ..api.client import AsyncClient
    from ..api.protocol import Tasks
    from ..events.system_events import MissedRuns

P = ParamSpec("P")
"""The parameters of the function."""
S = ParamSpec("S")
"""The parameters of `submit`: the same without the context."""
A = TypeVar("A")
"""The return type of a call; for an `async def` function, a coroutine."""
R = TypeVar("R")
"""The type of the task's result."""
_HANDLES = (TaskHandle, AsyncTaskHandle)
_OF_SUBMIT = {"type": "The name of the type is what `submit` submits.", "options": "Give them to `submit`."}
"""Fields of `CreateTask` that `with_fields` does not take → why."""


class NamedTask:
    """A task type by its name, for programs that do not have its code. The service checks what is sent.

    ```python
    resize = NamedTask("resize")
    handle = resize.submit(path="photo.jpg", width=3)
    ```
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._client: Tasks | AsyncClient | None = None
        self._fields: dict[str, Any] = {}
        self._returns: Any = Any

    def __repr__(self) -> str:
        return f"<task type {self.name}>"

    def using(self, client: Tasks | AsyncClient) -> Self:
        """The same task type, submitted to this service; `submit_async` takes an `AsyncClient`, `submit` any other."""
        return self._changed({"_client": client})

    def with_fields(self, **fields: Any) -> Self:
        """The same task type, submitted with these fields of `CreateTask`: `priority`, `user_id`, `scheduled_for`, ….

        `depends_on` takes handles as well as ids. Raises `InvalidValue` for `type` and `options`.
        """
        for name in fields.keys() & _OF_SUBMIT:
            raise InvalidValue(f"{name} is no field of with_fields", field=name, remedy=_OF_SUBMIT[name])
        return self._changed({"_fields": {**self._fields, **fields}})

    def _changed(self, attributes: Mapping[str, Any]) -> Self:
        other = object.__new__(type(self))
        vars(other).update({**vars(self), **attributes})
        return other

    def submit(self, **options: Any) -> TaskHandle[Any]:
        """Have the service run it with these options. Durable when it returns; a refusal is a `TasktrailError`."""
        return self._submit(options, {})

    async def submit_async(self, **options: Any) -> AsyncTaskHandle[Any]:
        """Like `submit`, without blocking the event loop."""
        return await self._submit_async(options, {})

    def handle(self, task_id: int) -> TaskHandle[Any]:
        """The handle of a task of this type that was submitted earlier, perhaps by another program."""
        return TaskHandle(task_id, self.name, self._returns, self._tasks)

    def handle_async(self, task_id: int) -> AsyncTaskHandle[Any]:
        """Like `handle`, for a program with an event loop."""
        return AsyncTaskHandle(task_id, self.name, self._returns, self._async_tasks)

    def _submit(self, options: Mapping[str, Any], files: Mapping[str, Any]) -> TaskHandle[Any]:
        return self.handle(self._tasks().create_task(self.name, options=options, **self._with_files(files)))

    async def _submit_async(self, options: Mapping[str, Any], files: Mapping[str, Any]) -> AsyncTaskHandle[Any]:
        task_id = await self._async_tasks().create_task(self.name, options=options, **self._with_files(files))
        return self.handle_async(task_id)

    def _with_files(self, files: Mapping[str, Any]) -> dict[str, Any]:
        fields = {**self._fields, **files}
        if "depends_on" in fields:
            given = fields["depends_on"]
            listed = [given] if isinstance(given, (*_HANDLES, int)) else given
            if isinstance(listed, Iterable) and not isinstance(listed, str):  # else the command refuses it, by name
                listed = [one.id if isinstance(one, _HANDLES) else one for one in listed]
            fields["depends_on"] = listed
        return fields

    def _tasks(self) -> Tasks:
        client = self._client
        if isinstance(client, Awaited):
            raise TypeError(f"{self.name} is to use an AsyncClient: await .submit_async(…)")
        return client or default_client()

    def _async_tasks(self) -> AsyncClient:
        client = self._client
        if client is not None and not isinstance(client, Awaited):
            raise TypeError(f"{self.name} is to use a {type(client).__name__}, which would block the loop: .submit(…)")
        return client or default_async_client()


class TaskFunction(NamedTask, Generic[P, S, A, R]):
    """A function that is a task type, made by `@task`. A call just runs it in this process."""

    __tasktrail__: TaskType
    __qualname__: str

    def __init__(self, function: Callable[P, A], task_type: TaskType, shape: FunctionSpec) -> None:
        super().__init__(task_type.name)
        update_wrapper(self, function)
        self.__tasktrail__ = task_type
        self._function = function
        self._shape = shape
        self._returns = shape.returns
        self._as_declared = self

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> A:
        """Run the function here and now, without a service."""
        return self._function(*args, **kwargs)

    def submit(self, *args: S.args, **kwargs: S.kwargs) -> TaskHandle[R]:
        """Have the service run it with these arguments. Durable when it returns; a refusal is a `TasktrailError`.

        Raises TypeError for arguments that the function does not take.
        """
        return self._submit(*self._sorted(args, kwargs))

    async def submit_async(self, *args: S.args, **kwargs: S.kwargs) -> AsyncTaskHandle[R]:
        """Like `submit`, without blocking the event loop."""
        return await self._submit_async(*self._sorted(args, kwargs))

    def handle(self, task_id: int) -> TaskHandle[R]:
        """See `NamedTask.handle`."""
        return super().handle(task_id)

    def handle_async(self, task_id: int) -> AsyncTaskHandle[R]:
        """See `NamedTask.handle_async`."""
        return super().handle_async(task_id)

    def with_fields(self, **fields: Any) -> Self:
        """See `NamedTask.with_fields`. Raises `InvalidValue` for a value that would count as a field left out."""
        for name, usual in self.__tasktrail__.defaults.items():
            if name in fields and fields[name] == FIELD_DEFAULTS[name] != usual:
                raise InvalidValue(
                    f"{name}={fields[name]!r} counts as left out, and {self.name} then has {usual!r}",
                    field=name,
                    remedy="Take another value, or remove the default from @task.",
                )
        return super().with_fields(**fields)

    def __reduce__(self) -> str | tuple[Any, ...]:
        """Pickle by name, like any function: under that name the module has this object."""
        if self is self._as_declared:
            return self.__qualname__
        return self._as_declared._changed, ({"_client": self._client, "_fields": self._fields},)  # noqa: SLF001 - its own

    def _sorted(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Split the arguments into options and paths."""
        try:
            given = self._shape.arguments(args, kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        roles = self._shape.roles
        files = {roles[name].value: value for name, value in given.items() if name in roles and value is not None}
        options = {name: value for name, value in given.items() if name not in roles}
        try:
            return cast("dict[str, Any]", msgspec.to_builtins(options, str_keys=True)), files
        except (TypeError, ValueError) as error:
            raise InvalidValue(f"The arguments of {self.name} cannot be sent: {error}", field="options") from error


@overload
def task(
    function: Callable[Concatenate[TaskContext[Any], S], Coroutine[Any, Any, R]], /
) -> TaskFunction[Concatenate[TaskContext[Any], S], S, Coroutine[Any, Any, R], R]: ...
@overload
def task(
    function: Callable[Concatenate[TaskContext[Any], S], R], /
) -> TaskFunction[Concatenate[TaskContext[Any], S], S, R, R]: ...
@overload
def task(function: Callable[S, Coroutine[Any, Any, R]], /) -> TaskFunction[S, S, Coroutine[Any, Any, R], R]: ...
@overload
def task(function: Callable[S, R], /) -> TaskFunction[S, S, R, R]: ...
@overload
def task(
    name: str = "",
    /,
    *,
    every: float | str | None = None,
    cron: str = "",
    timezone: str = "UTC",
    missed: MissedRuns = "once",
    retry_on: tuple[type[BaseException], ...] = (),
    estimate: Estimator | Estimate | None = None,
    resumable: bool = False,
    grace: float | None = None,
    limits: bool = True,
    bounds: Bounds | None = None,
    network: bool = False,
    reads: tuple[str, ...] = (),
    writes: tuple[str, ...] = (),
    preload: tuple[str, ...] = (),
    needs_folder: bool = True,
    short: bool = False,
    output_suffix: str = "",
    packages: Packages = NO_PACKAGES,
    **fields: Any,
) -> _Decorator: ...
def task(
    function: Callable[..., Any] | str = "",
    /,
    *,
    every: float | str | None = None,
    cron: str = "",
    timezone: str = "UTC",
    missed: MissedRuns = "once",
    retry_on: tuple[type[BaseException], ...] = (),
    estimate: Estimator | Estimate | None = None,
    resumable: bool = False,
    grace: float | None = None,
    limits: bool = True,
    bounds: Bounds | None = None,
    network: bool = False,
    reads: tuple[str, ...] = (),
    writes: tuple[str, ...] = (),
    preload: tuple[str, ...] = (),
    needs_folder: bool = True,
    short: bool = False,
    output_suffix: str = "",
    packages: Packages = NO_PACKAGES,
    **fields: Any,
) -> Any:
    """Make a function a task type, named after it: `@task`, `@task("name")` or `@task(max_retries=5, …)`.

    Its parameters are the options, with their types, bounds and defaults; the docstring says what they mean. A
    parameter annotated with `InputFile` or `OutputFile` gets the task's file, one with `TaskContext` the attempt. The
    return value is the result: JSON of at most 64 KiB. `async def` works.

    Args:
        function: the function; or the name of the type, if it is not to be the function's.
        every: seconds, or a text such as `"10m"`, between two tasks that the service makes by itself.
        cron: the times at which the service makes such a task by itself, as a cron expression.
        timezone: the zone of `cron`.
        missed: what to do about runs that were missed while no service ran: `skip`, `once` or `all`.
        retry_on: errors after which it is tried again, up to `max_retries` times.
        estimate: what an attempt needs, such as `Estimate(memory=4_000_000_000)`, or a function that returns it, as for
            `@handler`; so are the arguments below.
        resumable: whether the function goes on from `context.checkpoint`.
        grace: seconds between the wish to stop and the kill.
        limits: whether attempts have the limits that follow from the estimate.
        bounds: tighter limits.
        network: whether attempts may use the network.
        reads: absolute paths that attempts read, in addition to their input.
        writes: absolute paths that attempts write to, in addition to their output.
        preload: modules that a worker loads once for all attempts.
        needs_folder: False for a function that works on no file at all: many attempts then share one process.
        short: whether it takes milliseconds and little memory: a worker is then given several at once.
        output_suffix: the suffix of an output if only its folder is named.
        packages: packages that the function imports and that may not be installed.
        fields: defaults for fields of `CreateTask`: priority, retries, labels, time-outs, and who is told. Other fields
            are given with each task, by `with_fields`.

    Raises:
        InvalidFunction: no type can be made of it; the error says what to write instead.
    """
    settings: dict[str, Any] = {
        "estimate": estimate or Estimate(),
        "resumable": resumable,
        "grace": grace,
        "limits": limits,
        "bounds": bounds,
        "network": network,
        "reads": reads,
        "writes": writes,
        "preload": preload,
        "needs_folder": needs_folder,
        "short": short,
        "output_suffix": output_suffix,
        "packages": packages,
        "retry_on": retry_on,
    }

    def make(decorated: Callable[..., Any]) -> TaskFunction[Any, Any, Any, Any]:
        target = decorated.__func__ if isinstance(decorated, staticmethod) else decorated
        name = function if isinstance(function, str) and function else _name_of(target)
        shape = shape_of(target, name)
        defaults = _checked_fields(name, fields)
        periodic = _periodic(name, shape, every=every, cron=cron, timezone=timezone, missed=missed)
        try:
            task_type = TaskType(
                name=name,
                summary=(target.__doc__ or "").strip().partition("\n")[0],
                run=runner(target, shape),
                options=shape.options,
                needs_input=shape.name_of(ParameterRole.INPUT) in shape.required,
                needs_output=shape.name_of(ParameterRole.OUTPUT) in shape.required,
                takes_input=bool(shape.name_of(ParameterRole.INPUT) or shape.name_of(ParameterRole.CONTEXT)),
                takes_output=bool(shape.name_of(ParameterRole.OUTPUT) or shape.name_of(ParameterRole.CONTEXT)),
                defaults=defaults,
                periodic=periodic,
                **settings,
            )
        except (TypeError, ValueError) as error:
            raise InvalidFunction(f"@task of {error}") from error
        return TaskFunction(target, task_type, shape)

    return make(function) if callable(function) else make


class _Decorator(Protocol):
    """The type of `@task(...)` with arguments."""

    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext[Any], S], Coroutine[Any, Any, R]], /
    ) -> TaskFunction[Concatenate[TaskContext[Any], S], S, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(
        self, function: Callable[Concatenate[TaskContext[Any], S], R], /
    ) -> TaskFunction[Concatenate[TaskContext[Any], S], S, R, R]: ...
    @overload
    def __call__(
        self, function: Callable[S, Coroutine[Any, Any, R]], /
    ) -> TaskFunction[S, S, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(self, function: Callable[S, R], /) -> TaskFunction[S, S, R, R]: ...


def _name_of(function: Callable[..., Any]) -> str:
    if not inspect.isfunction(function):
        raise InvalidFunction(
            f"@task decorates a {type(function).__name__}, {function!r}",
            remedy="It makes a task type of a function; for a class there is @handler.",
        )
    if not function.__name__.isidentifier():
        raise InvalidFunction("A lambda has no name", remedy='Give it one: task("name")(lambda: …).')
    return function.__name__


_OF_TYPES = (
    *("priority", "max_retries", "retry_delay", "retry_backoff", "retry_max_delay", "retry_jitter"),
    *("label", "worker_label", "requires"),
    *("timeout", "queue_timeout", "total_timeout", "heartbeat_timeout", "no_progress_timeout"),
    *RECEIVERS,
)
"""Fields of `CreateTask` that a type may have its own defaults for."""


def _checked_fields(name: str, fields: dict[str, Any]) -> dict[str, Any]:
    from ..events import CreateTask
    from ..events.errors import TasktrailError
    from ..intake.conversion import command_from_fields
    from ..intake.refusals import unknown_field

    for field in fields:
        if field not in _OF_TYPES:
            remedy = (
                f"@task takes {', '.join(_OF_TYPES)}; others are given when a task is submitted, by with_fields, or to "
                "a schedule that is made by hand (`tasktrail schedule add`)."
            )
            known = field in CreateTask.__struct_fields__
            reason = (
                f"{field} is given with each task" if known else unknown_field(field, CreateTask, own=False).message
            )
            raise InvalidFunction(f"@task of {name}: {reason}", remedy=remedy)
    try:
        usual = command_from_fields(CreateTask, {"type": name, **fields})
        if names_receivers(usual):
            from ..intake.receivers import check_receivers  # it needs more than most modules of functions do

            check_receivers(usual)
    except TasktrailError as error:
        raise InvalidFunction(f"@task of {name}: {error.message}", field=error.field, remedy=error.advice) from error
    return {field: getattr(usual, field) for field in fields}


def _periodic(
    name: str, shape: FunctionSpec, *, every: float | str | None, cron: str, timezone: str, missed: MissedRuns
) -> Periodic | None:
    if every is None and not cron:
        silent = "timezone" if timezone != "UTC" else "missed" if missed != "once" else ""
        if silent:
            raise InvalidFunction(
                f"@task of {name}: {silent} has no effect without every or cron",
                field=silent,
                remedy="Say when it is to run by itself, or leave it out.",
            )
        return None
    from ..actors.core.schedules import check_schedule
    from ..config.settings import parse_duration
    from ..events import Created
    from ..events.commands import AddSchedule
    from ..events.errors import TasktrailError
    from ..events.system_events import ScheduleAdded
    from ..intake.conversion import command_from_fields

    needed = [
        one for one in shape.signature.parameters if one in shape.required - {shape.name_of(ParameterRole.CONTEXT)}
    ]
    if needed:
        raise InvalidFunction(
            f"{name} is to run by itself, and no one would give it {', '.join(needed)}",
            remedy="Give each parameter a default, or add a schedule with options by `tasktrail schedule add`.",
        )
    try:
        seconds = parse_duration(every) if isinstance(every, str) else every
        times: dict[str, Any] = {"cron": cron, "every": seconds, "timezone": timezone, "missed": missed}
        command_from_fields(AddSchedule, {"schedule": name, "task": {"type": name}, **times})
        check_schedule(ScheduleAdded(schedule=name, task=Created(type=name), starting_at=datetime.now(UTC), **times))
    except TasktrailError as error:
        raise InvalidFunction(f"@task of {name}: {error.message}", field=error.field, remedy=error.advice) from error
    except ValueError as error:
        raise InvalidFunction(
            f"@task of {name}: every cannot be {every!r}", field="every", remedy='Seconds, or a text such as "10m".'
        ) from error
    return Periodic(**times)
