"""One film by several tasks, on a real service: same bytes, nothing left over, and a kill costs only current work."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import msgspec
import psutil
import pytest
from av.video.frame import PictureType

from tasktrail.api.service import TaskService
from tasktrail.api.spreading import SpreadFilm, spread_over
from tasktrail.events import Checkpointed, CreateGraph, CreateTask, Task
from tasktrail.events.errors import InvalidOptions, InvalidValue
from tasktrail.projections import TaskFilters

OPTIONS = {"preset": "medium", "segment_seconds": 0.8}


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("film") / "in.mp4"
    with av.open("testsrc2=size=320x180:rate=25:duration=8", format="lavfi") as test, av.open(str(path), "w") as film:
        stream: Any = film.add_stream("libx264", rate=25, options={"g": "20"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for frame in test.decode(video=0):
            shown = frame.reformat(format="yuv420p")
            shown.pict_type = PictureType.NONE
            film.mux(stream.encode(shown))
        film.mux(stream.encode(None))
    return path


def converted(service: TaskService, source: Path, output: Path) -> Task:
    return service.wait(service.create_task("video_convert", source, output, options=OPTIONS), timeout=120)


def spread(service: TaskService, source: Path, output: Path, parts: int = 2, **more: Any) -> SpreadFilm:
    film = {"input_file": source, "output_file": output, "options": OPTIONS, "retry_delay": 0.0, **more}
    return service.spread_film(film, parts)


def segments_made(service: TaskService, task_id: int) -> list[int]:
    """Return the segments in the checkpoints of the log."""
    changes = [
        one.event.checkpoint.data["change"] for one in service.events(task_id) if isinstance(one.event, Checkpointed)
    ]
    return [change["segment"][0] for change in changes if "segment" in change]


def worker_of(task_id: int) -> psutil.Process:
    """Return the process that works on the task; the task is named in its folder."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for process in psutil.Process().children(recursive=True):
            try:
                if Path(process.cwd()).name == str(task_id):
                    return process
            except psutil.Error:
                continue
    pytest.fail(f"nobody works on task {task_id}")


@pytest.mark.slow
def test_a_film_in_three_parts_has_the_same_bytes_and_nothing_else_is_left(
    service: TaskService, source: Path, tmp_path: Path
) -> None:
    plain = converted(service, source, tmp_path / "plain.mp4")
    made = spread(service, source, tmp_path / "out.mp4", 3)

    film = service.wait(made.task_id, timeout=120)

    assert (film.status, film.result["parts"]) == ("completed", 3)
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "plain.mp4").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["out.mp4", "plain.mp4"]
    numbers = [number for part in made.parts for number in segments_made(service, part)]
    assert sorted(numbers) == list(range(plain.result["segments"]))
    named, _total = service.list_tasks(TaskFilters(batch=(made.batch,), sort="id"))
    assert [task.id for task in named] == [*made.parts, made.task_id]


@pytest.mark.skipif(sys.platform != "linux", reason="a process's folder is looked up in /proc")
@pytest.mark.slow
def test_a_part_whose_worker_is_killed_makes_again_what_was_at_work_and_no_more(
    open_service: Callable[..., TaskService], source: Path, tmp_path: Path
) -> None:
    service = open_service(workers=2, max_cores=1)
    converted(service, source, tmp_path / "plain.mp4")
    made = spread(service, source, tmp_path / "out.mp4")
    killed = made.parts[0]
    for record in service.follow(task_id=killed):
        if isinstance(record.event, Checkpointed):
            break

    os.kill(worker_of(killed).pid, signal.SIGKILL)

    film = service.wait(made.task_id, timeout=120)
    assert (film.status, film.attempt) == ("completed", 1)
    assert service.get_task(killed).attempt == 2
    assert (tmp_path / "out.mp4").read_bytes() == (tmp_path / "plain.mp4").read_bytes()
    numbers = [number for part in made.parts for number in segments_made(service, part)]
    assert sorted(numbers) == list(range(film.result["segments"])), "each segment was finished once"


@pytest.mark.slow
def test_a_part_that_fails_ends_the_film_and_a_retry_of_both_keeps_the_others(
    service: TaskService, source: Path, tmp_path: Path
) -> None:
    made = spread(service, source, tmp_path / "out.mp4")
    service.cancel_task(made.parts[1])
    film = service.wait(made.task_id, timeout=60)
    service.wait(made.parts[0], timeout=60)
    assert film.status == "failed"
    assert f"{made.parts[1]}" in film.error

    service.retry_task(made.parts[1])
    service.retry_task(made.task_id)

    film = service.wait(made.task_id, timeout=60)
    assert film.status == "completed"
    assert service.get_task(made.parts[0]).attempt == 1


def test_all_of_a_film_is_cancelled_by_its_batch(
    open_service: Callable[..., TaskService], source: Path, tmp_path: Path
) -> None:
    service = open_service(workers=1)
    made = spread(service, source, tmp_path / "out.mp4", batch="my film")
    assert made.batch == "my film"
    for task_id in reversed(service.find_ids(TaskFilters(batch=("my film",)))):
        service.cancel_task(task_id)
    for task_id in (*made.parts, made.task_id):
        assert service.wait(task_id, timeout=60).status == "cancelled"


def test_parts_go_also_where_the_original_stays(service: TaskService, source: Path, tmp_path: Path) -> None:
    """The film is then complete without a result, and no retry needs its parts."""
    original = tmp_path / "in.mp4"
    shutil.copy(source, original)
    options = {"preset": "ultrafast", "segment_seconds": 0.8, "crf": 1}
    made = spread(service, original, tmp_path / "out.mp4", options=options, original="replace")
    film = service.wait(made.task_id, timeout=60)
    assert film.status == "completed"
    assert "not smaller" in film.result["original"]["kept"]
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["in.mp4"]


