"""What a conversion changes or leaves out, in words, for the result."""

from av.container import InputContainer

from ..probe import Source
from .options import VideoConvertOptions
from .picture import Look, output_size, upright_size

_INTERESTING = {"video": "moving or still pictures", "data": "data tracks", "attachment": "attachments"}
_TECHNICAL = {"major_brand", "minor_version", "compatible_brands", "encoder", "creation_time", "duration", "timecode"}
_NAMED = 10
_PQ = 16


def picture_notes(source: Source, look: Look, options: VideoConvertOptions) -> list[str]:
    """What happens to the picture."""
    found = _size_notes(source, options)
    if source.transparent:
        found.append("transparency dropped")
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
    found += _turn_notes(source)
    if source.deinterlace:
        found.append("deinterlaced")
    elif source.interlaced:
        found.append("interlaced pictures kept as they are, without the flag")
    return found


def _turn_notes(source: Source) -> list[str]:
    found = ["mirrored, as the source says"] if source.mirrored else []
    return found + ([f"turned upright by {source.rotation} degrees"] if source.rotation else [])


def _size_notes(source: Source, options: VideoConvertOptions) -> list[str]:
    """Sides that were asked for, or are those of the source, and became even. A side that follows is nobody's wish."""
    aspect = source.pixel_aspect
    shape = f"pixels of {aspect.numerator}:{aspect.denominator} became square"
    found = [shape] if source.squared and aspect != 1 else []
    if options.scale is not None:
        return found
    whole = options.width is None and options.height is None
    wanted = upright_size(source) if whole else (options.width, options.height)
    sides = zip(("width", "height"), wanted, output_size(source, options), strict=True)
    changed = [f"{name} {asked} became {made}" for name, asked, made in sides if asked not in (None, made)]
    return found + ([f"{', '.join(changed)}: sides have to be even"] if changed else [])


def track_notes(container: InputContainer) -> list[str]:
    """Which tracks that nobody chooses are left out."""
    counts = dict.fromkeys(_INTERESTING, 0)
    for stream in container.streams:
        if stream.type in counts:
            counts[stream.type] += 1
    counts["video"] -= 1
    found = [f"{count} {_INTERESTING[kind]} dropped" for kind, count in counts.items() if count > 0]
    codes = {name: value for part in (container, *container.streams) for name, value in part.metadata.items()}
    if code := next((value for name, value in codes.items() if name.lower() == "timecode"), ""):
        found.append(f"timecode {code} dropped")
    if told := sorted({name.lower() for name in container.metadata} - _TECHNICAL):
        found.append(f"tags dropped: {', '.join(told[:_NAMED])}")
    return found
