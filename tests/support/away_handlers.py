"""Task types for tests of files elsewhere. Imported by workers, never by the product."""

import os
import time
from pathlib import Path
from typing import Any

import msgspec

from tasktrail.events import Checkpoint
from tasktrail.handlers import Finished, Rejected, Stopped, TaskContext, handler


class Making(msgspec.Struct, frozen=True, kw_only=True):
    text: str = ""
    size: int = 0
    folder: bool = False


@handler("copier", options=Making, needs_input=True, needs_output=True)
def copier(context: TaskContext[Making]) -> dict[str, Any]:
    """Write the input's bytes, with the additions of the options."""
    data = context.input_file.read_bytes() + context.options.text.encode() + b"\0" * context.options.size
    if context.options.folder:
        context.output_part.mkdir()
        (context.output_part / "one").write_bytes(data)
    else:
        context.output_part.write_bytes(data)
    return {"input": str(context.input_file), "name": context.output_file.name}


@handler("maker", options=Making, needs_input=False, needs_output=True)
def maker(context: TaskContext[Making]) -> None:
    """Write bytes that differ each time."""
    context.output_part.write_bytes(os.urandom(8) + b"\0" * context.options.size)


@handler("reader", needs_input=True, needs_output=False)
def reader(context: TaskContext[Any]) -> dict[str, Any]:
    """Return the input's text."""
    return {"text": context.input_file.read_text()}


@handler("glancer", needs_input=True, needs_output=False)
def glancer(context: TaskContext[Any]) -> None:
    """Read one byte of the input."""
    with context.input_file.open("rb") as file:
        file.read(1)


def _scribble(context: TaskContext[Any]) -> None:
    with context.input_file.open("r+b") as file:
        file.write(b"POISON")


@handler("scribbler", needs_input=True, needs_output=False)
def scribbler(context: TaskContext[Any]) -> None:
    """Change the input, although the type does not say so."""
    _scribble(context)


@handler("changer", needs_input=True, needs_output=False, steady_input=False)
def changer(context: TaskContext[Any]) -> None:
    """Change the input, as the type says."""
    _scribble(context)


@handler("resumer", needs_input=True, needs_output=False, resumable=True)
def resumer(context: TaskContext[Any]) -> Finished | Rejected | Stopped:
    """Save a checkpoint and wait for the end; the second time return what was saved."""
    if context.attempt > 1:
        told = context.checkpoint.last_position if context.checkpoint else -1.0
        return Finished(result={"position": told, "text": context.input_file.read_text()})
    context.save_checkpoint(Checkpoint(last_position=7.0), progress=50, message="saved")
    while not context.should_stop():
        time.sleep(0.01)
    return Stopped()


@handler("snoop", needs_input=True, needs_output=False)
def snoop(context: TaskContext[Any]) -> dict[str, Any]:
    """Return everything that an attempt finds: environment, open files, other processes, and what it may write."""
    found: list[str] = [str(os.environ), Path("/proc/self/environ").read_bytes().decode(errors="replace")]
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - numbers
        try:
            found.append(os.pread(int(name), 65536, 0).decode(errors="replace"))
        except OSError:
            continue
    for pid in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208 - as above
        for what in ("environ", "cmdline"):
            try:
                found.append(Path(f"/proc/{pid}/{what}").read_bytes().decode(errors="replace"))
            except OSError:
                continue
    try:
        context.input_file.write_text("changed")
        written = True
    except OSError:
        written = False
    return {"found": "canary" in "".join(found), "written": written}
