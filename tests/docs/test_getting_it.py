"""Each way to get the command that the README names, as printed there, for a user who has nothing yet."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
ROWS = dict(re.findall(r"^\| (\w+) \| (`[^`]+` \| `~/[^`]+`) \|$", README, flags=re.MULTILINE))
"""Tool → what to type, and where the command is then."""
WHEEL = re.findall(r"`(pip wheel [^`]+|pipx install 'dist/[^`]+)`", README)
HOME = Path.home()

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def shell(checkout: Path, tmp_path: Path) -> Callable[[str], str]:
    """Run a line in a checkout; the home is empty, but earlier downloads are not repeated."""
    home = tmp_path / "home"
    home.mkdir()
    environment = {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PIP_CACHE_DIR": os.environ.get("PIP_CACHE_DIR", str(HOME / ".cache" / "pip")),
        "UV_CACHE_DIR": os.environ.get("UV_CACHE_DIR", str(HOME / ".cache" / "uv")),
        "PIP_CONSTRAINT": str(ROOT / "constraints.txt"),
        "PIP_BUILD_CONSTRAINT": str(ROOT / "constraints.txt"),
        "UV_CONSTRAINT": str(ROOT / "constraints.txt"),
        "UV_BUILD_CONSTRAINT": str(ROOT / "constraints.txt"),
        "UV_PYTHON": sys.executable,
    }

    def run(line: str) -> str:
        done = subprocess.run(
            ["bash", "-c", line], cwd=checkout, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"$ {line}\n{done.stdout}{done.stderr}"
        return done.stdout

    return run


def assert_works(shell: Callable[[str], str], command: str) -> None:
    assert shell(f"{command} --version").startswith("tasktrail ")
    assert "not installed:" not in shell(f"{command} types")
    assert "completed" in shell(f"{command} run document_preview README.md page.jpg")


def test_the_readme_names_the_three_tools_and_the_wheel() -> None:
    assert set(ROWS) == {"pipx", "uv", "pip"}
    assert len(WHEEL) == 2


@pytest.mark.parametrize("tool", ROWS)
def test_the_line_of_a_tool_works(tool: str, shell: Callable[[str], str]) -> None:
    line, command = re.findall(r"`([^`]+)`", ROWS[tool])
    shell(line)
    assert_works(shell, command)


def test_a_wheel_takes_the_place_of_the_checkout(shell: Callable[[str], str]) -> None:
    install, make = sorted(WHEEL, key=lambda line: line.startswith("pip wheel"))
    shell(make)
    shell(install)
    assert_works(shell, "~/.local/bin/tasktrail")


def refused_by_make(folder: Path, *settings: str, env: dict[str, str] | None = None, locked: bool = False) -> str:
    """Return the message of `make setup` in a folder where it cannot begin."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    if locked:
        folder.chmod(0o555)
    nobody = 65534 if locked and os.geteuid() == 0 else None  # root may write anywhere
    # `make test VENV=…` would hand its settings on, and the name `make[1]`.
    without_outer_make = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(
        ["make", "setup", *settings],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        user=nobody,
        group=nobody,
        env={**without_outer_make, **(env or {})},
    )
    assert done.returncode != 0
    return done.stderr


def test_make_says_what_a_python_without_venv_lacks(tmp_path: Path) -> None:
    assert "apt install python3-venv" in refused_by_make(tmp_path, "PYTHON=false")


def test_make_says_when_the_checkout_cannot_be_written_to(tmp_path: Path) -> None:
    """With an environment elsewhere, the build failed instead, with the name of an unknown folder."""
    said = refused_by_make(tmp_path, f"VENV={tmp_path.parent / 'elsewhere'}", locked=True)
    assert "cannot be written to" in said


def test_make_says_in_one_line_that_there_is_no_network(tmp_path: Path) -> None:
    """Nothing listens at port 9. pip says so five times, and then names another reason."""
    settings = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_RETRIES": "1", "PIP_NO_INDEX": "0"}
    said = refused_by_make(tmp_path, f"PYTHON={sys.executable}", env=settings)
    first, *rest = said.splitlines()
    assert first.startswith("The package index cannot be reached (/simple/pip/)")
    assert "HTTPS_PROXY" in first
    assert all(line.startswith("make: ") for line in rest)
    assert "connection broken" in (tmp_path / ".venv" / "pip.log").read_text(encoding="utf-8")
