"""The chapters of films and sound files, copied from one container to another."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from av.container import InputContainer, OutputContainer

from ...events.counted import counted, plural
from .tag_text import plain_text

_NAMED = 10
"""Lost tags that a note names at most."""
_MOST_CHAPTERS = 10_000
_MILLISECONDS = 1000


class Chapter(NamedTuple):
    """A chapter; times are seconds on the source's clock."""

    start: Fraction
    end: Fraction
    title: str


def chapters_of(container: InputContainer) -> tuple[tuple[Chapter, ...], tuple[str, ...]]:
    """The chapters that have a beginning and an end, and notes about losses."""
    kept, listed = [], container.chapters()
    lost: set[str] = set()
    for chapter in listed[:_MOST_CHAPTERS]:
        unit = chapter["time_base"]
        if unit and chapter["start"] < chapter["end"]:
            seconds = Fraction(unit.numerator, unit.denominator)
            tags = {plain_text(name): plain_text(value) for name, value in chapter["metadata"].items()}
            lost |= {name.lower() for name in tags} - {"title"}
            kept.append(Chapter(chapter["start"] * seconds, chapter["end"] * seconds, tags.get("title", "")))
    notes = [f"tags of chapters dropped: {', '.join(sorted(lost)[:_NAMED])}"] if lost else []
    if len(kept) < len(listed):
        notes.append(f"{len(listed) - len(kept)} of {counted(len(listed), 'chapter')} dropped: no length, or too many")
    return tuple(kept), tuple(notes)


def titled(chapters: Sequence[Chapter], container: str) -> tuple[tuple[Chapter, ...], tuple[str, ...]]:
    """The chapters, with a title each where the container needs one, and a note about those that got one.

    Args:
        chapters: those of the source.
        container: FFmpeg's name of the result's container. In mp4 and mov a chapter needs a title.
    """
    if container not in ("mp4", "mov"):
        return tuple(chapters), ()
    named = tuple(
        chapter if chapter.title else chapter._replace(title=f"Chapter {number}")
        for number, chapter in enumerate(chapters, start=1)
    )
    count = sum(not chapter.title for chapter in chapters)
    called = plural(count, "was called by its number", "were called by their numbers")
    what = f"{counted(count, 'chapter')} without a title {called}"
    return named, (what,) if count else ()


def early_notes(count: int, called: str, what: str) -> tuple[str, ...]:
    """A note about `count` things that end before a film or a sound begins, if there are any."""
    are = plural(count, "is", "are")
    return (f"{count} {called} {are} over before the {what} begins, and {are} left out",) if count else ()


def write_chapters(
    output: OutputContainer, chapters: Sequence[Chapter], begin: Fraction, end_at: Fraction | None
) -> int:
    """Write the chapters into the result, which begins at `begin`. Parts before it or after `end_at` are left out.

    Returns how many chapters end before the result begins.
    """
    written: list[dict[str, Any]] = []
    for chapter in chapters:
        until = chapter.end if end_at is None else min(chapter.end, end_at)
        start, end = (max(0, round((moment - begin) * _MILLISECONDS)) for moment in (chapter.start, until))
        if end > start:
            title = {"title": chapter.title} if chapter.title else {}
            number, unit = len(written) + 1, Fraction(1, _MILLISECONDS)
            written.append({"id": number, "start": start, "end": end, "time_base": unit, "metadata": title})
    if written:
        output.set_chapters(written)  # type: ignore[arg-type]  # its own type of dict, which is not public
    return sum(chapter.end <= begin for chapter in chapters)
