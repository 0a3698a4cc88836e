"""A slot: one place for attempts, with a worker, and with a new worker after the end of each.

A worker that runs a short attempt gets others in advance, which it runs one after another: while the service records
the end of one, the worker already runs the next. Attempts that it has not begun are taken back if the one that it runs
takes long, or if one of them is to stop. It reports each end before it begins the next attempt. So if it dies, only the
first attempt that has not ended can have begun. The others go to another worker, and nothing of that is recorded.
"""

import signal
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import RLock
from typing import Any, NamedTuple, Protocol

import msgspec

from ...events.errors import InvalidValue, TasktrailError
from ...events.reports import (
    AttemptBeat,
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProbed,
    AttemptProgressed,
    Grant,
    PublishWanted,
    Report,
    Run,
    Saved,
    Stop,
    WorkerGone,
)
from ...events.values import check_plain
from ...handlers.attempt_output import PrintedWriter, last_part
from ...handlers.errors import CpuLimitReached, InputChanged, MemoryLimitReached
from ...handlers.process.channel import (
    DIRECTLY,
    AttemptBounded,
    AttemptUsed,
    Begun,
    CoresChanged,
    GarbageFrame,
    Kept,
    Look,
    Retiring,
    Setup,
    Withdraw,
    Withdrawn,
    WorkerReady,
    encode_frame,
    works_on_no_file,
)
from ...handlers.process.limits import cpu_allowance, speaks_of_memory
from ...handlers.process.report_limits import refuse_too_long
from ...handlers.urls import is_url
from ..core.routing import SHORT_AT_ONCE
from ..executor import stopped_instead, unbegun
from ..logger import get_logger
from ..machine import find_groups
from . import usage
from .reactor import Reactor
from .usage import UsageWatch
from .worker_process import Exit, Launched, WorkerProcess

_GIVES_UP = frozenset({signal.SIGABRT, signal.SIGTRAP, signal.SIGILL, signal.SIGSEGV, signal.SIGBUS})
"""The signals by which libraries end a process that was refused memory."""
_WITHOUT_A_WORD = frozenset({signal.SIGABRT, signal.SIGTRAP})
"""The signals by which libraries such as PDFium do so silently. For other faults (an assertion, a bad heap) they print
a reason."""
_SHOWN = 2048
"""Characters kept of the last output of a worker that died without an attempt."""
_LINE = 300
"""Characters of an attempt's last line."""
_DUMP = "Fatal Python error"
"""The beginning of what the worker itself prints after any such signal."""
_SHORT = 0.1
"""Seconds that a short attempt may take before the attempts after it are given to other workers."""
_UNSAVED_AT_STOP = 3
"""Checkpoints that may wait for `Saved` once the attempt is to stop: it waits for each for half of its grace."""
_CLOCK_STEP = 0.02
"""Seconds by which the clock that stamps files may lag."""

logger = get_logger(__name__)


class SlotRules(msgspec.Struct, frozen=True, kw_only=True):
    """When a worker is replaced, and how soon."""

    recycle_after: int = 1000
    """A worker is replaced after this number of attempts, but not before `recycle_age`."""
    recycle_age: float = 60.0
    """Seconds that a worker lives at least before it is recycled. Replacing one costs a tenth of a second of CPU; for a
    worker that runs thousands of tiny attempts a second that would be most of its time."""
    rss_limit: int = 1024 * 1024 * 1024
    """Resident bytes of a worker after an attempt above which it is replaced."""
    start_timeout: float = 60.0
    """Seconds within which a new worker must report that it is ready."""
    backoff: float = 0.1
    """Seconds before a dead worker is replaced, from the second death in a row on; they double with each death."""
    backoff_max: float = 5.0


class Given(NamedTuple):
    """A run that the worker has, with its encoded frame."""

    number: int
    """Its number, counted from the worker's first run."""
    run: Run
    frame: bytes
    at: float
    """When it was given, by the wall clock."""
    since: float
    """The same by the monotonic clock."""

    @property
    def key(self) -> tuple[int, int]:
        """Task and attempt."""
        return self.run.task_id, self.run.attempt


