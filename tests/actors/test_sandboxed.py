"""Attempts in separate processes, with the kernel's sandboxes. tests/attack/hostile_handler.py tries far more."""

import errno
import itertools
import os
import struct
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any, TypeAlias

import psutil
import pytest
from inline_executor import Reports

from tasktrail.actors.workers.local_executor import LocalExecutor
from tasktrail.actors.workers.slot import SlotRules
from tasktrail.events.reports import AttemptCheckpointed, AttemptEnded, AttemptProgressed, Run, Stop, WorkerGone
from tasktrail.handlers.attempt_output import read
from tasktrail.handlers.document.libreoffice import INSTALL_LIBREOFFICE, find_libreoffice
from tasktrail.handlers.process.channel import FrameBuffer, attempt_order_decoder
from tasktrail.handlers.process.sandbox import Reach, Sandbox, sandbox_support
from tasktrail.handlers.process.sandboxed import _Child
from tasktrail.handlers.process.seccomp import available, program

pytestmark = pytest.mark.skipif(not sandbox_support().whole, reason="this kernel has not all the means")
alone = pytest.mark.skipif(
    not sandbox_support().own_proc, reason="a namespace cannot have a /proc of its own here, as in some chroots"
)

SUPPORT = Path(__file__).parent.parent / "support"
HOMES = {
    **{
        name: f"sample_handlers:{name}"
        for name in ("echo", "write", "no_output", "leave", "die", "garbage", "late", "fork", "hog")
    },
    **{
        name: f"hostile_handlers:{name}"
        for name in (
            "hostile",
            "honest",
            "polluter",
            "kept_polluter",
            "witness",
            "forger",
            "crammer",
            "reader",
            "seeker",
            "folderless",
        )
    },
    "document_preview": "tasktrail.handlers.document.preview:document_preview",
}
KEPT = ("echo", "die", "tell", "patient", "schemer", "talkative")
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"
_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_MAIN = "application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"
WORD = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" '
    'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    f'<Override PartName="/word/document.xml" ContentType="{_MAIN}"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">'
    f'<Relationship Id="r1" Type="{_OFFICE}" Target="word/document.xml"/></Relationships>',
    "word/document.xml": f'<w:document xmlns:w="{_WORD}"><w:body><w:p><w:r><w:t>Hello</w:t></w:r></w:p></w:body>'
    "</w:document>",
}
"""The smallest Word document."""
Attempt: TypeAlias = Callable[..., AttemptEnded]


@pytest.fixture
def protected(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "log.db").write_text("secret")
    return folder


@pytest.fixture
def reports(protected: Path) -> Iterator[Reports]:
    executor = LocalExecutor(
        slots=1,
        homes=HOMES,
        lock_path=protected / "workers.lock",
        pythonpath=[str(SUPPORT)],
        sandbox=Sandbox(mode="auto", protected=(str(protected),)),
    )
    yield Reports(executor)
    executor.close(5.0)


@pytest.fixture
def attempt(reports: Reports, protected: Path) -> Attempt:
    """Run an attempt to its end."""
    numbers = iter(range(1, 100))

    def run(kind: str, source: Path | str = "", output: Path | str = "", **options: Any) -> AttemptEnded:
        number = next(numbers)
        folder = str(protected / "tmp" / str(number))
        run = Run(number, 1, kind, str(source), str(output), options, None, folder, probed=True)
        reports._executor.do([run])
        return reports.end(number)

    return run


