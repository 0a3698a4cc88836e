"""Pictures are drawn side by side where there is room, without any effect on the result."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasktrail.handlers import Finished, Stopped, pieces
from tasktrail.handlers.contract import Room
from tasktrail.handlers.model.counting import Counted
from tasktrail.handlers.model.preview import model_preview, run
from tasktrail.handlers.model.preview.drawing import Painter
from tasktrail.handlers.model.preview.estimate import drawn_at_once, estimate_for
from tasktrail.handlers.model.preview.options import ModelPreviewOptions
from tasktrail.testing import SimulatedCrash, job_for, run_handler

KINDS: dict[str, dict[str, Any]] = {
    "turntable": {"output": "out.webp", "kind": "turntable", "frames": 5},
    "sheet": {"output": "out.png", "kind": "sheet", "views": ["iso", "front", "right", "top", "left"]},
    "bands": {"output": "out.png", "width": 160, "height": 160},
}


@pytest.fixture(autouse=True)
def save_at_once_and_in_small_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "SAVE_EVERY", 0.0)
    monkeypatch.setattr(run, "BAND", 25_000)


def finish(context: Any) -> bytes:
    assert isinstance(run_handler(model_preview, context), Finished)
    data: bytes = context.output_file.read_bytes()
    return data


@pytest.fixture
def team(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any, int], Any]:
    """Have that many drawn at once, whatever the size."""

    def several(context: Any, at_once: int) -> Any:
        context.room = Room(at_once)
        monkeypatch.setattr(run, "drawn_at_once", lambda job, _model: job.room.cores)
        return context

    return several


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_bytes_come_out_however_many_are_drawn_at_once(
    kind: str, ball: Path, prepare: Callable[..., Any], team: Callable[[Any, int], Any]
) -> None:
    expected = finish(prepare(ball, **KINDS[kind]))
    for at_once in (1, 2, 3, 8):
        context = team(prepare(ball, **KINDS[kind]), at_once)
        assert finish(context) == expected
        percents = [percent for percent, _ in context.reports]
        assert percents == sorted(percents)


@pytest.mark.parametrize("prefix", [1, 3])
def test_a_crash_costs_at_most_the_frames_that_were_being_drawn(
    prefix: int,
    ball: Path,
    prepare: Callable[..., Any],
    team: Callable[[Any, int], Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = finish(prepare(ball, **KINDS["turntable"]))
    threads = threading.active_count()
    crashed = team(prepare(ball, **KINDS["turntable"], crash_after=prefix), 2)
    with pytest.raises(SimulatedCrash):
        run_handler(model_preview, crashed)
    assert threading.active_count() <= threads
    drawn: list[int] = []
    real = Painter.draw

    def counted(*given: Any) -> Any:
        drawn.append(1)
        return real(*given)

    monkeypatch.setattr(Painter, "draw", counted)
    assert finish(team(crashed.resumed(), 3)) == expected
    assert len(drawn) <= 5 - prefix, "what was kept is not drawn again"


def test_a_stop_ends_all_of_them(ball: Path, prepare: Callable[..., Any], team: Callable[[Any, int], Any]) -> None:
    threads = threading.active_count()
    context = team(prepare(ball, **KINDS["turntable"], stop_after=6), 3)
    assert isinstance(run_handler(model_preview, context), Stopped)
    assert threading.active_count() <= threads


def test_what_is_reserved_follows_from_how_many_are_drawn_at_once() -> None:
    model = Counted(kind="stl", size=50_000, faces=1000, vertices=500)
    options = msgspec.convert({"kind": "turntable"}, ModelPreviewOptions)
    needed = {}
    for cores in (1, 2, 4):
        job = job_for(options, "/a.stl", "/b.gif", room=Room(cores))
        assert drawn_at_once(job, model) == cores
        needed[cores] = estimate_for(job, model)
    assert needed[1].memory < needed[2].memory < needed[4].memory
    assert needed[1].seconds > needed[2].seconds > needed[4].seconds
    tight = job_for(options, "/a.stl", "/b.gif", room=Room(8, needed[2].memory))
    assert drawn_at_once(tight, model) == 2
    one = job_for(ModelPreviewOptions(), "/a.stl", "/b.png", room=Room(8))
    assert drawn_at_once(one, model) == 1, "a small picture is one piece"
