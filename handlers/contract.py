"""The handler contract: what a handler gets, and what it may return. A handler's author reads this page first."""

from collections.abc import Callable, Coroutine, Iterable, Mapping
from contextlib import suppress
from functools import cache, reduce
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import FunctionType, MappingProxyType
from typing import Annotated, Any, Generic, Literal, Protocol, TypeAlias, TypeVar

import msgspec

from ..events import Checkpoint, CreateTask
from ..events.commands import PATH_FIELDS, TaskFields
from ..events.errors import InvalidOptions, InvalidValue
from ..events.system_events import MissedRuns
from ..events.values import check_plain, has_control
from .errors import PackageMissing
from .kinds import Kind

O = TypeVar("O")  # noqa: E741 - the type of the options
O_co = TypeVar("O_co", covariant=True)


class NoOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """For types that take no options."""


class Room(msgspec.Struct, frozen=True):
    """The share of the machine that one attempt may take, where its type can choose how much."""

    cores: int = 1
    """CPUs to keep busy."""
    memory: int = 0
    """Bytes to stay below, by taking fewer CPUs if need be; 0: unknown."""


ONE_CORE = Room()


class Job(msgspec.Struct, Generic[O], frozen=True, kw_only=True):
    """The task before its handler has run. A type's `check`, `estimate` and `probe` get it as their argument."""

    options: O
    """The validated options Struct of the type."""
    input_file: Path = Path()
    """Absolute path; empty path (`Path()`) when the type needs none."""
    output_file: Path = Path()
    """The place of the result. Its suffix says which format is wanted."""
    input_size: int = 0
    """Bytes of the input; 0 when there is none, or when an earlier task has yet to make it."""
    room: Room = ONE_CORE


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """The expected needs of an attempt. Admission reserves memory and temp space; too low is worse than too high."""

    memory: int = 64 * 1024 * 1024
    """Bytes of resident memory at the peak."""
    temp: int = 0
    """Bytes of temp space at the peak, the unpublished output included."""
    seconds: float = 0.0
    """Run time; 0 means unknown."""
    basis: dict[str, Any] = {}
    """The facts that the estimate is based on, for people: {"width": 1920, "height": 1080, "duration": 55.1}. Plain
    JSON."""


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """The most that an attempt may use, over its whole process tree. The service ends it with an error for the limit.

    The CPU seconds are the largest of three: `cpu_seconds` plus `cpu_per_megabyte` for each MB of input;
    `cpu_per_expected` times the run time that the sender or `estimate` expects; and `cpu_per_probed` times the run time
    that `probe` has found. For run times, each CPU of `Room.cores` counts. A configured `cpu_limits` replaces all.

    The memory is the larger of `memory_floor` and `memory_factor` times the reserved memory, on top of the worker's
    own.
    """

    cpu_seconds: float = 20.0
    cpu_per_megabyte: float = 5.0
    cpu_per_expected: float = 2.0
    cpu_per_probed: float = 0.0
    """For inputs whose header says how much work they are. Leave it 0 where a crafted header can lie."""
    memory_floor: int = 512 * 1024 * 1024
    memory_factor: float = 2.0


class Packages(msgspec.Struct, frozen=True, kw_only=True):
    """The packages that an attempt imports and that may not be installed."""

    modules: tuple[str, ...] = ()
    """Names as they are imported: ("PIL", "numpy")."""
    install: str = ""
    """The name to install to get them, such as "tasktrail[media]". When empty: packages of the same names."""


NO_PACKAGES = Packages()


class Finished(msgspec.Struct, frozen=True, kw_only=True):
    """The goal is reached. `result` is recorded in `Completed` (size, duration, codec, …)."""

    result: dict[str, Any] = {}
    message: str = ""


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """The handler saw `should_stop()` and ended early. The last checkpoint says how far it came."""


class Rejected(msgspec.Struct, frozen=True, kw_only=True):
    """The input can never be worked on. The task fails at once, whatever retries are left."""

    reason: str


Outcome: TypeAlias = Finished | Stopped | Rejected


class Unusable(ValueError):
    """A handler or a probe raises it instead of returning `Rejected(reason=str(error))`."""


