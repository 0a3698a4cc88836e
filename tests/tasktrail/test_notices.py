"""Notices, from the command to the receiver and back to their result; everything is real, on loopback."""

import asyncio
import base64
import hashlib
import hmac
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from msgspec.structs import replace

from tasktrail import Client, TaskService
from tasktrail.actors.notifier import Senders
from tasktrail.actors.secret import Secret
from tasktrail.config.settings import Smtp
from tasktrail.events import Event
from tasktrail.events.errors import ConfigurationError, EndpointDisabled, InvalidValue, UnknownEndpoint, UnknownTask
from tasktrail.events.system_events import DeliveryAttempted, DeliveryPostponed, RedeliveryRequested
from tasktrail.http.server import HttpServer
from tasktrail.projections import NoticeStatus, UnknownNotice

WITHIN = 20.0
KEY = base64.b64encode(b"k" * 32).decode()

Opener = Callable[..., TaskService]


class Receiver:
    """Answers each path with the status in `status`; 204 by default."""

    def __init__(self) -> None:
        self.status: dict[str, int] = {}
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                content = self.rfile.read(int(self.headers["content-length"]))
                outer.got.append((self.path, {name.lower(): value for name, value in self.headers.items()}, content))
                self.send_response(outer.status.get(self.path, 204))
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        self.host = f"127.0.0.1:{self._server.server_address[1]}"

    def url(self, path: str) -> str:
        return f"http://{self.host}{path}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver()
    yield made
    made.close()


@pytest.fixture
def tasks(open_service: Opener, receiver: Receiver) -> TaskService:
    return open_service(allow_endpoints=(receiver.host,), webhook_secret=Secret(f"whsec_{KEY}"))


def tried(tasks: TaskService, count: int, after: int = 0) -> list[DeliveryAttempted]:
    """Wait for a number of recorded tries, in the order of the log."""
    return [event for event in first(tasks, DeliveryAttempted, count, after) if isinstance(event, DeliveryAttempted)]


def first(tasks: TaskService, kinds: Any, count: int, after: int = 0) -> list[Event]:
    """Wait for a number of recorded events of some kinds."""
    found: list[Event] = []
    for record in tasks.follow(after):
        if isinstance(record.event, kinds):
            found.append(record.event)
            if len(found) == count:
                break
    return found


def states(found: list[NoticeStatus]) -> dict[tuple[str, str], str]:
    return {(notice.channel, notice.event): notice.state for notice in found}


class Mailbox:
    def __init__(self) -> None:
        self.mail: list[tuple[list[str], bytes]] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mail.append((envelope.rcpt_tos, envelope.content))
        return "250 kept"


@contextmanager
def mail_server() -> Iterator[tuple[Mailbox, int]]:
    """Run a mail server on loopback; return the mails it was given, and its port."""
    mailbox = Mailbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Use our own loop: the controller closes its loop too late for strict warnings.
    server = Controller(mailbox, hostname="127.0.0.1", port=port, loop=asyncio.new_event_loop())
    server.start()
    try:
        yield mailbox, port
    finally:
        server.stop()


def test_the_end_of_a_task_reaches_all_who_are_to_be_told_and_each_delivery_is_shown(
    open_service: Opener, receiver: Receiver
) -> None:
    with mail_server() as (mailbox, port):
        tasks = open_service(
            allow_endpoints=(receiver.host,),
            webhook_secret=Secret(f"whsec_{KEY}"),
            smtp=Smtp(host="127.0.0.1", port=port, starttls=False, sender="tasks@example.org"),
        )
        task_id = tasks.create_task(
            type="noop",
            notify_webhook=receiver.url("/hook"),
            callback_url=receiver.url("/back"),
            notify_email="user@example.org",
        )
        assert all(attempt.ok for attempt in tried(tasks, 4))
    assert states(tasks.notices(task_id)) == {
        ("webhook", "started"): "delivered",
        ("webhook", "completed"): "delivered",
        ("callback", "completed"): "delivered",
        ("email", "completed"): "delivered",
    }
    assert [to for to, _content in mailbox.mail] == [["user@example.org"]]
    for path, sent, content in receiver.got:
        assert json.loads(content)["id"] == sent["webhook-id"]
        signed = f"{sent['webhook-id']}.{sent['webhook-timestamp']}.".encode() + content
        due = base64.b64encode(hmac.new(base64.b64decode(KEY), signed, hashlib.sha256).digest()).decode()
        assert sent["webhook-signature"] == f"v1,{due}", path


