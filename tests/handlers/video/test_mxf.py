"""An MXF is read by the index of its pictures; a tape's DV has none and needs none."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from av.video.stream import VideoStream

from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.audio.convert import audio_convert
from tasktrail.handlers.audio.convert.options import AudioConvertOptions
from tasktrail.handlers.media.damage import lacking_bytes
from tasktrail.handlers.video.frames import DecodePass, frames_after
from tasktrail.handlers.video.mxf import has_index
from tasktrail.handlers.video.source import damage_notes, read_source
from tasktrail.handlers.video.thumbnail import video_thumbnail
from tasktrail.handlers.video.thumbnail.options import VideoThumbnailOptions
from tasktrail.testing import RecordingContext, run_handler

MXF: dict[str, Any] = {"suffix": ".mxf", "codec": "mpeg2video", "options": {"bf": "2"}, "audio": "pcm_s16le"}
FOOTER = bytes.fromhex("060e2b34020501010d010201010404")
LIST = bytes.fromhex("060e2b34020501010d0102010111")
INDEX = bytes.fromhex("060e2b34025301010d01020101100100")
INDEX_BYTES = 16 + 4 + 40
"""Where a partition has the size of its index, from its key on, with a length of four bytes."""
PAL_FRAME = 144_000


@pytest.fixture
def changed(clips: Callable[..., Path], tmp_path: Path) -> Callable[[Callable[[bytes], bytes]], Path]:
    """Return an MXF whose content was changed."""

    def change(how: Callable[[bytes], bytes]) -> Path:
        path = tmp_path / "changed.mxf"
        path.write_bytes(how(clips(**MXF).read_bytes()))
        return path

    return change


@pytest.fixture(scope="session")
def tape(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return ten frames of DV, as a tape's camera gives them."""
    path = tmp_path_factory.mktemp("tape") / "tape.dv"
    with (
        av.open(str(path), "w") as output,
        av.open("testsrc2=size=720x576:rate=25:duration=0.4", "r", format="lavfi") as source,
        av.open("sine=sample_rate=48000:duration=0.4,aformat=channel_layouts=stereo", "r", format="lavfi") as tone,
    ):
        picture = output.add_stream("dvvideo", rate=25)
        assert isinstance(picture, VideoStream)
        picture.width, picture.height, picture.pix_fmt = 720, 576, "yuv420p"
        sound = output.add_stream("pcm_s16le", rate=48000, layout="stereo")
        for frame in source.decode(video=0):
            output.mux(picture.encode(frame))
        for wave in tone.decode(audio=0):
            output.mux(sound.encode(wave))
        for track in (picture, sound):
            output.mux(track.encode(None))
    return path


def all_marks(content: bytes, mark: bytes) -> list[int]:
    return [place for place in range(len(content)) if content.startswith(mark, place)]


def without_index(content: bytes) -> bytes:
    """Say in each partition that it has no index."""
    changed = bytearray(content)
    for kind in b"\x02\x03\x04":
        for place in all_marks(content, FOOTER[:13] + bytes([kind])):
            changed[place + INDEX_BYTES : place + INDEX_BYTES + 8] = bytes(8)
    return bytes(changed)


def test_every_picture_of_an_mxf_is_converted_at_its_time(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], look: Callable[..., Any]
) -> None:
    context = prepare(clips(**MXF))
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    result = outcome.result
    assert (result["frames"], result["source_duration"], result["audio_tracks"]) == (100, 4.0, 1)
    seen = look(context.output_file)
    assert [float(time) for time in seen.times] == pytest.approx([number / 25 for number in range(100)])
    assert result["notes"] == [
        "sound of pcm_s16le became aac",
        "tags dropped: material_package_umid: mp4 has no place for them",
    ]