class StopAsked(BaseException):
    """Raised by `TaskContext.check_stop`. When it leaves the handler, the attempt ends as if it had returned `Stopped`.

    It is not an `Exception`, so that an `except Exception` in the handler lets it pass.
    """


Level: TypeAlias = Literal["ok", "warn", "fail"]


class Diagnosis(msgspec.Struct, frozen=True):
    """One line of `tasktrail doctor`."""

    name: str
    level: Level
    message: str
    remedy: str = ""
    """What to do; empty when there is nothing to do."""


class TaskContext(Protocol[O_co]):
    """The running attempt, as its handler sees it.

    After a crash the handler is called again from its first line, in a new process, with the last saved `checkpoint`.
    It does again whatever it did after that checkpoint. `work_dir` is the task's own and survives until the task ends.
    """

    @property
    def task_id(self) -> int:
        """The task's number."""

    @property
    def attempt(self) -> int:
        """1 for the first run of the handler, then 2, …"""

    @property
    def traceparent(self) -> str:
        """The attempt's trace context (W3C), for what the handler calls; empty when the task belongs to no trace.

        In the worker process the variable `TRACEPARENT` holds it as well, so programs that the handler starts have it.
        """

    @property
    def input_file(self) -> Path:
        """Absolute path; empty path (`Path()`) when the type needs none."""

    @property
    def input_version(self) -> str:
        """SHA-256 in hex of an input fetched from elsewhere, since each attempt gets a new copy. Otherwise empty."""

    @property
    def output_file(self) -> Path:
        """The place of the result. Never write here; write to `output_part`."""

    @property
    def output_part(self) -> Path:
        """A hidden file beside `output_file`, with the same suffix. It is published when the handler finishes."""

    @property
    def work_dir(self) -> Path:
        """The task's own folder for temp files. It exists."""

    @property
    def options(self) -> O_co:
        """The validated options Struct of the type."""

    @property
    def room(self) -> Room:
        """The share of the machine that the attempt may take when it runs alone."""

    def cores(self) -> int:
        """CPUs to keep busy at this moment: fewer than `room.cores` while other attempts run. Ask now and then."""

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last saved checkpoint. None on a fresh start, and when the task is not resumable."""

    @property
    def dependencies(self) -> Mapping[int, Any]:
        """Task id → the result that the task returned, for the completed tasks in `depends_on`.

        Raises `ResultsMissing` when the results are larger than 1 MiB.
        """

    @property
    def dependencies_by_name(self) -> Mapping[str, Any]:
        """The same for a task of a graph: the names that its `depends_on` uses → the results of those tasks."""

    def progress(self, percent: float, message: str = "") -> None:
        """Report how far the work is (0 to 100). It is cheap: call it as often as you like, most calls are dropped."""

    def save_checkpoint(self, checkpoint: Checkpoint, *, progress: float | None = None, message: str = "") -> None:
        """Record resume data, and return once it is durable. Fsync the files that it names first."""

    def temp_file(self, prefix: str, suffix: str = "") -> Path:
        """A new empty file in `work_dir`."""

    def should_stop(self) -> bool:
        """Whether the attempt must end. Ask often: after the grace period the process is killed."""

    def check_stop(self) -> None:
        """Raise `StopAsked` if the attempt must end. For places that cannot return `Stopped`."""

    def stop_unheard(self) -> bool:
        """Whether the attempt must end and `should_stop` has not said so. An `async def` handler is then cancelled."""


Estimator: TypeAlias = Callable[[Job[Any]], Estimate]
Checker: TypeAlias = Callable[[Job[Any]], None]
Checkup: TypeAlias = Callable[[], Iterable[Diagnosis]]
ResultCheck: TypeAlias = Callable[[TaskContext[Any], Mapping[str, Any]], str]


_UNSTATED = Estimate()
"""What a job needs if its type does not say."""


class Periodic(msgspec.Struct, frozen=True, kw_only=True):
    """The schedule on which the service creates a type's tasks by itself; the fields are those of `AddSchedule`."""

    cron: str = ""
    every: float | None = None
    """Seconds."""
    timezone: str = "UTC"
    missed: MissedRuns = "once"


