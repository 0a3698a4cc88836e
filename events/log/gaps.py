"""Clears the free space in the pages of a SQLite file, where copies of deleted rows can remain.

SQLite overwrites a deleted row in its last place (`secure_delete`). But when pages become nearly empty, it moves rows
from one to another. In a page that it rewrites, the space between the list of rows and the rows stays as it was. So a
copy of a moved row can outlive the row. SQLite itself clears that space only by copying the whole file (`VACUUM`). It
never reads the space, so an interrupted or torn write here loses nothing.

A file in use is cleared by another process, because closing a file drops all locks that a process has on it.
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
"""Not zero in a file with `auto_vacuum`, which has pages that are maps and begin like pages with rows."""
_HEADERS = {2: 12, 5: 12, 10: 8, 13: 8}
"""First byte of a page with rows → length of its header."""
_NUMBERS = Struct(">HH")
"""The number of rows, and the offset of their first byte."""
_AT_ONCE = 256
_LARGEST_PAGE = 1 << 16
_ZEROS = bytes(_LARGEST_PAGE)
_PATIENCE = 0.5
"""Seconds to wait for another process's lock."""
_WITHIN = 30.0
"""Seconds that the process may take beyond its own limit."""


def clear_gaps(file: int, first: int = 1, seconds: float = 3600.0) -> int:
    """Overwrite the free space in the pages from `first` on, for `seconds`; returns the next page, 0 if none is left.

    Nothing may write to the file meanwhile. A file with `auto_vacuum` is left alone. Raises `OSError`, and `ValueError`
    if it is not a SQLite file.
    """
    until = monotonic() + seconds
    header = os.pread(file, _FILE_HEADER, 0)
    if len(header) < _FILE_HEADER or not header.startswith(_MAGIC):
        raise ValueError("it is not a SQLite file")
    if any(header[_AUTO_VACUUM]):
        return 0
    size = int.from_bytes(header[16:18])
    size = _LARGEST_PAGE if size == 1 else size
    pages = os.fstat(file).st_size // size
    # Other pages begin with a page number; in a file of 137 GB the first byte of that may equal one of these kinds.
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
    """The begin and end of a page's free space, if anything is left in there."""
    if not length:
        return None
    rows, content = _NUMBERS.unpack_from(block, head + 3)
    begin, end = head + length + 2 * rows, start + (content or _LARGEST_PAGE)
    if not begin < end <= start + usable or block[begin:end] == _ZEROS[: end - begin]:
        return None
    if any(start + place < end for place in unpack_from(f">{rows}H", block, head + length)):
        return None  # the page is damaged, and a row may be there
    return begin, end


def clear_gaps_of(log: Path, first: int, seconds: float) -> int:
    """The same in another process, for a file in use whose write-ahead log is empty.

    Raises `OSError` and `subprocess.SubprocessError` if it fails.
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
    """Clear the gaps under SQLite's lock: no one writes then, and an empty write-ahead log will not be folded."""
    conn = sqlite3.connect(f"{Path(path).as_uri()}?mode=rw", uri=True, isolation_level=None, timeout=_PATIENCE)
    conn.execute("BEGIN IMMEDIATE")
    if Path(f"{path}-wal").stat().st_size:
        sys.exit("another program has written to it")
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    sys.stdout.write(str(clear_gaps(file, int(first), float(seconds))))
    sys.stdout.flush()
    os._exit(0)  # close nothing: the file would drop the lock, the database would act as the last user


if __name__ == "__main__":
    main(*sys.argv[1:])
