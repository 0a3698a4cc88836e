"""Whether an encoder that needs hardware is there."""

from fractions import Fraction

import av
from av.codec.codec import UnknownCodecError
from av.video.codeccontext import VideoCodecContext

from ...contract import Unusable

_TRIAL = 256
REMEDY = "leave `encoder` at software, or give the service the device and its driver"


def require(encoder: str) -> None:
    """Open the encoder for a moment. Raises Unusable with what to do."""
    try:
        context = av.CodecContext.create(encoder, "w")
    except UnknownCodecError:
        raise Unusable(f"this build of FFmpeg has no encoder {encoder}: {REMEDY}") from None
    assert isinstance(context, VideoCodecContext)
    context.width = context.height = _TRIAL
    names = [known.name for known in context.codec.video_formats or ()]
    context.pix_fmt = "yuv420p" if "yuv420p" in names else "nv12"
    context.time_base = context.framerate = Fraction(1, 25)
    try:
        context.open()
    except (av.error.FFmpegError, ValueError) as error:
        raise Unusable(
            f"the encoder {encoder} finds no device here ({getattr(error, 'strerror', error)}): {REMEDY}"
        ) from error
