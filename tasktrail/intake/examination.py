"""Examines a command before it reaches the Scheduler: its values, its type and options, its paths, its receivers.

This runs in the caller's thread: the disk is read here, so that the Scheduler never waits for it. Nothing is recorded
for a command that is refused here.
"""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec.structs import astuple, replace

from ..actors.core.limits import EACH
from ..actors.core.messages import Intake
from ..config.settings import Config
from ..events import Checkpoint, Command, CreateGraph, CreateTask, GraphTask, SaveCheckpoint, TasktrailError
from ..events.commands import PATH_FIELDS, AddSchedule, AddSource, FileTask, PauseQueue, SetLimits, TaskFields
from ..events.errors import (
    CONTRADICTION,
    NOT_THERE,
    TOO_MUCH,
    HandlerFault,
    InvalidOptions,
    InvalidPath,
    InvalidValue,
    NeverFits,
)
from ..events.values import check_moment, check_plain, has_control
from ..handlers.contract import ONE_CORE, Job, Room, TaskType, require_packages
from ..handlers.estimated import as_recorded
from ..handlers.registry import Registry, unknown_type
from ..handlers.urls import is_url
from ..paths import DataPaths
from .conversion import validated
from .naming import Naming, full_pattern, literal_folder
from .paths import PathRules, resolved, with_plain_paths
from .receivers import check_receivers
from .refusals import check_options, convert_options
from .type_defaults import filled, names_receivers
from .whole_numbers import with_whole_numbers

MAX_OPTIONS = 32 * 1024
MAX_CHECKPOINT = 256 * 1024
_NOTHING = Intake()
_SHARED = frozenset({"command_id", "actor", "reason", "correlation_id"})
_encoder = msgspec.json.Encoder(order="deterministic")
T = TypeVar("T", bound=TaskFields)


