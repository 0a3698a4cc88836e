"""Files that are elsewhere: which addresses name one, and whether it lies below an allowed place. Reaches no network.

Such an address stands in the log, in lists and in errors, so an address with a password or signature is refused. The
service has its own credentials, in its environment or in files of its user.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from ..events.errors import CONFLICT, CONTRADICTION, InvalidPath

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9._-]{1,253}[a-z0-9]")
_HOST = re.compile(r"(?:[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])")
_SECRET = re.compile(
    r"(?i)sig|token|secret|passw|pwd|auth|cred|key|policy|session|jwt|x-amz-|x-goog-|^(s[a-z]|st|jwt|hmac|code)$"
)
"""Names of parameters that sign or unlock, such as those of S3, GCS, CloudFront and Azure (`se`, `sp`, `sv`, …)."""
_LONG_VALUE = 64
"""Characters. A longer value counts as a signature, whatever its name."""
READABLE = ("s3", "https", "http")
WRITABLE = ("s3",)
_LONGEST_KEY = 1024
"""Bytes of an object's name in S3."""


class Url(NamedTuple):
    """An address in its parts."""

    text: str
    scheme: str
    place: str
    """Bucket, or `host` or `host:port`."""
    path: str
    """Without its first slash. In S3 the object's key as it is; on the web still percent-encoded."""

    @property
    def name(self) -> str:
        """The last part of the path, made safe as a file's name."""
        last = self.path.rpartition("/")[2]
        name = last if self.scheme == "s3" else unquote(last.partition("?")[0])
        name = "".join(char if char.isprintable() and char != "/" else "_" for char in name)
        while len(name.encode("utf-8", "replace")) > 200:  # noqa: PLR2004 - room for what is put around it
            name = name[1:]
        return name if name.strip(".") else f"file{name}"


def is_url(text: str) -> bool:
    """Whether the text is an address rather than a path."""
    return "://" in text and _ADDRESS.match(text) is not None


def plain_path(text: str) -> str:
    """The path that a `file://` address names; any other text as it is. Raises `InvalidPath`."""
    if not text.startswith("file://"):
        return text
    rest = text.removeprefix("file://").removeprefix("localhost")
    path = unquote(rest)
    if not path.startswith("/") or "?" in rest or "#" in rest:
        raise InvalidPath(
            f"{text!r} names no file of this machine", remedy="Write file:///folder/name, or just the path."
        )
    return path


def parsed(text: str, field: str = "") -> Url:
    """The address in its parts. Raises `InvalidPath`, which never repeats what may be a secret."""
    scheme, _, rest = text.partition("://")
    place = rest.partition("/")[0].partition("?")[0].partition("#")[0]
    if "@" in place:
        raise InvalidPath(
            "An address must not hold a user name or password",
            field=field,
            status=CONTRADICTION,
            remedy="Leave them out: credentials come from the environment or the files of the service's user.",
        )
    if not text.isprintable() or "\\" in text:
        raise InvalidPath(
            "An address must not hold control characters or backslashes", field=field, status=CONTRADICTION
        )
    if scheme not in READABLE:
        raise InvalidPath(
            f"Files at {scheme}:// cannot be reached",
            field=field,
            remedy="Use s3:// (whatever speaks S3: see AWS_ENDPOINT_URL_S3), https:// for inputs, file:// or a path.",
        )
    return _of_s3(text, rest, field) if scheme == "s3" else _of_web(text, scheme, field)


def _of_s3(text: str, rest: str, field: str) -> Url:
    bucket, _, key = rest.partition("/")
    if "?" in text or "#" in text:
        raise InvalidPath(
            "An s3:// address has no ? and no #", field=field, remedy="Write s3://bucket/key.", status=CONTRADICTION
        )
    if not _BUCKET.fullmatch(bucket):
        raise InvalidPath(
            f"{bucket!r} is not the name of a bucket",
            field=field,
            remedy="Write s3://bucket/key.",
            status=CONTRADICTION,
        )
    if len(key.encode("utf-8", "replace")) > _LONGEST_KEY:
        raise InvalidPath(f"The key takes more than {_LONGEST_KEY} bytes", field=field, status=CONTRADICTION)
    _refuse_climbing(key, text, field)
    return Url(text, "s3", bucket, key)


