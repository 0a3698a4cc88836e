"""A part of a film as a file: an uncompressed zip archive of the segments that one node has made.

It records what the segments were made from and with. Parts are joined only if all of that agrees. Sound is not in a
part: the same library versions give other bytes on other processors, and encoding sound is fast.
"""

import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from ....events.existence import is_file
from ...errors import PartMissing
from ...pieces import hash_of, seal
from .checkpoint import Segment

_RECORD = "part.json"
_LAYOUT = 1
_LONGEST_RECORD = 16 * 1024 * 1024
_BEGAN = (1980, 1, 1, 0, 0, 0)
"""The time of all entries: the same part has the same bytes whenever it is made."""
_BLOCK = 1024 * 1024
_DAMAGED = (KeyError, zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, msgspec.DecodeError, OSError)


class PartUnusable(Exception):
    """A part that cannot be used, with the reason."""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """All that the bytes of a film depend on. Each is a hash, except `software`."""

    film: str
    options: str
    """The options that affect the bytes, and the encoders that they select."""
    cuts: str
    """Where the film is cut."""
    fonts: str
    """Fonts of subtitles that are drawn into the picture."""
    software: str
    """Libraries and their versions, for people."""
    encoder: str
    """The encoder's output for a few frames; empty: it accepts none."""

    def differs(self, other: "Origin") -> str:
        """Say in what `other` differs; empty if it is the same."""
        if other.film != self.film:
            return "it was made from another version of the film"
        if other.options != self.options:
            return "it was made with other options, or for another kind of output"
        if other.software != self.software:
            return f"it was made with other software: {other.software}; here it is {self.software}"
        if not self.encoder:
            return "the encoder takes no trial pictures"
        if other.encoder != self.encoder:
            return "its node has another build of the encoder, or a processor on which it gives other bytes"
        if other.fonts != self.fonts:
            return "its node has other fonts, and subtitles are drawn into the picture"
        return "" if other.cuts == self.cuts else "its node has cut the film at other places"


class PartRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The record in the file beside the segments."""

    layout: int = _LAYOUT
    part: int
    parts: int
    made: Origin
    segments: tuple[Segment, ...] = ()
    bad: int = 0
    """Packets that the decoder refused."""
    good: int = 0
    refused: tuple[int, ...] = ()
    """The moments of the packets that the decoder refused."""
    faults: tuple[str, ...] = ()
    """The encoders' faults, in words."""

    @property
    def mark(self) -> str:
        """A hash of its content; the same whenever the part is made."""
        return hash_of(msgspec.to_builtins(self.made), msgspec.to_builtins(self.segments))


def write_part(path: Path, record: PartRecord, folder: Path, tick: Callable[[int], None]) -> None:
    """Write the file. `tick` is called with the number of bytes of each block; it may raise."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo(_RECORD, _BEGAN), msgspec.json.encode(record))
        for segment in record.segments:
            entry = zipfile.ZipInfo(segment.name, _BEGAN)
            with (folder / segment.name).open("rb") as file, archive.open(entry, "w", force_zip64=True) as content:
                _copy(file, content, tick)


def _copy(source: IO[bytes], target: IO[bytes], tick: Callable[[int], None]) -> None:
    while block := source.read(_BLOCK):
        target.write(block)
        tick(len(block))


class Part:
    """The file of a part, open."""

    def __init__(self, archive: zipfile.ZipFile, record: PartRecord) -> None:
        self._archive = archive
        self.record = record

    def take(self, segment: Segment, folder: Path, tick: Callable[[int], None]) -> bool:
        """Write a segment into the folder, durably. False if it was damaged: nothing is left."""
        final = folder / segment.name
        part = folder / f"{segment.name}.taken"
        try:
            entry = self._archive.getinfo(segment.name)
            if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != segment.size:
                return False
            with self._archive.open(entry) as content, part.open("wb") as file:
                _copy(content, file, tick)
        except (KeyError, zipfile.BadZipFile, EOFError, ValueError, NotImplementedError):
            part.unlink(missing_ok=True)
            return False
        if seal(part, final) == (segment.size, segment.sha256):
            return True
        final.unlink()
        return False


@contextmanager
def open_part(path: Path, part: int, parts: int) -> Iterator[Part]:
    """Open the file of a part.

    Raises:
        PartMissing: it does not exist.
        Unfit: it is not a part, or not this one, or its record is damaged.
    """
    if path.is_symlink() or not is_file(path):
        raise PartMissing(f"part {part} of {parts}, {path.name}, is not in {path.parent}")
    broken = f"{path.name} is damaged or no part of a film"
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, ValueError, EOFError, OSError) as error:
        raise PartUnusable(broken) from error
    with archive:
        try:
            if archive.getinfo(_RECORD).file_size > _LONGEST_RECORD:
                raise PartUnusable(broken)
            record = msgspec.json.decode(archive.read(_RECORD), type=PartRecord)
        except _DAMAGED as error:
            raise PartUnusable(broken) from error
        if record.layout != _LAYOUT:
            raise PartUnusable(f"{path.name} was made by another version of tasktrail")
        if (record.part, record.parts) != (part, parts):
            raise PartUnusable(f"{path.name} says that it is part {record.part} of {record.parts}")
        yield Part(archive, record)


__all__ = ["Origin", "Part", "PartRecord", "PartUnusable", "open_part", "write_part"]
