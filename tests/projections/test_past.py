"""The views' answers about the past equal those of a fold of the log up to there."""

import sqlite3
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import datetime, timedelta
from functools import partial
from itertools import product
from pathlib import Path
from random import Random

import pytest
from archiving import archive
from histories import BEGIN, OPERATIONS, Journal, random_history
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from outboxes import completed

from tasktrail.events import CancelTask, EventLog, Recorded, RetryTask
from tasktrail.events.errors import UnknownTask
from tasktrail.events.log.event_log import Part
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.reports import AttemptEnded, AttemptProgressed
from tasktrail.events.system_events import Adjusted
from tasktrail.events.task_events import ReadInput
from tasktrail.projections import BeyondTheLog, TaskFilters, TaskQueries, TaskViews, ViewsFailed
from tasktrail.projections.queries import past, past_walk, walk
from tasktrail.projections.queries.as_of import task_as_of
from tasktrail.projections.queries.bounded import bounded
from tasktrail.projections.queries.filters import SORTS, STATUSES
from tasktrail.projections.queries.past import Past
from tasktrail.projections.queries.walk import END, START, collect, count_statuses, parse_place
from tasktrail.projections.views import shares, tallies, versions, zones
from tasktrail.projections.views.checksums import WRITTEN
from tasktrail.projections.views.damage import find_damage
from tasktrail.projections.views.tallies import read_numbers

TYPES = ("image_thumbnail", "video_convert", "document_preview")
WORDS = ("clip", "会议", "refused", "codec convert", "timeout", "1", "nowhere", "c")
steps = st.lists(
    st.tuples(st.sampled_from(OPERATIONS), st.integers(0, 20), st.integers(0, 100)), min_size=1, max_size=40
)
seeds = st.integers(0, 2**32)


