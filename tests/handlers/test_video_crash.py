"""Real processes, really killed."""

import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

pytestmark = pytest.mark.crash

CHILD = Path(__file__).with_name("convert_child.py")
FRAMES, LARGEST_SEGMENT = 200, 50  # segments end on keyframes


class Attempt(NamedTuple):
    """What a child said before it ended."""

    saved: list[int]
    steps: int
    finished: bool


def attempt(source: Path, output: Path, folder: Path, kill_at: int | None) -> Attempt:
    """Run the handler in a process of its own, and kill it within a frame or so of step `kill_at`."""
    saved, steps, finished = [], 0, False
    command = [sys.executable, str(CHILD), str(source), str(output), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for line in child.stdout:
            match line.split():
                case ["saved", frames]:
                    saved.append(int(frames))
                case ["step"]:
                    steps += 1
                    child.stdin.write("go on\n")
                    child.stdin.flush()
                case _:
                    finished = True
            if steps == kill_at:
                child.kill()
    return Attempt(saved, steps, finished)


@pytest.mark.parametrize("seed", range(3))
def test_killed_three_times_it_gives_the_file_of_an_undisturbed_run(
    seed: int, clips: Callable[..., Path], look: Callable[..., Any], tmp_path: Path
) -> None:
    source = clips(seconds=8, options={"bf": "3", "g": "50"})
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    whole = attempt(source, tmp_path / "whole.mp4", tmp_path / "whole", None)
    assert whole.finished
    chance = random.Random(seed)
    output, durable = tmp_path / "killed.mp4", 0
    for _ in range(3):
        killed = attempt(source, output, tmp_path / "killed", chance.randint(1, whole.steps // 3))
        assert not killed.finished
        assert not output.exists()
        durable = max([durable, *killed.saved])
    last = attempt(source, output, tmp_path / "killed", None)
    assert last.finished
    assert output.read_bytes() == (tmp_path / "whole.mp4").read_bytes()
    assert len(look(output).times) == FRAMES
    # What was durable is not encoded again: the last attempt's first new segment follows the last saved one.
    new = [frames for frames in last.saved if frames > durable]
    assert last.saved in (new, [0, *new])
    assert all(after - before <= LARGEST_SEGMENT for before, after in zip([durable, *new], new, strict=False))
