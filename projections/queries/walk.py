"""A stretch of a list: the tasks after a place in it, found with bounded work however many tasks there are.

Finding a page by its number costs a walk over all pages before it, and a total costs a look at every task that passes.
So a stretch goes on from a place, which is a task's key and id, and a census counts up to a bound and says so. Both
walk along one index: the one that lets the fewest tasks pass. The other filters are tested on each row. When the time
is up, the walk ends where it is and says how far it came.
"""

import re
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from itertools import chain, islice, product
from operator import itemgetter
from time import perf_counter
from typing import NamedTuple, TypeAlias

import msgspec
from msgspec.structs import replace

from ...events import Task
from ...events.errors import InvalidValue
from ...events.state import WAITING
from ..views.schema import BY_SORT, BY_VALUE, has_status
from ..views.words import match_expression
from .filters import STATUSES, TaskFilters, column_of, ids_of, values_of
from .kept import KeptNumbers
from .stats import Counts

PATIENCE = 0.03
"""Seconds that a walk may take before it ends where it is."""
COUNT_WITHIN = 0.015
"""The same for a census."""
SURE = 500
"""Tasks that are read even after the time is up, unless that takes ten times as long: so a busy machine still shows
short lists completely."""
_MUCH_TOO_LONG = 10
COUNTED = 10_000
"""The most tasks that a census counts, unless the kept numbers suffice."""
FEW = 2_000
"""Up to this many tasks are sorted; for more, the index of the sort is walked. No more tasks of one value are counted
to find the index that lets the fewest pass. A search word that more tasks have counts as a whole word: SQLite would
have to read all words that begin with it before the first hit."""
_BEGINNING = 3
"""The fewest characters of a search word that may be the beginning of a word."""
BRANCHES = 32
"""The most alternatives that are walked side by side; with more, another index leads."""


Values: TypeAlias = tuple[object, ...]
Hit: TypeAlias = tuple[int, float | None, int]
"""A task's id, its sort key, and whether it passes."""
_Clock: TypeAlias = Callable[[], float]


class Place(NamedTuple):
    """A place between two tasks of a list: after the task with this key and id, or before it."""

    back: bool
    """Whether the tasks before the place are wanted."""
    key: float | None
    """The sort key of the task; None if the list is sorted by id, or the task has no such key."""
    id: int

    def __str__(self) -> str:
        return "~".join(("before" if self.back else "after", "" if self.key is None else repr(self.key), str(self.id)))


START = Place(back=False, key=None, id=0)
END = Place(back=True, key=None, id=0)
_PLACE = re.compile(r"(before|after)~(-?\d{1,20}(?:\.\d{1,20})?(?:e[+-]?\d{1,3})?)?~(\d{1,15})")


def parse_place(text: str) -> Place:
    """The place in a text; an empty text is the start. Raises `InvalidValue`."""
    if text in ("", "end"):
        return END if text else START
    found = _PLACE.fullmatch(text)
    if found is None:
        raise InvalidValue(f"{text[:40]!r} is no place in a list", field="place", remedy="Begin at the first page.")
    return Place(found[1] == "before", float(found[2]) if found[2] else None, int(found[3]))


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """Some consecutive tasks of a list."""

    tasks: tuple[Task, ...]
    before: str = ""
    """The place from which to get the tasks before them; empty if there are none."""
    after: str = ""
    """The same for the tasks after them."""
    cut: bool = False
    """Whether the walk ran out of time. All tasks between these and the place to go on from have been tested."""


class Census(msgspec.Struct, frozen=True, kw_only=True):
    """The number of tasks that pass, by status."""

    by_status: dict[str, int]
    """For all six statuses, the tasks that pass all filters except that on the status."""
    complete: bool = True
    """False: there are more tasks, as the counting was stopped."""

    def total(self, filters: TaskFilters) -> int:
        """The number of tasks in the filtered statuses."""
        return sum(self.by_status[status] for status in values_of(filters.status) or STATUSES)


class WalkResult(NamedTuple):
    """The result of a walk."""

    ids: tuple[int, ...]
    before: str
    after: str
    cut: bool


def walk(
    conn: sqlite3.Connection,
    filters: TaskFilters,
    counts: Counts,
    place: Place,
    *,
    within: float = PATIENCE,
    sure: int = SURE,
    clock: _Clock = perf_counter,
) -> WalkResult:
    """The next ids of the list from the place on, in its order. `within`: seconds; `offset` is ignored."""
    hits = _Walk(conn, filters, counts).hits(place)
    return collect(hits, filters.limit, place, within=within, sure=sure, clock=clock)


