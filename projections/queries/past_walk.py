"""A list at an earlier position, in its order, found with work that does not grow with the log.

`tasks` has what never changes in a task, such as its type and user; `versions` has its status and place at that
position. One source leads: the tasks with a rare value, all tasks, or those that were in a status, whose blocks of
neighbours are in `zones`. If few tasks lead, they are sorted; else the order of the list is walked.
"""

import sqlite3
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from heapq import merge
from itertools import chain, count, groupby, islice, product
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import msgspec

from ...events.state import WAITING
from ...events.values import MAX_INTEGER
from ..views import zones
from ..views.schema import BY_VALUE, SELDOM, has_status, is_seldom
from ..views.shares import EVERY, read_moves
from ..views.tallies import Numbers
from ..views.versions import OF_PRIORITY, TEXTS, is_ordered, key_of, lanes_with, priority_of
from ..views.words import match_expression, narrowed_expression
from .bounded import bounded
from .filters import MAX_VALUES, STATUSES, TaskFilters, column_of, values_in, values_of
from .kept import KeptNumbers
from .streams import Part, beyond, by_key, in_order, lazily, parts, ties_by_id
from .walk import BRANCHES, END, FEW, START, Hit, Place, Values, beside

Times: TypeAlias = Callable[[Sequence[int]], Mapping[int, float]]
"""Tasks that were running → when each had changed last."""

_TO_SEARCH = 50
"""The cost of searching whole words in a leading task, in the text index, relative to going on to the next; …"""
_TO_TEST = 30
"""… and of searching beginnings of words in its row."""
_MOST_HITS = 100_000
"""The most tasks with the words that are counted to find out whether these lead."""
_TO_NAME = 0.3
"""The cost of each task that has the words, before the text index names the first, for beginnings of words."""
_HAVE_ERRORS = frozenset(("failed", "retrying"))
"""Statuses of tasks that nearly all have an error."""
_MOST = 50_000
"""The most that sorting the leading tasks may cost, if walking along the order costs even more."""
_TO_SORT = 10
"""The cost of sorting a leading task, relative to stepping over one in an order …"""
_TO_LOOK = 3
"""… and of a lookup in another index for each task."""
_TO_BEGIN = 600
"""The cost of beginning a walk along an order, relative to the same."""
_MOST_AFTER_ALL = 500_000
"""The most that sorting them may cost after a walk has turned out too long."""
_INSTRUCTIONS = 30
"""The most instructions of SQLite's machine to step over one task, or to search words in its row."""
_PATIENCE = 4
"""A walk is given up once it has cost this many times what was expected, …"""
_OF_A_SORT = 0.25
"""… or this share of the cost of sorting, if that is more: giving up is costly if many tasks lead, …"""
_OF_A_SORT_AT_MOST = 0.5
"""… and at this share at the latest: where a long walk was expected, the first rule would allow far too much."""
_NEAR = 4
"""An order of ids is walked from the tasks in a status, unless another source finds this many times fewer."""
_COMMON = 20
"""The leading tasks are common if they are more than one in this many tasks."""
_TO_READ = 0.2
"""The cost of reading the moves of a group's task, relative to looking at one change."""
_MOVES_AT_ONCE = 64
"""Moves of a group that are read together."""
_SLACK = 0.001
"""Seconds; more than the rounding error of sums."""
_LATEST = "(SELECT max(since) FROM versions WHERE id = {id} AND since <= :position)"
# `versions_by_task` has these two columns: the row itself need not be read.
_LAST = "(SELECT {what} FROM versions WHERE id = {id} AND since <= :position ORDER BY since DESC LIMIT 1)"
_CHANGED_LAST = f"then_.since = {_LAST.format(what='changed', id='then_.id')}"
_IS_SELDOM = f" AND {is_seldom('then_.status')}"
"""The condition of a partial index, word for word: otherwise SQLite does not use that index."""
_ZONES = "zones AS wide CROSS JOIN zones"
"""First the wide blocks of a list, then the blocks within them: empty ones are passed together."""
_BY_BLOCK = "wide.block {way}, wide.since {way}, zones.block {way}, zones.since {way}"
_KEYS = {"priority": f"then_.lane >> {OF_PRIORITY}", "updated_at": "then_.updated_at", "queue_key": "then_.queue_key"}
_ERRORS = "(SELECT 1 FROM texts WHERE id = {id} AND since <= :position)"
_WITH_ERROR = f"""
(SELECT 1 FROM past_search WHERE past_search MATCH {{words}} AND rowid = ({{id}} << {TEXTS})
    + (SELECT max(number) FROM texts WHERE id = {{id}} AND since <= :position))
"""  # noqa: S608 - our own number
_WORDS_OF_THEN = f"""
CASE WHEN EXISTS {_ERRORS} THEN EXISTS {_WITH_ERROR}
ELSE EXISTS (SELECT 1 FROM search WHERE search MATCH {{but_in_error}} AND rowid = {{id}}) END
"""  # noqa: S608 - our own names
_WORDS_IN_ROW = f"""
CASE WHEN EXISTS (SELECT 1 FROM tasks AS own WHERE own.id = {{id}} AND has_words({{search}}, own.spec, NULL)) THEN 1
WHEN EXISTS {_ERRORS} THEN EXISTS {_WITH_ERROR} ELSE 0 END
"""  # noqa: S608 - our own names
"""The same, for beginnings of words. Only the error changes; the index has to list all words with the beginning."""
_BUT_IN_ERROR = "{{type input_file output_file}} : ({0})"
_ONLY_WITH_ERROR = "({0}) NOT ({{type input_file output_file}} : ({0}))"
_WITH_TEXT = f"""
past_search.rowid < ((:top + 1) << {TEXTS}) AND then_.id = past_search.rowid >> {TEXTS}
AND then_.text = past_search.rowid & {(1 << TEXTS) - 1} AND then_.text > 0 AND then_.since = (
    SELECT max(since) FROM versions INDEXED BY versions_with_text
    WHERE id = past_search.rowid >> {TEXTS} AND text > 0 AND since <= :position)
"""  # noqa: S608 - our own number
"""The tasks that have had an error are few, so their versions lie close together in an index of their own."""
_LANES = """
WITH RECURSIVE lanes (name) AS (
    SELECT min(list) FROM zones WHERE list >= :first AND list <= :last
    UNION ALL SELECT (SELECT min(list) FROM zones WHERE list > lanes.name AND list <= :last)
    FROM lanes WHERE lanes.name IS NOT NULL
) SELECT name, ({head}) FROM lanes WHERE name IS NOT NULL
"""
_ENDS = """
SELECT min((SELECT id FROM {tasks} ORDER BY id LIMIT 1)), max((SELECT id FROM {tasks} ORDER BY id DESC LIMIT 1))
FROM json_each(:asked) AS asked
"""
_CREATED = """
SELECT updated_at FROM versions WHERE since = (SELECT min(since) FROM versions WHERE id = coalesce(
    (SELECT max(id) FROM tasks WHERE id <= ?), (SELECT min(id) FROM tasks)))
"""


