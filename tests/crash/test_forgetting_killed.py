"""Whoever forgets tasks is killed at some of its calls of the system: a short form of the campaign."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.crash
def test_all_is_forgotten_or_nothing_whenever_it_is_killed() -> None:
    script = Path(__file__).parent / "forget_campaign.py"
    done = subprocess.run(
        [sys.executable, str(script), "--most", "8", "--calls", "fdatasync,ftruncate", "--seed", "5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
