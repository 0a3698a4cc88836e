"""Task types for tests: well-behaved, broken, and hostile. Imported by workers, never by the product."""

import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from tasktrail.events import Checkpoint
from tasktrail.events.reports import AttemptEnded, AttemptProgressed
from tasktrail.handlers import Finished, Rejected, Stopped, TaskContext, Unusable, handler
from tasktrail.handlers.contract import abandon
from tasktrail.handlers.process.channel import Withdrawn, WorkerChannel, encode_frame

Context: TypeAlias = TaskContext[Any]
pure: dict[str, Any] = {"needs_input": False, "needs_output": False}


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Options of most types here."""

    value: Any = None
    shape: str = "plain"
    count: int = 1


# --- well-behaved --------------------------------------------------------------------------------------------------


@handler("traced", **pure)
def traced(context: Context) -> dict[str, str]:
    """Say which trace it, its process and a program that it starts belong to."""
    ask = "import os; print(os.environ.get('TRACEPARENT', ''), end='')"
    child = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    return {
        "context": context.traceparent,
        "environment": os.environ.get("TRACEPARENT", ""),
        "child": child.stdout,
    }


@handler("roomy", **pure)
def roomy(context: Context) -> dict[str, int]:
    """Say what it may take of the machine."""
    return {"cores": context.cores(), "memory": context.room.memory}


@handler("sharing", **pure)
def sharing(context: Context) -> Stopped:
    """Say, until it is stopped, how many CPUs it may keep busy, whenever that changes."""
    said = 0
    while not context.should_stop():
        if (cores := context.cores()) != said:
            said = cores
            context.progress(0, f"{cores} CPUs")
        time.sleep(0.005)
    return Stopped()


@handler("noop", **pure)
def noop(_context: Context) -> None:
    """Do nothing."""


@handler("echo", options=Wish, **pure)
def echo(context: Context) -> Finished:
    """Answer with what it was given."""
    context.progress(100, "done")
    checkpoint = context.checkpoint
    return Finished(
        result={"value": context.options.value, "frames": checkpoint.processed_frames if checkpoint else None},
        message="echoed",
    )


@handler("tell", options=Wish, **pure)
def tell(context: Context) -> None:
    """Print the value; with the shape, go on until asked to stop."""
    print(context.options.value)
    while context.options.shape == "and wait" and not context.should_stop():
        time.sleep(0.005)


@handler("write", options=Wish, needs_input=False, needs_output=True)
def write(context: Context) -> dict[str, int]:
    """Write the value into the output."""
    text = str(context.options.value)
    context.output_part.write_text(text)
    return {"size": len(text)}


@handler("shout", options=Wish, needs_input=True, needs_output=True, output_suffix=".loud")
def shout(context: Context) -> dict[str, int]:
    """Write the input in capitals. What holds `broken` is refused, and `flaky` fails."""
    text = context.input_file.read_text()
    if "broken" in text:
        raise Unusable(f"{context.input_file.name} is broken")
    if "flaky" in text:
        raise RuntimeError("not this time")
    context.output_part.write_text(text.upper())
    return {"size": context.output_part.stat().st_size}


def _why_not(context: Context, _result: Mapping[str, Any]) -> str:
    text = context.output_part.read_text()
    if "torn" in text:
        raise Unusable("the result is torn")
    return "the result is precious" if "precious" in text else ""


@handler("squeeze", needs_input=True, needs_output=True, check_result=_why_not)
def squeeze(context: Context) -> dict[str, int]:
    """Write each run of equal letters as one letter."""
    text = context.input_file.read_text()
    context.output_part.write_text("".join(one for one, before in zip(text, " " + text, strict=False) if one != before))
    return {"size": context.output_part.stat().st_size}


@handler("no_output", needs_input=False, needs_output=True)
def no_output(_context: Context) -> None:
    """Say done without having written."""


@handler("save", options=Wish, resumable=True, **pure)
def save(context: Context) -> dict[str, int]:
    """Save as many checkpoints as asked for."""
    for number in range(context.options.count):
        context.progress(number, "at work")
        context.save_checkpoint(Checkpoint(processed_frames=number + 1), progress=float(number))
    return {"saved": context.options.count}


@handler("chatter", options=Wish, **pure)
def chatter(context: Context) -> None:
    """Report progress far too often."""
    for number in range(context.options.count):
        context.progress(number * 100 / context.options.count, f"step {number}")
    context.progress(100, "last")


@handler("patient", **pure)
def patient(context: Context) -> Stopped:
    """Work until asked to stop."""
    context.progress(0, "waiting")
    while not context.should_stop():
        time.sleep(0.005)
    return Stopped()


@handler("temp", **pure)
def temp(context: Context) -> dict[str, Any]:
    """Make a temp file."""
    path = context.temp_file("frame-", ".png")
    return {"path": str(path), "there": path.exists(), "tmpdir": os.environ.get("TMPDIR")}


@handler("environment", **pure)
def environment(_context: Context) -> dict[str, str]:
    """Answer with the environment."""
    return dict(os.environ)


@handler("hog", options=Wish, **pure)
def hog(context: Context) -> dict[str, int]:
    """Use memory and CPU for a moment."""
    block = bytearray(context.options.count)
    spun = sum(range(2_000_000))
    return {"pid": os.getpid(), "reaper": os.getppid(), "size": len(block), "spun": spun}


_held: list[bytes] = []


@handler("grow", options=Wish, **pure)
def grow(context: Context) -> dict[str, int]:
    """Leave so many bytes more behind each time."""
    _held.append(b"x" * context.options.count)
    return {"held": len(_held)}


_loaded: list[bytes] = []


@handler("library", options=Wish, **pure)
def library(context: Context) -> None:
    """Load something large the first time, as a library that stays."""
    if not _loaded:
        _loaded.append(b"x" * context.options.count)


@handler("tool", **pure)
def tool(context: Context) -> None:
    """Let a tool work that knows nothing of us, only of SIGTERM."""
    with subprocess.Popen(["sleep", "600"]) as process:
        context.progress(0, str(process.pid))
        if process.wait():
            raise OSError(f"the tool ended with {process.returncode}")


@handler("pool", options=Wish, **pure)
def pool(context: Context) -> Stopped:
    """Have processes of the given kind work on one item. Save what they made of it when a stop has ended a tool."""
    kind: Any = multiprocessing.get_context(context.options.shape)
    with kind.Pool(1) as workers, subprocess.Popen(["sleep", "600"]) as process:
        here, go = context.temp_file("here-", ""), context.temp_file("go-", "")
        go.unlink()
        made = workers.map_async(_item, [(str(here), str(go))])
        while not here.read_text():
            time.sleep(0.005)
        context.progress(0, "at an item")
        code = process.wait()
        go.write_text("go")
        context.save_checkpoint(Checkpoint(data={"made": made.get(), "tool": code}))
    return Stopped()


def _item(paths: tuple[str, str]) -> str:
    here, go = map(Path, paths)
    here.write_text("here")
    while not go.exists():
        time.sleep(0.005)
    return "done"


# --- broken --------------------------------------------------------------------------------------------------------


@handler("answer", options=Wish, **pure)
def answer(context: Context) -> Any:
    """Return whatever is asked for."""
    answers: dict[str, Any] = {
        "number": 42,
        "object": {"x": object()},
        "path": {"x": Path("/")},
        "huge": {"x": "x" * 100_000},
        "surrogate": {"x": "\udc80"},
        "integer": {"x": 10**20},
        "unsigned": {"x": 2**63},
        "nan": {"x": float("nan")},
        "deep": {"x": _nested(40)},
        "stopped": Stopped(),
        "rejected": Rejected(reason="not a picture"),
        "list": Finished(result=[1]),  # type: ignore[arg-type] # on purpose
    }
    return answers[context.options.shape]


def _nested(depth: int) -> list[Any]:
    return [_nested(depth - 1)] if depth else []


@handler("bare", options=Wish, **pure)
def bare(_context: Context) -> dict[str, int]:
    """End by a result that nobody has looked at: what slips past the check must not cost the worker its life."""
    attempt: Any = sys.modules["tasktrail.handlers.process.attempt"]
    attempt._plain_result = lambda result: result
    return {"x": 10**20}


@handler("raise", options=Wish, **pure)
def raise_(context: Context) -> None:
    """Raise what is asked for."""

    class BrokenText(Exception):
        def __str__(self) -> str:
            raise RuntimeError("even this")

    errors: dict[str, BaseException] = {
        "value": ValueError("no such codec"),
        "long": ValueError("x" * 100_000),
        "surrogate": ValueError("file \udcff"),
        "empty": KeyError(),
        "exit": SystemExit(3),
        "interrupt": KeyboardInterrupt(),
        "text": BrokenText(),
    }
    if context.options.shape == "library":
        Path("/no/such/file").read_text()
    raise errors[context.options.shape]


@handler("abandons", **pure)
def abandons(_context: Context) -> None:
    """Keep something that cannot be freed."""
    abandon(object())


@handler("late", **pure)
def late(context: Context) -> None:
    """Leave a thread that goes on talking."""
    threading.Thread(target=_talk_on, args=(context,), daemon=True).start()


def _talk_on(context: Context) -> None:
    while True:
        context.save_checkpoint(Checkpoint())


@handler("flood", **pure)
def flood(_context: Context) -> dict[str, int]:
    """Print far more than a pipe holds, to both streams."""
    for _ in range(100):
        print("o" * 10_000)
        print("e" * 10_000, file=sys.stderr)
    os.system("head -c 1000000 /dev/zero")
    return {"printed": 3_000_000}


# --- hostile -------------------------------------------------------------------------------------------------------


@handler("die", options=Wish, **pure)
def die(context: Context) -> None:
    """End the whole worker."""
    context.progress(1, "dying")
    match context.options.shape:
        case "exit":
            print("last words", file=sys.stderr, flush=True)
            os._exit(7)
        case "abort":
            os.abort()
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "spin":  # not yet
            while time.process_time() < 0.3:
                pass


@handler("deaf", options=Wish, grace=0.2, **pure)
def deaf(context: Context) -> None:
    """Ignore every wish to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    context.progress(0, str(os.getpid()))
    while True:
        time.sleep(0.05)


