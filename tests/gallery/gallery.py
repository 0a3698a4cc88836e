"""`make gallery`: every task type on real files, each result decoded by another program, and a page to look at.

python tests/gallery/gallery.py [FOLDER]

Exit code 1 when a task failed, a result is not what it claims, or a type is shown on files of fewer than three
packages.
"""

import argparse
import tempfile
from pathlib import Path

import msgspec
from checks import check
from high_range import show as show_high_range
from jobs import JOBS, Job
from likeness import compare
from page import Shown, write_page
from rich.console import Console
from sample_files import OFFICE

from tasktrail import TaskService
from tasktrail.demo.samples import Sample, fetch
from tasktrail.events import Task
from tasktrail.handlers.document.libreoffice import INSTALL_LIBREOFFICE, find_libreoffice

PATIENCE = 300.0
SOURCES = 3


def main() -> int:
    """Make the gallery."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=Path("gallery"))
    folder = parser.parse_args().folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    console = Console()
    jobs = [job for job in JOBS if job.sample not in OFFICE or find_libreoffice()]
    if len(jobs) < len(JOBS):
        console.print(
            f"Without LibreOffice: {len(JOBS) - len(jobs)} office documents are left out. {INSTALL_LIBREOFFICE}."
        )
    files = fetch(list({job.sample for job in jobs}), folder / "samples")
    with tempfile.TemporaryDirectory() as data, TaskService.open(data) as service:
        shown = [*_make(service, jobs, files, folder, console), *show_high_range(service, folder)]
        poor = [info.name for info in service.types() if len(_sources(info.name, jobs)) < SOURCES]
    page = write_page(shown, folder)
    bad = sum(bool(each.problems) for each in shown)
    console.print(f"{len(shown) - bad} passed, {bad} failed")
    console.print(f"Look at {page}", highlight=False, soft_wrap=True)
    if poor:
        console.print(f"Shown on files of fewer than {SOURCES} packages: {', '.join(poor)}")
    return 1 if bad or poor else 0


def _sources(task_type: str, jobs: list[Job]) -> set[str]:
    return {job.sample.requirement for job in jobs if job.type == task_type}


def _make(
    service: TaskService, jobs: list[Job], files: dict[Sample, Path], folder: Path, console: Console
) -> list[Shown]:
    tasks = [(job, _submit(service, job, files[job.sample], folder)) for job in jobs]
    shown = []
    for job, task_id in tasks:
        task = service.wait(task_id, timeout=PATIENCE)
        one = _show(job, task, files[job.sample])
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


def _show(job: Job, task: Task, source: Path) -> Shown:
    output = Path(task.output_file)
    done = task.status == "completed"
    result = task.result
    facts = f"{task.duration or 0:.2f} s, {task.memory_used / 1e6:.0f} MB peak"
    problems = [f"{task.status}: {task.error or task.last_error}"]
    if done:
        problems = check(output, result) + compare(job.type, source, output, result, job.options)
        facts = f"{result['width']}x{result['height']}, {result['size']:,} bytes, {facts}"
    return Shown(
        type=job.type,
        source=job.sample.name,
        licence=job.sample.licence,
        output=output,
        options=msgspec.json.encode(job.options).decode(),
        facts=facts,
        problems=tuple(problems),
    )


if __name__ == "__main__":
    raise SystemExit(main())
