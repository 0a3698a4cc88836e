"""The options of `audio_convert`, and the container and codec that they select.

No media library here: the service imports this.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from ....events.errors import InvalidOptions, InvalidPath
from ...contract import Job, refuse_unused

SoundCodec: TypeAlias = Literal["auto", "copy", "mp3", "aac", "alac", "opus", "flac", "pcm"]
_Moment: TypeAlias = Annotated[float, msgspec.Meta(ge=0, le=1_000_000)]

USUAL_TRUE_PEAK = -1.0
_OF_SOUND = ("codec", "bitrate", "quality", "bits", "loudness", "true_peak", "metadata", "tags", "cover")
_OF_PICTURES = ("width", "height", "lanes", "color", "background")
_OF_ENCODING = ("bitrate", "quality", "sample_rate", "channels", "bits", "loudness")
"""Options that require other samples or packets than the source's."""


class AudioConvertOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The format is that of the output's suffix: mp3, m4a, opus, ogg, flac or wav; png is a picture of the sound."""

    codec: Annotated[
        SoundCodec,
        msgspec.Meta(
            description="auto: as it is where the container takes it and nothing is to be changed, else the "
            "container's usual one. copy: as it is, or not at all. Any other: encoded in any case."
        ),
    ] = "auto"
    bitrate: Annotated[
        Annotated[int, msgspec.Meta(ge=6_000, le=1_000_000)] | None,
        msgspec.Meta(description="Bits a second, for mp3, aac and opus; none: 96000 a channel, for opus 64000."),
    ] = None
    quality: Annotated[
        Annotated[int, msgspec.Meta(ge=0, le=9)] | None,
        msgspec.Meta(description="For mp3, instead of bitrate: a variable rate, from 0, the best, to 9."),
    ] = None
    sample_rate: Annotated[
        Annotated[int, msgspec.Meta(ge=8_000, le=384_000)] | None,
        msgspec.Meta(description="Samples a second; none: the source's, or the nearest above it that the codec has."),
    ] = None
    channels: Annotated[
        Literal["auto", "stereo", "mono"], msgspec.Meta(description="auto: all that the codec can hold.")
    ] = "auto"
    bits: Annotated[
        Literal["auto", 16, 24, "16", "24", "float"],
        msgspec.Meta(description="Of a sample, for flac, alac and wav; auto: as many as the source has. float: wav."),
    ] = "auto"
    track: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=100)] | None,
        msgspec.Meta(description="Which sound track, from 1; none: the one that players would choose."),
    ] = None
    start: Annotated[_Moment | None, msgspec.Meta(description="Seconds; what is before it is left out.")] = None
    end: Annotated[_Moment | None, msgspec.Meta(description="Seconds; what is behind it is left out.")] = None
    loudness: Annotated[
        Annotated[float, msgspec.Meta(ge=-50, le=-5)] | None,
        msgspec.Meta(description="LUFS, by EBU R128: -23 for broadcasting, -16 or -14 for the web."),
    ] = None
    true_peak: Annotated[float, msgspec.Meta(ge=-9, le=0, description="dBTP; with loudness, no peak is higher.")] = (
        USUAL_TRUE_PEAK
    )
    metadata: Annotated[Literal["keep", "strip"], msgspec.Meta(description="Tags and chapters of the source.")] = "keep"
    tags: Annotated[
        dict[str, str], msgspec.Meta(description="Tags to set, such as title; an empty text removes one.")
    ] = {}
    cover: Annotated[Literal["keep", "none"], msgspec.Meta(description="The pictures that the source carries.")] = (
        "keep"
    )
    width: Annotated[int, msgspec.Meta(ge=16, le=16384, description="png: pixels.")] = 1200
    height: Annotated[int, msgspec.Meta(ge=16, le=4096, description="png: pixels.")] = 240
    lanes: Annotated[
        Literal["together", "channels"],
        msgspec.Meta(description="png: all channels in one lane, or a lane for each."),
    ] = "together"
    color: Annotated[str, msgspec.Meta(pattern="^#[0-9a-fA-F]{6}$", description="png: of the sound, as #rrggbb.")] = (
        "#2f6fab"
    )
    background: Annotated[
        Annotated[str, msgspec.Meta(pattern="^(#[0-9a-fA-F]{6}|transparent)$")],
        msgspec.Meta(description="png: as #rrggbb, or `transparent`."),
    ] = "#ffffff"

    def __post_init__(self) -> None:
        """Refuse options that exclude each other.

        Raises:
            ValueError: two options exclude each other; msgspec turns it into a `ValidationError`.
        """
        if self.bitrate is not None and self.quality is not None:
            raise ValueError("bitrate and quality exclude each other: give one of them")
        if self.end is not None and self.end <= (self.start or 0.0):
            raise ValueError("end has to come after start")
        asked = [name for name in _OF_ENCODING if getattr(self, name) not in (None, "auto")]
        if self.codec == "copy" and asked:
            raise ValueError(f"codec copy cannot be combined with {asked[0]}: leave one of them out")

    @property
    def alters(self) -> bool:
        """Whether the options require the sound to be encoded."""
        return any(getattr(self, name) not in (None, "auto") for name in (*_OF_ENCODING, "start", "end"))


