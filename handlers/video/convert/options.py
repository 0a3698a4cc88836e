"""The options of `video_convert`, and the container and encoders that they select.

No media library here: the service imports this.
"""

from fractions import Fraction
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import msgspec

from ....events.errors import InvalidOptions, InvalidPath
from ...contract import Job, refuse_unused
from ..program import ENCODER_FAMILIES, INSTALL_FFMPEG, INSTALL_VMAF, Program, examine_program, find_program
from .quality import BEST, QUALITY_PATTERN, quality_of

VideoCodec: TypeAlias = Literal["auto", "copy", "h264", "h265", "hevc", "vp9", "av1"]
AudioCodec: TypeAlias = Literal["auto", "copy", "aac", "opus", "mp3", "none"]
BackendName: TypeAlias = Literal["builtin", "ffmpeg"]
EncoderName: TypeAlias = Literal["software", "nvenc", "qsv", "amf", "vaapi", "videotoolbox"]
AudioEncoder: TypeAlias = Literal["usual", "libfdk_aac", "aac_at"]
Tune: TypeAlias = Literal["film", "animation", "grain", "stillimage", "fastdecode", "zerolatency"]
Profile: TypeAlias = Literal["baseline", "main", "high", "main10"]
EncoderPreset: TypeAlias = Literal[
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"
]
_LEAST_SIDE, _MOST_SIDE = 16, 8192
_Side: TypeAlias = Annotated[int, msgspec.Meta(ge=_LEAST_SIDE, le=_MOST_SIDE)]

MAX_PARTS = 100
"""Parts of one film."""
_LONGEST = 1_000_000
"""The largest `start` and `end`, in seconds."""
MAX_CRF = {"h264": 51, "h265": 51, "vp9": 63, "av1": 63}


class VideoConvertOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The container is that of the output's suffix: mp4, m4v, mov, mkv or webm. Sizes are as seen, after rotation."""

    video_codec: Annotated[
        VideoCodec,
        msgspec.Meta(description="auto: vp9 for webm, else h264. hevc is h265. copy: the picture as it is, exactly."),
    ] = "auto"
    width: Annotated[_Side | None, msgspec.Meta(description="Pixels; alone, the height follows.")] = None
    height: Annotated[_Side | None, msgspec.Meta(description="Pixels; alone, the width follows.")] = None
    scale: Annotated[
        Annotated[float, msgspec.Meta(gt=0, le=4)] | None, msgspec.Meta(description="Instead of width and height.")
    ] = None
    max_width: Annotated[
        _Side | None, msgspec.Meta(description="Make wider pictures as narrow, in their shape, and leave the others.")
    ] = None
    max_height: Annotated[_Side | None, msgspec.Meta(description="The same for the height; both make a box.")] = None
    start: Annotated[
        Annotated[float, msgspec.Meta(ge=0, le=_LONGEST)] | None,
        msgspec.Meta(description="Seconds; what comes before is left out, of sound and all else, too."),
    ] = None
    end: Annotated[
        Annotated[float, msgspec.Meta(gt=0, le=_LONGEST)] | None,
        msgspec.Meta(description="Seconds from the beginning of the source; what comes after is left out."),
    ] = None
    rotate: Annotated[
        Literal[0, 90, 180, 270], msgspec.Meta(description="Degrees clockwise, of the picture as players show it.")
    ] = 0
    crop: Annotated[
        Annotated[str, msgspec.Meta(pattern=r"^[1-9]\d{0,4}:[1-9]\d{0,4}:\d{1,5}:\d{1,5}$")] | None,
        msgspec.Meta(
            description="WIDTH:HEIGHT:X:Y in pixels of the picture as seen: all but this part is cut off, before it is "
            "scaled."
        ),
    ] = None
    pad: Annotated[
        Annotated[str, msgspec.Meta(pattern=r"^\d{2,4}:\d{2,4}$")] | None,
        msgspec.Meta(description="WIDTH:HEIGHT in pixels: black bars around the scaled picture, up to this size."),
    ] = None
    frame_rate: Annotated[
        Annotated[float, msgspec.Meta(ge=1, le=240)] | None,
        msgspec.Meta(
            description="Frames a second: left out or shown again as needed. None: each at its own time. 23.976, 29.97 "
            "and 59.94 mean 24000, 30000 and 60000 in 1001 seconds."
        ),
    ] = None
    crf: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=63)] | None,
        msgspec.Meta(description="Quality, lower is better; none: the codec's usual one."),
    ] = None
    quality: Annotated[
        Annotated[str, msgspec.Meta(pattern=QUALITY_PATTERN)] | None,
        msgspec.Meta(
            description="METRIC:VALUE, as vmaf:95, xpsnr:42 or ssim:0.98, instead of crf: finds the highest crf that "
            "reaches it on samples. vmaf needs an ffmpeg with libvmaf."
        ),
    ] = None
    video_bitrate: Annotated[
        Annotated[int, msgspec.Meta(ge=10_000, le=200_000_000)] | None,
        msgspec.Meta(description="Bits a second, instead of crf."),
    ] = None
    passes: Annotated[
        Literal[1, 2],
        msgspec.Meta(
            description="With video_bitrate. 2: the whole film is encoded again and again, mostly twice, until the "
            "picture has so many bits, of the same quality everywhere."
        ),
    ] = 1
    target_size: Annotated[
        Annotated[int, msgspec.Meta(ge=10_000, le=10**13)] | None,
        msgspec.Meta(description="Bytes that the file may have at most, instead of crf; in two passes, seldom more."),
    ] = None
    preset: Annotated[EncoderPreset, msgspec.Meta(description="Time spent on making it smaller.")] = "veryfast"
    tune: Annotated[
        Tune | None, msgspec.Meta(description="Suit the encoder to the content or the use; of h264, some of h265.")
    ] = None
    profile: Annotated[
        Profile | None,
        msgspec.Meta(
            description="What the player has to know: baseline, main or high of h264, main or main10 of h265. None: as "
            "the picture needs."
        ),
    ] = None
    backend: Annotated[
        BackendName,
        msgspec.Meta(
            description="Who encodes: the library that tasktrail brings, or the ffmpeg program on the search path."
        ),
    ] = "builtin"
    encoder: Annotated[
        EncoderName,
        msgspec.Meta(
            description="software, or the hardware to encode with; refused where it is missing. "
            "vaapi and videotoolbox: with backend ffmpeg."
        ),
    ] = "software"
    hdr: Annotated[
        Literal["auto", "keep", "sdr"],
        msgspec.Meta(
            description="High dynamic range. auto: kept where codec and profile can, else its tones are mapped into "
            "BT.709. keep: refused where it cannot be. sdr: mapped in any case."
        ),
    ] = "auto"
    deinterlace: Annotated[
        Literal["auto", "always", "never"],
        msgspec.Meta(description="Make whole pictures of interlaced ones; auto: where the video says that it is so."),
    ] = "auto"
    audio_codec: Annotated[
        AudioCodec,
        msgspec.Meta(
            description="auto: as it is where the container takes it and the source is mp4, mov, mkv, webm or ts, else "
            "opus for webm and aac elsewhere. copy: as it is, or not at all."
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
        msgspec.Meta(description="Keep one sound track only, counted from 1; none: all of them."),
    ] = None
    audio_channels: Annotated[
        Literal["auto", "stereo", "mono"],
        msgspec.Meta(description="auto: all that the codec can hold."),
    ] = "auto"
    loudness: Annotated[
        Annotated[float, msgspec.Meta(ge=-50, le=-5)] | None,
        msgspec.Meta(
            description="LUFS of each sound track, by EBU R128: -23 for broadcasting, -16 or -14 for the web. Sound "
            "is then encoded."
        ),
    ] = None
    true_peak: Annotated[float, msgspec.Meta(ge=-9, le=0, description="dBTP; with loudness, no peak is higher.")] = -1.0
    subtitles: Annotated[
        Literal["keep", "none"],
        msgspec.Meta(description="keep: all that the container can hold; text is rewritten where it must be."),
    ] = "keep"
    burn_subtitles: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=100)] | None,
        msgspec.Meta(description="Draw this subtitle track into the picture, counted from 1, instead of keeping it."),
    ] = None
    metadata: Annotated[
        Literal["keep", "strip"],
        msgspec.Meta(
            description="Title, artist, place, time and other tags of the file and its tracks, as far as the container "
            "can hold them. Languages, titles and marks of tracks are kept anyway."
        ),
    ] = "keep"
    segment_seconds: Annotated[
        Annotated[float, msgspec.Meta(ge=0.5, le=600)] | None,
        msgspec.Meta(
            description="About how much of the video a crash can cost, for each segment at once; more for very long "
            "videos. None: 10, and down to 3 for short ones."
        ),
    ] = None
    segments_at_once: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=64)] | None,
        msgspec.Meta(
            description="Segments encoded side by side. None: as many as CPUs and memory allow, with hardware one. "
            "The result is the same."
        ),
    ] = None
    parts: Annotated[
        Annotated[int, msgspec.Meta(ge=2, le=MAX_PARTS)] | None,
        msgspec.Meta(
            description="Join the picture from so many parts, each made by a task video_part on any node, instead of "
            "encoding it here. Mostly set by spreading a film."
        ),
    ] = None

    def __post_init__(self) -> None:
        """Refuse options that exclude each other.

        Raises:
            ValueError: two options exclude each other; msgspec turns it into a `ValidationError`.
        """
        if self.scale is not None and (self.width is not None or self.height is not None):
            raise ValueError("scale cannot be combined with width or height: give one of them")
        if (self.max_width or self.max_height) and (self.scale or self.width or self.height):
            raise ValueError("max_width and max_height cannot be combined with width, height or scale")
        if self.crf is not None and self.video_bitrate is not None:
            raise ValueError("crf and video_bitrate exclude each other: give one of them")
        if self.quality is not None:
            self._check_quality(self.quality)
        self._check_passes()
        if self.audio_codec == "copy" and (self.audio_bitrate or self.audio_channels != "auto" or self.loudness):
            raise ValueError("audio_codec copy cannot be combined with audio_bitrate, audio_channels or loudness")
        if self.end is not None and self.end <= (self.start or 0):
            raise ValueError("end has to come after start")
        if self.pad and any(side % 2 or not _LEAST_SIDE <= side <= _MOST_SIDE for side in parse_numbers(self.pad)):
            raise ValueError(f"pad needs even sides of {_LEAST_SIDE} to {_MOST_SIDE}")
        if self.crop and min(parse_numbers(self.crop)[:2]) < _LEAST_SIDE:
            raise ValueError(f"crop needs a width and a height of at least {_LEAST_SIDE}")
        self._refuse_without_program()

    def _check_passes(self) -> None:
        if self.target_size is not None and (self.crf, self.quality, self.video_bitrate) != (None, None, None):
            raise ValueError("target_size excludes crf, quality and video_bitrate: it finds the crf by itself")
        if self.passes > 1 and self.target_size is None and self.video_bitrate is None:
            raise ValueError("passes need a video_bitrate or a target_size")
        if (self.passes > 1 or self.target_size is not None) and self.encoder != "software":
            raise ValueError("target_size and passes need encoder software")

    def _check_quality(self, quality: str) -> None:
        if self.crf is not None or self.video_bitrate is not None:
            raise ValueError("quality excludes crf and video_bitrate: it finds the crf by itself")
        if self.encoder != "software":
            raise ValueError("quality needs encoder software: scales of hardware differ from maker to maker")
        metric, value = quality_of(quality)
        if not 0 < value <= BEST[metric]:
            raise ValueError(f"quality of {metric} lies above 0 and goes up to {BEST[metric]:g}, not {value:g}")

    def _refuse_without_program(self) -> None:
        if self.backend == "builtin" and self.encoder in ("vaapi", "videotoolbox"):
            raise ValueError(f"encoder {self.encoder} needs backend ffmpeg")
        if self.audio_encoder == "usual":
            return
        if self.backend == "builtin":
            raise ValueError(f"audio_encoder {self.audio_encoder} needs backend ffmpeg")
        if self.audio_codec not in ("auto", "aac"):
            raise ValueError(f"audio_encoder {self.audio_encoder} makes aac, not {self.audio_codec}")


