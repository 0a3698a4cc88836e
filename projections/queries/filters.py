"""The filters, sort and page of a list of tasks, with typed errors that name the field at fault."""

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from itertools import product
from math import prod
from typing import Any, NamedTuple, TypeAlias, TypeVar, get_args

import msgspec
from msgspec.structs import replace

from ...events.errors import CONTRADICTION, InvalidValue
from ...events.state import WAITING, Status
from ...events.values import check_plain, check_whole, has_control, in_words
from ..views.schema import OVER
from ..views.words import match_expression

STATUSES: tuple[str, ...] = get_args(Status)
SORTS = ("created_at", "id", "updated_at", "priority", "effective_priority")
MAX_LIMIT = 500
_MAX_INT = 2**53
MAX_VALUES = 100
_TEXTS = ("status", "type", "label", "batch")
_IDS = ("user_id", "document_id", "parent_task_id")
MAX_TEXT = 1000

Texts: TypeAlias = str | tuple[str, ...]
Ids: TypeAlias = int | tuple[int, ...]


class TaskFilters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which tasks, in which order, which page. Checked when made: `InvalidValue` names the field at fault.

    Several values of one field are alternatives; a task has to match all fields. `status`, `type`, `label` and
    `batch` take one value, several values separated by commas, or a tuple. An id of 0 means: none.
    """

    status: Texts = ()
    type: Texts = ()
    user_id: Ids = ()
    document_id: Ids = ()
    parent_task_id: Ids = ()
    label: Texts = ()
    batch: Texts = ()
    search: str = ""
    """Words that must all begin a word in type, paths or last error; `a_b.mp4` means these three words in a row."""
    sort: str = "-created_at"
    """A field of `SORTS`, with `-` for descending order. Ties are in the order of ids, or descending with `-`.

    `-effective_priority` is the order of the queue: ties are in the order of ids, and tasks that do not wait follow.
    A task that is scheduled for later stands where it will stand then.
    """
    limit: int = 50
    offset: int = 0
    as_of: str | int = ""
    """A position or an RFC 3339 time; empty for now."""

    def __post_init__(self) -> None:
        for field in (*_TEXTS, "search", "sort"):
            _check_text(field, getattr(self, field))
        for status in values_of(self.status):
            if status not in STATUSES:
                raise _not_one_of("status", status, STATUSES)
        if self.sort.removeprefix("-") not in SORTS:
            raise _not_one_of("sort", self.sort, SORTS)
        for field in ("user_id", "document_id", "parent_task_id"):
            _check_ids(field, getattr(self, field))
        for field in (*_TEXTS, "user_id", "document_id", "parent_task_id"):
            value = getattr(self, field)
            if isinstance(value, tuple) and len(value) > MAX_VALUES:
                message = f"{field} takes up to {MAX_VALUES} values, not {len(value)}"
                raise InvalidValue(message, field=field, status=CONTRADICTION)  # several lists may add up to it
        if self.search.strip() and not match_expression(self.search):
            raise InvalidValue("A search needs a letter or a digit", field="search")
        check_whole(self.limit, "limit", 1, MAX_LIMIT)
        check_whole(self.offset, "offset", 0, _MAX_INT)

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> "TaskFilters":
        """The filters from texts, as in a URL or on a command line; empty texts are ignored."""
        values: dict[str, Any] = {field: text for field, text in texts.items() if text != ""}
        for field in values:
            if field not in cls.__struct_fields__:
                raise _not_one_of(field, field, cls.__struct_fields__)
        for field in _TEXTS:
            if field in values:
                values[field] = values_of(values[field])
        for field in ("user_id", "document_id", "parent_task_id"):
            if field in values:
                values[field] = tuple(_number(field, part) for part in values_of(values[field]))
        for field in ("limit", "offset"):
            if field in values:
                values[field] = _number(field, values[field])
        return cls(**values)


def filters_of(filters: object) -> TaskFilters:
    """The filters; without any, those for all tasks. Raises `InvalidValue` if it is not a `TaskFilters`."""
    if filters is None:
        return TaskFilters()
    if not isinstance(filters, TaskFilters):
        raise InvalidValue(
            f"filters have to be a TaskFilters, not {in_words(filters)}",
            field="filters",
            remedy='Write TaskFilters(status="failed"), say; it is imported from tasktrail.',
        )
    return filters


def values_of(texts: Texts) -> tuple[str, ...]:
    """The alternatives of a text field."""
    parts = texts.split(",") if isinstance(texts, str) else texts
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def ids_of(ids: Ids) -> tuple[int, ...]:
    """The alternatives of an id field."""
    return (ids,) if isinstance(ids, int) else tuple(dict.fromkeys(ids))


def _number(field: str, text: str) -> int:
    if not re.fullmatch("-?[0-9]{1,19}", text):  # Python accepts more as a number, such as 1_000
        raise InvalidValue(f"{field} must be a whole number, not {text!r}", field=field)
    return int(text)


def _check_ids(field: str, ids: object) -> None:
    for number in ids if isinstance(ids, tuple | list) else (ids,):
        check_whole(number, field, 0, _MAX_INT)


def _check_text(field: str, texts: Texts) -> None:
    for text in texts if isinstance(texts, tuple | list) and field in _TEXTS else (texts,):
        if not isinstance(text, str) or len(text) > MAX_TEXT or has_control(text):
            raise InvalidValue(
                f"{field} must be text of up to {MAX_TEXT} characters, no control characters", field=field
            )
        check_plain(text, field)


def _not_one_of(field: str, value: str, allowed: tuple[str, ...]) -> InvalidValue:
    near = get_close_matches(value.removeprefix("-"), allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InvalidValue(f"{value!r} is not one of {', '.join(allowed)}{hint}", field=field)


# --- the filters in SQL ---
#
# No user input becomes part of a statement, only our own names and question marks.


Counts: TypeAlias = Mapping[tuple[str, str], int]
"""(type, status) → number of tasks, from the kept numbers."""
Query: TypeAlias = tuple[str, list[object]]
Fields: TypeAlias = tuple[str, ...]
"""Fields that share one index."""
_V = TypeVar("_V")

BY_VALUE = {
    "parent_task_id": "tasks_by_parent",
    "document_id": "tasks_by_document",
    "user_id": "tasks_by_user",
    "label": "tasks_by_label",
    "batch": "tasks_by_batch",
}
"""Field → the index of tasks by its values, …"""
_INDEX_OF: dict[Fields, str] = {
    **{(field,): index for field, index in BY_VALUE.items()},
    ("status",): "tasks_by_status",
    ("type",): "tasks_by_type",
    ("status", "type"): "tasks_by_status_and_type",
}
"""… and the same for several fields together."""
BY_SORT = {"priority": "tasks_by_priority", "updated_at": "tasks_by_update", "queue_key": "tasks_by_queue_key"}
"""Column → the index of all tasks in its order."""
_OVER = frozenset(OVER)
_TO_SORT = 16
"""The cost of reading and sorting a task, relative to stepping over one in an index; …"""
_TO_SORT_OVER = 1
"""… and of sorting a failed or cancelled task, whose sort keys are all in one index."""
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


def leads(filters: TaskFilters) -> list[Fields]:
    """The filtered fields whose index may lead to the tasks that pass. In a search the words may lead, too."""
    return [named for named, _values in _together(filters)]


def number_in_index(named: Fields, filters: TaskFilters, most: int) -> Query:
    """The statement that counts the tasks that match all of these fields, up to `most`."""
    among = f"tasks INDEXED BY {_INDEX_OF[named]} WHERE {_one_of(named, filters, 'tasks')}"
    values = [value for field in named for value in values_in(filters, field)]
    return f"SELECT count(*) FROM (SELECT 1 FROM {among} LIMIT ?)", [*values, most]  # noqa: S608 - our own names


def number_with_words(filters: TaskFilters, words: str, most: int) -> Query:
    """The statement that counts the tasks with the words, in FTS5's language, up to `most`."""
    source, values = _source(filters, rows=False, words=words)
    return f"SELECT count(*) FROM (SELECT 1 FROM {source} LIMIT ?)", [*values, most]  # noqa: S608 - our own names


