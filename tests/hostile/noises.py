"""Sound files that are lists of other files, claim to be endless, or carry more than sound."""

import struct
import zlib
from pathlib import Path

from crafting import Bait, Crafted, cut, data, text
from sounds import tone, write


def _wav(channels: int, rate: int, size: int, bits: int = 16) -> bytes:
    """Make a wav with any header."""
    head = struct.pack("<HHIIHH", 1, channels, rate, 0xFFFFFFFF, (channels * bits // 8) & 0xFFFF, bits)
    told = struct.pack("<I", size & 0xFFFFFFFF)
    return b"RIFF" + told + b"WAVEfmt " + struct.pack("<I", 16) + head + b"data" + told + bytes(100_000)


def _bomb() -> bytes:
    """Make a PNG of 60,000 pixels a side, all of one colour."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def _with_bomb(path: Path, _bait: Bait) -> None:
    """Make an mp3 whose cover is such a picture."""
    sound = write(path, tone(1.0), codec="libmp3lame").read_bytes()
    body = b"\0image/png\0\x03\0" + _bomb()
    frame = b"APIC" + struct.pack(">I", len(body)) + b"\0\0" + body
    size = len(frame)
    sizes = bytes([(size >> 21) & 127, (size >> 14) & 127, (size >> 7) & 127, size & 127])
    path.write_bytes(b"ID3\x03\0\0" + sizes + frame + sound)


def _flac(path: Path, _bait: Bait) -> None:
    write(path, tone(1.0), codec="flac")


def _long_tags(path: Path, _bait: Bait) -> None:
    write(path, tone(1.0), codec="flac", tags={f"tag{number}": "x" * 60_000 for number in range(100)})


def _endless_flac(path: Path, bait: Bait) -> None:
    """Make a flac whose header claims 2 ** 36 samples."""
    _flac(path, bait)
    whole = bytearray(path.read_bytes())
    whole[21] |= 0x0F
    whole[22:26] = b"\xff\xff\xff\xff"
    path.write_bytes(bytes(whole))


NOISES = [
    Crafted(
        "list.mp3", "sound", text("#EXTM3U\n#EXT-X-TARGETDURATION:6\n#EXTINF:4,\nfile://{secret}\n#EXT-X-ENDLIST\n")
    ),
    Crafted("remote.m3u", "sound", text("#EXTM3U\n#EXTINF:4,\n{trap}/a.mp3\n")),
    Crafted("channels.wav", "sound", data(_wav(65535, 44100, 100_000))),
    Crafted("rate.wav", "sound", data(_wav(2, 4_000_000_000, 100_000))),
    Crafted("slow.wav", "sound", data(_wav(1, 1, 100_000))),
    Crafted("many.wav", "sound", data(_wav(64, 384_000, 100_000))),
    Crafted("long.wav", "sound", data(_wav(2, 44100, 0xFFFFFFFF))),
    Crafted("bits.wav", "sound", data(_wav(2, 44100, 100_000, 65535 & ~7))),
    Crafted("nothing.wav", "sound", data(_wav(0, 0, 0, 0))),
    Crafted("tag.mp3", "sound", data(b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(4000))),
    Crafted("cover.mp3", "sound", _with_bomb),
    Crafted("tags.flac", "sound", _long_tags),
    Crafted("endless.flac", "sound", _endless_flac),
    Crafted("cut.flac", "sound", cut(_flac, 0.5)),
    Crafted("ogg.ogg", "sound", data(b"OggS\0\x02" + b"\xff" * 20 + b"\x01\x13OpusHead\x01\xff" + b"\xff" * 4000)),
    Crafted("adts.aac", "sound", data(b"\xff\xf1\x50\x80\x02\x1f\xfc" * 9000)),
]
