"""The benchmarks run at all, on tiny sizes; their figures do not matter here."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
import run

IN_A_BROWSER = "P4"
LONG = {"live", "million", "past", "storage"}
"""Half a minute each, even on tiny sizes."""


@pytest.mark.slow
@pytest.mark.timeout(320)
@pytest.mark.parametrize(
    "script",
    [pytest.param(one, marks=[pytest.mark.long] if one.__name__ in LONG else []) for one in run.SCRIPTS],
    ids=lambda script: script.__name__,
)
def test_every_axis_gives_figures(script: ModuleType, tmp_path: Path) -> None:
    axes = {table.axis for table in script.tables(quick=True)} - {IN_A_BROWSER}
    figures = tmp_path / "figures.json"
    command = [sys.executable, run.__file__, "--quick", "--only", ",".join(axes), "--json", str(figures)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = msgspec.json.decode(figures.read_bytes())
    assert {row["axis"] for row in rows} == axes
    assert [row["name"] for row in rows if not row["median"] >= 0] == []
