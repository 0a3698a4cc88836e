"""Gets a time stamp (RFC 3161) for a seal."""

import ssl
from contextlib import suppress
from http import HTTPStatus
from typing import NamedTuple

import httpx

from ..events.log.files import read_small
from ..projections.errors import NoStamp, SealUnfit
from ..projections.proof.seals import Seal, alone, write_durably
from ..projections.proof.stamps import is_answer, kept_time, request_for, time_in
from .delivery.attempt import DELIVER_WITHIN, Deadline
from .delivery.post import TOO_LONG, HttpAnswer, Poster
from .delivery.ssrf import EndpointRefused, host_port

_HEADERS = {"content-type": "application/timestamp-query", "user-agent": "tasktrail"}
_STAMP_KIND = "application/timestamp-reply"
_LONGEST_KIND = 60
"""Characters of a content type that a message shows."""
_NO_ANSWER = (
    "The seal is there. See whether the address is right and can be reached from here; then ask again with "
    "`tasktrail anchor tsa URL`, or name another authority."
)
_WRONG_URL = "The seal is there. See whether this is the address at which the authority makes stamps (RFC 3161)."


class SealStamp(NamedTuple):
    """The stamp of a seal."""

    at: str
    """Its time, by the authority's clock: RFC 3339, in UTC."""
    is_new: bool
    """Whether it was made now."""


def have_stamped(
    seal: Seal, url: str, *, within: float = DELIVER_WITHIN, context: ssl.SSLContext | None = None
) -> SealStamp:
    """Ask a time authority for a stamp, and keep it beside the seal.

    If the seal has a stamp, of whatever authority, nobody is asked: a later one would prove less. One that cannot be
    read as a stamp of this seal is replaced.

    Args:
        seal: the seal.
        url: the authority's address; the operator configures it, so any address is allowed.
        within: seconds for the whole answer.
        context: for TLS; None for the default.

    Raises:
        NoStamp: the authority gave no valid stamp.
        OSError: the stamp cannot be kept, or the file of an earlier one cannot be read.
    """
    if kept := _kept(seal):
        return kept
    request = request_for(seal.checkpoint.text())
    try:
        poster = Poster([host_port(url)], all_within=within, context=context)
        with Deadline(within) as deadline:
            try:
                answer = poster.post(url, request.as_bytes(), _HEADERS, deadline)
            except (httpx.HTTPError, OSError, ValueError) as error:
                why = poster.why_not(error, deadline)
                raise NoStamp(f"{url} has not stamped the seal: {why}", remedy=_NO_ANSWER) from error
    except EndpointRefused as error:
        raise NoStamp(f"{url} has not stamped the seal: {error}", field="url") from error
    if answer.status != HTTPStatus.OK:
        remedy = "" if answer.may_change else _WRONG_URL
        raise NoStamp(f"{url} has not stamped the seal: {answer.status_in_words()}", remedy=remedy)
    try:
        at = time_in(request, answer.content)
    except SealUnfit as error:
        why, remedy = (poster.incomplete, "") if answer.is_cut else _in_words(answer, error)
        raise NoStamp(f"{url} has not stamped the seal: {why}", remedy=remedy) from error
    with alone(seal.path.parent):
        if kept := _kept(seal):  # of another process, meanwhile
            return kept
        write_durably(seal.stamp, answer.content)
    return SealStamp(at, is_new=True)


def _in_words(answer: HttpAnswer, error: SealUnfit) -> tuple[str, str]:
    """Why an answer is no stamp, and what to do if it is not to ask again later."""
    if answer.is_long:
        return TOO_LONG, _WRONG_URL
    if is_answer(answer.content):
        return error.message, ""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    what = f" ({kind[:_LONGEST_KIND]})" if kind else ""
    # A stamp that was damaged on its way is to be asked for again; a page in its place comes from another address.
    return f"what it has answered{what} is no answer of a time authority", "" if kind == _STAMP_KIND else _WRONG_URL


def _kept(seal: Seal) -> SealStamp | None:
    with suppress(FileNotFoundError, SealUnfit):
        return SealStamp(kept_time(seal.checkpoint.text(), read_small(seal.stamp)), is_new=False)
    return None
