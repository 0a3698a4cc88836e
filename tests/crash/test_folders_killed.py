"""A killed batch continues with the same command, and a watched folder by itself: short forms of the two campaigns."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize("campaign", ["batch", "source"])
def test_each_file_is_done_once_whatever_is_killed(campaign: str) -> None:
    script = Path(__file__).parent / f"{campaign}_campaign.py"
    done = subprocess.run(
        [sys.executable, str(script), "--files", "40", "--kills", "2", "--seed", "5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
