"""A decoded frame as a picture for the screen: upright, square pixels, full-range RGB, in the wanted size."""

from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, Colorspace, Interpolation, VideoReformatter
from PIL import Image

from .light import HDR
from .source import VideoSource

if TYPE_CHECKING:
    from .tones import ToneMapper

Fit: TypeAlias = Literal["fit", "fill"]

_FINE = Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
_UNSPECIFIED = 2
_HIGH_DEFINITION = (1280, 577)
"""Players treat an untagged picture with a side from these on as BT.709, a smaller one as BT.601."""
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


def seen_size(source: VideoSource) -> tuple[int, int]:
    """Width and height as a player shows them: upright, with pixels made square by widening, never by cutting."""
    aspect = source.pixel_aspect if source.pixel_aspect > 0 else Fraction(1)
    width, height = source.width, source.height
    if aspect > 1:
        width = max(1, round(width * aspect))
    else:
        height = max(1, round(height / aspect))
    return (height, width) if source.rotation in (90, 270) else (width, height)


def _scaled_size(seen: tuple[int, int], box: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """The size of the whole picture inside the box, or covering it if it must fill the box. `fit` never enlarges."""
    ratios = (Fraction(box[0], seen[0]), Fraction(box[1], seen[1]))
    ratio = max(ratios) if fit == "fill" else min(Fraction(1), *ratios)
    return max(1, round(seen[0] * ratio)), max(1, round(seen[1] * ratio))


class StillRenderer:
    """Makes pictures of one source's frames, all of the same size; reuses the scaler between them.

    Args:
        source: the frames' source.
        box: width and height.
        fit: how the frames are fitted into it.
        folder: for a short-lived temporary file.
    """

    def __init__(self, source: VideoSource, box: tuple[int, int], fit: Fit, folder: Path) -> None:
        self._scaler = VideoReformatter()
        self._rotation, self._mirrored = source.rotation, source.mirrored
        whole = _scaled_size(seen_size(source), box, fit)
        self.size = box if fit == "fill" else whole
        self._lying = (whole[1], whole[0]) if source.rotation in (90, 270) else whole
        self._tones = _tone_mapper(source, self._lying, folder) if source.colour[1] in HDR else None

    def render(self, frame: VideoFrame) -> Image.Image:
        """The frame as an RGB picture of `size`."""
        frame = self._tones.mapped(frame) if self._tones else frame
        picture = _picture_of(_to_rgb(self._scaler, frame, self._lying))
        if self._mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        if turn := _TURNS.get(self._rotation):
            picture = picture.transpose(turn)
        left, top = (picture.width - self.size[0]) // 2, (picture.height - self.size[1]) // 2
        if (left, top) == (0, 0) and picture.size == self.size:
            return picture
        return picture.crop((left, top, left + self.size[0], top + self.size[1]))


def _tone_mapper(source: VideoSource, size: tuple[int, int], folder: Path) -> "ToneMapper":
    from .tones import ToneMapper  # noqa: PLC0415 - loading numpy takes longer than reading one frame

    return ToneMapper(source, size, _FINE, folder)


def _to_rgb(scaler: VideoReformatter, frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
    return scaler.reformat(
        frame,
        *size,
        format="rgb24",
        src_colorspace=_guessed_matrix(frame),
        interpolation=_FINE,
        dst_color_range=ColorRange.JPEG,
    )


def _guessed_matrix(frame: VideoFrame) -> Colorspace | None:
    """The matrix that players guess from the size of an untagged frame; None for a tagged one."""
    if frame.colorspace != _UNSPECIFIED or frame.format.is_rgb:
        return None
    large = frame.width >= _HIGH_DEFINITION[0] or frame.height >= _HIGH_DEFINITION[1]
    return Colorspace.ITU709 if large else Colorspace.ITU601


def _picture_of(frame: VideoFrame) -> Image.Image:
    """The RGB frame's bytes as a picture, without a copy through numpy."""
    plane = frame.planes[0]
    return Image.frombuffer("RGB", (frame.width, frame.height), bytes(plane), "raw", "RGB", plane.line_size, 1)