class TaskType(msgspec.Struct, frozen=True, kw_only=True):
    """A task type as the registry knows it.

    `@handler` makes one from a function or class. A module may also declare one directly. Then `run`, `probe` and
    `checkup` can be texts, `"package.module:function"`, and the service does not load what only an attempt imports.

    Raises TypeError or ValueError for arguments that make no sense.
    """

    name: str
    summary: str
    """The line that `tasktrail types` shows."""
    run: Callable[..., Any] | str
    """The function that is called with the context, `async` or not, or a class that is instantiated for each
    attempt."""
    options: type[msgspec.Struct] = NoOptions
    estimate: Estimator | Estimate = _UNSTATED
    """What every job needs; or a function that returns what one job will need. It runs in the service, after `check`:
    never open the input here."""
    check: Checker | None = None
    """Raises InvalidOptions or InvalidPath for what can never work together, such as a suffix that cannot be written.
    Runs in the service when the command arrives: never open the input here."""
    probe: Estimator | str | None = None
    """Returns a better estimate, from a look into the input. Runs in the worker, before the handler; may raise
    `Unusable` like the handler."""
    checkup: Checkup | str | None = None
    """Returns diagnoses for `doctor` about the libraries and programs that the type uses on this machine. Called only
    where all `packages` are installed. A diagnosis that several types share is shown once."""
    resumable: bool = False
    needs_input: bool = False
    """Whether a task must have an input. If False, the handler can still read an input that is given."""
    needs_output: bool = False
    """Whether a task must have an output, which the handler must write. If False, an output that is given is published
    if the handler has written to `output_part`."""
    accepts: tuple[Kind, ...] = ()
    """The kinds of files that the type reads, by which the files of a folder are chosen for it. Empty: any file."""
    takes_input: bool = True
    """False: an input is refused, since the handler would not read it."""
    takes_output: bool = True
    """False: an output is refused, since the handler would not write it."""
    grace: float | None = None
    """Seconds between the request to stop and the kill. None: the configured time."""
    limits: bool = True
    """Whether the kernel holds an attempt to a generous multiple of its estimate. False: it may use any amount. A 0 in
    the estimate means unknown, and sets no limit."""
    bounds: Bounds | None = None
    """Tighter limits, which the service watches. None: only the kernel's limits."""
    steady_input: bool = True
    """Whether the input must stay the same until the attempt has ended; if it changes, the attempt fails with
    InputChanged. False: for types that write to their input, move or remove it."""
    hashes_input: bool = True
    """Whether `Completed` has the SHA-256 of the input. The input is read once more for it, unless it is larger than
    the configuration allows. False: for types that read little of a large file. Tasks of batches have the hash
    anyway."""
    carries_manifest: bool = False
    """Whether an output is a work derived from the input, and gets a C2PA manifest if the configuration asks for
    manifests."""
    network: bool = False
    """Whether attempts may reach the network. This and the next two are enforced where the kernel can."""
    reads: tuple[str, ...] = ()
    """Absolute paths of files and folders that attempts read or run programs from, beside the input and the task's
    folder."""
    writes: tuple[str, ...] = ()
    """The same for files and folders that they also write to."""
    preload: tuple[str, ...] = ()
    """Further modules that the handler imports late: a worker loads them once, before its first attempt of the type."""
    needs_folder: bool = True
    """False for a type that works on no file at all, not even a temp file: many attempts then share one process."""
    short: bool = False
    """Whether attempts take milliseconds and little memory. A worker is then given several at once and runs them one
    after the other. All of them count as running. It does not apply to a task that needs more than 64 MiB, or a
    worker's label."""
    programs: Callable[[], tuple[str, ...]] | None = None
    """Returns lines for people: which programs of this machine the type can use, and whether they are there."""
    output_suffix: str = ""
    """The default suffix of an output, with its dot, where a person names only its folder. Empty: the input's
    suffix."""
    packages: Packages = NO_PACKAGES
    """If one is missing, the type is listed, but its tasks are refused with a hint about what to install."""
    defaults: dict[str, Any] = {}
    """Fields of `CreateTask` → this type's defaults for them. A command that sets a field to another value keeps its
    own."""
    check_result: ResultCheck | str | None = None
    """Decodes the whole of `output_part`, compares it with the input, and returns why the input must not give way to
    it, such as a track that is missing; empty if it may. It gets the handler's result, and may raise what the handler
    may raise. Without it, tasks cannot ask that the original be replaced or moved."""
    retry_on: tuple[type[BaseException], ...] = ()
    """Errors of the handler after which a retry is allowed, up to `max_retries`. The rules of the configuration come
    first, the built-in ones last."""
    uses_up: Callable[[Path, Any], tuple[Path, ...]] | None = None
    """Returns, for the output's path and the options, the files that an attempt reads beside its input. They were made
    for this output alone and are removed once it is published."""
    periodic: Periodic | None = None
    """The schedule on which tasks of this type are created. The service adds, changes and removes it when it starts."""

    def __post_init__(self) -> None:
        """See the class."""
        _check_plain(self)
        _check_name(self.name)
        _check_estimate(self.name, self.estimate)
        _check_callable(self.name, check=self.check, uses_up=self.uses_up)
        _check_run(self.name, self.run)
        _check_places(self.name, run=self.run, probe=self.probe, checkup=self.checkup, check_result=self.check_result)
        _check_paths(self.name, reads=self.reads, writes=self.writes)
        _check_words(self.name, self.programs, self.output_suffix)
        _check_defaults(self.name, self.defaults)

    @property
    def works_on_files(self) -> bool:
        """Whether every attempt has its own folder to work in; if not, only attempts that are given a path have one."""
        return self.needs_folder or self.needs_input or self.needs_output

    @property
    def late_modules(self) -> tuple[str, ...]:
        """The modules that an attempt imports and the service does not."""
        named = [place.partition(":")[0] for place in (self.probe, self.run) if isinstance(place, str)]
        return tuple(dict.fromkeys([*named, *self.preload]))

    def options_from(self, options: Mapping[str, Any]) -> msgspec.Struct:
        """The options of a task, as the handler sees them. Raises `msgspec.ValidationError`."""
        return msgspec.convert(options, self.options, str_keys=True)  # JSON has numbers as keys in quotes

    def used_up(self, output_file: str, options: Mapping[str, Any]) -> tuple[Path, ...]:
        """The files that an attempt reads beside its input, and that its output replaces."""
        if self.uses_up is None or not output_file:
            return ()
        try:
            return self.uses_up(Path(output_file), self.options_from(options))
        except msgspec.ValidationError:  # the attempt itself reports it
            return ()

    def handle(self, context: TaskContext[Any]) -> Outcome | dict[str, Any] | None:
        """Call the handler. What it raises is not caught."""
        target = loaded(self.run)
        answer = target()(context) if isinstance(target, type) else target(context)
        return _awaited(answer, context)  # type: ignore[no-any-return]  # the caller checks the answer

    def expected(self, job: Job[Any]) -> Estimate:
        """What the job will need, before anybody has looked into its input."""
        return self.estimate if isinstance(self.estimate, Estimate) else self.estimate(job)

    def probe_input(self, job: Job[Any]) -> Estimate:
        """Call `probe`, which must be set."""
        return loaded(self.probe)(job)  # type: ignore[no-any-return]  # the caller checks the answer

    def why_kept(self, context: TaskContext[Any], result: Mapping[str, Any]) -> str:
        """Call `check_result`, which must be set."""
        return loaded(self.check_result)(context, result)  # type: ignore[no-any-return]  # a text, by the contract

    def diagnoses(self) -> Iterable[Diagnosis]:
        """The diagnoses of `checkup` for this machine; none for a type without it."""
        return () if self.checkup is None else loaded(self.checkup)()


