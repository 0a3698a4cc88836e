"""Untrusted input is refused or fails by name; it never reads other files."""

import os
import struct
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import pytest
from av.audio.stream import AudioStream
from sounds import without_alac

from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.video.frames import UndecodableError


def rejected(convert: Callable[..., Any], context: Any) -> str:
    outcome = convert(context)
    assert isinstance(outcome, Rejected)
    assert not context.output_part.exists()
    return outcome.reason


def test_playlists_that_name_other_files_are_refused(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    secret = clips(suffix=".ts")
    (tmp_path / "secret.ts").symlink_to(secret)
    texts = {
        "absolute.mp4": f"#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:4,\nfile://{secret}\n#EXT-X-ENDLIST\n",
        "relative.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:4,\nsecret.ts\n#EXT-X-ENDLIST\n",
        "list.mp4": "ffconcat version 1.0\nfile secret.ts\n",
        "remote.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:4,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        assert name in rejected(convert, prepare(tmp_path / name))


def test_what_is_no_video_is_rejected(prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path) -> None:
    for name, content in {
        "text.mp4": b"hello " * 500,
        "empty.mp4": b"",
        "noise.mkv": os.urandom(20_000),
        "picture.mp4": b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 60000, 60000, 8, 2, 0, 0, 0),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert name in rejected(convert, prepare(tmp_path / name))


def test_what_is_no_video_is_told_in_words_for_people(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    sound = tmp_path / "sound.mp3"
    with av.open(str(sound), "w") as output, av.open("sine=duration=1:sample_rate=48000", format="lavfi") as tone:
        track = output.add_stream("libmp3lame", rate=48000)
        assert isinstance(track, AudioStream)
        for wave in tone.decode(audio=0):
            output.mux(track.encode(wave))
        output.mux(track.encode(None))
    empty, zeros = tmp_path / "empty.mp4", tmp_path / "zeros.mp4"
    empty.touch()
    zeros.write_bytes(bytes(5000))
    assert rejected(convert, prepare(empty)) == "empty.mp4 is empty"
    formats = "mp4, mov, 3gp, mkv, webm, avi, wmv, ts, mpg, mxf, dv, ogg, flv, gif"
    others = "`ffmpeg -i IN OUT.mkv` makes a mkv of most others"
    read = f"is not a video in a format that is read here ({formats}; {others})"
    assert rejected(convert, prepare(sound)) == f"sound.mp3 {read}"
    assert rejected(convert, prepare(zeros)).startswith(f"zeros.mp4 {read}, or FFmpeg cannot make sense of it")


def test_the_image_of_a_disc_is_rejected(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    """FFmpeg finds the films in it, and would join menus and films."""
    film = clips(suffix=".mpg", codec="mpeg2video", audio="mp2").read_bytes()
    for name, mark in (("dvd.iso", b"\x01CD001\x01"), ("disc.img", b"\0BEA01\x01")):
        (tmp_path / name).write_bytes(bytes(32_768) + mark.ljust(2048, b"\0") + film)
        assert rejected(convert, prepare(tmp_path / name)).startswith(f"{name} is the image of a disc: unpack it")


def test_a_file_of_sound_alone_is_rejected(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    done = prepare(clips())
    convert(done)
    assert "no moving picture" in rejected(convert, prepare(done.work_dir / "sound-1.mp4", "other.mp4"))


def test_a_video_that_is_cut_before_its_index_is_rejected(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    content = clips().read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    assert "cut.mp4" in rejected(convert, prepare(tmp_path / "cut.mp4"))


def test_a_claimed_size_beyond_all_measure_is_rejected(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    content = clips(suffix=".gif", codec="gif", audio="", pixel_format="rgb8").read_bytes()
    (tmp_path / "bomb.gif").write_bytes(content[:6] + struct.pack("<HH", 65000, 65000) + content[10:])
    rejected(convert, prepare(tmp_path / "bomb.gif"))


def test_a_video_of_which_nearly_nothing_can_be_decoded_fails_by_name(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    whole = clips(suffix=".mov", codec="png", pixel_format="rgb24", audio="", seconds=6)
    content = bytearray(whole.read_bytes())
    start = 0
    for _ in range(65):
        start = content.index(b"IHDR", start + 1)
    while (start := content.find(b"IHDR", start + 1)) >= 0:
        content[start : start + 4] = b"XXXX"
    (tmp_path / "damaged.mov").write_bytes(content)
    with pytest.raises(
        UndecodableError, match=r"damaged\.mov: of \d+ packets the decoder png refused \d+, and nothing says"
    ):
        convert(prepare(tmp_path / "damaged.mov"))


def test_a_picture_whose_decoder_cannot_be_begun_is_rejected(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    whole = clips(suffix=".mkv", codec="ffv1", options={"level": "3"}, audio="", seconds=1)
    with av.open(str(whole)) as container:
        told = container.streams.video[0].codec_context.extradata
    assert told
    path = tmp_path / "strange.mkv"
    path.write_bytes(whole.read_bytes().replace(told, bytes(len(told))))
    assert rejected(convert, prepare(path)) == "strange.mkv: not one frame with a time can be decoded"


def test_sound_whose_decoder_cannot_be_begun_is_dropped_and_that_is_told(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    path = tmp_path / "strange.mkv"
    path.write_bytes(without_alac(clips(suffix=".mkv", audio="alac", seconds=1)))
    context = prepare(path, "out.mkv", audio_codec="aac")
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    assert "sound dropped: none of it can be decoded" in outcome.result["notes"]


def test_a_title_that_is_not_utf_8_does_no_harm(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    named = tmp_path / "named.mp4"
    told = {"id": 1, "start": 0, "end": 500, "time_base": Fraction(1, 1000), "metadata": {"title": "a long title"}}
    chapters: Any = [told]
    with av.open(str(clips(audio="", seconds=1))) as source, av.open(str(named), "w") as output:
        track = output.add_stream_from_template(source.streams.video[0], opaque=True)
        output.metadata["title"] = "a long title"
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = track
                output.mux(packet)
        output.set_chapters(chapters)
    content = named.read_bytes()
    assert b"a long title" in content
    named.write_bytes(content.replace(b"a long title", b"\xe9\xff\xfe \xc3\x28 title"))
    context = prepare(named, "out.mkv")
    assert isinstance(convert(context), Finished)
    with av.open(str(context.output_file)) as container:
        titles = {container.metadata["title"], container.chapters()[0]["metadata"]["title"]}
    assert titles == {"\N{REPLACEMENT CHARACTER}" * 3 + " \N{REPLACEMENT CHARACTER}( title"}


def test_a_missing_input_is_an_error_that_may_pass(
    prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        convert(prepare(tmp_path / "nowhere.mp4"))
