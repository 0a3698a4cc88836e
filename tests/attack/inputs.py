"""Cut, grow, overwrite, replace and remove inputs at random moments while each type reads them.

PYTHONPATH=tests/support python tests/attack/inputs.py [--moments 1000] [--seed 7] [--jobs video_convert,…]

Each round writes an input, submits one task to a real service with a real worker process, changes the input at a random
moment of the time that an undisturbed task takes, and waits for the end. Now and then the worker is killed as well, so
that the next attempt has a checkpoint, and some tasks may be tried again. The file and the result must be what an
undisturbed task makes of one content that was there as a whole: the original, the replacement, or, if the change came
before the attempt had opened it, the cut file as it is. Otherwise the task must have failed by name, with nothing at
the output's path. A change that came after the end does not count and is made again.
"""

import argparse
import hashlib
import itertools
import os
import random
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import av
import numpy as np
import psutil
from av.audio.stream import AudioStream
from av.video.stream import VideoStream
from PIL import Image
from sounds import tone, write

from tasktrail import TaskService
from tasktrail.config.settings import Config
from tasktrail.events import Task
from tasktrail.events.errors import WaitTimeout

SHORT, FULL = 24, 1000
WITHIN = 120.0
AGAIN = 8
"""The number of further undisturbed tasks on a damaged film, which may have several results."""
TRIES = 20
"""The number of tries of a change that comes too late each time."""
KILLED = 0.2
"""Share of the rounds in which the worker is killed, too."""


class Job(NamedTuple):
    """One kind of work, with two inputs for it."""

    name: str
    type: str
    given: str
    """Suffix of the input."""
    made: str
    contents: list[bytes]
    """The input, and another one to replace it."""
    options: Mapping[str, Any] = MappingProxyType({})
    tells: bool = True
    """Whether the format says how much there should be, so that the result of a cut input says what is missing."""

    @property
    def original(self) -> bytes:
        """The input."""
        return self.contents[0]

    @property
    def other(self) -> bytes:
        """What replaces it."""
        return self.contents[1]


class End(NamedTuple):
    """The end of a task."""

    status: str
    error_type: str
    result: str
    """The result of a completed task, with the hash of its output in it."""


# --- inputs --------------------------------------------------------------------------------------------------------


def film(path: Path, pattern: str, seconds: float) -> bytes:
    """Make a small film with a tone."""
    with av.open(str(path), "w") as output:
        picture = output.add_stream("libx264", rate=25, options={"g": "12", "preset": "ultrafast"})
        sound = output.add_stream("aac", rate=48000)
        assert isinstance(picture, VideoStream)
        assert isinstance(sound, AudioStream)
        picture.width, picture.height, picture.pix_fmt = 160, 120, "yuv420p"
        with av.open(f"{pattern}=size=160x120:rate=25:duration={seconds}", format="lavfi") as source:
            for frame in source.decode(video=0):
                output.mux(picture.encode(frame.reformat(format="yuv420p")))
        output.mux(picture.encode(None))
        with av.open(f"sine=frequency=440:sample_rate=48000:duration={seconds}", format="lavfi") as tone:
            for wave in tone.decode(audio=0):
                output.mux(sound.encode(wave))
        output.mux(sound.encode(None))
    return path.read_bytes()


def pictures(count: int, side: int, seed: int) -> list[Image.Image]:
    """Make noise over colours that differ from picture to picture."""
    noise = np.random.default_rng(seed)
    found = []
    for number in range(count):
        pixels = noise.integers(0, 120, (side, side, 3), dtype=np.uint8)
        pixels[:, :, (number + seed) % 3] += 100
        found.append(Image.fromarray(pixels))
    return found


def written(path: Path, images: list[Image.Image], **how: Any) -> bytes:
    """Write the pictures as a file."""
    more: dict[str, Any] = {"save_all": True, "append_images": images[1:]} if len(images) > 1 else {}
    images[0].save(path, **more, **how)
    return path.read_bytes()


