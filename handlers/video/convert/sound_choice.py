"""Which sound track is taken, and whether as it is."""

from pathlib import Path

import msgspec
from av.audio.stream import AudioStream
from av.container import InputContainer

from ...contract import Unusable
from .marks import Marks, marks_of
from .options import VideoConvertOptions
from .target import Target

_STEADY = ("mov", "matroska", "mpegts")
"""Containers whose times of sound can be trusted; from others it is copied only when asked for."""
_IN_MP4 = ("aac", "opus", "mp3", "ac3", "eac3", "flac", "alac")
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""What the encoders for aac and opus have a name for."""
_MOST = {"aac": 8, "opus": 8, "mp3": 2}
_CHANNEL_BITRATE = 64_000


class SoundPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What is done with the sound."""

    stream: int
    """Number of the stream in the file."""
    copy: bool
    codec: str
    """What the result will hold."""
    encoder: str = ""
    """FFmpeg's name of it; empty where sound is copied."""
    layout: str = ""
    bitrate: int = 0
    marks: Marks = Marks()
    notes: tuple[str, ...] = ()

    @property
    def file(self) -> str:
        """Name of the piece. MP4 has the finer clock but does not take everything."""
        return "sound.mp4" if self.codec in _IN_MP4 else "sound.mka"


def choose_sound(container: InputContainer, options: VideoConvertOptions, target: Target) -> SoundPlan | None:
    """The plan; none where there is no sound or none is wanted. Raises Unusable for what cannot be had."""
    if not target.audio_codec:
        return None
    tracks = container.streams.audio
    stream = container.streams.best("audio")
    if options.audio_track is not None:
        if options.audio_track > len(tracks):
            name = Path(container.name).name
            raise Unusable(f"{name} has {len(tracks)} sound tracks, not {options.audio_track}")
        stream = tracks[options.audio_track - 1]
    if not isinstance(stream, AudioStream) or stream.codec_context is None:
        return None
    steady = any(name in container.format.name for name in _STEADY)
    notes = () if len(tracks) == 1 else (f"1 of {len(tracks)} sound tracks kept",)
    plan = _plan_for(stream, options, target, steady=steady)
    return msgspec.structs.replace(plan, marks=marks_of(stream), notes=notes + plan.notes)


def _plan_for(stream: AudioStream, options: VideoConvertOptions, target: Target, *, steady: bool) -> SoundPlan:
    codec = stream.codec_context.codec.canonical_name
    fits = codec in target.container.copied
    if options.audio_codec == "copy" and not fits:
        raise Unusable(f"sound of {codec} cannot be copied into {target.container.format}: leave audio_codec at auto")
    untouched = options.audio_encoder == "usual" and options.audio_bitrate is None and options.audio_channels == "auto"
    free = options.audio_codec == "auto" and untouched
    if options.audio_codec == "copy" or (free and fits and steady):
        return SoundPlan(stream=stream.index, copy=True, codec=codec)
    channels = max(1, stream.codec_context.channels)
    most = {"auto": _MOST[target.audio_codec], "stereo": 2, "mono": 1}[options.audio_channels]
    kept = max(count for count in _LAYOUTS if count <= min(channels, most))
    notes = () if kept == channels else (f"{channels} sound channels became {kept}",)
    return SoundPlan(
        stream=stream.index,
        copy=False,
        codec=target.audio_codec,
        encoder=target.audio_encoder,
        layout=_LAYOUTS[kept],
        bitrate=options.audio_bitrate or _CHANNEL_BITRATE * kept,
        notes=notes,
    )