def test_views_that_are_built_anew_tell_nobody(tasks: TaskService, receiver: Receiver) -> None:
    first = tasks.create_task(type="noop", callback_url=receiver.url("/first"))
    assert tried(tasks, 1)[0].ok
    tasks.rebuild()
    second = tasks.create_task(type="noop", callback_url=receiver.url("/second"))
    assert [attempt.task_id for attempt in tried(tasks, 2)] == [first, second]
    assert [path for path, _, _ in receiver.got] == ["/first", "/second"]


def test_only_what_the_task_names_is_told(tasks: TaskService, receiver: Receiver) -> None:
    quiet = tasks.create_task(type="noop", notify_webhook=receiver.url("/quiet"), notify_on=("failed",))
    tasks.wait(quiet, timeout=WITHIN)
    loud = tasks.create_task(type="noop", notify_webhook=receiver.url("/loud"), notify_on=("created", "completed"))
    tried(tasks, 2)
    assert {path for path, *_ in receiver.got} == {"/loud"}
    assert tasks.notices(quiet) == []
    assert set(states(tasks.notices(loud))) == {("webhook", "created"), ("webhook", "completed")}
    assert tasks.get_task(loud).notify_on == ("created", "completed")


def test_an_address_that_is_gone_is_disabled_until_somebody_enables_it_and_nothing_is_lost(
    tasks: TaskService, receiver: Receiver
) -> None:
    gone = receiver.url("/gone")
    receiver.status["/gone"] = 410
    first = tasks.create_task(type="noop", callback_url=gone)
    assert tried(tasks, 1)[0].disabled
    second = tasks.create_task(type="noop", callback_url=gone)
    third = tasks.create_task(type="noop", callback_url=receiver.url("/there"))
    assert tried(tasks, 2)[1].task_id == third
    tasks.wait(second, timeout=20)  # it may end after the third
    assert len([path for path, *_ in receiver.got if path == "/gone"]) == 1
    assert [endpoint.target for endpoint in tasks.endpoints()] == [gone]
    (held_back,) = tasks.notices(second)
    assert (held_back.state, held_back.tries) == ("disabled", 0)
    with pytest.raises(EndpointDisabled):
        tasks.redeliver(second, held_back.notice_id)
    with pytest.raises(UnknownEndpoint):
        tasks.enable_endpoint(receiver.url("/other"))

    receiver.status.clear()
    accepted = tasks.enable_endpoint(gone, reason="repaired", actor="ops")
    assert (accepted.task_id, tasks.endpoints()) == (0, [])
    tasks.redeliver(second, held_back.notice_id)
    assert tried(tasks, 1, after=accepted.position)[0].ok
    assert states(tasks.notices(second)) == {("callback", "completed"): "delivered"}
    assert states(tasks.notices(first)) == {("callback", "completed"): "disabled"}
    assert receiver.got[-1][1]["webhook-id"] == held_back.notice_id
    assert tasks.verify().ok


def test_a_redelivery_has_the_old_id_and_body_and_is_recorded_with_who_and_why(
    tasks: TaskService, receiver: Receiver
) -> None:
    task_id = tasks.create_task(type="noop", callback_url=receiver.url("/back"))
    tried(tasks, 1)
    (notice,) = tasks.notices(task_id)
    before = tasks.get_task(task_id)
    accepted = tasks.redeliver(task_id, notice.notice_id, reason="lost it", actor="ops")
    assert tried(tasks, 1, after=accepted.position)[0].notice_id == notice.notice_id
    (_, sent, body), (_, sent_again, body_again) = receiver.got
    assert (sent["webhook-id"], body) == (sent_again["webhook-id"], body_again)
    record = next(tasks.log(after=accepted.position - 1, limit=1))
    assert isinstance(record.event, RedeliveryRequested)
    assert (record.task_id, record.actor, record.reason) == (0, "ops", "lost it")
    assert (tasks.get_task(task_id), tasks.notices(task_id)[0].tries) == (before, 2)


def test_a_disabled_address_and_what_became_of_notices_outlive_a_restart(
    open_service: Opener, receiver: Receiver, tasks: TaskService
) -> None:
    receiver.status["/gone"] = 410
    task_id = tasks.create_task(type="noop", callback_url=receiver.url("/gone"))
    tried(tasks, 1)
    found = tasks.notices(task_id)
    tasks.close()
    again = open_service(allow_endpoints=(receiver.host,))
    assert again.notices(task_id) == found
    with pytest.raises(EndpointDisabled):
        again.redeliver(task_id, found[0].notice_id)
    again.enable_endpoint(receiver.url("/gone"))


