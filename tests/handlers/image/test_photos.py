"""The short form of `make photos`: one small picture of each kind, without foreign files."""

from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from photo_kinds import KINDS, difference
from photos import LARGE, OUTPUTS, Result, Shot, run, shots, tell
from PIL import Image
from rich.console import Console

from tasktrail.handlers.image.shaping import upright

NAMES = list(KINDS)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make soft light of another colour from each side, with a little noise, as photos have it."""
    down, across = np.mgrid[0:480, 0:640]
    light = np.stack([255 * across / 640, 255 * down / 480, 200 - 100 * across / 640 + 50 * np.sin(down / 30)], axis=-1)
    grain = np.random.default_rng(1).normal(0, 6, light.shape)
    path = tmp_path_factory.mktemp("scene") / "scene.png"
    Image.fromarray((light + grain).clip(0, 255).astype(np.uint8)).save(path)
    return path


@pytest.mark.slow
@pytest.mark.parametrize("kind", NAMES)
def test_a_photo_of_every_kind_comes_out_as_pillow_sees_it_and_its_half_is_called_damaged(
    kind: str, scene: Path
) -> None:
    number = NAMES.index(kind)
    for orientation, output in ((number % 8 + 1, ".png"), ((number + 3) % 8 + 1, ".jpg")):
        lying = orientation if KINDS[kind].oriented else 1
        result = run(Shot(number, kind, lying, (203, 150), scene, output, cut=0.5))
        assert result.lines == []
        assert result.told


def test_a_picture_that_lies_wrongly_would_be_seen(scene: Path) -> None:
    with Image.open(scene) as opened:
        picture = opened.convert("RGB").resize((200, 200))
    for orientation in range(2, 9):
        assert difference(upright(picture, orientation), picture) > 10
    assert difference(picture.resize((100, 100)), picture) == 255


def test_a_thousand_photos_are_of_every_kind_orientation_output_and_of_sizes_beyond_what_is_streamed() -> None:
    every = list(shots(1000, 1, [Path("a"), Path("b")]))
    lying = {(shot.kind, shot.orientation) for shot in every}
    assert lying == {(name, turn) for name in NAMES for turn in range(1, 9 if KINDS[name].oriented else 2)}
    assert {shot.output for shot in every} == set(OUTPUTS)
    assert LARGE in {shot.size for shot in every}
    assert sum(bool(shot.cut) for shot in every) == 200
    assert every == list(shots(1000, 1, [Path("a"), Path("b")]))


def test_what_is_wrong_is_told_and_ends_with_1(scene: Path) -> None:
    shot = Shot(7, "jpeg 4:4:4", 6, (40, 30), scene, ".png", cut=0.0)
    said = StringIO()
    found = [Result(shot, ["image_convert to .png: 9.0 apart"]), Result(shot, ["image_thumbnail: Rejected(...)"])]
    assert tell([*found, Result(shot, [])], Console(file=said, width=200)) == 1
    assert "3 photos of 1 real ones" in said.getvalue()
    assert "1 wrong, 1 refused that are whole" in said.getvalue()
    assert "7 jpeg 4:4:4, 6, (40, 30): image_convert to .png: 9.0 apart" in said.getvalue()
    assert tell([Result(shot, [])], Console(file=said, width=200)) == 0
