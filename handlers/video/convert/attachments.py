"""Attachments, such as fonts, and cover pictures: kept if the container can hold them, otherwise noted."""

from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Disposition

from ..opening import is_input_fault, open_input

_COVERS = {"mp4": {"mjpeg": "image/jpeg", "png": "image/png"}}
"""Container → codecs of cover pictures that it can show. In a Matroska covers are attachments."""
_SUFFIXES = {"image/jpeg": ".jpg", "image/png": ".png", "image/gif": ".gif", "image/webp": ".webp", "image/bmp": ".bmp"}
_PICTURES = {"mjpeg": "image/jpeg", "png": "image/png", "gif": "image/gif", "webp": "image/webp", "bmp": "image/bmp"}
_UNKNOWN = "application/octet-stream"


class Attachment(NamedTuple):
    """A file within the film."""

    stream: int
    """Number of its stream in the source."""
    name: str
    mimetype: str
    picture: bool
    """Whether it is a cover, which the library presents as a video of one frame."""


class Attachments(NamedTuple):
    """The attachments that are kept, and notes about the others."""

    kept: tuple[Attachment, ...] = ()
    notes: tuple[str, ...] = ()


def choose_attachments(opened: InputContainer, container: str) -> Attachments:
    """Choose which attachments and cover pictures of `opened` go into `container`."""
    kept: list[Attachment] = []
    notes: list[str] = []
    pictures = [stream for stream in opened.streams.video if stream.disposition & Disposition.attached_pic]
    for stream in chain(pictures, opened.streams.attachments):
        attached = _describe(stream)
        codec = stream.codec_context.codec.canonical_name if stream.codec_context is not None else ""
        kind = "cover picture" if attached.picture else "attachment"
        fits = container == "matroska" or (attached.picture and codec in _COVERS.get(container, ()))
        if not fits:
            notes.append(f"{kind} {attached.name} dropped: {container} has no place for it")
        elif _is_empty(stream) and not (attached.picture and container == "matroska"):  # Matroska: any file
            notes.append(f"{kind} {attached.name} dropped: damaged")
        else:
            kept.append(attached)
    return Attachments(tuple(kept), tuple(notes))


def _is_empty(stream: Any) -> bool:
    """Whether it has no usable content; mp4 needs a picture's size."""
    if stream.type == "video":
        return not (stream.codec_context.width and stream.codec_context.height)
    return not stream.data


def _describe(stream: Any) -> Attachment:
    picture = stream.type == "video"
    codec = stream.codec_context.codec.canonical_name if picture and stream.codec_context is not None else ""
    kind = stream.metadata.get("mimetype") or _PICTURES.get(codec, _UNKNOWN)
    stem = "cover" if picture else f"attachment-{stream.index}"
    name = stream.metadata.get("filename") or f"{stem}{_SUFFIXES.get(kind, '')}"
    return Attachment(stream.index, name, kind, picture)


class AttachmentWriter:
    """Adds the attachments to the result, after all tracks and before the first packet is written."""

    def __init__(self, path: Path, chosen: Attachments, container: str, output: OutputContainer) -> None:
        self._covers: list[Packet[Any]] = []
        for attachment in (each for each in chosen.kept if each.picture):
            with open_input(path) as opened:
                stream: Any = opened.streams[attachment.stream]
                data = _picture(opened, stream)
                if data and container == "matroska":
                    output.add_attachment(attachment.name, attachment.mimetype, data)
                elif data:
                    self._add_cover(output, stream, data)
        files = [each for each in chosen.kept if not each.picture]
        if not files:
            return
        with open_input(path) as opened:
            for attachment in files:
                stream = opened.streams[attachment.stream]
                if stream.data:
                    output.add_attachment(attachment.name, attachment.mimetype, bytes(stream.data))

    def _add_cover(self, output: OutputContainer, stream: Any, data: bytes) -> None:
        track: Any = output.add_stream_from_template(stream, opaque=True)
        track.disposition = Disposition.attached_pic
        packet: Packet[Any] = Packet(data)
        packet.stream, packet.pts, packet.dts = track, 0, 0
        packet.is_keyframe = True
        self._covers.append(packet)

    def write(self, output: OutputContainer) -> None:
        """Write the pictures that are tracks."""
        for packet in self._covers:
            output.mux(packet)


def _picture(opened: InputContainer, stream: Any) -> bytes:
    """The picture's file; empty if it cannot be read. It precedes all packets of tracks."""
    try:
        return next((bytes(packet) for packet in opened.demux(stream) if packet.size), b"")
    except av.error.FFmpegError as error:
        if not is_input_fault(error):
            raise
        return b""
