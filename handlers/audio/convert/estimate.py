"""The estimate of a conversion of sound. No media library here: the service imports this."""

from pathlib import Path
from typing import Any

import msgspec

from ...contract import Estimate, Job
from ...video.estimate import BASE_MEMORY, MEMORY_MARGIN
from .options import AudioConvertOptions, codec_of, container_of, draws

_SPEED = {"mp3": 35.0, "aac": 25.0, "opus": 35.0, "alac": 150.0, "flac": 150.0, "pcm": 300.0}
"""Seconds of sound of one channel pair that one CPU encodes in a second."""
_DECODED = 300.0
_MEASURED = 50.0
"""The same, decoded; and decoded and measured."""
_ROUNDS = 3
"""Times that sound is encoded and measured until it is as loud as asked, at most as a rule."""
_FILTERS = 24_000_000
"""Bytes of filters, encoder and container."""
_INDEX = 40
"""Bytes that the index of an m4a takes in memory for each packet."""
_PACKETS = 50
"""Packets a second, in the codecs that have the most."""
_HEADERS = 200_000
_PACKED = 0.8
"""Bytes of flac and alac, as a share of the samples'."""
_PICTURE = 5
"""Bytes a pixel, of the picture and its file."""


class SoundInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What is known, or assumed, of the sound."""

    duration: float
    """Seconds."""
    rate: int = 48_000
    channels: int = 2
    bits: int = 16
    guessed: bool = False

    def basis(self) -> dict[str, Any]:
        """For `Estimate.basis`; empty where the file was not examined."""
        if self.guessed:
            return {}
        return {"duration": round(self.duration, 3), "sample_rate": self.rate, "channels": self.channels}


_FILM_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".flv", ".m4v", ".3gp")
_FILM_BITRATE, _SOUND_BITRATE = 5_000_000, 128_000


def estimate(job: Job[AudioConvertOptions]) -> Estimate:
    """Guess from the size and the name of the file."""
    bitrate = _FILM_BITRATE if job.input_file.suffix.lower() in _FILM_SUFFIXES else _SOUND_BITRATE
    return estimate_for(job, SoundInfo(duration=max(1.0, 8 * job.input_size / bitrate), guessed=True))


def estimate_for(job: Job[AudioConvertOptions], sound: SoundInfo) -> Estimate:
    """Estimate from what is known of the sound."""
    options = job.options
    seconds = _played(options, sound)
    until = min(sound.duration, options.end or sound.duration)
    pairs = max(0.5, sound.channels / 2) * max(0.5, sound.rate / 48_000)
    if draws(job.output_file):
        pixels = options.width * options.height
        memory, temp, work = 8 * pixels, _HEADERS + _PICTURE * pixels, 0.0
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


def _written(options: AudioConvertOptions, output: Path, sound: SoundInfo, input_size: int) -> int:
    """Bytes of the result; with the pictures that the source carries, of which only its size tells."""
    codec = codec_of(options, container_of(output), output)
    seconds = _played(options, sound)
    channels = {"auto": sound.channels, "stereo": 2, "mono": 1}[options.channels]
    if codec.layouts:
        channels = min(channels, max(codec.layouts))
    if codec.lossless:
        deep = {"auto": sound.bits, "16": 16, "24": 24, "float": 32}[options.bits]
        rate = (options.sample_rate or sound.rate) * channels * deep * (1.0 if codec.name == "pcm" else _PACKED)
    else:
        rate = options.bitrate or codec.bitrate * channels
    copied = 0 if options.alters or options.codec not in ("auto", "copy") else input_size
    pictures = min(input_size, 2_000_000)
    return int(max(1.1 * seconds * rate / 8, min(copied, seconds * 500_000)) + pictures + _HEADERS)
