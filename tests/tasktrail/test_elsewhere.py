"""Inputs and outputs elsewhere, through the whole service: fetched, stored, refused, and killed in between."""

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import av
import psutil
import pytest
from s3_server import KEY_ID, SECRET_KEY, SESSION, S3Server

from tasktrail import TaskService
from tasktrail.actors.storage.s3 import make_client
from tasktrail.config.settings import Config
from tasktrail.doctor.rules import examine
from tasktrail.events import Task
from tasktrail.events.errors import InvalidPath, TasktrailError
from tasktrail.handlers.process.sandbox import sandbox_support

pytestmark = pytest.mark.slow
WITHIN = 40.0
PART = 17 * 1024 * 1024
"""The bytes of an upload of two parts."""
Opener = Callable[..., TaskService]


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.fixture
def s3(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a client of two empty buckets."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    client = make_client()
    for bucket in ("films", "results"):
        client.create_bucket(Bucket=bucket)
    yield client
    server.release()
    server._refused.clear()
    for bucket in ("films", "results"):
        for found in client.list_objects_v2(Bucket=bucket).get("Contents", ()):
            client.delete_object(Bucket=bucket, Key=found["Key"])
        for found in uploads(client, bucket):
            client.abort_multipart_upload(Bucket=bucket, Key=found["Key"], UploadId=found["UploadId"])
        client.delete_bucket(Bucket=bucket)
    server.requests.clear()


def uploads(client: Any, bucket: str = "results") -> list[dict[str, Any]]:
    return list(client.list_multipart_uploads(Bucket=bucket).get("Uploads", ()))


@pytest.fixture
def start(open_service: Opener, s3: Any) -> Opener:
    """Start a service that may read and write there."""
    assert s3 is not None, "it has set the environment, which the service sees"

    def make(**settings: Any) -> TaskService:
        settings = {
            "handlers": ("away_handlers",),
            "input_roots": ("/", "s3://films/in/"),
            "output_roots": ("/", "s3://results/"),
            **settings,
        }
        return open_service(**settings)

    return make


def body(client: Any, key: str, bucket: str = "results") -> bytes:
    data: bytes = client.get_object(Bucket=bucket, Key=key)["Body"].read()
    return data


def done(service: TaskService, task_id: int) -> Task:
    task = service.wait(task_id, WITHIN)
    assert task.status == "completed", task.error
    return task


def failed(service: TaskService, **fields: Any) -> Task:
    task = service.wait(service.create_task(**fields), WITHIN)
    assert task.status == "failed"
    return task


def left(tmp_path: Path) -> list[str]:
    """Return the content of the folder for files elsewhere, without inputs and locks."""
    folder = tmp_path / "data" / "tmp" / "elsewhere"
    return [str(path.relative_to(folder)) for name in ("results", "uploads") for path in (folder / name).iterdir()]


# --- there and back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sandbox", ["off", "auto"])
def test_a_file_is_fetched_worked_on_and_stored(start: Opener, s3: Any, tmp_path: Path, sandbox: str) -> None:
    s3.put_object(Bucket="films", Key="in/a film é.mp4", Body=b"abc")
    service = start(sandbox=sandbox)

    task_id = service.create_task(
        type="copier", input_file="s3://films/in/a film é.mp4", output_file="s3://results/x/out.jpg", max_retries=0
    )
    task = done(service, task_id)

    assert body(s3, "x/out.jpg") == b"abc"
    assert s3.head_object(Bucket="results", Key="x/out.jpg")["ContentType"] == "image/jpeg"
    assert (task.input_file, task.output_file) == ("s3://films/in/a film é.mp4", "s3://results/x/out.jpg")
    assert Path(task.result["input"]).name == "a film é.mp4", "what goes by suffixes has them"
    assert task.input_read is not None
    assert task.input_read.size == 3
    assert task.input_read.sha256 == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert left(tmp_path) == []


def test_a_path_and_an_address_go_together(start: Opener, s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="films", Key="in/a", Body=b"abc")
    service, here = start(), tmp_path / "here"

    done(service, service.create_task(type="copier", input_file="s3://films/in/a", output_file=str(here)))
    done(service, service.create_task(type="copier", input_file=str(here), output_file="s3://results/b"))

    assert here.read_bytes() == body(s3, "b") == b"abc"


def test_a_file_address_is_a_path_and_recorded_as_one(start: Opener, tmp_path: Path) -> None:
    (tmp_path / "a b").write_text("x")
    service = start(input_roots=(), output_roots=())

    task_id = service.create_task(
        type="copier", input_file=(tmp_path / "a b").as_uri(), output_file=(tmp_path / "c").as_uri()
    )

    task = done(service, task_id)
    assert (task.input_file, task.output_file) == (str(tmp_path / "a b"), str(tmp_path / "c"))


def test_a_large_output_is_stored_in_parts_and_appears_whole(start: Opener, server: S3Server, s3: Any) -> None:
    s3.put_object(Bucket="films", Key="in/a", Body=b"abc")
    service = start()

    with server.holding(lambda method, path: method == "POST" and "uploadId" in path):
        task_id = service.create_task(
            type="copier", input_file="s3://films/in/a", output_file="s3://results/big", options={"size": PART}
        )
        server.wait_held()
        assert s3.list_objects_v2(Bucket="results").get("KeyCount") == 0, "nobody sees half of it"
    done(service, task_id)

    assert len(body(s3, "big")) == PART + 3
    assert uploads(s3) == []


def test_a_page_is_fetched_from_a_host_that_is_allowed(start: Opener, server: S3Server, tmp_path: Path) -> None:
    root = f"{server.address}/web/"
    server.pages["/web/a.txt"] = (200, {"ETag": '"1"'}, b"page")
    service = start(input_roots=("/", root), allow_endpoints=(server.host,))

    task = done(
        service, service.create_task(type="copier", input_file=f"{root}a.txt", output_file=str(tmp_path / "out"))
    )

    assert (tmp_path / "out").read_bytes() == b"page"
    assert Path(task.result["input"]).name == "a.txt"


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://films/other/a", "outside of input_roots"),
        ("s3://films/input", "outside of input_roots"),
        ("s3://else/in/a", "outside of input_roots"),
        ("https://example.org/a", "outside of input_roots"),
        ("ftp://example.org/a", "cannot be reached"),
        ("s3://films/in/../secret", "has an empty part"),
        ("s3://films/in//a", "empty part"),
        ("s3://films/in/", "names no file"),
        ("s3://me:canary@films/in/a", "user name or password"),
        ("s3://films/in/a?X-Amz-Signature=canary", "no ?"),
        ("https://example.org/a?X-Amz-Signature=canary", "signature or a token"),
        ("https://example.org/a?sig=canary", "signature or a token"),
        ("https://example.org/a?x=" + "c" * 70 + "canary", "signature or a token"),
        ("https://user:canary@example.org/a", "user name or password"),
    ],
)
def test_an_address_that_is_not_allowed_is_refused(start: Opener, tmp_path: Path, address: str, told: str) -> None:
    service = start()

    with pytest.raises(InvalidPath) as refused:
        service.create_task(type="copier", input_file=address, output_file=str(tmp_path / "out"))

    assert told in str(refused.value)
    assert refused.value.field == "input_file"
    assert "canary" not in str(refused.value), "what may be a secret is not repeated"


