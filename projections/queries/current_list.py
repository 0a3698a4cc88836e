"""A list of tasks as they are now: the number of all that pass its filters, and one page in its order.

A page is found in one of two ways: the tasks that pass are sorted, or the index of the order is walked until the page
is full. What costs less is decided by kept numbers. For an earlier position there is `past_walk`, and for a page that
may be cut short `walk`.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from math import prod
from typing import NamedTuple, TypeAlias

from msgspec.structs import replace

from ...events.state import WAITING
from ..views.schema import BY_SORT, BY_VALUE, OVER
from ..views.words import narrowed_expression
from .bounded import bounded
from .filters import STATUSES, TaskFilters, column_of, ids_of, values_in, values_of
from .kept import KeptNumbers
from .stats import Counts

# No user input becomes part of a statement, only our own names and question marks.

Query: TypeAlias = tuple[str, list[object]]
Fields: TypeAlias = tuple[str, ...]
"""Fields that share one index."""

_INDEX_OF: Mapping[Fields, str] = {
    **{(field,): index for field, index in BY_VALUE.items()},
    ("status",): "tasks_by_status",
    ("type",): "tasks_by_type",
    ("status", "type"): "tasks_by_status_and_type",
}
_FIELDS = ("status", "type", "label", "batch", "user_id", "document_id", "parent_task_id")
_OVER = frozenset(OVER)
_MOST_COUNTED = 10_000
"""The most tasks that are counted to find the leading index, if no smaller bound is known."""
_MOST_TESTED = 10_000
"""The most tasks in whose rows the words of a search are searched to count those that have them."""
_TO_SORT = 16
"""The cost of reading and sorting a task, relative to stepping over one in an index; …"""
_TO_SORT_OVER = 1
"""… and of sorting a failed or cancelled task, or passing it: one index has all that is asked of it."""
_TO_TEST = 40
"""The cost of searching the words of a task in its row, relative to stepping over one in an index; …"""
_TO_FIND = 2
"""… of taking a task from the text index, …"""
_TO_LOOK_UP = 1
"""… of looking one up among tasks that were looked up before, …"""
_TO_BEGIN = 0.3
"""… and of each task that has a word, before the text index names the first."""
_INSTRUCTIONS = 8
"""The most instructions of SQLite's machine to step over a task, or to look it up in an index; …"""
_INSTRUCTIONS_OF_A_TEST = 16
"""… and to search the words of one."""
_PATIENCE = 2
"""A walk is given up once it has cost this many times what was expected, …"""
_OF_A_SORT = 0.25
"""… or this share of the cost of sorting, if that is more: giving up is costly if many tasks pass."""
_MOST_LOOKS = 4
"""Up to this many values are looked up in an index; for more, the task's row is read."""
_MAX_BRANCHES = 16
_DEEP = 20_000


class Lead(NamedTuple):
    """What leads to the tasks that pass: the index of some fields, or the words of a search."""

    fields: Fields
    """Empty if the words lead, or if there are no filters."""
    at_once: Fields = ()
    """The fields by which tasks are looked up first, if the words lead and many tasks have them."""
    fewest: int = 0
    """In a search: the number of tasks that match the field with the fewest; that of all without any other filter."""


class Walk(NamedTuple):
    """A walk along the index of an order. The filters are tested with other indexes alone, without reading rows."""

    query: Query
    instructions: float
    """The instructions that it may take. It would take many more if the tasks that pass are not spread evenly."""


class _Test(NamedTuple):
    """The test of a filter in a walk."""

    condition: str
    values: Sequence[object]
    looks: float = 0.0
    """How many tasks are looked up in another index."""
    rows: float = 0.0
    """In how many rows words are searched."""


