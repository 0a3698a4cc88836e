"""Frames travel whole through a worker's pipes, and other bytes are noticed."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from threading import Event
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tasktrail.events import Checkpoint
from tasktrail.events.reports import (
    AttemptBeat,
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
    Begun,
    CoresChanged,
    FrameBuffer,
    GarbageFrame,
    Kept,
    Look,
    Retiring,
    ServiceGone,
    Setup,
    Withdraw,
    Withdrawn,
    WorkerChannel,
    WorkerReady,
    encode_frame,
    worker_order_decoder,
    worker_report_decoder,
)
from tasktrail.handlers.process.remote_files import RemoteFiles
from tasktrail.handlers.process.sandbox import Sandbox

ORDERS = [
    Setup({"noop": "m:f"}, 5),
    Run(1, 2, "noop", "in", "out", {"a": [1]}, Checkpoint(data={"x": 1}), "work"),
    Run(1, 2, "noop", "", "", {}, None, "work", overwrite=True, grace=2.5),
    Stop(1, 2),
    Grant(1, 2),
    Saved(1, 2),
    CoresChanged(1, 2, 3),
    Begun(1, 2),
    Look(),
]
REPORTS = [
    WorkerReady(7),
    AttemptProgressed(1, 2, 50.0, "half"),
    AttemptCheckpointed(1, 2, Checkpoint(temp_files=("a",)), 50.0, "half"),
    PublishWanted(1, 2),
    AttemptEnded(1, 2, "completed", {"size": 3}, "done", "", "", 4096, 0.5),
    Retiring(AttemptEnded(1, 2, "failed", error="x"), "memory"),
    Kept("noop"),
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
        *("begun", "capacity", "checkpointed", "cores", "ended", "exited", "grant", "kept", "look"),
        *("progressed", "publish"),
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


RUN = Run(1, 2, "t", "", "", {}, None, "", grace=0.02)


class Service:
    """The other ends of the pipes."""

    def __init__(self, on_stop: Callable[[], None] = lambda: None, *, listens: bool = True) -> None:
        job, self.job = os.pipe()
        control, self.control = os.pipe()
        self.report, report = os.pipe()
        self.channel = WorkerChannel(job, control, report)
        self.order(Setup({}, 0))
        self.channel.start()
        if listens:
            self.channel.listen(on_stop)

    def order(self, *orders: Any) -> None:
        os.write(self.job, b"".join(map(encode_frame, orders)))

    def stop(self, key: tuple[int, int], *, heard: Callable[[], bool]) -> None:
        os.write(self.control, encode_frame(Stop(*key)))
        self.order(Stop(*key))
        while not heard():
            Event().wait(0.005)  # not a busy loop: the service needs the CPU


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    yield made
    os.close(made.control)


@pytest.fixture
def channel(service: Service) -> WorkerChannel:
    """A channel in the middle of attempt (1, 2)."""
    service.order(RUN)
    assert service.channel.next_run() == RUN
    return service.channel


def test_stale_orders_between_runs_are_skipped(service: Service) -> None:
    service.order(Stop(9, 9), Grant(9, 9), Saved(9, 9), RUN)

    assert service.channel.next_run() == RUN
    assert not service.channel.stop_wanted()


def test_only_the_answer_to_this_attempt_counts(service: Service, channel: WorkerChannel) -> None:
    service.order(Saved(1, 1), Grant(1, 2), Saved(1, 2), Grant(9, 2), Grant(1, 2))

    assert channel.saved()
    assert channel.granted()
    service.order(Run(5, 1, "t", "", "", {}, None, ""))
    assert channel.next_run().task_id == 5


def test_a_stop_is_heard_while_the_handler_works(service: Service, channel: WorkerChannel) -> None:
    service.stop((1, 2), heard=channel.stop_wanted)

    assert not channel.granted()


def test_how_many_cpus_there_are_is_heard_while_the_handler_works_and_before_it(service: Service) -> None:
    os.write(service.control, encode_frame(CoresChanged(1, 2, 3)) + encode_frame(Stop(1, 1)))
    service.order(replace(RUN, cores=8))
    channel = service.channel
    channel.next_run()
    while channel.cores() != 3:
        Event().wait(0.005)
    service.order(Run(5, 1, "t", "", "", {}, None, "", cores=4))
    channel.next_run()
    assert channel.cores() == 4


def test_the_answer_to_another_attempt_is_no_answer(service: Service, channel: WorkerChannel) -> None:
    service.stop((1, 2), heard=channel.stop_wanted)
    service.order(Saved(1, 1), Grant(9, 2))

    assert not channel.saved()


def test_a_grant_behind_a_stop_is_none(service: Service, channel: WorkerChannel) -> None:
    service.order(Stop(1, 1), Stop(1, 2), Grant(1, 2))

    assert not channel.granted()


def test_a_grant_before_a_stop_holds(service: Service, channel: WorkerChannel) -> None:
    service.order(Grant(1, 2), Stop(1, 2))

    assert channel.granted()


def test_after_a_stop_saving_goes_on_for_part_of_the_grace(service: Service, channel: WorkerChannel) -> None:
    service.stop((1, 2), heard=channel.stop_wanted)
    service.order(Saved(1, 2))

    assert channel.saved()
    assert not channel.saved()


def test_the_stop_of_an_earlier_attempt_is_forgotten(service: Service, channel: WorkerChannel) -> None:
    service.stop((1, 2), heard=channel.stop_wanted)
    service.order(Run(1, 3, "t", "", "", {}, None, ""))

    assert channel.next_run().attempt == 3
    assert not channel.stop_wanted()


def given_ahead(service: Service, last: int) -> None:
    service.order(*(Run(number, 1, "t", "", "", {}, None, "") for number in range(1, last + 1)))


def answer_of(service: Service, asked: int) -> Withdrawn:
    os.write(service.control, encode_frame(Withdraw(asked)))
    (answer,) = FrameBuffer(worker_report_decoder).feed(os.read(service.report, 65536))
    assert isinstance(answer, Withdrawn)
    return answer


def test_runs_that_are_withdrawn_do_not_begin_and_those_after_them_do(service: Service) -> None:
    given_ahead(service, 3)
    assert service.channel.next_run().task_id == 1
    assert answer_of(service, 3) == Withdrawn(3, 1)
    service.order(Run(4, 1, "t", "", "", {}, None, ""))
    assert service.channel.next_run().task_id == 4
    assert answer_of(service, 3) == Withdrawn(3, 4)


def test_runs_are_withdrawn_before_they_are_read(service: Service) -> None:
    assert answer_of(service, 2) == Withdrawn(2, 0)
    given_ahead(service, 3)
    assert service.channel.next_run().task_id == 3


def test_runs_come_from_the_worker_and_from_the_service(service: Service) -> None:
    direct_end, direct = os.pipe()
    channel = WorkerChannel(service.channel.ends()[0], service.channel.ends()[1], 1, direct_end)

    for number in range(1, 5):
        run = replace(RUN, task_id=number)
        if number % 2:
            os.write(direct, encode_frame(run))
        else:
            service.order(Saved(number - 1, 2), run)
        assert channel.next_run() == run

    os.close(direct)
    with pytest.raises(ServiceGone):
        channel.next_run()
    os.close(direct_end)


def test_a_worker_is_told_what_has_begun_without_it(service: Service) -> None:
    service.order(Begun(7, 1), Stop(7, 1))

    assert service.channel.next_run() == Begun(7, 1)
    assert service.channel.orders(()) == [Stop(7, 1)]
    assert service.channel.stop_wanted()


def test_answers_are_found_behind_runs_that_were_given_ahead(service: Service) -> None:
    given_ahead(service, 2)
    service.channel.next_run()
    service.order(Run(3, 1, "t", "", "", {}, None, ""), Saved(1, 1), Run(4, 1, "t", "", "", {}, None, ""), Grant(1, 1))
    assert service.channel.saved()
    assert service.channel.granted()
    assert [service.channel.next_run().task_id for _ in range(3)] == [2, 3, 4]


def test_a_stop_that_one_before_has_not_read_does_not_hide_that_of_this_one(service: Service) -> None:
    given_ahead(service, 2)
    service.channel.next_run()
    service.stop((1, 1), heard=service.channel.stop_wanted)
    service.channel.next_run()
    service.order(Saved(2, 1))
    os.write(service.control, encode_frame(Stop(2, 1)))
    while not service.channel.stop_wanted():
        Event().wait(0.005)
    assert service.channel.saved()
    assert service.channel.stop_wanted()


def test_what_follows_a_stop_is_done_for_the_attempt_that_it_is_about_alone() -> None:
    calls = threading.Event()
    service = Service(calls.set)
    given_ahead(service, 1)
    service.channel.next_run()
    os.write(service.control, encode_frame(Stop(9, 1)) + encode_frame(CoresChanged(1, 1, 5)))
    while service.channel.cores() != 5:
        Event().wait(0.005)
    assert not calls.is_set()
    os.write(service.control, encode_frame(Stop(1, 1)))
    assert calls.wait(10)


def test_a_worker_that_does_not_listen_is_heard_and_hears_while_it_moves_bytes() -> None:
    service, threads = Service(listens=False), threading.active_count()
    service.order(Run(1, 1, "t", "", "", {}, None, "", beat=0.001))
    service.channel.next_run()
    reader, reports = FrameBuffer(worker_report_decoder), []
    os.write(service.control, encode_frame(Withdraw(3)) + encode_frame(CoresChanged(1, 1, 5)))

    with service.channel.listening():
        while AttemptBeat(1, 1) not in reports or Withdrawn(3, 1) not in reports:
            reports += reader.feed(os.read(service.report, 65536))
    os.write(service.control, encode_frame(Stop(1, 1)))

    assert service.channel.cores() == 5
    assert threading.active_count() == threads
    assert not service.channel.stop_wanted(), "nobody listens any more, so that it can be forked"
    os.close(service.control)


def test_a_worker_that_may_have_no_thread_listens_the_next_time_and_keeps_the_end_of_its_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service, threads = Service(listens=False), threading.active_count()

    def none_more(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr("threading.Thread.start", none_more)
        with pytest.raises(RuntimeError), service.channel.listening():
            pass
        with RemoteFiles(service.channel, Sandbox(), -1) as away:
            away._folder = tmp_path / "elsewhere"
    with service.channel.listening():
        assert threading.active_count() == threads + 1


def test_a_call_for_later_is_made_by_the_other_thread(channel: WorkerChannel) -> None:
    called = threading.Event()

    channel.later(0.01, called.set)

    assert called.wait(10)


def test_large_reports_are_written_whole(service: Service, channel: WorkerChannel) -> None:
    report = AttemptProgressed(1, 2, 5.0, "x" * 300_000)
    writer = threading.Thread(target=channel.send, args=(report,))
    writer.start()

    buffer = FrameBuffer(worker_report_decoder)
    frames: list[Any] = []
    while not frames:
        frames = buffer.feed(os.read(service.report, 65536))

    writer.join()
    assert frames == [report]


def test_the_end_of_the_service_is_noticed(service: Service, channel: WorkerChannel) -> None:
    os.close(service.job)

    with pytest.raises(ServiceGone):
        channel.granted()
    with pytest.raises(ServiceGone):
        channel.next_run()


def test_a_beat_is_the_last_thing_nobody_hears_after_the_end(service: Service) -> None:
    """Heartbeats come from a separate thread; the end stops them before it is sent."""
    frames, buffer = [], FrameBuffer(worker_report_decoder)
    for attempt in range(1, 30):
        service.order(Run(1, attempt, "t", "", "", {}, None, "", beat=0.0005))
        service.channel.next_run()
        while AttemptBeat(1, attempt) not in frames:
            frames += buffer.feed(os.read(service.report, 65536))
        service.channel.send(AttemptEnded(1, attempt, "completed"))
        while AttemptEnded(1, attempt, "completed") not in frames:
            frames += buffer.feed(os.read(service.report, 65536))
    ended = [frame.attempt for frame in frames if isinstance(frame, AttemptEnded)]
    assert ended == list(range(1, 30))
    assert [frame.attempt for frame in frames] == sorted(frame.attempt for frame in frames)
    assert all(isinstance(before, AttemptBeat) for before, frame in pairwise(frames) if isinstance(frame, AttemptEnded))


def test_no_beat_comes_that_is_not_wanted(service: Service, channel: WorkerChannel) -> None:
    channel.send(AttemptProgressed(1, 2, 1.0))
    channel.send(AttemptEnded(1, 2, "completed"))
    frames = FrameBuffer(worker_report_decoder).feed(os.read(service.report, 65536))
    assert [type(frame) for frame in frames] == [AttemptProgressed, AttemptEnded]
