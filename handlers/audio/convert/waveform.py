"""A picture of sound: for each column of pixels, the lowest and the highest sample of its time."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from .options import AudioConvertOptions

Peaks = NDArray[np.float32]
"""Lowest and highest sample of each channel and column; its shape is (2, channels, columns)."""
_BLOCKS_A_COLUMN = 64


class Envelope:
    """The extremes of sound of unknown length, in a bounded number of blocks of equal length.

    When there are too many blocks, each pair becomes one. So a block is at most a 32nd of a column, and no peak is
    lost.
    """

    def __init__(self, channels: int, columns: int) -> None:
        self._most = _BLOCKS_A_COLUMN * columns
        self._blocks = np.zeros((2, channels, self._most), np.float32)
        self._count = 0
        self._length = 1
        self._begun = 0
        """Samples in the block that is not full yet."""
        self._rest = np.zeros((2, channels), np.float32)
        """The extremes of these samples."""
        self.samples = 0

    def add(self, sound: NDArray[np.float32]) -> None:
        """Take the next samples, of shape (channels, samples)."""
        self.samples += sound.shape[1]
        while sound.shape[1]:
            if self._count == self._most:
                self._halve()
            whole = 0 if self._begun else min(sound.shape[1] // self._length, self._most - self._count)
            taken = whole * self._length or min(sound.shape[1], self._length - self._begun)
            part, sound = sound[:, :taken], sound[:, taken:]
            if whole:
                blocks = part.reshape(len(part), whole, self._length)
                self._keep(np.stack((blocks.min(axis=2), blocks.max(axis=2))))
            else:
                self._go_on(part)

    def _go_on(self, part: NDArray[np.float32]) -> None:
        """Put samples into the block that is not full yet."""
        low, high = part.min(axis=1), part.max(axis=1)
        if self._begun:
            low, high = np.minimum(low, self._rest[0]), np.maximum(high, self._rest[1])
        self._rest = np.stack((low, high))
        self._begun += part.shape[1]
        if self._begun == self._length:
            self._keep(self._rest[:, :, None])
            self._begun = 0

    def _keep(self, blocks: NDArray[np.float32]) -> None:
        """Add full blocks, of shape (2, channels, blocks)."""
        self._blocks[:, :, self._count : self._count + blocks.shape[2]] = blocks
        self._count += blocks.shape[2]

    def _halve(self) -> None:
        self._count //= 2
        pairs = self._blocks.reshape(2, self._blocks.shape[1], -1, 2)
        self._blocks[0, :, : self._count], self._blocks[1, :, : self._count] = (
            pairs[0].min(axis=2),
            pairs[1].max(axis=2),
        )
        self._length *= 2

    def columns(self, count: int) -> Peaks:
        """The extremes in `count` columns of equal time."""
        blocks = self._blocks[:, :, : self._count]
        if self._begun:
            blocks = np.concatenate((blocks, self._rest[:, :, None]), axis=2)
        edges = np.arange(count + 1) * self.samples / (count * self._length)
        first = np.minimum(edges[:-1].astype(int), blocks.shape[2] - 1)
        last = np.maximum(np.ceil(edges[1:]).astype(int), first + 1)
        peaks = np.empty((2, blocks.shape[1], count), np.float32)
        for column, (begin, end) in enumerate(zip(first, last, strict=True)):
            part = blocks[:, :, begin:end]
            peaks[0, :, column], peaks[1, :, column] = part[0].min(axis=1), part[1].max(axis=1)
        return peaks


def envelope_of(frames: Iterable[AudioFrame], columns: int) -> Envelope | None:
    """The envelope of frames of interleaved floating-point samples; None if there is no frame."""
    envelope: Envelope | None = None
    for frame in frames:
        sound = frame.to_ndarray().reshape(-1, frame.layout.nb_channels).T  # PyAV reads past the eighth plane
        envelope = envelope or Envelope(len(sound), columns)
        envelope.add(np.nan_to_num(sound, nan=0.0, posinf=1.0, neginf=-1.0))
    return envelope


def drawing(peaks: Peaks, options: AudioConvertOptions) -> Image.Image:
    """The picture; full scale fills a lane."""
    if options.lanes == "together":
        peaks = np.stack((peaks[0].min(axis=0, keepdims=True), peaks[1].max(axis=0, keepdims=True)))
    clear = options.background == "transparent"
    ground: Any = (*ImageColor.getrgb(options.color), 0) if clear else options.background
    picture = Image.new("RGBA" if clear else "RGB", (options.width, options.height), ground)
    pen = ImageDraw.Draw(picture)
    lanes = min(peaks.shape[1], options.height)
    for lane in range(lanes):
        top, bottom = lane * options.height // lanes, (lane + 1) * options.height // lanes - 1
        for column, (upper, lower) in enumerate(_rows(peaks[:, lane], top, bottom)):
            pen.line((column, upper, column, lower), fill=options.color)
    return picture


def _rows(peaks: Peaks, top: int, bottom: int) -> Iterator[tuple[int, int]]:
    """First and last row of each column. Silence is a line."""
    middle, half = (top + bottom) / 2, (bottom - top) / 2
    for low, high in np.clip(peaks, -1, 1).T:
        yield round(middle - float(high) * half), round(middle - float(low) * half)
