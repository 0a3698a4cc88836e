"""The sound of a file: the formats that are opened, the chosen track, the facts about it, and its decoded frames."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from io import SEEK_CUR
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import av
import msgspec
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.codec.codec import Properties
from av.container import InputContainer
from av.stream import Disposition

from ....events.counted import counted, plural
from ...contract import Unusable
from ...media.damage import are_missing, lacking_bytes
from ...media.samples import Finite, has_steady_times
from ...video.convert.metadata import PROGRAM_NOTE
from ...video.opening import (
    FILM_FORMATS,
    as_fraction,
    decoded,
    is_input_fault,
    left_out_note,
    open_confined,
    packets_of,
)
from .estimate import SoundInfo

_FORMATS = f"{FILM_FORMATS},mp3,aac,flac,wav,w64,aiff,caf,ac3,eac3,dts,amr,ape,wv,tta,au"
"""The formats that are opened. Playlists are excluded: they could name other files on this machine."""
_READ = (
    "mp3, m4a, aac, ogg, opus, flac, wav, aiff, wma, amr, ac3, dts, ape, wv, "
    "mp4, mov, mkv, webm, avi, wmv, ts, mpg, mxf, dv, flv"
)
"""The same formats, under the names that people use."""
_SAVE = "get it whole, or save what is there with `ffmpeg -i IN -vn -c copy OUT.mka`, and take that"
MAX_CHANNELS = 64
MIN_RATE, MAX_RATE = 1_000, 768_000
"""Samples per second. At a lower rate, a small file would be days of sound."""
_STATES_LENGTH = ("mov", "flac", "wav", "w64", "aiff", "caf", "wv", "tta", "ape", "au")
"""Formats whose headers give the exact duration, as some mp3 do. Others guess, or give the film's duration."""
_ID3, _ID3_FOOTER = 10, 0x10
"""Bytes of the header of a tag at the start of an mp3, and its flag for a footer of the same length."""
_LAYER_3 = 64
"""Bytes of an mp3's first frame that are read."""
_PADDING = 4 * 1152
"""Samples that mp3 encoders add around the sound, at most."""
_SLACK = 0.25
"""Seconds by which a header may be off."""
GAP = 0.05
"""Seconds by which the time of a frame or packet may be off."""
_ENDLESS = 0x7FFFF000
"""Bytes. A wav that states this size or more states no real size."""
_FEW_BAD = 50
_WHOLE = 24
"""Bits that FFmpeg's encoders keep of a 32-bit sample."""


