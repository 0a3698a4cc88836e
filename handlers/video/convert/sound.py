"""The sound of a video: the chosen tracks, and whether each is copied or encoded.

A track is converted once and in one piece: encoded per segment, it would click at every join.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import av
import msgspec
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.container import InputContainer, OutputContainer

from ....events.counted import counted
from ...contract import Unusable
from ...media.bitrates import held_bitrate
from ...media.loudness import (
    LEVEL_TAGS,
    NOT_MEASURED,
    Loudness,
    begin_of,
    first_level,
    level_notes,
    measured,
    settle_level,
)
from ...media.samples import Finite, has_steady_times
from ...media.sound_shape import Cut, Gain, Shape, rearranged, shaped
from ...pieces import seal
from ..opening import (
    decoded,
    is_input_fault,
    lasting,
    left_out_note,
    of_shown_program,
    open_as_template,
    open_input,
    packets_of,
    seek,
    write_packet,
)
from .checkpoint import AudioTrack, SoundLevel
from .metadata import OTHER_PROGRAM, TrackMetadata, track_metadata
from .options import Target, VideoConvertOptions
from .sound_times import SoundSynchronizer, part_of

_IN_MP4 = ("aac", "opus", "mp3", "ac3", "eac3", "flac", "alac")
_LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 5: "5.0", 6: "5.1", 8: "7.1"}
"""Number of channels → the layout that the aac and opus encoders support."""
_MEANT = ("mono", "stereo", "2.1", "4.0", "5.0", "5.1", "6.1", "7.1", *(f"{count} channels" for count in range(1, 65)))
"""What players take for the channels where a file says only their number, as a mkv does of uncompressed sound."""
_MOST = {"aac": 8, "opus": 8, "mp3": 2}
_SHORT = ("truehd",)
"""Codecs whose packets are shorter than a millisecond, so that several may have the same time in Matroska."""
_SILENT = {"pcm_u8": 0x80, "pcm_alaw": 0xD5, "pcm_mulaw": 0xFF}
"""The byte of silence, where it is not zero."""
_CHANNEL_BITRATE = 64_000


class SoundPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A chosen track, and how it is converted."""

    stream: int
    """Number of the stream in the file."""
    called: str
    """Its name in notes."""
    copy: bool
    codec: str
    """The codec in the result."""
    encoder: str = ""
    """FFmpeg's name of the encoder; empty if the sound is copied."""
    layout: str = ""
    bitrate: int = 0
    metadata: TrackMetadata = TrackMetadata()
    notes: tuple[str, ...] = ()
    loudness: float | None = None
    """Requested LUFS."""
    true_peak: float = 0.0
    """dBTP."""
    steady: bool = True
    """Whether the container's times are reliable."""
    counted: bool = False
    """Whether it is pcm copied into a mov, which counts samples instead of keeping the times of packets."""

    @property
    def file(self) -> str:
        """Name of the file that is made. MP4 and MOV have the finer clock but do not hold every codec, or its times."""
        suffix = "mp4" if self.codec in _IN_MP4 else "mov" if self.counted else "mka"
        return f"sound-{self.stream}.{suffix}"


class Sounds(NamedTuple):
    """The sound tracks that are kept, and notes about the others."""

    kept: tuple[SoundPlan, ...] = ()
    notes: tuple[str, ...] = ()