def ball(rings: int, squeezed: float) -> bytes:
    """Make a binary STL."""
    around = np.linspace(0, 2 * np.pi, rings)
    down = np.linspace(0, np.pi, rings)
    points = np.array(
        [[(np.sin(v) * np.cos(u), np.sin(v) * np.sin(u), squeezed * np.cos(v)) for u in around] for v in down]
    )
    corners = []
    for i, j in itertools.product(range(rings - 1), range(rings - 1)):
        a, b, c, d = points[i, j], points[i + 1, j], points[i + 1, j + 1], points[i, j + 1]
        corners += [(a, b, c), (a, c, d)]
    faces = np.zeros(len(corners), dtype=[("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("more", "<u2")])
    faces["corners"] = np.array(corners)
    return bytes(80) + np.uint32(len(faces)).tobytes() + faces.tobytes()


def prose(seed: int) -> bytes:
    """Make a text of some pages."""
    chance = random.Random(seed)
    words = ["amber", "birch", "cedar", "delta", "ember", "frost", "grain", "heath"]
    return "\n".join(" ".join(chance.choices(words, k=9)) for _ in range(400)).encode()


def make_jobs(folder: Path) -> list[Job]:
    """Make jobs of all eight types, some in several variants."""
    films = [film(folder / f"{name}.mkv", name, length) for name, length in (("testsrc2", 4), ("testsrc", 3))]
    quick = [film(folder / f"{name}.mp4", name, length) for name, length in (("testsrc2", 4), ("testsrc", 3))]
    still = [written(folder / "still.jpg", pictures(1, 900, seed), quality=90) for seed in (1, 2)]
    plain = [written(folder / "plain.bmp", pictures(1, 700, seed)) for seed in (1, 2)]
    moving = [written(folder / "moving.gif", pictures(8, 120, seed), duration=80) for seed in (1, 2)]
    webp = [written(folder / "large.webp", pictures(1, 700, seed), quality=80) for seed in (1, 2)]
    papers = [written(folder / "paper.pdf", pictures(6, 300, seed)) for seed in (1, 2)]
    texts = [prose(seed) for seed in (1, 2)]
    balls = [ball(40, 1.0), ball(36, 0.5)]
    turning = {"kind": "turntable", "frames": 4, "width": 96, "height": 96, "antialias": 1, "occlusion": False}
    sounds = [write(folder / "tune.wav", tone(seconds)).read_bytes() for seconds in (20, 15)]
    segments = {"segment_seconds": 0.5, "preset": "ultrafast"}
    return [
        Job("audio_convert", "audio_convert", ".wav", ".mp3", sounds, {"loudness": -16}),
        Job("audio_convert (picture)", "audio_convert", ".wav", ".png", sounds),
        Job("video_convert", "video_convert", ".mkv", ".mp4", films, segments),
        Job("video_convert (mp4)", "video_convert", ".mp4", ".mkv", quick, segments),
        Job("video_preview (sheet)", "video_preview", ".mkv", ".jpg", films, {"width": 64}),
        Job("video_preview (gif)", "video_preview", ".mkv", ".gif", films, {"width": 64}),
        Job("video_thumbnail", "video_thumbnail", ".mkv", ".jpg", films),
        Job("image_convert", "image_convert", ".jpg", ".webp", still, {"width": 400}),
        Job("image_convert (webp)", "image_convert", ".webp", ".png", webp),
        Job("image_convert (frames)", "image_convert", ".gif", ".webp", moving),
        Job("image_thumbnail", "image_thumbnail", ".bmp", ".png", plain),
        Job("document_preview", "document_preview", ".pdf", ".zip", papers, {"pages": "all"}),
        Job("document_preview (text)", "document_preview", ".txt", ".tiff", texts, {"pages": "all"}, tells=False),
        Job("model_preview", "model_preview", ".stl", ".webp", balls, turning),
    ]


# --- changes -------------------------------------------------------------------------------------------------------

Change: TypeAlias = Callable[[Path, Job, random.Random], list[bytes]]
"""Changes the file; returns the contents that were there from then on, one after the other."""


def set_back(path: Path, before: os.stat_result) -> None:
    """Give the file its old times, as far as a program can."""
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut(path: Path, job: Job, chance: random.Random) -> list[bytes]:
    """Cut it to some part."""
    length = chance.randrange(len(job.original))
    os.truncate(path, length)
    return [job.original[:length]]


def cut_and_set_back(path: Path, job: Job, chance: random.Random) -> list[bytes]:
    """Cut it, with the old times."""
    before = path.stat()
    contents = cut(path, job, chance)
    set_back(path, before)
    return contents


def empty(path: Path, _job: Job, _chance: random.Random) -> list[bytes]:
    """Remove every byte."""
    os.truncate(path, 0)
    return [b""]


def cut_and_mend(path: Path, job: Job, chance: random.Random) -> list[bytes]:
    """Cut it, and restore it a little later, with the old times."""
    before = path.stat()
    contents = cut(path, job, chance)
    time.sleep(chance.uniform(0, 0.02))
    path.write_bytes(job.original)
    set_back(path, before)
    return [*contents, b"", job.original]


def grow(path: Path, _job: Job, chance: random.Random) -> list[bytes]:
    """Add something at the end."""
    with path.open("ab") as file:
        file.write(chance.randbytes(5000))
    return [path.read_bytes()]


def overwrite(path: Path, job: Job, chance: random.Random) -> list[bytes]:
    """Overwrite some bytes in the middle, without changing the length."""
    start = chance.randrange(len(job.original) // 2)
    with path.open("r+b") as file:
        file.seek(start)
        file.write(chance.randbytes(min(4000, len(job.original) - start)))
    return [path.read_bytes()]


def overwrite_and_set_back(path: Path, job: Job, chance: random.Random) -> list[bytes]:
    """Overwrite, with the old times."""
    before = path.stat()
    contents = overwrite(path, job, chance)
    set_back(path, before)
    return contents


def copy_over(path: Path, job: Job, chance: random.Random) -> list[bytes]:
    """Copy another file over it, slowly, in place."""
    cuts = sorted(chance.randrange(len(job.other)) for _ in range(3))
    contents = [b""]
    with path.open("wb", buffering=0) as file:
        for begin, end in itertools.pairwise([0, *cuts, len(job.other)]):
            file.write(job.other[begin:end])
            contents.append(job.other[:end])
            time.sleep(chance.uniform(0, 0.02))
    return contents


def replace(path: Path, job: Job, _chance: random.Random) -> list[bytes]:
    """Let another file take its name, with the old times."""
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(job.other)
    set_back(other, before)
    other.replace(path)
    return [job.other]


def replace_there_and_back(path: Path, job: Job, chance: random.Random) -> list[bytes]:
    """Let another file take its name for a short time."""
    aside = path.with_name("aside")
    aside.hardlink_to(path)
    replace(path, job, chance)
    time.sleep(chance.uniform(0, 0.02))
    aside.replace(path)
    return [job.other, job.original]


def remove(path: Path, _job: Job, _chance: random.Random) -> list[bytes]:
    """Remove it."""
    path.unlink()
    return []


CHANGES: tuple[Change, ...] = (
    cut,
    cut_and_set_back,
    empty,
    cut_and_mend,
    grow,
    overwrite,
    overwrite_and_set_back,
    copy_over,
    replace,
    replace_there_and_back,
    remove,
)


# --- the campaign --------------------------------------------------------------------------------------------------


class Campaign:
    """Plays rounds of one job after another, in one service with one worker."""

    def __init__(self, service: TaskService, folder: Path, chance: random.Random) -> None:
        self._service = service
        self._folder = folder
        self._chance = chance
        self._number = itertools.count(1)
        self._quiet: dict[tuple[str, bytes], End] = {}
        self.problems: list[str] = []
        self.late = 0

    def run(self, job: Job, moments: int, changes: "itertools.cycle[Change]") -> Counter[str]:
        """Make that many changes that meet a task before its end; return their results."""
        self._length(job)  # the worker loads the libraries
        length = min(self._length(job) for _ in range(2))
        tally: Counter[str] = Counter()
        for _ in range(moments):
            change, span = next(changes), length
            for _ in range(TRIES):
                came = self._round(job, change, span)
                if came:
                    tally[came] += 1
                    break
                self.late += 1
                span *= 0.8  # the machine is quicker now than when it was measured
            else:
                self.problems.append(f"{job.name}: {change.__name__} came too late {TRIES} times")
        return tally

    def _length(self, job: Job) -> float:
        """Return the seconds that an undisturbed task takes."""
        self._quiet.pop((job.name, job.original), None)
        begun = time.monotonic()
        end = self._undisturbed(job, job.original)
        if end.status != "completed":
            raise SystemExit(f"{job.name} does not work undisturbed: {end}")
        return time.monotonic() - begun

    def _undisturbed(self, job: Job, content: bytes) -> End:
        """Return what an undisturbed task makes of this content."""
        key = (job.name, content)
        if key not in self._quiet:
            source, output = self._place(job, content)
            self._quiet[key] = self._end(self._service.wait(self._submit(job, source, output, 0), WITHIN), output)
        return self._quiet[key]

    def _place(self, job: Job, content: bytes) -> tuple[Path, Path]:
        folder = self._folder / str(next(self._number))
        folder.mkdir()
        source = folder / f"in{job.given}"
        source.write_bytes(content)
        return source, folder / f"out{job.made}"

    def _submit(self, job: Job, source: Path, output: Path, retries: int) -> int:
        return self._service.create_task(
            type=job.type,
            input_file=source,
            output_file=output,
            options=dict(job.options),
            max_retries=retries,
            retry_delay=0,
        )

    def _round(self, job: Job, change: Change, length: float) -> str:
        """Make one change; return its result, empty if it came too late."""
        chance = self._chance
        source, output = self._place(job, job.original)
        task_id = self._submit(job, source, output, chance.choice((0, 0, 2)))
        time.sleep(chance.uniform(0, length))
        early = chance.random() < KILLED / 2
        if early:
            self._kill_worker()
        began = time.time()
        stood = [job.original, *change(source, job, chance)]
        if not early and chance.random() < KILLED / 2:
            time.sleep(chance.uniform(0, length / 4))
            self._kill_worker()
        where = f"{job.name}, {change.__name__}, task {task_id}"
        try:
            task = self._service.wait(task_id, WITHIN)
        except WaitTimeout as error:
            self.problems.append(f"{where}: {error}")
            return "stuck"
        if task.completed_at is not None and task.completed_at.timestamp() < began:
            return ""
        came = self._judge(job, stood, task, output)
        if came.startswith("BROKEN"):
            self.problems.append(f"{where}: {came}; {task.status} {task.error_type} {task.error[:200]}")
        return came

    def _judge(self, job: Job, stood: list[bytes], task: Task, output: Path) -> str:
        end = self._end(task, output)
        beside = sorted(path.name for path in output.parent.iterdir() if "out" in path.name)
        if beside != ([output.name] if end.status == "completed" else []):
            return f"BROKEN: {beside} beside the input"
        if end.status == "completed":
            return self._judge_output(job, stood, end)
        if end.error_type == "InputChanged":
            return "failed: InputChanged"
        gone = end.error_type == "FileNotFoundError" or "is not there any more" in task.error
        if gone and len(stood) == 1:
            return "failed: it was gone before"
        if any(self._undisturbed(job, content)[:2] == end[:2] for content in stood):
            return "failed: as it stood before"
        return "BROKEN: failed by another name"

    def _judge_output(self, job: Job, stood: list[bytes], end: End) -> str:
        for content in stood:
            if self._undisturbed(job, content) != end:
                continue
            if content == job.original:
                return "completed: the original"
            if content == job.other:
                return "completed: the replacement"
            whole = next((one for one in (job.original, job.other) if one.startswith(content)), b"")
            if whole and job.tells and not _is_told(end.result):
                return f"BROKEN: {len(content)} of {len(whole)} bytes and no word about it"
            return "completed: as it stood before"
        if any(self._has_several_ends(job, content, end) for content in stood if content not in job.contents):
            return "completed: as it stood before"
        return "BROKEN: it is made of no content that ever stood there"

    def _has_several_ends(self, job: Job, content: bytes, end: End) -> bool:
        """Return whether repeated runs give different ends, among them this one.

        Threads that decode a damaged film patch it with what the other threads have just then.
        """
        found = {self._undisturbed(job, content)}
        for _ in range(AGAIN):
            del self._quiet[job.name, content]
            found.add(self._undisturbed(job, content))
            if end in found:
                return True
        return len(found) > 1 and any(_but_the_bytes(one) == _but_the_bytes(end) for one in found)

    def _end(self, task: Task, output: Path) -> End:
        if task.status != "completed":
            return End(task.status, task.error_type, "")
        digest = hashlib.sha256(output.read_bytes()).hexdigest() if output.exists() else "nothing"
        return End(task.status, "", f"{digest} {sorted(task.result.items())}")

    def _kill_worker(self) -> None:
        for process in psutil.Process().children(recursive=True):
            try:
                if "tasktrail.handlers.process.worker" in process.cmdline() and process.ppid() != os.getpid():
                    process.kill()
            except psutil.NoSuchProcess:
                continue


def _but_the_bytes(end: End) -> str:
    """Return the end without what depends on the output's bytes: its hash and its size."""
    return re.sub(r"^\w+ |\('(sha256|size)', [^)]*\)", "", end.result)


def _is_told(result: str) -> bool:
    return "cut" in result or "missing" in result or "damaged" in result


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help=f"{SHORT} moments instead of {FULL}")
    parser.add_argument("--moments", type=int, help="changes that meet a task before its end")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="repeat the choices of this seed")
    parser.add_argument("--jobs", default="", help="only jobs with one of these words in their names")
    arguments = parser.parse_args()
    moments = arguments.moments or (SHORT if arguments.short else FULL)
    chance = random.Random(arguments.seed)
    print(f"seed {arguments.seed}", flush=True)
    total: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        jobs = [job for job in make_jobs(folder) if any(word in job.name for word in arguments.jobs.split(","))]
        changes = itertools.cycle(chance.sample(CHANGES, len(CHANGES)))
        with TaskService.open(folder / "data", config=Config(workers=1, max_cpu=100.0, grace_period=0.2)) as service:
            campaign = Campaign(service, folder, chance)
            for number, job in enumerate(jobs):
                share = moments // len(jobs) + (number < moments % len(jobs))
                tally = campaign.run(job, share, changes)
                total += tally
                told = ", ".join(f"{count} {came}" for came, count in sorted(tally.items()))
                print(f"{job.name:<26} {share:>4} changes: {told}", flush=True)
    print(*campaign.problems, sep="\n")
    told = ", ".join(f"{count} {came}" for came, count in sorted(total.items()))
    print(
        f"inputs: {total.total()} changes while they were read ({campaign.late} more came too late): {told}; "
        f"{len(campaign.problems)} broken promises"
    )
    return 1 if campaign.problems else 0


if __name__ == "__main__":
    sys.exit(main())
