"""Kill the worker, and the whole service, in the middle of every task type; the result must be that of a quiet run.

PYTHONPATH=tests/support python tests/crash/types_campaign.py --kills 10 --seed 7 [--types video_convert,…]

Each round submits one task, kills at a random moment, and compares the files. The time of the undisturbed task is cut
into as many parts as there are kills, and each part has its moment, so that early and late ones are among them. A kill
counts only if the log says that it ended an attempt; one that came too late is repeated. Where a type has pieces, a
kill may cost one finished piece at most. Prints a line for each job; the seed repeats the moments.
"""

import argparse
import hashlib
import random
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal, TypeAlias

import msgspec
import psutil
import pypdfium2
from long_jobs import LongJob, make_jobs, make_more_jobs

from tasktrail import Client
from tasktrail.demo.story import ServiceProcess
from tasktrail.events import Retried, Task

Victim: TypeAlias = Literal["worker", "service"]
VICTIMS: tuple[Victim, ...] = ("worker", "service")
WITHIN = 300.0
TRIES = 10
"""The number of tries of a kill that comes too late each time."""


class Tally(msgspec.Struct):
    """The results of one type's kills."""

    moments: list[float] = []
    """The moments of the kills that ended an attempt, as a share of the undisturbed time."""
    too_late: int = 0
    """Kills that met nothing, and were repeated."""
    pieces: int = 0
    """Finished pieces of an undisturbed task."""
    met_pieces: int = 0
    """Kills that came when there were finished pieces."""
    most_redone: int = 0
    """The most finished pieces that were made twice because of one kill."""
    problems: list[str] = []


