"""The metadata of a file's tracks and parts. It is kept as far as the result's container can hold it."""

import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, NamedTuple

from av.container import InputContainer
from av.stream import Disposition

from ...media.languages import three_letters
from ..opening import moving_pictures, open_result

_KEPT = (
    Disposition.default
    | Disposition.dub
    | Disposition.original
    | Disposition.comment
    | Disposition.forced
    | Disposition.hearing_impaired
    | Disposition.visual_impaired
)
"""Flags for the purpose of a track. The others belong to pictures that are not kept."""
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
_OF_THE_FILE = {
    *("major_brand", "minor_version", "compatible_brands", "encoder", "duration", "timecode", "vendor_id"),
    *("bps", "number_of_frames", "number_of_bytes", "alpha_mode", "rotate", "filename", "mimetype"),
    *("language", "title", "name", "creation_time", "file_package_umid"),
}
"""Tags of a track that describe its storage, or are kept in another way."""
_TECHNICAL = _OF_THE_FILE - {"language", "title", "name", "creation_time"}
"""The same for the file as a whole."""
_OF_AN_MXF = _TECHNICAL | {
    *("application_platform", "company_name", "generation_uid", "operational_pattern_ul", "product_name"),
    *("product_uid", "product_version", "product_version_num", "toolkit_version", "toolkit_version_num"),
    *("modification_date", "uid"),
}
"""The same of an MXF, with the program that wrote it."""
_STATISTICS = "_statistics_"
_USUAL_HANDLERS = {"VideoHandler", "SoundHandler", "SubtitleHandler"}
"""FFmpeg's default names of tracks."""
_TIMECODE = re.compile(r"\d\d:\d\d:\d\d[:;.]\d\d")
_DROP_RATES = {Fraction(30_000, 1001), Fraction(60_000, 1001)}
_TIMECODE_RATES = {*map(Fraction, (24, 25, 30, 48, 50, 60)), Fraction(24_000, 1001), *_DROP_RATES}
"""Frames per second for which mp4 and mov can count a timecode."""
_NAMED = 10
_PLACE = {"matroska": "mkv"}


class TrackMetadata(NamedTuple):
    """The metadata of one track."""

    language: str = ""
    title: str = ""
    disposition: int = 0
    """FFmpeg's flags."""
    tags: Mapping[str, str] = {}
    """All other tags, by lower-case names."""


def track_metadata(stream: Any, tags: Literal["keep", "strip"] = "keep") -> TrackMetadata:
    """Read the source's metadata of a track."""
    title = stream.metadata.get("title") or stream.metadata.get("name", "")  # in a mov, the name of a track
    kept = _free_tags(stream.metadata, _OF_THE_FILE) if tags == "keep" else {}
    if kept.get("handler_name") in _USUAL_HANDLERS:
        del kept["handler_name"]
    return TrackMetadata(stream.language or "", title, int(stream.disposition & _KEPT), kept)


def file_tags(container: InputContainer) -> dict[str, str]:
    """The tags of the file as a whole, such as title, artist and recording time, by lower-case names."""
    return _free_tags(container.metadata, _OF_AN_MXF if container.format.name == "mxf" else _TECHNICAL)


def _free_tags(tags: Mapping[str, str], known: set[str]) -> dict[str, str]:
    small = {name.lower(): value for name, value in tags.items() if value}
    free = {}
    for name, value in small.items():
        plain = re.sub(r"-[a-z]{3}$", "", name)
        if plain in known or name.startswith(_STATISTICS) or (plain != name and small.get(plain) == value):
            continue
        if name != "creation_time" or _is_time(value):
            free[name] = value
    return free


def _is_time(value: str) -> bool:
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def write_metadata(track: Any, metadata: TrackMetadata, container: str) -> None:
    """Write the metadata to a track of the result. Call it before any packet is written."""
    language = three_letters(metadata.language) if container in ("mp4", "mov") else metadata.language
    language = _QUICKTIME.get(language, language) if container == "mov" else language
    for name, value in (*metadata.tags.items(), ("language", language), ("title", metadata.title)):
        if value:
            track.metadata[name] = value
    track.disposition = Disposition(metadata.disposition)