class CurrentList:
    """One list."""

    def __init__(self, conn: sqlite3.Connection, filters: TaskFilters, counts: Counts) -> None:
        """`conn`: in a transaction. `counts`: over all tasks."""
        self._conn = conn
        self._filters = _by_id_outside_queue(filters)
        self._counts = counts
        self._all = sum(counts.values())
        self._kept = KeptNumbers(conn, filters, counts)
        self._words = narrowed_expression(conn, filters.search) if _by_text(filters) else ""
        """The search in FTS5's language; empty if there is none."""

    def total(self) -> int:
        """The number of all tasks that pass."""
        total = self._kept.total()
        return int(self._conn.execute(*self.count(self.lead)).fetchone()[0]) if total is None else total

    def page(self, total: int) -> list[int]:
        """The ids of the page, in order, if `total` tasks pass."""
        if total <= self._filters.offset:
            return []
        ids: list[int] | None = None
        walk = self.walk(total)
        if walk is not None:
            ids = bounded(self._conn, walk.instructions, lambda: self._ids(walk.query))
        return ids or self._ids(self._sorted_page())

    def rows(self, columns: str) -> Query:
        """The statement that reads these columns of all tasks that pass, in the order of ids, row by row."""
        # The index has the tasks of one value in order; for several values SQLite would have to sort them all first.
        several = any(len(values_in(self._filters, field)) > 1 for field in _FIELDS)
        where, values = _where(replace(self._filters, sort="id"), plus=False)
        source, expressions = self._source(rows=True)
        if self._words:
            order = "hit"
        else:
            source, order = f"{source} NOT INDEXED" if several else source, "tasks.id"
        return f"SELECT {columns} FROM {source}{where} ORDER BY {order}", expressions + values  # noqa: S608 - our own names

    def _ids(self, query: Query) -> list[int]:
        return [row[0] for row in self._conn.execute(*query)]

    # --- the choice of what leads ---

    @cached_property
    def lead(self) -> Lead:
        """The filtered fields whose index leads to the fewest tasks; none if the words of a search do.

        Kept numbers are used where there are any. Others are counted, but only until it is clear that another has
        fewer.
        """
        asked = [named for named, _values in _together(self._filters)]
        if not asked:
            return Lead((), fewest=self._all if self._words else 0)
        if len(asked) == 1 and not self._words:
            return Lead(asked[0])
        sizes: dict[Fields, int] = {}
        for named in asked:
            if not {"status", "type"}.isdisjoint(named):
                sizes[named] = self._passing
            elif (size := self._kept.size(named[0])) is not None:
                sizes[named] = size
        for named in asked:
            if named not in sizes:
                most = min(sizes.values(), default=_MOST_COUNTED)
                among = f"tasks INDEXED BY {_INDEX_OF[named]} WHERE {_one_of(named, self._filters, 'tasks')}"
                values = [value for field in named for value in values_in(self._filters, field)]
                sizes[named] = self._number_up_to(most + 1, among, values)
        lead = min(asked, key=sizes.__getitem__)
        if not self._words:
            return Lead(lead)
        fewest = sizes[lead]
        # From this many tasks with the words on, it is quicker to search them in the rows of the others.
        many = fewest * _TO_TEST // _TO_LOOK_UP if fewest <= _MOST_TESTED else fewest
        hits = self._number_up_to(many, *self._source(rows=False))
        if hits == many and fewest <= _MOST_TESTED:
            return Lead(lead, fewest=fewest)
        return Lead((), lead if hits >= fewest else (), fewest)

    @cached_property
    def _passing(self) -> int:
        """The number of tasks that match status and type."""
        statuses, types = values_of(self._filters.status), values_of(self._filters.type)
        return sum(
            number
            for (kind, status), number in self._counts.items()
            if (not statuses or status in statuses) and (not types or kind in types)
        )

    def _number_up_to(self, most: int, source: str, values: Sequence[object]) -> int:
        statement = f"SELECT count(*) FROM (SELECT 1 FROM {source} LIMIT ?)"  # noqa: S608 - our own names
        return int(self._conn.execute(statement, [*values, most]).fetchone()[0])

    # --- statements ---

    def count(self, lead: Lead) -> Query:
        """The statement that counts all tasks that pass."""
        if self._words and not lead.fields:
            source, parameters = self._source(rows=False)
            terms: list[str] = []
            for named, values in _together(self._filters):
                at_once = named == lead.at_once
                if at_once and named == ("status",) and 2 * self._passing > self._all:
                    others = tuple(set(STATUSES).difference(values_of(self._filters.status)))
                    left = replace(self._filters, status=others)
                    terms.append(f"NOT {_in_index(named, left, 'hit', at_once=True)}")
                    parameters += others
                else:
                    terms.append(_in_index(named, self._filters, "hit", at_once=at_once))
                    parameters += values
            where = f" WHERE {' AND '.join(terms)}" if terms else ""
            return f"SELECT count(*) FROM {source}{where}", parameters  # noqa: S608 - our own names
        source, values = _led(self._filters, lead.fields)
        return f"SELECT count(*) FROM {source}", values  # noqa: S608 - our own names

    def _sorted_page(self) -> Query:
        """The statement that sorts the tasks that pass, or walks along the ids."""
        filters, lead = self._filters, self.lead.fields
        if self._is_over and column_of(filters) != "id":
            return _ended_page(filters)
        order, keys = _order(filters, by_hit=bool(self._words) and not lead)
        selects: list[str] = []
        parameters: list[object] = []
        for branch in _branches(filters):
            if lead and (_by_id(branch) or self._words):
                source, values = _led(branch, lead)
            else:
                where, values = _where(branch, plus=_tries_each_row(branch))
                source, expressions = self._source(rows=bool(where) or "tasks." in order)
                source, values = source + where, expressions + values
            selects.append(f"SELECT {keys} FROM {source} ORDER BY {order}")  # noqa: S608 - our own names
            parameters += values
        if len(selects) > 1:
            # Each alternative is a walk along an index that yields its first few; then they are merged.
            last = filters.limit + filters.offset
            union = " UNION ALL ".join(f"SELECT * FROM ({select} LIMIT {last:d})" for select in selects)  # noqa: S608 - our own names
            selects = [f"SELECT * FROM ({union}) AS tasks ORDER BY {order}"]  # noqa: S608 - our own names
        return f"{selects[0]} LIMIT ? OFFSET ?", [*parameters, filters.limit, filters.offset]

    @property
    def _is_over(self) -> bool:
        """Whether the failed and cancelled tasks lead: their index has all that is filtered and sorted by."""
        by_status = "status" in self.lead.fields or not _by_id(self._filters)
        return _only_failed_or_cancelled(self._filters) and by_status

    def _source(self, *, rows: bool) -> Query:
        """The FROM part. `rows`: whether a hit in the text index needs more than its id."""
        if not self._words:
            return "tasks", []
        # CROSS: the text index leads, in the order of ids, and each hit is looked up by its id.
        hits = "(SELECT rowid AS hit FROM search WHERE search MATCH ?)"
        return hits + (" CROSS JOIN tasks ON tasks.id = hit" if rows else ""), [self._words]

    # --- the walk along an order ---

    def walk(self, total: int) -> Walk | None:
        """The walk that finds a page of `total` tasks, if it should cost less than sorting them all; else None."""
        filters, column = self._filters, column_of(self._filters)
        if column == "id" and not self._words_lead:
            return None
        # Only tasks that wait have a place in the queue.
        queued = column == "queue_key" and _only_waiting(filters)
        among = sum(number for (_kind, status), number in self._counts.items() if not queued or status in WAITING)
        passed = (filters.offset + filters.limit) * among / max(1, total)
        tests = list(self._tests_in_indexes(passed, total))
        if self._words:
            tests.append(self._test_of_words(total))
        if queued:
            tests.append(_Test("tasks.queue_key IS NOT NULL", ()))
        looked_up, rows = sum(test.looks for test in tests), sum(test.rows for test in tests)
        to_sort = self._cost_of_sorting(total)
        if max(passed + _TO_TEST * rows, looked_up) > to_sort:
            return None
        order, _keys = _order(filters, by_hit=False)
        index = "NOT INDEXED" if column == "id" else f"INDEXED BY {BY_SORT[column]}"
        where = f" WHERE {' AND '.join(test.condition for test in tests)}" if tests else ""
        statement = f"SELECT tasks.id FROM tasks {index}{where} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608 - our own names
        parameters = [value for test in tests for value in test.values]
        steps = passed + looked_up + filters.limit
        cost = steps + rows * _TO_TEST
        instructions = (steps * _INSTRUCTIONS + rows * _INSTRUCTIONS_OF_A_TEST) / cost
        return Walk(
            (statement, [*parameters, filters.limit, filters.offset]),
            max(_PATIENCE * cost, _OF_A_SORT * to_sort) * instructions,
        )

    @property
    def _words_lead(self) -> bool:
        return bool(self._words) and not self.lead.fields

    def _tests_in_indexes(self, passed: float, total: int) -> Iterator[_Test]:
        """The tests of all filters but the search, if the walk passes so many tasks."""
        asked = list(_together(self._filters))
        own = ids_of(self._filters.user_id)
        if own:  # the index of each order has it: tasks of others are skipped
            yield _Test(f"tasks.user_id IN ({', '.join('?' * len(own))})", own)
            asked = [(named, values) for named, values in asked if named != ("user_id",)]
            users = self._kept.size("user_id")
            passed *= (self._all if users is None else users) / max(1, self._all)
        for named, values in asked:
            if not {"status", "type"}.isdisjoint(named):
                size = self._passing
            else:
                alone = len(asked) == 1 and not own and not self._words
                size = total if alone else self._all
            looks = passed * prod(len(values_in(self._filters, field)) for field in named)
            condition = _in_index(named, self._filters, "tasks.id", at_once=size <= looks)
            yield _Test(condition, values, looks=min(size, looks))

    def _test_of_words(self, total: int) -> _Test:
        rows = (self._filters.offset + self._filters.limit) * self.lead.fewest / max(1, total)
        with_words = self._with_words(total)
        if column_of(self._filters) != "id" and _TO_FIND * with_words < _TO_TEST * rows:
            return _Test(_with_words("tasks.id", at_once=True), [self._words], looks=_TO_FIND * with_words)
        return _Test(_with_words("tasks.id"), [self._filters.search], rows=rows)

    def _with_words(self, total: int) -> float:
        """How many tasks have the words, as if these and the other filters had nothing in common."""
        return total * self._all / max(1, self.lead.fewest)

    def _cost_of_sorting(self, total: int) -> float:
        if not self._words:
            return _TO_SORT_OVER * self._passing if self._is_over else _TO_SORT * total
        if column_of(self._filters) == "id":  # nothing is sorted
            return _TO_BEGIN * self._with_words(total)
        if self._words_lead:
            return _TO_SORT * self._with_words(total)
        return (_TO_SORT + _TO_TEST) * self.lead.fewest


