"""A film made in parts, on many nodes or on one, has the same bytes as when one task makes it."""

import hashlib
import zipfile
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import msgspec
import pytest
from conversions import SOURCES, digest, saved_by
from full_films import Beside, Tone, make
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events.errors import InvalidOptions, InvalidPath
from tasktrail.handlers import Finished
from tasktrail.handlers.contract import Job, Room
from tasktrail.handlers.errors import PartMissing
from tasktrail.handlers.video.convert import run as convert
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.checkpoint import SegmentPlan, shares_of, stretches_of
from tasktrail.handlers.video.convert.estimate import estimate_for
from tasktrail.handlers.video.convert.library_encoder import LibraryBackend
from tasktrail.handlers.video.convert.options import VideoConvertOptions, choose_target
from tasktrail.handlers.video.convert.options import check as check_film
from tasktrail.handlers.video.convert.parts import PartUnusable, open_part
from tasktrail.handlers.video.convert.picture import PixelFormat
from tasktrail.handlers.video.convert.program_encoder import ProgramFailedError
from tasktrail.handlers.video.convert.reshaping import WantedPart
from tasktrail.handlers.video.convert.spread import VideoPartOptions, bytes_depend_on, film_of, part_file
from tasktrail.handlers.video.estimate import ASSUMED
from tasktrail.handlers.video.frames import UndecodableError
from tasktrail.handlers.video.part import video_part
from tasktrail.handlers.video.part.estimate import estimate_for as estimate_part
from tasktrail.handlers.video.part.options import check as check_part
from tasktrail.handlers.video.source import VideoSource
from tasktrail.testing import RecordingContext, SimulatedCrash, run_handler

QUICK = {"preset": "superfast", "segment_seconds": 0.8}
CLOSE_KEYS: dict[str, Any] = {"options": {"g": "20", "bf": "3"}, "seconds": 6}
Context = RecordingContext[Any]


class Spread:
    """A film, and the contexts of the tasks that make it, each on a node with its own work folder."""

    def __init__(self, source: Path, folder: Path, name: str = "out.mp4", **options: Any) -> None:
        self.source, self.folder, self.film = source, folder, folder / name
        self._options = {**QUICK, **options}

    def plain(self) -> Path:
        folder = self.folder / "plain"
        folder.mkdir()
        run_handler(video_convert, self._context(VideoConvertOptions, folder / self.film.name, "plain/work"))
        return folder / self.film.name

    def part(self, part: int, parts: int, **more: Any) -> Context:
        options = {"part": part, "parts": parts}
        return self._context(
            VideoPartOptions, part_file(self.film, part, parts), f"node-{part}-{parts}", options, **more
        )

    def joined(self, parts: int, **more: Any) -> Context:
        return self._context(VideoConvertOptions, self.film, f"joined-{parts}", {"parts": parts}, **more)

    def _context(
        self, kind: type[Any], output: Path, node: str, more: dict[str, Any] | None = None, **how: Any
    ) -> Context:
        return RecordingContext(
            msgspec.convert({**self._options, **(more or {})}, kind),
            work_dir=self.folder / node,
            input_file=self.source,
            output_file=output,
            **{"room": Room(cores=2), **how},
        )

    def make_parts(self, parts: int) -> list[Context]:
        made = [self.part(number, parts) for number in range(1, parts + 1)]
        for context in made:
            assert isinstance(run_handler(video_part, context), Finished)
        return made


def result_of(outcome: object) -> dict[str, Any]:
    assert isinstance(outcome, Finished), outcome
    return dict(outcome.result)


def encoded(context: Context) -> list[int]:
    """Return the segments that the attempt has made, by its checkpoints."""
    return [
        checkpoint.data["change"]["segment"][0]
        for checkpoint in context.checkpoints
        if "segment" in checkpoint.data["change"]
    ]


@pytest.mark.parametrize(
    ("name", "parts"),
    [("b-frames", 2), ("b-frames", 3), ("b-frames", 5), ("uneven", 3), ("open groups", 3), ("flash", 2), ("webm", 5)],
)
def test_a_spread_film_has_the_same_bytes(name: str, parts: int, clips: Callable[..., Path], tmp_path: Path) -> None:
    spread = Spread(clips(**SOURCES[name]), tmp_path)

    made = spread.make_parts(parts)
    film = spread.joined(parts)
    result = result_of(run_handler(video_convert, film))

    assert digest(spread.film) == digest(spread.plain())
    numbers = [number for context in made for number in encoded(context)]
    assert len(set(numbers)) == len(numbers) == result["segments"]
    assert result["parts"] == parts
    assert not any("part" in note for note in result["notes"])
    assert all(message.startswith(("part ", "sound", "joining")) for _, message in film.reports)


