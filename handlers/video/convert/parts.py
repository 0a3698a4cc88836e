"""A part of a film as a file: a zip archive, not compressed, of the segments and sound that one node has made.

What they were made of and with stands in it. A part is joined with others only where all of that is the same.
"""

import re
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from ...contract import Unusable
from ...errors import PartMissing
from ...pieces import seal
from .checkpoint import AudioTrack, SavedConversion, Segment

_RECORD = "part.json"
_LAYOUT = 1
_SOUND = re.compile(r"sound-[\w.-]+", re.ASCII)
_LONGEST_RECORD = 16 * 1024 * 1024
_BEGAN = (1980, 1, 1, 0, 0, 0)
"""The time of all entries: the same part has the same bytes whenever it is made."""
_BLOCK = 1024 * 1024


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What the bytes of a film follow from. Each is a hash, but for `software`."""

    film: str
    options: str
    """Those that the bytes depend on, and the encoders that they mean."""
    cuts: str
    """Where the film is cut."""
    fonts: str
    """Of subtitles that are drawn into the picture."""
    software: str
    """Libraries and their versions, for people."""
    encoder: str
    """What the encoder makes of a few frames."""

    def differs(self, other: "Origin") -> str:
        """In words, in what `other` differs; empty where all is the same."""
        if other.film != self.film:
            return "it was made of another content of the film"
        if other.options != self.options:
            return "it was made with other options, or for another kind of output"
        if other.software != self.software:
            return f"it was made with other software: {other.software}; here it is {self.software}"
        if other.encoder != self.encoder:
            return "its node has another build of the encoder, or a processor on which it gives other bytes"
        if other.fonts != self.fonts:
            return "its node has other fonts, and subtitles are drawn into the picture"
        return "" if other.cuts == self.cuts else "its node has cut the film at other places"


class PartRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the file beside segments and sound."""

    layout: int = _LAYOUT
    part: int
    parts: int
    made: Origin
    whole: str = ""
    """Why the film cannot be spread; the part then holds nothing."""
    segments: tuple[Segment, ...] = ()
    audio: tuple[AudioTrack, ...] = ()
    silent: tuple[int, ...] = ()
    bad: int = 0
    """Packets that the decoder refused."""
    good: int = 0
    faults: tuple[str, ...] = ()
    """What encoders did wrong, in words."""


def write_part(
    path: Path, record: PartRecord, saved: SavedConversion, folder: Path, tick: Callable[[int], None]
) -> None:
    """Write the file. `tick` is called with the number of bytes of each block; it may raise."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_RECORD, _BEGAN), msgspec.json.encode(record))
        for name in saved.files:
            with (folder / name).open("rb") as file, archive.open(_entry(name), "w", force_zip64=True) as entry:
                _copy(file, entry, tick)


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, _BEGAN)


def _copy(source: IO[bytes], target: IO[bytes], tick: Callable[[int], None]) -> None:
    while block := source.read(_BLOCK):
        target.write(block)
        tick(len(block))


class Part:
    """The file of a part, open."""

    def __init__(self, archive: zipfile.ZipFile, record: PartRecord) -> None:
        self._archive = archive
        self.record = record

    def take(self, name: str, size: int, sha256: str, folder: Path, tick: Callable[[int], None]) -> bool:
        """Write one of its files into the folder, durably. False where it is not as it was made: nothing is left."""
        part = folder / f"{name}.taken"
        try:
            with self._archive.open(name) as entry, part.open("wb") as file:
                _copy(entry, file, tick)
        except (KeyError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
            part.unlink(missing_ok=True)
            return False
        if seal(part, folder / name) == (size, sha256):
            return True
        (folder / name).unlink()
        return False


@contextmanager
def open_part(path: Path, part: int, parts: int) -> Iterator[Part]:
    """Open the file of a part.

    Raises:
        PartMissing: it is not there.
        Unusable: it is no part, or not this one, or its record is damaged.
    """
    named = f"part {part} of {parts}, {path.name},"
    if path.is_symlink() or not path.is_file():
        raise PartMissing(f"{named} is not in {path.parent}")
    broken = f"{named} is damaged or no part of a film: convert the film again"
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise Unusable(broken) from error
    with archive:
        try:
            if archive.getinfo(_RECORD).file_size > _LONGEST_RECORD:
                raise Unusable(broken)
            record = msgspec.json.decode(archive.read(_RECORD), type=PartRecord)
        except (KeyError, zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, msgspec.DecodeError) as error:
            raise Unusable(broken) from error
        if record.layout != _LAYOUT:
            raise Unusable(f"{named} was made by another version of tasktrail: have the same one on all nodes")
        if (record.part, record.parts) != (part, parts):
            raise Unusable(f"{named} says that it is part {record.part} of {record.parts}: convert the film again")
        if any(not _SOUND.fullmatch(track.name) for track in record.audio):
            raise Unusable(broken)
        yield Part(archive, record)


__all__ = ["Origin", "Part", "PartRecord", "open_part", "write_part"]
