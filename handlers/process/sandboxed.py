"""Attempts in sandboxed processes: forked from the worker, which has loaded the handler's libraries.

The worker has one thread when it forks, so that no held lock is copied. It runs no handler itself, and opens inputs
only to detect changes. The forked process gives up the rights that the attempt does not need. It talks to the worker as
a worker talks to the service, and the worker passes on valid messages. When the attempt has ended, all that it started
is killed. Only then does the worker publish its output and report its end. So nothing that an attempt does to its
process, and nothing that it leaves behind, affects the next attempt.

A type that works on no files (`needs_folder=False`) has the same rights in every attempt. Its process is kept for the
next one, because a fork costs more than a small attempt.
"""

import contextlib
import ctypes
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from ...events.reports import (
    AttemptBeat,
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProbed,
    AttemptProgressed,
    Run,
    Saved,
    Stop,
)
from ..contract import TaskType
from ..errors import BadAnswer
from ..inputs import Input
from ..manifests import Sign
from ..publish import stage, staged_path
from ..workspace import make_private_folder, remove_entry
from .attempt import deliver, discard_output, failure
from .channel import (
    MAX_REPORT,
    AttemptUsed,
    Begun,
    CoresChanged,
    FrameBuffer,
    GarbageFrame,
    Kept,
    Retiring,
    ServiceGone,
    Signature,
    SignatureWanted,
    Unencodable,
    WorkerChannel,
    attempt_order_decoder,
    attempt_report_decoder,
    encode_frame,
    works_on_no_file,
)
from .context import plain_text
from .output_pipe import Printing
from .reaper import PR_SET_CHILD_SUBREAPER, PR_SET_PDEATHSIG, descendants
from .report_limits import ERROR_LIMIT
from .sandbox import Reach, Sandbox, confine, has_own_shm, recheck_input, recheck_output
from .worker_state import let_forks_die, scheduling_settings, signal_tools

if TYPE_CHECKING:
    from .remote_files import RemoteFiles

_CHUNK = 65536
_PAUSE = 0.001
_SIGNATURES = 2
"""Signatures that one attempt may request."""
_LONGEST_SIGNED = 64 * 1024
"""Bytes: a manifest's claim has a few hundred."""
_PATIENCE = 5.0
"""Seconds within which all that an attempt has started must be gone after the kill."""
_MOMENT = 0.1
"""Seconds by which a directly given run may lag behind `Begun`. After that the run counts as begun."""
_SHM = "/dev/shm"  # noqa: S108 - used only where it is this worker's alone
_PASSED_ON = (AttemptProgressed, AttemptBeat, AttemptCheckpointed, AttemptProbed)

AttemptWork: TypeAlias = Callable[[WorkerChannel, Run, Path | None], AttemptEnded | Retiring]


class _Child:
    """A forked process and our ends of its pipes."""

    def __init__(self, pid: int, job: int, control: int, report: int, kind: str, *, direct: bool = False) -> None:
        self.pid = pid
        self.job = job
        self.control = control
        self.report = report
        self.signatures = 0
        """How many signatures it was given."""
        self.cpu = 0.0
        """CPU seconds of its attempts, except the current one."""
        self.kind = kind
        """The type whose next attempts it can run too; empty for none."""
        self.direct = direct
        """Whether the service can give it those attempts directly."""
        self.buffer = FrameBuffer(attempt_report_decoder, MAX_REPORT)
        os.set_blocking(job, False)
        os.set_blocking(control, False)

    def give(self, run: Run) -> None:
        """Let it begin. This waits until the process has read the whole run; it has nothing else to do."""
        data = encode_frame(run)
        with contextlib.suppress(BrokenPipeError):  # it has died, which its report pipe shows
            with contextlib.suppress(BlockingIOError):
                data = data[os.write(self.job, data) :]
            if data:
                os.set_blocking(self.job, True)
                while data:
                    data = data[os.write(self.job, data) :]
                os.set_blocking(self.job, False)

    def tell(self, order: Any) -> None:
        """Pass on an order. A process that does not read its pipe misses it."""
        data = encode_frame(order)
        pipes = [self.control] if type(order) in (Stop, CoresChanged) else []
        pipes += [self.job] if type(order) is not CoresChanged else []
        for fd in pipes:
            with contextlib.suppress(BlockingIOError, BrokenPipeError):
                os.write(fd, data)

    def close(self) -> None:
        """Close the pipes."""
        for fd in (self.job, self.control, self.report):
            os.close(fd)