H = TypeVar("H", bound=Callable[..., Any])


def handler(
    name: str,
    *,
    options: type[msgspec.Struct] = NoOptions,
    estimate: Estimator | Estimate = _UNSTATED,
    check: Checker | None = None,
    probe: Estimator | str | None = None,
    checkup: Checkup | str | None = None,
    check_result: ResultCheck | str | None = None,
    resumable: bool = False,
    needs_input: bool = False,
    needs_output: bool = False,
    grace: float | None = None,
    limits: bool = True,
    bounds: Bounds | None = None,
    steady_input: bool = True,
    hashes_input: bool = True,
    network: bool = False,
    reads: tuple[str, ...] = (),
    writes: tuple[str, ...] = (),
    preload: tuple[str, ...] = (),
    needs_folder: bool = True,
    short: bool = False,
    programs: Callable[[], tuple[str, ...]] | None = None,
    output_suffix: str = "",
    packages: Packages = NO_PACKAGES,
) -> Callable[[H], H]:
    """Make a function or class the handler of task type `name`; `async def` runs in an event loop of its own.

    A class is instantiated without arguments for each attempt, and the instance is called with the context. The first
    line of the docstring is the summary that `tasktrail types` shows. Raises TypeError or ValueError for arguments that
    make no sense.
    """
    if not isinstance(name, str):
        called = getattr(name, "__name__", "name")
        raise TypeError(f'@handler needs the name of the task type, as in @handler("{called}")')

    def mark(target: H) -> H:
        task_type = TaskType(
            name=name,
            summary=(target.__doc__ or "").strip().partition("\n")[0],
            run=target,
            options=options,
            estimate=estimate,
            check=check,
            probe=probe,
            checkup=checkup,
            check_result=check_result,
            resumable=resumable,
            needs_input=needs_input,
            needs_output=needs_output,
            grace=grace,
            limits=limits,
            bounds=bounds,
            steady_input=steady_input,
            hashes_input=hashes_input,
            network=network,
            reads=reads,
            writes=writes,
            preload=preload,
            needs_folder=needs_folder,
            short=short,
            programs=programs,
            output_suffix=output_suffix,
            packages=packages,
        )
        try:
            target.__tasktrail__ = task_type  # type: ignore[attr-defined]
        except (AttributeError, TypeError) as error:  # a method of an object, a function written in C, a text
            raise TypeError(
                f"{name}: @handler marks functions and classes, and {target!r} cannot be marked: write a function that "
                f'calls it, or give its module a TaskType(name="{name}", summary=..., run=...)'
            ) from error
        return target

    return mark


