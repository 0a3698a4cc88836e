"""The figures of a real input, for the estimates of all types."""

from fractions import Fraction
from pathlib import Path

from .figures import Picture
from .probe import Source, probe


def picture_in(path: Path) -> Picture:
    """Look into the file. Raises UnusableInputError."""
    return picture_of_source(probe(path))


def picture_of_source(source: Source) -> Picture:
    """What the estimates need of it."""
    frames = max(1.0, source.seconds * float(source.rate or Fraction(25)))
    return Picture(
        width=source.width,
        height=source.height,
        duration=source.seconds,
        rate=float(source.rate),
        gop=frames / len(source.keyframes) if source.keyframes else min(frames, 250.0),
        depth=source.depth,
        sound=source.has_audio,
    )
