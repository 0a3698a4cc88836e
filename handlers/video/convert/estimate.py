"""Estimates the needs of a conversion. No media library here: the service imports this."""

from math import ceil, pow, prod, sqrt  # noqa: A004 - always a float, where the operator may be complex
from typing import Any

import msgspec

from ...contract import Estimate, Job
from ..estimate import ASSUMED, BASE_MEMORY, MEMORY_MARGIN, TrackInfo, VideoInfo, reading_memory, tone_memory
from .options import USUAL_CRF, VideoConvertOptions, choose_target, parse_numbers, segment_length
from .quality import USUAL_TRIES, quality_of, sampling_of
from .size import SAMPLED_TRIES, USUAL_PASSES

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
"""Pixels per second that libx264 encodes on two cores."""

_SLOWEST = dict.fromkeys(("slow", "slower", "veryslow"), 220)
_FRAMES_HELD = {
    "ultrafast": 40,
    "superfast": 90,
    "veryfast": 130,
    "faster": 150,
    "fast": 165,
    "medium": 180,
    **_SLOWEST,
}
"""Frames in memory at the peak, in the encoder and on the way to it."""
_FRAMES_HELD_EACH = {
    "ultrafast": 16,
    "superfast": 33,
    "veryfast": 48,
    "faster": 75,
    "fast": 90,
    "medium": 112,
    "slow": 145,
    "slower": 166,
    "veryslow": 255,
}
"""The same for libx264 on one thread; the other encoders hold no fewer then."""
_MOST_AT_ONCE = 64
_INDEXED, _LISTED = 110, 40
"""Bytes per packet of a result that is being written: in a container with an index of all packets, and in others."""
_SOUND_PACKETS = 50
"""Packets of sound per second."""
_ROOM = 30
"""Frames that an encoder reserves memory for, even if fewer come."""
_SOURCE_FRAMES, _SOURCE_FRAMES_EACH = 12, 6
_DEINTERLACER_HOLDS = 4
_JUDGE_BYTES = {"vmaf": 120, "xpsnr": 20, "ssim": 20}
"""Bytes per pixel of a frame that a comparison holds. VMAF's are the program's."""
_JUDGED_LEAST = 1920 * 1080
"""Pixels that smaller pictures are enlarged to for VMAF."""

_SLOWER_THAN_H264 = {"h264": 1.0, "h265": 3.0, "vp9": 3.0, "av1": 3.0}
_MORE_THAN_H264 = {"h264": 1.0, "h265": 0.8, "vp9": 0.75, "av1": 1.3}
"""Frames that an encoder holds, as a multiple of libx264's at the same preset."""
_ENCODER_BASE = {"h265": 35e6, "vp9": 15e6, "av1": 15e6}
"""Bytes that do not depend on the picture's size."""
_MAPPED = 85e6
"""Pixels per second whose tones two cores map."""
_DECODED = 500e6
_AUDIO_SPEED = 70
_COMPARED = {"vmaf": 25e6, "xpsnr": 150e6, "ssim": 500e6}
"""Pixels of frame pairs that one CPU compares per second."""
_COPIED = 150e6
"""Bytes that are read and written per second."""
_PIXEL_BYTES, _AT_PIXELS = 0.02, 300_000
"""Bytes per pixel that libx264 spends on a lively film with this many pixels; more on smaller pictures."""
_OF_THE_SOURCE = 1.2
"""Bytes as a multiple of the source's; for smaller pictures, times the square root of the share of pixels."""
_BYTES_OF_CODEC = {"h264": 1.0, "h265": 0.7, "vp9": 1.7, "av1": 1.2}
"""A multiple of libx264's bytes, at each codec's usual quality and the same preset."""
_HASTY = {"ultrafast": 2.0, "superfast": 1.4}
"""Presets that make larger files at the same quality, with the factor."""
_CONTAINERS = 100_000
"""Bytes of the indexes of the pieces and the output."""
_CHANNEL_BITRATE = 64_000


def estimate(job: Job[VideoConvertOptions]) -> Estimate:
    """Guess from the file size: full HD of 5 Mbit/s, unless the options give the size of the output."""
    return estimate_for(job, ASSUMED.of_size(job.input_size))


def estimate_for(job: Job[VideoConvertOptions], video: VideoInfo) -> Estimate:
    """Estimate from the facts about the video. A film joined from parts may have to make all of them again."""
    basis = video.basis()
    job, video = _part(job, video)
    options = job.options
    target = choose_target(options, job.output_file)
    if target.copied:
        return _copying(job, video, basis)
    codec = target.video_codec
    wanted = _output_pixels(options, video)
    encode = wanted / _SPEED[options.preset] * _SLOWER_THAN_H264[codec]
    if _is_mapped(options, video, codec):
        encode += wanted / _MAPPED
    return Estimate(
        memory=max(_memory(job, video, segments_at_once(job, video)), _joining_memory(job, video)),
        # Everything exists twice, in segments and joined.
        temp=int(2.1 * (_video_bytes(job, video, codec) + _sound_bytes(options, video) + video.beside)) + _CONTAINERS,
        seconds=0.3 + _search_time(job, video, encode) + _passes(options) * _run_time(job, video, encode),
        basis=basis,
    )


