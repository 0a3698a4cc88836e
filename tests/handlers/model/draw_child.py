"""Runs one attempt of `model_preview` in a separate process, with the checkpoint in a file. A test starts it."""

import os
import sys
from pathlib import Path

from file_context import FileContext, last_checkpoint

from tasktrail.handlers import pieces
from tasktrail.handlers.model.preview import model_preview
from tasktrail.handlers.model.preview.options import ModelPreviewOptions
from tasktrail.testing import run_handler

pieces.SAVE_EVERY = 0.0  # so that a kill costs at most one frame


def main() -> None:
    """Run it. Arguments: input, output, work folder."""
    source, output, folder = map(Path, sys.argv[1:])
    options = ModelPreviewOptions(kind="turntable", frames=8, width=120, height=90)
    context = FileContext(
        options, work_dir=folder, input_file=source, output_file=output, checkpoint=last_checkpoint(folder)
    )
    run_handler(model_preview, context)
    print("finished", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
