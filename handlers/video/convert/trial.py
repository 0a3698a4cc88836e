"""A few pictures, the same everywhere, to see what an encoder makes of them: builds of one version may differ."""

from random import Random

TRIAL_SIDE = 256
_COUNT = 4
_MOVED = 12 * TRIAL_SIDE + 20
"""Bytes: the pictures show the same, moved by some pixels, so that motion is searched for, too."""


def trial_pictures() -> list[bytes]:
    """Pictures of `TRIAL_SIDE` by `TRIAL_SIDE`, in rgba: how this processor converts them counts, too."""
    size = TRIAL_SIDE * TRIAL_SIDE * 4
    grain = Random(1).randbytes(size + _COUNT * _MOVED)  # noqa: S311 - anything lively will do
    return [grain[number * _MOVED : number * _MOVED + size] for number in range(_COUNT)]
