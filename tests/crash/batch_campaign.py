"""Kill a batch in the middle: every good file must be done once, every bad one reported, nothing half-written.

python tests/crash/batch_campaign.py --files 1000 --kills 3 --seed 7

The folder holds pictures, films, documents and models, one in twenty of them broken: cut, empty, or no such file at
all. `tasktrail batch` works on it in a separate process, which is killed with -9 once a share of the files is done;
then the same command continues. A last run has to find that everything is done. Prints what it found; the seed repeats
the folder and the moments.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from glob import glob
from pathlib import Path

import av
import msgspec
import numpy as np
from PIL import Image

from tasktrail.api.reader import Reader
from tasktrail.batches.request import MadeBatch
from tasktrail.events import Completed, Created
from tasktrail.events.errors import TasktrailError

BROKEN = 20
"""One file in this many is broken."""
WITHIN = 900.0
PATTERN = "{folder}/{stem}.jpg"
SUFFIXES = (".png", ".jpg", ".webp", ".mp4", ".md", ".stl")


def make_folder(folder: Path, number: int, chance: random.Random) -> dict[Path, str]:
    """Make that many files of mixed kinds; return how each was broken, or nothing."""
    made: dict[Path, str] = {}
    film = _film(folder.parent / "film.mp4")
    for place in range(number):
        path = folder / f"part{place % 7}" / f"{place:04}{chance.choice(SUFFIXES)}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_content(path.suffix, place, film))
        made[path] = ""
    for path in chance.sample(sorted(made), number // BROKEN):
        # A text or a bare model that is cut is still valid; an empty one never is.
        how = chance.choice(("cut", "empty", "garbage")) if path.suffix not in (".md", ".stl") else "empty"
        content = path.read_bytes()
        path.write_bytes({"cut": content[: len(content) // 3], "empty": b"", "garbage": b"\0garbage" * 50}[how])
        made[path] = how
    return made


def _film(path: Path) -> bytes:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=12)
        stream.width, stream.height, stream.pix_fmt = 160, 90, "yuv420p"
        for shade in range(24):
            picture = np.full((90, 160, 3), shade * 10, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    return path.read_bytes()


def _content(suffix: str, place: int, film: bytes) -> bytes:
    if suffix == ".mp4":
        return film
    if suffix == ".md":
        return f"# Page {place}\n\nText.\n".encode()
    if suffix == ".stl":
        return f"solid x\nfacet normal 0 0 1\nouter loop\nvertex 0 0 0\nvertex {place + 1} 0 0\nvertex 0 1 0\nendloop\nendfacet\nendsolid x\n".encode()  # noqa: E501 - as the format has it
    with tempfile.NamedTemporaryFile(suffix=suffix) as file:
        Image.radial_gradient("L").resize((64 + place % 64, 48)).save(file.name)
        return Path(file.name).read_bytes()


class Campaign:
    """One folder, killed and continued."""

    def __init__(self, work: Path, files: int, kills: int, chance: random.Random) -> None:
        self._work = work
        self._chance = chance
        self._kills = kills
        self._source, self._out, self._data = work / "in", work / "out", work / "data"
        self._made = make_folder(self._source, files, chance)
        self.problems: list[str] = []

    def run(self) -> None:
        """All rounds, and the checks."""
        good = sum(not how for how in self._made.values())
        for number in range(self._kills):
            share = (number + self._chance.random()) / (self._kills + 1)
            self._killed(int(share * good))
        began = time.monotonic()
        self._finish()
        print(f"gone on with to its end: {time.monotonic() - began:.1f} s", flush=True)
        began = time.monotonic()
        made = self._finish()
        took = time.monotonic() - began
        print(f"once more: {took:.1f} s, {len(made.skipped)} skipped, {len(made.created)} new", flush=True)
        self._check(made)

    def _start(self, said: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "tasktrail", "--data", str(self._data), "batch", str(self._source)]
        command += ["--to", f"{self._out}/{PATTERN}", "--json"]
        return subprocess.Popen(command, stdout=said, stderr=subprocess.DEVNULL, start_new_session=True)

    def _killed(self, done: int) -> None:
        """Run until that many outputs exist, then kill it with all its workers."""
        wanted = done
        process = self._start(subprocess.DEVNULL)
        deadline = time.monotonic() + WITHIN
        while len(self._outputs()) < wanted and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(f"killed with {len(self._outputs())} outputs", flush=True)

    def _finish(self) -> MadeBatch:
        process = self._start(subprocess.PIPE)
        out, _ = process.communicate(timeout=WITHIN)
        return msgspec.json.decode(out.splitlines()[0], type=MadeBatch)

    def _outputs(self) -> list[Path]:
        # `Path.rglob` fails where an attempt removes its folder meanwhile.
        return [self._out / name for name in glob("**/*.jpg", root_dir=self._out, recursive=True)]  # noqa: PTH207

    def _check(self, last: MadeBatch) -> None:
        reader = Reader(self._data)
        creations: dict[int, Created] = {}
        completed: Counter[str] = Counter()
        for record in reader.log():
            if isinstance(record.event, Created):
                creations[record.task_id] = record.event
            elif isinstance(record.event, Completed):
                completed[creations[record.task_id].input_file] += 1
        told = {one.input_file for one in last.refused} | {one.input_file for one in last.skipped if one.failed}
        for path, how in self._made.items():
            times = completed[str(path)]
            output = self._out / path.parent.relative_to(self._source) / f"{path.stem}.jpg"
            if not how and (times != 1 or not output.exists()):
                self.problems.append(f"{path.name} is good, was done {times} times, output there: {output.exists()}")
            if how and str(path) not in told and not (how == "cut" and times == 1):  # a film may be cut between frames
                self.problems.append(f"{path.name} is {how} and is not told of")
            if how and times and how != "cut":
                self.problems.append(f"{path.name} is {how} and was done")
        for path in self._outputs():
            try:
                with Image.open(path) as picture:
                    picture.load()
            except OSError as error:
                self.problems.append(f"{path.name} is half-written: {error}")
        hidden = [path.name for path in self._out.rglob(".*")]
        if hidden:
            self.problems.append(f"left behind: {', '.join(hidden[:5])}")
        if last.created or last.left_out:
            self.problems.append(f"the last run made {len(last.created)} tasks and left {len(last.left_out)} files out")
        found = reader.verify()
        if found.findings:
            self.problems.append(f"verify: {found.findings[0]}")
        reader.close()
        broken = Counter(how for how in self._made.values() if how)
        print(f"{len(self._made)} files, {dict(broken)} broken; {sum(completed.values())} done, {len(told)} told of")


def main(arguments: list[str] | None = None) -> int:
    """Return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    work = Path(tempfile.mkdtemp(prefix="batch-"))
    try:
        campaign = Campaign(work, given.files, given.kills, random.Random(given.seed))
        campaign.run()
    except TasktrailError as error:
        print(error)
        return 1
    for problem in campaign.problems:
        print(f"BROKEN: {problem}")
    if not campaign.problems:
        shutil.rmtree(work)
    else:
        print(f"the files are in {work}")
    return min(1, len(campaign.problems))


if __name__ == "__main__":
    sys.exit(main())
