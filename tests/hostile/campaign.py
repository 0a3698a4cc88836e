"""Give every crafted file to every type that may take it, in one service, with harmless work among it.

A separate program, so that it can run under a system-call trace: `campaign.py FOLDER`, where FOLDER/in holds the files.
The result of each is written to FOLDER/results.json, and a line about it to standard error as soon as it is there.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.events.errors import TasktrailError

OUTPUTS = {
    "audio_convert": ".mp3",
    "image_thumbnail": ".jpg",
    "image_convert": ".webp",
    "video_convert": ".mp4",
    "video_thumbnail": ".jpg",
    "video_preview": ".webp",
    "document_convert": ".pdf",
    "document_preview": ".png",
    "model_preview": ".png",
}
TAKERS = {
    "picture": ("image_thumbnail", "image_convert"),
    "film": ("video_convert", "video_thumbnail", "video_preview", "audio_convert"),
    "sound": ("audio_convert",),
    "paper": ("document_convert", "document_preview"),
    "shape": ("model_preview",),
    "any": tuple(OUTPUTS),
}
HARMLESS = "harmless.png"
WITHIN = 300.0
EVERY = 15
"""After this many crafted files comes a valid one."""


def main(folder: Path) -> None:
    # Without its own limit a file that claims 41 GB waits until the machine's disk has them.
    config = Config(
        workers=2, max_temp_size=8 * 1024**3, input_roots=(str(folder / "in"),), output_roots=(str(folder / "out"),)
    )
    families = json.loads((folder / "families.json").read_text())
    results = []
    with TaskService.open(folder / "data", config=config) as service:
        known = {info.name for info in service.types()}
        waiting = [
            (name, task_type, submit(service, folder, name, task_type, number))
            for number, (name, task_type) in enumerate(work(families))
            if task_type in known
        ]
        for name, task_type, answer in waiting:
            outcome = answer if isinstance(answer, dict) else ended(service, answer)
            results.append({"name": name, "type": task_type, **outcome})
            # Who stops this program because it takes too long sees what it was waiting for.
            print(f"{name} {task_type}: {outcome['status']} {outcome.get('time_used', 0):.1f} s", file=sys.stderr)
    (folder / "results.json").write_text(json.dumps(results))


def work(families: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield file and type, with harmless work in between."""
    for number, (name, family) in enumerate(families.items()):
        if number % EVERY == 0:
            yield HARMLESS, "image_thumbnail"
        for task_type in TAKERS[family]:
            yield name, task_type


def submit(service: TaskService, folder: Path, name: str, task_type: str, number: int) -> int | dict[str, Any]:
    """Return the task's id, or how the command was refused."""
    output = folder / "out" / f"{number}-{task_type}{OUTPUTS[task_type]}"
    try:
        return service.create_task(type=task_type, input_file=str(folder / "in" / name), output_file=str(output))
    except TasktrailError as error:
        return {"status": "refused", "error": str(error), "error_type": type(error).__name__}


def ended(service: TaskService, task_id: int) -> dict[str, Any]:
    task = service.wait(task_id, WITHIN)
    names = ("status", "error", "error_type", "memory_used", "temp_used", "time_used", "cpu_used", "output_file")
    return {name: getattr(task, name) for name in names}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
