"""How long one film takes over several nodes: predicted from one node's run, and measured beside it.

Each node is a Ray node on this machine, with its own temp folder and a bounded share of the CPU, so that each of
several nodes has as much as a single one. First each node converts the whole film, all at once; the prediction is made
from these times. Then they share one film. Needs root, for the bounds. Run it on a quiet machine, with `make
spread-model`.
"""

import argparse
import hashlib
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.video.frame import PictureType
from ray_head import RayHead
from ray_nodes import RayNode

from tasktrail import Config, TaskService
from tasktrail.events import Checkpointed, Completed, Created, Progressed, Started
from tasktrail.handlers.video.convert import run as conversion
from tasktrail.handlers.video.convert.checkpoint import shares_of
from tasktrail.handlers.video.convert.options import VideoConvertOptions
from tasktrail.testing import RecordingContext

TAKEN = 0.03
"""Seconds to copy a segment of a part, to make it durable and to record its checkpoint."""
_TOLERATED = 0.15


class OneNode(NamedTuple):
    """The duration of a conversion by one task, in seconds."""

    start: float
    """From the start of its attempt to its first report."""
    picture: float
    """From there to the last finished segment."""
    join: float
    """From there to the end."""
    segments: int

    @property
    def whole(self) -> float:
        return self.start + self.picture + self.join


def predicted(one: OneNode, share: float) -> float:
    """Return the seconds of the film over such nodes, the busiest of which makes this share of the picture, 0 to 1.

    The parts start at once, and end with the longest share. Then the joining task starts, takes over their pieces, and
    does what a single task does at its end.
    """
    return one.start + share * one.picture + one.start + TAKEN * one.segments + one.join


def longest_share(source: Path, options: dict[str, Any], parts: int, folder: Path) -> float:
    """Return the longest share of the picture, as the tasks themselves will cut it."""
    given = VideoConvertOptions(**options)
    context = RecordingContext(given, work_dir=folder / "look", input_file=source, output_file=folder / "look.mp4")
    looked = conversion._conversion(context)
    plan = looked._saved.plan
    shares = [share for share in shares_of(plan, looked._source.keyframes, parts) if share]
    return max(plan.edges(share[-1])[1] - plan.edges(share[0])[0] for share in shares) / (plan.end - plan.start)


def make_film(path: Path, seconds: int, size: str) -> None:
    """Make a film with a keyframe every 2 s."""
    width, height = map(int, size.split("x"))
    with (
        av.open(f"testsrc2=size={size}:rate=25:duration={seconds}", format="lavfi") as test,
        av.open(f"sine=frequency=440:sample_rate=48000:duration={seconds}", format="lavfi") as tone,
        av.open(str(path), "w") as film,
    ):
        picture: Any = film.add_stream("libx264", rate=25, options={"g": "50", "preset": "ultrafast", "crf": "18"})
        picture.width, picture.height, picture.pix_fmt = width, height, "yuv420p"
        sound: Any = film.add_stream("aac", rate=48000)
        for frame in test.decode(video=0):
            shown = frame.reformat(format="yuv420p")
            shown.pict_type = PictureType.NONE
            film.mux(picture.encode(shown))
        film.mux(picture.encode(None))
        for wave in tone.decode(audio=0):
            film.mux(sound.encode(wave))
        film.mux(sound.encode(None))


def phases(service: TaskService, task_id: int) -> OneNode:
    """Return the phases, by the times in the log."""
    records = list(service.events(task_id))

    def at(kind: type, *, last: bool = False) -> float:
        found = [record.recorded_at.timestamp() for record in records if isinstance(record.event, kind)]
        return found[-1 if last else 0]

    made = [
        record
        for record in records
        if isinstance(record.event, Checkpointed) and "segment" in record.event.checkpoint.data["change"]
    ]
    begun, first = at(Started), min(at(Progressed), at(Checkpointed))
    done = made[-1].recorded_at.timestamp()
    return OneNode(first - begun, done - first, at(Completed) - done, len(made))


def slowest(each: list[OneNode]) -> OneNode:
    """Return what the film will wait for. All nodes have worked at once, as on parts, since they share a machine."""
    return max(each, key=lambda one: one.whole)


def measured(service: TaskService, ids: tuple[int, ...]) -> float:
    """Return the seconds from the creation of the tasks to the end of the last."""
    times = [
        record.recorded_at.timestamp()
        for task_id in ids
        for record in service.events(task_id)
        if isinstance(record.event, Created | Completed)
    ]
    return max(times) - min(times)


def main() -> int:
    """Measure, print, and return whether the prediction holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--quota", type=float, default=0.5, help="CPUs that each node has (default: %(default)s)")
    parser.add_argument("--seconds", type=int, default=24, help="of the film")
    parser.add_argument("--size", default="480x270")
    parser.add_argument("--preset", default="medium")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="spread"))
    own = folder / "data" / "tmp"
    own.mkdir(parents=True)
    source, options = folder / "in.mp4", {"preset": asked.preset, "segment_seconds": 2.0}
    make_film(source, asked.seconds, asked.size)
    share = longest_share(source, options, asked.nodes, folder)
    head = RayHead(cpus=0)
    nodes: list[RayNode] = []
    try:
        nodes += [RayNode(head, own, quota=asked.quota) for _ in range(asked.nodes)]
        config = Config(executor="ray", ray_address=head.address, workers=asked.nodes)
        with TaskService.open(folder / "data", config=config) as service:
            warm = service.spread_film(
                {"input_file": source, "output_file": folder / "warm.mp4", "options": {**options, "end": 5.0}},
                asked.nodes,
            )
            service.wait(warm.task_id, timeout=300)
            whole = [
                service.create_task("video_convert", source, folder / f"{number}.mp4", options=options)
                for number in range(asked.nodes)
            ]
            for task_id in whole:
                service.wait(task_id, timeout=600)
            film = {"input_file": source, "output_file": folder / "out.mp4", "options": options}
            made = service.spread_film(film, asked.nodes)
            service.wait(made.task_id, timeout=600)
            one = slowest([phases(service, task_id) for task_id in whole])
            took = measured(service, (*made.parts, made.task_id))
            each = [round(service.get_task(part).duration or 0.0, 1) for part in (*made.parts, made.task_id)]
        same = _digest(folder / "0.mp4") == _digest(folder / "out.mp4")
    finally:
        for node in nodes:
            node.kill()
        head.close()
        shutil.rmtree(folder, ignore_errors=True)
    told = predicted(one, share)
    off, faster = took / told - 1, one.whole / took
    print(
        f"one node of {asked.quota:g} CPU: start {one.start:.1f} s, picture {one.picture:.1f} s, join {one.join:.1f} s"
    )
    print(f"{asked.nodes} nodes of {asked.quota:g} CPU each: the longest share is {share:.0%} of the picture")
    print(f"predicted {told:.1f} s, measured {took:.1f} s ({off:+.0%}), {faster:.2f} times as fast as one node")
    bytes_are = "the same bytes" if same else "OTHER BYTES"
    print(f"parts and join took {', '.join(map(str, each))} s; {bytes_are}")
    return 0 if same and abs(off) <= _TOLERATED else 1


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
