"""For authors of handlers: run a handler without the service, stop it or let it crash, and see what it reported.

A crash here is an exception that ends the handler where it stands; the next `resumed()` context then carries the
last checkpoint, as the service would give it. `inline_service` is the whole service, with its attempts in threads of
this process. Real kills of real processes belong in tests of their own.
"""

from collections.abc import Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from .events import Checkpoint
from .events.existence import exists, is_file
from .handlers import Finished, Job, Outcome, Rejected, StopAsked, Stopped, TaskContext, TaskType, Unusable
from .handlers.contract import ONE_CORE, Room, declared
from .handlers.errors import OutputMissing
from .handlers.process.attempt import classify_answer
from .handlers.publish import part_path, remove_part

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .api.service import TaskService
    from .config.settings import Config

O = TypeVar("O")  # noqa: E741 - the options' type, named as in the contract


def job_for(
    options: O,
    input_file: str | Path = "",
    output_file: str | Path = "",
    *,
    size: int | None = None,
    room: Room = ONE_CORE,
) -> Job[O]:
    """Make the argument of a type's `check`, `estimate` and `probe`. `size` is by default that of the input file."""
    source = Path(input_file)
    if size is None:
        size = source.stat().st_size if is_file(source) else 0
    return Job(options=options, input_file=source, output_file=Path(output_file), input_size=size, room=room)


class SimulatedCrash(BaseException):
    """Ends the handler as a kill would: no `except Exception` of its own sees it."""


class RecordingContext(Generic[O]):
    """A `TaskContext` in memory that records all calls.

    Args:
        stop_after: `should_stop()` answers no this many times, then yes.
        crash_after: the checkpoint with this number (from 1) is kept, then `SimulatedCrash` is raised.
    """

    def __init__(
        self,
        options: O,
        *,
        work_dir: Path,
        input_file: Path = Path(),
        input_version: str = "",
        output_file: Path = Path(),
        checkpoint: Checkpoint | None = None,
        attempt: int = 1,
        stop_after: int | None = None,
        crash_after: int | None = None,
        traceparent: str = "",
        dependencies: Mapping[int, Any] | None = None,
        dependencies_by_name: Mapping[str, Any] | None = None,
        room: Room = ONE_CORE,
    ) -> None:
        self.task_id = 1
        self.traceparent = traceparent
        self.attempt = attempt
        self.input_file = input_file
        self.input_version = input_version
        self.output_file = output_file
        self.work_dir = work_dir
        self.options = options
        self.checkpoint = checkpoint
        self.room = room
        self.dependencies = dependencies or {}
        self.dependencies_by_name = dependencies_by_name or {}
        self.reports: list[tuple[float, str]] = []
        self.checkpoints: list[Checkpoint] = []
        self.stop_after = stop_after
        self.crash_after = crash_after
        self.stops_asked = 0
        work_dir.mkdir(parents=True, exist_ok=True)

    @property
    def job(self) -> Job[O]:
        """The argument that the type's `check`, `estimate` and `probe` would get."""
        return job_for(self.options, self.input_file, self.output_file, room=self.room)

    @property
    def output_part(self) -> Path:
        """A hidden name beside `output_file`. Raises `OutputMissing` when the task has none."""
        return part_path(self.output_file, self.task_id)

    def cores(self) -> int:
        """Return the cores of the room."""
        return self.room.cores

    def progress(self, percent: float, message: str = "") -> None:
        """Record a report."""
        self.reports.append((percent, message))

    def save_checkpoint(self, checkpoint: Checkpoint, *, progress: float | None = None, message: str = "") -> None:
        """Record a checkpoint, as it would come back from the log, and crash if it is time."""
        self.checkpoint = msgspec.json.decode(msgspec.json.encode(checkpoint), type=Checkpoint)
        self.checkpoints.append(self.checkpoint)
        if progress is not None:
            self.progress(progress, message)
        if self.crash_after == len(self.checkpoints):
            raise SimulatedCrash

    def temp_file(self, prefix: str, suffix: str = "") -> Path:
        """A new empty file in `work_dir`."""
        number = len(list(self.work_dir.iterdir()))
        path = self.work_dir / f"{prefix}{number}{suffix}"
        path.touch(exist_ok=False)
        return path

    def should_stop(self) -> bool:
        """Count the call. True once `stop_after` calls have been made."""
        self.stops_asked += 1
        return self.stop_after is not None and self.stops_asked > self.stop_after

    def check_stop(self) -> None:
        """Ask `should_stop`, and raise `StopAsked` if it says yes."""
        if self.should_stop():
            raise StopAsked

    def stop_unheard(self) -> bool:
        """Whether `should_stop` would say yes at the next call, and has not said so yet."""
        return self.stop_after is not None and self.stops_asked == self.stop_after

    def resumed(self, *, stop_after: int | None = None, crash_after: int | None = None) -> "RecordingContext[O]":
        """The next attempt at the same task: same files, last checkpoint."""
        return RecordingContext(
            self.options,
            work_dir=self.work_dir,
            input_file=self.input_file,
            input_version=self.input_version,
            output_file=self.output_file,
            checkpoint=self.checkpoint,
            attempt=self.attempt + 1,
            stop_after=stop_after,
            crash_after=crash_after,
            dependencies=self.dependencies,
            dependencies_by_name=self.dependencies_by_name,
        )


