"""The usage examples of the first design (使用示例), word for word, on a real video."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import pytest
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from PIL import Image

from tasktrail.api.service import TaskService
from tasktrail.events import Retried
from tasktrail.events.errors import RetriesExhausted

WITHIN = 60.0


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "video.mp4"
    with av.open(path, "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            picture = Image.new("RGB", (64, 48), (8 * number, 80, 255 - 8 * number))
            container.mux(stream.encode(VideoFrame.from_image(picture)))  # type: ignore[no-untyped-call]  # PyAV gives it no type
        container.mux(stream.encode())
    return path


@pytest.fixture
def example(video: Path, tmp_path: Path) -> dict[str, Any]:
    """Make the task of the example, with the paths of this test."""
    return {
        "type": "video_preview",
        "input_file": str(video),
        "output_file": str(tmp_path / "preview.jpg"),
        "priority": 5,
        "max_retries": 3,
        "retry_delay": 60,
        "notify_email": "user@example.com",
        "user_id": 123,
    }


def test_the_examples_of_creating_a_task_and_of_asking_for_its_progress(
    service: TaskService, example: dict[str, Any]
) -> None:
    task_id = service.create_task(**example)
    task = service.wait(task_id, timeout=WITHIN)
    assert {name: getattr(task, name) for name in example} == example
    progress, message = service.get_task_progress(task_id)
    assert f"进度: {progress:.2f}%, 消息: {message}".startswith("进度: 100.00%, 消息: ")
    assert task.status == "completed"
    with Image.open(example["output_file"]) as preview:
        assert preview.format == "JPEG"


def test_the_examples_of_cancelling_and_of_retrying_a_task(service: TaskService, example: dict[str, Any]) -> None:
    """As often as `max_retries` says, and each time at once: the delay is only for automatic retries."""
    service.pause()  # so that nothing is completed before it is cancelled
    task_id = service.create_task(**example)
    for number in range(1, 4):
        service.cancel_task(task_id)
        assert service.get_task(task_id).status == "cancelled"
        service.retry_task(task_id)
        task = service.get_task(task_id)
        assert (task.status, task.retry_count, task.error) == ("retrying", number, "")
        retried = service.events(task_id)[-1]
        assert isinstance(retried.event, Retried)
        assert retried.event.due_at is None
    service.cancel_task(task_id)
    with pytest.raises(RetriesExhausted):
        service.retry_task(task_id)
    assert not Path(example["output_file"]).exists()


def test_an_example_that_has_been_cancelled_can_be_retried_to_its_end(
    open_service: Callable[..., TaskService], example: dict[str, Any]
) -> None:
    service = open_service()
    service.pause()
    task_id = service.create_task(**example)
    service.cancel_task(task_id)
    service.retry_task(task_id)
    service.resume()
    assert service.wait(task_id, timeout=WITHIN).status == "completed"
    assert Path(example["output_file"]).exists()
