"""Runs one attempt of any type in a process of its own, with the checkpoint in a file. Started by `run_attempt`."""

import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from tasktrail.events import Checkpoint
from tasktrail.handlers.homes import resolve
from tasktrail.testing import RecordingContext, run_handler, task_type_of


class FileContext(RecordingContext[Any]):
    """Keeps the checkpoint as the log would: it is there wholly or not at all. Says each step on standard output."""

    def save_checkpoint(self, checkpoint: Checkpoint, *, progress: float | None = None, message: str = "") -> None:
        super().save_checkpoint(checkpoint, progress=progress, message=message)
        written = self.work_dir / "checkpoint.new"
        written.write_bytes(msgspec.json.encode(checkpoint))
        written.replace(self.work_dir / "checkpoint.json")
        print("saved", checkpoint.processed_frames, flush=True)

    def should_stop(self) -> bool:
        print("step", flush=True)
        sys.stdin.readline()  # the parent decides when it is killed, so it must not run ahead
        return super().should_stop()


def peak() -> int:
    """Bytes of resident memory at the peak. Not getrusage: its figure begins with that of the parent."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Arguments: the handler as `module:name`, its options as JSON, input, output, work folder."""
    home, given = sys.argv[1:3]
    source, output, folder = map(Path, sys.argv[3:])
    handler = resolve(home)
    options = msgspec.json.decode(given, type=task_type_of(handler).options)
    saved = folder / "checkpoint.json"
    checkpoint = msgspec.json.decode(saved.read_bytes(), type=Checkpoint) if saved.exists() else None
    context = FileContext(options, work_dir=folder, input_file=source, output_file=output, checkpoint=checkpoint)
    outcome = run_handler(handler, context)
    print("peak", peak(), flush=True)
    print("ended", type(outcome).__name__, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
