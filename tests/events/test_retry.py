"""Retry is arithmetic: bounds, order, and which rule applies first."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tasktrail.events import Created, Failed
from tasktrail.events.retry import (
    CRASH_DELAY_CAP,
    RULES,
    RetryRule,
    chance_of,
    crash_delay,
    matching_rule,
    retry_delay,
    retry_due,
    why_final,
)

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@given(st.integers(-5, 10_000))
def test_the_delay_after_a_crash_stays_within_its_bounds(crashes: int) -> None:
    assert 0 <= crash_delay(crashes) <= CRASH_DELAY_CAP


@given(st.integers(0, 10_000))
def test_the_delay_never_shrinks_with_more_crashes(crashes: int) -> None:
    assert crash_delay(crashes) <= crash_delay(crashes + 1)


def test_the_first_retry_after_a_crash_is_at_once_then_the_delay_doubles() -> None:
    assert [crash_delay(crashes) for crashes in (1, 2, 3, 4, 8, 100)] == [0, 1, 2, 4, 60, 60]


@given(st.floats(min_value=0.001, max_value=10 * 365 * 86400))
def test_a_retry_is_due_its_delay_from_now(delay: float) -> None:
    due = retry_due(NOW, delay)
    assert due is not None
    assert abs((due - NOW).total_seconds() - delay) < 1e-5


@given(st.floats(max_value=0, allow_nan=False))
def test_without_a_delay_a_retry_is_due_at_once(delay: float) -> None:
    assert retry_due(NOW, delay) is None


@given(st.text(), st.text())
def test_the_first_rule_that_matches_decides(error_type: str, error: str) -> None:
    matching = [rule for rule in RULES if rule.matches(error_type, error)]
    assert matching_rule(error_type, error) == (matching[0] if matching else None)


@given(st.sampled_from([rule for rule in RULES if rule.contains]), st.text(), st.text())
def test_a_rule_finds_its_words_anywhere_and_in_any_case(rule: object, before: str, after: str) -> None:
    contains = getattr(rule, "contains", "")
    assert matching_rule("", f"{before} {contains.upper()} {after}") is not None


def test_the_type_of_an_error_counts_before_its_words() -> None:
    rule = matching_rule("FileNotFoundError", "timeout while looking for it")
    assert rule is not None
    assert not rule.retryable


def test_rules_have_names_of_their_own_because_names_are_recorded() -> None:
    assert len({rule.name for rule in RULES}) == len(RULES)


specs = st.builds(
    Created,
    type=st.just("t"),
    retry_delay=st.floats(0, 10 * 365 * 86400),
    retry_backoff=st.floats(1, 1000),
    retry_max_delay=st.none() | st.floats(0.001, 10 * 365 * 86400),
    retry_jitter=st.floats(0, 1),
)
ONE = 1 + 1e-9
"""For the rounding of a product."""


@given(specs, st.integers(0, 1_000_000), st.floats(0, 1))
def test_a_delay_is_never_longer_than_the_cap_and_never_negative(spec: Created, retries: int, chance: float) -> None:
    assert 0 <= retry_delay(spec, retries, chance) <= (spec.retry_max_delay or 10 * 365 * 86400) * ONE


@given(specs, st.integers(0, 1_000_000), st.floats(0, 1))
def test_a_delay_never_shrinks_with_more_retries(spec: Created, retries: int, chance: float) -> None:
    assert retry_delay(spec, retries, chance) <= retry_delay(spec, retries + 1, chance) * ONE + 1e-9


@given(specs, st.integers(0, 50), st.floats(0, 1))
def test_jitter_takes_at_most_its_share(spec: Created, retries: int, chance: float) -> None:
    whole = retry_delay(spec, retries, 0.0)
    assert whole * (1 - spec.retry_jitter) <= retry_delay(spec, retries, chance) * ONE + 1e-9
    assert retry_delay(spec, retries, chance) <= whole


def test_without_backoff_all_delays_are_the_one_that_was_asked_for() -> None:
    assert [retry_delay(Created(type="t", retry_delay=60.0), retries, 0.5) for retries in (0, 1, 9)] == [60, 60, 60]


def test_backoff_multiplies_up_to_the_cap() -> None:
    spec = Created(type="t", retry_delay=10.0, retry_backoff=2.0, retry_max_delay=50.0)
    assert [round(retry_delay(spec, retries, 0.5), 6) for retries in range(5)] == [10, 20, 40, 50, 50]


def test_chances_are_the_same_when_asked_again_and_spread_evenly() -> None:
    chances = [chance_of(task_id, attempt) for task_id in range(1, 51) for attempt in range(1, 21)]
    assert chances == [chance_of(task_id, attempt) for task_id in range(1, 51) for attempt in range(1, 21)]
    assert all(0 <= chance < 1 for chance in chances)
    assert len(set(chances)) == 1000
    assert [sum(part / 4 <= chance < (part + 1) / 4 for chance in chances) // 100 for part in range(4)] == [2] * 4


def test_a_rule_needs_a_condition() -> None:
    with pytest.raises(ValueError, match="needs error_type, contains or exit_code"):
        RetryRule("empty", retryable=True)


@given(st.sampled_from(["", "E"]), st.sampled_from(["", "x"]), st.sampled_from([None, 1]), st.booleans())
def test_all_that_a_rule_names_has_to_be_so(error_type: str, contains: str, code: int | None, fits: bool) -> None:  # noqa: FBT001
    if not error_type and not contains and code is None:
        return
    rule = RetryRule("r", retryable=True, error_type=error_type, contains=contains, exit_code=code)
    assert rule.matches("E", "an X", 1)
    named = [name for name, value in (("t", error_type), ("c", contains), ("e", code)) if value]
    wrong = {"t": ("F", "an X", 1), "c": ("E", "a y", 1), "e": ("E", "an X", 2 if fits else None)}
    assert not any(rule.matches(*wrong[name]) for name in named)


def test_exit_codes_count_before_words() -> None:
    rule = matching_rule("CalledProcessError", "timeout", exit_code=-9)
    assert rule is not None
    assert rule.name == "exit:SIGKILL"


FAILED = Failed(outcome="failed", error="no route", error_type="OSError", final=True)


@pytest.mark.parametrize(
    ("failed", "retries", "most", "told"),
    [
        (FAILED, 0, 3, "No retry rule covers OSError, so it was not tried again: `retry_on` of the type, or"),
        (replace(FAILED, rule="retry_on:OSError"), 3, 3, "It was not tried again after 3 retries: max_retries is 3."),
        (replace(FAILED, rule="retry_on:OSError"), 1, 1, "It was not tried again after 1 retry: max_retries is 1."),
        (replace(FAILED, rule="retry_on:OSError"), 0, 0, "It was not tried again: max_retries is 0."),
        (replace(FAILED, rule="ours"), 1, 3, "The rule ours says that it is not to be tried"),
        (replace(FAILED, rule="type:MemoryError"), 3, 3, "The rule type:MemoryError says that it is not to be tried"),
        (replace(FAILED, outcome="lost", rule="ours"), 0, 0, "The rule ours says that it is not to be tried"),
        (replace(FAILED, error_type="NeverFits"), 0, 3, "Such a failure is never tried again by itself, whatever"),
        (replace(FAILED, error_type="TempQuotaReached", rule="ours"), 0, 3, "Such a failure is never tried again by"),
        (replace(FAILED, rule="poison: 3 crashes in a row"), 0, 3, "It was not tried again after 3 crashes in a row."),
        (replace(FAILED, error_type="Rejected"), 0, 3, "Its handler says that no attempt can succeed, so it was not"),
    ],
)
def test_it_is_told_why_there_was_no_retry(failed: Failed, retries: int, most: int, told: str) -> None:
    assert why_final(failed, retries, most).startswith(told)


@pytest.mark.parametrize("failed", [replace(FAILED, outcome="not_started"), replace(FAILED, error_type="TotalTimeout")])
def test_a_failure_that_says_itself_why_it_ends_a_task_needs_no_word(failed: Failed) -> None:
    assert why_final(failed, 0, 3) == ""
