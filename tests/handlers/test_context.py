"""A handler's messages are thinned out, cut and cleaned before they travel."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasktrail.events import Checkpoint
from tasktrail.events.reports import AttemptCheckpointed, AttemptProgressed, Run
from tasktrail.handlers.errors import BadAnswer, CheckpointRefused
from tasktrail.handlers.process.attempt import failure
from tasktrail.handlers.process.context import AttemptContext, ThinnedProgress, clamped, plain_json, plain_text

RUN = Run(7, 2, "t", "", "", {}, None, "/nowhere/7")


class FakeLine:
    """Records messages; answers as it is told."""

    def __init__(self, *, is_saved: bool = True) -> None:
        self.sent: list[Any] = []
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self._is_saved = is_saved

    def send(self, report: Any) -> None:
        self.sent.append(report)

    def stop_wanted(self) -> bool:
        return not self._is_saved

    def cores(self) -> int:
        return 0

    def saved(self) -> bool:
        return self._is_saved

    def granted(self) -> bool:
        return True

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        self.timers.append((seconds, call))

    def messages(self) -> list[str]:
        return [report.message for report in self.sent if isinstance(report, AttemptProgressed)]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_first_report_goes_at_once_and_the_newest_of_the_rest_when_its_time_has_come() -> None:
    line, clock = FakeLine(), Clock()
    progress = ThinnedProgress(RUN, line, clock)

    progress.say(1, "first")
    clock.now += 0.1
    progress.say(2, "second")
    progress.say(3, "third")

    assert line.messages() == ["first"]
    assert [round(seconds, 3) for seconds, _ in line.timers] == [0.4]
    clock.now += 0.4
    line.timers[0][1]()
    assert line.messages() == ["first", "third"]


@pytest.mark.parametrize(
    ("progress", "message", "said"),
    [(250.0, "saved", (100.0, "saved")), (70.0, "", (70.0, "held back")), (None, "", (2.0, "held back"))],
)
def test_a_checkpoint_says_what_was_held_back(progress: float | None, message: str, said: tuple[float, str]) -> None:
    """A report right before it would come too soon to be recorded."""
    line = FakeLine()
    context = AttemptContext(RUN, None, line)

    context.progress(1, "first")
    context.progress(2, "held back")
    context.save_checkpoint(Checkpoint(processed_frames=3), progress=progress, message=message)
    context.flush()
    line.timers[0][1]()

    assert line.messages() == ["first"]
    assert line.sent[-1] == AttemptCheckpointed(7, 2, Checkpoint(processed_frames=3), *said)


def test_flushing_twice_says_nothing_twice() -> None:
    line = FakeLine()
    context = AttemptContext(RUN, None, line)
    context.progress(1, "first")
    context.progress(2, "last")

    context.flush()
    context.flush()

    assert line.messages() == ["first", "last"]


@pytest.mark.parametrize(
    ("said", "meant"),
    [(50, 50.0), (-1, 0.0), (101, 100.0), (float("inf"), 100.0), (float("-inf"), 0.0), (float("nan"), 33.0)],
)
def test_percents_are_numbers_from_0_to_100(said: float, meant: float) -> None:
    assert clamped(said, 33.0) == meant


def test_text_is_cut_and_made_encodable() -> None:
    assert plain_text("ü" * 10, 3) == "üüü"
    assert plain_text("bad \udcff name", 100) == "bad ? name"
    assert plain_text(Path("/x"), 100) == "/x"


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"processed_frames": 1},
        Checkpoint(data={"x": object()}),
        Checkpoint(data={"x": "y" * 300_000}),
        Checkpoint(processed_frames="many"),  # type: ignore[arg-type]
    ],
)
def test_a_checkpoint_that_could_not_be_read_back_is_refused_at_once(checkpoint: Any) -> None:
    line = FakeLine()

    with pytest.raises(BadAnswer):
        AttemptContext(RUN, None, line).save_checkpoint(checkpoint)

    assert line.sent == []


def test_saving_raises_when_the_attempt_is_to_end_first() -> None:
    with pytest.raises(CheckpointRefused):
        AttemptContext(RUN, None, FakeLine(is_saved=False)).save_checkpoint(Checkpoint())


@pytest.mark.parametrize("value", [{"a": {1, 2}}, {"a": [({"b": frozenset("x")},)]}, Checkpoint(data={"seen": {1}})])
def test_a_set_is_no_json_and_not_taken_for_a_list(value: Any) -> None:
    with pytest.raises(BadAnswer, match=r"The result holds a Python (frozen)?set"):
        plain_json(value, 1000, "The result")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("size"), "KeyError: 'size'"),
        (SystemExit(3), "SystemExit: 3"),
        (ValueError(), "ValueError"),
        (ValueError("no number"), "no number"),
    ],
)
def test_a_failure_of_one_word_is_told_with_its_name(error: BaseException, told: str) -> None:
    assert failure(RUN, error).error == told


def test_an_answer_that_is_refused_is_not_told_with_a_place_in_our_code() -> None:
    try:
        plain_json({"a": {1}}, 100, "result")
    except BadAnswer as error:
        told = failure(RUN, error).error
    assert ".py" not in told