def worth_testing(tasks: int) -> int:
    """The number of tasks with the words from which on it is quicker to search them in the rows of other tasks."""
    return tasks * _TO_TEST // _TO_LOOK_UP


def count(filters: TaskFilters, lead: Fields, at_once: Fields = (), *, others: bool = False, words: str = "") -> Query:
    """The statement that counts all tasks that pass.

    Args:
        filters: the filters.
        lead: as in `page`.
        at_once: the fields by which tasks are looked up first, for words that many tasks have.
        others: whether the tasks in the other statuses are looked up instead of those in the filtered ones.
        words: the search in FTS5's language.
    """
    if _by_text(filters) and not lead:
        source, parameters = _source(filters, rows=False, words=words)
        terms: list[str] = []
        for named, values in _together(filters):
            looked_up = named == at_once
            if looked_up and others:
                left = replace(filters, status=tuple(set(STATUSES).difference(values_of(filters.status))))
                terms.append(f"NOT {_in_index(named, left, 'hit', at_once=True)}")
                parameters += values_of(left.status)
            else:
                terms.append(_in_index(named, filters, "hit", at_once=looked_up))
                parameters += values
        where = f" WHERE {' AND '.join(terms)}" if terms else ""
        return f"SELECT count(*) FROM {source}{where}", parameters  # noqa: S608 - our own names
    source, values = _led(filters, lead)
    return f"SELECT count(*) FROM {source}", values  # noqa: S608 - our own names


