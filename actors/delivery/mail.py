"""Sends notices by email: one plain-text message to one address, which is checked here, too."""

import contextlib
import hashlib
import re
import smtplib
import socket
import ssl
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime

import msgspec

from ...projections.notices import Notice
from ..secret import Secret
from .attempt import CONNECT_WITHIN, DELIVER_WITHIN, Deadline, Result, brief, error_in_words

_PERMANENT = 500
_READY = 220
_FULL_NAME = r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+"


class MailServer(msgspec.Struct, frozen=True, kw_only=True):
    """The server that accepts our mail."""

    host: str
    port: int = 587
    user: str = ""
    password: Secret = Secret("")
    starttls: bool = True
    """Whether to encrypt and check the certificate. Then a server without STARTTLS is not used."""
    tls: bool = False
    """Whether to speak TLS from the first byte instead (RFC 8314), and check the certificate."""
    sender: str


def compose_mail(notice: Notice, sender: str) -> EmailMessage:
    """Compose the message. The same notice gives the same Message-ID, so receivers recognise a repetition.

    Raises ValueError for an address that is not one plain address.
    """
    message = EmailMessage(policy=SMTP)
    message["From"] = one_address(sender)
    message["To"] = one_address(notice.target).addr_spec
    message["Subject"] = brief(f"Task {notice.task_id} ({notice.task['type']}) {notice.event}", 200)
    message["Date"] = format_datetime(notice.recorded_at)
    name = hashlib.sha256(notice.notice_id.encode()).hexdigest()[:40]
    message["Message-ID"] = f"<{name}@{one_address(sender).domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(notice_text(notice))
    return message


