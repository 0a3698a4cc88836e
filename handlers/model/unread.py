"""What a model has, or says that it has, and that is not drawn, in words, for the result."""

import re
from pathlib import Path

from .sizing import Counted
from .threemf import has_colours

_HEAD = 65_536
"""Where exporters name the other file."""
_LIBRARY = re.compile(rb"^[ \t]*mtllib[ \t]+([^\r\n]*[^\s])", re.MULTILINE)
_TEXTURE = re.compile(rb"^comment[ \t]+TextureFile[ \t]+([^\r\n]*[^\s])", re.MULTILINE | re.IGNORECASE)
_LONGEST = 100
_PROMISING = ("ply", "off")
"""Formats of text whose header says how many faces there are, in polygons: as triangles they are as many, or more."""


def missing_faces(read: int, counted: Counted) -> list[str]:
    """What the header of a text promises and the rest of it does not hold. Of binary files such a one is refused."""
    if counted.kind not in _PROMISING or read >= counted.faces:
        return []
    return [f"the model was cut or is damaged: it has {read:,} of the {counted.faces:,} faces that it promises"]


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
