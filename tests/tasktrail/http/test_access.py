"""Who gets answers at the port: the service's own user, root, and whoever has the secret. Nobody else."""

import json
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tasktrail import Client
from tasktrail.api.service import TaskService
from tasktrail.errors import ListenFailed, Unauthorized
from tasktrail.events.errors import InvalidValue
from tasktrail.http import access
from tasktrail.http.access import Access, Peers, token_in
from tasktrail.http.server import HttpServer

Serve = Callable[..., HttpServer]
NOBODY = 65534
AS_NOBODY = """
import encodings.idna, json, os, socket, sys
host, port, requests = sys.argv[1], int(sys.argv[2]), json.load(sys.stdin)
os.setgroups([]), os.setgid(65534), os.setuid(65534)
answers = []
for request in requests:
    with socket.create_connection((host, port)) as connection:
        connection.sendall(request.encode("latin-1"))
        answer = b""
        while part := connection.recv(65536):
            answer += part
    answers.append(answer.decode("latin-1"))
json.dump(answers, sys.stdout)
"""
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def asked_by_nobody(address: str, requests: Sequence[str]) -> list[str]:
    """Raw answers to raw requests, each of which has to end its connection."""
    url = httpx.URL(address)
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, url.host, str(url.port)],
        input=json.dumps(requests).encode(),
        capture_output=True,
        check=True,
        timeout=60,
    )
    return [str(answer) for answer in json.loads(done.stdout)]


def request(method: str, path: str, **headers: str) -> str:
    more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n"


