"""What a conversion changes or leaves out, in words, for the result."""

from av.container import InputContainer

from ..probe import Source
from .picture import Look

_INTERESTING = {"video": "moving or still pictures", "data": "data tracks", "attachment": "attachments"}
_TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "encoder", "creation_time", "duration"}
_NAMED = 10
_PQ = 16


def picture_notes(source: Source, look: Look) -> list[str]:
    """What happens to the picture."""
    found = []
    if source.depth > 8 and not look.deep:  # noqa: PLR2004 - a byte
        found.append(f"{source.depth} bits a colour became 8")
    if source.depth > 10 and look.deep:  # noqa: PLR2004 - what the encoders can
        found.append(f"{source.depth} bits a colour became 10")
    if look.standard_range:
        found.append("high dynamic range became standard (BT.709), highlights clipped")
    elif source.colour[1] == _PQ:
        found.append("HDR10 mastering metadata, if any, dropped")
    if source.full_range:
        found.append("full colour range became limited")
    if source.rotation:
        found.append(f"turned upright by {source.rotation} degrees")
    if source.deinterlace:
        found.append("deinterlaced")
    elif source.interlaced:
        found.append("interlaced pictures kept as they are, without the flag")
    return found


def track_notes(container: InputContainer) -> list[str]:
    """Which tracks that nobody chooses are left out."""
    counts = dict.fromkeys(_INTERESTING, 0)
    for stream in container.streams:
        if stream.type in counts:
            counts[stream.type] += 1
    counts["video"] -= 1
    found = [f"{count} {_INTERESTING[kind]} dropped" for kind, count in counts.items() if count > 0]
    if chapters := len(container.chapters()):
        found.append(f"{chapters} chapters dropped")
    if told := sorted({name.lower() for name in container.metadata} - _TECHNICAL):
        found.append(f"tags dropped: {', '.join(told[:_NAMED])}")
    return found
