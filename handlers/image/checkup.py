"""The diagnoses of `doctor` about Pillow on this machine."""

from collections.abc import Iterator

from PIL import Image, features
from PIL import __version__ as pillow

from ..contract import Diagnosis
from ..media.formats import WRITE_FORMATS
from .opening import READ_FORMATS


def checkup() -> Iterator[Diagnosis]:
    """Whether the installed build reads and writes every format."""
    Image.init()
    missing = [f"reading {name}" for name in READ_FORMATS if name not in Image.OPEN]
    missing += [f"writing {name}" for name in sorted(set(WRITE_FORMATS.values())) if name not in Image.SAVE]
    jpeg = features.version_codec("jpg")
    versions = f"Pillow {pillow}, libjpeg {jpeg}" if jpeg else f"Pillow {pillow}"
    if missing:
        remedy = "Install Pillow from its wheel on PyPI."
        yield Diagnosis("media", "warn", f"{versions}; without {', '.join(missing)}", remedy)
    else:
        yield Diagnosis("media", "ok", f"{versions}; all formats are there")
