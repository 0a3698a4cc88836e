"""POSTs to a real server on loopback: the content, the signature, and the meaning of each answer."""

import base64
import hashlib
import hmac
import json
import re
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tasktrail.actors.delivery.attempt import MAX_DETAIL, Result
from tasktrail.actors.delivery.post import MAX_ANSWER
from tasktrail.actors.delivery.webhook import MAX_DOCUMENT, body, classify_response, headers
from tasktrail.actors.secret import Secret
from tasktrail.projections.notices import Notice

NOW = datetime(2026, 11, 24, 12, 0, 0, 500_000, tzinfo=UTC)
KEY = "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PEM = Path(__file__).parent / "receiver.pem"

Post = Callable[..., Result]


def test_a_notice_arrives_as_one_post_of_a_cloud_event(receiver: Any, post: Post) -> None:
    assert post(receiver.url, receiver.allowed) == Result(ok=True, detail="HTTP 204", answered=True)
    ((method, path, sent, content),) = receiver.requests
    document = json.loads(content)
    assert (method, path, sent["content-type"]) == ("POST", "/hook?token=abc", "application/cloudevents+json")
    assert document["id"] == sent["webhook-id"] == "0f0f0f0f0f0f-42-1-7-webhook"
    assert (document["specversion"], document["type"]) == ("1.0", "tasktrail.task.completed")
    assert (document["subject"], document["time"]) == ("task/42", "2026-11-24T11:59:00.000000Z")
    assert (document["data"]["position"], document["data"]["task"]["output_file"]) == (99, "/out/a.mp4")


