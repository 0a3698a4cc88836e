"""Films that were trimmed without being encoded again: an edit list hides what lies outside of the wanted part."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

_FIRST_ENTRY = 12
"""Bytes from the name of an edit list to its first entry."""


def trimmed(source: Path, path: Path, begin: float) -> Path:
    """The film without its first seconds. It still holds the pictures from the keyframe before: players need them."""
    with av.open(str(source)) as film, av.open(str(path), "w") as output:
        tracks: Any = {stream: output.add_stream_from_template(stream, opaque=True) for stream in film.streams}
        film.seek(int(begin * av.time_base))
        for packet in film.demux():
            if packet.dts is None or packet.pts is None:
                continue
            moved = round(Fraction(begin) / packet.time_base)
            packet.pts, packet.dts = packet.pts - moved, packet.dts - moved
            packet.stream = tracks[packet.stream]
            output.mux(packet)
    return path


def end_hidden(source: Path, path: Path, shares: tuple[float, ...]) -> Path:
    """The film of which the edit list of each track shows only this share, from the beginning."""
    content = bytearray(source.read_bytes())
    place = 0
    for share in shares:
        place = content.index(b"elst", place) + 4
        entries = int.from_bytes(content[place + 4 : place + 8], "big")
        last = place - 4 + _FIRST_ENTRY + 12 * (entries - 1)
        shown = int.from_bytes(content[last : last + 4], "big")
        content[last : last + 4] = struct.pack(">I", round(shown * share))
    path.write_bytes(content)
    return path
