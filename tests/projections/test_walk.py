"""A walk through a list finds the list's tasks, in its order, from any place and in both directions."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count

import pytest
from histories import Journal, random_history
from msgspec.structs import replace

from tasktrail.events import Created, Recorded
from tasktrail.events.errors import InvalidValue
from tasktrail.events.log.memory import MemoryEventLog
from tasktrail.projections import TaskFilters, TaskQueries, TaskViews
from tasktrail.projections.queries.stats import read_counts
from tasktrail.projections.queries.walk import FEW, START, Place, census, parse_place, walk

NOW = datetime(2026, 2, 1, tzinfo=UTC)

LISTS = (
    TaskFilters(),
    TaskFilters(sort="created_at"),
    TaskFilters(sort="-id", status="failed"),
    TaskFilters(status=("pending", "retrying", "running")),
    TaskFilters(type="image_thumbnail", status=("completed", "cancelled")),
    TaskFilters(type=("image_thumbnail", "video_convert")),
    TaskFilters(user_id=(1, 2)),
    TaskFilters(user_id=0, label="night"),
    TaskFilters(label=("night", "import-7"), status="pending", sort="-updated_at"),
    TaskFilters(document_id=3, sort="priority"),
    TaskFilters(parent_task_id=(1, 2, 3)),
    TaskFilters(search="clip"),
    TaskFilters(search="会议 convert", sort="-priority"),
    TaskFilters(search="refused", status="failed"),
    TaskFilters(search="nowhere"),
    TaskFilters(sort="updated_at"),
    TaskFilters(sort="-updated_at", type="document_preview"),
    TaskFilters(sort="-priority"),
    TaskFilters(sort="-effective_priority"),
    TaskFilters(sort="effective_priority"),
    TaskFilters(sort="-effective_priority", status="pending"),
    TaskFilters(sort="-effective_priority", status="failed"),
    TaskFilters(sort="effective_priority", status=("failed", "pending"), user_id=1),
)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no walk give up early, however busy the machine is."""
    for function in (walk, census):
        monkeypatch.setattr(function, "__kwdefaults__", {**(function.__kwdefaults__ or {}), "within": 60.0})


@pytest.fixture(scope="module")
def queries() -> Iterator[TaskQueries]:
    journal = Journal(MemoryEventLog())
    random_history(journal, 900, seed=12)
    views = TaskViews(":memory:")
    views.apply(journal.records)
    yield TaskQueries(views.connection)
    views.close()


def named(filters: TaskFilters) -> str:
    return " ".join(f"{name}={getattr(filters, name)}" for name in ("sort", "status", "search", "user_id", "label"))


@pytest.mark.parametrize("filters", LISTS, ids=named)
@pytest.mark.parametrize("few", [0, FEW], ids=["along the sort", "sorted"])
def test_a_walk_to_the_end_and_back_meets_every_task_of_the_list_once(
    queries: TaskQueries, filters: TaskFilters, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.projections.queries.walk.FEW", few)
    wanted, total = queries.list(replace(filters, limit=500), NOW)
    limited = replace(filters, limit=7)
    forth: list[int] = []
    stretch = queries.stretch(limited, NOW)
    assert not stretch.before
    while True:
        forth += [task.id for task in stretch.tasks]
        if not stretch.after:
            break
        stretch = queries.stretch(limited, NOW, parse_place(stretch.after))
    assert forth == [task.id for task in wanted]
    assert len(forth) == total == queries.census(filters).total(filters)
    back = [task.id for task in stretch.tasks]
    while stretch.before:
        stretch = queries.stretch(limited, NOW, parse_place(stretch.before))
        back = [task.id for task in stretch.tasks] + back
    assert back == forth
    assert queries.ids(filters, 1000) == queries.ids_listed(filters) == tuple(sorted(forth))


@pytest.mark.parametrize("filters", LISTS, ids=named)
def test_the_last_page_is_found_from_the_end(queries: TaskQueries, filters: TaskFilters) -> None:
    wanted, total = queries.list(replace(filters, limit=500), NOW)
    last = queries.stretch(replace(filters, limit=5), NOW, parse_place("end"))
    assert [task.id for task in last.tasks] == [task.id for task in wanted[-5:]]
    assert not last.after
    assert bool(last.before) == (total > 5)


@pytest.mark.parametrize("filters", LISTS, ids=named)
def test_a_census_counts_each_status_whatever_statuses_are_chosen(queries: TaskQueries, filters: TaskFilters) -> None:
    found = queries.census(filters)
    assert found.complete
    for status, number in found.by_status.items():
        assert queries.list(replace(filters, status=status), NOW)[1] == number


def test_a_census_of_very_many_says_that_there_are_more(queries: TaskQueries) -> None:
    conn = queries._conn
    filters = TaskFilters(search="clip")
    found = census(conn, filters, read_counts(conn), most=10)
    assert not found.complete
    assert sum(found.by_status.values()) == 10
    late = census(conn, filters, read_counts(conn), within=3, sure=0, clock=count().__next__)
    assert not late.complete
    assert sum(late.by_status.values()) < 10


def test_a_walk_that_runs_out_of_time_goes_on_where_it_stood(queries: TaskQueries) -> None:
    conn, filters = queries._conn, TaskFilters(user_id=1, status="failed", limit=500)
    counts = read_counts(conn)
    wanted = [task.id for task in queries.list(filters, NOW)[0]]
    found: list[int] = []
    place, steps = START, 0
    while True:
        steps += 1
        step = walk(conn, filters, counts, place, within=3, sure=0, clock=count().__next__)
        found += step.ids
        if not step.after:
            break
        assert step.cut
        place = parse_place(step.after)
    assert found == wanted
    assert steps > 3


def test_a_word_that_very_many_tasks_have_is_a_whole_word() -> None:
    views = TaskViews(":memory:")
    position = count(1)
    names = ["/in/clip.mp4"] * (FEW + 5) + ["/in/clipping.mp4"]
    views.apply(
        [
            Recorded(number, 1, Created(type="t", input_file=name), NOW, life=1, position=next(position))
            for number, name in enumerate(names, 1)
        ]
    )
    queries = TaskQueries(views.connection)
    assert len(names) not in queries.ids(TaskFilters(search="clip"), 10_000)
    assert queries.ids(TaskFilters(search="clipp"), 10) == (len(names),)
    assert queries.ids(TaskFilters(search="cl"), 10) == ()  # too short to be the beginning of a word
    for beginning in ("cl", "clip"):  # of which the whole list has no bound
        assert len(queries.ids_listed(TaskFilters(search=beginning))) == len(names)
    views.close()


@pytest.mark.parametrize("text", ["x", "after", "after~1", "after~nan~1", "after~1~-1", "after~1~1~1", "before~~", "'"])
def test_a_text_that_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(InvalidValue) as refusal:
        parse_place(text)
    assert refusal.value.field == "place"


def test_a_place_is_read_as_it_was_written() -> None:
    chance = random.Random(3)
    for _ in range(200):
        key = chance.choice(
            [None, chance.uniform(-1e12, 1e12), chance.random() * 1e-9, float(chance.randrange(10**10))]
        )
        place = Place(chance.random() < 0.5, key, chance.randrange(1, 10**9))
        assert parse_place(str(place)) == place


def test_places_beyond_everything_find_nothing() -> None:
    views = TaskViews(":memory:")
    queries = TaskQueries(views.connection)
    for text in ("after~1e999~1", "after~-1e999~1", "after~1e308~999999999999999", "before~~999999999999999"):
        assert queries.stretch(TaskFilters(sort="-updated_at"), NOW, parse_place(text)).tasks == ()
    views.close()
