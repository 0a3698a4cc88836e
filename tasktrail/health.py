"""What is out of order in a running service: why commands are refused, and what else does not work."""

import threading
from collections.abc import Callable, Mapping
from copy import copy

from .actors.core.load import Load
from .actors.notifier import NoticesHealth
from .actors.projector import ViewsHealth
from .events import TasktrailError
from .events.errors import LogGone, NotReady

LOOK_WITHIN = 2.0
"""Seconds that the Scheduler has to say what waits and runs."""
_NEEDED = {
    "scheduler": "no command is decided, and nothing starts",
    "projector": "questions are not answered",
    "worker_pool": "nothing starts, and nothing that runs is heard",
}
"""Actors without which there is no service → the effect while one hangs."""
_HELPS = {
    "notifier": "no notices are sent",
    "janitor": "old temp files stay",
    "resource_monitor": "memory, CPU and temp space are not looked at",
    "snapshotter": "no snapshots are taken",
    "eraser": "what was erased is still in the views",
    "inspector": "the log is not checked",
    "sealer": "the log is not sealed",
    "retention": "nothing is forgotten or archived by the configured rules",
}
"""The other actors → the effect while one hangs."""
_BY_ITSELF = "Look at the service's log; it goes on by itself."


class Health:
    """Faults of a running service, as its actors report them. Any thread may report and ask.

    Args:
        unwell: returns the actors that do not work, by name, and why.
    """

    def __init__(self, unwell: Callable[[], Mapping[str, str]]) -> None:
        self._unwell = unwell
        self.views = ViewsHealth()
        self.notices = NoticesHealth()
        self.fatal: BaseException | None = None
        """Why the service cannot go on."""
        self._seen_gone: LogGone | None = None
        self.failed = threading.Event()
        """Set when the service cannot go on."""
        self.end_callbacks: list[Callable[[], None]] = []
        """Called when the service cannot go on, in any thread."""
        self.log_trouble: TasktrailError | None = None
        """Why the log cannot be written at the moment; commands are refused meanwhile."""
        self.views_trouble: Exception | None = None
        """Why the views cannot be written at the moment."""
        self._seals_trouble = ""
        """Why the log cannot be sealed, or which witness contradicts it; empty if all is well."""

    def end(self, error: BaseException) -> None:
        """Note why the service cannot go on. The first error counts."""
        if self.fatal is None or (isinstance(error, LogGone) and self.fatal is self._seen_gone):
            self.fatal = error
        self.failed.set()
        for callback in self.end_callbacks:
            callback()

    def end_as_gone(self, error: LogGone) -> None:
        """Note that the log's file was found gone. The Scheduler notices later; its error says what could be saved."""
        self._seen_gone = error
        self.end(error)

    def set_log_trouble(self, error: TasktrailError | None) -> None:
        """Note why the log cannot be written; None when it can again."""
        self.log_trouble = error

    def set_views_trouble(self, error: Exception | None) -> None:
        """Note why the views cannot be written; None when they can again."""
        self.views_trouble = error

    def set_seals_trouble(self, trouble: str) -> None:
        """Note what is wrong with the seals; empty when nothing is."""
        self._seals_trouble = trouble

    def obstacles(self) -> list[TasktrailError]:
        """Return the reasons why commands are refused now, the gravest first, as copies that the caller may raise."""
        found: list[TasktrailError] = []
        if self.fatal is not None and not isinstance(self.fatal, TasktrailError):
            found.append(
                NotReady(f"The service cannot go on: {self.fatal}", remedy="Look at its log and start it again.")
            )
        found += [copy(one) for one in (self.fatal, self.log_trouble) if isinstance(one, TasktrailError)]
        for name, unwell in self._unwell().items():
            if name in _NEEDED:
                found.append(NotReady(f"{unwell}: {_NEEDED[name]}", remedy=_BY_ITSELF))
        return found

    def degraded(self, load: Load | None, *, executor: str, manifests: str) -> list[str]:
        """Describe what is out of order although commands are accepted.

        Args:
            load: the present load; None if the Scheduler has not told it in time.
            executor: why fewer attempts can run than configured; empty if there is no reason.
            manifests: why no manifests can be signed; empty if they can, or are not wanted.
        """
        found = [f"{unwell}: {_HELPS[name]}" for name, unwell in self._unwell().items() if name in _HELPS]
        if self.views_trouble is not None:
            found.append(f"the views lag behind: {self.views_trouble}")
        elif not self.views.sound:
            found.append("the views are being checked or rebuilt: questions wait for that")
        if self.notices.trouble is not None:
            found.append(f"no notices are sent: {self.notices.trouble}")
        if load is None:
            found.append(f"the Scheduler has not answered within {LOOK_WITHIN:g} s")
        elif not load.resources.slots:
            found.append("no worker process is ready: nothing starts")
        if executor:
            found.append(executor)
        if load is not None and load.resources.sample.disk_low:
            found.append("temp space has run low: nothing starts until there is more")
        if manifests:
            found.append(f"no manifests can be signed: {manifests}")
        if self._seals_trouble:
            found.append(self._seals_trouble)
        return found