@pytest.mark.parametrize("share", [0.3, 0.6, 0.99])
def test_an_mxf_that_was_cut_is_refused_with_what_to_do(
    share: float, changed: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    """FFmpeg guesses where a moment is without the index, and nothing in what it reads shows how much is missing."""
    path = changed(lambda content: content[: int(len(content) * share)])
    assert not has_index(path)
    outcome = convert(prepare(path))
    assert isinstance(outcome, Rejected)
    assert outcome.reason.startswith("changed.mxf lacks its end or a part of its index")
    assert "`ffmpeg -i IN.mxf -map '0:v?' -map '0:a?' -c copy OUT.mov`" in outcome.reason


def test_the_sound_of_an_mxf_that_was_cut_is_refused_too(changed: Callable[..., Path], tmp_path: Path) -> None:
    path = changed(lambda content: content[: len(content) // 2])
    context = RecordingContext(
        AudioConvertOptions(), work_dir=tmp_path / "work", input_file=path, output_file=tmp_path / "out.flac"
    )
    outcome = run_handler(audio_convert, context)
    assert isinstance(outcome, Rejected)
    assert "lacks its end or a part of its index" in outcome.reason


def test_the_footer_is_found_by_the_list_or_by_the_header(changed: Callable[..., Path]) -> None:
    def unlisted(content: bytes) -> bytes:
        return content[: content.rindex(LIST)]

    def unnamed(content: bytes) -> bytes:
        """The first partition of a recording that was not ended does not know where the last one is."""
        return content[:44] + bytes(8) + content[52:]

    assert has_index(changed(unlisted))
    assert has_index(changed(unnamed))
    assert not has_index(changed(lambda content: unnamed(unlisted(content))))


def test_an_mxf_with_a_partition_that_cannot_be_read_is_refused(changed: Callable[..., Path]) -> None:
    """FFmpeg reads none of those before it, and gives their pictures times that others have."""

    def damaged(content: bytes) -> bytes:
        place = all_marks(content, FOOTER[:13] + b"\x03")[0]
        return content[:place] + bytes(16) + content[place + 16 :]

    assert not has_index(changed(damaged))


def test_pictures_whose_times_the_index_lacks_are_counted(clips: Callable[..., Path], tmp_path: Path) -> None:
    content = bytearray(clips(**MXF, seconds=24).read_bytes())
    place = content.index(INDEX)  # the first of three parts
    content[place : place + 16] = bytes(16)
    path, reading = tmp_path / "damaged.mxf", DecodePass()
    path.write_bytes(content)
    shown = len(list(frames_after(read_source(path), None, reading)))
    assert 0 < reading.late == 600 - shown


def test_bytes_before_the_first_partition_are_no_trouble(changed: Callable[..., Path]) -> None:
    assert has_index(changed(lambda content: bytes(1000) + content))
    assert not has_index(changed(lambda content: bytes(1000) + content[: len(content) // 2]))


def test_an_mxf_without_any_index_is_refused(
    changed: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    path = changed(without_index)
    assert not has_index(path)
    assert isinstance(convert(prepare(path)), Rejected)


def test_a_partition_that_names_a_later_one_ends_the_search(changed: Callable[..., Path]) -> None:
    def in_a_ring(content: bytes) -> bytes:
        place = content.rindex(FOOTER)
        own = place.to_bytes(8, "big")
        return content[: place + 36] + own + content[place + 44 :]

    assert not has_index(changed(lambda content: in_a_ring(without_index(content))))


@pytest.mark.parametrize("place", [1 << 40, 1 << 63, (1 << 64) - 1])
def test_a_footer_beyond_all_measure_is_not_there(place: int, changed: Callable[..., Path]) -> None:
    named = place.to_bytes(8, "big")
    assert not has_index(changed(lambda content: content[:44] + named + content[52 : content.rindex(LIST)]))
    assert not has_index(changed(lambda content: content[:-12] + named + content[-4:]))


@pytest.mark.parametrize("length", range(0, 120, 7))
def test_a_head_that_is_cut_itself_is_no_trouble(length: int, changed: Callable[..., Path]) -> None:
    assert not has_index(changed(lambda content: content[:length]))


def test_the_dv_of_a_tape_is_read_as_it_is(
    tape: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    outcome = convert(prepare(tape))
    assert isinstance(outcome, Finished)
    result = outcome.result
    assert (result["frames"], result["width"], result["height"], result["source_codec"]) == (10, 720, 576, "dvvideo")
    assert (result["audio_tracks"], result["source_duration"]) == (1, 0.4)


def test_a_dv_that_ends_within_a_frame_is_noted(tape: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.dv"
    path.write_bytes(tape.read_bytes()[: 5 * PAL_FRAME + 1000])
    assert lacking_bytes(tape) == 0
    assert lacking_bytes(path) == PAL_FRAME - 1000
    assert damage_notes(read_source(path)) == [
        "the source was cut: at least 143,000 bytes are missing at the end of its file"
    ]
    assert len(list(frames_after(read_source(path), None))) == 6


def test_a_thumbnail_is_of_the_position_that_was_asked_for(clips: Callable[..., Path], tmp_path: Path) -> None:
    for position, found in ((3.2, 3.2), (99.0, 3.96)):
        context = RecordingContext(
            VideoThumbnailOptions(position=str(position)),
            work_dir=tmp_path / "work",
            input_file=clips(**MXF),
            output_file=tmp_path / "out.png",
        )
        outcome = run_handler(video_thumbnail, context)
        assert isinstance(outcome, Finished)
        assert outcome.result["source_position"] == pytest.approx(found)
