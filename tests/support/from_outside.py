"""The files of a log that is open, read by another process.

To close one in this process would drop the locks that SQLite has on it. The next process that opens the log would then
take itself for its first user and cut the index of the write-ahead log, and this process would end with a bus error.
"""

import os
import subprocess
from pathlib import Path


def content(path: Path) -> bytes:
    return subprocess.run(["cat", path], check=True, capture_output=True).stdout


def files_with(folder: Path, text: str) -> list[str]:
    """Return the files below a folder that hold a text, without those that are deleted meanwhile."""
    command = ["grep", "-rlsF", "--null", "-e", text, "."]
    bytewise = {**os.environ, "LC_ALL": "C"}
    found = subprocess.run(command, cwd=folder, env=bytewise, check=False, capture_output=True, text=True)
    return sorted(name.removeprefix("./") for name in found.stdout.split("\0") if name)