class SandboxedAttempts:
    """Runs one attempt after another for a worker.

    Args:
        channel: to the service.
        sandbox: the operator's own bounds.
        printing: takes their output.
        hash_up_to: bytes up to which files are hashed for the record.
        sign: signs the manifests of outputs; None: outputs get none.
        alone: whether the worker has its own PID namespace, so that all other processes in it belong to an attempt.
        work: runs the handler, in the forked process.
        prepare_next: called there after an end, if the process is kept, to prepare for the next attempt.
        direct: the reading one of two sockets by which the service gives runs to the kept process.
        credentials: a descriptor that no attempt may have; -1: there is none.
    """

    def __init__(
        self,
        channel: WorkerChannel,
        sandbox: Sandbox,
        printing: Printing,
        *,
        hash_up_to: int,
        sign: Sign | None,
        alone: bool,
        work: AttemptWork,
        prepare_next: Callable[[Run], None],
        direct: int,
        credentials: int = -1,
    ) -> None:
        self._channel = channel
        self._sandbox = sandbox
        self._printing = printing
        self._hash_up_to = hash_up_to
        self._sign = sign
        self._alone = alone
        self._work = work
        self._prepare_next = prepare_next
        self._direct = socket.socket(fileno=direct) if direct >= 0 else None
        self._credentials = credentials
        self._reach = Reach(sandbox.protected)
        self._kept: _Child | None = None
        self._reported_kept = ""
        self._had = frozenset[str]()
        """Names in `/dev/shm` before the current process."""
        self._scheduling = scheduling_settings()
        self._ends = select.poll()
        """Polls the service, the output, and the current process."""
        self._ends_but_runs = select.poll()
        """The same without the pipe on which the service gives runs."""
        job, control = channel.ends()
        self._ends.register(job, select.POLLIN)
        for fd in (control, *printing.ends):
            self._ends.register(fd, select.POLLIN)
            self._ends_but_runs.register(fd, select.POLLIN)
        if not alone:
            # Orphans then become our children, which distinguishes them from other processes of this user.
            ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def perform_in_kept(self, run: Run) -> AttemptEnded | None:
        """Run it in the process that is kept for its type. Returns its end; None if there is no such process.

        Checks that hold for every attempt of a type were made before the first one, so the next begins at once.
        """
        child = self._kept
        if child is None or child.kind != run.type or not works_on_no_file(run) or self._has_report(child):
            return None
        self._printing.take()  # it belongs to no attempt
        child.give(run)
        self._printing.keep_for(run.task_id, run.attempt)
        return self._to_its_end(child, run)

    def watch(self, begun: Begun) -> AttemptEnded | Run:
        """Wait for the end of an attempt that the kept process begins by itself.

        Returns the run if the process died before it had read it: it must still be performed.
        """
        child = self._kept
        if child is None:  # it had died, or sent an unexpected message, before the run was given
            return self._unread_run(begun, _PATIENCE) or self._end_with_garbage()
        self._printing.keep_for(begun.task_id, begun.attempt)
        end = self._relay(child, begun)
        if end is not None:
            return self._settle(child, end)
        unread = self._unread_run(begun, _MOMENT)
        if unread is None:
            self._die_as_child_did(child, begun)
        self._kept = None
        self._end(child)
        return unread

    def await_next(self) -> None:
        """Sleep on while the kept process begins the next attempt by itself, until there is something to do.

        Orders on the control pipe are left to the next attempt.
        """
        control = self._channel.ends()[1]
        while self._kept is not None and not self._channel.has_run():
            ready = [fd for fd, _ in self._ends_but_runs.poll()]
            printed = self._printing.waiting()
            if control in ready or self._channel.has_run():
                return
            self._printing.take(printed)  # it belongs to no attempt
            if self._kept.report in ready:  # it has died, or sends an unexpected message
                self._end_kept()
                self.report_kept()

    def report_kept(self) -> None:
        """Report which process is kept, if that has changed. Call it before an attempt's end is reported."""
        kept = self._kept.kind if self._kept is not None and self._kept.direct else ""
        if kept != self._reported_kept:
            self._reported_kept = kept
            self._channel.send(Kept(kept))

    def perform(
        self, run: Run, task_type: TaskType, *, keep: bool, remote_files: "RemoteFiles | None" = None
    ) -> AttemptEnded:
        """Run it to its end. If the attempt's process dies, this does not return: the worker dies the same way.

        keep: whether the attempt works on no files, so that its process may run the next one of the type. remote_files:
        stores the output elsewhere.
        """
        source: Input | None = None
        staged: Path | None = None
        try:
            self._reach.see_modules()
            recheck_input(run, self._sandbox)  # this process opens the input and makes folders without a sandbox
            recheck_output(run, self._sandbox)
            if not keep:
                make_private_folder(Path(run.work_dir))
            if run.output_file:
                discard_output(run)
                stage(Path(run.output_file), run.task_id)
                staged = staged_path(Path(run.output_file), run.task_id)
            if run.input_file and task_type.steady_input:
                source = Input(run.input_file, run.input_version)
            child = self._child(run, task_type, staged, keep=keep)
        except Exception as error:  # noqa: BLE001 - any error makes the attempt fail
            ended = failure(run, error)
        else:
            child.give(run)
            ended = self._to_its_end(child, run)
        if run.output_file or source is not None:
            # A thread costs as much as a small attempt, so it is started only if this may take long, or beats are
            # needed.
            with self._channel.listening() if remote_files is not None or run.beat else contextlib.nullcontext():
                ended = deliver(
                    run, task_type, self._channel, self._sandbox, source, ended, self._hash_up_to, remote_files
                )
        if source is not None:
            source.close()
        return ended

    def why_replace(self) -> str:
        """Say what an attempt has changed in the worker itself; empty when nothing."""
        return "it changed how its worker is scheduled" if scheduling_settings() != self._scheduling else ""

    @contextmanager
    def loading(self) -> Iterator[None]:
        """While the context lasts, the worker loads a type, which may change how all its attempts are scheduled.

        No attempt runs meanwhile.
        """
        self._end_kept()
        as_before = not self.why_replace()
        try:
            yield
        finally:
            if as_before:
                self._scheduling = scheduling_settings()

    # --- the process ------------------------------------------------------------------------------------------------

    def _child(self, run: Run, task_type: TaskType, staged: Path | None, *, keep: bool) -> _Child:
        """Fork a new process for this attempt; it replaces the one that is kept."""
        self._end_kept()
        direct = keep and self._can_be_given_directly()
        self._had = _shared_memory()
        kind = run.type if keep else ""
        job_end, job = os.pipe()
        control_end, control = os.pipe()
        report, report_end = os.pipe()
        parent_ends, child_ends = (job, control, report), (job_end, control_end, report_end)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            self._run_child(parent, parent_ends, child_ends, run, task_type, staged, keep=keep, direct=direct)
        for fd in child_ends:
            os.close(fd)
        self._ends.register(report, select.POLLIN)
        self._ends_but_runs.register(report, select.POLLIN)
        return _Child(pid, *parent_ends, kind, direct=direct)

    def _run_child(
        self,
        parent: int,
        parent_ends: tuple[int, ...],
        child_ends: tuple[int, int, int],
        run: Run,
        task_type: TaskType,
        staged: Path | None,
        *,
        keep: bool,
        direct: bool,
    ) -> NoReturn:
        """In the forked process: enter the sandbox and work. No error may reach the worker itself."""
        try:
            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)
            for fd in parent_ends:
                os.close(fd)
            self._channel.close()
            self._printing.close()
            if self._credentials >= 0:
                os.close(self._credentials)
            _reseed_numpy()
            if self._direct is not None and not direct:
                self._direct.close()
            channel = WorkerChannel(*child_ends, self._direct.fileno() if direct and self._direct is not None else -1)
            grants = self._reach.grants(run, task_type, str(staged.parent) if staged else "")
            confine(self._sandbox, grants, network=task_type.network)
            let_forks_die()
            channel.listen()
            while True:
                next_run = channel.next_run()
                assert isinstance(next_run, Run)
                send_end(channel, self._work(channel, next_run, staged))
                if not keep:
                    break
                self._prepare_next(next_run)
        except (ServiceGone, BrokenPipeError):
            pass
        except BaseException as error:  # noqa: BLE001 - see above
            os.write(2, f"the attempt's process could not work: {error!r}\n".encode(errors="replace"))
            os._exit(1)
        os._exit(0)

    def _to_its_end(self, child: _Child, run: Run) -> AttemptEnded:
        end = self._relay(child, run)
        if end is None:
            self._die_as_child_did(child, run)
        return self._settle(child, end)

    def _settle(self, child: _Child, end: AttemptEnded | Retiring) -> AttemptEnded:
        """The attempt's end. Its process is kept for the next one, or ended with all that it has started."""
        if isinstance(end, AttemptEnded) and child.kind:
            child.cpu += end.cpu_used
            self._kept = child
            return end
        self._kept = None
        self._end(child)
        return end.ended if isinstance(end, Retiring) else end

    def _unread_run(self, begun: Begun, seconds: float) -> Run | None:
        """The run, if the dead process has not read it. Waits up to `seconds` for the service to write it."""
        assert self._direct is not None
        self._restore(self._direct)
        if not select.select([self._direct], [], [], seconds)[0]:
            return None
        try:
            frames = FrameBuffer(attempt_order_decoder).feed(self._direct.recv(_CHUNK))
        except GarbageFrame:  # that process had read a part of it
            return None
        key = (begun.task_id, begun.attempt)
        return next((run for run in frames if isinstance(run, Run) and (run.task_id, run.attempt) == key), None)

    def _can_be_given_directly(self) -> bool:
        """Reset the socket for the next process. False if it has been shut for good."""
        if self._direct is None:
            return False
        self._restore(self._direct)
        while select.select([self._direct], [], [], 0)[0]:
            if not self._direct.recv(_CHUNK):
                return False  # the service can no longer write to it, and finds out when it tries
        return True

    @staticmethod
    def _restore(way: socket.socket) -> None:
        """Undo changes that a process may have made to a socket that others use after it."""
        way.settimeout(None)
        way.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)

    def _end_kept(self) -> None:
        if self._kept is not None:
            self._end(self._kept)
            self._kept = None

    def _end(self, child: _Child) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(child.pid, 0)
        self._ends.unregister(child.report)
        self._ends_but_runs.unregister(child.report)
        child.close()
        self._clear()
        self._clear_shared_memory()

    def _clear(self) -> None:
        """Kill all that is left. If that takes too long, the worker ends, and its reaper continues."""
        deadline = time.monotonic() + _PATIENCE
        while self._kill_others():
            if time.monotonic() > deadline:
                os._exit(1)
            time.sleep(_PAUSE)

    def _clear_shared_memory(self) -> None:
        """Remove the attempt's files in this worker's `/dev/shm`, when nothing of the attempt runs any more."""
        for name in _shared_memory() - self._had:
            with contextlib.suppress(OSError):
                remove_entry(Path(_SHM, name))

    def _kill_others(self) -> bool:
        """Kill the other processes. False when there is none."""
        if self._alone:
            try:
                os.kill(-1, signal.SIGKILL)  # all visible processes except this one and the namespace's first
            except ProcessLookupError:
                return False
            return True
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return False
        for pid in descendants(os.getpid()):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        return True

    # --- messages -----------------------------------------------------------------------------------------------------

    def _ready(self, milliseconds: int | None) -> list[int]:
        return [fd for fd, _ in self._ends.poll(milliseconds)]

    def _has_report(self, child: _Child) -> bool:
        """Whether it has died, or sends an unexpected message."""
        return child.report in self._ready(0)

    def _relay(self, child: _Child, run: Run | Begun) -> AttemptEnded | Retiring | None:
        """Pass on orders and reports until the attempt's end, and return that. None if its process has died."""
        service = self._channel
        while True:
            ready = self._ready(0 if service.waiting() else None)
            if self._printing.fd in ready:
                self._printing.take()
            if child.report in ready:
                data = os.read(child.report, _CHUNK)
                if not data:
                    return None
                ended = self._pass_on(child, run, data)
                if ended is not None:
                    return ended
            else:
                for order in service.orders(ready):
                    if type(order) in (Stop, Saved, CoresChanged):
                        child.tell(order)
                    if type(order) is Stop:
                        signal_tools()

    def _pass_on(self, child: _Child, run: Run | Begun, data: bytes) -> AttemptEnded | Retiring | None:
        try:
            frames = child.buffer.feed(data)
        except GarbageFrame:
            self._end_with_garbage()
        for frame in frames:
            if type(frame) is AttemptEnded and frame.task_id == run.task_id and frame.attempt == run.attempt:
                return frame
            about = frame.ended if type(frame) is Retiring else frame
            if (getattr(about, "task_id", 0), getattr(about, "attempt", 0)) != (run.task_id, run.attempt):
                self._end_with_garbage()  # it speaks for another attempt
            if isinstance(frame, Retiring):
                return frame
            if isinstance(frame, SignatureWanted):
                child.signatures += 1
                child.tell(Signature(run.task_id, run.attempt, self._signature(frame.content, child.signatures)))
            elif type(frame) in _PASSED_ON:
                self._channel.send(frame)
            else:
                self._end_with_garbage()  # it speaks for the worker
        return None

    def _end_with_garbage(self) -> NoReturn:
        """Make the service end us, with all that the attempt has started. None of its messages are passed on."""
        self._channel.send_raw(b"\xff" * 8)
        self._channel.await_end()

    def _signature(self, content: bytes, number: int) -> bytes:
        """Sign for the attempt, within the size and number that a manifest needs. It never gets the key."""
        if self._sign is None or number > _SIGNATURES or len(content) > _LONGEST_SIGNED:
            return b""
        try:
            return self._sign(content)
        except (OSError, ValueError):  # the key is gone; the attempt reports the missing manifest
            return b""

    def _die_as_child_did(self, child: _Child, run: Run | Begun) -> NoReturn:
        """Die the same way as the attempt's process, which died without a report, so that the service learns how."""
        _, status, usage = os.wait4(child.pid, 0)
        cpu = max(0.0, usage.ru_utime + usage.ru_stime - child.cpu)
        self._channel.send(AttemptUsed(run.task_id, run.attempt, 1024 * usage.ru_maxrss, cpu))
        self._clear()
        self._printing.end()
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            os._exit(code)
        number = -code
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
        os._exit(1)


