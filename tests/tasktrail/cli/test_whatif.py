"""`tasktrail whatif` on a data folder with no service, and its refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from recorded_world import World

from tasktrail.api.reader import Reader
from tasktrail.cli.session import Environment, Session
from tasktrail.events.clock import SystemClock
from tasktrail.events.errors import InvalidValue, Malformed
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.whatif import ask as whatif_module
from tasktrail.whatif import replay


@pytest.fixture
def environment() -> Environment:
    """The real ones."""
    return Environment()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with the log of a service with two workers, and no service."""
    world = World(slots=2, max_concurrent=2, length=lambda _run: 60.0)
    for number in range(8):
        world.create(type=("work", "long")[number % 2])
    world.settle()
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "tasktrail.toml").write_text("workers = 2\n")
    log = SqliteEventLog(folder / "log.db", now=SystemClock().now())
    log.append(world.records, expected=0)
    log.close()
    return folder


def test_the_recorded_policy_makes_the_recorded_starts(cli: Callable[..., Any], data: Path) -> None:
    shown = cli("whatif", "--data", str(data))
    assert shown.code == 0
    assert "8 of 8 recorded starts come out the same, to the microsecond and in the same order" in shown.out
    assert "asked" not in shown.out
    assert "assumed" in shown.out


def test_another_policy_is_compared_in_a_table(cli: Callable[..., Any], data: Path) -> None:
    before = (data / "log.db").read_bytes()
    shown = cli("whatif", "--data", str(data), "--max-concurrent", "4", "--workers", "4", "--rows", "2")
    lines = [line.split() for line in shown.out.splitlines()]
    assert ["asked", "8", "8", "0.00", "s", "1m", "00s", "1m", "00s", "2m", "00s", "100.0", "%", "0"] in lines
    assert "starts: 6 earlier, 0 later, 2 at the same time, 0 additional, 0 missing" in shown.out
    assert [line[-2:] for line in lines if line and line[0] == "7"] == [["-2m", "00s"]]
    assert (data / "log.db").read_bytes() == before
    assert not (data / "views.db").exists()


def test_the_answer_as_json_has_all_numbers(cli: Callable[..., Any], data: Path) -> None:
    found = json.loads(cli("whatif", "--data", str(data), "--json", "--workers", "1").out)
    assert found["fidelity"]["exact"]
    assert [row["type"] for row in found["rows"]] == ["long", "work", ""]
    assert found["rows"][0]["asked"]["makespan"] > found["rows"][0]["replayed"]["makespan"]


def test_a_long_play_tells_how_far_it_is(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whatif_module, "_REPORT_EVERY", 1)
    monkeypatch.setattr(replay, "_TELL", 1)
    told: list[tuple[int, int]] = []
    session = Session(environment=Environment(), data=data)
    session.environment.whatif(session, {"workers": 1}, lambda reached, goal: told.append((reached, goal)))
    reached = [one for one, _goal in told]
    (goal,) = {goal for _one, goal in told}
    assert reached == sorted(reached)
    assert [reached[0], reached[-1]] == [0, goal]
    assert len({one * 3 // goal for one in reached[:-1]}) == 3, "reading, replay, and the play that was asked for"


def test_a_part_of_the_log_can_be_asked_about(cli: Callable[..., Any], data: Path) -> None:
    found = json.loads(cli("whatif", "--data", str(data), "--json", "--from", "12", "--to", "20").out)
    assert (found["first_position"], found["fidelity"]["exact"]) == (12, True)
    assert found["last_position"] >= 20


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--max-concurrent", "0"), "'--max-concurrent': 0 is not in the range 1<=x<=1024"),
        (("--workers", "5000"), "'--workers': 5000 is not in the range"),
        (("--max-per-user", "-1"), "'--max-per-user': -1 is not in the range"),
        (("--backfill-bound", "-1"), "'--backfill-bound': -1 is not in the range"),
        (("--rows", "-1"), "'--rows': -1 is not in the range"),
        (("--type-limit", "long=0"), "A limit is at least 1"),
        (("--user-limit", "me=1"), "'me' is not a user"),
        (("--label-limit", "night=none"), "A limit is at least 1"),
        (("--rate", "type:long=none"), "A rate is starts per time"),
        (("--from", "once"), "'once' is not a time"),
        (("--to", "2026-13-01T00:00:00"), "is not a time"),
    ],
)
def test_an_option_that_makes_no_sense_is_wrong_usage_like_that_of_other_commands(
    cli: Callable[..., Any], data: Path, arguments: tuple[str, ...], told: str
) -> None:
    shown = cli("whatif", "--data", str(data), *arguments)
    assert (shown.code, told in shown.err) == (2, True)


@pytest.mark.parametrize(
    ("arguments", "field", "told"),
    [
        (("--type-limit", "lonk=2"), "types", "The log has no task of type 'lonk'; did you mean 'long'?"),
        (("--type-limit", "*=2"), "types", "The log has no task of type '*'; `max_per_type` is the limit of each type"),
        (("--rate", "type:lonk=2/m"), "rates", "The log has no task of type 'lonk'; did you mean 'long'?"),
        (("--user-limit", "4711=2"), "users", "The log has no task of user 4711"),
        (("--label-limit", "night=2"), "labels", "The log has no task of label 'night'"),
        (("--rate", "user:4711=2/m"), "rates", "The log has no task of user 4711"),
        (("--rate", "label:night=2/m"), "rates", "The log has no task of label 'night'"),
        (("--windows", "long=1-2,lonk=1-2"), "windows", "The log has no task of type 'lonk'; did you mean 'long'?"),
        (("--from", "9999"), "from", "Nothing is recorded from position 9999: the log has positions 1 ("),
        (("--from", "30", "--to", "20"), "from", "Nothing is recorded from position 30 to position 20: the log has"),
        (("--to", "2001-01-01T01:00:00+01:00"), "to", "Nothing is recorded to 2001-01-01T00:00:00Z: the log has"),
    ],
)
def test_what_the_log_does_not_have_is_told_with_what_it_has(
    cli: Callable[..., Any], data: Path, arguments: tuple[str, ...], field: str, told: str
) -> None:
    """Otherwise a misspelt type would be answered with "no difference", as if the limit had no effect."""
    shown = cli("whatif", "--data", str(data), "--json", *arguments)
    assert shown.code == 1
    problem = json.loads(shown.err)
    assert (problem["code"], problem["field"]) == ("invalid_value", field)
    assert problem["detail"].startswith(told)


def test_it_reads_files_and_asks_no_service(cli: Callable[..., Any]) -> None:
    shown = cli("whatif", "--url", "http://127.0.0.1:1")
    assert (shown.code, "not through --url or TASKTRAIL_URL" in shown.err) == (2, True)


def test_a_program_asks_by_the_same_names(data: Path) -> None:
    with Reader(data) as tasks:
        assert tasks.whatif().fidelity.exact
        found = tasks.whatif(max_concurrent=4)
        assert any("give workers, too" in said for said in found.assumptions)
        assert tasks.whatif(workers=1, begin=1, end="30").moved is not None
        with pytest.raises(Malformed) as unknown:
            tasks.whatif(max_concurent=4)
        assert unknown.value.field == "max_concurent"
        with pytest.raises(InvalidValue) as refused:
            tasks.whatif(max_concurrent="many")
        assert refused.value.field == "max_concurrent"
