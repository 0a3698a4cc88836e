"""The file of the hosts that may hold attempts: the next service has to find each, or wait until its lease is over."""

import json
import os
from collections.abc import Iterable
from pathlib import Path


class Roster:
    """Names in a file. Without a path there is none: then hosts are only found where the cluster still lists them."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._names: frozenset[str] = frozenset()

    def read(self) -> frozenset[str]:
        """The names that the last service has left."""
        if self._path is not None and self._path.exists():
            self._names = frozenset(json.loads(self._path.read_text(encoding="utf-8")))
        return self._names

    def write(self, names: Iterable[str]) -> None:
        """These may hold attempts from now on, and no others. Durable on return; nothing is written twice."""
        new = frozenset(names)
        if self._path is None or new == self._names:
            return
        beside = self._path.with_name(f"{self._path.name}.new")
        with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - nobody else may read it
            json.dump(sorted(new), file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        self._names = new
