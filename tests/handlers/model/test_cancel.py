"""A cancelled drawing is gone, whatever it was doing. The benchmark measures how soon."""

import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import psutil
import pytest
import trimesh

from tasktrail import TaskService
from tasktrail.config.settings import Config

pytestmark = pytest.mark.slow

WITHIN = 60.0


def until(condition: Callable[[], bool]) -> None:
    """Wait until the service reaches a state."""
    deadline = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < deadline
        Event().wait(0.005)  # not a busy loop: the service needs the CPU


def is_worker(process: psutil.Process) -> bool:
    try:
        return "worker" in " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # or it has ended and is not reaped yet
        return False


@pytest.mark.parametrize(("percent", "subdivisions"), [(5, 7), (6, 4)])
def test_a_cancelled_reading_or_drawing_leaves_nothing(percent: int, subdivisions: int, tmp_path: Path) -> None:
    trimesh.creation.icosphere(subdivisions).export(tmp_path / "ball.obj")
    options = {"kind": "turntable", "width": 1200, "height": 900, "antialias": 4}
    with TaskService.open(tmp_path / "data", config=Config(workers=1)) as service:
        task_id = service.create_task(
            type="model_preview",
            input_file=str(tmp_path / "ball.obj"),
            output_file=str(tmp_path / "out.webp"),
            options=options,
        )
        until(lambda: service.get_task_progress(task_id)[0] >= percent)
        assert any(map(is_worker, psutil.Process().children(recursive=True)))
        service.cancel_task(task_id)
        # The task is called cancelled only once no process of the attempt is left.
        assert service.wait(task_id, timeout=WITHIN).status == "cancelled"
    assert list(tmp_path.glob(".out*")) == []
    assert not (tmp_path / "out.webp").exists()