class CommandIntake:
    """Examines commands. It knows the task types, and what the configuration allows.

    Args:
        registry: the task types.
        paths: where inputs and outputs may be.
        max_user_level: the highest level that a command may give its user.
        has_tasks: returns whether the log has tasks of a type.
        outputs_to_come: returns the outputs, with their users, of those of the given tasks that have not ended.
        allow_endpoints: hosts that are exempt from the rules for addresses.
        targets: the names of notification targets in the configuration.
        room: what one attempt may take of the machine.
        why_never: says why a task that needs this memory and temp space could never start; empty if it could.
    """

    def __init__(
        self,
        registry: Registry,
        paths: PathRules,
        *,
        max_user_level: int,
        has_tasks: Callable[[str], bool],
        outputs_to_come: Callable[[Collection[int]], Collection[tuple[str, int]]] = lambda _task_ids: (),
        allow_endpoints: Collection[str] = (),
        targets: Collection[str] = (),
        room: Room = ONE_CORE,
        why_never: Callable[[int, int], str] = lambda _memory, _temp: "",
    ) -> None:
        self.registry = registry
        self.paths = paths
        self._max_user_level = max_user_level
        self._has_tasks = has_tasks
        self._outputs_to_come = outputs_to_come
        self._allow_endpoints = allow_endpoints
        self._targets = targets
        self._room = room
        self._why_never = why_never

    def examine_new(self, command: CreateTask) -> CreateTask:
        """Return a new task as it will be recorded. Its output's folder may still have to be made. Raises the refusal.

        Its values must have been checked.
        """
        refuse_odd(command)
        command = self.with_normalized_options(command)
        self._examine_create(command, new_folders=True)
        return command

    def as_sent(self, command: Command, *, checked: bool = False) -> Command:
        """Return the command with its values checked. Raises the refusal of values that no command may have.

        No configuration and no type decides here, so a repetition passes as the first command did. `checked`: the
        values were checked when the command was made. Those of a Struct that a program built were not.
        """
        if not checked:
            command = validated(command)
        refuse_odd(command)
        return command

    def normalized(self, command: Command) -> Command:
        """Return a checked command as it will be recorded. Raises the refusal, which may be another one later."""
        match command:
            case CreateTask():
                return self.with_normalized_options(command)
            case AddSchedule():
                with _inside("task"):
                    task = self.with_normalized_options(replace(command.task, command_id=""))
                return replace(command, task=task)
            case CreateGraph():
                return replace(command, tasks=tuple(map(self.with_normalized_options, command.tasks)))
        return command

    def examine(self, command: Command) -> Intake:
        """Return what is found out about a normalized command. Raises the refusal, which may be another one later."""
        match command:
            case CreateTask():
                return self._examine_create(command)
            case AddSchedule():
                with _inside("task"):
                    return self._examine_create(command.task)
            case CreateGraph():
                return self._examine_graph(command)
            case AddSource():
                self._examine_source(command)
            case PauseQueue(type=str(name)):
                self._check_type(name)  # a misspelt type would stay paused, and the right one would go on
            case SetLimits(types=types, rates=rates):
                self._check_types(types)
                of_types = {name.removeprefix("type:"): rate for name, rate in rates.items() if name[:5] == "type:"}
                self._check_types({name: rate for name, rate in of_types.items() if name != EACH})
            case SaveCheckpoint():
                _check_json(command.checkpoint, "checkpoint", MAX_CHECKPOINT)
        return _NOTHING

    def with_normalized_options(self, task: T) -> T:
        """Return the task with its preset's options, as the type's schema means them: 6.0 is 6 for a whole number."""
        task = with_plain_paths(self.registry.presets.with_preset(task))
        if not task.options or task.type not in self.registry:
            return task
        return replace(task, options=with_whole_numbers(task.options, self.registry.get(task.type).options))

    def check_shared(self, task: TaskFields) -> None:
        """Raise an error if the fields that all tasks of a batch share are wrong for any file."""
        self._check_level(task.user_level)
        _check_json(task.options, "options", MAX_OPTIONS)
        self._check_receivers(task)
        self.paths.check_original_wanted(task, None)

    def _examine_source(self, command: AddSource) -> None:
        for place, path in enumerate(command.inputs):
            try:
                self.paths.check_looked_at(path)
            except InvalidPath as error:
                error.field = f"inputs[{place}]"
                raise
        self.paths.check_written_below(literal_folder(command.to))
        naming = Naming(full_pattern(command.to, ""))
        if "number" in naming.names:
            raise InvalidValue("{number} would differ at each scan", field="to", remedy="Use {stem} or {folder}.")
        self.paths.check_written_below(naming.fixed)
        with _inside("task"):
            task, task_type = self._task_of_files(command.task)
        naming.output(Path("name.suffix"), "", 1, task.type, task.options)  # a placeholder may have no value
        with _inside("task"):
            self.paths.check_original_wanted(task, task_type)

    def _task_of_files(self, task: FileTask) -> tuple[FileTask, TaskType | None]:
        """Return the fields that all tasks of a source share, with their preset's, and their type if it is the same."""
        for field in ("input_file", "output_file", "unique", "batch", "scheduled_for", "deadline"):
            if getattr(task, field):
                raise InvalidValue(f"{field} cannot be the same for all files", field=field, status=CONTRADICTION)
        if task.preset:
            preset = self.registry.presets.get(task.preset)
            task = self.registry.presets.with_preset(replace(task, type=task.type or preset.type))
        self._check_level(task.user_level)
        _check_json(task.options, "options", MAX_OPTIONS)
        self._check_receivers(task)
        task_type = self.registry.get(task.type) if task.type else None
        task = self.with_normalized_options(task)
        if task_type is not None:
            check_options(task_type, task.options)
        else:
            self._check_that_some_type_takes(task.options)
        return task, task_type

    def _check_that_some_type_takes(self, options: dict[str, Any]) -> None:
        """Raise `InvalidOptions` if no type takes the options. Called if each file's kind decides on the type."""
        readers = [task_type for task_type in self.registry if task_type.accepts]
        option_names = {name for task_type in readers for name in task_type.options.__struct_encode_fields__}
        refused = InvalidOptions("No task type has all of these options", field="options", status=CONTRADICTION)
        for task_type in readers:
            try:
                check_options(task_type, with_whole_numbers(options, task_type.options))
            except InvalidOptions as error:
                if options.keys() <= set(task_type.options.__struct_encode_fields__):
                    refused = error
            else:
                return
        for name in (name for name in options if name not in option_names):
            near = get_close_matches(name, option_names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise InvalidOptions(
                f"No task type has an option {name!r}{hint}", field=f"options.{name}", status=CONTRADICTION
            )
        if options:
            raise refused

    def _check_types(self, types: Mapping[str, object]) -> None:
        for name, number in types.items():
            if number is not None:  # a limit that was set can always be taken away
                self._check_type(name)

    def _check_type(self, name: str) -> None:
        """Raise `UnknownType` for a type with neither a handler nor tasks. One with tasks alone can still be paused."""
        if name not in self.registry and not self._has_tasks(name):
            known = [task_type.name for task_type in self.registry]
            raise unknown_type(name, known, self.registry.errors, self.registry.presets, status=NOT_THERE)

    def _examine_graph(self, command: CreateGraph) -> Intake:
        outputs = {task.name: task.output_file for task in command.tasks}
        intakes: dict[str, Intake] = {}
        for place, task in enumerate(command.tasks):
            # What an earlier task of the graph will write is not there yet.
            made = frozenset(outputs[name] for name in task.depends_on if isinstance(name, str) and name in outputs)
            with _inside(f"tasks[{place}]", f"Task {task.name}: "):
                intakes[task.name] = self._examine_create(task, made)
        return Intake(by_name=intakes)

    def _examine_create(
        self, command: CreateTask | GraphTask, made: frozenset[str] = frozenset(), *, new_folders: bool = False
    ) -> Intake:
        task_type = self.registry.get(command.type)
        require_packages(task_type)
        self._check_level(command.user_level)
        _check_json(command.options, "options", MAX_OPTIONS)
        self._check_receivers(command)
        options = convert_options(task_type, command.options)
        size = 0 if self._is_to_come(command, made) else self.paths.check_input(command, task_type)
        self.paths.check_output(command, task_type, new_folders=new_folders)
        self.paths.check_original(command, task_type)
        job = Job(
            options=options,
            input_file=Path(command.input_file),
            output_file=Path(command.output_file),
            input_size=size,
            room=self._room,
        )
        if task_type.check is not None:
            try:
                with _of_the_type(task_type, "check"):
                    task_type.check(job)
            except (InvalidOptions, InvalidPath) as error:
                error.status = CONTRADICTION
                raise
        with _of_the_type(task_type, "estimate"):
            expected = task_type.expected(job)
        found = replace(_as_intake(task_type, expected), output_real=resolved(command.output_file))
        if reason := self._why_never(found.estimate.memory, found.estimate.temp):
            raise NeverFits(reason, field="input_file" if command.input_file else "")
        return found

    def _check_receivers(self, task: TaskFields) -> None:
        """Check those that the task names, then those that its type, if it is known, names for all its tasks."""
        check_receivers(task, self._allow_endpoints, self._targets)
        whole = filled(task, self.registry) if task.type else task
        if whole is task or not names_receivers(whole):
            return
        if task.notify_on:  # a task may leave out the mail of its type
            whole = replace(whole, notify_on=())
        try:
            check_receivers(whole, self._allow_endpoints, self._targets)
        except InvalidValue as error:
            error.message = f"By default of {task.type}: {error.message}"
            raise

    def _is_to_come(self, command: CreateTask | GraphTask, made: frozenset[str]) -> bool:
        """Whether a task that this one waits for has yet to write the input, so that it need not be there."""
        path = command.input_file
        if not path or is_url(path):  # only the form of an address is looked at, so the file need not be there
            return False
        if path in made:
            return True
        others = [other for other in command.depends_on if isinstance(other, int)]
        if not others or os.path.lexists(path):
            return False
        return (path, command.user_id) in self._outputs_to_come(others)

    def _check_level(self, level: int) -> None:
        """Refuse a level above the limit: such a user would always come first, and others might wait for ever."""
        if level > self._max_user_level:
            raise InvalidValue(
                f"user_level is {level}, and at most {self._max_user_level} is allowed here",
                field="user_level",
                remedy="Give a lower level, or have the operator raise `max_user_level` in the configuration.",
            )


def configured_intake(
    config: Config,
    folder: DataPaths,
    registry: Registry,
    *,
    has_tasks: Callable[[str], bool],
    why_never: Callable[[int, int], str],
    outputs_to_come: Callable[[Collection[int]], Collection[tuple[str, int]]] = lambda _task_ids: (),
) -> CommandIntake:
    """Make the intake that the configuration of a data folder asks for. The other arguments are those of the class."""
    return CommandIntake(
        registry,
        PathRules(config.input_roots, config.output_roots, (*folder.protected(), *config.private_paths())),
        max_user_level=config.max_user_level,
        has_tasks=has_tasks,
        outputs_to_come=outputs_to_come,
        allow_endpoints=config.allow_endpoints,
        targets=config.apprise,
        room=config.room(folder.temp),
        why_never=why_never,
    )


@contextmanager
def _of_the_type(task_type: TaskType, what: str) -> Iterator[None]:
    """Raise `HandlerFault` for an error of the type's own code that is no refusal."""
    try:
        yield
    except TasktrailError:
        raise
    except Exception as error:
        raise HandlerFault(
            f"The {what} of {task_type.name} raised {type(error).__name__}: {error}",
            remedy=f"Correct the {what}, or send an input that it can read.",
        ) from error


def _as_intake(task_type: TaskType, estimate: object) -> Intake:
    """Return the type's estimate. Its basis is for people: if it cannot be recorded, the reason takes its place."""
    recorded = as_recorded(estimate, f"The estimate of {task_type.name}")
    basis: Any = getattr(estimate, "basis", None)
    try:
        if not isinstance(basis, dict):
            raise InvalidValue(f"basis is no dict, but {basis!r:.200}")
        check_plain(basis, "basis")
    except InvalidValue as error:
        basis = {"basis": error.message}
    return Intake(can_resume=task_type.resumable, estimate=replace(recorded, basis=basis))


@contextmanager
def _inside(place: str, about: str = "") -> Iterator[None]:
    """Make errors raised inside name a part of a command: `place` goes before the field, `about` before the text."""
    try:
        yield
    except TasktrailError as error:
        error.field = f"{place}.{error.field}" if error.field else place
        error.message = about + error.message
        raise


def refuse_odd(command: Command | GraphTask | FileTask) -> None:
    """Raise `InvalidValue` for texts, times and values that cannot be recorded."""
    if isinstance(command, AddSchedule | AddSource):
        with _inside("task"):
            refuse_odd(command.task)
    if isinstance(command, CreateGraph):
        for place, task in enumerate(command.tasks):
            with _inside(f"tasks[{place}]", f"Task {task.name}: "):
                refuse_odd(task)
    for name, value in zip(command.__struct_fields__, astuple(command), strict=True):
        if not value:  # most fields of most commands; nothing in an empty text or object is odd
            continue
        if isinstance(value, str):
            if value.isprintable():
                continue
            if name not in PATH_FIELDS:
                refuse_control(value, name)
                continue
            check_plain(value, name)
            if "\0" in value:  # a file may have any other name; the display makes it printable
                raise InvalidValue(f"{name} holds a NUL, which no file name can", field=name)
        elif isinstance(value, datetime):
            check_moment(value, name)
        elif isinstance(value, dict | Checkpoint):
            check_plain(value, name)


def refuse_control(text: str, field: str) -> None:
    """Raise `InvalidValue` for what UTF-8 cannot write, and for control characters."""
    if text.isprintable():
        return
    check_plain(text, field)
    if has_control(text):
        raise InvalidValue(f"{field} holds a control character", field=field)


def _check_json(value: Any, field: str, limit: int) -> None:
    """Refuse a value that is too big, or not plain JSON that every store can hold."""
    if not value:
        return
    check_plain(value, field)
    size = len(_encoder.encode(value))
    if size > limit:
        raise InvalidValue(f"{field} takes {size:,} bytes, at most {limit:,} are allowed", field=field, status=TOO_MUCH)
