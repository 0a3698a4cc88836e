"""Real processes, really killed."""

import os
import random
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image

pytestmark = pytest.mark.crash

CHILD = Path(__file__).with_name("draw_child.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "support")}
FRAMES = 8


class Attempt(NamedTuple):
    """What a child reported before it ended."""

    saved: list[int]
    steps: int
    finished: bool


def attempt(source: Path, output: Path, folder: Path, kill_at: int | None) -> Attempt:
    """Run the handler in a separate process, and kill it at step `kill_at`."""
    folder.mkdir(exist_ok=True)
    saved, steps, finished = [], 0, False
    command = [sys.executable, str(CHILD), str(source), str(output), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for line in child.stdout:
            match line.split():
                case ["saved", frames]:
                    saved.append(int(frames))
                case ["step"]:
                    steps += 1
                    if steps == kill_at:
                        child.kill()
                        break
                    child.stdin.write("go on\n")
                    child.stdin.flush()
                case _:
                    finished = True
    return Attempt(saved, steps, finished)


@pytest.mark.parametrize("seed", range(2))
def test_killed_three_times_a_turntable_is_that_of_an_undisturbed_run(seed: int, ball: Path, tmp_path: Path) -> None:
    whole = attempt(ball, tmp_path / "whole.webp", tmp_path / "whole", None)
    assert whole.finished
    chance = random.Random(seed)
    output, durable = tmp_path / "killed.webp", 0
    for _ in range(3):
        killed = attempt(ball, output, tmp_path / "killed", chance.randint(1, whole.steps // 3))
        assert not killed.finished
        assert not output.exists()
        # Durable parts are not drawn again.
        assert killed.saved == list(range(durable + 1, durable + 1 + len(killed.saved)))
        durable += len(killed.saved)
    last = attempt(ball, output, tmp_path / "killed", None)
    assert last.finished
    assert last.saved == list(range(durable + 1, FRAMES + 1))
    assert output.read_bytes() == (tmp_path / "whole.webp").read_bytes()
    with Image.open(output) as animation:
        assert getattr(animation, "n_frames", 1) == FRAMES
