"""An encoder that fails costs its segment a second try; one that was abandoned is not freed."""

import hashlib
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import av
import pytest
from av.video.stream import VideoStream

from tasktrail.handlers import Finished, Stopped, contract
from tasktrail.handlers.video.convert import library_encoder
from tasktrail.handlers.video.convert.segments import EncoderFailedError

Packets = list[Any]


def _lose_one(packets: Packets) -> Packets:
    return packets[:-1]


def _mix_up(packets: Packets) -> Packets:
    return packets[::-1]


@pytest.fixture
def encoder_that(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the encoder of the second segment do as it is told when it has to end, that many times."""

    def wrong(how: Callable[[Packets], Packets], times: int) -> None:
        take = library_encoder.LibrarySegmentEncoder._take
        left = times

        def taken(self: Any, packets: Packets) -> None:
            nonlocal left
            if self.number == 1 and len(packets) > 1 and left:
                left -= 1
                packets = how(packets)
            take(self, packets)

        monkeypatch.setattr(library_encoder.LibrarySegmentEncoder, "_take", taken)

    return wrong


@pytest.mark.parametrize("how", [_lose_one, _mix_up])
def test_a_segment_whose_encoder_failed_is_encoded_anew_and_nobody_can_tell_from_the_file(
    how: Callable[[Packets], Packets],
    encoder_that: Callable[..., None],
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    whole, again = prepare(clips(), "whole.mp4"), prepare(clips())
    assert isinstance(convert(whole), Finished)
    encoder_that(how, 1)
    outcome = convert(again)
    assert isinstance(outcome, Finished)
    assert any(note.startswith("the encoder libx264 gave, for segment 2, ") for note in outcome.result["notes"])
    assert _digest(again.output_file) == _digest(whole.output_file)


def test_an_encoder_that_fails_again_and_again_ends_the_attempt_and_keeps_what_was_done(
    encoder_that: Callable[..., None],
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    context = prepare(clips())
    encoder_that(_lose_one, 100)
    with pytest.raises(EncoderFailedError, match="other times than those of the 25 frames"):
        convert(context)
    assert not context.output_file.exists()
    assert [path.name for path in sorted(context.work_dir.glob("segment-*"))] == ["segment-00000.mp4"]


@pytest.mark.parametrize(("codec", "kept"), [("av1", 1), ("h264", 0)])
def test_an_encoder_that_can_hang_when_it_is_freed_lives_as_long_as_its_worker(
    codec: str, kept: int, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    before = len(contract._KEPT)
    assert isinstance(convert(prepare(clips(audio=""), video_codec=codec, stop_after=30)), Stopped)
    assert len(contract._KEPT) - before == kept


def test_a_film_that_nobody_could_decode_is_never_a_result(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    """SVT-AV1 writes such pictures at its quickest presets, with fine rate factors and busy pictures."""
    cells = av.open("cellauto=size=320x240:rate=25:random_seed=1", format="lavfi")
    with cells, av.open(str(tmp_path / "in.mkv"), "w") as film:
        track = film.add_stream("libx264", rate=25, options={"crf": "8", "preset": "ultrafast"})
        assert isinstance(track, VideoStream)
        track.width, track.height = 320, 240
        for frame in islice(cells.decode(video=0), 25):
            film.mux(track.encode(frame.reformat(format="yuv420p")))
        film.mux(track.encode(None))
    context = prepare(tmp_path / "in.mkv", video_codec="av1", preset="ultrafast", crf=2)
    try:
        convert(context)
    except EncoderFailedError as error:
        assert "pictures that cannot be decoded" in str(error)  # noqa: PT017 - another version of the encoder may do well
        assert not list(context.work_dir.glob("segment-*"))
    else:
        with av.open(str(context.output_file)) as made:
            assert sum(1 for _ in made.decode(video=0)) == 25


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
