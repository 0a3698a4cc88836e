"""Writes the tree over a log's records, as of a seal, to a folder: tiles, and then the seal itself as `checkpoint`."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ..events.counted import counted
from ..events.errors import InvalidPath
from ..events.existence import exists
from ..events.log.event_log import ReportProgress
from ..events.log.log_reader import LogReader
from ..projections.errors import SealUnfit
from ..projections.proof.notes import LogCheckpoint, PublicKey
from ..projections.proof.seals import Seal, damaged, newest_seal, not_as_sealed, public_key, read_seal
from ..projections.proof.tiles import tiles_of
from ..projections.proof.trees import Trees

CHECKPOINT = "checkpoint"
_REPORT_EVERY = 2000
"""Records between two reports of the progress."""


class WrittenTiles(NamedTuple):
    """The content of a folder, and what was written of it."""

    size: int
    """The number of records in the tree."""
    root: str
    """The root of the tree, in hex."""
    files: int
    """Tiles and bundles that were written. Those that were there unchanged are not counted."""
    bytes: int
    """Bytes of these files."""


def write_tiles(
    log: LogReader, seals: Path, out: Path, progress: ReportProgress, key: PublicKey | None = None
) -> WrittenTiles:
    """Write the tree as of the newest seal. Files of an earlier export in the folder are kept if they are the same.

    The files have the usual permissions of new files, because nothing in them is secret. The checkpoint is written
    last. So a program that reads meanwhile, or after a crash, finds all tiles of the checkpoint that is there.

    Args:
        log: the log.
        seals: the folder of its seals.
        out: the folder; it is made.
        progress: called with the work done, and the work in all.
        key: the key of the seals; None: the one that lies with them.

    Raises:
        SealUnfit: there is no seal.
        NotAsSealed: the log is not as the seal says.
        InvalidPath: the folder has the tree of another log, or cannot be written to.
    """
    seal = newest_seal(seals, key)
    key = key or public_key(seals)
    size = seal.checkpoint.size
    _refuse_others(log, seal, _earlier(out, key), out, lambda seen: progress(seen, 2 * size))
    files = written = 0
    full = []
    try:
        for tile in tiles_of(_digests(log, size, lambda seen: progress(size + seen, 2 * size))):
            if _put(out / tile.path, tile.content):
                files, written = files + 1, written + len(tile.content)
                full += [] if tile.partial else [out / tile.path]
        _put(out / CHECKPOINT, seal.note.encode())
    except OSError as error:
        remedy = "Name a folder with room on its disk."
        raise InvalidPath(f"{out} cannot be written to: {error.strerror}", field="tiles", remedy=remedy) from error
    for path in full:  # a tile's partial versions are not needed once it is full
        shutil.rmtree(path.with_name(f"{path.name}.p"), ignore_errors=True)
    return WrittenTiles(size, seal.checkpoint.root.hex(), files, written)


def _earlier(out: Path, key: PublicKey) -> LogCheckpoint | None:
    """Read the checkpoint that is already in the folder, if there is one."""
    path = out / CHECKPOINT
    if not exists(path):
        return None
    try:
        return read_seal(path, key).checkpoint
    except SealUnfit as error:
        raise _refusal_of_another_log(out, error.message) from error


def _refusal_of_another_log(out: Path, why: str) -> InvalidPath:
    return InvalidPath(f"{out} has the tiles of another log: {why}", field="tiles", remedy="Name another folder.")


def _refuse_others(
    log: LogReader, seal: Seal, earlier: LogCheckpoint | None, out: Path, progress: Callable[[int], None]
) -> None:
    """Raise an error unless the log is as the seal says, and continues the tree in the folder."""
    size, trees = seal.checkpoint.size, Trees()
    if earlier is not None and earlier.size > size:
        seen_earlier = counted(earlier.size, "record")
        raise _refusal_of_another_log(out, f"its checkpoint speaks of {seen_earlier}, and {seal.path} only of {size}")
    for record in log.hashes(limit=size):
        try:
            trees.apply(*record)
        except IndexError as error:
            raise damaged(error) from error
        seen = trees.records.size
        if earlier is not None and seen == earlier.size and trees.records.root() != earlier.root:
            raise _refusal_of_another_log(
                out, f"its checkpoint does not match the first {counted(seen, 'record')} of this one"
            )
        if seen % _REPORT_EVERY == 0:
            progress(seen)
    if not seal.fits(trees.records, trees.tasks):
        raise not_as_sealed(seal)


def _digests(log: LogReader, size: int, progress: Callable[[int], None]) -> Iterator[bytes]:
    for position, _, _, digest in log.hashes(limit=size):
        if position % _REPORT_EVERY == 0:
            progress(position)
        yield digest


def _put(path: Path, content: bytes) -> bool:
    """Write a file durably and as a whole, unless it is there with this content. Returns whether it was written."""
    if exists(path) and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)  # somebody may have put a link there, which must not be written through
    with part.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)
    return True
