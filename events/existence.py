"""Whether a file is there, where "nobody knows" must not count as "no".

`Path.exists`, `is_file` and `is_dir` answer False from Python 3.14 on if the system refuses to look: without a right to
a folder, on a disk that fails, on a share that is away. A log, a key or a view that counted as missing would be begun
anew. These functions raise instead, as pathlib did before.
"""

import os
import stat
from errno import EBADF, ELOOP, ENOENT, ENOTDIR
from pathlib import Path

_NOT_THERE = frozenset((ENOENT, ENOTDIR, EBADF, ELOOP))


def exists(path: Path) -> bool:
    """Whether there is something of that name. Links are followed. Raises OSError if the system does not tell."""
    return _mode(path) is not None


def is_file(path: Path) -> bool:
    """Whether there is a regular file of that name. Links are followed. Raises OSError if the system does not tell."""
    return stat.S_ISREG(_mode(path) or 0)


def is_dir(path: Path) -> bool:
    """Whether there is a folder of that name. Links are followed. Raises OSError if the system does not tell."""
    return stat.S_ISDIR(_mode(path) or 0)


def _mode(path: Path) -> int | None:
    try:
        return os.stat(path).st_mode  # noqa: PTH116 - one call for the file of a log that is asked for often
    except OSError as error:
        if error.errno in _NOT_THERE:
            return None
        raise
    except ValueError:  # no file can be called so
        return None
