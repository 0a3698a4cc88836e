"""Actors that break, die or hang: what survives, what is restarted, and when the service gives up."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from tasktrail.actors.actor import Actor
from tasktrail.actors.messages import PING, PONG
from tasktrail.actors.supervisor import PING_EVERY, PING_IDLE_EVERY, SILENT_AFTER, Child, Supervisor
from tasktrail.events.clock import SystemClock
from tasktrail.events.errors import NotReady

SOON = 10.0


class Hold(threading.Event):
    """A message that keeps its actor busy until it is set."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()


class Long:
    """Work of two parts, which says when it is in the second."""

    def __init__(self) -> None:
        self.step, self.stepped, self.rest = threading.Event(), threading.Event(), threading.Event()


class Breaking(Actor):
    """Raises what it is told to, answers everything else, and can be made to hang or to refuse to start."""

    def __init__(self, *, stillborn: bool = False, start: Hold | None = None) -> None:
        super().__init__()
        self.stillborn = stillborn
        self.start_held_by = start
        self.faults: list[BaseException] = []
        self.pings = 0

    def on_start(self) -> None:
        if self.stillborn:
            raise RuntimeError("it cannot start")
        if self.start_held_by is not None:
            self.start_held_by.wait(SOON)

    def receive(self, message: Any) -> Any:
        if isinstance(message, Hold):
            message.begun.set()
            message.wait(SOON)
            return None
        if isinstance(message, Long):
            message.step.wait(SOON)
            self.tell_progress(1, 2)
            message.stepped.set()
            message.rest.wait(SOON)
            return None
        if message == "how many pings?":
            return self.pings
        if isinstance(message, BaseException):
            raise message
        return (message, len(self.faults))

    def settle(self) -> None:
        self.pings += 1

    def on_fault(self, message: Any, error: BaseException) -> None:
        assert message is error
        self.faults.append(error)
        if isinstance(error, MemoryError):
            raise error  # it cannot even repair itself


class PassingClock(SystemClock):
    """A clock whose time can pass."""

    passed = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.passed


class House:
    """A supervisor, and its reasons to give up."""

    def __init__(self, patience: float = SOON) -> None:
        self.fatal: list[BaseException] = []
        self.clock = PassingClock()
        self.supervisor = Supervisor(self.clock, self.fatal.append, patience=patience)
        self.started = 0

    def child(self, *, restart: bool = True, stillborn_from: int | None = None) -> Child:
        def start() -> Any:
            self.started += 1
            return Breaking.start(stillborn=stillborn_from is not None and self.started >= stillborn_from)

        child = Child("breaking", start, restart=restart)
        self.supervisor.start(child, within=SOON)
        return child


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.supervisor.stop(SOON)


def die(child: Child) -> None:
    assert child.ref is not None
    child.ref.stop()


@pytest.mark.parametrize("error", [ValueError("bad"), MemoryError(), SystemExit(3), KeyboardInterrupt()])
def test_whatever_a_message_raises_the_actor_lives_on(house: House, error: BaseException) -> None:
    child, other = house.child(), house.child()
    child.tell(error)
    assert child.ask("still there?", SOON) == ("still there?", 1)
    assert other.ask(PING, SOON) == PONG, "an exit in one actor stops no other"
    house.supervisor.examine(child)
    assert (house.started, house.fatal) == (2, [])


def test_an_actor_that_has_died_is_started_anew_behind_the_same_name(house: House) -> None:
    child = house.child()
    die(child)
    child.tell("lost")  # only the log counts
    with pytest.raises(NotReady, match="is not running"):
        child.ask("anybody?", SOON)
    house.supervisor.examine(child)
    assert child.ask("again", SOON) == ("again", 0)
    assert (house.started, house.fatal) == (2, [])


def test_a_consumer_that_dies_again_and_again_rests_and_ends_nothing(house: House) -> None:
    child = house.child()
    for _ in range(4):
        die(child)
        house.supervisor.examine(child)
    assert house.started == 5
    die(child)
    house.supervisor.examine(child)
    assert (house.started, house.fatal) == (5, [])
    assert house.supervisor.unwell == {
        "breaking": "breaking has died 4 times, and rests before it is started once more"
    }
    house.clock.passed = 11.0
    house.supervisor.examine(child)
    assert house.started == 6


