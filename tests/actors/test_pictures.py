"""Small pictures of files: made in sandboxed processes, kept, and refused in words where none can be made."""

import asyncio
import os
from collections.abc import Callable, Iterator
from fractions import Fraction
from io import BytesIO
from pathlib import Path

import av
import pytest
from PIL import Image

from tasktrail.actors import pictures
from tasktrail.actors.pictures import NoPicture, PictureMaker
from tasktrail.events.clock import SystemClock
from tasktrail.handlers.pictures import PICTURE_SIDE, picture_type
from tasktrail.handlers.process.sandbox import Sandbox

WITHIN = 60


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    (folder / "secret.png").write_bytes(_png())
    return folder


@pytest.fixture(scope="module")
def maker(data: Path) -> Iterator[PictureMaker]:
    made = make(data)
    yield made
    made.close()


def make(data: Path, input_roots: tuple[str, ...] = ()) -> PictureMaker:
    sandbox = Sandbox(mode="off", protected=(str(data.resolve()),), input_roots=input_roots)
    return PictureMaker(data / "pictures", lock_path=data / "workers.lock", sandbox=sandbox, clock=SystemClock())


def drawn(maker: PictureMaker, path: Path, side: str = "input") -> Image.Image:
    data = maker.picture(str(path), side).result(WITHIN)
    picture = Image.open(BytesIO(data), formats=("JPEG",))
    picture.load()
    return picture


def refusal(maker: PictureMaker, path: Path, side: str = "input") -> str:
    error = maker.picture(str(path), side).exception(WITHIN)
    assert isinstance(error, NoPicture)
    return error.message


