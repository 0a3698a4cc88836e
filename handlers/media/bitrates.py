"""The bit rates that sound codecs can hold. No media library here."""

from typing import NamedTuple

_OPUS_MOST, _OPUS_LEAST = 256_000, 500
"""Bits per second and channel."""
_AAC_MOST = 6
"""Bits per sample."""
_MP3 = ((32_000, 32_000, 320_000), (16_000, 8_000, 160_000), (0, 8_000, 64_000))
"""For sample rates from the first number on: the lowest and the highest bit rate."""


class Bitrate(NamedTuple):
    """A bit rate, in bits per second."""

    held: int
    """The nearest possible rate to the requested one."""
    notes: tuple[str, ...] = ()


def held_bitrate(codec: str, asked: int, channels: int, rate: int) -> Bitrate:
    """The nearest bit rate that the codec (mp3, aac or opus) can hold for this number of channels and sample rate."""
    least, most = 1, asked
    if codec == "opus":
        least, most = _OPUS_LEAST * channels, _OPUS_MOST * channels
    elif codec == "aac":
        most = _AAC_MOST * rate * channels
    elif codec == "mp3":
        least, most = next((low, high) for begin, low, high in _MP3 if rate >= begin)
    held = max(least, min(most, asked))
    if held == asked:
        return Bitrate(asked)
    lanes = f"{channels} channel{'s' * (channels > 1)}"
    bound = "more" if held < asked else "fewer"
    note = f"{asked} bits a second became {held}: {codec} of {lanes} and {rate} samples a second holds no {bound}"
    return Bitrate(held, (note,))
