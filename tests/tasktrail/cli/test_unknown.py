"""An unknown value is `null` for programs and `unknown` for people, never a number in its place."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

LINES = (
    *("list", "show 1", "history 1", "log", "why 1", "queue", "stats", "top", "types", "limits", "schedule list"),
    *("notices 1", "endpoints", "submit noop", "pause", "resume", "adjust 1 --priority 2", "start 1", "cancel 1"),
)


def numbers(value: Any) -> Iterator[float]:
    match value:
        case dict():
            for one in value.values():
                yield from numbers(one)
        case list():
            for one in value:
                yield from numbers(one)
        case int() | float() if not isinstance(value, bool):
            yield value


@pytest.mark.parametrize("line", LINES)
def test_no_number_stands_for_what_is_not_known(cli: Callable[..., Any], tasks: Any, line: str) -> None:
    tasks.create_task(type="noop", held=line == "start 1")
    if line == "resume":
        cli("pause")
    shown = cli(*line.split(), "--json")
    told = [json.loads(text) for text in (shown.out or shown.err).splitlines()]
    assert [number for number in numbers(told) if abs(number) >= 2**53] == []


def test_a_machine_that_nobody_has_looked_at_is_unknown(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.create_task(type="noop")
    assert json.loads(cli("queue", "--json").out)["resources"]["sample"] == {
        "cpu_percent": None,
        "memory_available": None,
        "temp_free": None,
        "memory_total": None,
        "temp_total": None,
        "disk_low": False,
    }
