"""`make fuzz`: real files, damaged at random, through every type and the real service.

PYTHONPATH=tests/support python tests/fuzz/fuzz.py [--seconds 60] [--seed N]

Each damaged file must end its task: completed, rejected, or failed by name. Printed are the numbers of the failures,
and of the files that killed a worker (a fault of a media library); the seed repeats them. The service and the other
tasks must not notice. Exit code 1 when a task did not end or the log does not verify.
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from damage import damaged
from held_out_files import PIER, TRAILER
from rich.console import Console
from rich.progress import Progress
from sample_files import CHINA, CITY, CITY_STILL, FIGURES, JOINT, LOGO, MANUAL, MONKEY, RABBIT

from tasktrail import TaskService
from tasktrail.config.settings import Config
from tasktrail.demo.samples import AIRPLANE, BIKES, BUNNY, GEOBASE, Sample, fetch
from tasktrail.events import Task
from tasktrail.events.errors import TasktrailError

WORKERS = 2
AT_ONCE = 6
LONGEST = 30.0
"""Seconds that a task may take; more is a failure by name."""
PATIENCE = 120.0

TARGETS: dict[str, tuple[tuple[Sample, ...], str]] = {
    "audio_convert": ((BUNNY, PIER, TRAILER), ".m4a"),
    "image_thumbnail": ((CHINA, CITY_STILL, JOINT), ".webp"),
    "image_convert": ((CHINA, CITY_STILL, JOINT), ".png"),
    "video_thumbnail": ((BIKES, CITY), ".jpg"),
    "video_preview": ((BIKES, CITY), ".jpg"),
    "video_convert": ((BIKES, CITY), ".mp4"),
    "document_convert": ((GEOBASE, FIGURES, LOGO), ".pdf"),
    "document_preview": ((GEOBASE, FIGURES, LOGO, MANUAL), ".png"),
    "model_preview": ((AIRPLANE, MONKEY, RABBIT), ".png"),
}
SMALL: dict[str, dict[str, object]] = {
    "audio_convert": {"codec": "aac", "loudness": -16},
    "video_convert": {"width": 64, "height": 64, "preset": "ultrafast"},
    "video_preview": {"columns": 2, "rows": 2, "width": 64},
    "document_convert": {"pages": "1"},
    "document_preview": {"width": 100, "office": "thumbnail"},
    "model_preview": {"width": 64, "height": 64},
}


class Fuzzer:
    """One run."""

    def __init__(self, service: TaskService, files: dict[Sample, Path], folder: Path, seed: int) -> None:
        self._service = service
        self._files = files
        self._folder = folder
        self._seed = seed
        self._number = 0
        self.outcomes: Counter[str] = Counter()
        self.told: list[str] = []
        self.stuck: list[str] = []

    def batch(self) -> None:
        """Submit a few damaged files at once, and wait for their ends."""
        tasks = {}
        for _ in range(AT_ONCE):
            self._number += 1
            name, task_id = self._submit(random.Random(f"{self._seed} {self._number}"))
            if task_id is not None:
                tasks[task_id] = name
        for task_id, name in tasks.items():
            try:
                task = self._service.wait(task_id, timeout=PATIENCE)
            except TasktrailError as error:
                self.stuck.append(f"{name}: {error}")
                continue
            self._count(task, name)

    def _submit(self, chance: random.Random) -> tuple[str, int | None]:
        task_type = chance.choice(list(TARGETS))
        samples, suffix = TARGETS[task_type]
        sample = chance.choice(samples)
        source = self._folder / f"{self._number}-{sample.name}"
        source.write_bytes(damaged(self._files[sample].read_bytes(), chance))
        name = f"{self._number} {task_type} {sample.name}"
        try:
            return name, self._service.create_task(
                type=task_type,
                input_file=source,
                output_file=self._folder / f"{self._number}{suffix}",
                options=SMALL.get(task_type, {}),
                timeout=LONGEST,
            )
        except TasktrailError as error:
            self.outcomes[f"refused: {error.code}"] += 1
            return name, None

    def _count(self, task: Task, name: str) -> None:
        self.outcomes[task.status if task.status == "completed" else f"failed: {task.error_type or 'timed out'}"] += 1
        if task.crash_count:
            self.told.append(f"a worker died of {name}: {task.error}")
        elif task.status != "completed" and task.error_type != "Rejected":
            self.told.append(f"{name}: {task.error}")
        for path in (Path(task.input_file), Path(task.output_file)):
            path.unlink(missing_ok=True)


def main() -> int:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--samples", type=Path, default=Path("gallery/samples"))
    arguments = parser.parse_args()
    console = Console()
    files = fetch(list({sample for samples, _ in TARGETS.values() for sample in samples}), arguments.samples)
    with tempfile.TemporaryDirectory() as scratch:
        config = Config(workers=WORKERS)
        with TaskService.open(Path(scratch, "data"), config=config) as service:
            fuzzer = Fuzzer(service, files, Path(scratch), arguments.seed)
            _run(fuzzer, arguments.seconds, console)
            findings = service.verify().findings
    console.print(f"seed {arguments.seed}: {sum(fuzzer.outcomes.values())} damaged files", highlight=False)
    for outcome, count in fuzzer.outcomes.most_common():
        console.print(f"{count:>7}  {outcome}", highlight=False)
    for line in fuzzer.told:
        console.print(line, highlight=False)
    for problem in (*fuzzer.stuck, *findings):
        console.print(f"[red]{problem}[/]", highlight=False)
    return 1 if fuzzer.stuck or findings else 0


def _run(fuzzer: Fuzzer, seconds: float, console: Console) -> None:
    begun = time.monotonic()
    with Progress(console=console, transient=True) as bars:
        bar = bars.add_task("fuzzing", total=seconds)
        while (passed := time.monotonic() - begun) < seconds:
            fuzzer.batch()
            bars.update(bar, completed=passed)


if __name__ == "__main__":
    sys.exit(main())
