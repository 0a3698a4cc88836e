"""Gives a real service small files that are expensive to process, and measures the cost of each from outside.

Promised: an attempt on an image, a document or a model uses at most 20 s of CPU time and 5 s for each MB of input
(films 60 s, or what their probe says), its memory stays within the bound that follows from its reservation, it ends by
a name of its own, and it is tried once. A task that can never fit fails within seconds. `--short`: small sizes,
expensive enough.
"""

import argparse
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, NamedTuple

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "hostile"))

from costly_files import COSTLY, Costly, sibling

from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.events import Task, TasktrailError
from tasktrail.events.errors import WaitTimeout

CPU_LATE = 3.0
"""Seconds: the look comes every half second, on a few CPUs, and the worker had to import."""
WORKER = 250_000_000
"""Bytes of a worker with its libraries."""
OVERSHOOT = 512 * 1024 * 1024
"""The bytes that can exceed the kernel's limit between two looks."""
FLOOR = 512 * 1024 * 1024
PATIENCE = 400.0
AT_ONCE = 5.0
NAMES = frozenset({"", "Rejected", "CpuLimitReached", "MemoryLimitReached", "NeverFits", "FileSizeLimitReached"})


class Spent(NamedTuple):
    """The use of the service's child processes, seen from outside."""

    cpu: float
    peak: int


class Meter:
    """Watches everything below this process."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._peak, self._cpu = 0, 0.0
        self._known: dict[tuple[int, float], float] = {}
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while not self._over.wait(0.1):
            self._look()

    def _look(self) -> None:
        resident = 0
        for process in psutil.Process().children(recursive=True):
            try:
                with process.oneshot():
                    times, key = process.cpu_times(), (process.pid, process.create_time())
                    resident += process.memory_info().rss
                self._known[key] = times.user + times.system
            except psutil.Error:
                continue
        self._peak = max(self._peak, resident)

    def mark(self) -> float:
        """Return CPU seconds up to now; the peak counts anew."""
        self._look()
        self._peak = 0
        return sum(self._known.values())

    def since(self, mark: float) -> Spent:
        self._look()
        return Spent(sum(self._known.values()) - mark, self._peak)

    def close(self) -> None:
        self._over.set()
        self._thread.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="small sizes only")
    parser.add_argument("--seed", type=int, default=1, help="of the sizes of the siblings")
    parser.add_argument("--only", default="", help="names that begin so")
    arguments = parser.parse_args()
    work = [(one, one.short if arguments.short else one.full) for one in COSTLY if one.name.startswith(arguments.only)]
    if not arguments.short:
        work += [(one, sibling(one, arguments.seed, full=True)) for one, _ in list(work)]
    broken = []
    with tempfile.TemporaryDirectory(prefix="costly-") as name:
        folder = Path(name)
        (folder / "out").mkdir()
        meter = Meter()
        config = Config(workers=1)
        with TaskService.open(folder / "data", config=config) as service:
            for number, (one, size) in enumerate(work):
                broken += attack(service, meter, folder, number, one, size)
            broken += what_never_fits(service, folder)
        meter.close()
    for line in broken:
        print(f"BROKEN: {line}", flush=True)
    print(f"costly: {len(work) + 1} files, {len(broken)} broken promises (seed {arguments.seed})")
    return min(1, len(broken))


def attack(service: TaskService, meter: Meter, folder: Path, number: int, one: Costly, size: int) -> list[str]:
    """Make the file, have it processed, and return the broken promises."""
    path = folder / f"{number}-{one.name}"
    one.make(path, size)
    length = path.stat().st_size
    mark, begun = meter.mark(), time.monotonic()
    task_id = service.create_task(
        type=one.task_type,
        input_file=str(path),
        output_file=str(folder / "out" / f"{number}{one.output}"),
        max_retries=3,
    )
    try:
        task = service.wait(task_id, PATIENCE)
    except WaitTimeout as error:
        return [f"{one.name} of size {size} waits for ever: {error}"]
    spent, seconds = meter.since(mark), time.monotonic() - begun
    path.unlink()
    tries = tries_of(service, task_id)
    memory = max(FLOOR, 2 * reserved(service, task)) + WORKER + OVERSHOOT
    print(
        f"{one.name:22} size {size:>9,} {length:>11,} bytes: {task.status:9} {task.error_type or '-':20} "
        f"{seconds:6.1f} s {spent.cpu:6.1f} CPU-s {spent.peak / 1e6:7,.0f} MB  tries {tries}  {task.error[:90]}",
        flush=True,
    )
    said = f"{one.name} of size {size}"
    allowed = (60.0 if one.task_type.startswith("video") else 20.0) + 5 * length / 1e6 + CPU_LATE
    faults = []
    if task.status not in ("completed", "failed"):
        faults.append(f"{said} is {task.status} after {seconds:.0f} s")
    if spent.cpu > allowed:
        faults.append(f"{said} used {spent.cpu:.1f} s of CPU time, {allowed:.1f} are allowed")
    if spent.peak > memory:
        faults.append(f"{said} had {spent.peak:,} bytes of memory, {memory:,} are allowed")
    if task.error_type not in NAMES:
        faults.append(f"{said} ended as {task.error_type}: {task.error[:200]}")
    if tries > 1:
        faults.append(f"{said} was tried {tries} times")
    return faults


def tries_of(service: TaskService, task_id: int) -> int:
    """Return the attempts that ended by themselves, without those that go back for more room."""
    ends = [one.event for one in service.events(task_id)]
    return sum(1 for event in ends if getattr(event, "outcome", "completed") != "interrupted" and is_end(event))


def is_end(event: Any) -> bool:
    return type(event).__name__ in ("Failed", "Completed")


def reserved(service: TaskService, task: Task) -> int:
    """Return the bytes of memory that were reserved for the last attempt."""
    found = [getattr(one.event, "estimate", None) for one in service.events(task.id)]
    probed: list[int] = [estimate.memory for estimate in found if estimate is not None]
    return max([task.estimated_memory, *probed])


def what_never_fits(service: TaskService, folder: Path) -> list[str]:
    """Make a terabyte file that is one hole, and an animation whose frames together need terabytes of memory."""
    sparse, frames = folder / "sparse.mp4", folder / "frames.gif"
    with sparse.open("wb") as file:
        file.truncate(10**12)
    next(one for one in COSTLY if one.name == "frames.gif").make(frames, 9000)
    broken = []
    for task_type, path, output in (("video_convert", sparse, "a.mp4"), ("image_convert", frames, "a.webp")):
        begun = time.monotonic()
        try:
            task_id = service.create_task(
                type=task_type, input_file=str(path), output_file=str(folder / "out" / output), max_retries=3
            )
            task = service.wait(task_id, PATIENCE / 10)
            status, error = str(task.status), task.error
        except TasktrailError as refusal:
            status, error = type(refusal).__name__, str(refusal)
        seconds = time.monotonic() - begun
        print(f"{path.name}: {status} after {seconds:.2f} s: {error}", flush=True)
        if status not in ("failed", "NeverFits") or seconds > AT_ONCE:
            broken.append(f"{path.name}, which can never fit, is {status} after {seconds:.1f} s: {error}")
    return broken


if __name__ == "__main__":
    sys.exit(main())
