"""What the service and its workers say to each other, and how it travels.

The same Structs are the messages between an executor and the Scheduler. On a pipe each is one frame: four bytes of
length, little-endian, then msgpack. Every frame about an attempt carries its number, so that a late one can be told
from a current one.
"""

from typing import Any, Literal, TypeAlias

import msgspec

from ...events import Checkpoint
from ...events.task_events import Estimated
from .sandbox import Sandbox

AttemptEnd: TypeAlias = Literal["completed", "failed", "rejected", "stopped", "lost", "outgrown"]

MAX_REPORT = 1024 * 1024
"""Longest frame a worker may send, in bytes. Anything longer is taken for garbage."""


class _Frame(msgspec.Struct, frozen=True, array_like=True, tag_field="frame", gc=False):
    """Encoded as an array behind its tag; never part of a reference cycle, so the collector need not look."""


# --- orders: service to executor to worker -------------------------------------------------------------------------


class Run(_Frame, frozen=True, tag="run"):
    """Run a handler. Answered by exactly one `AttemptEnded`."""

    task_id: int
    attempt: int
    type: str
    input_file: str
    output_file: str
    options: dict[str, Any]
    checkpoint: Checkpoint | None
    work_dir: str
    """The task's own folder; made when it is needed."""
    overwrite: bool = False
    grace: float = 0.5
    """Seconds between `Stop` and the kill."""
    memory: int = 0
    """Bytes that were reserved. Here and below: 0 is unknown."""
    temp: int = 0
    """Bytes of temp space that were reserved, the unpublished output included."""
    seconds: float = 0.0
    """Expected run time."""
    probed: bool = False
    """Whether these figures come from a look into the input; then no other is taken."""
    beat: float = 0.0
    """Seconds between two `AttemptBeat`; 0: none are wanted."""
    expected: float = 0.0
    """Seconds that the sender of the task expects it to take."""


class Stop(_Frame, frozen=True, tag="stop"):
    """Somebody wants the attempt to end. After the attempt's grace its whole process tree is killed."""

    task_id: int
    attempt: int


class Grant(_Frame, frozen=True, tag="grant"):
    """The attempt is current: its output may be published now."""

    task_id: int
    attempt: int


class Saved(_Frame, frozen=True, tag="saved"):
    """The checkpoint reported last is durable."""

    task_id: int
    attempt: int


class TellHeld(_Frame, frozen=True, tag="tell_held"):
    """Say which attempts are in hand. Answered by one `AttemptsHeld` with the same number, behind all told before."""

    number: int


WorkerBound: TypeAlias = Run | Stop | Grant | Saved
Order: TypeAlias = WorkerBound | TellHeld


# --- reports: worker to executor to Scheduler ----------------------------------------------------------------------


class AttemptProgressed(_Frame, frozen=True, tag="progressed"):
    """How far the attempt is, 0 to 100. At most two a second."""

    task_id: int
    attempt: int
    progress: float
    message: str = ""


class AttemptBeat(_Frame, frozen=True, tag="beat"):
    """The attempt's worker is alive. Sent every `Run.beat` seconds, whatever the handler does."""

    task_id: int
    attempt: int


class AttemptCheckpointed(_Frame, frozen=True, tag="checkpointed"):
    """The attempt wants its resume data recorded and waits for `Saved`."""

    task_id: int
    attempt: int
    checkpoint: Checkpoint
    progress: float | None = None
    message: str = ""


class AttemptProbed(_Frame, frozen=True, tag="probed"):
    """A look into the input, before the handler was called, led to a better estimate."""

    task_id: int
    attempt: int
    estimate: Estimated


class AttemptBounded(_Frame, frozen=True, tag="bounded"):
    """What the attempt's process tree may use from now on. Said before anything of the input is read."""

    task_id: int
    attempt: int
    cpu: float
    """CPU seconds; 0: any."""
    cpu_per_probed: float
    """Times the seconds of `AttemptProbed`, where that is more."""
    cpu_before: float
    """CPU seconds that the worker had used by then, waited-for children included."""
    memory: int
    """Resident bytes; 0: any."""
    rule: str
    """Where the CPU seconds come from, in words."""


class AttemptUsed(_Frame, frozen=True, tag="used"):
    """What the attempt's own process had used when it died without a word; its worker now ends the same way."""

    task_id: int
    attempt: int
    memory: int
    """Peak resident bytes."""
    cpu: float
    """Seconds."""


class PublishWanted(_Frame, frozen=True, tag="publish"):
    """The output is complete under its hidden name; the attempt waits for `Grant`."""

    task_id: int
    attempt: int


