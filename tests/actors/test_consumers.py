"""Consumers whose own files fail: they report it, continue, and are up to date when it is over."""

import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pykka
import pytest
from clocks import SetBack
from structlog.testing import capture_logs

from tasktrail.actors import projector
from tasktrail.actors.alarm import Alarm
from tasktrail.actors.feed import Feed, Postponed, Retrier, Watermark
from tasktrail.actors.messages import PING, PONG, WAKE, CatchUp, Checked, Damaged, PutInPlace
from tasktrail.actors.projector import Projector, ViewsHealth
from tasktrail.events import Created, Fact, Recorded
from tasktrail.events.clock import SystemClock
from tasktrail.events.errors import DiskFailed
from tasktrail.events.log.event_log import ReportProgress
from tasktrail.events.log.log_reader import LogReader
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections import TaskQueries, TaskViews, ViewsFailed, rebuild_views
from tasktrail.projections.rebuilding import beside_of, build_anew

WITHIN = 10.0
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


class House:
    """A Projector between a log and views that cannot be written, or opened, while `shut`."""

    def __init__(self, folder: Path) -> None:
        self.log = SqliteEventLog(folder / "log.db", now=NOW)
        self.shut: Exception | None = None
        self.troubles: list[Exception | None] = []
        self.over = threading.Event()
        self.watermark = Watermark()
        self.health = ViewsHealth()
        self.folder = folder
        house = self

        class Views(TaskViews):
            def apply(self, records: Sequence[Recorded], missing_keys: Collection[str] = ()) -> None:
                if house.shut is not None:
                    raise house.shut
                super().apply(records, missing_keys)

        def opened(begin: bool) -> TaskViews:  # noqa: FBT001 - as the Projector calls it
            if self.shut is not None:
                raise self.shut
            return Views(folder / "views.db", begin=begin)

        self._opened = opened
        self.feed: Feed[Recorded] = Feed(lambda: self.ref.tell(WAKE), SystemClock(), "test")

    def start(self) -> None:
        self.ref = Projector.start(
            feed=self.feed,
            open_views=self._opened,
            path=self.folder / "views.db",
            health=self.health,
            open_log=lambda: SqliteLogReader(self.folder / "log.db"),
            watermark=self.watermark,
            clock=SystemClock(),
            on_trouble=self._hear,
        )
        assert self.ref.ask(PING, timeout=WITHIN) == PONG

    def _hear(self, error: Exception | None) -> None:
        self.troubles.append(error)
        if error is None:
            self.over.set()

    def create(self, task_id: int) -> None:
        fact = Fact(task_id, 1, Created(type="noop"), NOW, life=1)
        self.feed.put(self.log.append([fact], expected=task_id - 1))

    def close(self) -> None:
        self.feed.close()
        assert self.ref.stop(timeout=WITHIN)
        self.log.close()


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.close()


@pytest.mark.parametrize(
    "error", [ViewsFailed("no room"), OSError(28, "No space left on device"), DiskFailed("broken")]
)
def test_views_that_cannot_be_written_are_caught_up_by_themselves_when_they_can(house: House, error: Exception) -> None:
    house.start()
    house.create(1)
    house.shut = error
    for task_id in range(2, 6):
        house.create(task_id)
        house.ref.tell(CatchUp(task_id))
        assert house.ref.ask(PING, timeout=WITHIN) == PONG, "it lives"
    assert house.watermark.position <= 1
    assert house.troubles[-1] is error
    house.shut = None
    assert house.watermark.wait(5, WITHIN), "nobody has to ask for it"
    assert house.over.wait(WITHIN)


def test_views_that_cannot_be_opened_at_the_start_are_opened_when_they_can(house: House) -> None:
    house.shut = ViewsFailed("no room")
    house.create(1)
    house.start()
    assert house.troubles[-1] is house.shut
    house.shut = None
    assert house.watermark.wait(1, WITHIN)


