"""High dynamic range as a picture for ordinary screens: colours and light are fitted into BT.709, not clipped.

A table maps each colour of the source; FFmpeg applies it. Colours are in the last axis of arrays.

- Colours outside of BT.709 move towards grey with the same brightest channel, the farthest ones most, as in the gamut
  compression of ACES: colours that differed still differ.
- The brightest of red, green and blue is compressed, and the others in proportion, so hues stay. The curve is that of
  report BT.2390 from the source's peak to white paper, which report BT.2408 puts at 203 cd/m². But it does not end
  flat, so that details in highlights stay visible.
"""

import tempfile
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from threading import Lock
from typing import Any, TypeAlias

import numpy as np
from av.filter import Graph
from av.video.format import VideoFormat
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter

from .light import HLG
from .source import VideoSource

_Values: TypeAlias = Any
"""An array of floating-point numbers."""

PAPER = 203.0
"""cd/m² of white paper in high dynamic range, and of the brightest white of the result."""
_MOST = 10_000.0
"""The highest light that PQ can express, in cd/m²."""
_M1, _M2 = 2610 / 16384, 2523 / 32
_C1, _C2, _C3 = 3424 / 4096, 2413 / 128, 2392 / 128
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
"""Constants of HLG."""
_HLG_PEAK, _HLG_GAMMA = 1000.0, 1.2
_BT1886 = 2.4
"""The gamma of a screen for BT.709."""
_LIGHTNESS_2020 = np.array([0.2627, 0.6780, 0.0593])
_WHITE = (0.3127, 0.3290)
_PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060)),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046)),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060)),
}
"""FFmpeg's numbers: BT.709, BT.2020, DCI-P3 (with the white of the others, as films have it) and Display P3."""
_BT709, _BT2020, _UNSPECIFIED = 1, 9, 2
_END = 0.2
"""Slope of the curve at the peak; 0 in BT.2390."""
_NEAR = 0.98
"""Distance from grey up to which a colour stays as it is; 1 is the edge of BT.709. The rest is little light, but many
values."""
_NODES = 49
_RGB = "gbrp16le"
_RGB_MATRIX = 0
_AS_BT2020 = frozenset({_UNSPECIFIED, 10, 12, 13})
"""FFmpeg's numbers of matrices that its scaler does not support, with values equal to or near those of BT.2020."""


# --- Light ---


def pq_light(values: _Values) -> _Values:
    """Light in cd/m² of values of PQ, 0 to 1."""
    power = np.power(np.maximum(values, 0.0), 1 / _M2)
    return _MOST * np.power(np.maximum(power - _C1, 0.0) / (_C2 - _C3 * power), 1 / _M1)


def pq_value(light: _Values) -> _Values:
    """Values of PQ for light in cd/m²."""
    power = np.power(np.maximum(light, 0.0) / _MOST, _M1)
    return np.power((_C1 + _C2 * power) / (1 + _C3 * power), _M2)


def hlg_light(values: _Values) -> _Values:
    """Light in cd/m² of values of HLG on a display of 1000 cd/m²; BT.2100."""
    scene = np.where(values <= 0.5, values**2 / 3, (np.exp((values - _C) / _A) + _B) / 12)  # noqa: PLR2004 - BT.2100
    lightness = (scene @ _LIGHTNESS_2020)[..., None]
    return _HLG_PEAK * np.power(np.maximum(lightness, 1e-9), _HLG_GAMMA - 1) * scene


def compressed(light: _Values, peak: float) -> _Values:
    """Light in cd/m², up to `peak`, compressed to below that of white paper."""
    if peak <= PAPER:
        return np.minimum(light, PAPER)
    top = pq_value(peak)
    most = pq_value(PAPER) / top
    knee = 1.5 * most - 0.5
    value = np.minimum(pq_value(light) / top, 1.0)
    t = np.maximum(value - knee, 0.0) / (1 - knee)
    bend = (t**3 - 2 * t**2 + t) + _END * (t**3 - t**2)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + bend * (1 - knee) + (3 * t**2 - 2 * t**3) * most
    return pq_light(top * np.where(value < knee, value, spline))


# --- Colours ---


def _to_xyz(primaries: tuple[tuple[float, float], ...]) -> _Values:
    """The matrix from light of these primaries to CIE XYZ."""
    columns = np.array([[x / y, 1.0, (1 - x - y) / y] for x, y in primaries]).T
    x, y = _WHITE
    return columns * np.linalg.solve(columns, [x / y, 1.0, (1 - x - y) / y])


def _between(source: int, target: int) -> _Values:
    """The matrix from light of one set of primaries to light of another."""
    return np.linalg.solve(_to_xyz(_PRIMARIES[target]), _to_xyz(_PRIMARIES[source]))


