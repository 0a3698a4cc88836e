"""The process that moves bytes, without the process: files on the web, and what lies on this machine meanwhile."""

import os
import shutil
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasktrail.actors.storage.mover import Mover
from tasktrail.actors.storage.places import PlaceError
from tasktrail.actors.storage.web import WebSource
from tasktrail.handlers.elsewhere import (
    Answer,
    Busy,
    Fetch,
    Fetched,
    Moved,
    Refused,
    Storage,
    Wish,
    clear_up,
    entry_of,
    hold,
    lock_of,
    make_folders,
)
from tasktrail.handlers.urls import parsed

CONTENT = os.urandom(300_000)


class Web:
    """A web server that breaks connections: of each answer it sends `at_once` bytes at most."""

    def __init__(self) -> None:
        self.at_once = len(CONTENT)
        self.etag = '"1"'
        self.asked: list[str] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                wanted = self.headers.get("Range", "")
                web.asked.append(wanted)
                start = int(wanted[6:-1]) if wanted and self.headers.get("If-Range") == web.etag else 0
                self.send_response(206 if start else 200)
                self.send_header("ETag", web.etag)
                self.send_header("Content-Length", str(len(CONTENT) - start))
                if start:
                    self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
                self.end_headers()
                self.wfile.write(CONTENT[start : start + web.at_once])

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


def fetched(folder: Path, web: Web, **storage: Any) -> list[Answer]:
    said: list[Answer] = []
    wishes: list[Wish] = [Fetch(url=web.url, folder=str(folder), storage=settings(web, **storage))]
    Mover(said.append, lambda: wishes.pop(0) if wishes else None).serve()
    return [one for one in said if not isinstance(one, Moved)]


def settings(web: Web, **more: Any) -> Storage:
    return Storage(**{"mover": "", "private_hosts": (web.host,), "cache": 10**9, **more})


def test_reading_goes_on_where_the_connection_broke(folder: Path, web: Web) -> None:
    web.at_once = 100_000

    (answer,) = fetched(folder, web)

    assert isinstance(answer, Fetched)
    assert Path(answer.path).read_bytes() == CONTENT
    assert web.asked == ["", "bytes=100000-", "bytes=200000-"]


def test_a_file_that_changes_in_the_middle_is_not_put_together(web: Web) -> None:
    source = WebSource(parsed(web.url), (web.host,))
    found = source.look()
    web.etag = '"2"'

    with pytest.raises(PlaceError, match="changed while it was read"):
        list(source.read(found, 100))


def test_what_is_known_is_not_fetched_again(folder: Path, web: Web) -> None:
    (first,), (second,) = fetched(folder, web), fetched(folder, web)

    assert first == second


def test_a_host_is_refused_by_what_its_name_means(web: Web) -> None:
    url = parsed("https://films.example.org/a")
    for address in ("169.254.169.254", "127.0.0.1", "10.0.0.1", "::1", "fd00:ec2::254"):
        source = WebSource(url, (), resolve=lambda _host, _port, found=address: [found])  # type: ignore[misc]
        with pytest.raises(PlaceError, match="not allowed") as refused:
            source.look()
        assert refused.value.kind == "denied"
    assert web.asked == []


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
    assert [path for path in (folder / "fetched").iterdir() if path.is_dir()] == []


def test_an_unknown_failure_is_told_without_its_words(folder: Path) -> None:
    class Odd(Mover):
        def _do(self, _wish: Wish) -> None:
            raise RuntimeError("canary")

    said: list[Answer] = []
    wishes: list[Wish] = [Fetch(url="s3://films/a", folder=str(folder), storage=Storage(mover=""))]
    Odd(said.append, lambda: wishes.pop(0) if wishes else None).serve()

    assert said == [Refused(kind="failed", message="The file could not be moved: RuntimeError")]


# --- what lies here ---------------------------------------------------------------------------------------------------


def put(folder: Path, name: str, size: int, used: float) -> Path:
    entry = entry_of(folder, name, "1")
    entry.mkdir()
    (entry / "file").write_bytes(b"x" * size)
    os.close(hold(lock_of(entry)))
    os.utime(lock_of(entry), (used, used))
    return entry


def test_what_was_used_last_is_kept_last(folder: Path) -> None:
    old, middle, new = (put(folder, str(used), 100, used) for used in (1, 2, 3))

    clear_up(folder, 200)
    assert [path.exists() for path in (old, middle, new)] == [False, True, True]

    clear_up(folder, 0)
    assert list((folder / "fetched").iterdir()) == []


def test_what_is_in_use_stays(folder: Path) -> None:
    with ExitStack() as stack:
        entry = put(folder, "a", 100, 1)
        stack.callback(os.close, hold(lock_of(entry), shared=True))
        stack.callback(os.close, hold(lock_of(entry), shared=True))
        with pytest.raises(Busy):
            hold(lock_of(entry))
        clear_up(folder, 0)
        assert entry.exists()
    clear_up(folder, 0)
    assert not entry.exists()


def test_what_a_kill_has_left_goes(folder: Path) -> None:
    (folder / "fetched" / "k.part").mkdir()
    (folder / "fetched" / "k.part" / "half").write_text("x")
    (folder / "results" / "1-1").mkdir()

    clear_up(folder, 10**9)

    assert list((folder / "fetched").iterdir()) == list((folder / "results").iterdir()) == []


def test_two_fetches_of_what_cannot_be_told_apart_share_nothing(folder: Path, web: Web) -> None:
    web.etag = ""

    paths = {answer.path for _ in range(2) for answer in fetched(folder, web) if isinstance(answer, Fetched)}

    assert len(paths) == 2
