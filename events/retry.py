"""Whether a failure may be tried again, and when. Pure arithmetic and one ordered table."""

from datetime import datetime, timedelta

import msgspec

CRASH_DELAY_CAP = 60.0


class RetryRule(msgspec.Struct, frozen=True):
    """One row of the table: the first that matches decides. `name` is recorded in `Failed.rule`."""

    name: str
    retryable: bool
    error_type: str = ""
    """Matches when it is the name of the exception's class."""
    contains: str = ""
    """Matches when the error's text contains it, whatever the case."""

    def matches(self, error_type: str, error: str) -> bool:
        """Whether the rule speaks of this failure."""
        by_type = bool(self.error_type) and self.error_type == error_type
        return by_type or (bool(self.contains) and self.contains.lower() in error.lower())


# Exception types first: they are exact. Then the seed's four substrings, in its order.
RULES: tuple[RetryRule, ...] = (
    RetryRule("type:ConnectionRefusedError", retryable=True, error_type="ConnectionRefusedError"),
    RetryRule("type:ConnectionResetError", retryable=True, error_type="ConnectionResetError"),
    RetryRule("type:TimeoutError", retryable=True, error_type="TimeoutError"),
    RetryRule("type:FileNotFoundError", retryable=False, error_type="FileNotFoundError"),
    RetryRule("type:MemoryError", retryable=False, error_type="MemoryError"),
    RetryRule("type:MemoryLimitReached", retryable=False, error_type="MemoryLimitReached"),
    RetryRule("type:CpuLimitReached", retryable=False, error_type="CpuLimitReached"),
    RetryRule("type:FileSizeLimitReached", retryable=False, error_type="FileSizeLimitReached"),
    RetryRule("type:TempQuotaReached", retryable=False, error_type="TempQuotaReached"),
    RetryRule("type:PermissionError", retryable=False, error_type="PermissionError"),
    RetryRule("connection refused", retryable=True, contains="connection refused"),
    RetryRule("timeout", retryable=True, contains="timeout"),
    RetryRule("temporary failure", retryable=True, contains="temporary failure"),
    RetryRule("disk full", retryable=True, contains="disk full"),
    RetryRule("no space left", retryable=True, contains="no space left on device"),
)


def matching_rule(error_type: str, error: str, rules: tuple[RetryRule, ...] = RULES) -> RetryRule | None:
    """The first rule that speaks of the failure; none means: not retryable, as in the seed."""
    return next((rule for rule in rules if rule.matches(error_type, error)), None)


def retry_due(now: datetime, delay: float) -> datetime | None:
    """When the next attempt may start; none for at once."""
    return now + timedelta(seconds=delay) if delay > 0 else None


def crash_delay(crashes: int) -> float:
    """Seconds to wait after the `crashes`-th crash in a row: the first retry is at once, then 1, 2, 4, … capped."""
    return 0.0 if crashes <= 1 else min(CRASH_DELAY_CAP, 2.0 ** min(crashes - 2, 30))
