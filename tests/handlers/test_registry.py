"""Task types are found where users put them, and a broken module stops nothing else."""

import subprocess
import sys
from abc import ABC, abstractmethod
from enum import Enum
from functools import partial, wraps
from pathlib import Path
from textwrap import dedent
from types import ModuleType
from typing import Any
from unittest.mock import Mock

import msgspec
import pytest

from tasktrail.events.errors import UnknownType
from tasktrail.handlers import Estimate, handler
from tasktrail.handlers.contract import TaskType, resolve
from tasktrail.handlers.errors import BrokenHandlers, DuplicateType
from tasktrail.handlers.registry import Registry, unknown_type

NOWHERE = "tasktrail.no.such.group"


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Make a module with two types, a function and a class; return its name."""
    name = f"types_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(
        dedent("""
        from tasktrail.handlers import handler

        @handler("one")
        def one(context):
            '''The first.'''

        @handler("two")
        class Two:
            '''The second.'''
            def __call__(self, context):
                return {"two": 2}

        class Box:
            @staticmethod
            @handler("three")
            def three(context):
                '''The third.'''

            def __getattr__(self, name):
                raise RuntimeError("not bound")

            @property
            def made(self):
                raise RuntimeError("of an instance")
        also_one = one
        Two.later = later = Box()
        """)
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


@pytest.fixture
def registry(module: str) -> Registry:
    return Registry.load([module], group=NOWHERE)


def test_every_type_of_a_configured_module_is_found_with_its_home(registry: Registry, module: str) -> None:
    assert [task_type.name for task_type in registry] == ["one", "three", "two"]
    assert registry.homes() == {"one": f"{module}:one", "two": f"{module}:Two", "three": f"{module}:Box.three"}
    assert registry.get("two").summary == "The second."
    assert registry.errors == []


def test_an_object_of_a_module_can_be_named(module: str) -> None:
    registry = Registry.load([f"{module}:one", f"{module}:Box"], group=NOWHERE)

    assert registry.homes() == {"one": f"{module}:one", "three": f"{module}:Box.three"}


def test_the_classes_of_other_modules_are_theirs(module: str, tmp_path: Path) -> None:
    (tmp_path / "borrows.py").write_text(f"from {module} import Box, one\n")

    assert Registry.load(["borrows"], group=NOWHERE).homes() == {"one": "borrows:one"}


def test_a_home_leads_back_to_the_type(registry: Registry) -> None:
    for task_type in registry:
        assert resolve(registry.homes()[task_type.name]).__tasktrail__ is task_type


def test_an_unknown_type_names_the_nearest(registry: Registry) -> None:
    with pytest.raises(UnknownType, match=r"'tow'; did you mean 'two'\?"):
        registry.get("tow")
    with pytest.raises(UnknownType, match="no task type ''"):
        registry.get("")


def test_a_file_in_the_place_of_the_type_is_taken_for_one_only_where_no_type_has_a_point() -> None:
    assert "the type comes first" in unknown_type("photo.jpg", ["scale"], []).message
    assert "the type comes first" not in unknown_type("shop.add", ["scale", "shop.total"], []).message


def test_of_a_module_that_is_not_found_it_is_told_where_it_is_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_there.py").write_text("import nowhere_at_all\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry.load(["nowhere_at_all.shout", "half_there"])
    told = {error.message.split()[2]: error.advice for error in registry.errors}
    assert "PYTHONPATH" in told["nowhere_at_all.shout"]
    assert "PYTHONPATH" not in told["half_there"], "it is there, and lacks something itself"


def test_a_preset_in_the_place_of_a_type_is_told(registry: Registry) -> None:
    with pytest.raises(
        UnknownType, match=r"'web-720p'; it is a preset of video_convert: .*video_convert --preset web-720p"
    ):
        registry.get("web-720p")


def test_all_three_ways_to_a_type_of_ones_own_are_advised(registry: Registry) -> None:
    """A user who has followed the first page has a file, and no service that was given it."""
    with pytest.raises(UnknownType) as refusal:
        registry.get("add")
    assert all(way in refusal.value.advice for way in ("`tasktrail serve FILE`", "entry point", "`handlers`"))


def test_a_second_claim_on_a_name_is_refused_with_both_homes(registry: Registry, module: str) -> None:
    @handler("two")
    def other(_context: object) -> None:
        """Do nothing."""

    with pytest.raises(DuplicateType, match=rf"'two' of elsewhere:other is already claimed by {module}:Two"):
        registry.add(other.__tasktrail__, "elsewhere:other")  # type: ignore[attr-defined]

    assert registry.get("two").summary == "The second."


def test_a_broken_module_is_kept_as_an_error_and_the_others_are_loaded(module: str, tmp_path: Path) -> None:
    (tmp_path / "broken_types.py").write_text("1 / 0")
    (tmp_path / "exiting_types.py").write_text("raise SystemExit(3)")
    (tmp_path / "empty_types.py").write_text("")
    modules = ["broken_types", "exiting_types", "no_such_types", "empty_types", f"{module}:nothing", module]

    registry = Registry.load(modules, group=NOWHERE)

    assert len(registry) == 3
    assert all(isinstance(error, BrokenHandlers) for error in registry.errors)
    texts = "\n".join(map(str, registry.errors))
    for name in modules[:-1]:
        assert name in texts
    assert "ZeroDivisionError: division by zero" in texts


def test_entry_points_are_loaded_and_the_built_in_types_come_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "foreign_types.py").write_text(
        "from tasktrail.handlers import handler\n@handler('foreign')\ndef foreign(context): ...\n"
    )
    info = tmp_path / "foreign-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[tasktrail.test]\na_foreign = foreign_types\nz_own = tasktrail.handlers.contract\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))

    registry = Registry.load(group="tasktrail.test")

    assert registry.homes() == {"foreign": "foreign_types:foreign"}
    assert ["tasktrail.handlers.contract" in str(error) for error in registry.errors] == [True]


def test_a_worker_does_not_load_the_registry() -> None:
    """Package metadata and its parser would cost each worker time and memory."""
    script = "import sys, tasktrail.handlers.process.worker; sys.exit('tasktrail.handlers.registry' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize("home", ["app.py", "./app.py", "jobs/app", "/srv/app.py:resize"])
def test_a_file_among_the_modules_is_told_as_one(home: str) -> None:
    """Python's own words speak of packages and of relative imports."""
    (error,) = Registry.load([home], group=NOWHERE).errors
    assert error.message == f"`handlers` takes the names of modules, and {home} is the path of a file"
    assert "tasktrail serve" in error.advice


