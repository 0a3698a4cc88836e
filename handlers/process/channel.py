"""The pipe between an executor and its worker processes, and the messages that only these two exchange.

On the pipe each message is one frame: four bytes of length, little-endian, then msgpack. Messages that also concern the
Scheduler are in `events/reports.py`.
"""

import os
import select
import time
from collections import deque
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from threading import Lock, Thread
from typing import Any, Literal, NoReturn, TypeAlias

import msgspec

from ...events.reports import (
    AttemptBeat,
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProbed,
    AttemptProgressed,
    Frame,
    Grant,
    PublishWanted,
    Run,
    Saved,
    Stop,
    WorkerBound,
)
from ..contract import ONE_CORE, Room
from ..manifests import Claims
from .sandbox import Sandbox

IoRank: TypeAlias = Literal["normal", "low", "idle"]

MAX_REPORT = 1024 * 1024
"""Longest frame that a worker may send, in bytes. Anything longer counts as garbage."""


class AttemptBounded(Frame, frozen=True, tag="bounded"):
    """The bounds of the attempt's process tree from now on. Sent before anything of the input is read."""

    task_id: int
    attempt: int
    cpu: float
    """CPU seconds; 0: no bound."""
    cpu_per_probed: float
    """Factor for the seconds of `AttemptProbed`; the product replaces `cpu` if it is larger."""
    cpu_before: float
    """CPU seconds that the worker had used by then, including children that it waited for."""
    memory: int
    """Resident bytes; 0: no bound."""
    rule: str
    """The reason for the CPU seconds, in words."""


class AttemptUsed(Frame, frozen=True, tag="used"):
    """The resources that the attempt's own process used before it died without a report. Its worker now dies, too."""

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
    """Resident bytes. If the worker has more after an attempt, it asks to be replaced."""
    sandbox: Sandbox = Sandbox()
    output_root: str = ""
    """Folder where the output of attempts is kept; empty: it is not kept."""
    max_output: int = 0
    """Bytes kept of each attempt."""
    nice: int = 0
    """Added to the worker's niceness."""
    io: IoRank = "normal"
    """Rank of its disk accesses: low, after those of other programs; idle, only while no other program has any
    (Linux)."""
    room: Room = ONE_CORE
    """The share of the machine that an attempt may take when it runs alone."""
    claims: Claims | None = None
    """The certificates and key that sign manifests of outputs; None: outputs get none."""
    hash_up_to: int = 0
    """Bytes up to which the input of any task is hashed."""


class Begun(Frame, frozen=True, tag="begun"):
    """The kept process was given this run directly, and begins it by itself."""

    task_id: int
    attempt: int


class CoresChanged(Frame, frozen=True, tag="cores"):
    """The number of CPUs that the attempt may keep busy from now on. Sent only on the control pipe."""

    task_id: int
    attempt: int
    cores: int


class Look(Frame, frozen=True, tag="look"):
    """There is a run on the job pipe. Sent on the control pipe to a worker whose last run was given directly."""


class Withdraw(Frame, frozen=True, tag="withdraw"):
    """Begin no more runs up to number `runs`, counted from the worker's first. Sent on the control pipe."""

    runs: int


class Withdrawn(Frame, frozen=True, tag="withdrawn"):
    """The answer to `Withdraw`: `begun` runs were begun; the others up to `runs` will not be."""

    runs: int
    begun: int


class SignatureWanted(Frame, frozen=True, tag="signature_wanted"):
    """A sandboxed attempt asks its worker to sign the manifest of its output."""

    task_id: int
    attempt: int
    content: bytes


class Signature(Frame, frozen=True, tag="signature"):
    """The answer to `SignatureWanted`."""

    task_id: int
    attempt: int
    signature: bytes
    """Empty: not signed."""


class WorkerReady(Frame, frozen=True, tag="ready"):
    """First frame of a worker."""

    pid: int


class Kept(Frame, frozen=True, tag="kept"):
    """A process waits for the next attempt of this type that works on no file. Sent before the last attempt's end."""

    type: str
    """Empty: no process is kept any more."""


class Retiring(Frame, frozen=True, tag="retiring"):
    """The attempt is over, but this worker must be replaced before the end is reported."""

    ended: AttemptEnded
    why: str
    """In words, such as "it left a thread"."""


