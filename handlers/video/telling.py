"""What the results of the video types say of their input."""

from typing import Any

from .probe import Source

_OUR_NAMES = {"hevc": "h265"}


def told_of(source: Source) -> dict[str, Any]:
    """Size as it is seen (in stored pixels, upright), length in seconds, codec."""
    lies = source.rotation in (90, 270)
    return {
        "source_width": source.height if lies else source.width,
        "source_height": source.width if lies else source.height,
        "source_duration": round(source.seconds, 3),
        "source_codec": _OUR_NAMES.get(source.codec, source.codec),
    }


def cut_notes(source: Source) -> list[str]:
    """For `notes`: where the file ends before it says it does."""
    if source.missing:
        return [f"the source was cut: it ends after {source.seconds:.1f} s of {source.seconds + source.missing:.1f} s"]
    if source.lacking:
        return [f"the source was cut: at least {source.lacking:,} bytes are missing at the end of its file"]
    return []
