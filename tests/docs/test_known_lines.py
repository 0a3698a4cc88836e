"""The lines of the page run, and give the result of the other program's line, where that program is installed."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import msgspec
import pytest
from full_films import Tone, make
from PIL import Image

from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "lines-that-you-know.md"
PAIRS = re.findall(r"```text\n(.+)\ntasktrail run (.+)\n```", PAGE.read_text())
TRIED = {"ffmpeg", "pdftoppm"}
"""Programs that CI has."""
STL = "solid a\n{}endsolid a\n"
CORNERS = [((0, 0, 0), (1, 0, 0), (0, 1, 0)), ((0, 0, 0), (0, 1, 0), (0, 0, 1)), ((0, 0, 0), (0, 0, 1), (1, 0, 0)),
           ((1, 0, 0), (0, 0, 1), (0, 1, 0))]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files that the lines name."""
    folder = tmp_path_factory.mktemp("lines")
    make(folder / "film.mkv", [Tone(), Tone(1000, language="deu")], [("subrip", "eng")])
    sideways = Image.Exif()
    sideways[0x0112] = 6
    Image.effect_mandelbrot((320, 240), (-3, -2.5, 2, 2.5), 60).convert("RGB").save(folder / "photo.jpg", exif=sideways)
    Image.linear_gradient("L").convert("RGBA").save(folder / "scan.png")
    frames = [Image.new("RGB", (64, 48), (40 * number, 0, 0)) for number in range(4)]
    frames[0].save(folder / "loop.gif", save_all=True, append_images=frames[1:], duration=100)
    pages = [Image.new("RGB", (200, 300), (250, 250, 250 - 40 * number)) for number in range(3)]
    pages[0].save(folder / "report.pdf", save_all=True, append_images=pages[1:], resolution=72)
    (folder / "notes.md").write_text("# Notes\n\nSome *text*.\n")
    corner, loop = "vertex {} {} {}\n", "facet normal 0 0 0\nouter loop\n{}endloop\nendfacet\n"
    faces = (loop.format("".join(corner.format(*point) for point in face)) for face in CORNERS)
    (folder / "model.stl").write_text(STL.format("".join(faces)))
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> Iterator[dict[str, Path]]:
    """Map each output to the file that our line makes."""
    with TaskService.open(folder / "data", config=Config(workers=2)) as tasks:
        ids = {}
        for _, line in PAIRS:
            kind, source, output, *options = shlex.split(line.replace("#", "\\#"))
            pairs = dict(option.split("=", 1) for option in options if option != "-o")
            values = {name: _value(text) for name, text in pairs.items()}
            target = folder / "ours" / output
            target.parent.mkdir(exist_ok=True)
            ids[output] = tasks.create_task(kind, folder / source, target, options=values, max_retries=0)
        for output, task_id in ids.items():
            task = tasks.wait(task_id, timeout=300)
            assert task.status == "completed", (output, task.error)
        yield {output: folder / "ours" / output for output in ids}


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


def look(path: Path) -> dict[str, Any]:
    """Return the relevant properties: size, length, codec, sound."""
    if path.suffix in (".mp4", ".mkv"):
        with av.open(str(path)) as film:
            picture = film.streams.video[0]
            assert picture.codec_context is not None
            seconds = sum(1 for _ in film.decode(picture)) / float(picture.average_rate or 25)
            return {"size": (picture.width, picture.height), "seconds": round(seconds, 1), "codec": picture.codec.name}
    with Image.open(path) as image:
        return {"size": image.size, "format": image.format}


def test_there_are_five_jobs_of_each_type() -> None:
    types = [line.split()[0] for _, line in PAIRS]
    assert {name: types.count(name) for name in types} == dict.fromkeys(
        ("video_convert", "video_thumbnail", "video_preview", "image_convert", "image_thumbnail", "document_preview",
         "model_preview"), 5,
    )  # fmt: skip


DIFFERENT = {"teaser.gif", "teaser.mp4", "sheet.jpg", "scenes.jpg", "strip.webp"}
"""Previews show other moments, with gaps between them."""
BESIDE = [
    (theirs, shlex.split(ours.replace("#", "\\#"))[2])
    for theirs, ours in PAIRS
    if theirs.split()[0] in TRIED and "(" not in theirs.split("-vf")[0] and "&&" not in theirs
]


def test_every_line_of_ours_makes_a_file(results: dict[str, Path]) -> None:
    assert all(path.stat().st_size for path in results.values())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="as a shell of Unix reads it")
@pytest.mark.parametrize(("theirs", "output"), [pair for pair in BESIDE if pair[1] not in DIFFERENT])
def test_the_other_line_gives_the_same(folder: Path, results: dict[str, Path], theirs: str, output: str) -> None:
    program, *words = shlex.split(theirs)
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not there")
    made = folder / "theirs"
    made.mkdir(exist_ok=True)
    words[-1] = str(made / words[-1])
    more = ["-y", "-nostdin", "-v", "error"] if program == "ffmpeg" else []
    subprocess.run([program, *more, *words], cwd=folder, check=True, capture_output=True, timeout=120)
    if program == "pdftoppm" and "-singlefile" not in words:
        assert len(list(made.glob(f"{Path(words[-1]).name}-*"))) == 3
        return
    assert look(made / output) == look(results[output])
