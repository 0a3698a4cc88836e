"""Decides whether a failure is retried, and when. Pure arithmetic and one ordered table."""

from datetime import datetime, timedelta
from hashlib import blake2b
from math import exp, log
from typing import Annotated

import msgspec

from .counted import counted
from .task_events import Created, Failed

CRASH_DELAY_CAP = 60.0
MAX_DELAY = 10 * 365 * 86400.0


class RetryRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One row of the table: the first that matches decides. `name` is recorded in `Failed.rule`."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    retryable: bool
    error_type: str = ""
    """Matches when it is the name of the exception's class."""
    contains: str = ""
    """Matches when the error's text contains it, whatever the case."""
    exit_code: int | None = None
    """Matches when a worker or a tool ended with it; negative: the signal that killed it."""

    def __post_init__(self) -> None:
        if not self.error_type and not self.contains and self.exit_code is None:
            raise ValueError(f"the rule {self.name!r} needs error_type, contains or exit_code")

    def matches(self, error_type: str, error: str, exit_code: int | None = None) -> bool:
        """Whether the rule applies to this failure: every condition that it names has to hold."""
        return (
            self.error_type in ("", error_type)
            and (not self.contains or self.contains.lower() in error.lower())
            and self.exit_code in (None, exit_code)
        )


# Exact rules come first: exception types, then exit codes. Then the seed's four substrings, in its order.
RULES: tuple[RetryRule, ...] = (
    RetryRule("type:ConnectionRefusedError", retryable=True, error_type="ConnectionRefusedError"),
    RetryRule("type:ConnectionResetError", retryable=True, error_type="ConnectionResetError"),
    RetryRule("type:TimeoutError", retryable=True, error_type="TimeoutError"),
    RetryRule("type:StorageUnreachable", retryable=True, error_type="StorageUnreachable"),
    RetryRule("type:StorageMissing", retryable=False, error_type="StorageMissing"),
    RetryRule("type:StorageDenied", retryable=False, error_type="StorageDenied"),
    RetryRule("type:InputTooLarge", retryable=False, error_type="InputTooLarge"),
    RetryRule("type:InputChanged", retryable=True, error_type="InputChanged"),  # a file being copied will be whole
    RetryRule("type:FileNotFoundError", retryable=False, error_type="FileNotFoundError"),
    RetryRule("type:InvalidPath", retryable=False, error_type="InvalidPath"),
    RetryRule("type:MemoryError", retryable=False, error_type="MemoryError"),
    RetryRule("type:MemoryLimitReached", retryable=False, error_type="MemoryLimitReached"),
    RetryRule("type:CpuLimitReached", retryable=False, error_type="CpuLimitReached"),
    RetryRule("type:FileSizeLimitReached", retryable=False, error_type="FileSizeLimitReached"),
    RetryRule("type:TempQuotaReached", retryable=False, error_type="TempQuotaReached"),
    RetryRule("type:PermissionError", retryable=False, error_type="PermissionError"),
    RetryRule("exit:75", retryable=True, exit_code=75),  # EX_TEMPFAIL of sysexits.h: "try again later"
    RetryRule("exit:SIGKILL", retryable=True, exit_code=-9),  # a tool that the kernel killed for lack of memory
    RetryRule("connection refused", retryable=True, contains="connection refused"),
    RetryRule("timeout", retryable=True, contains="timeout"),
    RetryRule("temporary failure", retryable=True, contains="temporary failure"),
    RetryRule("disk full", retryable=True, contains="disk full"),
    RetryRule("no space left", retryable=True, contains="no space left on device"),
)


def matching_rule(
    error_type: str, error: str, rules: tuple[RetryRule, ...] = RULES, exit_code: int | None = None
) -> RetryRule | None:
    """The first rule that applies to the failure. None: it is not retryable, as in the seed."""
    return next((rule for rule in rules if rule.matches(error_type, error, exit_code)), None)


POISON = "poison: "
"""The beginning of the rule that ends a task which kills its workers."""
_OF_ALL_ATTEMPTS = ("DeadlinePassed", "QueueTimeout", "TotalTimeout")
"""Types of errors whose own text says why they end a task."""
_WHATEVER_THE_RULES_SAY = ("NeverFits", "TempQuotaReached", "Unencodable")
"""Types of errors to which no rule applies: another attempt would fail in the same way."""
_FORBIDDING = frozenset(rule.name for rule in RULES if not rule.retryable)


def why_final(failed: Failed, retries: int, most: int) -> str:
    """Why no retry followed the failure that ended a task, after `retries` of `most` retries.

    Empty where the failure's own text says so.
    """
    if failed.outcome == "not_started" or failed.error_type in _OF_ALL_ATTEMPTS:
        return ""
    if failed.error_type == "Rejected":
        return "Its handler says that no attempt can succeed, so it was not tried again."
    if failed.error_type in _WHATEVER_THE_RULES_SAY:
        return "Such a failure is never tried again by itself, whatever retry rules say."
    if not failed.rule:
        return (
            f"No retry rule covers {failed.error_type or 'such an error'}, so it was not tried again: "
            "`retry_on` of the type, or `retry_rules` of the configuration, can name it."
        )
    if failed.rule.startswith(POISON):
        return f"It was not tried again after {failed.rule.removeprefix(POISON)}."
    if retries < most or failed.outcome == "lost" or failed.rule in _FORBIDDING:
        return f"The rule {failed.rule} says that it is not to be tried again."
    before = f" after {counted(retries, 'retry', 'retries')}" if retries else ""
    return f"It was not tried again{before}: max_retries is {most}."


def retry_delay(spec: Created, retries: int, chance: float) -> float:
    """Seconds to wait after a failure, when there have been `retries` retries before it.

    Backoff lengthens the delay, the cap bounds it, and jitter takes a share of it away: `chance`, 0 to 1, says how
    much of that share.
    """
    longest = MAX_DELAY if spec.retry_max_delay is None else spec.retry_max_delay
    delay = spec.retry_delay
    if delay > 0 and spec.retry_backoff > 1:
        # By logarithms: the power itself would overflow after a few hundred retries.
        grown = log(delay) + retries * log(spec.retry_backoff)
        delay = exp(grown) if grown < log(longest) else longest
    return min(delay, longest) * (1 - spec.retry_jitter * chance)


def chance_of(task_id: int, attempt: int) -> float:
    """A pseudo-random number from 0 to 1, always the same for one attempt of a task."""
    digest = blake2b(f"{task_id}:{attempt}".encode(), digest_size=7).digest()
    return int.from_bytes(digest, "big") / 2**56


def retry_due(now: datetime, delay: float) -> datetime | None:
    """When the next attempt may start; None means at once."""
    return now + timedelta(seconds=delay) if delay > 0 else None


def crash_delay(crashes: int) -> float:
    """Seconds to wait after the `crashes`-th crash in a row: the first retry is at once, then 1, 2, 4, … capped."""
    return 0.0 if crashes <= 1 else min(CRASH_DELAY_CAP, 2.0 ** min(crashes - 2, 30))
