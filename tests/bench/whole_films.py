"""R. How long a film takes, and a folder of films, beside ffmpeg at the same settings."""

import subprocess
import sys
from functools import partial
from pathlib import Path
from tempfile import mkdtemp

import imageio_ffmpeg
from harness import Goal, Table, scratch, seconds
from media import SAMPLES
from services import service

from tasktrail.config.settings import usable_cpus
from tasktrail.demo.samples import BUNNY, fetch, repeat

AXES = ("R",)
SEVERAL = 6
FFMPEG = (imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y")
HOW = ("-vf", "scale=-2:720", "-c:v", "libx264", "-preset", "veryfast", "-c:a", "copy", "-movflags", "+faststart")
_SAMPLE_SECONDS = 5.3


class Films:
    """The same film in several lengths, each made on first use, because the longest is large."""

    def __init__(self) -> None:
        self._folder = Path(mkdtemp(prefix="tasktrail-bench-films-"))
        self._sample = fetch([BUNNY], SAMPLES)[BUNNY]

    def of(self, length: float) -> Path:
        """Return a film of about that many seconds."""
        path = self._folder / f"{length:.0f}.mp4"
        if not path.exists():
            repeat(self._sample, path, max(1, round(length / _SAMPLE_SECONDS)))
        return path


def tables(*, quick: bool) -> list[Table]:
    """Make tables of one film of 1, 10 and 60 minutes, and several shorter ones."""
    films = Films()
    found = [
        _table(f"R{number}", f"One film of {minutes} min", films, 5 if quick else 60 * minutes, 1, seldom=minutes > 1)
        for number, minutes in enumerate((1, 10, 60), 1)
    ]
    return [*found, _table("R4", f"{SEVERAL} films of 20 s", films, 5 if quick else 20, SEVERAL)]


def _table(axis: str, title: str, films: Films, length: float, count: int, *, seldom: bool = False) -> Table:
    table = Table(axis, f"{title}, 720p", "s", yardstick="ffmpeg", seldom=seldom)
    table.add("ffmpeg", partial(_plain, films, length, count))
    table.add("tasktrail", partial(_ours, films, length, count), Goal(at_most=1.0, ratio=True))
    return table


def _plain(films: Films, length: float, count: int) -> float:
    """Convert several, as many at once as there are CPUs: the best a shell can do."""
    film, numbers = films.of(length), "\n".join(map(str, range(count)))
    with scratch() as folder:
        line = ["xargs", "-P", str(usable_cpus()), "-I", "@", *FFMPEG, "-i", str(film), *HOW, str(folder / "@.mp4")]
        return seconds(partial(subprocess.run, line, input=numbers.encode(), check=True))


def _ours(films: Films, length: float, count: int) -> float:
    """Measure from the submit to the end of the last, in a service that has worked before."""
    film = films.of(length)
    with scratch() as folder, service(folder / "data", usable_cpus()) as tasks:

        def convert(number: int, source: Path) -> int:
            output = folder / f"{number}.mp4"
            return tasks.create_task(
                type="video_convert", input_file=source, output_file=output, options={"height": 720}, overwrite=True
            )

        def work() -> None:
            for task_id in [convert(number, film) for number in range(count)]:
                if (task := tasks.wait(task_id, timeout=7200)).status != "completed":
                    sys.exit(f"{film.name}: {task.error}")

        tasks.wait(convert(0, films.of(_SAMPLE_SECONDS)), timeout=600)  # the libraries stay loaded from here on
        return seconds(work)
