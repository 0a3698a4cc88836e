"""Processes that forget, erase, archive, free space or back up are killed at some calls: the campaigns in short."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SUPPORT = Path(__file__).parent.parent / "support"


@pytest.mark.slow
@pytest.mark.crash
@pytest.mark.parametrize(
    ("campaign", "calls"),
    [
        ("forget", "fdatasync,fsync,ftruncate,link,rename"),
        ("erase", "fdatasync,fsync,ftruncate,link,rename"),
        ("archive", "fdatasync,fsync,rename,unlink"),
        ("room", "fdatasync,ftruncate,pwrite64"),
        ("backup", "fsync,link,openat,pwrite64,rename"),
    ],
)
def test_all_is_done_or_nothing_whenever_it_is_killed(campaign: str, calls: str) -> None:
    script = Path(__file__).parent / f"{campaign}_campaign.py"
    done = subprocess.run(
        [sys.executable, str(script), "--most", "8", "--calls", calls, "--seed", "5"],
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
