"""What `video_convert` can be told, and what it then needs. No media library here: the service imports this."""

from typing import Annotated, Literal, TypeAlias

import msgspec

from ...contract import Estimate

VideoCodec: TypeAlias = Literal["auto", "h264", "h265", "vp9", "av1"]
AudioCodec: TypeAlias = Literal["auto", "aac", "opus", "mp3", "none"]
Preset: TypeAlias = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
]
Side: TypeAlias = Annotated[int, msgspec.Meta(ge=16, le=8192)]

MAX_CRF = {"auto": 51, "h264": 51, "h265": 51, "vp9": 63, "av1": 63}


class VideoConvertOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The container is that of the output's suffix: mp4, m4v, mov, mkv or webm. Sizes are as seen, after rotation."""

    video_codec: Annotated[VideoCodec, msgspec.Meta(description="auto: vp9 for webm, else h264.")] = "auto"
    width: Annotated[Side | None, msgspec.Meta(description="Pixels; alone, the height follows.")] = None
    height: Annotated[Side | None, msgspec.Meta(description="Pixels; alone, the width follows.")] = None
    scale: Annotated[
        Annotated[float, msgspec.Meta(gt=0, le=4)] | None, msgspec.Meta(description="Instead of width and height.")
    ] = None
    crf: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=63)] | None,
        msgspec.Meta(description="Quality, lower is better; none: the codec's usual one."),
    ] = None
    video_bitrate: Annotated[
        Annotated[int, msgspec.Meta(ge=10_000, le=200_000_000)] | None,
        msgspec.Meta(description="Bits a second, instead of crf."),
    ] = None
    preset: Annotated[Preset, msgspec.Meta(description="Time spent on making it smaller.")] = "veryfast"
    audio_codec: Annotated[AudioCodec, msgspec.Meta(description="auto: opus for webm, else aac.")] = "auto"
    audio_bitrate: Annotated[int, msgspec.Meta(ge=16_000, le=512_000, description="Bits a second.")] = 128_000
    segment_seconds: Annotated[
        float,
        msgspec.Meta(
            ge=0.5, le=600, description="About how much of the video a crash can cost; more for very long videos."
        ),
    ] = 10.0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant together.

        Raises:
            ValueError: two options exclude each other; msgspec makes a `ValidationError` of it.
        """
        if self.scale is not None and (self.width is not None or self.height is not None):
            raise ValueError("scale cannot be combined with width or height: give one of them")
        if self.crf is not None and self.video_bitrate is not None:
            raise ValueError("crf and video_bitrate exclude each other: give one of them")
        if self.crf is not None and self.crf > MAX_CRF[self.video_codec]:
            raise ValueError(f"crf of {self.video_codec} goes up to {MAX_CRF[self.video_codec]}, not {self.crf}")


_SPEED = {
    "ultrafast": 190e6,
    "superfast": 130e6,
    "veryfast": 85e6,
    "faster": 65e6,
    "fast": 55e6,
    "medium": 47e6,
    "slow": 25e6,
    "slower": 12e6,
    "veryslow": 6e6,
}
"""Pixels a second that libx264 encodes on two cores."""

_FRAMES_HELD = {"ultrafast": 40, "superfast": 90, "veryfast": 130, "faster": 150, "fast": 165, "medium": 180}
"""Frames in memory at the peak, in decoder, encoder and between."""

_SLOWER_THAN_H264 = {"auto": 1.0, "h264": 1.0, "h265": 3.0, "vp9": 3.0, "av1": 3.0}
_ASSUMED_BITRATE = 5_000_000
_ASSUMED_RATE = 25
_FULL_HD = (1920, 1080)


def estimate(options: VideoConvertOptions, input_size: int) -> Estimate:
    """Guess from the file size alone: a full-HD source of 5 Mbit/s, unless the options say how large the output is."""
    width, height = _FULL_HD
    if options.scale is not None:
        width, height = int(width * options.scale), int(height * options.scale)
    width = options.width or width
    height = options.height or height
    source, wanted = _FULL_HD[0] * _FULL_HD[1], width * height
    held = _FRAMES_HELD.get(options.preset, 220)
    duration = 8 * input_size / _ASSUMED_BITRATE
    video_bytes = duration * options.video_bitrate / 8 if options.video_bitrate else 1.2 * input_size
    audio_bytes = duration * options.audio_bitrate / 8
    encode = wanted / _SPEED[options.preset] * _SLOWER_THAN_H264[options.video_codec]
    return Estimate(
        memory=int(1.3 * (60e6 + held * 1.5 * wanted + 12 * 1.5 * source)),
        temp=int(2.1 * video_bytes + 2 * audio_bytes) + 1_000_000,
        seconds=0.5 + duration * (_ASSUMED_RATE * (encode + source / 700e6) + 1 / 70),
    )
