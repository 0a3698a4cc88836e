"""The descriptive data of a sound file: tags, chapters, cover pictures. It is kept if the container can hold it."""

import base64
import struct
from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import av
from av.container import InputContainer
from av.stream import Disposition
from PIL import Image

from ....events.counted import counted, plural
from ...media.chapters import Chapter, chapters_of, early_notes, titled
from ...media.loudness import LEVEL_TAGS
from ...media.pictures import pixel_limit
from ...media.sound_shape import Cut
from ...video.opening import is_input_fault
from .options import AudioConvertOptions, SoundContainer
from .source import SoundSource, open_sound

_TECHNICAL = frozenset(
    (
        "major_brand",
        "minor_version",
        "compatible_brands",
        "encoder",
        "encodersettings",
        "encoder_settings",
        "tsse",
        "duration",
        "handler_name",
        "vendor_id",
        "timecode",
        "itunsmpb",
        "itunpgap",
        "tlen",
        "length",
        "number_of_frames",
        "number_of_bytes",
        "bps",
        "_statistics_writing_app",
        "_statistics_writing_date_utc",
        "_statistics_tags",
        "metadata_block_picture",
    )
)
"""Tags about the file or its encoder rather than about the sound."""
_MOST_TAGS, _LONGEST_TAG = 200, 64_000
_COVERS = {"mjpeg": "image/jpeg", "png": "image/png"}
_MAX_COVER_BYTES, _MAX_COVER_PIXELS = 16_000_000, 100_000_000
_WANTED = "only jpeg and png of up to 16 MB and 100 megapixels are kept"
_COLOUR_BITS = 24
_FRONT = 3
"""The kind of picture: front cover."""
_NAMED = 10


class Cover(NamedTuple):
    """A picture in the source."""

    stream: int
    """Number of its stream."""
    mime: str
    data: bytes
    size: tuple[int, int]
    """Width and height in pixels."""


class Metadata(NamedTuple):
    """The descriptive data of the result."""

    tags: dict[str, str]
    chapters: tuple[Chapter, ...] = ()
    """Times are on the result's clock."""
    cover: Cover | None = None
    notes: tuple[str, ...] = ()


def metadata_of(source: SoundSource, options: AudioConvertOptions, cut: Cut, container: SoundContainer) -> Metadata:
    """Read the source's descriptive data, and select what is kept."""
    notes: list[str] = []
    with open_sound(source.path) as opened:
        tags: dict[str, str] = {}
        chapters: tuple[Chapter, ...] = ()
        if options.metadata == "keep":
            tags = tags_of(opened, source.index)
            if options.loudness is not None and (stale := [name for name in tags if name.startswith(LEVEL_TAGS)]):
                notes.append(f"tags of the old loudness are left out: {', '.join(stale[:_NAMED])}")
                tags = {name: value for name, value in tags.items() if name not in stale}
            listed, unlisted = chapters_of(opened)
            chapters, untitled = titled(tuple(_moved(listed, source.begin, cut)), container.format)
            early = 0 if cut.start else sum(chapter.end <= source.begin for chapter in listed)
            notes += [*unlisted, *untitled, *early_notes(early, plural(early, "chapter"), "sound")]
        cover = None
        if options.cover == "keep":
            cover, cover_notes = _cover_of(opened)
            notes += cover_notes
    for name, value in options.tags.items():
        tags.pop(name.lower(), None)
        if value:
            tags[name.lower()] = value
    if container.comments and {"comment", "description"} <= tags.keys():  # the container would join them in one tag
        del tags["description"]
        notes.append(f"tags left out, {container.name} has one place for them and the comment: description")
    if cover is not None and container.name == "wav":
        cover = None
        notes.append("the cover picture is left out: wav has no place for it")
    if chapters and container.name == "wav":
        are, them = plural(len(chapters), "is", "are"), plural(len(chapters), "it", "them")
        notes.append(f"{counted(len(chapters), 'chapter')} {are} left out: wav has no place for {them}")
        chapters = ()
    return Metadata(tags, chapters, cover, tuple(notes))