def collect(
    hits: Iterable[Hit],
    limit: int,
    place: Place,
    *,
    within: float = PATIENCE,
    sure: int = SURE,
    clock: _Clock = perf_counter,
) -> WalkResult:
    """The first hits after a place that pass."""
    out_of_time = _timer(clock, within, sure)
    passed: list[Hit] = []
    last: Hit | None = None
    cut = False
    for number, hit in enumerate(hits, 1):
        if hit[2]:
            passed.append(hit)
            if len(passed) > limit:
                break
        last = hit
        if out_of_time(number):
            cut = True
            break
    more = cut or len(passed) > limit
    passed = passed[:limit]
    if not cut:
        last = passed[-1] if passed else None
    if last is None:
        return WalkResult((), "", "", cut=False)
    onward = _named(last, back=place.back) if more else ""
    backward = "" if place in (START, END) else _named(passed[0] if passed else last, back=not place.back)
    ids = tuple(hit[0] for hit in passed)
    return WalkResult(ids[::-1], onward, backward, cut) if place.back else WalkResult(ids, backward, onward, cut)


def census(
    conn: sqlite3.Connection,
    filters: TaskFilters,
    counts: Counts,
    *,
    within: float = COUNT_WITHIN,
    most: int = COUNTED,
    sure: int = SURE,
    clock: _Clock = perf_counter,
) -> Census:
    """The number of tasks that pass: exact if the kept numbers suffice; else up to `most`, for `within` seconds."""
    numbers = KeptNumbers(conn, filters, counts).by_status()
    if numbers is not None:
        return Census(by_status=numbers)
    statuses = _Walk(conn, replace(filters, status=""), counts).statuses()
    return count_statuses(statuses, within=within, most=most, sure=sure, clock=clock)


def count_statuses(
    statuses: Iterable[tuple[str, int]],
    *,
    within: float = COUNT_WITHIN,
    most: int = COUNTED,
    sure: int = SURE,
    clock: _Clock = perf_counter,
) -> Census:
    """The census of some tasks, which are given by status and whether they pass."""
    numbers: Counter[str] = Counter()
    complete, passed, out_of_time = True, 0, _timer(clock, within, sure)
    for number, (status, passes) in enumerate(statuses):
        if passed == most or out_of_time(number):
            complete = False
            break
        numbers[status] += passes
        passed += passes
    return Census(by_status={status: numbers[status] for status in STATUSES}, complete=complete)


def all_ids(conn: sqlite3.Connection, filters: TaskFilters, counts: Counts, most: int) -> tuple[int, ...]:
    """The ids of the tasks that pass, in order, at most `most` of them. It has no time limit."""
    hits = _Walk(conn, replace(filters, sort="id"), counts).hits(START)
    return tuple(islice((task_id for task_id, _key, passes in hits if passes), most))


def _timer(clock: _Clock, within: float, sure: int) -> Callable[[int], bool]:
    """A function that says whether it is time to stop, after a number of tasks have been read."""
    deadline, limit = clock() + within, clock() + _MUCH_TOO_LONG * within

    def out_of_time(number: int) -> bool:
        now = clock()
        return now >= limit or (now >= deadline and number >= sure)

    return out_of_time


def _named(hit: Hit, *, back: bool) -> str:
    return str(Place(back, hit[1], hit[0]))


def beside(statement: str, number: int) -> str:
    """The statement with a unique text, for statements that are read at the same time.

    Python's `sqlite3` compiles a statement anew while another one with the same text is being read.
    """
    return f"{statement} -- {number}"


class _Lead(NamedTuple):
    """The index that is walked, as alternatives of one value each. The filters in `covers` need no test on a row."""

    source: str
    branches: tuple[tuple[str, Values], ...]
    """The condition of each alternative, and its values."""
    covers: frozenset[str]
    """The filtered fields that all found tasks match."""
    size: int
    """The number of tasks that it finds; only a bound if not all were counted."""
    id: str = "tasks.id"


class _Part(NamedTuple):
    """A part of a walk in the order of a column: the tasks with a key, or the others, which are in the order of ids."""

    where: str
    values: Values = ()
    keyless: bool = False