def choose_sounds(container: InputContainer, options: VideoConvertOptions, target: Target) -> Sounds:
    """Plan each wanted sound track. Raises Unusable if it does not exist, or cannot be copied."""
    tracks = container.streams.audio
    if not tracks:
        asked = [name for name in ("audio_track", "loudness") if getattr(options, name) is not None]
        return Sounds(notes=tuple(f"{name} changes nothing: there is no sound" for name in asked))
    if not target.audio_codec:
        return Sounds(notes=(_dropped("sound", "as asked"),))
    if options.audio_track is not None and options.audio_track > len(tracks):
        name = Path(container.name).name
        raise Unusable(f"{name} has {counted(len(tracks), 'sound track')}, not {options.audio_track}")
    steady = has_steady_times(container)  # otherwise sound is copied only if the options require it
    kept: list[SoundPlan] = []
    notes: list[str] = []
    wanted = of_shown_program(container, tracks) if options.audio_track is None else tracks
    if others := len(tracks) - len(wanted):
        notes.append(_dropped(counted(others, "sound track"), OTHER_PROGRAM))
    for number, stream in enumerate(tracks, start=1):
        called = "sound" if len(tracks) == 1 else f"sound track {number}"
        if options.audio_track not in (None, number) or stream not in wanted:
            continue
        if stream.codec_context is None:
            notes.append(_dropped(called, "unknown codec"))
            continue
        plan = _plan_for(stream, called, options, target, steady=steady)
        metadata = track_metadata(stream, options.metadata)
        stale = [name for name in metadata.tags if plan.loudness is not None and name.startswith(LEVEL_TAGS)]
        if stale:
            metadata = metadata._replace(
                tags={name: value for name, value in metadata.tags.items() if name not in stale}
            )
            notes.append(f"tags of the old loudness of {called} are left out: {', '.join(stale)}")
        kept.append(msgspec.structs.replace(plan, steady=steady, metadata=metadata))
    if options.audio_track is not None and len(tracks) > 1:
        notes.insert(0, f"1 of {len(tracks)} sound tracks kept, as asked")
    return Sounds(tuple(kept), tuple(notes))


def _dropped(called: str, why: str) -> str:
    return f"{called} dropped: {why}"


def _plan_for(
    stream: AudioStream, called: str, options: VideoConvertOptions, target: Target, *, steady: bool
) -> SoundPlan:
    codec, layout = stream.codec_context.codec.canonical_name, stream.codec_context.layout.name
    fits = codec in target.container.copied
    if options.audio_codec == "copy" and not fits:
        raise Unusable(
            f"{called} of {codec} cannot be copied into {target.container.format}: leave audio_codec at auto"
        )
    untouched = options.audio_encoder == "usual" and options.audio_bitrate is None and options.audio_channels == "auto"
    free = options.audio_codec == "auto" and untouched and options.loudness is None
    large = codec.startswith(("pcm_", "truehd"))
    fits = fits and (options.target_size is None or not large)  # it would fill most of a small file
    if options.audio_codec == "copy" or (free and fits and steady):
        pcm, timed = codec.startswith("pcm_"), target.container.format == "matroska"
        unsaid = pcm and timed and layout not in _MEANT
        notes = [f"mkv does not say which channels {called} has: {layout}"] if unsaid else []
        counts = pcm and not timed
        return SoundPlan(stream=stream.index, called=called, copy=True, codec=codec, notes=tuple(notes), counted=counts)
    channels = max(1, stream.codec_context.channels)
    wanted = {"auto": min(channels, _MOST[target.audio_codec]), "stereo": 2, "mono": 1}[options.audio_channels]
    kept = max(count for count in _LAYOUTS if count <= wanted)
    notes = [f"{called} of {codec} became {target.audio_codec}"] if options.audio_codec == "auto" and not fits else []
    notes += [f"{channels} channels of {called} became {kept}"] if kept < channels else []
    notes += [f"{called}: {note}" for note in rearranged(layout, _LAYOUTS[kept])]
    rate = _rate(target.audio_codec, stream.codec_context.sample_rate)
    if rate < stream.codec_context.sample_rate:
        notes.append(f"{stream.codec_context.sample_rate} samples a second of {called} became {rate}")
    if free and fits:
        notes.append(f"{called} was encoded: such a file has no exact times of sound; audio_codec copy copies it")
    bitrate = held_bitrate(target.audio_codec, options.audio_bitrate or _CHANNEL_BITRATE * kept, kept, rate)
    notes += [f"{called}: {note}" for note in bitrate.notes if options.audio_bitrate]
    return SoundPlan(
        stream=stream.index,
        called=called,
        copy=False,
        codec=target.audio_codec,
        encoder=target.audio_encoder,
        layout=_LAYOUTS[kept],
        bitrate=bitrate.held,
        loudness=options.loudness,
        true_peak=options.true_peak,
        notes=tuple(notes),
    )


class Sink(Protocol):
    """An encoder that takes the frames of one track."""

    def track(self, rate: int) -> AudioStream:
        """Add the track, with `rate` samples per second. Frames must come in its format."""

    def push(self, track: AudioStream, frame: AudioFrame | None) -> None:
        """Take the next frame; None after the last."""


