"""Office documents, with LibreOffice where it is installed, and otherwise with a script in its place."""

import contextlib
import errno
import os
import resource
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from threading import Event
from typing import Any

import psutil
import pytest
from PIL import Image

from tasktrail.events.errors import InvalidPath
from tasktrail.events.retry import matching_rule
from tasktrail.handlers import Finished, Rejected, Stopped
from tasktrail.handlers.document import libreoffice
from tasktrail.handlers.document.libreoffice import OfficeFailedError
from tasktrail.handlers.document.preview.options import DocumentPreviewOptions, check
from tasktrail.handlers.errors import CpuLimitReached
from tasktrail.testing import SimulatedCrash, job_for

Prepare = Callable[..., Any]
Draw = Callable[[Any], Any]
Odt = Callable[..., Path]

SOFFICE = libreoffice.find_libreoffice()
needs_libreoffice = pytest.mark.skipif(
    SOFFICE is None, reason=f"LibreOffice is not there. {libreoffice.INSTALL_LIBREOFFICE}"
)


def ink(path: Path) -> float:
    """Return the share of dark pixels."""
    with Image.open(path) as picture:
        histogram = picture.convert("L").histogram()
    return sum(histogram[:128]) / sum(histogram)


def running(folder: Path) -> list[str]:
    """Return the processes that have the folder in their command."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if any(str(folder) in part for part in process.cmdline()):
                found.append(" ".join(process.cmdline()))
    return found


@pytest.mark.usefixtures("absent")
def test_without_libreoffice_a_command_is_refused_with_what_to_install() -> None:
    with pytest.raises(InvalidPath, match="apt install libreoffice-writer-nogui"):
        check(job_for(DocumentPreviewOptions(), "/in.DOCX", "/out.png"))
    for office_option in ("thumbnail", "auto"):
        check(job_for(DocumentPreviewOptions(office=office_option), "/in.docx", "/out.png"))
    check(job_for(DocumentPreviewOptions(), "/in.pdf", "/out.png"))


@pytest.mark.usefixtures("absent")
def test_without_libreoffice_a_document_under_another_name_is_rejected_with_what_to_install(
    odt: Odt, prepare: Prepare, draw: Draw
) -> None:
    outcome = draw(prepare(odt(name="letter.bin")))
    assert isinstance(outcome, Rejected)
    assert "apt install libreoffice-writer-nogui" in outcome.reason


def test_the_thumbnail_that_a_document_carries_is_shown_and_never_enlarged(
    odt: Odt, prepare: Prepare, draw: Draw
) -> None:
    small = BytesIO()
    Image.new("RGBA", (80, 100), (255, 0, 0, 255)).save(small, "PNG")
    source = odt(more={"Thumbnails/thumbnail.png": small.getvalue()})
    context = prepare(source, office="thumbnail")
    result = draw(context).result
    assert (result["width"], result["height"], result["renderer"], result["source_format"]) == (
        80,
        100,
        "thumbnail",
        "odt",
    )
    context = prepare(source, "small.png", office="thumbnail", width=40)
    draw(context)
    with Image.open(context.output_file) as picture:
        assert picture.size == (40, 50)
        assert picture.getpixel((20, 20)) == (255, 0, 0)


@pytest.mark.usefixtures("absent")
def test_auto_takes_the_thumbnail_where_libreoffice_is_absent_and_says_if_there_is_none(
    odt: Odt, prepare: Prepare, draw: Draw
) -> None:
    outcome = draw(prepare(odt(), office="auto"))
    assert isinstance(outcome, Rejected)
    assert "carries no thumbnail" in outcome.reason


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + bytes(50)])
def test_a_broken_thumbnail_is_rejected(data: bytes, odt: Odt, prepare: Prepare, draw: Draw) -> None:
    assert isinstance(draw(prepare(odt(more={"Thumbnails/thumbnail.png": data}), office="thumbnail")), Rejected)


def test_a_bomb_never_reaches_libreoffice(
    odt: Odt, prepare: Prepare, draw: Draw, pretender: Callable[[str], Path], tmp_path: Path
) -> None:
    pretender(f"touch {tmp_path}/called")
    bomb = odt(more={"Pictures/bomb": bytes(90_000_000)})
    assert isinstance(draw(prepare(bomb)), Rejected)
    assert not (tmp_path / "called").exists()


def test_parts_of_a_document_that_are_damaged_are_told(
    odt: Odt, document: Callable[..., Path], prepare: Prepare, draw: Draw, pretender: Callable[[str], Path]
) -> None:
    """Of a sheet that it cannot read, LibreOffice draws a blank page, and says nothing."""
    pretender(f'for last; do :; done; cp {document()} "$(dirname "$last")/../out/document.pdf"')
    told = "is damaged: what it holds may be missing from the pages"
    sheets = b"".join(b'<r Type="x/worksheet" Target="%s"/>' % name for name in (b"sheets/1.xml", b"/xl/sheets/2.xml"))
    for parts, notes in (
        ({"one.xml": b"<a/>", "picture.png": b"<a>", "Configurations2/accelerator/current.xml": b""}, None),
        ({"__MACOSX/._content.xml": b"\0\5\x16\7\0\2\0\0Mac OS X"}, None),
        ({"one.xml": b"<a><b></a>"}, [f"one.xml {told}"]),
        ({"one.xml": b"<?xml version='1.0' encoding='gb2312'?><a/>"}, None),
        ({"one.xml": b"<?xml version='1.0' encoding='none'?><a/>"}, [f"one.xml {told}"]),
        (
            {"xl/_rels/workbook.xml.rels": b"<all>%s</all>" % sheets, "xl/Sheets/1.xml": b"<a/>", "two.xml": b"<a/>"},
            ["xl/sheets/2.xml is missing in the document"],
        ),
        (
            {f"{number}.xml": b"<a>" for number in range(7)},
            [*(f"{number}.xml {told}" for number in range(5)), "2 more parts are damaged or missing"],
        ),
    ):
        result = draw(prepare(odt(more=parts), f"{len(parts)}.png")).result
        assert result["renderer"] == "libreoffice"
        assert result.get("notes") == notes


def test_fonts_that_are_not_there_are_named_also_after_a_crash(
    odt: Odt, document: Callable[..., Path], prepare: Prepare, draw: Draw, pretender: Callable[[str], Path]
) -> None:
    """LibreOffice says nothing of it. Fontconfig does: it is asked only for what LibreOffice itself does not find."""

    def asked(family: str, more: str = "") -> str:
        found = '\nPattern has 2 elts (size 16)\n\tfamily: "DejaVu Sans"(w)\n\tcharset: \n\t0000: 0\n(w)\n\n'
        return (
            f'Match Pattern has 2 elts (size 16)\n\tfamily: "{family}"(s) "Arial"(w)\n{more}\nBest score 0 0\n{found}'
        )

    printed = (
        asked("Of its windows") + "convert a as b\n" + asked("Zapf") + asked("Lacks a letter", "\tcharset: \n(s)\n")
    )
    printed += asked("Zapf") + asked("Garamond") + "Overwriting\n"
    program = pretender(
        f'for last; do :; done; cp {document(2)} "$(dirname "$last")/../out/document.pdf"; cat <<\'.\'\n{printed}.'
    )
    context = prepare(odt(), "out.zip", pages="all", crash_after=1)
    with pytest.raises(SimulatedCrash):
        draw(context)
    program.write_text("#!/bin/sh\nexit 1\n")  # the PDF is made
    assert draw(context.resumed()).result["notes"] == [
        "fonts that are not on this machine, and for which others stand in: Garamond, Zapf"
    ]


def test_a_failure_of_libreoffice_tells_what_it_said_and_may_pass(
    odt: Odt, prepare: Prepare, draw: Draw, pretender: Callable[[str], Path]
) -> None:
    pretender("echo out of paper; exit 3")
    context = prepare(odt())
    with pytest.raises(OfficeFailedError, match=r"out of paper\): save it anew"):
        draw(context)
    assert not (context.work_dir / "office").exists()


@pytest.mark.parametrize(
    "script",
    [
        "kill -9 $$",
        "exit 137",  # as a script ends whose program was killed
        'for last; do :; done; echo "%PDF-1.7 and no more" > "$(dirname "$last")/../out/document.pdf"; kill -9 $$',
    ],
    ids=["itself", "under a script", "in the middle of the PDF"],
)
def test_a_kill_of_libreoffice_is_not_blamed_on_the_document(
    odt: Odt, prepare: Prepare, draw: Draw, pretender: Callable[[str], Path], script: str
) -> None:
    """The kernel kills it, and not the worker, when memory runs out. The task had failed for good."""
    pretender(script)
    with pytest.raises(OfficeFailedError, match="killed by SIGKILL") as caught:
        draw(prepare(odt()))
    assert "save it anew" not in str(caught.value)
    rule = matching_rule("OfficeFailedError", str(caught.value), exit_code=caught.value.returncode)
    assert rule is not None
    assert rule.retryable


@pytest.mark.parametrize(
    "script",
    [
        "trap 'kill -ABRT $$' XCPU; while :; do :; done",
        "trap 'exit 134' XCPU; while :; do :; done",
        'for last; do :; done; echo "%PDF-1.7" > "$(dirname "$last")/../out/document.pdf"; while :; do :; done',
    ],
    ids=["turned into an abort", "under a script", "in the middle of the PDF"],
)
def test_the_limit_of_cpu_time_is_not_blamed_on_the_document(
    odt: Odt,
    prepare: Prepare,
    draw: Draw,
    pretender: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    script: str,
) -> None:
    """LibreOffice ends with SIGABRT after the kernel has sent it SIGXCPU, as after any fault of its own."""
    pretender(f"ulimit -S -t 2; {script}")  # so short a time is counted roughly
    monkeypatch.setattr(resource, "getrlimit", lambda _kind: (1, resource.RLIM_INFINITY))  # this process has used more
    with pytest.raises(CpuLimitReached, match=r"the 1 s of CPU time that the attempt may have, reading in\.odt"):
        draw(prepare(odt()))


def test_a_full_disk_is_not_blamed_on_the_document(
    odt: Odt, prepare: Prepare, draw: Draw, pretender: Callable[[str], Path]
) -> None:
    """A limit of each file's size acts like a full disk without one."""
    pretender("exit 1")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            draw(prepare(odt()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.errno == errno.EFBIG


def test_what_libreoffice_says_before_it_starts_again_is_told_once(
    odt: Odt,
    prepare: Prepare,
    draw: Draw,
    pretender: Callable[[str], Path],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Its first start in a profile may end with 81. Its lines were printed again, and named as an error's cause."""
    pretender(f"[ -e {tmp_path}/started ] && exit 3; touch {tmp_path}/started; echo made a profile; exit 81")
    with pytest.raises(OfficeFailedError, match="it said nothing"):
        draw(prepare(odt()))
    assert capfd.readouterr().err.count("made a profile") == 1


def test_a_stop_kills_all_that_libreoffice_started(
    odt: Odt, prepare: Prepare, draw: Draw, pretender: Callable[[str], Path], tmp_path: Path
) -> None:
    pretender(f"sh -c 'exec sleep 1000.{os.getpid()}' '{tmp_path}' & echo here; wait")
    context = prepare(odt(), stop_after=3)
    assert isinstance(draw(context), Stopped)
    sleepers = [
        process for process in psutil.process_iter() if f"sleep 1000.{os.getpid()}" in " ".join(cmdline(process))
    ]
    psutil.wait_procs(sleepers, timeout=20)
    assert not any(process.is_running() and process.status() != "zombie" for process in sleepers)
    assert not (context.work_dir / "office").exists()


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_libreoffice_gets_a_copy_alone_in_a_folder_and_nothing_of_our_environment(
    odt: Odt, prepare: Prepare, draw: Draw, pretender: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKTRAIL_SECRET", "42")
    pretender('env; for last; do :; done; ls -a "$(dirname "$last")"; exit 1')
    with pytest.raises(OfficeFailedError) as caught:
        draw(prepare(odt(name="-evil name.odt")))
    said = str(caught.value)
    assert "document.odt" in said
    assert "TASKTRAIL_SECRET" not in said


# --- with LibreOffice ------------------------------------------------------------------------------------------------


@needs_libreoffice
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["odt", "docx", "rtf"])
def test_office_documents_are_drawn(kind: str, documents: dict[str, Path], prepare: Prepare, draw: Draw) -> None:
    context = prepare(documents[kind], dpi=72)
    outcome = draw(context)
    assert isinstance(outcome, Finished)
    assert (outcome.result["source_format"], outcome.result["renderer"]) == (kind, "libreoffice")
    assert outcome.result["source_pages"] == (2 if kind == "rtf" else 1)
    assert 0.0002 < ink(context.output_file) < 0.05
    assert not (context.work_dir / "office").exists()
    assert running(context.work_dir) == []


@pytest.fixture
def trap() -> Iterator[tuple[int, list[str]]]:
    """Open a port on loopback, and record who connects to it."""
    visitors: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        closing = threading.Event()

        def listen() -> None:
            while not closing.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, address = server.accept()
                    visitors.append(str(address))
                    connection.close()

        thread = threading.Thread(target=listen)
        thread.start()
        yield server.getsockname()[1], visitors
        closing.set()
        thread.join()


LINKED = (
    '<draw:frame svg:width="8cm" svg:height="8cm"><draw:image xlink:href="{}" xlink:type="simple" xlink:show="embed" '
    'xlink:actuate="onLoad"/></draw:frame>'
)


@needs_libreoffice
@pytest.mark.slow
@pytest.mark.parametrize("isolated", [True, False])
def test_what_a_document_links_to_is_neither_read_nor_fetched(
    isolated: bool,  # noqa: FBT001 - a case of the test
    odt: Odt,
    prepare: Prepare,
    draw: Draw,
    trap: tuple[int, list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The profile alone must be enough: not every machine lets us cut off the network."""
    if not isolated:
        monkeypatch.setattr(libreoffice, "without_network", lambda: ())
    Image.new("RGB", (100, 100), (255, 0, 0)).save(tmp_path / "secret.png")
    port, visitors = trap
    links = (f"file://{tmp_path}/secret.png", f"http://127.0.0.1:{port}/x.png", "../../../secret.png")
    context = prepare(odt("".join(map(LINKED.format, links))), dpi=40)
    assert isinstance(draw(context), Finished)
    with Image.open(context.output_file) as picture:
        colours = picture.convert("RGB").getcolors(1 << 24)
    assert colours is not None
    assert not [colour for _, colour in colours if isinstance(colour, tuple) and colour[0] > 200 and colour[1] < 60]
    assert visitors == []


@needs_libreoffice
@pytest.mark.slow
def test_a_stop_while_libreoffice_works_leaves_no_process(
    documents: dict[str, Path], prepare: Prepare, draw: Draw
) -> None:
    context = prepare(documents["odt"], stop_after=4)
    assert isinstance(draw(context), Stopped)
    deadline = time.monotonic() + 5
    while running(context.work_dir) and time.monotonic() < deadline:  # killed, and perhaps not yet reaped
        Event().wait(0.01)
    assert running(context.work_dir) == []


@needs_libreoffice
@pytest.mark.slow
def test_a_resume_takes_the_pdf_that_is_there(
    documents: dict[str, Path], prepare: Prepare, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = prepare(documents["rtf"], "out.zip", pages="all", width=100, crash_after=1)
    with pytest.raises(SimulatedCrash):
        draw(context)
    subprocess_started: list[Any] = []
    monkeypatch.setattr(subprocess, "Popen", lambda *command, **_: subprocess_started.append(command))
    assert draw(context.resumed()).result["pages"] == 2
    assert subprocess_started == []
