"""Files that only their owner may read, whatever the umask says."""

import os
from contextlib import suppress
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def create_private(path: Path) -> None:
    """Make the file, empty, unless it is there: SQLite would ask the umask. What it makes beside it gets the same mode.

    A file that is there is not opened: to close it again would take the locks away that SQLite has on it.
    """
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        try:
            os.fchmod(descriptor, PRIVATE_FILE)
        finally:
            os.close(descriptor)
