"""Whoever archives the log is killed at some calls of the system: a short form of the campaign."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent.parent / "support"


@pytest.mark.slow
@pytest.mark.crash
def test_no_record_is_lost_or_there_twice_whenever_it_is_killed() -> None:
    script = Path(__file__).parent / "archive_campaign.py"
    done = subprocess.run(
        [sys.executable, str(script), "--most", "8", "--calls", "fdatasync,fsync,rename,unlink", "--seed", "5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
