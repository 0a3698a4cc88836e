"""Reads and stores objects in S3, or on a server with the same protocol.

An upload that has bytes has an id, which is written down before the first part is sent, so that a later process can
cancel it. Completing it makes the object appear in one step. Unless it may overwrite, it must not replace the object of
another owner.
"""

import contextlib
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from ...handlers.urls import Url
from ..delivery.attempt import usual_error
from .places import CHUNK, PlaceError, ProgressFunction, RemoteFile, changed, other_bytes, unreachable

_T = TypeVar("_T")
MARK = "tasktrail-task"
"""Metadata key of a stored object: it names the task that has stored it."""
_PART = 16 * 1024 * 1024
"""Bytes of a part; S3 wants at least 5 MiB."""
_PARTS = 9_000
"""The most parts of an upload; S3 allows 10,000."""
_CONFLICTS = 4
"""How often the conditional step is tried while others write there at the same time."""
_PAUSE = 0.2
"""Seconds before a server that did not answer is asked again; they double each time, up to `_LONGEST_PAUSE`."""
_LONGEST_PAUSE = 30.0
_TRIES = 9
"""Tries for one part: they take nearly a minute, as for a read."""
_APPEARS_WITHIN = 600.0
"""Seconds for which it tries to make an output appear after all its bytes are sent."""


