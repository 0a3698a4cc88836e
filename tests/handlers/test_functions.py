"""What a function's signature says about a task type, and what happens to its return value."""

import asyncio
import enum
import pickle
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, assert_type, get_type_hints

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasktrail import Finished, InputFile, NamedTask, OutputFile, Rejected, Stopped, TaskContext, TaskHandle, task
from tasktrail.errors import TaskNotCompleted
from tasktrail.events import Completed, Created, Started, Task
from tasktrail.events.errors import InvalidValue
from tasktrail.events.state import create, evolve
from tasktrail.events.task import view
from tasktrail.functions.handle import decoded_result
from tasktrail.functions.task_function import TaskFunction
from tasktrail.handlers.errors import BadAnswer, InvalidFunction
from tasktrail.handlers.functions import recorded_result, value_of
from tasktrail.handlers.process.context import plain_json
from tasktrail.handlers.registry import Registry
from tasktrail.testing import context_for, run_handler

NOW = datetime(2026, 8, 1, tzinfo=UTC)


class Fit(enum.Enum):
    COVER = "cover"


class Box(msgspec.Struct, frozen=True):
    width: int = 3


class Other(msgspec.Struct, frozen=True):
    height: int = 4


USUAL = Box()


class Listening:
    """Receives commands in place of a service."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []

    def create_task(self, type: str, **fields: Any) -> int:  # noqa: A002 - the field's name
        self.sent.append({"type": type, **fields})
        return len(self.sent)


def schema(function: TaskFunction[Any, Any, Any, Any]) -> dict[str, Any]:
    kind = function.__tasktrail__.options
    found: dict[str, Any] = msgspec.json.schema(kind)["$defs"][kind.__name__]
    return found


def test_the_options_come_from_the_signature_and_their_descriptions_from_the_docstring() -> None:
    @task
    def resize(path: str, width: Annotated[int, msgspec.Meta(ge=1, le=4000)] = 320, *, fit: Fit | None = None) -> None:
        """Make a picture smaller.

        Args:
            path: where it is,
                on this machine.
            width (int): in pixels.

        More is said here: but of nothing.
        """

    found = schema(resize)

    assert resize.name == resize.__tasktrail__.name == "resize"
    assert resize.__tasktrail__.summary == "Make a picture smaller."
    assert found["required"] == ["path"]
    assert found["additionalProperties"] is False
    assert found["properties"]["path"] == {"type": "string", "description": "where it is, on this machine."}
    width = found["properties"]["width"]
    assert width == {"type": "integer", "minimum": 1, "maximum": 4000, "default": 320, "description": "in pixels."}
    assert "description" not in found["properties"]["fit"]


def test_a_docstring_in_the_manner_of_sphinx_is_read_too() -> None:
    @task
    def shout(text: str, times: int = 1) -> str:
        """Shout.

        :param text: what
            to shout.
        :param int times: how often.
        """
        return text.upper() * times

    found = schema(shout)["properties"]
    assert [found[name]["description"] for name in ("text", "times")] == ["what to shout.", "how often."]


def test_a_call_runs_the_function_here() -> None:
    @task("other_name", max_retries=5)
    def double(number: int) -> int:
        """Twice as much."""
        return 2 * number

    @task
    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    assert double.name == "other_name"
    assert double(4) == 8
    assert double.__doc__ == "Twice as much."
    assert asyncio.run(later(1)) == 2


def test_defaults_that_can_change_are_copied() -> None:
    @task
    def collect(names: list[str] = ["a"]) -> list[str]:  # noqa: B006 - that is what is tested
        return names

    kind = collect.__tasktrail__.options
    first, second = msgspec.convert({}, kind), msgspec.convert({}, kind)
    first.names.append("b")  # type: ignore[attr-defined]
    assert second.names == ["a"]  # type: ignore[attr-defined]


def test_an_attempt_gets_its_arguments_from_the_task(tmp_path: Path) -> None:
    @task
    def everything(
        context: TaskContext[Any], first: int, /, source: InputFile, target: OutputFile, *, last: Box = USUAL
    ) -> dict[str, Any]:
        target.write_text(source.read_text().upper())
        context.progress(50)
        return {"first": first, "last": last, "attempt": context.attempt}

    (tmp_path / "in.txt").write_text("hello")
    context = context_for(
        everything,
        tmp_path / "work",
        options={"first": 7, "last": {"width": 9}},
        input_file=tmp_path / "in.txt",
        output_file=tmp_path / "out.txt",
    )
    outcome = run_handler(everything, context)

    assert outcome == Finished(result={"first": 7, "last": Box(9), "attempt": 1})
    assert (tmp_path / "out.txt").read_text() == "HELLO"
    assert context.reports == [(50, "")]
    assert (everything.__tasktrail__.needs_input, everything.__tasktrail__.needs_output) == (True, True)


def test_files_with_a_default_may_be_left_out(tmp_path: Path) -> None:
    @task
    def perhaps(source: InputFile | None = None, number: int = 1) -> str:
        return f"{source and source.name} {number}"

    (tmp_path / "in.txt").touch()
    without = run_handler(perhaps, context_for(perhaps, tmp_path / "work"))
    given_one = run_handler(perhaps, context_for(perhaps, tmp_path / "work", input_file=tmp_path / "in.txt"))

    assert not perhaps.__tasktrail__.needs_input
    assert without == Finished(result={"value": "None 1"})
    assert given_one == Finished(result={"value": "in.txt 1"})


def test_a_coroutine_function_is_awaited_and_its_result_kept(tmp_path: Path) -> None:
    @task
    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    assert run_handler(later, context_for(later, tmp_path, options={"number": 1})) == Finished(result={"value": 2})


def test_a_coroutine_that_another_decorator_hides_is_awaited_too(tmp_path: Path) -> None:
    def twice(function: Callable[[int], Coroutine[Any, Any, int]]) -> Callable[[int], Coroutine[Any, Any, int]]:
        @wraps(function)
        def call(number: int) -> Coroutine[Any, Any, int]:
            return function(2 * number)

        return call

    @task
    @twice
    async def later(number: int) -> int:
        await asyncio.sleep(0)
        return number + 1

    assert run_handler(later, context_for(later, tmp_path, options={"number": 2})) == Finished(result={"value": 5})


def mangled(number: int, *, __count: int) -> None: ...


def one_by_one() -> Iterator[int]:
    yield 1


async def awaited_one_by_one() -> AsyncIterator[int]:
    yield 1


def variable(*paths: str) -> None: ...
def keywords(**more: int) -> None: ...
def bare(path, width: int) -> None: ...  # type: ignore[no-untyped-def]  # noqa: ANN001 - refused for it
def of_path(path: Path) -> None: ...
def of_object(what: Listening) -> None: ...
def wrong_default(width: int = None) -> None: ...  # type: ignore[assignment]  # noqa: RUF013 - refused for it
def two_inputs(one: InputFile, other: InputFile) -> None: ...
def two_contexts(one: TaskContext[Any], other: TaskContext[Any]) -> None: ...
def many_inputs(files: list[InputFile]) -> None: ...
def two_kinds(what: Box | Other) -> None: ...
def sets() -> dict[str, set[int]]: ...  # type: ignore[empty-body]
def returns_path() -> Path: ...  # type: ignore[empty-body]
def unknown_name(what: "Missing") -> None: ...  # type: ignore[name-defined]  # noqa: F821 - refused for it


class OfClass:
    def method(self, number: int) -> None: ...


@pytest.mark.parametrize(
    ("function", "said", "do"),
    [
        (variable, "'paths' of variable takes any number", "list"),
        (keywords, "'more' of keywords takes any number", "Name each parameter"),
        (bare, "'path' of bare has no annotation", "path: str"),
        (OfClass.method, "'self' of method has no annotation", "make it a function"),
        (of_path, "'path' of of_path is Path, which JSON cannot carry", "InputFile"),
        (of_object, "which JSON cannot carry", "dataclasses"),
        (wrong_default, "default of parameter 'width' of wrong_default, None, is not", r"int \| None = None"),
        (two_inputs, "Two parameters of two_inputs are its input_file", "`str`, and `@task.reads="),
        (two_contexts, "Two parameters of two_contexts are its context", "Keep one"),
        (many_inputs, r"'files' of many_inputs is list\[InputFile\], which JSON", "one InputFile(.|\n)*`str`"),
        (
            two_kinds,
            r"'what' of two_kinds is Box \| Other, which JSON",
            "takes one dataclass or Struct, or several Structs(.|\n)*`tag`",
        ),
        (sets, "JSON knows no sets", "sorted list"),
        (returns_path, "result of returns_path is Path", "Return it as a `str`"),
        (unknown_name, "annotations of unknown_name cannot be read", "TYPE_CHECKING"),
        (one_by_one, "one_by_one yields", "list"),
        (mangled, "parameters of mangled make no options", "__count"),
        (awaited_one_by_one, "awaited_one_by_one yields", "list"),
        (OfClass, "decorates a type", "@handler"),
        (lambda: None, "A lambda has no name", "name"),
    ],
)
def test_what_no_type_can_be_made_of_is_refused_with_what_to_do(function: Any, said: str, do: str) -> None:
    with pytest.raises(InvalidFunction, match=said) as caught:
        task(function)
    with pytest.raises(InvalidFunction, match=do):
        raise caught.value


def test_task_may_stand_on_either_side_of_staticmethod() -> None:
    class Mail:
        @task
        @staticmethod
        async def above(to: str) -> str:
            return to

        @staticmethod
        @task
        async def below(to: str) -> str:
            return to

    for function in (Mail.above, Mail().above, Mail.below, Mail().below):
        assert asyncio.run(function("Ada")) == "Ada"
        assert run_handler(function, context_for(function, Path(), options={"to": "Ada"})) == Finished(
            result={"value": "Ada"}
        )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"priority": 11}, "priority"),
        ({"retries": 3}, "no field `retries`"),
        ({"user_id": 3}, r"user_id is given with each task(.|\n)*with_fields"),
        ({"every": "soon"}, "every cannot be 'soon'"),
        ({"every": 60, "cron": "* * * * *"}, "either"),
        ({"cron": "61 * * * *"}, "no cron expression"),
        ({"cron": "0 3 * * *", "timezone": "Mars/Olympus"}, "no time zone"),
        ({"timezone": "Europe/Berlin"}, "timezone has no effect without every or cron"),
        ({"missed": "skip"}, "missed has no effect without every or cron"),
        ({"every": 0}, "every"),
        ({"every": 0.5}, "every"),
        ({"every": float("nan")}, "every"),
        ({"every": True}, "every"),
        ({"every": 60, "missed": "never"}, "missed"),
        ({"options": {}}, "options is given with each task"),
        ({"user_id": 7}, r"user_id is given with each task(.|\n)*`tasktrail schedule add`"),
        ({"notify_email": "me"}, "@task of refused: notify_email: "),
        ({"notify_email": "me@example.org", "notify_on": ["started"]}, "notify_on names no end"),
        ({"notify_webhook": "ftp://example.org/hook"}, "notify_webhook: Only http and https"),
        ({"callback_url": "https://a:b@example.org/"}, "callback_url: An address must not hold a user name"),
        ({"notify_on": "failed"}, "notify_on"),
        ({"notify_targets": "ops"}, "notify_targets"),
        ({"network": "no"}, "network"),
        ({"retry_on": OSError}, "tuple of exception classes"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidFunction, match=said):

        @task("refused", **settings)
        def refused(number: int = 1) -> None:
            pass


def test_a_function_says_which_workers_its_tasks_need_and_what_they_have_in_common() -> None:
    @task(worker_label="gpu", label="films")
    def render() -> None: ...

    assert render.__tasktrail__.defaults == {"worker_label": "gpu", "label": "films"}


def test_a_function_says_who_is_told_of_its_tasks() -> None:
    """The configuration, which is not known here, decides whether an address is allowed and a target is there."""

    @task(notify_webhook="http://localhost:8000/hook", notify_targets=["ops"], notify_on=["failed"])
    def report() -> None: ...

    assert report.__tasktrail__.defaults == {
        "notify_webhook": "http://localhost:8000/hook",
        "notify_targets": ("ops",),
        "notify_on": ("failed",),
    }


def test_what_runs_by_itself_needs_a_default_for_each_parameter() -> None:
    with pytest.raises(InvalidFunction, match="no one would give it number"):

        @task(every="10m")
        def needy(number: int) -> None:
            pass

    @task(every="10m")
    def content(context: TaskContext[Any], number: int = 1) -> None:
        pass

    periodic = content.__tasktrail__.periodic
    assert periodic is not None
    assert periodic.every == 600


def test_a_module_with_such_a_function_says_what_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "faulty_functions.py").write_text("from tasktrail import task\n\n@task\ndef f(a): ...\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry.load(["faulty_functions"], group="")
    (error,) = registry.errors
    assert "Parameter 'a' of f has no annotation" in error.message
    sys.modules.pop("faulty_functions", None)


# --- results ----------------------------------------------------------------------------------------------------

plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["value", "a", ""]), inner, max_size=3),
    max_leaves=6,
)


@given(plain)
def test_every_value_comes_back_as_it_was(value: Any) -> None:
    outcome = recorded_result(value)
    assert isinstance(outcome, Finished)
    stored = msgspec.json.decode(msgspec.json.encode(outcome.result))
    assert isinstance(stored, dict)
    assert value_of(stored) == value
    assert type(value_of(stored)) is type(value)


def finished(answer: Any) -> Task:
    outcome = recorded_result(answer)
    assert isinstance(outcome, Finished)
    result = msgspec.json.decode(msgspec.json.encode(outcome.result))
    state = create(3, Created(type="t"), NOW)
    return view(evolve(evolve(state, Started(), NOW), Completed(result=result), NOW), NOW)


@pytest.mark.parametrize(
    ("answer", "returns"),
    [
        (Box(4), Box),
        (Box(), Box),
        ({1: "one"}, dict[int, str]),
        (NOW, datetime),
        (Fit.COVER, Fit),
        ([Box(1)], list[Box]),
        ((1, "a"), tuple[int, str]),
        ({}, dict[str, int]),
        (None, None),
        (None, Box | None),
        ({}, dict[str, int] | None),
    ],
)
def test_a_result_is_read_back_as_the_type_that_is_annotated(answer: Any, returns: Any) -> None:
    assert decoded_result(finished(answer), "t", returns) == answer


def test_outcomes_with_a_name_stay_what_they_are() -> None:
    for outcome in (Finished(result={"a": 1}), Stopped(), Rejected(reason="no")):
        assert recorded_result(outcome) is outcome


def test_a_result_that_is_not_what_the_annotation_says_is_told() -> None:
    with pytest.raises(InvalidValue, match="not what t says it returns") as caught:
        decoded_result(finished("text"), "t", int)
    assert caught.value.status == 500  # a web program that answers with it got a valid question


def text_for_number() -> int:
    return "text"  # type: ignore[return-value]  # the mistake


async def number_for_nothing() -> None:
    return 3  # type: ignore[return-value]  # the mistake


def no_json() -> list[int]:
    return [object()]  # type: ignore[list-item]  # the mistake


def no_number() -> float:
    return float("nan")


class Shape(msgspec.Struct, tag=True):
    """The base of a shape."""


class Circle(Shape, tag=True):
    """A shape."""

    radius: float = 1.0


@dataclass
class Once:
    """Made from facts that are there only once."""

    facts: list[int]

    def __post_init__(self) -> None:
        self.first = self.facts.pop()


def truth_for_number() -> int:
    return True


def number_for_float() -> float:
    return False


def time_for_date() -> date:
    return datetime(2024, 1, 1, tzinfo=UTC)


def special_for_base() -> Shape | None:
    return Circle(radius=2.0)


def made_once() -> Once:
    return Once([1])


def truths_for_numbers() -> list[int]:
    return [True]


@pytest.mark.parametrize(
    "function",
    [truth_for_number, number_for_float, time_for_date, special_for_base, made_once, truths_for_numbers],
    ids=lambda function: function.__name__,
)
def test_what_a_type_checker_takes_for_the_annotated_type_passes(function: Callable[[], Any], tmp_path: Path) -> None:
    """Some of it is read back as another type, or not at all, and is plain JSON for whoever asks."""
    outcome = run_handler(task(function), context_for(task(function), work_dir=tmp_path))
    assert isinstance(outcome, Finished)


@pytest.mark.parametrize(
    ("function", "told"),
    [
        (text_for_number, "text_for_number is annotated to return int, and .* not that: Expected `int`, got `str`"),
        (number_for_nothing, "annotated to return None, and .*: Expected `null`, got `int`"),
        (no_json, "not plain JSON"),
        (no_number, "holds nan, which JSON cannot represent"),
    ],
)
def test_a_function_that_returns_another_type_than_it_says_has_failed(
    function: Callable[[], Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(BadAnswer, match=told):
        run_handler(task(function), context_for(task(function), work_dir=tmp_path))


@pytest.mark.parametrize(
    "answer", [Finished(result={"a": 1}), Rejected(reason="no"), Stopped(), 7, {"value": 1}], ids=repr
)
def test_outcomes_beside_the_annotated_type_pass_and_values_of_it(answer: Any, tmp_path: Path) -> None:
    @task
    def either() -> int | dict[str, int] | Finished | Rejected | Stopped:
        given: int | dict[str, int] | Finished | Rejected | Stopped = answer
        return given

    assert run_handler(either, context_for(either, work_dir=tmp_path)) == recorded_result(answer)


def test_a_task_that_was_taken_for_one_of_another_type_is_told() -> None:
    with pytest.raises(InvalidValue, match=r"Task 3 is of type t, and its result is not what add says"):
        decoded_result(finished("text"), "add", int)


def test_a_task_that_has_failed_has_no_result() -> None:
    failed = msgspec.structs.replace(finished(1), status="failed", error="no room")
    with pytest.raises(TaskNotCompleted, match=r"Task 3 \(t\) has failed: no room") as caught:
        decoded_result(failed, "t", int)
    assert caught.value.task is failed
    assert "tasktrail output 3" in str(caught.value)
    assert pickle.loads(pickle.dumps(caught.value)).task == failed


def test_a_task_that_never_ran_has_printed_nothing() -> None:
    waiting = view(create(3, Created(type="t"), NOW), NOW)
    cancelled = msgspec.structs.replace(waiting, status="cancelled")
    with pytest.raises(TaskNotCompleted, match=r"`tasktrail history 3`") as caught:
        decoded_result(cancelled, "t", int)
    assert "tasktrail output" not in str(caught.value)


# --- what is sent ------------------------------------------------------------------------------------------------


def test_arguments_are_sent_as_options_and_paths_and_fields_as_fields() -> None:
    @task
    def work(source: InputFile, box: Box, when: datetime, target: OutputFile | None = None, number: int = 1) -> int:
        return number + bool(source and box and when and target)

    service: Any = Listening()
    first = work.using(service).submit(Path("a.txt"), Box(2), NOW)
    second = work.using(service).with_fields(priority=3).with_fields(user_id=4, depends_on=[first, 17])
    handle = second.submit(Path("a.txt"), Box(), when=NOW, target=Path("b.txt"), number=3)
    NamedTask("work").using(service).with_fields(depends_on=handle).submit(number=5)

    assert (first.id, handle.id) == (1, 2)
    assert service.sent == [
        {"type": "work", "input_file": Path("a.txt"), "options": {"box": {"width": 2}, "when": "2026-08-01T00:00:00Z"}},
        {
            "type": "work",
            "input_file": Path("a.txt"),
            "output_file": Path("b.txt"),
            "options": {"box": {"width": 3}, "when": "2026-08-01T00:00:00Z", "number": 3},
            "priority": 3,
            "user_id": 4,
            "depends_on": [1, 17],
        },
        {"type": "work", "options": {"number": 5}, "depends_on": [2]},
    ]
    with pytest.raises(TypeError, match=r"work: .*width"):
        work.using(service).submit(Path("a"), Box(), NOW, width=3)  # type: ignore[call-arg]


def test_a_field_that_would_count_as_left_out_is_refused_where_the_type_has_another_default() -> None:
    @task(priority=5)
    def urgent() -> None:
        pass

    with pytest.raises(InvalidValue, match="priority=0 counts as left out"):
        urgent.with_fields(priority=0)
    assert urgent.with_fields(priority=5)


def test_the_arguments_of_submit_are_no_fields() -> None:
    @task
    def work(number: int) -> int:
        return number

    for function in (work, NamedTask("work")):
        for field in ("type", "options"):
            with pytest.raises(InvalidValue, match=rf"{field} is no field of with_fields(.|\n)*submit") as caught:
                function.with_fields(**{field: {"number": 1}})
            assert caught.value.field == field


@task
def squared(number: int) -> int:
    """Square it; it is passed to another process."""
    return number * number


def test_a_function_is_handed_to_other_processes_by_its_name() -> None:
    assert pickle.loads(pickle.dumps(squared)) is squared
    assert deepcopy(squared) is squared
    assert pickle.loads(pickle.dumps(squared.submit)) == squared.submit
    assert pickle.loads(pickle.dumps(squared.handle(17))).id == 17


def test_a_notebook_completes_the_attributes_of_a_handle() -> None:
    """Jedi, which IPython asks, offers none at all if it can read that a property is a Literal; this stands for it."""
    with pytest.raises(NameError, match="Status"):
        get_type_hints(vars(TaskHandle)["status"].fget)


def test_a_function_is_shown_in_short() -> None:
    assert repr(squared) == repr(squared.with_fields(priority=9)) == repr(NamedTask("squared")) == "<task type squared>"


def test_a_result_that_is_refused_is_not_told_in_words_of_handlers() -> None:
    """Whoever writes a function with `@task` may never have seen a handler."""
    with pytest.raises(BadAnswer) as refused:
        plain_json(squared, 100, "The result")
    assert "@handler" not in f"{refused.value} {refused.value.advice}"


def test_what_with_fields_has_set_goes_with_it() -> None:
    service: Any = Listening()
    urgent = pickle.loads(pickle.dumps(squared.with_fields(priority=9).with_fields(user_id=7)))
    urgent.using(service).submit(3)
    assert service.sent == [{"type": "squared", "options": {"number": 3}, "priority": 9, "user_id": 7}]
    assert urgent(3) == 9


# --- what type checkers say -----------------------------------------------------------------------------------------


def test_type_checkers_know_what_is_submitted_and_what_comes_back() -> None:
    """Only the type checker uses it: `assert_type` does nothing when it is called."""

    @task
    def with_context(context: TaskContext[None], number: int) -> int:
        return number + context.attempt

    @task(priority=3)
    async def coroutine(context: TaskContext[None], number: int) -> Box:
        return Box(number + context.attempt)

    service: Any = Listening()
    assert_type(with_context.using(service).submit(1), TaskHandle[int])
    assert_type(coroutine.using(service).submit(1), TaskHandle[Box])
    with pytest.raises(TypeError, match="context"):
        with_context.using(service).submit(1, context=None)  # type: ignore[call-arg]
    assert [sent["options"] for sent in service.sent] == [{"number": 1}] * 2