def notice_text(notice: Notice, longest: int = 4096) -> str:
    """The text of the mail. `longest`: bytes of each path and of the error at most."""
    task = notice.task
    lines = [
        f"Task:      {notice.task_id}",
        f"Type:      {brief(task['type'], 200)}",
        f"Outcome:   {notice.event}",
        f"Input:     {brief(task['input_file'], longest)}",
        f"Output:    {brief(task['output_file'], longest)}",
        f"Duration:  {task['duration']:.1f} s",
        f"Attempts:  {task['attempt']}",
    ]
    if task["error"]:
        lines.append(f"Error:     {brief(task['error'], longest)}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


_SPEAKS_TLS = re.compile("ALERT|UNSUPPORTED_PROTOCOL|NO_SHARED")
"""Reasons for which a handshake fails although the server speaks TLS."""


class _OtherEncryption(smtplib.SMTPException):
    """The server does not begin as configured: it speaks TLS at once and should not, or should and does not."""


class _Watched(smtplib.SMTP):
    """An SMTP client under the deadline from the first byte on: a server could already delay its greeting."""

    def __init__(self, deadline: Deadline, timeout: float, tls: ssl.SSLContext | None = None) -> None:
        # Without a name smtplib looks up this machine's own. If no resolver answers, that hangs without a time limit.
        super().__init__(local_hostname=_own_name(), timeout=timeout)
        self._deadline = deadline
        self._tls = tls

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        # smtplib's own hook for another kind of socket; `SMTP_SSL` uses it, too.
        self._host = host  # the name that STARTTLS checks the certificate against, as the constructor got none
        connection = socket.create_connection((host, port), timeout, self.source_address)
        self._deadline.watch(connection)
        if self._tls is None:
            return connection
        try:
            return self._tls.wrap_socket(connection, server_hostname=host)
        except ssl.SSLError as error:
            if isinstance(error, ssl.SSLCertVerificationError) or _SPEAKS_TLS.search(error.reason or ""):
                raise
            detail = f"the mail server does not speak TLS from the first byte at port {port}"
            raise _OtherEncryption(f"{detail}; for STARTTLS leave smtp.tls out, and see smtp.port") from error


def _own_name() -> str:
    """The name for greeting a mail server: this machine's full name, or else an address literal (RFC 5321)."""
    name = socket.gethostname()
    return name if re.fullmatch(_FULL_NAME, name) else "[127.0.0.1]"


class MailSender:
    """Hands mail to one server. One object serves all threads; every delivery has a connection of its own."""

    def __init__(
        self, server: MailServer | None, *, within: float = DELIVER_WITHIN, context: ssl.SSLContext | None = None
    ) -> None:
        self._server = server
        self._within = within
        self._context = context or ssl.create_default_context()

    def send(self, notice: Notice, deadline: Deadline) -> Result:
        """Deliver, and return the result."""
        if self._server is None:
            return Result(ok=False, detail="no mail server is configured: set smtp.host and smtp.sender")
        try:
            message = compose_mail(notice, self._server.sender)
        except ValueError as error:
            return Result(ok=False, detail=brief(str(error)), retryable=False, answered=True)
        try:
            self._hand_in(message, self._server, deadline)
        except (smtplib.SMTPException, OSError, ValueError) as error:
            if deadline.cut:
                return Result(ok=False, detail=f"the mail server took longer than {self._within:g} s")
            return classify_error(error)
        return Result(ok=True, detail="accepted by the mail server")

    def _hand_in(self, message: EmailMessage, server: MailServer, deadline: Deadline) -> None:
        smtp = _Watched(deadline, min(CONNECT_WITHIN, self._within), self._context if server.tls else None)
        try:
            try:
                code, said = smtp.connect(server.host, server.port)
            except smtplib.SMTPServerDisconnected as error:
                if server.tls or deadline.cut:
                    raise
                detail = f"the mail server says nothing at port {server.port}"
                raise _OtherEncryption(
                    f"{detail}; if it speaks TLS from the first byte, set smtp.tls = true"
                ) from error
            if code != _READY:
                raise smtplib.SMTPConnectError(code, said)
            if smtp.sock is not None:
                smtp.sock.settimeout(self._within)
            if server.starttls and not server.tls:
                smtp.starttls(context=self._context)
            if server.user:
                smtp.login(server.user, server.password.reveal())
            smtp.send_message(message)
            with contextlib.suppress(smtplib.SMTPException, OSError):  # it is delivered, even if QUIT fails
                smtp.quit()
        finally:
            smtp.close()


def classify_error(error: Exception) -> Result:
    """The result for an error. A retry may help if the operator can fix it, not if the receiver refuses for good."""
    match error:
        case smtplib.SMTPRecipientsRefused():
            code, said = next(iter(error.recipients.values()))
            return Result(ok=False, detail=_said(code, said), retryable=code < _PERMANENT, answered=True)
        case smtplib.SMTPDataError():
            detail = _said(error.smtp_code, error.smtp_error)
            return Result(ok=False, detail=detail, retryable=error.smtp_code < _PERMANENT, answered=True)
        case smtplib.SMTPAuthenticationError():
            return Result(ok=False, detail=f"the mail server refused the login ({error.smtp_code})")
        case smtplib.SMTPResponseException():
            return Result(ok=False, detail=_said(error.smtp_code, error.smtp_error))
        case smtplib.SMTPNotSupportedError() if "STARTTLS" in str(error):
            detail = "the mail server offers no STARTTLS; smtp.starttls = false sends in clear: for one on this machine"
            return Result(ok=False, detail=detail)
        case _OtherEncryption():
            return Result(ok=False, detail=brief(str(error)))
        case _:
            return Result(ok=False, detail=error_in_words(error))


def _said(code: int, said: bytes | str) -> str:
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return brief(f"the mail server answered {code}: {text}")


_WORD = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = rf"({_WORD}(?:\.{_WORD})*)@({_LABEL}(?:\.{_LABEL})*)"
_NAMED = rf"([^<>@,;:\"\\()\[\]]*?)\s*<{_PLAIN}>"
LONGEST_ADDRESS = 254
ONE_ADDRESS = rf"^$|^ *(?!.*=\?)({_PLAIN}|[ !#-'*+./0-9=?A-Z^-z{{|}}~\p{{L}}\p{{M}}-]*<{_PLAIN}>) *$"
"""The same pattern for JSON schemas, which know `\\p`. Names have letters of all languages and the common signs."""


def one_address(text: str) -> Address:
    """The one address in a text. Raises ValueError for none, several, or anything that could become a header.

    With several, a notice would go to people whom the sender did not mean. The standard library's parser fails in odd
    ways on odd texts (`<`, `.:`), so a pattern decides: plain ASCII addresses, with or without a name before them; no
    quoted local parts, no comments, no groups.
    """
    stripped = text.strip(" ")
    if not stripped.isprintable() or len(stripped) > LONGEST_ADDRESS:
        raise ValueError("A mail address is one short line")
    if "=?" in stripped:
        # Mail programs, and the library that writes our headers, decode `=?utf-8?q?=61?=` to another text.
        raise ValueError("A mail address must not hold an encoded word (=?…?=)")
    if match := re.fullmatch(_PLAIN, stripped):
        return Address(username=match[1], domain=match[2])
    if match := re.fullmatch(_NAMED, stripped):
        return Address(display_name=match[1], username=match[2], domain=match[3])
    raise ValueError("This is not one plain mail address")
