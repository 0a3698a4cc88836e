"""The Inspector: after a start it checks a long log from its first record on, in a process of its own.

A start makes only quick checks. A full check takes microseconds for each record, too long for a start with a long log.
So it runs while the service works, and damage that it finds stops the service.
"""

import json
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from ..events.errors import LogCorrupt, LogTooNew, TasktrailError
from ..events.log.opening import read_log
from .actor import Actor
from .logger import get_logger
from .messages import WAKE, Wake
from .side_process import ProcessEnded, SideProcess, follow_parent

logger = get_logger()


class Inspector(Actor):
    """Runs one check when it starts.

    Args:
        log_path: the log.
        on_damage: called with the damage, in this actor's thread.
        wanted: whether a check is needed.
    """

    def __init__(
        self, *, log_path: Path, on_damage: Callable[[BaseException], None], wanted: Callable[[], bool]
    ) -> None:
        super().__init__()
        self._wanted = wanted
        self._log_path = log_path
        self._on_damage = on_damage

    def on_start(self) -> None:
        """Check at once."""
        self._check = SideProcess("tasktrail.actors.inspector", self.actor_ref.tell)
        if self._wanted():
            self.actor_ref.tell(WAKE)

    def on_stop(self) -> None:
        """End the process: the next start checks anew."""
        self._check.kill()

    def receive(self, message: Any) -> None:
        """Start the process, or handle its result."""
        match message:
            case Wake() if not self._check.running:
                self._check.start(str(self._log_path))
            case ProcessEnded():
                self._check.forget()
                self._end(message)

    def _end(self, ended: ProcessEnded) -> None:
        if ended.code or not ended.output:
            logger.warning("the log could not be checked", exit_code=ended.code, error=ended.last_error)
            return
        answer = json.loads(ended.output)
        if answer is None:
            logger.info("the log was checked and is sound")
        else:
            newer = answer["code"] == "newer"
            logger.error("the log cannot be read by this version" if newer else "the log is damaged", **answer)
            error = LogTooNew if newer else LogCorrupt
            self._on_damage(error(f"{self._log_path}: position {answer['position']}: {answer['message']}"))


def main(path: str, parent: str) -> None:
    """Print the first fault of a log as a JSON object, or null."""
    if not follow_parent(parent):
        return
    with closing(read_log(Path(path))) as reader:
        try:
            fault = next(reader.faults(), None)
        except TasktrailError as error:
            sys.stderr.write(str(error))
            sys.exit(1)
    sys.stdout.write(json.dumps(fault._asdict() if fault else None))


if __name__ == "__main__":
    main(*sys.argv[1:])
