"""Mail to a real SMTP server on loopback, and the meaning of each of its answers."""

import asyncio
import base64
import contextlib
import smtplib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.policy import default
from email.utils import getaddresses
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from hypothesis import given
from hypothesis import strategies as st

from tasktrail.actors.delivery.attempt import Deadline, Result
from tasktrail.actors.delivery.mail import MailSender, MailServer, _Watched, classify_error, compose_mail, one_address
from tasktrail.actors.delivery.mail import notice_text as mail_text
from tasktrail.actors.secret import Secret
from tasktrail.config.settings import Smtp
from tasktrail.projections.notices import Notice

PEM = Path(__file__).parent / "receiver.pem"
SENDER = "Tasks <tasks@example.org>"


class Mailbox:
    """Accepts mail, or answers as told."""

    def __init__(self) -> None:
        self.mail: list[tuple[str, list[str], bytes]] = []
        self.on_rcpt = "250 OK"
        self.on_data = "250 OK"
        self.logins: list[bytes] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd finds it by this name
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: Any
    ) -> str:
        if self.on_rcpt.startswith("250"):
            envelope.rcpt_tos.append(address)
        return self.on_rcpt

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - likewise
        self.mail.append((envelope.mail_from, envelope.rcpt_tos, envelope.content))
        return self.on_data

    def authenticate(self, _server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
        self.logins.append(data.password)
        return AuthResult(success=data.password == b"right", handled=False)


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


def running(mailbox: Mailbox, **options: Any) -> Controller:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Use our own loop: the controller closes its loop too late for strict warnings.
    controller = Controller(mailbox, hostname="127.0.0.1", port=port, loop=asyncio.new_event_loop(), **options)
    controller.start()
    return controller


@pytest.fixture
def server(mailbox: Mailbox) -> Iterator[MailServer]:
    controller = running(mailbox)
    yield MailServer(host="127.0.0.1", port=controller.port, starttls=False, sender=SENDER)
    controller.stop()


@pytest.fixture
def secure_server(mailbox: Mailbox) -> Iterator[MailServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)
    controller = running(
        mailbox, tls_context=context, require_starttls=True, auth_required=True, authenticator=mailbox.authenticate
    )
    yield MailServer(host="127.0.0.1", port=controller.port, user="u", password=Secret("right"), sender=SENDER)
    controller.stop()


@pytest.fixture
def tls_server(mailbox: Mailbox) -> Iterator[MailServer]:
    """It speaks TLS from the first byte. aiosmtpd does so, too, but leaves connections behind."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(PEM)

    def serve(listener: socket.socket) -> None:
        listener.settimeout(60)  # a test that fails may not connect
        connection, _ = listener.accept()
        with connection, contextlib.suppress(OSError), context.wrap_socket(connection, server_side=True) as encrypted:
            talk(encrypted, mailbox)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        yield MailServer(host="127.0.0.1", port=port, user="u", password=Secret("right"), sender=SENDER, tls=True)
        thread.join()


def talk(connection: ssl.SSLSocket, mailbox: Mailbox) -> None:
    """Speak as much SMTP as one mail takes."""
    with connection.makefile("rwb") as file:

        def answer(line: bytes) -> None:
            file.write(line + b"\r\n")
            file.flush()

        answer(b"220 here")
        while (words := file.readline().split()) and words[0] != b"quit":
            match words[0].upper():
                case b"EHLO":
                    answer(b"250-here\r\n250 AUTH PLAIN")
                case b"AUTH":
                    mailbox.logins.append(base64.b64decode(words[2]).rpartition(b"\0")[2])
                    answer(b"235 welcome")
                case b"DATA":
                    answer(b"354 go on")
                    mailbox.mail.append(("", [], b"".join(iter(file.readline, b".\r\n"))))
                    answer(b"250 OK")
                case _:
                    answer(b"250 OK")


@pytest.fixture
def mail_notice(notice_to: Callable[..., Notice]) -> Notice:
    return notice_to("user@example.org", channel="email", notice_id="0f0f0f0f0f0f-42-1-7-email")


def send(server: MailServer | None, notice: Notice, *, within: float = 20.0, **options: Any) -> Result:
    with Deadline(within) as deadline:
        return MailSender(server, within=within, **options).send(notice, deadline)


def trusting(*, check_name: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(PEM))
    context.check_hostname = check_name
    return context


def test_a_notice_arrives_as_one_plain_mail(server: MailServer, mailbox: Mailbox, mail_notice: Notice) -> None:
    assert send(server, mail_notice) == Result(ok=True, detail="accepted by the mail server")
    ((sender, recipients, content),) = mailbox.mail
    message = message_from_bytes(content, policy=default)
    assert (sender, recipients) == ("tasks@example.org", ["user@example.org"])
    assert (message["From"], message["To"]) == (SENDER, "user@example.org")
    assert message["Subject"] == "Task 42 (video_convert) completed"
    body = message.get_content().splitlines()
    assert "Outcome:   completed" in body
    assert "Output:    /out/a.mp4" in body
    assert "Duration:  12.3 s" in body


def test_the_message_id_is_the_same_for_the_same_notice_only(mail_notice: Notice) -> None:
    other = msgspec.structs.replace(mail_notice, notice_id="0f0f0f0f0f0f-43-1-7-email")
    assert compose_mail(mail_notice, SENDER)["Message-ID"] == compose_mail(mail_notice, SENDER)["Message-ID"]
    assert compose_mail(mail_notice, SENDER)["Message-ID"] != compose_mail(other, SENDER)["Message-ID"]
    assert compose_mail(mail_notice, SENDER)["Message-ID"].endswith("@example.org>")


def test_an_error_is_told_in_one_line(mail_notice: Notice) -> None:
    task = mail_notice.task | {"error": "no\r\nOutcome:   completed\x00", "type": "x\nBcc: y@z"}
    failed = msgspec.structs.replace(mail_notice, event="failed", task=task)
    assert "Error:     no Outcome: completed\n" in mail_text(failed)
    assert compose_mail(failed, SENDER)["Subject"] == "Task 42 (x Bcc: y@z) failed"
    assert compose_mail(failed, SENDER)["Bcc"] is None


def test_a_name_beyond_ascii_survives_the_way(server: MailServer, mailbox: Mailbox, mail_notice: Notice) -> None:
    notice = msgspec.structs.replace(mail_notice, task=mail_notice.task | {"output_file": "/aus/Übung 任务.mp4"})
    assert send(server, notice).ok
    assert "Übung 任务.mp4" in message_from_bytes(mailbox.mail[0][2], policy=default).get_content()


@pytest.mark.parametrize(
    "target",
    [
        "Real <a@b>, victim@evil",
        "a@b;c@d",
        "a@b\r\nBcc: c@d",
        "a@b\nc@d",
        "undisclosed:;",
        "",
        "nobody",
        "@b",
        "a@",
        "a b@c",
        "é@b.org",
        "a@é.org",
        "<",
        ".:",
        "<a@b.org> x",
        "a@b@c",
        "a@-b.org",
        "a..b@c.org",
        "a@b.org" + "g" * 300,
        "=?utf-8?q?=76ictim?=@b.org",
        "=?utf-8?b?dmljdGlt?= <a@b.org>",
        "Ann <=?utf-8?q?=76ictim?=@b.org>",
    ],
)
def test_what_is_not_one_address_gets_no_mail_and_no_second_try(
    server: MailServer, mailbox: Mailbox, mail_notice: Notice, target: str
) -> None:
    result = send(server, msgspec.structs.replace(mail_notice, target=target))
    assert (result.ok, result.retryable) == (False, False)
    assert mailbox.mail == []


@given(st.text(max_size=40) | st.from_regex(r"[ab@<>(),;:\"\\.= ?\[\]]{0,20}", fullmatch=True))
def test_no_text_becomes_anything_but_one_address_or_a_refusal(target: str) -> None:
    try:
        address = one_address(target)
    except ValueError:
        return
    assert address.addr_spec.isascii()
    assert getaddresses([str(address)]) == [(address.display_name, address.addr_spec)]


@pytest.mark.parametrize(
    ("text", "address"),
    [("a@b", "a@b"), (" a.b+c@d-e.org ", "a.b+c@d-e.org"), ("Ana Ü <a@b.org>", "a@b.org"), ("<a@b.org>", "a@b.org")],
)
def test_plain_addresses_are_taken_with_or_without_a_name(text: str, address: str) -> None:
    assert one_address(text).addr_spec == address


def test_without_a_mail_server_the_notice_waits_for_one(mail_notice: Notice) -> None:
    result = send(None, mail_notice)
    assert (result.ok, result.retryable) == (False, True)
    assert result.detail.endswith("set smtp.host and smtp.sender")


def test_mail_goes_encrypted_and_after_login(secure_server: MailServer, mailbox: Mailbox, mail_notice: Notice) -> None:
    assert send(secure_server, mail_notice, context=trusting(check_name=False)).ok
    assert mailbox.logins == [b"right"]
    assert len(mailbox.mail) == 1


def test_mail_goes_by_tls_from_the_first_byte(tls_server: MailServer, mailbox: Mailbox, mail_notice: Notice) -> None:
    """STARTTLS is not asked for then: the connection is encrypted already."""
    assert send(tls_server, mail_notice, context=trusting(check_name=False)).ok
    assert mailbox.logins == [b"right"]
    assert len(mailbox.mail) == 1


def test_with_tls_from_the_first_byte_the_certificate_is_checked(
    tls_server: MailServer, mailbox: Mailbox, mail_notice: Notice
) -> None:
    result = send(tls_server, mail_notice, context=trusting(check_name=True))
    assert (result.ok, result.retryable) == (False, True)
    assert "CERTIFICATE_VERIFY_FAILED" in result.detail
    assert mailbox.logins == []


def test_a_server_without_tls_gets_no_mail_and_the_port_is_named(
    server: MailServer, mailbox: Mailbox, mail_notice: Notice
) -> None:
    result = send(msgspec.structs.replace(server, tls=True), mail_notice)
    assert (result.ok, result.retryable) == (False, True)
    assert result.detail == (
        f"the mail server does not speak TLS from the first byte at port {server.port}; "
        "for STARTTLS leave smtp.tls out, and see smtp.port"
    )
    assert mailbox.mail == []


@pytest.mark.parametrize(("alert", "reason"), [(40, "HANDSHAKE_FAILURE"), (70, "PROTOCOL_VERSION")])
def test_a_server_that_refuses_our_tls_is_not_taken_for_one_without(
    alert: int, reason: str, mail_notice: Notice
) -> None:
    def refuse(listener: socket.socket) -> None:
        listener.settimeout(60)
        connection, _ = listener.accept()
        with connection:
            connection.recv(1000)
            connection.sendall(bytes([21, 3, 3, 0, 2, 2, alert]))

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, args=(listener,))
        thread.start()
        server = MailServer(host="127.0.0.1", port=listener.getsockname()[1], sender=SENDER, tls=True)
        result = send(server, mail_notice)
        thread.join()
    assert (result.ok, result.retryable) == (False, True)
    assert reason in result.detail


def test_a_server_that_waits_for_tls_is_told_from_others(
    tls_server: MailServer, mail_notice: Notice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides wait for the other to begin."""
    monkeypatch.setattr("tasktrail.actors.delivery.mail.CONNECT_WITHIN", 0.2)
    result = send(msgspec.structs.replace(tls_server, tls=False), mail_notice)
    assert (result.ok, result.retryable) == (False, True)
    assert result.detail.endswith("if it speaks TLS from the first byte, set smtp.tls = true")


def test_port_465_is_for_tls_from_the_first_byte() -> None:
    assert [Smtp(port=465).tls_at_once, Smtp(port=465, tls=False).tls_at_once, Smtp(tls=True).tls_at_once] == [True] * 3
    assert not Smtp().tls_at_once


def test_a_certificate_of_another_name_gets_no_password(
    secure_server: MailServer, mailbox: Mailbox, mail_notice: Notice
) -> None:
    result = send(secure_server, mail_notice, context=trusting(check_name=True))
    assert (result.ok, result.retryable) == (False, True)
    assert "CERTIFICATE_VERIFY_FAILED" in result.detail
    assert mailbox.logins == []


def test_a_wrong_password_is_tried_again_and_not_told(
    secure_server: MailServer, mailbox: Mailbox, mail_notice: Notice
) -> None:
    wrong = msgspec.structs.replace(secure_server, password=Secret("canary-3"))
    result = send(wrong, mail_notice, context=trusting(check_name=False))
    assert result == Result(ok=False, detail="the mail server refused the login (535)")
    assert mailbox.mail == []


def test_a_server_that_cannot_encrypt_is_not_used(server: MailServer, mailbox: Mailbox, mail_notice: Notice) -> None:
    result = send(msgspec.structs.replace(server, starttls=True), mail_notice)
    assert (result.ok, result.retryable) == (False, True)
    assert "smtp.starttls = false" in result.detail, "the key that it takes"
    assert mailbox.mail == []


@pytest.mark.parametrize(
    ("step", "answer", "retryable"),
    [
        ("on_rcpt", "550 no such user", False),
        ("on_rcpt", "451 try later", True),
        ("on_data", "554 not wanted", False),
        ("on_data", "452 full", True),
    ],
)
def test_a_final_no_is_believed_and_a_later_is_honoured(
    server: MailServer, mailbox: Mailbox, mail_notice: Notice, step: str, answer: str, *, retryable: bool
) -> None:
    setattr(mailbox, step, answer)
    result = send(server, mail_notice)
    assert (result.ok, result.retryable) == (False, retryable)
    assert result.answered, "the mail server works: others' mail must not wait"
    assert answer[4:] in result.detail


def test_what_lies_with_the_operator_is_tried_again() -> None:
    for error in (
        smtplib.SMTPSenderRefused(550, b"not you", "tasks@example.org"),
        smtplib.SMTPConnectError(554, b"busy"),
        smtplib.SMTPServerDisconnected("gone"),
        smtplib.SMTPNotSupportedError("no STARTTLS"),
        ConnectionRefusedError("nobody"),
    ):
        assert classify_error(error).retryable


def test_no_resolver_is_asked_who_this_machine_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def hangs(*_: Any) -> str:
        raise AssertionError("this look-up knows no time limit")

    for name in ("getfqdn", "gethostbyname", "gethostbyaddr"):
        monkeypatch.setattr(socket, name, hangs)
    for own, greeting in (("box.example.org", "box.example.org"), ("box", "[127.0.0.1]"), ("a b.c", "[127.0.0.1]")):
        monkeypatch.setattr(socket, "gethostname", lambda own=own: own)
        assert _Watched(Deadline(1.0), 1.0).local_hostname == greeting


def test_a_mail_server_that_says_nothing_is_cut_off(mail_notice: Notice) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = MailServer(host="127.0.0.1", port=silent.getsockname()[1], starttls=False, sender=SENDER)
        result = send(server, mail_notice, within=0.3)
    assert (result.ok, result.retryable) == (False, True)


@pytest.mark.parametrize("greeting", [b"220 here\r\n250-", b"220-"])
def test_a_mail_server_that_drips_is_cut_off(mail_notice: Notice, greeting: bytes) -> None:
    """In its greeting or after it, it sends a byte now and then, so that no single read takes long."""
    released = threading.Event()

    def drip(listener: socket.socket) -> None:
        listener.settimeout(60)  # a test that fails may not connect
        connection, _ = listener.accept()
        with connection:
            connection.sendall(greeting)
            while not released.wait(0.02):
                try:
                    connection.sendall(b"x")
                except OSError:
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,))
        thread.start()
        server = MailServer(host="127.0.0.1", port=listener.getsockname()[1], starttls=False, sender=SENDER)
        result = send(server, mail_notice, within=0.5)
        released.set()
        thread.join()
    assert result == Result(ok=False, detail="the mail server took longer than 0.5 s")


def test_the_password_is_in_no_repr() -> None:
    assert "canary" not in repr(MailServer(host="m", sender=SENDER, password=Secret("canary")))
