"""Tokens are shown once, kept as a hash, named in the history, and useless as soon as they are revoked."""

import http.client
import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import pytest
from from_outside import files_with
from owner import secret_file

from tasktrail import AsyncClient, Client
from tasktrail.api.reader import Reader
from tasktrail.api.service import TaskService
from tasktrail.api.wire import UnencryptedTokenWarning, token_in
from tasktrail.cli.session import Environment, Session
from tasktrail.config.settings import Config
from tasktrail.errors import Forbidden, Unauthorized
from tasktrail.events.commands import AddToken, AdjustTask
from tasktrail.events.errors import InvalidPath, InvalidValue, TokenExists, UnknownToken
from tasktrail.events.system_events import TokenAdded, TokenRevoked
from tasktrail.functions.default_client import default_client
from tasktrail.http.access import Access
from tasktrail.http.backend import CommandsOf
from tasktrail.http.server import HttpServer
from tasktrail.http.sessions import Sessions

Eventually = Callable[[Callable[[], bool]], bool]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[TaskService]:
    with TaskService.open(tmp_path / "data", config=Config(workers=1, snapshot_every=2)) as service:
        yield service


@pytest.fixture
def port(house: TaskService) -> Iterator[HttpServer]:
    server = HttpServer(
        house,
        socket_path=house.paths.socket,
        secret_file=secret_file(house.paths.data),
        session_file=house.paths.http_sessions,
    )
    server.start()
    yield server
    assert server.stop()


def status(server: HttpServer, secret: str, path: str = "/v1/stats") -> int:
    headers = {"authorization": f"Bearer {secret}"}
    return httpx.get(f"{server.address}{path}", headers=headers, trust_env=False).status_code


def test_a_token_is_good_from_the_answer_on_and_worth_nothing_from_the_next(
    house: TaskService, port: HttpServer
) -> None:
    for _ in range(20):
        secret = house.add_token("ci", "reader")
        assert status(port, secret) == 200
        house.revoke_token("ci")
        assert status(port, secret) == 401


