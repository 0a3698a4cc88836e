"""Values that a person writes into the configuration: sizes, durations, secrets, addresses. Text in, numbers out.

Each parser raises ValueError when the text says nothing that it understands.
"""

import base64
import binascii
import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import msgspec

_NUMBER_AND_UNIT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_BINARY = {f"{letter}ib": 1024**power for power, letter in enumerate("kmgt", start=1)}
_DECIMAL = {f"{letter}b": 1000**power for power, letter in enumerate("kmgt", start=1)}
_BYTES = {"": 1, "b": 1, **_DECIMAL, **_BINARY}
_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_WEBHOOK_PREFIX = "whsec_"
_MOST_SECRETS = 4


def parse_size(text: str) -> int:
    """`4GiB`, `500 MB`, `1024` → bytes. KB, MB, … count in thousands, KiB, MiB, … in 1024."""
    return int(_scaled(text, dict(_BYTES)))


def parse_duration(text: str) -> float:
    """`30s`, `2h`, `1.5d`, `90` → seconds."""
    return _scaled(text, _SECONDS)


def _scaled(text: str, units: dict[str, float]) -> float:
    match = _NUMBER_AND_UNIT.fullmatch(text)
    if match is None or match[2].lower() not in units:
        raise ValueError(f"no number with a known unit: {text}")
    return float(match[1]) * units[match[2].lower()]


def parse_rules(text: str) -> Any:
    """A JSON array of retry rules, as the environment holds them."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError as error:
        raise ValueError("not JSON") from error


def check_webhook_secrets(text: str) -> None:
    """One secret, or while it is being changed several with spaces between them, the newest first."""
    secrets = text.split()
    if len(secrets) > _MOST_SECRETS:
        raise ValueError(f"at most {_MOST_SECRETS} webhook secrets can be in use")
    for secret in secrets:
        _check_webhook_secret(secret)


def _check_webhook_secret(text: str) -> None:
    """`whsec_` and the base64 of 24 to 64 bytes. Anything else would be taken for a key, and a weak one."""
    if not text.startswith(_WEBHOOK_PREFIX):
        raise ValueError("a webhook secret begins with whsec_")
    try:
        key = base64.b64decode(text.removeprefix(_WEBHOOK_PREFIX), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ValueError("a webhook secret is base64") from error
    if not 24 <= len(key) <= 64:  # noqa: PLR2004 - the bounds of Standard Webhooks
        raise ValueError("a webhook secret has 24 to 64 bytes")


def check_limit(text: str) -> None:
    """`name=number`, the number from 1."""
    name, _, number = text.rpartition("=")
    if not name or not re.fullmatch(r"[1-9]\d{0,6}", number):
        raise ValueError(f"neither name=number nor a number from 1: {text}")


def parse_limits(texts: Sequence[str]) -> dict[str, int]:
    """Names with their numbers, of texts that `check_limit` has passed."""
    return {name: int(number) for name, _, number in (text.rpartition("=") for text in texts)}


def check_absolute(text: str) -> None:
    """An absolute path without NUL."""
    if not PurePath(text).is_absolute() or "\0" in text:
        raise ValueError(f"not an absolute path: {text}")


def check_endpoint(text: str) -> None:
    """`host` or `host:port`, an IPv6 address in brackets; no scheme, no path."""
    match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^\s/@:\[\]?#]+)(?::(\d{1,5}))?", text)
    if match is None or (match[2] is not None and not 1 <= int(match[2]) <= 65535):  # noqa: PLR2004 - ports
        raise ValueError(f"neither host nor host:port: {text}")


def check_target(text: str) -> None:
    """An address with a scheme. Whether Apprise understands it is looked at before the service starts."""
    if not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text):
        raise ValueError("no address")


def check_mail_address(text: str) -> None:
    """Exactly one mail address, with or without a name."""
    from ..actors.delivery.mail import one_address

    one_address(text)