def lost_disposition_notes(kind: str, metadata: TrackMetadata, container: str) -> list[str]:
    """A note about flags that the container cannot hold."""
    lost = Disposition(metadata.disposition) & ~_HELD[container]
    names = ", ".join(str(flag.name).replace("_", " ") for flag in Disposition if flag & lost)
    return [f"{_with_article(kind)} is no longer marked as {names}: {container} has no place for it"] if names else []


def _with_article(kind: str) -> str:
    """The name with an article, unless it has a number."""
    return kind if kind[-1].isdigit() else f"the {kind}"


def lost_tag_notes(
    result: Path, container: str, tags: Mapping[str, str], tracks: Sequence[tuple[str, TrackMetadata]]
) -> list[str]:
    """Read the result, and list the tags and languages that it lacks.

    Args:
        result: the file that was written.
        container: its format.
        tags: the wanted tags of the file as a whole.
        tracks: for each of its tracks, in order: its name in notes, and its wanted metadata.
    """
    notes = []
    with open_result(result) as opened:
        read = [opened.metadata, *(stream.metadata for stream in opened.streams)]
        for (kind, language), has in zip(((kind, each.language) for kind, each in tracks), read[1:], strict=False):
            if language not in ("", "und") and has.get("language", "und") == "und":
                place = f"{_PLACE.get(container, container)} has no place for it"
                notes.append(f"language {language} of {_with_article(kind)} dropped: {place}")
        for (kind, wanted), has in zip([("", tags), *((kind, each.tags) for kind, each in tracks)], read, strict=False):
            lost = sorted(wanted.keys() - {name.lower() for name in has})
            if lost:
                named = ", ".join(lost[:_NAMED]) + (f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else "")
                of = f"tags of {_with_article(kind)} dropped" if kind else "tags dropped"
                notes.append(f"{of}: {named}: {_PLACE.get(container, container)} has no place for them")
    return notes


# --- The timecode of a camera ---


def timecode_of(container: InputContainer) -> str:
    """The timecode of the first picture, such as 01:00:00:00; empty if there is none."""
    tags = ((name, value) for part in (container, *container.streams) for name, value in part.metadata.items())
    return next((str(value) for name, value in tags if name.lower() == "timecode"), "")


def can_hold_timecode(code: str, container: str, rate: Fraction) -> bool:
    """Whether the container can hold this timecode. In mp4 and mov it is a track that counts frames."""
    if container in ("matroska", "webm"):
        return True
    drops = ":" not in code[-3:]  # numbers are skipped, to keep pace with the clock
    return bool(_TIMECODE.fullmatch(code)) and rate in (_DROP_RATES if drops else _TIMECODE_RATES)


# --- Tracks of other kinds ---

PROGRAM_NOTE = "name of the program, if it has one, dropped"
"""For a transport stream. PyAV does not show whether there is one."""
OTHER_PROGRAM = "of another program in the file"
"""Why tracks of a transport stream are left out."""


def dropped_track_notes(container: InputContainer, *, chapters: bool) -> list[str]:
    """Notes about further moving pictures and data tracks, which are left out.

    In mov and mp4, chapters and a timecode are data tracks, too. They are kept in their own way.
    """
    moving = len(moving_pictures(container)) - 1
    data = [stream for stream in container.streams.data if "timecode" not in stream.metadata]
    if chapters and "mov" in container.format.name and any(stream.name == "bin_data" for stream in data):
        data.pop()
    counts = {"further moving picture": moving, "data track": len(data)}
    notes = [f"{count} {kind}{'s' * (count > 1)} dropped" for kind, count in counts.items() if count > 0]
    return notes + ([PROGRAM_NOTE] if container.format.name == "mpegts" else [])
