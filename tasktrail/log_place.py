"""Keeps the address of a log on PostgreSQL in the data folder, where the configuration names one."""

from .config.settings import Config
from .events.errors import ConfigurationError, DataNotEmpty
from .events.log.address import is_address, read_address, shown, write_address
from .paths import DataPaths


def settle_place(paths: DataPaths, config: Config) -> None:
    """Write the configured address into the data folder, unless that has a log of its own. A changed one, too.

    Raises `DataNotEmpty` and `ConfigurationError`.
    """
    address, place = config.log, paths.log
    if not is_address(place):
        return
    if config.archive_after:
        raise ConfigurationError(
            "`archive_after` is set, and a log on PostgreSQL has no archives",
            field="archive_after",
            remedy="Leave it out.",
        )
    file = paths.data / "log.db"
    if not place.exists() and file.exists() and file.stat().st_size:
        raise DataNotEmpty(
            f"{file} holds a log, and the configuration names another, {shown(address)}",
            field="log",
            remedy="Move it with `tasktrail migrate`, or use another data folder.",
        )
    if address and not (place.exists() and read_address(place) == address):
        write_address(place, address)