@pytest.mark.parametrize("codec", ["h265", "vp9", "av1"])
def test_other_codecs_give_the_same_bytes(codec: str, clips: Callable[..., Path], tmp_path: Path) -> None:
    spread = Spread(clips(**CLOSE_KEYS), tmp_path, "out.mkv", video_codec=codec, preset="ultrafast")
    spread.make_parts(3)
    run_handler(video_convert, spread.joined(3))
    assert digest(spread.film) == digest(spread.plain())


@pytest.mark.slow
def test_a_rotated_film_with_a_part_and_another_size_has_the_same_bytes(
    clips: Callable[..., Path], tmp_path: Path
) -> None:
    source = clips(rotation=90, **CLOSE_KEYS)
    spread = Spread(source, tmp_path, start=0.7, end=5.3, width=96, frame_rate=10, loudness=-20)
    spread.make_parts(3)
    run_handler(video_convert, spread.joined(3))
    assert digest(spread.film) == digest(spread.plain())


@pytest.mark.slow
def test_all_that_is_beside_the_picture_is_there(tmp_path: Path) -> None:
    tones = [Tone(language="eng"), Tone(880, "mono", language="ger"), Tone(220, language="fre")]
    beside = Beside(tags={"title": "Ours"}, chapters=[(0, 1, "one"), (1, 3, "two")])
    source = make(tmp_path / "in.mkv", tones, [("subrip", "eng")], beside)
    spread = Spread(source, tmp_path, "out.mkv", segment_seconds=0.5, audio_codec="opus")
    made = spread.make_parts(2)
    result = result_of(run_handler(video_convert, spread.joined(2)))
    assert digest(spread.film) == digest(spread.plain())
    assert (result["audio_tracks"], result["subtitles"]) == (3, 1)
    assert [saved_by(context).audio for context in made] == [(), ()], "the join makes all sound"
    with av.open(str(spread.film)) as container:
        assert [chapter["metadata"]["title"] for chapter in container.chapters()] == ["one", "two"]


@pytest.mark.parametrize("name", ["no index", "one keyframe"])
def test_a_film_that_cannot_be_spread_is_converted_by_one_task(
    name: str, clips: Callable[..., Path], tmp_path: Path
) -> None:
    spread = Spread(clips(**SOURCES[name]), tmp_path)
    made = spread.make_parts(3)
    result = result_of(run_handler(video_convert, spread.joined(3)))
    assert digest(spread.film) == digest(spread.plain())
    assert [note for note in result["notes"] if note.startswith("not spread: ")]
    assert [encoded(context) for context in made] == [[], [], []]


def test_the_ffmpeg_program_makes_parts_too(
    clips: Callable[..., Path], install: Callable[..., Path], tmp_path: Path
) -> None:
    install()
    spread = Spread(clips(**CLOSE_KEYS), tmp_path, backend="ffmpeg")
    made = spread.make_parts(2)
    film = spread.joined(2)
    result_of(run_handler(video_convert, film))
    for context in made:
        for name in saved_by(context).files:
            assert (film.work_dir / name).read_bytes() == (context.work_dir / name).read_bytes()


# --- kills ----------------------------------------------------------------------------------------------------------


def test_a_killed_part_makes_again_what_its_checkpoint_lacks_and_the_others_nothing(
    clips: Callable[..., Path], tmp_path: Path
) -> None:
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    killed = spread.part(1, 2, crash_after=2)
    with pytest.raises(SimulatedCrash):
        run_handler(video_part, killed)
    again = killed.resumed()
    assert isinstance(run_handler(video_part, again), Finished)
    whole = spread.part(2, 2)
    run_handler(video_part, whole)
    result = result_of(run_handler(video_convert, spread.joined(2)))
    assert digest(spread.film) == digest(spread.plain())
    assert sorted(encoded(killed) + encoded(again) + encoded(whole)) == list(range(result["segments"]))


