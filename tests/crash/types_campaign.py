"""Kill the worker, and the whole service, in the middle of every task type; the result must be that of a quiet run.

    PYTHONPATH=tests/support python tests/crash/types_campaign.py --kills 10 --seed 7 [--types video_convert,…]

Each round submits one task, kills at a random moment of the time that the undisturbed task took, and compares. Prints
a line for each job; the seed repeats it.
"""

import argparse
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
from long_jobs import LongJob, make_jobs

from tasktrail.client import Client
from tasktrail.demo import ServiceProcess
from tasktrail.events import Task

Victim: TypeAlias = Literal["worker", "service"]
WITHIN = 300.0


class Tally(msgspec.Struct):
    """What the kills of one type came to."""

    kills: int = 0
    in_the_middle: int = 0
    """Kills that really met a running attempt."""
    pieces: int = 0
    """Finished pieces of an undisturbed task."""
    most_redone: int = 0
    """Finished pieces that were made twice because of one kill, at most."""
    problems: list[str] = msgspec.field(default_factory=list)


class Campaign:
    """All rounds of one type, over one data folder."""

    def __init__(self, job: LongJob, folder: Path, chance: random.Random) -> None:
        self._job = job
        self._folder = folder
        self._chance = chance
        self._data = folder / "data"
        self._service = ServiceProcess(self._data)
        self.tally = Tally()
        self._seen: dict[str, set[int]] = {}

    def run(self, kills: int) -> Tally:
        """An undisturbed run, then `kills` of the worker and `kills` of the service."""
        try:
            self._perform(f"warm{self._job.suffix}", None)  # the worker has loaded its libraries
            quiet = self._perform(f"quiet{self._job.suffix}", None)
            for victim in ("worker", "service"):
                for number in range(kills):
                    task = self._perform(f"{victim}-{number}{self._job.suffix}", victim, quiet.duration)
                    self._compare(quiet, task, f"{victim} kill {number}")
            return self.tally
        finally:
            self._service.stop()

    def _perform(self, name: str, victim: Victim | None, length: float = 0.0) -> Task:
        output = self._folder / name
        self._seen = {}
        with Client.connect(self._data) as client:
            task_id = client.create_task(
                type=self._job.type, input_file=self._job.input_file, output_file=output, options=self._job.options
            )
            if victim is not None:
                self._until(task_id, lambda: bool(client.get_task(task_id).started_at))
                time.sleep(self._chance.uniform(0, length))
                self._look(task_id)
                self._kill(victim)
        with Client.connect(self._data) as client:
            self._until(task_id, lambda: client.get_task(task_id).completed_at is not None)
            task = client.get_task(task_id)
        if task.attempt > 1:
            self.tally.in_the_middle += 1
        self.tally.pieces = max(self.tally.pieces, len(self._seen))
        self.tally.most_redone = max(self.tally.most_redone, sum(len(times) - 1 for times in self._seen.values()))
        return task

    def _until(self, task_id: int, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WITHIN
        while not condition():
            self._look(task_id)
            if time.monotonic() > deadline:
                raise TimeoutError(f"a {self._job.type} task got nowhere in {WITHIN:.0f} s")
            time.sleep(0.02)

    def _kill(self, victim: Victim) -> None:
        self.tally.kills += 1
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

    def _compare(self, quiet: Task, task: Task, where: str) -> None:
        if task.status != "completed":
            self.tally.problems.append(f"{where}: {task.status}, {task.error or task.last_error}")
        elif task.result["sha256"] != quiet.result["sha256"]:
            self.tally.problems.append(f"{where}: other bytes than the quiet run's")
        Path(task.output_file).unlink(missing_ok=True)


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=10, help="of the worker, and of the service, for each job")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--types", default="", help="only these, with commas between them")
    parser.add_argument("--samples", type=Path, default=Path("gallery/samples"))
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    wanted = set(filter(None, arguments.types.split(",")))
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for job in make_jobs(arguments.samples, Path(scratch)):
            if wanted and job.type not in wanted:
                continue
            folder = Path(scratch, job.name)
            folder.mkdir()
            tally = Campaign(job, folder, random.Random(f"{arguments.seed} {job.name}")).run(arguments.kills)
            failed += bool(tally.problems)
            print(_line(job, tally), *tally.problems, sep="\n  ", flush=True)
    return 1 if failed else 0


def _line(job: LongJob, tally: Tally) -> str:
    verdict = "FAILED" if tally.problems else "byte-identical"
    redone = f"at most {tally.most_redone} of {tally.pieces} pieces made twice" if job.resumes else "begins anew"
    return f"{job.name:<26} {tally.kills} kills, {tally.in_the_middle} in the middle: {verdict}; {redone}"


if __name__ == "__main__":
    sys.exit(main())
