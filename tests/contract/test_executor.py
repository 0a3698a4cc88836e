"""The contract of every executor, tested on processes, on threads, on a cluster without an engine, and on Ray."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from cluster_executors import on_cluster
from in_process_cluster import InProcessCluster
from inline_executor import InlineExecutor, Reports

from tasktrail.actors.cluster.cluster_executor import ClusterExecutor
from tasktrail.actors.cluster.cluster_machine import ClusterMachine
from tasktrail.actors.executor import Executor
from tasktrail.actors.workers.local_executor import LocalExecutor
from tasktrail.events import Checkpoint
from tasktrail.events.reports import (
    AttemptBeat,
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProgressed,
    AttemptsHeld,
    Grant,
    PublishWanted,
    Run,
    Saved,
    Stop,
    TellHeld,
)
from tasktrail.handlers.registry import Registry

SUPPORT = Path(__file__).parent.parent / "support"
MakeRun: TypeAlias = Callable[..., Run]


@pytest.fixture
def run(tmp_path: Path) -> MakeRun:
    """Make a `Run` of a sample type."""

    def make(task_type: str, task_id: int = 1, attempt: int = 1, *, output: str = "", **options: Any) -> Run:
        output_file = str(tmp_path / output) if output else ""
        work_dir = str(tmp_path / "tmp" / str(task_id))
        return Run(task_id, attempt, task_type, "", output_file, options, None, work_dir)

    return make


@pytest.fixture
def in_process_cluster() -> Iterator[InProcessCluster]:
    cluster = InProcessCluster()
    yield cluster
    cluster.close()


@pytest.fixture(params=["local", "inline", "cluster", pytest.param("ray", marks=pytest.mark.ray)])
def executor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Executor]:
    """An executor with one slot, not yet open."""
    monkeypatch.syspath_prepend(str(SUPPORT))
    registry = Registry()
    registry.add_home("sample_handlers")
    match request.param:
        case "local":
            made: Executor = LocalExecutor(slots=1, homes=registry.homes(), pythonpath=[str(SUPPORT)])
        case "inline":
            made = InlineExecutor({task_type.name: task_type for task_type in registry}, slots=1)
        case "cluster":
            made = on_cluster(request.getfixturevalue("in_process_cluster").link, registry)
        case _:
            made = on_cluster(request.getfixturevalue("ray_gateway").link, registry)
    yield made
    made.close(5.0)


@pytest.fixture
def reports(executor: Executor) -> Reports:
    """The open executor's reports, all of them answered."""
    return Reports(executor)


@pytest.fixture
def unanswered(executor: Executor) -> Reports:
    """The open executor's reports; answers are left to the test."""
    return Reports(executor, answer=False)


def kinds(reports: Reports, task_id: int = 1) -> list[str]:
    return [type(report).__name__ for report in reports.of(task_id)]


def test_the_memory_of_an_attempt_is_known_while_it_runs_in_a_process_of_its_own(
    executor: Executor, reports: Reports, run: MakeRun
) -> None:
    executor.do([msgspec.structs.replace(run("patient"), beat=0.1)])
    reports.until(lambda report: isinstance(report, AttemptProgressed))
    if isinstance(executor, InlineExecutor) or not Path("/proc/self/stat").exists():
        seen = executor.memory()
        assert seen == {}
    else:  # another node reports it now and then
        reports.until(lambda _: bool(executor.memory()))
        seen = executor.memory()
        assert set(seen) == {(1, 1)}
    if isinstance(executor, ClusterExecutor) and seen:
        ((used, sample),) = [(one.memory_used, one.sample) for one in ClusterMachine(executor.uses).nodes().values()]
        assert used is not None
        assert sample is not None
        assert 1_000_000 < used[1, 1] < sample.memory_total - sample.memory_available
    executor.do([Stop(1, 1)])
    reports.end(1)
    assert all(resident > 1_000_000 for resident in seen.values())
    assert executor.memory() == {}


