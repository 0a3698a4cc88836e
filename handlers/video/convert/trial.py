"""A few pictures, the same everywhere, to compare encoders by their output: builds of one version may differ."""

from random import Random

TRIAL_SIDE = 256
_COUNT = 4
_MOVED = 12 * TRIAL_SIDE + 20
"""Bytes: each picture is shifted by some pixels, so that the search for motion counts, too."""


def trial_pictures() -> list[bytes]:
    """Pictures of `TRIAL_SIDE` by `TRIAL_SIDE`, in rgba: this processor's conversion counts, too."""
    size = TRIAL_SIDE * TRIAL_SIDE * 4
    grain = Random(1).randbytes(size + _COUNT * _MOVED)  # noqa: S311 - any lively content will do
    return [grain[number * _MOVED : number * _MOVED + size] for number in range(_COUNT)]
