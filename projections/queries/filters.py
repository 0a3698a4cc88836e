"""The filters, sort and page of a list of tasks, with typed errors that name the field at fault."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, TypeAlias, get_args

import msgspec

from ...events.errors import CONTRADICTION, InvalidValue
from ...events.state import Status
from ...events.values import check_plain, check_whole, has_control, in_words
from ..views.words import match_expression

STATUSES: tuple[str, ...] = get_args(Status)
SORTS = ("created_at", "id", "updated_at", "priority", "effective_priority")
MAX_LIMIT = 500
_MAX_INT = 2**53
MAX_VALUES = 100
_TEXTS = ("status", "type", "label", "batch")
_IDS = ("user_id", "document_id", "parent_task_id")
MAX_TEXT = 1000
_SEPARATOR = re.compile(r"(?<!\\),")
"""A comma between two values; one after a backslash belongs to the value."""

Texts: TypeAlias = str | tuple[str, ...]
Ids: TypeAlias = int | tuple[int, ...]


class TaskFilters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    r"""Which tasks, in which order, which page. Checked when made: `InvalidValue` names the field at fault.

    Several values of one field are alternatives; a task has to match all fields. `status`, `type`, `label` and
    `batch` take one value, several values separated by commas, or a tuple. A comma within a value has a backslash in
    front of it (`a\,b`), except in a tuple. An id of 0 means: none.
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
    def parse(cls, texts: Mapping[str, str | Sequence[str]]) -> "TaskFilters":
        """The filters from texts, as in a URL or on a command line; empty texts are ignored.

        A field of several values may also have a list of such texts.
        """
        values: dict[str, Any] = {field: text for field, text in texts.items() if text}
        for field in values:
            if field not in cls.__struct_fields__:
                raise _not_one_of(field, field, cls.__struct_fields__)
        for field in _TEXTS:
            if field in values:
                values[field] = _all_values(values[field])
        for field in ("user_id", "document_id", "parent_task_id"):
            if field in values:
                values[field] = tuple(_number(field, part) for part in _all_values(values[field]))
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
    r"""The alternatives of a text field. In one text they are separated by commas, and `\,` is a comma within one."""
    parts = [part.replace("\\,", ",") for part in _SEPARATOR.split(texts)] if isinstance(texts, str) else texts
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))


def text_of(values: Iterable[str]) -> str:
    """The one text that `values_of` reads as these values."""
    return ",".join(map(in_a_list, values))


def in_a_list(value: str) -> str:
    """The value as it is written in a list with commas. A last backslash is kept from the comma behind by a space."""
    return value.replace(",", "\\,") + " " * value.endswith("\\")


def _all_values(texts: str | Sequence[str]) -> tuple[str, ...]:
    one_by_one = [texts] if isinstance(texts, str) else texts
    return tuple(dict.fromkeys(value for text in one_by_one for value in values_of(text)))


def ids_of(ids: Ids) -> tuple[int, ...]:
    """The alternatives of an id field."""
    return (ids,) if isinstance(ids, int) else tuple(dict.fromkeys(ids))


def values_in(filters: TaskFilters, field: str) -> tuple[object, ...]:
    """The alternatives of a field."""
    value = getattr(filters, field)
    return ids_of(value) if field in _IDS else values_of(value)


def column_of(filters: TaskFilters) -> str:
    """The column to sort by. Ids stand for `created_at`, because they grow in order of creation."""
    field = filters.sort.removeprefix("-")
    return {"created_at": "id", "effective_priority": "queue_key"}.get(field, field)


def _number(field: str, text: str) -> int:
    if re.fullmatch("[0-9]{20,}", text):
        raise InvalidValue(f"{field} is too large a number", field=field)
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
