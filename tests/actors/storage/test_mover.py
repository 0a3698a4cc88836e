"""The process that moves bytes, without the process: files on the web, and the files on this machine meanwhile."""

import hashlib
import os
import shutil
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore import endpoint
from s3_server import S3Server

from tasktrail.actors.storage import mover, s3
from tasktrail.actors.storage.mover import Mover
from tasktrail.actors.storage.places import PlaceError
from tasktrail.actors.storage.s3 import make_client
from tasktrail.actors.storage.web import WebSource
from tasktrail.handlers.elsewhere import (
    Appear,
    Fetch,
    Fetched,
    LockHeld,
    Look,
    Moved,
    MoverAnswer,
    MoverRequest,
    Ready,
    Refused,
    Storage,
    Store,
    Stored,
    Sweep,
    Swept,
    clear_up,
    hold,
    lock_of,
    make_folders,
    place_of,
)
from tasktrail.handlers.inputs import Input
from tasktrail.handlers.urls import parsed

CONTENT = os.urandom(300_000)


class Web:
    """A web server that breaks connections: of each answer it sends `at_once` bytes at most."""

    def __init__(self) -> None:
        self.at_once = len(CONTENT)
        self.etag = '"1"'
        self.length = True
        """Whether it sends the length of an answer."""
        self.shift = 0
        """By how many bytes a partial answer begins too early."""
        self.refused = 0
        """The status of each answer to GET, if it refuses them."""
        self.away = 0
        """The status of each answer, if it refuses all."""
        self.asked: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range", "")
                web.asked.append(wanted)
                if refused := web.refused or web.away:
                    self.send_response(refused)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                condition = self.headers.get("If-Range") or self.headers.get("If-Match")
                start = int(wanted[6:-1]) - web.shift if wanted and condition == web.etag else 0
                self.send_response(206 if start else 200)
                self.send_header("ETag", web.etag)
                if web.length:
                    self.send_header("Content-Length", str(len(CONTENT) - start))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
                self.end_headers()
                self.wfile.write(CONTENT[start : start + web.at_once])

            def do_HEAD(self) -> None:
                self.send_response(web.away or 200)
                self.send_header("ETag", web.etag)
                self.send_header("Content-Length", str(len(CONTENT)))
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.url = f"http://{self.host}/a.bin"


@pytest.fixture
def web() -> Iterator[Web]:
    web = Web()
    yield web
    web.server.shutdown()
    web.server.server_close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_folders(tmp_path)
    return tmp_path


def fetched(folder: Path, web: Web, url: str = "", **storage: Any) -> list[MoverAnswer]:
    said: list[MoverAnswer] = []
    requests: list[MoverRequest] = [
        Fetch(url=url or web.url, place=str(folder / "fetched"), storage=settings(web, **storage))
    ]
    Mover(said.append, lambda: requests.pop(0) if requests else None).serve()
    return [one for one in said if not isinstance(one, Moved)]


