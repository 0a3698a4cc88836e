"""`make photos`: real photos, in every form that cameras and programs use, through both types for images.

PYTHONPATH=tests/support python tests/photos/photos.py [--count 1000] [--seed 1]

Each photo is a part of a real one, stored as one of `photo_kinds.KINDS`, in one of eight orientations. Its conversion
and its thumbnail are compared with what Pillow alone sees in the file. One in five is then cut, and has to be called
damaged, unless all of the picture is still there. Exit code 1 when a result is wrong, a whole file is refused, or a cut
one is not reported.
"""

import argparse
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

from held_out_files import IMAGES as HELD_OUT
from photo_kinds import KINDS, difference, seen
from PIL import Image
from rich.console import Console
from rich.progress import track
from sample_files import ASTRONAUT, CHINA, CITY_STILL, RETINA

from tasktrail.demo.samples import EARTH, fetch
from tasktrail.handlers import Finished, Outcome, Rejected
from tasktrail.handlers.image.convert import image_convert
from tasktrail.handlers.image.convert.options import ImageConvertOptions
from tasktrail.handlers.image.thumbnail import image_thumbnail
from tasktrail.handlers.image.thumbnail.options import ImageThumbnailOptions
from tasktrail.testing import RecordingContext, run_handler

PHOTOS = (ASTRONAUT, CHINA, CITY_STILL, RETINA, EARTH, *[photo for photo in HELD_OUT if photo.name.endswith(".jpg")])
SIZES = ((320, 240), (513, 511), (640, 427), (427, 1025), (801, 1201), (1600, 1200), (1200, 1601))
LARGE = (4000, 3000)
OUTPUTS = {".png": 0.0, ".tif": 0.0, ".jpg": 4.0, ".webp": 4.0, ".avif": 5.0, ".heic": 5.0, ".gif": 14.0}
"""Suffix → how much an encoder may add to the mean difference, of 255."""
THUMBNAIL = 256
_SMALLER = 4.0
"""The difference that another filter may cause."""


class Shot(NamedTuple):
    """One photo to be made and tested."""

    number: int
    kind: str
    orientation: int
    size: tuple[int, int]
    source: Path
    output: str
    cut: float
    """How much of the file is left in the control; 0: no control."""


class Result(NamedTuple):
    """The result of a photo."""

    shot: Shot
    lines: list[str]
    """What was wrong."""
    told: bool = False
    """Whether both types called the rest of it damaged."""


def shots(count: int, seed: int, sources: list[Path]) -> Iterator[Shot]:
    """Return that many, each kind and orientation as often as any other."""
    chance = random.Random(seed)
    names = list(KINDS)
    for number in range(count):
        kind = names[number % len(names)]
        orientation = number // len(names) % 8 + 1 if KINDS[kind].oriented else 1
        size = LARGE if number % 97 == 0 else chance.choice(SIZES)
        cut = chance.uniform(0.1, 0.9) if number % 5 == 0 else 0.0
        output = ".png" if chance.random() < 0.5 else chance.choice(list(OUTPUTS))
        if output == ".gif" and "alpha" in kind:  # the pixel exists or not
            output = ".png"
        yield Shot(number, kind, orientation, size, chance.choice(sources), output, cut)


