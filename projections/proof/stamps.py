"""Stamps of seals by a time authority (RFC 3161): proof, by a foreign clock, that a seal's text existed at a time.

A stamp covers the text that is signed, so it holds whatever signatures are added later. It lies beside the note, as
SIZE.tsr: the authority's whole answer, which `openssl ts` can read, too. Needs the extra `tsa`.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from rfc3161_client import (
    HashAlgorithm,
    TimeStampRequest,
    TimestampRequestBuilder,
    TimeStampResponse,
    VerificationError,
    VerifierBuilder,
    decode_timestamp_response,
)

from ...events.log.files import read_small
from ..errors import SealUnfit

_LARGEST = 10 * 1024 * 1024
"""Bytes of a file of certificates: many times as many as all that a system trusts."""
_NOT_VALID = (
    "See whether the certificates are those of the authority that made this stamp, up to its root. If they are, the "
    "stamp was changed: keep it as evidence, outside the folder, and put a copy that was kept elsewhere in its place. "
    "The newest seal is stamped again with `tasktrail anchor tsa URL`. This alone does not mean that the log was "
    "changed."
)


def request_for(text: str) -> TimeStampRequest:
    """The request to an authority for the text of a seal."""
    return TimestampRequestBuilder().data(text.encode()).hash_algorithm(HashAlgorithm.SHA256).build()


def is_answer(content: bytes) -> bool:
    """Whether this is the answer of a time authority at all, be it a stamp or a refusal."""
    try:
        response = _read(content)
        with _readable():
            return bool(response.status or response.tst_info.message_imprint.message)
    except SealUnfit:
        return False


def time_in(request: TimeStampRequest, answer: bytes) -> str:
    """When the authority stamped exactly that request. Its identity is not checked. Raises `SealUnfit`."""
    response = _granted(answer)
    with _readable():
        info = response.tst_info
        if info.nonce != request.nonce or info.message_imprint.message != request.message_imprint.message:
            raise SealUnfit("The time authority has stamped something else")
        return _at(response)


def kept_time(text: str, stamp: bytes) -> str:
    """When an earlier stamp was made, if it is of this text. Its signature is not checked. Raises `SealUnfit`."""
    response = _granted(stamp)
    with _readable():
        if response.tst_info.message_imprint.message != sha256(text.encode()).digest():
            raise SealUnfit("It is the stamp of something else")
        return _at(response)


class Authorities:
    """The trusted time authorities.

    Args:
        path: a file with their root certificates in PEM, and with those between a root and the authority's own that a
            stamp does not carry. The authority's own alone does not suffice, as with `openssl ts -verify`.

    Raises:
        SealUnfit: it has no certificates.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._verifier = _Verifier(x509.load_pem_x509_certificates(read_small(path, _LARGEST)))
        except (OSError, ValueError, x509.InvalidVersion) as error:
            why = f": {error.strerror}" if isinstance(error, OSError) else ""  # a library's words help nobody here
            raise SealUnfit(
                f"{path} has no certificates in PEM{why}",
                field="authority",
                remedy="Name a file with the root certificate of the time authority, as the authority publishes it.",
            ) from error

    def stamped_at(self, text: str, stamp: bytes) -> str:
        """When one of them stamped the text: RFC 3339, in UTC. Raises `SealUnfit`."""
        response = _read(stamp)
        try:
            self._verifier.verify(response, sha256(text.encode()).digest())
        except (ValueError, LookupError, VerificationError, x509.InvalidVersion) as error:
            raise SealUnfit(f"The stamp does not hold: {error}", remedy=_NOT_VALID) from error
        return _at(response)


def _granted(answer: bytes) -> TimeStampResponse:
    """The answer, if it has a stamp. Raises `SealUnfit`."""
    response = _read(answer)
    with _readable():
        if response.status:
            raise SealUnfit(
                f"The time authority has refused: {'; '.join(response.status_string) or f'status {response.status}'}"
            )
    return response


def _read(answer: bytes) -> TimeStampResponse:
    with _readable():
        return decode_timestamp_response(_in_order(answer))


@contextmanager
def _readable() -> Iterator[None]:
    """Tell of what the library cannot read. It reads some parts of an answer only when they are asked for."""
    try:
        yield
    except ValueError as error:
        raise SealUnfit(f"This is no answer of a time authority: {error}", remedy=_NOT_VALID) from error


_CERTIFICATES = 0xA0


def _in_order(answer: bytes) -> bytes:
    """The answer with its certificates in the order of DER, which the library requires.

    Authorities may send them in any order (RFC 5652, 5.1), and no signature covers it. Any other answer is returned as
    it is.
    """

    def inside(part: tuple[int, int, int]) -> list[tuple[int, int, int]]:
        return _parts(answer, part[1], part[2])

    try:
        (response,) = _parts(answer, 0, len(answer))
        _status, token = inside(response)
        _kind, content = inside(token)
        (signed,) = inside(content)
        (element,) = (part for part in inside(signed) if answer[part[0]] == _CERTIFICATES)
        certificates = sorted(answer[begin:end] for begin, _content, end in inside(element))
    except (ValueError, IndexError):
        return answer
    return answer[: element[1]] + b"".join(certificates) + answer[element[2] :]


def _parts(data: bytes, begin: int, end: int) -> list[tuple[int, int, int]]:
    """The ASN.1 elements in a range of bytes: where each begins, where its content begins, and where it ends."""
    elements = []
    while begin < end:
        length, content = data[begin + 1], begin + 2
        if length >= 0x80:  # noqa: PLR2004 - so many bytes hold the length
            size = length & 0x7F
            length = int.from_bytes(data[content : content + size])
            content += size
        elements.append((begin, content, content + length))
        begin = content + length
    return elements


def _at(response: TimeStampResponse) -> str:
    return f"{response.tst_info.gen_time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


class _Verifier:
    """Verifies stamps by root certificates, and those between.

    Of several roots with one name, such as an old and a renewed one, the library looks at a single one, left to chance.
    So it gets each of them without the others, too.
    """

    def __init__(self, certificates: list[x509.Certificate]) -> None:
        roots = [one for one in certificates if one.subject == one.issuer]
        named = Counter(root.subject for root in roots)
        shared = [root for root in roots if named[root.subject] > 1]
        alone = [
            [one for one in certificates if one is root or one not in shared or one.subject != root.subject]
            for root in shared
        ]
        self._verifiers = [VerifierBuilder(roots=some).build() for some in (certificates, *alone)]

    def verify(self, response: TimeStampResponse, digest: bytes) -> None:
        """Raise `ValueError` or `VerificationError` unless a stamp of this digest holds by any of the roots."""
        for verifier in self._verifiers[:-1]:
            try:
                verifier.verify(response, digest)
            except (ValueError, VerificationError):
                continue
            return
        self._verifiers[-1].verify(response, digest)
