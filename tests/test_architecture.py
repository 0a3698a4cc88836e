"""The import graph is the one in docs/explanation/architecture.md, and the pure files are pure.

Each checker takes the folder to check, so that a test can plant a fault in a tree of its own and see it found.
"""

import ast
import graphlib
import os
import sys
from collections.abc import Iterator, Mapping
from importlib.util import resolve_name
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "tasktrail": {"tasktrail", "actors", "projections", "handlers", "events"},
    "actors": {"actors", "projections", "handlers", "events"},
    "projections": {"projections", "events"},
    "handlers": {"handlers", "events"},
    "events": {"events"},
}

# Files and folders whose code depends only on its arguments.
PURE = (
    "tasktrail.events.task_events",
    "tasktrail.events.system_events",
    "tasktrail.events.clock_jumps",
    "tasktrail.events.counted",
    "tasktrail.events.commands",
    "tasktrail.events.reports",
    "tasktrail.events.state",
    "tasktrail.events.decide",
    "tasktrail.events.context",
    "tasktrail.events.creation",
    "tasktrail.events.timeouts",
    "tasktrail.events.estimates",
    "tasktrail.events.retry",
    "tasktrail.events.priority",
    "tasktrail.events.log.chain",
    "tasktrail.events.recorded",
    "tasktrail.events.ranges",
    "tasktrail.events.forms",
    "tasktrail.events.errors",
    "tasktrail.events.values",
    "tasktrail.events.task",
    "tasktrail.events.log.rows",
    "tasktrail.events.log.personal",
    "tasktrail.projections.errors",
    "tasktrail.projections.notices",
    "tasktrail.projections.mail_limit",
    "tasktrail.projections.outbox",
    "tasktrail.projections.describe",
    "tasktrail.projections.proof.merkle",
    "tasktrail.projections.proof.trees",
    "tasktrail.projections.legal_transitions",
    "tasktrail.handlers.errors",
    "tasktrail.handlers.urls",
    "tasktrail.actors.core",
    "tasktrail.whatif.timeline",
    "tasktrail.whatif.executor",
    "tasktrail.whatif.recording",
    "tasktrail.whatif.policy",
    "tasktrail.whatif.question",
    "tasktrail.whatif.replay",
    "tasktrail.whatif.answer",
)

# A list of the allowed, not of the forbidden: an unknown module is refused until somebody has looked at it.
PURE_IMPORTS = {
    "bisect",
    "collections",
    "collections.abc",
    "contextlib",
    "cronsim",  # arithmetic on the datetime that it is given
    "datetime",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "itertools",
    "math",
    "msgspec",
    "msgspec.inspect",  # how a Struct is declared
    "msgspec.structs",
    "operator",
    "re",
    "typing",
    "zoneinfo",  # the same zones for the same data of the system
    "urllib.parse",
}
PURE_NAMES = {("pathlib", "PurePath"), ("pathlib", "PurePosixPath")}  # of modules that are not pure as a whole
IMPURE_CALLS = {"open", "print", "input", "exec", "eval", "breakpoint", "__import__"}
CLOCK_READS = {"now", "utcnow", "today"}

Modules = Mapping[str, ast.Module]


def read_modules(root: Path) -> dict[str, ast.Module]:
    """Read every module of the five rooms under its installed name; packages have the name of their folder."""
    modules = {}
    for room in MAY_IMPORT:
        for folder, _, files in os.walk(root / room):  # does not follow the links inside tasktrail/
            for file in sorted(files):
                if file.endswith(".py"):
                    path = Path(folder, file)
                    parts = path.relative_to(root).with_suffix("").parts
                    parts = parts if room == "tasktrail" else ("tasktrail", *parts)
                    modules[".".join(parts)] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return modules


def room_of(module: str) -> str:
    """Map `tasktrail.events.log.event_log` to events; modules of no other room belong to the face, `tasktrail`."""
    rooms = MAY_IMPORT.keys() & module.split(".")[1:2]
    return rooms.pop() if rooms else "tasktrail"


def known_as(target: str, modules: Modules) -> str:
    """The name under which `read_modules` keeps an imported module: a package is its `__init__`."""
    package = f"{target}.__init__"
    return package if package in modules else target


def home_of(package: str, name: str, modules: Modules) -> str:
    """Return the module that defines `name` of `package`: a submodule, where `__init__` imports it from, or itself."""
    submodule = known_as(f"{package}.{name}", modules)
    if submodule in modules:
        return submodule
    init = f"{package}.__init__"
    for target, imported in imports(init, modules) if init in modules else ():
        if imported == name and target != init:
            return target
    return known_as(package, modules)


def name_of(called: ast.expr) -> str:
    """The last part of the name of what is called; empty if it has none."""
    return called.attr if isinstance(called, ast.Attribute) else called.id if isinstance(called, ast.Name) else ""