class _Source(NamedTuple):
    """Tables from which tasks are read in the order of ids."""

    tables: str
    where: str
    id: str
    order: str = "{id} {way}"
    bound: str = "{id} {sign} {begin}"
    """The condition of the tasks after a task, upwards or downwards."""
    has_then: bool = False
    """Whether the versions at that position are among the tables."""
    holds: str = ""
    """The condition that a version held at that position. It costs the most, so it comes last."""
    values: Mapping[str, object] = MappingProxyType({})
    """The parameters of this source alone."""


class _Lead(NamedTuple):
    """The source of a walk. The filters in `covers` hold for all tasks that it finds, and need not be tested."""

    sources: tuple[_Source, ...]
    covers: frozenset[str]
    size: int
    """The number of tasks that it finds; only a bound if not all were counted."""
    work: int = 0
    """The number of tasks that are read for that, if these are more."""


_STATUS = frozenset(("status",))
_STATUS_AND_TYPE = frozenset(("status", "type"))
"""The covered filters of a source that finds the tasks of given statuses and of one type."""


class PastWalk:
    """One list at a position. Only our own names and parameters become part of a statement."""

    def __init__(
        self,
        conn: sqlite3.Connection,
        filters: TaskFilters,
        words: str,
        numbers: Numbers,
        position: int,
        times: Times,
    ) -> None:
        """`words`: the search in FTS5's language. `numbers`: at the position. `times`: of tasks that ran then."""
        self._conn = conn
        self._filters = filters
        self._words = words
        self._in_row = words == match_expression(filters.search)
        """Whether the words are beginnings, which are searched in rows."""
        self._counts = numbers.by_type_and_status()
        self._times = times
        self._top = numbers.top
        self._ran = numbers.running
        running = msgspec.json.encode(numbers.running).decode()
        self._values: dict[str, object] = {"position": position, "top": self._top, "running": running}
        self._position = position
        self._names: dict[object, str] = {}
        self._begun = count()
        """The numbers of the lanes that have been begun."""
        self._kinds = {name: kind for kind, name in enumerate(numbers.types)}
        self._in_errors = 0
        """The number of errors with the words, or a bound. Errors are not searched in rows."""
        self._mostly_in_errors = False
        """Whether most tasks with the words have them in an error."""
        self._only = False
        """Whether tasks that do not pass are left out, instead of marked as not passing."""
        self._statuses = values_of(filters.status)
        self._wanted: dict[str, Values] = {field: values_in(filters, field) for field in ("type", *BY_VALUE)}
        self.kept = KeptNumbers(conn, filters, self._counts, position, numbers.types)
        leads = list(self._leads())
        self._lead = min(leads, key=self._cost)
        self._lead_to_test = min((lead for lead in leads if "search" not in lead.covers), key=_work)
        """The best lead without the words: few tasks are read if most have them."""
        self._lead_by_status = next((lead for lead in leads if "status" in lead.covers), self._lead)

    # --- queries ---

    def hits(
        self, place: Place, *, sort: bool | None = None, most: int | None = None, lead: _Lead | None = None
    ) -> Iterator[Hit]:
        """The tasks after the place, in order; some of them may not pass.

        `sort`: whether all leading tasks are read and sorted; None: decide by their number. `most`: as many are wanted,
        from the beginning and without those that do not pass; a sort keeps no more. `lead`: for an order of ids.
        """
        column = column_of(self._filters)
        down = self._filters.sort.startswith("-") != place.back
        if column == "queue_key":
            down = not down  # the head of the queue has the smallest key
        if self._is_by_id:
            best = self._lead_to_test if sort is False and column == "id" else self._lead
            return self._by_id(lead or best, place, down=down)
        # Tasks that do not wait have no place in the queue.
        every = column != "queue_key" or (bool(self._statuses) and WAITING.issuperset(self._statuses))
        sort = self._lead.size <= FEW if sort is None else sort
        pieces = parts(place, down=down, every=every)
        if sort:
            return self._sorted(column, pieces, down=down, most=most)
        return chain.from_iterable(self._along(column, part, down=down) for part in pieces)

    @property
    def _is_by_id(self) -> bool:
        """Whether the order is that of ids, as is the queue's where no task can wait."""
        column = column_of(self._filters)
        return column == "id" or (column == "queue_key" and bool(self._statuses) and WAITING.isdisjoint(self._statuses))

    def page_and_total(self, limit: int, offset: int) -> tuple[list[int], int]:
        """The ids of one page, and the number of tasks that pass."""
        total = self.kept.total()
        if total is None and self._is_sorted_for_any_total(limit + offset):
            self._only = True
            ids = [task_id for task_id, _key, _passes in self.hits(START, sort=True)]
            return ids[offset : offset + limit], len(ids)
        if total is None:
            total = self.number()
        return self._page(limit, offset, total) if total > offset else [], total

    def _is_sorted_for_any_total(self, last: int) -> bool:
        """Whether all leading tasks are read and sorted however many pass, so that they need not be counted before."""
        if self._is_counted_by_words or column_of(self._filters) == "id":
            return False
        size = self._lead.size  # the fewer pass, the longer is a walk to the end of the page
        steps, tested = self._walked(min(last, size), size)
        return self._mostly_in_errors or self._is_better_sorted(
            steps + _TO_TEST * tested, self._cost_of_sorting(), size
        )

    def _page(self, limit: int, offset: int, total: int) -> list[int]:
        last = min(limit + offset, total)
        if self._is_by_id and not self._words:
            return self._page_by_id(offset, last, total)
        steps, tested = self._walked(last, total)
        walk, work = steps + _TO_TEST * tested, self._cost_of_sorting()
        self._only = True

        def found(*, sort: bool) -> list[int]:
            return [hit[0] for hit in islice(self.hits(START, sort=sort, most=last), offset, last)]

        if self._mostly_in_errors or self._is_better_sorted(walk, work, total):
            return found(sort=True)
        if work > _MOST_AFTER_ALL and not self._words:
            return found(sort=False)
        patience = min(max(_PATIENCE * walk, _OF_A_SORT * work), _OF_A_SORT_AT_MOST * work)
        instructions = _INSTRUCTIONS * (steps + tested) / walk
        ids = bounded(self._conn, patience * instructions, lambda: found(sort=False))
        return found(sort=True) if ids is None else ids

    def _page_by_id(self, offset: int, last: int, total: int) -> list[int]:
        """The ids of a page in an order of ids.

        Tasks with a label or of a user are passed one by one, which takes long where few of them are in the status.
        Blocks without a task in the status are passed at once, so they are walked first. But if all tasks with the
        label lie far away, this walk would pass many others, and is given up.
        """
        self._only = True

        def found(lead: _Lead) -> list[int]:
            return [hit[0] for hit in islice(self.hits(START, lead=lead), offset, last)]

        by_status, best = self._lead_by_status, self._lead
        if by_status.sources != best.sources and _work(by_status) <= _NEAR * _work(best):
            steps = _TO_BEGIN + last * _work(by_status) / total * _TO_LOOK
            ids = bounded(self._conn, _PATIENCE * steps * _INSTRUCTIONS, lambda: found(by_status))
            if ids is not None:
                return ids
        return found(best)

    def _walked(self, last: int, total: int) -> tuple[float, float]:
        """What a walk to the last task of a page costs, without words; and in how many tasks words are searched."""
        passed: float = self._in_statuses(self._statuses or STATUSES)
        covered = {"type", "user_id"}
        if column_of(self._filters) in {"priority", "queue_key"}:
            first, last_id = self._ends
            passed *= max(0, last_id + 1 - first) / max(1, self._top)
        elif column_of(self._filters) == "updated_at":
            if field := self._walked_by_moves(down=self._filters.sort.startswith("-")):
                passed = self.kept.size(field) or 0
                covered.add(field)
            passed *= self._position / max(1, self._top)  # only one of a task's changes is the last
        looks = sum(len(values) for field, values in self._wanted.items() if field not in covered)
        steps = _TO_BEGIN + last * passed / max(1, total) * (_TO_LOOK * looks or 1)
        tested = last * min(passed, _work(self._lead_to_test)) / max(1, total) if self._words else 0.0
        return steps, tested

    def _cost_of_sorting(self) -> float:
        tested = self._lead.size if self._words and "search" not in self._lead.covers else 0
        return _TO_SORT * _work(self._lead) + _TO_TEST * tested

    def _is_better_sorted(self, walk: float, work: float, total: int) -> bool:
        """Whether to read and sort all leading tasks, by the costs of both ways."""
        if column_of(self._filters) == "id":  # nothing is sorted
            return "search" not in self._lead.covers or _TO_NAME * self._lead.size <= walk
        return work <= min(walk, _MOST) or (total <= FEW and walk > _MOST)

    def ids(self) -> Iterator[int]:
        """The ids of all tasks that pass, in the order of the list."""
        self._only = True
        return (hit[0] for hit in self.hits(START))

    def number(self) -> int:
        """The number of tasks that pass. As a side effect it sets the number of leading tasks."""
        if self._is_counted_by_words:
            total = self._number_with_words()
            self._lead = self._lead._replace(size=total)
            return total
        numbers = [
            self._find(source, self._lead.covers, "count(*), sum({passes})").fetchone() for source in self._lead.sources
        ]
        self._lead = self._lead._replace(size=sum(number for number, _pass in numbers))
        return sum(passing or 0 for _number, passing in numbers)

    @property
    def _is_counted_by_words(self) -> bool:
        return "search" in self._lead.covers and not self._statuses and not any(self._wanted.values())

    def _number_with_words(self) -> int:
        """The number of tasks with the words: the text indexes alone count them."""
        always, _then = self._lead.sources
        moves = f"text_moves MATCH {self._only_with_error} AND rowid <= 2 * :position + 1"
        with_error = f"SELECT coalesce(sum(1 - 2 * (rowid & 1)), 0) FROM text_moves WHERE {moves}"  # noqa: S608 - our own names
        found = self._run(f"SELECT (SELECT count(*) FROM search WHERE {always.where}) + ({with_error})")  # noqa: S608 - our own names
        return int(found.fetchone()[0])

    def statuses(self) -> Iterator[tuple[str, int]]:
        """The status of each leading task, and whether it passes; in no order."""
        for source in self._lead.sources:
            yield from self._find(source, self._lead.covers, f"{_status_of(source)}, {{passes}}")

    # --- statements ---

    def _run(self, statement: str, values: Mapping[str, object] = MappingProxyType({})) -> sqlite3.Cursor:
        return self._conn.execute(statement, {**self._values, **values})

    def _name(self, value: object) -> str:
        """A parameter with this value. A value keeps its name, so that SQLite compiles a statement only once."""
        name = self._names.get(value)
        if name is None:
            name = self._names[value] = f"v{len(self._names)}"
            self._values[name] = value
        return f":{name}"

    def _find(
        self, source: _Source, covers: frozenset[str], what: str, *, more: str = "", order: str = "", then: bool = False
    ) -> sqlite3.Cursor:
        """Select `what` from a source, with its tests for `{passes}`; `then`: `what` needs the versions."""
        tests, tables = self._tests(source, covers), source.tables
        words = self._has_words(source, covers)
        if then and not source.has_then:
            tables += f" CROSS JOIN versions AS then_ ON then_.since = {_LATEST.format(id=source.id)}"
        terms = [source.where, more]
        if self._only:
            terms, tests = [*terms, *tests, source.holds, words], []
        else:
            terms, tests = [*terms, source.holds], [*tests, words]
        passes = " AND ".join(f"({test})" for test in filter(None, tests)) or "1"
        where = " AND ".join(filter(None, terms))
        return self._run(f"SELECT {what.format(passes=passes)} FROM {tables} WHERE {where} {order}", source.values)  # noqa: S608 - our own names

    def _tests(self, source: _Source, covers: frozenset[str]) -> list[str]:
        """The conditions of the filters that a source does not cover, without the search."""

        def one_of(column: str, values: Values) -> str:
            return f"{column} IN ({', '.join(map(self._name, values))})"

        remaining = {field: values for field, values in self._wanted.items() if values and field not in covers}
        tests = []
        if "type" in remaining and source.has_then:
            kinds = tuple(self._kinds.get(str(name), -1) for name in remaining.pop("type"))
            tests.append(one_of("then_.kind", kinds))
        if "user_id" in remaining and source.has_then:
            tests.append(one_of("then_.user_id", remaining.pop("user_id")))
        for field, values in remaining.items():  # the index has value and id, so the row is not read
            own = f"tasks AS own INDEXED BY {BY_VALUE.get(field, 'tasks_by_type')}"
            where = f"{one_of(f'own.{field}', values)} AND own.id = {source.id}"
            tests.append(f"+EXISTS (SELECT 1 FROM {own} WHERE {where})")  # noqa: S608 - our own names
        if self._statuses and "status" not in covers:
            tests.append(one_of(_status_of(source), self._statuses))
        return tests

    def _has_words(self, source: _Source, covers: frozenset[str]) -> str:
        """The condition of the search, which costs more than all others; empty if a source covers it."""
        if not self._words or "search" in covers:
            return ""
        words = {"words": self._name(self._words), "id": source.id}
        if self._in_row:
            return _WORDS_IN_ROW.format(search=self._name(self._filters.search), **words)
        return _WORDS_OF_THEN.format(but_in_error=self._but_in_error, **words)

    def _in_status(self, status: str, kind: str = "") -> _Source:
        """The source of the tasks that were in a status, and of a type if one is given."""
        named = self._name(status)
        if status == "running":
            then = f"versions AS then_ ON then_.since = {_LATEST.format(id='ran.value')}"
            where = f"then_.kind = {self._name(self._kinds.get(kind, -1))}" if kind else "1"
            return _Source(f"json_each(:running) AS ran CROSS JOIN {then}", where, "then_.id", has_then=True)
        zone = _in_zone(self._name(zones.by_id(status, kind)))
        power = zones.KINDS if kind else zones.TASKS
        first = f"(zones.block << {power})"
        bounds = f"BETWEEN {first} AND {first} + {(1 << power) - 1}"
        bound = f"{{id}} {{sign}} {{begin}} AND {_from_block('{sign}', f'{{begin}} >> {power}')}"
        if kind:
            last = _LAST.format(what="status", id="tasks.id")
            return _Source(
                f"{_ZONES} CROSS JOIN tasks INDEXED BY tasks_by_type",
                f"{zone} AND tasks.type = {self._name(kind)} AND tasks.id {bounds} AND {last} = {named}",
                "tasks.id",
                f"{_BY_BLOCK}, {{id}} {{way}}",
                bound,
            )
        index, status_test = "versions_by_task", has_status("then_.status", named)
        if status in SELDOM:
            index, status_test = "versions_by_status", f"{status_test}{_IS_SELDOM}"
        return _Source(
            f"{_ZONES} CROSS JOIN versions AS then_ INDEXED BY {index}",
            f"{zone} AND {status_test} AND then_.id {bounds} AND then_.since <= :position",
            "then_.id",
            f"{_BY_BLOCK}, {{id}} {{way}}",
            bound,
            has_then=True,
            holds=f"then_.since = {_LATEST.format(id='then_.id')}",
        )

    # --- the choice of the leading source ---

    def _cost(self, lead: _Lead) -> int:
        work = _work(lead)
        if self._words and "search" not in lead.covers:
            work *= _TO_TEST if self._in_row else _TO_SEARCH
            if self._in_row and lead.covers >= _STATUS and _HAVE_ERRORS.issuperset(self._statuses):
                work += int(lead.size * _TO_NAME * self._in_errors)
        return work

    def _in_statuses(self, statuses: Iterable[str], types: Values = ()) -> int:
        """The number of tasks that were in the statuses, and of the types if some are given."""
        return sum(
            number
            for (kind, status), number in self._counts.items()
            if status in statuses and (not types or kind in types)
        )

    def _leads(self) -> Iterator[_Lead]:
        leads = [_Lead((_tasks("tasks", "1"),), frozenset(), self._top + 1), *self._by_counts()]
        sizes = {field: self.kept.size(field) for field in BY_VALUE}
        for field in sorted(sizes, key=lambda field: sizes[field] is None):
            values = self._wanted[field]
            if 0 < len(values) <= MAX_VALUES:
                tables = f"tasks INDEXED BY {BY_VALUE[field]}"
                sources = tuple(_tasks(tables, f"tasks.{field} = {self._name(value)}") for value in values)
                size = sizes[field]
                if size is None:  # counted only until another lead has fewer; the first lead has all tasks
                    least = min((max(lead.size, lead.work) for lead in leads[1:]), default=FEW)
                    size = sum(self._probe(source, min(least, _MOST)) for source in sources)
                leads.append(_Lead(sources, frozenset((field,)), size))
        yield from leads
        if self._words:
            yield self._with_words(max(FEW, min(_MOST_HITS, min(map(self._cost, leads[1:]), default=0))))

    def _with_words(self, most: int) -> _Lead:
        """The lead to the tasks with the words. Its size is counted up to `most` in each index."""
        always = _Source(
            "search",
            f"search MATCH {self._but_in_error} AND search.rowid <= :top",
            "search.rowid",
            "search.rowid {way}",
        )
        in_error = _Source(
            "past_search CROSS JOIN versions AS then_ INDEXED BY versions_with_text",
            f"past_search MATCH {self._only_with_error} AND {_WITH_TEXT}",
            f"(past_search.rowid >> {TEXTS})",
            "past_search.rowid {way}",
            f"past_search.rowid {{sign}} ({{begin}} << {TEXTS}) + {{edge}} * {(1 << TEXTS) - 1}",
            has_then=True,
        )
        ever = self._probe(always._replace(where=f"search MATCH {self._but_in_error}"), most)
        ever_in_error = self._probe(
            in_error._replace(tables="past_search", where=f"past_search MATCH {self._only_with_error}"), most
        )
        self._in_errors, self._mostly_in_errors = ever_in_error, ever_in_error > ever
        return _Lead((always, in_error), frozenset(("search",)), ever + ever_in_error)

    @cached_property
    def _but_in_error(self) -> str:
        """The parameter with the words elsewhere than in an error, for the index of today's words."""
        words = narrowed_expression(self._conn, self._filters.search) if self._in_row else self._words
        return self._name(_BUT_IN_ERROR.format(words))

    @cached_property
    def _only_with_error(self) -> str:
        """The parameter with the words, at least one of them only in the error, for the indexes of errors."""
        return self._name(_ONLY_WITH_ERROR.format(self._words))

    @cached_property
    def _ends(self) -> tuple[int, int]:
        """The first and the last task that can pass: those of one batch or one parent often lie together."""
        first, last = 1, self._top
        for field, index in BY_VALUE.items():
            if values := self._wanted[field]:
                tasks = f"tasks INDEXED BY {index} WHERE {field} = asked.value AND id <= :top"
                asked = msgspec.json.encode(values).decode()
                least, greatest = self._run(_ENDS.format(tasks=tasks), {"asked": asked}).fetchone()
                first, last = max(first, least or last + 1), min(last, greatest or 0)
        return first, last

    def _by_counts(self) -> Iterator[_Lead]:
        statuses, types = self._statuses, self._wanted["type"]
        if statuses:
            yield self._of_statuses(statuses)
        elif types and len(types) <= BRANCHES:
            tables = "tasks INDEXED BY tasks_by_type"
            sources = tuple(_tasks(tables, f"tasks.type = {self._name(kind)}") for kind in types)
            yield _Lead(sources, frozenset(("type",)), self._in_statuses(STATUSES, types))

    def _of_statuses(self, statuses: Sequence[str]) -> _Lead:
        """The lead to the tasks that were in the statuses, or to those of the filtered types if these are fewer."""
        types = self._wanted["type"]
        found, of_types = self._in_statuses(statuses), self._in_statuses(STATUSES, types)
        if not types or len(statuses) * len(types) > BRANCHES or of_types > found:
            return _Lead(tuple(map(self._in_status, statuses)), _STATUS, found)
        sources = tuple(self._in_status(status, str(kind)) for status, kind in product(statuses, types))
        return _Lead(sources, _STATUS_AND_TYPE, self._in_statuses(statuses, types), of_types)

    def _probe(self, source: _Source, most: int = FEW) -> int:
        """The number of tasks of a source, counted up to `most` + 1."""
        some = f"SELECT 1 FROM {source.tables} WHERE {source.where} LIMIT :most"  # noqa: S608 - our own names
        return int(self._run(f"SELECT count(*) FROM ({some})", {"most": most + 1}).fetchone()[0])  # noqa: S608 - our own names

    # --- orders ---

    def _by_id(self, lead: _Lead, place: Place, *, down: bool) -> Iterator[Hit]:
        """Walk each source in the order of ids, and merge them."""
        way, sign = ("DESC", "<") if down else ("ASC", ">")
        streams = []
        for source in lead.sources:
            bound = source.bound.format(id=source.id, sign=sign, begin=place.id, edge=0 if down else 1)
            order = f"ORDER BY {source.order.format(id=source.id, way=way)}"
            more = "" if place in (START, END) else bound
            streams.append(self._find(source, lead.covers, f"{source.id}, NULL, {{passes}}", more=more, order=order))
        return merge(*streams, key=itemgetter(0), reverse=down)

    def _sorted(self, column: str, pieces: Sequence[Part], *, down: bool, most: int | None = None) -> Iterator[Hit]:
        """Read all leading tasks, and sort them. With `most`, SQLite sorts them first, and few are read."""
        way, nulls = ("DESC", "FIRST") if down else ("ASC", "LAST")
        order, values = "", {}
        if most is not None:  # the log has the time of a running task's last change, so all of these are read
            order = f"ORDER BY then_.status = 'running' DESC, 2 {way} NULLS {nulls}, 1 {way} LIMIT :most"
            values["most"] = most + len(self._ran)
        sorted_hits: list[tuple[int, Any, int, str]] = []
        for source in self._lead.sources:
            what = f"{source.id}, {_KEYS[column]}, {{passes}}, then_.status"
            limited = source._replace(values={**source.values, **values})
            sorted_hits += self._find(limited, self._lead.covers, what, order=order, then=True)
        times: Mapping[int, float] = {}
        if column == "updated_at":
            times = self._times([task_id for task_id, _key, _passes, status in sorted_hits if status == "running"])
        hits = [(task_id, times.get(task_id, key), passes) for task_id, key, passes, _status in sorted_hits]
        return chain.from_iterable(in_order(hits, part, down=down) for part in pieces)

    def _along(self, column: str, part: Part, *, down: bool) -> Iterator[Hit]:
        """Walk along the order, and test all filters on each task."""
        if part.keyless:
            place = Place(back=False, key=None, id=part.id) if part.id else START
            return self._by_id(self._lead_outside_queue(), place, down=down)
        if column == "priority":
            return self._by_priority(part, down=down)
        return self._by_queue(part, down=down) if column == "queue_key" else self._by_change(part, down=down)

    def _lead_outside_queue(self) -> _Lead:
        """The lead to the tasks that are not in the queue."""
        statuses = [status for status in self._statuses or STATUSES if status not in WAITING]
        lead = self._of_statuses(statuses)
        # Most leading tasks may be waiting. If they are common, the tasks that do not wait are walked, because many of
        # them are probably leading ones. If all leading tasks wait, this walk is in vain.
        is_common = self._lead.size * _COMMON > self._top
        if "status" in self._lead.covers or self._lead.size > lead.size or is_common:
            return lead
        named = ", ".join(map(self._name, statuses))
        sources = tuple(
            source._replace(where=f"{source.where} AND {_status_of(source)} IN ({named})")
            for source in self._lead.sources
        )
        return self._lead._replace(sources=sources, covers=self._lead.covers | _STATUS)

    def _by_change(self, part: Part, *, down: bool) -> Iterator[Hit]:
        """The order of the last change, which is that of positions, except for the few tasks that were running."""
        statuses = [status for status in self._statuses or STATUSES if status != "running"]
        if field := self._walked_by_moves(down=down):
            found = [self._changes_of_groups(field, statuses, part, down=down)]
        elif "completed" in statuses and len(statuses) > 1:  # nearly every block has completed tasks
            found = [self._changes_in_blocks(statuses, part, down=down)]
        else:
            found = [self._changes(status, part, down=down) for status in statuses]
        streams = [ties_by_id(hits, part, down=down) for hits in found]
        if not self._statuses or "running" in self._statuses:
            streams.append(self._running(part, down=down))
        return merge(*streams, key=by_key, reverse=down)

    def _changes(self, status: str, part: Part, *, down: bool) -> Iterator[Hit]:
        """The tasks in a status, in the order of the positions of their last change."""
        way = "DESC" if down else "ASC"
        first = f"(zones.block << {zones.TIMES})"
        bound = self._blocks(part, down=down)
        index, more, covers = "NOT INDEXED", "", _STATUS
        if status in SELDOM:
            index, more = "INDEXED BY versions_by_change", _IS_SELDOM
        elif status == "pending" and len(self._wanted["type"]) == 1:
            (kind,) = self._wanted["type"]
            index, covers = "INDEXED BY versions_pending", _STATUS_AND_TYPE
            more = f" AND then_.status = 'pending' AND then_.kind = {self._name(self._kinds.get(str(kind), -1))}"
        return self._last_changes(
            f"{_ZONES} CROSS JOIN versions AS then_ {index}",
            f"{_in_zone(self._name(zones.by_change(status)))}{bound}"
            f" AND then_.since BETWEEN {first} AND {first} + {(1 << zones.TIMES) - 1}"
            f" AND then_.since <= :position AND {has_status('then_.status', self._name(status))}{more}",
            f"{_BY_BLOCK.format(way=way)}, then_.since {way}",
            covers=covers,
        )

    def _walked_by_moves(self, *, down: bool) -> str:
        """The field whose moves are walked in the order of changes; empty if another way is shorter.

        A move is stale when its task has moved on, and reading it is in vain. Most moves into a waiting status are
        stale, and in the order from the oldest they all come before any other.
        """
        field = self.kept.field_with_fewest()
        statuses = self._statuses or STATUSES
        groups = self.kept.groups(field, statuses).values() if field else ()
        waiting = WAITING.intersection(statuses)
        stale = 0
        if waiting and (not down or len(waiting) == len(statuses)):
            standing = self.kept.standing(field)
            stale = sum(standing.values()) - sum(standing[status] for status in waiting)
        page = self._filters.limit + self._filters.offset
        share = min(1.0, page / max(1, sum(found for _size, found in groups)))
        among = self._in_statuses(statuses, self._wanted["type"])
        # To merge them, the moves of each group are read up to one task more than its part of the page.
        read = sum(size * min(1.0, share + 1 / found) for size, found in groups) + EVERY * (len(groups) - 1)
        return field if stale + _TO_READ * read <= share * among else ""

    def _changes_of_groups(self, field: str, statuses: Sequence[str], part: Part, *, down: bool) -> Iterator[Hit]:
        """The same for users, labels or batches, from the kept positions of their tasks' moves."""
        way = "DESC" if down else "ASC"
        kinds = {self._kinds.get(str(name), -1) for name in self._wanted["type"]} or set(self._kinds.values())
        first, last = self._between(part, down=down)
        values = list(self.kept.groups(field, statuses))
        positions = read_moves(self._conn, field, values, first, last, kinds=kinds, statuses=statuses, down=down)
        while some := list(islice(positions, _MOVES_AT_ONCE)):
            yield from self._last_changes(
                "json_each(:moved) AS moved CROSS JOIN versions AS then_ ON then_.since = moved.value",
                "",
                f"then_.since {way}",
                covers=_STATUS_AND_TYPE | {field},
                values={"moved": msgspec.json.encode(some).decode()},
            )

    def _changes_in_blocks(self, statuses: Sequence[str], part: Part, *, down: bool) -> Iterator[Hit]:
        """The same for several statuses: each block with a task in any of them is read once."""
        way = "DESC" if down else "ASC"
        bound = self._blocks(part, down=down)
        streams = []
        for status in statuses:
            zone = _in_zone(self._name(zones.by_change(status)))
            by_block = _BY_BLOCK.format(way=way)
            streams.append(self._run(f"SELECT zones.block FROM {_ZONES} WHERE {zone}{bound} ORDER BY {by_block}"))  # noqa: S608 - our own names
        named = ", ".join(map(self._name, statuses))
        where = f"then_.since BETWEEN :first AND :last AND then_.status IN ({named})"
        for (block,), _same in groupby(merge(*streams, reverse=down)):
            first = block << zones.TIMES
            last = min(first + (1 << zones.TIMES) - 1, self._position)
            block_of = {"first": first, "last": last}
            yield from self._last_changes("versions AS then_ NOT INDEXED", where, f"then_.since {way}", values=block_of)

    def _last_changes(
        self,
        tables: str,
        where: str,
        order: str,
        *,
        covers: frozenset[str] = _STATUS,
        values: Mapping[str, object] = MappingProxyType({}),
    ) -> Iterator[Hit]:
        """The versions among `tables` and `where` that are the last change of their task."""
        source = _Source(tables, where, "then_.id", has_then=True, holds=_CHANGED_LAST, values=values)
        return self._find(source, covers, "then_.id, then_.updated_at, {passes}", order=f"ORDER BY {order}")

    def _between(self, part: Part, *, down: bool) -> tuple[int, int]:
        """The first and the last position to look at; all others are before the part."""
        positions = range(1, self._position + 1)
        if part.key is None:
            return 1, self._position
        if down:
            return 1, bisect_right(positions, part.key, key=self._time_at)
        return bisect_left(positions, part.key, key=self._time_at) + 1, self._position

    def _blocks(self, part: Part, *, down: bool) -> str:
        """The condition that a block of changes has any of these positions; empty if all blocks are needed."""
        if part.key is None:
            return ""
        first, last = map(self._name, self._between(part, down=down))
        return f" AND {_among_blocks(first, last, zones.TIMES)}"

    def _time_at(self, position: int) -> float:
        """The time of the last change of a task up to a position."""
        wanted = "SELECT updated_at FROM versions WHERE since <= ? AND changed = since ORDER BY since DESC LIMIT 1"
        row = self._conn.execute(wanted, (position,)).fetchone()
        return float(row[0]) if row else 0.0

    def _running(self, part: Part, *, down: bool) -> Iterator[Hit]:
        """The running tasks, by their last change: steps within an attempt are read from the log."""
        found = self._find(self._in_status("running"), _STATUS, "then_.id, {passes}").fetchall()
        times = self._times([task_id for task_id, _passes in found])
        yield from in_order([(task_id, times[task_id], passes) for task_id, passes in found], part, down=down)

    def _by_priority(self, part: Part, *, down: bool) -> Iterator[Hit]:
        """The order of priority: running tasks, which are in no lane, merged with the others."""
        statuses = self._statuses or STATUSES
        others = self._by_lanes([status for status in statuses if status != "running"], part, down=down)
        if "running" not in statuses:
            return others
        ran = self._find(self._in_status("running"), _STATUS, "then_.id, then_.lane, {passes}")
        hits = [(task_id, priority_of(lane), passes) for task_id, lane, passes in ran]
        return merge(others, in_order(hits, part, down=down), key=by_key, reverse=down)

    def _by_lanes(self, statuses: Sequence[str], part: Part, *, down: bool) -> Iterator[Hit]:
        """Walk priority by priority, and merge the lanes of each."""
        lanes = [(status, lane, head) for status in statuses for lane, head in self._lanes(status, down=down)]
        if part.key is not None:
            first, last = lanes_with(int(max(-MAX_INTEGER, min(part.key, MAX_INTEGER))))  # it may be infinite
            lanes = [one for one in lanes if (one[1] <= last if down else one[1] >= first)]
        lanes.sort(key=lambda one: priority_of(one[1]), reverse=down)
        for priority, group in groupby(lanes, key=lambda one: priority_of(one[1])):
            begin = part.id if part.key is not None and priority == part.key else None
            streams = []
            for status, lane, head in group:
                block = head if begin is None else self._head(status, lane, begin, down=down)
                if block is not None:
                    bound = ((block + 1) << zones.LANES) - 1 if down else block << zones.LANES
                    streams.append((bound, self._lane(status, lane, begin, block, down=down)))
            for task_id, _key, passes in lazily(streams, itemgetter(0), down=down):
                yield task_id, priority, passes

    def _by_queue(self, part: Part, *, down: bool) -> Iterator[Hit]:
        """Walk the queue: in each lane its order is that of ids, except for tasks that were scheduled for a time."""
        streams: list[tuple[tuple[float, int] | None, Iterator[Hit]]] = []
        for status in self._statuses or STATUSES:
            for lane, head in self._lanes(status, down=down) if status in WAITING else ():
                if not is_ordered(lane):
                    rows = list(self._lane(status, lane, None, down=down))
                    streams.append((None, in_order(rows, part, down=down)))
                    continue
                begin = None if part.key is None else self._around(part.key - key_of(lane, 0.0), down=down)
                block = head if begin is None else self._head(status, lane, begin, down=down)
                if block is not None:
                    edge = min(((block + 1) << zones.LANES) - 1, self._top) if down else max(block << zones.LANES, 1)
                    bound = key_of(lane, self._created(edge)) + (_SLACK if down else -_SLACK)
                    stream = beyond(self._lane(status, lane, begin, block, down=down), part, down=down)
                    streams.append(((bound, edge), stream))
        return lazily(streams, by_key, down=down)

    def _created(self, task_id: int) -> float:
        """When a task was created; for a forgotten one, when the one before it was, or the first."""
        return float(self._conn.execute(_CREATED, (task_id,)).fetchone()[0])

    def _around(self, created: float, *, down: bool) -> int:
        """A task after which are all tasks created from a time on; with `down`, all created until then."""
        ids = range(1, self._top + 1)
        if down:
            return bisect_right(ids, created + _SLACK, key=self._created) + 1
        return bisect_left(ids, created - _SLACK, key=self._created)

    def _lanes(self, status: str, *, down: bool) -> list[tuple[int, int | None]]:
        """The lanes that tasks in a status ever had, each with its first block that is not empty."""
        wanted = _LANES.format(head=_head_of_lane("lanes.name", down=down))
        first, last = zones.by_lane(status, 0), zones.by_lane(status, 10**20 - 1)
        block = self._ends[down] >> zones.LANES
        rows = self._run(wanted, {"first": first, "last": last, "block": block})
        return [(int(name.rpartition(" ")[2]), block) for name, block in rows]

    def _head(self, status: str, lane: int, begin: int, *, down: bool) -> int | None:
        """The first block of a lane, from a task on, that is not empty."""
        wanted = _head_of_lane(":list", down=down)
        row = self._run(wanted, {"list": zones.by_lane(status, lane), "block": begin >> zones.LANES}).fetchone()
        return None if row is None else int(row[0])

    def _lane(
        self, status: str, lane: int, begin: int | None, block: int | None = None, *, down: bool
    ) -> Iterator[Hit]:
        """The tasks of a lane in the order of ids, after `begin` if given; `block`: the first that is not empty."""
        way, sign = ("DESC", "<") if down else ("ASC", ">")
        name, first = zones.by_lane(status, lane), f"(zones.block << {zones.LANES})"
        first_id, last_id = self._ends
        source = _Source(
            f"{_ZONES} CROSS JOIN versions AS then_ INDEXED BY versions_by_lane",
            f"{_in_zone(':list')} AND {has_status('then_.status', ':status')} AND then_.status <> 'running'"
            " AND then_.lane = :lane"
            f" AND then_.id BETWEEN max({first}, :first_id) AND min({first} + {(1 << zones.LANES) - 1}, :last_id)"
            f" AND then_.since <= :position AND {_among_blocks(':first_id', ':last_id', zones.LANES)}",
            "then_.id",
            has_then=True,
            holds=f"then_.since = {_LATEST.format(id='then_.id')}",
            values={
                "list": name,
                "status": status,
                "lane": lane,
                "begin": begin,
                "block": block,
                "first_id": first_id,
                "last_id": last_id,
            },
        )
        bound = "" if block is None else _from_block(sign, ":block")
        bound += "" if begin is None else f" AND then_.id {sign} :begin"
        order = beside(f"ORDER BY {_BY_BLOCK.format(way=way)}, then_.id {way}", next(self._begun))
        yield from self._find(source, _STATUS, "then_.id, then_.queue_key, {passes}", more=bound, order=order)


