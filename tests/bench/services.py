"""A service to measure."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness import SUPPORT

from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config


@contextmanager
def service(folder: Path, workers: int, **settings: Any) -> Iterator[TaskService]:
    """Open a service with all workers ready; it is closed afterwards."""
    os.environ["PYTHONPATH"] = str(SUPPORT)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode; workers would compile it anew
    if str(SUPPORT) not in sys.path:
        sys.path.append(str(SUPPORT))
    config = Config(workers=workers, handlers=("bench_types",), **settings)
    with TaskService.open(folder, config=config) as tasks:
        warm = [tasks.create_task(type="noop") for _ in range(workers * 2)]
        for task_id in warm:
            tasks.wait(task_id, timeout=60)
        yield tasks