def test_a_part_that_is_gone_is_told_and_looked_for_again(service: TaskService, source: Path, tmp_path: Path) -> None:
    options = {**OPTIONS, "parts": 2}
    task_id = service.create_task(
        "video_convert", source, tmp_path / "out.mp4", options=options, max_retries=1, retry_delay=0.0
    )
    film = service.wait(task_id, timeout=60)
    assert (film.status, film.attempt) == ("failed", 2)
    assert film.error.startswith(f"part 1 of 2, out.mp4.part-1-of-2.tasktrail, is not in {tmp_path}")


def test_what_cannot_be_spread_is_one_task_and_the_answer_says_why(
    service: TaskService, source: Path, tmp_path: Path
) -> None:
    made = service.spread_film(
        {"input_file": source, "output_file": tmp_path / "out.mp4", "options": {"video_codec": "copy"}}, 3
    )
    assert made.parts == ()
    assert made.not_spread == "the picture is copied, not encoded"
    assert service.wait(made.task_id, timeout=60).status == "completed"


def test_a_preset_holds_for_parts_and_film(service: TaskService, source: Path, tmp_path: Path) -> None:
    made = service.spread_film(
        {"input_file": source, "output_file": tmp_path / "out.mp4", "preset": "web-720p", "options": {"crf": 40}}, 2
    )
    assert service.wait(made.task_id, timeout=60).status == "completed"
    for task_id in (*made.parts, made.task_id):
        options = service.get_task(task_id).options
        assert (options["max_width"], options["crf"], options["parts"]) == (1280, 40, 2)


# --- the graph ------------------------------------------------------------------------------------------------------


def graph_of(film: CreateTask, parts: int = 2) -> CreateGraph:
    command = spread_over(film, parts).command
    assert isinstance(command, CreateGraph)
    return command


FILM = CreateTask(type="video_convert", input_file="/f/in.mkv", output_file="/f/out.mp4", command_id="c")


def test_the_graph_is_what_anybody_may_send() -> None:
    """As documented for users who send it over HTTP."""
    page = (Path(__file__).parents[2] / "docs/how-to/spread-a-film.md").read_text()
    told = page.partition("```text\n{")[2].partition("```")[0]
    wanted = msgspec.json.decode("{" + told, type=CreateGraph)
    film = msgspec.structs.replace(FILM, options={"crf": 20}, batch="out", command_id="")
    assert wanted == graph_of(film)


def test_what_is_told_of_the_film_is_told_once_and_the_parts_begin_when_it_would() -> None:
    film = msgspec.structs.replace(
        FILM,
        notify_email="a@example.org",
        original="move",
        original_folder="/f/old",
        held=True,
        depends_on=(3,),
        on_dependency_failure="ignore",
        priority=7,
        parent_task_id=2,
        estimated_time=60.0,
    )
    first, second, joins = graph_of(film).tasks
    assert (first.notify_email, first.original, first.original_folder) == ("", "keep", "")
    assert (joins.notify_email, joins.original, joins.original_folder) == ("a@example.org", "move", "/f/old")
    assert (first.held, joins.held) == (True, False)
    assert (first.depends_on, second.depends_on) == ((3,), (3,))
    assert (joins.depends_on, joins.on_dependency_failure) == (("part-1", "part-2", 3), ("fail", "fail", "ignore"))
    assert {one.priority for one in (first, second, joins)} == {7}
    assert {one.parent for one in (first, second, joins)} == {2}
    assert (first.overwrite, joins.overwrite) == (True, False)
    assert first.estimated_time == 30.0


def test_the_same_command_has_the_same_batch() -> None:
    assert graph_of(FILM) == graph_of(FILM)
    assert graph_of(FILM).tasks[0].batch.startswith("out.mp4-")
    other = msgspec.structs.replace(FILM, command_id="", output_file="/f/a, b\u200b.mp4")
    assert graph_of(other).tasks[0].batch != graph_of(other).tasks[0].batch


@pytest.mark.parametrize("parts", [0, 101])
def test_a_film_has_no_such_number_of_parts(parts: int) -> None:
    with pytest.raises(InvalidValue, match="1 to 100 parts"):
        spread_over(FILM, parts)


def test_a_film_at_a_file_address_is_spread_like_one_at_the_path() -> None:
    films = [
        CreateTask(type="video_convert", input_file=f"{scheme}/in.mp4", output_file=f"{scheme}/out.mp4", batch="b")
        for scheme in ("file://", "")
    ]
    first, second = (spread_over(film, 2).command for film in films)
    assert first == second
    assert isinstance(first, CreateGraph)


def test_a_film_with_so_long_a_name_that_parts_have_none_is_one_task() -> None:
    film = msgspec.structs.replace(FILM, output_file=f"/f/{'n' * 228}.mp4")
    assert isinstance(spread_over(film, 9).command, CreateGraph)
    assert "its name is so long" in spread_over(film, 10).not_spread


@pytest.mark.parametrize("change", [{"type": "video_preview"}, {"options": {"parts": 3}}, {"unique": "mine"}])
def test_what_is_no_plain_conversion_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptions):
        spread_over(msgspec.structs.replace(FILM, **change), 3)


@pytest.mark.parametrize(("source", "target"), [("s3://films/a.mp4", "/out.mp4"), ("/in.mp4", "s3://films/a.mp4")])
def test_a_film_that_is_elsewhere_is_one_task(source: str, target: str) -> None:
    film = CreateTask(type="video_convert", input_file=source, output_file=target)

    spreading = spread_over(film, 3)

    assert spreading.command is film
    assert "its input or output is elsewhere" in spreading.not_spread