def _in_place(filters: TaskFilters) -> TaskFilters:
    """The filters; sorted by id instead if the sort is the queue and none of the tasks is in it."""
    statuses = values_of(filters.status)
    if column_of(filters) == "queue_key" and statuses and WAITING.isdisjoint(statuses):
        return replace(filters, sort="id" if filters.sort.startswith("-") else "-id")
    return filters


def page(filters: TaskFilters, lead: Fields, words: str = "") -> Query:
    """The statement that finds the ids of one page, in order: it sorts the tasks that pass, or walks along the ids.

    `lead`: the fields whose index leads to the fewest tasks; none in a search if the words do. `words`: the search in
    FTS5's language.
    """
    filters = _in_place(filters)
    if _only_failed_or_cancelled(filters) and column_of(filters) != "id":
        return _ended_page(filters)
    order, keys = _order(filters, by_hit=_by_text(filters) and not lead)
    selects: list[str] = []
    parameters: list[object] = []
    for branch in _branches(filters):
        if lead and (_by_id(branch) or _by_text(branch)):
            source, values = _led(branch, lead)
        else:
            where, values = _where(branch, plus=_tries_each_row(branch))
            source, expressions = _source(branch, rows=bool(where) or "tasks." in order, words=words)
            source, values = source + where, expressions + values
        selects.append(f"SELECT {keys} FROM {source} ORDER BY {order}")  # noqa: S608 - our own names
        parameters += values
    if len(selects) > 1:
        # Each alternative is a walk along an index that yields its first few; then they are merged.
        last = filters.limit + filters.offset
        union = " UNION ALL ".join(f"SELECT * FROM ({select} LIMIT {last:d})" for select in selects)  # noqa: S608 - our own names
        selects = [f"SELECT * FROM ({union}) AS tasks ORDER BY {order}"]  # noqa: S608 - our own names
    return f"{selects[0]} LIMIT ? OFFSET ?", [*parameters, filters.limit, filters.offset]


class WalkedPage(NamedTuple):
    """A walk along the index of an order. The filters are tested with other indexes alone, without reading rows."""

    query: Query
    instructions: float
    """The instructions that it may take. It would take many more if the tasks that pass are not spread evenly."""


