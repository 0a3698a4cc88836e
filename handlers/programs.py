"""What a program that a handler has started said: for the attempt's output all of it, for its error a line."""

import contextlib
import os
from typing import BinaryIO

_CHUNK = 65536
_LINE = 300
"""Characters of a line."""


def pass_on(said: BinaryIO) -> list[str]:
    """Print what is in the file, as if the program had printed it here; its first and its last line that say something.

    None if it said nothing, one if it said only one. At most 64 KiB are looked through for each of them.
    """
    said.seek(0)
    first = data = said.read(_CHUNK)
    last = b""
    while data:
        last = (last + data)[-_CHUNK:]
        with contextlib.suppress(OSError):
            os.write(2, data)
        data = said.read(_CHUNK)
    lines = [line for part in (first, last) for line in part.decode(errors="replace").splitlines() if line.strip()]
    return list(dict.fromkeys(line.strip()[:_LINE] for line in (lines[0], lines[-1]))) if lines else []
