"""The benchmarks run at all, on tiny sizes; what they measure is nobody's business here."""

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

RUN = Path(__file__).parent / "run.py"


@pytest.mark.slow
@pytest.mark.timeout(320)
def test_every_axis_gives_figures(tmp_path: Path) -> None:
    axes = {
        "A1",
        "A2",
        "A3",
        "B1",
        "B2",
        "C",
        "D1",
        "D2",
        "D3",
        "D4",
        "D5",
        "D6",
        "D7",
        "D8",
        "D9",
        "D10",
        "D11",
        "D12",
        "E",
        "H",
        "I",
        "J",
        "N1",
        "N2",
        "N3",
        "N4",
        "N5",
        "N6",
        "N7",
        "P1",
        "P2",
        "P3",
        "Q",
        "S1",
        "S2",
        "S3",
        "S4",
        "S5",
        "T1",
        "T2",
        "T3",
    }  # K and L fetch their samples
    command = [sys.executable, str(RUN), "--quick", "--only", ",".join(axes), "--json", str(tmp_path / "figures.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = msgspec.json.decode((tmp_path / "figures.json").read_bytes())
    assert {row["axis"] for row in rows} == axes
    assert [row["name"] for row in rows if not row["median"] >= 0] == []
