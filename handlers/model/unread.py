"""Colours that a model has and that are not drawn, in words, for the result."""

import re
from pathlib import Path

from .threemf import has_colours

_HEAD = 65_536
"""Where exporters name the other file."""
_LIBRARY = re.compile(rb"^[ \t]*mtllib[ \t]+([^\r\n]*[^\s])", re.MULTILINE)
_TEXTURE = re.compile(rb"^comment[ \t]+TextureFile[ \t]+([^\r\n]*[^\s])", re.MULTILINE | re.IGNORECASE)
_LONGEST = 100


def unread_colours(path: Path) -> list[str]:
    """What is left out of a model that has been read. A worker opens no file but its input."""
    match path.suffix.lower():
        case ".obj":
            return [f"materials in {name} are not read" for name in _names(path, _LIBRARY)]
        case ".ply":
            return [f"the texture {name} is not read" for name in _names(path, _TEXTURE)]
        case ".3mf" if has_colours(path):
            return ["colours of a 3mf are not read"]
    return []


def _names(path: Path, named: re.Pattern[bytes]) -> list[str]:
    """Names of other files; they come from strangers, in any encoding."""
    with path.open("rb") as file:
        found = [name.decode("utf-8", "replace")[:_LONGEST] for name in named.findall(file.read(_HEAD))[:1]]
    return ["".join(sign if sign.isprintable() else "?" for sign in name) for name in found]