def some_filters(chance: Random) -> TaskFilters:
    """Draw any filter, most of them with few fields."""

    def some(values: tuple[object, ...], share: float) -> tuple[object, ...]:
        return tuple(chance.sample(values, chance.randint(1, 2))) if chance.random() < share else ()

    return TaskFilters(
        status=some(STATUSES, 0.5),  # type: ignore[arg-type]  # of texts
        type=some(TYPES, 0.3),  # type: ignore[arg-type]  # of texts
        user_id=some((0, 1, 2, 3), 0.2),  # type: ignore[arg-type]  # of numbers
        document_id=some((0, 1, 2, 3, 4), 0.1),  # type: ignore[arg-type]  # of numbers
        parent_task_id=some((0, 1, 2, 3), 0.1),  # type: ignore[arg-type]  # of numbers
        label=some(("night", "import-7"), 0.1),  # type: ignore[arg-type]  # of texts
        batch=some(("films", "letters"), 0.1),  # type: ignore[arg-type]  # of texts
        search=chance.choice(WORDS) if chance.random() < 0.2 else "",
        sort=chance.choice(("", "-")) + chance.choice(SORTS),
        limit=chance.choice((1, 3, 50, 500)),
        offset=chance.choice((0, 0, 0, 2, 10)),
    )


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no walk give up early, however busy the machine is."""
    for function in (walk.walk, walk.census, collect, count_statuses):
        monkeypatch.setattr(function, "__kwdefaults__", {**(function.__kwdefaults__ or {}), "within": 60.0})


@pytest.fixture(
    params=[(0, 10**9, 0), (walk.FEW, 0, 0), (0, 10**9, 10**30)], ids=["along the order", "sorted", "given up"]
)
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use both ways to an order, one after the other, however short the list."""
    few, to_sort, after_all = request.param
    monkeypatch.setattr(past_walk, "FEW", few)
    for name in ("_TO_SORT", "_TO_NAME"):
        monkeypatch.setattr(past_walk, name, to_sort)
    monkeypatch.setattr(past_walk, "_MOST_AFTER_ALL", after_all)
    if after_all:
        for module in ("past_walk", "current_list"):
            monkeypatch.setattr(f"tasktrail.projections.queries.{module}._INSTRUCTIONS", 0)
        monkeypatch.setattr("tasktrail.projections.queries.bounded._EVERY", 1)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use blocks so small that short histories have many."""
    for name, power in (("TASKS", 2), ("KINDS", 3), ("LANES", 2), ("TIMES", 3), ("BLOCKS", 1)):
        monkeypatch.setattr(zones, name, power)
    monkeypatch.setattr(zones, "GAP", 5)
    monkeypatch.setattr(tallies, "BLOCK", 16)
    monkeypatch.setattr(tallies, "_WITH_DURATIONS", 3)
    monkeypatch.setattr(shares, "EVERY", 4)
    monkeypatch.setattr(shares, "SPAN", 12)
    for module in (versions, past):
        monkeypatch.setattr(module, "KEPT", 3)


def then_ids(live: TaskQueries, filters: TaskFilters, at: datetime) -> list[int]:
    with live.every(filters, at) as every:
        return [task.id for task in every.tasks]


@pytest.mark.parametrize("sort", ["priority", "updated_at"])
def test_places_beyond_everything_find_nothing_then(sort: str, few: None) -> None:
    del few
    journal = busy_history(40, 5)
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        then = Past(TaskQueries(views.connection), journal.log, len(journal.records) - 5)
        for text in ("after~1e999~1", "after~1e308~999999999999999"):
            assert then.stretch(TaskFilters(sort=sort), parse_place(text))[0].tasks == ()


def busy_history(steps: int, seed: int, log: EventLog | None = None) -> Journal:
    """Make a random history in which tasks are also put off, and commits hold several records at one time."""
    journal = Journal(log or MemoryEventLog())
    chance = Random(seed)
    for step in range(steps // 10):
        random_history(journal, 8, seed * 1000 + step)
        waiting = [state.id for state in journal.states.values() if state.waiting]
        for task_id in chance.sample(waiting, min(2, len(waiting))):
            later = journal.at + timedelta(seconds=chance.randrange(-30, 300))
            journal.record(0, Adjusted(task_id=task_id, scheduled_for=later, priority=chance.randrange(3)))
        journal.create(priority=step % 3, scheduled_for=journal.at + timedelta(seconds=chance.randrange(300)))
        journal.create(priority=step % 3)
        _batch_step(journal, chance)
    return journal


def _batch_step(journal: Journal, chance: Random) -> None:
    """Record a task of a batch, and by chance its end, of every kind that a batch distinguishes."""
    parent = chance.randint(1, len(journal.states))
    name = chance.choice(("", "films", "letters"))
    task_id = journal.create(
        batch=name, parent_task_id=parent, user_id=chance.randrange(4), estimated_time=chance.choice((0.0, 0.01, 60.5))
    )
    if chance.random() < 0.7:
        journal.start(task_id)
        journal.send(AttemptProgressed(task_id, 1, progress=chance.random() * 100, message="on the way"))
    if chance.random() < 0.6 and journal.states[task_id].status == "running":
        original = chance.choice(({}, {"original": {"kept": "larger"}}, {"original": {"moved": "/away"}}))
        read = chance.choice((None, ReadInput(size=chance.randrange(10**9), modified=5)))
        result = {"size": chance.randrange(10**9)} if chance.random() < 0.8 else {}
        journal.send(AttemptEnded(task_id, 1, "completed", result={**result, **original}, input_read=read))


@pytest.mark.usefixtures("few", "small")
@pytest.mark.parametrize(
    ("steps", "seed"), [(40, 3), *(pytest.param(160, seed, marks=pytest.mark.slow) for seed in range(3))]
)
def test_every_answer_at_every_position_is_that_of_the_fold(steps: int, seed: int) -> None:
    compare_at_every_position(busy_history(steps, seed), seed)


@pytest.mark.slow
@pytest.mark.usefixtures("few", "small")
def test_every_answer_is_that_of_the_fold_on_both_sides_of_an_archive(tmp_path: Path) -> None:
    with closing(SqliteEventLog(tmp_path / "log.db", now=BEGIN)) as log:
        journal = busy_history(100, 7, log)
        archive(journal, len(journal.records) // 3)
        archive(journal, 2 * len(journal.records) // 3)
        compare_at_every_position(journal, 7)


def compare_at_every_position(journal: Journal, seed: int) -> None:
    """Compare every question as of each record with a fold up to there."""
    chance = Random(seed)
    views, fold = TaskViews(":memory:"), TaskViews(":memory:")
    views.apply(journal.records)
    queries, live = TaskQueries(views.connection), TaskQueries(fold.connection)
    for record in journal.records:
        fold.apply([record])
        then, at = Past(queries, journal.log, record.position), record.recorded_at
        assert (then.position, then.moment) == (record.position, at)
        assert then.stats() == live.stats(at)
        user = chance.choice((None, 0, 1, 3))
        assert then.stats_of(user or 0) == live.stats_of(user or 0, at)
        assert then.batches(5, user) == live.batches(5, user)
        assert then.batch("films", user) == live.batch("films", user)
        assert then.batch("", user) is then.batch("nobody's", user) is None
        assert then.activity(60, 1) == live.activity(at, 60, 1)
        assert then.activity(1440, 30) == live.activity(at, 1440, 30)
        there = live.stats(at).total
        if there:
            task_id = chance.randint(1, there)
            assert then.get(task_id) == live.get(task_id, at)
            assert then.progress(task_id) == live.progress(task_id)
            assert then.children(task_id, user) == live.children(task_id, user)
        with pytest.raises(UnknownTask):
            then.get(there + 1)
        theirs = replace(some_filters(chance), user_id=user or (1, 3), document_id=(), parent_task_id=())
        asked = [some_filters(chance) for _ in range(3)]
        asked.append(replace(theirs, label=(), batch=(), search=""))
        asked.append(TaskFilters(label=chance.choice(("night", "night,import-7", "none")), sort=theirs.sort))
        by_change = TaskFilters(sort=chance.choice(("updated_at", "-updated_at")), status=theirs.status)
        asked.append(replace(by_change, batch=chance.choice(("films", "films,letters"))))
        asked.append(replace(by_change, label="night", user_id=user or 1))
        for filters in asked:
            assert then.list(filters) == live.list(filters, at), (record.position, filters)
            with then.every(filters) as every:
                assert [task.id for task in every.tasks] == sorted(then_ids(live, filters, at))
            place = chance.choice((START, END))
            for _page in range(3):
                found, census = then.stretch(filters, place)
                assert found == live.stretch(filters, at, place), (record.position, filters, place)
                assert census == live.census(filters)
                if not (found.after or found.before):
                    break
                place = parse_place(chance.choice((found.after or found.before, found.before or found.after)))


@pytest.mark.slow
@given(steps, seeds)
def test_however_short_a_history_is_its_past_is_that_of_the_fold(steps: list[tuple[str, int, int]], seed: int) -> None:
    journal, chance = Journal(MemoryEventLog()), Random(seed)
    for step in steps:
        journal.play(*step)
    with closing(TaskViews(":memory:")) as views, closing(TaskViews(":memory:")) as fold:
        views.apply(journal.records)
        position = chance.randint(1, len(journal.records))
        fold.apply(journal.records[:position])
        then = Past(TaskQueries(views.connection), journal.log, position)
        live = TaskQueries(fold.connection)
        for _ in range(5):
            filters = some_filters(chance)
            assert then.list(filters) == live.list(filters, then.moment)


def test_a_long_life_is_read_from_the_last_state_that_was_kept(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = journal.create()
    journal.start(task_id)
    for number in range(3 * versions.KEPT):
        report = AttemptProgressed(
            task_id=task_id, attempt=1, progress=number / 2, message=f"{number}" if number % 9 else ""
        )
        journal.send(report)
    views, log, asked = TaskViews(":memory:"), journal.log, list[int]()
    views.apply(journal.records)
    read = log.read_parts

    def count(parts: Sequence[Part], until: int) -> list[Recorded]:
        found = read(parts, until)
        asked.append(len(found))
        return found

    monkeypatch.setattr(log, "read_parts", count)
    for record in journal.records:
        then = Past(TaskQueries(views.connection), log, record.position)
        assert then.get(task_id) == task_as_of(log, task_id, record.position)
    assert 0 < max(asked) <= versions.KEPT


@pytest.mark.usefixtures("small")
def test_a_state_that_was_kept_is_not_read_from_the_log(monkeypatch: pytest.MonkeyPatch) -> None:
    journal, asked = busy_history(400, 2), set[int]()
    read = journal.log.read_parts

    def note(parts: Sequence[Part], until: int) -> list[Recorded]:
        asked.update(part.task_id for part in parts)
        return read(parts, until)

    monkeypatch.setattr(journal.log, "read_parts", note)
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        wanted = "SELECT since, id FROM versions WHERE state IS NOT NULL AND status <> 'running'"
        kept = views.connection.execute(wanted).fetchall()
        assert len(kept) > 5
        for position, task_id in kept:
            then = Past(TaskQueries(views.connection), journal.log, position)
            assert then.get(task_id) == task_as_of(journal.log, task_id, position)
    assert asked == set()


def test_a_search_finds_the_words_of_then(journal: Journal) -> None:
    task_id = journal.create(max_retries=0)
    ends = []
    for attempt, error in enumerate(("no such codec", "connection refused", "disk full"), 1):
        journal.start(task_id)
        ends.append(journal.send(AttemptEnded(task_id=task_id, attempt=attempt, outcome="failed", error=error)))
        journal.send(RetryTask(task_id=task_id, force=True))
    views = TaskViews(":memory:")
    views.apply(journal.records)

    def found(word: str, position: int) -> int:
        past = Past(TaskQueries(views.connection), journal.log, position)
        return past.list(TaskFilters(search=word))[1]

    before = ends[0][0].position - 1
    assert [found(word, before) for word in ("image", "codec", "refused", "full")] == [1, 0, 0, 0]
    assert [found("codec", end[0].position) for end in ends] == [1, 0, 0]
    assert [found("refused", end[0].position) for end in ends] == [0, 1, 0]
    assert [found("image full", end[0].position) for end in ends] == [0, 0, 1]


@pytest.mark.parametrize(("status", "failed"), [("", 200), ("failed", 200), ("failed", 6)])
def test_tasks_with_words_in_their_errors_are_found_in_one_small_index(
    status: str, failed: int, journal: Journal
) -> None:
    """Also if few tasks have failed: to test these, the texts with a beginning of a word would be gathered for each."""
    for _waiting in range(100):
        journal.create()
    for number in range(280):
        task_id = journal.create(max_retries=0, priority=number % 3)
        journal.start(task_id)
        error = "connection refused" if number % 4 else "disk full"
        journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="failed", error=error))
    views, asked = TaskViews(":memory:"), set[str]()
    views.apply(journal.records)
    then = Past(TaskQueries(views.connection), journal.log, 100 + 3 * failed)
    views.connection.set_trace_callback(asked.add)
    for sort in SORTS:
        tasks, total = then.list(TaskFilters.parse({"status": status, "search": "refu", "sort": sort, "limit": "4"}))
        assert (len(tasks), total) == (4, failed - (failed + 3) // 4)
    views.connection.set_trace_callback(None)
    assert not any("has_words" in statement for statement in asked)
    found = [statement for statement in asked if "FROM past_search CROSS JOIN" in statement]
    assert found
    for statement in found:
        plan = [str(step[-1]) for step in views.connection.execute(f"EXPLAIN QUERY PLAN {statement}")]
        looked_up = [step for step in plan if "then_" in step or "versions" in step]
        assert looked_up
        assert all("COVERING INDEX versions_with_text" in step for step in looked_up), plan


def test_a_time_means_all_that_was_recorded_until_then(history: Journal) -> None:
    views = TaskViews(":memory:")
    views.apply(history.records)
    record = history.records[150]
    queries = TaskQueries(views.connection)
    same = max(other.position for other in history.records if other.recorded_at == record.recorded_at)
    past = Past(queries, history.log, record.recorded_at)
    assert (past.position, past.moment) == (same, record.recorded_at)
    assert Past(queries, history.log, record.recorded_at - timedelta(microseconds=1)).position < record.position
    assert Past(queries, history.log, history.at + timedelta(days=1)).list(TaskFilters())[1] == len(history.states)
    nothing = Past(queries, history.log, 0)
    assert (nothing.list(TaskFilters()), nothing.stats().total) == (([], 0), 0)
    with pytest.raises(BeyondTheLog):
        Past(queries, history.log, len(history.records) + 1)


def test_views_that_are_behind_do_not_tell(history: Journal) -> None:
    views = TaskViews(":memory:")
    views.apply(history.records[:100])
    queries = TaskQueries(views.connection)
    assert Past(queries, history.log, 100).stats().position == 100
    with pytest.raises(ViewsFailed, match="have not reached position 101"):
        Past(queries, history.log, 101)


@pytest.mark.usefixtures("few")
def test_no_walk_sorts_before_it_tells_of_the_first(history: Journal) -> None:
    """A block is passed task by task: SQLite must see that the tasks come in order."""
    views, asked = TaskViews(":memory:"), set[str]()
    views.apply(history.records)
    views.connection.set_trace_callback(asked.add)
    then = Past(TaskQueries(views.connection), history.log, len(history.records) // 2)
    statuses = (*STATUSES, "pending,retrying", "completed,failed,cancelled", "")
    for status, kind, user, sort in product(statuses, ("", TYPES[0]), ("", "1"), SORTS):
        then.list(TaskFilters.parse({"status": status, "type": kind, "user_id": user, "sort": sort}))
    views.connection.set_trace_callback(None)
    found = [statement for statement in asked if "zones" in statement and "CROSS JOIN" in statement]
    walks = [statement for statement in found if "ORDER BY then_.status = 'running'" not in statement]  # that is a sort
    assert walks
    for statement in walks:
        plan = str(views.connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall())
        assert "TEMP B-TREE" not in plan, statement


@pytest.mark.skipif(
    sys.version_info < (3, 12) and sqlite3.sqlite_version_info > (3, 47),
    reason="before Python 3.12 a newer SQLite cannot be kept from compiling what has a LIMIT for each",
)
@pytest.mark.parametrize("status", ["pending", "pending,retrying", "failed", "completed,failed,cancelled", ""])
def test_sqlite_learns_the_statements_of_a_list_once(
    status: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though several streams of tasks are read at a time, one for each lane or status."""
    monkeypatch.setattr(past_walk, "FEW", 0)
    monkeypatch.setattr(past_walk, "_TO_SORT", 10**9)
    for number in range(300):
        journal.at += timedelta(minutes=1)
        journal.create(priority=number % 8)
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        queries = TaskQueries(views.connection)
        then, earlier = (Past(queries, journal.log, position) for position in (300, 40))
        learnt: list[int] = []

        def learn(action: int, *_of: str | None) -> int:
            learnt.append(action)
            return sqlite3.SQLITE_OK

        views.connection.set_authorizer(learn)
        for sign, sort in product(("", "-"), SORTS):
            filters = TaskFilters.parse({"status": status, "sort": sign + sort, "limit": "3"})
            pasts = (then, then if sort == "effective_priority" else earlier)  # more lanes are begun there
            for asked in (
                [lambda past=past, filters=filters: past.list(filters) for past in pasts],
                [lambda past=past, filters=filters: past.stretch(filters, START) for past in pasts],
                2 * [lambda filters=filters: queries.list(filters, journal.at)],
                2 * [lambda filters=filters: queries.stretch(filters, journal.at)],
            ):
                asked[0]()
                before = len(learnt)
                asked[1]()
                assert len(learnt) == before
        views.connection.set_authorizer(None)
        assert learnt


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return whether each walk that may be given up was, however few tasks lead."""
    for name in ("FEW", "_MOST", "_TO_BEGIN"):
        monkeypatch.setattr(past_walk, name, 0)
    monkeypatch.setattr("tasktrail.projections.queries.bounded._EVERY", 1)
    given_up: list[bool] = []

    def watched(conn: sqlite3.Connection, instructions: float, ask: Callable[[], list[int]]) -> list[int] | None:
        found = bounded(conn, instructions, ask)
        given_up.append(found is None)
        return found

    monkeypatch.setattr(past_walk, "bounded", watched)
    return given_up


@pytest.mark.parametrize("values", [20, walk.BRANCHES + 1])
def test_a_walk_ends_in_time_however_long_it_was_expected_to_be(
    journal: Journal, given_up: list[bool], values: int
) -> None:
    """Of many batches the next task is as far from the end of the list as of one; their tests cost more."""
    for number in range(1600):
        journal.create(batch=f"films-{number % values}" if number < 10 * values or number == 1599 else "")
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        then = Past(TaskQueries(views.connection), journal.log, len(journal.records))
        films = tuple(f"films-{number}" for number in range(values))
        found, total = then.list(TaskFilters(batch=films, sort="-priority", limit=5))
    assert [task.id for task in found] == [1600, *range(10 * values, 10 * values - 4, -1)]
    assert (total, given_up) == (10 * values + 1, [True])


def test_a_walk_that_is_longer_than_expected_goes_on_where_many_would_have_to_be_sorted(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, given_up: list[bool]
) -> None:
    """Of the latest thousand tasks one has the label: it passes more than four times as many as expected."""
    for number in range(1600):
        journal.create(label="night" if number < 600 or number == 1599 else "")
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        then = Past(TaskQueries(views.connection), journal.log, len(journal.records))
        asked = TaskFilters(label="night", sort="-priority", limit=10)
        assert [task.id for task in then.list(asked)[0]] == [1600, *range(600, 591, -1)]
        monkeypatch.setattr(past_walk, "_OF_A_SORT", 0)
        assert [task.id for task in then.list(asked)[0]] == [1600, *range(600, 591, -1)]
    assert given_up == [False, True]


@pytest.mark.parametrize("sort", ["-id", "effective_priority"])
def test_tasks_of_a_label_in_a_status_are_found_by_the_blocks_with_that_status(
    journal: Journal, given_up: list[bool], sort: str
) -> None:
    """Only old ones are completed: a walk along the label would pass all newer ones, one by one."""
    for number in range(1600):
        label = "night" if number % 2 else ""
        completed(journal, label=label) if number < 1000 else journal.create(label=label)
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        queries = TaskQueries(views.connection)
        then = Past(queries, journal.log, len(journal.records))
        filters = TaskFilters(label="night", status="completed", sort=sort, limit=20)
        assert then.list(filters) == queries.list(filters, then.moment)
    assert given_up == [False]


def test_tasks_of_a_label_in_a_status_are_found_by_the_label_if_its_tasks_lie_together(
    journal: Journal, given_up: list[bool]
) -> None:
    for number in range(1600):
        completed(journal, label="night" if number < 500 else "")
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        queries = TaskQueries(views.connection)
        then = Past(queries, journal.log, len(journal.records))
        filters = TaskFilters(label="night", status="completed", sort="-id", limit=2)
        assert then.list(filters) == queries.list(filters, then.moment)
    assert given_up == [True]


def test_a_walk_by_the_status_is_not_begun_twice(journal: Journal, given_up: list[bool]) -> None:
    """Of all sources the status has the fewest tasks, so there is no other way to go on after giving up."""
    for number in range(2000):
        completed(journal, **({"label": "night", "user_id": 1} if number < 500 else {"user_id": 2}))
    for _ in range(1600):
        journal.create(label="night", user_id=1)
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        queries = TaskQueries(views.connection)
        then = Past(queries, journal.log, len(journal.records))
        filters = TaskFilters(label="night", user_id=1, status="completed", sort="-id", limit=2)
        assert then.list(filters) == queries.list(filters, then.moment)
    assert given_up == []


@pytest.mark.parametrize(
    ("sort", "begin"), [("priority", 1400), ("-priority", 0), ("effective_priority", 0), ("-effective_priority", 1400)]
)
@pytest.mark.parametrize(
    "asked",
    [TaskFilters(batch=("films-0", "films-1")), TaskFilters(document_id=3, label="night")],
    ids=["two batches", "a document and a label"],
)
def test_a_walk_looks_only_between_the_first_and_the_last_task_of_a_group(
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
    given_up: list[bool],
    sort: str,
    begin: int,
    asked: TaskFilters,
) -> None:
    """They are the last 200 in the order: a walk through all 1,600 tasks would be given up."""
    monkeypatch.setattr(past_walk, "_OF_A_SORT", 0)
    for number in range(1600):
        if begin <= number < begin + 200:
            journal.create(batch=f"films-{number % 2}", document_id=3, label="night")
        else:
            journal.create(label="" if number % 2 else "night")
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        queries = TaskQueries(views.connection)
        then = Past(queries, journal.log, len(journal.records))
        filters = replace(asked, sort=sort, limit=2)
        assert then.list(filters) == queries.list(filters, then.moment)
    assert given_up == [False]


@pytest.mark.parametrize("column", shares.GROUPED_BY)
def test_the_numbers_of_a_user_a_label_and_a_batch_are_told_at_every_position(
    monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    """Within blocks and between them, and after the last row."""
    monkeypatch.setattr(shares, "EVERY", 2)
    monkeypatch.setattr(shares, "SPAN", 20)
    journal = busy_history(240, 4)
    with closing(TaskViews(":memory:")) as views, closing(TaskViews(":memory:")) as fold:
        views.apply(journal.records)
        values = [value for (value,) in views.connection.execute(f"SELECT DISTINCT {column} FROM tasks") if value != ""]
        groups = {f"{column} {value}" for value in values}
        rows = [name for (name,) in views.connection.execute("SELECT tasks_of FROM shares")]
        assert sum(name in groups for name in rows) > 2 * len(groups) > 3
        for record in journal.records:
            fold.apply([record])
            told = shares.read_shares(views.connection, column, values, record.position)
            assert told == shares.read_shares(fold.connection, column, values, record.position)
            for value, share in zip(values, told, strict=True):
                assert [share] == shares.read_shares(views.connection, column, [value], record.position)
                counted = fold.connection.execute(
                    f"SELECT status, count(*) FROM tasks WHERE {column} = ? GROUP BY status", (value,)
                )
                by_status = Counter[str]()
                for (_kind, status), number in share.items():
                    by_status[status] += number
                assert by_status == dict(counted)


@pytest.mark.usefixtures("small")
def test_a_row_of_moves_that_is_missing_is_damage() -> None:
    with closing(TaskViews(":memory:")) as views:
        views.apply(busy_history(120, 4).records)
        conn = views.connection
        assert find_damage(conn) == ""
        rows = conn.execute("SELECT * FROM shares").fetchall()
        for row in rows:
            conn.execute("DELETE FROM shares WHERE tasks_of = ? AND since = ?", row[:2])
            assert find_damage(conn) == f"numbers by {row[0].partition(' ')[0]} are missing"
            conn.execute("INSERT INTO shares VALUES (?, ?, ?, ?, ?)", row)
        assert len(rows) > 20
        conn.execute("INSERT INTO shares VALUES ('else 7', 7, x'90', x'91', row_sum('else 7', 7, x'90', x'91'))")
        assert "cannot be read" in find_damage(conn)
        conn.execute("DELETE FROM progress")
        assert find_damage(conn) == "it does not say how far it has come"


def test_moves_are_walked_where_few_of_them_are_stale(journal: Journal) -> None:
    """An import: all tasks are created first, and nearly all of them end then."""
    ids = [journal.create(label="night", user_id=7) for _ in range(60)]
    others = [journal.create(user_id=1) for _ in range(60)]
    for task_id in (*ids[:57], *others[:30]):
        journal.start(task_id)
        journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="completed"))
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        then = Past(TaskQueries(views.connection), journal.log, len(journal.records))
        for status, up, down in (
            ("", "", "label"),
            ("completed", "label", "label"),
            ("pending", "", ""),
            ("pending,completed", "", "label"),
        ):
            filters = TaskFilters(label="night", status=status, limit=5)
            walk = then._walk(views.connection, filters, "", read_numbers(views.connection, then.position))
            assert (walk._walked_by_moves(down=False), walk._walked_by_moves(down=True)) == (up, down), status


def test_the_moves_of_groups_are_walked_unless_most_of_one_are_read_in_vain(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """User 1 has one cancelled task, the oldest of 300; user 4 has none."""
    monkeypatch.setattr(past_walk, "EVERY", 1)
    for user, number in ((1, 300), (2, 60), (3, 200), (4, 300)):
        ids = [journal.create(user_id=user) for _ in range(number)]
        for task_id in ids[: {1: 1, 4: 0}.get(user)]:
            journal.send(CancelTask(task_id=task_id))
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        queries = TaskQueries(views.connection)
        then = Past(queries, journal.log, len(journal.records))
        for users, field in (((2,), "user_id"), ((1, 2), ""), ((2, 4), "user_id"), ((4,), "user_id")):
            filters = TaskFilters(user_id=users, status="cancelled", sort="-updated_at", limit=5)
            walk = then._walk(views.connection, filters, "", read_numbers(views.connection, then.position))
            assert walk._walked_by_moves(down=True) == field, users
            assert then.list(filters) == queries.list(filters, then.moment)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("users", [[0], [0, 2], [2, 1, 0]])
def test_the_moves_of_groups_between_two_positions_are_told_in_order(
    monkeypatch: pytest.MonkeyPatch, users: list[int], *, down: bool
) -> None:
    monkeypatch.setattr(shares, "EVERY", 3)
    monkeypatch.setattr(shares, "SPAN", 50)
    journal = busy_history(160, 5)
    head = len(journal.records)
    with closing(TaskViews(":memory:")) as views:
        views.apply(journal.records)
        some = ", ".join(map(str, users))
        wanted = (
            f"SELECT id, since, kind, status FROM versions WHERE user_id IN ({some}) AND changed = since ORDER BY since"
        )
        all_moves, was = [], dict[int, str]()
        for task_id, *move in views.connection.execute(wanted):
            if not was.get(task_id) == move[-1] == "running":  # a step within an attempt
                all_moves.append(move)
            was[task_id] = move[-1]
        assert len(all_moves) > 20
        for first, last in ((1, head), (head // 3, head // 2), (head // 2, head), (1, 1), (head + 5, head + 9)):
            for kinds, statuses in (
                (range(9), STATUSES),
                ({0}, ("pending", "failed")),
                ({1}, ("running",)),
                ((), STATUSES),
            ):
                moves = shares.read_moves(
                    views.connection, "user_id", users, first, last, kinds=kinds, statuses=statuses, down=down
                )
                due = [
                    since
                    for since, kind, status in all_moves
                    if first <= since <= last and kind in kinds and status in statuses
                ]
                assert list(moves) == (due[::-1] if down else due)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("remembered", [0, 50_000])
@pytest.mark.parametrize("indexes", [True, False])
def test_what_is_counted_of_users_and_labels_is_the_same_however_views_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, remembered: int, *, indexes: bool
) -> None:
    monkeypatch.setattr(shares, "_REMEMBERED", remembered)
    journal = busy_history(120, 8)
    parts = [journal.records[start : start + 7] for start in range(0, len(journal.records), 7)]
    with closing(TaskViews(":memory:")) as followed, closing(TaskViews(":memory:", bulk=True)) as built:
        for part in parts:
            followed.apply(part)
            with closing(TaskViews(tmp_path / "views.db")) as opened:
                opened.apply(part)
            built.apply(part)
        built.finish(indexes=indexes)
        rows = followed.connection.execute("SELECT * FROM shares").fetchall()
        assert {row[0].split()[0] for row in rows} == set(shares.GROUPED_BY)
        assert built.connection.execute("SELECT * FROM shares").fetchall() == rows
        with closing(TaskViews(tmp_path / "views.db")) as opened:
            assert opened.connection.execute("SELECT * FROM shares").fetchall() == rows


@pytest.mark.usefixtures("small")
def test_a_list_that_is_nearly_always_empty_has_few_zones(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zones, "GAP", 50)
    for _ in range(40):
        task_id = journal.create()
        journal.start(task_id)
        journal.send(AttemptEnded(task_id=task_id, attempt=1, outcome="completed"))
    views = TaskViews(":memory:")
    views.apply(journal.records)
    wanted = "SELECT count(*) FROM zones WHERE list = 'id pending'"
    assert views.connection.execute(wanted).fetchone()[0] == 40 // 4 + 1


@pytest.mark.parametrize("sort", ["id", "priority", "-effective_priority"])
def test_the_first_task_of_a_long_list_is_found_past_many_empty_blocks(
    sort: str, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The work hardly grows with the tasks before it that are over."""
    for name in ("TASKS", "KINDS", "LANES", "TIMES", "GAP"):
        monkeypatch.setattr(zones, name, 0)
    monkeypatch.setattr(past_walk, "FEW", 0)
    monkeypatch.setattr(past_walk, "_TO_SORT", 10**9)
    last, over = [journal.create() for _ in range(1_500)], 0
    views, steps = TaskViews(":memory:"), list[int]()
    for before in (300, 1_200):
        while over < before:
            journal.start(last[over])
            journal.send(AttemptEnded(task_id=last[over], attempt=1, outcome="completed"))
            over += 1
        views.apply(journal.records[views.position :])
        then = Past(TaskQueries(views.connection), journal.log, views.position)
        filters = TaskFilters(status="pending", sort=sort, limit=1)
        then.list(filters)
        instructions: list[None] = []
        views.connection.set_progress_handler(partial(instructions.append, None), 1)
        tasks, total = then.list(filters)
        views.connection.set_progress_handler(None, 0)
        assert (total, len(tasks)) == (1_500 - before, 1)
        steps.append(len(instructions))
    assert steps[1] < 2 * steps[0]


@pytest.mark.usefixtures("small")
def test_however_records_are_cut_into_batches_the_past_is_the_same() -> None:
    journal = busy_history(200, seed=9)
    whole, pieces = TaskViews(":memory:"), TaskViews(":memory:")
    whole.apply(journal.records)
    chance, begin = Random(9), 0
    while begin < len(journal.records):
        end = begin + chance.randint(1, 7)
        pieces.apply(journal.records[begin:end])
        pieces._versions = chance.choice((None, pieces._versions))  # a service that starts has nothing in memory
        begin = end
    for table in (*WRITTEN, "batches"):
        rows = [
            views.connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2, 3").fetchall() for views in (whole, pieces)
        ]
        assert rows[0] == rows[1], table
