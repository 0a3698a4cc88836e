"""Cut cables and lost machines under load: the short form of the campaign."""

import subprocess
import sys
from pathlib import Path

import pytest
from machines import why_no_machines


@pytest.mark.ray
@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_each_task_is_completed_once_and_never_lives_twice() -> None:
    pytest.importorskip("ray", reason="Ray is not installed; `make test-ray` has it")
    if why := why_no_machines():
        pytest.skip(why)
    script = Path(__file__).with_name("campaign.py")
    how = ["--times", "1", "--seed", "5", "--lease", "4", "--only", "node-killed", "cut-for-good", "cut-short"]
    done = subprocess.run([sys.executable, str(script), *how], capture_output=True, text=True, check=False, timeout=390)
    assert done.returncode == 0, done.stdout + done.stderr