def _tasks(tables: str, where: str) -> _Source:
    return _Source(tables, f"{where} AND tasks.id <= :top", "tasks.id")


def _in_zone(name: str) -> str:
    """The condition of a list's zones, and of the wide zones around them, that held at the position."""
    held = "{0}.since <= :position AND ({0}.until IS NULL OR {0}.until > :position)"
    first = f"wide.block << {zones.BLOCKS}"
    return (
        f"wide.list = '{zones.wide('')}' || {name} AND {held.format('wide')}"
        f" AND zones.list = {name} AND {held.format('zones')}"
        f" AND zones.block BETWEEN {first} AND ({first}) + {(1 << zones.BLOCKS) - 1}"
    )


def _from_block(sign: str, block: str) -> str:
    """The condition of a block and those after it, upwards or downwards.

    The plus keeps SQLite from searching by this condition, instead of by the wide block that it has come to.
    """
    return f"wide.block {sign}= {block} >> {zones.BLOCKS} AND +zones.block {sign}= {block}"


def _head_of_lane(name: str, *, down: bool) -> str:
    """The query for the first block of a lane, from `:block` on, that is not empty."""
    way, sign = ("DESC", "<") if down else ("ASC", ">")
    wanted = f"SELECT zones.block FROM {_ZONES} WHERE {_in_zone(name)} AND {_from_block(sign, ':block')}"  # noqa: S608 - our own names
    return f"{wanted} ORDER BY {_BY_BLOCK.format(way=way)} LIMIT 1"


def _among_blocks(first: str, last: str, power: int) -> str:
    """The condition of the blocks, of 2 to the `power` neighbours, with the first neighbour to the last."""
    wide = f"wide.block BETWEEN {first} >> {power + zones.BLOCKS} AND {last} >> {power + zones.BLOCKS}"
    return f"{wide} AND +zones.block BETWEEN {first} >> {power} AND {last} >> {power}"


def _work(lead: _Lead) -> int:
    return max(lead.size, lead.work)


def _status_of(source: _Source) -> str:
    return "then_.status" if source.has_then else _LAST.format(what="status", id=source.id)
