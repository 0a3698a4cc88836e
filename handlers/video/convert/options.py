"""What `video_convert` can be told. No media library here: the service imports this."""

from typing import Annotated, Literal, TypeAlias

import msgspec

VideoCodec: TypeAlias = Literal["auto", "h264", "h265", "vp9", "av1"]
AudioCodec: TypeAlias = Literal["auto", "copy", "aac", "opus", "mp3", "none"]
Backend: TypeAlias = Literal["builtin", "ffmpeg"]
Encoder: TypeAlias = Literal["software", "nvenc", "qsv", "amf", "vaapi", "videotoolbox"]
AudioEncoder: TypeAlias = Literal["usual", "libfdk_aac", "aac_at"]
Preset: TypeAlias = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
]
Side: TypeAlias = Annotated[int, msgspec.Meta(ge=16, le=8192)]

MAX_CRF = {"h264": 51, "h265": 51, "vp9": 63, "av1": 63}


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
    backend: Annotated[
        Backend,
        msgspec.Meta(
            description="Who encodes: the library that tasktrail brings, or the ffmpeg program on the search path."
        ),
    ] = "builtin"
    encoder: Annotated[
        Encoder,
        msgspec.Meta(
            description="software, or the hardware to encode with; refused where it is missing. "
            "vaapi and videotoolbox: with backend ffmpeg."
        ),
    ] = "software"
    deinterlace: Annotated[
        Literal["auto", "always", "never"],
        msgspec.Meta(description="Make whole pictures of interlaced ones; auto: where the video says that it is so."),
    ] = "auto"
    audio_codec: Annotated[
        AudioCodec,
        msgspec.Meta(
            description="auto: as it is where the container takes it, else opus for webm and aac elsewhere. "
            "copy: as it is, or not at all."
        ),
    ] = "auto"
    audio_encoder: Annotated[
        AudioEncoder,
        msgspec.Meta(description="Another encoder of aac, with backend ffmpeg; sound is then encoded."),
    ] = "usual"
    audio_bitrate: Annotated[
        Annotated[int, msgspec.Meta(ge=16_000, le=2_000_000)] | None,
        msgspec.Meta(description="Bits a second; none: 64000 for each channel. With auto, the sound is then encoded."),
    ] = None
    audio_track: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=100)] | None,
        msgspec.Meta(description="Which sound track, from 1; none: the one that players would choose."),
    ] = None
    audio_channels: Annotated[
        Literal["auto", "stereo", "mono"],
        msgspec.Meta(description="auto: all that the codec can hold."),
    ] = "auto"
    subtitles: Annotated[
        Literal["keep", "none"],
        msgspec.Meta(description="keep: all that the container can hold; text is rewritten where it must be."),
    ] = "keep"
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
        if self.audio_codec == "copy" and (self.audio_bitrate or self.audio_channels != "auto"):
            raise ValueError("audio_codec copy cannot be combined with audio_bitrate or audio_channels")
        self._refuse_without_program()

    def _refuse_without_program(self) -> None:
        if self.backend == "builtin" and self.encoder in ("vaapi", "videotoolbox"):
            raise ValueError(f"encoder {self.encoder} needs backend ffmpeg")
        if self.audio_encoder == "usual":
            return
        if self.backend == "builtin":
            raise ValueError(f"audio_encoder {self.audio_encoder} needs backend ffmpeg")
        if self.audio_codec not in ("auto", "aac"):
            raise ValueError(f"audio_encoder {self.audio_encoder} makes aac, not {self.audio_codec}")
