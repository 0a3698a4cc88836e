"""`make gallery`: every task type on real files, each result decoded by somebody else, and a page to look at.

    python tests/gallery/gallery.py [FOLDER]

Exit code 1 when a task failed or a result is not what it says.
"""

import sys
import tempfile
from pathlib import Path

import msgspec
from checks import check
from jobs import JOBS, Job
from page import Shown, write_page
from rich.console import Console
from sample_files import OFFICE

from tasktrail import TaskService
from tasktrail.events import Task
from tasktrail.handlers.document.libreoffice import HOW_TO_INSTALL, find_libreoffice
from tasktrail.samples import Sample, fetch

PATIENCE = 300.0


def main() -> int:
    """Make the gallery."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "gallery").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    jobs = [job for job in JOBS if job.sample not in OFFICE or find_libreoffice()]
    if len(jobs) < len(JOBS):
        console.print(f"Without LibreOffice: {len(JOBS) - len(jobs)} office documents are left out. {HOW_TO_INSTALL}.")
    files = fetch(list({job.sample for job in jobs}), folder / "samples")
    with tempfile.TemporaryDirectory() as data, TaskService.open(data) as service:
        shown = _make(service, jobs, files, folder, console)
    page = write_page(shown, folder)
    bad = sum(bool(each.problems) for each in shown)
    console.print(f"{len(shown) - bad} passed, {bad} failed")
    console.print(f"Look at {page}", highlight=False, soft_wrap=True)
    return 1 if bad else 0


def _make(
    service: TaskService, jobs: list[Job], files: dict[Sample, Path], folder: Path, console: Console
) -> list[Shown]:
    tasks = [(job, _submit(service, job, files[job.sample], folder)) for job in jobs]
    shown = []
    for job, task_id in tasks:
        task = service.wait(task_id, timeout=PATIENCE)
        one = _show(job, task)
        shown.append(one)
        mark = "[red]NO [/]" if one.problems else "[green]yes[/]"
        console.print(f"{mark} {job.type:<17} {job.sample.name:<36} {one.facts}", highlight=False, soft_wrap=True)
        for problem in one.problems:
            console.print(f"      {problem}", highlight=False, soft_wrap=True)
    return shown


def _submit(service: TaskService, job: Job, source: Path, folder: Path) -> int:
    output = folder / f"{job.type}-{source.stem}{job.suffix}"
    return service.create_task(
        type=job.type, input_file=source, output_file=output, options=job.options, overwrite=True
    )


def _show(job: Job, task: Task) -> Shown:
    output = Path(task.output_file)
    done = task.status == "completed"
    result = task.result
    facts = f"{task.duration or 0:.2f} s, {task.memory_used / 1e6:.0f} MB peak"
    if done:
        facts = f"{result['width']}x{result['height']}, {result['size']:,} bytes, {facts}"
    return Shown(
        type=job.type,
        source=job.sample.name,
        licence=job.sample.licence,
        output=output,
        options=msgspec.json.encode(job.options).decode(),
        facts=facts,
        problems=tuple(check(output, result)) if done else (f"{task.status}: {task.error or task.last_error}",),
    )


if __name__ == "__main__":
    raise SystemExit(main())
