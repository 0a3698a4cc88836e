"""One thread for all pipes and timers."""

import os
import threading
from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from tasktrail.actors.workers.reactor import PipeWriter, Reactor


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A running reactor."""
    made = Reactor(lambda: None)
    thread = threading.Thread(target=made.run)
    thread.start()
    yield made
    made.post(made.finish)
    thread.join(10)
    assert not thread.is_alive()


def test_moments_come_in_their_order(reactor: Reactor) -> None:
    seen: list[str] = []
    done = threading.Event()

    reactor.at(0.03, done.set)
    reactor.at(0.02, lambda: seen.append("second"))
    reactor.at(0.0, lambda: seen.append("first"))

    assert done.wait(10)
    assert seen == ["first", "second"]


def test_calls_are_made_in_the_reactors_thread(reactor: Reactor) -> None:
    seen: list[bool] = []
    done = threading.Event()

    reactor.post(lambda: seen.append(reactor.inside()))
    reactor.post(done.set)

    assert done.wait(10)
    assert (seen, reactor.inside()) == ([True], False)


def test_a_call_that_fails_is_logged_and_the_others_are_made(reactor: Reactor) -> None:
    done = threading.Event()

    def fail() -> None:
        raise RuntimeError("ill")

    with capture_logs() as logs:
        reactor.post(fail)
        reactor.post(done.set)
        assert done.wait(10)

    assert [entry["event"] for entry in logs] == ["reactor_call_failed"]


def test_a_call_that_fails_does_not_keep_its_turn_from_its_end() -> None:
    """Messages of the same turn go out now, not when something else happens to come."""
    ends: list[str] = []
    reactor = Reactor(lambda: ends.append("turn"))

    def fail() -> None:
        raise RuntimeError("ill")

    with capture_logs():
        for call in (fail, lambda: ends.append("second"), reactor.finish):
            reactor.post(call)
        reactor.at(0.0, fail)
        reactor.run()

    assert ends == ["second", "turn"]


def test_what_does_not_fit_into_a_pipe_goes_out_when_there_is_room(reactor: Reactor) -> None:
    end, start = os.pipe()
    lock = threading.RLock()
    writer = PipeWriter(start, reactor, lock)
    parts = [bytes([number]) * 100_000 for number in range(10)]

    for part in parts:
        with lock:
            writer.write(part)

    received = b""
    while len(received) < 1_000_000:
        received += os.read(end, 65536)
    assert received == b"".join(parts)
    reactor.post(writer.close)
    assert os.read(end, 1) == b""
    os.close(end)


def test_writing_to_a_closed_pipe_is_an_error_at_once(reactor: Reactor) -> None:
    end, start = os.pipe()
    os.close(end)
    lock = threading.RLock()
    writer = PipeWriter(start, reactor, lock)

    with pytest.raises(BrokenPipeError), lock:
        writer.write(b"x")

    reactor.post(writer.close)


def test_posting_after_the_end_is_harmless() -> None:
    reactor = Reactor(lambda: None)
    reactor.post(reactor.finish)
    reactor.run()

    reactor.post(lambda: pytest.fail("called"))
    reactor.at(0.0, lambda: pytest.fail("called"))
