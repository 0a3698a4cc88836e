"""A library's error is reported as what it is: only proof makes a file damaged. Pictures: `image/test_wholeness.py`."""

import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest

from tasktrail.handlers import Unusable
from tasktrail.handlers.document.pdf import PdfPages
from tasktrail.handlers.media.archives import open_zip
from tasktrail.handlers.model.loading import load_model
from tasktrail.handlers.video.opening import open_input


@pytest.fixture
def zipped(tmp_path: Path) -> Path:
    with zipfile.ZipFile(tmp_path / "in.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("part.xml", b"<part/>" * 1000)
    return tmp_path / "in.zip"


def told(path: Path) -> str:
    def read_all() -> None:
        with open_zip(path) as archive:
            for name in archive.namelist():
                archive.read(name)

    with pytest.raises(Unusable) as refused:
        read_all()
    return str(refused.value)


def changed(path: Path, change: Callable[[bytearray], None]) -> Path:
    content = bytearray(path.read_bytes())
    change(content)
    path.write_bytes(content)
    return path


def pack_otherwise(content: bytearray) -> None:
    """Compress it by a method that Python does not know, as some programs do."""
    content[8:10] = struct.pack("<H", 97)
    place = content.index(b"PK\x01\x02")
    content[place + 10 : place + 12] = struct.pack("<H", 97)


def encrypt(content: bytearray) -> None:
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1


def spoil(content: bytearray) -> None:
    content[50] ^= 0xFF


def cut(content: bytearray) -> None:
    del content[len(content) // 2 :]


@pytest.mark.parametrize(
    ("change", "words", "damaged"),
    [
        (pack_otherwise, "of a kind that is not read here", False),
        (encrypt, "of a kind that is not read here", False),
        (spoil, "is damaged", True),
        (cut, "is damaged: its directory, which stands at the end, is missing", True),
    ],
)
def test_an_archive_is_called_damaged_only_where_that_is_proved(
    zipped: Path, change: Callable[[bytearray], None], words: str, *, damaged: bool
) -> None:
    said = told(changed(zipped, change))
    assert words in said
    assert ("damaged" in said) == damaged
    assert damaged or "save it again" in said


def test_what_is_no_archive_is_not_called_a_damaged_one(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no archive")
    assert told(tmp_path / "text.zip") == "text.zip is no zip file"


def test_a_pdf_that_pdfium_cannot_open_was_cut_or_is_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "in.pdf"
    for content, words in (
        (b"%PDF-1.7\nnothing that makes sense\n%%EOF\n", "cannot be opened by PDFium"),
        (b"%PDF-1.7\nnothing that makes sense\n", "was cut: it lacks the end mark of a PDF"),
    ):
        path.write_bytes(content)
        with pytest.raises(Unusable, match=words) as refused:
            PdfPages(path)
        assert "damaged" not in str(refused.value)


def test_a_model_that_its_reader_trips_over_is_not_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "in.off"
    path.write_text("OFF\n3 1 0\n0 0 0\n1 0 0\n0 one 0\n3 0 1 2\n")
    with pytest.raises(Unusable, match="cannot be read by trimesh") as refused:
        load_model(path, "auto", None)
    assert "damaged" not in str(refused.value)
    assert "save it again" in str(refused.value)


def test_a_video_that_cannot_be_opened_was_cut_or_makes_no_sense(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    with av.open(str(whole), "w") as output, av.open("testsrc2=size=64x64:duration=1", format="lavfi") as test:
        track: Any = output.add_stream("libx264", rate=25)
        track.width = track.height = 64
        track.pix_fmt = "yuv420p"
        for frame in test.decode(video=0):
            output.mux(track.encode(frame.reformat(format="yuv420p")))
        output.mux(track.encode(None))
    content, path = whole.read_bytes(), tmp_path / "in.mp4"
    for harm, words in (
        (content[: len(content) // 2], r"was cut: at least [\d,]+ bytes are missing at its end: copy it again"),
        (content.replace(b"moov", b"none"), "FFmpeg cannot make sense of it"),
    ):
        path.write_bytes(harm)
        with pytest.raises(Unusable, match=words) as refused:
            open_input(path)
        assert "damaged" not in str(refused.value)
