"""Task types for tests of limits: each reaches one. Imported by workers, never by the product."""

import mmap
import os
import resource
import signal
import subprocess
import sys
import time
from typing import Any

import msgspec

from tasktrail.events import Checkpoint
from tasktrail.handlers import Bounds, Estimate, Job, Stopped, TaskContext, Unusable, handler

BOUND: dict[str, int] = {
    "memory": resource.RLIMIT_AS,
    "cpu": resource.RLIMIT_CPU,
    "file": resource.RLIMIT_FSIZE,
    "open": resource.RLIMIT_NOFILE,
}


class Size(msgspec.Struct, frozen=True, kw_only=True):
    bytes: int = 0


def _guess(_job: Job[Any]) -> Estimate:
    return Estimate(memory=1_000_000, temp=1_000_000, seconds=1.0)


def _told() -> dict[str, int]:
    return {name: resource.getrlimit(kind)[0] for name, kind in BOUND.items()}


@handler("bound", estimate=_guess, needs_input=False, needs_output=False)
def bound(_context: TaskContext[Any]) -> dict[str, int]:
    """Return the soft limits, and the size of a core file."""
    return {**_told(), "core": resource.getrlimit(resource.RLIMIT_CORE)[1]}


@handler("unbound", needs_input=False, needs_output=False, limits=False)
def unbound(_context: TaskContext[Any]) -> dict[str, int]:
    """Return the same, for a type that wants no limits."""
    return _told()


@handler("balloon", options=Size, needs_input=False, needs_output=False)
def balloon(context: TaskContext[Size]) -> dict[str, int]:
    """Take memory."""
    return {"size": len(bytearray(context.options.bytes))}


@handler("flood", options=Size, estimate=_guess, needs_input=False, needs_output=True)
def flood(context: TaskContext[Size]) -> None:
    """Write one byte far out in the output; the hole before it counts for the limit, and fills no disk."""
    with context.output_part.open("wb") as file:
        file.seek(context.options.bytes)
        file.write(b"x")


