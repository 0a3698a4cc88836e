"""Writes docs/reference/python.md from docstrings and signatures of what `tasktrail` exports: `make python-page`."""

import ast
import inspect
import re
import textwrap
from collections import abc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

import tasktrail
from tasktrail import (
    AsyncClient,
    AsyncTaskHandle,
    Checkpoint,
    Client,
    CreateTask,
    Finished,
    NamedTask,
    Rejected,
    Stopped,
    Task,
    TaskFilters,
    TaskHandle,
    TaskService,
    task,
)
from tasktrail.api.commands import Commands
from tasktrail.api.reader import Questions
from tasktrail.events import Accepted, Command, Created
from tasktrail.events.state import Status
from tasktrail.events.task_events import DependencyPolicies, DependencyPolicy, NoticeEvent
from tasktrail.handlers import Bounds, Estimate, Job, Packages, Room, TaskContext

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "python.md"
HEAD = """---
type: reference
title: Python
---

# Python

All of it is imported from `tasktrail`: {names}. What else a handler may use comes from `tasktrail.handlers`, what helps
its author from `tasktrail.testing` ([add a task type](../how-to/add-a-task-type.md)). Refusals are
[typed errors](errors.md). `make python-page` writes this page from the docstrings.

In the signatures `Command` is any of [the commands](commands.md), whose Structs come from `tasktrail.events.commands`.
Most have a method of their own; `send_many` and `send_each` take the Structs. `NoticeEvent` is one of {told}, and
`DependencyPolicies` one of {policies}, or a tuple with one for each dependency. An `int` or
`datetime` for `as_of` is a position or a time of the past. What a method answers is a frozen Struct.

```python
from tasktrail import Client, TaskService

with TaskService.open("data") as tasks:  # the service inside your program; or Client.connect("data") for one that runs
    task_id = tasks.create_task("image_thumbnail", "photo.jpg", "small.jpg", options={{"width": 200}})
    print(tasks.wait(task_id, timeout=60).status)
```
"""
SHARED = """`TaskService`, `Client` and `AsyncClient` have all of these. Those of `AsyncClient` are awaited,
and its `log` and `follow` are read with `async for`."""
OWN = {
    TaskService: ("open", "close", "backup", "recover_tasks", "whatif"),
    Client: ("connect", "close", "check_ready"),
    AsyncClient: ("connect", "close", "check_ready"),
}
"""The parts that differ between the classes, in the order of the page."""
STRUCTS: tuple[type[msgspec.Struct], ...] = (
    CreateTask,
    TaskFilters,
    Task,
    Accepted,
    Checkpoint,
    Finished,
    Rejected,
    Stopped,
    Job,
    Room,
    Estimate,
    Bounds,
    Packages,
)
WIDTH = 100
ALIASES = {"Command": Command, "DependencyPolicies": DependencyPolicies, "NoticeEvent": NoticeEvent}


def page() -> str:
    """Return the page as it should be."""
    names = ", ".join(f"`{name}`" for name in tasktrail.__all__ if not name.startswith("_"))
    told, policies = (", ".join(f'`"{word}"`' for word in get_args(kind)) for kind in (NoticeEvent, DependencyPolicy))
    head = HEAD.format(names=names, told=told, policies=policies)
    parts = [head]
    for kind, own in OWN.items():
        parts.append(f"## {kind.__name__}\n\n{doc(kind)}\n")
        parts += [method(getattr(kind, name), name) for name in own]
        parts += [constructor(kind)] if "connect" in own else []
    parts.append(f"## Commands and questions\n\n{SHARED}\n")
    parts += [method(getattr(TaskService, name), name) for name in shared()]
    parts.append(f"## handler\n\n{signature(tasktrail.handler, 'handler')}\n{doc(tasktrail.handler)}\n")
    parts.append(f"## task\n\n{signature(task, 'task')}\n{doc(task)}\n")
    parts.append(f"## NamedTask\n\n{doc(NamedTask)}\n\nWhat `@task` makes of a function has the same methods.\n")
    parts += [method(part, name) for name, part in vars(NamedTask).items() if not name.startswith("_")]
    parts.append(f"## TaskHandle\n\n{doc(TaskHandle)}\n")
    parts += [context_part(name, part) for name, part in vars(TaskHandle).items() if not name.startswith("_")]
    parts.append(f"## AsyncTaskHandle\n\n{doc(AsyncTaskHandle)}\n")
    parts += [method(part, name) for name, part in vars(AsyncTaskHandle).items() if not name.startswith("_")]
    parts.append(f"## TaskContext\n\n{doc(TaskContext)}\n")
    parts += [context_part(name, part) for name, part in vars(TaskContext).items() if not name.startswith("_")]
    for struct in STRUCTS:
        parts.append(f"## {struct.__name__}\n\n{doc(struct)}\n\n{fields(struct)}")
    parts.append("## Config\n\nThe keys are those of [the configuration](configuration.md): `Config(workers=4)`.\n")
    return "\n".join(parts)


def shared() -> list[str]:
    """Return the commands and questions that all share, without those that have a section of their own."""
    found = [name for kind in (Commands, TaskService, Questions) for name in vars(kind)]
    own = {name for names in OWN.values() for name in names}
    public = [name for name in found if not name.startswith("_") and inspect.isfunction(getattr(TaskService, name))]
    return [name for name in public if hasattr(Client, name) and name not in own]


