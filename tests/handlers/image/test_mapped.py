"""No picture is mapped into memory while it is read: if the file were cut then, the worker would die."""

import sys
from pathlib import Path

import pytest
import pyvips
from PIL import Image

from tasktrail.handlers.image.convert.options import ImageConvertOptions
from tasktrail.handlers.image.convert.still import shaped_still
from tasktrail.handlers.image.opening import open_picture

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc/self/maps is Linux's")


@pytest.fixture(params=["jpg", "png", "webp", "gif", "tif", "bmp", "avif"])
def picture(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"in.{request.param}"
    Image.effect_noise((300, 200), 60).convert("RGB").save(path)
    return path


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text(encoding="utf-8")


def test_pillow_maps_none(picture: Path) -> None:
    with open_picture(picture, 10**6) as image:
        image.load()
        assert not mapped(picture)


@pytest.mark.parametrize("options", [ImageConvertOptions(), ImageConvertOptions(width=50)], ids=["whole", "small"])
def test_libvips_maps_none(picture: Path, options: ImageConvertOptions) -> None:
    if picture.suffix == ".bmp":
        pytest.skip("read by Pillow")
    seen: list[bool] = []

    def hold(streamed: pyvips.Image) -> pyvips.Image:
        seen.append(mapped(picture))
        return streamed.copy_memory()

    image = shaped_still(picture, options, 6, hold)
    assert seen == [False]
    assert not mapped(picture)
    image.avg()
    assert not mapped(picture)
