"""From options and the output's suffix to container, encoders and their settings."""

import platform
from functools import cache
from pathlib import Path

import msgspec

from ..errors import UnusableInputError
from .options import VideoConvertOptions


class Container(msgspec.Struct, frozen=True):
    """A container format and what may stand in it; the first of each is the default."""

    format: str
    video: tuple[str, ...]
    audio: tuple[str, ...]
    options: dict[str, str]


_BITEXACT = {"fflags": "+bitexact"}
"""Without it Matroska files carry a random id, and no two runs agree."""
_FASTSTART = {**_BITEXACT, "movflags": "+faststart"}
_MP4 = Container("mp4", ("h264", "h265", "av1", "vp9"), ("aac", "opus", "mp3"), _FASTSTART)

CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container("mov", ("h264", "h265"), ("aac", "mp3"), _FASTSTART),
    ".mkv": Container("matroska", ("h264", "h265", "av1", "vp9"), ("aac", "opus", "mp3"), _BITEXACT),
    ".webm": Container("webm", ("vp9", "av1"), ("opus",), _BITEXACT),
}

VIDEO_ENCODERS = {"h264": "libx264", "h265": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
AUDIO_ENCODERS = {"aac": "aac", "opus": "libopus", "mp3": "libmp3lame"}

_USUAL_CRF = {"h264": 23, "h265": 28, "vp9": 32, "av1": 35}
_VP9_CPU_USED = {
    "ultrafast": 8,
    "superfast": 7,
    "veryfast": 6,
    "faster": 5,
    "fast": 4,
    "medium": 3,
    "slow": 2,
    "slower": 1,
    "veryslow": 0,
}
_VP9_REALTIME_FROM = 6
_AV1_PRESET = {
    "ultrafast": 12,
    "superfast": 11,
    "veryfast": 10,
    "faster": 9,
    "fast": 8,
    "medium": 7,
    "slow": 5,
    "slower": 4,
    "veryslow": 3,
}


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be made."""

    container: Container
    video_codec: str
    video_options: dict[str, str]
    video_bitrate: int
    """Bits a second; 0 where quality is asked for."""
    audio_codec: str
    """Empty: no sound."""
    audio_bitrate: int

    @property
    def video_encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return VIDEO_ENCODERS[self.video_codec]

    @property
    def audio_encoder(self) -> str:
        """FFmpeg's name of the encoder."""
        return AUDIO_ENCODERS[self.audio_codec]


def choose_target(options: VideoConvertOptions, output: Path) -> Target:
    """Resolve every `auto`.

    Raises:
        UnusableInputError: no such container, or the codec does not go into it.
    """
    container = CONTAINERS.get(output.suffix.lower())
    if container is None:
        raise UnusableInputError(f"cannot write {output.name!r}: the suffix must be one of {', '.join(CONTAINERS)}")
    video = _choose(options.video_codec, container.video, output)
    audio = "" if options.audio_codec == "none" else _choose(options.audio_codec, container.audio, output)
    return Target(
        container=container,
        video_codec=video,
        video_options=_encoder_options(video, options),
        video_bitrate=options.video_bitrate or 0,
        audio_codec=audio,
        audio_bitrate=options.audio_bitrate,
    )


def _choose(wanted: str, allowed: tuple[str, ...], output: Path) -> str:
    if wanted == "auto":
        return allowed[0]
    if wanted not in allowed:
        raise UnusableInputError(f"{wanted} does not go into {output.suffix}: take {' or '.join(allowed)}")
    return wanted


def _encoder_options(codec: str, options: VideoConvertOptions) -> dict[str, str]:
    quality = {} if options.video_bitrate else {"crf": str(_USUAL_CRF[codec] if options.crf is None else options.crf)}
    match codec:
        case "h264":
            return {**quality, "preset": options.preset, **_steady_x264()}
        case "h265":
            return {**quality, "preset": options.preset, "x265-params": "log-level=error"}
        case "vp9":
            speed = _VP9_CPU_USED[options.preset]
            deadline = "realtime" if speed >= _VP9_REALTIME_FROM else "good"
            return {**quality, "deadline": deadline, "cpu-used": str(speed), "row-mt": "1"}
        case _:
            return {**quality, "preset": str(_AV1_PRESET[options.preset])}


@cache
def _steady_x264() -> dict[str, str]:
    """x264's AVX-512 code gives other bytes on each run at some picture sizes; AVX2 is as fast and steady.

    It is forced only where AVX-512 is seen, because there AVX2 is certain to exist.
    """
    flags = Path("/proc/cpuinfo")
    if platform.machine() == "x86_64" and flags.exists() and " avx512f " in flags.read_text():
        return {"x264-params": "asm=AVX2"}
    return {}
