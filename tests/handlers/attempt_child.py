"""Runs one attempt of any type in a separate process, with the checkpoint in a file. `run_attempt` starts it."""

import os
import sys
from pathlib import Path

import msgspec
from file_context import FileContext, last_checkpoint

from tasktrail.handlers.contract import resolve
from tasktrail.testing import run_handler, task_type_of


def peak() -> int:
    """Return the peak of resident memory in bytes. Not from getrusage, whose figure begins with that of the parent."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def main() -> None:
    """Run it. Arguments: the handler as `module:name`, its options as JSON, input, output, work folder."""
    home, given = sys.argv[1:3]
    source, output, folder = map(Path, sys.argv[3:])
    handler = resolve(home)
    options = msgspec.json.decode(given, type=task_type_of(handler).options)
    checkpoint = last_checkpoint(folder)
    context = FileContext(options, work_dir=folder, input_file=source, output_file=output, checkpoint=checkpoint)
    outcome = run_handler(handler, context)
    print("peak", peak(), flush=True)
    print("ended", type(outcome).__name__, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
