"""A worker process: runs one attempt after another. Its reaper starts it with `python -m`.

The handler runs in the main thread, as libraries expect. The process ends by `os._exit`, because some media libraries
hang in the interpreter's orderly end.
"""

import contextlib
import ctypes
import faulthandler
import gc
import os
import resource
import signal
import sys
from contextlib import ExitStack
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import msgspec

from ...events.errors import UnknownType
from ...events.reports import AttemptEnded, Run
from ..contract import StopAsked, TaskType, declared, missing_packages, resolve
from ..manifests import Signing, sign
from ..urls import is_url
from ..workspace import make_private_folder
from .attempt import failure, finish_exchange, perform
from .channel import AttemptBounded, Begun, Retiring, ServiceGone, Setup, WorkerChannel, WorkerReady, works_on_no_file
from .limits import KernelLimits, bounds_for, may_be_bounded
from .output_pipe import Printing, print_line_by_line, print_trace
from .reaper import PR_SET_PDEATHSIG
from .sandbox import find_modules_unlisted
from .sandboxed import SandboxedAttempts, send_end
from .seccomp import PR_SET_NO_NEW_PRIVS
from .worker_state import (
    Baseline,
    Leftovers,
    UsageMeter,
    cpu_seconds,
    let_forks_die,
    sees_own_namespace,
    signal_tools,
    survive_signals,
    trim,
)

if TYPE_CHECKING:
    from .remote_files import RemoteFiles

TRIM_ABOVE = 48 * 1024 * 1024
"""Peak bytes above which free memory is given back; small attempts are not slowed down for it."""
KILLED_SOONER = 300
"""Added to our `oom_score_adj`, in thousandths: the kernel compares as if we took so much more of all memory."""
FIRST = 1
"""Process id of the reaper's fork that is the first process of a namespace."""
FORKED = 70
ORPHANED = 71
"""Exit code of a worker whose reaper or service was gone before it could begin."""


def main() -> NoReturn:
    """Arguments: the reaper's process id; pipes for jobs, control, reports, direct runs, output; the credentials."""
    reaper, job, control, report, direct, output, credentials = (int(argument) for argument in sys.argv[1:8])
    _guard(reaper)
    for fd in (job, control, report, direct, *([credentials] if credentials >= 0 else [])):
        os.set_inheritable(fd, False)
    try:
        channel = WorkerChannel(job, control, report)
        setup = channel.start()
        _lower_priority(setup)
        _offer_to_be_killed()
        print_line_by_line()
        printing = Printing(output, setup.output_root, setup.max_output)
        if not setup.sandbox.active:
            let_forks_die()
            channel.listen(signal_tools)
            printing.listen()
        worker = Worker(channel, setup, reaper, printing, direct, credentials)
        channel.send(WorkerReady(os.getpid()))
        worker.work()
    except (ServiceGone, BrokenPipeError):
        os._exit(ORPHANED)