def test_a_part_that_goes_on_on_another_node_makes_its_own_segments_again_and_no_others(
    clips: Callable[..., Path], tmp_path: Path
) -> None:
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    killed = spread.part(1, 2, crash_after=2)
    with pytest.raises(SimulatedCrash):
        run_handler(video_part, killed)
    killed.work_dir.rename(tmp_path / "gone with its node")
    again = spread.part(1, 2, checkpoint=killed.checkpoint, attempt=2)
    run_handler(video_part, again)
    run_handler(video_part, spread.part(2, 2))
    run_handler(video_convert, spread.joined(2))
    assert digest(spread.film) == digest(spread.plain())
    assert sorted(encoded(again)) == list(range(len(encoded(again))))


def test_a_part_holds_the_same_whenever_it_is_made(clips: Callable[..., Path], tmp_path: Path) -> None:
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    first = spread.part(1, 2)
    run_handler(video_part, first)
    before = entries_of(first.output_file)
    again = first.resumed()
    run_handler(video_part, again)
    after = entries_of(again.output_file)
    assert again.checkpoints == []
    assert before.pop("part.json") != b""
    assert after.pop("part.json") != b""
    assert after == before


def test_a_killed_join_takes_only_what_it_lacks(clips: Callable[..., Path], tmp_path: Path) -> None:
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    spread.make_parts(2)
    killed = spread.joined(2, crash_after=5)
    with pytest.raises(SimulatedCrash):
        run_handler(video_convert, killed)
    part_file(spread.film, 1, 2).unlink()  # all of it has been taken over
    again = killed.resumed()
    result = result_of(run_handler(video_convert, again))
    assert digest(spread.film) == digest(spread.plain())
    assert sorted(encoded(killed) + encoded(again)) == list(range(result["segments"]))


# --- parts that do not fit ------------------------------------------------------------------------------------------


def entries_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def rewritten(path: Path, change: Callable[[dict[str, bytes]], None]) -> None:
    entries = entries_of(path)
    change(entries)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)


def damage(name: str, entries: dict[str, bytes]) -> None:
    entries[name] = entries[name][:-1] + bytes([entries[name][-1] ^ 1])


def test_a_missing_part_is_named(clips: Callable[..., Path], tmp_path: Path) -> None:
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    spread.make_parts(3)
    part_file(spread.film, 2, 3).unlink()
    with pytest.raises(PartMissing, match=r"part 2 of 3, out\.mp4\.part-2-of-3\.tasktrail, is not in"):
        run_handler(video_convert, spread.joined(3))
    part_file(spread.film, 2, 3).symlink_to(part_file(spread.film, 1, 3))
    with pytest.raises(PartMissing):
        run_handler(video_convert, spread.joined(3))


def test_a_damaged_segment_is_made_again_and_the_result_says_so(clips: Callable[..., Path], tmp_path: Path) -> None:
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    spread.make_parts(2)
    part = part_file(spread.film, 2, 2)
    rewritten(part, partial(damage, min(name for name in entries_of(part) if name.startswith("segment"))))
    film = spread.joined(2)
    result = result_of(run_handler(video_convert, film))
    assert result["notes"] == ["part 2 of 2 was damaged: 1 of its pieces were made again"]
    assert digest(spread.film) == digest(spread.plain())


def test_a_part_that_cannot_be_read_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was replaced, or became unreadable, after the first look."""
    path = tmp_path / "a.part"
    path.touch()

    def refused(*_: Any) -> None:
        raise PermissionError(13, "denied")

    monkeypatch.setattr(zipfile, "ZipFile", refused)
    with pytest.raises(PartUnusable, match="is damaged or no part"), open_part(path, 1, 2):
        pass


def test_what_is_damaged_behind_the_last_cut_is_made_again(
    clips: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There, segments follow each other as long as pictures come: none may be lost with the one before it."""
    real = convert._plan

    def too_short(source: VideoSource, window: WantedPart, length: float) -> SegmentPlan:
        end = window.start + (window.end - window.start) * 2 // 5
        return real(source, window._replace(end=end), length)

    monkeypatch.setattr(convert, "_plan", too_short)
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    last = spread.make_parts(2)[1]
    names, whole = [name for name in saved_by(last).files if name.startswith("segment")], last.output_file.read_bytes()
    assert len(names) > len(range(saved_by(last).plan.count)) - min(encoded(last)), "some are behind the last cut"
    plain = digest(spread.plain())

    for attempt, name in enumerate(names, 1):
        last.output_file.write_bytes(whole)
        rewritten(last.output_file, partial(damage, name))
        result = result_of(run_handler(video_convert, spread.joined(2, attempt=attempt)))
        assert any("was damaged" in note for note in result["notes"])
        assert digest(spread.film) == plain, name