def test_without_configuration_no_address_is_accepted(open_service: Opener, tmp_path: Path) -> None:
    service = open_service(handlers=("away_handlers",))
    (tmp_path / "a").write_text("x")

    with pytest.raises(InvalidPath, match="input_roots names no address"):
        service.create_task(type="copier", input_file="s3://films/in/a", output_file=str(tmp_path / "out"))
    with pytest.raises(InvalidPath, match="output_roots names no address"):
        service.create_task(type="copier", input_file=str(tmp_path / "a"), output_file="s3://films/out")


def test_places_among_the_roots_allow_no_path_besides(start: Opener, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    service = start(input_roots=("s3://films/in/",))

    with pytest.raises(InvalidPath, match="outside of input_roots"):
        service.create_task(type="copier", input_file=str(tmp_path / "a"), output_file=str(tmp_path / "out"))


def test_an_output_goes_to_no_web_server_and_gives_way_to_nothing(start: Opener) -> None:
    service = start(input_roots=("s3://results/",))
    with pytest.raises(InvalidPath, match="Nothing can be written to https"):
        service.create_task(type="maker", output_file="https://example.org/a")
    with pytest.raises(InvalidPath, match="same file"):
        service.create_task(type="copier", input_file="s3://results/a", output_file="s3://results/a")
    with pytest.raises(TasktrailError):
        service.create_task(
            type="copier", input_file="s3://results/b", output_file="s3://results/a", original="replace"
        )


def test_a_film_that_is_joined_from_parts_is_not_stored_elsewhere(start: Opener) -> None:
    service = start()

    with pytest.raises(InvalidPath, match="joined from parts"):
        service.create_task(
            type="video_convert", input_file="s3://films/in/a", output_file="s3://results/a.mp4", options={"parts": 2}
        )


def test_a_host_that_means_this_machine_is_refused_although_it_is_named(
    start: Opener, server: S3Server, tmp_path: Path
) -> None:
    service = start(input_roots=("/", f"{server.address}/web/", "https://localhost/"))
    server.pages["/web/a"] = (200, {}, b"secret")

    for address in (f"{server.address}/web/a", "https://localhost/a"):
        task = failed(service, type="copier", input_file=address, output_file=str(tmp_path / "out"), max_retries=0)
        assert task.error_type == "StorageDenied"
        assert "allow_endpoints" in task.error
    assert ("GET", "/web/a") not in server.requests


def test_a_redirect_is_not_followed(start: Opener, server: S3Server, tmp_path: Path) -> None:
    root = f"{server.address}/web/"
    server.pages["/web/a"] = (302, {"Location": f"{server.address}/web/secret"}, b"")
    service = start(input_roots=("/", root), allow_endpoints=(server.host,))

    task = failed(service, type="copier", input_file=f"{root}a", output_file=str(tmp_path / "out"), max_retries=0)

    assert "redirects to another address" in task.error
    assert server.count("GET", "/web/secret") == 0


@pytest.mark.parametrize(
    ("address", "error", "told"),
    [
        ("s3://films/in/nothing", "StorageMissing", "There is nothing at s3://films/in/nothing"),
        ("s3://nobucket/in/a", "StorageMissing", "s3://nobucket/in/a"),
        ("s3://films/in/closed", "StorageDenied", "Access to s3://films/in/closed is denied"),
    ],
)
def test_what_is_wrong_is_said_by_name(
    start: Opener, server: S3Server, tmp_path: Path, address: str, error: str, told: str
) -> None:
    server.refuse("/films/in/closed", 403, "AccessDenied")
    service = start(input_roots=("/", "s3://films/in/", "s3://nobucket/"))

    task = failed(service, type="copier", input_file=address, output_file=str(tmp_path / "out"), max_retries=3)

    assert (task.error_type, task.attempt) == (error, 1), "another try would find the same"
    assert told in task.error


def test_a_connection_that_breaks_for_good_is_tried_again(start: Opener, server: S3Server, tmp_path: Path) -> None:
    """Without an ETag, reading cannot continue in the middle."""
    root = f"http://{server.host}/web/"
    server.pages["/web/half"] = (200, {"Content-Length": "100"}, b"half")
    service = start(input_roots=("/", root), allow_endpoints=(server.host,))

    task = failed(
        service,
        type="copier",
        input_file=f"{root}half",
        output_file=str(tmp_path / "out"),
        max_retries=1,
        retry_delay=0,
    )

    assert (task.error_type, task.attempt) == ("StorageUnreachable", 2)


def test_an_input_that_is_larger_than_temp_space_is_refused_before_a_byte_of_it_comes(
    start: Opener, server: S3Server, s3: Any, tmp_path: Path
) -> None:
    s3.put_object(Bucket="films", Key="in/a", Body=b"x" * 2_000_000)
    service = start(max_temp_size=1_000_000)

    task = failed(service, type="copier", input_file="s3://films/in/a", output_file=str(tmp_path / "out"))

    assert task.error_type == "InputTooLarge"
    assert server.count("GET", "/films/in/a") == 0


def test_another_ones_object_is_left_alone_unless_it_may_be_replaced(start: Opener, s3: Any) -> None:
    s3.put_object(Bucket="films", Key="in/a", Body=b"abc")
    s3.put_object(Bucket="results", Key="a", Body=b"foreign")
    service = start()
    fields: dict[str, Any] = {"type": "copier", "input_file": "s3://films/in/a", "output_file": "s3://results/a"}

    task = failed(service, **fields)
    assert task.error_type == "OutputExists"
    assert body(s3, "a") == b"foreign"

    done(service, service.create_task(**fields, overwrite=True))
    assert body(s3, "a") == b"abc"


def test_an_object_that_appears_meanwhile_is_not_replaced(start: Opener, server: S3Server, s3: Any) -> None:
    service = start()
    with server.holding(lambda method, path: method == "PUT" and "partNumber=2" in path):
        task_id = service.create_task(type="maker", output_file="s3://results/a", options={"size": PART}, max_retries=0)
        server.wait_held()
        s3.put_object(Bucket="results", Key="a", Body=b"foreign")
    task = service.wait(task_id, WITHIN)

    assert (task.status, task.error_type) == ("failed", "OutputExists")
    assert body(s3, "a") == b"foreign"
    assert uploads(s3) == [], "what was not wanted is called off"


def test_a_folder_is_not_stored(start: Opener, s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="films", Key="in/a", Body=b"abc")
    service = start()

    task = failed(
        service, type="copier", input_file="s3://films/in/a", output_file="s3://results/f", options={"folder": True}
    )

    assert "A folder of files cannot be stored elsewhere" in task.error
    assert left(tmp_path) == []


# --- changed, and not kept -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sandbox", ["off", "auto"])
def test_what_a_handler_does_to_its_copy_reaches_no_other_task(start: Opener, s3: Any, sandbox: str) -> None:
    s3.put_object(Bucket="films", Key="in/a", Body=b"abcdefgh")
    service = start(sandbox=sandbox)

    service.wait(service.create_task(type="scribbler", input_file="s3://films/in/a", max_retries=0), WITHIN)
    task = done(service, service.create_task(type="reader", input_file="s3://films/in/a"))

    assert task.result == {"text": "abcdefgh"}


def test_a_type_that_changes_its_input_gets_none_that_an_earlier_task_stores_elsewhere(start: Opener) -> None:
    service = start(input_roots=("s3://results/",))
    fields: dict[str, Any] = {"type": "changer", "input_file": "s3://results/x"}

    with pytest.raises(InvalidPath, match="changes its input"):
        service.create_graph(
            [
                {"name": "first", "type": "maker", "output_file": "s3://results/x"},
                {"name": "second", "depends_on": ["first"], **fields},
            ]
        )
    first = service.create_task(type="maker", output_file="s3://results/x")
    with pytest.raises(InvalidPath, match="changes its input"):
        service.create_task(depends_on=[first], **fields)


def test_nothing_is_kept_of_an_input(start: Opener, s3: Any, tmp_path: Path) -> None:
    """So an erased user leaves no copy, and no old or changed copy is ever read again."""
    s3.put_object(Bucket="films", Key="in/a", Body=b"abc")
    service = start()

    done(service, service.create_task(type="reader", input_file="s3://films/in/a"))

    folder = tmp_path / "data" / "tmp" / "elsewhere" / "fetched"
    wait_until(lambda: list(folder.iterdir()) == [])


def test_what_a_kill_has_left_makes_room_before_an_input_is_fetched(
    start: Opener, server: S3Server, s3: Any, tmp_path: Path
) -> None:
    s3.put_object(Bucket="films", Key="in/a", Body=b"abc")
    service = start()
    left_over = tmp_path / "data" / "tmp" / "elsewhere" / "fetched" / "9-1"
    left_over.mkdir(parents=True)

    with server.holding(lambda method, path: (method, path) == ("GET", "/films/in/a")):
        task_id = service.create_task(type="reader", input_file="s3://films/in/a")
        server.wait_held()
        assert not left_over.exists()
    done(service, task_id)


def test_an_erased_user_leaves_no_copy_that_a_kill_has_left(start: Opener, s3: Any, tmp_path: Path) -> None:
    service = start(personal_data="encrypted")
    s3.put_object(Bucket="films", Key="in/a", Body=b"abc")
    mine, other = (service.create_task(type="reader", input_file="s3://films/in/a", user_id=user) for user in (7, 8))
    for task_id in (mine, other):
        done(service, task_id)
    folder = tmp_path / "data" / "tmp" / "elsewhere"
    for name in ("fetched", "results"):
        for task_id in (mine, other):
            (folder / name / f"{task_id}-9").mkdir()

    service.erase_user(7)

    wait_until(lambda: not any((folder / name / f"{mine}-9").exists() for name in ("fetched", "results")))
    assert (folder / "fetched" / f"{other}-9").exists()


def wait_until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WITHIN
    while not met():
        assert time.monotonic() < deadline, "it is still not so"
        time.sleep(0.05)


def test_another_version_is_fetched_anew(start: Opener, s3: Any, tmp_path: Path) -> None:
    service = start()
    for number, content in enumerate((b"abc", b"abcd")):
        s3.put_object(Bucket="films", Key="in/a", Body=content)
        out = tmp_path / f"{number}"
        done(service, service.create_task(type="copier", input_file="s3://films/in/a", output_file=str(out)))
        assert out.read_bytes() == content


def test_a_checkpoint_of_the_same_version_is_used_although_the_file_was_fetched_anew(start: Opener, s3: Any) -> None:
    """The copy is another file with another inode; the version says that it has the same content."""
    assert resumed(start, s3) == {"position": 7.0, "text": "abc"}


def test_a_checkpoint_of_another_version_is_not_used(start: Opener, s3: Any) -> None:
    assert resumed(start, s3, b"other") == {"position": -1.0, "text": "other"}


def resumed(start: Opener, s3: Any, later: bytes = b"") -> dict[str, Any]:
    """Return the result of the second attempt, whose input has become `later`."""
    s3.put_object(Bucket="films", Key="in/a", Body=b"abc")
    service = start(workers=1)
    task_id = service.create_task(type="resumer", input_file="s3://films/in/a")
    for record in service.follow(after=0):
        if record.task_id == task_id and type(record.event).__name__ == "Checkpointed":
            break
    if later:
        s3.put_object(Bucket="films", Key="in/a", Body=later)
    kill_workers()
    return done(service, task_id).result


@pytest.mark.crash
def test_a_film_from_elsewhere_is_converted_once_whatever_happens_to_its_copy(
    start: Opener, server: S3Server, s3: Any, tmp_path: Path
) -> None:
    made = tmp_path / "film.mp4"
    with av.open("testsrc2=size=64x48:duration=1", format="lavfi") as test, av.open(str(made), "w") as film:
        stream: Any = film.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for frame in test.decode(video=0):
            film.mux(stream.encode(frame.reformat(format="yuv420p")))
        film.mux(stream.encode(None))
    s3.put_object(Bucket="films", Key="in/a.mp4", Body=made.read_bytes())
    service = start(workers=1)

    with server.holding(lambda _method, path: "partNumber" in path):
        task_id = service.create_task(
            type="video_convert", input_file="s3://films/in/a.mp4", output_file="s3://results/a.mp4", retry_delay=0
        )
        server.wait_held()
        kill_workers()
    task = done(service, task_id)

    assert task.attempt == 2
    saved = [record.attempt for record in service.events(task_id) if type(record.event).__name__ == "Checkpointed"]
    assert set(saved) == {1}, "the second attempt makes nothing again"


def children() -> list[tuple[psutil.Process, str]]:
    """Return the processes below this one, with their command lines. A process that has just ended has none."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            found.append((process, " ".join(process.cmdline())))
    return found


def kill_workers() -> None:
    for process, line in children():
        if "tasktrail.handlers.process.worker" in line:
            with suppress(psutil.Error):
                process.kill()


# --- stopped and killed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sandbox", ["off", "auto"])
def test_a_fetch_can_be_cancelled(start: Opener, server: S3Server, s3: Any, tmp_path: Path, sandbox: str) -> None:
    s3.put_object(Bucket="films", Key="in/a", Body=b"abc")
    service = start(sandbox=sandbox, workers=1)
    fields: dict[str, Any] = {"type": "copier", "input_file": "s3://films/in/a", "output_file": str(tmp_path / "out")}

    with server.holding(lambda method, path: (method, path) == ("GET", "/films/in/a")):
        task_id = service.create_task(**fields)
        server.wait_held()
        service.cancel_task(task_id)
        assert service.wait(task_id, WITHIN).status == "cancelled"
        other = service.create_task(type="maker", output_file=str(tmp_path / "other"))
        done(service, other)  # the worker is free although the server still does not answer
    assert not (tmp_path / "out").exists()


def test_a_fetch_ends_at_the_tasks_timeout(start: Opener, server: S3Server, s3: Any, tmp_path: Path) -> None:
    s3.put_object(Bucket="films", Key="in/a", Body=b"abc")
    service = start()

    with server.holding(lambda method, path: (method, path) == ("GET", "/films/in/a")):
        task_id = service.create_task(
            type="copier", input_file="s3://films/in/a", output_file=str(tmp_path / "out"), timeout=0.5, max_retries=0
        )
        assert service.wait(task_id, WITHIN).status == "failed"


@pytest.mark.parametrize("sandbox", ["off", "auto"])
def test_an_upload_that_is_cancelled_is_called_off_in_the_middle_of_a_part(
    start: Opener, server: S3Server, s3: Any, tmp_path: Path, sandbox: str
) -> None:
    """By the process that makes it, within the usual grace: on a node no other process may clean up."""
    service = start(sandbox=sandbox)
    with server.holding(lambda _method, path: "partNumber=2" in path):
        task_id = service.create_task(type="maker", output_file="s3://results/a", options={"size": PART})
        server.wait_held()
        service.cancel_task(task_id)
        wait_until(lambda: not (uploads(s3) or left(tmp_path)))
    assert service.get_task(task_id).status == "cancelled"


@pytest.mark.crash
def test_a_kill_in_the_middle_of_a_fetch_leaves_no_half_file(
    start: Opener, server: S3Server, s3: Any, tmp_path: Path
) -> None:
    s3.put_object(Bucket="films", Key="in/a", Body=b"abc")
    service = start(workers=1)

    with server.holding(lambda method, path: (method, path) == ("GET", "/films/in/a")):
        task_id = service.create_task(
            type="copier", input_file="s3://films/in/a", output_file=str(tmp_path / "out"), retry_delay=0
        )
        server.wait_held()
        kill_workers()
        server.wait_held(2)  # the next attempt asks again
    assert done(service, task_id).attempt == 2
    assert (tmp_path / "out").read_bytes() == b"abc"


@pytest.mark.crash
@pytest.mark.parametrize("at", ["partNumber=2", "complete"])
def test_a_kill_in_the_middle_of_an_upload_has_one_effect(
    start: Opener, server: S3Server, s3: Any, tmp_path: Path, at: str
) -> None:
    service = start(workers=1)

    def rule(method: str, path: str) -> bool:
        return at in path if at != "complete" else method == "POST" and "uploadId" in path

    with server.holding(rule):
        task_id = service.create_task(type="maker", output_file="s3://results/a", options={"size": PART}, retry_delay=0)
        server.wait_held()
        kill_workers()
        if at == "complete":  # the request is out: the server carries it out although no one hears the answer
            server.release()
    task = done(service, task_id)

    assert task.attempt == 2
    assert len(body(s3, "a")) == PART + 8
    assert uploads(s3) == [], "what the killed one had begun is called off"
    assert left(tmp_path) == []


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_credentials_reach_neither_the_handler_nor_anything_that_is_kept(
    start: Opener, server: S3Server, s3: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: Any
) -> None:
    caplog.set_level(logging.DEBUG, logger="tasktrail")  # the client that the test uses itself logs what it sends
    s3.put_object(Bucket="films", Key="in/a", Body=b"abc")
    server.refuse("/films/in/closed", 403, "SignatureDoesNotMatch")
    server.refuse("/films/in/odd", 400, SECRET_KEY)
    service = start()

    told = done(service, service.create_task(type="snoop", input_file="s3://films/in/a")).result
    for key in ("closed", "odd"):
        failed(service, type="snoop", input_file=f"s3://films/in/{key}", max_retries=0)
    with server.holding(lambda _method, path: "partNumber=2" in path):
        service.create_task(type="maker", output_file="s3://results/a", options={"size": PART})
        server.wait_held()
        running = [line for _process, line in children()]
    service.close()

    if sandbox_support().landlock:
        assert told == {"found": False, "written": False}
    kept = [running, caplog.text, *capfd.readouterr()]
    data = tmp_path / "data"
    kept += [path.read_bytes().decode(errors="replace") for path in data.rglob("*") if path.is_file()]
    assert any("mover" in line for line in running), "it was looked at while the bytes moved"
    for secret in (KEY_ID, SECRET_KEY, SESSION):
        assert not any(secret in str(text) for text in kept)
    with closing(sqlite3.connect(data / "log.db")) as log:
        assert "s3://films/in/closed" in str(log.execute("select * from events").fetchall())


def test_the_package_that_is_missing_is_named(start: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "botocore.py").write_text("raise ImportError('hidden')")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'hidden'}:{os.environ['PYTHONPATH']}")
    service = start()

    task = failed(service, type="snoop", input_file="s3://films/in/a")

    assert task.error_type == "PackageMissing"
    assert "pip install 'tasktrail[s3]'" in task.error


@pytest.mark.crash
def test_an_upload_that_was_killed_for_good_is_called_off_by_the_service(
    start: Opener, server: S3Server, s3: Any, tmp_path: Path
) -> None:
    service = start(workers=1)
    with server.holding(lambda method, path: method == "DELETE" or "partNumber=2" in path):
        task_id = service.create_task(type="maker", output_file="s3://results/a", options={"size": PART})
        server.wait_held()
        service.cancel_task(task_id)
        service.close()  # the worker is killed: the server does not answer
    assert len(uploads(s3)) == 1

    with server.holding(lambda method, _path: method == "DELETE"):
        start(workers=1)
        server.wait_held()
        movers = [process for process, line in children() if "mover" in line]
        assert movers
        for process in movers:
            with suppress(OSError):  # other users than root may not even look
                environment = Path(f"/proc/{process.pid}/environ").read_text()
                assert not any(secret in environment for secret in (KEY_ID, SECRET_KEY, SESSION))
    wait_until(lambda: not (uploads(s3) or left(tmp_path)))


def test_doctor_asks_each_place_and_shows_no_secret(server: S3Server, s3: Any, tmp_path: Path) -> None:
    assert s3 is not None
    config = Config(input_roots=("s3://films/in/", "s3://nobucket/", "https://localhost/"), handlers=("away_handlers",))

    found = [finding for finding in examine(tmp_path / "data", config) if finding.name == "places"]

    assert [finding.level for finding in found] == ["ok", "fail", "fail"]
    assert found[0].message == "files at s3://films/in/ can be reached, by this command; credentials: env"
    assert "nobucket" in found[1].message
    assert "allow_endpoints" in found[2].remedy
    assert not any(secret in str(found) for secret in (KEY_ID, SECRET_KEY, SESSION))
    assert server.count("GET", "/films") == 1