def walked_page(
    filters: TaskFilters,
    counts: Counts,
    total: int,
    users: int,
    fewest: int,
    words: str = "",
    *,
    words_lead: bool = False,
) -> WalkedPage | None:
    """The walk that finds a page, if it is expected to cost less than sorting all tasks that pass; else None.

    `total`: the number of tasks that pass. `users`: the number of tasks of the users in the filter. In a search:
    `fewest`: the number that match the field with the fewest, of the others; `words`: the search in FTS5's language;
    `words_lead`: whether it leads.
    """
    filters = _in_place(filters)
    column = column_of(filters)
    if column == "id" and not words_lead:
        return None
    # Only tasks that wait have a place in the queue.
    queued = column == "queue_key" and _only_waiting(filters)
    among = sum(number for (_kind, status), number in counts.items() if not queued or status in WAITING)
    passed = (filters.offset + filters.limit) * among / max(1, total)
    order, _keys = _order(filters, by_hit=False)
    asked = list(_together(filters))
    left, looked_up = passed, 0.0
    terms: list[str] = []
    parameters: list[object] = []
    if own := ids_of(filters.user_id):  # the index of each order has it: tasks of others are skipped
        terms.append(f"tasks.user_id IN ({', '.join('?' * len(own))})")
        parameters += own
        asked = [(named, values) for named, values in asked if named != ("user_id",)]
        left *= users / max(1, sum(counts.values()))
    for named, values in asked:
        if not {"status", "type"}.isdisjoint(named):
            size = passing(filters, counts)
        else:
            alone = len(asked) == 1 and not own and not _by_text(filters)
            size = total if alone else sum(counts.values())
        looks = left * prod(len(values_in(filters, field)) for field in named)
        terms.append(_in_index(named, filters, "tasks.id", at_once=size <= looks))
        parameters += values
        looked_up += min(size, looks)
    to_sort: float = (_TO_SORT_OVER if _only_failed_or_cancelled(filters) else _TO_SORT) * total
    tested = 0.0
    if _by_text(filters):
        tested = (filters.offset + filters.limit) * fewest / max(1, total)
        with_words = total * sum(counts.values()) / max(1, fewest)  # as if words and other fields had nothing in common
        if column == "id":  # nothing is sorted
            to_sort = _TO_BEGIN * with_words
        else:
            to_sort = _TO_SORT * with_words if words_lead else (_TO_SORT + _TO_TEST) * fewest
        at_once = column != "id" and _TO_FIND * with_words < _TO_TEST * tested
        if at_once:
            tested, looked_up = 0.0, looked_up + _TO_FIND * with_words
        terms.append(_with_words("tasks.id", at_once=at_once))
        parameters.append(words if at_once else filters.search)
    if max(passed + _TO_TEST * tested, looked_up) > to_sort:
        return None
    if column == "queue_key" and _only_waiting(filters):
        terms.append("tasks.queue_key IS NOT NULL")
    where = f" WHERE {' AND '.join(terms)}" if terms else ""
    index = "NOT INDEXED" if column == "id" else f"INDEXED BY {BY_SORT[column]}"
    statement = f"SELECT tasks.id FROM tasks {index}{where} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608 - our own names
    query = statement, [*parameters, filters.limit, filters.offset]
    steps = passed + looked_up + filters.limit
    cost = steps + tested * _TO_TEST
    instructions = (steps * _INSTRUCTIONS + tested * _INSTRUCTIONS_OF_A_TEST) / cost
    return WalkedPage(query, max(_PATIENCE * cost, _OF_A_SORT * to_sort) * instructions)


def _together(filters: TaskFilters) -> Iterator[tuple[Fields, list[object]]]:
    """The filtered fields, grouped by index, with their values."""
    asked = {field: values for field in (*_TEXTS, *_IDS) if (values := values_in(filters, field))}
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


def values_in(filters: TaskFilters, field: str) -> tuple[object, ...]:
    """The alternatives of a field."""
    value = getattr(filters, field)
    return ids_of(value) if field in _IDS else values_of(value)


def _ended_page(filters: TaskFilters) -> Query:
    """The page of failed and cancelled tasks: they are few, and one index has all their sort keys."""
    order, _keys = _order(filters, by_hit=False)
    where, values = _where(filters, plus=False)
    source = f"tasks INDEXED BY tasks_over{where} AND tasks.status IN {OVER}"  # as the index has it
    statement = f"SELECT tasks.id FROM {source} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608 - our own names
    return statement, [*values, filters.limit, filters.offset]


def every(filters: TaskFilters, columns: str) -> Query:
    """The statement that reads these columns of all tasks that pass, in the order of ids, row by row."""
    # The index has the tasks of one value in order; for several values SQLite would have to sort them all first.
    several = any(len(values) > 1 for values in (*map(values_of, _texts_of(filters)), *map(ids_of, _ids_of(filters))))
    where, values = _where(replace(filters, sort="id"), plus=False)
    source, expressions = _source(filters, rows=True, words=match_expression(filters.search))
    if _by_text(filters):
        order = "hit"
    else:
        source, order = f"{source} NOT INDEXED" if several else source, "tasks.id"
    return f"SELECT {columns} FROM {source}{where} ORDER BY {order}", expressions + values  # noqa: S608 - our own names


