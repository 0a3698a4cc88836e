"""The brightness of a film of high dynamic range, and what its frames state about it."""

import struct
from typing import Any

import msgspec

PQ, HLG = 16, 18
"""FFmpeg's numbers of the two transfers of high dynamic range."""
HDR = frozenset({PQ, HLG})
_USUAL_PEAK = 1000.0
"""cd/m²: the peak of a film that states none, and of the display that HLG is meant for."""
_DOLBY = "Dolby Vision"
_DOLBY_ALONE = (5, 10)
"""Profiles whose picture need not be one of another format: in h265, and in av1."""
_DYNAMIC = {
    "DYNAMIC_HDR_PLUS": "HDR10+",
    "DYNAMIC_HDR_VIVID": "HDR Vivid",
    "DOVI_METADATA": _DOLBY,
    "DOVI_RPU_BUFFER": _DOLBY,
}


class Mastering(msgspec.Struct, frozen=True, kw_only=True):
    """The display that a film was made on."""

    primaries: tuple[tuple[float, float], ...] = ()
    """x and y of red, green, blue and white; empty: not stated."""
    darkest: float = 0.0
    """cd/m²."""
    brightest: float = 0.0
    """cd/m²; 0: not stated."""


class Light(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that the first frame states about light."""

    mastering: Mastering | None = None
    brightest_pixel: int = 0
    """cd/m² (MaxCLL); 0: not stated."""
    brightest_average: int = 0
    """cd/m², of a whole frame (MaxFALL); 0: not stated."""
    dynamic: tuple[str, ...] = ()
    """Names of formats with metadata for each scene."""
    dolby_alone: bool = False
    """Whether its colours are right only with the metadata of Dolby Vision."""

    @property
    def dolby(self) -> bool:
        """Whether it is of Dolby Vision."""
        return _DOLBY in self.dynamic

    def peak(self, transfer: int) -> float:
        """Brightness of the brightest pixels, in cd/m²."""
        if transfer == HLG:
            return _USUAL_PEAK
        return self.brightest_pixel or (self.mastering.brightest if self.mastering else 0.0) or _USUAL_PEAK


def light_of(side_data: Any) -> Light:
    """Read the side data of a frame."""
    raw, level = side_data.get("MASTERING_DISPLAY_METADATA"), side_data.get("CONTENT_LIGHT_LEVEL")
    pixel, average = struct.unpack_from("=2I", bytes(level)) if level is not None else (0, 0)
    return Light(
        mastering=_mastering(bytes(raw)) if raw is not None else None,
        brightest_pixel=pixel,
        brightest_average=average,
        dynamic=tuple(dict.fromkeys(name for key, name in _DYNAMIC.items() if side_data.get(key) is not None)),
    )


def with_dolby(light: Light, record: bytes) -> Light:
    """The same, with what the file states about Dolby Vision: FFmpeg's AVDOVIDecoderConfigurationRecord."""
    profile, base = record[2], record[7]
    alone = profile in _DOLBY_ALONE and not base
    return msgspec.structs.replace(light, dynamic=tuple(dict.fromkeys([*light.dynamic, _DOLBY])), dolby_alone=alone)


def _mastering(raw: bytes) -> Mastering | None:
    """Read FFmpeg's AVMasteringDisplayMetadata: ten fractions, and whether colours and light are known."""
    *parts, has_primaries, has_light = struct.unpack_from("=22i", raw)
    numbers = [top / bottom if bottom else 0.0 for top, bottom in zip(parts[::2], parts[1::2], strict=True)]
    if not has_primaries and not has_light:
        return None
    places = tuple(zip(numbers[:8:2], numbers[1:8:2], strict=True))
    return Mastering(
        primaries=places if has_primaries else (),
        darkest=numbers[8] if has_light else 0.0,
        brightest=numbers[9] if has_light else 0.0,
    )
