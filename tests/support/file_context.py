"""A context for attempts in separate processes, which keeps its checkpoint in a file."""

import sys
from pathlib import Path
from threading import Lock
from typing import Any

import msgspec

from tasktrail.events import Checkpoint
from tasktrail.testing import RecordingContext

_asking = Lock()
"""Libraries call back from their own threads, and two lines printed at once would reach the parent as one."""


class FileContext(RecordingContext[Any]):
    """Keeps the checkpoint as the log would: whole or not at all. Prints each step on standard output."""

    def save_checkpoint(self, checkpoint: Checkpoint, *, progress: float | None = None, message: str = "") -> None:
        super().save_checkpoint(checkpoint, progress=progress, message=message)
        written = self.work_dir / "checkpoint.new"
        written.write_bytes(msgspec.json.encode(checkpoint))
        written.replace(self.work_dir / "checkpoint.json")
        print("saved", checkpoint.processed_frames, flush=True)

    def should_stop(self) -> bool:
        with _asking:
            print("step", flush=True)
            sys.stdin.readline()  # the parent decides when it is killed, so it must not run ahead
        return super().should_stop()


def last_checkpoint(folder: Path) -> Checkpoint | None:
    """Return what the previous attempt left in its work folder."""
    saved = folder / "checkpoint.json"
    return msgspec.json.decode(saved.read_bytes(), type=Checkpoint) if saved.exists() else None
