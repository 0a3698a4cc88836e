"""What an output has lost against its input, a line for each, by what the headers of both files say."""

from .costs import Header
from .options import ImageConvertOptions


def notes_on(options: ImageConvertOptions, source: Header, written: Header, *, several: bool) -> list[str]:
    """For `notes` of the result. What the options ask for is no loss, and neither is a picture without its holes."""
    kind, notes = written.format.lower(), []
    if source.cut:
        notes.append("the source was cut: the end of the gif is missing")
    if source.frames > 1 and not several:
        notes.append(f"only the first of {source.frames} frames is kept")
    if source.beside:
        notes.append(f"further pictures in the jpeg are not kept: {source.beside}")
    if source.deep and not written.deep:
        notes.append("more than 8 bits a channel became 8")
    if options.colour == "keep" and source.inks and not written.inks:
        notes.append(f"CMYK became RGB: {kind} has no inks")
    lost = sorted(source.tells - written.tells) if options.metadata == "keep" else []
    if lost:
        notes.append(f"not kept in {kind}: {', '.join(lost)}")
    return notes
