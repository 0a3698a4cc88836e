"""Converts an image: reads the header, converts one picture or all frames, and notes what was lost."""

from typing import Any

from ...contract import Finished, TaskContext, Unusable
from ...media.result import output_fields
from .estimate import ImageHeader
from .frames import convert_frames
from .options import MANY_FRAMES, MAX_IMAGE_FRAMES, ImageConvertOptions, target_format
from .probe import check_written, read_header, written_header
from .still import HOLDS_INKS, convert_still, holdable
from .unkept import unkept_in


def run(context: TaskContext[ImageConvertOptions]) -> Finished:
    """Convert `context.input_file` into `context.output_part`.

    Raises:
        Unusable: the input is not a readable picture.
        OSError: a file cannot be read or written for a reason other than the picture.
        StopAsked: the attempt must end.
    """
    kind = target_format(context.output_file)
    context.progress(0, f"reading {context.input_file.name}")
    header = read_header(context.input_file)
    check_written(context.input_file.name, context.options, header, kind)
    context.check_stop()
    several = header.frames > 1 and context.options.frames == "all" and kind in MANY_FRAMES
    if several:
        _check_frames(context, kind, header)
        made = convert_frames(context, kind, header)
    else:
        made = convert_still(context, kind, header)
    written = written_header(context.output_part, kind, header)
    frames = written.frames if several else 1
    result = output_fields(
        context.output_part, kind.lower(), width=made.size[0], height=made.size[1], frames=frames, duration=made.seconds
    ) | _source(header)
    notes = _notes(context.options, header, written, several=several)
    notes += made.lost
    unkept = unkept_in(context.input_file, header.format, pages=several)
    if context.options.metadata == "strip":
        unkept = [one for one in unkept if not one.says]
    if header.beside:
        unkept = [one for one in unkept if not one.behind]  # the note about further pictures covers them
    if unkept:
        notes.append(f"not carried over: {', '.join(one.words for one in unkept)}")
    if notes:
        result["notes"] = notes
    pixels = f"{made.size[0]}x{made.size[1]} pixels"
    return Finished(result=result, message=f"{frames} frames, {pixels}" if frames > 1 else pixels)


def _check_frames(context: TaskContext[ImageConvertOptions], kind: str, header: ImageHeader) -> None:
    """Raise `Unusable` for an animation that cannot be converted as asked."""
    name = context.input_file.name
    if header.frames > MAX_IMAGE_FRAMES:
        raise Unusable(f"{name} has {header.frames:,} frames, at most {MAX_IMAGE_FRAMES:,} are converted")
    if kind == "AVIF" and context.options.lossless:
        raise Unusable(f"{name} has {header.frames} frames, and an avif of several is never lossless: take webp or png")
    if context.options.depth == "16":
        raise Unusable(
            f"{name} has {header.frames} frames, and several are converted with 8 bits a channel: "
            "take depth=auto or frames=first"
        )


def _source(header: ImageHeader) -> dict[str, Any]:
    """Facts about the input for the result. Its size is that of the upright picture."""
    upright = (header.height, header.width) if header.sideways else (header.width, header.height)
    return {
        "source_format": header.format.lower(),
        "source_width": upright[0],
        "source_height": upright[1],
        "source_frames": header.frames,
    }


def _notes(options: ImageConvertOptions, source: ImageHeader, written: ImageHeader, *, several: bool) -> list[str]:
    """Notes on what the output has lost compared to the input, by the headers of both files.

    Losses that the options ask for do not count, nor does transparency in a format without it.
    """
    kind, notes = written.format.lower(), []
    if source.cut:
        notes.append("the source was cut: the end of the gif is missing")
    if source.frames > 1 and not several:
        notes.append(f"only the first of {source.frames} frames is kept")
    if source.beside:
        notes.append(f"further pictures in the {source.format.lower()} are not kept: {source.beside}")
    if source.bits > written.bits and options.depth != "8":
        notes.append(f"{source.bits} bits a channel became {written.bits}")
    if options.profile == "keep" and source.inks and not written.inks:
        why = "several pages are kept without inks" if written.format in HOLDS_INKS else f"{kind} has no inks"
        notes.append(f"CMYK became RGB: {why}")
    to_keep = holdable(options, source, written.format, several=several).profile == "keep"
    if to_keep and source.profile and not written.profile:
        notes.append("its colour profile is left out: it is damaged, or for other colours than it has")
    lost = sorted(source.tells - written.tells) if options.metadata == "keep" else []
    if lost:
        notes.append(f"not kept in {kind}: {', '.join(lost)}")
    return notes