def make_client() -> Any:
    """A client with the credentials that botocore finds: environment, profiles, web identity, the machine's own."""
    try:
        import botocore.session  # noqa: PLC0415 - an extra, and slow to load
        from botocore.config import Config  # noqa: PLC0415
    except ImportError:
        raise PlaceError(
            "package", "Files at s3:// need the package botocore", "Install it: pip install 'tasktrail[s3]'."
        ) from None
    own = any(os.environ.get(name) for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"))
    config = Config(
        connect_timeout=10,
        read_timeout=60,
        retries={"mode": "standard", "total_max_attempts": 4},
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if own else {},
        user_agent_extra="tasktrail",
    )
    with _explained("s3"):
        session = botocore.session.get_session()
        region = session.get_config_variable("region") or "us-east-1"
        return session.create_client("s3", region_name=region, config=config)


def credentials_from(client: Any) -> str:
    """Where the credentials came from, by botocore's name for it; empty if there are none."""
    credentials = client._request_signer._credentials  # noqa: SLF001 - botocore offers no other way to ask
    return str(credentials.method) if credentials is not None else ""


def look_into(client: Any, url: Url) -> None:
    """Raise `PlaceError` unless the bucket is there and may be listed."""
    with _explained(url.text):
        client.list_objects_v2(Bucket=url.place, Prefix=url.path, MaxKeys=1)


class S3Source:
    """An object to be read."""

    def __init__(self, client: Any, url: Url) -> None:
        self._client = client
        self._url = url
        self._at = {"Bucket": url.place, "Key": url.path}

    def look(self) -> RemoteFile:
        """See `Source`."""
        with _explained(self._url.text):
            head = self._client.head_object(**self._at)
        version = f"{head['ETag']} {head['ContentLength']} {head.get('VersionId', '')}"
        return RemoteFile(version.strip(), head["ContentLength"], resumes=True)

    def read(self, remote: RemoteFile, start: int) -> Iterator[bytes]:
        """See `Source`."""
        etag = remote.version.split(" ")[0]
        wanted = {"IfMatch": etag} | ({"Range": f"bytes={start}-"} if start else {})
        try:
            with _explained(self._url.text, conditional=True):
                answer = self._client.get_object(**self._at, **wanted)
        except _Precondition:
            raise changed(self._url) from None
        with contextlib.closing(answer["Body"]) as body:
            if answer["ETag"] != etag:
                raise changed(self._url)
            if start and answer.get("ContentRange") != f"bytes {start}-{remote.size - 1}/{remote.size}":
                raise other_bytes(self._url, start)
            while data := self._read(body):
                yield data

    def _read(self, body: Any) -> bytes:
        try:
            data: bytes = body.read(CHUNK)
        except Exception as error:  # noqa: BLE001 - of botocore, urllib3, ssl or the socket: the connection is broken
            raise unreachable(self._url, type(error).__name__) from None
        return data


class S3Upload:
    """The upload of an object.

    Args:
        client: from `make_client`.
        url: the address of the object.
        owner: the mark by which a later attempt of the task recognises the object.
        overwrite: whether it may replace another object.
        note: the file that names the upload while it can be cancelled.
    """

    def __init__(self, client: Any, url: Url, owner: str, note: Path, *, overwrite: bool) -> None:
        self._client = client
        self._url = url
        self._at = {"Bucket": url.place, "Key": url.path}
        self._owner = owner
        self._overwrite = overwrite
        self._note = note
        self._beginning = threading.Lock()
        self._id = ""
        self._parts: list[dict[str, Any]] = []
        self._metadata: dict[str, str] = {}

    def send(self, path: Path, on_progress: ProgressFunction) -> None:
        """Send the bytes. The object does not appear yet. Raises `PlaceError`."""
        self._patiently(self._refuse_taken)
        # Marks this attempt alone: if an answer is lost, it shows whether this upload has appeared.
        self._metadata = {MARK: self._owner, f"{MARK}-attempt": f"{self._note.stem} {os.urandom(8).hex()}"}
        size = path.stat().st_size
        if not size:
            return  # it has no parts, and goes in the request that makes it appear
        with self._beginning:
            self._id = self._patiently(self._begin)
            write_down(self._note, self._at, self._id)
        step = max(_PART, -(-size // _PARTS))
        with path.open("rb") as file:
            for number in range(1, -(-size // step) + 1):
                self._parts.append(self._patiently(partial(self._send_part, number, file.read(step))))
                on_progress(file.tell(), size)

    def _begin(self) -> str:
        with _explained(self._url.text):
            begun = self._client.create_multipart_upload(**self._at, Metadata=self._metadata, **_kind(self._url))
        return str(begun["UploadId"])

    def _send_part(self, number: int, data: bytes) -> dict[str, Any]:
        with _explained(self._url.text):
            sent = self._client.upload_part(**self._at, UploadId=self._id, PartNumber=number, Body=data)
        return {"PartNumber": number, "ETag": sent["ETag"]}

    def _patiently(self, ask: Callable[[], _T]) -> _T:
        """Call `ask`, and repeat it for a while if the server cannot be reached: the bytes sent are worth the wait."""
        for number in range(_TRIES - 1):
            try:
                return ask()
            except _CalledOff:
                raise
            except PlaceError as error:
                if error.kind != "unreachable":
                    raise
                _pause(number)
        return ask()

    def appear(self) -> None:
        """Make the object appear, whole and in one step. Raises `PlaceError`."""
        conflicts, until = 0, time.monotonic() + _APPEARS_WITHIN
        for number in count():
            try:
                condition = self._condition()
                with _explained(self._url.text, conditional=True):
                    self._complete(condition)
                break
            except _Precondition:
                if self._has_appeared():
                    break  # the first answer was lost, and this is the answer to a repetition
                conflicts += 1
                if conflicts == _CONFLICTS:
                    raise unreachable(self._url, "another program writes there at the same time") from None
            except PlaceError as error:
                if error.kind != "unreachable":
                    raise
                if self._has_appeared():
                    break  # the answer was lost
                if isinstance(error, _CalledOff) or time.monotonic() >= until:
                    raise
            _pause(number)
        self._id = ""
        self._note.unlink(missing_ok=True)

    def call_off(self) -> None:
        """Cancel an upload that has not appeared. Another thread may do it in the middle of `send`."""
        with self._beginning:  # waits until the id of a begun upload is known
            upload = self._id
        if upload and not call_off(self._client, self._at, upload):
            return  # the note stays for a sweep
        self._note.unlink(missing_ok=True)

    def _complete(self, condition: dict[str, str]) -> None:
        if not self._id:
            self._client.put_object(**self._at, Body=b"", Metadata=self._metadata, **_kind(self._url), **condition)
            return
        self._client.complete_multipart_upload(
            **self._at, UploadId=self._id, MultipartUpload={"Parts": self._parts}, **condition
        )

    def _condition(self) -> dict[str, str]:
        """The condition under which it may appear. Raises `PlaceError` if another owner's object has the name."""
        if self._overwrite:
            return {}
        earlier = self._refuse_taken()
        return {"IfMatch": earlier["ETag"]} if earlier else {"IfNoneMatch": "*"}

    def _refuse_taken(self) -> dict[str, Any] | None:
        """The object of an earlier attempt of the task, if there is one. Raises `PlaceError` for any other object."""
        if self._overwrite:
            return None
        stored = self._head()
        if stored is None:
            return None
        marks = stored["Metadata"]
        if marks.get(MARK) != self._owner:
            raise PlaceError("exists", f"There is already an object {self._url.text}")
        if _attempt_of(marks.get(f"{MARK}-attempt", "")) > _attempt_of(self._note.stem):
            raise PlaceError("exists", f"A later attempt of the task has stored {self._url.text} already")
        return stored

    def _head(self) -> dict[str, Any] | None:
        try:
            with _explained(self._url.text):
                head: dict[str, Any] = self._client.head_object(**self._at)
        except PlaceError as error:
            if error.kind == "missing":
                return None
            raise
        return head

    def _has_appeared(self) -> bool:
        """Whether this upload has appeared; False also if the server does not say."""
        try:
            stored = self._head()
        except PlaceError:
            return False
        return stored is not None and stored["Metadata"].get(f"{MARK}-attempt") == self._metadata[f"{MARK}-attempt"]


def _attempt_of(mark: str) -> int:
    """The number in `TASK-ATTEMPT`, whatever follows; 0 where there is none."""
    number = mark.partition(" ")[0].partition("-")[2]
    return int(number) if number.isdecimal() else 0


def _pause(number: int) -> None:
    time.sleep(min(_PAUSE * 2**number, _LONGEST_PAUSE))


def _kind(url: Url) -> dict[str, str]:
    """The content type that the object gets for browsers."""
    import mimetypes  # noqa: PLC0415 - it reads files of the system

    content_type = mimetypes.guess_type(url.name)[0]
    return {"ContentType": content_type} if content_type else {}


# --- uploads that a kill has left ------------------------------------------------------------------------------------


def write_down(note: Path, at: dict[str, str], upload: str) -> None:
    """Write the note of an upload, durably and whole, before the first part is sent."""
    half = note.with_suffix(".new")
    with half.open("w") as file:
        json.dump({**at, "UploadId": upload}, file)
        file.flush()
        os.fsync(file.fileno())
    half.replace(note)
    folder = os.open(note.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def call_off_noted(make: Callable[[], Any], note: Path) -> bool:
    """Cancel the upload that a note names. Returns whether it did.

    If it cannot, the note stays. A note that cannot be read is removed.
    """
    try:
        decoded = json.loads(note.read_bytes())
        at, upload = {"Bucket": decoded["Bucket"], "Key": decoded["Key"]}, decoded["UploadId"]
    except (OSError, ValueError, KeyError, TypeError):
        note.unlink(missing_ok=True)  # killed before it had begun
        return False
    if not call_off(make(), at, upload):
        return False
    note.unlink(missing_ok=True)
    return True


def call_off(client: Any, at: dict[str, str], upload: str) -> bool:
    """Cancel an upload. Returns whether nothing of it is left."""
    try:
        client.abort_multipart_upload(**at, UploadId=upload)
    except (client.exceptions.NoSuchUpload, client.exceptions.NoSuchBucket):
        return True
    except Exception:  # noqa: BLE001 - the next sweep tries again
        return False
    return True


# --- what went wrong -------------------------------------------------------------------------------------------------


class _Precondition(Exception):
    """A condition was not met: the object has changed or exists by now, or someone is writing it."""


class _CalledOff(PlaceError):
    """Someone has cancelled the upload: another try of this attempt would fail, too."""


_MISSING = {"NoSuchKey", "404", "NotFound"}
_DENIED = {
    "AccessDenied",
    "403",
    "401",
    "Forbidden",
    "InvalidAccessKeyId",
    "SignatureDoesNotMatch",
    "ExpiredToken",
    "InvalidToken",
    "AuthorizationHeaderMalformed",
    "AllAccessDisabled",
    "AccountProblem",
}
_AGAIN = {"SlowDown", "InternalError", "ServiceUnavailable", "RequestTimeout", "RequestTimeTooSkewed", "Throttling"}
_TAKEN = {"PreconditionFailed", "412", "ConditionalRequestConflict", "409"}
_WHO = (
    "Credentials come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or the machine's role; "
    "`tasktrail doctor` shows which are found."
)


class _explained(contextlib.AbstractContextManager[None]):  # noqa: N801 - reads as a statement
    """Turns botocore's exceptions into `PlaceError`. Of a server's answer only the code is shown.

    `conditional`: the request has a condition, and `_Precondition` is raised if it is not met.
    """

    def __init__(self, place: str, *, conditional: bool = False) -> None:
        self._place = place
        self._conditional = conditional

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, PlaceError | GeneratorExit | _Precondition):
            return
        explained = _as_place_error(error, self._place)
        if isinstance(explained, _Precondition) and not self._conditional:
            explained = unreachable(self._place, "another program writes there at the same time")
        raise explained from None


def _as_place_error(error: BaseException, place: str) -> Exception:
    import botocore.exceptions as known  # noqa: PLC0415 - an extra

    if not isinstance(error, Exception):
        raise error
    if isinstance(error, known.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        if code in _TAKEN or status in (409, 412, 416):
            return _Precondition(code)
        if code == "NoSuchBucket":
            return PlaceError("missing", f"There is no bucket for {place}", "Check the bucket's name and region.")
        if code == "NoSuchUpload":
            return _CalledOff("unreachable", f"{place} cannot be reached: the upload was cancelled elsewhere")
        if code in _MISSING or status == 404:  # noqa: PLR2004
            return PlaceError("missing", f"There is nothing at {place}", "Check the address.")
        if code in _DENIED or status in (401, 403):
            return PlaceError("denied", f"Access to {place} is denied ({_safe_code(code)})", _WHO)
        if code in _AGAIN or status >= 500 or status == 429:  # noqa: PLR2004 - some say only the number
            return unreachable(place, f"the server answers {_safe_code(code)}")
        return PlaceError("failed", f"{place}: the server answers {_safe_code(code)} (HTTP {status})")
    name = type(error).__name__
    if isinstance(error, known.NoCredentialsError | known.PartialCredentialsError | known.TokenRetrievalError):
        return PlaceError("denied", f"There are no credentials for {place} ({name})", _WHO)
    if isinstance(error, known.ProfileNotFound | known.ConfigParseError | known.InvalidConfigError):
        return PlaceError("denied", f"The settings for S3 cannot be used ({name})", _WHO)
    if isinstance(error, known.SSLError):
        return PlaceError(
            "failed",
            f"The certificate of the server of {place} is not trusted",
            "Name the authority that vouches for it in AWS_CA_BUNDLE.",
        )
    if isinstance(error, known.HTTPClientError | known.ConnectionError | OSError):
        return unreachable(place, usual_error(error) or name)
    return PlaceError("failed", f"{place}: {name}")


def _safe_code(code: str) -> str:
    """The error code of a server; any other text is not repeated."""
    return code if code.isalnum() and len(code) < 60 else "an error"  # noqa: PLR2004
