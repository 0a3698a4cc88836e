"""A worker process: runs one attempt after another. Its keeper starts it with `python -m`.

The handler runs in the main thread, as libraries expect. The process ends by `os._exit`, because some media libraries
hang in the interpreter's orderly end.
"""

import ctypes
import faulthandler
import gc
import os
import resource
import signal
import sys
from typing import NoReturn

from ...events.errors import UnknownType
from ..contract import TaskType
from ..errors import BadAnswer
from ..homes import resolve
from .attempt import ERROR_LIMIT, Ending, failure, perform
from .bounding import bound
from .channel import Channel, ServiceGone
from .context import plain_text
from .frames import AttemptEnded, Retiring, Run, Setup, Unencodable, WorkerReady
from .limits import Limits
from .usage import Leftovers, Meter, cpu_seconds, trim

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
TRIM_ABOVE = 48 * 1024 * 1024
"""Peak bytes after which free memory is given back; small attempts are not slowed down for it."""
FORKED = 70
ORPHANED = 71
"""Exit code of a worker whose keeper or service was gone before it could begin."""


def main() -> NoReturn:
    """Arguments: the keeper's process id; the pipes for jobs, control and reports."""
    keeper, job, control, report = (int(argument) for argument in sys.argv[1:5])
    _guard(keeper)
    for fd in (job, control, report):
        os.set_inheritable(fd, False)
    try:
        channel = Channel(job, control, report)
        setup = channel.start()
        worker = Worker(channel, setup, keeper)
        channel.send(WorkerReady(os.getpid()))
        worker.work()
    except (ServiceGone, BrokenPipeError):
        os._exit(ORPHANED)


def _guard(keeper: int) -> None:
    """Die with the keeper, survive signals that are meant for a handler's tools, leave no core files."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != keeper:
        os._exit(ORPHANED)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # A handler function, not SIG_IGN: that would be inherited by every tool a handler starts.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    faulthandler.enable()


def _point_temp_files_to(folder: str) -> None:
    """Libraries that make temp files by themselves make them where they are swept."""
    os.environ["TMPDIR"] = folder
    if "tempfile" in sys.modules:
        sys.modules["tempfile"].tempdir = None  # type: ignore[attr-defined] # it remembers the folder it found first


class Worker:
    """Takes runs from the channel until it is told to go."""

    def __init__(self, channel: Channel, setup: Setup, keeper: int) -> None:
        self._channel = channel
        self._setup = setup
        self._pid = os.getpid()
        self._types: dict[str, TaskType] = {}
        self._meter = Meter()
        self._limits = Limits(setup.sandbox.memory_limit)
        self._leftovers = Leftovers(keeper)
        gc.freeze()

    def work(self) -> NoReturn:
        """Run attempts until the service is gone."""
        while True:
            run = self._channel.next_run()
            self._meter.start(run.type)
            _point_temp_files_to(run.work_dir)
            ending = self._attempt(run)
            if os.getpid() != self._pid:
                os._exit(FORKED)  # the handler has forked, and this is the copy: it must not speak for the worker
            why = self._leftovers.found()
            cost = self._meter.stop()
            if cost.peak > TRIM_ABOVE:
                trim()
            self._meter.settle()
            limit = self._setup.rss_limit
            if not why and cost.peak > limit and self._meter.resident() > limit:
                why = "its memory had grown"
            ended = AttemptEnded(
                run.task_id,
                run.attempt,
                ending.outcome,
                ending.result,
                ending.message,
                ending.error,
                ending.error_type,
                cost.memory,
                cost.cpu,
                ending.temp_used,
                ending.time_used,
                ending.exit_code,
            )
            try:
                self._channel.send(Retiring(ended, why) if why else ended)
            except Unencodable as error:
                # The handler's answer was looked at before; whatever slipped through must not cost the worker its life.
                ended = _unsayable(ended, error)
                self._channel.send(Retiring(ended, why) if why else ended)

    def _attempt(self, run: Run) -> Ending:
        try:
            task_type = self._types.get(run.type) or self._load(run.type)
        except BaseException as error:  # noqa: BLE001 - importing a handler runs foreign code, like the handler itself
            return failure(error)
        watched = bound(run, task_type, self._setup.sandbox, cpu_before=cpu_seconds(), resident=self._meter.resident())
        if watched is not None:
            self._channel.send(watched)
        if not task_type.limits:
            return perform(run, task_type, self._channel, sandbox=self._setup.sandbox)
        self._limits.set(run, watched)
        try:
            return perform(run, task_type, self._channel, sandbox=self._setup.sandbox, explain=self._limits.explain)
        finally:
            self._limits.lift()

    def _load(self, name: str) -> TaskType:
        home = self._setup.homes.get(name)
        if home is None:
            raise UnknownType(f"This worker knows no task type {name!r}")
        task_type = resolve(home).__tasktrail__
        if not isinstance(task_type, TaskType) or task_type.name != name:
            raise UnknownType(f"{home} is no longer the handler of task type {name!r}")
        self._types[name] = task_type
        # Threads that a library starts when it is imported are not what an attempt left behind.
        self._leftovers.settle()
        return task_type


def _unsayable(ended: AttemptEnded, error: Unencodable) -> AttemptEnded:
    """The failed end of an attempt whose own end cannot be sent."""
    told = BadAnswer(f"What the attempt ended with cannot be recorded: {error}")
    return AttemptEnded(
        ended.task_id, ended.attempt, "failed", error=plain_text(told, ERROR_LIMIT), error_type=type(told).__name__
    )


if __name__ == "__main__":
    main()
