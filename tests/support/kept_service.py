"""A little service to be killed: opens an executor, runs one attempt, prints its processes, and waits.

Arguments: lock file, shape of the children, and `fork` to leave a copy of the service running that holds its pipes.
"""

import os
import sys
import time
from pathlib import Path

from inline_executor import Reports

from tasktrail.actors.workers.local_executor import LocalExecutor
from tasktrail.events.reports import AttemptProgressed, Run


def main() -> None:
    lock, shape, *fork = sys.argv[1:]
    here = str(Path(__file__).parent)
    executor = LocalExecutor(
        slots=2, homes={"parent": "sample_handlers:parent"}, lock_path=Path(lock), pythonpath=[here]
    )
    reports = Reports(executor)
    executor.do([Run(1, 1, "parent", "", "", {"shape": shape}, None, f"{lock}.work")])
    said = reports.until(lambda report: isinstance(report, AttemptProgressed))
    assert isinstance(said, AttemptProgressed)
    if fork and os.fork() == 0:
        os.closerange(0, 3)
        time.sleep(60)
        os._exit(0)
    print(said.message, flush=True)
    time.sleep(600)


main()
