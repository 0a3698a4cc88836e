"""The estimate made beforehand, and whether it is enough."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tasktrail.handlers import Unusable
from tasktrail.handlers.document import libreoffice
from tasktrail.handlers.document.preview.estimate import estimate
from tasktrail.handlers.document.preview.options import DocumentPreviewOptions
from tasktrail.handlers.document.preview.probe import probe
from tasktrail.testing import job_for

Document = Callable[..., Path]

MEASURED = """
import sys, json, msgspec
from pathlib import Path
from tasktrail.handlers.document.preview import document_preview
from tasktrail.handlers.document.preview.options import DocumentPreviewOptions
from tasktrail.testing import RecordingContext, run_handler
source, output, work, options = sys.argv[1:]
options = msgspec.json.decode(options, type=DocumentPreviewOptions)
files = {"work_dir": Path(work), "input_file": Path(source), "output_file": Path(output)}
run_handler(document_preview, RecordingContext(options, **files))
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
print(json.dumps([int(peak) * 1024, sum(f.stat().st_size for f in [*Path(work).iterdir(), Path(output)])]))
"""


def test_the_first_guess_grows_with_the_pages_and_the_pixels() -> None:
    one, many, fine = (
        estimate(job_for(msgspec.convert(options, DocumentPreviewOptions), "/in.pdf", "/out.png", size=1_000_000))
        for options in ({}, {"pages": "1-50"}, {"pages": "1-50", "dpi": 200})
    )
    assert one.temp < many.temp < fine.temp
    assert one.seconds < many.seconds < fine.seconds
    assert one.memory < fine.memory < 500_000_000


def test_a_small_file_is_not_expected_to_have_many_pages() -> None:
    everything = DocumentPreviewOptions(pages="all")
    small, large = (estimate(job_for(everything, "/in.pdf", "/out.png", size=size)) for size in (10_000, 10_000_000))
    assert small.seconds < large.seconds


@pytest.mark.usefixtures("office_is_there")
def test_an_office_document_has_room_for_libreoffice_from_the_start(odt: Callable[..., Path]) -> None:
    job = job_for(DocumentPreviewOptions(), odt(), "/out.png")
    first, seen = estimate(job), probe(job)
    assert first.memory >= seen.memory > estimate(job_for(job.options, "/in.pdf", "/out.png")).memory + 200_000_000
    assert first.temp >= seen.temp


def test_what_the_output_is_decides_the_temp_space(document: Document) -> None:
    source = document(3)
    png, webp, archive = (
        probe(job_for(DocumentPreviewOptions(pages=pages), source, f"/out.{suffix}")).temp
        for suffix, pages in (("png", "1"), ("webp", "1"), ("zip", "1-3"))
    )
    assert webp < png < archive


def test_a_look_tells_pages_and_size(document: Document) -> None:
    found = probe(job_for(DocumentPreviewOptions(pages="2-"), document(5), "/out.png"))
    assert found.basis == {"kind": "pdf", "pages": 4, "document_pages": 5, "width": 612.0, "height": 792.0}


def test_a_look_refuses_what_the_work_would_refuse(document: Document, tmp_path: Path) -> None:
    (tmp_path / "empty.pdf").touch()
    for path, options in ((document(2), {"pages": "3"}), (tmp_path / "empty.pdf", {})):
        with pytest.raises(Unusable):
            probe(job_for(msgspec.convert(options, DocumentPreviewOptions), path, "/out.png"))


@pytest.fixture
def office_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe does not start LibreOffice; it only has to be found."""
    monkeypatch.setattr(libreoffice, "find_libreoffice", lambda: Path("/usr/bin/soffice"))


@pytest.mark.usefixtures("office_is_there")
def test_a_look_at_text_and_office_documents_tells_their_kind(tmp_path: Path, odt: Callable[..., Path]) -> None:
    (tmp_path / "in.md").write_text("# Hello\n" * 300)
    for source, kind in ((tmp_path / "in.md", "markdown"), (odt(), "odt")):
        assert probe(job_for(DocumentPreviewOptions(), source, "/out.png")).basis["kind"] == kind


@pytest.mark.usefixtures("office_is_there")
def test_the_number_of_pages_that_an_office_document_states_is_believed_up_to_the_limit(
    odt: Callable[..., Path],
) -> None:
    everything = DocumentPreviewOptions(pages="all", max_pages=50)

    def pages(more: dict[str, bytes]) -> Any:
        return probe(job_for(everything, odt(more=more), "/out.png")).basis["pages"]

    assert pages({"meta.xml": b'<meta:document-statistic meta:page-count="12"/>'}) == 12
    assert pages({"meta.xml": b'<m meta:page-count="999999"/>'}) == 50
    assert pages({f"ppt/slides/slide{n}.xml": b"<p/>" for n in range(7)}) == 7


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("output", "options", "pages"),
    [
        ("out.png", {}, 1),
        ("out.webp", {"dpi": 200}, 3),
        ("out.zip", {"pages": "all", "width": 800}, 6),
        ("out.tiff", {"pages": "all", "dpi": 150}, 4),
        ("out.png", {"pages": "all", "width": 400}, 9),
    ],
)
def test_the_true_peaks_stay_below_the_estimate(
    output: str, options: dict[str, Any], pages: int, document: Document, tmp_path: Path
) -> None:
    source = document(pages)
    expected = probe(job_for(msgspec.convert(options, DocumentPreviewOptions), source, tmp_path / output))
    command = [
        sys.executable,
        "-c",
        MEASURED,
        str(source),
        str(tmp_path / output),
        str(tmp_path / "work"),
        json.dumps(options),
    ]
    memory, temp = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert memory <= expected.memory
    assert temp <= expected.temp
    if output.endswith((".png", ".webp")):  # separate pages need less than the sheet that is allowed for
        assert expected.memory <= 2 * memory