def imports(module: str, modules: Modules, nodes: Iterator[ast.AST] | None = None) -> Iterator[tuple[str, str]]:
    """Return the imports of a module, wherever they stand in it: (module, name taken from it or "")."""
    package = module.rpartition(".")[0]
    for node in nodes or ast.walk(modules[module]):
        if isinstance(node, ast.Import):
            yield from ((known_as(alias.name, modules), "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            target = resolve_name("." * node.level + (node.module or ""), package)
            yield from ((home_of(target, alias.name, modules), alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and name_of(node.func).endswith("import_module"):
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                yield known_as(resolve_name(name.value, package), modules), ""


def wrong_directions(modules: Modules) -> list[str]:
    """Return imports that go up or sideways, and imports between rooms that are not relative."""
    wrong = []
    for module, tree in modules.items():
        room = room_of(module)
        for target, _ in imports(module, modules):
            if target.split(".")[0] == "tasktrail" and room_of(target) not in MAY_IMPORT[room]:
                wrong.append(f"{module} imports {target}: {room} must not know {room_of(target + '.')}")
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            wrong += [f"{module}: import {name} relatively" for name in names if name.split(".")[0] in MAY_IMPORT]
    return wrong


def is_pure(module: str) -> bool:
    """Return whether the module is on the list, by itself or by its folder."""
    return any(module == pure or module.startswith(f"{pure}.") for pure in PURE)


def impurities(modules: Modules) -> list[str]:
    """Return the impure things that pure files import, call or read and that are not on the list."""
    found = []
    for module in filter(is_pure, modules):
        for target, name in imports(module, modules):
            if not is_pure(target) and target not in PURE_IMPORTS and (target, name) not in PURE_NAMES:
                found.append(f"{module} imports {target}, which is not known to be pure")
        for node in ast.walk(modules[module]):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
                found.append(f"{module}:{node.lineno} calls {node.func.id}")
            if isinstance(node, ast.Attribute) and node.attr in CLOCK_READS and _is_a_clock(node.value):
                found.append(f"{module}:{node.lineno} reads the clock")
    return found


def _is_a_clock(node: ast.expr) -> bool:
    return ast.unparse(node).split(".")[-1] in {"datetime", "date"}


def at_import(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Return the statements that run when a module is imported; not function bodies or code for type checkers only."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from at_import(node.orelse)
            continue
        yield node
        for inner in ("body", "orelse", "finalbody"):
            yield from at_import(getattr(node, inner, []))
        for handler in getattr(node, "handlers", []):
            yield from at_import(handler.body)


def cycle(modules: Modules) -> list[str]:
    """Return one chain of modules that import each other at import time, or nothing."""
    graph = {
        module: {target for target, _ in imports(module, modules, at_import(tree.body)) if target in modules} - {module}
        for module, tree in modules.items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def unit_of(module: str, modules: Modules) -> str:
    """Return what a reader of a room sees first: the module itself, or its folder in the room."""
    depth = 2 if room_of(module) == "tasktrail" else 3
    folder = ".".join(module.split(".")[:depth])
    return folder if f"{folder}.__init__" in modules else module


def folder_cycle(modules: Modules) -> list[str]:
    """Return one chain of folders or modules of a room that import each other, or nothing; faces only re-export."""
    graph: dict[str, set[str]] = {}
    for module, tree in modules.items():
        if not module.endswith(".__init__"):
            targets = (target for target, _ in imports(module, modules, at_import(tree.body)) if target in modules)
            graph.setdefault(unit_of(module, modules), set()).update(unit_of(target, modules) for target in targets)
    try:
        graphlib.TopologicalSorter({unit: below - {unit} for unit, below in graph.items()}).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


@pytest.fixture(scope="module")
def house() -> dict[str, ast.Module]:
    modules = read_modules(ROOT)
    assert {room_of(module) for module in modules} == set(MAY_IMPORT)
    return modules


def plant(root: Path, files: Mapping[str, str]) -> dict[str, ast.Module]:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return read_modules(root)


def test_no_folders_of_a_room_import_each_other_in_a_circle(house: Modules) -> None:
    assert folder_cycle(house) == []


def test_each_room_imports_only_rooms_below_it(house: Modules) -> None:
    assert wrong_directions(house) == []


def test_pure_files_depend_on_nothing_but_their_arguments(house: Modules) -> None:
    assert impurities(house) == []


def test_whatever_builds_views_asks_no_clock_no_network_and_no_chance(house: Modules) -> None:
    """Otherwise rebuilt views would differ from the first ones."""
    builders = {
        module: tree
        for module, tree in house.items()
        if module.startswith(("tasktrail.projections.views.", "tasktrail.projections.rebuilding"))
    }
    assert len(builders) > 5
    assert [
        (module, target)
        for module in builders
        for target, _ in imports(module, house)
        if target in {"time", "random", "secrets", "uuid", "socket", "ssl", "http", "urllib", "httpx", "smtplib"}
    ] == []
    assert [
        f"{module}:{node.lineno}"
        for module, tree in builders.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr in CLOCK_READS and _is_a_clock(node.value)
    ] == []


def test_every_file_on_the_pure_list_is_there(house: Modules) -> None:
    assert [pure for pure in PURE if known_as(pure, house) not in house] == []


def test_no_modules_import_each_other_in_a_circle(house: Modules) -> None:
    assert cycle(house) == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("events/log.py", "from ..handlers import registry"),
        ("events/log.py", "def later():\n    from ..actors.core import step"),
        ("handlers/image.py", "from ..projections import queries"),
        ("handlers/video/convert/checkpoint.py", "from ....actors import scheduler"),
        ("projections/views.py", "from ..handlers.contract import Estimate"),
        ("actors/pool.py", "from .. import service"),
        ("actors/pool.py", "from importlib import import_module\nimport_module('tasktrail.api.service')"),
        ("actors/pool.py", "import importlib\nimportlib.import_module('..service', __package__)"),
        ("actors/pool.py", "from tasktrail.events import Created"),
        ("tasktrail/api/service.py", "import events.log"),
    ],
)
def test_an_import_that_goes_up_sideways_or_is_absolute_is_found(tmp_path: Path, file: str, line: str) -> None:
    assert len(wrong_directions(plant(tmp_path, {file: line}))) == 1


def test_imports_that_go_down_are_allowed(tmp_path: Path) -> None:
    down = {
        "tasktrail/cli/run.py": "from ..actors import pool\nfrom ..service import TaskService",
        "actors/core/step.py": "from ...events import Created\nfrom ...handlers.contract import Estimate",
        "handlers/video/convert/run.py": "from ...contract import handler\nfrom ....events import Checkpoint",
    }
    assert wrong_directions(plant(tmp_path, down)) == []


@pytest.mark.parametrize(
    "line",
    [
        "import time",
        "from random import random",
        "import os.path",
        "from urllib import request",
        "from pathlib import Path",
        "import structlog",
        "from .log import EventLog",
        "from . import EventLog",
        "from datetime import datetime\nstart = datetime.now",
        "import datetime\ntoday = datetime.date.today()",
        "def f():\n    print('here')",
        "text = open('x').read()",
    ],
)
def test_what_a_pure_file_must_not_touch_is_found(tmp_path: Path, line: str) -> None:
    files = {"events/__init__.py": "from .log import EventLog", "events/log.py": "", "events/decide.py": line}
    assert len(impurities(plant(tmp_path, files))) == 1


def test_a_pure_file_may_take_pure_names_through_an_impure_package(tmp_path: Path) -> None:
    files = {
        "events/__init__.py": "from .log import EventLog\nfrom .state import TaskState",
        "events/log.py": "import sqlite3",
        "events/state.py": "from collections.abc import Iterator\nfrom functools import reduce",
        "actors/core/step.py": "from ...events import TaskState\nfrom . import queue",
        "actors/core/queue.py": "import heapq\nfrom pathlib import PurePath",
    }
    assert impurities(plant(tmp_path, files)) == []


def test_a_circle_of_imports_is_found(tmp_path: Path) -> None:
    files = {"events/a.py": "from .b import B", "events/b.py": "from . import c", "events/c.py": "from .a import A"}
    assert len(cycle(plant(tmp_path, files))) == 4


def test_a_circle_of_folders_is_found(tmp_path: Path) -> None:
    files = {
        "events/log/__init__.py": "",
        "events/log/a.py": "from ..rules.b import B",
        "events/rules/__init__.py": "",
        "events/rules/b.py": "",
        "events/rules/c.py": "from ..log import a",
    }
    modules = plant(tmp_path, files)
    assert cycle(modules) == []
    assert set(folder_cycle(modules)) == {"tasktrail.events.log", "tasktrail.events.rules"}


def test_imports_that_run_later_or_never_make_no_circle(tmp_path: Path) -> None:
    files = {
        "events/a.py": "from .b import B",
        "events/b.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .a import A",
        "events/c.py": "def late():\n    from .d import D",
        "events/d.py": "from .c import C",
    }
    assert cycle(plant(tmp_path, files)) == []


def test_the_pure_list_of_allowed_imports_names_real_modules() -> None:
    unknown = {
        name for name in PURE_IMPORTS if name.split(".")[0] not in {*sys.stdlib_module_names, "msgspec", "cronsim"}
    }
    assert unknown == set()
