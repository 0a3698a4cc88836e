"""Other addresses, and TLS."""

import os
import queue
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
from owner import AUTH, SECRET
from structlog.testing import capture_logs

from tasktrail import Client
from tasktrail.api.service import TaskService
from tasktrail.errors import ListenFailed
from tasktrail.events.errors import ServiceUnreachable
from tasktrail.http import connections
from tasktrail.http import server as server_module
from tasktrail.http.network import Network, Proxies, RequestOrigin, leads_to
from tasktrail.http.server import Certificate, HttpServer

Serve = Callable[..., HttpServer]
Eventually = Callable[[Callable[[], bool]], bool]
openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


@pytest.fixture
def token(service: TaskService) -> object:
    secret = service.add_token("elsewhere", "reader")
    yield secret
    service.revoke_token("elsewhere")


EC = ("ec", "-pkeyopt", "ec_paramgen_curve:prime256v1")


def certificate(folder: Path, name: str = "localhost", new: tuple[str, ...] = EC) -> Network:
    """Make a certificate for that name, and its key."""
    cert, key = folder / f"{name}.pem", folder / f"{name}.key"
    command = ["openssl", "req", "-x509", "-newkey", *new, "-nodes"]
    names = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1", "-days", "2"]
    subprocess.run([*command, *names, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return Network(hosts=(name,), certificate=str(cert), key=str(key))


@openssl
def test_the_address_names_where_the_service_listens(serve: Serve, tmp_path: Path, token: object) -> None:
    """The name that a certificate is for is that of the network, which does not reach a loopback address."""
    network = certificate(tmp_path, "tasks.example.org")
    assert token
    assert serve(network=network).address.startswith("https://127.0.0.1:")
    everywhere = serve(network=network, host="0.0.0.0", socket_path=tmp_path / "second.sock")
    assert everywhere.address.startswith("https://tasks.example.org:")


@pytest.mark.parametrize(
    ("host", "leading"),
    [
        ("127.0.0.1", {"localhost", "film.localhost", "127.0.0.1"}),
        ("::1", {"localhost", "film.localhost", "[::1]"}),
        ("192.0.2.2", {"tasks.example.org", "192.0.2.2"}),
        ("0.0.0.0", {"localhost", "film.localhost", "tasks.example.org", "127.0.0.1", "[::1]", "192.0.2.2"}),
    ],
)
def test_a_name_leads_where_it_may(host: str, leading: set[str]) -> None:
    names = ("localhost", "film.localhost", "tasks.example.org", "127.0.0.1", "[::1]", "192.0.2.2")
    assert {name for name in names if leads_to(name, host)} == leading


@openssl
def test_the_port_speaks_tls_and_nothing_else(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = certificate(tmp_path)
    server = serve(network=network)
    assert server.address.startswith("https://localhost:")
    context = ssl.create_default_context(cafile=network.certificate)
    with httpx.Client(base_url=server.address, verify=context, trust_env=False, headers=AUTH) as client:
        assert client.get("/v1/stats").status_code == 200
        with client.stream("GET", "/v1/events?follow=true") as stream:
            assert next(stream.iter_bytes())
        entered = client.post("/login", data={"token": SECRET})
        assert entered.headers["set-cookie"].startswith("__Host-tasktrail_")
    with httpx.Client(trust_env=False) as plain, pytest.raises(httpx.TransportError):
        plain.get(server.address.replace("https", "http"))
    monkeypatch.setenv("SSL_CERT_FILE", network.certificate)
    with Client(server.address, token=SECRET) as friend:
        assert friend.types()
    monkeypatch.delenv("SSL_CERT_FILE")
    with Client(server.address, token=SECRET) as stranger, pytest.raises(ServiceUnreachable, match="SSL_CERT_FILE"):
        stranger.types()


@openssl
def test_a_certificate_that_was_renewed_is_read_again(tmp_path: Path) -> None:
    network = certificate(tmp_path)
    context = network.context()
    assert context is not None
    looked = Certificate(network, context)
    old = Path(network.certificate).read_text()
    renewed = certificate(tmp_path)
    assert Path(renewed.certificate).read_text() != old
    os.utime(renewed.certificate, ns=(1, 1))
    looked.look(1e9)
    assert looked._seen == looked._stamp()
    Path(network.certificate).write_text("broken")
    looked.look(2e9)
    assert looked._seen != looked._stamp()


def presented(server: HttpServer) -> str:
    """Return the certificate that a new connection is shown."""
    return ssl.get_server_certificate(("127.0.0.1", httpx.URL(server.address).port or 0))


@openssl
def test_half_a_renewal_leaves_the_old_certificate_in_use(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """The two files cannot be replaced at once."""
    monkeypatch.setattr(server_module, "_READ_EVERY", 0)
    monkeypatch.setattr(server_module, "_LOOK_IDLE_EVERY", 0.01)
    network = certificate(tmp_path)
    server = serve(network=network)
    old = presented(server)
    (tmp_path / "renewed").mkdir()
    renewed = certificate(tmp_path / "renewed")
    with capture_logs() as lines:
        shutil.copyfile(renewed.certificate, network.certificate)
        assert eventually(lambda: any("key values mismatch" in line.get("reason", "") for line in lines))
    assert presented(server) == old
    shutil.copyfile(renewed.key, network.key)
    assert eventually(lambda: presented(server) == Path(renewed.certificate).read_text())


@openssl
def test_a_renewed_certificate_of_another_kind_replaces_the_old_one(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """OpenSSL can keep one of each kind, and would show the old one to clients that prefer it."""
    monkeypatch.setattr(server_module, "_READ_EVERY", 0)
    both = tmp_path / "both.pem"
    rsa = certificate(tmp_path, new=("rsa:2048",))
    both.write_text(Path(rsa.key).read_text() + Path(rsa.certificate).read_text())
    server = serve(network=Network(hosts=rsa.hosts, certificate=str(both)))
    ec = certificate(tmp_path)
    both.write_text(Path(ec.key).read_text() + Path(ec.certificate).read_text())
    assert eventually(lambda: presented(server) == Path(ec.certificate).read_text())
    knows_rsa = ssl.create_default_context(cafile=ec.certificate)
    knows_rsa.maximum_version = ssl.TLSVersion.TLSv1_2
    knows_rsa.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")
    address = ("127.0.0.1", httpx.URL(server.address).port or 0)
    with socket.create_connection(address) as plain, pytest.raises(ssl.SSLError, match=r"HANDSHAKE_FAILURE|EOF"):
        knows_rsa.wrap_socket(plain, server_hostname="localhost")


@openssl
def test_connections_that_say_nothing_do_not_keep_others_from_tls(serve: Serve, tmp_path: Path) -> None:
    network = certificate(tmp_path)
    server = serve(network=network)
    port = httpx.URL(server.address).port or 0
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(50)]
    context = ssl.create_default_context(cafile=network.certificate)
    with httpx.Client(base_url=server.address, verify=context, trust_env=False) as client:
        assert client.get("/healthz").status_code == 200
    for one in silent:
        one.close()


@openssl
def test_where_too_many_begin_tls_and_say_nothing_the_first_of_them_makes_place(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "MOST_BEGINNING", 4)
    monkeypatch.setattr(connections, "GREETED_WITHIN", 3600.0)
    network = certificate(tmp_path)
    server = serve(network=network)
    port = httpx.URL(server.address).port or 0
    context = ssl.create_default_context(cafile=network.certificate)
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20)) for _ in range(4)]
        with httpx.Client(base_url=server.address, verify=context, trust_env=False) as client:
            assert client.get("/healthz").status_code == 200
        assert silent[0].recv(1) == b""


@openssl
def test_while_a_connection_agrees_on_tls_nobody_rests(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    """The deadlines of a connection begin with the first look at it."""
    monkeypatch.setattr(server_module, "_LOOK_EVERY", 0.01)
    monkeypatch.setattr(server_module, "_LOOK_IDLE_EVERY", 0.01)
    server = serve(network=certificate(tmp_path))
    state = server._server
    assert state is not None
    assert eventually(lambda: state.rests)
    seen: queue.Queue[bool] = queue.Queue()
    port = httpx.URL(server.address).port or 0
    with socket.create_connection(("127.0.0.1", port)):
        assert eventually(lambda: not state.rests)
        monkeypatch.setattr(Certificate, "look", lambda _self, _now: seen.put(state.rests))
        assert [seen.get(timeout=5) for _ in range(5)] == [False] * 5
    assert eventually(lambda: state.rests)


@pytest.mark.parametrize("content", ["", "no certificate"])
def test_a_certificate_that_cannot_be_used_is_told_by_name(serve: Serve, tmp_path: Path, content: str) -> None:
    path = tmp_path / "cert.pem"
    path.write_text(content)
    with pytest.raises(ListenFailed, match=r"cert\.pem") as refused:
        serve(network=Network(certificate=str(path)))
    assert refused.value.field == "tls_certificate"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_with_a_token_in_clear_the_port_stays_on_this_machine(serve: Serve, host: str, token: str) -> None:
    assert token
    with pytest.raises(ListenFailed, match="unencrypted") as refused:
        serve(host=host)
    assert refused.value.field == "host"


@openssl
def test_with_a_token_and_tls_the_port_is_open_to_others(serve: Serve, tmp_path: Path, token: str) -> None:
    network = certificate(tmp_path)
    server = serve(host="0.0.0.0", network=network)
    context = ssl.create_default_context(cafile=network.certificate)
    with httpx.Client(base_url=server.address, verify=context, trust_env=False) as client:
        assert client.get("/v1/stats").status_code == 401
        assert client.get("/v1/stats", headers={"authorization": f"Bearer {token}"}).status_code == 200


def test_behind_a_proxy_nobody_else_is_answered_in_clear(
    serve: Serve, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(host="0.0.0.0", network=Network(trusted_proxies=("127.0.0.1",)))
    shown = {"authorization": f"Bearer {token}"}
    with httpx.Client(base_url=server.address, trust_env=False) as client:
        told = {**shown, "x-forwarded-for": "192.0.2.1", "x-forwarded-proto": "https"}
        assert client.get("/v1/stats", headers=told).status_code == 200
        plain = RequestOrigin("192.0.2.7", "http", "localhost", plain=True)
        monkeypatch.setattr(Proxies, "source", lambda *_: plain)
        answer = client.get("/v1/stats", headers=told)
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")


FROM_THE_PROXY = {**AUTH, "x-forwarded-proto": "https"}


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("tasks.example.org", "https://tasks.example.org"),
        ("tasks.example.org:443", "https://tasks.example.org"),  # as some proxies write it; no browser does
        ("tasks.example.org:8443", "https://tasks.example.org:8443"),
    ],
)
def test_a_page_behind_a_proxy_is_of_this_service_however_the_port_is_written(
    serve: Serve, host: str, origin: str
) -> None:
    server = serve(network=Network(hosts=("tasks.example.org",), trusted_proxies=("127.0.0.1",)))
    with httpx.Client(base_url=server.address, trust_env=False, headers=FROM_THE_PROXY) as client:
        assert client.get("/v1/stats", headers={"host": host, "origin": origin}).status_code == 200
        given = client.post("/v1/login", headers={"host": host}).json()["address"]
        assert given.startswith(f"https://{host}/login?code="), "the address of this machine would lead to the caller's"


@pytest.mark.parametrize(
    ("told", "origin"),
    [
        ({"x-forwarded-proto": "https"}, "https://tasks.example.org:8443"),  # the proxy has omitted the port
        ({}, "https://tasks.example.org"),  # it has not announced that it uses TLS
        ({"x-forwarded-proto": "https", "x-forwarded-host": "tasks.example.org:80"}, "https://tasks.example.org"),
        ({"host": "127.0.0.1:8080"}, "https://tasks.example.org"),  # nginx that is told nothing
    ],
)
def test_a_proxy_that_passes_too_little_on_is_told_from_a_strange_page(
    serve: Serve, told: dict[str, str], origin: str
) -> None:
    server = serve(network=Network(hosts=("tasks.example.org",), trusted_proxies=("127.0.0.1",)))
    with httpx.Client(base_url=server.address, trust_env=False, headers={**AUTH, **told}) as client:
        refused = client.get("/v1/stats", headers={"host": "tasks.example.org", "origin": origin, **told})
        assert (refused.status_code, refused.json()["code"]) == (403, "wrong_origin")
        assert origin in refused.json()["detail"]
        assert "proxy" in refused.json()["remedy"]
        strange = client.get(
            "/v1/stats", headers={"host": "tasks.example.org", "origin": "https://evil.example", **told}
        )
        assert "proxy" not in strange.json()["remedy"]


def test_a_name_that_is_not_known_is_told_where_names_are_made_known(serve: Serve) -> None:
    with httpx.Client(base_url=serve().address, trust_env=False, headers=AUTH) as client:
        assert "`hosts`" in client.get("/v1/stats", headers={"host": "tasks.example.org"}).json()["remedy"]
