"""The running attempt as its handler sees it, and its connection to the process that started it."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

import msgspec

from ...events import Checkpoint
from ...events.errors import InvalidValue
from ...events.reports import AttemptCheckpointed, AttemptProbed, AttemptProgressed, PublishWanted, Run
from ...events.values import check_plain
from ..contract import ONE_CORE, Room, StopAsked
from ..errors import BadAnswer, CheckpointRefused, ResultsMissing
from ..functions import value_of
from ..inputs import Input
from ..publish import part_path
from ..workspace import create_temp_file, make_private_folder
from .report_limits import CHECKPOINT_LIMIT, MESSAGE_LIMIT


class Link(Protocol):
    """The messages that an attempt may send and receive while it runs. Safe to use from the handler's own threads."""

    def send(self, report: AttemptProgressed | AttemptCheckpointed | AttemptProbed | PublishWanted) -> None:
        """Send a report. This may block until the other side has read the earlier ones."""

    def stop_wanted(self) -> bool:
        """Whether `Stop` has come for the current attempt."""

    def cores(self) -> int:
        """CPUs that the attempt may keep busy at this moment; 0: as many as if it ran alone."""

    def saved(self) -> bool:
        """Wait for `Saved`. False if the attempt must end and the answer did not come in time."""

    def granted(self) -> bool:
        """Wait for `Grant`. False when `Stop` comes instead."""

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        """Call `call` from another thread after `seconds`. Only the newest call is kept."""


REPORT_INTERVAL = 0.5
"""Seconds between two progress reports of an attempt."""
_TOLERANCE = 1.25
_SLACK = 16 * 1024 * 1024
"""Bytes. If an estimate exceeds the reservation by at most this amount or share, another wait is not worth it."""


class ThinnedProgress:
    """Sends at most two progress reports a second: the first at once, later the newest one."""

    def __init__(self, run: Run, link: Link, clock: Callable[[], float] = time.monotonic) -> None:
        self._run = run
        self._link = link
        self._clock = clock
        self._lock = Lock()
        self._next = float("-inf")
        self._percent = 0.0
        self._pending: AttemptProgressed | None = None

    def say(self, percent: float, message: str) -> None:
        """Report now, or soon."""
        with self._lock:
            self._percent = clamped(percent, self._percent)
            report = AttemptProgressed(
                self._run.task_id, self._run.attempt, self._percent, plain_text(message, MESSAGE_LIMIT)
            )
            now = self._clock()
            if now >= self._next:
                self._send(report, now)
                return
            if self._pending is None:
                self._link.later(self._next - now, self.flush)
            self._pending = report

    def flush(self) -> None:
        """Send the report that is held back."""
        with self._lock:
            if self._pending is not None:
                self._send(self._pending, self._clock())

    def take(self) -> AttemptProgressed | None:
        """Take the report that is held back, to be sent as part of another one."""
        with self._lock:
            held, self._pending = self._pending, None
            if held is not None:
                self._next = self._clock() + REPORT_INTERVAL
            return held

    def _send(self, report: AttemptProgressed, now: float) -> None:
        self._pending = None
        self._next = now + REPORT_INTERVAL
        self._link.send(report)


