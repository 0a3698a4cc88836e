"""Where LibreOffice is, and what to do when it is nowhere. Light: the service imports this."""

import shutil
from pathlib import Path

NAMES = ("soffice", "libreoffice")
PLACES = (
    Path("/usr/lib/libreoffice/program/soffice"),
    Path("/usr/lib64/libreoffice/program/soffice"),
    Path("/opt/libreoffice/program/soffice"),
    Path("/snap/bin/libreoffice"),
    Path("/Applications/LibreOffice.app/Contents/MacOS/soffice"),
)
HOW_TO_INSTALL = (
    "Install LibreOffice (Debian and Ubuntu: apt install libreoffice-writer-nogui libreoffice-calc-nogui "
    "libreoffice-impress-nogui; Fedora: dnf install libreoffice-writer libreoffice-calc libreoffice-impress; "
    "macOS: brew install --cask libreoffice)"
)


def find_libreoffice() -> Path | None:
    """The program, on the search path or at one of the usual places; none when it is not installed."""
    for name in NAMES:
        if found := shutil.which(name):
            return Path(found)
    return next((place for place in PLACES if place.is_file()), None)