class _Walk:
    """One list, and the index that leads through it. A statement has only our own names and question marks."""

    def __init__(self, conn: sqlite3.Connection, filters: TaskFilters, counts: Counts) -> None:
        self._conn = conn
        self._filters = filters
        self._counts = counts
        self._wanted: dict[str, Values] = {
            "status": values_of(filters.status),
            "type": values_of(filters.type),
            "label": values_of(filters.label),
            "batch": values_of(filters.batch),
            "user_id": ids_of(filters.user_id),
            "document_id": ids_of(filters.document_id),
            "parent_task_id": ids_of(filters.parent_task_id),
        }
        self._words = expression(filters.search, lambda word: self._probe("search WHERE search MATCH ?", (word,)))
        every = _Lead("tasks", (("1", ()),), frozenset(), sum(counts.values()) + 1)
        self._lead = min((every, *self._leads()), key=lambda lead: lead.size)

    def hits(self, place: Place) -> Iterator[Hit]:
        """The tasks after the place, in order, including those that do not pass."""
        column = column_of(self._filters)
        statuses = self._wanted["status"]
        down = self._filters.sort.startswith("-") != place.back
        if column == "id":
            return self._by_id(place, down=down)
        every = column != "queue_key"
        if not every:  # the head of the queue has the smallest key, and tasks that do not wait have none
            down = not down
            if statuses and WAITING.isdisjoint(statuses):
                return self._by_id(place, down=down)
            every = bool(statuses) and WAITING.issuperset(statuses)
        walked = self._sorted if self._lead.size <= FEW else self._along
        parts = _parts(column, place, down=down, every=every)
        return chain.from_iterable(walked(column, part, down=down) for part in parts)

    def statuses(self) -> Iterator[tuple[str, int]]:
        """The status of each task in the leading index, and whether it passes; in no order."""
        tests, tested = self._tests(self._lead.covers)
        for where, values in self._lead.branches:
            statement = f"SELECT tasks.status, {tests} FROM {self._lead.source} WHERE {where}"  # noqa: S608 - our own names
            yield from self._conn.execute(statement, (*tested, *values))

    def _by_id(self, place: Place, *, down: bool) -> Iterator[Hit]:
        """Walk each alternative of the leading index in the order of ids, and merge them."""
        lead = self._lead
        tests, tested = self._tests(lead.covers)
        way, sign = ("DESC", "<") if down else ("ASC", ">")
        bound, at = ("", ()) if place in (START, END) else (f" AND {lead.id} {sign} ?", (place.id,))
        select = f"SELECT {lead.id}, NULL, {tests} FROM {lead.source}"  # noqa: S608 - our own names
        order = f"ORDER BY {lead.id} {way}"
        streams = [
            self._conn.execute(beside(f"{select} WHERE {where}{bound} {order}", number), (*tested, *values, *at))
            for number, (where, values) in enumerate(lead.branches)
        ]
        return merge(*streams, key=itemgetter(0), reverse=down)

    def _along(self, column: str, part: _Part, *, down: bool) -> Iterator[Hit]:
        """Walk the index of the column, and test all filters on each row."""
        tests, tested = self._tests(frozenset())
        way = "DESC" if down else "ASC"
        order = f"tasks.id {way}" if part.keyless else f"tasks.{column} {way}, tasks.id {way}"
        select = f"SELECT tasks.id, tasks.{column}, {tests} FROM tasks INDEXED BY {BY_SORT[column]}"  # noqa: S608 - our own names
        yield from self._conn.execute(f"{select} WHERE {part.where} ORDER BY {order}", (*tested, *part.values))

    def _sorted(self, column: str, part: _Part, *, down: bool) -> Iterator[Hit]:
        """Read the few tasks of the leading index, and sort them."""
        tests, tested = self._tests(self._lead.covers)
        select = f"SELECT tasks.id, tasks.{column}, {tests} FROM {self._lead.source}"  # noqa: S608 - our own names
        hits: list[Hit] = []
        for where, values in self._lead.branches:
            statement = f"{select} WHERE {where} AND {part.where}"
            hits += self._conn.execute(statement, (*tested, *values, *part.values))
        return iter(sorted(hits, key=lambda hit: (hit[1] or 0.0, hit[0]), reverse=down))

    def _tests(self, covered: frozenset[str]) -> tuple[str, list[object]]:
        """The test of the filters that are not covered: an expression that is true if a row passes, and its values."""
        terms: list[str] = []
        tested: list[object] = []
        for field, values in self._wanted.items():
            if values and field not in covered:
                terms.append(f"tasks.{field} IN ({', '.join('?' * len(values))})")
                tested += values
        if self._words and "search" not in covered:
            terms.append("+EXISTS (SELECT 1 FROM search WHERE search MATCH ? AND rowid = tasks.id)")
            tested.append(self._words)
        return " AND ".join(terms) or "1", tested

    # --- the choice of the leading index: the one that lets the fewest tasks pass ---

    def _leads(self) -> Iterator[_Lead]:
        yield from self._by_counts()
        for field, index in BY_VALUE.items():
            if 0 < len(self._wanted[field]) <= BRANCHES:
                source = f"tasks INDEXED BY {index}"
                branches = tuple((f"tasks.{field} = ?", (value,)) for value in self._wanted[field])
                size = sum(self._probe(f"{source} WHERE {where}", values) for where, values in branches)
                yield _Lead(source, branches, frozenset((field,)), size)
        if self._words:
            words = (self._words,)
            # CROSS: the text index leads, in the order of ids, and each hit is looked up by its id.
            source = "search CROSS JOIN tasks ON tasks.id = search.rowid"
            size = self._probe("search WHERE search MATCH ?", words)
            yield _Lead(source, (("search MATCH ?", words),), frozenset(("search",)), size, "search.rowid")

    def _by_counts(self) -> Iterator[_Lead]:
        statuses, types = self._wanted["status"], self._wanted["type"]
        if not statuses and not types:
            return
        size = sum(
            number
            for (kind, status), number in self._counts.items()
            if (not statuses or status in statuses) and (not types or kind in types)
        )
        if statuses and types and len(statuses) * len(types) <= BRANCHES:
            where = f"{has_status('tasks.status', '?')} AND tasks.type = ?"
            both = tuple((where, pair) for pair in product(statuses, types))
            yield _Lead("tasks INDEXED BY tasks_by_status_and_type", both, frozenset(("status", "type")), size)
            return
        field, values = ("status", statuses) if statuses else ("type", types)
        if len(values) <= BRANCHES:
            where = has_status("tasks.status", "?") if statuses else "tasks.type = ?"
            branches = tuple((where, (value,)) for value in values)
            yield _Lead(f"tasks INDEXED BY tasks_by_{field}", branches, frozenset((field,)), size)

    def _probe(self, source: str, values: Values) -> int:
        statement = f"SELECT count(*) FROM (SELECT 1 FROM {source} LIMIT {FEW + 1})"  # noqa: S608 - our own names
        return int(self._conn.execute(statement, values).fetchone()[0])


