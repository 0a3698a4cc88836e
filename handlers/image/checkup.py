"""The findings of `doctor` about Pillow on this machine."""

from collections.abc import Iterator

from PIL import Image, features
from PIL import __version__ as pillow

from ..contract import Finding
from ..media.formats import WRITE_FORMATS
from .opening import READ_FORMATS


def checkup() -> Iterator[Finding]:
    """Whether the installed build reads and writes every format."""
    Image.init()
    missing = [f"reading {name}" for name in READ_FORMATS if name not in Image.OPEN]
    missing += [f"writing {name}" for name in sorted(set(WRITE_FORMATS.values())) if name not in Image.SAVE]
    jpeg = features.version_codec("jpg")
    versions = f"Pillow {pillow}, libjpeg {jpeg}" if jpeg else f"Pillow {pillow}"
    if missing:
        remedy = "Install Pillow from its wheel on PyPI."
        yield Finding("media", "warn", f"{versions}; without {', '.join(missing)}", remedy)
    else:
        yield Finding("media", "ok", f"{versions}; all formats are there")
