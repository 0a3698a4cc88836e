"""Parts of a damaged film that cannot be decoded are left out, and reported."""

import errno
import os
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import av
import msgspec
import pytest
from conversions import SOURCES, at_checkpoint

from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.contract import Room
from tasktrail.handlers.process.report_limits import CHECKPOINT_LIMIT
from tasktrail.handlers.video import frames as frames_module
from tasktrail.handlers.video import source as source_module
from tasktrail.handlers.video.content_check import RequiredContent, compare_contents, content_of
from tasktrail.handlers.video.convert.checkpoint import FinishedPart, SavedConversion, SegmentPlan
from tasktrail.handlers.video.convert.gaps import gap_notes
from tasktrail.handlers.video.convert.journal import Journal
from tasktrail.handlers.video.convert.result_check import check_result
from tasktrail.handlers.video.frames import DecodePass, UndecodableError, frames_after, keyframes_of
from tasktrail.handlers.video.opening import open_input
from tasktrail.handlers.video.source import damage_notes, read_source
from tasktrail.testing import SimulatedCrash


def notes_of(outcome: Any) -> list[str]:
    assert isinstance(outcome, Finished)
    notes: list[str] = outcome.result["notes"]
    return [note for note in notes if "decoded" in note]


@pytest.mark.parametrize("segment_seconds", [1.0, 600.0])
def test_packets_of_the_picture_that_cannot_be_decoded_are_told(
    segment_seconds: float,
    clips: Callable[..., Path],
    damage: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    film = damage(clips(options={"g": "25"}, audio=""), picture=(30, 31, 60))
    outcome = convert(prepare(film, segment_seconds=segment_seconds))
    assert outcome.result["frames"] == 97
    assert notes_of(outcome) == ["3 packets of the picture cannot be decoded and are left out"]


def test_what_is_lost_where_two_segments_meet_is_told_once(
    clips: Callable[..., Path], damage: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    film = damage(clips(options={"g": "25"}, audio=""), picture=(49, 50, 75))
    assert notes_of(convert(prepare(film))) == ["3 packets of the picture cannot be decoded and are left out"]


@pytest.mark.parametrize("lost", [range(3), range(97, 100), range(49, 76)])
def test_a_segment_of_which_nothing_is_left_is_told(
    lost: range,
    clips: Callable[..., Path],
    damage: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
) -> None:
    film = damage(clips(options={"g": "25"}, audio=""), picture=lost)
    outcome = convert(prepare(film))
    assert notes_of(outcome) == [f"{len(lost)} packets of the picture cannot be decoded and are left out"]


def test_an_end_that_is_lost_counts_once_where_segments_are_made_side_by_side(
    clips: Callable[..., Path], damage: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    """As in a film that was downloaded in part: each segment there is searched up to the end of the file."""
    film = damage(clips(options={"g": "25"}, audio="", seconds=12), picture=range(225, 300))
    context = prepare(film)
    context.room = Room(cores=2)
    assert notes_of(convert(context)) == ["75 packets of the picture cannot be decoded and are left out"]


def test_one_packet_is_one_packet(
    clips: Callable[..., Path], damage: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    film = damage(clips(options={"g": "25"}), picture=[30], sound=[40])
    assert notes_of(convert(prepare(film, audio_codec="opus"))) == [
        "1 packet of the picture cannot be decoded and is left out",
        "1 packet of sound cannot be decoded and is left out",
    ]


def test_only_the_part_that_is_wanted_counts(
    clips: Callable[..., Path], damage: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    film = damage(clips(options={"g": "25"}), picture=[30, 55, 80], sound=[20, 100, 180])
    assert notes_of(convert(prepare(film, start=2.0, end=3.0, audio_codec="opus"))) == [
        "1 packet of the picture cannot be decoded and is left out",
        "1 packet of sound cannot be decoded and is left out",
    ]


def test_a_resume_tells_what_was_lost_before_it(
    clips: Callable[..., Path],
    damage: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    tmp_path: Path,
) -> None:
    film = damage(clips(options={"g": "25"}), picture=(10, 30, 31, 60, 99), sound=(40, 41))
    whole = prepare(film, audio_codec="opus")
    told = notes_of(convert(whole))
    assert len(told) == 2
    for number in range(len(whole.checkpoints)):
        assert notes_of(convert(at_checkpoint(whole, number, tmp_path / f"from{number}"))) == told


def test_checkpoints_stay_small_however_much_is_lost(
    clips: Callable[..., Path], prepare: Callable[..., Any], tmp_path: Path
) -> None:
    """In a film of two hours that was downloaded in part, there may be tens of thousands."""
    context = prepare(clips())
    journal = Journal(context, Fraction(1))
    plan = SegmentPlan(clock="pts", start=0, end=1, step=1, cuts=())
    saved = SavedConversion(fingerprint="1", plan=plan)
    journal.save(saved, FinishedPart(), 1.0, "")
    change = FinishedPart(refused=tuple(range(10**8, 10**8 + 50_000)))
    journal.save(saved.after(change), change, 2.0, "")
    assert len(msgspec.json.encode(context.checkpoints[-1])) < CHECKPOINT_LIMIT
    again = at_checkpoint(context, 1, tmp_path / "again")
    recalled = Journal(again, Fraction(1)).recall("1")
    assert recalled is not None
    assert recalled.refused == change.refused


SILENT: dict[str, dict[str, Any]] = {
    "av1": {"suffix": ".mp4", "codec": "libsvtav1", "options": {"preset": "12", "g": "25"}},
    "hevc": {"codec": "libx265", "options": {"x265-params": "keyint=25:open-gop=0:log-level=none"}},
}


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("codec", SILENT)
def test_what_a_decoder_leaves_out_without_a_word_is_counted(
    codec: str, threads: int, clips: Callable[..., Path], damage: Callable[..., Path]
) -> None:
    """After a lost keyframe, everything up to the next one is left out."""
    source = read_source(damage(clips(audio="", **SILENT[codec]), picture=[50, 99]))
    reading = DecodePass(threads)
    frames = len(list(frames_after(source, None, reading)))
    assert frames < 98
    assert len(reading.refused) == reading.bad == 100 - frames
    assert reading.good == frames


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("codec", SILENT)
def test_a_keyframe_that_is_lost_costs_nothing_from_the_next_one_on(
    codec: str, threads: int, clips: Callable[..., Path], damage: Callable[..., Path]
) -> None:
    """dav1d refused most packets, including keyframes, until the end of the film."""
    recipe = SILENT[codec] | ({"options": {"preset": "10", "g": "25"}} if codec == "av1" else {})
    source = read_source(damage(clips(audio="", seconds=8, **recipe), picture=[50]))
    reading = DecodePass(threads)
    moments = [moment for moment, _frame in frames_after(source, None, reading)]
    per_frame = round(1 / (source.rate * source.time_base))
    assert moments[-125:] == [number * per_frame for number in range(75, 200)]
    assert [moment // per_frame for moment, _frame in keyframes_of(source)] == [0, 25, 75, 100, 125, 150, 175]
    with open_input(source.path) as container:
        assert content_of(container, lambda _seconds: None, 1).bad == reading.bad


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("codec", SILENT)
@pytest.mark.parametrize("lost", [[50], [25, 26], [30, 31, 60]])
def test_what_is_read_from_a_place_counts_what_is_lost_behind_it(
    lost: list[int], codec: str, threads: int, clips: Callable[..., Path], damage: Callable[..., Path]
) -> None:
    """A seek to a lost keyframe leads to the next one, and is tried again from further back."""
    source = read_source(damage(clips(audio="", **SILENT[codec]), picture=lost))
    moments = [moment for moment, _frame in frames_after(source, None, DecodePass(1))]
    for place in (24, 34, 49, 59):
        after = round(place / (source.rate * source.time_base))
        reading = DecodePass(threads)
        frames = [moment for moment, _frame in frames_after(source, after, reading)]
        assert frames == [moment for moment in moments if moment > after]
        assert len(reading.refused) == reading.bad == 99 - place - len(frames)
        assert reading.good == len(frames)


@pytest.mark.parametrize("codec", SILENT)
def test_a_film_of_which_a_decoder_leaves_too_much_out_fails_by_name(
    codec: str, clips: Callable[..., Path], damage: Callable[..., Path]
) -> None:
    film = damage(clips(audio="", seconds=12, **SILENT[codec]), picture=range(26, 300, 4))
    with pytest.raises(UndecodableError, match=r"of \d+ packets the decoder \w+ refused \d+"):
        list(frames_after(read_source(film), None, DecodePass(2)))


FIRST_LOST = [
    {"options": {"g": "25"}},
    {"options": {"g": "25"}, "suffix": ".mkv"},
    {"options": {"g": "25"}, "suffix": ".flv", "audio": "aac"},
    SILENT["av1"],
    SILENT["hevc"],
    SILENT["hevc"] | {"suffix": ".mkv"},
]


@pytest.mark.parametrize("recipe", FIRST_LOST)
def test_a_beginning_of_which_no_picture_can_be_made_is_told(
    recipe: dict[str, Any],
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """HEVC decoders silently leave out everything up to the next keyframe, those of H.264 refuse one packet."""
    whole = clips(**recipe)
    assert read_source(whole).unshown == 0
    with av.open(str(whole)) as container:
        first = bytes(next(container.demux(video=0)))
    film = tmp_path / f"damaged{whole.suffix}"
    film.write_bytes(whole.read_bytes().replace(first, bytes(len(first))))
    source = read_source(film)
    assert source.unshown == pytest.approx(1.0)
    assert source.keyframes
    assert all((key - source.start) * source.time_base % 1 == 0 for key in source.keyframes)
    context = prepare(film)
    outcome = convert(context)
    told = "the source is damaged: no picture can be made of its first 1.0 s"
    assert outcome.result["notes"][0] == told
    assert check_result(context, outcome.result) == told


def test_a_lost_beginning_is_told_of_a_film_that_does_not_say_its_rate(
    clips: Callable[..., Path], tmp_path: Path
) -> None:
    """Such as a recording made by a browser, which is assumed to have a thousand frames a second."""
    whole, film = clips(codec="libvpx", suffix=".webm", options={"g": "25"}, audio=""), tmp_path / "film.webm"
    with av.open(str(whole)) as even, av.open(str(film), "w") as uneven:
        track = uneven.add_stream_from_template(even.streams.video[0])
        packets = [packet for packet in even.demux(video=0) if packet.size]
        for number, packet in enumerate(packets):
            packet.stream, packet.time_base = track, Fraction(1, 1000)
            packet.pts = packet.dts = 40 * number + 17 * number % 23
            uneven.mux(packet)
    film.write_bytes(film.read_bytes().replace(FRAME_LASTS, NOTHING))
    assert read_source(film).rate == 1000
    assert read_source(film).unshown == 0
    film.write_bytes(film.read_bytes().replace(bytes(packets[0]), bytes(packets[0].size)))
    assert read_source(film).unshown == pytest.approx(1.0, abs=0.03)


FRAME_LASTS, NOTHING = b"\x23\xe3\x83\x84", b"\xec\x86\0\0"
"""The beginnings of Matroska elements: a frame's duration, and an element to skip."""


def test_of_a_recording_that_begins_between_keyframes_it_is_told_and_is_no_damage(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    recording = tmp_path / "recording.ts"
    with av.open(str(clips(suffix=".ts", options={"g": "50"}, audio=""))) as whole, av.open(str(recording), "w") as cut:
        track = cut.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(whole.demux(video=0)):
            if number >= 20 and packet.dts is not None:
                packet.stream = track
                cut.mux(packet)
    source = read_source(recording)
    assert source.seconds == pytest.approx(2.0)
    assert damage_notes(source) == []
    outcome = convert(prepare(recording))
    assert outcome.result["frames"] == 50
    assert "no picture can be made of the first 1.2 s, which lack their keyframe" in outcome.result["notes"]


def test_pictures_before_the_first_time_are_told(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    """A Matroska holds no times before zero. Where a program has written some, the reader gives none at all."""
    film = tmp_path / "film.mkv"
    options = {"avoid_negative_ts": "disabled"}
    with av.open(str(clips(audio=""))) as whole, av.open(str(film), "w", options=options) as early:
        track = early.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.pts is not None and packet.dts is not None:
                packet.stream = track
                packet.pts -= round(1 / packet.time_base)
                packet.dts -= round(1 / packet.time_base)
                early.mux(packet)
    outcome = convert(prepare(film))
    left_out = 100 - outcome.result["frames"]
    assert left_out > 20
    assert f"{left_out} pictures left out: they come before the first that has a time" in outcome.result["notes"]


@pytest.mark.parametrize("codec", SILENT)
def test_an_original_of_which_a_decoder_leaves_something_out_is_known(
    codec: str, clips: Callable[..., Path], damage: Callable[..., Path]
) -> None:
    film = clips(audio="", **SILENT[codec])
    said = compare_contents(damage(film, picture=[50]), film, open_input, RequiredContent(seconds=4.0), lambda *_: None)
    assert re.fullmatch(r"\d+ packets of the original cannot be decoded, and are not in the result", said)


@pytest.mark.parametrize("threads", [2, 4, 16])
@pytest.mark.parametrize("lost", [{20}, {90}, {97}, {99}, {96, 97}])
def test_threads_lose_no_frame_behind_what_cannot_be_decoded(
    threads: int, lost: set[int], clips: Callable[..., Path], damage: Callable[..., Path]
) -> None:
    source = read_source(damage(clips(options={"g": "25"}, audio=""), picture=lost))

    def moments(reading: DecodePass) -> list[int]:
        return [moment for moment, _frame in frames_after(source, None, reading)]

    alone, together = DecodePass(1), DecodePass(threads)
    assert len(moments(alone)) == 100 - len(lost)
    assert moments(together) == moments(alone)
    assert together.refused == alone.refused


@pytest.mark.parametrize("threads", [1, 2, 16])
def test_a_packet_that_has_lost_its_time_as_well_is_told(
    threads: int, clips: Callable[..., Path], tmp_path: Path
) -> None:
    """It then gets the time of its cluster in the Matroska file, before frames that have already come."""
    clip = clips(suffix=".mkv", options={"g": "25"}, audio="")
    content = bytearray(clip.read_bytes())
    with av.open(str(clip)) as container:
        lost = next(packet for number, packet in enumerate(container.demux(video=0)) if number == 37)
        assert lost.pos is not None
        content[lost.pos + 1 : lost.pos + lost.size] = bytes(lost.size - 1)  # except for the number of the track
    film = tmp_path / "damaged.mkv"
    film.write_bytes(content)
    source = read_source(film)
    alone = DecodePass(1)
    moments = [moment for moment, _frame in frames_after(source, None, alone)]
    assert (len(moments), alone.refused) == (99, {1000})
    for before in (None, moments[30]):
        together = DecodePass(threads)
        assert [moment for moment, _frame in frames_after(source, before, together)] == [
            moment for moment in moments if before is None or moment > before
        ]
        assert (together.bad, together.refused) == (1, {1000})


@pytest.mark.parametrize("lost", [{30}, {33, 34, 35}])
def test_threads_leave_out_no_frame_that_one_can_decode(
    lost: set[int], clips: Callable[..., Path], damage: Callable[..., Path]
) -> None:
    """Many threads of dav1d silently left one more out."""
    source = read_source(damage(clips(audio="", **SILENT["av1"]), picture=lost))
    alone, together = DecodePass(1), DecodePass(16)
    moments = [moment for moment, _frame in frames_after(source, None, alone)]
    assert [moment for moment, _frame in frames_after(source, None, together)] == moments
    assert together.refused == alone.refused
    with open_input(source.path) as container:
        assert content_of(container, lambda _seconds: None, 16).doubtful


def test_a_film_whose_first_frame_is_damaged_is_looked_into_by_one_thread(
    clips: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several threads of dav1d sometimes report such a frame as a lack of memory."""

    def as_dav1d(decode: Any, packet: Any) -> Any:
        if decode.__self__.codec_context.thread_count != 1:
            raise av.error.MemoryError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        return decode(packet)

    monkeypatch.setattr(source_module, "decoded", as_dav1d)
    assert read_source(clips(audio="", seconds=1)).rate == 25


@pytest.mark.parametrize("name", SOURCES)
def test_a_sound_film_is_read_by_several_threads_to_its_end(name: str, clips: Callable[..., Path]) -> None:
    reading = DecodePass(4)
    assert list(frames_after(read_source(clips(**SOURCES[name])), None, reading))
    assert reading.threads == 4
    with open_input(clips(**SOURCES[name])) as container:
        assert not content_of(container, lambda _seconds: None, 4).doubtful


def test_the_keyframes_of_a_sound_film_are_looked_for_once(
    clips: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Alone, H.264 keyframes with leading pictures make the decoder give up; a long film has thousands of them."""
    film = clips(suffix=".mkv", audio="", seconds=20, options={"g": "25", "x264-params": "open-gop=1:bframes=3"})
    source = read_source(film)
    opener = Mock(side_effect=open_input)
    monkeypatch.setattr(frames_module, "open_input", opener)
    assert len(list(keyframes_of(source))) < len(source.keyframes)
    opener.assert_called_once()


def test_where_the_source_has_no_frames_the_picture_is_told_to_stand_still(
    clips: Callable[..., Path],
    damage: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    tmp_path: Path,
) -> None:
    """The reader silently skips a damaged part of an mkv or webm."""
    holes = tmp_path / "holes.mkv"
    film = damage(clips(options={"g": "25", "bf": "0"}, audio="", seconds=8), picture=[30])
    with av.open(str(film)) as whole, av.open(str(holes), "w") as output:
        track = output.add_stream_from_template(whole.streams.video[0])
        for number, packet in enumerate(whole.demux(video=0)):
            if packet.dts is not None and number // 25 not in (2, 5):
                packet.stream = track
                output.mux(packet)
    told = [note for note in convert(prepare(holes)).result["notes"] if "stands still" in note]
    assert told == ["the picture stands still for 2.00 s in 2 places: there is no frame in the source"]
    context = prepare(holes, "even.mp4", frame_rate=25.0)
    assert not [note for note in convert(context).result["notes"] if "stands still" in note]


@pytest.mark.parametrize(
    ("lost", "told"),
    [
        (range(50, 75), ()),
        ([74], ("the picture stands still for 0.96 s in 1 place: there is no frame in the source",)),
        ([50, 60, 74], ("the picture stands still for 0.88 s in 1 place: there is no frame in the source",)),
    ],
)
def test_a_packet_that_cannot_be_decoded_hides_no_longer_gap(lost: Sequence[int], told: tuple[str, ...]) -> None:
    """HEVC and AV1 decoders often refuse the first packet after a part that the reader has skipped."""
    shown = [*range(50), *range(75, 200)]
    assert gap_notes([shown], Fraction(1, 25), lost) == told


def _joined(clips: Callable[..., Path], folder: Path, *seconds: int) -> Path:
    """Make a ts of pieces whose times each begin anew, as `cat` does."""
    pieces = [clips(audio="", suffix=".ts", options={"g": "25"}, seconds=each).read_bytes() for each in seconds]
    (folder / "joined.ts").write_bytes(b"".join(pieces))
    return folder / "joined.ts"


@pytest.mark.parametrize(
    ("kills", "seconds", "options", "frames"),
    [
        (0, (2, 1, 8), {}, 200),
        (4, (2, 1, 8), {}, 200),
        (4, (4, 1, 12), {}, 300),  # it continues where the second piece begins
        (0, (2, 1, 8), {"frame_rate": 25}, 200),
        (4, (2, 1, 8), {"frame_rate": 25}, 200),  # it is read from the beginning again
        (0, (2, 1, 8), {"frame_rate": 5}, 40),
    ],
)
def test_pictures_whose_times_jump_back_are_counted_once(
    kills: int,
    seconds: tuple[int, ...],
    options: dict[str, Any],
    frames: int,
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    tmp_path: Path,
) -> None:
    context = prepare(_joined(clips, tmp_path, *seconds), **options, **({"crash_after": kills} if kills else {}))
    if kills:
        with pytest.raises(SimulatedCrash):
            convert(context)
        context = context.resumed()
    outcome = convert(context)
    assert isinstance(outcome, Finished), outcome
    assert outcome.result["frames"] == frames
    told = [note for note in outcome.result["notes"] if "jump back" in note]
    late = sum(seconds[:-1]) * 25
    assert told == [f"{late} pictures are left out: their times jump back, as in files that were joined or are damaged"]


def test_a_short_piece_behind_a_long_one_does_not_make_it_a_cut_one(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    """The last packets of the file have early times."""
    outcome = convert(prepare(_joined(clips, tmp_path, 8, 1)))
    assert isinstance(outcome, Finished)
    assert (outcome.result["frames"], outcome.result["source_duration"]) == (200, 8)
    assert outcome.result["notes"][:2] == [
        "the source ends with times that occurred before, as in files that were joined or are damaged",
        "25 pictures are left out: their times jump back, as in files that were joined or are damaged",
    ]


def test_a_film_of_which_the_times_of_too_much_jump_back_is_refused(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    outcome = convert(prepare(_joined(clips, tmp_path, 4, 4)))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == (
        "joined.ts: the times of its pictures jump back, as in files that were joined or are damaged, and 100 of 200 "
        "would be left out: give them times that rise, as `ffmpeg -i IN.ts -c copy OUT.mkv` does with a ts, and take "
        "that"
    )


@pytest.mark.parametrize("way", [{}, {"video_codec": "copy"}])
@pytest.mark.parametrize("suffix", ["mp4", "mov"])
def test_times_that_jump_further_ahead_than_the_container_can_hold_are_refused(
    suffix: str,
    way: dict[str, str],
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    tmp_path: Path,
) -> None:
    whole, jumps = clips(audio="", suffix=".ts", options={"g": "25", "bf": "0"}), tmp_path / "jumps.ts"
    with av.open(str(whole)) as source, av.open(str(jumps), "w") as output:
        track = output.add_stream_from_template(source.streams.video[0])
        for number, packet in enumerate(source.demux(video=0)):
            if packet.dts is not None and packet.pts is not None:
                packet.stream = track
                ahead = 90_000 * 36_000 if number >= 50 else 0
                packet.pts, packet.dts = packet.pts + ahead, packet.dts + ahead
                output.mux(packet)
    outcome = convert(prepare(jumps, f"out.{suffix}", **way))
    assert isinstance(outcome, Rejected)
    assert outcome.reason == (
        f"jumps.ts: the times of its pictures jump ahead by 36,000 s, and a {suffix} holds no such pause: give them "
        "times that rise, as `ffmpeg -i IN.ts -c copy OUT.mkv` does with a ts, and take that, or write a mkv"
    )
    outcome = convert(prepare(jumps, "out.mkv", **way))
    assert isinstance(outcome, Finished)
    assert outcome.result["frames"] == 100