WorkerOrder: TypeAlias = Setup | Begun | CoresChanged | Look | Withdraw | WorkerBound
_Report: TypeAlias = (
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
WorkerReport: TypeAlias = _Report | Kept | Withdrawn

_PREFIX = 4
_encoder = msgspec.msgpack.Encoder()
worker_order_decoder = msgspec.msgpack.Decoder(WorkerOrder)
worker_report_decoder = msgspec.msgpack.Decoder(WorkerReport)
attempt_order_decoder = msgspec.msgpack.Decoder(WorkerOrder | Signature)
"""For what a worker sends to its sandboxed attempt, which has no other connection."""
attempt_report_decoder = msgspec.msgpack.Decoder(_Report | SignatureWanted)
"""For what a sandboxed attempt sends to its worker, which passes on what is meant for the service."""


DIRECTLY = 4096
"""Bytes of the longest frame that is written whole or not at all. A longer run goes through the worker."""


def works_on_no_file(run: Run) -> bool:
    """Whether the run names no file, so that the process kept for its type may run it."""
    return not (run.input_file or run.output_file or run.original_folder) and run.original == "keep"


class Unencodable(Exception):
    """A frame holds values that cannot be encoded. Nothing of it was sent; the message says why."""


def encode_frame(frame: Any) -> bytes:
    """Encode a frame, with its length first. Raises Unencodable."""
    try:
        body = _encoder.encode(frame)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise Unencodable(str(error)) from error
    return len(body).to_bytes(_PREFIX, "little") + body


class GarbageFrame(Exception):
    """The bytes from a pipe are not a frame. The sender is broken and must be replaced."""


class FrameBuffer:
    """Cuts the bytes of a pipe into frames."""

    def __init__(self, decoder: "msgspec.msgpack.Decoder[Any]", limit: int | None = None) -> None:
        self._decode = decoder.decode
        self._limit = limit
        self._rest = b""

    def feed(self, data: bytes) -> list[Any]:
        """The frames that are now complete. Raises GarbageFrame."""
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


# --- the worker's ends of its pipes ---------------------------------------------------------------------------------


_CHUNK = 32768


class ServiceGone(BaseException):
    """The other end of the pipes is closed. Not an Exception, so that no handler catches it by mistake."""


def _read(fd: int) -> bytes:
    """Read what is there, or wait for it. Raises ServiceGone."""
    if data := os.read(fd, _CHUNK):
        return data
    raise ServiceGone


class WorkerChannel:
    """Implements `Link` on three pipes.

    The thread that waits reads the job pipe: the main loop for `Run`, the handler's thread for `Saved` and `Grant`. No
    other thread takes part, which spares a hand-over for each attempt. Only `Stop`, `CoresChanged` and `Withdraw` must
    be seen while the handler works. They come on the control pipe, where a thread waits for them; `Stop` comes on both.
    `Look` comes there, too, and only wakes the worker.

    A process that is kept for several attempts gets runs from the worker on its job pipe, and from the service on
    `direct`.
    """

    def __init__(self, job: int, control: int, report: int, direct: int = -1) -> None:
        self._job = job
        self._direct = direct
        self._giving = select.poll() if direct >= 0 else None
        if self._giving is not None:
            self._giving.register(job, select.POLLIN)
            self._giving.register(direct, select.POLLIN)
        self._control = control
        self._report = report
        self._sending = Lock()
        self._orders: deque[Any] = deque()
        self._runs: deque[Run | Begun] = deque()
        """Runs that were given ahead and have not begun."""
        self._taken = self._begun = self._withdrawn = 0
        """Numbers of runs, counted from the first: the last one taken out of `_runs`, begun, withdrawn."""
        self._beginning = Lock()
        self._on_stop: Callable[[], None] = lambda: None
        self._buffer = FrameBuffer(attempt_order_decoder)
        self._direct_buffer = FrameBuffer(attempt_order_decoder)
        self._control_buffer = FrameBuffer(worker_order_decoder)
        self._current = (0, 0)
        self._grace = 0.0
        self._stopped = (0, 0)
        self._given_cores = 0
        self._changed_cores = CoresChanged(0, 0, 0)
        """The last change, which may come before its run has been read."""
        self._bell, self._bell_rope = os.pipe()
        self._timer: tuple[float, Callable[[], None]] | None = None
        self._beat = 0.0
        """Seconds between two beats of the current attempt; 0: none."""
        self._beat_wanted = 0.0
        """The same, even while no thread gives the beats."""
        self._next_beat = 0.0
        self._listening = False

    def start(self) -> Setup:
        """Wait for the first frame."""
        setup: Setup = self._next_order()
        return setup

    def listen(self, on_stop: Callable[[], None] = lambda: None) -> None:
        """Start a thread that listens for `Stop`. It calls `on_stop`, and no other attempt begins during that call."""
        self._listening = True
        self._on_stop = on_stop
        Thread(target=self._listen, name="control", daemon=True).start()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Listen in a thread while the context lasts. For callers without `listen` that move bytes or wait for a disk.

        Do not fork meanwhile: the copy would have a copy of a lock that the thread holds. A child that runs another
        program at once may be started.
        """
        if self._listening:
            yield
            return
        self._listening = True
        thread = Thread(target=self._listen, name="control", daemon=True)
        try:
            thread.start()
        except BaseException:
            self._listening = False
            raise
        self._begin_to_beat()
        try:
            yield
        finally:
            self._listening, self._beat = False, 0.0
            os.write(self._bell_rope, b"x")
            thread.join()

    def ends(self) -> tuple[int, int]:
        """The descriptors to wait for before `orders`, for callers that wait themselves instead of calling `listen`."""
        return self._job, self._control

    def has_run(self) -> bool:
        """Whether `next_run` has something to read."""
        return bool(self._runs) or bool(select.select([self._job], [], [], 0)[0])

    def waiting(self) -> bool:
        """Whether orders for the attempt have been read but not taken yet."""
        return bool(self._orders)

    def orders(self, ready: Container[int]) -> list[Any]:
        """The orders that have come for the attempt, each once. Raises ServiceGone."""
        orders = []
        if self._control in ready:
            received = self._control_buffer.feed(_read(self._control))
            orders = [order for order in received if type(order) in (CoresChanged, Withdraw)]
        if self._job in ready:
            self._read_orders()
        orders += [order for order in self._orders if (order.task_id, order.attempt) == self._current]
        self._orders.clear()
        for order in orders:
            self._note(order)
        return orders

    def send_raw(self, data: bytes) -> None:
        """Write bytes as they are."""
        with self._sending:
            self._write(data)

    def close(self) -> None:
        """Close our ends, in a forked process that has its own pipes."""
        for fd in (self._job, self._control, self._report, self._bell, self._bell_rope):
            os.close(fd)

    def await_end(self) -> NoReturn:
        """Take no more runs, and wait until the service is gone. Raises ServiceGone."""
        while True:
            self._read_orders()

    def next_run(self) -> Run | Begun:
        """Wait for work. Raises ServiceGone."""
        self._orders.clear()  # they are for attempts that are over
        while True:
            while not self._runs:
                self._await_run()
            run = self._runs.popleft()
            if self._may_begin(run):
                if type(run) is Begun:
                    return run
                assert isinstance(run, Run)
                self._grace = run.grace
                self._given_cores = run.cores
                self._beat_wanted = run.beat
                self._begin_to_beat()
                return run

    def _await_run(self) -> None:
        if self._giving is None:
            self._read_orders()
            return
        ready = [fd for fd, _ in self._giving.poll()]
        if self._direct in ready:
            self._runs += self._direct_buffer.feed(_read(self._direct))
        if self._job in ready:
            self._read_orders()

    def _may_begin(self, run: Run | Begun) -> bool:
        """Whether the next run has not been withdrawn; once begun, it cannot be."""
        with self._beginning:
            self._taken += 1
            if self._taken <= self._withdrawn:
                return False
            self._begun = self._taken
            self._current = (run.task_id, run.attempt)
            return True

    def _withdraw(self, order: Withdraw) -> None:
        with self._beginning:
            self._withdrawn = max(self._withdrawn, order.runs)
            begun = self._begun
        self.send(Withdrawn(order.runs, begun))

    def send(self, report: Any) -> None:
        """Write one frame, whole. After an attempt's end, no more beats of it are sent."""
        data = encode_frame(report)
        with self._sending:
            if type(report) in (AttemptEnded, Retiring):
                self._beat = 0.0
            self._write(data)

    def _write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._report, data) :]

    def _begin_to_beat(self) -> None:
        if self._beat_wanted and self._listening:
            self._next_beat = time.monotonic() + self._beat_wanted
            self._beat = self._beat_wanted
            os.write(self._bell_rope, b"x")

    def _say_alive(self) -> None:
        # Only a process that does not run fails to send beats; a busy handler does not block them.
        with self._sending:
            if self._beat:
                self._next_beat = time.monotonic() + self._beat
                self._write(encode_frame(AttemptBeat(*self._current)))

    def stop_wanted(self) -> bool:
        """See `Link`."""
        return self._stopped == self._current

    def cores(self) -> int:
        """See `Link`."""
        changed = self._changed_cores
        return changed.cores if (changed.task_id, changed.attempt) == self._current else self._given_cores

    def saved(self) -> bool:
        """Wait for `Saved`. Once a stop is wanted, wait at most half the grace, to leave time for tidying up."""
        while not self._stop_leaves_nothing_to_read(self._grace / 2):
            if self._is_answer(self._next_order(), Saved):
                return True
        return False

    def granted(self) -> bool:
        """Wait for `Grant`. A grant that comes after a stop does not count."""
        while not self._stop_leaves_nothing_to_read(0.0):
            order = self._next_order()
            if self._is_answer(order, Grant):
                return True
            if self._is_answer(order, Stop):
                return False
        return False

    def signature(self, content: bytes) -> bytes:
        """The worker's signature for a sandboxed attempt; empty if it does not sign, or the attempt must end."""
        self.send(SignatureWanted(*self._current, content))
        while not self._stop_leaves_nothing_to_read(0.0):
            order = self._next_order()
            if self._is_answer(order, Signature):
                return bytes(order.signature)
        return b""

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """See `Link`."""
        self._timer = (time.monotonic() + seconds, call)
        os.write(self._bell_rope, b"x")

    def _stop_leaves_nothing_to_read(self, patience: float) -> bool:
        return not self._orders and self.stop_wanted() and not select.select([self._job], [], [], patience)[0]

    def _is_answer(self, order: Any, kind: type[Saved | Grant | Stop | Signature]) -> bool:
        if (order.task_id, order.attempt) != self._current:
            return False  # for an earlier attempt, which did not wait for it
        self._note(order)
        return isinstance(order, kind)

    def _next_order(self) -> Any:
        while not self._orders:
            self._read_orders()
        return self._orders.popleft()

    def _read_orders(self) -> None:
        for order in self._buffer.feed(_read(self._job)):
            (self._runs if type(order) in (Run, Begun) else self._orders).append(order)

    def _note(self, order: Any) -> None:
        if type(order) is Withdraw:
            self._withdraw(order)
        elif type(order) is Stop:
            self._stopped = (order.task_id, order.attempt)
        elif type(order) is CoresChanged:
            self._changed_cores = order

    def _listen(self) -> None:
        """The control thread: receives orders, sends beats, and makes the calls requested by `later`."""
        while self._listening:
            timer = self._timer
            ready = select.select([self._control, self._bell], [], [], self._until_next(timer))[0]
            if self._control in ready:
                data = os.read(self._control, _CHUNK)
                if not data:
                    return
                for order in self._control_buffer.feed(data):
                    self._note(order)
                    if type(order) is Stop:
                        with self._beginning:
                            if (order.task_id, order.attempt) == self._current:
                                self._on_stop()
            elif self._bell in ready:
                os.read(self._bell, 64)
            elif timer is not None and self._timer is timer and timer[0] <= time.monotonic():
                self._timer = None
                timer[1]()
            elif self._beat and self._next_beat <= time.monotonic():
                self._say_alive()

    def _until_next(self, timer: tuple[float, Callable[[], None]] | None) -> float | None:
        moments = [timer[0]] if timer else []
        if self._beat:
            moments.append(self._next_beat)
        return max(0.0, min(moments) - time.monotonic()) if moments else None