def test_a_user_without_a_home_has_attempts_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a user id without an entry and without HOME, every worker died at its start, and each task waited."""
    unknown = 2**31 - 7
    monkeypatch.setattr(os, "getuid", lambda: unknown)
    monkeypatch.delenv("HOME", raising=False)
    with pytest.raises(RuntimeError):
        Path.home()
    assert Reach(())._general


def test_a_refusal_names_the_switches_that_lift_it(attempt: Attempt, protected: Path) -> None:
    ended = attempt("reader", "", "", path=str(protected / "log.db"))

    assert (ended.outcome, ended.error_type) == ("failed", "PermissionError")
    assert "attempts are sandboxed" in ended.error
    assert "reads=" in ended.error


@pytest.mark.parametrize(
    ("where", "path", "advice"),
    [
        ("file", "data.csv", "take a file as a parameter, or name it by its whole path"),
        ("environment", "API_KEY", "the key pass_environment names more"),
        ("file", "/nowhere/data.csv", ""),
        ("program", "no-such-program", ""),
        ("dict", "API_KEY", ""),
    ],
)
def test_an_error_that_only_an_attempt_has_says_what_to_do(
    attempt: Attempt, where: str, path: str, advice: str
) -> None:
    ended = attempt("seeker", "", "", where=where, path=path)

    assert ended.outcome == "failed"
    assert path in ended.error
    assert ended.error.partition("; attempts ")[2].endswith(advice)
    assert ("; attempts " in ended.error) == bool(advice)


def test_a_type_without_temp_files_still_has_its_input(attempt: Attempt, tmp_path: Path) -> None:
    source = tmp_path / "in.txt"
    source.write_text("harmless")

    ended = attempt("folderless", source)

    assert (ended.error, ended.outcome, ended.result) == ("", "completed", {"read": "harmless"})


@pytest.mark.slow
@pytest.mark.skipif(find_libreoffice() is None, reason=INSTALL_LIBREOFFICE)
def test_libreoffice_works_behind_the_walls_and_leaves_nothing_in_tmp(attempt: Attempt, tmp_path: Path) -> None:
    source = tmp_path / "in.docx"
    with zipfile.ZipFile(source, "w") as package:
        for name, text in WORD.items():
            package.writestr(name, text)
    before = set(Path(tempfile.gettempdir()).glob("OSL_PIPE_*"))

    ended = attempt("document_preview", source, tmp_path / "out.png")

    assert (ended.error, ended.outcome) == ("", "completed")
    assert ended.result is not None
    assert ended.result["renderer"] == "libreoffice"
    assert set(Path(tempfile.gettempdir()).glob("OSL_PIPE_*")) == before


def replaced(reports: Reports) -> list[str]:
    return [report.why for report in reports.all if isinstance(report, WorkerGone)]


def test_a_handler_reaches_its_input_its_folder_and_its_output(
    attempt: Attempt, tmp_path: Path, protected: Path
) -> None:
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("harmless")

    ended = attempt("honest", source, output)

    assert (ended.error, ended.outcome) == ("", "completed")
    assert ended.result == {"folder": str(protected / "tmp" / "1"), "temp": True}
    assert output.read_text() == "harmless"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "in.txt", "out.txt"]


@alone
def test_and_nothing_else(attempt: Attempt, tmp_path: Path, protected: Path) -> None:
    source, output, other = tmp_path / "in.txt", tmp_path / "out.txt", tmp_path / "other.txt"
    source.write_text("harmless")
    other.write_text("secret")
    paths = [str(other), str(protected / "log.db")]

    ended = attempt(
        "hostile", source, output, read=paths, write=paths, folders=[str(tmp_path), str(protected)], service=1
    )

    assert (ended.error, ended.outcome) == ("", "completed")
    assert ended.result["tries"] > 100
    assert ended.result["got"] == {}
    assert (other.read_text(), (protected / "log.db").read_text()) == ("secret", "secret")


def test_an_attempt_finds_nothing_of_the_one_before(attempt: Attempt) -> None:
    clean = attempt("witness").result

    attempt("polluter")
    kept = attempt("kept_polluter").result

    assert attempt("witness").result == clean
    assert attempt("kept_polluter").result == kept


@alone
def test_what_is_left_is_killed_before_the_end_is_told_and_the_worker_stays(attempt: Attempt, reports: Reports) -> None:
    for shape in ("plain", "daemon", "bare"):
        assert attempt("leave", shape=shape).outcome == "completed"
    assert attempt("late").outcome == "completed"
    assert attempt("fork").outcome == "completed"

    seen = attempt("witness").result["processes"]
    assert (seen, replaced(reports)) == (3, []), "the first process, the worker and the attempt's own"


@pytest.mark.parametrize(
    ("shape", "code", "told"), [("exit", 7, "exit code 7"), ("abort", -6, "SIGABRT"), ("kill", -9, "SIGKILL")]
)
def test_the_death_of_an_attempts_process_is_told_as_it_was(attempt: Attempt, shape: str, code: int, told: str) -> None:
    ended = attempt("die", shape=shape)

    assert (ended.outcome, ended.exit_code) == ("lost", code)
    assert told in ended.error
    assert attempt("echo", value=3).result["value"] == 3


def test_the_use_of_an_attempt_that_died_is_its_own_and_the_worker_is_known_by_its_outer_number(
    attempt: Attempt, reports: Reports
) -> None:
    large = attempt("hog", count=100_000_000)

    dead = attempt("die", shape="kill")

    assert large.memory_used > 100_000_000 > dead.memory_used > 0
    told = reports.until(lambda report: isinstance(report, WorkerGone))
    assert isinstance(told, WorkerGone)
    assert told.pid > 2


@pytest.mark.parametrize("shape", ["noise", "huge", "wrong"])
def test_an_attempt_cannot_play_the_worker(attempt: Attempt, shape: str) -> None:
    """Its `sys.argv` names the pipes of the worker, but those are closed in its process."""
    ended = attempt("garbage", shape=shape)

    assert (ended.outcome, "Bad file descriptor" in ended.error) == ("failed", True)


def test_nonsense_in_its_own_pipe_ends_the_attempt_by_name(attempt: Attempt) -> None:
    ended = attempt("forger")

    assert (ended.outcome, ended.error_type) == ("lost", "ProtocolError")
    assert attempt("echo", value=3).result["value"] == 3


def test_checkpoints_that_do_not_wait_end_the_attempt_by_name(attempt: Attempt, reports: Reports) -> None:
    reports._answer = False

    ended = attempt("crammer")

    assert (ended.outcome, ended.error_type) == ("lost", "ProtocolError")
    assert "before the last one was saved" in ended.error
    assert [type(report) for report in reports.all].count(AttemptCheckpointed) == 1


# --- a process that is kept for the next attempts of its type, and is given them by the service itself ---


@pytest.fixture
def kept(protected: Path) -> Iterator[Reports]:
    executor = LocalExecutor(
        slots=1,
        homes={
            name: f"kept_handlers:{name}"
            for name in ("echo", "die", "tell", "patient", "hog", "grow", "schemer", "talkative")
        },
        pythonpath=[str(SUPPORT)],
        sandbox=Sandbox(mode="auto", protected=(str(protected),)),
        output_root=protected / "output",
        max_output=100_000,
    )
    yield Reports(executor)
    executor.close(5.0)


def begin(reports: Reports, number: int, kind: str, folder: Path = Path("/nowhere"), **options: Any) -> None:
    """`folder` holds the temp folders of attempts whose type needs one."""
    reports._executor.do([Run(number, 1, kind, "", "", options, None, str(folder / str(number)))])


def run_to_its_end(
    reports: Reports, number: int, kind: str, folder: Path = Path("/nowhere"), **options: Any
) -> AttemptEnded:
    begin(reports, number, kind, folder, **options)
    return reports.end(number)


def worker_and_kept(reports: Reports) -> tuple[psutil.Process, psutil.Process]:
    """Return the worker and its kept process, which waits for its next attempt."""
    executor = reports._executor
    assert isinstance(executor, LocalExecutor)
    (slot,) = executor._slots
    assert slot._process is not None
    found = [
        process
        for process in psutil.Process(slot._process.reaper).children(recursive=True)
        if "tasktrail.handlers.process.worker" in process.cmdline() and "-P" in process.cmdline()[:2]
    ]
    worker, kept = sorted(found, key=lambda process: len(process.parents()))
    return worker, kept


def test_an_attempt_begins_in_the_process_that_is_kept_while_its_worker_sleeps(kept: Reports) -> None:
    assert run_to_its_end(kept, 1, "echo", value=1).result["value"] == 1
    worker, process = worker_and_kept(kept)
    kept.until(lambda _: process.status() == psutil.STATUS_SLEEPING)
    slept = process.num_ctx_switches().voluntary

    worker.suspend()
    try:
        begin(kept, 2, "echo", value=2)
        kept.until(lambda _: process.num_ctx_switches().voluntary > slept)
    finally:
        worker.resume()

    assert kept.end(2).result["value"] == 2


def has_ended(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("before", [1, 2], ids=["given by its worker", "given directly"])
def test_one_behind_the_death_of_the_process_that_was_kept_runs_in_another(kept: Reports, before: int) -> None:
    for number in range(11, 11 + before):
        run_to_its_end(kept, number, "echo", value=1)
    _, process = worker_and_kept(kept)
    process.kill()
    kept.until(lambda _: has_ended(process))

    assert run_to_its_end(kept, 2, "echo", value=2).result["value"] == 2
    assert replaced(kept) == []
    assert worker_and_kept(kept)[1] != process


def test_the_death_of_a_process_that_was_kept_is_told_as_it_was(kept: Reports) -> None:
    assert run_to_its_end(kept, 1, "die", shape="not yet").outcome == "completed"

    dead = run_to_its_end(kept, 2, "die", shape="kill")

    assert (dead.outcome, dead.exit_code, dead.memory_used > 0) == ("lost", -9, True)
    assert run_to_its_end(kept, 3, "echo", value=3).result["value"] == 3


def test_a_run_of_any_length_reaches_the_process_that_is_kept(kept: Reports) -> None:
    run_to_its_end(kept, 1, "echo", value=1)
    _, process = worker_and_kept(kept)

    for number, length in enumerate((1, 10_000, 60_000, 1, 4000), start=2):
        assert len(run_to_its_end(kept, number, "echo", value=length * "x").result["value"]) == length

    assert worker_and_kept(kept)[1] == process


def test_each_attempt_in_a_process_that_is_kept_has_its_own_output(kept: Reports, protected: Path) -> None:
    for number in range(1, 6):
        run_to_its_end(kept, number, "tell", value=f"this is {number}")

    printed = [read(protected / "output", number, 1).text for number in range(1, 6)]
    assert printed == [f"this is {number}\n" for number in range(1, 6)]


def test_what_an_attempt_there_prints_is_kept_while_it_runs(kept: Reports, protected: Path) -> None:
    run_to_its_end(kept, 1, "tell", value="first")
    begin(kept, 2, "tell", value="second", shape="and wait")

    kept.until(lambda _: read(protected / "output", 2, 1).text == "second\n")
    kept._executor.do([Stop(2, 1)])
    assert kept.end(2).outcome == "completed"


def test_a_stop_is_heard_in_the_process_that_is_kept(kept: Reports) -> None:
    for number in (1, 2):
        begin(kept, number, "patient")
        kept.until(lambda report: isinstance(report, AttemptProgressed) and report.task_id == number)  # noqa: B023 - asked at once
        kept._executor.do([Stop(number, 1)])
        assert kept.end(number).outcome == "stopped"


@pytest.mark.parametrize("before", [1, 2], ids=["given by its worker", "given directly"])
def test_nobody_but_the_service_can_give_a_run(kept: Reports, protected: Path, before: int) -> None:
    for number in range(11, 11 + before):
        run_to_its_end(kept, number, "schemer")

    died = run_to_its_end(kept, 2, "schemer", shape="forge and die", path=str(protected / "log.db"), task=2)

    assert (died.outcome, died.exit_code, died.result) == ("lost", 5, {})


def test_what_an_attempt_plants_does_not_reach_the_next_process(kept: Reports) -> None:
    run_to_its_end(kept, 1, "schemer")
    run_to_its_end(kept, 2, "schemer", shape="forge for another", path="/proc/version", task=3)

    assert run_to_its_end(kept, 3, "echo", value=3).result["value"] == 3


def test_one_that_died_with_its_run_half_read_has_begun_and_the_next_runs_in_another(kept: Reports) -> None:
    run_to_its_end(kept, 1, "schemer", shape="swallow a part of the next")

    ended = [run_to_its_end(kept, number, "schemer") for number in (2, 3)]

    assert [(end.outcome, end.exit_code) for end in ended] == [("lost", 3), ("completed", None)]


def test_one_behind_an_attempt_that_reads_no_more_runs_is_run_by_another_worker(kept: Reports) -> None:
    run_to_its_end(kept, 1, "schemer", shape="close")

    assert run_to_its_end(kept, 2, "schemer").outcome == "completed"


@pytest.mark.parametrize("shape", ["wait for more than ever comes", "close"])
def test_what_a_process_makes_of_the_way_of_its_runs_does_not_reach_another_type(kept: Reports, shape: str) -> None:
    run_to_its_end(kept, 1, "schemer")
    run_to_its_end(kept, 2, "schemer", shape=shape)

    ended = [run_to_its_end(kept, number, "echo", value=number) for number in (3, 4, 5)]

    assert [end.outcome for end in ended] == 3 * ["completed"]


def test_what_an_attempt_makes_of_its_output_is_not_for_the_next(kept: Reports, protected: Path) -> None:
    run_to_its_end(kept, 1, "schemer", shape="narrow the output")

    run_to_its_end(kept, 2, "tell", value=90_000 * "x")

    assert len(read(protected / "output", 2, 1).text) == 90_001


@alone
def test_shared_memory_goes_with_the_process_that_made_it(kept: Reports) -> None:
    run_to_its_end(kept, 1, "schemer", shape="share")
    found = run_to_its_end(kept, 2, "schemer", shape="look for what is shared").result
    run_to_its_end(kept, 3, "echo", value=1)

    assert found == {"found": "left"}
    assert run_to_its_end(kept, 4, "schemer", shape="look for what is shared").result == {"found": ""}


@pytest.mark.parametrize("kind", ["schemer", "talkative"])
def test_no_attempt_shares_what_outlives_it_or_has_no_path(kept: Reports, kind: str) -> None:
    refused = run_to_its_end(kept, 1, kind, shape="talk").result

    assert set(refused.values()) == {"EACCES"}


def test_a_worker_that_is_scheduled_otherwise_than_at_its_start_is_replaced(kept: Reports) -> None:
    run_to_its_end(kept, 1, "echo", value=1)
    worker, _ = worker_and_kept(kept)
    worker.nice(worker.nice() + 1)

    assert run_to_its_end(kept, 2, "echo", value=2).outcome == "completed"
    kept.until(lambda report: isinstance(report, WorkerGone))
    assert run_to_its_end(kept, 3, "echo", value=3).outcome == "completed"
    assert worker_and_kept(kept)[0] != worker


def test_what_loading_a_type_says_of_how_it_is_scheduled_holds_and_replaces_nobody(protected: Path) -> None:
    executor = LocalExecutor(
        slots=1,
        homes={"echo": "kept_handlers:echo", "polite": "polite_handlers:polite"},
        pythonpath=[str(SUPPORT)],
        sandbox=Sandbox(mode="auto", protected=(str(protected),)),
    )
    reports = Reports(executor)
    try:
        run_to_its_end(reports, 1, "echo", value=1)
        ends = [run_to_its_end(reports, number, "polite", protected / "tmp") for number in (2, 3, 4)]
        assert run_to_its_end(reports, 5, "echo", value=5).outcome == "completed"
    finally:
        executor.close(5.0)

    assert [ended.result["nice"] for ended in ends] == 3 * [os.nice(0) + 1]
    assert [why for why in replaced(reports) if "scheduled" in why] == []


_IMPORTER = """
from importlib import import_module
from multiprocessing import get_context

