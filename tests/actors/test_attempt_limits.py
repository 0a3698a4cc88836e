"""An attempt that reaches a limit fails by name, without cost to its worker or to the next attempt."""

import resource
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest
from inline_executor import Reports
from papers import page_of, pdf_of

from tasktrail.actors.workers.local_executor import LocalExecutor
from tasktrail.events.reports import AttemptEnded, Run, WorkerGone
from tasktrail.events.task_events import Estimated
from tasktrail.handlers.process.limits import FILE_FLOOR, MEMORY_FLOOR
from tasktrail.handlers.process.sandbox import Sandbox
from tasktrail.handlers.registry import Registry

SUPPORT = Path(__file__).parent.parent / "support"
GIB = 1024**3

Attempt: TypeAlias = Callable[..., AttemptEnded]
Pair: TypeAlias = tuple[LocalExecutor, Reports]
Open: TypeAlias = Callable[..., Pair]


@pytest.fixture
def open_executor(monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Open an executor with one slot."""
    monkeypatch.syspath_prepend(str(SUPPORT))
    registry = Registry()
    registry.add_home("limit_handlers")
    made = []

    def build(**sandbox: Any) -> Pair:
        executor = LocalExecutor(slots=1, homes=registry.homes(), pythonpath=[str(SUPPORT)], sandbox=Sandbox(**sandbox))
        made.append(executor)
        return executor, Reports(executor)

    yield build
    for executor in made:
        executor.close(5.0)


@pytest.fixture
def attempt(open_executor: Open, tmp_path: Path) -> Attempt:
    """Run one attempt after another in the same executor."""
    return attempts(open_executor(), tmp_path)


def attempts(opened: Pair, folder: Path) -> Attempt:
    executor, reports = opened
    numbers = iter(range(1, 100))

    def end(
        task_type: str,
        *,
        source: str = "",
        memory: int = 1_000_000,
        temp: int = 0,
        seconds: float = 0.0,
        **options: Any,
    ) -> Any:
        number = next(numbers)
        output, work = str(folder / f"{number}.out"), str(folder / f"work-{number}")
        reserved = Estimated(memory=memory, temp=temp, seconds=seconds)
        order = Run(number, 1, task_type, source, output, options, None, work, estimate=reserved)
        executor.do([order])
        return reports.end(number)

    return end


def begin_long_after(path: Path) -> None:
    """Wait until the clock that stamps files is well past the file's last change."""
    probe = path.with_name("clock")
    while True:
        probe.touch()
        if probe.stat().st_ctime > path.stat().st_ctime + 0.1:
            return


def workers_that_ended(reports: Reports) -> list[WorkerGone]:
    return [report for report in reports.all if isinstance(report, WorkerGone)]


def test_every_limit_is_set(attempt: Attempt) -> None:
    told = attempt("bound", temp=5, seconds=1.0).result

    assert told["memory"] > MEMORY_FLOOR
    assert told["file"] == FILE_FLOOR
    assert 600 <= told["cpu"] < 700
    assert told["open"] == 1024
    assert told["core"] == 0


def test_limits_are_lifted_after_the_attempt(attempt: Attempt) -> None:
    attempt("bound", temp=5, seconds=1.0)

    told = attempt("unbound", temp=5, seconds=1.0).result

    assert (told["memory"], told["cpu"], told["file"]) == (resource.RLIM_INFINITY,) * 3


def test_too_much_memory_is_a_failure_by_name_and_the_worker_goes_on(open_executor: Open, tmp_path: Path) -> None:
    opened = open_executor()
    attempt = attempts(opened, tmp_path)

    ended = attempt("balloon", bytes=3 * GIB)

    assert (ended.outcome, ended.error_type) == ("failed", "MemoryLimitReached")
    assert "bytes of address space" in ended.error
    assert attempt("balloon", bytes=1000).outcome == "completed"
    assert workers_that_ended(opened[1]) == []


def test_the_operators_memory_limit_holds_below_the_estimate(open_executor: Open, tmp_path: Path) -> None:
    attempt = attempts(open_executor(memory_limit=GIB), tmp_path)

    assert attempt("balloon", memory=8 * GIB, bytes=3 * GIB // 2).error_type == "MemoryLimitReached"
    assert attempt("balloon", memory=8 * GIB, bytes=1000).outcome == "completed"


def test_a_file_that_grows_beyond_its_limit_is_a_failure_and_no_output_appears(
    attempt: Attempt, tmp_path: Path
) -> None:
    ended = attempt("flood", temp=1_000_000, bytes=FILE_FLOOR)

    assert (ended.outcome, ended.error_type) == ("failed", "FileSizeLimitReached")
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
    assert attempt("flood", temp=1_000_000, bytes=1000).outcome == "completed"


@pytest.mark.slow
def test_the_kernels_end_for_too_much_cpu_time_is_a_failure_and_no_crash(attempt: Attempt) -> None:
    ended = attempt("spin", seconds=1.0)

    assert (ended.outcome, ended.error_type) == ("failed", "CpuLimitReached")
    assert "more than 600 s of CPU time" in ended.error
    assert attempt("bound").outcome == "completed"


def test_a_library_that_aborts_for_want_of_memory_is_a_failure_by_name(attempt: Attempt) -> None:
    ended = attempt("abort")

    assert (ended.outcome, ended.error_type) == ("failed", "MemoryLimitReached")


@pytest.mark.slow
@pytest.mark.parametrize("task_type", ["burner", "parent", "succession"])
def test_the_whole_tree_of_an_attempt_uses_no_more_cpu_time_than_its_budget(
    open_executor: Open, tmp_path: Path, task_type: str
) -> None:
    opened = open_executor()
    attempt = attempts(opened, tmp_path)

    ended = attempt(task_type)

    assert (ended.outcome, ended.error_type) == ("failed", "CpuLimitReached")
    assert "s of CPU time; the limit is 0 s: 0.5 s + 5 s per MB of input, which has 0 bytes" in ended.error
    assert "cpu_limits" in ended.error
    assert 0.5 < ended.cpu_used < 10
    assert attempt("bound").outcome == "completed"


@pytest.mark.slow
def test_the_operator_can_give_a_type_more_cpu_time_or_bound_one_that_says_nothing(
    open_executor: Open, tmp_path: Path
) -> None:
    attempt = attempts(open_executor(cpu_limits={"free_burner": 0.5, "burner": 1.0}), tmp_path)

    for task_type, least in (("free_burner", 0.5), ("burner", 1.0)):
        ended = attempt(task_type)
        assert ended.error_type == "CpuLimitReached"
        assert "set by cpu_limits" in ended.error
        assert ended.cpu_used > least


def test_memory_of_child_processes_counts(attempt: Attempt) -> None:
    ended = attempt("hungry")

    assert (ended.outcome, ended.error_type) == ("failed", "MemoryLimitReached")
    assert "MB in memory; the limit is" in ended.error
    assert ended.memory_used > 100_000_000


@pytest.mark.parametrize("taken", [1000, 75_000_000])
def test_a_library_that_gives_up_without_a_word_is_told_as_the_memory_limit(attempt: Attempt, taken: int) -> None:
    ended = attempt("trapped", bytes=taken)

    assert (ended.outcome, ended.error_type) == ("failed", "MemoryLimitReached")
    assert "Fatal Python error" not in ended.error


def test_one_that_says_what_else_is_wrong_is_a_crash(attempt: Attempt) -> None:
    ended = attempt("cursing")

    assert (ended.outcome, ended.error_type) == ("lost", "WorkerLost")
    assert "invalid pointer" in ended.error


def test_a_refusal_of_memory_that_was_taken_for_damage_is_told_as_what_it_is(attempt: Attempt) -> None:
    ended = attempt("worded")

    assert (ended.outcome, ended.error_type) == ("failed", "MemoryLimitReached")
    assert "bytes of memory" in ended.error
    assert "vips" not in ended.error


@pytest.mark.slow
def test_pdfium_that_is_refused_memory_is_told_in_plain_words_and_tried_once(tmp_path: Path) -> None:
    """PDFium itself aborts without a message, long before it has visibly taken that much memory."""
    registry = Registry.load()
    executor = LocalExecutor(slots=1, homes=registry.homes(), sandbox=Sandbox(memory_limit=GIB))
    reports = Reports(executor)
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(1_000_000)) for _ in range(1000)) + packer.flush()
    source = tmp_path / "in.pdf"
    pages = page_of(b"0 0 99 99")
    pages[3] = b"<</Length %d/Filter/FlateDecode>>stream\n%s\nendstream" % (len(body), body)
    source.write_bytes(pdf_of(pages))
    try:
        order = Run(1, 1, "document_preview", str(source), str(tmp_path / "out.png"), {}, None, str(tmp_path / "work"))
        executor.do([msgspec.structs.replace(order, estimate=Estimated(memory=GIB))])
        ended = reports.end(1)
    finally:
        executor.close(5.0)

    assert (ended.outcome, ended.error_type) == ("failed", "MemoryLimitReached")
    assert "Python" not in ended.error