def test_only_notices_that_are_there_can_be_sent_again(tasks: TaskService) -> None:
    task_id = tasks.create_task(type="noop")
    with pytest.raises(UnknownNotice):
        tasks.redeliver(task_id, "x")
    with pytest.raises(UnknownTask):
        tasks.redeliver(99, "x")
    with pytest.raises(UnknownTask):
        tasks.notices(99)
    with pytest.raises(InvalidValue):
        tasks.redeliver(task_id, "")


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"notify_webhook": "http://example.org/"}, "notify_webhook"),
        ({"callback_url": "https://169.254.169.254/"}, "callback_url"),
        ({"callback_url": "https://user@example.org/"}, "callback_url"),
        ({"notify_webhook": "https://example.org:22/"}, "notify_webhook"),
        ({"notify_email": "a@b.org, c@d.org"}, "notify_email"),
        ({"notify_on": ("progressed",)}, "notify_on[0]"),
        ({"notify_on": ("started",), "notify_email": "a@b.org"}, "notify_on"),
    ],
)
def test_who_could_never_be_told_is_refused_when_the_task_is_created(
    tasks: TaskService, fields: dict[str, Any], field: str
) -> None:
    before = tasks.list_tasks()[1]
    with pytest.raises(InvalidValue) as refused:
        tasks.create_task(type="noop", **fields)
    assert refused.value.field == field
    assert tasks.list_tasks()[1] == before


def test_over_http_it_is_all_the_same(tasks: TaskService, receiver: Receiver, tmp_path: Path) -> None:
    receiver.status["/gone"] = 410
    server = HttpServer(tasks, socket_path=tmp_path / "t.sock")
    server.start()
    try:
        with Client("http://localhost", socket=tmp_path / "t.sock") as client:
            task_id = client.create_task(type="noop", callback_url=receiver.url("/gone"))
            tried(tasks, 1)
            (notice,) = client.notices(task_id)
            assert notice == tasks.notices(task_id)[0]
            assert client.endpoints() == tasks.endpoints() != []
            with pytest.raises(EndpointDisabled):
                client.redeliver(task_id, notice.notice_id)
            with pytest.raises(UnknownNotice):
                client.redeliver(task_id, "x")
            with pytest.raises(UnknownEndpoint):
                client.enable_endpoint("x")
            receiver.status.clear()
            client.enable_endpoint(receiver.url("/gone"))
            position = client.redeliver(task_id, notice.notice_id).position
            assert tried(tasks, 1, after=position)[0].ok
            assert client.notices(task_id)[0].state == "delivered"
    finally:
        assert server.stop()


def test_an_address_gets_so_many_mails_an_hour_and_the_others_wait_over_a_restart(open_service: Opener) -> None:
    with mail_server() as (mailbox, port):
        smtp = Smtp(host="127.0.0.1", port=port, starttls=False, sender="tasks@example.org", max_per_hour=2)
        tasks = open_service(smtp=smtp)
        told = [tasks.create_task(type="noop", notify_email="user@example.org")]
        told += [tasks.create_task(type="noop", notify_email="User <user@example.org>") for _number in range(2)]
        tasks.create_task(type="noop", notify_email="other@example.org")
        seen = first(tasks, DeliveryAttempted | DeliveryPostponed, 4)
        (waiting,) = [event for event in seen if isinstance(event, DeliveryPostponed)]
        (notice,) = tasks.notices(waiting.task_id)
        assert (notice.state, notice.tries, notice.next_at) == ("pending", 0, waiting.until)
        assert notice.detail == "waits: the address gets at most 2 an hour"
        assert waiting.until > notice.recorded_at + timedelta(minutes=59)
        tasks.close()

        again = open_service(smtp=smtp)
        before = again.stats().position
        late = again.create_task(type="noop", notify_email="user@example.org")
        (behind,) = first(again, DeliveryPostponed, 1, after=before)
        assert isinstance(behind, DeliveryPostponed)
        assert (behind.task_id, behind.until >= waiting.until) == (late, True)
        assert again.verify().ok
    assert len(mailbox.mail) == 3
    assert {tuple(to) for to, _content in mailbox.mail} == {("user@example.org",), ("other@example.org",)}
    assert waiting.task_id in told


TOKEN = "canary7token"


