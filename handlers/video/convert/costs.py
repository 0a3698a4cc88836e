"""What a conversion needs. No media library here: the service imports this."""

from ...contract import Estimate, Job
from ..figures import ASSUMED, BASE, MARGIN, Picture
from .options import VideoConvertOptions

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
"""Frames in memory at the peak, in encoder and between."""
_SLOWEST_HOLD = 220
_SOURCE_FRAMES = 12
_DEINTERLACER_HOLDS = 4

_SLOWER_THAN_H264 = {"auto": 1.5, "h264": 1.0, "h265": 3.0, "vp9": 3.0, "av1": 3.0}
_MORE_THAN_H264 = {"auto": 1.0, "h264": 1.0, "h265": 0.8, "vp9": 0.6, "av1": 1.3}
"""Frames that an encoder holds, as a share of libx264's at the same preset."""
_ENCODER_BASE = {"h265": 35e6, "vp9": 5e6, "av1": 15e6}
"""Bytes whatever the picture's size."""
_DECODED = 500e6
_AUDIO_SPEED = 70
_BITS_A_PIXEL = 0.12
_HASTY = {"ultrafast": 2.0, "superfast": 1.4}
"""Presets that make larger files at the same quality."""
_CHANNEL_BITRATE = 64_000
_USUAL_CHANNELS = 2


def estimate(job: Job[VideoConvertOptions]) -> Estimate:
    """Guess from the file size alone: a full-HD source of 5 Mbit/s, unless the options say how large the output is."""
    return estimate_for(job.options, ASSUMED.of_size(job.input_size), job.input_size)


def estimate_for(options: VideoConvertOptions, picture: Picture, input_size: int) -> Estimate:
    """What the conversion of this video needs."""
    wanted = _output_pixels(options, picture)
    deep = 2 if picture.depth > 8 and options.video_codec in ("h265", "av1") else 1  # noqa: PLR2004 - a byte
    held = min(_FRAMES_HELD.get(options.preset, _SLOWEST_HOLD), picture.frames)
    source_bytes = (_SOURCE_FRAMES + _DEINTERLACER_HOLDS * (options.deinterlace == "always")) * picture.frame_bytes
    encoder_bytes = (
        _ENCODER_BASE.get(options.video_codec, 0.0) + held * 1.5 * deep * wanted * _MORE_THAN_H264[options.video_codec]
    )
    audio_bitrate = options.audio_bitrate or _CHANNEL_BITRATE * _USUAL_CHANNELS
    encode = wanted / _SPEED[options.preset] * _SLOWER_THAN_H264[options.video_codec]
    return Estimate(
        memory=int(MARGIN * (BASE + source_bytes + encoder_bytes)),
        temp=int(2.1 * _video_bytes(options, picture, wanted, input_size) + picture.duration * audio_bitrate / 4)
        + 1_100_000,
        seconds=0.5 + picture.frames * (encode + picture.pixels / _DECODED) + picture.duration / _AUDIO_SPEED,
        basis=picture.basis(),
    )


def _output_pixels(options: VideoConvertOptions, picture: Picture) -> float:
    """Pixels of an output frame."""
    if options.scale is not None:
        return picture.pixels * options.scale**2
    if options.width and options.height:
        return options.width * options.height
    shape = picture.width / max(1, picture.height)
    if options.width:
        return options.width**2 / shape
    if options.height:
        return options.height**2 * shape
    return picture.pixels


def _video_bytes(options: VideoConvertOptions, picture: Picture, wanted: float, input_size: int) -> float:
    """Bytes of the encoded picture. Low crf asks for more than the source ever had."""
    if options.video_bitrate:
        return 1.1 * picture.duration * options.video_bitrate / 8
    hasty = _HASTY.get(options.preset, 1.0)
    usual = picture.frames * wanted * _BITS_A_PIXEL / 8 * hasty
    if options.crf is not None:
        return max(1.2 * input_size, usual) * 2 ** max(0.0, (23 - options.crf) / 6)
    most = 1.2 * hasty**2 * input_size
    return min(most, usual) if picture.basis() else most