def expression(search: str, number_of: Callable[[str], int]) -> str:
    """The search in FTS5's language. A short word, or one that very many tasks have, counts as a whole word.

    `number_of` counts the tasks that have a word, up to `FEW` + 1.
    """
    terms = []
    for begins in map(match_expression, search.split()):
        whole = begins.removesuffix("*")
        often = whole and (_short(begins) or number_of(whole) > FEW)
        terms.append(whole if often else begins)
    return " ".join(filter(None, terms))


def whole_words(search: str) -> list[str]:
    """The words that are too short to count as the beginning of a word."""
    return [word for word in search.split() if _short(match_expression(word))]


def _short(begins: str) -> bool:
    return 0 < len(begins.removesuffix("*")) < _BEGINNING + len('""')


def _parts(column: str, place: Place, *, down: bool, every: bool) -> list[_Part]:
    """The parts after the place, in order; `every`: all tasks that pass have a key."""
    sign = "<" if down else ">"
    keyed, keyless = _Part(f"tasks.{column} IS NOT NULL"), _Part(f"tasks.{column} IS NULL", keyless=True)
    if place.key is not None:
        keyed = _Part(f"(tasks.{column}, tasks.id) {sign} (?, ?)", (place.key, place.id))
    elif place not in (START, END):
        keyless = _Part(f"tasks.{column} IS NULL AND tasks.id {sign} ?", (place.id,), keyless=True)
    if every:
        return [keyed]
    order = [keyless, keyed] if down else [keyed, keyless]
    beyond_first = place not in (START, END) and order[0].keyless != (place.key is None)
    return order[1:] if beyond_first else order