def declared(target: object) -> TaskType | None:
    """The task type that `target` is, or that `@handler` has attached to it. None for anything else."""
    if isinstance(target, TaskType):
        return target
    try:
        found = getattr(target, "__tasktrail__", None)
    except Exception:  # noqa: BLE001 - of foreign code: some objects fail until they are bound to something
        return None
    return found if isinstance(found, TaskType) else None


def resolve(home: str) -> Any:
    """The module `package.module`, or the object `package.module:name.name`."""
    module, _, path = home.partition(":")
    return reduce(getattr, path.split(".") if path else [], import_module(module))


def loaded(place: Any) -> Any:
    """The function that a type names, directly or by the text `package.module:name`."""
    return resolve(place) if isinstance(place, str) else place


MEDIA = "tasktrail[media]"
_found: set[str] = set()
"""Modules that were found. Those stay installed; a missing one may be installed while the service runs."""


def media(*modules: str) -> Packages:
    """The packages of a built-in type."""
    return Packages(modules=modules, install=MEDIA)


@cache
def versions_of(packages: Packages) -> Mapping[str, str]:
    """Package → version, for the installed ones of `packages`, under the names that they are installed by."""
    if not packages.modules:
        return {}
    from importlib import metadata  # noqa: PLC0415 - most processes never ask

    versions = {}
    for module in packages.modules:
        name = _INSTALLED_AS.get(module, module)
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return MappingProxyType(versions)


_INSTALLED_AS = {"PIL": "pillow", "markdown_it": "markdown-it-py"}


def missing_packages(task_type: TaskType) -> tuple[str, ...]:
    """The packages that an attempt would import and that are not installed. Finding out loads none of them."""
    missing = []
    for name in task_type.packages.modules:
        if name not in _found and find_spec(name) is None:
            missing.append(name)
        else:
            _found.add(name)
    return tuple(missing)


def require_packages(task_type: TaskType) -> None:
    """Raise PackageMissing, which says what to install, if a package is not installed."""
    if missing := missing_packages(task_type):
        wanted = task_type.packages.install or " ".join(missing)
        raise PackageMissing(
            f"{task_type.name} needs packages that are not installed: {', '.join(missing)}",
            field="type",
            remedy=f"Install {wanted} in the environment that the service runs in.",
        )


