"""The address of a log on PostgreSQL: it stands in a file in the data folder, without a password.

So whoever finds the data folder finds the log. The password comes from where PostgreSQL's own programs look for it:
`~/.pgpass`, a service file, a certificate, or `PGPASSWORD`.
"""

import os
from pathlib import Path
from urllib.parse import parse_qs

from ..errors import ConfigurationError, LogGone
from .files import own_file, read_small, sync

NAME = "log.postgresql"
_SCHEMES = ("postgresql", "postgres")
_SECRETS = {"password", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}


def check_address(text: str) -> None:
    """Raise `ValueError` unless it is a `postgresql://` address, and `ConfigurationError` if it holds a password.

    The latter does not repeat the password. PostgreSQL's client library does not read addresses as browsers do: a
    password may have a `#`, `?` or `/` in it. So everything that may be one is refused.
    """
    scheme, _, rest = text.partition("://")
    if scheme not in _SCHEMES or not text.isprintable():
        raise ValueError("not an address of PostgreSQL")
    parameters = parse_qs(rest.partition("?")[2], keep_blank_values=True)
    if "#" in rest or ":" in rest.rpartition("@")[0] or not _SECRETS.isdisjoint(parameters):
        raise ConfigurationError(
            "The address of the log holds a password, or a `#`, `:` or `@` that may be part of one; it would appear "
            "in files and messages",
            field="log",
            remedy="Leave it out, and put it into ~/.pgpass, a service file (`postgresql://?service=NAME`) or "
            "PGPASSWORD: PostgreSQL's client library reads them. Outside of passwords, write these characters as %23, "
            "%3A and %40.",
        )


def is_address(place: Path) -> bool:
    """Whether a log's place in a data folder is the file with the address of a log on PostgreSQL."""
    return place.name == NAME


def read_address(place: Path) -> str:
    """The address in the file. Raises `LogGone` if it cannot be read, `ConfigurationError` if it is not an address."""
    try:
        address = read_small(place).decode().strip()
        check_address(address)
    except OSError as error:
        raise LogGone(f"{place} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{place} does not hold an address of PostgreSQL", field="log") from error
    return address


def write_address(place: Path, address: str) -> None:
    """Put the address into the file, durably. Raises `OSError`."""
    check_address(address)
    part = place.with_name(f".{NAME}.part")
    descriptor = own_file(part, os.O_WRONLY | os.O_TRUNC)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{address}\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(place)
    sync(place.parent)


def shown(address: str) -> str:
    """The address as it stands in messages: without its parameters."""
    return address.partition("?")[0]
