"""Shell completion besides commands and options: types, their options and values, statuses, ids, names.

It asks the service or the files. If neither can answer, nothing is offered and no error is printed.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeAlias

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ZshComplete,
    add_completion_class,
    split_arg_string,
)

from ..events.counted import counted
from .session import Session, session_of
from .terminal import plain

Completion: TypeAlias = tuple[str, str]
"""A word and its explanation."""
ALL_STATUSES = ("pending", "running", "completed", "failed", "cancelled", "retrying")
WORDS = "tasktrail.words"
"""The context key for the words of the command: click does not pass them to the completion of an option."""
_SPECIAL = re.compile(r"[^\w@%+=:,./-]")
"""Characters with a special meaning to a shell."""
_SHOWN = 50
_SOUGHT = 500


class SuggestedParam(click.ParamType[str]):
    """A text for which the shell suggests known values. Any text is accepted here; the command checks it."""

    def __init__(self, name: str, find: Callable[[Session], Iterable[Completion]], *, commas: bool = False) -> None:
        self.name = name
        self._find = find
        self._commas = commas

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:  # noqa: ARG002 - click's signature
        """Return the suggestions that begin with what was typed; after a comma, those not yet in the list."""
        if self._commas:
            return listed_items(ctx, lambda session, _word: self._find(session), incomplete)
        return completion_items(suggestions(ctx, self._find), incomplete)


def suggestions(ctx: click.Context, find: Callable[[Session], Iterable[Completion]]) -> list[Completion]:
    """Return what `find` finds, or an empty list if nothing can answer."""
    try:
        session = session_of(ctx)
        session.refuse_unusable()
        return list(find(session))
    except Exception:  # noqa: BLE001 - a traceback in the middle of a typed line helps no one
        return []


def completion_items(offers: Iterable[Completion], incomplete: str) -> list[CompletionItem[Any]]:
    """Return the offers that begin with what was typed, as click's items.

    A shell reads them line by line, and some were written by others, so each has to be on one line.
    """
    fitting = ((text, what) for text, what in offers if text.startswith(incomplete) and text.isprintable())
    return [CompletionItem(text, help=plain(what)) for text, what in fitting]


def listed_items(
    ctx: click.Context, find: Callable[[Session, str], Iterable[Completion]], incomplete: str
) -> list[CompletionItem[Any]]:
    """Return what `find` finds for the last of several words with commas, without those that are in the list."""
    before, comma, word = incomplete.rpartition(",")
    given, found = before.split(","), suggestions(ctx, lambda session: find(session, word))
    items = completion_items(((before + comma + text, what) for text, what in found if text not in given), incomplete)
    return [item for item in items if word or not comma or item.value != incomplete]


def type_names(session: Session) -> Iterator[Completion]:
    """Yield the task types."""
    for info in session.environment.types(session)[0]:
        yield info.name, info.summary


def preset_names(session: Session) -> Iterator[Completion]:
    """Yield the presets."""
    for info in session.environment.types(session)[0]:
        for preset in info.presets:
            yield preset.name, f"{preset.type}: {preset.summary}"


def status_names(_session: Session) -> Iterator[Completion]:
    """Yield the six statuses."""
    return ((status, "") for status in ALL_STATUSES)


def task_ids(session: Session, begun: str, statuses: tuple[str, ...]) -> Iterator[Completion]:
    """Yield the newest tasks whose number begins with `begun`; with statuses, only those among the newest."""
    from ..projections import TaskFilters

    with session.reading() as reading:
        if begun and not statuses:
            newest = reading.list_tasks(TaskFilters(limit=1))[0]
            numbers = islice(_numbers(begun, newest[0].id), _SHOWN) if newest else ()
            found = [reading.get_task(number) for number in numbers]
        else:
            found = reading.list_tasks(TaskFilters(status=statuses, limit=_SOUGHT if begun else _SHOWN))[0]
        for task in found:
            yield str(task.id), f"{task.status} {task.type} {os.path.basename(task.input_file)}".rstrip()  # noqa: PTH119


def _numbers(begun: str, last: int) -> Iterator[int]:
    """Yield the numbers up to the last that begin with `begun`, the greatest first; ids have no gaps."""
    first = int(begun)
    for digits in range(len(str(last)) - len(begun), -1, -1):
        lowest = first * 10**digits
        yield from range(min(lowest + 10**digits - 1, last), lowest - 1, -1)


def zone_names(_session: Session) -> Iterator[Completion]:
    """Yield the time zones."""
    from zoneinfo import available_timezones

    return ((zone, "") for zone in sorted(available_timezones()))


def sort_fields(_session: Session) -> Iterator[Completion]:
    """Yield the fields by which a list can be sorted, in both directions."""
    from ..projections.queries.filters import SORTS

    return ((f"{way}{field}", "") for field in SORTS for way in ("", "-"))


def batch_names(session: Session) -> Iterator[Completion]:
    """Yield the names of the newest batches."""
    with session.reading() as reading:
        for batch in reading.batches(_SHOWN):
            yield batch.batch, counted(batch.total, "task")


def schedule_names(session: Session) -> Iterator[Completion]:
    """Yield the names of the schedules."""
    with session.reading() as reading:
        for board in reading.schedules():
            yield board.schedule, board.spec.task.type


def token_names(session: Session) -> Iterator[Completion]:
    """Yield the names of the tokens."""
    with session.reading() as reading:
        for board in reading.tokens():
            yield board.token, board.role


def witness_names(session: Session) -> Iterator[Completion]:
    """Yield the names of the witnesses."""
    for one, signed in session.environment.witnesses(session):
        yield signed.witness, one.url


def disabled_endpoints(session: Session) -> Iterator[Completion]:
    """Yield the disabled endpoints."""
    with session.reading() as reading:
        for endpoint in reading.endpoints():
            yield endpoint.target, endpoint.detail


BATCH = SuggestedParam("batch", batch_names)
BATCHES = SuggestedParam("batches", batch_names, commas=True)
TYPES = SuggestedParam("types", type_names, commas=True)
SORT_FIELDS = SuggestedParam("fields", sort_fields)
STATUS_WORDS = SuggestedParam("statuses", status_names, commas=True)


def options_of_type(session: Session, task_type: str) -> dict[str, dict[str, Any]]:
    """Return the options of a type by name, each with its JSON schema; empty for an unknown type."""
    for info in session.environment.types(session)[0]:
        if info.name == task_type:
            home = info.options.get("$defs", {}).get(info.options.get("$ref", "").rpartition("/")[2], info.options)
            return {name: _resolved(option, info.options) for name, option in home.get("properties", {}).items()}
    return {}


def _resolved(option: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    found = schema.get("$defs", {}).get(option.get("$ref", "").rpartition("/")[2], {})
    return {**found, **option}


def values_of_option(option: dict[str, Any]) -> Iterator[str]:
    """Yield the values that an option can be completed to: its choices, true or false, or its default."""
    for branch in (option, *option.get("anyOf", ())):
        yield from map(_as_typed, branch.get("enum", ()))
        if branch.get("type") == "boolean":
            yield from ("true", "false")
    if option.get("default") not in (None, ""):
        yield _as_typed(option["default"])


def _as_typed(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))


def option_pairs(session: Session, words: Iterable[str], incomplete: str) -> Iterator[Completion]:
    """Yield `key=` for each option of the type among the words; after the `=`, its values."""
    options = next(filter(None, (options_of_type(session, word) for word in words)), {})
    key, equals, _value = incomplete.partition("=")
    if not equals:
        yield from ((f"{name}=", option.get("description", "")) for name, option in options.items())
    elif key in options:
        yield from ((f"{key}={value}", "") for value in dict.fromkeys(values_of_option(options[key])))


class Bash(BashComplete):
    """Bash splits `key=value` and `http://host` into three words, and puts the completion in place of the last."""

    def get_completion_args(self) -> tuple[list[str], str]:
        """Join the split words again."""
        number = int(os.environ["COMP_CWORD"])
        words = split_arg_string(os.environ["COMP_WORDS"])[: number + 1]
        words += [""] * (number + 1 - len(words))
        joined: list[str] = []
        self._cut = 0
        after_separator = False
        for word in words:
            separates = bool(word) and not word.strip("=:")  # `::` is one word
            if joined and (separates or after_separator):
                self._cut = len(joined[-1]) + len(word) * separates
                joined[-1] += word
            else:
                self._cut = 0
                joined.append(word)
            after_separator = separates
        if joined[-1].startswith("--"):  # click completes the value of an option without its name
            self._cut = max(0, self._cut - len(joined[-1].partition("=")[0]) - 1)
        return joined[1:-1], joined[-1]

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """Return the completion without the part that is on the line before the last word.

        Bash puts it on the line literally, where `$(…)` would be a command. Each backslash is doubled, because reading
        the completion removes one.
        """
        word = item.value[self._cut :]
        if item.type == "plain":
            word = _SPECIAL.sub(r"\\\g<0>", word).replace("\\", "\\\\")
        return f"{item.type},{word}"


class Zsh(ZshComplete):
    """Zsh completes the value of `--name=value`. Click's script would put the value in place of the whole word."""

    source_template = ZshComplete.source_template.replace(
        "    for type key", """    [[ "$PREFIX" == --*=* ]] && compset -P 1 '*='\n\n    for type key"""
    ).replace(" -U", ' -U -i "$IPREFIX"')


class Fish(FishComplete):
    """Fish completes whole words, also `--name=value`, and values with commas.

    Click's script leaves out the name, and cuts values and descriptions at their first comma.
    """

    source_template = """\
function %(complete_func)s;
    set -l word (commandline -ct);
    set -l before (string match --regex -- '^--[^=]+=' $word);

    for completion in (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) COMP_CWORD=$word %(prog_name)s);
        set -l kind (string split --max 1 "," -- $completion);

        if test $kind[1] = "dir";
            string replace --regex -- '^' "$before" (__fish_complete_directories $kind[2]);
        else if test $kind[1] = "file";
            string replace --regex -- '^' "$before" (__fish_complete_path $kind[2]);
        else if test $kind[1] = "plain";
            printf "%%s\\n" "$before$kind[2]";
        end;
    end;
end;

complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)";
"""


def register() -> None:
    """Make the shells' completion use these classes instead of click's."""
    for shell in (Bash, Zsh, Fish):
        add_completion_class(shell)