class SoundBackend(Protocol):
    """The encoder of the sound."""

    def sound_sink(self, part: Path, plan: SoundPlan, tick: Callable[[float], None]) -> AbstractContextManager[Sink]:
        """Make an encoder. The file `part` is complete when the context is left without an error."""


def open_part(part: Path, plan: SoundPlan) -> OutputContainer:
    """Create the file for the track."""
    kind = {".mp4": "mp4", ".mov": "mov"}.get(Path(plan.file).suffix, "matroska")
    return av.open(str(part), "w", format=kind, options={"fflags": "+bitexact"})


_RATES = {"aac": (48000, 44100, 32000, 24000, 22050, 16000), "mp3": (48000, 44100, 32000), "opus": (48000,)}


class SoundRange(NamedTuple):
    """The wanted part of the sound, in seconds on the source's clock; None: from its start, to its end."""

    start: Fraction | None = None
    end: Fraction | None = None

    def holds(self, moment: Fraction) -> bool:
        """Whether sound that begins then is wanted."""
        return (self.start is None or moment >= self.start) and (self.end is None or moment < self.end)


_LEAD = 1
"""Seconds read before the wanted part: decoders need them to settle."""


class _Made(NamedTuple):
    """The facts about a written track."""

    begin: float
    """Its beginning, in seconds on the source's clock."""
    samples: int
    """Samples, or packets if they were copied."""
    notes: tuple[str, ...] = ()
    """Notes on what cannot be decoded, and how it was kept in step and its samples finite."""


def convert_sound(
    path: Path, plan: SoundPlan, span: SoundRange, folder: Path, backend: SoundBackend, tick: Callable[[float], None]
) -> AudioTrack | None:
    """Copy or encode one sound track of `path` into `folder`; None if it turns out to be empty.

    Encoded sound is cut exactly to the sample, copied sound to the packet, about 20 ms. `tick` is called with the
    position in seconds; it may raise.
    """
    final = folder / plan.file
    part = final.with_suffix(".part")
    level: SoundLevel | None = None
    try:
        if plan.copy:
            with _opened(path, plan, span) as (container, stream):
                made = _copied(path, container, stream, plan, span, part, tick)
        elif plan.loudness is None:
            made = _encoded(path, plan, span, backend, part, tick)
        else:
            made, level = _levelled(path, plan, plan.loudness, span, backend, part, tick)
    except BaseException:  # whatever the error, half a track must not pass for a whole one
        part.unlink(missing_ok=True)
        raise
    if made is None:
        part.unlink(missing_ok=True)
        return None
    size, digest = seal(part, final)
    return AudioTrack(
        stream=plan.stream,
        name=plan.file,
        start=made.begin,
        samples=made.samples,
        size=size,
        sha256=digest,
        level=level,
        notes=made.notes,
    )


@contextmanager
def _opened(path: Path, plan: SoundPlan, span: SoundRange) -> Iterator[tuple[InputContainer, AudioStream]]:
    """Open the source's track, a little before the wanted part."""
    with open_input(path) as container:
        stream = container.streams[plan.stream]
        assert isinstance(stream, AudioStream)
        if span.start is not None and plan.steady and stream.time_base:
            seek(container, stream, max(stream.start_time or 0, int((span.start - _LEAD) / stream.time_base)))
        yield container, stream


def _copied(
    path: Path,
    container: InputContainer,
    stream: AudioStream,
    plan: SoundPlan,
    span: SoundRange,
    part: Path,
    tick: Callable[[float], None],
) -> _Made | None:
    """Copy the packets; None if there are none.

    Packets before the stated start are kept with negative times: decoders need them and players skip them. Packets that
    the source's edit list hides are left out: in an mp4 those after the first shown packet, in a mka all.
    """
    assert stream.time_base
    count, last, unit = 0, None, float(stream.time_base)
    shown = plan.codec not in _IN_MP4
    begin = stream.start_time if span.start is None else None
    packets, in_step = lasting(packets_of(container, stream)), SoundSynchronizer(container, span, tick)
    if plan.counted:
        bits = "".join(filter(str.isdigit, plan.codec)) or 8  # A-law and mu-law do not say that they have 8
        width = int(bits) // 8 * stream.codec_context.channels
        silent = _SILENT.get(plan.codec, 0)
        packets = in_step.packets(packets, stream.codec_context.sample_rate, width, silent)
    with open_as_template(path) as model, open_part(part, plan) as output:
        track: Any = output.add_stream_from_template(model.streams[plan.stream], opaque=True)
        for packet in packets:
            if packet.pts is None or (last is not None and packet.pts < last) or (shown and packet.is_discard):
                continue
            if packet.pts == last and plan.codec not in _SHORT:
                continue
            shown = shown or not packet.is_discard
            moment = packet.pts * stream.time_base
            if span.start is not None and moment < span.start:
                tick(float(moment))
                continue
            if span.end is not None and moment >= span.end:
                break
            begin = packet.pts if begin is None else begin
            last = packet.pts
            tick(packet.pts * unit)
            packet.pts -= begin
            packet.dts = packet.pts
            packet.stream = track
            count += write_packet(output, packet)
        if not count:
            return None
    return _Made(float((begin or 0) * stream.time_base), count, in_step.notes(plan.called))


