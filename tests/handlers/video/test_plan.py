"""The arithmetic of cutting and joining."""

import tracemalloc
from array import array
from collections import deque
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.handlers import Estimate
from tasktrail.handlers.video.convert.checkpoint import MAX_SEGMENTS, SegmentPlan, choose_cuts, step_for
from tasktrail.handlers.video.convert.estimate import estimate
from tasktrail.handlers.video.convert.options import VideoConvertOptions
from tasktrail.handlers.video.convert.segments import decoding_times, packet_times
from tasktrail.testing import job_for

STEP = 100


def plan(cuts: tuple[int, ...], end: int = 1000) -> SegmentPlan:
    return SegmentPlan(clock="pts", start=0, end=end, step=STEP, cuts=cuts)


@given(end=st.integers(0, 5000), keyframes=st.lists(st.integers(-50, 6000), max_size=60).map(sorted))
def test_cuts_leave_pieces_of_one_half_to_two_steps(end: int, keyframes: list[int]) -> None:
    edges = [0, *choose_cuts(0, end, STEP, keyframes), end]
    pieces = [after - before for before, after in pairwise(edges)]
    assert all(STEP <= piece <= 2 * STEP for piece in pieces[:-2])
    if len(pieces) > 1:
        assert min(pieces[-2:]) >= STEP * 3 // 8
        assert max(pieces[-2:]) <= 2 * STEP
    if not keyframes:
        assert pieces[-1] < 1.5 * STEP


def test_a_cut_is_put_on_a_near_keyframe_and_on_the_grid_where_there_is_none() -> None:
    assert choose_cuts(0, 600, STEP, [0, 90, 130, 500]) == (130, 230, 330, 500, 550)


def test_the_last_piece_is_cut_in_half_beside_a_keyframe_if_there_is_one() -> None:
    assert choose_cuts(0, 400, STEP, []) == (100, 200, 300, 350)
    assert choose_cuts(0, 400, STEP, [0, 100, 200, 300, 340]) == (100, 200, 300, 340)
    assert choose_cuts(0, 360, STEP, []) == (100, 200, 300), "60 are short enough"
    assert choose_cuts(0, 140, STEP, []) == (), "one piece stays one"


@given(cuts=st.lists(st.integers(1, 999), unique=True, max_size=20).map(sorted), moments=st.lists(st.integers(0, 5000)))
def test_segment_numbers_rise_with_time_and_change_only_at_cuts(cuts: list[int], moments: list[int]) -> None:
    cut = plan(tuple(cuts))
    numbers = [cut.segment_of(moment) for moment in sorted(moments)]
    assert numbers == sorted(numbers)
    assert all(cut.segment_of(moment) == number for number, moment in enumerate(cuts, 1))
    assert all(cut.segment_of(moment - 1) == number for number, moment in enumerate(cuts))


def test_a_source_that_goes_on_past_its_stated_end_is_still_cut() -> None:
    assert [plan((100, 200), end=300).segment_of(moment) for moment in (250, 399, 400, 1000)] == [2, 2, 3, 6]
    assert plan((), end=0).segment_of(10_000) == 50


@given(start=st.integers(-1000, 1000), length=st.integers(0, 10**12), wanted=st.integers(0, 10**6))
def test_there_are_never_too_many_segments(start: int, length: int, wanted: int) -> None:
    step = step_for(start, start + length, wanted)
    assert step >= max(1, wanted)
    assert len(choose_cuts(start, start + length, step, [])) < MAX_SEGMENTS


@given(st.lists(st.integers(-1000, 10**6), unique=True, min_size=1, max_size=50).flatmap(st.permutations))
def test_decoding_times_rise_and_never_come_after_presentation(presented: list[int]) -> None:
    decoded = decoding_times(presented)
    assert all(before < after for before, after in pairwise(decoded))
    assert all(early <= late for early, late in zip(decoded, presented, strict=True))


@given(st.lists(st.integers(1, 50), min_size=1, max_size=30).flatmap(st.permutations), st.data())
def test_the_times_of_pieces_are_those_of_the_whole(gaps: list[int], data: st.DataObject) -> None:
    moments = [sum(gaps[: number + 1]) for number in range(len(gaps))]
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(moments) - 1)), max_size=5)))
    edges = [0, *(cut for cut in cuts if cut < len(moments)), len(moments)]
    pieces = [data.draw(st.permutations(moments[begin:end])) for begin, end in pairwise(edges)]
    whole = [moment for piece in pieces for moment in piece]
    assert list(packet_times(pieces, 7)) == list(packet_times([whole], 7))
    assert [times.presented for times in packet_times(pieces, 7)] == whole
    shown = {times.presented: times.duration for times in packet_times(pieces, 7)}
    following = {moment: after - moment for moment, after in pairwise(moments)}
    assert shown == {**following, moments[-1]: 7, whole[-1]: 7}


def test_the_times_of_a_long_track_take_no_more_memory_than_those_of_a_short_one() -> None:
    piece = [3, 0, 1, 2, *range(4, 500)]

    def peak(count: int) -> int:
        pieces = [array("q", [500 * number + moment for moment in piece]) for number in range(count)]
        tracemalloc.start()
        try:
            deque(packet_times(pieces, 1), maxlen=0)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(2)
    assert min(peak(100) for _ in range(3)) < 1.5 * min(peak(5) for _ in range(3)), "others allocate now and then, too"


def test_decoding_times_of_a_track_without_reordering_are_its_presentation_times() -> None:
    assert decoding_times([5, 7, 12]) == [5, 7, 12]
    assert decoding_times([0, 20, 10, 30]) == [-10, 0, 10, 20]


@pytest.mark.parametrize("preset", ["ultrafast", "medium", "veryslow"])
def test_the_estimate_grows_with_the_input_and_the_picture(preset: str) -> None:
    def of(size: int, **options: Any) -> Estimate:
        chosen = msgspec.convert({"preset": preset, **options}, VideoConvertOptions)
        return estimate(job_for(chosen, "/in.mp4", "/out.mp4", size=size))

    half, whole, small = of(50_000_000), of(100_000_000), of(100_000_000, height=360, width=640)
    assert half.memory == whole.memory > small.memory
    assert half.seconds < whole.seconds > small.seconds
    assert half.temp < whole.temp
    assert whole.temp > 200_000_000