def _of_web(text: str, scheme: str, field: str) -> Url:
    try:
        parts = urlsplit(text)
        host, port = parts.netloc.lower(), parts.port
    except ValueError:
        raise InvalidPath("The address cannot be read", field=field, status=CONTRADICTION) from None
    if parts.fragment or "#" in text:
        raise InvalidPath("An address must not hold a fragment (#)", field=field, status=CONTRADICTION)
    of_parts = [parameter for part in parts.path.split("/") for parameter in part.split(";")[1:]]
    for parameter in (*re.split("[&;]", parts.query), *of_parts):
        name, _, value = parameter.partition("=")
        if _SECRET.search(unquote(name)) or len(value) > _LONG_VALUE:
            raise InvalidPath(
                "An address must not hold what looks like a signature or a token",
                field=field,
                remedy="It would appear in the log. Use s3://bucket/key with credentials of the service.",
                status=CONTRADICTION,
            )
    if not _HOST.fullmatch(host.removesuffix(f":{port}") if port is not None else host):
        raise InvalidPath("The address names no host", field=field, status=CONTRADICTION)
    _refuse_climbing(_as_servers_may_read(parts.path.removeprefix("/")), text, field)
    path = parts.path.removeprefix("/")
    return Url(text, scheme, host, f"{path}?{parts.query}" if parts.query else path)


def _as_servers_may_read(path: str) -> str:
    """The path as servers may read it: some decode it twice, and some drop what follows a semicolon."""
    while (plain := unquote(path)) != path:
        path = plain
    return "/".join(name.partition(";")[0] for name in path.replace("\\", "/").split("/"))


def _refuse_climbing(path: str, text: str, field: str) -> None:
    names = path.split("/")
    if any(name in (".", "..") for name in names) or "" in names[:-1]:
        raise InvalidPath(
            f"{text!r} has an empty part, `.` or `..`",
            field=field,
            remedy="Write the address out.",
            status=CONTRADICTION,
        )


def lies_below(url: Url, roots: Iterable[str]) -> bool:
    """Whether the address lies below one of the roots. A root counts as a folder even without a final slash."""
    for root in roots:
        if not is_url(root):
            continue
        place = parsed(root)
        folder = f"{place.path.rstrip('/')}/" if place.path.rstrip("/") else ""
        if (url.scheme, url.place) == (place.scheme, place.place) and url.path.startswith(folder):
            return True
    return False


def check_url(text: str, roots: Iterable[str], field: str, key: str, *, written: bool = False) -> Url:
    """The address, if a task may use it. Raises `InvalidPath`.

    Args:
        text: the address.
        roots: the configured ones, folders and places. If none is a place, no address is accepted.
        field: the command's field.
        key: the configuration's key.
        written: whether it is an output.
    """
    url = parsed(text, field)
    if written and url.scheme not in WRITABLE:
        raise InvalidPath(
            f"Nothing can be written to {url.scheme}://",
            field=field,
            remedy="Use s3://bucket/key, or a path.",
            status=CONFLICT,
        )
    if not url.path or url.path.endswith("/"):
        raise InvalidPath(f"{text!r} names no file", field=field, remedy="Add its name.", status=CONTRADICTION)
    places = [root for root in roots if is_url(root)]
    if not lies_below(url, places):
        allowed = f"is outside of {key}" if places else f"is not allowed: {key} names no address"
        usable = f"Use a file below {' or '.join(places)}, or have" if places else "Have"
        raise InvalidPath(
            f"{text!r} {allowed}",
            field=field,
            remedy=f"{usable} the operator add its place, such as {url.scheme}://{url.place}/, to `{key}`.",
            status=CONFLICT,
        )
    return url


def check_only_read(type_name: str, *, steady_input: bool) -> None:
    """Raise `InvalidPath` if the type changes its input: a file elsewhere is only read."""
    if not steady_input:
        raise InvalidPath(
            f"{type_name} changes its input, and a file elsewhere is only read",
            field="input_file",
            remedy="Give it a file of this machine.",
            status=CONTRADICTION,
        )


__all__ = [
    "READABLE",
    "WRITABLE",
    "Url",
    "check_only_read",
    "check_url",
    "is_url",
    "lies_below",
    "parsed",
    "plain_path",
]
