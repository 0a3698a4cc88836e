"""Runs one attempt of `model_preview` in a process of its own, with the checkpoint in a file. Started by a test."""

import os
import sys
from pathlib import Path

import msgspec

from tasktrail.events import Checkpoint
from tasktrail.handlers import pieces
from tasktrail.handlers.model.options import ModelPreviewOptions
from tasktrail.handlers.model.preview import model_preview
from tasktrail.testing import RecordingContext, run_handler

pieces.SAVE_EVERY = 0.0  # so that what a kill may cost is one frame


class FileContext(RecordingContext[ModelPreviewOptions]):
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


def main() -> None:
    """Arguments: input, output, work folder."""
    source, output, folder = map(Path, sys.argv[1:])
    saved = folder / "checkpoint.json"
    checkpoint = msgspec.json.decode(saved.read_bytes(), type=Checkpoint) if saved.exists() else None
    options = ModelPreviewOptions(kind="turntable", frames=8, width=120, height=90)
    context = FileContext(options, work_dir=folder, input_file=source, output_file=output, checkpoint=checkpoint)
    run_handler(model_preview, context)
    print("finished", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
