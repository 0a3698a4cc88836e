"""Task types for the campaign of commands: nothing to do, anything to say, and one that stays until it is stopped."""

import os
import time
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

import msgspec
from wild import Wild

from tasktrail.events import Checkpoint
from tasktrail.handlers import Finished, Stopped, TaskContext, handler

Context: TypeAlias = TaskContext[Any]
pure: dict[str, Any] = {"needs_input": False, "needs_output": False, "grace": 0.2}


class Anything(msgspec.Struct, frozen=True, kw_only=True):
    """Whatever is given."""

    value: Any = None
    text: str = ""
    number: float = 0.0
    integer: int = 0
    seed: int = 0


class _Alive:
    """A file in the work folder while the attempt runs: the process id, and the space in which that is one."""

    def __init__(self, context: Context) -> None:
        self._path = context.work_dir / f"alive-{context.attempt}"

    def __enter__(self) -> None:
        self._path.write_text(f"{os.getpid()} {Path('/proc/self/ns/pid').readlink()}")

    def __exit__(self, *_: object) -> None:
        self._path.unlink(missing_ok=True)


@handler("absorb", options=Anything, resumable=True, **pure)
def absorb(context: Context) -> None:
    """Take anything and do nothing."""
    with _Alive(context):
        return


@handler("produce", options=Anything, resumable=True, **pure)
def produce(context: Context) -> Any:
    """Say anything, in every way that a handler has."""
    wild = Wild(Random(context.options.seed), python=True)
    with _Alive(context):
        match context.options.seed % 6:
            case 0:
                return wild.value()
            case 1:
                return {wild.text(): wild.value() for _ in range(3)}
            case 2:
                return Finished(result={"x": wild.value()}, message=wild.text())
            case 3:
                return Finished(result=wild.value(), message=wild.value())
            case 4:
                whole: Any = wild.integer()
                checkpoint = Checkpoint(processed_frames=whole, last_position=wild.number(), data={"x": wild.value()})
                context.save_checkpoint(checkpoint, progress=wild.number(), message=wild.text())
                return None
        context.progress(wild.number(), wild.text())
        raise RuntimeError(wild.text())


@handler("linger", options=Anything, resumable=True, **pure)
def linger(context: Context) -> Stopped:
    """Stay until somebody wants it to stop."""
    with _Alive(context):
        context.progress(1, "here")
        while not context.should_stop():
            time.sleep(0.02)
    return Stopped()