def _png(size: tuple[int, int] = (640, 400), colour: str = "teal") -> bytes:
    out = BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def _film(path: Path) -> None:
    with av.open(path, "w") as film:
        stream = film.add_stream("mpeg4", rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for shade in range(10):
            picture = Image.new("RGB", (320, 240), (200, 20 * shade, 40))
            frame = av.VideoFrame.from_image(picture)  # type: ignore[no-untyped-call]  # PyAV's
            film.mux(stream.encode(frame))
        film.mux(stream.encode())


_MODEL = """solid one
facet normal 0 0 1
outer loop
vertex 0 0 0
vertex 1 0 0
vertex 0 1 0
endloop
endfacet
facet normal 1 1 1
outer loop
vertex 1 0 0
vertex 0 1 0
vertex 0 0 1
endloop
endfacet
endsolid one
"""


def test_a_picture_is_made_of_an_image(maker: PictureMaker, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(_png())
    picture = drawn(maker, tmp_path / "a.png")
    assert max(picture.size) == PICTURE_SIDE
    red, green, blue = picture.convert("RGB").getpixel((10, 10))  # type: ignore[misc]  # RGB has three
    assert (red < 30, 100 < green < 160, 100 < blue < 160) == (True, True, True)


@pytest.mark.slow
def test_a_picture_is_made_of_a_film_a_document_a_text_and_a_model(maker: PictureMaker, tmp_path: Path) -> None:
    _film(tmp_path / "film.mp4")
    Image.new("RGB", (300, 300), "white").save(tmp_path / "page.pdf")
    (tmp_path / "notes.txt").write_text("some words\n" * 30)
    (tmp_path / "model.stl").write_text(_MODEL)
    assert drawn(maker, tmp_path / "film.mp4").size == (320, 240)
    assert max(drawn(maker, tmp_path / "page.pdf").size) <= PICTURE_SIDE
    assert drawn(maker, tmp_path / "notes.txt").height == PICTURE_SIDE
    assert drawn(maker, tmp_path / "model.stl").width == PICTURE_SIDE


def test_a_picture_is_kept_until_the_file_changes(
    maker: PictureMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "b.png"
    path.write_bytes(_png(colour="red"))
    stamp, first = maker.stamp(str(path), "input"), drawn(maker, path)
    with monkeypatch.context() as patch:
        patch.setattr(PictureMaker, "_new_request", None)
        assert drawn(maker, path).tobytes() == first.tobytes()
        patch.setattr(maker, "_kept", None)  # as after a start
        assert drawn(maker, path).tobytes() == first.tobytes()
    path.write_bytes(_png(colour="blue", size=(100, 100)))
    assert maker.stamp(str(path), "input") != stamp
    assert drawn(maker, path).size == (100, 100)


def _as_pipe(path: Path) -> None:
    os.mkfifo(path)


def _as_endless(path: Path) -> None:
    path.symlink_to("/dev/zero")


def _as_circle(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("put", [_as_pipe, _as_endless, _as_circle])
@pytest.mark.parametrize("seen", [False, True])
def test_what_is_no_file_among_the_kept_pictures_is_neither_read_nor_written(
    maker: PictureMaker, tmp_path: Path, put: Callable[[Path], None], *, seen: bool
) -> None:
    path = tmp_path / "kept.png"
    path.write_bytes(_png(colour="red"))
    first = drawn(maker, path)
    (kept,) = [one for one in maker._folder.glob("*.jpg") if one.stem == maker.stamp(str(path), "input")]
    kept.unlink()
    put(kept)
    put(kept.with_suffix(".part"))
    if not seen:
        maker._kept = None  # as after a start
    assert drawn(maker, path).tobytes() == first.tobytes()
    kept.with_suffix(".part").unlink()
    kept.unlink()


def test_where_a_file_is_in_the_place_of_the_folder_there_is_no_picture_and_it_is_said_why(
    maker: PictureMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(_png())
    (tmp_path / "file").touch()
    monkeypatch.setattr(maker, "_kept", None)
    monkeypatch.setattr(maker, "_folder", tmp_path / "file")
    monkeypatch.setattr(maker, "_work", tmp_path / "file" / "work")
    with pytest.raises(NoPicture, match="The folder of pictures cannot be used: File exists"):
        maker.picture(str(tmp_path / "a.png"), "input").result(WITHIN)


def test_one_picture_is_made_for_all_who_want_it_at_once(maker: PictureMaker, tmp_path: Path) -> None:
    (tmp_path / "c.png").write_bytes(_png(size=(50, 60)))
    wanted = [maker.picture(str(tmp_path / "c.png"), "output") for _ in range(5)]
    assert len(set(map(id, wanted))) == 1
    assert wanted[0].result(WITHIN).startswith(b"\xff\xd8")


def test_who_goes_away_takes_the_picture_from_nobody_else(maker: PictureMaker, tmp_path: Path) -> None:
    """A browser that closes the page cancels its own waiting requests."""
    (tmp_path / "c.png").write_bytes(_png(size=(50, 61)))

    async def program() -> None:
        gone, stays = (asyncio.wrap_future(maker.picture(str(tmp_path / "c.png"), "output")) for _ in range(2))
        gone.cancel()
        assert (await asyncio.wait_for(stays, WITHIN)).startswith(b"\xff\xd8")

    asyncio.run(program())


def test_what_is_no_picture_is_refused_in_words_and_not_tried_again(
    maker: PictureMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "broken.png"
    path.write_bytes(_png()[:300])
    told = refusal(maker, path)
    assert "broken.png" in told
    monkeypatch.setattr(PictureMaker, "_new_request", None)
    assert refusal(maker, path) == told


def _fifo(path: Path) -> None:
    os.mkfifo(path)


@pytest.mark.parametrize(
    ("name", "prepare", "told"),
    [
        ("a.exe", lambda path: path.write_bytes(b"MZ"), "not shown"),
        ("gone.png", lambda _path: None, "not there"),
        ("folder.png", Path.mkdir, "no regular file"),
        ("pipe.png", _fifo, "no regular file"),
        ("loop.png", lambda path: path.symlink_to(path), "not there"),
        ("nul\0.png", lambda _path: None, "not there"),
    ],
)
def test_what_is_not_worth_a_process_is_refused_at_once(
    maker: PictureMaker, tmp_path: Path, name: str, prepare: Callable[[Path], None], told: str
) -> None:
    prepare(tmp_path / name)
    assert told in refusal(maker, tmp_path / name)
    assert maker.stamp(str(tmp_path / name), "input") == ""


def test_the_files_of_the_service_are_not_drawn_whatever_links_lead_there(
    maker: PictureMaker, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.png").symlink_to(data / "secret.png")
    assert "tasktrail's own files" in refusal(maker, tmp_path / "link.png")
    assert "tasktrail's own files" in refusal(maker, data / "secret.png")


def test_a_file_outside_of_the_roots_is_not_drawn(tmp_path: Path, data: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "elsewhere"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "a.png").write_bytes(_png())
    (inside / "link.png").symlink_to(outside / "a.png")
    maker = make(data, input_roots=(str(inside.resolve()),))
    assert refusal(maker, outside / "a.png") == "It lies outside of input_roots"
    assert refusal(maker, inside / "link.png") == "It lies outside of input_roots"
    assert maker.stamp(str(inside / "a.png"), "input")
    assert maker.stamp(str(outside / "a.png"), "output")
    maker.close()


def test_too_many_wishes_are_refused(maker: PictureMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "_WAITING", 0)
    (tmp_path / "d.png").write_bytes(_png(size=(77, 60)))
    assert "Too many" in refusal(maker, tmp_path / "d.png")


def test_what_is_kept_is_bounded(
    maker: PictureMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Path
) -> None:
    monkeypatch.setattr(pictures, "_KEPT_BYTES", 5_000)
    for number in range(6):
        path = tmp_path / f"{number}.png"
        path.write_bytes(_png(size=(200 + number, 200)))
        drawn(maker, path)
    files = list((data / "pictures").glob("*.jpg"))
    assert 0 < sum(file.stat().st_size for file in files) <= 5_000
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    assert {(data / name).stat().st_mode & 0o777 for name in ("pictures", "pictures/work")} == {0o700}
    assert list((data / "pictures" / "work").iterdir()) == []


class Hurried(SystemClock):
    """A clock that is set forward."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


def test_a_picture_that_takes_too_long_is_given_up_and_an_idle_worker_is_let_go(data: Path, tmp_path: Path) -> None:
    clock = Hurried()
    maker = PictureMaker(data / "slow", lock_path=data / "workers.lock", sandbox=Sandbox(), clock=clock)
    (tmp_path / "e.png").write_bytes(_png(size=(88, 60)))
    wanted = maker.picture(str(tmp_path / "e.png"), "input")
    clock.ahead = 1_000.0
    maker.tidy()
    error = wanted.exception(WITHIN)
    assert error is None or "took too long" in str(error)
    clock.ahead = 10_000.0
    maker.tidy()
    assert maker._executor is None
    maker.close()


def test_whoever_waits_is_told_when_the_service_stops(data: Path, tmp_path: Path) -> None:
    maker = PictureMaker(data / "closing", lock_path=data / "workers.lock", sandbox=Sandbox(), clock=SystemClock())
    (tmp_path / "f.png").write_bytes(_png(size=(99, 60)))
    wanted = maker.picture(str(tmp_path / "f.png"), "input")
    maker.close()
    assert wanted.exception(WITHIN) is None or isinstance(wanted.exception(), NoPicture)
    assert refusal(maker, tmp_path / "f.png") == "The service stops"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.JPG", "image_picture"),
        ("a.tif", "image_picture"),
        ("a.mkv", "video_picture"),
        ("a.docx", "document_picture"),
        ("a.md", "document_picture"),
        ("a.glb", "model_picture"),
        ("a.svg", ""),
        ("a", ""),
        (".png", ""),
        ("", ""),
    ],
)
def test_the_name_tells_what_draws_a_file(name: str, kind: str) -> None:
    assert picture_type(Path(name)) == kind