def _nearer(light: _Values, primaries: int) -> _Values:
    """Move light of BT.709 inside its gamut. Values below zero mark colours outside of it."""
    farthest = _distances(_CORNERS @ _between(primaries, _BT709).T).max(axis=0)
    brightest = light.max(axis=-1, keepdims=True)
    distance = _distances(light)
    # Measured from _NEAR on, so that the farthest colour lands on the edge.
    reach = np.maximum(farthest, 1.0 + 1e-6) - _NEAR
    scale = reach / (reach / (1 - _NEAR) - 1)
    past = np.maximum(distance - _NEAR, 0.0)
    return np.maximum(brightest * (1 - np.where(past > 0, _NEAR + past / (1 + past / scale), distance)), 0.0)


_CORNERS = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1], [1, 0, 1]], float)
"""The colours that are farthest from grey."""


def _distances(light: _Values) -> _Values:
    """How far each channel lies below the brightest one, as a share of that."""
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-9)
    return (brightest - light) / brightest


def mapped(values: _Values, transfer: int, primaries: int, peak: float) -> _Values:
    """Map values of red, green and blue, 0 to 1, of shape (n, 3), to values of BT.709, 0 to 1."""
    primaries = primaries if primaries in _PRIMARIES else _BT2020
    light = hlg_light(values) if transfer == HLG else pq_light(values)
    if primaries != _BT709:
        light = _nearer(light @ _between(primaries, _BT709).T, primaries)
    brightest = np.maximum(light.max(axis=-1, keepdims=True), 1e-9)
    share = light * (compressed(brightest, peak) / brightest) / PAPER
    return np.power(np.clip(share, 0.0, 1.0), 1 / _BT1886)


# --- The table ---


_MAKING = Lock()
"""One table at a time: the threads of an attempt want the same one, and making it takes memory."""


@lru_cache(maxsize=1)
def _cube(transfer: int, primaries: int, peak: float) -> bytes:
    """The table as a file of Adobe's .cube; red changes fastest."""
    step = np.linspace(0.0, 1.0, _NODES)
    blue, green, red = np.meshgrid(step, step, step, indexing="ij")
    made = mapped(np.stack([red, green, blue], axis=-1).reshape(-1, 3), transfer, primaries, peak)
    lines = "\n".join(f"{r:.6f} {g:.6f} {b:.6f}" for r, g, b in made.tolist())
    return f"LUT_3D_SIZE {_NODES}\n{lines}\n".encode()


class ToneMapper:
    """Scales the frames of one source and maps their tones to BT.709.

    Args:
        source: of high dynamic range.
        size: width and height that frames are scaled to.
        interpolation: the method of scaling.
        folder: for the table, as a short-lived file.
        threads: 0: as many as there are CPUs.
    """

    def __init__(
        self, source: VideoSource, size: tuple[int, int], interpolation: Interpolation, folder: Path, threads: int = 0
    ) -> None:
        self._scaler = VideoReformatter()
        self._size, self._interpolation, self._threads = size, interpolation, threads
        primaries, transfer, _ = source.colour
        self._graph = graph = Graph()
        graph.threads = threads
        node = graph.add_buffer(width=size[0], height=size[1], format=VideoFormat(_RGB), time_base=Fraction(1, 25))
        with tempfile.NamedTemporaryFile(dir=folder, suffix=".cube") as file:
            with _MAKING:
                file.write(_cube(transfer, primaries, source.light.peak(transfer)))
            file.flush()
            table = graph.add("lut3d", file=file.name, interp="tetrahedral")  # reads it now
        graph.link_nodes(node, table, graph.add("buffersink")).configure()

    def mapped(self, frame: VideoFrame) -> VideoFrame:
        """The frame in RGB of 16 bits, with the values of BT.709."""
        wide = self._scaler.reformat(
            frame,
            *self._size,
            format=_RGB,
            src_colorspace=Colorspace.BT2020 if frame.colorspace in _AS_BT2020 else None,
            interpolation=self._interpolation,
            dst_color_range=ColorRange.JPEG,
            threads=self._threads,
        )
        self._graph.vpush(wide)
        made = self._graph.vpull()
        made.color_primaries, made.color_trc, made.colorspace = _BT709, _BT709, _RGB_MATRIX
        return made


# --- The reverse ---


def paper_white(values: _Values, transfer: int) -> _Values:
    """Values of ordinary pictures, 0 to 1, in high dynamic range, where their white is white paper."""
    light = PAPER * np.power(values, _BT1886) @ _between(_BT709, _BT2020).T
    if transfer != HLG:
        return pq_value(light)
    lightness = np.maximum((light @ _LIGHTNESS_2020)[..., None] / _HLG_PEAK, 1e-9)
    scene = light / _HLG_PEAK * np.power(lightness, 1 / _HLG_GAMMA - 1)
    bright = _A * np.log(np.maximum(12 * scene - _B, 1e-9)) + _C
    return np.where(scene <= 1 / 12, np.sqrt(3 * np.maximum(scene, 0.0)), bright)