def made_again(spread: Spread, *parts: int, **more: Any) -> str:
    """Return the result's list of parts, of two, that the join has made itself; the film is as it should be."""
    film = spread.joined(2, **more)
    result = result_of(run_handler(video_convert, film))
    assert [note.partition(":")[0] for note in result["notes"]] == [f"part {n} of 2 was made again here" for n in parts]
    if not (spread.folder / "plain").exists():
        spread.plain()
    assert digest(spread.film) == digest(spread.folder / "plain" / spread.film.name)
    return " ".join(result["notes"])


@pytest.mark.parametrize("content", [b"", b"PK", b"not a part", b"PK\5\6" + bytes(18)])
def test_what_is_no_part_is_made_again(content: bytes, clips: Callable[..., Path], tmp_path: Path) -> None:
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    spread.make_parts(2)
    part_file(spread.film, 2, 2).write_bytes(content)
    assert "out.mp4.part-2-of-2.tasktrail is damaged or no part of a film" in made_again(spread, 2)


@pytest.mark.slow
def test_a_part_that_was_cut_anywhere_is_made_again(clips: Callable[..., Path], tmp_path: Path) -> None:
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    spread.make_parts(2)
    path = part_file(spread.film, 2, 2)
    content = path.read_bytes()
    for length in range(0, len(content) - 1, len(content) // 4):
        path.write_bytes(content[:length])
        assert "is damaged or no part" in made_again(spread, 2, attempt=length + 1)


def test_parts_of_other_options_are_not_mixed_in(clips: Callable[..., Path], tmp_path: Path) -> None:
    Spread(clips(**CLOSE_KEYS), tmp_path, crf=40).make_parts(2)
    assert "made with other options" in made_again(Spread(clips(**CLOSE_KEYS), tmp_path), 1, 2)


def test_parts_of_another_film_are_not_mixed_in(clips: Callable[..., Path], tmp_path: Path) -> None:
    Spread(clips(**CLOSE_KEYS), tmp_path).make_parts(2)
    other = clips(options={"g": "25"}, seconds=6)
    assert "another version of the film" in made_again(Spread(other, tmp_path), 1, 2)


def changed(change: dict[str, Any], entries: dict[str, bytes]) -> None:
    """Return a part as if another node had made it."""
    record = msgspec.json.decode(entries["part.json"])
    for name, value in change.items():
        (record["made"] if name in record["made"] else record)[name] = value
    entries["part.json"] = msgspec.json.encode(record)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"software": "PyAV 1.0"}, "made with other software: PyAV 1.0; here it is PyAV"),
        ({"encoder": "x"}, "another build of the encoder"),
        ({"fonts": "x"}, "other fonts"),
        ({"cuts": "x"}, "cut the film at other places"),
        ({"layout": 7}, "another version of tasktrail"),
        ({"part": 1}, "says that it is part 1 of 2"),
    ],
)
def test_a_node_with_other_software_is_never_mixed_in(
    change: dict[str, Any], told: str, clips: Callable[..., Path], tmp_path: Path
) -> None:
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    spread.make_parts(2)
    rewritten(part_file(spread.film, 2, 2), partial(changed, change))
    assert told in made_again(spread, 2)


