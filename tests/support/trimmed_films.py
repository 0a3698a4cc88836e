"""Films that were trimmed without being encoded again: an edit list hides what lies outside of the wanted part."""

import struct
from fractions import Fraction
from pathlib import Path
from typing import Any

import av


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


def with_edits(source: Path, path: Path, *edits: list[tuple[int, int]]) -> Path:
    """The film with other edit lists: for each track, how many ms are shown from which moment in its own unit.

    Its index lies at the end, as it does in a mp4 unless another place is asked for.
    """
    content = bytearray(source.read_bytes())
    place = content.index(b"mvhd") + 16
    second = int.from_bytes(
        content[place : place + 4], "big"
    )  # in the unit of the film, which each muxer chooses itself
    place = 0
    for entries in edits:
        place = content.index(b"elst", place) - 4
        old = int.from_bytes(content[place : place + 4], "big")
        body = b"".join(struct.pack(">IiI", length * second // 1000, begin, 1 << 16) for length, begin in entries)
        made = struct.pack(">I4sII", 16 + len(body), b"elst", 0, len(entries)) + body
        for name in (b"moov", b"trak", b"edts"):
            at = content.rindex(name, 0, place) - 4
            length = int.from_bytes(content[at : at + 4], "big") + len(made) - old
            content[at : at + 4] = length.to_bytes(4, "big")
        content[place : place + old] = made
        place += len(made)
    path.write_bytes(content)
    return path