_LOOK_EVERY = 0.05
"""Seconds between two checks whether a handler made with `async def` must stop."""


def _awaited(answer: Any, context: TaskContext[Any]) -> Any:
    """The answer, or the result of the coroutine that a handler made with `async def` returns.

    When the attempt must end, the coroutine is cancelled once: `asyncio.CancelledError` is raised where it awaits. It
    may tidy up, save a checkpoint, and even go on to an answer. If the error leaves it, the answer is `Stopped`.
    """
    if not isinstance(answer, Coroutine):
        return answer
    import asyncio  # noqa: PLC0415 - most handlers need no event loop

    async def cancel(work: "asyncio.Future[Any]") -> None:
        while not context.stop_unheard():  # noqa: ASYNC110 - the wish comes from another process
            await asyncio.sleep(_LOOK_EVERY)
        work.cancel()

    async def run() -> Any:
        work = asyncio.ensure_future(answer)
        watch = asyncio.ensure_future(cancel(work))
        try:
            return await work
        except asyncio.CancelledError:
            if watch.done():
                return Stopped()
            raise
        finally:
            watch.cancel()

    return asyncio.run(run())


class _Plain(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a type that are plain values, so that they can be checked as options are."""

    name: Annotated[str, msgspec.Meta(min_length=1)]
    summary: str
    resumable: bool
    needs_input: bool
    needs_output: bool
    grace: Annotated[float, msgspec.Meta(ge=0)] | None
    limits: bool
    bounds: Bounds | None
    steady_input: bool
    hashes_input: bool
    network: bool
    preload: tuple[str, ...]
    needs_folder: bool
    short: bool
    packages: Packages
    periodic: Periodic | None


_WITH_DEFAULTS = frozenset(field.name for field in msgspec.structs.fields(TaskFields) if not field.required)
"""Fields of `CreateTask` that a type may have its own defaults for."""


def _check_plain(declared: TaskType) -> None:
    try:
        msgspec.convert({field: getattr(declared, field) for field in _Plain.__struct_fields__}, _Plain)
    except msgspec.ValidationError as error:
        problem, _, where = str(error).partition(" - at `$.")
        raise ValueError(f"{declared.name}: {where.rstrip('`')} has a bad value: {problem}") from error
    if not (isinstance(declared.options, type) and issubclass(declared.options, msgspec.Struct)):
        raise TypeError(f"{declared.name}: options has to be a class made of msgspec.Struct, not {declared.options!r}")
    errors = declared.retry_on
    if not isinstance(errors, tuple) or not all(isinstance(kind, type) for kind in errors):
        raise TypeError(
            f"{declared.name}: retry_on has to be a tuple of exception classes, such as (OSError,), not {errors!r}"
        )


_LONGEST_NAME = 200
"""Characters, as in a command."""


def _check_name(name: str) -> None:
    """Refuse a name that a filter such as `--type a,b` could not name, or that no command may carry."""
    if not 0 < len(name) <= _LONGEST_NAME or "," in name or has_control(name) or name != name.strip():
        raise ValueError(
            f"{name!r}: this is no name of a task type: it has 1 to {_LONGEST_NAME} characters, no comma, no control "
            "character, and no space at its ends"
        )


def _check_estimate(name: str, estimate: object) -> None:
    """Refuse also None and the class, of which every command of the type would fail."""
    if not isinstance(estimate, Estimate) and (isinstance(estimate, type) or not callable(estimate)):
        raise TypeError(f"{name}: estimate has to be an Estimate, or a function that returns one, not {estimate!r}")


def _check_callable(name: str, **functions: object) -> None:
    for field, function in functions.items():
        if not (function is None or callable(function)):
            raise TypeError(f"{name}: {field} has to be a function, not {function!r}")


def _check_places(name: str, **places: object) -> None:
    for field, place in places.items():
        if isinstance(place, str) and not all(place.partition(":")):
            raise ValueError(f"{name}: {field} has to be package.module:function, not {place!r}")
        if not (place is None or isinstance(place, str) or callable(place)):
            raise TypeError(f"{name}: {field} has to be a function or package.module:function, not {place!r}")


def _check_run(name: str, run: object) -> None:
    """Refuse a handler that cannot be called with the context alone: every attempt would fail."""
    if isinstance(run, type):
        method = next((vars(base)["__call__"] for base in run.__mro__ if "__call__" in vars(base)), None)
        if method is None:
            raise TypeError(f"{name}: the class has to have a method __call__(self, context), which is the handler")
        if missing := sorted(getattr(run, "__abstractmethods__", ())):
            raise TypeError(f"{name}: the class is abstract: it does not define {', '.join(missing)}")
        if why := _why_not_callable(run):
            raise TypeError(f"{name}: the class is made anew for each attempt, without arguments, but {why}")
        why = _why_not_callable(method, None, None) if isinstance(method, FunctionType) else ""
    else:
        why = _why_not_callable(run, None) if callable(run) else ""
    if why:
        raise TypeError(f"{name}: the handler is called with the context and nothing else, but {why}")


def _why_not_callable(function: Any, *arguments: None) -> str:
    """Return why the function cannot be called with so many arguments; empty if it can, or if it does not say."""
    import inspect  # noqa: PLC0415 - the built-in types name their functions by texts, so most processes do not need it

    try:
        parameters = inspect.signature(function, follow_wrapped=False)  # those of a decorator's own function count
    except Exception:  # noqa: BLE001 - of foreign code: it is not written in Python, or its annotations cannot be read
        return ""
    try:
        parameters.bind(*arguments)
    except TypeError as error:
        return str(error)
    return ""


def _check_words(name: str, programs: object, output_suffix: str) -> None:
    if programs is not None and not callable(programs):
        raise TypeError(f"{name}: programs has to be a function that returns lines of text, not {programs!r}")
    if output_suffix and (not output_suffix.startswith(".") or "/" in output_suffix):
        raise ValueError(f"{name}: output_suffix has to begin with a dot, as .jpg does, not {output_suffix!r}")


def _check_defaults(name: str, defaults: dict[str, Any]) -> None:
    """Refuse what no task may have: it is put into tasks whose own values were checked before."""
    for field in defaults:
        if field in CreateTask.__struct_fields__ and field not in _WITH_DEFAULTS:
            raise ValueError(f"{name}: defaults cannot hold {field}, which each task has of its own")
    try:
        check_plain(defaults, "defaults")
        msgspec.convert({"command": "create_task", "type": name, **defaults}, CreateTask)
    except InvalidValue as error:
        raise ValueError(f"{name}: {error.message}") from error
    except msgspec.ValidationError as error:
        raise ValueError(f"{name}: defaults has to hold fields of CreateTask: {error}") from error
    for field, value in defaults.items():
        if isinstance(value, str) and field not in PATH_FIELDS and has_control(value):
            raise ValueError(f"{name}: defaults.{field} holds a control character")


def _check_paths(name: str, **declared: tuple[str, ...]) -> None:
    """Refuse a plain text: it is also a sequence of texts, and one of its letters may be "/", the root."""
    for field, paths in declared.items():
        if not isinstance(paths, tuple) or not all(isinstance(path, str) for path in paths):
            raise TypeError(f'{name}: {field} has to be a tuple of paths, such as ("/srv/models",), not {paths!r}')
        for path in paths:
            if not path.startswith("/"):
                raise ValueError(f"{name}: {field} has to hold absolute paths, and {path!r} is not absolute")


def refuse_unused(options: msgspec.Struct, names: Iterable[str], here: str) -> None:
    """Refuse the options in `names` that differ from their default, because they would do nothing. For `check`.

    Args:
        options: of a type whose options all have defaults.
        names: the options without effect.
        here: where they have no effect, such as `in a sheet`.

    Raises:
        InvalidOptions: the first such option is its field.
    """
    usual = type(options)()
    for name in names:
        if getattr(options, name) != getattr(usual, name):
            raise InvalidOptions(f"{name} has no effect {here}", field=f"options.{name}", remedy="Leave it out.")


_KEPT: list[object] = []


def abandon(thing: object) -> None:
    """Keep `thing`, and all it refers to, as long as this process lives; the worker is then replaced.

    For objects of media libraries that can hang when they are freed.
    """
    _KEPT.append(thing)


def has_abandoned() -> bool:
    """Whether `abandon` has kept anything."""
    return bool(_KEPT)