def test_the_signature_is_right_by_a_computation_of_our_own(receiver: Any, post: Post) -> None:
    post(receiver.url, receiver.allowed)
    ((_, _, sent, content),) = receiver.requests
    assert sent["webhook-timestamp"] == str(int(NOW.timestamp()))
    signed = f"{sent['webhook-id']}.{sent['webhook-timestamp']}.".encode() + content
    digest = hmac.new(base64.b64decode(KEY), signed, hashlib.sha256).digest()
    assert sent["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_the_signature_agrees_with_the_published_example() -> None:
    """The vector that the libraries of Standard Webhooks share."""
    content = b'{"test": 2432232314}'
    at = datetime.fromtimestamp(1614265330, UTC)
    sent = headers("msg_p5jXN8AQM9LWM0D4loKWxJek", content, Secret(f"whsec_{KEY}"), at)
    assert sent["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def accepts(key: str, sent: dict[str, str], content: bytes) -> bool:
    """Verify a signature as a receiver does, by the specification of Standard Webhooks, without its libraries."""
    signed = b".".join([sent["webhook-id"].encode(), sent["webhook-timestamp"].encode(), content])
    due = base64.b64encode(hmac.digest(base64.b64decode(key.removeprefix("whsec_")), signed, "sha256")).decode()
    versions = (one.partition(",") for one in sent["webhook-signature"].split(" "))
    return any(version == "v1" and hmac.compare_digest(found, due) for version, _, found in versions)


def test_while_secrets_are_changed_the_old_and_the_new_one_are_both_good(receiver: Any, post: Post) -> None:
    old, new, other = (f"whsec_{base64.b64encode(bytes([byte]) * 32).decode()}" for byte in (1, 2, 3))
    post(receiver.url, receiver.allowed, secret=Secret(f"{new} {old}"))
    ((_, _, sent, content),) = receiver.requests
    assert accepts(new, sent, content)
    assert accepts(old, sent, content)
    assert not accepts(other, sent, content)
    assert not accepts(new, sent, content + b" ")
    assert not accepts(new, sent | {"webhook-id": "other"}, content)
    assert not accepts(new, sent | {"webhook-timestamp": "1"}, content)


def test_the_body_has_what_cloudevents_1_0_demands_of_structured_json(receiver: Any, post: Post) -> None:
    post(receiver.url, receiver.allowed)
    ((_, _, sent, content),) = receiver.requests
    document = json.loads(content)
    assert sent["content-type"].partition(";")[0] == "application/cloudevents+json"
    assert document["specversion"] == "1.0"
    assert all(isinstance(document[name], str) and document[name] for name in ("id", "source", "type", "subject"))
    assert datetime.fromisoformat(document["time"]).tzinfo is not None
    assert all(re.fullmatch(r"[a-z0-9]{1,20}", name) for name in document)
    assert document["datacontenttype"] == "application/json"
    assert isinstance(document["data"], dict)


def test_without_a_secret_nothing_pretends_to_be_signed(receiver: Any, post: Post) -> None:
    assert post(receiver.url, receiver.allowed, secret=Secret("")).ok
    sent = receiver.requests[0][2]
    assert not {"webhook-signature", "webhook-timestamp"} & sent.keys()
    assert sent["webhook-id"]


def test_a_receiver_learns_nothing_about_the_others(notice_to: Callable[..., Notice]) -> None:
    assert b"private" not in body(notice_to("https://example.org/"))


def test_a_long_notice_loses_its_long_fields_and_says_which(notice_to: Callable[..., Notice]) -> None:
    notice = notice_to("https://example.org/")
    long = msgspec.structs.replace(notice, task=notice.task | {"options": {"x": "é" * 30_000}, "result": {"y": 1}})
    content = body(long)
    data = json.loads(content)["data"]
    assert len(content) <= MAX_DOCUMENT
    assert data["left_out"] == ["options"]
    assert "options" not in data["task"]
    assert data["task"]["result"] == {"y": 1}


@pytest.mark.parametrize("status", [200, 201, 204])
def test_every_2xx_is_delivered(status: int) -> None:
    assert classify_response(status, b"whatever", None, NOW).ok


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_other_answers_are_tried_again(receiver: Any, post: Post, status: int) -> None:
    receiver.answer = lambda handler: answer(handler, status, b"no\x00\nthanks")
    result = post(receiver.url, receiver.allowed)
    assert (result.ok, result.retryable, result.disabled) == (False, True, False)
    assert result.detail == f"HTTP {status}: no thanks"


def test_a_receiver_that_is_gone_is_given_up(receiver: Any, post: Post) -> None:
    receiver.answer = lambda handler: answer(handler, 410)
    result = post(receiver.url, receiver.allowed)
    assert (result.ok, result.retryable, result.disabled) == (False, False, True)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_a_failure_and_is_not_followed(receiver: Any, post: Post, status: int) -> None:
    receiver.answer = lambda handler: answer(handler, status, location=receiver.url)
    result = post(receiver.url, receiver.allowed)
    assert (result.ok, result.retryable) == (False, True)
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("120", 120.0),
        (" 7 ", 7.0),
        (format_datetime(datetime(2026, 11, 24, 12, 1, 0, tzinfo=UTC), usegmt=True), 59.5),
        (format_datetime(datetime(2020, 1, 1, tzinfo=UTC), usegmt=True), 0.0),
        ("soon", None),
        ("-5", None),
        ("", None),
        ("²", None),
        (None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert classify_response(503, b"", header, NOW).retry_after == seconds


@given(st.text(max_size=60))
@example("0\x1f")
def test_no_retry_after_can_break_anything(header: str) -> None:
    seconds = classify_response(503, b"", header, NOW).retry_after
    assert seconds is None or seconds >= 0


def test_an_endless_answer_is_read_only_so_far(receiver: Any, post: Post) -> None:
    sent = []

    def pour(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(500)
        handler.end_headers()
        while not receiver.released.is_set():
            try:
                sent.append(handler.wfile.write(b"x" * 65536))
            except OSError:
                return

    receiver.answer = pour
    result = post(receiver.url, receiver.allowed)
    assert result.detail.startswith("HTTP 500: xxx")
    assert len(result.detail.encode()) <= MAX_DETAIL
    assert sum(sent) < 100 * MAX_ANSWER


def test_an_endless_header_is_read_only_so_far(receiver: Any, post: Post) -> None:
    sent = []

    def pour(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-long: ")
        while not receiver.released.is_set():
            try:
                sent.append(handler.wfile.write(b"x" * 65536))
            except OSError:
                return

    receiver.answer = pour
    result = post(receiver.url, receiver.allowed)
    assert (result.ok, result.retryable) == (False, True)
    assert len(result.detail.encode()) <= MAX_DETAIL
    assert sum(sent) < 100 * MAX_ANSWER


def test_an_answer_that_only_ever_promises_more_is_cut_off(receiver: Any, post: Post) -> None:
    def promise(handler: BaseHTTPRequestHandler) -> None:
        while not receiver.released.is_set():
            try:
                handler.wfile.write(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            except OSError:
                return

    receiver.answer = promise
    assert post(receiver.url, receiver.allowed, all_within=0.3).detail == "no complete answer within 0.3 s"


def test_a_packed_answer_is_not_unpacked(receiver: Any, post: Post) -> None:
    receiver.answer = lambda handler: answer(handler, 500, b"not really packed", content_encoding="gzip")
    assert post(receiver.url, receiver.allowed).detail == "HTTP 500: not really packed"


def drip(handler: BaseHTTPRequestHandler, released: Any) -> None:
    """Send a header that never ends, a byte at a time: no single read takes long."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
    while not released.wait(0.02):
        try:
            handler.wfile.write(b"a")
            handler.wfile.flush()
        except OSError:
            return


def test_a_dripping_receiver_is_cut_off_when_the_time_is_over(receiver: Any, post: Post) -> None:
    receiver.answer = lambda handler: drip(handler, receiver.released)
    result = post(receiver.url, receiver.allowed, all_within=0.5)
    assert (result.ok, result.retryable, result.detail) == (False, True, "no complete answer within 0.5 s")


def test_a_silent_receiver_is_cut_off_too(receiver: Any, post: Post) -> None:
    receiver.answer = lambda _: receiver.released.wait()
    assert post(receiver.url, receiver.allowed, all_within=0.3).detail == "no complete answer within 0.3 s"


def test_nobody_at_home_is_tried_again(post: Post) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        result = post(f"http://127.0.0.1:{port}/", ("127.0.0.1",))
    assert (result.ok, result.retryable) == (False, True)
    assert result.detail == "nothing listens at that host and port (connection refused)"


def test_a_name_that_leads_nowhere_is_told_as_such(post: Post) -> None:
    def unknown(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    result = post("https://nowhere.example/", resolve=unknown)
    assert (result.ok, result.retryable) == (False, True)
    assert result.detail == "the name of the host cannot be resolved (Name or service not known)"


def test_a_receiver_that_hangs_up_is_tried_again(receiver: Any, post: Post) -> None:
    receiver.answer = lambda handler: handler.connection.shutdown(socket.SHUT_RDWR)
    result = post(receiver.url, receiver.allowed)
    assert (result.ok, result.retryable) == (False, True)


def test_over_tls_the_certificate_must_be_that_of_the_name(secure_receiver: Any, post: Post) -> None:
    trusting = ssl.create_default_context(cafile=str(PEM))
    options: Any = {"context": trusting, "resolve": lambda _host, _port: ["127.0.0.1"]}
    port = secure_receiver.port
    good = post(f"https://receiver.test:{port}/", ("receiver.test",), **options)
    bad = post(f"https://other.test:{port}/", ("other.test",), **options)
    assert good.ok
    assert (bad.ok, bad.retryable) == (False, True)
    assert bad.detail == (
        "the certificate is not trusted: Hostname mismatch, certificate is not valid for 'other.test'. "
        "(CERTIFICATE_VERIFY_FAILED)"
    )
    assert len(secure_receiver.requests) == 1


def test_a_certificate_nobody_vouches_for_is_refused(secure_receiver: Any, post: Post) -> None:
    url = f"https://receiver.test:{secure_receiver.port}/"
    result = post(url, ("receiver.test",), resolve=lambda _host, _port: ["127.0.0.1"])
    assert not result.ok
    assert "CERTIFICATE_VERIFY_FAILED" in result.detail
    assert secure_receiver.requests == []


def test_no_proxy_of_the_environment_is_used(receiver: Any, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1/")
    assert post(receiver.url, receiver.allowed).ok


def answer(handler: BaseHTTPRequestHandler, status: int, content: bytes = b"", **fields: str) -> None:
    handler.send_response(status)
    for name, value in fields.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.send_header("content-length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
