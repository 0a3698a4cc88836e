"""What a file says of its tracks and parts. It is kept as far as the container of the result has a place for it."""

from collections.abc import Sequence
from fractions import Fraction
from typing import Any, NamedTuple

from av.container import InputContainer, OutputContainer
from av.stream import Disposition

_KEPT = (
    Disposition.default
    | Disposition.dub
    | Disposition.original
    | Disposition.comment
    | Disposition.forced
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
)
"""Flags that say what a track is for. The others belong to pictures that are not kept."""
_HELD = {
    "mp4": _KEPT & ~Disposition.original,
    "matroska": _KEPT,
    "webm": Disposition.default | Disposition.forced,
    "mov": Disposition.default,
}
"""Container → the flags that the library can write into it."""
_QUICKTIME = {
    "deu": "ger",
    "nld": "dut",
    "swe": "sve",
    "ell": "gre",
    "isl": "ice",
    "zho": "chi",
    "fre": "fra",
    "hrv": "hr ",
    "fao": "fo ",
}
"""Languages that a mov has a number for, which FFmpeg knows under another name."""
_INTERESTING = {"video": "moving or still pictures", "data": "data tracks", "attachment": "attachments"}
_TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "encoder", "creation_time", "duration", "timecode"}
_NAMED = 10
_MOST_CHAPTERS = 10_000
_MILLISECONDS = 1000


class TrackMetadata(NamedTuple):
    """What a file says of one track."""

    language: str = ""
    title: str = ""
    disposition: int = 0
    """FFmpeg's flags."""


class Chapter(NamedTuple):
    """A chapter; times are seconds on the source's clock."""

    start: Fraction
    end: Fraction
    title: str


def track_metadata(stream: Any) -> TrackMetadata:
    """Read what the source says of a track."""
    return TrackMetadata(stream.language or "", stream.metadata.get("title", ""), int(stream.disposition & _KEPT))


def write_metadata(track: Any, metadata: TrackMetadata, container: str) -> None:
    """Say the same of a track of the result. It has to be called before any packet is written."""
    language = _QUICKTIME.get(metadata.language, metadata.language) if container == "mov" else metadata.language
    for name, value in (("language", language), ("title", metadata.title)):
        if value:
            track.metadata[name] = value
    track.disposition = Disposition(metadata.disposition)


def lost_disposition_notes(kind: str, metadata: TrackMetadata, container: str) -> list[str]:
    """A note about flags that the container cannot hold."""
    lost = Disposition(metadata.disposition) & ~_HELD[container]
    names = ", ".join(str(flag.name).replace("_", " ") for flag in Disposition if flag & lost)
    return [f"the {kind} is no longer marked as {names}: {container} has no place for it"] if names else []


def chapters_of(container: InputContainer) -> tuple[Chapter, ...]:
    """The chapters that have a beginning and an end."""
    found = []
    for chapter in container.chapters()[:_MOST_CHAPTERS]:
        unit = chapter["time_base"]
        if unit is not None and chapter["start"] < chapter["end"]:
            unit = Fraction(unit.numerator, unit.denominator)
            title = chapter["metadata"].get("title", "")
            found.append(Chapter(chapter["start"] * unit, chapter["end"] * unit, title))
    return tuple(found)


def write_chapters(output: OutputContainer, chapters: Sequence[Chapter], begin: Fraction) -> None:
    """The chapters in the result, which begins at `begin`; those before it are left out."""
    written: list[dict[str, Any]] = []
    for chapter in chapters:
        start, end = (max(0, round((moment - begin) * _MILLISECONDS)) for moment in chapter[:2])
        if end > start:
            title = {"title": chapter.title} if chapter.title else {}
            number, unit = len(written) + 1, Fraction(1, _MILLISECONDS)
            written.append({"id": number, "start": start, "end": end, "time_base": unit, "metadata": title})
    if written:
        output.set_chapters(written)  # type: ignore[arg-type]  # its own type of dict, which is no public name


def dropped_track_notes(container: InputContainer) -> list[str]:
    """Notes about tracks of other kinds than picture, sound and subtitles, and about tags: all are left out."""
    counts = dict.fromkeys(_INTERESTING, 0)
    for stream in container.streams:
        if stream.type in counts:
            counts[stream.type] += 1
    counts["video"] -= 1
    found = [f"{count} {_INTERESTING[kind]} dropped" for kind, count in counts.items() if count > 0]
    codes = {name: value for part in (container, *container.streams) for name, value in part.metadata.items()}
    if code := next((value for name, value in codes.items() if name.lower() == "timecode"), ""):
        found.append(f"timecode {code} dropped")
    if tags := sorted({name.lower() for name in container.metadata} - _TECHNICAL):
        found.append(f"tags dropped: {', '.join(tags[:_NAMED])}")
    return found