class SlotHost(Protocol):
    """The interface that a slot needs from its executor. Called with the lock held."""

    @property
    def lock(self) -> RLock:
        """Guards all state of executor and slots."""

    @property
    def reactor(self) -> Reactor:
        """The executor's thread."""

    def tell(self, report: Report) -> None:
        """Pass a report on at the end of this turn."""

    def ready(self, slot: "Slot") -> None:
        """The slot has a new worker."""

    def idle(self, slot: "Slot") -> None:
        """The slot's worker has nothing to do."""

    def returned(self, runs: list[Given]) -> None:
        """These were given to the slot and have not begun: they go to another free worker."""

    def empty(self, slot: "Slot", delay: float) -> None:
        """The slot has no worker. One should be started after `delay` seconds."""


class Slot:
    """Starts a worker, gives it runs, kills it, and reports how its attempts end.

    `state` is one of: empty, starting, idle, busy, dying (the reaper is killing the tree). All methods are called with
    the hub's lock held.
    """

    def __init__(self, hub: SlotHost, launch: Callable[[], Launched], setup: Setup, rules: SlotRules) -> None:
        self._hub = hub
        self._launch = launch
        self._setup = encode_frame(setup)
        self._trusts_worker = setup.sandbox.active
        """Whether no handler can speak for the worker, which ends if it gets what it cannot understand."""
        self._output_root = Path(setup.output_root) if setup.output_root else None
        self._max_output = setup.max_output
        self._rules = rules
        self._groups = find_groups()
        self.state = "empty"
        self.usable = False
        self._process: WorkerProcess | None = None
        self._current: Given | None = None
        """The run that the worker is at."""
        self._ahead: deque[Given] = deque()
        """The runs after that."""
        self._to_stop: set[tuple[int, int]] = set()
        """Keys of the runs in `_ahead` that are not to begin."""
        self._cores = 0
        self._unsaved = 0
        """How many of the attempt's checkpoints are not answered."""
        self._probed = False
        """Whether the attempt's input was probed, by now or in an earlier attempt."""
        self._deaths = 0
        self._looking = False
        self._timing = False
        self._forget_worker()

    def _forget_worker(self) -> None:
        self._pid = 0
        self._why = ""
        self._garbage = ""
        self._faulty = False
        self._silent = False
        self._killed_for: Given | None = None
        """The run that the worker was at when it was killed."""
        self._stop_wanted = False
        self._held: AttemptEnded | None = None
        self._used: AttemptUsed | None = None
        self._watch: UsageWatch | None = None
        self._reached: TasktrailError | None = None
        self._attempts = 0
        self._kept = ""
        """The type for whose next attempt the worker keeps a process waiting."""
        self._sleeps = False
        """Whether the worker has to be woken for a run, because the last one was given directly."""
        self._sent = 0
        """Runs given to this worker."""
        self._withdrawing = 0
        """The number up to which runs were asked back; 0 if no answer is awaited."""
        self._begun_at = 0.0
        self._cpu_known = 0.0
        self._killed_before: int | None = None
        """Processes that the kernel had killed for lack of memory when the attempt began."""
        self._born = time.monotonic()

    # --- what the executor wants -----------------------------------------------------------------------------------

    def start(self) -> None:
        """Start a worker. Called in the reactor's thread."""
        self._forget_worker()
        self.state = "starting"
        try:
            process = WorkerProcess(
                self._launch(),
                self._hub.reactor,
                self._hub.lock,
                on_frame=self._on_frame,
                on_garbage=self._on_garbage,
                on_exit=self._on_exit,
            )
        except Exception as error:  # noqa: BLE001 - after any error the slot tries again, with growing pauses
            logger.warning("worker_not_started", error=str(error), kind=type(error).__name__)
            self._on_exit(Exit(code=127, tail=str(error)))
            return
        self._process = process
        process.send(self._setup)
        self._hub.reactor.at(self._rules.start_timeout, lambda: self._check_started(process))

    @property
    def running(self) -> Run | None:
        """The run that the worker is at and that has not ended."""
        return None if self._current is None else self._current.run

    def held(self) -> Iterator[Run]:
        """All runs that the worker has."""
        if self._current is not None:
            yield self._current.run
        yield from (given.run for given in self._ahead)

    @property
    def above_attempt(self) -> int | None:
        """The process below which the current attempt runs: with a sandbox the worker, otherwise the reaper."""
        if self._process is None or self._current is None:
            return None
        return self._pid if self._trusts_worker else self._process.reaper

    @property
    def is_shared(self) -> bool:
        """Whether it runs a short attempt."""
        return self._current is not None and self._current.run.shared_workers > 0

    @property
    def room_ahead(self) -> int:
        """How many more short runs the busy worker may get."""
        if self.state != "busy" or not self.is_shared:
            return 0
        if self._stop_wanted or self._withdrawing or self._must_recycle() or self._is_slow():
            return 0
        return SHORT_AT_ONCE - 1 - len(self._ahead)

    def give(self, run: Run, frame: bytes) -> bool:
        """Let the worker run it, after the runs that it has. False if it turns out to be dead: the run has not begun.

        `frame` is the encoded run.
        """
        if self._process is None or not self._send(self._process, run, frame):
            self.state = "dying" if self._process is not None else self.state
            return False
        self._sent += 1
        given = Given(self._sent, run, frame, time.time(), time.monotonic())
        if self._current is None:
            self.state = "busy"
            self._set_current(given)
        else:
            self._ahead.append(given)
            self._watch_first_attempt()
        return True

    def _send(self, process: WorkerProcess, run: Run, frame: bytes) -> bool:
        if self._current is None and run.type == self._kept and len(frame) <= DIRECTLY and works_on_no_file(run):
            self._sleeps = True
            if process.send_directly(frame, encode_frame(Begun(run.task_id, run.attempt))):
                return True
            process.kill()  # unless it has died, an attempt has closed the pipe through which this one was given
            return False
        sent = process.send(frame)
        if self._sleeps:
            self._sleeps = False
            process.tell(encode_frame(Look()))
        return sent

    def _set_current(self, given: Given) -> None:
        """Note that the worker is at this run now."""
        self._current = given
        self._cores = given.run.cores
        self._begun_at = time.monotonic()
        self._killed_before = self._groups.killed()
        self._unsaved = 0
        self._probed = given.run.probed
        self._stop_wanted = False
        if given.key in self._to_stop:
            self._to_stop.discard(given.key)
            self.stop(given.key)

    def stop(self, key: tuple[int, int]) -> None:
        """Ask the attempt to end, and kill it when its grace is over. An attempt that has not begun will not begin."""
        at = self._current
        if at is None or self._process is None:
            return
        if key != at.key:
            self._keep_from_beginning(key)
        elif not self._stop_wanted:
            self._stop_wanted = True
            if self.state == "busy":
                self._process.ask_to_end(encode_frame(Stop(*key)))
                self._hub.reactor.at(at.run.grace, lambda: self._overdue(at))

    def _keep_from_beginning(self, key: tuple[int, int]) -> None:
        given = next((given for given in self._ahead if given.key == key), None)
        if given is not None and key not in self._to_stop:
            self._to_stop.add(key)
            self._withdraw()
            self._hub.reactor.at(given.run.grace, lambda: self._unanswered(given))

    def _withdraw(self) -> None:
        """Ask back the runs that have not begun. Nothing more is given until the answer is there."""
        if self._ahead and not self._withdrawing and self._process is not None:
            self._withdrawing = self._sent
            self._process.tell(encode_frame(Withdraw(self._sent)))

    def _on_withdrawn(self, answer: Withdrawn) -> None:
        if answer.runs != self._withdrawing:
            return  # the answer to an earlier question, whose runs have all ended
        self._withdrawing = 0
        back = [given for given in self._ahead if answer.begun < given.number]
        for given in back:
            self._ahead.remove(given)
        if self._current is not None and answer.begun < self._current.number:
            back.insert(0, self._current)
            self._keep_stop()
            self._current = None
        self._give_back(back)
        if self._current is None and self.state == "busy":
            self._become_idle()

    def _keep_stop(self) -> None:
        """Keep the order to stop of a run that the worker seemed to be at but has not begun."""
        if self._current is not None and self._stop_wanted:
            self._to_stop.add(self._current.key)

    def _give_back(self, runs: list[Given]) -> None:
        """Give back runs that have not begun; end those that were to stop."""
        stopped = [given for given in runs if given.key in self._to_stop]
        for given in stopped:
            self._to_stop.discard(given.key)
            self._hub.tell(unbegun(given.run))
        if len(stopped) < len(runs):
            self._hub.returned([given for given in runs if given not in stopped])

    def _watch_first_attempt(self) -> None:
        """Check at intervals whether others wait for an attempt that is not short."""
        if not self._timing:
            self._timing = True
            self._hub.reactor.at(_SHORT, self._check_first_attempt)

    def _check_first_attempt(self) -> None:
        with self._hub.lock:
            self._timing = False
            if self._ahead:
                if self._is_slow():
                    self._withdraw()
                self._watch_first_attempt()

    def _is_slow(self) -> bool:
        return time.monotonic() - self._begun_at > _SHORT

    def _must_recycle(self) -> bool:
        rules = self._rules
        return self._attempts >= rules.recycle_after and time.monotonic() - self._born >= rules.recycle_age

    def share(self, cores: int) -> None:
        """Tell the attempt how many CPUs it may keep busy, if that has changed."""
        if self.state == "busy" and self._process and self._current is not None and cores != self._cores:
            self._cores = cores
            self._process.tell(encode_frame(CoresChanged(*self._current.key, cores)))

    def answer(self, order: Grant | Saved) -> None:
        """Pass on what the attempt waits for. The worker ignores a grant after a stop."""
        if self.state == "busy" and self._process:
            self._process.send(encode_frame(order))
            if type(order) is Saved:
                self._unsaved = 0

    def kill(self, why: str) -> None:
        """Have the whole tree killed. The first reason counts."""
        if self._process is not None:
            if self.state != "dying":
                self._killed_for = self._current
            self.state = "dying"
            self._why = self._why or why
            self._process.kill()

    def kill_reaper(self) -> None:
        """Kill the reaper itself, as the last resort."""
        if self._process is not None:
            self._process.kill_reaper()

    def _overdue(self, given: Given) -> None:
        with self._hub.lock:
            if self._current is given:
                self.kill("stopped: its grace was over")

    def _unanswered(self, given: Given) -> None:
        with self._hub.lock:
            if given in self._ahead:
                self._silent = True
                self.kill("it did not say which attempts it has begun")

    def _note_use(self, frame: AttemptBounded | AttemptUsed) -> None:
        if isinstance(frame, AttemptUsed):
            self._used = frame
        else:
            self._bind(frame)

    def _bind(self, bounded: AttemptBounded) -> None:
        """Watch what the attempt uses. One timer serves all attempts, however short they are."""
        assert self._process is not None
        self._watch = UsageWatch(self._process.reaper, bounded)
        if not self._looking:
            self._looking = True
            self._hub.reactor.at(usage.INTERVAL, self._look)

    def _look(self) -> None:
        """Check the use of the current attempt. In the reactor's thread; the lock is free while `/proc` is read."""
        with self._hub.lock:
            looking_at = self._watch if self.state == "busy" and self._held is None else None
            self._looking = looking_at is not None
        if looking_at is None:
            return
        reached = looking_at.reached()
        with self._hub.lock:
            if reached is not None and self._watch is looking_at and self.state == "busy" and self._held is None:
                self._reached = reached
                self.kill(f"a limit was reached: {type(reached).__name__}")
        self._hub.reactor.at(usage.INTERVAL, self._look)

    def _check_started(self, process: WorkerProcess) -> None:
        with self._hub.lock:
            if self._process is process and self.state == "starting":
                self._faulty = True
                self.kill("it was not ready in time")

    # --- what the worker says --------------------------------------------------------------------------------------

    def _on_frame(self, frame: Any) -> None:
        if self._held is not None:
            return  # the attempt has reported its end; anything that a stray thread adds is ignored
        if type(frame) is WorkerReady and not self._pid:
            assert self._process is not None
            self._on_ready(usage.outer_pid(self._process.reaper, frame.pid))
            return
        if type(frame) is Withdrawn:
            self._on_withdrawn(frame)
            return
        if type(frame) is Kept and self._trusts_worker:
            self._kept = frame.type
            return
        ended = frame.ended if type(frame) is Retiring else frame
        if (
            type(frame) in (WorkerReady, Kept)
            or self._current is None
            or (ended.task_id, ended.attempt) != self._current.key
        ):
            raise GarbageFrame(f"{type(frame).__name__} about an attempt it was not given")
        _refuse_unkeepable(frame)
        refuse_too_long(frame)
        match frame:
            case AttemptEnded(outcome="interrupted") | Retiring(ended=AttemptEnded(outcome="interrupted")):
                raise GarbageFrame("only a service that was gone interrupts an attempt")  # it costs no attempt
            case AttemptEnded():
                self._on_ended(usage.believable(frame, time.monotonic() - self._current.since))
            case AttemptBounded() | AttemptUsed():
                self._note_use(frame)
            case AttemptProbed():
                self._take_probe(frame)
            case AttemptCheckpointed():
                self._await_saved()
                self._hub.tell(frame)
            case AttemptProgressed() | AttemptBeat() | PublishWanted():
                self._hub.tell(frame)
            case Retiring():
                self._held = usage.believable(ended, time.monotonic() - self._current.since)
                self.kill(f"replaced: {frame.why}")

    def _take_probe(self, frame: AttemptProbed) -> None:
        """Take an estimate, but only once: it lifts the bound on CPU time, and a hijacked handler may send another."""
        if self._probed:
            raise GarbageFrame("an estimate although no look into the input was due")
        self._probed = True
        if self._watch is not None:
            self._watch.expect(frame.estimate.seconds)
        self._hub.tell(frame)

    def _await_saved(self) -> None:
        """Count a checkpoint. They stay in the log, so an attempt that waits for no answers could fill the disk."""
        self._unsaved += 1
        if self._unsaved > (_UNSAVED_AT_STOP if self._stop_wanted else 1):
            raise GarbageFrame("a checkpoint before the last one was saved")

    def _on_garbage(self, error: str) -> None:
        self._garbage = error
        self._faulty = True
        self.kill(f"it sent garbage: {error}")

    def _on_exit(self, ending: Exit) -> None:
        self._process = None
        # What an attempt has printed belongs to its task: the record of the worker's end is never erased or forgotten.
        printed = ending.tail.strip()[-_SHOWN:] if self.state == "starting" else ""
        self.state = "empty"
        died = self._faulty or not self._why
        why = self._why or ("its reaper was killed" if ending.reaper_killed else "it died")
        self._hub.tell(WorkerGone(self._pid, ending.code, f"{why}: {printed}" if died and printed else why))
        ending = self._with_output(ending)
        left, self._ahead = list(self._ahead), deque()
        if self._current is not None:
            if self._is_innocent(self._current):
                left.insert(0, self._current)
                self._keep_stop()
                self._current = None
            else:
                self._tell_end(self._held or self._end_of(self._current, ending))
        if self._garbage and not self._trusts_worker:  # it was not listened to any more, and may have begun these
            for given in left:
                self._hub.tell(self._end_of(given, ending))
        else:
            self._give_back(left)
        self._deaths = self._deaths + 1 if died else self._deaths
        delay = self._delay() if died else 0.0
        self.usable = self.usable and not delay
        self._hub.empty(self, delay)

    def _is_innocent(self, given: Given) -> bool:
        """Whether the worker was killed for an earlier attempt, and had only just come to this one."""
        killed = bool(self._why) and not self._garbage and self._held is None
        return killed and given is not self._killed_for and not given.run.output_file

    def _with_output(self, ending: Exit) -> Exit:
        """The worker's end with the last part of the attempt's output.

        Output that the worker had not read any more is kept with the rest.
        """
        if self._current is None or self._output_root is None:
            return ending
        place = (self._output_root, *self._current.key)
        writer = PrintedWriter(*place, self._max_output, fresh=False)
        writer.write(ending.tail.encode(errors="replace"))
        writer.close()
        return msgspec.structs.replace(ending, tail=last_part(*place))

    def _on_ready(self, pid: int) -> None:
        self._pid = pid
        if self.state == "starting":
            self.state = "idle"
            self.usable = True
            self._hub.ready(self)
            self._hub.idle(self)

    def _on_ended(self, ended: AttemptEnded) -> None:
        self._attempts += 1
        self._deaths = 0
        self._cpu_known += ended.cpu_used
        self._tell_end(ended)
        if self._ahead:
            self._set_current(self._ahead.popleft())
        elif self.state == "busy":
            self._become_idle()

    def _become_idle(self) -> None:
        self.state = "idle"
        if self._must_recycle():
            self.kill("recycled")
        else:
            self._hub.idle(self)

    def _tell_end(self, ended: AttemptEnded) -> None:
        if self._stop_wanted:  # its tools were sent SIGTERM, or all of it was killed
            ended = stopped_instead(ended)
        if ended.exit_code == -signal.SIGKILL:
            ended = msgspec.structs.replace(ended, memory_ran_out=self._memory_ran_out())
        self._current = None
        self._held = None
        self._watch = None
        self._hub.tell(ended)

    def _end_of(self, given: Given, ending: Exit) -> AttemptEnded:
        """The end of an attempt that could not report it itself."""
        run = given.run
        seen = self._watch.used if self._watch is not None else usage.Usage()
        if self._garbage:
            outcome, error, kind = "lost", f"PROTOCOL: the worker sent garbage ({self._garbage}).", "ProtocolError"
        elif fault := self._reached or (None if self._why else self._fault_that_killed(given, ending)):
            outcome, error, kind = "failed", str(fault), type(fault).__name__
        elif self._silent and not self._stop_wanted:
            outcome, error, kind = "lost", f"PROTOCOL: the worker was killed ({self._why}).", "ProtocolError"
        elif self._why and given is not self._killed_for:
            outcome, error, kind = "lost", f"The worker was killed for another attempt ({self._why}).", "WorkerLost"
        elif self._why:
            outcome, error, kind = "stopped", f"The worker was killed ({self._why}).", ""
        else:
            outcome, error, kind = "lost", self._cause_of_death(ending), "WorkerLost"
        ended = AttemptEnded(
            run.task_id,
            run.attempt,
            outcome,  # type: ignore[arg-type] # a literal each time
            error=error,
            error_type=kind,
            memory_used=max(self._used.memory if self._used else ending.peak, seen.resident),
            cpu_used=max(self._used.cpu if self._used else ending.cpu - self._cpu_known, seen.cpu, 0.0),
            exit_code=None if self._why else ending.code,
        )
        return usage.believable(ended, time.monotonic() - given.since)

    def _fault_that_killed(self, given: Given, ending: Exit) -> TasktrailError | None:
        """The error that names why the worker died, if that was its input or a limit."""
        return _input_cut(given.run, ending, given.at) or self._limit_that_killed(given.run, ending)

    def _limit_that_killed(self, run: Run, ending: Exit) -> TasktrailError | None:
        """The limit that the worker died of, if any. The attempt has failed, and a retry would end the same way."""
        if ending.code == -signal.SIGXCPU:
            allowed = self._watch.cpu if self._watch is not None else cpu_allowance(run.estimate.seconds)
            return CpuLimitReached(f"The attempt used more than {allowed:,.0f} s of CPU time")
        output = ending.tail.partition(_DUMP)[0].strip()
        near = self._watch is not None and self._watch.near_memory(ending.peak)
        silent = self._watch is not None and not output and -ending.code in _WITHOUT_A_WORD
        if -ending.code in _GIVES_UP and (speaks_of_memory(output) or near or silent):
            return MemoryLimitReached("A library of the handler was refused memory and gave up")
        return None

    def _cause_of_death(self, ending: Exit) -> str:
        if ending.reaper_killed:
            return "The worker's reaper was killed."
        if ending.code < 0:
            number = -ending.code
            name = signal.Signals(number).name if number in set(signal.Signals) else "unknown"
            out_of_memory = number == signal.SIGKILL and self._memory_ran_out()
            why = ", because memory had run out" if out_of_memory else ""
            cause = f"The worker was killed by signal {number} ({name}){why}."
        else:
            cause = f"The worker ended with exit code {ending.code}."
        line = _last_line(ending.tail)
        return f"{cause} Its last output: {line}" if line else cause

    def _memory_ran_out(self) -> bool | None:
        """See `AttemptEnded.memory_ran_out`."""
        before, now = self._killed_before, self._groups.killed()
        return None if before is None or now is None else now > before

    def _delay(self) -> float:
        if self._deaths <= 1:
            return 0.0
        return float(min(self._rules.backoff_max, self._rules.backoff * 2.0 ** min(self._deaths - 2, 30)))


def _input_cut(run: Run, ending: Exit, since: float) -> InputChanged | None:
    """The error, if the worker died because its input was truncated: access to a mapped part that is gone kills it."""
    if ending.code != -signal.SIGBUS or not run.input_file or is_url(run.input_file):
        return None
    try:
        changed = Path(run.input_file).stat().st_ctime > since - _CLOCK_STEP
    except OSError:
        changed = True
    return InputChanged(f"{run.input_file} was cut while it was read") if changed else None


def _refuse_unkeepable(frame: Any) -> None:
    """Raise GarbageFrame for values that cannot be recorded or read back: NaN, unsigned numbers, bytes."""
    try:
        check_plain(frame, type(frame).__name__)
    except InvalidValue as error:
        raise GarbageFrame(error.message) from error


def _last_line(tail: str) -> str:
    """The line that says most about the end: the last line of output, or the first that Python prints of a crash."""
    own, dump, account = tail.partition(_DUMP)
    lines = [line.strip() for line in own.splitlines() if line.strip()]
    return (lines[-1] if lines else f"{dump}{account}".partition("\n")[0])[:_LINE]