import msgspec
from tasktrail.handlers import TaskContext, handler

class Wish(msgspec.Struct):
    module: str

def double(number):
    return 2 * number

@handler("importer", options=Wish)
def importer(context: TaskContext[Wish]) -> dict:
    return {"value": import_module(context.options.module).VALUE}

@handler("spawner")
def spawner(context: TaskContext[None]) -> dict:
    with get_context("spawn").Pool(1) as workers:
        return {"values": workers.map(double, [1, 2])}
"""


def test_modules_beside_the_data_folder_are_found_whatever_happens_there(protected: Path) -> None:
    """The folder of the code cannot be listed where the data folder lies in it, as it does unless one says otherwise.

    A module was imported late only as long as nothing in the folder had changed; then it was said not to exist. A
    spawned process never found one, and a pool that lacks one starts processes for ever.
    """
    code = protected.parent
    (code / "importer_handlers.py").write_text(_IMPORTER)
    (code / "late_module.py").write_text("VALUE = 1")
    (code / "late_package").mkdir()
    (code / "late_package" / "__init__.py").write_text("from .inner import VALUE")
    (code / "late_package" / "inner.py").write_text("VALUE = 2")
    (code / "bare_package").mkdir()
    (code / "bare_package" / "inner.py").write_text("VALUE = 3")
    (code.parent / "elsewhere.py").write_text("VALUE = 4")
    executor = LocalExecutor(
        slots=1,
        homes={name: f"importer_handlers:{name}" for name in ("importer", "spawner")},
        pythonpath=[str(code)],
        sandbox=Sandbox(mode="auto", protected=(str(protected),)),
    )
    reports = Reports(executor)
    try:
        run_to_its_end(reports, 1, "importer", protected / "tmp", module="late_module")
        (code / "output.txt").write_text("")  # Python now takes what it knows of the folder for out of date
        ends = [
            run_to_its_end(reports, number, "importer", protected / "tmp", module=module)
            for number, module in enumerate(
                ("late_module", "late_package", "bare_package.inner", "no_module", str(code.parent / "elsewhere")), 2
            )
        ]
        spawned = run_to_its_end(reports, 7, "spawner", protected / "tmp")
    finally:
        executor.close(5.0)

    assert [ended.result for ended in ends] == [{"value": 1}, {"value": 2}, {"value": 3}, {}, {}]
    assert [ended.error_type for ended in ends[3:]] == ["ModuleNotFoundError"] * 2
    assert spawned.result == {"values": [2, 4]}


def test_late_modules_of_a_package_that_holds_the_data_folder_are_found(tmp_path: Path) -> None:
    """A worker has looked into the package before it forks, and a folder that cannot be listed then seemed empty."""
    package, protected = tmp_path / "late_app", tmp_path / "late_app" / "data"
    (protected / "tmp").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "tasks.py").write_text(_IMPORTER)
    (package / "late.py").write_text("VALUE = 1")
    executor = LocalExecutor(
        slots=1,
        homes={"importer": "late_app.tasks:importer"},
        pythonpath=[str(tmp_path)],
        sandbox=Sandbox(mode="auto", protected=(str(protected),)),
    )
    reports = Reports(executor)
    try:
        run_to_its_end(reports, 1, "importer", protected / "tmp", module="math")
        (package / "output.txt").write_text("")  # Python now takes what it knows of the folder for out of date
        ended = run_to_its_end(reports, 2, "importer", protected / "tmp", module="late_app.late")
    finally:
        executor.close(5.0)

    assert ended.result == {"value": 1}


def test_the_cpu_of_a_death_is_that_of_the_last_attempt(kept: Reports) -> None:
    assert run_to_its_end(kept, 1, "die", shape="spin").cpu_used > 0.2

    assert run_to_its_end(kept, 2, "die", shape="kill").cpu_used < 0.1


def test_a_process_that_was_kept_and_has_grown_is_replaced(protected: Path) -> None:
    executor = LocalExecutor(
        slots=1,
        homes={"grow": "kept_handlers:grow"},
        pythonpath=[str(SUPPORT)],
        sandbox=Sandbox(mode="auto", protected=(str(protected),)),
        rules=SlotRules(rss_limit=150 * 1024 * 1024),
    )
    reports = Reports(executor)
    try:
        held = [run_to_its_end(reports, number, "grow", count=60_000_000).result["held"] for number in range(1, 7)]
    finally:
        executor.close(5.0)

    assert held[0] == 1
    assert max(held) < 4


def test_another_type_is_not_given_to_it(kept: Reports) -> None:
    for number in range(1, 7):
        kind = ("echo", "echo", "tell")[number % 3]
        assert run_to_its_end(kept, number, kind, value=str(number)).outcome == "completed"


# ---


def test_a_missing_output_is_named(attempt: Attempt, tmp_path: Path) -> None:
    ended = attempt("no_output", "", tmp_path / "out.txt")

    assert (ended.outcome, ended.error_type) == ("failed", "OutputMissing")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_run_that_its_pipe_does_not_hold_reaches_the_process_whole() -> None:
    job_end, job = os.pipe()
    control_end, control = os.pipe()
    report, report_end = os.pipe()
    child = _Child(0, job, control, report, "")
    run = Run(7, 1, "echo", "", "", {"text": "x" * 1_000_000}, None, "/nowhere")
    read: list[Run] = []

    def reading() -> None:
        frames = FrameBuffer(attempt_order_decoder)
        while not read:
            read.extend(frames.feed(os.read(job_end, 65536)))

    reader = Thread(target=reading)
    reader.start()
    child.give(run)
    reader.join()
    assert read == [run]
    assert not os.get_blocking(job)
    for fd in (job_end, control_end, report_end):
        os.close(fd)
    child.close()


def test_cost_is_that_of_the_attempt(attempt: Attempt) -> None:
    first, second = attempt("echo", value=1), attempt("echo", value=2)

    assert 0 < second.memory_used <= 2 * first.memory_used
    assert second.cpu_used < 1


_SCHEDULE = """
import os, platform, psutil, resource, subprocess
from tasktrail.handlers.process import sandbox, seccomp
if os.geteuid() == 0:  # root's right is another matter, and dropped
    os.setgid(65534)
    os.setuid(65534)
