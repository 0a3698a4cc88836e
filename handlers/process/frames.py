"""How an executor and its worker processes talk over a pipe, and what only those two say to each other.

On the pipe each message is one frame: four bytes of length, little-endian, then msgpack. What the Scheduler has a part
in as well is in `events/reports.py`.
"""

from typing import Any, TypeAlias

import msgspec

from ...events.reports import (
    AttemptBeat,
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProbed,
    AttemptProgressed,
    Frame,
    PublishWanted,
    Run,
    WorkerBound,
)
from .sandbox import Sandbox

MAX_REPORT = 1024 * 1024
"""Longest frame a worker may send, in bytes. Anything longer is taken for garbage."""


class AttemptBounded(Frame, frozen=True, tag="bounded"):
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


class AttemptUsed(Frame, frozen=True, tag="used"):
    """What the attempt's own process had used when it died without a word; its worker now ends the same way."""

    task_id: int
    attempt: int
    memory: int
    """Peak resident bytes."""
    cpu: float
    """Seconds."""


class Setup(Frame, frozen=True, tag="setup"):
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


class WorkerReady(Frame, frozen=True, tag="ready"):
    """First frame of a worker."""

    pid: int


class Retiring(Frame, frozen=True, tag="retiring"):
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