def tags_of(opened: InputContainer, index: int) -> dict[str, str]:
    """The tags of the file and of one track, with lower-case names."""
    tags: dict[str, str] = {}
    for part in (opened.streams[index], opened):
        for key, value in part.metadata.items():
            name = key.lower()
            if name not in _TECHNICAL and 0 < len(value.strip()) <= _LONGEST_TAG and len(tags) < _MOST_TAGS:
                tags[name] = value
    if tags.get("language") == "und":
        del tags["language"]
    return tags


def _moved(chapters: tuple[Chapter, ...], begin: Fraction, cut: Cut) -> Iterator[Chapter]:
    """The chapters on the result's clock, without parts outside of the cut."""
    shift = begin + Fraction(cut.start).limit_denominator(1_000_000)
    end = None if cut.end is None else Fraction(cut.end - cut.start).limit_denominator(1_000_000)
    for chapter in chapters:
        first, last = max(Fraction(0), chapter.start - shift), chapter.end - shift
        last = last if end is None else min(last, end)
        if first < last:
            yield Chapter(first, last, chapter.title)


def _cover_of(opened: InputContainer) -> tuple[Cover | None, list[str]]:
    """The first picture in the source that can be kept, and notes on losses."""
    pictures = [stream for stream in opened.streams.video if stream.disposition & Disposition.attached_pic]
    for stream in pictures:
        codec = stream.codec_context.codec.canonical_name if stream.codec_context is not None else ""
        if codec not in _COVERS:
            continue
        try:
            data = next((bytes(packet) for packet in opened.demux(stream) if packet.size), b"")
        except av.error.FFmpegError as error:
            if not is_input_fault(error):
                raise
            continue
        size = _size_of(data) if 0 < len(data) <= _MAX_COVER_BYTES and stream.codec_context.width else None
        if size is not None:
            more = [f"1 of {len(pictures)} pictures kept"] if len(pictures) > 1 else []
            return Cover(stream.index, _COVERS[codec], data, size), more
    left_out = f"{counted(len(pictures), 'picture')} {plural(len(pictures), 'is', 'are')} left out: {_WANTED}"
    return None, [left_out] if pictures else []


def _size_of(data: bytes) -> tuple[int, int] | None:
    """Width and height of a picture; None if it is not a picture, or is too large for any player."""
    try:
        with pixel_limit(_MAX_COVER_PIXELS), Image.open(BytesIO(data), formats=("JPEG", "PNG")) as picture:
            return picture.size
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return None


def as_comments(metadata: Metadata) -> dict[str, str]:
    """All of it as Vorbis comments, in which chapters and the picture are tags, too."""
    tags = dict(metadata.tags)
    for number, chapter in enumerate(metadata.chapters):
        minutes, seconds = divmod(round(chapter.start * 1000) / 1000, 60)
        hours, minutes = divmod(int(minutes), 60)
        tags[f"CHAPTER{number:03}"] = f"{hours:02}:{minutes:02}:{seconds:06.3f}"
        tags[f"CHAPTER{number:03}NAME"] = chapter.title or f"{number + 1}"
    if metadata.cover is not None:
        tags["METADATA_BLOCK_PICTURE"] = base64.b64encode(_picture_block(metadata.cover)).decode()
    return tags


def _picture_block(cover: Cover) -> bytes:
    """A picture in the form that FLAC and Ogg store."""
    mime = cover.mime.encode()
    head = struct.pack(f">II{len(mime)}sI", _FRONT, len(mime), mime, 0)
    return head + struct.pack(">IIIII", *cover.size, _COLOUR_BITS, 0, len(cover.data)) + cover.data


def lost_tags(written: Path, metadata: Metadata, container: SoundContainer) -> list[str]:
    """A note about tags that the container could not hold, found by reading the finished file."""
    with av.open(str(written)) as result:
        index = result.streams.audio[0].index if result.streams.audio else 0
        kept = tags_of(result, index)
    lost = sorted(name for name in metadata.tags if name not in kept)
    return [f"tags left out, {container.name} has no place for them: {', '.join(lost[:_NAMED])}"] if lost else []
