"""A batch that is killed goes on with the same command: see `batch_campaign.py`, which kills larger ones."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.crash
def test_a_killed_batch_goes_on_and_does_each_file_once() -> None:
    script = Path(__file__).parent / "batch_campaign.py"
    done = subprocess.run(
        [sys.executable, str(script), "--files", "40", "--kills", "2", "--seed", "5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
