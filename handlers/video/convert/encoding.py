"""What both ways of encoding are given: the library in `segments.py`, the program in `program_segment.py`."""

from pathlib import Path

import msgspec

from ..probe import Source
from ..program import Program
from .checkpoint import Plan
from .options import Target, VideoConvertOptions
from .picture import Look


class Encoding(msgspec.Struct, frozen=True, kw_only=True):
    """All that the encoding of a segment depends on."""

    source: Source
    target: Target
    look: Look
    options: VideoConvertOptions
    plan: Plan
    folder: Path
    program: Program | None = None
    """Encodes; none: the library does."""