# --- Container and codec ---


class Codec(msgspec.Struct, frozen=True, kw_only=True):
    """A codec that sound is encoded to."""

    name: str
    encoder: str
    """FFmpeg's name of the encoder."""
    layouts: dict[int, str]
    """Number of channels → FFmpeg's name of their layout."""
    rates: tuple[int, ...] = ()
    """Samples per second; empty: any."""
    lossless: bool = False
    bitrate: int = 0
    """Usual bits per second of a channel; 0: it has no bit rate to choose."""


_MONO_STEREO = {1: "mono", 2: "stereo"}
_MORE = {**_MONO_STEREO, 3: "3.0", 5: "5.0", 6: "5.1", 8: "7.1"}
_XIPH = {**_MONO_STEREO, 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
CODECS = {
    "mp3": Codec(
        name="mp3",
        encoder="libmp3lame",
        layouts=_MONO_STEREO,
        rates=(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000),
        bitrate=96_000,
    ),
    "aac": Codec(
        name="aac",
        encoder="aac",
        layouts=_MORE,
        rates=(8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000, 64000, 88200, 96000),
        bitrate=96_000,
    ),
    "alac": Codec(
        name="alac",
        encoder="alac",
        layouts={1: "mono", 2: "stereo", 3: "3.0", 4: "4.0", 5: "5.0", 6: "5.1", 7: "6.1(back)", 8: "7.1(wide)"},
        lossless=True,
    ),
    "opus": Codec(
        name="opus", encoder="libopus", layouts=_XIPH, rates=(8000, 12000, 16000, 24000, 48000), bitrate=64_000
    ),
    "flac": Codec(name="flac", encoder="flac", layouts=_XIPH, lossless=True),
    "pcm": Codec(name="pcm", encoder="pcm_s16le", layouts={}, lossless=True),
}


class SoundContainer(msgspec.Struct, frozen=True, kw_only=True):
    """A container and the codecs that it may hold; the first codec is the usual one."""

    name: str
    """Its name in results."""
    format: str
    """FFmpeg's name of it."""
    encoded: tuple[str, ...]
    copied: tuple[str, ...]
    """Codecs, by FFmpeg's names, that can be copied unchanged."""
    options: dict[str, str]
    comments: bool = False
    """Whether its tags are Vorbis comments: these hold any tag, but chapters and pictures only as tags."""
    counts: bool = False
    """Whether it counts samples instead of keeping the times of packets, so that copied sound loses its gaps."""


_BITEXACT = {"fflags": "+bitexact"}
"""Without it, files contain random numbers and the library's version."""
_PCM = tuple(f"pcm_{kind}" for kind in ("u8", "s16le", "s24le", "s32le", "f32le", "f64le", "alaw", "mulaw"))
_OGG = SoundContainer(
    name="ogg",
    format="ogg",
    encoded=("opus",),
    copied=("opus", "vorbis"),
    options=_BITEXACT,
    comments=True,
)
_CONTAINERS = {
    ".mp3": SoundContainer(name="mp3", format="mp3", encoded=("mp3",), copied=("mp3",), options=_BITEXACT, counts=True),
    ".m4a": SoundContainer(
        name="m4a",
        format="mp4",
        encoded=("aac", "alac"),
        copied=("aac", "alac"),
        options={**_BITEXACT, "movflags": "+faststart", "brand": "M4A "},
    ),
    ".opus": SoundContainer(
        name="opus", format="opus", encoded=("opus",), copied=("opus",), options=_BITEXACT, comments=True
    ),
    ".ogg": _OGG,
    ".oga": _OGG,
    ".flac": SoundContainer(
        name="flac", format="flac", encoded=("flac",), copied=("flac",), options=_BITEXACT, comments=True, counts=True
    ),
    ".wav": SoundContainer(
        name="wav",
        format="wav",
        encoded=("pcm",),
        copied=_PCM,
        options={**_BITEXACT, "rf64": "auto"},
        counts=True,
    ),
}
PICTURE_SUFFIX = ".png"


def draws(output: Path) -> bool:
    """Whether the output is a picture of the sound."""
    return output.suffix.lower() == PICTURE_SUFFIX


def container_of(output: Path) -> SoundContainer:
    """The container of a sound file. Raises InvalidPath if the suffix is not in `_CONTAINERS`."""
    container = _CONTAINERS.get(output.suffix.lower())
    if container is None:
        raise InvalidPath(
            f"Sound cannot be written to {output.name!r}",
            field="output_file",
            remedy=f"Give it one of the suffixes {', '.join(_CONTAINERS)}, or {PICTURE_SUFFIX} for a picture of it.",
        )
    return container


def codec_of(options: AudioConvertOptions, container: SoundContainer, output: Path) -> Codec:
    """The codec to encode to, if encoding is needed. Raises InvalidOptions if the container cannot hold it."""
    wanted = container.encoded[0] if options.codec in ("auto", "copy") else options.codec
    if wanted not in container.encoded:
        raise InvalidOptions(
            f"{wanted} does not go into {output.suffix}",
            field="options.codec",
            remedy=f"Take {' or '.join(container.encoded)}, or another suffix.",
        )
    return CODECS[wanted]


def check(job: Job[AudioConvertOptions]) -> None:
    """Check that suffix, codec and options fit together. Raises InvalidPath or InvalidOptions."""
    options, output = job.options, job.output_file
    if draws(output):
        refuse_unused(options, (*_OF_SOUND, "sample_rate", "channels"), "in a picture of the sound")
        return
    container = container_of(output)
    codec = codec_of(options, container, output)
    refuse_unused(options, _OF_PICTURES, "without a picture: it is for png")
    if options.loudness is None:
        refuse_unused(options, ("true_peak",), "without loudness")
    if not codec.bitrate:
        refuse_unused(options, ("bitrate",), f"with {codec.name}")
    if codec.name != "mp3":
        refuse_unused(options, ("quality",), f"with {codec.name}")
    if not codec.lossless:
        refuse_unused(options, ("bits",), f"with {codec.name}")
    if options.bits == "float" and codec.name != "pcm":
        _refuse("bits", f"{codec.name} holds no floating-point samples", "Take 24, or the suffix .wav.")
    if options.sample_rate is not None and codec.rates and options.sample_rate not in codec.rates:
        rates = ", ".join(map(str, codec.rates))
        _refuse("sample_rate", f"{codec.name} has no {options.sample_rate} samples a second", f"Take one of {rates}.")
    for name in options.tags:
        if not name.strip() or "=" in name or not name.isprintable():
            _refuse("tags", f"{name!r} is no name of a tag", "Take a word such as title, artist or album.")


def _refuse(field: str, what: str, remedy: str) -> Any:
    raise InvalidOptions(what, field=f"options.{field}", remedy=remedy)
