"""The interface to time: a wall clock for what is recorded, a monotonic clock for what is awaited."""

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The source of time. The core never reads it; the time comes in as an argument."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never jump; only differences mean something."""


def boot_seconds() -> float:
    """Seconds of a clock that cannot be set; where the system has one, it also counts while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class SystemClock:
    """The machine's own clocks."""

    def now(self) -> datetime:
        """The wall clock, aware, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Seconds that never jump."""
        return time.monotonic()
