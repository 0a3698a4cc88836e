"""The number of bytes that a picture is expected to take."""

import pytest

from tasktrail.handlers.media.estimate import Packing, fitted_pixels, packing_of, written_bytes


def test_better_quality_takes_more_and_lossless_most() -> None:
    sizes = [written_bytes("WEBP", 10**6, quality=quality) for quality in (1, 50, 85, 95, 100)]
    sizes.append(written_bytes("WEBP", 10**6, lossless=True))
    assert sizes == sorted(set(sizes))


def test_a_file_tells_how_busy_its_picture_is_if_its_size_is_of_the_pixels_alone() -> None:
    assert packing_of("JPEG", 500_000, 10**6) == Packing(lossless=False, density=0.5)
    assert packing_of("PNG", 500_000, 10**6, mode="RGB") == Packing(lossless=True, density=0.5)
    assert packing_of("PNG", 500_000, 10**6, mode="P") == packing_of("GIF", 500_000, 10**6)
    assert packing_of("TIFF", 500_000, 10**6, compression="tiff_lzw") == Packing(lossless=True, density=0.5)
    assert packing_of("TIFF", 3_000_000, 10**6, compression="raw") is None
    assert packing_of("PNG", 10_000, 10**6, mode="1") is None
    assert packing_of("WEBP", 500_000, 10**6) is None, "with loss or without: its header does not say"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "AVIF", "PNG", "TIFF", "GIF"])
@pytest.mark.parametrize("source", ["JPEG", "PNG"])
def test_a_calm_picture_takes_less_the_less_the_smaller_it_is_made(kind: str, source: str) -> None:
    calm, busy = packing_of(source, 225_000, 10**6), packing_of(source, 4_000_000, 10**6)
    plain = written_bytes(kind, 10**6, packing=calm)
    small = written_bytes(kind, 10**6, packing=calm, shrunk=8)
    most = written_bytes(kind, 10**6, packing=busy)
    assert plain < small <= most == written_bytes(kind, 10**6)


@pytest.mark.parametrize(
    ("fit", "enlarge", "pixels"),
    [("fit", False, 200 * 100), ("fit", True, 400 * 200), ("fill", False, 400 * 400), ("crop", False, 200 * 100)],
)
def test_the_pixels_are_those_of_the_picture_in_the_box(*, fit: str, enlarge: bool, pixels: int) -> None:
    assert fitted_pixels((200, 100), (400, 400), fit, enlarge=enlarge) == pixels
