"""Estimates the needs of a sound conversion. No media library here: the service imports this."""

from math import sqrt
from pathlib import Path
from typing import Any

import msgspec

from ...contract import Estimate, Job
from ...video.estimate import BASE_MEMORY, MEMORY_MARGIN
from .options import AudioConvertOptions, codec_of, container_of, draws

_SPEED = {"mp3": 35.0, "aac": 25.0, "opus": 35.0, "alac": 150.0, "flac": 150.0, "pcm": 300.0}
"""Seconds of stereo sound that one CPU encodes per second."""
_DECODED = 300.0
_MEASURED = 50.0
"""The same for decoding alone, and for decoding and measuring."""
_ROUNDS = 3
"""Rounds of encoding and measuring until the sound has the requested loudness; rarely more."""
_FILTERS = 24_000_000
"""Bytes of filters, encoder and container."""
_INDEX = 40
"""Bytes that the index of an m4a takes in memory for each packet."""
_PACKETS = 50
"""Packets per second, in the codecs that have the most."""
_PICTURE = 8
"""Bytes per pixel of a png, in memory."""
_HEADERS = 6_000
"""Bytes of tags and headers."""
_CARRIED = 2_000_000
"""Bytes of a cover picture; rarely more."""
_PACKED = 0.8
"""Size of flac and alac, as a share of the samples' bytes."""
_COPIED_BITRATE = 160_000
"""Bits per second of a copied channel of unknown bit rate."""
_QUALITY_BITRATES = (245, 225, 190, 175, 165, 130, 115, 100, 85, 65)
"""Kilobits per second of stereo at each quality of mp3."""
_RAGGED = 0.31
"""Bytes of a png per column and per square root of its rows, if the sound is noise."""


class SoundInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The known or assumed facts about the sound."""

    duration: float
    """Seconds."""
    rate: int = 48_000
    channels: int = 2
    bits: int = 16
    codec: str = ""
    """FFmpeg's name of the codec; empty: unknown."""
    bitrate: int = 0
    """Bits per second; 0: unknown."""
    carries: bool = True
    """Whether the file also carries pictures, as far as known."""
    guessed: bool = False

    def basis(self) -> dict[str, Any]:
        """The facts for `Estimate.basis`; empty if the file was not examined."""
        if self.guessed:
            return {}
        return {"duration": round(self.duration, 3), "sample_rate": self.rate, "channels": self.channels}


_FILM_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".flv", ".wmv", ".m4v", ".3gp")
_FILM_BITRATE, _SOUND_BITRATE = 5_000_000, 128_000


def estimate(job: Job[AudioConvertOptions]) -> Estimate:
    """Guess from the size and the name of the file."""
    bitrate = _FILM_BITRATE if job.input_file.suffix.lower() in _FILM_SUFFIXES else _SOUND_BITRATE
    return estimate_for(job, SoundInfo(duration=max(1.0, 8 * job.input_size / bitrate), guessed=True))


def estimate_for(job: Job[AudioConvertOptions], sound: SoundInfo) -> Estimate:
    """Estimate from the facts about the sound."""
    options = job.options
    seconds = _played(options, sound)
    until = min(sound.duration, options.end or sound.duration)
    pairs = max(0.5, sound.channels / 2) * max(0.5, sound.rate / 48_000)
    if draws(job.output_file):
        pixels = options.width * options.height
        memory, temp, work = _PICTURE * pixels, _drawn(options, sound), 0.0
    else:
        memory, temp = int(_INDEX * _PACKETS * seconds), _written(options, job.output_file, sound, job.input_size)
        codec = codec_of(options, container_of(job.output_file), job.output_file)
        work = seconds * pairs / _SPEED[codec.name]
        if options.loudness is not None:
            work = _ROUNDS * work + (1 + _ROUNDS) * seconds * pairs / _MEASURED
    return Estimate(
        memory=int(MEMORY_MARGIN * (BASE_MEMORY + _FILTERS + memory)),
        temp=temp,
        seconds=0.3 + until * pairs / _DECODED + work,
        basis=sound.basis(),
    )


def _played(options: AudioConvertOptions, sound: SoundInfo) -> float:
    """Seconds of the result."""
    return max(0.0, min(sound.duration, options.end or sound.duration) - (options.start or 0.0))


def _drawn(options: AudioConvertOptions, sound: SoundInfo) -> int:
    """Bytes of a png."""
    lanes = sound.channels if options.lanes == "channels" else 1
    return int(_HEADERS / 4 + options.width * (1 + _RAGGED * sqrt(options.height * lanes)))


def _written(options: AudioConvertOptions, output: Path, sound: SoundInfo, input_size: int) -> int:
    """Bytes of a sound file, with the source's picture, whose size only the input's size limits."""
    container = container_of(output)
    codec = codec_of(options, container, output)
    channels = {"auto": sound.channels, "stereo": 2, "mono": 1}[options.channels]
    if codec.layouts:
        channels = min(channels, max(codec.layouts))
    if codec.lossless:
        deep = {"auto": sound.bits, "16": 16, "24": 24, "float": 32}[str(options.bits)]
        packed = 1.0 if codec.name == "pcm" else _PACKED
        rate = (options.sample_rate or sound.rate) * channels * deep * packed
    elif options.quality is not None:
        rate = 1000.0 * _QUALITY_BITRATES[options.quality]
    else:
        rate = options.bitrate or codec.bitrate * channels
    if options.codec == "copy" or (options.codec == "auto" and not options.alters):
        copied = sound.bitrate or _COPIED_BITRATE * sound.channels
        if sound.codec in container.copied:
            rate = copied
        elif not sound.codec:  # not examined yet
            rate = max(rate, copied)
    carried = min(input_size, _CARRIED) if sound.carries and options.cover == "keep" and container.name != "wav" else 0
    return int(1.1 * _played(options, sound) * rate / 8 + carried + _HEADERS)
