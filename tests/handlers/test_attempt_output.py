"""The printed output of attempts, on the disk: bounded, in order, with visible gaps, and harmless on a terminal."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.handlers.attempt_output import PrintedWriter, last_part, printed_attempts, read, shown


def write(root: Path, *pieces: bytes, limit: int = 400, attempt: int = 1, fresh: bool = True) -> None:
    writer = PrintedWriter(root, 7, attempt, limit, fresh=fresh)
    for piece in pieces:
        writer.write(piece)
    writer.close()


def kept(root: Path) -> int:
    return sum(path.stat().st_size for path in (root / "7").iterdir())


def test_a_little_is_kept_as_it_is(tmp_path: Path) -> None:
    write(tmp_path, b"one\n", b"two\n")
    found = read(tmp_path, 7, 1)
    assert (found.text, found.size, found.left_out, found.next, found.attempts) == ("one\ntwo\n", 8, 0, 8, (1,))


@pytest.mark.parametrize("piece", [1, 7, 100, 399, 5000])
def test_of_much_the_beginning_and_the_end_are_kept_whatever_it_comes_in(tmp_path: Path, piece: int) -> None:
    text = b"".join(b"%06d\n" % number for number in range(700))
    write(tmp_path, *(text[at : at + piece] for at in range(0, len(text), piece)))

    found = read(tmp_path, 7, 1)

    assert kept(tmp_path) <= 400
    assert found.size == len(text) == found.next
    head, gap, tail = found.text.partition(f"\n[{found.left_out:,} bytes were not kept]\n")
    assert gap
    assert len(head) == 200
    assert len(tail) >= 100
    assert head.encode() == text[:200]
    assert text.endswith(tail.encode())
    assert len(head) + found.left_out + len(tail) == len(text)


@given(st.lists(st.binary(max_size=300), max_size=12), st.integers(min_value=4, max_value=500), st.integers(1, 60))
def test_pages_add_up_to_the_whole(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes], limit: int, most: int
) -> None:
    root = tmp_path_factory.mktemp("printed")
    write(root, *pieces, limit=limit)
    whole = b"".join(pieces)
    at, left_out, seen = 0, 0, 0
    while at < len(whole):
        part = read(root, 7, 1, after=at, most=most)
        assert at < part.next
        left_out += part.left_out
        seen += part.next - at - part.left_out
        at = part.next
    assert left_out + seen == len(whole)
    assert seen <= max(limit, 4)
    assert seen == (kept(root) if whole else 0)


def test_a_character_that_a_page_cuts_waits_for_the_next(tmp_path: Path) -> None:
    write(tmp_path, "aé€😀z".encode(), limit=4000)
    texts, at = [], 0
    while at < 11:
        part = read(tmp_path, 7, 1, after=at, most=4)
        texts.append(part.text)
        at = part.next
    assert "".join(texts) == "aé€😀z"


def test_a_character_that_is_printed_by_half_waits_while_the_attempt_runs(tmp_path: Path) -> None:
    write(tmp_path, b"a\xe2\x82")
    assert read(tmp_path, 7, 1, running=True).text == "a"
    assert read(tmp_path, 7, 1, running=True).next == 1
    assert read(tmp_path, 7, 1).text == "a\\xe2\\x82"


def test_what_a_dead_worker_had_not_read_is_added(tmp_path: Path) -> None:
    write(tmp_path, b"x" * 1000)
    write(tmp_path, b"the end", fresh=False)
    assert read(tmp_path, 7, 1).size == 1007
    assert last_part(tmp_path, 7, 1).endswith("xthe end")
    assert kept(tmp_path) <= 400


def test_an_attempt_begins_anew_and_leaves_others_alone(tmp_path: Path) -> None:
    write(tmp_path, b"y" * 1000, attempt=2)
    write(tmp_path, b"other", attempt=22)
    write(tmp_path, b"new", attempt=2)
    assert read(tmp_path, 7, 2).text == "new"
    assert read(tmp_path, 7, 22).text == "other"
    assert printed_attempts(tmp_path, 7) == (2, 22)


def test_a_first_attempt_that_prints_nothing_shows_nothing_of_an_earlier_task_of_its_number(tmp_path: Path) -> None:
    write(tmp_path, b"of another task, before the log was put back")
    write(tmp_path, b"its second attempt", attempt=2)
    write(tmp_path)
    assert (read(tmp_path, 7, 1).text, printed_attempts(tmp_path, 7)) == ("", ())


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_nobody_else_may_read_it(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        write(tmp_path / "output", b"private")
    finally:
        os.umask(before)
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "output", tmp_path / "output" / "7")] == [0o700] * 2
    assert [path.stat().st_mode & 0o777 for path in (tmp_path / "output" / "7").iterdir()] == [0o600]


def test_a_place_that_cannot_be_written_costs_the_bytes_alone(tmp_path: Path) -> None:
    (tmp_path / "7").write_text("no folder")
    write(tmp_path, b"z" * 1000)
    assert read(tmp_path, 7, 1).size == 0


def test_neither_a_pipe_nor_what_a_link_leads_to_is_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "7" / "1.0").symlink_to(tmp_path / "pipe")
    (tmp_path / "7" / "1.900").symlink_to("/dev/zero")
    assert read(tmp_path, 7, 1).text == ""
    os.mkfifo(tmp_path / "7" / "2.0")
    assert read(tmp_path, 7, 2).text == ""
    writer = PrintedWriter(tmp_path, 7, 2, 1000, fresh=False)
    writer.write(b"lost")
    writer.close()
    assert read(tmp_path, 7, 2).text == ""


def test_a_link_in_the_place_of_the_file_is_not_followed(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("theirs")
    (tmp_path / "7").mkdir()
    writer = PrintedWriter(tmp_path, 7, 1, 400, fresh=False)
    (tmp_path / "7" / "1.0").symlink_to(other)
    writer.write(b"mine")
    writer.close()
    assert other.read_text() == "theirs"


@pytest.mark.parametrize(
    ("printed", "text"),
    [
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"\x1b]0;title\x07x", "x"),
        (b"50%\r100%\r\n", "50%\n100%\n"),
        (b"\x07\x00\x7f", "\\x07\\x00\\x7f"),
        ("\x9b1m\u202e".encode(), "\\x9b1m\\u202e"),
        (b"\x1b", "\\x1b"),
        (b"\xff\xfe", "\\xff\\xfe"),
        ("tab\té 你好 😀\n".encode(), "tab\té 你好 😀\n"),
    ],
)
def test_no_terminal_takes_it_for_an_order(printed: bytes, text: str) -> None:
    assert shown(printed) == text


@given(st.binary(max_size=500))
def test_whatever_it_is_it_can_be_shown(printed: bytes) -> None:
    assert all(one.isprintable() or one in "\n\t" for one in shown(printed))


def pipe_with(*pieces: bytes) -> tuple[int, int]:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    for piece in pieces:
        os.write(writing, piece)
    return reading, writing


@pytest.mark.parametrize("most", [1, 7, 150, 65536])
@pytest.mark.parametrize("splices", [True, False])
def test_what_is_moved_from_a_pipe_is_kept_like_what_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, most: int, splices: bool
) -> None:
    if not splices:
        monkeypatch.delattr(os, "splice", raising=False)
    text = b"".join(b"%06d\n" % number for number in range(700))
    reading, writing = pipe_with(*(text[at : at + 99] for at in range(0, len(text), 99)))
    moving = PrintedWriter(tmp_path / "moved", 7, 1, 400)
    left = len(text)
    while left:
        left -= moving.move(reading, most)
    moving.close()
    with pytest.raises(BlockingIOError):
        os.read(reading, 1)
    os.close(writing)
    os.close(reading)

    write(tmp_path / "written", *(text[at : at + most] for at in range(0, len(text), most)))
    assert read(tmp_path / "moved", 7, 1) == read(tmp_path / "written", 7, 1)


@pytest.mark.parametrize("limit", [0, 3, 400])
def test_what_cannot_be_kept_is_taken_from_the_pipe_all_the_same(tmp_path: Path, limit: int) -> None:
    (tmp_path / "7").write_text("no folder")
    reading, writing = pipe_with(b"z" * 1000)
    writer = PrintedWriter(tmp_path, 7, 1, limit)
    assert sum(iter(lambda: writer.move(reading, 300), 100)) == 900
    writer.close()
    os.close(reading)
    os.close(writing)


DIES = """
import os, sys, threading
from pathlib import Path
from tasktrail.handlers.process.output_pipe import Printing

def die_after(call):
    def dying(source, *rest, **more):
        if call(source, *rest, **more) and source == reading:
            os.abort()
    return dying

reading, root = int(sys.argv[1]), sys.argv[2]
printing = Printing(reading, root, 400)
printing.keep_for(7, 1)
os.read, os.splice = die_after(os.read), die_after(os.splice)
printing.listen()
threading.Event().wait()
"""


@pytest.mark.skipif(not hasattr(os, "splice"), reason="this system cannot move bytes from a pipe into a file")
def test_a_process_that_dies_while_it_takes_output_loses_none(tmp_path: Path) -> None:
    reading, writing = pipe_with(b"last words\n")
    with subprocess.Popen([sys.executable, "-c", DIES, str(reading), str(tmp_path)], pass_fds=[reading]) as process:
        assert process.wait(30) == -signal.SIGABRT
    os.close(writing)
    left = os.read(reading, 100)
    os.close(reading)
    assert (read(tmp_path, 7, 1).text, left) == ("last words\n", b"")
