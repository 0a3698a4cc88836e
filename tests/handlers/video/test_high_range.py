"""High dynamic range: kept with all its metadata, or mapped so that light, colours and highlights are right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.video.reformatter import Interpolation
from bright_films import FILMS, HLG, PQ, REFERENCES, apart, first_picture, make, scene, small
from full_films import dolby, marked

from tasktrail.events.errors import InvalidOptions
from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.options import VideoConvertOptions
from tasktrail.handlers.video.frames import frames_after
from tasktrail.handlers.video.light import Light, Mastering
from tasktrail.handlers.video.preview import video_preview
from tasktrail.handlers.video.preview.options import VideoPreviewOptions
from tasktrail.handlers.video.source import read_source
from tasktrail.handlers.video.thumbnail import video_thumbnail
from tasktrail.handlers.video.thumbnail.options import VideoThumbnailOptions
from tasktrail.handlers.video.tones import PAPER, ToneMapper, compressed, mapped, pq_value
from tasktrail.testing import RecordingContext, job_for, run_handler

BT2020 = 9
NAMES = [film.name for film in FILMS]
PLAIN = FILMS[0]
WRONG = "its colours are wrong: they need the metadata of Dolby Vision"


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Make a film of each kind, with the same scene mapped by another program."""
    folder = tmp_path_factory.mktemp("films")
    return {film.name: make(folder / f"{film.name}.mp4", film) for film in FILMS}


def codes(light: Any, peak: float, transfer: int = PQ) -> Any:
    """Return the values of 0 to 255 that greys or colours of this light become."""
    return 255 * mapped(pq_value(np.asarray(light, float)), transfer, BT2020, peak)


# --- The tones ---


@pytest.mark.parametrize("peak", [100, 203, 400, 1000, 4000, 10_000])
def test_dark_tones_keep_their_light_and_bright_ones_still_differ(peak: int) -> None:
    light = np.geomspace(0.01, peak, 200)
    made = compressed(light, peak)
    assert np.allclose(made[light < 20], light[light < 20], rtol=1e-6)
    assert (np.diff(made) > 0).all()
    assert made[-1] == pytest.approx(min(peak, PAPER))
    assert (made <= light * (1 + 1e-9)).all()


@pytest.mark.parametrize("peak", [203, 1000, 4000])
def test_grey_stays_grey_and_the_peak_is_white(peak: int) -> None:
    greys = np.geomspace(0.01, peak, 100)[:, None] * np.ones(3)
    made = codes(greys, peak)
    assert np.ptp(made, axis=1).max() < 1e-6
    assert made[-1, 0] == pytest.approx(255, abs=0.01)


def test_white_paper_and_skin_are_about_as_bright_as_in_a_film_for_plain_screens() -> None:
    assert 215 < codes([[203.0] * 3], 1000)[0, 0] < 240
    assert 60 < codes([[10.0] * 3], 1000)[0, 0] < 85


@pytest.mark.parametrize("peak", [1000, 4000])
def test_a_colour_that_gets_brighter_keeps_its_hue(peak: int) -> None:
    """In light of BT.709, differences between the channels stay in proportion."""
    for colour in ([0.6, 0.4, 0.3], [0.4, 0.55, 0.9], [0.9, 0.5, 0.2]):
        shares = (codes([[each * light for each in colour] for light in (5, 50, 500, peak)], peak) / 255) ** 2.4
        shares /= shares.max(axis=1, keepdims=True)
        assert np.allclose(shares, shares[0], atol=0.01)


def test_colours_outside_of_bt709_still_differ_from_those_at_its_edge() -> None:
    green = np.array([[0.0, 100.0, 0.0]])
    for share in (0.0, 0.2, 0.4):
        paler = green + share * np.array([[60.0, 0.0, 30.0]])
        darkest = codes(paler, 1000).min()
        assert darkest > (0 if share else -1)
        green_now = codes(green + (share + 0.2) * np.array([[60.0, 0.0, 30.0]]), 1000).min()
        assert green_now > darkest + 3


def test_the_peak_is_that_of_the_pixels_else_that_of_the_display_else_the_usual_one() -> None:
    display = Mastering(brightest=4000.0)
    assert Light(mastering=display, brightest_pixel=1800).peak(PQ) == 1800
    assert Light(mastering=display).peak(PQ) == 4000
    assert Light().peak(PQ) == 1000
    assert Light(mastering=display).peak(HLG) == 1000


