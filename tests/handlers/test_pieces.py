"""Finished pieces survive a crash; damaged, foreign and unfinished ones do not."""

from pathlib import Path

import pytest

from tasktrail.handlers import NoOptions
from tasktrail.handlers.pieces import Pieces, fingerprint
from tasktrail.testing import RecordingContext


@pytest.fixture
def context(tmp_path: Path) -> RecordingContext[NoOptions]:
    return RecordingContext(NoOptions(), work_dir=tmp_path / "work")


def make(pieces: Pieces, *numbers: int) -> None:
    for number in numbers:
        pieces.part(number).write_bytes(bytes([number]) * 10)
        pieces.keep(number, number, "")


def test_a_crash_costs_only_the_piece_that_was_being_made(context: RecordingContext[NoOptions]) -> None:
    pieces = Pieces(context, "mark")
    make(pieces, 0, 1, 2)  # the checkpoint names only the first
    pieces.part(3).write_bytes(b"half")
    again = Pieces(context.resumed(), "mark")
    assert list(again.missing(5)) == [3, 4]
    assert not again.part(3).exists()


def test_a_line_of_the_index_that_a_crash_has_cut_costs_its_own_piece(context: RecordingContext[NoOptions]) -> None:
    make(Pieces(context, "mark"), 0, 1)
    index = context.work_dir / "piece.index"
    index.write_bytes(index.read_bytes()[:-20])
    again = Pieces(context.resumed(), "mark")
    assert list(again.missing(2)) == [1]
    make(again, 1)
    assert list(Pieces(context.resumed(), "mark").missing(2)) == []


def test_a_damaged_piece_is_made_again(context: RecordingContext[NoOptions]) -> None:
    pieces = Pieces(context, "mark")
    make(pieces, 0, 1, 2)
    pieces.save(50, "half")
    pieces.path(1).write_bytes(b"other bytes")
    assert list(Pieces(context.resumed(), "mark").missing(3)) == [1]


@pytest.mark.parametrize("change", ["another input", "no checkpoint"])
def test_nothing_is_believed_of_another_input_or_without_a_checkpoint(
    context: RecordingContext[NoOptions], change: str
) -> None:
    pieces = Pieces(context, "mark")
    make(pieces, 0)
    again = context.resumed()
    if change == "no checkpoint":
        again.checkpoint = None
    assert len(Pieces(again, "mark" if change == "no checkpoint" else "other")) == 0
    assert not pieces.path(0).exists()


def test_a_checkpoint_is_saved_once_a_second_of_work_at_most(context: RecordingContext[NoOptions]) -> None:
    now = 0.0
    pieces = Pieces(context, "mark", clock=lambda: now)
    for number in range(10):
        now += 0.3
        make(pieces, number)
    assert [checkpoint.processed_frames for checkpoint in context.checkpoints] == [1, 5, 9]


def test_the_checkpoint_does_not_grow_with_the_pieces(context: RecordingContext[NoOptions]) -> None:
    pieces = Pieces(context, "mark")
    make(pieces, *range(200))
    pieces.save(99, "")
    assert len(str(context.checkpoints[-1].data)) < 300


def test_the_fingerprint_sees_both_ends_of_the_input_and_every_decision(tmp_path: Path) -> None:
    path = tmp_path / "in.mp4"
    marks = set()
    for content in (b"a" * 200_000, b"b" + b"a" * 199_999, b"a" * 199_999 + b"b", b"a" * 200_001):
        path.write_bytes(content)
        marks.add(fingerprint(path, {"crf": 20}, version=""))
    assert len(marks) == 4
    assert fingerprint(path, {"crf": 20}, version="") in marks
    assert fingerprint(path, {"crf": 21}, version="") not in marks


def test_the_fingerprint_of_what_was_fetched_is_the_same_for_each_copy(tmp_path: Path) -> None:
    marks = set()
    for number in range(2):
        copy = tmp_path / str(number)
        copy.write_bytes(b"a")
        marks.add(fingerprint(copy, {"crf": 20}, version="of a"))
    assert len(marks) == 1
    assert fingerprint(copy, {"crf": 20}, version="of b") not in marks