def _texts_of(filters: TaskFilters) -> tuple[Texts, ...]:
    return filters.status, filters.type, filters.label, filters.batch


def _ids_of(filters: TaskFilters) -> tuple[Ids, ...]:
    return filters.user_id, filters.document_id, filters.parent_task_id


def _branches(filters: TaskFilters) -> Iterator[TaskFilters]:
    """The filters as alternatives with one value for each field; unchanged if these would be too many or useless."""
    texts = [_singles(values_of(field)) for field in _texts_of(filters)]
    numbers = [_singles(ids_of(field)) for field in _ids_of(filters)]
    number = prod(len(choice) for choice in texts) * prod(len(choice) for choice in numbers)
    of_use = column_of(filters) == "id" and not _by_text(filters) and filters.offset <= _DEEP
    if not (1 < number <= _MAX_BRANCHES and of_use):
        yield filters
        return
    for (status, kind, label, batch), (user, document, parent) in product(product(*texts), product(*numbers)):
        yield TaskFilters(
            status=status,
            type=kind,
            label=label,
            batch=batch,
            user_id=user,
            document_id=document,
            parent_task_id=parent,
        )


def _singles(values: tuple[_V, ...]) -> list[tuple[_V, ...]]:
    return [(value,) for value in values] or [()]


def _by_text(filters: TaskFilters) -> bool:
    return bool(filters.search.strip())


def _by_id(filters: TaskFilters) -> bool:
    """Whether a filter is set that usually lets far fewer tasks pass than status and type do."""
    ids = any(map(ids_of, _ids_of(filters)))
    return ids or bool(values_of(filters.label) or values_of(filters.batch))


def _only_failed_or_cancelled(filters: TaskFilters) -> bool:
    """Whether the only filters are the statuses failed and cancelled, and maybe a type."""
    statuses = values_of(filters.status)
    return bool(statuses) and _OVER.issuperset(statuses) and not (_by_text(filters) or _by_id(filters))


def _only_waiting(filters: TaskFilters) -> bool:
    statuses = values_of(filters.status)
    return bool(statuses) and WAITING.issuperset(statuses)


def passing(filters: TaskFilters, counts: Counts) -> int:
    """The number of tasks that match status and type."""
    statuses, types = values_of(filters.status), values_of(filters.type)
    return sum(
        number
        for (kind, status), number in counts.items()
        if (not statuses or status in statuses) and (not types or kind in types)
    )


def column_of(filters: TaskFilters) -> str:
    """The column to sort by. Ids stand for `created_at`, because they grow in order of creation."""
    field = filters.sort.removeprefix("-")
    return {"created_at": "id", "effective_priority": "queue_key"}.get(field, field)


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


def _source(filters: TaskFilters, *, rows: bool, words: str) -> Query:
    """The FROM part. `rows`: whether a hit in the text index needs more than its id."""
    if not _by_text(filters):
        return "tasks", []
    # CROSS: the text index leads, in the order of ids, and each hit is looked up by its id.
    hits = "(SELECT rowid AS hit FROM search WHERE search MATCH ?)"
    return hits + (" CROSS JOIN tasks ON tasks.id = hit" if rows else ""), [words]


def _where(filters: TaskFilters, *, plus: bool) -> Query:
    """The WHERE part. `plus` keeps SQLite from using the index of status or type; a search uses only the text index."""
    sign = "+" if plus else ""
    by_hit = "+" if _by_text(filters) else ""
    terms: list[str] = []
    parameters: list[object] = []
    for column, values in (
        (f"{sign}tasks.status", values_of(filters.status)),
        (f"{sign}tasks.type", values_of(filters.type)),
        (f"{by_hit}tasks.user_id", ids_of(filters.user_id)),
        (f"{by_hit}tasks.document_id", ids_of(filters.document_id)),
        (f"{by_hit}tasks.parent_task_id", ids_of(filters.parent_task_id)),
        (f"{by_hit}tasks.label", values_of(filters.label)),
        (f"{by_hit}tasks.batch", values_of(filters.batch)),
    ):
        if values:
            terms.append(_has(column, len(values)))
            parameters += values
    if column_of(filters) == "queue_key" and _only_waiting(filters):
        terms.append("tasks.queue_key IS NOT NULL")
    return (f" WHERE {' AND '.join(terms)}" if terms else ""), parameters
