"""The first bytes of a file say what kind it is."""

import os
from pathlib import Path

import pytest

from tasktrail.handlers.kinds import READERS, Kind, kind_by_name, kind_of, readers_of_another_kind
from tasktrail.handlers.registry import Registry

BEGINNINGS = [
    (b"\xff\xd8\xff\xe0\0\x10JFIF", "a", "image"),
    (b"\x89PNG\r\n\x1a\n", "a.mp4", "image"),
    (b"RIFF\0\0\0\0WEBPVP8 ", "a", "image"),
    (b"RIFF\0\0\0\0AVI LIST", "a", "video"),
    (b"RIFF\0\0\0\0WAVEfmt ", "a", "audio"),
    (b"RIFF\0\0\0\0CDDAfmt ", "a.wav", None),
    (bytes.fromhex("060e2b34020501010d0102010102"), "a", "video"),  # MXF
    (b"\x1f\x07\0\xbf", "a", "video"),  # DV
    (b"\0\0\0\x18ftypisom", "a", "video"),
    (b"\0\0\0\x18ftypheic", "a", "image"),
    (b"\0\0\0\x18ftypM4A ", "a", "audio"),
    (b"\0\0\0\x18ftypisom", "a.m4a", "audio"),
    (b"\0\0\0\x08wide\0\0\0\0mdat", "a.mov", "video"),
    (b"\x1aE\xdf\xa3", "a.mkv", "video"),
    (b"\x1aE\xdf\xa3", "a.mka", "audio"),
    (b"OggS\0\x02" + bytes(22) + b"\x80theora", "a.ogg", "video"),
    (b"OggS\0\x02" + bytes(22) + b"\x01vorbis", "a.ogg", "audio"),
    (b"G" + bytes(187) + b"G", "a.ts", "video"),
    (b"\0\0\0\x01G" + bytes(191) + b"G", "a.mts", "video"),
    (b"\0\0\0\x01G" + bytes(191) + b"H", "a.mts", None),
    *((bytes((0xFF, layer, 0x90, 0)), "a.mp3", "audio") for layer in (0xE3, 0xFA, 0xFB)),
    *((bytes((0xFF, layer, 0x50, 0x80)), "a.aac", "audio") for layer in (0xF0, 0xF1, 0xF8)),
    (b"\xff\xfea\0,\0b\0", "a.csv", None),
    (b"APETAGEX\xd0\x07\0\0", "a.mp3", "audio"),
    (b"RIFX\0\0\0\0WAVEfmt ", "a.wav", "audio"),
    (b"FORM\0\0\0\0AIFFCOMM", "a.aif", "audio"),
    (b"FORM 1040 is due", "a", None),
    (b"The free software", "a.txt", "document"),
    (b"The wide world", "a.md", "document"),
    (b"MAC addresses", "a.txt", "document"),
    (b"FORM 1040", "a.txt", "document"),
    (b"BMW manual", "a.txt", "document"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF", "a.txt", "image"),
    ("wide".encode("utf-32"), "a.txt", "document"),
    (b"\0\0\xfe\xff" + "wide".encode("utf-32-be"), "a.txt", "document"),
    (b"ID3\x04", "a", "audio"),
    (b"%PDF-1.7", "a", "document"),
    (b"PK\x03\x04", "a.docx", "document"),
    (b"PK\x03\x04", "a.3mf", "model"),
    (b"PK\x03\x04", "a.zip", None),
    (b"# title", "a.md", "document"),
    (b"# title", "a.py", None),
    (b"\0\x01\x02", "a.txt", None),
    (b"glTF\x02", "a", "model"),
    (b"v 0 0 0\n", "a.obj", "model"),
    (b"garbage", "a.jpg", None),
    (b"", "a.jpg", None),
]


@pytest.mark.parametrize(("head", "name", "kind"), BEGINNINGS)
def test_the_first_bytes_tell(tmp_path: Path, head: bytes, name: str, kind: str | None) -> None:
    path = tmp_path / name
    path.write_bytes(head)
    assert kind_of(path) == kind


def test_what_is_no_file_holds_nobody_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert kind_of(tmp_path / "pipe.jpg") is None
    assert kind_of(tmp_path) is None
    with pytest.raises(FileNotFoundError):
        kind_of(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "kind"),
    [("a.JPG", "image"), ("a.mov", "video"), ("a.mxf", "video"), ("a.opus", "audio"), ("a.3mf", "model"), ("a", None)],
)
def test_a_name_speaks_of_a_kind(name: str, kind: str | None) -> None:
    assert kind_by_name(Path(name)) == kind


@pytest.mark.parametrize(
    ("head", "name", "accepts", "told"),
    [
        (b"%PDF-1.7", "report.mp4", ("video",), "it is a document, which document_preview and document_convert read"),
        (b"\xff\xd8\xff", "a", ("audio", "video"), "it is an image, which image_thumbnail and image_convert read"),
        (b"\xff\xd8\xff", "a", ("image",), ""),
        (b"GIF89a", "cut.gif", ("video",), ""),  # it may hold moving pictures
        (b"GIF89a", "a.gif", ("document",), "it is an image, which image_thumbnail and image_convert read"),
        (b"\xff\xd8\xff", "a", (), ""),  # a type that reads any file
        (b"garbage", "a.jpg", ("video",), ""),
    ],
)
def test_a_file_of_another_kind_is_sent_to_who_reads_it(
    tmp_path: Path, head: bytes, name: str, accepts: tuple[Kind, ...], told: str
) -> None:
    path = tmp_path / name
    path.write_bytes(head)
    assert readers_of_another_kind(path, accepts) == told


def test_a_file_that_is_gone_is_sent_to_nobody(tmp_path: Path) -> None:
    assert readers_of_another_kind(tmp_path / "none.pdf", ("video",)) == ""


def test_the_readers_of_a_kind_are_those_that_accept_it() -> None:
    found: dict[str, set[str]] = {}
    for task_type in Registry.load():
        for kind in task_type.accepts:
            found.setdefault(kind, set()).add(task_type.name)
    assert {kind: set(names) for kind, names in READERS.items()} == found


def test_a_dv_that_begins_within_a_frame_is_a_video_all_the_same(tmp_path: Path) -> None:
    """FFmpeg looks for the first whole frame, and a batch called the file damaged."""
    kinds = b"\x1f\x3f\x5f\x5f\x76\x96"
    blocks = b"".join(bytes((kinds[number % 6], 0x07 + 16 * (number % 10), number)) + bytes(77) for number in range(60))
    for name, content, kind in (
        ("a.dv", blocks[50:], "video"),
        ("b.dv", blocks[400:], "video"),
        ("c.dv", bytes(4800), None),
        ("d.dv", b"\xff" * 4800, None),
        ("e.dv", b"\x1f" * 79, None),
        ("f.raw", blocks[50:], None),
    ):
        (tmp_path / name).write_bytes(content)
        assert kind_of(tmp_path / name) == kind, name
