"""The course of `image_convert`: look at the header, then one picture through libvips or many through Pillow."""

from pathlib import Path

from ...contract import Estimate, Finished, Job, Outcome, Stopped, TaskContext, Unusable
from ...pieces import settled
from ..opening import no_own_pixel_limit, open_picture
from ..shaping import lies_sideways, orientation_in_header
from .costs import Header, estimate_for
from .errors import StopAskedError
from .frames import convert_frames
from .options import MANY_FRAMES, MAX_FRAMES, MAX_PIXELS, ImageConvertOptions, format_of
from .still import convert_still
from .stills_pillow import convert_still_with_pillow

_VIPS_READS = frozenset({"JPEG", "PNG", "WEBP", "GIF", "TIFF", "AVIF"})


def read_header(path: Path) -> Header:
    """Look at the picture. Raises `Unusable`, or OSError for the disk's faults."""
    with no_own_pixel_limit(), open_picture(path, MAX_PIXELS) as image:
        frames = int(getattr(image, "n_frames", 1))
        return Header(
            format=str(image.format),
            width=image.width,
            height=image.height,
            frames=frames,
            alpha=image.has_transparency_data,
            sideways=lies_sideways(orientation_in_header(image)),
        )


def probe(job: Job[ImageConvertOptions]) -> Estimate:
    """An estimate from the picture's real size and number of frames."""
    header = read_header(job.input_file)
    basis = {"format": header.format, "width": header.width, "height": header.height, "frames": header.frames}
    return estimate_for(job, header, basis)


def convert(context: TaskContext[ImageConvertOptions]) -> Outcome:
    """Convert `context.input_file` into `context.output_part`.

    Raises:
        Unusable: the input is no picture that can be read.
        OSError: a file cannot be read or written for a reason that is not the picture's.
    """
    kind = format_of(context.output_file)
    context.progress(0, f"reading {context.input_file.name}")
    header = read_header(context.input_file)
    if context.should_stop():
        return Stopped()
    several = header.frames > 1 and context.options.frames == "all" and kind in MANY_FRAMES
    if several and header.frames > MAX_FRAMES:
        raise Unusable(f"{context.input_file.name} has {header.frames:,} frames, at most {MAX_FRAMES:,} are converted")
    try:
        if several:
            width, height = convert_frames(context, kind, header.frames)
        elif header.format in _VIPS_READS and kind != "HEIF":
            width, height = convert_still(context, kind)
        else:
            width, height = convert_still_with_pillow(context, kind)
    except StopAskedError:
        context.output_part.unlink(missing_ok=True)
        return Stopped()
    size, digest = settled(context.output_part)
    result = {
        "size": size,
        "width": width,
        "height": height,
        "format": kind.lower(),
        "frames": header.frames if several else 1,
        "source_format": header.format.lower(),
        "source_width": header.width,
        "source_height": header.height,
        "sha256": digest,
    }
    if header.frames > 1 and not several:
        result["notes"] = [f"only the first of {header.frames} frames is kept"]
    return Finished(result=result)
