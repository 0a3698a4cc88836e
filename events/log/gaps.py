"""The free room in the pages of a SQLite file, in which copies of rows stay behind.

SQLite overwrites what is deleted where it stands then (`secure_delete`). But where pages become nearly empty it moves
rows from one to another, and of a page that it writes anew it leaves the room between the list of rows and the rows as
it was. So a copy of a row that has moved can outlive the row. SQLite itself clears that room only by a copy of the
whole file (`VACUUM`). It never reads it, so nothing is lost if this is interrupted anywhere, or torn.

In a process of its own for a file that is in use: whoever closes a file, drops all locks that its process has on it.
"""

import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from struct import Struct, unpack_from
from time import monotonic

_MAGIC = b"SQLite format 3\0"
_FILE_HEADER = 100
_AUTO_VACUUM = slice(52, 56)
"""Not zero in a file with `auto_vacuum`: pages of it that are maps of others begin like pages with rows."""
_HEADERS = {2: 12, 5: 12, 10: 8, 13: 8}
"""First byte of a page with rows → length of its header."""
_NUMBERS = Struct(">HH")
"""How many rows there are, and where the first of their bytes is."""
_AT_ONCE = 256
_LARGEST_PAGE = 1 << 16
_ZEROS = bytes(_LARGEST_PAGE)
_PATIENCE = 0.5
"""Seconds that it waits for somebody else's lock."""
_WITHIN = 30.0
"""Seconds that the process may take beyond those that it is given."""


def clear_gaps(file: int, first: int = 1, seconds: float = 3600.0) -> int:
    """Overwrite the free room in the pages from a number on, for so many seconds; which is the next, 0 if none is left.

    Nobody writes to the file meanwhile; one with `auto_vacuum` stays as it is. Raises `OSError`, and `ValueError` for
    what is no file of SQLite.
    """
    until = monotonic() + seconds
    header = os.pread(file, _FILE_HEADER, 0)
    if len(header) < _FILE_HEADER or not header.startswith(_MAGIC):
        raise ValueError("it is no file of SQLite")
    if any(header[_AUTO_VACUUM]):
        return 0
    size = int.from_bytes(header[16:18])
    size = _LARGEST_PAGE if size == 1 else size
    pages = os.fstat(file).st_size // size
    # Other pages begin with the number of a page; in a file of 137 GB the first byte of that may be one of these.
    kinds = {kind: length for kind, length in _HEADERS.items() if kind > pages >> 24}
    try:
        while first <= pages:
            if monotonic() >= until:
                return first
            block = os.pread(file, _AT_ONCE * size, (first - 1) * size)
            for start in range(0, len(block) - size + 1, size):
                head = _FILE_HEADER if first == 1 and not start else start
                found = _gap(block, head, kinds.get(block[head], 0), start, size - header[20])
                if found is not None:
                    os.pwrite(file, _ZEROS[: found[1] - found[0]], (first - 1) * size + found[0])
            first += _AT_ONCE
    finally:
        os.fdatasync(file)
    return 0


def _gap(block: bytes, head: int, length: int, start: int, usable: int) -> tuple[int, int] | None:
    """From where to where there is free room in a page that has anything in it."""
    if not length:
        return None
    rows, content = _NUMBERS.unpack_from(block, head + 3)
    begin, end = head + length + 2 * rows, start + (content or _LARGEST_PAGE)
    if not begin < end <= start + usable or block[begin:end] == _ZEROS[: end - begin]:
        return None
    if any(start + place < end for place in unpack_from(f">{rows}H", block, head + length)):
        return None  # the page is damaged, and something may be there
    return begin, end


def clear_gaps_of(log: Path, first: int, seconds: float) -> int:
    """The same in another process, for a file that is in use, and whose write-ahead log is empty.

    Raises `OSError` and `subprocess.SubprocessError` if it could not be done.
    """
    command = [sys.executable, "-I", "-S", __file__, str(log.absolute()), str(first), str(seconds)]
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=seconds + _WITHIN,
        cwd="/",
        start_new_session=True,
    )
    return int(done.stdout)


def main(path: str, first: str, seconds: str) -> None:
    """While it holds the lock nobody writes, and an empty write-ahead log is one that nobody folds into the file."""
    conn = sqlite3.connect(f"{Path(path).as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_PATIENCE)
    conn.execute("BEGIN IMMEDIATE")
    if Path(f"{path}-wal").stat().st_size:
        sys.exit("somebody has written to it")
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    sys.stdout.write(str(clear_gaps(file, int(first), float(seconds))))
    sys.stdout.flush()
    os._exit(0)  # nothing is closed: the file not before the lock is let go, the database never as if it were the last


if __name__ == "__main__":
    main(*sys.argv[1:])
