"""The files in docs/production hold: systemd reads the units, and what they and the image start exists."""

import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tasktrail.cli.app import App
from tasktrail.config.load import OTHER_VARIABLES, keys

FILES = Path(__file__).parents[2] / "docs" / "production"
UNITS = sorted(path for path in FILES.iterdir() if path.suffix in (".service", ".timer"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text().replace("/opt/tasktrail/bin/tasktrail", "/bin/true").replace("=tasktrail\n", "=root\n")
        (tmp_path / unit.name).write_text(text)
    command = ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in checked.stderr.splitlines() if str(tmp_path) in line] == []


@pytest.mark.parametrize("path", [*UNITS, FILES / "Containerfile"], ids=lambda path: path.name)
def test_variables_and_commands_are_known(path: Path) -> None:
    text = path.read_text()
    known = {key.variable for key in keys()} | {f"TASKTRAIL_{name}" for name in OTHER_VARIABLES}
    assert set(re.findall(r"TASKTRAIL_[A-Z_]+(?==[^…])", text)) <= known
    for line in re.findall(r"^ExecStart=(.*)$", text, flags=re.MULTILINE):
        command = shlex.split(line)[1]
        assert App(name="tasktrail").get_command(None, command) is not None  # type: ignore[arg-type]  # it needs none