@pytest.mark.parametrize("times", [1, 2], ids=["before the start", "before they are opened, too"])
def test_views_of_a_long_log_that_were_deleted_are_built_in_one_go(
    house: House, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    """Folded page by page, they would say meanwhile that the last tasks do not exist."""
    built = list[int]()

    def rebuild(log: LogReader, path: Path, progress: ReportProgress | None = None) -> int:
        built.append(rebuild_views(log, path, progress))
        if len(built) < times:
            path.unlink()
        return built[-1]

    monkeypatch.setattr(projector, "PAGE", 2)
    monkeypatch.setattr(projector, "REBUILD_AGAIN", 0.0)
    monkeypatch.setattr(projector, "rebuild_views", rebuild)
    for task_id in range(1, 6):
        house.create(task_id)
    house.start()
    assert house.watermark.wait(5, WITHIN)
    assert built == [5] * times


def test_each_damage_that_a_question_reports_is_repaired_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where the check of the whole file, which had begun before, finds nothing: it may have looked earlier."""
    built = list[int]()

    def rebuild(log: LogReader, path: Path, progress: ReportProgress | None = None) -> int:
        built.append(rebuild_views(log, path, progress))
        return built[-1]

    monkeypatch.setattr(projector, "PAGE", 0)
    monkeypatch.setattr(projector, "rebuild_views", rebuild)
    house.create(1)
    house.start()
    assert (house.health.sound, built) == (True, [1])
    damaged = Damaged("a row is gone", house.health.generation)
    assert house.health.doubt(damaged.generation)
    house.ref.tell(Checked(""))
    house.ref.tell(damaged)
    assert house.ref.ask(PING, timeout=WITHIN) == PONG
    assert (house.health.sound, built) == (True, [1, 1])
    house.ref.tell(damaged)
    assert house.health.doubt(house.health.generation)
    house.ref.tell(damaged)
    house.ref.tell(Damaged("another row is gone", house.health.generation))
    assert house.ref.ask(PING, timeout=WITHIN) == PONG
    assert (house.health.sound, built) == (True, [1, 1, 1])


def test_views_that_were_built_beside_go_into_no_file_that_has_lost_its_write_ahead_log(house: House) -> None:
    house.create(1)
    house.start()
    path = house.folder / "views.db"
    before = path.stat().st_ino
    with closing(TaskQueries.open(path)) as reader, closing(SqliteLogReader(house.folder / "log.db")) as log:
        assert reader.position == 1
        build_anew(log, beside_of(path))
        path.with_name("views.db-wal").unlink()
        assert house.ref.ask(PutInPlace(), timeout=WITHIN) == 1
        assert path.stat().st_ino != before
        house.create(2)
        assert house.watermark.wait(2, WITHIN)
        assert reader.position == 2


def test_a_consumer_hears_of_records_although_the_wall_clock_is_set_back() -> None:
    heard = threading.Event()
    feed: Feed[int] = Feed(heard.set, SetBack(), "test")
    feed.put([1])
    assert heard.wait(WITHIN)
    feed.close()


class Rings:
    """Notes when an alarm would ring."""

    def __init__(self, *_: object) -> None:
        self.after: list[float] = []

    def set_after(self, seconds: float) -> None:
        self.after.append(seconds)


def test_a_consumer_gathers_for_longer_while_many_records_come(monkeypatch: pytest.MonkeyPatch) -> None:
    rings, clock = Rings(), Slow()
    monkeypatch.setattr("tasktrail.actors.feed.Alarm", lambda *_: rings)
    feed: Feed[int] = Feed(lambda: None, clock, "test", timedelta(seconds=0.05), gather_many=timedelta(seconds=0.5))
    # What somebody in a hurry takes at once says little about how many come.
    in_a_hurry = (20, 0.001), (0, 0.001), (100, 0.1)
    for number, seconds in ((51, 0.05), (600, 0.6), (601, 0.6), *in_a_hurry, (1, 0.1)):
        feed.put(list(range(number)))
        clock.at += seconds
        assert len(feed.take()) == number
    feed.put([1])
    assert rings.after == [0.05, 0.5, 0.05, 0.5, 0.5, 0.5, 0.5, 0.05]


def test_work_that_failed_is_tried_again_although_the_wall_clock_is_set_back() -> None:
    asked = threading.Event()

    def fail() -> None:
        raise OSError("no room")

    retrier = Retrier("test", asked.set, SetBack(), lambda _: None)
    assert not retrier.run(fail)
    assert asked.wait(WITHIN)
    retrier.close()


class Slow(SystemClock):
    """Time passes only when it is told to."""

    at = 0.0

    def monotonic(self) -> float:
        return self.at


def test_work_that_takes_long_and_fails_is_not_done_all_the_time() -> None:
    clock, tries = Slow(), []

    def fold_the_whole_log() -> None:
        tries.append(clock.at)
        clock.at += 20.0
        raise OSError("no room")

    retrier = Retrier("test", lambda: None, clock, lambda _: None, rest=3.0)
    for _ in range(200):
        retrier.run(fold_the_whole_log)
        clock.at += 1.0
    retrier.close()
    assert tries == [0.0, 80.0, 160.0, 240.0]


def test_work_that_waits_for_somebody_else_is_no_error() -> None:
    asked, outcomes = (
        threading.Event(),
        iter((Postponed("others build"), Postponed("others build"), OSError("no room"))),
    )

    def work() -> None:
        if (error := next(outcomes, None)) is not None:
            raise error

    retrier = Retrier("test", asked.set, SystemClock(), lambda _: None)
    with capture_logs() as lines:
        while not retrier.run(work):
            assert asked.wait(WITHIN)
            asked.clear()
    retrier.close()
    assert [(line["log_level"], line["event"]) for line in lines] == [
        ("info", "a consumer waits"),
        ("error", "a consumer has to wait"),
        ("info", "a consumer goes on"),
    ]


def test_a_consumer_complains_once(house: House) -> None:
    house.shut = ViewsFailed("no room")
    tries = threading.Event()
    with capture_logs() as lines:
        house.start()
        while len(house.troubles) < 4:
            tries.wait(0.01)
    assert [line["event"] for line in lines].count("a consumer has to wait") == 1


def test_an_alarm_for_an_actor_that_has_stopped_is_no_error() -> None:
    rung = threading.Event()

    def ring() -> None:
        rung.set()
        raise pykka.ActorDeadError("Scheduler not found")

    with capture_logs() as lines:
        alarm = Alarm(ring, SystemClock(), "test")
        alarm.set_after(0.0)
        assert rung.wait(WITHIN)
        alarm.close()
    assert lines == []
