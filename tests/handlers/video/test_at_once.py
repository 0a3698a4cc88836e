"""However many segments are encoded at once, the file and the cost of a kill are the same."""

import shutil
import threading
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from conversions import SOURCES, at_checkpoint, digest, saved_by

from tasktrail.handlers import Finished, Stopped
from tasktrail.handlers.contract import Room
from tasktrail.handlers.side_by_side import TickFunction, Work, side_by_side
from tasktrail.handlers.video.convert.checkpoint import (
    FinishedPart,
    SavedConversion,
    Segment,
    SegmentPlan,
    Stretch,
    stretches_of,
)
from tasktrail.handlers.video.frames import frames_after
from tasktrail.testing import RecordingContext, SimulatedCrash

CLOSE_KEYS: dict[str, Any] = {"options": {"g": "20", "bf": "3"}, "seconds": 6}


@pytest.mark.parametrize("codec", ["h264", "h265", "vp9", "av1"])
def test_the_file_is_the_same_whatever_is_encoded_at_once(
    codec: str, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = clips(**CLOSE_KEYS)
    made = set()
    for at_once in (1, 2, 3, 8):
        context = prepare(source, f"{at_once}.mkv", video_codec=codec, segments_at_once=at_once, preset="ultrafast")
        assert isinstance(convert(context), Finished)
        assert saved_by(context).plan.cuts
        made.add(digest(context.output_file))
        shutil.rmtree(context.work_dir)
    assert len(made) == 1


@pytest.mark.parametrize("name", SOURCES)
def test_every_kind_of_source_gives_the_same_file_with_three_at_once(
    name: str, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = clips(**SOURCES[name])
    one = prepare(source, "one.mp4", segment_seconds=0.8, segments_at_once=1)
    convert(one)
    shutil.rmtree(one.work_dir)
    three = prepare(source, "three.mp4", segment_seconds=0.8, segments_at_once=3)
    convert(three)
    assert digest(one.output_file) == digest(three.output_file)
    assert one.checkpoints[-1].processed_frames == three.checkpoints[-1].processed_frames


def test_the_ffmpeg_program_encodes_side_by_side_too(
    *,
    clips: Callable[..., Path],
    install: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    look: Callable[..., Any],
) -> None:
    install()
    source = clips(**CLOSE_KEYS)
    times = []
    for at_once in (1, 3):
        context = prepare(source, f"{at_once}.mp4", backend="ffmpeg", segments_at_once=at_once)
        assert isinstance(convert(context), Finished)
        times.append(look(context.output_file).times)
        shutil.rmtree(context.work_dir)
    assert times[0] == times[1]
    assert len(times[0]) == 150


def test_a_kill_at_any_checkpoint_costs_what_was_at_work_and_nothing_else(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    source = clips(**CLOSE_KEYS)
    whole = prepare(source, "whole.mp4", segments_at_once=3)
    convert(whole)
    for number in range(len(whole.checkpoints)):
        resumed = at_checkpoint(whole, number, tmp_path / f"from{number}")
        kept = {name: (resumed.work_dir / name).stat().st_mtime_ns for name in saved_by(resumed).files}
        assert isinstance(convert(resumed), Finished)
        assert digest(resumed.output_file) == digest(whole.output_file)
        assert len(resumed.checkpoints) == len(whole.checkpoints) - number - 1
        assert {name: (resumed.work_dir / name).stat().st_mtime_ns for name in kept} == kept
        assert not list(resumed.work_dir.glob("*.part"))


def test_a_crash_and_a_stop_leave_no_thread_and_no_half_segment(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    before = set(threading.enumerate())
    source = clips(**CLOSE_KEYS)
    with pytest.raises(SimulatedCrash):
        convert(prepare(source, crash_after=2, segments_at_once=3))
    stopped = prepare(source, stop_after=20, segments_at_once=3)
    assert isinstance(convert(stopped), Stopped)
    # The package av leaves a thread running that Python does not know by a name of ours.
    assert not [left for left in set(threading.enumerate()) - before if not left.name.startswith("Dummy-")]
    assert not list(stopped.work_dir.glob("*.part"))


def test_segments_take_the_cpus_that_there_are_as_far_as_memory_goes(
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def noted(works: Any, at_once: int, tick: TickFunction, waits: Any, **now: Any) -> Generator[Any, None, None]:
        asked.append(at_once)
        return side_by_side(works, at_once, tick, waits, **now)

    monkeypatch.setattr("tasktrail.handlers.video.convert.making.side_by_side", noted)
    source = clips(**CLOSE_KEYS)
    for room in (Room(), Room(4), Room(64), Room(4, memory=1)):
        context = prepare(source, f"{room.cores}-{room.memory}.mp4")
        context.room = room
        convert(context)
        shutil.rmtree(context.work_dir)
    assert asked == [1, 4, 6, 1]


@pytest.mark.parametrize("cores", [1, 2])
def test_the_last_stretch_is_read_on_its_own_only_where_a_cpu_would_wait_for_it(
    cores: int,
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    decoded: list[int] = []

    def noted(source: Any, moment: int | None, reading: Any) -> Iterator[Any]:
        place, usual = len(decoded), reading.tick
        decoded.append(0)

        def tick() -> None:
            decoded[place] += 1
            usual()

        reading.tick = tick
        yield from frames_after(source, moment, reading)

    monkeypatch.setattr("tasktrail.handlers.video.convert.pacing.frames_after", noted)
    source = clips(options={"g": "50", "bf": "3"}, seconds=6)
    plain = prepare(source, "plain.mp4", segment_seconds=1, segments_at_once=1)
    convert(plain)
    shutil.rmtree(plain.work_dir)
    decoded.clear()
    shared = prepare(source, "shared.mp4", segment_seconds=1, segments_at_once=2)
    shared.cores = lambda: cores
    convert(shared)
    assert digest(shared.output_file) == digest(plain.output_file)
    assert len(decoded) == 2 + cores
    assert (sum(decoded) > 160) == (cores > 1), "frames before the last stretch are decoded a second time"


# --- the stretches ---


def segment(number: int, last: int) -> Segment:
    return Segment(number, 0, last, 1, 1, "")


PLAN = SegmentPlan(clock="pts", start=0, end=50, step=10, cuts=(10, 20, 30, 40))


def test_a_stretch_begins_where_a_keyframe_is_or_where_something_is_done() -> None:
    assert stretches_of(PLAN, ()) == [Stretch(0, None, None)]
    assert stretches_of(PLAN, (0, 10, 20, 30, 40)) == [
        Stretch(0, None, 9),
        Stretch(1, 9, 19),
        Stretch(2, 19, 29),
        Stretch(3, 29, 39),
        Stretch(4, 39, None),
    ]
    last = Stretch(4, 39, None)  # read separately, though no keyframe begins it
    assert stretches_of(PLAN, (0, 20)) == [Stretch(0, None, 19), Stretch(2, 19, 39), last]
    assert stretches_of(PLAN, (0, 10, 20, 30, 40), apart=False) == [Stretch(0, None, None)]
    done = [segment(1, 19), segment(4, 48)]
    assert stretches_of(PLAN, (0, 10, 20), done, apart=False) == [
        Stretch(0, None, 9),
        Stretch(2, 19, 39),
        Stretch(4, 48, None),
    ]
    assert stretches_of(PLAN, (0, 20), done) == [Stretch(0, None, 9), Stretch(2, 19, 39), Stretch(4, 48, None)]


def test_what_follows_on_a_lost_segment_behind_the_last_cut_is_made_again(tmp_path: Path) -> None:
    saved = SavedConversion(fingerprint="", plan=PLAN)
    for number in (3, 4, 5, 6):
        (tmp_path / f"segment-{number:05}.mp4").write_bytes(b"")
        empty = Segment(number, 0, 0, 1, 0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")
        saved = saved.after(FinishedPart(segment=empty))
    assert saved.intact(tmp_path) == saved
    (tmp_path / "segment-00005.mp4").unlink()
    assert [one.number for one in saved.intact(tmp_path).segments] == [3, 4]


# --- side by side ---


def counting(name: str, count: int) -> Work[str]:
    def work(tick: TickFunction) -> Generator[str, None, None]:
        for number in range(count):
            tick()
            yield f"{name}{number}"

    return work


def failing(tick: TickFunction) -> Generator[str, None, None]:
    tick()
    yield "once"
    raise KeyError("broken")


def endless(ended: threading.Event) -> Work[str]:
    def work(tick: TickFunction) -> Generator[str, None, None]:
        try:
            while True:
                tick()
                yield "again"
        finally:
            ended.set()

    return work


@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_each_work_is_done_once_and_each_in_its_own_order(at_once: int) -> None:
    said = list(side_by_side([counting(name, 50) for name in "abcd"], at_once, lambda: None))
    assert len(said) == 200
    for name in "abcd":
        assert [word for word in said if word[0] == name] == [f"{name}{number}" for number in range(50)]


def test_the_first_error_ends_the_others_and_is_raised() -> None:
    ended = threading.Event()
    with pytest.raises(KeyError, match="broken"):
        list(side_by_side([endless(ended), failing], 2, lambda: None))
    assert ended.is_set()


def test_what_the_tick_raises_ends_all() -> None:
    ended = [threading.Event(), threading.Event()]
    calls = iter(range(100))

    def tick() -> None:
        if next(calls) == 20:
            raise TimeoutError

    with pytest.raises(TimeoutError):
        list(side_by_side([endless(one) for one in ended], 2, tick))
    assert all(one.is_set() for one in ended)


def test_a_caller_who_stops_listening_ends_all() -> None:
    ended = [threading.Event(), threading.Event()]
    steps = side_by_side([endless(one) for one in ended], 2, lambda: None)
    assert next(steps) == "again"
    steps.close()
    assert all(one.is_set() for one in ended)


def test_what_is_finished_does_not_pile_up_while_the_caller_is_slow() -> None:
    """Otherwise a kill would lose all of it: nothing is saved before the caller has it."""
    made: list[str] = []
    too_many = threading.Event()

    def work(tick: TickFunction) -> Generator[str, None, None]:
        for number in range(10):
            tick()
            made.append(str(number))
            if len(made) > 3 + kept:
                too_many.set()
            yield str(number)

    kept = 0
    for _ in side_by_side([work, work, work], 3, lambda: None, lambda _step: True):
        if not kept:
            assert not too_many.wait(0.2)
        kept += 1
    assert kept == 30
    assert not too_many.is_set()


def meeting(name: str, others: set[str]) -> Work[str]:
    """Wait until another one has begun."""

    def work(tick: TickFunction) -> Generator[str, None, None]:
        others.add(name)
        while len(others) == 1:
            tick()
            yield "alone"
        yield "met"

    return work


def test_works_begin_as_there_is_room_for_them() -> None:
    room, met = [1], set[str]()
    works = [counting("a", 20), counting("b", 20), meeting("c", met), meeting("d", met)]
    works += [counting("e", 20), counting("f", 20)]
    said = []
    for step in side_by_side(works, 2, lambda: None, lambda _step: True, now=lambda: room[0]):
        if step == "b19":
            room[0] = 2
        elif step == "met":
            room[0] = 0
        said.append(step)
    one_by_one = [f"{name}{number}" for name in "abef" for number in range(20)]
    assert [step for step in said if step not in ("alone", "met")] == one_by_one
    assert said.count("met") == 2


def test_a_recording_context_has_one_cpu(tmp_path: Path) -> None:
    assert RecordingContext(None, work_dir=tmp_path).room == Room(1)
