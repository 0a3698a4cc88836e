"""The task types there are, and where their handlers live."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from itertools import takewhile
from pathlib import Path, PurePath
from types import ModuleType
from typing import Any

import msgspec

from ..events.errors import HandlerFault, TasktrailError, UnknownType
from .contract import TaskType, declared, resolve
from .errors import BrokenHandlers, DuplicateType
from .presets import Preset, Presets

GROUP = "tasktrail.handlers"


class Registry:
    """Task types by name. Handlers that could not be loaded are listed in `errors` and do not affect the others."""

    def __init__(self) -> None:
        self.presets = Presets()
        """Named sets of options; the configuration may add some."""
        self._types: dict[str, TaskType] = {}
        self._homes: dict[str, str] = {}
        self.errors: list[HandlerFault] = []
        self.failed: list[str] = []
        """The modules or objects that could not be loaded."""

    @classmethod
    def load(cls, modules: Iterable[str] = (), *, presets: Iterable[Preset] = (), group: str = GROUP) -> "Registry":
        """Every type of the entry point group, then of the configured `modules` (`package.module` or `module:name`)."""
        registry = cls()
        registry.presets = Presets(presets)
        for home in [*_entry_point_homes(group), *modules]:
            try:
                registry.add_home(home)
            except HandlerFault as error:
                registry.errors.append(error)
                registry.failed.append(home)
        return registry

    def add_home(self, home: str) -> None:
        """Add every type that the module or object has. Raises BrokenHandlers or DuplicateType.

        A type whose options cannot be described is reported after the others have been added.
        """
        module = home.partition(":")[0]
        if "/" in module or module.endswith(".py"):
            raise BrokenHandlers(
                f"`handlers` takes the names of modules, and {home} is the path of a file",
                remedy=f"Write {PurePath(module).stem!r}, and have its folder on PYTHONPATH; `tasktrail serve FILE` "
                "takes the file itself.",
            )
        try:
            target = resolve(home)
        except (Exception, SystemExit) as error:
            lost = isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}.")
            raise BrokenHandlers(
                f"Handlers of {home} cannot be loaded: {type(error).__name__}: {error}",
                remedy="Install it where tasktrail is, or have the folder that it lies in on PYTHONPATH."
                if lost
                else "",
            ) from error
        types = list(_types_of(target, home))
        if not types:
            raise BrokenHandlers(
                f"There is no handler in {home}",
                remedy="Mark a function with @task, or a function or class with @handler(...).",
            )
        faults: list[HandlerFault] = []
        for task_type, place in types:
            try:
                self.add(task_type, place)
            except HandlerFault as error:  # does not affect the other types
                faults.append(error)
        if faults:
            self.errors += faults[:-1]
            raise faults[-1]

    def add(self, task_type: TaskType, home: str) -> None:
        """Add one type. Adding the same type twice is fine; another type of the same name raises DuplicateType.

        Raises BrokenHandlers for a type whose options cannot be described.
        """
        if not home.startswith("tasktrail."):  # the check slows the start; ours need none
            _check_described(task_type)
        registered = self._types.setdefault(task_type.name, task_type)
        if registered is not task_type:
            raise DuplicateType(
                f"Task type {task_type.name!r} of {home} is already claimed by {self._homes[task_type.name]}"
            )
        self._homes.setdefault(task_type.name, home)

    def get(self, name: str) -> TaskType:
        """The type. Raises UnknownType, which suggests the nearest name."""
        try:
            return self._types[name]
        except KeyError:
            raise unknown_type(name, self._types, self.errors, self.presets) from None

    def homes(self) -> dict[str, str]:
        """Type → `module:attribute`. A worker finds its handler by this, without loading any other."""
        return dict(self._homes)

    def folders(self) -> tuple[str, ...]:
        """The folders where this process found the modules of its types, and where its workers would not look.

        A program that is run has its own folder first on its path. The processes that it starts do not.
        """
        tops = {home.partition(":")[0].partition(".")[0] for home in self._homes.values()} - {"tasktrail"}
        homes = {_folder_of(sys.modules[top]) for top in tops if top in sys.modules}
        library = Path(os.__file__).parent  # installed packages come after it, for workers too
        own = takewhile(library.__ne__, dict.fromkeys(Path(entry).absolute() for entry in sys.path))
        return tuple(str(folder) for folder in own if folder in homes)

    def __iter__(self) -> Iterator[TaskType]:
        return iter(sorted(self._types.values(), key=lambda task_type: task_type.name))

    def __len__(self) -> int:
        return len(self._types)

    def __contains__(self, name: object) -> bool:
        return name in self._types


def _check_described(task_type: TaskType) -> None:
    """Refuse a type whose options have no schema: all types are described together, and it would hide all others."""
    try:
        msgspec.json.encode(msgspec.json.schema(task_type.options))
    except Exception as error:  # a default may be anything, and be made by foreign code
        raise BrokenHandlers(
            f"The options of {task_type.name} have no JSON schema: {error}",
            remedy="Use numbers, text, lists, dicts, dates, enums of text or of whole numbers, or msgspec Structs.",
        ) from error


def _folder_of(module: ModuleType) -> Path | None:
    """The folder that a module or package lies in."""
    places = [*getattr(module, "__path__", ()), getattr(module, "__file__", None)]
    return Path(places[0]).absolute().parent if places[0] else None


def unknown_type(
    name: str,
    names: Iterable[str],
    errors: Sequence[TasktrailError],
    presets: Iterable[Preset] = (),
    *,
    status: int = 0,
) -> UnknownType:
    """The error for a missing type, with a likely explanation: a preset, a misspelling, or handlers that failed."""
    if of := next((preset.type for preset in presets if preset.name == name), ""):
        hint = f"; it is a preset of {of}: name both, the type and the preset (CLI: {of} --preset {name})"
    elif near := get_close_matches(name, known := list(names), n=1):
        hint = f"; did you mean {near[0]!r}?"
    elif PurePath(name).suffix and not errors and not any("." in one for one in known):  # it is a file
        hint = "; the type comes first, then the files (CLI: TYPE INPUT OUTPUT)"
    else:
        hint = "".join(f". {error.message}" for error in errors)
    return UnknownType(f"There is no task type {name!r}{hint}", field="type", status=status)


def _types_of(target: Any, home: str) -> Iterator[tuple[TaskType, str]]:
    if own := declared(target):
        yield own, home
        return
    inside = f"{home}." if ":" in home else f"{home}:"
    for name, kept in list(getattr(target, "__dict__", {}).items()):
        value = kept.__func__ if isinstance(kept, staticmethod) else kept
        if task_type := declared(value):
            yield task_type, inside + name
        elif isinstance(target, ModuleType) and isinstance(value, type) and value.__module__ == target.__name__:
            yield from _types_of(value, inside + name)


def _entry_point_homes(group: str) -> list[str]:
    """The built-in types first, so that no other package takes one over; otherwise in a fixed order."""

    def rank(point: EntryPoint) -> tuple[bool, str, str]:
        return not point.value.startswith("tasktrail."), point.name, point.value

    return list(dict.fromkeys(point.value for point in sorted(entry_points(group=group), key=rank)))
