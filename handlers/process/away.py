"""An attempt whose input or output is elsewhere: a process of its own moves the bytes, outside of any sandbox.

The worker asks for them before it calls the handler and after it; the handler sees files of this machine. The process
has the credentials; the worker hands them on without reading them, and an attempt's own process has not even that.
"""

import os
import select
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec
from msgspec.structs import replace

from ...events.errors import OutputExists, TasktrailError
from ...events.reports import AttemptProgressed, Run
from ..contract import StopAsked, TaskType
from ..elsewhere import (
    FOLDER,
    Answer,
    Appear,
    Fetch,
    Fetched,
    Kind,
    LockHeld,
    Moved,
    Ready,
    Refused,
    Storage,
    Store,
    Stored,
    Wish,
    clear_up,
    hold,
    lock_of,
    make_folders,
    place_of,
)
from ..errors import (
    InputChanged,
    InputTooLarge,
    OutputMissing,
    PackageMissing,
    StorageDenied,
    StorageFailed,
    StorageMissing,
    StorageUnreachable,
)
from ..urls import check_only_read, check_url, is_url
from ..workspace import remove_folder
from .channel import WorkerChannel
from .sandbox import Sandbox

_REPORT_EVERY = 0.5
"""Seconds between two reports of how many bytes have been moved."""
_LOOK_EVERY = 0.1
"""Seconds between two looks at whether the attempt is to stop: a thread hears of it."""
_CALL_OFF_WITHIN = 5.0
"""Seconds that an upload which is not wanted any more has to clear up."""
_LOCKED_WITHIN = 1.0
"""Seconds that somebody who looks whether a folder is used may hold its lock."""
_CHUNK = 65536
_ERRORS: dict[Kind, type[TasktrailError]] = {
    "missing": StorageMissing,
    "denied": StorageDenied,
    "forbidden": StorageDenied,
    "unreachable": StorageUnreachable,
    "exists": OutputExists,
    "changed": InputChanged,
    "large": InputTooLarge,
    "package": PackageMissing,
    "failed": StorageFailed,
}