def parse_numbers(value: str) -> tuple[int, ...]:
    """The numbers of a `crop` or a `pad`."""
    return tuple(int(number) for number in value.split(":"))


_NTSC = 1001
_NEAR = 0.005


def exact_rate(rate: float) -> Fraction:
    """The exact frame rate: people write 29.97 for 30000/1001."""
    ntsc = Fraction(round(rate * _NTSC / 1000) * 1000, _NTSC)
    if rate % 1 and abs(float(ntsc) - rate) < _NEAR:
        return ntsc
    return Fraction(rate).limit_denominator(1000)


# --- Container and encoders ---


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """A container format and the codecs that it may hold; the first of each is the default."""

    format: str
    video: tuple[str, ...]
    audio: tuple[str, ...]
    copied_video: tuple[str, ...]
    """FFmpeg's names of picture codecs that can be copied unchanged."""
    copied: tuple[str, ...]
    """Sound codecs that can be copied unchanged."""
    subtitles: str
    """FFmpeg's name of the encoder for text subtitles."""
    copied_subtitles: tuple[str, ...]
    options: dict[str, str]


_BITEXACT = {"fflags": "+bitexact"}
"""Without it Matroska files have a random id, and no two runs give the same file."""
_FASTSTART = {**_BITEXACT, "movflags": "+faststart", "strict": "unofficial"}
"""`strict`: else a copied picture is no longer marked as Dolby Vision, spherical or stereoscopic."""
_PCM = tuple(f"pcm_{kind}" for kind in ("u8", "s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le", "f64le"))
"""Uncompressed sound that mov and Matroska both hold."""
_PCM_OF_MOV = ("pcm_s8", "pcm_f32be", "pcm_f64be", "pcm_alaw", "pcm_mulaw")
_MP4 = Container(
    format="mp4",
    video=("h264", "h265", "av1", "vp9"),
    audio=("aac", "opus", "mp3"),
    copied_video=("h264", "hevc", "av1", "vp9", "mpeg4", "mpeg2video", "mpeg1video"),
    copied=("aac", "opus", "mp3", "ac3", "eac3", "flac", "alac"),
    subtitles="mov_text",
    copied_subtitles=("mov_text", "dvd_subtitle"),
    options=_FASTSTART,
)