@handler("hang", **pure)
def hang(context: Context) -> None:
    """Stop the own process, as a debugger would."""
    context.progress(0, str(os.getpid()))
    os.kill(os.getpid(), signal.SIGSTOP)


@handler("garbage", options=Wish, **pure)
def garbage(context: Context) -> None:
    """Write nonsense into the report pipe."""
    nonsense = {
        "noise": b"\x05\x00\x00\x00\xff\xff\xff\xff\xff",
        "huge": b"\xff\xff\xff\x7f" + b"x" * 100,
        "wrong": encode_frame(AttemptProgressed(context.task_id, context.attempt + 1, 5.0)),
        "unsigned": encode_frame(AttemptEnded(context.task_id, context.attempt, "completed", {"x": 2**63})),
        "nan": encode_frame(AttemptProgressed(context.task_id, context.attempt, float("nan"))),
    }
    os.write(int(sys.argv[4]), nonsense.get(context.options.shape, nonsense["noise"]))
    while context.options.shape != "once":
        time.sleep(0.05)


@handler("forge", options=Wish, **pure)
def forge(context: Context) -> None:
    """Speak for the worker, and for the attempt behind this one."""
    channel = next(one for one in gc.get_objects() if isinstance(one, WorkerChannel))
    ends = [AttemptEnded(context.task_id + more, 1, "completed", {"value": "forged"}) for more in range(2)]
    context.progress(0, "forging")
    first = Withdrawn(1, 1) if context.options.shape == "withdrawn" else ends[1]
    channel.send_raw(b"".join(map(encode_frame, (first, *ends))))
    while True:
        time.sleep(0.05)