@handler("spin", estimate=_guess, needs_input=False, needs_output=False)
def spin(_context: TaskContext[Any]) -> None:
    """Use CPU time until the kernel ends the process; the limit is lowered, because the real one takes too long."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    while True:
        sum(range(100_000))


@handler("abort", needs_input=False, needs_output=False)
def abort(_context: TaskContext[Any]) -> None:
    """End as a C++ library does when it is refused memory."""
    os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'\n")
    os.kill(os.getpid(), signal.SIGABRT)


@handler("mapper", options=Size, needs_output=False, needs_input=True)
def mapper(context: TaskContext[Size]) -> int:
    """Map the input (with `bytes` a file of its own), which is then cut, so that the mapped bytes are gone."""
    path = context.input_file
    if context.options.bytes:
        path = context.temp_file("mapped-")
        path.write_bytes(bytes(context.options.bytes))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        os.truncate(path, 0)
        return mapped[0]


@handler("cutter", resumable=True, needs_input=True, needs_output=True)
def cutter(context: TaskContext[Any]) -> dict[str, bool]:
    """Copy the input, which the test cuts in the middle of the first attempt, once there is a checkpoint."""
    text = context.input_file.read_bytes()
    if context.attempt == 1:
        context.save_checkpoint(Checkpoint(processed_bytes=len(text)))
        while context.input_file.stat().st_size == len(text) and not context.should_stop():
            time.sleep(0.005)
    context.output_part.write_bytes(text)
    return {"resumed": context.checkpoint is not None}


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    memory: int = 0
    temp: int = 0
    unusable: bool = False


def _look(job: Job[Wanted]) -> Estimate:
    options = job.options
    if options.unusable:
        raise Unusable(f"nothing can be done with {job.input_file.name}")
    return Estimate(memory=options.memory, temp=options.temp, seconds=2.5, basis={"size": job.input_size})


@handler("looker", options=Wanted, estimate=_guess, probe=_look, needs_input=True, needs_output=True)
def looker(context: TaskContext[Wanted]) -> dict[str, int]:
    """Copy the input, after a probe of it; return the memory limit."""
    context.output_part.write_bytes(context.input_file.read_bytes())
    return _told()


@handler("hoarder", options=Size, estimate=_guess, needs_input=False, needs_output=False)
def hoarder(context: TaskContext[Size]) -> Stopped:
    """Put temp files into the work folder and wait to be stopped."""
    context.temp_file("hoard-").write_bytes(bytes(context.options.bytes))
    context.progress(50, "hoarded")
    while not context.should_stop():
        time.sleep(0.005)
    return Stopped()


@handler("digger", needs_input=False, needs_output=False)
def digger(context: TaskContext[Any]) -> Stopped:
    """Make folders in folders, too deep to be traversed, and wait to be stopped."""
    context.work_dir.joinpath(*["d"] * 150).mkdir(parents=True)
    while not context.should_stop():
        time.sleep(0.005)
    return Stopped()


@handler("turner", needs_output=True, needs_input=True)
def turner(context: TaskContext[Any]) -> None:
    """Write an output into a folder that then turns into a link to another."""
    folder = context.output_file.parent
    context.output_part.write_text("secret")
    folder.rename(folder.with_name("moved"))
    folder.symlink_to(folder.parent.parent / "elsewhere")
    part = folder / context.output_part.name
    part.write_text("secret")


TIGHT = Bounds(cpu_seconds=0.5, cpu_per_expected=0.0, memory_floor=80_000_000, memory_factor=1.0)
_BURN = "while True: sum(range(100_000))"


def _burn() -> None:
    exec(_BURN)


@handler("burner", needs_input=False, needs_output=False, bounds=TIGHT)
def burner(_context: TaskContext[Any]) -> None:
    """Use CPU time."""
    _burn()


@handler("parent", needs_input=False, needs_output=False, bounds=TIGHT)
def parent(_context: TaskContext[Any]) -> None:
    """Let a child process use CPU time."""
    subprocess.run([sys.executable, "-S", "-c", _BURN], check=True)


@handler("succession", needs_input=False, needs_output=False, bounds=TIGHT)
def succession(_context: TaskContext[Any]) -> None:
    """Run one child process after another, each using so little CPU time that it counts for nothing alone."""
    while True:
        subprocess.run([sys.executable, "-S", "-c", "sum(range(1_000_000))"], check=True)


@handler("hungry", needs_input=False, needs_output=False, bounds=TIGHT)
def hungry(_context: TaskContext[Any]) -> None:
    """Let a child process hold memory."""
    hold = "held = bytearray(b'x') * 150_000_000; print(len(held), flush=True); input()"
    with subprocess.Popen([sys.executable, "-S", "-c", hold], stdin=subprocess.PIPE) as process:
        process.wait()


@handler("free_burner", needs_input=False, needs_output=False)
def free_burner(_context: TaskContext[Any]) -> None:
    """Use CPU time, in a type that declares nothing about it."""
    _burn()


@handler("worded", needs_input=False, needs_output=False, bounds=TIGHT)
def worded(_context: TaskContext[Any]) -> None:
    """Call the input damaged, because a library reported that it was out of memory."""
    try:
        raise RuntimeError("unable to copy to memory\n  vips_tracked: out of memory -- size == 1144MB")
    except RuntimeError as error:
        raise Unusable("in.png is damaged") from error


@handler("cursing", needs_input=False, needs_output=False, bounds=TIGHT)
def cursing(_context: TaskContext[Any]) -> None:
    """End as the C library does when it finds the heap broken."""
    os.write(2, b"free(): invalid pointer\n")
    os.kill(os.getpid(), signal.SIGABRT)


@handler("trapped", options=Size, needs_input=False, needs_output=False, bounds=TIGHT)
def trapped(context: TaskContext[Size]) -> None:
    """End as PDFium does when it is refused memory: by a trap, without a message."""
    held = bytearray(b"x") * context.options.bytes
    os.kill(os.getpid(), signal.SIGTRAP)
    del held