CONTAINERS = {
    ".mp4": _MP4,
    ".m4v": _MP4,
    ".mov": Container(
        format="mov",
        video=("h264", "h265"),
        audio=("aac", "mp3"),
        copied_video=("h264", "hevc", "prores", "mpeg4", "mjpeg", "dnxhd", "mpeg2video", "qtrle", "png"),
        copied=("aac", "mp3", "ac3", "eac3", "alac", *_PCM, *_PCM_OF_MOV),
        subtitles="mov_text",
        copied_subtitles=("mov_text",),
        options=_FASTSTART,
    ),
    ".mkv": Container(
        format="matroska",
        video=("h264", "h265", "av1", "vp9"),
        audio=("aac", "opus", "mp3"),
        copied_video=(
            *("h264", "hevc", "av1", "vp9", "vp8", "mpeg4", "mpeg2video", "mpeg1video", "theora", "prores"),
            *("mjpeg", "ffv1"),
        ),
        copied=(
            *("aac", "opus", "mp3", "mp2", "ac3", "eac3", "dts", "truehd", "flac", "alac", "tta", "wavpack", "vorbis"),
            *_PCM,
        ),
        subtitles="subrip",
        copied_subtitles=(
            *("subrip", "srt", "ass", "ssa", "webvtt"),
            *("hdmv_pgs_subtitle", "hdmv_text_subtitle", "dvd_subtitle", "dvb_subtitle"),
        ),
        options=_BITEXACT,
    ),
    ".webm": Container(
        format="webm",
        video=("vp9", "av1"),
        audio=("opus",),
        copied_video=("vp9", "av1", "vp8"),
        copied=("opus", "vorbis"),
        subtitles="webvtt",
        copied_subtitles=(),
        options=_BITEXACT,
    ),
}

