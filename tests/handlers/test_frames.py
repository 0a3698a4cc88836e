"""Frames travel whole, and what is no frame is noticed."""

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.events import Checkpoint
from tasktrail.events.reports import (
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProgressed,
    CapacityChanged,
    Grant,
    PublishWanted,
    Run,
    Saved,
    Stop,
    WorkerGone,
)
from tasktrail.handlers.process.channel import (
    MAX_REPORT,
    FrameBuffer,
    GarbageFrame,
    Retiring,
    Setup,
    WorkerReady,
    encode_frame,
    worker_order_decoder,
    worker_report_decoder,
)

ORDERS = [
    Setup({"noop": "m:f"}, 5),
    Run(1, 2, "noop", "in", "out", {"a": [1]}, Checkpoint(data={"x": 1}), "work"),
    Run(1, 2, "noop", "", "", {}, None, "work", overwrite=True, grace=2.5),
    Stop(1, 2),
    Grant(1, 2),
    Saved(1, 2),
]
REPORTS = [
    WorkerReady(7),
    AttemptProgressed(1, 2, 50.0, "half"),
    AttemptCheckpointed(1, 2, Checkpoint(temp_files=("a",)), 50.0, "half"),
    PublishWanted(1, 2),
    AttemptEnded(1, 2, "completed", {"size": 3}, "done", "", "", 4096, 0.5),
    Retiring(AttemptEnded(1, 2, "failed", error="x"), "memory"),
]


@given(st.integers(min_value=1, max_value=70))
def test_frames_survive_being_cut_anywhere(size: int) -> None:
    stream = b"".join(map(encode_frame, ORDERS))
    buffer = FrameBuffer(worker_order_decoder)

    seen = [frame for start in range(0, len(stream), size) for frame in buffer.feed(stream[start : start + size])]

    assert seen == ORDERS


def test_reports_come_out_as_they_went_in() -> None:
    assert FrameBuffer(worker_report_decoder).feed(b"".join(map(encode_frame, REPORTS))) == REPORTS


@pytest.mark.parametrize("frame", [*ORDERS, *REPORTS, CapacityChanged(2), WorkerGone(1, -9, "why")])
def test_the_collector_need_not_look_at_frames(frame: msgspec.Struct) -> None:
    assert frame.__struct_config__.gc is False
    assert frame.__struct_config__.frozen is True


def test_tags_are_what_older_workers_say() -> None:
    kinds: list[Any] = [*ORDERS, *REPORTS, CapacityChanged(2), WorkerGone(1, -9, "why")]

    assert sorted({str(kind.__struct_config__.tag) for kind in kinds}) == [
        *("capacity", "checkpointed", "ended", "exited", "grant", "progressed", "publish"),
        *("ready", "retiring", "run", "saved", "setup", "stop"),
    ]


@pytest.mark.parametrize(
    "body",
    [
        b"\xc1",
        b"",
        b"\x92\xa4stop\x01",
        b"\x93\xa5grant\x01\x01",
        b"\x95\xaaprogressed\x01\x01\xa1x\xa0",
        b"\x91" * 5000,
        b"\x95\xaaprogressed\x01\x01\x01\xa2\xff\xfe",
    ],
)
def test_garbage_is_noticed(body: bytes) -> None:
    with pytest.raises(GarbageFrame):
        FrameBuffer(worker_report_decoder).feed(len(body).to_bytes(4, "little") + body)


def test_a_report_that_is_too_long_is_garbage_before_it_has_come() -> None:
    with pytest.raises(GarbageFrame, match="1048577 bytes"):
        FrameBuffer(worker_report_decoder, MAX_REPORT).feed((MAX_REPORT + 1).to_bytes(4, "little"))


@given(st.binary(max_size=200))
def test_any_bytes_are_frames_or_garbage_and_nothing_else(noise: bytes) -> None:
    buffer = FrameBuffer(worker_report_decoder, MAX_REPORT)
    with suppress(GarbageFrame):
        assert all(isinstance(frame, msgspec.Struct) for frame in buffer.feed(noise))
