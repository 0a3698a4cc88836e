"""A file that was cut, by an interrupted upload or a full disk, is reported as such."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import msgspec
import pytest
from PIL import Image
from trimmed_films import trimmed, with_edits

from tasktrail.handlers import Finished
from tasktrail.handlers.media.damage import lacking_bytes
from tasktrail.handlers.video.frames import UndecodableError, frames_after
from tasktrail.handlers.video.preview import run, video_preview
from tasktrail.handlers.video.preview.options import VideoPreviewOptions
from tasktrail.handlers.video.source import VideoSource, damage_notes, read_source
from tasktrail.handlers.video.thumbnail import video_thumbnail
from tasktrail.handlers.video.thumbnail.options import VideoThumbnailOptions
from tasktrail.testing import RecordingContext, run_handler

WHOLE: dict[str, dict[str, Any]] = {
    "mkv": {"suffix": ".mkv"},
    "mp4": {"container": {"movflags": "faststart"}},
    "avi": {"suffix": ".avi", "codec": "mpeg4", "audio": "libmp3lame"},
    "flv": {"suffix": ".flv"},
    "webm": {"suffix": ".webm", "codec": "libvpx-vp9", "options": {"cpu-used": "8", "g": "30"}, "audio": "libopus"},
}


WMV: dict[str, Any] = {"suffix": ".wmv", "codec": "wmv2", "audio": "libmp3lame"}


@pytest.fixture
def cut(clips: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Return the first half of a source."""

    def half(**recipe: Any) -> Path:
        whole = clips(**recipe)
        content = whole.read_bytes()
        path = tmp_path / f"cut{whole.suffix}"
        path.write_bytes(content[: len(content) // 2])
        return path

    return half


@pytest.mark.parametrize("name", WHOLE)
def test_what_is_missing_is_measured(name: str, cut: Any, clips: Callable[..., Path]) -> None:
    source = read_source(cut(**WHOLE[name]))
    *_, (last, _) = frames_after(source, None)
    assert source.seconds == pytest.approx(source.seconds_at(last), abs=0.25)  # torn packets hold the last few
    assert source.seconds + source.missing == pytest.approx(4, abs=0.1)
    assert read_source(clips(**WHOLE[name])).missing == 0


@pytest.mark.parametrize("name", ["mkv", "mp4", "avi", "webm", "mov", "gif"])
def test_what_is_cut_from_the_end_is_told_however_little(name: str, clips: Callable[..., Path], tmp_path: Path) -> None:
    """The picture lacks less than the precision of the headers."""
    more: dict[str, Any] = {
        "gif": {"suffix": ".gif", "codec": "gif", "pixel_format": "rgb8", "audio": ""},
        "mov": {"suffix": ".mov", "container": {"movflags": "faststart"}},
    }
    whole = clips(**(WHOLE | more)[name])
    content = whole.read_bytes()
    path = tmp_path / whole.name
    path.write_bytes(content[:-200])

    assert lacking_bytes(whole) == 0
    assert damage_notes(read_source(whole)) == []
    assert lacking_bytes(path) == (1 if name == "gif" else 200)
    missing = "1 byte is" if name == "gif" else "200 bytes are"
    assert damage_notes(read_source(path)) == [f"the source was cut: at least {missing} missing at the end of its file"]


def test_of_windows_media_it_is_told_in_bytes(cut: Any, clips: Callable[..., Path]) -> None:
    """FFmpeg ignores its headers once its size differs. The index at the end is of no use."""
    assert lacking_bytes(clips(**WMV)) == 0
    path = cut(**WMV)
    whole = clips(**WMV).stat().st_size
    assert 0.9 * whole < path.stat().st_size + lacking_bytes(path) <= whole
    assert "bytes are missing at the end" in damage_notes(read_source(path))[0]


@pytest.mark.parametrize("name", ["mkv", "mp4", "avi", "webm"])
def test_what_was_added_behind_a_file_is_no_cut(name: str, clips: Callable[..., Path], tmp_path: Path) -> None:
    whole = clips(**WHOLE[name])
    path = tmp_path / whole.name
    path.write_bytes(whole.read_bytes() + bytes(1000))

    assert lacking_bytes(path) == 0


@pytest.mark.parametrize("length", range(0, 64, 3))
@pytest.mark.parametrize("name", ["mkv", "mp4", "avi", "wmv"])
def test_a_head_that_is_cut_itself_is_no_trouble(
    name: str, length: int, clips: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / "head"
    path.write_bytes(clips(**(WHOLE | {"wmv": WMV})[name]).read_bytes()[:length])

    assert lacking_bytes(path) >= 0


@pytest.mark.parametrize("suffix", [".mkv", ".flv", ".mp4"])
def test_sound_that_goes_on_behind_the_picture_is_not_taken_for_a_cut(
    suffix: str, clips: Callable[..., Path], tmp_path: Path
) -> None:
    path = tmp_path / f"long{suffix}"
    with (
        av.open(str(clips(seconds=1, audio=""))) as short,
        av.open(str(clips())) as long,
        av.open(str(path), "w") as output,
    ):
        picture = output.add_stream_from_template(short.streams.video[0], opaque=True)
        sound = output.add_stream_from_template(long.streams.audio[0], opaque=True)
        for container, track in ((short, picture), (long, sound)):
            for packet in container.demux():
                if packet.size and packet.stream.type == track.type:
                    packet.stream = track
                    output.mux(packet)
    assert read_source(path).seconds == pytest.approx(1, abs=0.01)
    assert read_source(path).missing == 0


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_film_that_was_trimmed_without_loss_is_not_taken_for_a_cut(
    *, suffix: str, clips: Callable[..., Path], look: Any, prepare: Any, convert: Any, tmp_path: Path
) -> None:
    """It holds more frames than its edit list shows."""
    path = trimmed(clips(options={"g": "30"}), tmp_path / f"in{suffix}", 2.32)
    source = read_source(path)
    assert source.seconds == pytest.approx(1.68, abs=0.001)
    assert source.missing == 0
    assert source.keyframes == tuple(round(at / source.time_base) for at in (0.08, 1.28))

    context = prepare(path)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert outcome.result["notes"] == []
    assert look(context.output_file).times == look(path).times


def test_what_an_edit_list_hides_at_the_end_does_not_belong_to_the_film(
    clips: Callable[..., Path], look: Any, tmp_path: Path
) -> None:
    path = with_edits(clips(), tmp_path / "in.mp4", [(2000, 1024)])
    source = read_source(path)
    assert source.seconds == pytest.approx(2, abs=0.05)
    assert source.seconds == pytest.approx(float(look(path).times[-1]) + 0.04, abs=0.001)
    assert source.missing == 0


def test_a_conversion_of_it_says_so(cut: Any, prepare: Callable[..., Any], convert: Callable[..., Any]) -> None:
    outcome = convert(prepare(cut(suffix=".mkv")))
    assert isinstance(outcome, Finished)
    length = outcome.result["duration"]
    assert 1.5 < length < 2.5
    assert outcome.result["source_duration"] == pytest.approx(length, abs=0.1)
    assert outcome.result["notes"][0] == f"the source was cut: it ends after {length:.1f} s of 4.0 s"


def test_a_file_of_which_too_much_is_missing_fails_by_name(
    cut: Any, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    """The limit is that of damage inside: fifty frames and one in four."""
    context = prepare(cut(suffix=".mkv", seconds=12))
    with pytest.raises(UndecodableError, match=r"cut\.mkv.* of 12\.0 s: get it whole, or save .*`ffmpeg "):
        convert(context)
    assert not context.output_part.exists()


def test_a_preview_of_it_is_spread_over_what_is_there(cut: Any, tmp_path: Path) -> None:
    context = RecordingContext(
        VideoPreviewOptions(columns=4, rows=4, width=32),
        work_dir=tmp_path / "work",
        input_file=cut(suffix=".mkv"),
        output_file=tmp_path / "out.png",
    )
    outcome = run_handler(video_preview, context)
    assert isinstance(outcome, Finished)
    assert len({Image.open(path).tobytes() for path in context.work_dir.glob("frame-*.tif")}) == 16
    assert outcome.result["source_positions"][-1] <= outcome.result["source_duration"]
    assert "of 4.0 s" in outcome.result["notes"][0]


def test_a_thumbnail_of_it_says_so(cut: Any, tmp_path: Path) -> None:
    context = RecordingContext(
        msgspec.convert({"position": "100%"}, VideoThumbnailOptions),
        work_dir=tmp_path / "work",
        input_file=cut(suffix=".mkv"),
        output_file=tmp_path / "out.png",
    )
    outcome = run_handler(video_thumbnail, context)
    assert isinstance(outcome, Finished)
    assert "of 4.0 s" in outcome.result["notes"][0]


def test_a_plan_made_of_a_file_that_changed_is_not_used_for_what_it_became(
    cut: Any, clips: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plan is in the work folder without any checkpoint. The rest of the file is copied while it is made."""
    path, whole = cut(suffix=".mkv"), clips(suffix=".mkv").read_bytes()

    def context(folder: str) -> RecordingContext[VideoPreviewOptions]:
        return RecordingContext(
            VideoPreviewOptions(width=32),
            work_dir=tmp_path / folder,
            input_file=path,
            output_file=tmp_path / f"{folder}.png",
        )

    def probe_and_copy(source: Path) -> VideoSource:
        found = read_source(source)
        source.write_bytes(whole)
        return found

    monkeypatch.setattr(run, "read_source", probe_and_copy)
    run_handler(video_preview, context("moving"))
    monkeypatch.undo()
    again, quiet = (run_handler(video_preview, context(folder)) for folder in ("moving", "quiet"))

    assert isinstance(again, Finished)
    assert isinstance(quiet, Finished)
    assert again.result == quiet.result


def test_a_gif_that_makes_no_sense_from_somewhere_on_is_told_to_be_damaged(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    """The rest is one picture for its reader."""
    content = clips(suffix=".gif", codec="gif", pixel_format="rgb8", audio="").read_bytes()
    place = content.index(b"\0!\xf9\x04", len(content) // 2) + 1
    (tmp_path / "in.gif").write_bytes(content[:place] + b"x" + content[place + 1 :])
    outcome = convert(prepare(tmp_path / "in.gif"))
    assert outcome.result["frames"] < 60
    assert f"the source is damaged: from byte {place:,} on it is invalid" in outcome.result["notes"]
    (tmp_path / "filled.gif").write_bytes(content[:place] + b"\0" + content[place:])
    outcome = convert(prepare(tmp_path / "filled.gif", "filled.mp4"))
    assert outcome.result["notes"] == ["colours finer than 4:2:0 became 4:2:0"]