def test_another_build_of_the_encoder_is_found_by_what_it_makes(
    clips: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    with monkeypatch.context() as other:
        other.setattr(
            "tasktrail.handlers.video.convert.library_encoder.steady_x264", lambda _width: {"x264-params": "subme=0"}
        )
        spread.make_parts(2)
    assert "another build of the encoder" in made_again(spread, 1, 2)


@pytest.mark.parametrize("error", [av.error.ArgumentError(22, "no"), ProgramFailedError("no")])
def test_a_film_whose_encoder_takes_no_trial_pictures_is_converted_all_the_same(
    error: Exception, clips: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> str:
        raise error

    monkeypatch.setattr(LibraryBackend, "stamp", refuse)
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    assert [encoded(context) for context in spread.make_parts(2)] == [[], []]
    assert "takes no trial pictures" in made_again(spread, 1, 2)


def test_a_file_that_took_the_place_of_a_part_is_made_again(clips: Callable[..., Path], tmp_path: Path) -> None:
    """The part's task has returned its hash, and the film has waited for it."""
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    told = {}
    for number in (1, 2):
        told[number] = result_of(run_handler(video_part, spread.part(number, 2)))
    own = spread.joined(2, dependencies={**told, 3: None, 4: {"part": 7}})
    assert result_of(run_handler(video_convert, own))["notes"] == []

    def foreign(entries: dict[str, bytes]) -> None:
        record = msgspec.json.decode(entries["part.json"])
        *_, segment = record["segments"]
        other = entries[f"segment-{record['segments'][0][0]:05}.mp4"]
        entries[f"segment-{segment[0]:05}.mp4"] = other
        segment[4:6] = [len(other), hashlib.sha256(other).hexdigest()]
        entries["part.json"] = msgspec.json.encode(record)

    rewritten(part_file(spread.film, 2, 2), foreign)
    assert "it is not what its task has made" in made_again(spread, 2, dependencies=told)


def test_a_part_gives_no_more_than_its_share(clips: Callable[..., Path], tmp_path: Path) -> None:
    """Nor more bytes than it declares."""
    spread = Spread(clips(**CLOSE_KEYS), tmp_path)
    spread.make_parts(2)
    first = part_file(spread.film, 1, 2)
    entries = entries_of(first)
    record = msgspec.json.decode(entries["part.json"])
    segment = record["segments"][0]
    record["segments"] += [[number, *segment[1:]] for number in range(50, 60)]
    entries |= {f"segment-{number:05}.mp4": entries[f"segment-{segment[0]:05}.mp4"] for number in range(50, 60)}
    entries["part.json"] = msgspec.json.encode(record)
    with zipfile.ZipFile(first, "w") as archive:
        for name, content in entries.items():
            packed = name == f"segment-{segment[0]:05}.mp4"
            archive.writestr(name, content, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)
    result = result_of(run_handler(video_convert, spread.joined(2)))
    assert result["notes"] == ["part 1 of 2 was damaged: 1 of its pieces were made again"]
    assert digest(spread.film) == digest(spread.plain())


@pytest.mark.slow
def test_what_decoders_refused_is_judged_against_the_whole_film(clips: Callable[..., Path], tmp_path: Path) -> None:
    """Also by a join that was killed, and takes only the last part: the numbers of the others are then unknown."""
    spread = Spread(clips(options={"g": "20"}, seconds=40), tmp_path, width=64)
    spread.make_parts(2)
    rewritten(part_file(spread.film, 2, 2), partial(changed, {"bad": 60, "good": 100}))
    first = msgspec.json.decode(entries_of(part_file(spread.film, 1, 2))["part.json"])
    killed = spread.joined(2, crash_after=len(first["segments"]))
    with pytest.raises(SimulatedCrash):
        run_handler(video_convert, killed)
    assert isinstance(run_handler(video_convert, killed.resumed()), Finished)
    rewritten(part_file(spread.film, 2, 2), partial(changed, {"bad": 600, "good": 100}))
    with pytest.raises(UndecodableError):
        run_handler(video_convert, spread.joined(2, attempt=5))


def test_a_trial_gives_the_same_each_time_and_something_else_for_each_encoder() -> None:
    pixels = PixelFormat(name="yuv420p")
    stamps = []
    for codec in ("h264", "h265", "vp9", "av1"):
        target = choose_target(VideoConvertOptions(video_codec=codec), Path("out.mkv"))
        backend = LibraryBackend(target)
        assert backend.stamp(target, pixels) == backend.stamp(target, pixels)
        stamps.append(backend.stamp(target, pixels))
    assert len(set(stamps)) == 4


# --- options, names, shares -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"quality": "xpsnr:40"},
        {"target_size": 100_000},
        {"video_bitrate": 100_000, "passes": 2},
        {"video_codec": "copy"},
    ],
)
def test_what_cannot_be_spread_is_refused_for_film_and_part(options: dict[str, Any], tmp_path: Path) -> None:
    spread = Spread(tmp_path / "in.mp4", tmp_path)
    spread._options = options
    spread.source.touch()
    for check, context in ((check_film, spread.joined(2)), (check_part, spread.part(1, 2))):
        with pytest.raises(InvalidOptions, match=r"has no parts|no effect"):
            check(context.job)


