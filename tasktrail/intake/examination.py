"""What is looked at before a command reaches the Scheduler: its values, its type and options, its paths.

Runs in the caller's thread: the disk is touched here, so that the Scheduler never waits for one. Nothing is recorded
for a command that is refused here.
"""

import os
import stat
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from ..actors.core.messages import Intake
from ..actors.delivery.mail import one_address
from ..actors.delivery.ssrf import EndpointRefused, check_public, host_and_port, is_exempt, parse_endpoint
from ..events import Command, CreateGraph, CreateTask, GraphTask, SaveCheckpoint, TasktrailError
from ..events.commands import AddSchedule, PauseQueue, SetLimits, TaskFields
from ..events.errors import InvalidPath, InvalidValue, NeverFits, OutputExists
from ..events.values import MAX_INTEGER, check_moment, check_plain
from ..handlers.contract import Estimate, Job, TaskType, require_packages
from ..handlers.process.sandbox import check_apart
from ..handlers.registry import Registry
from ..projections.notices import ENDS
from .conversion import validated
from .paths import check_form, check_name, check_root, resolved
from .refusals import convert_options

MAX_OPTIONS = 32 * 1024
MAX_CHECKPOINT = 256 * 1024
LONGEST = 10 * 365 * 86400.0
"""Seconds that an estimate may say: more than any task takes."""
_CHECK = "Check its spelling, and that the service may reach it."
_NOTHING = Intake()
_PATHS = frozenset({"input_file", "output_file"})
_SHARED = frozenset({"command_id", "actor", "reason", "correlation_id"})
_encoder = msgspec.json.Encoder(order="deterministic")


class IntakeDesk:
    """Knows the task types and the allowed roots; turns a wish into a command that can be decided on."""

    def __init__(
        self,
        registry: Registry,
        *,
        max_user_level: int,
        has_tasks: Callable[[str], bool],
        input_roots: Sequence[Path] = (),
        output_roots: Sequence[Path] = (),
        protected: Sequence[str] = (),
        allow_endpoints: Collection[str] = (),
        targets: Collection[str] = (),
        above_all: Callable[[int, int], str] = lambda _memory, _temp: "",
    ) -> None:
        self._registry = registry
        self._max_user_level = max_user_level
        self._has_tasks = has_tasks
        self._allow_endpoints = allow_endpoints
        self._targets = targets
        self._above_all = above_all
        self._input_roots = [root.resolve() for root in input_roots]
        self._protected = protected
        self._output_roots = [root.resolve() for root in output_roots]

    def examine(self, command: Command, *, trusted: bool = False) -> tuple[Command, Intake]:
        """The command as it will be recorded, and what was found out. Raises the error that explains a refusal.

        `trusted` says that the values were checked by decoding; a Struct built in Python was not.
        """
        if not trusted:
            command = validated(command)
        _refuse_odd(command)
        match command:
            case CreateTask():
                return command, self._examine_create(command)
            case AddSchedule():
                return replace(command, task=replace(command.task, command_id="")), self._examine_create(command.task)
            case CreateGraph():
                return command, self._examine_graph(command)
            case PauseQueue(type=str(name)):
                self._check_type(name)  # a misspelt type would be paused for ever, and the right one not
            case SetLimits(types=types):
                self._check_types(types)
            case SaveCheckpoint():
                _check_json(command.checkpoint, "checkpoint", MAX_CHECKPOINT)
        return command, _NOTHING

    def _check_types(self, types: Mapping[str, int | None]) -> None:
        for name, number in types.items():
            if number is not None:  # whatever was set can be taken away
                self._check_type(name)

    def _check_type(self, name: str) -> None:
        """A type whose handler is away just now counts as well: its tasks wait, and may have to go on waiting."""
        if name not in self._registry and not self._has_tasks(name):
            self._registry.get(name)

    def _examine_graph(self, command: CreateGraph) -> Intake:
        outputs = {task.name: task.output_file for task in command.tasks}
        found: dict[str, Intake] = {}
        for place, task in enumerate(command.tasks):
            # What an earlier task of the graph will write is not there yet.
            made = frozenset(outputs[name] for name in task.depends_on if isinstance(name, str) and name in outputs)
            try:
                _refuse_odd(task)
                found[task.name] = self._examine_create(task, made)
            except TasktrailError as error:
                error.field = f"tasks[{place}].{error.field}" if error.field else f"tasks[{place}]"
                error.message = f"Task {task.name}: {error.message}"
                raise
        return Intake(by_name=found)

    def _examine_create(self, command: CreateTask | GraphTask, made: frozenset[str] = frozenset()) -> Intake:
        task_type = self._registry.get(command.type)
        require_packages(task_type)
        self._check_level(command.user_level)
        _check_json(command.options, "options", MAX_OPTIONS)
        check_receivers(command, self._allow_endpoints, self._targets)
        options = convert_options(task_type, command.options)
        size = 0 if command.input_file in made else self._check_input(command, task_type)
        self._check_output(command, task_type)
        job = Job(
            options=options,
            input_file=Path(command.input_file),
            output_file=Path(command.output_file),
            input_size=size,
        )
        if task_type.check is not None:
            task_type.check(job)
        found = replace(_as_intake(task_type, task_type.estimate(job)), output_real=resolved(command.output_file))
        if above := self._above_all(found.estimated_memory, found.estimated_temp):
            raise NeverFits(above, field="input_file" if command.input_file else "")
        return found

    def _check_level(self, level: int) -> None:
        """Who may give any level comes first for ever, so the bound on waiting would be none."""
        if level > self._max_user_level:
            raise InvalidValue(
                f"user_level is {level}, and at most {self._max_user_level} is allowed here",
                field="user_level",
                remedy="Give a lower level, or have the operator raise `max_user_level` in the configuration.",
            )

    def _check_input(self, command: CreateTask | GraphTask, task_type: TaskType) -> int:
        """The size of the input in bytes."""
        path = command.input_file
        if not path:
            if task_type.needs_input:
                raise InvalidPath(
                    f"{command.type} needs an input file",
                    field="input_file",
                    remedy="Name one; on the command line it comes right after the type.",
                )
            return 0
        check_form(path, "input_file")
        try:
            status = os.stat(path)  # noqa: PTH116 - on the way of every command
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InvalidPath(
                f"{path!r} cannot be read: {reason}", field="input_file", remedy="Check its spelling."
            ) from error
        if not stat.S_ISREG(status.st_mode):
            raise InvalidPath(f"{path!r} is not a regular file", field="input_file")
        if not os.access(path, os.R_OK):
            raise InvalidPath(f"{path!r} may not be read", field="input_file", remedy="Check its permissions.")
        check_apart(path, self._protected, "input_file", followed=True)
        check_root(path, self._input_roots, "input_file", "input_roots")
        return status.st_size

    def _check_output(self, command: CreateTask | GraphTask, task_type: TaskType) -> None:
        path = command.output_file
        if not path:
            if task_type.needs_output:
                raise InvalidPath(
                    f"{command.type} needs an output file",
                    field="output_file",
                    remedy="Name one; on the command line it comes after the input.",
                )
            return
        check_form(path, "output_file")
        folder, name = os.path.split(path)
        if not name or name in (".", ".."):
            raise InvalidPath(f"{path!r} names no file", field="output_file")
        if not os.path.isdir(folder):  # noqa: PTH112 - on the way of every command
            raise InvalidPath(
                f"The folder {folder!r} does not exist",
                field="output_file",
                remedy="Create it first; `run` and `submit` do so with -p.",
            )
        check_apart(path, self._protected, "output_file", followed=False)
        check_name(folder, name)
        if command.input_file and os.path.realpath(path) == os.path.realpath(command.input_file):
            raise InvalidPath(
                "Input and output are the same file", field="output_file", remedy="Choose another output."
            )
        if os.path.isdir(path):  # noqa: PTH112
            raise InvalidPath(f"{path!r} is a folder", field="output_file", remedy="Name a file in it.")
        if not command.overwrite and os.path.lexists(path):
            raise OutputExists(f"{path!r} is already there", field="output_file")
        check_root(path, self._output_roots, "output_file", "output_roots")