def test_an_actor_that_was_started_once_more_counts_as_well_as_soon_as_it_answers(house: House) -> None:
    child = house.child()
    for _ in range(4):
        die(child)
        house.supervisor.examine(child)
    die(child)
    house.supervisor.examine(child)
    assert house.supervisor.unwell
    house.clock.passed += 11.0
    house.supervisor.examine(child)
    assert child.ask("a message", SOON) == ("a message", 0)
    handled(child)
    house.clock.passed += PING_EVERY
    house.supervisor.examine(child)
    assert pings_of(child) == 1, "it rests, and is asked all the same"
    house.supervisor.examine(child)
    assert house.supervisor.unwell == {}


def test_an_actor_that_must_not_start_anew_is_given_up_at_once(house: House) -> None:
    child = house.child(restart=False)
    die(child)
    house.supervisor.examine(child)
    assert (house.started, len(house.fatal)) == (1, 1)


def test_an_actor_with_much_to_do_does_not_hang(house: House) -> None:
    """Its answer waits behind earlier messages; while messages are handled, a late ping means nothing."""
    child = house.child(restart=False)
    for _ in range(4):
        busy = Hold()
        child.tell(busy)
        assert busy.begun.wait(SOON)
        ask_after(house, child, SILENT_AFTER - 1)
        busy.set()
        child.ask("next", SOON)
    assert (house.supervisor.unwell, house.fatal) == ({}, [])


def ask_after(house: House, child: Child, seconds: float) -> None:
    """Send the ping that is due, and look for its answer some seconds later."""
    house.clock.passed += PING_EVERY
    house.supervisor.examine(child)
    house.clock.passed += seconds
    house.supervisor.examine(child)


def test_an_actor_that_hangs_is_noticed_then_given_up_and_told_of_when_all_stops(house: House) -> None:
    child, hanging = house.child(restart=False), Hold()
    child.tell(hanging)
    assert hanging.begun.wait(SOON)
    with capture_logs() as told:
        ask_after(house, child, SILENT_AFTER)
    (line,) = told
    assert (line["event"], line["actor"], line["at"]) == ("an actor hangs", "breaking", "Hold")
    assert "test_supervisor.py" in line["where"]
    assert "receive > threading.py" in line["where"]
    assert house.supervisor.unwell == {"breaking": "breaking has done nothing for 5 s"}
    assert house.fatal == []
    house.clock.passed += SOON
    house.supervisor.examine(child)
    assert ["did not answer" in str(error) for error in house.fatal] == [True]
    assert house.supervisor.stop(0.2) == ["breaking"]
    hanging.set()


def pings_of(child: Child) -> int:
    """Return how many pings it has had. It takes them in order, so all that were sent before have arrived."""
    return int(child.ask("how many pings?", SOON))


def handled(child: Child) -> None:
    """Wait until it has handled all its messages. The answer to a question comes a little earlier."""
    pause = threading.Event()
    while not child.is_idle():
        pause.wait(0.001)


def test_an_actor_that_has_handled_all_that_it_was_told_is_left_alone(house: House) -> None:
    child = house.child()
    child.since = house.clock.monotonic()
    for number in range(10):
        assert child.ask(number, SOON) == (number, 0)
        handled(child)
        house.clock.passed += PING_EVERY
        house.supervisor.examine(child)
        assert child.asked is None
    house.clock.passed += PING_IDLE_EVERY - 10 * PING_EVERY
    house.supervisor.examine(child)
    assert child.asked is not None, "and yet asked now and then: its thread may be gone"
    assert pings_of(child) == 2


def test_an_actor_that_hangs_after_a_long_rest_is_noticed_no_later_than_another(house: House) -> None:
    child, hanging = house.child(), Hold()
    child.since = house.clock.monotonic()
    house.clock.passed += PING_IDLE_EVERY - 1
    house.supervisor.examine(child)
    child.tell(hanging)
    assert hanging.begun.wait(SOON)
    house.supervisor.examine(child)
    house.clock.passed += SILENT_AFTER
    house.supervisor.examine(child)
    assert house.supervisor.unwell == {"breaking": "breaking has done nothing for 5 s"}
    hanging.set()


