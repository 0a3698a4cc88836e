"""An attempt continues where the last one stopped, and the result is the same byte for byte."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasktrail.handlers import Finished, Stopped, pieces
from tasktrail.handlers.model.preview import model_preview, run
from tasktrail.testing import SimulatedCrash, run_handler

KINDS: dict[str, dict[str, Any]] = {
    "turntable": {"output": "out.webp", "kind": "turntable", "frames": 5},
    "mp4": {"output": "out.mp4", "kind": "turntable", "frames": 5},
    "sheet": {"output": "out.png", "kind": "sheet"},
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


@pytest.mark.parametrize("kind", KINDS)
def test_from_every_checkpoint_the_same_bytes_come_out(kind: str, ball: Path, prepare: Callable[..., Any]) -> None:
    whole = prepare(ball, **KINDS[kind])
    expected = finish(whole)
    count = len(whole.checkpoints)
    assert count >= 4
    for prefix in range(1, count + 1):
        crashed = prepare(ball, **KINDS[kind], crash_after=prefix)
        with pytest.raises(SimulatedCrash):
            run_handler(model_preview, crashed)
        resumed = crashed.resumed()
        assert finish(resumed) == expected
        assert len(resumed.checkpoints) == count - prefix


def test_a_damaged_frame_is_drawn_again_and_no_other(ball: Path, prepare: Callable[..., Any]) -> None:
    context = prepare(ball, **KINDS["turntable"])
    expected = finish(context)
    (context.work_dir / "view-00002.png").write_bytes(b"something else")
    again = context.resumed()
    assert finish(again) == expected
    assert len(again.checkpoints) == 1


def test_frames_of_another_model_are_not_used(ball: Path, prepare: Callable[..., Any]) -> None:
    context = prepare(ball, **KINDS["turntable"])
    finish(context)
    ball.write_bytes(ball.read_bytes()[:-2] + b"\1\0")
    again = context.resumed()
    finish(again)
    assert len(again.checkpoints) == 5


def test_a_stop_between_any_two_steps_leaves_no_output_and_a_later_attempt_finishes(
    ball: Path, prepare: Callable[..., Any]
) -> None:
    whole = prepare(ball, **KINDS["sheet"])
    expected = finish(whole)
    whole.output_file.unlink()
    for questions in range(0, whole.stops_asked, 3):
        stopped = prepare(ball, **KINDS["sheet"], stop_after=questions)
        assert isinstance(run_handler(model_preview, stopped), Stopped)
        assert not stopped.output_file.exists()
        assert not stopped.output_part.exists()
    assert finish(stopped.resumed()) == expected