def test_capacity_is_told_after_open_and_can_be_asked(executor: Executor, reports: Reports) -> None:
    reports.capacity(1)

    assert executor.capacity() == 1


def test_an_attempt_gets_its_options_and_its_result_comes_back(
    executor: Executor, reports: Reports, run: MakeRun
) -> None:
    executor.do([run("echo", value={"a": [1, None, "ü"]})])

    ended = reports.end(1)
    assert (ended.outcome, ended.message) == ("completed", "echoed")
    assert ended.result == {"value": {"a": [1, None, "ü"]}, "frames": None}


def test_an_attempt_gets_the_checkpoint_it_resumes_from(executor: Executor, reports: Reports, tmp_path: Path) -> None:
    executor.do([Run(1, 2, "echo", "", "", {}, Checkpoint(processed_frames=48), str(tmp_path))])

    assert reports.end(1, 2).result["frames"] == 48


def test_reports_come_in_order_and_nothing_follows_the_end(executor: Executor, reports: Reports, run: MakeRun) -> None:
    executor.do([run("save", count=2)])
    reports.end(1)
    executor.do([run("noop", task_id=2)])
    reports.end(2)

    told = kinds(reports)
    assert told[:2] == ["AttemptProgressed", "AttemptCheckpointed"]
    # A second report of progress that comes too soon is part of the second checkpoint.
    assert [kind for kind in told[2:] if kind != "AttemptProgressed"] == ["AttemptCheckpointed", "AttemptEnded"]
    assert told[-1] == "AttemptEnded"


def test_a_checkpoint_holds_the_handler_until_it_is_saved(
    executor: Executor, unanswered: Reports, run: MakeRun
) -> None:
    executor.do([run("save", count=1)])
    unanswered.until(lambda report: isinstance(report, AttemptCheckpointed))

    executor.do([Saved(1, 7), Saved(9, 1), Grant(1, 1)])
    assert "AttemptEnded" not in kinds(unanswered)

    executor.do([Saved(1, 1)])
    assert unanswered.end(1).outcome == "completed"


def test_an_output_appears_under_its_name_only_after_the_grant(
    executor: Executor, unanswered: Reports, run: MakeRun, tmp_path: Path
) -> None:
    executor.do([run("write", output="out.txt", value="hello")])
    unanswered.until(lambda report: report == PublishWanted(1, 1))
    assert not (tmp_path / "out.txt").exists()

    executor.do([Grant(1, 1)])

    assert unanswered.end(1).result == {"size": 5}
    assert (tmp_path / "out.txt").read_text() == "hello"


def test_nothing_is_published_when_a_stop_comes_instead_of_the_grant(
    executor: Executor, unanswered: Reports, run: MakeRun, tmp_path: Path
) -> None:
    executor.do([run("write", output="out.txt", value="hello")])
    unanswered.until(lambda report: report == PublishWanted(1, 1))

    executor.do([Stop(1, 1), Grant(1, 1)])

    assert unanswered.end(1).outcome == "stopped"
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_foreign_output_is_never_replaced(executor: Executor, reports: Reports, run: MakeRun, tmp_path: Path) -> None:
    (tmp_path / "out.txt").write_text("foreign")

    executor.do([run("write", output="out.txt", value="hello")])

    ended = reports.end(1)
    assert (ended.outcome, ended.error_type) == ("failed", "OutputExists")
    assert (tmp_path / "out.txt").read_text() == "foreign"


def test_a_handler_that_wrote_nothing_has_failed(executor: Executor, reports: Reports, run: MakeRun) -> None:
    executor.do([run("no_output", output="out.txt")])

    assert reports.end(1).error_type == "OutputMissing"


def test_a_handler_that_looks_at_should_stop_ends_as_stopped(
    executor: Executor, reports: Reports, run: MakeRun
) -> None:
    executor.do([run("patient")])
    reports.until(lambda report: isinstance(report, AttemptProgressed))

    executor.do([Stop(1, 1)])

    assert reports.end(1).outcome == "stopped"


