"""Stamps of seals by a time authority (RFC 3161): what a seal says was there at a time, by a clock that is not ours.

A stamp is over the text that is signed, so it holds whoever signs the seal later. It lies beside the note, as SIZE.tsr:
the authority's whole answer, which `openssl ts` reads, too. Needs the extra `tsa`.
"""

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

from ..errors import SealUnfit


def request_for(text: str) -> TimeStampRequest:
    """What an authority is asked, for the text of a seal."""
    return TimestampRequestBuilder().data(text.encode()).hash_algorithm(HashAlgorithm.SHA256).build()


def time_in(request: TimeStampRequest, answer: bytes) -> str:
    """When the authority has stamped just that request. Who it is, is not looked at. Raises `SealUnfit`."""
    said = _read(answer)
    if said.status:
        raise SealUnfit(f"The time authority has refused: {'; '.join(said.status_string) or f'status {said.status}'}")
    info = said.tst_info
    if info.nonce != request.nonce or info.message_imprint.message != request.message_imprint.message:
        raise SealUnfit("The time authority has stamped something else")
    return _at(said)


class Authorities:
    """Those whose stamps are believed.

    Args:
        path: a file with their certificates, or those of who vouches for them, in PEM.

    Raises:
        SealUnfit: there are none in it.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._verifier = VerifierBuilder(roots=x509.load_pem_x509_certificates(path.read_bytes())).build()
        except (OSError, ValueError) as error:
            raise SealUnfit(f"{path} has no certificates in PEM: {error}", field="authority") from error

    def stamped_at(self, text: str, stamp: bytes) -> str:
        """When one of them has stamped the text: RFC 3339, in UTC. Raises `SealUnfit`."""
        said = _read(stamp)
        try:
            self._verifier.verify(said, sha256(text.encode()).digest())
        except (ValueError, VerificationError) as error:
            raise SealUnfit(f"The stamp does not hold: {error}") from error
        return _at(said)


def _read(answer: bytes) -> TimeStampResponse:
    try:
        return decode_timestamp_response(answer)
    except ValueError as error:
        raise SealUnfit(f"This is no answer of a time authority: {error}") from error


def _at(said: TimeStampResponse) -> str:
    return f"{said.tst_info.gen_time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
