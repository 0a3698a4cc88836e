"""Who encodes: the library, or the ffmpeg program. Tried before work begins, where only a try can tell."""

import re
import subprocess
from fractions import Fraction

from ....events.errors import InvalidOptions
from ...contract import Unusable
from ..program import Program, ask, environment
from .hardware import REMEDY, require
from .options import Target, VideoConvertOptions, require_program
from .picture import Look, builtin_formats
from .program_encoder import before_input, for_picture

_SIDE = 256
_PATIENCE = 10.0
_LINE = 300
_DEVICE_FORMATS = ("nv12", "p010le")
"""What can be brought to a device whose encoder lists its own surfaces only."""


def open_backend(options: VideoConvertOptions, target: Target) -> Program | None:
    """The program, if it is asked for; none: the library. Raises Unusable where it, or the hardware, is missing."""
    if options.backend == "builtin":
        if options.encoder != "software":
            require(target.video_encoder)
        return None
    try:
        program = require_program(options, target)
    except InvalidOptions as error:  # it was there when the task was created
        raise Unusable(str(error)) from error
    if options.encoder != "software":
        _try(program, target)
    return program


def formats_of(program: Program | None, encoder: str) -> set[str]:
    """How the encoder can store pixels."""
    if program is None:
        return builtin_formats(encoder)
    lines = ask(program.path, "-h", f"encoder={encoder}").splitlines()
    listed = next((line.partition(":")[2].split() for line in lines if "pixel formats:" in line), [])
    return {*listed, *_DEVICE_FORMATS} if "vaapi" in listed else set(listed)


def _try(program: Program, target: Target) -> None:
    """Encode one grey picture."""
    raw = ["-f", "rawvideo", "-pix_fmt", "nv12", "-s", f"{_SIDE}x{_SIDE}", "-i", "pipe:0", "-frames:v", "1"]
    how = for_picture(target, Look(pixel_format="nv12"), Fraction(1, 25))
    command = [*before_input(program, target), *raw, *how, "-f", "null", "-"]
    picture = bytes([128]) * (_SIDE * _SIDE * 3 // 2)
    try:
        subprocess.run(command, input=picture, capture_output=True, check=True, timeout=_PATIENCE, env=environment())
    except (OSError, subprocess.SubprocessError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip()
        raise Unusable(
            f"ffmpeg's encoder {target.video_encoder} finds no device ({_cause(said) or error}): {REMEDY}"
        ) from error


def _cause(said: str) -> str:
    """The first line, without the part of ffmpeg that speaks; the rest is what follows from it."""
    return re.sub(r"^\[[^]]*\] ", "", said.partition("\n")[0]).rstrip(".")[:_LINE]
