"""How many bytes a picture is expected to take."""

import pytest

from tasktrail.handlers.image.weight import busyness_of, fitted_pixels, written_bytes


def test_better_quality_takes_more_and_lossless_most() -> None:
    sizes = [written_bytes("WEBP", 10**6, quality=quality) for quality in (1, 50, 85, 95, 100)]
    assert sizes == sorted(set(sizes))
    assert written_bytes("WEBP", 10**6, lossless=True) == written_bytes("PNG", 10**6) > sizes[-2]


def test_only_a_jpeg_tells_how_busy_a_picture_is() -> None:
    assert busyness_of("PNG", 1_000, 10**6) == 1.0
    calm, small, busy = (
        busyness_of("JPEG", size, 10**6, shrunk) for size, shrunk in ((225_000, 1), (225_000, 8), (900_000, 1))
    )
    assert calm < small <= busy == 1.0


@pytest.mark.parametrize(
    ("fit", "enlarge", "pixels"),
    [("fit", False, 200 * 100), ("fit", True, 400 * 200), ("fill", False, 400 * 400), ("crop", False, 200 * 100)],
)
def test_the_pixels_are_those_of_the_picture_in_the_box(*, fit: str, enlarge: bool, pixels: int) -> None:
    assert fitted_pixels((200, 100), (400, 400), fit, enlarge=enlarge) == pixels
