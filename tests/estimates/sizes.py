"""How close films come to the requested size, and in how many passes.

PYTHONPATH=tests/support python tests/estimates/sizes.py [--seconds 24]
"""

import argparse
import sys
import tempfile
from pathlib import Path

import av
import msgspec
from av.video.frame import PictureType
from av.video.stream import VideoStream

from tasktrail.handlers import Finished
from tasktrail.handlers.contract import Room
from tasktrail.handlers.video.convert import video_convert
from tasktrail.handlers.video.convert.options import VideoConvertOptions
from tasktrail.testing import RecordingContext, run_handler

FILMS = {
    "test picture": "testsrc2=size=320x240:rate=25",
    "fractal": "mandelbrot=size=320x240:rate=25",
}
CODECS = {"h264": ".mp4", "h265": ".mp4", "vp9": ".webm", "av1": ".mkv"}
KILOBITS = (150, 400)
"""The bit rate of picture and sound together."""


def make(path: Path, source: str, seconds: float) -> Path:
    """Make a film of three parts: the picture, the same with a quarter of the detail, and the picture again."""
    with av.open(source, format="lavfi") as pictures, av.open(str(path), "w") as film:
        track = film.add_stream("libx264", rate=25, options={"crf": "12", "preset": "veryfast", "g": "125"})
        assert isinstance(track, VideoStream)
        track.width, track.height, track.pix_fmt = 320, 240, "yuv420p"
        for number, picture in enumerate(pictures.decode(video=0)):
            if number >= 25 * seconds:
                break
            coarse = number // (25 * seconds / 3) == 1
            small = picture.reformat(width=80, height=60) if coarse else picture
            frame = small.reformat(width=320, height=240, format="yuv420p")
            frame.pict_type, frame.pts = PictureType.NONE, None
            film.mux(track.encode(frame))
        film.mux(track.encode(None))
    return path


def main(arguments: list[str]) -> int:
    """Print a line for each conversion; return 1 if a file is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=24)
    seconds = parser.parse_args(arguments).seconds
    shares: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for film, source in FILMS.items():
            path = make(folder / "film.mkv", source, seconds)
            for codec, suffix in CODECS.items():
                for kilobits in KILOBITS:
                    asked = int(kilobits * 1000 / 8 * seconds)
                    options = {"video_codec": codec, "preset": "superfast", "target_size": asked}
                    context = RecordingContext(
                        msgspec.convert(options, VideoConvertOptions),
                        work_dir=folder / f"{film}-{codec}-{kilobits}",
                        input_file=path,
                        output_file=folder / f"out{suffix}",
                        room=Room(2),
                    )
                    outcome = run_handler(video_convert, context)
                    if not isinstance(outcome, Finished):
                        print(f"{film:13} {codec:5} {asked:9} {outcome}")
                        continue
                    share = outcome.result["size"] / asked
                    shares.append(share)
                    passes = len(outcome.result["passes"]["passes"])
                    crf = outcome.result["passes"]["crf"]
                    print(f"{film:13} {codec:5} {asked:9} bytes: {100 * share:5.1f} % in {passes} passes, crf {crf:g}")
    print(f"{len(shares)} films: {100 * min(shares):.1f} to {100 * max(shares):.1f} % of what was asked for")
    return int(max(shares) > 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