class SoundSource(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that the headers give about the chosen track."""

    path: Path
    index: int
    """Number of the stream in the file."""
    container: str
    codec: str
    """FFmpeg's name of the codec."""
    rate: int
    channels: int
    layout: str
    seconds: float
    """The duration by the header; 0: unknown."""
    stated: bool
    """Whether that duration is reliable."""
    begin: Fraction
    """When the track begins on the file's clock, in seconds; chapters count from there."""
    bits: int
    """Bits per sample that lossless encoders can keep: 16 or 24."""
    floating: bool
    """Whether the file stores its samples as floating-point numbers."""
    bitrate: int
    """Bits per second; 0: unknown."""
    pictures: int
    """Number of pictures that the file carries."""
    lacking: int = 0
    """Bytes missing at the end, at least, by what the container states."""
    notes: tuple[str, ...] = ()
    """Notes on other content of the file, which is left out."""

    def info(self) -> SoundInfo:
        """The facts that the estimate needs."""
        return SoundInfo(
            duration=self.seconds,
            rate=self.rate,
            channels=self.channels,
            bits=32 if self.floating else self.bits,
            codec=self.codec,
            bitrate=self.bitrate,
            carries=self.pictures > 0,
        )


@contextmanager
def open_sound(path: Path) -> Iterator[InputContainer]:
    """Open a file that may contain sound, without access to other files.

    Raises:
        Unusable: it is empty, or has none of the formats that are opened.
        OSError: it cannot be read.
    """
    others = "`ffmpeg -i IN OUT.flac` makes a flac of most others"
    refusal = f"{path.name} is no file with sound in a format that is read here ({_READ}; {others})"
    with open_confined(path, _FORMATS, refusal) as container:
        yield container


def read_sound(path: Path, track: int | None) -> SoundSource:
    """Choose the track, and read its facts from the headers.

    Raises:
        Unusable: there is no such track, or its sound cannot be decoded.
        OSError: the file cannot be read.
    """
    with open_sound(path) as container:
        stream = _choose(container, path.name, track)
        context = stream.codec_context
        rate, channels = context.sample_rate, context.layout.nb_channels
        if not (MIN_RATE <= rate <= MAX_RATE and 0 < channels <= MAX_CHANNELS):
            raise Unusable(
                f"{path.name}: its sound has {counted(channels, 'channel')} of {rate} samples a second; "
                f"up to {MAX_CHANNELS} channels and {MIN_RATE} to {MAX_RATE} samples are read"
            )
        lossless = bool(
            Properties(context.codec.properties) & Properties.LOSSLESS
        ) or stream.codec_context.name.startswith("pcm_")
        kind = context.format.name.rstrip("p") if context.format is not None else "flt"
        return SoundSource(
            path=path,
            index=stream.index,
            container=container.format.name,
            codec=context.codec.canonical_name,
            rate=rate,
            channels=channels,
            layout=context.layout.name,
            seconds=_seconds(container, stream),
            stated=_states_length(container, stream, path),
            # For FFmpeg, an mp3 begins after the encoder's padding; its chapters count from zero.
            begin=as_fraction(stream.time_base) * (0 if container.format.name == "mp3" else stream.start_time or 0),
            bits=_WHOLE if lossless and kind not in ("u8", "s16") else 16,
            floating=lossless and kind in ("flt", "dbl"),
            bitrate=context.bit_rate or 0,
            pictures=sum(bool(each.disposition & Disposition.attached_pic) for each in container.streams.video),
            lacking=_lacking(path),
            notes=_left_out(container, stream),
        )


def _choose(container: InputContainer, name: str, track: int | None) -> AudioStream:
    tracks = container.streams.audio
    if not tracks:
        raise Unusable(f"{name} has no sound")
    if track is not None and track > len(tracks):
        raise Unusable(f"{name} has {counted(len(tracks), 'sound track')}, not {track}")
    stream = container.streams.best("audio") if track is None else tracks[track - 1]
    if not isinstance(stream, AudioStream):  # FFmpeg knows none of their codecs
        stream = tracks[0]
    if stream.codec_context is None or not stream.time_base:
        raise Unusable(f"{name}: the codec of its sound is not known here")
    return stream


def _lacking(path: Path) -> int:
    """Bytes missing at the end. Raises Unusable if that is more than a quarter of the file."""
    size, missing = path.stat().st_size, lacking_bytes(path)
    if size + missing >= _ENDLESS:  # a program that writes into a pipe cannot know the size
        return 0
    if missing > size / 3:
        raise Unusable(f"{path.name} was cut: {are_missing(missing)} at its end: {_SAVE}")
    return missing


def _states_length(container: InputContainer, stream: AudioStream, path: Path) -> bool:
    if not stream.duration:
        return False
    if container.format.name != "mp3":
        return any(name in container.format.name.split(",") for name in _STATES_LENGTH)
    with path.open("rb") as file:
        stated = _samples_by_first_frame(file)
    # FFmpeg excludes the encoder's padding, and guesses if the file is longer than its first frame states.
    return stated > 0 and abs(stated - _seconds(container, stream) * stream.codec_context.sample_rate) < _PADDING


def _samples_by_first_frame(file: BinaryIO) -> int:
    """The number of samples that an mp3's first frame states; most encoders add such a frame. 0: this one has none."""
    head = file.read(_ID3)
    while head.startswith(b"ID3") and len(head) == _ID3:
        length = sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))
        file.seek(length + (_ID3 if head[5] & _ID3_FOOTER else 0), SEEK_CUR)
        head = file.read(_ID3)
    frame = head + file.read(_LAYER_3)
    if len(frame) < _LAYER_3 or frame[0] != 0xFF or frame[1] & 0xE6 != 0xE2:  # noqa: PLR2004 - its mark, and layer III
        return 0
    version_1, mono = frame[1] & 0x18 == 0x18, frame[3] >> 6 == 3  # noqa: PLR2004 - by the bits of the header
    count = frame[4 + ((17 if mono else 32) if version_1 else (9 if mono else 17)) :]
    if count[:4] not in (b"Xing", b"Info") or not count[7] & 1:
        return 0
    return int.from_bytes(count[8:12], "big") * (1152 if version_1 else 576)


def _seconds(container: InputContainer, stream: AudioStream) -> float:
    if stream.duration:
        return float(stream.duration * as_fraction(stream.time_base))
    duration = container.duration or 0
    if "matroska" in container.format.name:  # it gives the time of the end, and its times may begin anywhere
        duration = max(0, duration - max(0, container.start_time or 0))
    return duration / av.time_base