def test_a_type_that_could_not_be_loaded_is_told_with_the_reason() -> None:
    registry = Registry.load(["no_such_module"], group=NOWHERE)

    with pytest.raises(UnknownType, match=r"no task type 'shout'\. Handlers of no_such_module cannot be loaded"):
        registry.get("shout")


def test_no_built_in_type_takes_more_time_to_stop_than_the_configuration_gives() -> None:
    """A cancel must end within a second, whatever the type is doing."""
    registry = Registry.load()
    assert len(registry.homes()) >= 7
    assert [name for name in registry.homes() if registry.get(name).grace is not None] == []


@pytest.mark.parametrize("paths", ["/srv/models", ["/srv/models"], (1,)])
def test_paths_of_a_type_that_are_no_tuple_of_texts_are_refused(paths: Any) -> None:
    """A text is also a sequence of texts, and its first letter would open everything."""
    for field in ("reads", "writes"):
        with pytest.raises(TypeError, match=rf"mine: {field} has to be a tuple of paths"):
            handler("mine", **{field: paths})(lambda _context: None)


@pytest.mark.parametrize("errors", [OSError, [OSError], (OSError(),), ("OSError",), "OSError"])
def test_errors_of_a_type_that_are_no_tuple_of_classes_are_refused(errors: Any) -> None:
    """Each failed attempt would be lost with its worker, instead of being tried again."""
    with pytest.raises(TypeError, match=r"mine: retry_on has to be a tuple of exception classes, such as \(OSError,\)"):
        TaskType(name="mine", summary="", run=lambda _context: None, retry_on=errors)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("grace", -1.0), ("grace", "10s"), ("bounds", 5), ("packages", ("numpy",)), ("preload", "json")],
        *[("network", "no"), ("needs_folder", "no"), ("limits", None), ("resumable", 1)],
        *[("estimate", 5), ("estimate", None), ("estimate", Estimate)],
        *[("check", "mine:check"), ("options", dict), ("options", 5)],
    ],
)
def test_what_a_type_cannot_be_is_refused_where_it_is_declared(field: str, value: Any) -> None:
    with pytest.raises((TypeError, ValueError), match=rf"mine: {field}\b"):
        handler("mine", **{field: value})(lambda _context: None)


def _without_context() -> None: ...


def _with_more(_context: object, _path: str) -> None: ...


class _MadeWithContext:
    def __init__(self, context: object) -> None: ...

    def __call__(self, context: object) -> None: ...


class _NotCallable:
    def run(self, context: object) -> None: ...


class _CalledWithout:
    def __call__(self) -> None: ...


@pytest.mark.parametrize("name", ["a,b", " a", "a\n", "a\x7fb", "a" * 201])
def test_a_name_by_which_no_filter_finds_its_tasks_is_refused_where_it_is_declared(name: str) -> None:
    """`list --type a,b` asks for two other types: the tasks of this one could not be listed, cancelled or limited."""
    with pytest.raises(ValueError, match="this is no name of a task type"):
        TaskType(name=name, summary="", run=len)
    assert TaskType(name="a b/c.d=e", summary="", run=len).name == "a b/c.d=e"


@pytest.mark.parametrize(
    ("defaults", "said"),
    [
        ({"label": "\ud800"}, "defaults.label is not valid text"),
        ({"requires": {"zone": "\ud800"}}, "defaults.requires.zone is not valid text"),
        ({"options": {"size": object()}}, "defaults.options.size holds a Python object"),
        ({"label": "\x1b[31m"}, "defaults.label holds a control character"),
        ({"depends_on": (1,)}, "defaults cannot hold depends_on, which each task has of its own"),
        ({"type": "other"}, "defaults cannot hold type, which each task has of its own"),
        ({"lable": "night"}, "defaults has to hold fields of CreateTask: .*`lable`"),
    ],
)
def test_what_no_task_may_have_is_no_default_of_a_type(defaults: dict[str, Any], said: str) -> None:
    """It was put into each task after its own values were checked: nothing could be committed, or it was a KeyError."""
    with pytest.raises(ValueError, match=f"^mine: {said}"):
        TaskType(name="mine", summary="", run=print, defaults=defaults)


