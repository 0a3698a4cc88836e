"""Sends webhooks and callbacks: a POST of one JSON document shaped as a CloudEvent, signed by Standard Webhooks."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import msgspec
from standardwebhooks import Webhook

from ...events.recorded import timestamp
from ...projections.notices import Notice
from ..secret import Secret
from .attempt import Deadline, Result, brief
from .post import Poster
from .ssrf import EndpointRefused

MAX_DOCUMENT = 20_000
"""Bytes of a notice at most. Long fields are left out to keep to it, and named in `left_out`."""

_SHOWN_OF_ANSWER = 300
_GONE = 410
_PRIVATE = ("notify_email", "notify_webhook", "callback_url", "notify_on", "notify_targets", "checkpoint")
"""Fields that receivers must not see: the other receivers, and the handler's own data."""
_MAY_BE_LONG = ("options", "result", "depends_on", "last_error", "error", "message")

_ENCODER = msgspec.json.Encoder(order="deterministic")


def body(notice: Notice) -> bytes:
    """The document. The same notice always gives the same bytes."""
    task = {name: value for name, value in notice.task.items() if name not in _PRIVATE}
    left_out: list[str] = []
    for name in ("", *_MAY_BE_LONG):
        if name in task:
            del task[name]
            left_out.append(name)
        encoded = _ENCODER.encode(_document(notice, task, left_out))
        if len(encoded) <= MAX_DOCUMENT:
            break
    return encoded


def _document(notice: Notice, task: dict[str, Any], left_out: list[str]) -> dict[str, Any]:
    data: dict[str, Any] = {"position": notice.position, "event": notice.event, "task": task}
    if left_out:
        data["left_out"] = left_out
    return {
        "specversion": "1.0",
        "id": notice.notice_id,
        "source": "tasktrail",
        "type": f"tasktrail.task.{notice.event}",
        "subject": f"task/{notice.task_id}",
        "time": timestamp(notice.recorded_at),
        "datacontenttype": "application/json",
        "data": data,
    }


def headers(notice_id: str, content: bytes, secret: Secret, now: datetime, traceparent: str = "") -> dict[str, str]:
    """The headers of one try. All tries have the same id; each has its own time and signature."""
    sent = {"content-type": "application/cloudevents+json", "user-agent": "tasktrail", "webhook-id": notice_id}
    if traceparent:
        sent["traceparent"] = traceparent
    if secret:
        sent["webhook-timestamp"] = str(int(now.timestamp()))
        # The library ignores the time zone when it signs, so the time must be in UTC.
        at, text = now.astimezone(UTC), content.decode()
        # During a change there are two secrets. It is signed with both, as the receiver may have either.
        sent["webhook-signature"] = " ".join(Webhook(one).sign(notice_id, at, text) for one in secret.reveal().split())
    return sent


class WebhookSender:
    """Posts notices. One object serves all threads; every delivery has a connection of its own."""

    def __init__(self, secret: Secret, poster: Poster) -> None:
        self._secret = secret
        self._poster = poster

    def send(self, notice: Notice, deadline: Deadline, now: datetime) -> Result:
        """Deliver, and return the result. Raises nothing that a receiver could cause."""
        content = body(notice)
        sent = headers(notice.notice_id, content, self._secret, now, notice.traceparent)
        try:
            answer = self._poster.post(notice.target, content, sent, deadline)
        except EndpointRefused as error:
            return Result(ok=False, detail=str(error), retryable=False)
        except (httpx.HTTPError, OSError, ValueError) as error:
            return Result(ok=False, detail=self._poster.why_not(error, deadline))
        return classify_response(answer.status, answer.content, answer.headers.get("retry-after"), now)


def classify_response(status: int, answer: bytes, retry_after: str | None, now: datetime) -> Result:
    """The result by the status: 2xx is delivered, 410 is gone for good, all else, also redirects, is a failure."""
    if httpx.codes.is_success(status):
        return Result(ok=True, detail=f"HTTP {status}", answered=True)
    text = brief(answer[:_SHOWN_OF_ANSWER].decode(errors="ignore"), _SHOWN_OF_ANSWER)
    return Result(
        ok=False,
        detail=f"HTTP {status}: {text}" if text else f"HTTP {status}",
        retryable=status != _GONE,
        answered=True,
        disabled=status == _GONE,
        retry_after=_seconds(retry_after, now),
    )


def _seconds(retry_after: str | None, now: datetime) -> float | None:
    """Parse `Retry-After`, a number of seconds or a date, to seconds."""
    if retry_after is None:
        return None
    number = retry_after.strip()
    if number.isascii() and number.isdigit():
        return float(number[:20])
    try:
        at = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    at = at if at.tzinfo is not None else at.replace(tzinfo=UTC)
    return max(0.0, (at - now).total_seconds())
