"""What came of one try to deliver a notice, and when the next one follows. Pure arithmetic."""

import msgspec

MAX_DETAIL = 1024
"""Longest detail, in bytes of UTF-8: it is recorded in the log."""

DELAYS = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 50400.0, 72000.0, 86400.0)
"""Seconds between the tries: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h."""

JITTER = 0.1
"""So large a part of the delay may be added, so that many failed at once do not come back at once."""

LONGEST_RETRY_AFTER = 86400.0


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came of one try."""

    ok: bool
    detail: str
    """For people, at most `MAX_DETAIL` bytes, without secrets. Make it with `brief`."""
    retryable: bool = True
    """Whether another try could do better."""
    disabled: bool = False
    """The receiver said that it is gone for good."""
    retry_after: float | None = None
    """Seconds that the receiver asked to be left alone."""
    answered: bool = False
    """The endpoint is there and works: a failure is this receiver's affair, not that of all behind the endpoint."""


def next_delay(result: Result, tries: int, jitter: float) -> float | None:
    """Seconds until the next try; none when there is none.

    Args:
        result: of the try just made.
        tries: tries made so far, this one included.
        jitter: a random number from 0 to 1.
    """
    if result.ok or not result.retryable or result.disabled or tries > len(DELAYS):
        return None
    return max(DELAYS[tries - 1] * (1 + JITTER * jitter), wish(result))


def wish(result: Result) -> float:
    """Seconds that the receiver wants to be left alone, as far as that is honoured."""
    return min(result.retry_after or 0.0, LONGEST_RETRY_AFTER)


def brief(text: str, limit: int = MAX_DETAIL) -> str:
    """One printable line of at most `limit` bytes."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line.encode(errors="replace")[:limit].decode(errors="ignore")