@pytest.mark.parametrize("name", ["out.mp4", "out.mp4.part-1-of-2.tasktrail", "out.mp4.part-02-of-3.tasktrail"])
def test_a_part_is_called_after_its_number(name: str, tmp_path: Path) -> None:
    options = VideoPartOptions(part=2, parts=3)
    job = Job(options=options, input_file=tmp_path / "in.mp4", output_file=tmp_path / name, input_size=1)
    with pytest.raises(InvalidPath, match="Part 2 of 3"):
        check_part(job)
    check_part(msgspec.structs.replace(job, output_file=part_file(tmp_path / "out.mp4", 2, 3)))


@pytest.mark.parametrize(("part", "parts"), [(3, 2), (1, None), (0, 2)])
def test_there_is_no_part_beyond_the_last(part: int, parts: int | None) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"part": part, "parts": parts}, VideoPartOptions)


def test_the_name_of_a_part_leads_to_the_film() -> None:
    for name in ("out.mp4", "a.part-1-of-2.tasktrail.mkv", "ü b.webm"):
        assert film_of(part_file(Path("/f") / name, 7, 12)) == Path("/f") / name
    assert film_of(Path("/f/out.mp4")) == Path("/f/out.mp4")


@given(
    lengths=st.lists(st.integers(1, 50), min_size=1, max_size=40),
    keyed=st.lists(st.booleans(), min_size=40, max_size=40),
    parts=st.integers(2, 12),
)
def test_shares_are_adjacent_whole_stretches_and_the_longest_is_as_short_as_can_be(
    lengths: list[int], keyed: list[bool], parts: int
) -> None:
    cuts = [sum(lengths[: number + 1]) for number in range(len(lengths))]
    plan = SegmentPlan(clock="pts", start=0, end=cuts[-1], step=10, cuts=tuple(cuts[:-1]))
    keyframes = [0, *(cut for cut, key in zip(cuts[:-1], keyed, strict=False) if key)]

    shares = shares_of(plan, keyframes, parts)

    assert len(shares) == parts
    assert [number for share in shares for number in share] == list(range(plan.count))
    begins = {stretch.number for stretch in stretches_of(plan, keyframes)}
    assert all(share[0] in begins for share in shares if share)
    sizes = [sum(lengths[begin:end]) for begin, end in pairwise([*sorted(begins), plan.count])]
    longest = max(sum(lengths[share.start : share.stop]) for share in shares)
    assert longest == best(tuple(sizes), parts)


def best(sizes: tuple[int, ...], parts: int) -> int:
    """Find it by trying all."""
    sums = [0]
    for size in sizes:
        sums.append(sums[-1] + size)
    row = [0.0, *[float("inf")] * len(sizes)]
    for _ in range(parts):
        row = [
            min((max(row[begin], sums[end] - sums[begin]) for begin in range(end + 1)), default=0.0)
            for end in range(len(sizes) + 1)
        ]
    return int(row[-1])


def test_the_fingerprint_of_a_conversion_says_nothing_of_how_it_is_spread() -> None:
    """Conversions begun before parts existed continue."""
    of_film = bytes_depend_on(VideoConvertOptions(crf=30, segments_at_once=2))
    assert of_film == bytes_depend_on(VideoPartOptions(crf=30, part=2, parts=3))
    assert {"parts", "part"}.isdisjoint(of_film)
    assert of_film["segments_at_once"] is None


@pytest.mark.parametrize("gop", [20, 100_000])
def test_a_join_may_take_what_a_plain_conversion_takes_and_a_part_its_share(gop: int, tmp_path: Path) -> None:
    """It may have to make everything: a film of one keyframe, or parts that are damaged or of other software."""
    spread = Spread(tmp_path / "in.mp4", tmp_path)
    spread.source.touch()
    video = msgspec.structs.replace(ASSUMED, duration=600.0, gop=float(gop), guessed=False)
    job, of_part = (
        msgspec.structs.replace(one.job, input_size=100_000_000) for one in (spread.joined(3), spread.part(1, 3))
    )
    alone = estimate_for(msgspec.structs.replace(job, options=msgspec.structs.replace(job.options, parts=None)), video)
    assert estimate_for(job, video) == alone
    part = estimate_part(of_part, video)
    assert part.memory == alone.memory
    share = 1 / 3 if gop == 20 else 1.0
    assert part.seconds == pytest.approx(alone.seconds * share, rel=0.01)
    assert part.temp == pytest.approx(alone.temp * share, rel=0.01)
