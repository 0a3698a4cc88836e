"""What a list of tasks may be asked for: filters, sort and page, with typed errors that name the field at fault."""

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeAlias, get_args

import msgspec

from ...events.errors import InvalidValue
from ...events.state import Status
from ...events.values import check_whole, in_words
from ..views.search import match_expression

STATUSES: tuple[str, ...] = get_args(Status)
SORTS = ("created_at", "id", "updated_at", "priority", "effective_priority")
MAX_LIMIT = 500
_MAX_INT = 2**53
_MAX_VALUES = 100
_MAX_TEXT = 1000

Texts: TypeAlias = str | tuple[str, ...]
Ids: TypeAlias = int | tuple[int, ...]


class TaskFilters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Which tasks, in which order, which page. Checked when made: `InvalidValue` names the field at fault.

    Several values of one field are alternatives; different fields must all hold. `status`, `type` and `label` take one
    value, several with commas between, or a tuple. An id of 0 means: none.
    """

    status: Texts = ()
    type: Texts = ()
    user_id: Ids = ()
    document_id: Ids = ()
    parent_task_id: Ids = ()
    label: Texts = ()
    search: str = ""
    """Words, all of which must begin a word in type, paths or error."""
    sort: str = "-created_at"
    """A field of `SORTS`, with `-` for the greatest first; equal ones stand in the order of ids.

    `-effective_priority` is the order of the queue; tasks that do not wait follow.
    """
    limit: int = 50
    offset: int = 0
    as_of: str | int = ""
    """A position or an RFC 3339 time; empty for now."""

    def __post_init__(self) -> None:
        for field in ("status", "type", "label", "search", "sort"):
            _check_text(field, getattr(self, field))
        for status in values_of(self.status):
            if status not in STATUSES:
                raise _not_one_of("status", status, STATUSES)
        if self.sort.removeprefix("-") not in SORTS:
            raise _not_one_of("sort", self.sort, SORTS)
        for field in ("user_id", "document_id", "parent_task_id"):
            _check_ids(field, getattr(self, field))
        for field in ("status", "type", "user_id", "document_id", "parent_task_id", "label"):
            value = getattr(self, field)
            if isinstance(value, tuple) and len(value) > _MAX_VALUES:
                raise InvalidValue(f"{field} takes up to {_MAX_VALUES} values, not {len(value)}", field=field)
        if self.search.strip() and not match_expression(self.search):
            raise InvalidValue("A search needs a letter or a digit", field="search")
        check_whole(self.limit, "limit", 1, MAX_LIMIT)
        check_whole(self.offset, "offset", 0, _MAX_INT)

    @classmethod
    def parse(cls, texts: Mapping[str, str]) -> "TaskFilters":
        """From texts, as an address or a command line holds them; empty ones do not count."""
        given: dict[str, Any] = {field: text for field, text in texts.items() if text != ""}
        for field in given:
            if field not in cls.__struct_fields__:
                raise _not_one_of(field, field, cls.__struct_fields__)
        for field in ("user_id", "document_id", "parent_task_id"):
            if field in given:
                given[field] = tuple(_number(field, part) for part in values_of(given[field]))
        for field in ("limit", "offset"):
            if field in given:
                given[field] = _number(field, given[field])
        return cls(**given)


def filters_of(filters: object) -> TaskFilters:
    """The filters; all tasks when there are none. Raises `InvalidValue` for what is no `TaskFilters`."""
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
    try:
        return int(text)
    except ValueError:
        raise InvalidValue(f"{field} must be a whole number, not {text!r}", field=field) from None


def _check_ids(field: str, ids: object) -> None:
    for number in ids if isinstance(ids, tuple | list) else (ids,):
        check_whole(number, field, 0, _MAX_INT)


def _check_text(field: str, texts: Texts) -> None:
    for text in texts if isinstance(texts, tuple | list) and field in ("status", "type", "label") else (texts,):
        if not isinstance(text, str) or len(text) > _MAX_TEXT or not text.isprintable():
            raise InvalidValue(f"{field} must be up to {_MAX_TEXT} printable characters", field=field)


def _not_one_of(field: str, value: str, allowed: tuple[str, ...]) -> InvalidValue:
    near = get_close_matches(value.removeprefix("-"), allowed, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return InvalidValue(f"{value!r} is not one of {', '.join(allowed)}{hint}", field=field)