other = subprocess.Popen(["sleep", "60"])
child = os.fork()
if child == 0:
    sandbox.drop_rights()
    seccomp.filter_calls(platform.machine(), network=False)
    mine = os.sched_getaffinity(0)
    for tried in (
        lambda: os.setpriority(os.PRIO_PROCESS, other.pid, 5),
        lambda: os.setpriority(os.PRIO_USER, os.getuid(), 5),
        lambda: os.setpriority(os.PRIO_PGRP, 0, 5),
        lambda: os.sched_setaffinity(other.pid, mine),
        lambda: os.sched_setscheduler(other.pid, os.SCHED_BATCH, os.sched_param(0)),
        lambda: (os.setpriority(os.PRIO_PROCESS, 0, os.nice(1)), os.sched_setaffinity(0, mine)),
        lambda: (os.setpriority(os.PRIO_PROCESS, os.getpid(), os.nice(1)), os.sched_setaffinity(os.getpid(), mine)),
        lambda: (psutil.Process().nice(os.nice(1)), psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)),
        lambda: resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE),
    ):
        try:
            tried()
            print("done", flush=True)
        except OSError as error:
            print(error.strerror, flush=True)
    os._exit(0)
os.waitpid(child, 0)
other.kill()
other.wait()
"""
"""System calls that an attempt tries on another process of its user, and then on itself, by the numbers 0 and its
own."""


def test_an_attempt_says_how_itself_is_scheduled_and_nothing_else() -> None:
    told = subprocess.run([sys.executable, "-c", _SCHEDULE], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [*["Permission denied"] * 5, *["done"] * 4]


_ALLOWED = 0x7FFF0000
_FAILS = 0x00050000
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
BOTH = pytest.mark.parametrize("machine", list(_ARCHITECTURES))


def answer(machine: str, number: int, *arguments: int, network: bool = False, cut: bool = True) -> int:
    """Evaluate the filter's answer to a system call, as the kernel does: an error number, or 0 if it passes.

    This also works for calls that this kernel does not have yet.
    """
    call = struct.pack("=IIQ6Q", number, _ARCHITECTURES[machine], 0, *arguments, *(6 - len(arguments)) * [0])
    code = program(machine, network=network, cut=cut)
    place = value = 0
    while True:
        kind, yes, no, operand = code[place]
        place += 1
        match kind:
            case 0x20:
                value = struct.unpack_from("=I", call, operand)[0]
            case 0x54:
                value &= operand
            case 0x15:
                place += yes if value == operand else no
            case 0x45:
                place += yes if value & operand else no
            case 0x35:
                place += yes if value >= operand else no
            case 0x06:
                return 0 if operand == _ALLOWED else operand & ~_FAILS
            case _:
                raise AssertionError(f"the kernel does not know {kind:#x}")


@BOTH
def test_no_call_changes_the_attributes_of_a_file(machine: str) -> None:
    for number in (463, 466, 469):  # setxattrat, removexattrat, file_setattr: Linux 6.13 and 6.17
        assert answer(machine, number) == errno.EOPNOTSUPP
    assert answer(machine, 467) == errno.EACCES  # open_tree_attr: 6.15
    ioctl = {"x86_64": 16, "aarch64": 29}[machine]
    # Flags, their newer form, those of FAT; version, that of ext4; verity; encryption of a folder, and to lock it.
    for request in (0x40086602, 0x401C5820, 0x40047211, 0x40087602, 0x40086604, 0x40806685, 0x800C6613, 0xC0406618):
        assert answer(machine, ioctl, 3, request) == errno.ENOTTY
        assert answer(machine, ioctl, 3, request | 1 << 32) == errno.ENOTTY  # the kernel reads only the lower half
    for request in (0x5401, 0x40049409):  # TCGETS, FICLONE
        assert answer(machine, ioctl, 3, request) == 0


@BOTH
def test_no_request_makes_a_subvolume_or_a_copy_by_path(machine: str) -> None:
    """On btrfs an attempt could put code of its own into any folder that it may read: as a snapshot of its subvolume.

    Older kernels even took a snapshot of the subvolume with the data folder, and put it into the attempt's own folder.
    """
    ioctl = {"x86_64": 16, "aarch64": 29}[machine]
    # btrfs: snapshot and subvolume in both forms, their removal, what was received; the same of bcachefs; OCFS2's copy.
    btrfs = (0x50009401, 0x5000940E, 0x5000940F, 0x50009417, 0x50009418, 0x5000943F, 0xC0C89425)
    for request in (*btrfs, 0x4020BC10, 0x4020BC11, 0x40186F04):
        assert answer(machine, ioctl, 3, request) == errno.ENOTTY
    for request in (0x40049409, 0x4020940D, 0xC0189436):  # what other file systems do, too: FICLONE and its like
        assert answer(machine, ioctl, 3, request) == 0


@BOTH
def test_a_file_is_opened_for_reading_or_for_writing(machine: str) -> None:
    openat, openat2 = {"x86_64": (257, 437), "aarch64": (56, 437)}[machine]
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC):
        assert answer(machine, openat, 0, 0, flags | os.O_CLOEXEC) == 0
    for flags in (os.O_ACCMODE, os.O_ACCMODE | os.O_TRUNC, os.O_ACCMODE | os.O_CREAT):
        assert answer(machine, openat, 0, 0, flags) == errno.EACCES
    assert answer(machine, openat, 0, 0, os.O_RDONLY | os.O_TRUNC, cut=False) == errno.EACCES
    assert answer(machine, openat, 0, 0, os.O_WRONLY | os.O_TRUNC, cut=False) == 0
    assert answer(machine, openat2) == errno.ENOSYS, "its flags cannot be seen"


@BOTH
def test_no_file_is_leased_in_any_of_the_ways(machine: str) -> None:
    """F_SETLEASE, F_NOTIFY and F_SETDELEG, which Linux has since 6.19. What only asks passes, as locks do."""
    fcntl = {"x86_64": 72, "aarch64": 25}[machine]
    base = 1024
    for command in (base + 0, base + 2, base + 16):
        assert answer(machine, fcntl, 3, command) == errno.EACCES
    for command in (base + 1, base + 6, base + 7, base + 9, base + 15, 1, 2, 3, 4, 6, 7, 37, 38):
        assert answer(machine, fcntl, 3, command) == 0


_TOUCH = """
import os, platform, shutil, sys
from pathlib import Path
from tasktrail.handlers.process import sandbox, seccomp
own = Path(sys.argv[1])
old = own / "old"
sandbox.drop_rights()
seccomp.filter_calls(platform.machine(), network=False)
(own / "new").touch()
old.touch()
os.utime(old, (1, 1))
shutil.copy2(old, own / "copy")
with old.open("ab") as file:
    os.utime(file.fileno())
