"""Estimates the needs of `image_thumbnail`. No Pillow here: the service imports this."""

from math import sqrt
from typing import Any

from ...contract import Estimate, Job
from ...media.estimate import AVIF_ENCODER, Packing, written_bytes
from ...media.formats import format_of
from .options import ImageThumbnailOptions

_GUESSED_PIXELS = 90_000_000
"""The highest guess while only the file's size is known: few pictures have more pixels, and the probe finds those."""


def estimate(job: Job[ImageThumbnailOptions]) -> Estimate:
    """Guess from the file size alone: a strongly compressed picture has about 20 pixels per byte."""
    pixels = min(_GUESSED_PIXELS, max(20 * job.input_size, 1_000_000))
    written = min(pixels, job.options.width * job.options.height)
    return estimate_for(job, pixels, pixels, written, basis={"size": job.input_size})


def estimate_for(
    job: Job[ImageThumbnailOptions],
    decoded: int,
    pixels: int,
    written: int,
    *,
    pixel_bytes: int = 4,
    packing: Packing | None = None,
    basis: dict[str, Any],
) -> Estimate:
    """Estimate from pixel counts.

    Args:
        job: the job.
        decoded: pixels that are held in memory.
        pixels: pixels of the whole picture.
        written: pixels of the output.
        pixel_bytes: bytes that a decoded pixel takes in memory, in all its copies.
        packing: how tightly the input's file packs its pixels.
        basis: what the estimate was made from, for people.
    """
    options, kind = job.options, format_of(job.output_file)
    temp = written_bytes(
        kind,
        written,
        quality=options.quality,
        packing=packing,
        shrunk=sqrt(pixels / max(1, written)),
    )
    scaling = 8 * min(options.width * options.height, max(written, decoded))
    encoder = AVIF_ENCODER * written if kind == "AVIF" else 0
    return Estimate(
        memory=56_000_000 + pixel_bytes * decoded + scaling + encoder,
        temp=temp,
        seconds=0.1 + pixels / 260e6,
        basis=basis,
    )