def _part(job: Job[VideoConvertOptions], video: VideoInfo) -> tuple[Job[VideoConvertOptions], VideoInfo]:
    """Reduce the job to the part between `start` and `end`; its bytes count as its share of all bytes."""
    begin = min(job.options.start or 0.0, video.duration)
    end = video.duration if job.options.end is None else min(video.duration, job.options.end)
    if end - begin >= video.duration:
        return job, video
    share = max(0.0, end - begin) / max(video.duration, 0.001)
    part = msgspec.structs.replace(video, duration=max(0.1, end - begin), beside=int(video.beside * share))
    return msgspec.structs.replace(job, input_size=int(job.input_size * share)), part


def _copying(job: Job[VideoConvertOptions], video: VideoInfo, basis: dict[str, Any]) -> Estimate:
    """Only sound is converted. The input's content is written once, the sound twice."""
    sounds = _sounds(job.options, video)
    return Estimate(
        memory=max(reading_memory(video), _joining_memory(job, video)),
        temp=int(1.02 * job.input_size + 2.1 * _sound_bytes(job.options, video)) + _CONTAINERS,
        seconds=0.3
        + (1 + len(sounds)) * job.input_size / _COPIED
        + _ways_of_sound(job.options) * len(sounds) * video.duration / _AUDIO_SPEED,
        basis=basis,
    )