def test_a_stop_for_another_attempt_changes_nothing(executor: Executor, reports: Reports, run: MakeRun) -> None:
    executor.do([run("patient", attempt=2)])
    reports.until(lambda report: isinstance(report, AttemptProgressed))

    executor.do([Stop(1, 1), Stop(2, 2)])
    executor.do([run("noop", task_id=3)])
    assert "AttemptEnded" not in kinds(reports)

    executor.do([Stop(1, 2)])
    assert reports.end(1, 2).outcome == "stopped"
    assert reports.end(3).outcome == "completed"


def test_a_repeated_run_is_run_once(executor: Executor, reports: Reports, run: MakeRun) -> None:
    executor.do([run("noop"), run("noop")])
    reports.end(1)
    executor.do([run("noop"), run("noop", task_id=2)])
    reports.end(2)

    assert kinds(reports) == ["AttemptEnded"]


def test_a_run_beyond_the_capacity_waits_and_can_be_stopped_there(
    executor: Executor, reports: Reports, run: MakeRun
) -> None:
    executor.do([run("patient"), run("noop", task_id=2), run("noop", task_id=3)])
    reports.until(lambda report: isinstance(report, AttemptProgressed))

    executor.do([Stop(2, 1)])
    assert reports.end(2).outcome == "stopped"
    assert kinds(reports, 3) == []

    executor.do([Stop(1, 1)])
    assert reports.end(3).outcome == "completed"


@pytest.mark.parametrize(
    ("shape", "outcome", "error_type"),
    [
        ("number", "failed", "BadAnswer"),
        ("object", "failed", "BadAnswer"),
        ("path", "failed", "BadAnswer"),
        ("huge", "failed", "BadAnswer"),
        ("surrogate", "failed", "BadAnswer"),
        ("integer", "failed", "BadAnswer"),
        ("unsigned", "failed", "BadAnswer"),
        ("nan", "failed", "BadAnswer"),
        ("deep", "failed", "BadAnswer"),
        ("list", "failed", "BadAnswer"),
        ("stopped", "failed", "BadAnswer"),
        ("rejected", "rejected", "Rejected"),
    ],
)
def test_an_answer_that_cannot_be_recorded_fails_the_attempt(
    *, executor: Executor, reports: Reports, run: MakeRun, shape: str, outcome: str, error_type: str
) -> None:
    executor.do([run("answer", shape=shape)])

    ended = reports.end(1)
    assert (ended.outcome, ended.error_type, ended.result) == (outcome, error_type, {})


@pytest.mark.parametrize(
    ("shape", "error_type", "error"),
    [
        ("value", "ValueError", "no such codec (sample_handlers.py:"),
        ("surrogate", "ValueError", "file ? (sample_handlers.py:"),
        ("empty", "KeyError", "KeyError (sample_handlers.py:"),
        ("exit", "SystemExit", "SystemExit: 3 (sample_handlers.py:"),
        ("interrupt", "KeyboardInterrupt", "KeyboardInterrupt (sample_handlers.py:"),
        ("text", "BrokenText", "BrokenText (sample_handlers.py:"),
        ("library", "FileNotFoundError", "[Errno 2] No such file or directory: '/no/such/file' (sample_handlers.py:"),
        ("long", "ValueError", "ValueError: " + "x" * 4000),
    ],
)
def test_whatever_a_handler_raises_fails_the_attempt_with_its_text(
    *, executor: Executor, reports: Reports, run: MakeRun, shape: str, error_type: str, error: str
) -> None:
    executor.do([run("raise", shape=shape)])

    ended = reports.end(1)
    assert (ended.outcome, ended.error_type) == ("failed", error_type)
    assert ended.error.startswith(error)
    assert len(ended.error) <= 4096


def test_an_unknown_type_fails_the_attempt(executor: Executor, reports: Reports, run: MakeRun) -> None:
    executor.do([run("no_such_type")])

    assert reports.end(1).error_type == "UnknownType"


