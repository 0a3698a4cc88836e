"""One film over three nodes of a cluster, each with a temp folder of its own; one of them dies in the middle."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import psutil
import pytest
from av.video.frame import PictureType
from ray_head import RayHead
from ray_nodes import RayNode, may_have_own_folders

from tasktrail import Config, TaskService
from tasktrail.events import Checkpointed
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.options import VideoConvertOptions
from tasktrail.testing import RecordingContext, run_handler

pytestmark = [
    pytest.mark.ray,
    pytest.mark.skipif(not may_have_own_folders(), reason="a node needs a temp folder of its own: run it as root"),
]
WITHIN = 180.0
OPTIONS: dict[str, Any] = {"preset": "slower", "segment_seconds": 0.8}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.mp4"
    with av.open("testsrc2=size=480x270:rate=25:duration=16", format="lavfi") as test, av.open(str(path), "w") as film:
        stream: Any = film.add_stream("libx264", rate=25, options={"g": "20", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 480, 270, "yuv420p"
        for frame in test.decode(video=0):
            shown = frame.reformat(format="yuv420p")
            shown.pict_type = PictureType.NONE
            film.mux(stream.encode(shown))
        film.mux(stream.encode(None))
    return path


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[tuple[str, list[RayNode]]]:
    """The address of a cluster, whose head runs nothing, and its three nodes of one CPU."""
    pytest.importorskip("ray", reason="Ray is not installed; `make test-ray` has it")
    own = tmp_path / "data" / "tmp"
    own.mkdir(parents=True)
    head = RayHead(cpus=0)
    made: list[RayNode] = []
    try:
        made += [RayNode(head, own) for _ in range(3)]
        yield head.address, made
    finally:
        for node in made:
            node.kill()
        head.close()


def plain(source: Path, folder: Path) -> bytes:
    """The film as one task makes it, on this machine."""
    context = RecordingContext(
        VideoConvertOptions(**OPTIONS), work_dir=folder / "work", input_file=source, output_file=folder / "plain.mp4"
    )
    run_handler(video_convert, context)
    return context.output_file.read_bytes()


def segments_made(service: TaskService, task_id: int) -> list[int]:
    changes = [
        one.event.checkpoint.data["change"] for one in service.events(task_id) if isinstance(one.event, Checkpointed)
    ]
    return [change["segment"][0] for change in changes if "segment" in change]


def node_of(nodes: list[RayNode], task_id: int) -> RayNode:
    """Return the node that works on the task."""
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        for node in nodes:
            for pid in node.processes():
                try:
                    if Path(psutil.Process(pid).cwd()).name == str(task_id):
                        return node
                except psutil.Error:
                    continue
    pytest.fail(f"nobody works on task {task_id}")


def test_a_node_that_dies_costs_its_own_segments_and_no_others(
    nodes: tuple[str, list[RayNode]], source: Path, tmp_path: Path
) -> None:
    address, three = nodes
    config = Config(executor="ray", ray_address=address, workers=3, ray_lease=4.0, sandbox="off")
    with TaskService.open(tmp_path / "data", config=config) as service:
        film = {"input_file": source, "output_file": tmp_path / "out.mp4", "options": OPTIONS, "retry_delay": 0.0}
        made = service.spread_film(film, 3)
        hit = made.parts[1]
        for record in service.follow(task_id=hit):
            if isinstance(record.event, Checkpointed):
                break

        victim = node_of(three, hit)
        victim.kill()

        ended = service.wait(made.task_id, timeout=WITHIN)
        parts = {part: segments_made(service, part) for part in made.parts}
        attempts = {part: service.get_task(part).attempt for part in made.parts}

    assert ended.status == "completed"
    assert (tmp_path / "out.mp4").read_bytes() == plain(source, tmp_path)
    assert (attempts[hit], {attempts[part] for part in made.parts if part != hit}) == (2, {1})
    for part, numbers in parts.items():
        assert set(Counter(numbers).values()) <= ({1, 2} if part == hit else {1}), f"part {part}"
    assert sorted(set().union(*map(set, parts.values()))) == list(range(ended.result["segments"]))
    assert not list(tmp_path.glob("*.tasktrail"))
