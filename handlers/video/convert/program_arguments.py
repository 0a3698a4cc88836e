"""What the ffmpeg program is told. Lists of arguments; no name of the user's is among them."""

from fractions import Fraction

from ..program import Program
from .feeding import SILENT
from .picture import Look
from .target import Target

_EXACT = 65535
"""Ratios are rounded to what fits below it."""
_VAAPI = ("-init_hw_device", "vaapi=device", "-filter_hw_device", "device")


def before_input(program: Program, target: Target) -> list[str]:
    """The program, and what holds for all of it."""
    return [str(program.path), *SILENT, *(_VAAPI if _uploads(target) else ())]


def for_picture(target: Target, look: Look, time_base: Fraction, aspect: Fraction = Fraction(1)) -> list[str]:
    """How a picture track is encoded: each frame once, at its own time.

    Colours are named twice: old versions take them from the switches, newer ones from the frames. `aspect` is the
    shape of a pixel.
    """
    primaries, transfer, matrix = map(str, look.colour)
    filters = [
        f"setparams=range=tv:color_primaries={primaries}:color_trc={transfer}:colorspace={matrix}",
        f"setsar=sar={aspect.numerator}/{aspect.denominator}:max={_EXACT}",
    ]
    if _uploads(target):
        filters.append("hwupload")
    arguments = ["-vf", ",".join(filters), "-c:v", target.video_encoder]
    for name, value in target.video_options.items():
        arguments += [f"-{name}", value]
    if target.video_bitrate:
        arguments += ["-b:v", str(target.video_bitrate)]
    if target.video_codec == "h265":
        arguments += ["-tag:v", "hvc1"]  # what Apple's players ask for
    arguments += ["-color_range", "tv", "-color_primaries", primaries, "-color_trc", transfer, "-colorspace", matrix]
    return [*arguments, "-fps_mode", "passthrough", "-enc_time_base", f"{time_base.numerator}:{time_base.denominator}"]


def for_sound(encoder: str, bitrate: int) -> list[str]:
    """How a sound track is encoded."""
    return ["-c:a", encoder, "-b:a", str(bitrate)]


def _uploads(target: Target) -> bool:
    """Whether frames have to be brought to the device first; other encoders do it themselves."""
    return target.video_encoder.endswith("_vaapi")
