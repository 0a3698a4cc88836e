"""The animation out of its frames: gif and webp through Pillow, mp4 through FFmpeg."""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

from PIL import Image

from ...media.animation import even_size, frame_times, with_palette, write_film
from ...media.pictures import save
from .frame_file import open_frame
from .options import VideoPreviewOptions

_BEST_CRF, _WORST_CRF = 16, 44


def write_animation(
    frames: Sequence[Path], path: Path, kind: str, options: VideoPreviewOptions, tick: Callable[[int], None]
) -> None:
    """Write GIF, WEBP or MP4. `tick` is told how many frames have been handed over; it may raise."""
    pictures = _pictures(frames, tick)
    first = next(pictures)
    if kind == "MP4":
        crf = round(_WORST_CRF - (_WORST_CRF - _BEST_CRF) * options.quality / 100)
        rate = Fraction(options.fps).limit_denominator(1000)
        write_film(chain([first], pictures), path, even_size(*first.size), rate, crf=crf, preset="medium")
        return
    parameters: dict[str, Any] = {"quality": options.quality, "method": 4} if kind == "WEBP" else {"disposal": 1}
    if kind == "GIF":
        first, pictures = with_palette(first), map(with_palette, pictures)
    times = frame_times(len(frames), options.fps, kind)
    save(first, path, kind, save_all=True, append_images=pictures, duration=times, loop=0, **parameters)


def _pictures(frames: Sequence[Path], tick: Callable[[int], None]) -> Iterator[Image.Image]:
    """One at a time: the encoders ask for the next when they are done with the one before."""
    for number, path in enumerate(frames):
        tick(number)
        with open_frame(path) as picture:
            yield picture.convert("RGB")
