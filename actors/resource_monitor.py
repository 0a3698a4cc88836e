"""The ResourceMonitor: samples the machine periodically and reports the free resources to the Scheduler."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pykka

from .actor import Actor
from .core.messages import Sampled
from .machine import Machine


class SampleNow(msgspec.Struct, frozen=True):
    """Asks for a sample now. The beat sends it, and so may others who cannot wait for the beat."""


SAMPLE_NOW = SampleNow()


class ResourceMonitor(Actor):
    """Samples once a period, and less often while nothing runs. It uses the monotonic clock: a wall clock may be set.

    Args:
        machine: takes the samples.
        report: gets each sample; called in this actor's thread.
        is_busy: whether anything happens that has to be watched closely.
        period: seconds between samples while something runs.
        idle_period: seconds between samples otherwise.
        temp_used: measures the temp space of the tasks that run; None if it cannot.
        memory_used: measures the memory of the attempts that run; None if it cannot.
    """

    def __init__(
        self,
        *,
        machine: Machine,
        report: Callable[[Sampled], None],
        is_busy: Callable[[], bool],
        period: float = 1.0,
        idle_period: float = 5.0,
        temp_used: Callable[[], dict[int, int] | None] = lambda: None,
        memory_used: Callable[[], dict[tuple[int, int], int] | None] = lambda: None,
    ) -> None:
        super().__init__()
        self._machine = machine
        self._report = report
        self._is_busy = is_busy
        self._period = period
        self._idle_period = idle_period
        self._temp_used = temp_used
        self._memory_used = memory_used
        self._seen_running = False
        """Whether attempts ran at the last sample: they may record nothing, and others wait for what they free."""
        self._is_due = False
        """Whether a sample that the beat asked for has not begun."""
        self._closed = threading.Event()
        self._beat = threading.Thread(target=self._keep_beat, name="resource-beat", daemon=True)

    def on_start(self) -> None:
        """Sample at once, then by the beat."""
        self.actor_ref.tell(SAMPLE_NOW)
        self._beat.start()

    def on_stop(self) -> None:
        """End the beat."""
        self._closed.set()
        self._beat.join(timeout=5)

    def receive(self, message: Any) -> None:
        """Sample and report."""
        self._is_due = False
        if isinstance(message, SampleNow):
            temp, memory = self._temp_used(), self._memory_used()  # before the sample, which shows at least as much
            self._seen_running = bool(temp or memory)
            self._report(Sampled(self._machine.sample(), temp, memory, self._machine.nodes()))

    def _keep_beat(self) -> None:
        while not self._closed.wait(self.pause()):
            if self._is_due:  # a slow disk: one sample takes longer than a period
                continue
            self._is_due = True
            with contextlib.suppress(pykka.ActorDeadError):  # stopped just before the beat sent its message
                self.actor_ref.tell(SAMPLE_NOW)

    def pause(self) -> float:
        """Seconds until the next sample."""
        return self._period if self._is_busy() or self._seen_running else self._idle_period
