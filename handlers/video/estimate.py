"""The cost of reading a video, fitted to a hundred runs on real samples. No media library here."""

from typing import Any

import msgspec

from ..contract import Bounds

VIDEO_BOUNDS = Bounds(cpu_seconds=60.0, cpu_per_expected=0.0, cpu_per_probed=10.0)
"""The estimate is of run time; a busy or slow machine uses more CPU time."""
BASE_MEMORY = 82_000_000
"""Resident bytes of a worker with FFmpeg, numpy and Pillow loaded, that has worked before and has no file open.

66 MB where the libraries were installed a while ago; after a new install about 20 MB more of their files are
resident."""
MEMORY_MARGIN = 1.3
_BYTES_A_PIXEL = 1.5
_FRAMES_HELD = 12
"""Decoded frames in memory while a video is read, with frame threads on two cores."""
_DECODED = 500e6
"""Pixels per second."""
_KEYFRAME_EVERY = 125
"""Frames. On average half of them are decoded to reach a frame in the middle."""
_BITRATE = 5_000_000


class TrackInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The known or assumed facts about a sound track."""

    channels: int = 2
    bitrate: int = 0
    """Bits per second as stored; 0: unknown."""


class VideoInfo(msgspec.Struct, frozen=True, kw_only=True):
    """The known or assumed facts about a video."""

    width: int
    height: int
    duration: float
    """Seconds."""
    rate: float
    """Frames per second."""
    gop: float = _KEYFRAME_EVERY
    """Frames from keyframe to keyframe."""
    depth: int = 8
    high_range: bool = False
    """Whether it has a high dynamic range."""
    sounds: tuple[TrackInfo, ...] = (TrackInfo(),)
    beside: int = 0
    """Bytes of all that is neither picture nor sound: subtitles made of pictures, attachments."""
    indexed: bool = True
    """Whether the file has an index of its keyframes."""
    guessed: bool = False

    @property
    def pixels(self) -> int:
        """Pixels of a frame."""
        return self.width * self.height

    @property
    def frames(self) -> int:
        """Number of frames."""
        return max(1, round(self.duration * self.rate))

    @property
    def frame_bytes(self) -> float:
        """Bytes of a decoded frame."""
        return _BYTES_A_PIXEL * self.pixels * (2 if self.depth > 8 else 1)  # noqa: PLR2004 - more than a byte

    def of_size(self, size: int) -> "VideoInfo":
        """The same video with the duration that `size` bytes suggest."""
        return msgspec.structs.replace(self, duration=max(1.0, 8 * size / _BITRATE))

    def basis(self) -> dict[str, Any]:
        """The facts for `Estimate.basis`; empty if the file was not examined."""
        if self.guessed:
            return {}
        return {
            "width": self.width,
            "height": self.height,
            "duration": round(self.duration, 3),
            "rate": round(self.rate, 3),
            "frames": self.frames,
        }


ASSUMED = VideoInfo(width=1920, height=1080, duration=60.0, rate=25.0, guessed=True)
"""A full-HD source of 5 Mbit/s, assumed until the file is examined."""


def reading_memory(video: VideoInfo) -> int:
    """Resident bytes at the peak of a worker that decodes the video."""
    return int(MEMORY_MARGIN * (BASE_MEMORY + _FRAMES_HELD * video.frame_bytes))


_TABLE = 80e6
"""Bytes at the peak while the table for tone mapping is made."""
_WIDE = 24
"""Bytes per pixel while its tones are mapped."""


def tone_memory(pixels: float, at_once: int = 1) -> float:
    """Bytes for mapping the tones of high dynamic range, `at_once` pictures of `pixels` each at a time."""
    return _TABLE + at_once * _WIDE * pixels


def reading_seconds(video: VideoInfo) -> float:
    """Seconds to reach one frame somewhere in the video."""
    return 0.03 + min(video.frames, video.gop / 2 + 1) * video.pixels / _DECODED
