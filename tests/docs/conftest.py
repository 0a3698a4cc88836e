"""A fresh checkout with its own environment, for tests of the pages' instructions."""

import shutil
import site
import sys
import venv
from pathlib import Path

import av
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
COMMANDS = (
    ("tasktrail", "tasktrail.__main__", "main"),
    ("pip", "pip._internal.cli.main", "main"),
    ("sqlite-utils", "sqlite_utils.cli", "cli"),
    ("datasette", "datasette.cli", "cli"),
)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """A separate environment that sees what is installed in ours; a page may install more."""
    folder = tmp_path / "environment"
    venv.create(folder)  # pip is ours, too, because unpacking it anew takes seconds
    (packages,) = folder.glob("lib/python*/site-packages")
    ours = [path for path in site.getsitepackages() if path.startswith(sys.prefix)]
    (packages / "ours.pth").write_text(f"import site; list(map(site.addsitedir, {ours}))\n")
    for name, module, function in COMMANDS:
        command = folder / "bin" / name
        command.write_text(
            f"#!{folder}/bin/python\nimport sys\nfrom {module} import {function}\nsys.exit({function}())\n"
        )
        command.chmod(0o755)
    (folder / ".ready").touch()  # for make
    return folder


@pytest.fixture
def checkout(tmp_path: Path, environment: Path) -> Path:
    """A copy of this checkout, after `make`, with a photo and a film in it."""
    folder = tmp_path / "tasktrail"
    junk = shutil.ignore_patterns(".git", ".venv*", ".*_cache", ".hypothesis", "__pycache__", "*.egg-info", "gallery")
    shutil.copytree(ROOT, folder, symlinks=True, ignore=junk)
    (folder / ".venv").symlink_to(environment)
    Image.effect_mandelbrot((1600, 1200), (-2, -1.5, 1, 1.5), 60).save(folder / "photo.jpg")
    with av.open(folder / "in.mov", "w") as film:
        stream = film.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for _ in range(10):
            film.mux(stream.encode(av.VideoFrame(160, 120, "yuv420p")))
        film.mux(stream.encode())
    return folder
