"""Clears up after attempts with files elsewhere that were killed, if no later attempt does."""

import os
import subprocess
from contextlib import suppress
from pathlib import Path

from ...events.existence import is_dir
from ...handlers.elsewhere import Storage, Sweep, clear_up
from ...handlers.process.remote_files import MoverProcess
from ..workers.worker_process import in_memory, storage_credentials, worker_environment


class Sweeper:
    """Removes unused files, and has uploads cancelled that no attempt continues. For one thread.

    Args:
        folder: `TEMP/elsewhere`; it need not exist.
        storage: names the mover, which can cancel uploads.
    """

    def __init__(self, folder: Path, storage: Storage) -> None:
        self._folder = folder
        self._storage = storage
        self._process: MoverProcess | None = None

    def sweep(self) -> None:
        """Start a sweep and return at once: the server may be slow, and is asked again the next time."""
        if self._process is not None:
            self._process.close()
            self._process = None
        if not is_dir(self._folder):
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
                self._process.request(Sweep(folder=str(self._folder)))
                self._process.close_input()

    def close(self) -> None:
        """End the process of the last sweep, if it still runs."""
        if self._process is not None:
            self._process.close()
