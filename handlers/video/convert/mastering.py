"""The light metadata that an encoder writes for a kept high dynamic range, as in HDR10, and notes on what is lost."""

import msgspec

from ..light import PQ, Light, Mastering
from ..source import VideoSource, colour_notes
from .options import Target
from .picture import PixelFormat

_FINE, _FAINT = 50_000, 10_000
"""x265's units of colour coordinates, and of cd/m²."""


def with_light(target: Target, source: VideoSource, pixels: PixelFormat) -> Target:
    """The target, extended so that the encoder writes the mastering display and the content's light."""
    if not _is_writable(target, source, pixels):
        return target
    name = _SWITCHES[target.video_encoder]
    parameters = _for_x265(source.light) if name == "x265-params" else _for_svt(source.light)
    before = target.video_options.get(name)
    options = {**target.video_options, name: ":".join([*([before] if before else []), *parameters])}
    return msgspec.structs.replace(target, video_options=options)


def light_notes(target: Target, source: VideoSource, pixels: PixelFormat) -> list[str]:
    """Notes on light metadata that is lost, and on colours that are wrong without it."""
    notes = colour_notes(source)
    if pixels.standard_range:
        return notes
    notes += [f"metadata of {name} dropped" for name in source.light.dynamic]
    if _has_light_data(source) and not _is_writable(target, source, pixels):
        notes.append(f"mastering metadata of HDR10 dropped: {target.video_encoder} cannot write it")
    return notes


_SWITCHES = {"libx265": "x265-params", "libsvtav1": "svtav1-params"}


def _has_light_data(source: VideoSource) -> bool:
    return source.colour[1] == PQ and (_whole(source.light) is not None or bool(source.light.brightest_pixel))


def _is_writable(target: Target, source: VideoSource, pixels: PixelFormat) -> bool:
    return _has_light_data(source) and not pixels.standard_range and target.video_encoder in _SWITCHES


def _whole(light: Light) -> Mastering | None:
    """The mastering display, if both its colours and its light are known."""
    display = light.mastering
    return display if display and display.primaries and display.brightest else None


def _for_x265(light: Light) -> list[str]:
    parameters = []
    if display := _whole(light):
        red, green, blue, white = (f"({round(x * _FINE)},{round(y * _FINE)})" for x, y in display.primaries)
        bounds = f"({round(display.brightest * _FAINT)},{round(display.darkest * _FAINT)})"
        parameters.append(f"master-display=G{green}B{blue}R{red}WP{white}L{bounds}")
    if light.brightest_pixel:
        parameters.append(f"max-cll={light.brightest_pixel},{light.brightest_average}")
    return parameters


def _for_svt(light: Light) -> list[str]:
    parameters = []
    if display := _whole(light):
        red, green, blue, white = (f"({x:.5f},{y:.5f})" for x, y in display.primaries)
        bounds = f"({display.brightest:.4f},{display.darkest:.4f})"
        parameters.append(f"mastering-display=G{green}B{blue}R{red}WP{white}L{bounds}")
    if light.brightest_pixel:
        parameters.append(f"content-light={light.brightest_pixel},{light.brightest_average}")
    return parameters