# --- Films ---


@pytest.mark.parametrize("name", NAMES)
def test_a_film_looks_like_what_another_tone_mapper_makes_of_it(
    name: str, films: dict[str, Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(films[name], crf=4)
    outcome = convert(context)
    assert isinstance(outcome, Finished)
    made = first_picture(context.output_file)
    reference, clipped = (first_picture(REFERENCES / f"{name}-{kind}.png") for kind in ("mapped", "clipped"))
    assert apart(made, reference) < 4.2
    assert apart(clipped, reference) > 1.35 * apart(made, reference)
    peak = next(film.peak for film in FILMS if film.name == name)
    assert outcome.result["notes"] == [
        "10 bits a colour became 8",
        f"high dynamic range became standard (BT.709), tones mapped from a peak of {peak:.0f} cd/m²",
    ]


@pytest.mark.parametrize("name", NAMES)
def test_highlights_keep_detail_that_clipping_loses(
    name: str, films: dict[str, Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(films[name], crf=4)
    convert(context)
    made = np.asarray(small(first_picture(context.output_file)).convert("L"), int)
    clipped = np.asarray(first_picture(REFERENCES / f"{name}-clipped.png").convert("L"), int)
    greys = slice(2, 10), slice(103, 119)  # from 230 cd/m² on
    assert np.ptp(clipped[greys]) <= 8
    assert np.ptp(made[greys]) > 8
    assert (np.diff(made[6, ::4]) >= -1).all()


@pytest.mark.parametrize("name", ["pq-1000", "hlg"])
def test_stills_are_mapped_as_films_are(
    name: str, films: dict[str, Path], tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    film = prepare(films[name], crf=2)
    convert(film)
    for handler, options in (
        (video_thumbnail, VideoThumbnailOptions(position=0, width=480)),
        (video_preview, VideoPreviewOptions(columns=1, rows=1, width=480, gap=0, timestamps=False)),
    ):
        still: Any = RecordingContext(
            options,
            work_dir=tmp_path / handler.name,
            input_file=films[name],
            output_file=tmp_path / f"{handler.name}.png",
        )
        assert isinstance(run_handler(handler, still), Finished)
        assert apart(first_picture(still.output_file), first_picture(film.output_file)) < 2.0


def test_tones_are_the_same_however_many_segments_are_made_at_once(
    tmp_path: Path, prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    """Each segment has a table of its own, made from the same numbers."""
    source = make(tmp_path / "long.mp4", PLAIN, frames=30, light=scene(96, 54, 1000))
    made = []
    for at_once in (1, 3):
        context = prepare(source, f"out{at_once}.mp4", segment_seconds=0.5, segments_at_once=at_once)
        convert(context)
        made.append(context.output_file.read_bytes())
    assert made[0] == made[1]


def test_turned_cropped_and_padded_pictures_are_mapped_too(
    films: dict[str, Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(films["pq-1000"], crf=4, crop="480:192:0:96", rotate=180, pad="512:256")
    convert(context)
    made = np.asarray(first_picture(context.output_file))
    assert made[2, 2].max() < 4
    assert made[200, 24].min() > 240  # the brightest grey, upside down
    assert made.shape == (256, 512, 3)


def test_a_matrix_that_the_scaler_does_not_know_is_taken_for_the_usual_one(
    films: dict[str, Path], tmp_path: Path
) -> None:
    source = read_source(films["pq-1000"])
    _, frame = next(frames_after(source, None))
    tones = ToneMapper(source, (64, 36), Interpolation.BICUBIC, tmp_path)
    usual = tones.mapped(frame).to_ndarray(format="rgb24")
    for matrix in (2, 10, 12, 13):
        frame.colorspace = matrix
        assert (tones.mapped(frame).to_ndarray(format="rgb24") == usual).all()
    assert list(tmp_path.iterdir()) == []


# --- Kept ---


@pytest.mark.slow
@pytest.mark.parametrize(("codec", "output"), [("h265", "out.mp4"), ("h265", "out.mkv"), ("av1", "out.mkv")])
def test_what_a_film_says_about_its_light_is_kept_with_its_tags(
    codec: str, output: str, films: dict[str, Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    before = read_source(films["pq-4000"])
    for at_once in (1, None):
        context = prepare(films["pq-4000"], output, video_codec=codec, hdr="keep", segments_at_once=at_once)
        outcome = convert(context)
        assert outcome.result["notes"] == []
        after = read_source(context.output_file)
        assert (after.colour, after.depth) == (before.colour, 10)
        assert (after.light.brightest_pixel, after.light.brightest_average) == (4000, 400)
        display, wanted = after.light.mastering, before.light.mastering
        assert display is not None
        assert wanted is not None
        assert np.allclose(display.primaries, wanted.primaries, atol=1e-4)
        assert display.brightest == pytest.approx(4000)
        assert display.darkest == pytest.approx(0.005, abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "bits"), [({"hdr": "sdr"}, 10), ({"profile": "main"}, 8), ({"profile": "main", "hdr": "sdr"}, 8)]
)
def test_it_is_mapped_where_the_profile_has_eight_bits_or_it_is_asked_for(
    options: dict[str, Any], bits: int, films: dict[str, Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(films["hlg"], video_codec="h265", **options)
    outcome = convert(context)
    assert outcome.result["notes"][-1].startswith("high dynamic range became standard")
    made = read_source(context.output_file)
    assert (made.colour, made.depth, made.light) == ((1, 1, 1), bits, Light())


@pytest.mark.skipif(av.__version__.startswith("18."), reason="PyAV 18 does not tell that a film is of Dolby Vision")
@pytest.mark.parametrize(
    ("profile", "base", "options", "notes"),
    [
        (8, 1, {"video_codec": "h265"}, ["metadata of Dolby Vision dropped"]),
        (5, 0, {"video_codec": "h265"}, [WRONG, "metadata of Dolby Vision dropped"]),
        (5, 0, {}, [WRONG]),
    ],
)
def test_what_a_film_of_dolby_vision_loses_is_noted(
    *,
    profile: int,
    base: int,
    options: dict[str, Any],
    notes: list[str],
    films: dict[str, Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    tmp_path: Path,
) -> None:
    source = marked(films["pq-1000"], tmp_path / "in.mp4", dolby(profile, base))
    outcome = convert(prepare(source, **options))
    assert outcome.result["notes"][-len(notes) :] == notes


@pytest.mark.skipif(av.__version__.startswith("18."), reason="PyAV 18 does not tell that a film is of Dolby Vision")
@pytest.mark.parametrize(("profile", "base", "notes"), [(8, 1, None), (5, 0, [WRONG])])
@pytest.mark.parametrize(
    ("handler", "options"),
    [(video_thumbnail, VideoThumbnailOptions(position=0)), (video_preview, VideoPreviewOptions(columns=1, rows=1))],
)
def test_a_still_whose_colours_are_wrong_without_dolby_vision_says_so(
    *, handler: Any, options: Any, profile: int, base: int, notes: Any, films: dict[str, Path], tmp_path: Path
) -> None:
    source = marked(films["pq-1000"], tmp_path / "in.mp4", dolby(profile, base))
    still: Any = RecordingContext(
        options, work_dir=tmp_path / "work", input_file=source, output_file=tmp_path / "out.png"
    )
    outcome = run_handler(handler, still)
    assert isinstance(outcome, Finished)
    assert outcome.result.get("notes") == notes


def test_a_plain_film_is_left_alone_whatever_is_asked(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    made = []
    for hdr in ("auto", "sdr"):
        context = prepare(clips(seconds=1), f"{hdr}.mp4", hdr=hdr)
        assert convert(context).result["notes"] == []
        made.append(context.output_file.read_bytes())
    assert made[0] == made[1]


@pytest.mark.parametrize("options", [{"video_codec": "h264"}, {"video_codec": "h265", "profile": "main"}])
def test_to_keep_it_in_eight_bits_is_refused(options: dict[str, Any]) -> None:
    check = video_convert.check
    assert check
    with pytest.raises(InvalidOptions, match="needs ten bits") as refused:
        check(job_for(VideoConvertOptions(**options, hdr="keep"), "/in.mkv", "/out.mp4"))
    assert refused.value.field == "options.hdr"


def test_to_keep_it_with_an_encoder_of_eight_bits_is_rejected(
    films: dict[str, Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    outcome = convert(prepare(films["hlg"], "out.webm", hdr="keep"))
    assert isinstance(outcome, Rejected)
    assert "take video_codec h265 or av1" in outcome.reason