@pytest.mark.slow
def test_a_target_of_the_configuration_is_told_like_everybody_else(
    open_service: Opener, receiver: Receiver, tmp_path: Path
) -> None:
    url = f"json://{receiver.host}/{TOKEN}"
    tasks = open_service(apprise={"team": Secret(url), "ops": Secret(f"{url}-ops")})
    task_id = tasks.create_task(type="noop", notify_targets=("team", "ops", "team"))
    assert {(attempt.channel, attempt.target, attempt.ok) for attempt in tried(tasks, 2)} == {
        ("apprise", "team", True),
        ("apprise", "ops", True),
    }
    assert sorted(path for path, *_ in receiver.got) == [f"/{TOKEN}", f"/{TOKEN}-ops"]
    assert tasks.get_task(task_id).notify_targets == ("team", "ops")
    ops, team = tasks.notices(task_id)
    assert (ops.target, team.target, ops.state, team.state) == ("ops", "team", "delivered", "delivered")

    receiver.status[f"/{TOKEN}"] = 500
    position = tasks.redeliver(task_id, team.notice_id).position
    (failed,) = tried(tasks, 1, after=position)
    assert (failed.notice_id, failed.ok, failed.detail) == (team.notice_id, False, "the target answered HTTP 500")
    assert failed.next_at is not None
    assert team.notice_id in json.loads(receiver.got[-1][2])["message"]
    assert tasks.verify().ok
    tasks.close()
    written = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert TOKEN.encode() not in written


@pytest.mark.slow
def test_a_target_that_hangs_holds_up_nobody_else(open_service: Opener, receiver: Receiver) -> None:
    hanging = socket.create_server(("127.0.0.1", 0))  # takes the connection, and never answers
    tasks = open_service(
        apprise={
            "stuck": Secret(f"json://127.0.0.1:{hanging.getsockname()[1]}/?rto=60"),
            "team": Secret(f"json://{receiver.host}/"),
        }
    )
    with hanging:
        tasks.create_task(type="noop", notify_targets=("stuck",))
        connection, _ = hanging.accept()
        with connection:
            others = {tasks.create_task(type="noop", notify_targets=("stuck", "team")) for _number in range(3)}
            attempts = tried(tasks, 3)
            assert {(attempt.task_id, attempt.target, attempt.ok) for attempt in attempts} == {
                (task_id, "team", True) for task_id in others
            }
            tasks.close()  # ends the current delivery at once


@pytest.mark.parametrize(
    ("name", "hint"), [("teem", "; did you mean 'team'?"), ("nobody", ""), (f"json://x/{TOKEN}", "")]
)
def test_a_target_that_nobody_has_configured_is_refused_by_every_way_in(
    open_service: Opener, tmp_path: Path, name: str, hint: str
) -> None:
    tasks = open_service(apprise={"team": Secret("json://a.test")})
    server = HttpServer(tasks, socket_path=tmp_path / "t.sock")
    server.start()
    try:
        with Client("http://localhost", socket=tmp_path / "t.sock") as client:
            for one in (tasks, client):
                with pytest.raises(InvalidValue) as refused:
                    one.create_task(type="noop", notify_targets=(name,))
                assert refused.value.field == "notify_targets"
                assert refused.value.message == f"There is no target {name!r}{hint}"
                with pytest.raises(InvalidValue):
                    one.create_graph([{"name": "a", "type": "noop", "notify_targets": (name,)}])
    finally:
        assert server.stop()
    assert tasks.list_tasks()[1] == 0


def test_a_configuration_that_is_read_during_the_first_notice_holds_for_the_next(
    open_service: Opener, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    tasks = open_service(allow_endpoints=(receiver.host,))
    make, begun, read = tasks._system.senders.make, threading.Event(), threading.Event()

    def held(*config: Any) -> Senders:
        made = make(*config)
        begun.set()
        assert read.wait(WITHIN)
        return made

    monkeypatch.setattr(tasks._system.senders, "make", held)
    tasks.create_task(type="noop", callback_url=receiver.url("/first"))
    assert begun.wait(WITHIN)
    tasks.reload(replace(tasks._system.config, webhook_secret=Secret(f"whsec_{KEY}")))
    read.set()
    assert [attempt.ok for attempt in tried(tasks, 1)] == [True]
    tasks.create_task(type="noop", callback_url=receiver.url("/second"))
    assert [attempt.ok for attempt in tried(tasks, 2)] == [True, True]
    assert ["webhook-signature" in headers for _path, headers, _content in receiver.got] == [False, True]


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_certificates_that_cannot_be_read_are_told_before_the_first_notice_needs_them(
    open_service: Opener, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None
) -> None:
    tasks, file = open_service(), tmp_path / "authorities.pem"
    if content is not None:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ConfigurationError, match=rf"SSL_CERT_FILE.*{file.name}"):
        tasks.reload(replace(tasks._system.config, max_memory=1 << 30))
    assert tasks._system.config.max_memory == 0
    tasks.close()
    with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
        open_service()


def test_a_service_with_a_target_of_no_use_does_not_start(open_service: Opener) -> None:
    with pytest.raises(ConfigurationError) as refused:
        open_service(apprise={"team": Secret(f"nope://{TOKEN}")})
    assert refused.value.field == "apprise.team"
    assert TOKEN not in str(refused.value)