class AttemptContext:
    """See `TaskContext`."""

    def __init__(
        self,
        run: Run,
        options: Any,
        link: Link,
        source: Input | None = None,
        part: Path | None = None,
        room: Room = ONE_CORE,
    ) -> None:
        self._run = run
        self._options = options
        self._link = link
        self._source = source
        self._part = part
        self._room = room
        self._progress = ThinnedProgress(run, link)
        self._saving = Lock()
        self._heard = False

    @property
    def task_id(self) -> int:
        """The task's number."""
        return self._run.task_id

    @property
    def attempt(self) -> int:
        """1 for the first run of the handler."""
        return self._run.attempt

    @property
    def traceparent(self) -> str:
        """The trace context of the attempt."""
        return self._run.traceparent

    @property
    def input_file(self) -> Path:
        """Absolute path, or `Path()`."""
        return Path(self._run.input_file)

    @property
    def input_version(self) -> str:
        """SHA-256 of a file from elsewhere."""
        return self._run.input_version

    @property
    def output_file(self) -> Path:
        """The path of the result."""
        return Path(self._run.output_file)

    @property
    def output_part(self) -> Path:
        """The path that the handler writes to."""
        return self._part or part_path(self.output_file, self._run.task_id)

    @property
    def work_dir(self) -> Path:
        """The task's own folder, made on first use."""
        folder = Path(self._run.work_dir)
        make_private_folder(folder)
        return folder

    @property
    def options(self) -> Any:
        """The type's options Struct."""
        return self._options

    @property
    def room(self) -> Room:
        """The share of the machine that it may take: at most the memory that was reserved, plus the tolerance."""
        reserved = self._run.estimate.memory
        return Room(self._room.cores, enough_for(reserved) if reserved else self._room.memory)

    def cores(self) -> int:
        """CPUs to keep busy at this moment."""
        return min(self._link.cores() or self._room.cores, self._room.cores)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The last saved checkpoint."""
        return self._run.checkpoint

    @property
    def dependencies(self) -> dict[int, Any]:
        """Task id → the result of that task."""
        if self._run.no_results:
            raise ResultsMissing(f"The results of the task's dependencies are missing: {self._run.no_results}")
        return {task_id: value_of(result) for task_id, result in self._run.results.items()}

    @property
    def dependencies_by_name(self) -> dict[str, Any]:
        """Name in the graph → the result of that task."""
        returned = self.dependencies
        return {name: returned[task_id] for name, task_id in self._run.dependency_names.items() if task_id in returned}

    def progress(self, percent: float, message: str = "") -> None:
        """Report how far the work is. Values outside 0 to 100 are clamped, NaN is ignored."""
        self._progress.say(percent, message)

    def save_checkpoint(self, checkpoint: Checkpoint, *, progress: float | None = None, message: str = "") -> None:
        """Record resume data, unless the input has changed.

        Raises CheckpointRefused when the attempt must end before the data is durable, and InputChanged.
        """
        plain = plain_checkpoint(checkpoint)
        if self._source is not None:
            self._source.compare()
        stamp = self._source.stamp if self._source else ""
        plain = msgspec.structs.replace(plain, input_state=stamp)
        percent = None if progress is None else clamped(progress, 0.0)
        with self._saving:
            text = plain_text(message, MESSAGE_LIMIT)
            # A separate report right before this one would come too soon to be recorded, and its message would be lost.
            if (held := self._progress.take()) is not None:
                percent, text = held.progress if percent is None else percent, text or held.message
            self._link.send(AttemptCheckpointed(self._run.task_id, self._run.attempt, plain, percent, text))
            if not self._link.saved():
                raise CheckpointRefused("The attempt was stopped while its checkpoint was being recorded")

    def temp_file(self, prefix: str, suffix: str = "") -> Path:
        """A new empty file in `work_dir`."""
        return create_temp_file(Path(self._run.work_dir), prefix, suffix)

    def should_stop(self) -> bool:
        """Whether the attempt must end."""
        self._heard = self._heard or self._link.stop_wanted()
        return self._heard

    def check_stop(self) -> None:
        """Raise StopAsked if the attempt must end."""
        if self.should_stop():
            raise StopAsked

    def stop_unheard(self) -> bool:
        """Whether the attempt must end and the handler does not know it yet."""
        return not self._heard and self._link.stop_wanted()

    def flush(self) -> None:
        """For the caller of the handler: send the progress that is held back."""
        self._progress.flush()


def enough_for(reserved: int) -> int:
    """The largest estimate, in bytes, that fits this reservation: a larger one waits in the queue again."""
    return int(_TOLERANCE * reserved) + _SLACK


def clamped(percent: float, otherwise: float) -> float:
    """`percent`, clamped to 0 to 100; `otherwise` for NaN."""
    percent = float(percent)
    return otherwise if math.isnan(percent) else min(max(percent, 0.0), 100.0)


def plain_text(text: object, limit: int) -> str:
    """Text that can be encoded, of at most `limit` characters. File names may hold characters that UTF-8 cannot."""
    return str(text)[:limit].encode("utf-8", "replace").decode()


def plain_json(value: Any, limit: int, what: str) -> bytes:
    """The value as JSON. Raises BadAnswer if JSON cannot hold it, or it has more than `limit` bytes."""
    try:
        _refuse_sets(value, what)
        plain = msgspec.to_builtins(value, str_keys=True)
        check_plain(plain, what)
        data = msgspec.json.encode(plain)
    except InvalidValue as error:
        raise BadAnswer(error.message) from error
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise BadAnswer(f"{what} holds something that is not plain JSON ({error})") from error
    if len(data) > limit:
        raise BadAnswer(f"{what} has {len(data)} bytes; the limit is {limit}")
    return data


def _refuse_sets(value: Any, what: str) -> None:
    """Refuse sets: the converter would make lists of them, whose order differs from process to process."""
    if isinstance(value, set | frozenset):
        raise BadAnswer(f"{what} holds a Python {type(value).__name__}, which JSON cannot represent")
    if isinstance(value, msgspec.Struct):
        value = [getattr(value, name) for name in value.__struct_fields__]
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        _refuse_sets(item, what)


def plain_checkpoint(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint as it will be read back. Raises BadAnswer."""
    if not isinstance(checkpoint, Checkpoint):
        raise BadAnswer(f"A checkpoint is a tasktrail.Checkpoint, not {type(checkpoint).__name__}")
    data = plain_json(checkpoint, CHECKPOINT_LIMIT, "The checkpoint")
    try:
        return msgspec.json.decode(data, type=Checkpoint)
    except msgspec.ValidationError as error:
        raise BadAnswer(f"The checkpoint has a field of the wrong type ({error})") from error
