"""Tells whether a file cannot be written because of the disk or because of the content. And the text of any error."""

import errno
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .contract import Unusable

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Errors that only writing causes. Any other one, in the text of a library that also reads, may be about the input."""
_TRIED = bytes(64 * 1024)


def error_text(error: BaseException) -> str:
    """The text of an exception. Empty if `str` raises, because that is foreign code as well."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - see above
        return ""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn any error inside that arises because `path` cannot be written into an OSError that names it. Others pass."""
    try:
        yield
    except Unusable:
        raise
    except (OSError, ValueError, RuntimeError, SyntaxError, struct.error) as error:
        fault = disk_fault(error, path)
        if fault is None:
            raise
        raise fault from error


def disk_fault(error: Exception, path: Path) -> OSError | None:
    """The disk's error that made a library fail while it wrote to `path`. None if the disk is fine.

    Libraries lose the reason ("unable to write to target"), or fail later because their own file is incomplete. If
    neither the error's number nor its text points to the disk, a write to the file is tried: the file is spoilt anyway.
    """
    if isinstance(error, OSError) and error.errno is not None:
        return error if error.filename else _fault(error.errno, path)
    code = next((number for number in _NO_ROOM if os.strerror(number) in error_text(error)), None)
    if code is not None:
        return _fault(code, path)
    try:
        with path.open("ab") as file:
            file.write(_TRIED)
            file.flush()
            os.fsync(file.fileno())
    except OSError as refusal:
        return refusal if refusal.filename else _fault(refusal.errno or errno.EIO, path)
    return None


def _fault(number: int, path: Path) -> OSError:
    return OSError(number, os.strerror(number), os.fspath(path))
