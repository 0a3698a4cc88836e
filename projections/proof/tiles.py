"""The tree over a log's records as files that others can serve and read (C2SP tlog-tiles).

A tile has up to 256 adjacent hashes of one level. Level 0 has the leaves; above it, a hash stands for a full tile of
the level below. A bundle has the 256 entries below a tile of level 0. An entry is the hash of a record in the chain, so
all files hold only hashes.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .merkle import leaf_hash, node_hash

WIDTH = 256
"""Hashes of a full tile."""


class Tile(NamedTuple):
    """One file."""

    path: str
    content: bytes

    @property
    def partial(self) -> bool:
        """Whether the tile is not full. Its path then says how many hashes it has."""
        return ".p/" in self.path


def tiles_of(digests: Iterable[bytes]) -> Iterator[Tile]:
    """All files of the tree over records with these hashes; a full file comes as soon as it is full."""
    entries: list[bytes] = []
    levels: list[_Level] = [_Level(0)]
    for digest in digests:
        entries.append(digest)
        yield from _grown(levels, leaf_hash(digest))
        if len(entries) == WIDTH:
            yield Tile(_path("entries", levels[0].full - 1, WIDTH), _bundle(entries))
            entries = []
    for level in levels:
        if level.hashes:
            yield level.tile()
    if entries:
        yield Tile(_path("entries", levels[0].full, len(entries)), _bundle(entries))


class _Level:
    """The last tile of a level, while it grows."""

    def __init__(self, number: int) -> None:
        self._number = number
        self.full = 0
        """The number of full tiles before it."""
        self.hashes: list[bytes] = []

    def tile(self) -> Tile:
        return Tile(_path(str(self._number), self.full, len(self.hashes)), b"".join(self.hashes))


def _grown(levels: list[_Level], node: bytes) -> Iterator[Tile]:
    """Add a leaf; yields the tiles that become full by it, upwards."""
    for number in range(len(levels) + 1):
        if number == len(levels):
            levels.append(_Level(number))
        level = levels[number]
        level.hashes.append(node)
        if len(level.hashes) < WIDTH:
            return
        yield level.tile()
        node = _root(level.hashes)
        level.hashes, level.full = [], level.full + 1


def _root(hashes: list[bytes]) -> bytes:
    """The hash that stands for a full tile."""
    while len(hashes) > 1:
        hashes = [node_hash(hashes[place], hashes[place + 1]) for place in range(0, len(hashes), 2)]
    return hashes[0]


def _bundle(entries: list[bytes]) -> bytes:
    return b"".join(len(entry).to_bytes(2) + entry for entry in entries)


def _path(level: str, number: int, width: int) -> str:
    """The path of a tile: three digits for each folder, so that none has more than a thousand files.

    An `x` precedes all parts but the last.
    """
    text = str(number)
    text = text.zfill(-(-len(text) // 3) * 3)
    *above, last = (text[place : place + 3] for place in range(0, len(text), 3))
    name = "/".join((*(f"x{part}" for part in above), last))
    return f"tile/{level}/{name}" + ("" if width == WIDTH else f".p/{width}")
