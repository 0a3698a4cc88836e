"""The state that an attempt leaves to the next one: an index file, and a checkpoint that says how far the file counts.

The index's first line is the whole state when it was begun, with the plan; each further line is one change. So neither
log nor index grows with the square of the number of segments.
"""

import hashlib
import os
from fractions import Fraction
from typing import Any

import msgspec

from ....events import Checkpoint
from ...contract import TaskContext
from ...pieces import recalled
from .checkpoint import FinishedPart, SavedConversion

INDEX = "conversion.index"


class _Reference(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of the checkpoint: how much of the index belongs to it."""

    fingerprint: str
    index: str
    length: int
    """Bytes, from the beginning."""
    sha256: str
    """Of these bytes."""
    change: FinishedPart
    """The new change, so that the log shows what was made when. Refused packets are only in the index: they could
    exceed the size of a checkpoint."""


class Journal:
    """Saves one conversion, change by change."""

    def __init__(self, context: TaskContext[Any], time_base: Fraction) -> None:
        self._context = context
        self._time_base = time_base
        self._path = context.work_dir / INDEX
        self._length = 0
        self._hash = hashlib.sha256()

    def recall(self, mark: str) -> SavedConversion | None:
        """The state that the last checkpoint refers to; None if it belongs to other work, or the index is damaged."""
        checkpoint = self._context.checkpoint
        reference = recalled(checkpoint, mark, _Reference)
        if reference is None:
            return recalled(checkpoint, mark, SavedConversion)  # its form before there was an index
        try:
            with self._path.open("rb") as file:
                content = file.read(reference.length)
            first, *rest = content.splitlines()
            if (digest := hashlib.sha256(content)).hexdigest() != reference.sha256:
                return None
            saved = msgspec.json.decode(first, type=SavedConversion)
            for line in rest:
                saved = saved.after(msgspec.json.decode(line, type=FinishedPart))
        except (FileNotFoundError, ValueError, msgspec.DecodeError):
            return None
        self._length, self._hash = len(content), digest
        return saved

    def save(self, saved: SavedConversion, change: FinishedPart, progress: float, message: str) -> None:
        """Make a change durable and report it; `saved` already includes it.

        Raises CheckpointRefused when the attempt must end.
        """
        self._append(msgspec.json.encode(change if self._length else saved) + b"\n")
        reference = _Reference(
            fingerprint=saved.fingerprint,
            index=INDEX,
            length=self._length,
            sha256=self._hash.hexdigest(),
            change=msgspec.structs.replace(change, refused=()),
        )
        checkpoint = Checkpoint(
            processed_frames=saved.frames,
            processed_bytes=sum(segment.size for segment in saved.segments),
            last_position=float((saved.last_moment or 0) * self._time_base),
            temp_files=(INDEX,),
            data=msgspec.to_builtins(reference),
        )
        self._context.save_checkpoint(checkpoint, progress=progress, message=message)

    def _append(self, line: bytes) -> None:
        """Append to the part that counts. A crash may have left more, which no checkpoint refers to; it is cut off."""
        with self._path.open("r+b" if self._length else "wb") as file:
            file.truncate(self._length)
            file.seek(self._length)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        self._length += len(line)
        self._hash.update(line)
