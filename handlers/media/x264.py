"""Settings that make encoders give the same bytes on each run."""

import platform
from functools import cache
from pathlib import Path


@cache
def steady_x264() -> dict[str, str]:
    """x264's AVX-512 code gives other bytes on each run at some widths; AVX2 is as fast and steady.

    That code weighs eight macroblocks of a row at once (mbtree_propagate_list). Where a row ends within the eight, it
    reads what happens to lie in memory behind.

    It is forced only where AVX-512 is seen, because there AVX2 is certain to exist.
    """
    flags = Path("/proc/cpuinfo")
    if platform.machine() == "x86_64" and flags.exists() and " avx512f " in flags.read_text():
        return {"x264-params": "asm=AVX2"}
    return {}
