"""Estimates the needs of a preview. No media library here: the service imports this."""

from ...contract import Estimate, Job
from ...media.estimate import written_bytes
from ..estimate import ASSUMED, VideoInfo, reading_memory, reading_seconds, tone_memory
from .options import VideoPreviewOptions, preview_kind

_FRAME_BYTES, _FRAME_HEADER = 3, 400
"""Bytes per pixel of a frame, which stays on the disk uncompressed until all exist, and bytes of its file's header."""
_FILM_BYTES = 0.1
"""Bytes per pixel of an mp4."""
_FILM_ENCODER = 6_000_000
_SPARE = 1.1
"""The size of the frames is known to the byte, that of the output is not."""
_DECODED = 500e6
_PACKED, _PACKED_AS_PNG = 8e6, 1e6
"""Pixels per second."""


def estimate(job: Job[VideoPreviewOptions]) -> Estimate:
    """Guess from the file size."""
    return estimate_for(job, ASSUMED.of_size(job.input_size))


def estimate_for(job: Job[VideoPreviewOptions], video: VideoInfo) -> Estimate:
    """Estimate from the facts about the video."""
    options = job.options
    kind, form = preview_kind(options, job.output_file)
    frames = options.frames_of(kind)
    pixels = frames * options.width * max(1, round(options.width * video.height / max(1, video.width)))
    film = form == "MP4"
    output = int(_FILM_BYTES * pixels) if film else written_bytes(form, pixels, quality=options.quality)
    whole = video.frames * video.pixels / _DECODED
    jumps = frames if kind == "sheet" else options.clips
    scan = whole if options.positions == "scenes" else 0.0
    packing = pixels / (_PACKED_AS_PNG if form == "PNG" else _PACKED)
    mapping = int(tone_memory(pixels / frames)) if video.high_range else 0
    return Estimate(
        memory=reading_memory(video) + 8 * pixels + (_FILM_ENCODER if film else 0) + mapping,
        temp=int(_SPARE * (_FRAME_BYTES * pixels + _FRAME_HEADER * frames + output)) + 30_000,
        seconds=0.2 + scan + min(jumps * reading_seconds(video), whole) + 0.005 * frames + packing,
        basis=video.basis(),
    )
