"""The main promise, through all components: a service killed three times in the middle of a video loses little."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import av
import msgspec
import pytest

from tasktrail.api.reader import Reader
from tasktrail.events import Checkpointed, Recorded
from tasktrail.handlers import Finished
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.options import VideoConvertOptions
from tasktrail.testing import RecordingContext, run_handler

SUPPORT = Path(__file__).parent.parent / "support"
WITHIN = 60.0
OPTIONS = {"segment_seconds": 1, "preset": "slower"}


def make_video(path: Path, seconds: int) -> None:
    """Make a moving picture, by the library's own source."""
    pattern = f"testsrc2=size=480x270:rate=25:duration={seconds}"
    with av.open(pattern, format="lavfi") as source, av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=25, options={"g": "25", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 480, 270, "yuv420p"
        for frame in source.decode(video=0):
            for packet in stream.encode(frame.reformat(format="yuv420p")):
                target.mux(packet)
        for packet in stream.encode():
            target.mux(packet)


def times(path: Path) -> list[float]:
    """Return when each decoded frame is shown."""
    with av.open(str(path)) as container:
        return [float(frame.time) for frame in container.decode(video=0) if frame.time is not None]


def start(data: Path) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(
        [sys.executable, str(SUPPORT / "service_process.py"), str(data), "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(SUPPORT)},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b'"ready"\n'
    return process


def end(process: subprocess.Popen[bytes], *, kill: bool) -> None:
    assert process.stdin is not None
    assert process.stdout is not None
    if kill:
        process.send_signal(signal.SIGKILL)
    process.stdin.close()
    process.wait(WITHIN)
    process.stdout.close()


def wait_for(reader: Reader, condition: Any) -> None:
    """Follow the log from its beginning until the condition holds for a record."""
    deadline = time.monotonic() + WITHIN
    for record in reader.follow():
        if condition(record):
            return
        assert time.monotonic() < deadline
    pytest.fail("the log ended")


def _saved_in(attempt: int, record: Recorded) -> bool:
    return record.attempt == attempt and isinstance(record.event, Checkpointed)


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_conversion_killed_three_times_is_whole_and_redoes_no_durable_segment(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    source, output, data = tmp_path / "in.mp4", tmp_path / "out.mp4", tmp_path / "data"
    make_video(source, 30)
    process = start(data)
    assert process.stdin is not None
    command = {"command": "create_task", "type": "video_convert", "input_file": str(source), "output_file": str(output)}
    process.stdin.write(json.dumps({**command, "options": OPTIONS, "command_id": "one"}).encode() + b"\n")
    process.stdin.flush()
    for kill in range(1, 4):
        with Reader(data) as reader:
            wait_for(reader, partial(_saved_in, kill))
        time.sleep(rng.uniform(0, 0.15))  # anywhere in the next segment
        end(process, kill=True)
        process = start(data)
    with Reader(data) as reader:
        wait_for(reader, lambda record: type(record.event).__name__ in ("Completed", "Cancelled"))
        end(process, kill=False)
        task, events = reader.get_task(1), reader.events(1)
    story = [f"{record.recorded_at:%S.%f} {record.attempt} {type(record.event).__name__}" for record in events]
    assert (task.status, task.attempt) == ("completed", 4), (task.error, story)

    assert times(output) == times(uninterrupted(source, tmp_path))
    done = [record.event.checkpoint.processed_frames for record in events if isinstance(record.event, Checkpointed)]
    assert done == sorted(set(done)), "a durable segment was encoded again"


def uninterrupted(source: Path, folder: Path) -> Path:
    """Do the same conversion in one go, without a service."""
    work = folder / "work"
    work.mkdir()
    context = RecordingContext(
        msgspec.convert(OPTIONS, VideoConvertOptions),
        work_dir=work,
        input_file=source,
        output_file=folder / "whole.mp4",
    )
    assert isinstance(run_handler(video_convert, context), Finished)
    return context.output_file