def test_options_that_do_not_fit_reject_the_input(executor: Executor, reports: Reports, run: MakeRun) -> None:
    executor.do([run("save", count="many")])

    ended = reports.end(1)
    assert (ended.outcome, ended.error_type) == ("rejected", "Rejected")
    assert "count" in ended.error


def test_progress_is_thinned_and_the_first_and_the_last_are_kept(
    executor: Executor, reports: Reports, run: MakeRun
) -> None:
    executor.do([run("chatter", count=5000)])
    reports.end(1)

    said = [report.message for report in reports.of(1) if isinstance(report, AttemptProgressed)]
    assert (said[0], said[-1]) == ("step 0", "last")
    assert len(said) <= 6


def test_a_temp_file_is_made_in_the_work_folder(
    executor: Executor, reports: Reports, run: MakeRun, tmp_path: Path
) -> None:
    executor.do([run("temp")])

    result = reports.end(1).result
    assert result["there"] is True
    assert Path(result["path"]).parent == tmp_path / "tmp" / "1"


def test_close_ends_open_and_waiting_attempts_as_stopped(executor: Executor, reports: Reports, run: MakeRun) -> None:
    executor.do([run("patient"), run("noop", task_id=2)])
    reports.until(lambda report: isinstance(report, AttemptProgressed))

    executor.close(5.0)

    assert [reports.end(1).outcome, reports.end(2).outcome] == ["stopped", "stopped"]
    assert len([report for report in reports.all if isinstance(report, AttemptEnded)]) == 2


def test_a_part_left_by_an_earlier_attempt_is_not_written_into(
    executor: Executor, reports: Reports, run: MakeRun, tmp_path: Path
) -> None:
    """After a crash during publishing, part and output are two names of one file."""
    executor.do([run("write", output="out.txt", value="first run")])
    reports.end(1)
    (tmp_path / ".out.tasktrail-1.txt").hardlink_to(tmp_path / "out.txt")
    published = (tmp_path / "out.txt").open()

    executor.do([run("write", attempt=2, output="out.txt", value="2")])

    assert reports.end(1, 2).outcome == "completed"
    assert published.read() == "first run"
    published.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.txt", "tmp"]


UNSAYABLE = ({"value": 10**20}, {"value": "\udc80"}, {"value": object()})


@pytest.mark.parametrize("options", UNSAYABLE, ids=["integer", "surrogate", "object"])
def test_a_run_that_cannot_be_handed_over_ends_by_name_and_costs_no_slot(
    executor: Executor, reports: Reports, run: MakeRun, options: dict[str, Any]
) -> None:
    reports.capacity(1)
    executor.do([run("echo", **options), run("noop", task_id=2)])

    ended = reports.end(1)
    assert (ended.outcome, ended.error_type) == ("rejected", "Unencodable")
    assert "Create the task again" in ended.error
    assert reports.end(2).outcome == "completed"
    assert kinds(reports) == ["AttemptEnded"]
    assert executor.capacity() == 1


def test_it_is_told_which_attempts_are_held(executor: Executor, reports: Reports, run: MakeRun) -> None:
    executor.do([run("patient"), run("noop", task_id=2), TellHeld(7)])
    held = reports.until(lambda report: isinstance(report, AttemptsHeld))
    assert isinstance(held, AttemptsHeld)
    assert (held.number, set(held.attempts)) == (7, {(1, 1), (2, 1)})

    executor.do([Stop(1, 1)])
    reports.end(2)
    executor.do([TellHeld(8)])
    assert reports.until(lambda report: report == AttemptsHeld(8, ()))


def test_beats_come_while_they_are_wanted_and_not_after_the_end(
    executor: Executor, reports: Reports, run: MakeRun
) -> None:
    executor.do([msgspec.structs.replace(run("patient"), beat=0.01)])
    for _ in range(3):
        reports.until(lambda report: report == AttemptBeat(1, 1))
    executor.do([Stop(1, 1)])
    reports.end(1)
    executor.do([run("echo", task_id=2)])
    reports.end(2)
    assert kinds(reports)[-1] == "AttemptEnded"
    assert "AttemptBeat" not in kinds(reports, task_id=2)
