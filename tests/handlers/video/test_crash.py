"""Real processes, really killed."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.crash

HOME = "tasktrail.handlers.video.convert:video_convert"
OPTIONS = {"segment_seconds": 1.0, "preset": "superfast"}
FRAMES, LARGEST_SEGMENT = 200, 50  # segments end on keyframes


@pytest.mark.parametrize("seed", range(3))
def test_killed_three_times_it_gives_the_file_of_an_undisturbed_run(
    seed: int, clips: Callable[..., Path], look: Callable[..., Any], run_attempt: Callable[..., Any], tmp_path: Path
) -> None:
    source = clips(seconds=8, options={"bf": "3", "g": "50"})
    whole = run_attempt(HOME, source, tmp_path / "whole.mp4", OPTIONS)
    assert whole.ended == "Finished"
    chance = random.Random(seed)
    output, durable = tmp_path / "killed.mp4", 0
    for _ in range(3):
        killed = run_attempt(HOME, source, output, OPTIONS, kill_at=chance.randint(1, whole.steps // 3))
        assert not killed.ended
        assert not output.exists()
        durable = max([durable, *killed.saved])
    last = run_attempt(HOME, source, output, OPTIONS)
    assert last.ended == "Finished"
    assert output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert len(look(output).times) == FRAMES
    # Durable segments are not encoded again: the last attempt's first new segment follows the last saved one.
    new = [frames for frames in last.saved if frames > durable]
    assert last.saved in (new, [0, *new])
    assert all(after - before <= LARGEST_SEGMENT for before, after in zip([durable, *new], new, strict=False))