def task_type_of(handler: object) -> TaskType:
    """Return the task type that `@handler` made of a function or class. A task type is returned as it is."""
    task_type = declared(handler)
    if task_type is None:
        raise TypeError(f"{handler!r} is not a handler: decorate it with @handler(...)")
    return task_type


def run_handler(handler: object, context: TaskContext[O]) -> Outcome:
    """Run one attempt in this thread. As the worker does, publish its output, or remove an unfinished one.

    Errors of the handler are raised, except that `Unusable` becomes `Rejected` and `StopAsked` becomes `Stopped`. An
    `async def` handler is awaited.

    Raises:
        BadAnswer: the answer means nothing, or cannot be recorded.
        OutputMissing: the type needs an output, and the context has none, or the handler has not written `output_part`.
    """
    task_type = task_type_of(handler)
    try:
        try:
            answer = task_type.handle(context)
        except* StopAsked:
            answer = Stopped()
    except Unusable as error:
        answer = Rejected(reason=str(error))
    classify_answer(context, answer, stop_wanted=True)
    outcome = Finished(result=answer or {}) if answer is None or isinstance(answer, dict) else answer
    if isinstance(outcome, Finished) and (task_type.needs_output or context.output_file.name):
        if exists(context.output_part):
            context.output_part.replace(context.output_file)
        elif task_type.needs_output:
            raise OutputMissing(f"The handler ended without writing its output {context.output_part.name}")
    elif context.output_file.name:
        remove_part(context.output_file, context.task_id)
    return outcome


def context_for(
    handler: object,
    work_dir: Path,
    *,
    options: dict[str, Any] | None = None,
    input_file: str | Path = "",
    output_file: str | Path = "",
    stop_after: int | None = None,
    crash_after: int | None = None,
    dependencies: Mapping[int, Any] | None = None,
    dependencies_by_name: Mapping[str, Any] | None = None,
) -> RecordingContext[Any]:
    """Make a context for the handler. Its options are checked as for a new task. Raises `InvalidOptions`."""
    from .intake.refusals import convert_options

    return RecordingContext(
        convert_options(task_type_of(handler), options or {}),
        work_dir=work_dir,
        input_file=Path(input_file).absolute() if input_file else Path(),
        output_file=Path(output_file).absolute() if output_file else Path(),
        stop_after=stop_after,
        crash_after=crash_after,
        dependencies=dependencies,
        dependencies_by_name=dependencies_by_name,
    )


@contextmanager
def inline_service(
    folder: str | Path, *handlers: object, config: "Config | None" = None, listen: bool = False
) -> "Iterator[TaskService]":
    """Run a whole service whose attempts are threads of this process, so that breakpoints, mocks and coverage work.

    Everything except the worker processes is real: the rules, the log, retries, checkpoints, publishing, notices.
    Nothing is isolated: a handler that crashes ends this process, an attempt cannot be killed, and what it prints goes
    where the process prints. The sandbox and the limits on memory and CPU do not apply.

    `.submit` without `using` goes to it, whatever the environment names; with `listen`, `.submit_async` as well.

    Args:
        folder: the data folder; a fresh one, such as pytest's `tmp_path`.
        handlers: functions or classes marked with `@handler` or `@task`, in addition to the configured types.
        config: as for `TaskService.open`; one worker unless it says otherwise.
        listen: whether it answers on its socket and a port, for programs with a `Client` or `AsyncClient`.
    """
    from .actors.inline_executor import InlineExecutor
    from .api.declared_schedules import apply_declared_schedules
    from .api.service import TaskService
    from .config.load import checked
    from .config.settings import Config
    from .functions.default_client import used_by_default
    from .handlers.registry import Registry
    from .paths import DataPaths
    from .system import System

    config = Config(workers=1) if config is None else checked(config)
    registry = Registry.load(config.handlers, presets=config.presets)
    for target in handlers:
        registry.add(task_type_of(target), "inline")
    types, slots = {task_type.name: task_type for task_type in registry}, config.max_concurrent or config.workers
    paths = DataPaths(Path(folder), Path(config.temp_dir) if config.temp_dir else None, config.log)
    system = System(paths, config, registry=registry, executor=lambda: InlineExecutor(types, slots))
    system.start()
    with TaskService(system) as service:
        apply_declared_schedules(service, registry)
        with _listening(service) if listen else nullcontext(), used_by_default(service, listens=listen):
            yield service


@contextmanager
def _listening(service: "TaskService") -> "Iterator[None]":
    from .http.server import HttpServer

    server = HttpServer(service, socket_path=service.paths.socket, secret_file=service.paths.http_token)
    server.start()
    try:
        yield
    finally:
        server.stop()