class MoverProcess:
    """The process that moves bytes, as seen from outside. Close it; that ends what it does.

    Args:
        module: its module.
        credentials: a descriptor that it reads; -1: there are none.
        environment: none: ours.
    """

    def __init__(self, module: str, credentials: int = -1, environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(os.getpid()), str(credentials)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries may print what must not be kept
            cwd="/",
            env=environment,
            pass_fds=() if credentials < 0 else (credentials,),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._wishes, self._answers = self._process.stdin, self._process.stdout
        self._buffer = b""

    def wish(self, wish: Wish) -> None:
        """Say what it is to do."""
        with suppress(BrokenPipeError):  # it has died; its answer tells
            self._wishes.write(msgspec.json.encode(wish) + b"\n")
            self._wishes.flush()

    def no_more(self) -> None:
        """It ends by itself when it has done what was wished."""
        with suppress(BrokenPipeError):
            self._wishes.close()

    @property
    def fd(self) -> int:
        """Readable when there is something for `answers`."""
        return self._answers.fileno()

    def answers(self) -> list[Answer]:
        """What it has said meanwhile; waits for something. Raises StorageUnreachable when it has died."""
        data = os.read(self.fd, _CHUNK)
        if not data:
            raise StorageUnreachable("The process that moves the bytes has died")
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [msgspec.json.decode(line, type=Answer) for line in lines]

    def close(self, patience: float = 0.0) -> None:
        """End it. `patience`: seconds that it has to clear up."""
        with suppress(BrokenPipeError):
            self._wishes.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self._process.kill()
        self._process.wait()
        self._answers.close()


class Away:
    """Brings an attempt's input here and its output there. Use it as a context manager round the attempt.

    Args:
        channel: to the service.
        sandbox: the operator's bounds, with the places that are allowed.
        credentials: see `MoverProcess`.
    """

    def __init__(self, channel: WorkerChannel, sandbox: Sandbox, credentials: int) -> None:
        self._channel = channel
        self._sandbox = sandbox
        self._credentials = credentials
        self._held = ExitStack()
        self._folder = Path()
        self._node = ""
        self._said_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()
        if self._folder.name:
            # What stays is removed by the next one; the attempt has ended as it has, perhaps with its output there.
            with suppress(OSError, RuntimeError), self._channel.listening():
                clear_up(self._folder, self._node)

    @property
    def _storage(self) -> Storage:
        if self._sandbox.storage is None:
            raise StorageDenied(
                "No file elsewhere is allowed by now: neither input_roots nor output_roots names a place"
            )
        return self._sandbox.storage

    def brought_here(self, run: Run, task_type: TaskType) -> Run:
        """The run with files of this machine in place of those elsewhere.

        Raises:
            InvalidPath: the address is not allowed by now, or the type changes its input.
            StopAsked: the attempt is to end.
            StorageMissing, StorageDenied, StorageUnreachable, StorageFailed, InputTooLarge, PackageMissing: by name.
        """
        with self._channel.listening():
            run = self._brought_here(run, task_type, self._storage)
        return replace(run, cores=self._channel.cores())

    def _brought_here(self, run: Run, task_type: TaskType, storage: Storage) -> Run:
        self._folder, self._node = Path(run.work_dir).parent / FOLDER, run.node
        make_folders(self._folder)
        clear_up(self._folder, self._node)  # what a killed attempt has fetched may be all the room that there is
        if is_url(run.output_file):  # looked at first: nothing is fetched for an output that cannot be
            run = self._with_place_for_output(run)
        if is_url(run.input_file):
            check_url(run.input_file, self._sandbox.input_roots, "input_file", "input_roots")
            check_only_read(task_type.name, steady_input=task_type.steady_input)
            run = self._with_input(run, storage)
        return run

    def _with_place_for_output(self, run: Run) -> Run:
        url = check_url(run.output_file, self._sandbox.output_roots, "output_file", "output_roots", written=True)
        place = self._place("results", run)
        return replace(run, output_url=run.output_file, output_file=str(place / url.name))

    def _place(self, name: str, run: Run) -> Path:
        """An empty folder, held until the attempt is over."""
        place = self._folder / name / place_of(run.task_id, run.attempt, run.node)
        try:
            self._held.callback(os.close, hold(lock_of(place), _LOCKED_WITHIN))
        except LockHeld:
            raise StorageUnreachable(f"Somebody else is still at {place}") from None
        remove_folder(place)
        place.mkdir(mode=0o700)
        return place

    def _with_input(self, run: Run, storage: Storage) -> Run:
        place, process = self._place("fetched", run), self._started()
        try:
            process.wish(Fetch(url=run.input_file, place=str(place), storage=storage))
            found = self._heard(process, run, "fetching", 0.0)
            if not isinstance(found, Fetched):
                raise StorageFailed(f"The input was not fetched: {type(found).__name__}")
        finally:
            process.close()
        return replace(run, input_url=run.input_file, input_file=found.path, input_version=found.version)

    def storing(self, run: Run, part: Path) -> "Storing":
        """An upload of the settled output, whose bytes are all there when it returns. A context manager.

        Raises OutputExists, StopAsked and what storage raises.
        """
        if part.is_dir():
            raise OutputMissing(
                "A folder of files cannot be stored elsewhere",
                remedy="Name a file, such as a .zip, for the output; or a folder of this machine.",
            )
        process = self._started()
        try:
            storage = self._storage
            process.wish(
                Store(
                    url=run.output_url,
                    path=str(part),
                    folder=str(self._folder),
                    name=f"{run.task_id}-{run.attempt}",
                    owner=f"{storage.owner}/{run.task_id}",
                    overwrite=run.overwrite,
                )
            )
            ready = self._heard(process, run, "storing", 100.0)
            if not isinstance(ready, Ready):
                raise StorageFailed(f"The output was not stored: {type(ready).__name__}")
        except BaseException:
            process.close(_CALL_OFF_WITHIN)
            raise
        return Storing(process)

    def _started(self) -> MoverProcess:
        return MoverProcess(self._storage.mover, self._credentials)

    def _heard(self, process: MoverProcess, run: Run, doing: str, progress: float) -> Answer:
        """The answer that ends the waiting; meanwhile it is told how far it is."""
        while True:
            ready = select.select([process.fd], [], [], _LOOK_EVERY)[0]
            if self._channel.stop_wanted():
                raise StopAsked
            now = time.monotonic()
            for answer in process.answers() if process.fd in ready else ():
                if isinstance(answer, Refused):
                    raise as_error(answer)
                if not isinstance(answer, Moved):
                    return answer
                if now - self._said_at >= _REPORT_EVERY:
                    self._said_at = now
                    words = _told(answer, doing)
                    self._channel.send(AttemptProgressed(run.task_id, run.attempt, progress, words, answer.done))


class Storing:
    """An output whose bytes are there, and that nobody can see."""

    def __init__(self, process: MoverProcess) -> None:
        self._process = process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close(_CALL_OFF_WITHIN)

    def appear(self) -> None:
        """Let it appear. From here on the attempt is not asked whether it is to stop: it has its grant."""
        self._process.wish(Appear())
        while not (answers := self._process.answers()):
            pass
        for answer in answers:
            if isinstance(answer, Refused):
                raise as_error(answer)
            if not isinstance(answer, Stored):
                raise StorageFailed(f"The output was not stored: {type(answer).__name__}")


def as_error(refused: Refused) -> TasktrailError:
    """The error that stands for the answer."""
    return _ERRORS[refused.kind](refused.message, remedy=refused.remedy)


def _told(moved: Moved, doing: str) -> str:
    total = f" of {moved.total / 1e6:,.0f}" if moved.total else ""
    return f"{doing}: {moved.done / 1e6:,.0f}{total} MB"
