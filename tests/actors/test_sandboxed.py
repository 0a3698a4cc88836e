"""Attempts in processes of their own, behind what the kernel offers. tests/attack/hostile_handler.py tries far more."""

import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from typing import Any, TypeAlias

import pytest
from inline_executor import Reports

from tasktrail.actors.workers.local_executor import LocalExecutor
from tasktrail.events.reports import AttemptEnded, Run, WorkerGone
from tasktrail.handlers.document.libreoffice import INSTALL_LIBREOFFICE, find_libreoffice
from tasktrail.handlers.process.channel import FrameBuffer, attempt_order_decoder
from tasktrail.handlers.process.sandbox import Sandbox, sandbox_support
from tasktrail.handlers.process.sandboxed import _Child
from tasktrail.handlers.process.seccomp import available, program

pytestmark = pytest.mark.skipif(not sandbox_support().whole, reason="this kernel has not all the means")

SUPPORT = Path(__file__).parent.parent / "support"
HOMES = {
    **{
        name: f"sample_handlers:{name}"
        for name in ("echo", "write", "no_output", "leave", "die", "garbage", "late", "fork", "hog")
    },
    **{
        name: f"hostile_handlers:{name}"
        for name in ("hostile", "honest", "polluter", "kept_polluter", "witness", "forger", "reader", "folderless")
    },
    "document_preview": "tasktrail.handlers.document.preview:document_preview",
}
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
"""The smallest document of Word."""
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


def test_a_refusal_names_the_switches_that_lift_it(attempt: Attempt, protected: Path) -> None:
    ended = attempt("reader", "", "", path=str(protected / "log.db"))

    assert (ended.outcome, ended.error_type) == ("failed", "PermissionError")
    assert "attempts are sandboxed" in ended.error
    assert "reads=" in ended.error


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
    """Its `sys.argv` names the pipes of the worker, and those are closed in its process."""
    ended = attempt("garbage", shape=shape)

    assert (ended.outcome, "Bad file descriptor" in ended.error) == ("failed", True)


def test_nonsense_in_its_own_pipe_ends_the_attempt_by_name(attempt: Attempt) -> None:
    ended = attempt("forger")

    assert (ended.outcome, ended.error_type) == ("lost", "ProtocolError")
    assert attempt("echo", value=3).result["value"] == 3


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


def test_the_filter_knows_both_architectures() -> None:
    for machine in ("x86_64", "aarch64"):
        for network in (False, True):
            code = program(machine, network=network)
            assert all(0 <= place + 1 + max(yes, no) < len(code) for place, (_, yes, no, _v) in enumerate(code[:-1]))
    assert not available("pdp11")