def test_the_secret_is_nowhere_but_with_whoever_asked_for_it(
    house: TaskService, port: HttpServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = house.add_token("ci", "submitter", reason="for the tests")
    with httpx.Client(base_url=port.address, trust_env=False) as browser:
        assert browser.post("/login", data={"token": secret}).status_code == 303
        (cookie,) = browser.cookies.values()
        assert browser.get("/v1/tasks").status_code == 200
    status(port, secret)
    status(port, secret + "x")
    with closing(sqlite3.connect(house.paths.log)) as base:
        base.execute("PRAGMA wal_checkpoint(FULL)")
    with Client.connect(house.paths.data) as client:
        everything = json.dumps([record.flat() for record in client.log()], default=str)
    assert files_with(tmp_path, secret) == []
    assert files_with(tmp_path, cookie) == []
    assert secret not in everything
    assert sha256(secret.encode()).hexdigest() in everything
    assert secret not in "".join(capfd.readouterr())


def test_adding_and_revoking_are_recorded_with_actor_and_reason(house: TaskService) -> None:
    house.add_token("ada", "operator", user_id=7, reason="works here", actor="boss")
    house.revoke_token("ada", reason="left", actor="boss")
    added, revoked = [record for record in house.log() if isinstance(record.event, TokenAdded | TokenRevoked)]
    assert (added.actor, added.reason, revoked.actor, revoked.reason) == ("boss", "works here", "boss", "left")
    assert house.tokens() == []


def test_tokens_outlive_a_restart_with_and_without_a_snapshot(tmp_path: Path) -> None:
    for every in (0, 1):
        config = Config(workers=1, snapshot_every=every)
        with TaskService.open(tmp_path / str(every), config=config) as service:
            secret = service.add_token("ci", "reader", user_id=3)
            service.revoke_token(service.tokens()[0].token)
            secret = service.add_token("ci", "reader", user_id=4)
        with TaskService.open(tmp_path / str(every), config=config) as service:
            assert [(token.token, token.user_id) for token in service.tokens()] == [("ci", 4)]
            assert set(service.known_tokens) == {sha256(secret.encode()).hexdigest()}
        with closing(Reader(tmp_path / str(every))) as reader:
            assert [token.token for token in reader.tokens()] == ["ci"]


def test_a_token_expires_by_itself_and_what_it_has_opened_ends(
    house: TaskService, port: HttpServer, eventually: Eventually
) -> None:
    soon = datetime.now(UTC) + timedelta(seconds=1.5)
    secret = house.add_token("brief", "reader", expires_at=soon)
    headers = {"authorization": f"Bearer {secret}"}
    assert status(port, secret) == 200
    with (
        pytest.raises(httpx.TransportError),
        httpx.stream("GET", f"{port.address}/v1/events?follow=true", headers=headers, trust_env=False) as stream,
    ):
        for _ in stream.iter_bytes():
            pass
    assert datetime.now(UTC) >= soon
    assert eventually(lambda: status(port, secret) == 401)


def test_revoking_cuts_streams_off_and_ends_sessions(house: TaskService, port: HttpServer) -> None:
    secret = house.add_token("ada", "reader")
    kept = house.add_token("bob", "reader")
    over, began = threading.Event(), threading.Event()

    def follow() -> None:
        address, headers = f"{port.address}/v1/events?follow=true", {"authorization": f"Bearer {secret}"}
        try:
            with httpx.stream("GET", address, headers=headers, trust_env=False, timeout=30) as stream:
                for _ in stream.iter_bytes():
                    began.set()
        except httpx.TransportError:
            over.set()

    with httpx.Client(base_url=port.address, trust_env=False) as browser, httpx.Client(trust_env=False) as other:
        browser.post("/login", data={"token": secret})
        other.post(f"{port.address}/login", data={"token": kept})
        assert browser.get("/v1/stats").status_code == 200
        thread = threading.Thread(target=follow)
        thread.start()
        assert began.wait(20)
        house.revoke_token("ada")
        assert over.wait(20)
        thread.join()
        assert browser.get("/v1/stats").status_code == 401
        assert other.get(f"{port.address}/v1/stats").status_code == 200


def test_a_connection_at_rest_outlives_the_token_that_came_over_it(house: TaskService, port: HttpServer) -> None:
    # Behind a proxy the next request on this connection may come from another client.
    secret, kept = house.add_token("ada", "reader"), house.add_token("bob", "reader")
    url = httpx.URL(port.address)
    connection = http.client.HTTPConnection(url.host, url.port, timeout=20)
    connection.connect()
    connection.auto_open = 0  # it has this one socket

    def ask(secret: str) -> int:
        connection.request("GET", "/v1/stats", headers={"authorization": f"Bearer {secret}"})
        answer = connection.getresponse()
        answer.read()
        return answer.status

    with closing(connection):
        assert ask(secret) == 200
        house.revoke_token("ada")
        assert [status(port, secret) for _ in range(3)] == [401] * 3, "so the server's loop has been round"
        assert [ask(kept), ask(secret)] == [200, 401]


def test_revoking_ends_what_is_still_being_done_for_many_tasks(house: TaskService) -> None:
    secret = house.add_token("ada", "operator")
    access = Access("", Sessions(), lambda: house.known_tokens)
    commands = CommandsOf(house, house, access.shown(secret.encode()), access)

    def adjust(number: int) -> AdjustTask:
        return AdjustTask(task_id=number, priority=1)

    assert set(commands.send_each([1], adjust).refused) == {1}
    house.revoke_token("ada")
    with pytest.raises(Unauthorized, match="no longer valid"):
        commands.send_each([1], adjust)


def test_a_session_of_a_revoked_token_does_not_come_back_with_the_same_secret(
    house: TaskService, port: HttpServer
) -> None:
    secret = house.add_token("ada", "reader")
    with httpx.Client(base_url=port.address, trust_env=False) as browser:
        browser.post("/login", data={"token": secret})
        house.revoke_token("ada")
        assert browser.get("/v1/stats").status_code == 401
        house.send(AddToken(token="ada", role="reader", digest=sha256(secret.encode()).hexdigest()))
        assert status(port, secret) == 200
        assert browser.get("/v1/stats").status_code == 401


@pytest.mark.parametrize("name", ["", "scheduler", "HTTP", "python", "a b", "-x", "ä", "x" * 65, "a/b", "\n"])
def test_a_name_that_would_mislead_is_refused(house: TaskService, name: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        house.add_token(name, "reader")
    assert refused.value.field == "token"


def test_what_could_do_no_good_is_refused(house: TaskService) -> None:
    with pytest.raises(InvalidValue, match="admin"):
        house.add_token("boss", "admin", user_id=7)
    with pytest.raises(InvalidValue, match="expired"):
        house.add_token("old", "reader", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(UnknownToken):
        house.revoke_token("nobody")
    house.add_token("ci", "reader")
    with pytest.raises(TokenExists):
        house.add_token("ci", "reader")


@pytest.mark.parametrize("digest", ["", "x", "A" * 64, "0" * 63, 5])
def test_only_a_hash_is_taken_and_never_a_secret(port: HttpServer, digest: Any) -> None:
    headers = {"authorization": f"Bearer {secret_file(Path(port._service.paths.data)).read_text()}"}
    body = {"token": "x", "role": "reader", "digest": digest}
    answer = httpx.post(f"{port.address}/v1/tokens", json=body, headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["field"]) == (400, "digest")


def test_an_admin_gives_tokens_out_over_the_port_and_nobody_else_does(house: TaskService, port: HttpServer) -> None:
    admin, operator = house.add_token("boss", "admin"), house.add_token("op", "operator")
    with Client(port.address, token=admin) as client:
        secret = client.add_token("ci", "reader", actor="somebody else")
        assert [token.token for token in client.tokens()] == ["boss", "ci", "op"]
        assert [token.actor for token in client.tokens()] == ["python", "boss", "python"]
    assert status(port, secret) == 200
    with Client(port.address, token=operator) as client:
        with pytest.raises(Forbidden):
            client.add_token("more", "admin")
        with pytest.raises(Forbidden):
            client.tokens()
    with Client(port.address, token=admin) as client:
        client.revoke_token("op")
    with pytest.raises(Unauthorized), Client(port.address, token=operator) as client:
        client.stats()


def test_an_address_that_logs_in_does_so_as_whoever_asked_for_it(house: TaskService, port: HttpServer) -> None:
    with Client(port.address, token=house.add_token("ada", "reader")) as client:
        address = client.login_address()
    with httpx.Client(base_url=port.address, trust_env=False) as browser:
        assert browser.get(address).status_code == 303
        assert browser.get("/v1/stats").status_code == 200
        assert browser.get("/v1/tokens").status_code == 403


@pytest.mark.slow
def test_a_program_shows_the_token_in_a_file_and_nobody_sees_it_in_the_list_of_processes(
    house: TaskService, port: HttpServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "ci.token"
    file.write_text(house.add_token("ci", "reader") + "\n")
    line = [sys.executable, "-m", "tasktrail", "--url", port.address, "--token-file", str(file), "stats"]
    shown = subprocess.run(line, capture_output=True, text=True, check=False)
    assert (shown.returncode, shown.stderr) == (0, "")
    monkeypatch.setenv("TASKTRAIL_URL", port.address)
    monkeypatch.setenv("TASKTRAIL_TOKEN_FILE", str(file))
    monkeypatch.delenv("TASKTRAIL_TOKEN", raising=False)
    assert default_client().stats().total == 0


@pytest.mark.parametrize("content", [None, b"", b" \n", b"\xff\xfe", b"x" * 5000])
def test_a_file_that_holds_no_token_is_told_by_name(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "ci.token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidPath, match=r"ci\.token") as refused:
        token_in(file)
    assert refused.value.field == "token_file"


AWAY = "http://tasks.example.org"


def test_a_client_warns_before_its_token_crosses_the_network_unencrypted(monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://localhost:1", "http://page.localhost", "http://127.0.0.2", "http://[::1]:80", AWAY):
        Client(url).close()
    for url in ("http://localhost:1", "http://page.localhost", "http://127.0.0.2", "http://[::1]:80"):
        Client(url, token="secret").close()  # warnings are errors
    Client(AWAY.replace("http", "https"), token="secret").close()
    for url in (AWAY, "HTTP://192.168.1.2:8080", "http://localhost.example.org", "http://[2001:db8::1]"):
        with pytest.warns(UnencryptedTokenWarning, match="unencrypted.*https://"):
            Client(url, token="secret").close()
        with pytest.warns(UnencryptedTokenWarning):
            AsyncClient(url, token="secret")
    monkeypatch.setenv("TASKTRAIL_UNENCRYPTED", "1")
    Client(AWAY, token="secret").close()


def test_the_command_line_warns_once_before_its_token_crosses_the_network_unencrypted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    environment = Environment()
    session = Session(environment=environment, url=AWAY, token="secret")
    for _ in range(2):
        service = environment.service(session)
        assert isinstance(service, Client)
        service.close()
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("tasks.example.org") == 1
    assert shown.err.count("TASKTRAIL_UNENCRYPTED=1") == 1