class Campaign:
    """All rounds of one type, over one data folder."""

    def __init__(self, job: LongJob, folder: Path, chance: random.Random) -> None:
        self._job = job
        self._folder = folder
        self._chance = chance
        self._data = folder / "data"
        self._data.mkdir()
        (self._data / "tasktrail.toml").write_text("workers = 1\n")  # so that the killed worker is the warm one
        self._service = ServiceProcess(self._data)
        self.tally = Tally()
        self._seen: dict[str, set[int]] = {}
        self._expected = ""
        self._length = 0.0
        self._before = 0

    def run(self, kills: int) -> Tally:
        """An undisturbed run, then `kills` of the worker and `kills` of the service."""
        try:
            self._perform(f"warm{self._job.suffix}")  # the worker has loaded its libraries
            quiet = self._perform(f"quiet{self._job.suffix}")
            self.tally.pieces = len(self._seen)
            self._length = quiet.duration or 0.0
            self._expected = _seen(Path(quiet.output_file))
            for victim in VICTIMS:
                for number in range(kills):
                    self._kill_once(victim, number, kills)
            self._judge()
            return self.tally
        finally:
            self._service.stop()

    def _kill_once(self, victim: Victim, number: int, kills: int) -> None:
        """Kill in part `number` of the task's time; repeat it if the task was over by then."""
        where = f"{victim} kill {number}"
        for _ in range(TRIES):
            share = (number + self._chance.random()) / kills
            task = self._perform(f"{victim}-{number}{self._job.suffix}", victim, share * self._length)
            self._compare(task, where)
            if self._was_killed(task.id):
                self._count(share, where)
                return
            self.tally.too_late += 1
            self._length = task.duration or self._length  # it was not disturbed, so this is how long it takes now
        self.tally.problems.append(f"{where}: the task was over before it, {TRIES} times")

    def _was_killed(self, task_id: int) -> bool:
        with Client.connect(self._data) as client:
            causes = [record.event.cause for record in client.events(task_id) if isinstance(record.event, Retried)]
        return "crash" in causes or "recovery" in causes

    def _count(self, share: float, where: str) -> None:
        self.tally.moments.append(share)
        redone = sum(len(times) - 1 for times in self._seen.values())
        self.tally.most_redone = max(self.tally.most_redone, redone)
        self.tally.met_pieces += bool(self._before)
        if self._job.resumes and redone > 1:
            self.tally.problems.append(f"{where}: {redone} finished pieces were made again")

    def _judge(self) -> None:
        """Judge whether the rounds could show what they should."""
        if self._job.resumes and not self.tally.met_pieces:
            self.tally.problems.append("no kill came when there was a finished piece")

    def _perform(self, name: str, victim: Victim | None = None, moment: float = 0.0) -> Task:
        """Run one task to its end; with a victim, kill it that many seconds after it was sent."""
        output = self._folder / name
        self._seen = {}
        with Client.connect(self._data) as client:
            task_id = client.create_task(
                type=self._job.type, input_file=self._job.input_file, output_file=output, options=self._job.options
            )
            if victim is not None:
                time.sleep(moment)
                self._look(task_id)
                self._before = len(self._seen)
                self._kill(victim)
        with Client.connect(self._data) as client:
            self._until(task_id, lambda: client.get_task(task_id).completed_at is not None)
            return client.get_task(task_id)

    def _until(self, task_id: int, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN
        while not condition():
            self._look(task_id)
            if time.monotonic() > deadline:
                raise TimeoutError(f"a {self._job.type} task got nowhere in {WITHIN:.0f} s")
            time.sleep(0.02)

    def _kill(self, victim: Victim) -> None:
        if victim == "service":
            self._service.kill()
            self._service = ServiceProcess(self._data)
            return
        for process in psutil.Process(self._service.pid).children(recursive=True):
            try:
                if "tasktrail.handlers.process.worker" in process.cmdline() and process.ppid() != self._service.pid:
                    process.kill()
            except psutil.NoSuchProcess:
                continue

    def _look(self, task_id: int) -> None:
        """Note the finished pieces in the task's folder. A piece that is made again has another time."""
        for path in (self._data / "tmp" / str(task_id)).glob("*-[0-9]*"):
            with suppress(OSError):
                if path.suffix != ".part":
                    self._seen.setdefault(path.name, set()).add(path.stat().st_mtime_ns)

    def _compare(self, task: Task, where: str) -> None:
        output = Path(task.output_file)
        if task.status != "completed":
            self.tally.problems.append(f"{where}: {task.status}, {task.error or task.last_error}")
        elif _sha256(output) != task.result["sha256"]:
            self.tally.problems.append(f"{where}: other bytes than its result says")
        elif _seen(output) != self._expected:
            self.tally.problems.append(f"{where}: not what the quiet run has made")
        output.unlink(missing_ok=True)


def _seen(path: Path) -> str:
    """Return the hash of the file; of a PDF that of its pages, as LibreOffice writes the time into it."""
    if path.suffix != ".pdf":
        return _sha256(path)
    pages = hashlib.sha256()
    with pypdfium2.PdfDocument(path) as pdf:
        for page in pdf:
            pages.update(page.render(scale=0.5).to_pil().tobytes())
    return pages.hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10, help="of the worker, and of the service, for each job")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--types", default="", help="only these types or jobs, with commas between them")
    parser.add_argument("--samples", type=Path, default=Path("gallery/samples"))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    wanted = set(filter(None, arguments.types.split(",")))
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        jobs = [*make_jobs(arguments.samples, Path(scratch)), *make_more_jobs(arguments.samples, Path(scratch))]
        if strange := wanted - {name for job in jobs for name in (job.type, job.name)}:
            parser.error(f"there is no job of {', '.join(sorted(strange))}")
        for job in jobs:
            if wanted and not wanted & {job.type, job.name}:
                continue
            if job.lacks:
                print(f"{job.name:<26} skipped: {job.lacks} is not here", flush=True)
                continue
            folder = Path(scratch, job.name)
            folder.mkdir()
            tally = Campaign(job, folder, random.Random(f"{arguments.seed} {job.name}")).run(arguments.kills)
            failed += bool(tally.problems)
            print(_line(job, tally), *tally.problems, sep="\n  ", flush=True)
    return 1 if failed else 0


def _line(job: LongJob, tally: Tally) -> str:
    verdict = "FAILED" if tally.problems else "the same result"
    redone = (
        f"{tally.met_pieces} met finished pieces, at most {tally.most_redone} of {tally.pieces} made twice"
        if job.resumes
        else "begins anew"
    )
    span = f"{min(tally.moments, default=0):.0%} to {max(tally.moments, default=0):.0%}"
    kills = f"{len(tally.moments)} kills at {span} of the time ({tally.too_late} more came too late)"
    return f"{job.name:<26} {kills}: {verdict}; {redone}"


if __name__ == "__main__":
    sys.exit(main())
