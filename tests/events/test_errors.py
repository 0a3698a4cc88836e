"""The common behaviour of all errors."""

import copy
import pickle

import pytest

from tasktrail.events.errors import (
    DiskFailed,
    InvalidValue,
    LogFull,
    LogLocked,
    LogNotWritable,
    LogUnreachable,
    NotReady,
    TasktrailError,
)


def test_an_error_does_not_echo_a_whole_book() -> None:
    error = InvalidValue("options: " + "x" * 2_000_000 + " is no colour", field="options." + "y" * 100_000)
    assert len(str(error)) < 1500
    assert error.message.startswith("options: xxx")
    assert error.message.endswith("xxx is no colour")
    assert "(1,999,0" in error.message, "it says how much is left out"
    assert len(error.field) <= 200


def test_an_error_survives_pickling_and_copying() -> None:
    error = LogFull("log.db cannot grow", field="data", remedy="Free some space.")
    for again in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(again), str(again), again.field) == (LogFull, str(error), "data")


def test_what_is_a_sentence_already_gets_no_second_stop() -> None:
    assert str(NotReady("It stops.", remedy="Wait.")) == "It stops. Wait."
    assert str(NotReady("did you mean `label`?", remedy="Wait.")) == "did you mean `label`? Wait."
    assert str(NotReady("It stops", field="now", remedy="Wait.")) == "It stops (field: now). Wait."


@pytest.mark.parametrize("error", [LogFull, DiskFailed, LogLocked, LogUnreachable])
def test_what_is_promised_of_a_service_holds_for_a_start_that_has_ended_too(error: type[TasktrailError]) -> None:
    """`serve` ends with this error where it cannot begin a log: nothing continues by itself then."""
    assert "a running service" in error("x").advice


def test_the_same_is_promised_of_a_log_on_postgresql() -> None:
    connection = pytest.importorskip("tasktrail.events.log.postgresql.connection")
    advice = [remedy for _kinds, _error, remedy in connection._MEANINGS if "by itself" in remedy]
    with pytest.raises(LogNotWritable) as refused:
        connection.refuse_changed("log", 1, ("off", "on", 1))
    for told in (*advice, refused.value.advice):
        assert "a running service" in told
    assert len(advice) == 2
