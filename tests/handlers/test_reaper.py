import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tasktrail.handlers.process import reaper

CHROOT = r"""
    for place in /*; do
        if [ -L "$place" ]; then cp -P "$place" "$1"; elif [ -d "$place" ]; then
            mkdir "$1$place"
            case "$1" in "$place"/*) continue ;; esac
            mount --rbind "$place" "$1$place"
        fi
    done
    exec chroot "$1" "$2" -I -S - probe < "$3"
"""


def probe_in_chroot(folder: Path) -> str:
    """Run the reaper's probe with a plain folder as root, and everything mounted here below it."""
    python, script = Path(sys.executable).resolve(), Path(reaper.__file__).resolve()
    command = ["unshare", "--mount", "sh", "-euc", CHROOT, "sh", str(folder), str(python), str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    return done.stdout.strip()


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may change its root")
@pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare is not installed")
def test_a_worker_has_a_proc_of_its_own_in_a_chroot_too(tmp_path: Path) -> None:
    here = reaper_says()
    if here != "namespace proc":
        pytest.skip(f"nor has it outside: {here!r}")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, timeout=60, check=False).returncode:
        pytest.skip("this root is no mount itself: what was found here is the answer")
    assert probe_in_chroot(tmp_path) == here


def reaper_says() -> str:
    """Run the probe here in a separate process, and return its result."""
    command = [sys.executable, "-I", "-S", str(Path(reaper.__file__).resolve()), "probe"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()