def _left_out(container: InputContainer, kept: AudioStream) -> tuple[str, ...]:
    notes = []
    tracks = container.streams.audio
    if len(tracks) > 1:
        number = next(number for number, track in enumerate(tracks, 1) if track.index == kept.index)
        notes.append(f"sound track {number} of {len(tracks)} kept")
    if any(not stream.disposition & Disposition.attached_pic for stream in container.streams.video):
        notes.append("the moving picture is left out")
    kinds = ("subtitle", "attachment") if container.chapters() else ("subtitle", "attachment", "data")
    if others := sum(stream.type in kinds for stream in container.streams):  # an mp4 also stores its chapters as data
        notes.append(f"{counted(others, 'track')} of subtitles or data {plural(others, 'is', 'are')} left out")
    if container.format.name == "mpegts":
        notes.append(PROGRAM_NOTE)
    return tuple(notes)


class Decoding:
    """Decodes the frames of a track, and notes what went wrong.

    `tick` is called with the number of decoded seconds; it may raise.
    """

    def __init__(self, source: SoundSource, tick: Callable[[float], None]) -> None:
        self._source = source
        self._tick = tick
        self.seconds = 0.0
        """Seconds decoded so far."""
        self.good = 0
        self.bad = 0
        """Packets that cannot be decoded."""
        self._finite = Finite()
        self._closed = 0.0
        """Seconds of the gaps between frames, which the result does not have."""

    def frames(self) -> Iterator[AudioFrame]:
        """Yield the frames that can be decoded. A bad packet costs only its own piece of sound."""
        with open_sound(self._source.path) as container:
            stream: Any = container.streams[self._source.index]
            steady = has_steady_times(container)
            ends = float(self._source.begin) + self._source.seconds
            due: float | None = None
            for packet in chain(packets_of(container, stream), [None]):
                try:
                    frames = decoded(stream.decode, packet)
                except av.error.FFmpegError as error:
                    if not is_input_fault(error):
                        raise
                    self.bad += packet is not None
                    due = None  # its own gap is told as a lost packet
                    continue
                self.good += 1
                for frame in self._finite.frames(frames):
                    if not frame.samples or not frame.sample_rate:
                        continue
                    self._tick(self.seconds)
                    moment, length = frame.time if steady else None, frame.samples / frame.sample_rate
                    if moment is not None and due is not None and due + GAP < moment < ends:
                        self._closed += moment - due
                    # A frame that comes too early catches up with late ones: it does not step back.
                    due = None if moment is None else (moment if due is None else max(due, moment)) + length
                    yield frame
                    self.seconds += length

    def notes(self, *, to_the_end: bool) -> list[str]:
        """Notes on what was lost of the source. Raises Unusable if it is too much.

        Args:
            to_the_end: whether the track was read to its end.
        """
        name, notes = self._source.path.name, []
        if not self.seconds:
            raise Unusable(
                f"{name}: " + ("its sound cannot be decoded" if self.bad else "there is no sound in its track")
            )
        if self.bad > max(_FEW_BAD, (self.good + self.bad) / 4):
            raise Unusable(f"{name} is damaged: {self.bad:,} of {self.good + self.bad:,} packets cannot be decoded")
        if to_the_end:
            notes += cut_sound_notes(self._source, self.seconds, self.bad * _SLACK)
        if self.bad:
            notes.append(left_out_note(self.bad, "sound"))
        notes += closed_notes(self._closed)
        notes += self._finite.notes("sound")
        return notes


def closed_notes(seconds: float) -> list[str]:
    """A note if gaps of this many seconds are closed, because the result counts samples instead of keeping times."""
    if not seconds:
        return []
    return [f"gaps of {seconds:.2f} s in the sound are closed: what follows is heard so much earlier"]


def cut_sound_notes(source: SoundSource, seconds: float, lost: float = 0.0) -> list[str]:
    """A note if the file ends earlier than its header states. Raises Unusable if too much is missing.

    Args:
        source: the track.
        seconds: how much of it there is.
        lost: seconds that are missing because they cannot be decoded.
    """
    if source.stated and seconds < source.seconds - max(_SLACK, lost):
        detail = f"it ends after {seconds:.1f} s of {source.seconds:.1f} s"
        if seconds < source.seconds * 3 / 4:
            raise Unusable(f"{source.path.name} was cut: {detail}: {_SAVE}")
        return [f"the source was cut: {detail}"]
    if source.lacking:
        return [f"the source was cut: {are_missing(source.lacking)} at its end"]
    return []
