"""Keeps the address of a log on PostgreSQL in the data folder, where the configuration names one."""

from collections.abc import Iterator
from contextlib import contextmanager

from ..events.errors import ConfigurationError, DataNotEmpty
from ..events.existence import exists
from ..events.log.address import is_address, read_address, shown, write_address
from ..paths import DataPaths
from .settings import Config


@contextmanager
def settled_place(paths: DataPaths, config: Config) -> Iterator[None]:
    """Write the configured address of a log on PostgreSQL into the data folder. Do nothing for a log in a file.

    If the `with` block, which first uses that log, raises, a changed address is put back. Raises `DataNotEmpty` if the
    folder has a log of its own, and `ConfigurationError`.
    """
    address, place = config.log, paths.log
    if not is_address(place):
        yield
        return
    if config.archive_after:
        raise ConfigurationError(
            "`archive_after` is set, and a log on PostgreSQL has no archives",
            field="archive_after",
            remedy="Leave it out.",
        )
    file = paths.data / "log.db"
    if not exists(place) and exists(file) and file.stat().st_size:
        raise DataNotEmpty(
            f"{file} holds a log, and the configuration names another, {shown(address)}",
            field="log",
            remedy="Move it with `tasktrail migrate`, or use another data folder.",
        )
    before = read_address(place) if exists(place) else ""
    if address and before != address:
        write_address(place, address)
    try:
        yield
    except BaseException:
        if before and read_address(place) != before:
            write_address(place, before)
        raise
