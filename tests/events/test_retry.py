"""Retry is arithmetic: bounds, order, and which rule speaks first."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events.retry import CRASH_DELAY_CAP, RULES, crash_delay, matching_rule, retry_due

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