def _guard(reaper: int) -> None:
    """Die with the reaper, survive signals that are meant for a handler's programs, leave no core files."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.getppid() != reaper:
        os._exit(ORPHANED)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    survive_signals()
    faulthandler.enable()


def _lower_priority(setup: Setup) -> None:
    """Lower our priority as configured, so that other programs go first; what the worker starts inherits it."""
    os.nice(setup.nice)
    if setup.io != "normal" and sys.platform == "linux":
        import psutil  # noqa: PLC0415 - 15 ms that most workers need not spend

        if setup.io == "idle":
            psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)
        else:
            psutil.Process().ionice(psutil.IOPRIO_CLASS_BE, 7)


def _offer_to_be_killed() -> None:
    """Have the kernel kill us before the service when memory runs out: without the service all attempts end.

    The kernel kills the largest process, which may be the service. What the worker starts inherits this.
    """
    with contextlib.suppress(OSError, ValueError):  # not Linux, or no `/proc` here
        own = Path("/proc/self/oom_score_adj")
        own.write_text(str(min(int(own.read_text()) + KILLED_SOONER, 1000)))


class Worker:
    """Runs the attempts that come through the channel, until the service is gone."""

    def __init__(
        self,
        channel: WorkerChannel,
        setup: Setup,
        reaper: int,
        printing: Printing,
        direct: int = -1,
        credentials: int = -1,
    ) -> None:
        self._channel = channel
        self._credentials = credentials
        self._printing = printing
        self._setup = setup
        self._pid = os.getpid()
        self._types: dict[str, TaskType] = {}
        self._meter = UsageMeter()
        self._limits = KernelLimits(setup.sandbox.memory_limit, setup.room.cores)
        self._leftovers = Leftovers(reaper if reaper != FIRST or sees_own_namespace() else 0)
        self._clean = Baseline()
        self._sandboxed: SandboxedAttempts | None = None
        gc.freeze()
        if setup.sandbox.active:
            self._sandboxed = SandboxedAttempts(
                channel,
                setup.sandbox,
                printing,
                hash_up_to=setup.hash_up_to,
                sign=partial(sign, setup.claims) if setup.claims else None,
                alone=reaper == FIRST,
                work=self._work_sandboxed,
                prepare_next=self._prepare_next,
                direct=direct,
                credentials=credentials,
            )

    def work(self) -> NoReturn:
        """Run attempts until the service is gone."""
        while True:
            run = self._channel.next_run()
            ended = self._to_its_end(run)
            self._printing.end()
            if self._sandboxed is not None:
                self._sandboxed.report_kept()
                if type(ended) is AttemptEnded and (why := self._sandboxed.why_replace()):
                    ended = Retiring(ended, why)
            send_end(self._channel, ended)
            if type(ended) is Retiring:  # the next worker runs those given ahead
                self._channel.await_end()
            if self._sandboxed is not None and type(run) is Begun:
                self._sandboxed.await_next()

    def _to_its_end(self, run: Run | Begun) -> AttemptEnded | Retiring:
        if isinstance(run, Begun):
            assert self._sandboxed is not None  # only it reports a kept process
            result = self._sandboxed.watch(run)
            if isinstance(result, AttemptEnded):
                return result
            run = result
        elif self._sandboxed is not None and (ended := self._sandboxed.perform_in_kept(run)) is not None:
            return ended
        self._meter.start(run.type)
        self._printing.begin(run)
        return self._run(run)

    def _run(self, run: Run) -> AttemptEnded | Retiring:
        try:
            task_type = self._types.get(run.type) or self._load(run.type)
        except BaseException as error:  # noqa: BLE001 - importing a handler runs foreign code, like the handler itself
            print_trace(error)
            return self._measured(failure(run, error))
        ended = finish_exchange(run, task_type, self._channel, self._setup.sandbox)
        if ended is not None:
            return self._measured(ended)
        if not is_url(run.input_file) and not is_url(run.output_file):
            return self._run_here(run, task_type)
        from .remote_files import RemoteFiles  # noqa: PLC0415 - few workers ever need it

        try:
            with RemoteFiles(self._channel, self._setup.sandbox, self._credentials) as remote_files:
                return self._run_here(remote_files.with_local_files(run, task_type), task_type, remote_files)
        except StopAsked:
            return self._measured(AttemptEnded(run.task_id, run.attempt, "stopped", message="stopped on request"))
        except Exception as error:  # noqa: BLE001 - any error makes the attempt fail
            return self._measured(failure(run, error))

    def _run_here(
        self, run: Run, task_type: TaskType, remote_files: "RemoteFiles | None" = None
    ) -> AttemptEnded | Retiring:
        watched = self._bound(run, task_type)
        if watched is not None:
            self._channel.send(watched)
        if self._sandboxed is None:
            return self._attempt(self._channel, run, task_type, watched, remote_files=remote_files)
        keep = watched is None and not task_type.works_on_files and works_on_no_file(run)
        return self._sandboxed.perform(run, task_type, keep=keep, remote_files=remote_files)

    def _work_sandboxed(self, channel: WorkerChannel, run: Run, staged: Path | None) -> AttemptEnded | Retiring:
        """Run the attempt, in a process that was forked from this one."""
        task_type = self._types[run.type]
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._limits.after_fork(limited=task_type.limits)
            self._meter.after_fork()
            self._leftovers = Leftovers(0)
            self._leftovers.settle()
            self._clean.settle()
            self._clean.settle_limits()
        self._meter.begin_anew(run.type)
        return self._attempt(channel, run, task_type, self._bound(run, task_type), staged)

    def _prepare_next(self, run: Run) -> None:
        if self._types[run.type].limits:
            self._limits.set_ahead(run)

    def _bound(self, run: Run, task_type: TaskType) -> AttemptBounded | None:
        if not may_be_bounded(run, task_type, self._setup.sandbox):
            return None
        return bounds_for(
            run,
            task_type,
            self._setup.sandbox,
            cpu_before=cpu_seconds(),
            resident=self._meter.resident(),
            room=self._setup.room,
        )

    def _attempt(
        self,
        channel: WorkerChannel,
        run: Run,
        task_type: TaskType,
        watched: AttemptBounded | None,
        staged: Path | None = None,
        remote_files: "RemoteFiles | None" = None,
    ) -> AttemptEnded | Retiring:
        self._clean.enter(_folder(run), run.traceparent)
        ending = self._perform(channel, run, task_type, watched, staged, remote_files)
        if os.getpid() != self._pid:
            os._exit(FORKED)  # the handler has forked, and this is the copy: it must not speak for the worker
        why = self._leftovers.describe() or self._clean.restore()
        ended = self._measured(ending)
        limit = self._setup.rss_limit
        if not why and ended.memory_used > limit and self._meter.resident() > limit:
            why = "its memory had grown"
        return Retiring(ended, why) if why else ended

    def _perform(
        self,
        channel: WorkerChannel,
        run: Run,
        task_type: TaskType,
        watched: AttemptBounded | None,
        staged: Path | None,
        remote_files: "RemoteFiles | None",
    ) -> AttemptEnded:
        if task_type.limits:
            self._limits.set(run, watched)
        try:
            return perform(
                run,
                task_type,
                channel,
                sandbox=self._setup.sandbox,
                explain=self._limits.explain,
                staged=staged,
                room=self._setup.room,
                # A sandboxed attempt's claims about its input are not trusted.
                hash_up_to=0 if self._sandboxed else self._setup.hash_up_to,
                signing=self._signing(channel),
                remote_files=remote_files,
                home=self._setup.homes[run.type],
            )
        finally:
            self._limits.lift()

    def _signing(self, channel: WorkerChannel) -> Signing | None:
        """The signer for an attempt: a sandboxed one must ask the worker, because it has no key."""
        claims = self._setup.claims
        if claims is None:
            return None
        return Signing(claims, channel.signature if self._sandboxed else partial(sign, claims))

    def _measured(self, ended: AttemptEnded) -> AttemptEnded:
        """The end, with the attempt's cost."""
        cost = self._meter.stop()
        if cost.peak > TRIM_ABOVE:
            trim()
        self._meter.settle()
        return msgspec.structs.replace(ended, memory_used=cost.memory, cpu_used=cost.cpu)

    def _load(self, name: str) -> TaskType:
        home = self._setup.homes.get(name)
        if home is None:
            raise UnknownType(f"This worker knows no task type {name!r}")
        with ExitStack() as context:
            if self._sandboxed is not None:
                context.enter_context(self._sandboxed.loading())
                context.enter_context(self._printing.listening())
            task_type = self._import(name, home)
        self._types[name] = task_type
        # Threads that a library starts on import are not an attempt's leftovers.
        self._leftovers.settle()
        self._clean.settle()
        if self._sandboxed is not None:
            self._meter.settle()  # the libraries; what the attempt itself loads is freed with its process
            gc.freeze()
        return task_type

    def _import(self, name: str, home: str) -> TaskType:
        task_type = declared(resolve(home))
        if task_type is None or task_type.name != name:
            raise UnknownType(f"{home} is no longer the handler of task type {name!r}")
        whole = not missing_packages(task_type)  # if some are missing, the attempt reports it
        for module in task_type.late_modules if self._setup.sandbox.active and whole else ():
            import_module(module)
        return task_type


def _folder(run: Run) -> str:
    """The task's own folder; made already for a task that works on files."""
    if run.input_file or run.output_file:
        make_private_folder(Path(run.work_dir))
    return run.work_dir


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":  # a process that a handler has started by `multiprocessing`, with the method `spawn`
    find_modules_unlisted()
