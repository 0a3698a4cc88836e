"""Films of high dynamic range with known light, and a measure of how far two pictures differ for the eye."""

import subprocess
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import av
import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

Values: TypeAlias = Any
"""An array of floating-point numbers."""

BT2020, PQ, HLG = 9, 16, 18
_FROM_709 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
_LIGHTNESS = np.array([0.2627, 0.6780, 0.0593])


class Film(NamedTuple):
    """A recipe: how light becomes values, and the brightest light in cd/m²."""

    name: str
    transfer: int
    peak: float


FILMS = (Film("pq-1000", PQ, 1000.0), Film("pq-4000", PQ, 4000.0), Film("hlg", HLG, 1000.0))
REFERENCES = Path(__file__).parent.parent / "golden" / "high-range"
"""The results of another tone mapper for the films, written by `tests/gallery/high_range.py`."""
SIZE = 480, 288
_COMPARED = 120, 72
"""Pictures are compared at this small size, so that storing colours at half the size makes no difference."""
ROWS = 6


def scene(width: int, height: int, peak: float) -> Values:
    """Return light in cd/m² of BT.2020, in six rows.

    The rows are greys, hues of BT.709, hues of BT.2020 getting brighter, skin, and sky with clouds and a sun as bright
    as the film's peak.
    """
    down, across = np.mgrid[0:height, 0:width]
    x, y = across / width, down / height
    row = (y * ROWS).astype(int)
    brighter = (0.05 * (peak / 0.05) ** x)[..., None]
    hue = (6 * x)[..., None]
    hues = np.clip(np.concatenate([abs(hue - 3) - 1, 2 - abs(hue - 2), 2 - abs(hue - 4)], axis=-1), 0, 1)
    skins = np.array([(0.45, 0.27, 0.18), (0.62, 0.42, 0.32), (0.75, 0.55, 0.45), (0.25, 0.14, 0.09)])
    skin = skins[(4 * x).astype(int)] * (40 + 260 * (4 * x % 1))[..., None]
    sky = np.stack([0.25 + 0.3 * y, 0.45 + 0.25 * y, 0.8 + 0 * y], axis=-1) * (420 - 300 * y)[..., None]
    clouds = 50 * (np.sin(40 * x) + np.sin(23 * x + 31 * y))[..., None] ** 2
    far = np.hypot((x - 0.3) * width / height, y - 0.83)[..., None]
    sun = np.exp(-((far / 0.06) ** 2)) * peak * np.array([1.0, 0.93, 0.75])
    kinds = [brighter * np.ones(3), 150 * hues @ _FROM_709.T, brighter * hues, skin @ _FROM_709.T]
    light = sky @ _FROM_709.T + clouds + sun
    for number, kind in enumerate(kinds):
        light[row == number] = kind[row == number]
    return np.minimum(light, peak)


def values_of(light: Values, transfer: int) -> Values:
    """Convert light to values from 0 to 1, by BT.2100."""
    if transfer == PQ:
        power = (light / 10_000) ** 0.1593017578125
        return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375
    share = light / 1000
    lightness = np.maximum(share @ _LIGHTNESS, 1e-9)[..., None]
    seen = np.clip(share * lightness ** (1 / 1.2 - 1), 0, 1)
    bright = 0.17883277 * np.log(np.maximum(12 * seen - 0.28466892, 1e-9)) + 0.55991073
    return np.where(seen <= 1 / 12, np.sqrt(3 * seen), bright)


def mastering(peak: float) -> str:
    """Return the mastering display in x265's format: Display P3 up to `peak`."""
    display = f"G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L({peak * 10_000:.0f},50)"
    return f"master-display={display}:max-cll={peak:.0f},400"


def make(path: Path, film: Film, frames: int = 2, light: Values | None = None) -> Path:
    """Write the film, of the scene or of other light."""
    shown = scene(*SIZE, film.peak) if light is None else light
    values = np.round(65535 * values_of(shown, film.transfer)).astype(np.uint16)
    picture = VideoFrame.from_ndarray(values, format="rgb48le")
    said = f":{mastering(film.peak)}" if film.transfer == PQ else ""
    # Without bframes=0, x265 takes the decoding times of such short films from uninitialised memory.
    options = {"crf": "4", "preset": "ultrafast", "x265-params": f"bframes=0:log-level=none{said}"}
    with av.open(str(path), "w", options={"fflags": "+bitexact"}) as output:
        stream: Any = output.add_stream("libx265", rate=25, options=options)
        stream.height, stream.width = shown.shape[:2]
        stream.pix_fmt = "yuv420p10le"
        context = stream.codec_context
        context.color_primaries, context.color_trc, context.colorspace = BT2020, film.transfer, BT2020
        context.color_range = 1
        for number in range(frames):
            frame = picture.reformat(format="yuv420p10le", dst_colorspace=BT2020, dst_color_range="MPEG")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def first_picture(path: Path) -> Image.Image:
    """Return the first frame of a film of BT.709, or a picture, in RGB."""
    if path.suffix == ".png":
        with Image.open(path) as opened:
            return opened.convert("RGB")
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
        return Image.fromarray(frame.to_ndarray(format="rgb24", src_colorspace="ITU709"))


def small(picture: Image.Image) -> Image.Image:
    """Scale a picture to the size at which pictures are compared."""
    return picture.resize(_COMPARED, Image.Resampling.BOX)


def lab(picture: Image.Image) -> Values:
    """Return CIE L*a*b* of what a screen for sRGB shows."""
    values = np.asarray(picture, float) / 255
    light = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = light @ to_xyz.T / np.array([0.9505, 1.0, 1.089])
    x, y, z = np.moveaxis(np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116), -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def apart(one: Image.Image, other: Image.Image) -> float:
    """Return the mean difference of two pictures, in CIE dE*ab (1976). Side by side, about 2.3 is just noticeable."""
    return float(np.linalg.norm(lab(small(one)) - lab(small(other)), axis=-1).mean())


def by_ffmpeg(film: Path, output: Path, tonemap: str) -> bool:
    """Tone map the first frame by an ffmpeg program with zimg; False if there is none on the search path.

    White is at 203 cd/m², as in report BT.2408.
    """
    filters = (
        "zscale=t=linear:npl=203,format=gbrpf32le,zscale=p=bt709",
        f"tonemap={tonemap}:desat=0",
        "zscale=t=bt709:m=bt709:r=tv,format=yuv444p,scale=in_color_matrix=bt709,format=rgb24",
    )
    command = ["ffmpeg", "-v", "error", "-y", "-i", str(film), "-frames:v", "1", "-vf", ",".join(filters), str(output)]
    try:
        return subprocess.run(command, check=False, capture_output=True).returncode == 0
    except FileNotFoundError:
        return False
