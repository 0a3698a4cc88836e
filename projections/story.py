"""The story of one task for a page: bounded however long its life is, and folded record by record.

`history` has everything. This keeps the first and the last lines, and the last attempts. If a task has very many
records, `skim` reads only some of them.
"""

from collections import deque
from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from ..events import Checkpointed, Progressed, Recorded
from ..events.recorded import EVENT_TAGS
from .attempts import Attempt, AttemptsFold
from .describe import describe
from .history import Line

ATTEMPTS = 30
"""The number of last attempts that are kept."""
FIRST_LINES, LAST_LINES = 20, 80
TEXT = 4096
"""The most characters of a line."""
_SERIES = ("progressed", "checkpointed")

_AT_ONCE = 500
_READ = 4_000
"""Records that are read from the end of a long life; from its beginning, `_AT_ONCE` are read."""
_SAMPLES = 200
"""Records that are sampled in between."""


class Story(msgspec.Struct, frozen=True, kw_only=True):
    """The lines and attempts of a task that are shown."""

    lines: tuple[Line, ...]
    lines_left_out: int
    """The number of lines left out between the first and the last ones."""
    records_left_out: int
    """The number of records that were not read."""
    attempts: tuple[Attempt, ...]
    attempts_left_out: int


class StoryFold:
    """The story up to a version of the task. Not for several threads at once."""

    def __init__(self) -> None:
        self.version = 0
        """The last record of the task that was read or left out."""
        self.last: Recorded | None = None
        """The last record that was read."""
        self._first: list[Line] = []
        self._lines: deque[Line] = deque(maxlen=LAST_LINES)
        self._line_count = 0
        self._series = 0
        self._records_left_out = 0
        self._attempts = AttemptsFold()
        self._over: deque[Attempt] = deque(maxlen=ATTEMPTS)
        self._ended = 0

    def add(self, record: Recorded) -> None:
        """Fold in the next record of the task."""
        self._add_line(record)
        self._try(record)
        self.version = record.version
        self.last = record

    def pass_over(self, version: int, samples: Sequence[Recorded]) -> None:
        """Skip the records up to a version, except some samples, which only show how far an attempt was."""
        self._records_left_out += version - self.version
        for record in samples:
            if isinstance(record.event, Progressed | Checkpointed):
                self._try(record)
        self.version = version
        self._series = 0

    def story(self) -> Story:
        """The story so far."""
        return Story(
            lines=(*self._first, *self._lines),
            lines_left_out=self._line_count - len(self._first) - len(self._lines),
            records_left_out=self._records_left_out,
            attempts=(*self._over, *self._attempts.unfinished()),
            attempts_left_out=self._ended - len(self._over),
        )

    def _try(self, record: Recorded) -> None:
        over = self._attempts.add(record)
        self._over.extend(over)
        self._ended += len(over)

    def _add_line(self, record: Recorded) -> None:
        last = self._lines[-1] if self._lines else self._first[-1] if self._first else None
        line = story_line(record, self.last)
        if self._series and last is not None and line.event in _SERIES and line.attempt == last.attempt:
            self._series += 1
            text = f"{line.text} (and {self._series - 1} before)"
            line = replace(line, text=text, after=last.after + line.after)
            (self._lines or self._first)[-1] = line
            return
        self._series = int(line.event in _SERIES)
        self._line_count += 1
        (self._first if len(self._first) < FIRST_LINES else self._lines).append(line)


def story_line(record: Recorded, before: Recorded | None) -> Line:
    """The record in words."""
    after = (record.recorded_at - before.recorded_at).total_seconds() if before is not None else 0.0
    text = describe(record.event)
    return Line(
        position=record.position,
        recorded_at=record.recorded_at,
        after=after,
        event=EVENT_TAGS[type(record.event)],
        attempt=record.attempt,
        text=text if len(text) <= TEXT else f"{text[:TEXT]}…",
        actor=record.actor,
        reason=record.reason,
    )


def skim(fold: StoryFold, read: Callable[[int, int], Sequence[Recorded]], version: int) -> None:
    """Carry a fold on to a version of the task; if there are very many records, the middle is left out.

    `read` gets a version and a number, and returns at most that many of the next records.
    """
    if version - fold.version > _AT_ONCE + _READ:
        for record in read(fold.version, _AT_ONCE):
            fold.add(record)
        start, end = fold.version, version - _READ
        step = max(1, (end - start) // _SAMPLES)
        samples = [record for at in range(start, end, step) for record in read(at, 1)]
        fold.pass_over(end, samples)
    while fold.version < version:
        records = read(fold.version, min(_AT_ONCE, version - fold.version))
        if not records:
            return
        for record in records:
            fold.add(record)