def method(function: Any, name: str) -> str:
    """Return a heading, the signature and the docstring."""
    return f"### {name}\n\n{signature(function, name)}\n{doc(function)}\n"


def constructor(kind: type) -> str:
    """Show how an object is made without a classmethod."""
    told = signature(kind.__init__, kind.__name__).replace(" -> None\n", "\n")  # type: ignore[misc]  # of a class
    return f"### By its address\n\n{told}\n{doc(kind.__init__)}\n"  # type: ignore[misc]


def context_part(name: str, part: Any) -> str:
    """Show a property or a method of the context."""
    if isinstance(part, property):
        kind = inspect.signature(part.fget).return_annotation if part.fget else ""
        told = annotation(Status if kind == "Status" else kind)  # a text in the code, for notebooks
        return f"### {name}\n\n```text\n{name}: {told}\n```\n\n{doc(part)}\n"
    return method(part, name)


def doc(thing: Any) -> str:
    """Return the docstring, with its `Args:` and `Raises:` as lists. A Struct has only the class's own."""
    lines: list[str] = []
    inside = False
    for line in (inspect.getdoc(thing) or "").splitlines():
        if line in ("Args:", "Raises:"):
            inside = True
            lines += [line, ""]
        elif inside and (item := re.fullmatch(r" {4}(\w+): (.*)", line)):
            lines.append(f"- `{item[1]}`: {item[2]}")
        else:
            lines.append(f"  {line.strip()}" if inside and line.startswith("    ") else line)
    return "\n".join(lines).strip()


def signature(function: Callable[..., Any], name: str) -> str:
    """Return a code block, with a parameter a line where one line cannot hold them all."""
    told = inspect.signature(function)
    parameters = [one for one in told.parameters.values() if one.name not in ("self", "cls", "unknown")]
    words = list(_parameters(parameters))
    back = annotation(told.return_annotation)
    line = f"{name}({', '.join(words)}) -> {back}"
    if len(line) > WIDTH:
        line = "\n".join([f"{name}(", *(f"    {word}," for word in words), f") -> {back}"])
    return f"```text\n{line}\n```\n"


def _parameters(parameters: list[inspect.Parameter]) -> Iterator[str]:
    starred = False
    for one in parameters:
        if one.kind is one.KEYWORD_ONLY and not starred:
            starred = True
            yield "*"
        stars = "*" * (one.kind is one.VAR_POSITIONAL) or "**" * (one.kind is one.VAR_KEYWORD)
        default = "" if one.default is one.empty else f" = {shown(one.default)}"
        yield f"{stars}{one.name}: {annotation(one.annotation)}{default}"


def annotation(kind: Any) -> str:
    """Return the type by its last name, the same on every Python."""
    if isinstance(kind, str | TypeVar) or kind is Self:
        return kind if isinstance(kind, str) else getattr(kind, "__name__", "Self")
    for name, alias in ALIASES.items():
        if kind == alias:
            return name
    parts = [annotation(part) for part in get_args(kind) if not isinstance(part, list)]
    match get_origin(kind):
        case None:
            return {type(None): "None", ...: "..."}.get(kind) or getattr(kind, "__name__", None) or repr(kind)
        case origin if origin in (Union, UnionType):
            return " | ".join(parts)
        case origin if origin is Literal:
            return " | ".join(f'"{word}"' for word in get_args(kind))
        case origin if origin is abc.Callable:
            taken = ", ".join(annotation(part) for part in get_args(kind)[0])
            return f"Callable[[{taken}], {parts[-1]}]"
        case origin:
            return f"{origin.__name__}[{', '.join(parts)}]"


def shown(value: Any) -> str:
    """Format a default."""
    if callable(value):
        return "…"
    if isinstance(value, msgspec.Struct):
        return f"{type(value).__name__}()"
    if isinstance(value, str | Path):
        return f'"{value}"' if isinstance(value, str) else "Path()"
    return "{}" if value == {} else repr(value)


def fields(struct: type[msgspec.Struct]) -> str:
    """Return a table of a Struct's fields. A field's docstring takes precedence over its notes."""
    hints = get_type_hints(struct)
    told = told_of(Created) | told_of(struct) if struct is CreateTask else told_of(struct)
    rows = []
    for field in msgspec.structs.fields(struct):
        default = "" if field.required else f"`{shown(_default(field))}`"
        kind = annotation(hints[field.name]).replace("|", "\\|")
        meaning = told.get(field.name) or " ".join(_notes(field.type))
        rows.append(f"| `{field.name}` | `{kind}` | {default} | {meaning} |\n")
    return "| field | type | default | |\n|---|---|---|---|\n" + "".join(rows) if rows else ""


def _default(field: Any) -> Any:
    return field.default if field.default is not msgspec.NODEFAULT else field.default_factory()


def _notes(annotation: Any) -> list[str]:
    """Return what an `Annotated` type says about the field."""
    return [note.description for note in getattr(annotation, "__metadata__", ()) if note.description]


def told_of(struct: type) -> dict[str, str]:
    """Map each field to its docstring in the source, also in its bases."""
    found: dict[str, str] = {}
    for kind in reversed(struct.__mro__):
        if not kind.__module__.startswith("tasktrail."):
            continue
        (body,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
        before = ""
        for node in body.body if isinstance(body, ast.ClassDef) else ():
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and before:
                found[before] = " ".join(str(node.value.value).split())
            before = node.target.id if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) else ""
    return found


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