def every_route(address: str) -> list[tuple[str, str]]:
    paths = httpx.get(f"{address}/openapi.json", trust_env=False).json()["paths"]
    known = [
        (method.upper(), path.replace("{task_id}", "1").replace("{schedule}", "x"))
        for path, operations in paths.items()
        for method in operations
    ]
    return [*known, ("GET", "/openapi.json"), ("GET", "/"), ("GET", "/nowhere"), ("DELETE", "/v1/tasks")]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """A connection over loopback: the end that has connected, and the one that has accepted."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    with near, far:
        yield near, far


@root_only
def test_another_user_gets_nothing_on_any_route(serve: Serve) -> None:
    address = serve().address
    routes = every_route(address)
    assert len(routes) > 30
    answers = asked_by_nobody(address, [request(*route) for route in routes])
    for answer in answers:
        head, _, body = answer.partition("\r\n\r\n")
        assert head.startswith("HTTP/1.1 401 ")
        assert "www-authenticate: Bearer" in head
        assert "content-type: application/problem+json" in head
        assert json.loads(body)["code"] == "unauthorized"


@root_only
def test_another_user_gets_nothing_for_what_is_no_request_either(serve: Serve) -> None:
    (answer,) = asked_by_nobody(serve().address, ["\x00\x01 garbage\r\n\r\n"])
    assert answer.startswith("HTTP/1.1 401 ")


@root_only
def test_another_user_with_the_secret_gets_answers(serve: Serve, tmp_path: Path) -> None:
    server = serve(token_file=tmp_path / "token")
    token = (tmp_path / "token").read_text().strip()
    good, scheme, bad, empty = asked_by_nobody(
        server.address,
        [
            request("GET", "/healthz", Authorization=shown)
            for shown in (f"Bearer {token}", f"bearer {token}", f"Bearer {token}x", "")
        ],
    )
    assert good.startswith("HTTP/1.1 200 ")
    assert scheme.startswith("HTTP/1.1 200 ")
    assert bad.startswith("HTTP/1.1 401 ")
    assert empty.startswith("HTTP/1.1 401 ")


def test_where_the_kernel_does_not_say_who_it_is_the_secret_is_needed(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Peers, "user_of", lambda _self, _connection: None)
    server = serve(token_file=tmp_path / "token")
    with httpx.Client(base_url=server.address, trust_env=False) as plain:
        for path in ("/healthz", "/openapi.json", "/v1/tasks", "/nowhere"):
            answer = plain.get(path)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
    with pytest.raises(Unauthorized, match="http-token"), Client(server.address) as stranger:
        stranger.types()
    with Client(server.address, token=(tmp_path / "token").read_text().strip()) as friend:
        assert friend.types()
        assert list(friend.log(limit=1))
    with Client("http://localhost", socket=tmp_path / "other.sock") as unix:
        assert unix.types()


@pytest.mark.parametrize("shown", [b"Bearer wrong", b"Bearer", b"", b"Basic eA==", b"Bearer \xff\xfe", b"\xff"])
def test_a_secret_that_is_shown_has_to_be_right_even_from_the_own_user(
    serve: Serve, tmp_path: Path, shown: bytes
) -> None:
    server = serve(token_file=tmp_path / "token")
    answer = httpx.get(f"{server.address}/healthz", headers=[(b"authorization", shown)], trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_without_a_secret_none_is_right() -> None:
    access = Access("")
    assert not access.takes(b"Bearer ")
    assert not access.takes(b"Bearer x")
    access.close()


def test_the_secret_is_made_once_for_the_owner_only_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "http-token"
    token = token_in(path)
    assert len(token) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert token_in(path) == token
    assert [file.name for file in tmp_path.iterdir()] == ["http-token"]


def test_a_secret_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "http-token"
    token = token_in(path)
    path.chmod(0o644)
    assert token_in(path) != token
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"short", b"with blanks in the middle of it", b"\xff" * 40, b"x" * 5000])
def test_a_file_that_holds_no_secret_is_told_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "http-token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ListenFailed, match="http-token"):
        token_in(path)
    assert path.read_bytes() == content


def test_a_link_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x" * 40)
    (tmp_path / "http-token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ListenFailed):
        token_in(tmp_path / "http-token")


def test_where_no_secret_can_be_written_there_is_none(tmp_path: Path) -> None:
    assert token_in(tmp_path / "missing" / "http-token") == ""


@pytest.mark.parametrize("token", ["with blank", "line\nend", "\u4efb\u52a1"])
def test_a_client_refuses_a_token_that_no_header_can_hold(serve: Serve, token: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        Client(serve().address, token=token)
    assert refused.value.field == "token"


def test_the_kernel_names_the_user_of_a_connection(pair: tuple[socket.socket, socket.socket]) -> None:
    kernel = Peers()
    assert kernel.user_of(pair[1]) == os.geteuid()
    pair[0].shutdown(socket.SHUT_WR)
    assert kernel.user_of(pair[1]) == os.geteuid()
    kernel.close()


def test_its_table_says_the_same(pair: tuple[socket.socket, socket.socket]) -> None:
    """For kernels, and sandboxes, that do not answer the question about one connection."""
    kernel = Peers()
    kernel.close()
    assert kernel.user_of(pair[1]) == os.geteuid()
    assert kernel.user_of(pair[0]) == os.geteuid()


@pytest.mark.parametrize("way", ["asked", "table"])
def test_who_has_hung_up_is_nobody(pair: tuple[socket.socket, socket.socket], way: str) -> None:
    """The kernel says user 0 for a socket without a process: whoever sends and closes must not pass for root."""
    kernel = Peers()
    if way == "table":
        kernel.close()
    near, far = pair
    near.sendall(b"POST / HTTP/1.1\r\n\r\n")
    near.close()
    assert far.recv(100)
    assert far.recv(100) == b""
    assert kernel.user_of(far) is None
    kernel.close()


def test_where_there_is_no_table_nobody_is_known(
    pair: tuple[socket.socket, socket.socket], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(access, "_TABLES", {socket.AF_INET: tmp_path / "none"})
    kernel = Peers()
    kernel.close()
    assert kernel.user_of(pair[1]) is None


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site"])
def test_what_a_page_of_another_site_makes_a_browser_ask_is_refused(web: httpx.Client, site: str) -> None:
    for path in ("/healthz", "/v1/tasks", "/v1/verify", "/nowhere"):
        answer = web.get(path, headers={"sec-fetch-site": site})
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong_origin")


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_an_address_that_was_typed_and_our_own_pages_pass(web: httpx.Client, site: str) -> None:
    assert web.get("/healthz", headers={"sec-fetch-site": site}).status_code == 200


def test_the_data_folder_is_for_its_owner_only(service: TaskService, data: Path, tmp_path: Path) -> None:
    assert service.paths.data == data
    with TaskService.open(tmp_path / "fresh"):
        made: dict[str, Any] = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "fresh").iterdir()}
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o700
    assert made
