"""The files in docs/production are valid: systemd reads the units, and what they and the image start exists."""

import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tasktrail.cli.app import App
from tasktrail.config.load import OTHER_VARIABLES, keys
from tasktrail.http.requests import MAX_BODY

ROOT = Path(__file__).parents[2]
FILES = ROOT / "docs" / "production"
UNITS = sorted(path for path in FILES.iterdir() if path.suffix in (".service", ".timer"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for unit in UNITS:
        text = unit.read_text().replace("/opt/tasktrail/bin/tasktrail", "/bin/true").replace("=tasktrail\n", "=root\n")
        (tmp_path / unit.name).write_text(text)
    command = ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert [line for line in checked.stderr.splitlines() if str(tmp_path) in line] == []


@pytest.mark.parametrize("path", [*UNITS, FILES / "Containerfile"], ids=lambda path: path.name)
def test_variables_and_commands_are_known(path: Path) -> None:
    text = path.read_text()
    known = {key.variable for key in keys()} | {f"TASKTRAIL_{name}" for name in OTHER_VARIABLES}
    assert set(re.findall(r"TASKTRAIL_[A-Z_]+(?==[^…])", text)) <= known
    for line in re.findall(r"^ExecStart=(.*)$", text, flags=re.MULTILINE):
        command = shlex.split(line)[1]
        assert App(name="tasktrail").get_command(None, command) is not None  # type: ignore[arg-type]  # it needs none


def test_the_image_gets_all_that_the_package_is_built_of() -> None:
    text = (FILES / "Containerfile").read_text()
    lines = re.findall("^COPY (?!--)(.*) /source", text, flags=re.MULTILINE)
    copied = {name for line in lines for name in line.split()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    folders = {folder.split("/")[0] for folder in project["tool"]["setuptools"]["package-dir"].values()}
    assert copied == {"pyproject.toml", "constraints.txt", "README.md", "LICENSE", "tasktrail"} | folders


NAME = "tasks.example.org"
WITHIN = 30.0
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"


@pytest.fixture
def port() -> Callable[[], int]:
    """Return a port on which nothing listens just now."""

    def free() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return free


def wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until the port is open. Fails when the process ends first, or time is up."""
    deadline = time.monotonic() + WITHIN
    while time.monotonic() < deadline:
        assert process.poll() is None, process.args
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail(f"nobody listens at {port}")


@contextmanager
def started(command: list[str], port: int, folder: Path) -> Iterator[None]:
    """Start a program that serves at the port, until the end."""
    with (folder / f"{port}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={"PATH": PATH, "HOME": str(folder)})
        try:
            wait_for(port, process)
            yield
        finally:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:  # Caddy waits for streams that are open
                process.kill()
                process.wait()


def nginx(folder: Path, port: int, behind: int) -> list[str]:
    """Write our file, with the port and the certificate of this test."""
    text = (FILES / "nginx.conf").read_text()
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{port} ssl").replace(
        "127.0.0.1:8080", f"127.0.0.1:{behind}"
    )
    text = text.replace("/etc/nginx/tls", str(folder))
    paths = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    paths += "client_body_buffer_size 16m;"  # root's nginx works as a user who cannot enter the folder
    whole = f"pid {folder}/nginx.pid; error_log stderr; events {{}} http {{ access_log off; {paths} {text} }}"
    (folder / "nginx.conf").write_text(whole)
    return ["nginx", "-c", str(folder / "nginx.conf"), "-e", "stderr", "-g", "daemon off;"]


def caddy(folder: Path, port: int, behind: int) -> list[str]:
    """Write our file, with the port and the certificate of this test."""
    text = (FILES / "Caddyfile").read_text().replace("127.0.0.1:8080", f"127.0.0.1:{behind}")
    text = text.replace(f"{NAME} {{", f"https://{NAME}:{port} {{\n\ttls {folder}/fullchain.pem {folder}/privkey.pem")
    (folder / "Caddyfile").write_text(f"{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{text}")
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@pytest.mark.slow
@pytest.mark.parametrize("proxy", [nginx, caddy])
def test_a_proxy_passes_pages_commands_and_streams_on(
    proxy: Callable[[Path, int, int], list[str]], port: Callable[[], int], tmp_path: Path
) -> None:
    if shutil.which(proxy.__name__, path=PATH) is None or shutil.which("openssl") is None:
        pytest.skip(f"needs {proxy.__name__} and openssl")
    outside, inside = port(), port()
    make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    make += ["-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}", "-days", "2"]
    make += ["-keyout", str(tmp_path / "privkey.pem"), "-out", str(tmp_path / "fullchain.pem")]
    subprocess.run(make, check=True, capture_output=True)
    data = tmp_path / "data"
    data.mkdir()
    (data / "tasktrail.toml").write_text(f'hosts = ["{NAME}"]\ntrusted_proxies = ["127.0.0.1"]\nworkers = 1\n')
    ours = [sys.executable, "-m", "tasktrail", "--data", str(data)]
    with ExitStack() as stack:
        stack.enter_context(started([*ours, "serve", "--port", str(inside)], inside, tmp_path))
        stack.enter_context(started(proxy(tmp_path, outside, inside), outside, tmp_path))
        token = subprocess.run([*ours, "token", "add", "ci", "--role", "operator"], check=True, capture_output=True)
        transport = httpx.HTTPTransport(verify=False)  # its name is not that of this machine
        base, host = f"https://127.0.0.1:{outside}", {"host": f"{NAME}:{outside}"}
        extensions = {"sni_hostname": NAME}
        with httpx.Client(base_url=base, transport=transport, headers=host) as stranger:
            assert stranger.get("/v1/stats", extensions=extensions).status_code == 401
            page = stranger.get("/", headers={"accept": "text/html"}, extensions=extensions)
            assert (page.status_code, page.headers["location"]) in ((302, "/login"), (303, "/login"))
            form, page_itself = {"token": token.stdout.decode().strip()}, {"origin": f"https://{NAME}:{outside}"}
            entered = stranger.post("/login", data=form, headers=page_itself, extensions=extensions)
            assert (entered.status_code, entered.headers["location"]) == (303, "/")
            assert entered.headers["set-cookie"].startswith("__Host-")
        bearer = {**host, "authorization": f"Bearer {token.stdout.decode().strip()}"}
        with httpx.Client(base_url=base, transport=httpx.HTTPTransport(verify=False), headers=bearer) as client:
            assert client.get("/", headers={"accept": "text/html"}, extensions=extensions).status_code == 200
            with client.stream("GET", "/v1/events?follow=true", extensions=extensions) as answer:
                lines = answer.iter_lines()
                assert "service_started" in next(lines)
                paused = client.post("/v1/queue/pause", json={"reason": "by way of the proxy"}, extensions=extensions)
                assert paused.status_code == 202
                assert any("by way of the proxy" in line for line in lines)
            most = b"[" + b" " * (MAX_BODY - 2) + b"]"
            kind = {"content-type": "application/json"}
            taken = client.post("/v1/commands", content=most, headers=kind, extensions=extensions)
            assert (taken.status_code, taken.text) == (202, "[]")