@handler("note", options=Wish, **pure)
def note(context: Context) -> None:
    """Add a line to a file."""
    with Path(context.options.value).open("a") as file:
        file.write(f"{context.task_id}\n")


@handler("fork", **pure)
def fork(_context: Context) -> None:
    """Fork, and return twice."""
    os.fork()


@handler("terminate", **pure)
def terminate(_context: Context) -> dict[str, int | None]:
    """Fork a process that would never end, and end it as `multiprocessing.Pool` ends those of its own."""
    forking = multiprocessing.get_context("fork")
    ours, its = forking.Pipe(duplex=False)
    process = forking.Process(target=_tell_and_wait, args=(its,))
    process.start()
    ours.recv()
    process.terminate()
    process.join()
    return {"exit code": process.exitcode}


def _tell_and_wait(its: Connection) -> None:
    its.send("here")
    while True:
        signal.pause()


_DAEMON = """
import os, sys, time
if os.fork(): os._exit(0)
os.setsid()
if os.fork(): os._exit(0)
print(os.getpid(), flush=True)
os.closerange(0, 3)
time.sleep(600)
"""


@handler("parent", options=Wish, grace=0.2, **pure)
def parent(context: Context) -> None:
    """Start children of the asked shape, say their pids, and hang on to them."""
    context.progress(0, json.dumps([os.getpid(), os.getppid(), *children(context.options)]))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(0.05)


@handler("leave", options=Wish, **pure)
def leave(context: Context) -> dict[str, Any]:
    """Start children of the asked shape and end without them."""
    return {"pids": [os.getpid(), *children(context.options)]}


def children(options: Wish) -> list[int]:
    """Process ids of the children, and of theirs."""
    pids: list[int] = []
    for _ in range(options.count):
        pids += _child(options.shape)
    return pids


def _child(shape: str) -> list[int]:
    if shape == "daemon":
        return [int(subprocess.run([sys.executable, "-c", _DAEMON], stdout=subprocess.PIPE, check=True).stdout)]
    script = {
        "plain": "echo; exec sleep 600",
        "deaf": "trap '' TERM; echo; while :; do sleep 600; done",
        "session": "echo; exec sleep 600",
        "grandchild": "sleep 600 & echo $!; wait",
        "bare": "sleep 600 & echo $!; wait",
    }[shape]
    process = subprocess.Popen(
        ["/bin/sh", "-c", script],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=shape in ("session", "grandchild", "bare"),
        env={} if shape == "bare" else None,
    )
    assert process.stdout is not None
    return [process.pid, *map(int, process.stdout.readline().split())]
