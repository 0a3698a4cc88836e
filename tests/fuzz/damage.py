"""Ways to damage a file. Everything follows from the random source that is passed in."""

import random
from collections.abc import Callable

_ODD = (0, 1, 0x7F, 0x80, 0xFF)
_ODD_WORDS = (b"\x00\x00\x00\x00", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\x00\x00\x00", b"\x00\x00\xff\xff")


def damaged(content: bytes, chance: random.Random) -> bytes:
    """Return the content after one to eight changes, most of them near the head, where the sizes and counts are."""
    data = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        chance.choice(_INJURIES)(data, chance)
    return bytes(data)


def _place(data: bytearray, chance: random.Random) -> int:
    reach = len(data) if chance.random() < 0.4 else min(len(data), 512)
    return chance.randrange(reach) if reach else 0


def _flip(data: bytearray, chance: random.Random) -> None:
    if data:
        data[_place(data, chance)] ^= 1 << chance.randrange(8)


def _odd_byte(data: bytearray, chance: random.Random) -> None:
    if data:
        data[_place(data, chance)] = chance.choice(_ODD)


def _odd_word(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    data[at : at + 4] = chance.choice(_ODD_WORDS)


def _cut_off(data: bytearray, chance: random.Random) -> None:
    del data[_place(data, chance) :]


def _cut_out(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    del data[at : at + chance.randint(1, 64)]


def _repeat(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    data[at:at] = data[at : at + chance.randint(1, 4096)]


def _noise(data: bytearray, chance: random.Random) -> None:
    at = _place(data, chance)
    data[at : at + 32] = chance.randbytes(32)


_INJURIES: tuple[Callable[[bytearray, random.Random], None], ...] = (
    _flip,
    _flip,
    _odd_byte,
    _odd_word,
    _cut_off,
    _cut_out,
    _repeat,
    _noise,
)
