"""A watched folder under a writer who copies, renames, appends and deletes, while the service is killed at times.

python tests/crash/source_campaign.py --files 300 --kills 10 --seed 7 --crowd 100000

Each file comes in one of the usual ways: written at once, copied slowly, under another name first, by rename from
elsewhere, appended to with pauses, written and deleted before it was whole, and changed after it was done. A crowd of
files comes all at once, in a folder that is moved in. Every finished content must have become a task once, and nothing
else may have. Prints what came; the seed repeats the writer.
"""

import argparse
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import TypeAlias

from tasktrail import Client, TaskFilters
from tasktrail.api.reader import Reader
from tasktrail.demo.story import ServiceProcess
from tasktrail.events import Completed, Created, TasktrailError

SETTLE = 1.5
WAIT = 120.0
SLOWEST = 5
"""Files of a crowd a second, on a busy machine. They all come before those of the writers."""
WAYS = ("at once", "slowly", "under another name", "moved in", "appended", "deleted", "changed")


Content: TypeAlias = tuple[str, int]
"""A file, and the number of its bytes, which differs between contents of the same file."""


class Writer(threading.Thread):
    """Writes the files, one after the other, in several threads of the same kind."""

    def __init__(self, folder: Path, aside: Path, numbers: range, chance: random.Random, patience: float) -> None:
        super().__init__()
        self._patience = patience
        self._folder = folder
        self._aside = aside
        self._numbers = numbers
        self._chance = chance
        self.wanted: Counter[Content] = Counter()
        """Finished contents, and how often each must become a task."""
        self.ways: Counter[str] = Counter()

    def run(self) -> None:
        """Write all of them."""
        for number in self._numbers:
            way = self._chance.choice(WAYS)
            self.ways[way] += 1
            self._bring(number, way)

    def _bring(self, number: int, way: str) -> None:
        path = self._folder / f"part{number % 3}" / f"file {number}.txt"
        path.parent.mkdir(exist_ok=True)
        text = f"file {number} {way} " + "x" * self._chance.randrange(1, 5000)
        match way:
            case "slowly" | "appended" | "deleted":
                self._write_in_pieces(path, text, closing=way == "appended")
            case "under another name":
                part = path.with_name(f"{path.name}.part")
                part.write_text(text)
                time.sleep(self._chance.uniform(0, 0.5))
                part.rename(path)
            case "moved in":
                aside = self._aside / path.name
                aside.write_text(text)
                aside.rename(path)
            case _:
                path.write_text(text)
        if way == "deleted":
            path.unlink()
            return
        self.wanted[str(path), len(text)] += 1
        if way == "changed":
            self._wait_for(path, text)
            path.write_text(f"{text} changed")
            self.wanted[str(path), len(f"{text} changed")] += 1

    def _write_in_pieces(self, path: Path, text: str, *, closing: bool) -> None:
        """Keep the file open, or open it anew for each piece and pause for less than `settle`."""
        cut = self._chance.randrange(len(text))
        with path.open("w") as file:
            file.write(text[:cut])
            file.flush()
            if not closing:
                time.sleep(self._chance.uniform(0, 2 * SETTLE))
                if "deleted" not in text:
                    file.write(text[cut:])
        if closing:
            time.sleep(self._chance.uniform(0, SETTLE / 2))
            with path.open("a") as file:
                file.write(text[cut:])

    def _wait_for(self, path: Path, text: str) -> None:
        """Wait until the task of this content has completed: a content replaced earlier need not become a task.

        An existing output is not enough: if it is killed before the end is recorded, the task reads the file once more.
        """
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline and not self._is_done(path, len(text)):
            time.sleep(0.2)

    def _is_done(self, path: Path, size: int) -> bool:
        try:
            with Client.connect(self._folder.parent / "data") as tasks:
                done, _total = tasks.list_tasks(
                    TaskFilters(status="completed", batch="inbox", search=path.name, limit=500)
                )
        except (TasktrailError, OSError):  # the service was just killed
            return False
        return any(task.input_file == str(path) and task.result["size"] == size for task in done)


def main() -> int:
    """Return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=300)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--crowd", type=int, default=0, help="files that come all at once")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    os.environ["PYTHONPATH"] = str(Path(__file__).parent.parent / "support")
    chance = random.Random(given.seed)
    work = Path(tempfile.mkdtemp(prefix="source-"))
    for name in ("in", "aside", "data"):
        (work / name).mkdir()
    (work / "data" / "tasktrail.toml").write_text('handlers = ["sample_handlers"]\nworkers = 2\n')
    service = ServiceProcess(work / "data")
    with Client.connect(work / "data") as tasks:
        to = f"{work}/out/{{folder}}/{{stem}}.loud"
        tasks.add_source("inbox", [work / "in"], to, task={"type": "shout"}, settle=SETTLE, poll=5)
    crowd = bring_crowd(work, given.crowd)
    patience = WAIT + given.crowd / SLOWEST
    writers = [
        Writer(work / "in", work / "aside", range(begin, given.files, 4), random.Random(chance.random()), patience)
        for begin in range(4)
    ]
    for writer in writers:
        writer.start()
    for _ in range(given.kills):
        time.sleep(chance.uniform(0.5, 4))
        service.kill()
        service = ServiceProcess(work / "data")
    for writer in writers:
        writer.join()
    wanted = sum((writer.wanted for writer in writers), crowd)
    done, deadline = 0, time.monotonic() + WAIT
    with Client.connect(work / "data") as tasks:
        while done < wanted.total() and time.monotonic() < deadline:
            before, done = done, tasks.stats().counts["completed"]
            deadline = deadline if done == before else time.monotonic() + WAIT
            time.sleep(0.2)
        time.sleep(3 * SETTLE + 6)  # any further record comes now
    service.stop()
    problems = check(work, wanted)
    print(f"{wanted.total()} contents of {given.files} files and a crowd of {given.crowd}, {given.kills} kills; "
          f"{dict(sum((writer.ways for writer in writers), Counter[str]()))}")  # fmt: skip
    for problem in problems:
        print(f"BROKEN: {problem}")
    if problems:
        print(f"the files are in {work}")
    else:
        shutil.rmtree(work)
    return min(1, len(problems))


def bring_crowd(work: Path, count: int) -> Counter[Content]:
    """Move in that many files, none of which was there before."""
    outside, inside = work / "crowd", work / "in" / "crowd"
    wanted: Counter[Content] = Counter()
    for number in range(count):
        path = outside / f"part{number // 1000}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        wanted[str(inside / path.relative_to(outside)), path.write_text(f"one of {count}: {number}")] += 1
    if count:
        outside.rename(inside)
    return wanted


def check(work: Path, wanted: Counter[Content]) -> list[str]:
    """Return the broken promises."""
    reader = Reader(work / "data")
    sizes: Counter[Content] = Counter()
    made: dict[int, str] = {}
    for record in reader.log():
        if isinstance(record.event, Created):
            made[record.task_id] = record.event.input_file
        elif isinstance(record.event, Completed) and record.event.input_read is not None:
            sizes[made[record.task_id], record.event.input_read.size] += 1
    reader.close()
    problems = [f"{Path(path).name} with {size} bytes was not done" for path, size in wanted - sizes]
    problems += [f"{Path(path).name} with {size} bytes was done {sizes[path, size]} times, not finished or twice"
                 for path, size in sizes - wanted]  # fmt: skip
    if len(made) != sum(sizes.values()):
        problems.append(f"{len(made)} tasks, {sum(sizes.values())} of them completed")
    return problems


if __name__ == "__main__":
    sys.exit(main())