def _by_id_outside_queue(filters: TaskFilters) -> TaskFilters:
    """The filters; sorted by id instead if the sort is the queue and none of the tasks is in it."""
    statuses = values_of(filters.status)
    if column_of(filters) == "queue_key" and statuses and WAITING.isdisjoint(statuses):
        return replace(filters, sort="id" if filters.sort.startswith("-") else "-id")
    return filters


def _ended_page(filters: TaskFilters) -> Query:
    """The page of failed and cancelled tasks: they are few, and one index has all their values and sort keys."""
    order, _keys = _order(filters, by_hit=False)
    where, values = _where(filters, plus=False)
    source = f"tasks INDEXED BY tasks_over{where} AND tasks.status IN {OVER}"  # as the index has it
    statement = f"SELECT tasks.id FROM {source} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608 - our own names
    return statement, [*values, filters.limit, filters.offset]


def _together(filters: TaskFilters) -> Iterator[tuple[Fields, list[object]]]:
    """The filtered fields, grouped by index, with their values."""
    asked = {field: values for field in _FIELDS if (values := values_in(filters, field))}
    if "status" in asked and "type" in asked:
        yield ("status", "type"), [*asked.pop("status"), *asked.pop("type")]
    for field, values in asked.items():
        yield (field,), list(values)


