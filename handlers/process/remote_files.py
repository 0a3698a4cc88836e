"""Attempts with an input or output elsewhere: a separate process moves the bytes, outside of any sandbox.

The worker starts it before and after the handler, which sees only files of this machine. The process has the
credentials. The worker passes them on without reading them, and an attempt's own process has no access to them.
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
from ...events.existence import is_dir
from ...events.reports import AttemptProgressed, Run
from ..contract import StopAsked, TaskType
from ..elsewhere import (
    FOLDER,
    Appear,
    Fetch,
    Fetched,
    Kind,
    LockHeld,
    Moved,
    MoverAnswer,
    MoverRequest,
    Ready,
    Refused,
    Storage,
    Store,
    Stored,
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
"""Seconds between two checks whether the attempt must stop; a thread receives the order."""
_CALL_OFF_WITHIN = 5.0
"""Seconds in which an upload that is no longer wanted must clean up."""
_LOCKED_WITHIN = 1.0
"""Seconds for which another process may hold a folder's lock to check whether it is in use."""
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
    """The process that moves bytes, as seen from outside. Closing it ends its work.

    Args:
        module: the module that it runs.
        credentials: a descriptor that it reads; -1: there are none.
        environment: its variables; None: ours.
    """

    def __init__(self, module: str, credentials: int = -1, environment: dict[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, str(os.getpid()), str(credentials)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libraries may print secrets
            cwd="/",
            env=environment,
            pass_fds=() if credentials < 0 else (credentials,),
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        self._buffer = b""

    def request(self, request: MoverRequest) -> None:
        """Send it a request."""
        with suppress(BrokenPipeError):  # it has died, which `answers` reports
            self._requests.write(msgspec.json.encode(request) + b"\n")
            self._requests.flush()

    def close_input(self) -> None:
        """Close its input: it ends by itself when it has carried out all requests."""
        with suppress(BrokenPipeError):
            self._requests.close()

    @property
    def fd(self) -> int:
        """The descriptor that is readable when `answers` has something to return."""
        return self._answers.fileno()

    def answers(self) -> list[MoverAnswer]:
        """Wait for answers and return them. Raises StorageUnreachable when the process has died."""
        data = os.read(self.fd, _CHUNK)
        if not data:
            raise StorageUnreachable("The process that moves the bytes has died")
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [msgspec.json.decode(line, type=MoverAnswer) for line in lines]

    def close(self, patience: float = 0.0) -> None:
        """End it. `patience`: seconds that it has to clean up."""
        with suppress(BrokenPipeError):
            self._requests.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience)
        self._process.kill()
        self._process.wait()
        self._answers.close()


class RemoteFiles:
    """Fetches an attempt's input and stores its output. Use it as a context manager around the attempt.

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
        self._reported_at = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._held.close()
        if self._folder.name:
            # The next attempt removes what stays. This one has ended already, perhaps with its output stored.
            with suppress(OSError, RuntimeError), self._channel.listening():
                clear_up(self._folder, self._node)

    @property
    def _storage(self) -> Storage:
        if self._sandbox.storage is None:
            raise StorageDenied(
                "No file elsewhere is allowed any more: neither input_roots nor output_roots names a place"
            )
        return self._sandbox.storage

    def with_local_files(self, run: Run, task_type: TaskType) -> Run:
        """The run with local files in place of those elsewhere.

        Raises:
            InvalidPath: the address is no longer allowed, or the type changes its input.
            StopAsked: the attempt must end.
            StorageMissing, StorageDenied, StorageUnreachable, StorageFailed, InputTooLarge, PackageMissing: by name.
        """
        with self._channel.listening():
            run = self._with_local_files(run, task_type, self._storage)
        return replace(run, cores=self._channel.cores())

    def _with_local_files(self, run: Run, task_type: TaskType, storage: Storage) -> Run:
        self._folder, self._node = Path(run.work_dir).parent / FOLDER, run.node
        make_folders(self._folder)
        clear_up(self._folder, self._node)  # files of a killed attempt may fill the disk
        if is_url(run.output_file):  # checked first: no input is fetched for an impossible output
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
        """Make an empty folder, locked until the attempt is over."""
        place = self._folder / name / place_of(run.task_id, run.attempt, run.node)
        try:
            self._held.callback(os.close, hold(lock_of(place), _LOCKED_WITHIN))
        except LockHeld:
            raise StorageUnreachable(f"Another process still holds {place}") from None
        remove_folder(place)
        place.mkdir(mode=0o700)
        return place

    def _with_input(self, run: Run, storage: Storage) -> Run:
        place, process = self._place("fetched", run), self._started()
        try:
            process.request(Fetch(url=run.input_file, place=str(place), storage=storage))
            found = self._wait_for_answer(process, run, "fetching", 0.0)
            if not isinstance(found, Fetched):
                raise StorageFailed(f"The input was not fetched: {type(found).__name__}")
        finally:
            process.close()
        return replace(run, input_url=run.input_file, input_file=found.path, input_version=found.version)

    def storing(self, run: Run, part: Path) -> "Storing":
        """Upload the settled output; all its bytes are there when this returns. The upload is a context manager.

        Raises OutputExists, StopAsked and the errors of storage.
        """
        if is_dir(part):
            raise OutputMissing(
                "A folder of files cannot be stored elsewhere",
                remedy="Name a file, such as a .zip, for the output; or a folder of this machine.",
            )
        process = self._started()
        try:
            storage = self._storage
            process.request(
                Store(
                    url=run.output_url,
                    path=str(part),
                    folder=str(self._folder),
                    name=f"{run.task_id}-{run.attempt}",
                    owner=f"{storage.owner}/{run.task_id}",
                    overwrite=run.overwrite,
                )
            )
            ready = self._wait_for_answer(process, run, "storing", 100.0)
            if not isinstance(ready, Ready):
                raise StorageFailed(f"The output was not stored: {type(ready).__name__}")
        except BaseException:
            process.close(_CALL_OFF_WITHIN)
            raise
        return Storing(process)

    def _started(self) -> MoverProcess:
        return MoverProcess(self._storage.mover, self._credentials)

    def _wait_for_answer(self, process: MoverProcess, run: Run, doing: str, progress: float) -> MoverAnswer:
        """Wait for the final answer, and report progress meanwhile."""
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
                if now - self._reported_at >= _REPORT_EVERY:
                    self._reported_at = now
                    words = _progress_text(answer, doing)
                    self._channel.send(AttemptProgressed(run.task_id, run.attempt, progress, words, answer.done))


class Storing:
    """An output whose bytes are uploaded, but not visible yet."""

    def __init__(self, process: MoverProcess) -> None:
        self._process = process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.close(_CALL_OFF_WITHIN)

    def appear(self) -> None:
        """Make it visible. The attempt has its grant, so it is no longer asked whether it must stop."""
        self._process.request(Appear())
        while not (answers := self._process.answers()):
            pass
        for answer in answers:
            if isinstance(answer, Refused):
                raise as_error(answer)
            if not isinstance(answer, Stored):
                raise StorageFailed(f"The output was not stored: {type(answer).__name__}")


def as_error(refused: Refused) -> TasktrailError:
    """The error that stands for a refusal."""
    return _ERRORS[refused.kind](refused.message, remedy=refused.remedy)


def _progress_text(moved: Moved, doing: str) -> str:
    total = f" of {moved.total / 1e6:,.0f}" if moved.total else ""
    return f"{doing}: {moved.done / 1e6:,.0f}{total} MB"