@pytest.fixture
def in_s3(web: Web, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the address in S3 at which the web server is asked."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://{web.host}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "key")
    return "s3://films/a.bin"


def settings(web: Web, **more: Any) -> Storage:
    return Storage(**{"mover": "", "private_hosts": (web.host,), **more})


def test_reading_goes_on_where_the_connection_broke(folder: Path, web: Web) -> None:
    web.at_once = 100_000

    (answer,) = fetched(folder, web)

    assert isinstance(answer, Fetched)
    assert Path(answer.path).read_bytes() == CONTENT
    assert web.asked == ["", "bytes=100000-", "bytes=200000-"]


def test_the_version_is_what_the_bytes_hash_to(folder: Path, web: Web) -> None:
    """Also where the server has no ETag, or only a weak one, and however often reading broke."""
    web.at_once = 100_000

    (answer,) = fetched(folder, web)

    assert isinstance(answer, Fetched)
    assert answer.version == hashlib.sha256(CONTENT).hexdigest()
    Path(answer.path).write_bytes(b"other")
    assert Input(answer.path, answer.version).facts(hashed=True).sha256 == answer.version, "it is not read once more"


def test_a_file_that_changes_in_the_middle_is_not_put_together(web: Web) -> None:
    source = WebSource(parsed(web.url), (web.host,))
    found = source.look()
    web.etag = '"2"'

    with pytest.raises(PlaceError, match="changed while it was read"):
        list(source.read(found, 100))


def test_reading_from_s3_goes_on_where_the_connection_broke(folder: Path, web: Web, in_s3: str) -> None:
    web.at_once = 100_000

    (answer,) = fetched(folder, web, in_s3)

    assert isinstance(answer, Fetched), answer
    assert Path(answer.path).read_bytes() == CONTENT
    assert web.asked == ["", "bytes=100000-", "bytes=200000-"]


@pytest.mark.parametrize("status", [412, 416])
def test_an_object_that_changes_between_two_questions_is_told_as_changed(
    folder: Path, web: Web, in_s3: str, status: int
) -> None:
    web.refused = status

    (answer,) = fetched(folder, web, in_s3)

    assert isinstance(answer, Refused)
    assert (answer.kind, answer.message) == ("changed", "s3://films/a.bin changed while it was read")


@pytest.mark.parametrize("where", ["web", "s3"])
def test_other_bytes_than_were_asked_for_are_not_put_together(folder: Path, web: Web, in_s3: str, where: str) -> None:
    web.at_once, web.shift = 100_000, 1000

    (answer,) = fetched(folder, web, in_s3 if where == "s3" else "")

    assert isinstance(answer, Refused)
    assert answer.kind == "changed"
    assert "the requested bytes" in answer.message
    assert web.asked == ["", "bytes=100000-"]


def test_an_answer_of_which_nobody_can_tell_whether_it_is_whole_is_refused(folder: Path, web: Web) -> None:
    web.length, web.at_once = False, 1000

    (answer,) = fetched(folder, web)

    assert isinstance(answer, Refused)
    assert answer.kind == "failed"
    assert "neither its length" in answer.message


def test_a_host_is_refused_by_what_its_name_means(web: Web) -> None:
    url = parsed("https://films.example.org/a")
    for address in ("169.254.169.254", "127.0.0.1", "10.0.0.1", "::1", "fd00:ec2::254"):
        source = WebSource(url, (), resolve=lambda _host, _port, found=address: [found])  # type: ignore[misc]
        with pytest.raises(PlaceError, match="not allowed") as refused:
            source.look()
        assert refused.value.kind == "forbidden"
    assert web.asked == []


@pytest.mark.parametrize("url", ["http://example.org/in/", "https://10.0.0.5/in/", "https://example.org:9000/in/"])
def test_a_place_that_no_attempt_may_reach_is_not_told_as_reached(url: str) -> None:
    (answer,) = told(Look(url=url, storage=Storage(mover="")))

    assert isinstance(answer, Refused)
    assert answer.kind == "forbidden"


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path, web: Web) -> None:
    key, certificate = make_certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    web.server.socket = context.wrap_socket(web.server.socket, server_side=True)
    source = WebSource(
        parsed(f"https://localhost:{web.server.server_port}/a"), (f"localhost:{web.server.server_port}",)
    )

    with pytest.raises(PlaceError, match="certificate") as refused:
        source.look()
    assert "SSL_CERT_FILE" in refused.value.remedy


def make_certificate(tmp_path: Path) -> tuple[Path, Path]:
    from datetime import UTC, datetime, timedelta  # noqa: PLC0415 - for one test

    from cryptography import x509  # noqa: PLC0415
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    paths = tmp_path / "key.pem", tmp_path / "certificate.pem"
    plain = serialization.NoEncryption()
    pem = serialization.Encoding.PEM
    paths[0].write_bytes(key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain))
    paths[1].write_bytes(certificate.public_bytes(pem))
    return paths


def test_a_file_that_does_not_fit_on_the_disk_is_refused_at_once(
    folder: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: shutil._ntuple_diskusage(10**9, 10**9, 1000))

    (answer,) = fetched(folder, web)

    assert isinstance(answer, Refused)
    assert "no space left on device" in answer.message


def test_an_unknown_failure_is_told_without_its_words(folder: Path) -> None:
    class Odd(Mover):
        def _do(self, _wish: MoverRequest) -> None:
            raise RuntimeError("canary")

    said: list[MoverAnswer] = []
    requests: list[MoverRequest] = [Fetch(url="s3://films/a", place=str(folder), storage=Storage(mover=""))]
    Odd(said.append, lambda: requests.pop(0) if requests else None).serve()

    assert said == [Refused(kind="failed", message="The file could not be moved: RuntimeError")]


# --- uploads ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    server = S3Server()
    yield server
    server.close()


@pytest.fixture(scope="module")
def known(server: S3Server) -> Any:
    """Make a client, which takes long."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment.items():
            patch.setenv(name, value)
        return make_client()


@pytest.fixture
def client(server: S3Server, known: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Return a client of an empty bucket."""
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    known.create_bucket(Bucket="results")
    yield known
    server.overload(0)
    known.delete_object(Bucket="results", Key="a")
    for found in known.list_multipart_uploads(Bucket="results").get("Uploads", []):
        known.abort_multipart_upload(Bucket="results", Key="a", UploadId=found["UploadId"])


