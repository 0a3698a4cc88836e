"""Gets a time stamp (RFC 3161) for a seal."""

import ssl
from http import HTTPStatus

import httpx

from ..projections.errors import NoStamp, SealUnfit
from ..projections.proof.seals import Seal, keep_stamp
from ..projections.proof.stamps import request_for, time_in
from .delivery.attempt import DELIVER_WITHIN, Deadline
from .delivery.post import Poster
from .delivery.ssrf import EndpointRefused, host_port

_HEADERS = {"content-type": "application/timestamp-query", "user-agent": "tasktrail"}


def have_stamped(seal: Seal, url: str, *, context: ssl.SSLContext | None = None) -> str:
    """Ask a time authority for a stamp, keep it beside the seal, and return its time: RFC 3339, in UTC.

    Args:
        seal: the seal.
        url: the authority's address; the operator configures it, so any address is allowed.
        context: for TLS; None for the default.

    Raises:
        NoStamp: the authority gave no valid stamp.
        OSError: the stamp cannot be kept.
    """
    request = request_for(seal.checkpoint.text())
    try:
        poster = Poster([host_port(url)], context=context)
        with Deadline(DELIVER_WITHIN) as deadline:
            try:
                answer = poster.post(url, request.as_bytes(), _HEADERS, deadline)
            except (httpx.HTTPError, OSError, ValueError) as error:
                raise NoStamp(f"{url} has not stamped the seal: {poster.why_not(error, deadline)}") from error
    except EndpointRefused as error:
        raise NoStamp(f"{url} has not stamped the seal: {error}", field="url") from error
    if answer.status != HTTPStatus.OK:
        raise NoStamp(f"{url} has not stamped the seal: HTTP {answer.status}")
    try:
        at = time_in(request, answer.content)
    except SealUnfit as error:
        raise NoStamp(f"{url} has not stamped the seal: {error.message}") from error
    keep_stamp(seal, answer.content)
    return at
