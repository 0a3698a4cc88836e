"""The Sealer: has a process of its own seal the log, every so often and once more when the service stops.

It does nothing before there is a key: `tasktrail seal` makes one. The process reads the log like any other reader, and
asks the witnesses once the seal is kept.
"""

import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec

from ..events.clock import Clock, SystemClock
from ..events.log.sqlite import LogReader
from ..projections.proof.seals import make_seal
from .base import Actor, Alarm, logger
from .core.messages import Tick
from .side_process import ProcessEnded, SideProcess, stay_behind
from .witnesses import Asked, Witness, ask_witnesses

_LAST_WITHIN = 3.0
"""Seconds that a stop waits for the last seal. A longer log is sealed at the next start."""


class Sealer(Actor):
    """Starts the process when the time has come and the log has grown.

    Args:
        log_path: the log.
        folder: where the seals are kept.
        key_file: the private key.
        witnesses: those who are asked to sign, too.
        every: seconds between two seals; 0: only the service's start and its stop are sealed.
        clock: for the time between two seals.
        position: the last record that is committed.
    """

    def __init__(
        self,
        *,
        log_path: Path,
        folder: Path,
        key_file: Path,
        witnesses: Sequence[Witness] = (),
        every: float,
        clock: Clock,
        position: Callable[[], int],
    ) -> None:
        super().__init__()
        self._arguments = str(log_path), str(folder), str(key_file), msgspec.json.encode(witnesses).decode()
        self._key_file = key_file
        self._every = every
        self._clock = clock
        self._position = position
        self._sealed = 0
        """Where the log was when it was sealed last by this service."""

    def on_start(self) -> None:
        """Seal what an earlier service has left unsealed, then go on by the clock."""
        self._process = SideProcess("tasktrail.actors.sealer", self.actor_ref.tell)
        self._alarm = Alarm(lambda: self.actor_ref.tell(Tick()), self._clock, "sealer-alarm")
        self.actor_ref.tell(Tick())

    def on_stop(self) -> None:
        """Seal once more. The log has got its last record by now."""
        self._alarm.close()
        self._process.kill()
        self._process.forget()
        self._start()
        if self._process.process is not None:
            try:
                self._process.process.wait(_LAST_WITHIN)
            except subprocess.TimeoutExpired:
                self._process.kill()

    def receive(self, message: Any) -> None:
        """Start the process, or note its end."""
        match message:
            case Tick():
                if self._every:
                    self._alarm.set(self._clock.now() + timedelta(seconds=self._every))
                if not self._process.running:
                    self._start()
            case ProcessEnded():
                self._process.forget()
                self._tell_of_witnesses(message.output)
                if message.code:
                    logger.warning("the log could not be sealed", exit_code=message.code, error=message.last_error)
                    self._sealed = 0

    def _tell_of_witnesses(self, output: str) -> None:
        for line in output.splitlines():
            asked = msgspec.json.decode(line, type=Asked)
            tell = logger.error if asked.outcome == "contradicted" else logger.warning
            tell("a witness has not signed the seal", witness=asked.witness, why=asked.message, remedy=asked.remedy)
            self._sealed = 0  # it is asked again, even if nothing is recorded until then

    def _start(self) -> None:
        position = self._position()
        if position == self._sealed or not self._key_file.exists():
            return
        try:
            self._process.start(*self._arguments)
        except OSError as error:  # no process, no memory, no descriptor
            logger.warning("the log cannot be sealed now", error=str(error))
            return
        self._sealed = position


def main(log_path: str, folder: str, key_file: str, witnesses: str, parent: str) -> None:
    """Seal the log as it is now. Prints which witnesses have not signed. Ends when the parent process does."""
    if not stay_behind(parent):
        return
    named = msgspec.json.decode(witnesses, type=tuple[Witness, ...])
    with closing(LogReader(Path(log_path))) as log:
        seal, key = make_seal(log, Path(folder), Path(key_file), SystemClock().now())
        for asked in ask_witnesses(log, seal, key, named):
            if asked.outcome != "signed":
                print(msgspec.json.encode(asked).decode(), flush=True)  # noqa: T201 - for the actor


if __name__ == "__main__":
    main(*sys.argv[1:])