class AttemptEnded(_Frame, frozen=True, tag="ended"):
    """The attempt is over: its process tree is gone, or its worker is idle again and has no child left.

    `lost` means that the worker died by itself; `error` then tells how. An attempt that was killed after `Stop` is
    `stopped`, one that found its estimate to be more than was reserved is `outgrown`.
    """

    task_id: int
    attempt: int
    outcome: AttemptEnd
    result: dict[str, Any] = {}
    message: str = ""
    error: str = ""
    error_type: str = ""
    memory_used: int = 0
    """Peak resident bytes. For a killed worker: of its own process only."""
    cpu_used: float = 0.0
    """CPU seconds, finished child processes included."""
    temp_used: int = 0
    """Bytes of temp files and unpublished output, the most that was there when the worker looked."""
    time_used: float = 0.0
    """Seconds from the call of the handler to its end."""
    exit_code: int | None = None
    """Of the worker that died, or of the tool that the handler's exception speaks of; negative: the signal."""


class WorkerExited(_Frame, frozen=True, tag="exited"):
    """A worker process is gone. Only to be shown; the attempt it ran has a report of its own."""

    pid: int
    exit_code: int
    """Negative: the signal that killed it."""
    why: str


class CapacityChanged(_Frame, frozen=True, tag="capacity"):
    """So many attempts can run at once from now on."""

    slots: int


class AttemptsHeld(_Frame, frozen=True, tag="held"):
    """The attempts in the executor's hands when it came to `TellHeld`: waiting, running, or being killed."""

    number: int
    attempts: tuple[tuple[int, int], ...]
    """Task and attempt."""


Report: TypeAlias = (
    AttemptProgressed
    | AttemptBeat
    | AttemptCheckpointed
    | AttemptProbed
    | PublishWanted
    | AttemptEnded
    | WorkerExited
    | CapacityChanged
    | AttemptsHeld
)


# --- between executor and worker only ------------------------------------------------------------------------------


class Setup(_Frame, frozen=True, tag="setup"):
    """First frame to a new worker."""

    homes: dict[str, str]
    """Task type → `module:attribute` of its handler."""
    rss_limit: int
    """Resident bytes after an attempt above which the worker asks to be replaced."""
    sandbox: Sandbox = Sandbox()
    output_root: str = ""
    """Folder where what attempts print is kept; empty: it is not."""
    max_output: int = 0
    """Bytes kept of each attempt."""


class WorkerReady(_Frame, frozen=True, tag="ready"):
    """First frame of a worker."""

    pid: int


class Retiring(_Frame, frozen=True, tag="retiring"):
    """The attempt is over but this worker must be replaced before its end may be told."""

    ended: AttemptEnded
    why: str
    """In words: "it left a thread"."""


WorkerOrder: TypeAlias = Setup | WorkerBound
WorkerReport: TypeAlias = (
    AttemptProgressed
    | AttemptBeat
    | AttemptCheckpointed
    | AttemptProbed
    | AttemptBounded
    | AttemptUsed
    | PublishWanted
    | AttemptEnded
    | WorkerReady
    | Retiring
)

_PREFIX = 4
_encoder = msgspec.msgpack.Encoder()
worker_order_decoder = msgspec.msgpack.Decoder(WorkerOrder)
worker_report_decoder = msgspec.msgpack.Decoder(WorkerReport)


class Unencodable(Exception):
    """A frame holds what cannot travel. Nothing of it was sent; the message says why."""


def encode(frame: Any) -> bytes:
    """The frame as it travels, length first. Raises Unencodable."""
    try:
        body = _encoder.encode(frame)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise Unencodable(str(error)) from error
    return len(body).to_bytes(_PREFIX, "little") + body


def unencodable(run: Run, error: Unencodable) -> AttemptEnded:
    """The end of an attempt that no worker can be told of. It is final: another one could not be told of, either."""
    told = f"The attempt cannot be handed to a worker: {error}. Create the task again with other options."
    return AttemptEnded(run.task_id, run.attempt, "rejected", error=told, error_type=Unencodable.__name__)


class GarbageFrame(Exception):
    """What came through a pipe is not a frame. The other side is broken and must be replaced."""


class FrameBuffer:
    """Cuts the bytes of a pipe into frames."""

    def __init__(self, decoder: "msgspec.msgpack.Decoder[Any]", limit: int | None = None) -> None:
        self._decode = decoder.decode
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[Any]:
        """The frames that are complete now. Raises GarbageFrame."""
        if self._rest:
            data = self._rest + data
        frames = []
        start, end = 0, len(data)
        while end - start >= _PREFIX:
            size = int.from_bytes(data[start : start + _PREFIX], "little")
            if self._limit is not None and size > self._limit:
                raise GarbageFrame(f"a frame of {size} bytes")
            stop = start + _PREFIX + size
            if stop > end:
                break
            frames.append(self._decode_one(data[start + _PREFIX : stop]))
            start = stop
        self._rest = data[start:]
        return frames

    def _decode_one(self, body: bytes) -> Any:
        try:
            return self._decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise GarbageFrame(str(error)) from error