print((own / "new").exists(), (own / "copy").exists(), old.stat().st_mtime)
try:
    os.utime(old)
except OSError as error:
    print(error.strerror)
"""


def test_touch_makes_a_file_and_the_times_of_files_stay(tmp_path: Path) -> None:
    """`touch` sets the time of a file, and makes it only if that fails: it made none, and said nothing."""
    (tmp_path / "old").touch()
    os.utime(tmp_path / "old", (7, 7))
    command = [sys.executable, "-c", _TOUCH, str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == ["True True 7.0", "Permission denied"]


@BOTH
def test_only_the_present_as_the_time_of_a_named_file_is_refused(machine: str) -> None:
    pointers = (0x1000, 1 << 40)
    calls = {"x86_64": ((132, 0, 1), (235, 0, 1), (261, 1, 2), (280, 1, 2)), "aarch64": ((88, 1, 2),)}[machine]
    for (number, name, times), given, at in itertools.product(calls, (0, *pointers), (0, *pointers)):
        arguments = [3] * 6
        arguments[name], arguments[times] = given, at
        assert answer(machine, number, *arguments) == (errno.EACCES if given and not at else 0)


_BESIDE_LANDLOCK = """
import fcntl, os, sys
from tasktrail.handlers.process.landlock import READ_FILE, RUN, WRITE, PathRule
from tasktrail.handlers.process.sandbox import Sandbox, confine
version, secret, source, own = int(sys.argv[1]), *sys.argv[2:]
grants = [PathRule(source, READ_FILE), PathRule(own, WRITE)]
confine(Sandbox(mode="auto", landlock=version, seccomp=True), grants, network=False)
def lease():
    fcntl.fcntl(os.open(source, os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)
for tried in (
    lambda: os.truncate(secret, 0),
    lambda: os.open(secret, os.O_ACCMODE | os.O_TRUNC),
    lambda: os.open(secret, os.O_ACCMODE),
    lambda: os.open(source, os.O_RDONLY | os.O_TRUNC),
    lease,
    lambda: open(os.path.join(own, "mine"), "w").truncate(3),
    lambda: open(os.path.join(own, "mine"), "w").close(),
):
    try:
        tried()
        print("done")
    except OSError as error:
        print(error.strerror)
"""
"""What an attempt tries on a file that it may not reach, on its input, and in its own folder."""


@pytest.mark.parametrize("landlock", [2, sandbox_support().landlock])
def test_what_landlock_does_not_see_is_refused_by_the_filter(tmp_path: Path, landlock: int) -> None:
    """Version 2 (Linux 5.19 to 6.1) lets anyone cut a file, and no version asks for a right to open one with mode 3.

    An attempt could empty the log, and with a lease on a file have the service wait 45 s for it.
    """
    secret, source, own = (tmp_path / name for name in ("log.db", "in.txt", "own"))
    for path in (secret, source):
        path.write_text("whole")
    own.mkdir()
    command = [sys.executable, "-c", _BESIDE_LANDLOCK, str(landlock), str(secret), str(source), str(own)]

    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [*["Permission denied"] * 5, *["done"] * 2]
    assert (secret.read_text(), source.read_text()) == ("whole", "whole")


@BOTH
def test_a_call_that_is_newer_than_the_filter_is_said_not_to_exist(machine: str) -> None:
    assert [answer(machine, number) for number in (462, 464, 465, 468)] == 4 * [0]
    assert [answer(machine, number) for number in (470, 471, 1000)] == 3 * [errno.ENOSYS]


_BY_NEW_CALLS = """
import ctypes, os, platform, struct, sys
from tasktrail.handlers.process import seccomp
path = sys.argv[1].encode()
libc = ctypes.CDLL(None)
def call(number, *arguments):
    return libc.syscall(*(one if isinstance(one, bytes) else ctypes.c_long(one) for one in (number, *arguments)))
entries = [(1, 7), (4, 7), (32, 7)]  # the owner, the group, all others
rights = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", tag, right, 0xFFFFFFFF) for tag, right in entries)
listed = ctypes.create_string_buffer(rights, len(rights))
asked = ctypes.create_string_buffer(struct.pack("=QII", ctypes.addressof(listed), len(rights), 0), 16)
seccomp.filter_calls(platform.machine(), network=False)
call(463, -100, path, 0, b"system.posix_acl_access", ctypes.addressof(asked), 16)
"""


def test_an_attempt_gives_nobody_the_right_to_a_file_by_a_new_call(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)

    subprocess.run([sys.executable, "-c", _BY_NEW_CALLS, str(secret)], check=True)
    assert secret.stat().st_mode & 0o777 == 0o600


def test_the_filter_knows_both_architectures() -> None:
    for machine in ("x86_64", "aarch64"):
        for network, cut in itertools.product((False, True), repeat=2):
            code = program(machine, network=network, cut=cut)
            assert all(0 <= place + 1 + max(yes, no) < len(code) for place, (_, yes, no, _v) in enumerate(code[:-1]))
    assert not available("pdp11")
