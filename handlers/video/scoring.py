"""Scores how well a frame represents its video: not black, not a flat fade, not blurred."""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

Luma: TypeAlias = npt.NDArray[np.float32]

_SIDE = 256
"""Longest side of the copy. On a smaller copy blur would not show; on a larger one noise would look like detail."""
_WIDE_SPREAD = 64.0
_GOOD_DETAIL = 150.0
_MIDDLE = 118.0
_DARK, _BRIGHT = 20.0, 240.0


class FrameScorer:
    """Scores frames by small grey copies; reuses the scaler between frames."""

    def __init__(self) -> None:
        self._scaler = VideoReformatter()

    def luma(self, frame: VideoFrame, side: int = _SIDE) -> Luma:
        """The frame's brightness, 0 to 255, with a longest side of `side`."""
        ratio = min(1.0, side / max(frame.width, frame.height))
        width, height = max(4, round(frame.width * ratio)), max(4, round(frame.height * ratio))
        grey = self._scaler.reformat(
            frame,
            width,
            height,
            format="gray",
            interpolation=Interpolation.AREA,
            dst_color_range=ColorRange.JPEG,
        )
        plane = grey.planes[0]
        rows = np.frombuffer(bytes(plane), np.uint8).reshape(height, plane.line_size)
        return rows[:, :width].astype(np.float32)

    def score(self, frame: VideoFrame) -> float:
        """0 for a blank frame, up to 1."""
        return score(self.luma(frame))


def score(luma: Luma) -> float:
    """0 for a blank picture, up to 1 for one with full contrast, much detail and medium brightness."""
    mean, spread = float(luma.mean()), float(luma.std())
    if not _DARK < mean < _BRIGHT and spread < _DARK:
        return 0.01 * min(1.0, spread / _WIDE_SPREAD)
    detail = laplacian_variance(luma)
    exposure = 1 - min(1.0, abs(mean - _MIDDLE) / _MIDDLE)
    return min(1.0, spread / _WIDE_SPREAD) * detail / (detail + _GOOD_DETAIL) * (0.4 + 0.6 * exposure)


def laplacian_variance(luma: Luma) -> float:
    """How strongly the brightness bends from pixel to pixel; low for a blurred picture."""
    inner = luma[1:-1, 1:-1]
    bends = luma[:-2, 1:-1] + luma[2:, 1:-1] + luma[1:-1, :-2] + luma[1:-1, 2:] - 4 * inner
    return float(bends.var())
