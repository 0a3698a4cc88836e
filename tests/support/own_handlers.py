"""Task types as a user may write them: with `async def`, and without declaring paths."""

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import msgspec

from tasktrail.events import Checkpoint
from tasktrail.handlers import Estimate, Finished, Stopped, TaskContext, handler


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Options."""

    how: str = "gather"


@handler("plain")
def plain(context: TaskContext[Any]) -> dict[str, Any]:
    """Return what it was given; write it to the output, if there is one."""
    given = {"input": str(context.input_file), "output": str(context.output_file)}
    if context.input_file != Path():
        given["read"] = context.input_file.read_text()
    if context.output_file.suffix == ".txt":
        context.output_part.write_text("written")
    return given


@handler("scalable", estimate=lambda job: Estimate(memory=10_000_000 * job.room.cores))
def scalable(context: TaskContext[Any]) -> dict[str, Any]:
    """Return what it may take of the machine."""
    return {"cores": context.room.cores, "memory": context.room.memory}


@handler("surrounded")
def surrounded(_context: TaskContext[Any]) -> dict[str, Any]:
    """Return its environment."""
    return dict(os.environ)


@handler("pathless", needs_folder=False)
def pathless(context: TaskContext[Any]) -> dict[str, Any]:
    """Return the same, in a process that is kept."""
    return plain(context)


@handler("waiter", options=Wait, resumable=True)
async def waiter(context: TaskContext[Wait]) -> Finished | Stopped | None:
    """Wait, in one of several ways."""
    print("begun")
    match context.options.how:
        case "gather":
            context.progress(50, "half")
            numbers = await asyncio.gather(*(_number(number) for number in range(3)))
            child = await asyncio.create_subprocess_exec(sys.executable, "-c", "print('from a child')")
            return Finished(result={"numbers": numbers, "child": await child.wait()})
        case "fail":
            await _number(-1)
        case "for ever":
            try:
                await asyncio.Event().wait()
            finally:
                print("tidied up")
        case "answer":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                context.save_checkpoint(Checkpoint(processed_frames=7))
                return Finished(result={"done": "all the same"})
        case "ask":
            while not context.should_stop():  # noqa: ASYNC110 - it is asked while it waits
                await asyncio.sleep(0)
            await asyncio.sleep(0.2)
            print("not cancelled")
            return Stopped()
        case "cancelled by itself":
            raise asyncio.CancelledError
    return None


@handler("waiting_class", options=Wait)
class WaitingClass:
    """A class whose call is a coroutine."""

    async def __call__(self, _context: TaskContext[Wait]) -> dict[str, int]:
        """Wait a little."""
        return {"number": await _number(4)}


@handler("generating")
async def generating(_context: TaskContext[Any]) -> Any:
    """Yield, so that it is not a handler."""
    yield 1


async def _number(number: int) -> int:
    await asyncio.sleep(0)
    if number < 0:
        raise ValueError(f"{number} is below zero")
    return number