VIDEO_ENCODERS = {"h264": "libx264", "h265": "libx265", "vp9": "libvpx-vp9", "av1": "libsvtav1"}
AUDIO_ENCODERS = {"aac": "aac", "opus": "libopus", "mp3": "libmp3lame"}

_TUNES: dict[str, tuple[str, ...]] = {
    "h264": ("film", "animation", "grain", "stillimage", "fastdecode", "zerolatency"),
    "h265": ("animation", "grain", "fastdecode", "zerolatency"),
}
_PROFILES: dict[str, tuple[str, ...]] = {"h264": ("baseline", "main", "high"), "h265": ("main", "main10")}

HARDWARE_REMEDY = "leave `encoder` at software, or give the service the device and its driver"

_ALIASES = {"hevc": "h265"}
USUAL_CRF = {"h264": 23, "h265": 28, "vp9": 32, "av1": 35}
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
    """The container and the encoders of the result."""

    container: Container
    copied: bool
    """Whether the picture is copied. The codec and encoder below then mean nothing."""
    video_codec: str
    video_encoder: str
    """FFmpeg's name of the encoder."""
    video_options: dict[str, str]
    video_bitrate: int
    """Bits per second; 0 if a quality is given instead."""
    audio_codec: str
    """The codec that sound is encoded to. Empty: no sound."""
    audio_encoder: str
    """FFmpeg's name of the encoder."""


def choose_target(options: VideoConvertOptions, output: Path) -> Target:
    """Resolve every `auto` that does not depend on the input.

    Raises:
        InvalidPath: there is no such container.
        InvalidOptions: the container cannot hold the codec.
    """
    container = CONTAINERS.get(output.suffix.lower())
    if container is None:
        raise InvalidPath(
            f"A video cannot be written to {output.name!r}",
            field="output_file",
            remedy=f"Give it one of the suffixes {', '.join(CONTAINERS)}.",
        )
    copied = options.video_codec == "copy"
    named = "auto" if copied else _ALIASES.get(options.video_codec, options.video_codec)
    video = _choose("video_codec", named, container.video, output)
    wanted = "auto" if options.audio_codec == "copy" else options.audio_codec
    if options.audio_encoder != "usual":
        wanted = "aac"
    audio = "" if wanted == "none" else _choose("audio_codec", wanted, container.audio, output)
    if options.crf is not None and options.crf > MAX_CRF[video]:
        raise InvalidOptions(
            f"crf of {video} goes up to {MAX_CRF[video]}, not {options.crf}", field="options.crf", remedy="Lower it."
        )
    hardware = options.encoder != "software"
    return Target(
        container=container,
        copied=copied,
        video_codec=video,
        video_encoder=f"{ENCODER_FAMILIES[video]}_{options.encoder}" if hardware else VIDEO_ENCODERS[video],
        video_options=_hardware_options(video, options) if hardware else _encoder_options(video, options),
        video_bitrate=options.video_bitrate or 0,
        audio_codec=audio,
        audio_encoder=AUDIO_ENCODERS.get(audio, "") if options.audio_encoder == "usual" else options.audio_encoder,
    )


_USUAL_LENGTH, _SHORTEST, _PARTS = 10.0, 3.0, 12


def segment_length(options: VideoConvertOptions, seconds: float) -> float:
    """Seconds of a segment, for a video of `seconds`; short videos are cut finer, to be encoded side by side."""
    return options.segment_seconds or min(_USUAL_LENGTH, max(_SHORTEST, seconds / _PARTS))