def test_an_upload_that_cannot_be_called_off_is_called_off_later(
    folder: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    call_off = s3.call_off
    monkeypatch.setattr(s3, "call_off", lambda *_: False)

    answered = told(stored(folder))
    assert answered == [Ready()], "nobody asked for the output"
    assert [path.name for path in sorted((folder / "uploads").iterdir())] == ["1-1.json", "1-1.json.lock"]

    monkeypatch.setattr(s3, "call_off", call_off)
    assert told(Sweep(folder=str(folder))) == [Swept(count=1)]
    assert client.list_multipart_uploads(Bucket="results").get("Uploads", []) == []
    assert list((folder / "uploads").iterdir()) == []


def test_an_upload_that_somebody_else_has_called_off_may_be_tried_again(
    folder: Path, server: S3Server, client: Any
) -> None:
    said: list[MoverAnswer] = []

    def hear() -> MoverRequest | None:
        if not said:
            return stored(folder)
        if len(said) > 2:
            return None
        for found in client.list_multipart_uploads(Bucket="results")["Uploads"]:
            client.abort_multipart_upload(Bucket="results", Key="a", UploadId=found["UploadId"])
            server.refuse(f"/results/a?uploadId={found['UploadId']}", 404, "NoSuchUpload")  # moto answers with 500
        return Appear()

    Mover(said.append, hear).serve()

    assert isinstance(said[-1], Refused)
    assert said[-1].kind == "unreachable"


def test_a_lost_answer_is_no_failure_when_the_object_has_appeared(
    folder: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    complete = s3.S3Upload._complete

    def lost(self: s3.S3Upload, condition: dict[str, str]) -> None:
        complete(self, condition)
        raise PlaceError("unreachable", "the answer was lost")

    monkeypatch.setattr(s3.S3Upload, "_complete", lost)
    assert told(stored(folder), Appear()) == [Ready(), Stored()]
    assert client.get_object(Bucket="results", Key="a")["Body"].read() == b"abc"


def give_time(monkeypatch: pytest.MonkeyPatch, **functions: Any) -> None:
    """Let time pass faster for everything that waits here, but not for the services of other tests in this process."""
    for module in (s3, mover, endpoint):
        monkeypatch.setattr(module, "time", SimpleNamespace(**{**vars(time), **functions}))


@pytest.mark.parametrize("status", [503, 429])
@pytest.mark.parametrize("where", ["web", "s3"])
def test_a_server_that_is_away_when_an_input_is_asked_for_costs_no_attempt(
    folder: Path, web: Web, in_s3: str, monkeypatch: pytest.MonkeyPatch, where: str, status: int
) -> None:
    pauses: list[float] = []

    def back_after_a_while(seconds: float) -> None:
        pauses.append(seconds)
        if sum(pauses) > 30:
            web.away = 0

    give_time(monkeypatch, sleep=back_after_a_while)
    web.away = status

    (answer,) = fetched(folder, web, in_s3 if where == "s3" else "")

    assert isinstance(answer, Fetched)
    assert Path(answer.path).read_bytes() == CONTENT


@pytest.mark.parametrize("where", ["web", "s3"])
def test_a_server_that_is_not_there_is_told_in_plain_words(
    folder: Path, web: Web, in_s3: str, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    give_time(monkeypatch, sleep=lambda _seconds: None)
    web.server.shutdown()
    web.server.server_close()

    url = in_s3 if where == "s3" else web.url
    (answer,) = fetched(folder, web, url)

    assert isinstance(answer, Refused)
    why = "nothing listens at that host and port (connection refused)"
    assert (answer.kind, answer.message) == ("unreachable", f"{url} cannot be reached: {why}")


def test_an_input_is_not_asked_for_for_ever(folder: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    give_time(monkeypatch, sleep=pauses.append)
    web.away = 503

    (answer,) = fetched(folder, web)

    assert isinstance(answer, Refused)
    assert answer.kind == "unreachable"
    assert 40 < sum(pauses) < 60


@pytest.mark.parametrize("status", [404, 403])
def test_an_input_that_is_not_there_is_asked_for_once(folder: Path, web: Web, status: int) -> None:
    web.away = status

    (answer,) = fetched(folder, web)

    assert isinstance(answer, Refused)
    assert web.asked == [""]


@pytest.mark.parametrize("name", ["a", "empty"])
def test_a_server_that_is_away_for_a_moment_costs_no_upload(
    folder: Path, server: S3Server, client: Any, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """It happens to each step; the bytes that were sent are worth the wait, and so is the work that made them."""
    pauses: list[float] = []
    give_time(monkeypatch, sleep=pauses.append)
    server.overload(9)  # botocore itself tries four times
    request = stored(folder)
    if name == "empty":
        Path(request.path).write_bytes(b"")

    assert told(request, Appear()) == [Ready(), Stored()]

    assert s3._PAUSE in pauses
    assert client.head_object(Bucket="results", Key="a")["ContentLength"] == (3 if name == "a" else 0)


@pytest.mark.usefixtures("client")
def test_an_upload_is_not_tried_for_ever(folder: Path, server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    give_time(
        monkeypatch,
        sleep=lambda seconds: clock.__setitem__(0, clock[0] + seconds),
        monotonic=lambda: clock[0],
    )
    said: list[MoverAnswer] = []

    def hear() -> MoverRequest | None:
        server.overload(10**6 if said else 0)
        return stored(folder) if not said else Appear() if len(said) == 2 else None

    Mover(said.append, hear).serve()

    assert isinstance(said[-1], Refused)
    assert said[-1].kind == "unreachable"
    assert 600 < clock[0] < 700


def test_what_a_later_attempt_has_stored_is_not_replaced(folder: Path, client: Any) -> None:
    """The node of the earlier one was cut off, and it still has its grant."""
    marks = {"tasktrail-task": "o/1", "tasktrail-task-attempt": "1-2 abc"}
    client.put_object(Bucket="results", Key="a", Body=b"later", Metadata=marks)

    (answer,) = told(stored(folder))

    assert isinstance(answer, Refused)
    assert answer.kind == "exists"
    assert "A later attempt" in answer.message


@pytest.mark.usefixtures("client")
def test_nothing_is_left_of_an_upload_whose_bucket_is_gone(folder: Path) -> None:
    s3.write_down(folder / "uploads" / "9-1.json", {"Bucket": "gone", "Key": "a"}, "x")
    assert told(Sweep(folder=str(folder))) == [Swept(count=1)]
    assert list((folder / "uploads").iterdir()) == []


def stored(folder: Path) -> Store:
    file = folder / "file"
    file.write_bytes(b"abc")
    return Store(url="s3://results/a", path=str(file), folder=str(folder), name="1-1", owner="o/1", overwrite=False)


def told(*asked: MoverRequest) -> list[MoverAnswer]:
    said: list[MoverAnswer] = []
    requests = list(asked)
    Mover(said.append, lambda: requests.pop(0) if requests else None).serve()
    return [one for one in said if not isinstance(one, Moved)]


# --- what lies here ---------------------------------------------------------------------------------------------------


def test_what_another_node_uses_stays_for_a_week(folder: Path) -> None:
    """Not all storage that several nodes share passes locks from one to another."""
    places = [folder / "fetched" / place_of(task_id, 1, node) for task_id, node in ((1, "a/b"), (2, "c"), (3, ""))]
    for place in places:
        place.mkdir()
        lock_of(place).touch()
    old = folder / "results" / place_of(4, 1, "lost")
    lock_of(old).touch()
    os.utime(lock_of(old), (0, 0))

    clear_up(folder, "a/b")

    assert [place.exists() for place in places] == [False, True, True]
    assert list((folder / "results").iterdir()) == []


def test_whoever_looks_for_a_moment_whether_a_lock_is_held_is_in_nobodys_way(folder: Path) -> None:
    path = folder / "a.lock"
    looks = hold(path)
    timer = threading.Timer(0.02, os.close, (looks,))
    timer.start()
    os.close(hold(path, patience=10))
    timer.join()


def test_what_somebody_holds_stays_and_all_else_goes(folder: Path) -> None:
    held, free = folder / "fetched" / "1-1", folder / "fetched" / "2-1"
    for place in (held, free, folder / "results" / "2-1"):
        place.mkdir()
        (place / "file").write_text("x")
    (folder / "results" / "3-1.lock").touch()
    lock = hold(lock_of(held))
    try:
        with pytest.raises(LockHeld):
            hold(lock_of(held))
        clear_up(folder)
        assert (held.exists(), free.exists()) == (True, False)
        assert list((folder / "results").iterdir()) == []
    finally:
        os.close(lock)

    clear_up(folder)

    assert list((folder / "fetched").iterdir()) == []