class _Unfinished(ABC):
    def __call__(self, _context: object) -> int:
        return self.scale()

    @abstractmethod
    def scale(self) -> int: ...


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (_without_context, "called with the context and nothing else, but too many"),
        (_with_more, "called with the context and nothing else, but missing a required argument: '_path'"),
        (_MadeWithContext, "made anew for each attempt, without arguments, but missing a required argument: 'context'"),
        (_NotCallable, r"has to have a method __call__\(self, context\)"),
        (_CalledWithout, "called with the context and nothing else, but too many"),
        (_Unfinished, "the class is abstract: it does not define scale$"),
    ],
)
def test_a_handler_that_cannot_be_called_with_a_context_is_refused_where_it_is_declared(run: Any, said: str) -> None:
    """The service started, and each attempt failed."""
    with pytest.raises(TypeError, match=f"^mine: .*{said}"):
        handler("mine")(run)


class _Bound:
    def run(self, _context: object) -> None: ...


@pytest.mark.parametrize("run", [_Bound().run, print, None, "my_package.my_module:run"])
def test_what_cannot_be_marked_as_a_handler_is_refused_with_a_way_that_works(run: Any) -> None:
    """It was an AttributeError about `__tasktrail__`."""
    with pytest.raises(TypeError, match=r"^mine: @handler .*TaskType\(name=\"mine\", summary=..., run=...\)"):
        handler("mine")(run)


def test_what_can_be_called_with_a_context_is_a_handler() -> None:
    class Static:
        @staticmethod
        def __call__(context: object) -> None: ...

    @wraps(_with_more)
    def decorated(context: object) -> None: ...

    for run in (Static, decorated, partial(_with_more, _path="/"), print, lambda *_: None, Mock()):
        assert TaskType(name="mine", summary="", run=run).run is run


def test_a_handler_without_a_name_is_told_how_to_get_one() -> None:
    """It was taken for the name, so the module seemed to have no handler."""
    with pytest.raises(TypeError, match=r'as in @handler\("_with_more"\)$'):
        handler(_with_more)  # type: ignore[arg-type]  # a likely slip


def test_relative_paths_of_a_type_are_refused() -> None:
    with pytest.raises(ValueError, match="'models' is not absolute"):
        handler("mine", reads=("/srv", "models"))(lambda _context: None)


def test_programs_of_a_type_are_told_by_a_function() -> None:
    with pytest.raises(TypeError, match="has to be a function"):
        handler("mine", programs=("/usr/bin/tool",))(lambda _context: None)  # type: ignore[arg-type]  # a likely slip


class Mixed(Enum):
    ONE = 1
    TWO = "two"


class Chosen(msgspec.Struct):
    which: Mixed = Mixed.ONE


class Anything(msgspec.Struct):
    value: Any = object()


@pytest.mark.parametrize("options", [Chosen, Anything])
def test_a_type_whose_options_cannot_be_described_does_not_hide_the_others(
    registry: Registry, options: type[msgspec.Struct]
) -> None:
    before = [known.name for known in registry]
    with pytest.raises(BrokenHandlers, match="The options of odd have no JSON schema"):
        registry.add(TaskType(name="odd", summary="", run=print, options=options), "mine:odd")
    assert [known.name for known in registry] == before


def test_a_type_that_cannot_be_described_leaves_the_others_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("some_types")
    for name, options in (("aa", msgspec.Struct), ("bb", Chosen), ("cc", msgspec.Struct), ("dd", Anything)):
        setattr(module, name, TaskType(name=name, summary="", run=print, options=options))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = Registry.load([module.__name__])
    assert [name for name in ("aa", "bb", "cc", "dd") if name in found] == ["aa", "cc"]
    assert [str(error).partition(":")[0] for error in found.errors] == [
        f"The options of {name} have no JSON schema" for name in ("bb", "dd")
    ]
    assert found.failed == [module.__name__]


def test_a_type_of_a_name_that_is_taken_leaves_the_others_of_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    for module_name, names in (("first_types", "b"), ("more_types", "abc")):
        module = ModuleType(module_name)
        for name in names:
            options = Chosen if name == "a" else msgspec.Struct
            setattr(module, name, TaskType(name=name, summary="", run=print, options=options))
        monkeypatch.setitem(sys.modules, module.__name__, module)
    found = Registry.load(["first_types", "more_types"])
    assert [name for name in "abc" if name in found] == ["b", "c"]
    assert [type(error) for error in found.errors] == [BrokenHandlers, DuplicateType]


def test_the_options_of_all_built_in_types_can_be_described() -> None:
    for known in Registry.load():
        assert msgspec.json.encode(msgspec.json.schema(known.options))
