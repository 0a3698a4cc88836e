"""A decoded frame as a picture for the screen: upright, square pixels, full-range RGB, of the wanted size."""

from fractions import Fraction
from typing import Literal, TypeAlias

from av.error import FFmpegError
from av.video.frame import VideoFrame
from av.video.reformatter import (
    ColorPrimaries,
    ColorRange,
    Colorspace,
    ColorTrc,
    Interpolation,
    VideoReformatter,
)
from PIL import Image

from .source import VideoSource

Fit: TypeAlias = Literal["fit", "fill"]

_FINE = Interpolation.LANCZOS | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INP
_UNSPECIFIED = 2
_HIGH_DEFINITION = (1280, 577)
"""From one of these sides on, players take an untagged picture for BT.709; below, for BT.601."""
_HDR = {int(ColorTrc.SMPTE2084), int(ColorTrc.ARIB_STD_B67)}
_TURNS = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


def seen_size(source: VideoSource) -> tuple[int, int]:
    """Width and height as a player shows them: upright, pixels made square by widening, never by cutting."""
    aspect = source.pixel_aspect if source.pixel_aspect > 0 else Fraction(1)
    width, height = source.width, source.height
    if aspect > 1:
        width = max(1, round(width * aspect))
    else:
        height = max(1, round(height / aspect))
    return (height, width) if source.rotation in (90, 270) else (width, height)


def scaled_size(seen: tuple[int, int], box: tuple[int, int], fit: Fit) -> tuple[int, int]:
    """The size of the whole picture within the box, or around it if it has to fill the box. `fit` never enlarges."""
    ratios = (Fraction(box[0], seen[0]), Fraction(box[1], seen[1]))
    ratio = max(ratios) if fit == "fill" else min(Fraction(1), *ratios)
    return max(1, round(seen[0] * ratio)), max(1, round(seen[1] * ratio))


class StillRenderer:
    """Makes pictures of one source's frames, all of the same size; keeps the scaler between them."""

    def __init__(self, source: VideoSource, box: tuple[int, int], fit: Fit) -> None:
        self._scaler = VideoReformatter()
        self._rotation, self._mirrored = source.rotation, source.mirrored
        whole = scaled_size(seen_size(source), box, fit)
        self.size = box if fit == "fill" else whole
        self._lying = (whole[1], whole[0]) if source.rotation in (90, 270) else whole

    def render(self, frame: VideoFrame) -> Image.Image:
        """The frame as an RGB picture of `size`."""
        picture = _picture_of(_to_rgb(self._scaler, frame, self._lying))
        if self._mirrored:
            picture = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
        if turn := _TURNS.get(self._rotation):
            picture = picture.transpose(turn)
        left, top = (picture.width - self.size[0]) // 2, (picture.height - self.size[1]) // 2
        if (left, top) == (0, 0) and picture.size == self.size:
            return picture
        return picture.crop((left, top, left + self.size[0], top + self.size[1]))


def _to_rgb(scaler: VideoReformatter, frame: VideoFrame, size: tuple[int, int]) -> VideoFrame:
    if frame.color_trc in _HDR:
        try:
            return scaler.reformat(
                frame,
                *size,
                format="rgb24",
                interpolation=_FINE,
                dst_color_range=ColorRange.JPEG,
                dst_color_trc=ColorTrc.IEC61966_2_1,
                dst_color_primaries=ColorPrimaries.BT709,
            )
        except (
            FFmpegError,
            NotImplementedError,
        ):  # tags that contradict each other: a pale picture is better than none
            pass
    return scaler.reformat(
        frame,
        *size,
        format="rgb24",
        src_colorspace=_guessed_matrix(frame),
        interpolation=_FINE,
        dst_color_range=ColorRange.JPEG,
    )


def _guessed_matrix(frame: VideoFrame) -> Colorspace | None:
    """The matrix that players guess from the size of an untagged frame; none for a tagged one."""
    if frame.colorspace != _UNSPECIFIED or frame.format.is_rgb:
        return None
    large = frame.width >= _HIGH_DEFINITION[0] or frame.height >= _HIGH_DEFINITION[1]
    return Colorspace.ITU709 if large else Colorspace.ITU601


def _picture_of(frame: VideoFrame) -> Image.Image:
    """The RGB frame's bytes as a picture, without a copy through numpy."""
    plane = frame.planes[0]
    return Image.frombuffer("RGB", (frame.width, frame.height), bytes(plane), "raw", "RGB", plane.line_size, 1)