def run(shot: Shot) -> Result:
    """Make the photo, test it, compare."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        kind = KINDS[shot.kind]
        path = folder / f"in{kind.suffix}"
        kind.save(_part(shot), path, shot.orientation)
        wanted = seen(path)
        lines = [*_converted(shot, path, wanted, kind.slack), *_thumbnail(path, wanted, kind.slack)]
        if not shot.cut:
            return Result(shot, lines)
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * shot.cut)])
        outcomes = [_convert(path, ".png"), _small(path)]
        untold = [str(outcome) for outcome in outcomes if not _is_called_cut(outcome)]
        if untold and not _converted(shot, path, wanted, kind.slack):  # it was cut after the picture: nothing is lost
            return Result(shot, lines)
        return Result(shot, lines + [f"cut to {shot.cut:.0%}: {line}" for line in untold], told=not untold)


def _part(shot: Shot) -> Image.Image:
    """Return a part of the real photo, another for each number."""
    chance = random.Random(shot.number)
    with Image.open(shot.source) as opened:
        photo = opened.convert("RGB")
    share = chance.uniform(0.5, 1.0)
    box = (int(photo.width * share), int(photo.height * share))
    left, top = chance.randint(0, photo.width - box[0]), chance.randint(0, photo.height - box[1])
    return photo.crop((left, top, left + box[0], top + box[1])).resize(shot.size, Image.Resampling.BICUBIC)


def _convert(path: Path, suffix: str) -> Outcome:
    work = RecordingContext(
        ImageConvertOptions(quality=95),
        work_dir=path.parent,
        input_file=path,
        output_file=path.with_name(f"out{suffix}"),
    )
    return _outcome(image_convert, work)


def _small(path: Path) -> Outcome:
    work = RecordingContext(
        ImageThumbnailOptions(width=THUMBNAIL, height=THUMBNAIL),
        work_dir=path.parent,
        input_file=path,
        output_file=path.with_name("small.png"),
    )
    return _outcome(image_thumbnail, work)


def _outcome(handler: Any, work: RecordingContext[Any]) -> Outcome:
    try:
        return run_handler(handler, work)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is a finding
        return Rejected(reason=f"{type(error).__name__}: {error}")


def _converted(shot: Shot, path: Path, wanted: Image.Image, slack: float) -> list[str]:
    outcome = _convert(path, shot.output)
    if not isinstance(outcome, Finished):
        return [f"image_convert to {shot.output}: {outcome}"]
    apart = difference(seen(path.with_name(f"out{shot.output}")), wanted)
    return [f"image_convert to {shot.output}: {apart:.1f} apart"] if apart > slack + OUTPUTS[shot.output] else []


def _thumbnail(path: Path, wanted: Image.Image, slack: float) -> list[str]:
    outcome = _small(path)
    if not isinstance(outcome, Finished):
        return [f"image_thumbnail: {outcome}"]
    small = seen(path.with_name("small.png"))
    ratio = THUMBNAIL / max(wanted.size)
    size = wanted.size if ratio >= 1 else (round(wanted.width * ratio), round(wanted.height * ratio))
    apart = difference(small, wanted.resize(size, Image.Resampling.LANCZOS))
    return [f"image_thumbnail: {apart:.1f} apart"] if apart > slack + _SMALLER else []


def _is_called_cut(outcome: Outcome) -> bool:
    return isinstance(outcome, Rejected) and "is damaged: it was cut" in outcome.reason


def main() -> int:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--samples", type=Path, default=Path("gallery/samples"))
    arguments = parser.parse_args()
    console = Console()
    sources = list(fetch(list(PHOTOS), arguments.samples).values())
    every = list(shots(arguments.count, arguments.seed, sources))
    with get_context("spawn").Pool(arguments.jobs) as pool:
        found = list(
            track(
                pool.imap_unordered(run, every), total=len(every), console=console, transient=True, description="photos"
            )
        )
    return tell(found, console)


def tell(found: list[Result], console: Console) -> int:
    """Print the result; return the exit code."""
    bad = [result for result in found if result.lines]
    cut = [result for result in found if result.shot.cut]
    lying = Counter(result.shot.orientation for result in found)
    console.print(
        f"{len(found)} photos of {len({result.shot.source for result in found})} real ones, in "
        f"{len({result.shot.kind for result in found})} forms and {len(lying)} orientations",
        highlight=False,
    )
    wrong = [line for result in bad for line in result.lines if "apart" in line]
    refused = [line for result in bad for line in result.lines if "apart" not in line and not line.startswith("cut to")]
    console.print(f"{len(wrong)} wrong, {len(refused)} refused that are whole", highlight=False)
    console.print(
        f"{len(cut)} of them cut as a control: {sum(result.told for result in cut)} called damaged; of "
        f"{sum(not result.told and not result.lines for result in cut)} the picture itself was still whole",
        highlight=False,
    )
    for result in bad:
        for line in result.lines:
            where = f"{result.shot.number} {result.shot.kind}, {result.shot.orientation}, {result.shot.size}"
            console.print(f"{where}: {line}", highlight=False, markup=False)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
