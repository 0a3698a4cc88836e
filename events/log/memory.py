"""The log in memory: for tests, simulation and what-if. Same contract as the file, no durability."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from copy import copy
from itertools import islice
from typing import Self

from ..context import NOTHING_KNOWN, Belongings
from ..errors import ConcurrencyError, Fenced, LogCorrupt
from ..ranges import numbers_of
from ..recorded import Fact, Recorded, Stub, record_at, timestamp
from ..system_events import Adjusted
from ..task_events import Created, is_terminal
from .chain import GENESIS, link_row
from .event_log import Answer, Head, Part
from .rows import to_row
from .stubs import DROPS, Drop, digest_of, stub_of


class MemoryEventLog:
    """Keeps records in a list; checks versions and terminal events as the database does."""

    def __init__(self) -> None:
        self._records: list[Recorded] = []
        self._by_task: defaultdict[int, list[Recorded]] = defaultdict(list)
        self._adjustments: defaultdict[int, list[Recorded]] = defaultdict(list)
        self._ended: set[tuple[int, int]] = set()
        self._answers: dict[str, Answer] = {}
        self._owners = [1]
        self.epoch = 1
        self.rebuilt: tuple[str, ...] = ()

    def taken_over(self) -> Self:
        """The same records, owned by a newer service: appends through this object are refused from now on."""
        newer = copy(self)  # the containers are shared
        newer.epoch = len(self._owners) + 1
        self._owners.append(newer.epoch)
        return newer

    def last_owned(self) -> float:
        """0: nobody else can take it."""
        return 0.0

    def head(self) -> Head:
        """The end of the log."""
        last = self._records[-1] if self._records else None
        return Head(last.position, last.hash) if last else Head(0, GENESIS)

    def append(self, facts: Sequence[Fact], answers: Sequence[Answer] = (), *, expected: int) -> list[Recorded]:
        """All or nothing; see `EventLog.append`."""
        self._check_owner()
        head = self.head()
        if head.position != expected:
            raise ConcurrencyError("The log has grown", current=head.position, expected=expected)
        self._check(facts, answers)
        records: list[Recorded] = []
        previous = head.hash
        for position, fact in enumerate(facts, expected + 1):
            previous = link_row(previous, to_row(fact, position))
            records.append(record_at(fact, position, previous))
        dropped = [self._dropped_by(record) for record in records if isinstance(record.event, DROPS)]
        for record in records:
            self._by_task[record.task_id].append(record)
            if isinstance(record.event, Adjusted):
                self._adjustments[record.event.task_id].append(record)
            if is_terminal(record.event):
                self._ended.add((record.task_id, record.life))
        self._records += records
        for old in dropped:
            self._drop(old)
        self._answers.update({answer.command_id: answer for answer in answers})
        return records

    def _dropped_by(self, record: Recorded) -> list[Recorded]:
        """The records that an event drops. Raises `LogCorrupt` if they are not those that it says."""
        assert isinstance(record.event, DROPS)
        old = [self._records[position - 1] for position in numbers_of(record.event.positions)]
        left = ((one.position, one.task_id, one.version, timestamp(one.recorded_at), one.hash) for one in old)
        if digest_of(left) != record.event.stubs:
            raise LogCorrupt(f"The records to be dropped at {record.position} do not match its digest")
        return old

    def _drop(self, old: list[Recorded]) -> None:
        for record in old:
            self._records[record.position - 1] = self._by_task[record.task_id][record.version - 1] = stub_of(record)
            if isinstance(record.event, Adjusted):
                self._adjustments[record.event.task_id].remove(record)
        gone = {record.position for record in old}
        self._answers = {name: answer for name, answer in self._answers.items() if answer.position not in gone}

    def drops(self, after: int = 0) -> list[Drop]:
        """The records after a position that have dropped others."""
        return [Drop(one.position, one.event) for one in self._records[after:] if isinstance(one.event, DROPS)]

    def newest_of(self, event: str, after: int, until: int, limit: int) -> list[int]:
        """The positions of the newest records of a kind after `after`, up to `until`, newest first."""
        found = (one.position for one in reversed(self._records[after:until]) if one.name == event)
        return list(islice(found, limit))

    def take_missing_keys(self) -> set[str]:
        """None: nothing is encrypted."""
        return set()

    def keys_there(self, keys: Collection[str]) -> set[str]:  # noqa: ARG002 - as other logs have it
        """None: there are no keys."""
        return set()

    def _check_owner(self) -> None:
        if self._owners[-1] != self.epoch:
            raise Fenced("A newer service has taken the log")

    def _check(self, facts: Sequence[Fact], answers: Sequence[Answer]) -> None:
        versions: dict[int, int] = {}
        ended: set[tuple[int, int]] = set()
        for fact in facts:
            current = versions.get(fact.task_id, len(self._by_task.get(fact.task_id, ())))
            if fact.version != current + 1:
                raise ConcurrencyError(
                    f"Task {fact.task_id} is at version {current}", current=current, expected=fact.version - 1
                )
            versions[fact.task_id] = fact.version
            if is_terminal(fact.event):
                life = (fact.task_id, fact.life)
                if life in ended or life in self._ended:
                    raise ConcurrencyError(f"Life {fact.life} of task {fact.task_id} has ended before")
                ended.add(life)
        ids = {answer.command_id for answer in answers}
        if len(ids) < len(answers) or not ids.isdisjoint(self._answers):
            raise ConcurrencyError("A command id was recorded before")

    def read(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """Records in order of position, from `after + 1` on."""
        end = None if limit is None else after + limit
        yield from self._records[after:end]

    def read_to_fold(self, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
        """The same as `read`: leaving fields out would gain nothing here."""
        return self.read(after, limit)

    def read_what_may_concern(self, prefixes: Sequence[str], until: int) -> Iterator[Recorded]:  # noqa: ARG002 - all are read
        """All records up to a position: leaving some out would gain nothing here."""
        return self.read(limit=until)

    def read_task(self, task_id: int, *, adjusted: bool = False) -> list[Recorded]:
        """All records of one task, in order of position; with `adjusted`, also the service's adjustments of it."""
        own = list(self._by_task.get(task_id, ()))
        if adjusted:
            own += self._adjustments.get(task_id, ())
            own.sort(key=lambda record: record.position)
        return own

    def read_parts(self, parts: Sequence[Part], until: int) -> list[Recorded]:
        """The records of parts of tasks' lives; see `ReadableLog.read_parts`."""
        records = [
            record
            for part in parts
            for record in self.read_task(part.task_id, adjusted=True)
            if (part.after < record.version <= part.last if record.task_id else record.position > part.adjusted_after)
        ]
        return sorted((one for one in records if one.position <= until), key=lambda record: record.position)

    def answer(self, command_id: str) -> Answer | None:
        """The answer to a command id, if the command was accepted before."""
        return self._answers.get(command_id)

    def is_newest(self, task_id: int, version: int) -> bool:
        """Whether the last record of a task has this version, and was not dropped."""
        last = self._by_task[task_id][-1]
        return last.version == version and not isinstance(last.event, Stub)

    def belongings(self, user_id: int, known: Belongings = NOTHING_KNOWN) -> Belongings:  # noqa: ARG002 - it is quick
        """Nothing is encrypted."""
        firsts = (self._by_task[task_id][0].event for task_id in self._by_task if task_id)
        return Belongings(plain=sum(isinstance(event, Created) and event.user_id == user_id for event in firsts))

    def destroy(self, keys: Collection[str]) -> None:
        """There are none."""

    def delete_archived(self, limit: int) -> int:  # noqa: ARG002 - as the protocol says
        """Nothing is archived."""
        return 0

    def maintain(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to let go of."""
