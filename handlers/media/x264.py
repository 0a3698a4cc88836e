"""Settings that make encoders give the same bytes on each run."""

import platform
from functools import cache
from pathlib import Path

from ...events.existence import exists

_BLOCK = 16
"""Pixels of a side of a macroblock."""
_BLOCKS_AT_ONCE = 8


def steady_x264(width: int) -> dict[str, str]:
    """Options that make libx264 give the same bytes on each run, for pictures of this width in pixels.

    Its AVX-512 code weighs eight macroblocks of a row at once (mbtree_propagate_list). If the row ends within these
    eight, it reads whatever lies in memory after it. Other widths may use that code: in a measurement (R1 of the
    benchmarks), a film of 720p took 6 % less time with it.
    """
    blocks = -(-width // _BLOCK)
    return {"x264-params": "asm=AVX2"} if blocks % _BLOCKS_AT_ONCE and _has_avx512() else {}


@cache
def _has_avx512() -> bool:
    """Whether the CPU has AVX-512. Then it has AVX2, too."""
    flags = Path("/proc/cpuinfo")
    return platform.machine() == "x86_64" and exists(flags) and " avx512f " in flags.read_text()