def on_one_thread(target: Target) -> Target:
    """The same target with an encoder that keeps one CPU busy, which is cheapest when several run side by side."""
    own = target.video_options
    more = {
        "libx264": {"threads": "1"},
        "libx265": {"x265-params": _joined(own.get("x265-params"), "pools=none:frame-threads=1")},
        "libvpx-vp9": {"threads": "1", "row-mt": "0"},
        "libsvtav1": {"svtav1-params": _joined(own.get("svtav1-params"), "lp=1")},
    }.get(target.video_encoder, {})
    return msgspec.structs.replace(target, video_options={**own, **more})


def _joined(parameters: str | None, more: str) -> str:
    return f"{parameters}:{more}" if parameters else more


def holds_aspect(target: Target) -> bool:
    """Whether the result can state its pixels' shape. With PyAV, mkv and webm cannot, but h264 and h265 can."""
    return target.video_codec in ("h264", "h265") or target.container.format in ("mp4", "mov")


_OF_ENCODING = (
    *("width", "height", "scale", "max_width", "max_height", "deinterlace", "rotate", "crop", "pad", "frame_rate"),
    *("crf", "quality", "video_bitrate", "passes", "target_size", "preset", "tune", "profile", "encoder", "hdr"),
    *("burn_subtitles", "segment_seconds", "segments_at_once", "parts"),
)
"""Options that have no effect if the picture is copied."""


def check(job: Job[VideoConvertOptions]) -> None:
    """Check that suffix, codecs and options fit together, and that a requested program exists.

    Raises InvalidPath or InvalidOptions.
    """
    target = choose_target(job.options, job.output_file)
    if job.options.audio_codec == "none":
        refuse_unused(job.options, ("audio_bitrate", "audio_track", "audio_channels", "loudness"), "without sound")
    if job.options.loudness is None:
        refuse_unused(job.options, ("true_peak",), "without loudness")
    if job.options.hdr == "keep" and (target.video_codec == "h264" or job.options.profile == "main"):
        raise InvalidOptions(
            "High dynamic range needs ten bits, and h264 and profile main have eight",
            field="options.hdr",
            remedy="Take video_codec h265 or av1 without that profile, or leave hdr at auto.",
        )
    if target.copied:
        refuse_unused(job.options, _OF_ENCODING, "while video_codec is copy: the picture is not encoded")
    elif job.options.encoder != "software":
        refuse_unused(job.options, ("preset", "tune", "profile"), "with a hardware encoder")
    else:
        _refuse_of_another_codec("tune", job.options.tune, _TUNES, target.video_codec)
        _refuse_of_another_codec("profile", job.options.profile, _PROFILES, target.video_codec)
    if job.options.parts is not None and (why := why_not_spread(job.options)):
        raise InvalidOptions(
            f"Such a conversion has no parts: {why}",
            field="options.parts",
            remedy="Leave parts out (`--spread` on the command line): it is then done by one task.",
        )
    if job.options.backend == "ffmpeg":
        require_program(job.options, target)
    if job.options.quality and quality_of(job.options.quality).metric == "vmaf":
        require_vmaf()


def why_not_spread(options: VideoConvertOptions) -> str:
    """Say why a film with these options cannot be made in parts on several nodes; empty if it can."""
    if options.video_codec == "copy":
        return "the picture is copied, not encoded"
    if options.quality is not None:
        return "a quality is searched for on samples of the whole film first"
    if options.target_size is not None or options.passes > 1:
        return "a size is met by passes over the whole film"
    if options.encoder != "software":
        return "the machines' hardware may encode differently"
    return ""


def _refuse_of_another_codec(name: str, value: str | None, allowed: dict[str, tuple[str, ...]], codec: str) -> None:
    if value is None or value in allowed.get(codec, ()):
        return
    listed = ", ".join(allowed.get(codec, ())) or "none"
    raise InvalidOptions(
        f"{codec} has no {name} {value}; it has: {listed}",
        field=f"options.{name}",
        remedy=f"Take one of these, or leave {name} out.",
    )