def _encoded(
    path: Path,
    plan: SoundPlan,
    span: SoundRange,
    backend: SoundBackend,
    part: Path,
    tick: Callable[[float], None],
    level: Gain | None = None,
) -> _Made | None:
    """Decode and encode the sound, at another level if one is given; None if there are no samples.

    Moments are counted in samples. If the container's times are reliable, samples are made to agree with them.
    """
    with _opened(path, plan, span) as (container, stream):
        finite, refused = Finite(), list[Fraction | None]()
        frames = finite.frames(_decode(container, stream, refused.append))
        first = next(frames, None)
        if first is None:
            return None
        samples, in_step = 0, SoundSynchronizer(container, span, tick)
        with backend.sound_sink(part, plan, tick) as output:
            track = output.track(_rate(plan.codec, first.sample_rate))
            place = _place(first, span, track.sample_rate)
            made = _ticking(chain([first], frames), tick)
            made = in_step.frames(made) if plan.steady else made
            if level is None:
                made = _resampled(made, track)
            else:
                made = shaped(made, Shape(track.format.name, plan.layout, track.sample_rate), Cut(), level)
            for frame in _part_of(made, place.skipped, place.kept):
                frame.pts = samples
                frame.time_base = Fraction(1, track.sample_rate)
                samples += frame.samples
                output.push(track, frame)
            output.push(track, None)
    left_out = sum(moment is None or span.holds(moment) for moment in refused)
    notes = *finite.notes(plan.called), *in_step.notes(plan.called)
    if left_out:
        notes = left_out_note(left_out, plan.called), *notes
    return _Made(float(place.begin), samples, notes) if samples else None


class _Place(NamedTuple):
    """The place of the wanted part in a track's samples."""

    begin: Fraction
    """Seconds on the source's clock."""
    skipped: int
    kept: int | None
    """None: all up to the end."""


def _place(first: AudioFrame, span: SoundRange, rate: int) -> _Place:
    begin = Fraction(first.time or 0.0).limit_denominator(1_000_000)
    skipped = 0 if span.start is None else max(0, round((span.start - begin) * rate))
    begin += Fraction(skipped, rate)
    return _Place(begin, skipped, None if span.end is None else max(0, round((span.end - begin) * rate)))


def _ticking(frames: Iterable[AudioFrame], tick: Callable[[float], None]) -> Iterator[AudioFrame]:
    for frame in frames:
        tick(frame.time or 0.0)
        yield frame


# --- Loudness ---


class _Laps:
    """Makes one progress of several passes: it runs once from the beginning of the sound to its end."""

    def __init__(self, tick: Callable[[float], None]) -> None:
        self._tick = tick
        self._begin: float | None = None
        self._end = 0.0

    def lap(self, share: float, until: float) -> Callable[[float], None]:
        """A `tick` for the part of the work from one share to another, 0 to 1."""

        def tick(seconds: float) -> None:
            self._begin = seconds if self._begin is None else self._begin
            self._end = max(self._end, seconds)
            done = (seconds - self._begin) * (until - share) + (self._end - self._begin) * share
            self._tick(self._begin + done)

        return tick


