"""How long one film would take with more CPUs: a model fed with times measured here, and true times where they exist.

PYTHONPATH=tests/support python tests/bench/more_cores.py --minutes 1 --cores 1,2,4,16,64

The film is converted once on one CPU. The time of each piece of work goes into the model, which gives the pieces to the
given number of CPUs, in their order, as `video_convert` does. The start and the join always take one CPU. Python lets
one thread run at a time, so no film is done before all its frames have passed through it: the time of one frame there
is measured on pictures of 32 x 18 pixels, which cost hardly anything else. Where this machine has the CPUs, the
conversion is then run on that many, and ffmpeg beside it.
"""

import argparse
import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from heapq import heapreplace
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from harness import machine, seconds
from whole_films import FFMPEG, HOW, Films

from tasktrail.events import Checkpoint
from tasktrail.handlers import Finished
from tasktrail.handlers.contract import Room
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.estimate import estimate_for, segments_at_once
from tasktrail.handlers.video.convert.options import VideoConvertOptions
from tasktrail.handlers.video.source import video_info
from tasktrail.testing import RecordingContext, job_for, run_handler

HEIGHT = 720
REPEATED = 10
"""Minutes; longer films are modelled by repeating the times of a film of this length."""


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """The measurements on one CPU, in seconds."""

    start: float
    """Until the first piece of work begins."""
    pieces: tuple[float, ...]
    """The time of each piece, in order: sound, then segments."""
    join: float
    frames: int
    frame_in_python: float = 0.0
    """How long a frame keeps all other threads waiting."""

    def repeated(self, times: int) -> "Times":
        """Return the times of a film that is that many times as long. Its start reads a longer index, too."""
        return Times(
            start=self.start * times,
            pieces=self.pieces * times,
            join=self.join * times,
            frames=self.frames * times,
            frame_in_python=self.frame_in_python,
        )


def model(times: Times, at_once: int) -> float:
    """Return how long it takes with that many pieces at once, each on a CPU of its own."""
    free = [0.0] * at_once
    for piece in times.pieces:
        heapreplace(free, free[0] + piece)
    return times.start + max(*free, times.frames * times.frame_in_python) + times.join


class _Watch(RecordingContext[VideoConvertOptions]):
    """Notes when something happens."""

    began = 0.0
    worked = 0.0
    """When each piece of work was begun."""

    def check_stop(self) -> None:
        self.worked = self.worked or time.perf_counter()
        super().check_stop()

    def save_checkpoint(self, checkpoint: Checkpoint, *, progress: float | None = None, message: str = "") -> None:
        self.saved.append(time.perf_counter())
        super().save_checkpoint(checkpoint, progress=progress, message=message)

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.saved: list[float] = []


@contextmanager
def cpus(count: int) -> Iterator[None]:
    """Limit this process and its children to that many CPUs meanwhile."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def convert(film: Path, at_once: int, **options: Any) -> _Watch:
    """Convert in this process. Raises RuntimeError where it fails."""
    with tempfile.TemporaryDirectory(prefix="tasktrail-cores-") as folder:
        context = _Watch(
            VideoConvertOptions(segments_at_once=at_once, **options),
            work_dir=Path(folder, "work"),
            input_file=film,
            output_file=Path(folder, "out.mp4"),
        )
        context.began = time.perf_counter()
        outcome = run_handler(video_convert, context)
    if not isinstance(outcome, Finished):
        raise RuntimeError(  # noqa: TRY004 - it is no type that is wrong
            f"{film.name} was not converted: {outcome}"
        )
    return context


def measure(film: Path, **options: Any) -> Times:
    """Convert on one CPU, one piece after the other, and note how long each takes."""
    with cpus(1):
        context = convert(film, 1, **options)
    ended = time.perf_counter()
    moments = [context.worked, *context.saved]
    return Times(
        start=context.worked - context.began,
        pieces=tuple(after - before for before, after in pairwise(moments)),
        join=ended - context.saved[-1],
        frames=context.checkpoints[-1].processed_frames,
    )


def frame_in_python(folder: Path) -> float:
    """Return the seconds of a frame whose picture is so small that it costs nothing."""
    film = folder / "small.mp4"
    small = ["-f", "lavfi", "-i", "testsrc2=size=64x36:rate=25:duration=40", "-c:v", "libx264", "-g", "50"]
    subprocess.run([*FFMPEG, *small, "-preset", "ultrafast", str(film)], check=True)
    times = measure(film, width=32, height=18, preset="ultrafast")
    return sum(times.pieces) / times.frames


def ffmpeg(film: Path) -> float:
    """Do the same by ffmpeg, which chooses its number of threads."""
    with tempfile.TemporaryDirectory(prefix="tasktrail-cores-") as folder:
        line = [*FFMPEG, "-i", str(film), *HOW, str(Path(folder, "out.mp4"))]
        return seconds(partial(subprocess.run, line, check=True))


def reserved(film: Path, cores: int) -> tuple[int, float]:
    """Return the segments at once on that many CPUs, and the memory that is reserved for them, in GB."""
    job = job_for(VideoConvertOptions(height=HEIGHT), film, "out.mp4", room=Room(cores))
    video = video_info(film)
    return segments_at_once(job, video), (estimate_for(job, video).memory or 0) / 1e9


def tell(films: Films, minutes: int, cores: Sequence[int], in_python: float) -> None:
    """Print a table of one film."""
    times_over = max(1, minutes // REPEATED)
    film = films.of(60 * min(minutes, REPEATED))
    times = msgspec.structs.replace(measure(film, height=HEIGHT), frame_in_python=in_python)
    whole = times.repeated(times_over)
    print(f"\nOne film of {minutes} min, {HEIGHT}p, {whole.frames:,} frames in {len(whole.pieces)} pieces", flush=True)
    print(
        f"  measured on one CPU: start {times.start:.2f} s, pieces {sum(times.pieces):.1f} s, join {times.join:.2f} s"
    )
    print(f"  {'CPUs':>6}{'at once':>9}{'memory':>9}{'model':>10}{'speed':>8}{'measured':>10}{'ffmpeg':>10}")
    one = model(whole, 1)
    for count in cores:
        at_once, memory = reserved(film, count)
        expected = model(whole, max(1, min(at_once * times_over, count)))
        true, beside = ("", "")
        if times_over == 1 and count <= len(os.sched_getaffinity(0)):
            with cpus(count):
                true = f"{seconds(partial(convert, film, at_once, height=HEIGHT)):.1f} s"
                beside = f"{ffmpeg(film):.1f} s"
        row = f"{count:>6}{at_once:>9}{memory:>6.1f} GB{expected:>8.1f} s{one / expected:>7.1f}x{true:>10}{beside:>10}"
        print(f"  {row}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", default="1", help="lengths of films: 1,10,60")
    parser.add_argument("--cores", default="1,2,4,16,64")
    given = parser.parse_args(arguments)
    print(machine())
    films = Films()
    with tempfile.TemporaryDirectory(prefix="tasktrail-cores-") as folder:
        in_python = frame_in_python(Path(folder))
    print(f"a frame keeps Python for {1000 * in_python:.2f} ms at most")
    for minutes in given.minutes.split(","):
        tell(films, int(minutes), [int(count) for count in given.cores.split(",")], in_python)
    print(machine())


if __name__ == "__main__":
    main()