def _shared_memory() -> frozenset[str]:
    """Names in this worker's own `/dev/shm`; none if it has no own one."""
    try:
        return frozenset(os.listdir(_SHM)) if has_own_shm() else frozenset()  # noqa: PTH208 - texts
    except OSError:
        return frozenset()


def _reseed_numpy() -> None:
    """Seed numpy anew, or its random numbers would be the same in each process. Python does so itself."""
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed()


def send_end(channel: WorkerChannel, end: AttemptEnded | Retiring) -> None:
    """Report the end. The answer was checked before; an error that slipped through must not cost a process its life."""
    try:
        channel.send(end)
    except Unencodable as error:
        ended = end.ended if isinstance(end, Retiring) else end
        ended = _unencodable_end(ended, error)
        channel.send(Retiring(ended, end.why) if isinstance(end, Retiring) else ended)


def _unencodable_end(ended: AttemptEnded, error: Unencodable) -> AttemptEnded:
    """The failed end of an attempt whose own end cannot be sent."""
    refusal = BadAnswer(f"What the attempt ended with cannot be recorded: {error}")
    return AttemptEnded(
        ended.task_id,
        ended.attempt,
        "failed",
        error=plain_text(refusal, ERROR_LIMIT),
        error_type=type(refusal).__name__,
    )