def _in_index(named: Fields, filters: TaskFilters, task: str, *, at_once: bool = False) -> str:
    """The condition that a task matches all of the fields; `at_once`: all matching tasks are looked up first."""
    own, where = f"tasks AS own INDEXED BY {_INDEX_OF[named]}", _one_of(named, filters, "own")
    if at_once:
        return f"+{task} IN (SELECT own.id FROM {own} WHERE {where})"  # noqa: S608 - our own names
    return f"+EXISTS (SELECT 1 FROM {own} WHERE {where} AND own.id = {task})"  # noqa: S608 - our own names


def _with_words(task: str, *, at_once: bool = False) -> str:
    """The condition that a task has the words; `at_once`: all tasks that do are looked up first, else its row is read.

    As a query of its own it is tested after all other conditions.
    """
    if at_once:
        return f"+{task} IN (SELECT rowid FROM search WHERE search MATCH ?)"  # noqa: S608 - our own names
    return f"+EXISTS (SELECT 1 FROM tasks AS own WHERE own.id = {task} AND has_words(?, own.spec, own.state))"  # noqa: S608 - our own names


def _one_of(named: Fields, filters: TaskFilters, table: str) -> str:
    """The condition that a row matches all of the fields."""
    return " AND ".join(_has(f"{table}.{field}", len(values_in(filters, field))) for field in named)


