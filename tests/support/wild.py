"""Values from the whole range of what can be written down: for campaigns that look for what a service chokes on."""

import json
from random import Random
from typing import Any

INTEGERS = (
    *(0, 1, -1, 2, 255, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53 - 1, 2**53, 2**53 + 1),
    *(2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64, 10**20, -(10**20), 10**40, 10**400),
)
FLOATS = (0.0, -0.0, 5e-324, 2.2e-308, 1e-7, 0.1, -1.5, 1e16, 1e22, 9.007199254740993e15, 1.7976931348623157e308)
NO_NUMBERS = (float("nan"), float("inf"), float("-inf"))
TEXTS = (
    *("", " ", "a", "0", "-1", "1e999", "NaN", "null", "true", "é", "\u202e\u2066", "\U0001f600", "\U0010ffff"),
    *("\0", "\x1f", "\x7f", "\r\n", "\ufeff", "\ufffe", "%s%n%x", "'; DROP TABLE events; --", "../../etc/passwd"),
    *("{{7*7}}", "$(id)", "=1+1", "a" * 4096, "é" * 5000, "2026-01-01T00:00:00Z", "9999-12-31T23:59:59.999999Z"),
)
NO_TEXTS = ("\ud800", "\udcff", "a\udc80b")
MOMENTS = (
    *("2026-08-01T22:00:00Z", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "1970-01-01T00:00:00Z"),
    *("2026-08-01T22:00:00", "2026-02-30T00:00:00Z", "2016-12-31T23:59:60Z", "2100-01-01T00:00:00.1234567Z"),
)


class Wild:
    """Draws values. `python` also draws what has no place in JSON: NaN, lone surrogates, bytes, sets, odd keys."""

    def __init__(self, rng: Random, *, python: bool) -> None:
        self.rng = rng
        self._python = python

    def integer(self) -> int:
        """Any whole number, often near a bound."""
        if self.rng.random() < 0.7:
            return self.rng.choice(INTEGERS)
        return self.rng.getrandbits(self.rng.randint(1, 80)) * self.rng.choice((1, -1))

    def number(self) -> float:
        """Any number, often near a bound."""
        dice = self.rng.random()
        if dice < 0.4:
            return self.integer()
        if self._python and dice < 0.5:
            return self.rng.choice(NO_NUMBERS)
        return self.rng.choice(FLOATS) if dice < 0.8 else self.rng.uniform(-1e6, 1e6)

    def text(self) -> str:
        """Any text."""
        if self._python and self.rng.random() < 0.1:
            return self.rng.choice(NO_TEXTS)
        if self.rng.random() < 0.6:
            return self.rng.choice(TEXTS)
        return "".join(chr(self._scalar()) for _ in range(self.rng.randint(0, 20)))

    def _scalar(self) -> int:
        code = self.rng.choice(
            (self.rng.randrange(128), self.rng.randrange(0xD800), self.rng.randrange(0xE000, 0x110000))
        )
        return int(code)

    def value(self, depth: int = 0) -> Any:
        """Anything, nested now and then, sometimes very deep."""
        dice = self.rng.random()
        if dice < 0.35:
            return self.integer()
        if dice < 0.55:
            return self.number()
        if dice < 0.75:
            return self.text()
        if dice < 0.83 or depth > 3:
            return self.rng.choice((None, True, False))
        if dice < 0.84:
            return self._deep()
        if self._python and dice < 0.88:
            return self.rng.choice((b"\xff", {1, 2}, object(), 1j, {1: 2}, {None: 1}, (1, 2), range(3)))
        if dice < 0.93:
            return [self.value(depth + 1) for _ in range(self.rng.randint(0, 4))]
        return {self.text(): self.value(depth + 1) for _ in range(self.rng.randint(0, 4))}

    def _deep(self) -> Any:
        deep: Any = 1
        for _ in range(self.rng.choice((31, 32, 33, 200))):
            deep = [deep] if self.rng.random() < 0.5 else {"a": deep}
        return deep


def as_json(value: Any, rng: Random) -> str:
    """JSON of what JSON can hold; now and then with a number that it can write and nobody can hold."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.01:
        text = text.replace(":1,", rng.choice((":1e400,", ":-1e999,", f":{'9' * 5000},", ":1E-999,", ":-0,")), 1)
    return text
