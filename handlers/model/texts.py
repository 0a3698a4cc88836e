"""Model files that are text, made plain before trimesh reads them: ASCII, and of an OBJ only corners and faces."""

import re
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

_PLAIN = bytes(range(128)).replace(b"\t", b" ") + b"?" * 128
"""Names and comments come in any encoding. None of them is drawn."""
_HEAD = 65_536
_OTHER_LINES = re.compile(rb"^(?![ \t]*[vf][ \t])[^\n]*\n?", re.MULTILINE)
_OTHER_WORDS = re.compile(rb"/[^\s]*|#[^\n]*")
"""Textures and normals of a corner, and comments."""
_BLANKS = re.compile(rb"[ \t]{2,}")
"""Of continued lines there may be any number, and each search would go through all that follow."""
_FROM_THE_END = re.compile(rb"^[ \t]*f[^\n]*[ \t]-", re.MULTILINE)


def open_model(path: Path, kind: str) -> BinaryIO:
    """The file as trimesh can read it. `kind` is its suffix, without the dot."""
    if kind == "obj":
        return BytesIO(_plain_obj(path.read_bytes()))
    with path.open("rb") as file:
        head, end, _ = file.read(_HEAD).partition(b"end_header")
    if kind == "off" or (kind == "stl" and head.lstrip()[:5].lower() == b"solid" and b"\0" not in head):
        text = path.read_bytes()
        return BytesIO(text if text.isascii() else text.translate(_PLAIN))
    if kind == "ply" and end and not head.isascii():
        return BytesIO(head.translate(_PLAIN) + path.read_bytes()[len(head) :])
    return path.open("rb")


def _plain_obj(text: bytes) -> bytes:
    """Only the lines of corners and faces, whose numbers count from the beginning."""
    text = text.translate(_PLAIN).replace(b"\r\n", b"\n").replace(b"\\\n", b" ")
    text = _BLANKS.sub(b" ", text)
    text = _OTHER_WORDS.sub(b"", _OTHER_LINES.sub(b"", text))
    return _from_the_beginning(text) if _FROM_THE_END.search(text) else text


def _from_the_beginning(text: bytes) -> bytes:
    """-1 is the last corner before the face. trimesh takes it for the last one of the file."""
    lines, corners = [], 0
    for line in text.split(b"\n"):
        words = line.split()
        if words[:1] == [b"v"]:
            corners += 1
        elif b"-" in line:
            words[1:] = [b"%d" % (int(word) + corners + 1) if word.startswith(b"-") else word for word in words[1:]]
            line = b" ".join(words)  # noqa: PLW2901 - the line as it goes on
        lines.append(line)
    return b"\n".join(lines)
