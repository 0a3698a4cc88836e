"""Gives attempts to hosts: knows which attempt is on which host, and queues the orders for each.

It calls no host: it returns the hosts that have new orders. All of it is called with the executor's lock held.
"""

import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

import msgspec

from ...events.reports import (
    AttemptEnded,
    AttemptFound,
    Grant,
    Report,
    Run,
    Saved,
    Settled,
    Stop,
    WorkerGone,
)
from ...handlers.process.channel import Unencodable, encode_frame
from ..core.routing import SHORT_AT_ONCE, Offer
from ..executor import unbegun, unencodable
from ..logger import get_logger
from .known_hosts import Key, KnownHost, KnownHosts
from .wire import EndAll, Greeting, HostReport

_REMEMBERED = 4096
"""Ended attempts that are remembered, so that a repeated `Run` is not run again."""
_LOST = "HostLost"
"""The error type of an attempt whose host is gone."""
_CLOSED = "the executor was closed"

logger = get_logger(__name__)


class HandOut:
    """Gives attempts to hosts, and follows each until its end is settled.

    Args:
        hosts: the known hosts.
        offer_of: returns the labels of a host's worker.
        name_of: returns the name of the node with the engine's id.
        tell: takes reports.
    """

    def __init__(
        self,
        hosts: KnownHosts,
        *,
        offer_of: Callable[[KnownHost], Offer],
        name_of: Callable[[str], str],
        tell: Callable[[Report], None],
    ) -> None:
        self._hosts = hosts
        self._offer_of = offer_of
        self._name_of = name_of
        self._tell = tell
        self.waiting: dict[Key, Run] = {}
        self.attempts: dict[Key, KnownHost] = {}
        self._ended: dict[Key, str] = {}
        """Ended attempt → its host, as long as its end may still have to be settled."""
        self._unreported: set[Key] = set()
        """Attempts whose end is not reported yet. Their files may still be being removed."""
        self._may_be_shared: dict[str, int] = {}
        """Node → how many of its hosts short attempts may keep busy."""

    def take(self, run: Run, *, closing: bool) -> None:
        """Take a run, which then waits for a host; unless it is already known, or cannot be handed to any host."""
        key = (run.task_id, run.attempt)
        if key in self.attempts or key in self.waiting or key in self._ended:
            return
        if closing:
            self.end(unbegun(run))
            return
        try:
            encode_frame(run)
        except Unencodable as error:
            self.end(unencodable(run, error))
            return
        self.waiting[key] = run
        if run.shared_workers:
            self._may_be_shared[run.node] = run.shared_workers

    def pass_order(self, order: Stop | Grant | Saved | Settled) -> Iterable[KnownHost]:
        """Queue an order for the attempt's host, if it has one. Returns that host."""
        key = (order.task_id, order.attempt)
        if isinstance(order, Stop) and (waiting := self.waiting.pop(key, None)):
            self.end(unbegun(waiting))
            return ()
        of_end = isinstance(order, Settled)
        host = self._hosts.by_name.get(self._ended.get(key, "")) if of_end else self.attempts.get(key)
        if host is None:
            return ()
        if isinstance(order, Stop):
            host.stopping.add(key)
        elif of_end:
            host.unsettled.discard(key)
        host.orders.append(order)
        return (host,)

    # --- who gets what ----------------------------------------------------------------------------------------------

    def hand_out(self) -> list[KnownHost]:
        """Give waiting runs to hosts, in their order: none passes a run that waits for a host of the same kind."""
        if not self.waiting:
            return []
        used = []
        shut = set[tuple[str, Offer, bool]]()
        lasting = self._expected_workers()
        alive = {task_id for task_id, _ in self._alive()}
        for key, run in list(self.waiting.items()):
            if run.node and (run.node, run.offer) not in lasting:
                del self.waiting[key]
                labels = f" with {', '.join(run.offer)}" if run.offer else ""
                why = f"Node {run.node} had no worker{labels} left when the attempt was to begin there"
                self.end(AttemptEnded(*key, "interrupted", error=why))
                continue
            if key[0] in alive:
                continue  # an earlier attempt of the task, which the log has ended, takes its time to end
            short = bool(run.shared_workers)
            if (run.node, run.offer, False) in shut or (run.node, run.offer, short) in shut:
                continue
            host = self._host_for(run)
            if host is None:
                shut.add((run.node, run.offer, short))
                continue
            del self.waiting[key]
            self.attempts[key] = host
            alive.add(key[0])
            host.held[key] = run
            host.orders.append(msgspec.structs.replace(run, offer=()))  # the host has one slot and knows no labels
            used.append(host)
        return used

    def _alive(self) -> Iterator[Key]:
        yield from self.attempts
        yield from self._unreported
        for host in self._hosts.by_name.values():
            yield from host.foreign

    def _host_for(self, run: Run) -> KnownHost | None:
        usable = [
            host
            for host in self._hosts.usable()
            if self._offer_of(host) == run.offer and run.node in ("", self._name_of(host.node))
        ]
        shared = [host for host in usable if host.shares] if run.shared_workers else []
        if len(shared) < self._may_be_shared.get(run.node, 0) or not run.shared_workers:
            idle = next((host for host in usable if not host.held), None)
            if idle is not None:
                return idle
        roomy = min(shared, key=lambda host: len(host.held), default=None)
        return roomy if roomy is not None and len(roomy.held) < SHORT_AT_ONCE else None

    def _expected_workers(self) -> set[tuple[str, Offer]]:
        """Node and labels of each worker that is or will be there. Runs for other workers can never begin."""
        lasting = (host for host in self._hosts.by_name.values() if host.is_lasting)
        return {(self._name_of(host.node), self._offer_of(host)) for host in lasting}

    # --- what becomes of it -----------------------------------------------------------------------------------------

    def adopt(self, host: KnownHost, greeting: Greeting) -> None:
        """Take over the attempts of a host, if they belong to this log."""
        for one in greeting.attempts:
            key = (one.task_id, one.attempt)
            if self._hosts.restored or not host.earlier or key in self.attempts or key in self.waiting:
                # the log was put back; or the host is new and can have none; or another host has the attempt
                logger.warning("attempt_not_believed", host=host.name, attempt=key)
                host.foreign.add(key)
                if not one.is_over:
                    host.orders.append(Stop(*key))
            else:
                self.attempts[key] = host
                host.held[key] = None
                if not one.is_over:  # otherwise its end is among the host's next reports
                    self._tell(AttemptFound(*key, one.granted, self._offer_of(host), self._name_of(host.node)))

    def carried_out(self, host: KnownHost, last: int) -> None:
        """Drop the orders up to that number, which the host has carried out."""
        while host.orders and host.first <= last:
            host.orders.popleft()
            host.first += 1

    def take_reports(self, host: KnownHost, reports: Iterable[tuple[int, HostReport]], last: int) -> None:
        """Pass on reports of a host. Each counts once, by its number."""
        for number, report in reports:
            if number > host.after:
                self._pass_on(host, report)
        host.after = max(host.after, last)

    def _pass_on(self, host: KnownHost, report: HostReport) -> None:
        if isinstance(report, WorkerGone):
            self._tell(report)
            return
        key = (report.task_id, report.attempt)
        if key in host.foreign:
            if isinstance(report, AttemptEnded):
                host.foreign.discard(key)
                host.orders.append(Settled(*key))
        elif self.attempts.get(key) is not host:
            return
        elif isinstance(report, AttemptEnded):
            self.end(report)
        else:
            self._tell(report)

    def end(self, ended: AttemptEnded) -> None:
        """Note that an attempt is over for good, and report it."""
        key = (ended.task_id, ended.attempt)
        host = self.attempts.pop(key, None)
        if host is not None:
            host.held.pop(key, None)
            host.stopping.discard(key)
            host.unsettled.add(key)
        self._ended[key] = host.name if host is not None else ""
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]
        self._unreported.add(key)
        self._tell(ended)

    def were_reported(self, ended: Iterable[Key]) -> None:
        """Note that the listener has these ends, and has removed the attempts' files."""
        self._unreported.difference_update(ended)

    def give_up(self, host: KnownHost, node: str) -> None:
        """End the attempts of a host that has surely ended them. `node` is the name of its node."""
        for key in list(host.held):
            outcome: Literal["stopped", "lost"] = "stopped" if key in host.stopping else "lost"
            error = f"The service lost touch with its worker on node {node}, which has ended the attempt by now"
            ended = AttemptEnded(*key, outcome, error=error, error_type=_LOST)
            if host.out_of_memory:
                error = f"The cluster killed the worker on node {node}, because memory was about to run out there"
                used = host.memory.get(key, 0)
                ended = msgspec.structs.replace(ended, error=error, memory_used=used, exit_code=-signal.SIGKILL)
            self.end(ended)

    # --- at the end -------------------------------------------------------------------------------------------------

    def end_all_of(self, host: KnownHost) -> None:
        """Order a host to end all its attempts, because the executor closes."""
        host.orders.append(EndAll(_CLOSED))

    def end_all_waiting(self) -> None:
        """End all waiting runs: they will not begin any more."""
        for run in list(self.waiting.values()):
            self.end(unbegun(run))
        self.waiting.clear()
