"""The Sealer: seals the log in a process of its own, at intervals and once more when the service stops.

It does nothing until there is a key: `tasktrail seal` makes one. The process reads the log like any other reader, and
asks the witnesses once the seal is kept.
"""

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec

from ..events.clock import Clock, SystemClock
from ..events.existence import exists
from ..events.log.opening import read_log
from ..projections.errors import SealUnfit, WitnessesDamaged
from ..projections.proof.seals import make_seal, newest_seal, seal_files
from ..projections.proof.witness_list import read_witnesses
from .actor import Actor
from .alarm import Alarm
from .core.messages import Tick
from .logger import get_logger
from .side_process import ProcessEnded, SideProcess, follow_parent

logger = get_logger()

_LAST_WITHIN = 3.0
"""Seconds that a stop waits for the last seal. A longer log is sealed at the next start."""


class _Unsigned(msgspec.Struct, frozen=True, kw_only=True):
    """A report of the process about a seal that a witness has not signed."""

    event: str
    witness: str = ""
    """Empty if it is about all witnesses."""
    why: str
    remedy: str
    grave: bool = False


class Sealer(Actor):
    """Starts the process when a seal is due and the log has grown.

    Args:
        log_path: the log.
        folder: where the seals are kept.
        key_file: the private key.
        witnesses: the file with the witnesses, who are asked to sign, too.
        every: seconds between two seals; 0 to seal only at the service's start and stop.
        clock: for the time between two seals.
        position: returns the position of the last committed record.
        on_trouble: gets, in words, a problem that a person has to solve, and an empty text when it is over.
    """

    def __init__(
        self,
        *,
        log_path: Path,
        folder: Path,
        key_file: Path,
        witnesses: Path,
        every: float,
        clock: Clock,
        position: Callable[[], int],
        on_trouble: Callable[[str], object] = lambda _: None,
    ) -> None:
        super().__init__()
        self._on_trouble = on_trouble
        self._folder = folder
        self._arguments = str(log_path), str(folder), str(key_file), str(witnesses)
        self._key_file = key_file
        self._witnesses = witnesses
        self._every = every
        self._clock = clock
        self._position = position
        self._sealed = 0
        """The log's position at the last seal of this service."""

    def on_start(self) -> None:
        """Seal what an earlier service has left unsealed, then seal at intervals."""
        self._process = SideProcess("tasktrail.actors.sealer", self.actor_ref.tell)
        self._alarm = Alarm(lambda: self.actor_ref.tell(Tick()), self._clock, "sealer-alarm")
        self.actor_ref.tell(Tick())

    def on_stop(self) -> None:
        """Seal once more. By now the log has its last record."""
        self._alarm.close()
        self._process.kill()
        self._process.forget()
        self._start()
        if not self._process.running:
            return
        if (ended := self._process.wait(_LAST_WITHIN)) is not None:
            self._note(ended)
            return
        self._process.kill()
        if self._has_seal_of_end():
            if exists(self._witnesses):
                logger.warning(
                    "the witnesses may not have signed the last seal",
                    why=f"they took more than {_LAST_WITHIN:g} s; a start asks them again",
                )
            return
        logger.warning(
            "the end of the log is not sealed", why=f"it took more than {_LAST_WITHIN:g} s; a start seals it"
        )

    def receive(self, message: Any) -> None:
        """Start the process, or note its end."""
        match message:
            case Tick():
                if self._every:
                    self._alarm.set_after(self._every)  # not by the wall clock, which may be put back by a year
                if not self._process.running:
                    self._start()
            case ProcessEnded():
                self._process.forget()
                self._note(message)

    def _note(self, ended: ProcessEnded) -> None:
        trouble = self._tell_of_witnesses(ended.output)
        if ended.code:
            logger.warning("the log could not be sealed", exit_code=ended.code, error=ended.last_error)
            self._sealed = 0
            trouble = f"the log could not be sealed: {ended.last_error}"
        self._on_trouble(trouble)

    def _tell_of_witnesses(self, output: str) -> str:
        """Log which witnesses have not signed. Returns the first grave reason, in words, if there is one."""
        grave = ""
        for line in output.splitlines():
            unsigned = msgspec.json.decode(line, type=_Unsigned)
            log = logger.error if unsigned.grave else logger.warning
            log(unsigned.event, witness=unsigned.witness, why=unsigned.why, remedy=unsigned.remedy)
            self._sealed = 0  # so that the witnesses are asked again, even if nothing is recorded until then
            if unsigned.grave:
                grave = grave or f"the witness {unsigned.witness} does not sign: {unsigned.why}"
        return grave

    def _has_seal_of_end(self) -> bool:
        """Whether the process had kept the seal when it was killed: it asks the witnesses after that."""
        try:
            return newest_seal(self._folder).checkpoint.size >= self._sealed
        except SealUnfit:
            return False

    def _start(self) -> None:
        position = self._position()
        if position == self._sealed:
            return
        if not exists(self._key_file):
            self._tell_if_key_was_lost()
            return
        try:
            self._process.start(*self._arguments)
        except OSError as error:  # no process, no memory, no descriptor
            logger.warning("the log cannot be sealed now", error=str(error))
            return
        self._sealed = position

    def _tell_if_key_was_lost(self) -> None:
        """Warn if the key is missing although there are seals. With neither, the log is not meant to be sealed."""
        try:
            if not (exists(self._folder) and seal_files(self._folder)):
                self._on_trouble("")
                return
            why = f"{self._key_file} is missing, although there are seals made with it"
        except (OSError, SealUnfit) as error:
            why = str(error)
        logger.warning("the log cannot be sealed", why=why)
        self._on_trouble(f"the log cannot be sealed: {why}")


def main(log_path: str, folder: str, key_file: str, witnesses: str, parent: str) -> None:
    """Seal the log as it is now, and print which witnesses have not signed. Ends when the parent process does."""
    if not follow_parent(parent):
        return
    with closing(read_log(Path(log_path))) as log:
        seal, key = make_seal(log, Path(folder), Path(key_file), SystemClock().now())
        try:
            named = read_witnesses(Path(witnesses))
        except WitnessesDamaged as error:
            _tell(_Unsigned(event="no witness is asked to sign the seal", why=error.message, remedy=error.advice))
            return
        from .witnesses import ask_witnesses  # noqa: PLC0415 - only in this process: it imports the code for the network

        for asked in ask_witnesses(log, seal, key, named):
            if asked.outcome != "signed":
                _tell(
                    _Unsigned(
                        event="a witness has not signed the seal",
                        witness=asked.witness,
                        why=asked.message,
                        remedy=asked.remedy,
                        grave=asked.outcome == "contradicted",
                    )
                )


def _tell(unsigned: _Unsigned) -> None:
    print(msgspec.json.encode(unsigned).decode(), flush=True)  # noqa: T201 - for the actor


if __name__ == "__main__":
    main(*sys.argv[1:])
