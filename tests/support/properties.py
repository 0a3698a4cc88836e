"""Every property of a film that FFmpeg can report, each by a name, so that two films can be compared."""

import hashlib
from pathlib import Path
from typing import Any

import av
from av.stream import Disposition

_NOT_SAID = {"encoder", "duration", "handler_name", "vendor_id", "language", "title", "name", "filename", "mimetype"}
"""Tags that have another name here, or that the writing program sets by itself."""
_OF_THE_FORMAT = {"major_brand", "minor_version", "compatible_brands", "location-eng", "timecode"}


def properties_of(path: Path) -> dict[str, Any]:
    """Map name to value.

    Times and durations are rounded to a tenth of a second; of each packet of sound only the sum counts.
    """
    found: dict[str, Any] = {}
    with av.open(str(path)) as container:
        found["duration"] = round((container.duration or 0) / av.time_base, 1)
        for name, value in container.metadata.items():
            if name.lower() not in _NOT_SAID - {"title"} | _OF_THE_FORMAT:
                found[f"tag {name.lower()}"] = value
        for number, chapter in enumerate(container.chapters(), start=1):
            unit: Any = chapter["time_base"]
            start, end = (round(float(moment * unit), 1) for moment in (chapter["start"], chapter["end"]))
            found[f"chapter {number}"] = (start, end, chapter["metadata"].get("title"))
        counts: dict[str, int] = {}
        for stream in container.streams:
            kind = "cover" if stream.disposition & Disposition.attached_pic else stream.type
            counts[kind] = counts.get(kind, 0) + 1
            found |= {f"{kind} {counts[kind]} {what}": said for what, said in _of_track(stream, kind).items()}
    return {name: value for name, value in found.items() if not name.startswith("data ")} | _packets(path)


def _of_track(stream: Any, kind: str) -> dict[str, Any]:
    said: dict[str, Any] = {
        f"tag {name.lower()}": value
        for name, value in stream.metadata.items()
        if name.lower() not in _NOT_SAID | {"creation_time"}
    }
    if kind == "attachment":
        return {"name": stream.name, "kind": stream.mimetype, "content": hashlib.sha256(stream.data).hexdigest()}
    context = stream.codec_context
    if context is None:
        return said
    said["codec"] = context.codec.canonical_name
    if kind == "cover":
        return said
    said["title"] = stream.metadata.get("title") or stream.metadata.get("name") or ""
    said["language"] = "" if stream.language == "und" else stream.language or ""
    said["marks"] = sorted(str(flag.name) for flag in Disposition if flag & stream.disposition)
    if kind == "video":
        said |= {"size": (context.width, context.height), "pixels": context.pix_fmt, "rate": stream.average_rate}
        said |= {"aspect": stream.sample_aspect_ratio or 1, "profile": context.profile}
        said["colour"] = (context.color_primaries, context.color_trc, context.colorspace, int(context.color_range))
    if kind == "audio":
        said |= {"layout": context.layout.name, "samples a second": context.sample_rate}
    return said


def _packets(path: Path) -> dict[str, Any]:
    """Return for each track the number of its packets, the start of the first and the end of the last."""
    found: dict[str, Any] = {}
    with av.open(str(path)) as container:
        counts: dict[str, int] = {}
        names = {}
        for stream in container.streams:
            counts[stream.type] = counts.get(stream.type, 0) + 1
            names[stream.index] = f"{stream.type} {counts[stream.type]}"
        spans: dict[str, list[tuple[float, float]]] = {}
        for packet in container.demux():
            kind = packet.stream.type
            blank = kind == "subtitle" and packet.size <= 2  # mov_text packets that clear the text
            if packet.pts is None or not packet.size or kind in ("data", "attachment") or blank:
                continue
            if packet.stream.disposition & Disposition.attached_pic:
                continue
            start, length = (float(moment * packet.time_base) for moment in (packet.pts, packet.duration or 0))
            spans.setdefault(names[packet.stream_index], []).append((start, start + length))
    for name, span in spans.items():
        if name.startswith(("video", "subtitle")):
            found[f"{name} packets"] = len(span)
        found[f"{name} begins"] = round(max(0.0, min(start for start, _ in span)), 1)
        found[f"{name} ends"] = round(max(end for _, end in span), 1)
    return found


def differences(before: Path, after: Path) -> dict[str, tuple[Any, Any]]:
    """Map each differing property to (value in the first, value in the second); None where it is missing."""
    one, other = properties_of(before), properties_of(after)
    names = sorted(one.keys() | other.keys())
    return {name: (one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)}