def require_program(options: VideoConvertOptions, target: Target) -> Program:
    """The ffmpeg program with the requested encoders. Raises InvalidOptions with a remedy."""
    path = find_program()
    instead = "or leave the option backend at builtin."
    if path is None:
        raise InvalidOptions(
            "The program ffmpeg is not on the search path",
            field="options.backend",
            remedy=f"{INSTALL_FFMPEG}; {instead}",
        )
    program = examine_program(path)
    if program.trouble:
        raise InvalidOptions(program.summary(), field="options.backend", remedy=f"{INSTALL_FFMPEG}; {instead}")
    picture = [("backend" if options.encoder == "software" else "encoder", target.video_encoder)]
    wanted = [] if target.copied else picture
    if options.audio_encoder != "usual":
        wanted.append(("audio_encoder", target.audio_encoder))
    for field, name in wanted:
        if name not in program.encoders:
            raise InvalidOptions(
                f"{path} {program.version} has no encoder {name}",
                field=f"options.{field}",
                remedy=f"Install a build that has it, or leave the option {field} at its default.",
            )
    return program


def require_vmaf() -> Program:
    """The ffmpeg program, if it can measure VMAF. Raises InvalidOptions with a remedy."""
    path = find_program()
    program = examine_program(path) if path else None
    if program is None or program.trouble or not program.measures_vmaf:
        why = program.trouble or f"{path} {program.version} is built without libvmaf" if program else "it is not there"
        raise InvalidOptions(
            f"vmaf is measured by the program ffmpeg: {why}",
            field="options.quality",
            remedy=f"{INSTALL_VMAF}; or ask for xpsnr or ssim, as quality=xpsnr:42, which need no program.",
        )
    return program


def with_crf(options: VideoConvertOptions, crf: int) -> VideoConvertOptions:
    """The same options with a crf instead of a quality, a size or a bit rate."""
    return msgspec.structs.replace(options, quality=None, target_size=None, passes=1, video_bitrate=None, crf=crf)


def _choose(field: str, wanted: str, allowed: tuple[str, ...], output: Path) -> str:
    if wanted == "auto":
        return allowed[0]
    if wanted not in allowed:
        raise InvalidOptions(
            f"{wanted} does not go into {output.suffix}",
            field=f"options.{field}",
            remedy=f"Take {' or '.join(allowed)}, or another suffix.",
        )
    return wanted


def _hardware_options(codec: str, options: VideoConvertOptions) -> dict[str, str]:
    """The quality in each maker's terms. Presets stay at their defaults, because their names differ by model."""
    if options.video_bitrate:
        return {}
    quality = str(USUAL_CRF[codec] if options.crf is None else options.crf)
    match options.encoder:
        case "nvenc":
            return {"rc": "vbr", "cq": quality}
        case "qsv":
            return {"global_quality": quality}
        case "vaapi":
            return {"rc_mode": "CQP", "global_quality": quality}
        case "videotoolbox":
            return {"q:v": str(max(1, 100 - 100 * int(quality) // MAX_CRF[codec]))}  # of 100, higher is better
        case _:
            return {"rc": "cqp", "qp_i": quality, "qp_p": quality}


def _encoder_options(codec: str, options: VideoConvertOptions) -> dict[str, str]:
    quality = {} if options.video_bitrate else {"crf": str(USUAL_CRF[codec] if options.crf is None else options.crf)}
    asked = {"preset": options.preset, "tune": options.tune, "profile": options.profile}
    named = {name: value for name, value in asked.items() if value is not None}
    match codec:
        case "h264":
            return {**quality, **named}
        case "h265":
            return {**quality, **named, "x265-params": "log-level=error"}
        case "vp9":
            speed = _VP9_CPU_USED[options.preset]
            deadline = "realtime" if speed >= _VP9_REALTIME_FROM else "good"
            return {**quality, "deadline": deadline, "cpu-used": str(speed), "row-mt": "1"}
        case _:
            return {**quality, "preset": str(_AV1_PRESET[options.preset])}
