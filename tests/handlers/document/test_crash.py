"""Real processes, really killed, at times the child does not choose."""

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.crash

CHILD = Path(__file__).with_name("document_child.py")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "support")}
PAGES = 12
OPTIONS = '{"pages": "all", "width": 200}'


def attempt(source: Path, output: Path, folder: Path, kill_at: int | None) -> tuple[bool, list[int]]:
    """Run the handler in a separate process and kill it around its line number `kill_at`."""
    folder.mkdir(exist_ok=True)
    command = [sys.executable, str(CHILD), str(source), str(output), str(folder), OPTIONS]
    finished, saved = False, []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) as child:
        assert child.stdout is not None
        for number, line in enumerate(child.stdout, 1):
            match line.split():
                case ["saved", count]:
                    saved.append(int(count))
                case ["finished"]:
                    finished = True
            if number == kill_at:
                child.kill()
    return finished, saved


@pytest.mark.parametrize("seed", range(3))
def test_killed_again_and_again_it_gives_the_file_of_an_undisturbed_run(
    seed: int, document: Callable[..., Path], tmp_path: Path
) -> None:
    source, chance = document(PAGES), random.Random(seed)
    suffix = chance.choice([".zip", ".tiff", ".png"])
    assert attempt(source, tmp_path / f"whole{suffix}", tmp_path / "whole", None)[0]
    output, durable = tmp_path / f"killed{suffix}", 0
    for _ in range(4):
        finished, saved = attempt(source, output, tmp_path / "killed", chance.randint(1, 8))
        assert all(count > durable for count in saved[:1])
        durable = max([durable, *saved])
        assert output.exists() == finished
    assert attempt(source, output, tmp_path / "killed", None)[0]
    assert output.read_bytes() == (tmp_path / f"whole{suffix}").read_bytes()
