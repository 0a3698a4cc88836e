"""Runs one attempt of `document_preview` in a separate process, with the checkpoint in a file. A test starts it."""

import os
import sys
from pathlib import Path

import msgspec
from file_context import FileContext, last_checkpoint

from tasktrail.handlers import pieces
from tasktrail.handlers.document.preview import document_preview
from tasktrail.handlers.document.preview.options import DocumentPreviewOptions
from tasktrail.testing import RecordingContext, run_handler


class RunningContext(FileContext):
    """Does not wait at its steps, so the kill comes at times that it does not choose."""

    def should_stop(self) -> bool:
        print("step", flush=True)
        return RecordingContext.should_stop(self)


def main() -> None:
    """Run it. Arguments: input, output, work folder, options as JSON."""
    source, output, folder = map(Path, sys.argv[1:4])
    options = msgspec.json.decode(sys.argv[4], type=DocumentPreviewOptions)
    pieces.SAVE_EVERY = 0.0
    context = RunningContext(
        options, work_dir=folder, input_file=source, output_file=output, checkpoint=last_checkpoint(folder)
    )
    run_handler(document_preview, context)
    print("finished", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