def _levelled(
    path: Path,
    plan: SoundPlan,
    target: float,
    span: SoundRange,
    backend: SoundBackend,
    part: Path,
    tick: Callable[[float], None],
) -> tuple[_Made | None, SoundLevel | None]:
    """Encode at the requested loudness: measure, encode, and measure the decoded result, until it is near enough."""
    laps = _Laps(tick)
    before = _measured_source(path, plan, span, laps.lap(0.0, begin_of(0) / 100))
    if before.integrated is None:
        made = _encoded(path, plan, span, backend, part, laps.lap(begin_of(0) / 100, 1.0))
        notes = (f"{plan.called} {NOT_MEASURED}",)
        return made, SoundLevel(before=before.fields(), after=before.fields(), gain=0.0, notes=notes)
    made = None

    def attempt(level: Gain, tries: int) -> Loudness:
        nonlocal made
        part.unlink(missing_ok=True)
        share, until = begin_of(tries) / 100, begin_of(tries + 1) / 100
        middle = (share + until) / 2
        made = _encoded(path, plan, span, backend, part, laps.lap(share, middle), level)
        return _measured_result(part, laps.lap(middle, until))

    settled = settle_level(first_level(before, target, plan.true_peak), 0, target, plan.true_peak, attempt)
    return made, SoundLevel(
        before=before.fields(),
        after=settled.after.fields(),
        gain=settled.gain,
        notes=tuple(f"{plan.called}: {note}" for note in level_notes(settled, before, target, plan.true_peak)),
    )


def _measured_source(path: Path, plan: SoundPlan, span: SoundRange, tick: Callable[[float], None]) -> Loudness:
    """The loudness of the wanted part, in the channels and at the rate that the result will have."""
    with _opened(path, plan, span) as (container, stream):
        frames = Finite().frames(_decode(container, stream))
        first = next(frames, None)
        if first is None:
            return measured([])
        rate = _rate(plan.codec, first.sample_rate)
        place = _place(first, span, rate)
        made = _ticking(chain([first], frames), tick)
        made = SoundSynchronizer(container, span, tick).frames(made) if plan.steady else made
        made = shaped(made, Shape("dbl", plan.layout, rate), Cut())
        return measured(_part_of(made, place.skipped, place.kept))


def _measured_result(part: Path, tick: Callable[[float], None]) -> Loudness:
    with av.open(str(part)) as container:
        stream = container.streams.audio[0]
        frames = _ticking(_decode(container, stream), tick)
        return measured(shaped(frames, Shape("dbl", stream.codec_context.layout.name, stream.sample_rate), Cut()))


# --- Samples ---


def _part_of(frames: Iterator[AudioFrame], skipped: int, kept: int | None) -> Iterator[AudioFrame]:
    """Skip the first samples, and yield at most `kept` of the rest."""
    for frame in frames:
        first, last = min(skipped, frame.samples), frame.samples
        skipped -= first
        if kept is not None:
            last = min(last, first + kept)
            kept -= last - first
        if last > first:
            yield part_of(frame, first, last)
        if kept == 0:
            return


def _decode(
    container: InputContainer, stream: AudioStream, refused: Callable[[Fraction | None], object] = lambda _moment: None
) -> Iterator[AudioFrame]:
    """Decode what can be decoded. A bad packet costs only its own piece of sound.

    `refused` is called with the moment of each such packet, in seconds on the source's clock, if it has one.
    """
    for packet in chain(packets_of(container, stream), [None]):
        try:
            frames = decoded(stream.decode, packet)
        except av.error.FFmpegError as error:
            if not is_input_fault(error):
                raise
            if packet is not None:
                refused(packet.pts * packet.time_base if packet.pts is not None and packet.time_base else None)
            continue
        yield from (frame for frame in frames if frame.samples and frame.sample_rate)


def _resampled(frames: Iterable[AudioFrame], stream: AudioStream) -> Iterator[AudioFrame]:
    """Frames in the encoder's format. If the source changes its format midway, a new resampler takes over."""
    resampler: AudioResampler | None = None
    kind: tuple[str, str, int] | None = None
    for frame in frames:
        frame.pts = None
        current = (frame.format.name, frame.layout.name, frame.sample_rate)
        if resampler is None or current != kind:
            if resampler is not None:
                yield from resampler.resample(None)
            resampler = AudioResampler(stream.format, stream.layout, stream.sample_rate)
            kind = current
        yield from resampler.resample(frame)
    if resampler is not None:
        yield from resampler.resample(None)


def _rate(codec: str, wanted: int) -> int:
    """The source's own rate if the codec supports it; otherwise its best rate."""
    return wanted if wanted in _RATES[codec] else _RATES[codec][0]
