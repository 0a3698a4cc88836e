"""Segments side by side give the same bytes, and a kill costs each slot one at most: the short form of the campaign."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.crash
def test_a_kill_costs_one_segment_for_each_at_once_at_most() -> None:
    script = Path(__file__).with_name("segments_campaign.py")
    how = ["--kills", "2", "--at-once", "3", "--seconds", "8", "--codecs", "h264", "--seed", "5"]
    done = subprocess.run([sys.executable, str(script), *how], capture_output=True, text=True, check=False, timeout=110)
    assert done.returncode == 0, done.stdout + done.stderr
