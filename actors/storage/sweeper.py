"""What attempts with files elsewhere leave behind when they are killed, and nobody comes after them."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from ...handlers.elsewhere import Storage, Sweep, clear_up
from ...handlers.process.away import MoverProcess
from ..workers.worker_process import in_memory, storage_credentials, worker_environment


class Sweeper:
    """Removes what nobody uses, and has uploads called off that nobody goes on with. For one thread.

    Args:
        folder: `TEMP/elsewhere`; not necessarily there.
        storage: who can call off uploads.
    """

    def __init__(self, folder: Path, storage: Storage) -> None:
        self._folder = folder
        self._storage = storage
        self._process: MoverProcess | None = None

    def sweep(self) -> None:
        """Returns at once: the server may be slow to answer, and is asked again the next time."""
        if self._process is not None:
            self._process.close()
            self._process = None
        if not self._folder.is_dir():
            return
        clear_up(self._folder)
        if any((self._folder / "uploads").glob("*.json")):
            with suppress(OSError, subprocess.SubprocessError):
                credentials = in_memory(storage_credentials(os.environ))
                try:
                    environment = worker_environment((), (), os.environ)
                    self._process = MoverProcess(self._storage.mover, credentials, environment)
                finally:
                    os.close(credentials)
                self._process.wish(Sweep(folder=str(self._folder)))
                self._process.no_more()

    def close(self) -> None:
        """End the process that may still be at it."""
        if self._process is not None:
            self._process.close()