def _has(column: str, values: int) -> str:
    """The condition that a column has one of `values` values."""
    marks = ["+?"] * values  # without the plus SQLite compiles the statement each time, see `has_status`
    return f"{column} = +?" if values == 1 else f"{column} IN ({', '.join(marks)})"


def _led(filters: TaskFilters, lead: Fields) -> Query:
    """The tasks from one index that match the other fields, too: these are looked up in indexes, as rows are longer.

    An index is searched once for each value, so for many values the row is read instead.
    """
    terms: list[str] = []
    parameters: list[object] = []
    for named, values in _together(filters):
        looks = prod(len(values_in(filters, field)) for field in named)
        if named == lead:
            terms.append(_one_of(named, filters, "tasks"))
        elif looks <= _MOST_LOOKS:
            terms.append(_in_index(named, filters, "tasks.id"))
        else:
            terms.append(_one_of(named, filters, "+tasks"))
        parameters += values
    if _by_text(filters):
        terms.append(_with_words("tasks.id"))
        parameters.append(filters.search)
    return f"tasks INDEXED BY {_INDEX_OF[lead]} WHERE {' AND '.join(terms)}", parameters


def _branches(filters: TaskFilters) -> Iterator[TaskFilters]:
    """The filters as alternatives with one value for each field; unchanged if these would be too many or useless."""
    choices: list[list[tuple[object, ...]]] = [
        [(value,) for value in values_in(filters, field)] or [()] for field in _FIELDS
    ]
    of_use = column_of(filters) == "id" and not _by_text(filters) and filters.offset <= _DEEP
    if not (1 < prod(map(len, choices)) <= _MAX_BRANCHES and of_use):
        yield filters
        return
    for values in product(*choices):
        yield replace(filters, **dict(zip(_FIELDS, values, strict=True)))


def _by_text(filters: TaskFilters) -> bool:
    return bool(filters.search.strip())


def _by_id(filters: TaskFilters) -> bool:
    """Whether a filter is set that usually lets far fewer tasks pass than status and type do."""
    return any(values_in(filters, field) for field in BY_VALUE)


def _only_failed_or_cancelled(filters: TaskFilters) -> bool:
    """Whether only tasks that failed or were cancelled are asked for, without a search."""
    statuses = values_of(filters.status)
    return bool(statuses) and _OVER.issuperset(statuses) and not _by_text(filters)


def _only_waiting(filters: TaskFilters) -> bool:
    statuses = values_of(filters.status)
    return bool(statuses) and WAITING.issuperset(statuses)


def _order(filters: TaskFilters, *, by_hit: bool) -> tuple[str, str]:
    """The ORDER BY terms and the columns they need. The queue's direction is reversed: its head has the least key.

    `by_hit`: whether the words of a search lead.
    """
    column, down = column_of(filters), filters.sort.startswith("-")
    way = "DESC" if down else "ASC"
    if column == "id":
        key = "hit" if by_hit else "tasks.id"
        return f"{key} {way}", key
    if column == "queue_key":
        way = "ASC NULLS LAST, tasks.id ASC" if down else "DESC NULLS FIRST, tasks.id DESC"
        return f"tasks.queue_key {way}", "tasks.id, tasks.queue_key"
    return f"tasks.{column} {way}, tasks.id {way}", f"tasks.id, tasks.{column}"


def _tries_each_row(filters: TaskFilters) -> bool:
    """Whether status and type are tested on each row, while another index leads."""
    return _by_text(filters) or (column_of(filters) == "queue_key" and _only_waiting(filters))


def _where(filters: TaskFilters, *, plus: bool) -> Query:
    """The WHERE part. `plus` keeps SQLite from using the index of status or type; a search uses only the text index."""
    terms: list[str] = []
    parameters: list[object] = []
    for field in _FIELDS:
        if values := values_in(filters, field):
            sign = "+" if (plus if field in {"status", "type"} else _by_text(filters)) else ""
            terms.append(_has(f"{sign}tasks.{field}", len(values)))
            parameters += values
    if column_of(filters) == "queue_key" and _only_waiting(filters):
        terms.append("tasks.queue_key IS NOT NULL")
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), parameters
