"""High dynamic range on the page: the same film clipped, with our tone mapping, and with that of an ffmpeg with zimg.

python tests/gallery/high_range.py makes the pictures anew that tests compare with
"""

from pathlib import Path

from bright_films import FILMS, REFERENCES, Film, apart, by_ffmpeg, first_picture, make, scene, small
from page import Shown

from tasktrail import TaskService

_LARGE = 960, 576
_ALIKE = 4.5
"""Mean difference from the other tone mapper, in dE; clipped films are 4.9 to 5.5 away from it."""


def show(service: TaskService, folder: Path) -> list[Shown]:
    """Convert a film of each kind, and show its first frame beside the others."""
    shown = []
    for film in FILMS:
        source = make(folder / "samples" / f"{film.name}.mp4", film, light=scene(*_LARGE, film.peak))
        shown += [*_by_others(film, source, folder), _by_us(service, film, source, folder)]
    return shown


def _by_others(film: Film, source: Path, folder: Path) -> list[Shown]:
    found = []
    for name, tonemap in (("clipped", "clip"), ("reference", _curve(film))):
        output = folder / f"high-range-{film.name}-{name}.png"
        if by_ffmpeg(source, output, tonemap):
            found.append(_shown(film, output, f"{name}, by ffmpeg: tonemap={tonemap}", ()))
    return found


def _by_us(service: TaskService, film: Film, source: Path, folder: Path) -> Shown:
    converted = folder / f"high-range-{film.name}.mp4"
    options = {"crf": 10}
    task = service.create_task(
        type="video_convert", input_file=source, output_file=converted, options=options, overwrite=True
    )
    done = service.wait(task, timeout=60)
    if done.status != "completed":
        return _shown(film, converted, "video_convert", (f"{done.status}: {done.error or done.last_error}",))
    output, reference = converted.with_suffix(".png"), folder / f"high-range-{film.name}-reference.png"
    first_picture(converted).save(output)
    if not reference.exists():
        return _shown(film, output, "video_convert; no ffmpeg with zimg to compare with", ())
    difference = apart(first_picture(output), first_picture(reference))
    problems = (f"it is {difference:.1f} dE apart from the reference",) if difference > _ALIKE else ()
    return _shown(film, output, f"video_convert: {difference:.1f} dE from the reference", problems)


def _curve(film: Film) -> str:
    return f"mobius:peak={film.peak / 203:.3f}"


def _shown(film: Film, output: Path, facts: str, problems: tuple[str, ...]) -> Shown:
    return Shown(
        type="video_convert, high dynamic range",
        source=f"{film.name}, a picture of known light",
        licence="made here",
        output=output,
        options="",
        facts=facts,
        problems=problems,
    )


def _make_references() -> None:
    REFERENCES.mkdir(parents=True, exist_ok=True)
    for film in FILMS:
        source = make(REFERENCES / f"{film.name}.mp4", film)
        for name, tonemap in (("mapped", _curve(film)), ("clipped", "clip")):
            output = REFERENCES / f"{film.name}-{name}.png"
            if not by_ffmpeg(source, output, tonemap):
                raise SystemExit("this needs an ffmpeg program with the filters zscale and tonemap")
            small(first_picture(output)).save(output)
        source.unlink()


if __name__ == "__main__":
    _make_references()