def segments_at_once(job: Job[VideoConvertOptions], video: VideoInfo) -> int:
    """How many segments are encoded side by side: as many as the options say, or as there is room for."""
    pieces = pieces_of(job, video)
    if job.options.segments_at_once is not None:
        return min(job.options.segments_at_once, pieces)
    if job.options.encoder != "software":
        return 1
    wanted = max(1, min(job.room.cores, pieces, _MOST_AT_ONCE))
    if job.room.memory:
        two, three = (_memory(job, video, number) for number in (2, 3))
        wanted = max(1, min(wanted, 2 + (job.room.memory - two) // (three - two)))
    return wanted


def pieces_of(job: Job[VideoConvertOptions], video: VideoInfo) -> int:
    """About how many pieces the video can be read in: one if the places of its keyframes are unknown."""
    segments = ceil(video.duration / segment_length(job.options, video.duration))
    return max(1, min(segments, round(video.frames / video.gop))) if video.indexed else 1


def _memory(job: Job[VideoConvertOptions], video: VideoInfo, at_once: int) -> int:
    """Bytes at the peak. Side by side, each encoder and each decoder has one thread."""
    options = job.options
    codec = choose_target(options, job.output_file).video_codec
    deep = 2 if _is_deep(options, video, codec) else 1
    source = _SOURCE_FRAMES if at_once == 1 else _SOURCE_FRAMES_EACH
    frames = _FRAMES_HELD_EACH if at_once > 1 and codec == "h264" else _FRAMES_HELD
    source += _DEINTERLACER_HOLDS * (options.deinterlace == "always")
    held = min(frames[options.preset], video.frames + _ROOM)
    encoder = held * 1.5 * deep * _output_pixels(options, video) * _MORE_THAN_H264[codec]
    each = source * video.frame_bytes + _ENCODER_BASE.get(codec, 0.0) + encoder
    judge = 0.0
    if options.quality:
        judge = _judged_pixels(options, video) * _JUDGE_BYTES[quality_of(options.quality).metric]
    mapping = tone_memory(_output_pixels(options, video), at_once) if _is_mapped(options, video, codec) else 0.0
    return int(MEMORY_MARGIN * (BASE_MEMORY + at_once * (each + judge) + mapping))


def _joining_memory(job: Job[VideoConvertOptions], video: VideoInfo) -> int:
    """Bytes while all parts are written into one file, whose index is in memory. This matters in very long films."""
    indexed = choose_target(job.options, job.output_file).container.format in ("mp4", "mov")
    packets = _output_frames(job.options, video)
    packets += len(_sounds(job.options, video)) * _SOUND_PACKETS * video.duration
    return int(MEMORY_MARGIN * (BASE_MEMORY + packets * (_INDEXED if indexed else _LISTED)))


def _is_deep(options: VideoConvertOptions, video: VideoInfo, codec: str) -> bool:
    """Whether the result has ten bits."""
    kept = video.depth > 8 and codec in ("h265", "av1") and options.profile is None  # noqa: PLR2004 - more than a byte
    return kept or options.profile == "main10"


def _is_mapped(options: VideoConvertOptions, video: VideoInfo, codec: str) -> bool:
    """Whether the tones of high dynamic range are mapped."""
    return video.high_range and (options.hdr == "sdr" or not _is_deep(options, video, codec))


def _run_time(job: Job[VideoConvertOptions], video: VideoInfo, encode: float) -> float:
    """Seconds; `encode`: what a frame costs on two CPUs, because an encoder that runs alone uses both."""
    sound = _ways_of_sound(job.options) * len(_sounds(job.options, video)) * video.duration / _AUDIO_SPEED
    decode = video.pixels / _DECODED
    made = _output_frames(job.options, video)
    if pieces_of(job, video) == 1:
        return made * encode + video.frames * decode + sound
    cores = min(segments_at_once(job, video), job.room.cores)
    return (made * 2 * encode + video.frames * decode + sound) / cores


def _passes(options: VideoConvertOptions) -> int:
    """About how often the film is encoded."""
    return USUAL_PASSES if options.passes > 1 or options.target_size is not None else 1


def _search_time(job: Job[VideoConvertOptions], video: VideoInfo, encode: float) -> float:
    """Seconds to find the rate factor on samples; `encode` as for `_run_time`."""
    options = job.options
    compare = decode = 0.0
    if options.quality is not None:
        tries = USUAL_TRIES
        compare = _judged_pixels(options, video) / _COMPARED[quality_of(options.quality).metric]
        decode = video.pixels / _DECODED
    elif _passes(options) > 1:
        tries = SAMPLED_TRIES
    else:
        return 0.0
    count, seconds = sampling_of(video.duration)
    share = count * seconds / max(video.duration, 0.001)
    made, frames = _output_frames(options, video) * share, video.frames * share
    decode += video.pixels / _DECODED
    cores = max(1, min(segments_at_once(job, video), job.room.cores, count))
    return tries * (made * (2 * encode + compare) + frames * decode) / cores


def _judged_pixels(options: VideoConvertOptions, video: VideoInfo) -> float:
    """Pixels of a frame when it is compared."""
    vmaf = options.quality is not None and quality_of(options.quality).metric == "vmaf"
    return max(_output_pixels(options, video), _JUDGED_LEAST if vmaf else 0)


def _ways_of_sound(options: VideoConvertOptions) -> int:
    """How often the sound is usually read: for a loudness it is measured, and encoded and measured again, twice."""
    return 1 if options.loudness is None else 4


def _output_frames(options: VideoConvertOptions, video: VideoInfo) -> float:
    """Frames of the result."""
    return video.frames if options.frame_rate is None else max(1.0, options.frame_rate * video.duration)


def _sounds(options: VideoConvertOptions, video: VideoInfo) -> tuple[TrackInfo, ...]:
    """The sound tracks that are kept."""
    if options.audio_codec == "none":
        return ()
    if options.audio_track is not None:
        return video.sounds[options.audio_track - 1 :][:1]
    return video.sounds


def _sound_bytes(options: VideoConvertOptions, video: VideoInfo) -> float:
    """Bytes of all sound tracks. Which of them can be copied is unknown here, so the larger size counts."""
    encoded_only = options.audio_bitrate is not None or options.audio_channels != "auto" or options.loudness is not None
    bits = 0
    for sound in _sounds(options, video):
        encoded = options.audio_bitrate or _CHANNEL_BITRATE * sound.channels
        copied = sound.bitrate if options.audio_codec in ("auto", "copy") and not encoded_only else 0
        bits += max(encoded, copied)
    return video.duration * bits / 8


def _output_pixels(options: VideoConvertOptions, video: VideoInfo) -> float:
    """Pixels of an output frame."""
    if options.pad:
        return prod(parse_numbers(options.pad))
    if options.crop:
        width, height = parse_numbers(options.crop)[:2]
        video = msgspec.structs.replace(video, width=width, height=height)
    elif options.rotate in (90, 270):
        video = msgspec.structs.replace(video, width=video.height, height=video.width)
    if options.scale is not None:
        return video.pixels * options.scale**2
    if options.width and options.height:
        return options.width * options.height
    if options.max_width or options.max_height:
        sides = ((options.max_width, video.width), (options.max_height, video.height))
        return video.pixels * min([1.0, *(most / max(1, side) for most, side in sides if most)]) ** 2
    shape = video.width / max(1, video.height)
    if options.width:
        return options.width**2 / shape
    if options.height:
        return options.height**2 * shape
    return video.pixels


def _video_bytes(job: Job[VideoConvertOptions], video: VideoInfo, codec: str) -> float:
    """Bytes of the encoded picture. A crf below the usual one may need more bytes than the source has."""
    options = job.options
    if options.target_size:
        return 1.1 * options.target_size
    if options.video_bitrate:
        return 1.1 * video.duration * options.video_bitrate / 8
    wanted = _output_pixels(options, video)
    lively = _output_frames(options, video) * wanted * _PIXEL_BYTES * pow(_AT_PIXELS / max(1.0, wanted), 0.3)
    source = _OF_THE_SOURCE * job.input_size * sqrt(wanted / max(1, video.pixels))
    finer = pow(2, (USUAL_CRF[codec] - options.crf) / 6) if options.crf is not None else 1.0
    usual = lively if finer > 1 else min(source, lively)
    if not video.basis():
        usual = source
    return usual * finer * _HASTY.get(options.preset, 1.0) * _BYTES_OF_CODEC[codec]