def test_an_actor_that_hangs_before_its_first_message_is_noticed(house: House) -> None:
    holding = Hold()

    def start() -> Any:
        return Breaking.start(start=holding)

    child = Child("slow", start, restart=True)
    child.ref, child.since = start(), house.clock.monotonic()
    ask_after(house, child, SILENT_AFTER)
    assert child.unwell == "slow has done nothing for 5 s"
    holding.set()
    die(child)


def test_an_answer_that_comes_before_other_work_does_not_count_as_rest(house: House) -> None:
    """The work that it has begun since may hang."""
    child, holding, after = house.child(), Hold(), Hold()
    handled(child)
    child.tell(holding)
    assert holding.begun.wait(SOON)
    house.clock.passed += PING_EVERY
    house.supervisor.examine(child)
    child.tell(after)
    holding.set()
    assert after.begun.wait(SOON)
    house.supervisor.examine(child)
    assert child.asked is None, "it has answered"
    house.clock.passed += PING_EVERY
    house.supervisor.examine(child)
    assert child.asked is not None
    after.set()


def test_long_work_that_tells_how_far_it_is_does_not_hang(house: House) -> None:
    child, long = house.child(), Long()
    child.tell(long)
    ask_after(house, child, SILENT_AFTER - 1)
    long.step.set()
    assert long.stepped.wait(SOON)
    house.clock.passed += 2
    house.supervisor.examine(child)
    assert house.supervisor.unwell == {}
    house.clock.passed += SILENT_AFTER
    house.supervisor.examine(child)
    assert house.supervisor.unwell == {"breaking": "breaking has done nothing for 5 s"}
    long.rest.set()


def test_a_consumer_that_hangs_is_waited_for(house: House) -> None:
    child, hanging = house.child(), Hold()
    child.tell(hanging)
    assert hanging.begun.wait(SOON)
    ask_after(house, child, 1000.0)
    assert (house.supervisor.unwell, house.fatal) == ({"breaking": "breaking has done nothing for 1000 s"}, [])
    hanging.set()
    child.ask("over?", SOON)
    house.supervisor.examine(child)
    assert house.supervisor.unwell == {}


def test_the_watch_waits_for_nobody_and_survives_what_it_looks_at() -> None:
    house, looked = House(), threading.Semaphore(0)

    def look() -> None:
        looked.release()
        raise OSError("the disk is gone")

    hanging = Hold()
    house.child().tell(hanging)
    house.supervisor.watch(0.01, look)
    for _ in range(5):
        assert looked.acquire(timeout=SOON)
    hanging.set()
    assert house.supervisor.stop(SOON) == []


def test_an_actor_that_cannot_start_is_told_to_whoever_starts_it() -> None:
    house = House()
    with pytest.raises(NotReady, match="is not running"):
        house.child(stillborn_from=1)
    house.supervisor.stop(SOON)


def test_the_watch_finds_a_death_by_itself(house: House) -> None:
    child = house.child()
    before = child.ref
    house.supervisor.watch(0.01)
    die(child)
    pause = threading.Event()
    while child.ref is before or child.ref is None or not child.ref.is_alive():
        pause.wait(0.01)
    assert child.ask("again", SOON) == ("again", 0)


def test_a_death_that_cannot_be_logged_is_mended_all_the_same(house: House) -> None:
    def cannot(*_: Any) -> Any:
        raise OSError("Too many open files")

    structlog.configure(processors=[cannot])
    looked = threading.Semaphore(0)

    def look() -> None:
        looked.release()
        raise OSError("the disk is gone")

    child = house.child()
    die(child)
    house.supervisor.watch(0.01, look)
    for _ in range(3):
        assert looked.acquire(timeout=SOON)
    assert house.started == 2
    assert child.ask(ValueError("bad"), SOON) is None, "it has logged that"
    assert child.ask("still there?", SOON) == ("still there?", 1)


def test_all_are_stopped_in_order_the_last_started_first(house: House) -> None:
    children = [house.child() for _ in range(3)]
    assert house.supervisor.stop(SOON) == []
    assert [child.ref is not None and child.ref.is_alive() for child in children] == [False] * 3
    with pytest.raises(NotReady):
        children[0].ask(PING, SOON)