def _as_intake(task_type: TaskType, estimate: Estimate) -> Intake:
    """The type's estimate in numbers that can be recorded: options near their bounds may multiply to more."""
    basis = estimate.basis
    try:
        check_plain(basis, "basis")
    except InvalidValue as error:
        basis = {"basis": error.message}
    return Intake(
        can_resume=task_type.resumable,
        estimated_memory=min(estimate.memory, MAX_INTEGER),
        estimated_temp=min(estimate.temp, MAX_INTEGER),
        estimated_time=min(estimate.seconds, LONGEST) if estimate.seconds > 0 else 0.0,  # NaN is not, either
        estimate_basis=basis,
    )


def _refuse_odd(command: Command | GraphTask) -> None:
    if isinstance(command, AddSchedule):
        _refuse_odd(command.task)
    for name in command.__struct_fields__:
        value = getattr(command, name)
        if isinstance(value, datetime):
            check_moment(value, name)
        elif isinstance(value, dict) and name != "options":  # those are looked at with their size
            check_plain(value, name)
        elif isinstance(value, str) and value and not value.isprintable():
            if not value.isascii():
                check_plain(value, name)
            if name in _PATHS:  # a file may have any name; whoever shows it makes it printable
                if "\0" in value:
                    raise InvalidValue(f"{name} holds a NUL, which no file name can", field=name)
            elif any(character < " " or character == "\x7f" for character in value):
                raise InvalidValue(f"{name} holds a control character", field=name)


def _check_json(value: Any, field: str, limit: int) -> None:
    """Plain JSON that every store can hold, and not too big."""
    if not value:
        return
    check_plain(value, field)
    size = len(_encoder.encode(value))
    if size > limit:
        raise InvalidValue(f"{field} takes {size:,} bytes, at most {limit:,} are allowed", field=field)


# --- Whether those who are to be told can be told at all: looked at when a task is created, long before its end. ---


def check_receivers(command: TaskFields, allowed: Collection[str], targets: Collection[str]) -> None:
    """Raises `InvalidValue` naming the field that nothing could ever be sent to.

    Args:
        command: asks for a task.
        allowed: hosts that are exempt from the rules for addresses.
        targets: names in the configuration.
    """
    for field in ("notify_webhook", "callback_url"):
        _check_address(getattr(command, field), field, allowed)
    if command.notify_email:
        try:
            one_address(command.notify_email)
        except ValueError as error:
            raise InvalidValue(f"notify_email: {error}", field="notify_email") from error
        if command.notify_on and not ENDS.intersection(command.notify_on):
            raise InvalidValue("notify_on names no end, so no mail would ever be sent", field="notify_on")
    for name in command.notify_targets:
        if name not in targets:
            near = get_close_matches(name, targets, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            remedy = "Targets are what the operator has named under [apprise] in the configuration."
            raise InvalidValue(f"There is no target {name!r}{hint}", field="notify_targets", remedy=remedy)


def _check_address(address: str, field: str, allowed: Collection[str]) -> None:
    if not address:
        return
    try:
        url = parse_endpoint(address)
        if not is_exempt(*host_and_port(url), allowed):
            check_public(url)
    except EndpointRefused as error:
        remedy = "Use https and a public name, or have the operator add the host to `allow_endpoints`."
        raise InvalidValue(f"{field}: {error}", field=field, remedy=remedy) from error
