"""The executor that runs attempts on the nodes of a cluster, through hosts that are named and outlive this service.

Every decision is made here. The gateway only carries calls, so that nothing is lost with it: orders are numbered and
given again until a host has carried them out, and reports are asked for again until they have come.

No end is told while a process of the attempt may be alive. A host that is dead, or is not heard of, has killed what it
ran when its lease is over; so its attempts end as lost once the fence is passed, and not before.

The engine never queues: a host is made on a node that has room for it now, and the node is chosen here. It never tries
again either, and knows no priorities.
"""

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Literal, TypeAlias

import msgspec

from ...events.reports import (
    AllFound,
    AttemptEnded,
    AttemptFound,
    AttemptsHeld,
    Avoid,
    CapacityChanged,
    NodesSeen,
    Order,
    Report,
    Run,
    Settled,
    Stop,
    TellHeld,
    WorkerGone,
)
from ...handlers.process.channel import Unencodable, encode_frame
from ..core.routing import SHORT_AT_ONCE, Offer, offers_of
from ..executor import Capabilities, Reporter, unbegun, unencodable
from ..logger import get_logger
from ..workers.reactor import Reactor
from .gateway_process import GatewayLink
from .lease import Fence
from .placement import GPU, Home, HostNeeds, Placement
from .roster import STOPS_WITHIN, HostName, Roster, host_name, parsed_name
from .wire import (
    LOOKED_AT_EVERY,
    Answer,
    Broken,
    Call,
    Create,
    EndAll,
    Find,
    Found,
    GatewayReport,
    Give,
    Given,
    Gone,
    Greeting,
    Hello,
    HostOrder,
    HostReport,
    HostSettings,
    Kill,
    NodeUse,
    Pulse,
    Refused,
    Told,
    Watch,
    fingerprint,
    pack,
    unpacked_answer,
)

_REMEMBERED = 4096
"""Ended attempts that are remembered, so that a repeated `Run` is not run again."""
_WATCHES = 4
"""Watches in the time of a lease. Each renews it."""
_LOOKS = 20
"""Looks at hosts and fences in the time of a lease."""
_ASTRAY, _ASTRAY_SILENT = 0.4, 0.1
"""Share of a lease after which a call is made once more; the second is for hosts that are not heard of."""
_MADE_WITHIN = 30.0
"""Seconds that a new host may take until it answers."""
_BEATS_MISSED = 3.0
"""Seconds of silence after which a gateway is replaced, or a third of the lease if that is longer."""
_ANSWERS_WITHIN = 5.0
"""Seconds that a host of an earlier service is given for its first answer, once the cluster is reached."""
_LATE = 64
"""Answers of a host that may still come after the same was asked again; each is as good."""
_AGAIN_AFTER = 0.2
"""Seconds until a call is made again that has come to nothing."""
_MAKE_AGAIN_AFTER = 5.0
"""Seconds until a host is made again that could not be."""
_SHUNNED = 60.0
"""Seconds for which other nodes are preferred to one whose worker was not heard of; the engine may list it so long."""
_NODES_HOLD = 10.0
"""Seconds for which it is believed what nodes there are."""
_GONE_WITHIN = 2.0
"""Seconds for which a service that stops in good order waits to hear that its hosts are gone."""
_CONNECTS_WITHIN = 60.0
"""Seconds that a gateway may take to reach the cluster."""
_RESTART, _RESTART_MAX = 0.1, 5.0
"""Seconds until a gateway that is gone is replaced, doubling while none connects."""
_CONNECTING = "A node of it has to run on this machine, and both have to know the same token (RAY_AUTH_TOKEN_PATH)."
_LOST = "HostLost"
"""The error type of an attempt whose host is gone."""

_Key: TypeAlias = tuple[int, int]
_HostState: TypeAlias = Literal["sought", "new", "ready", "silent", "dead", "outdated"]
"""Sought: of an earlier service, and not heard of yet. Outdated: of other settings; what it runs is its last."""

logger = get_logger(__name__)


class _Host:
    """What is known of a host. It is guarded by the executor's lock."""

    def __init__(self, name: str, named: HostName, state: _HostState, fence: Fence, now: float, node: str = "") -> None:
        self.name = name
        self.slot = named.slot
        self.gpus = named.gpus
        self.lease = named.lease
        self.state = state
        self.fence = fence
        self.node = node
        self.made_at = self.heard_at = now
        self.earlier = False
        """Whether an earlier service has made it."""
        self.asked_at: float | None = None
        """When it was greeted first on this connection; None: it was not yet."""
        self.greeted = False
        self.outdated = False
        self.caught_up = False
        """Whether all has been heard that it had told before this service."""
        self.held: dict[_Key, Run | None] = {}
        """Attempts that it has, and that have not ended. None: one that an earlier service gave it."""
        self.stopping: set[_Key] = set()
        self.unsettled: set[_Key] = set()
        """Attempts that have ended there, and whose end may not be recorded yet."""
        self.orders: deque[HostOrder] = deque()
        """What it has not carried out, as far as is known."""
        self.first = 1
        """The number of the first of them."""
        self.after = 0
        """The number of the last report that has come."""
        self.calls: dict[str, tuple[int, float]] = {}
        """Method → number of the call that is on its way, and since when."""
        self.late: deque[int] = deque()
        """Calls that were made again, and whose answers may still come."""
        self.memory: dict[_Key, int] = {}
        self.use: NodeUse | None = None
        """What its node has, and …"""
        self.used_at = 0.0
        """… when it said so."""

    @property
    def shares(self) -> bool:
        """Whether it runs short attempts."""
        return bool(self.held) and all(run is not None and run.shared_workers for run in self.held.values())


class ClusterExecutor:
    """Keeps a host for each slot on whatever node has room, and one thread that talks to them through the gateway.

    Args:
        link: makes the way to the gateway, of the thread and the lock of this executor.
        slots: attempts at once.
        settings: what each host is made with.
        needs: what each host books on its node.
        epoch: asks for that of this service, higher than that of every earlier one; 0: its log is not open yet.
        labels: label → how many of the slots offer it.
        roster: file that names the hosts for the next service; None: there is none.
        margin: seconds that a host may take to end what it runs once its lease is over.
        mechanism: how a process tree is ended there, in words.
        clock: seconds, monotonic.
    """

    def __init__(  # noqa: PLR0915 - a line for each thing that it knows
        self,
        link: Callable[[Reactor, threading.RLock], GatewayLink],
        *,
        slots: int,
        settings: HostSettings,
        epoch: Callable[[], int],
        needs: HostNeeds | None = None,
        labels: Mapping[str, int] | None = None,
        roster: Path | None = None,
        margin: float = STOPS_WITHIN,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lock = threading.RLock()
        self.reactor = Reactor(self._after_turn, clock)
        self.link = link(self.reactor, self.lock)
        self._slots = slots
        self._settings = pack(settings)
        self._cluster = settings.cluster
        self._lease = settings.lease
        self._margin = margin
        self._placement = Placement(needs or HostNeeds())
        self._ask_epoch = epoch
        self._epoch = 0
        self._service = secrets.token_hex(8)
        """Tells this service from one with the same epoch: of a copy of the log, or of a backup."""
        self._offers = offers_of(labels or {}, slots) or ((),) * slots
        self._roster = Roster(roster)
        self._roster_epoch = 0
        """The last service's, as long as only that one's list is known to be whole."""
        self._is_known = self._roster_touched = False
        """Whether the last service has left a list of all hosts; and whether it has to be written anew."""
        self._clock = clock
        self._opened_at = 0.0
        self._fence = Fence(self._lease, margin, 0.0)
        """When hosts have surely stopped of which nothing is known."""
        self._hosts: dict[str, _Host] = {}
        self._ending: dict[str, float] = {}
        """Hosts that are of no use any more, until the engine says that they are gone → when that was asked last."""
        self._has_gateway = self._connected = False
        """Whether there is one, and whether it has reached the cluster."""
        self._listed = self._all_found = False
        """Whether the gateway has told which hosts there are; and whether no other one can have an attempt."""
        self._pulse_at = self._nodes_seen = self._make_at = self._looked_at = self._patient_until = 0.0
        self._restart_in = _RESTART
        self._numbers = count(1)
        self._calls: dict[int, tuple[_Host, str]] = {}
        self._waiting: dict[_Key, Run] = {}
        self._attempts: dict[_Key, _Host] = {}
        self._ended: dict[_Key, str] = {}
        """Ended attempt → its host, as long as its end may be to settle."""
        self._may_be_shared: dict[str, int] = {}
        """Node → how many of its hosts short attempts may keep busy."""
        self._ordered: deque[Order] = deque()
        self._reports: list[Report] = []
        self._told_capacity = CapacityChanged(-1)
        self._capacity_touched = True
        self._trouble = "The cluster has not been reached yet"
        self._replaced = False
        self._closing = self._closed = False
        self._close_at = self._gone_at = 0.0
        self._report: Reporter = lambda _: None
        self._to_report: SimpleQueue[list[Report]] = SimpleQueue()
        """What the thread that reports is to pass on; nothing in a list ends it."""
        self._reporting = 0
        """How many of these lists are not passed on yet."""
        self._unreported: set[_Key] = set()
        """Attempts whose end is not yet. What they left may still be being removed."""
        self._thread = threading.Thread(target=self._run_reactor, name="executor", daemon=True)
        self._reporter = threading.Thread(target=self._keep_reporting, name="executor-reports", daemon=True)

    @property
    def capabilities(self) -> Capabilities:
        """See `Executor`."""
        return Capabilities(
            hard_kill_tree="a reaper per worker on each node, as `tasktrail doctor` shows it there; and a lease",
            kills_escaped=True,
            finds_orphans=True,
        )

    @property
    def trouble(self) -> str:
        """See `Executor`."""
        return self._trouble

    # --- from any thread -------------------------------------------------------------------------------------------

    def open(self, report: Reporter) -> None:
        """Start the thread; it connects, and finds the hosts of earlier services first. Returns at once."""
        self._report = report
        self._opened_at = self._pulse_at = self._looked_at = self._clock()
        self._fence = Fence(self._lease, self._margin, self._opened_at)
        self._roster_epoch, names = self._roster.read()
        for name in names:
            self._seek(name)
        self.reactor.post(self._connect)
        self.reactor.at(self._lease / _LOOKS, self._look)
        self._thread.start()
        self._reporter.start()

    def capacity(self) -> int:
        """Slots whose host is ready and was heard of lately."""
        with self.lock:
            return sum(1 for _ in self._usable())

    def memory(self) -> dict[_Key, int]:
        """See `Executor`."""
        with self.lock:
            return {key: used for host in self._hosts.values() for key, used in host.memory.items() if key in host.held}

    def do(self, orders: Sequence[Order]) -> None:
        """See `Executor`. What comes while the executor's thread is at work, it carries out itself."""
        self._ordered.extend(orders)
        if self.lock.acquire(blocking=False):
            try:
                self._carry_out()
            finally:
                self.lock.release()
        else:
            self.reactor.post(self._catch_up)

    def _catch_up(self) -> None:
        with self.lock:
            self._carry_out()

    def _carry_out(self) -> None:
        touched = dict[str, _Host]()
        while self._ordered:
            order = self._ordered.popleft()
            try:
                for host in self._do(order):
                    touched[host.name] = host
            except Exception:  # one order that breaks must not cost the others; `TellHeld` finds what it has lost
                logger.exception("order_failed", order=type(order).__name__)
        for host in touched.values():
            self._pump(host)

    def _do(self, order: Order) -> Iterable[_Host]:
        """Note the order; the hosts that have something to carry out now."""
        if isinstance(order, TellHeld):
            self._tell(AttemptsHeld(order.number, (*self._attempts, *self._waiting)))
            return ()
        if isinstance(order, Avoid):
            self._placement.avoided = frozenset(order.nodes)
            self.reactor.post(self._move_away)
            return ()
        key = (order.task_id, order.attempt)
        if isinstance(order, Run):
            return self._run(key, order)
        if isinstance(order, Stop) and (waiting := self._waiting.pop(key, None)):
            self._end(unbegun(waiting))
            return ()
        host = self._hosts.get(self._ended.get(key, "")) if isinstance(order, Settled) else self._attempts.get(key)
        if host is None:
            return ()
        if isinstance(order, Stop):
            host.stopping.add(key)
        elif isinstance(order, Settled):
            host.unsettled.discard(key)
        host.orders.append(order)
        return (host,)

    def _run(self, key: _Key, run: Run) -> Iterable[_Host]:
        if key in self._attempts or key in self._waiting or key in self._ended:
            return ()
        if self._closing:
            self._end(unbegun(run))
            return ()
        try:
            encode_frame(run)
        except Unencodable as error:
            self._end(unencodable(run, error))
            return ()
        self._waiting[key] = run
        if run.shared_workers:
            self._may_be_shared[run.node] = run.shared_workers
        return self._hand_out()

    def close(self, timeout: float) -> None:
        """See `Executor`. What does not answer in time ends with its lease, and the next service waits for that."""
        if not self._thread.is_alive():
            self.reactor.dispose()
            return
        self._close_at = self._clock() + timeout
        self.reactor.post(self._begin_to_close)
        if not self.reactor.inside():
            self._thread.join(timeout + _GONE_WITHIN + 5.0)
            self._reporter.join(1.0)  # a listener that waits for a disk is not waited for

    # --- with the lock held: what runs where -----------------------------------------------------------------------

    def _usable(self) -> Iterator[_Host]:
        hosts = self._hosts.values() if self._connected else ()
        return (host for host in hosts if host.state == "ready" and self._roster.names(host.name))

    def _hand_out(self) -> list[_Host]:
        """Give what waits to hosts, in its order: nothing passes what waits for a host of the same kind."""
        if not self._all_found or self._closing:
            return []
        used = []
        shut = set[tuple[str, Offer, bool]]()
        lasting = self._lasting() if self._waiting else set()
        alive = {task_id for task_id, _ in (*self._attempts, *self._unreported)} if self._waiting else set()
        for key, run in list(self._waiting.items()):
            if run.node and (run.node, run.offer) not in lasting:
                del self._waiting[key]
                labels = f" with {', '.join(run.offer)}" if run.offer else ""
                why = f"Node {run.node} had no worker{labels} any more before the attempt could begin there"
                self._end(AttemptEnded(*key, "interrupted", error=why))
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
            del self._waiting[key]
            self._attempts[key] = host
            alive.add(key[0])
            host.held[key] = run
            host.orders.append(msgspec.structs.replace(run, offer=()))  # the host has one slot and knows no labels
            used.append(host)
        return used

    def _host_for(self, run: Run) -> _Host | None:
        usable = [
            host
            for host in self._usable()
            if self._offer_of(host) == run.offer and run.node in ("", self._placement.name_of(host.node))
        ]
        shared = [host for host in usable if host.shares] if run.shared_workers else []
        if len(shared) < self._may_be_shared.get(run.node, 0) or not run.shared_workers:
            idle = next((host for host in usable if not host.held), None)
            if idle is not None:
                return idle
        roomy = min(shared, key=lambda host: len(host.held), default=None)
        return roomy if roomy is not None and len(roomy.held) < SHORT_AT_ONCE else None

    def _offer_of(self, host: _Host) -> Offer:
        """The labels of its worker."""
        labels = self._offers[host.slot] if host.slot < self._slots else ()
        return tuple(sorted({*labels, GPU})) if host.gpus else labels

    def _lasting(self) -> set[tuple[str, Offer]]:
        """Node and labels of each worker that is there, or will be: what waits for others can never begin."""
        lasting = (host for host in self._hosts.values() if host.state in ("new", "ready", "silent"))
        return {(self._placement.name_of(host.node), self._offer_of(host)) for host in lasting}

    def uses(self) -> dict[str, tuple[NodeUse | None, float]]:
        """Of each node: what it has, where a host has looked, and how many seconds ago it was seen. From any thread."""
        with self.lock:
            now = self._clock()
            latest: dict[str, tuple[NodeUse | None, float]] = {
                node.node: (None, now - self._nodes_seen) for node in self._placement.seen()
            }
            for host in self._usable():
                name, age = self._placement.name_of(host.node), now - host.used_at
                known = latest.get(name)
                if host.use is not None and (known is None or known[0] is None or age < known[1]):
                    latest[name] = (host.use, age)
            return latest

    def _end(self, ended: AttemptEnded) -> None:
        """An attempt is over for good."""
        key = (ended.task_id, ended.attempt)
        host = self._attempts.pop(key, None)
        if host is not None:
            host.held.pop(key, None)
            host.stopping.discard(key)
            host.unsettled.add(key)
        self._ended[key] = host.name if host is not None else ""
        if len(self._ended) > _REMEMBERED:
            del self._ended[next(iter(self._ended))]
        self._unreported.add(key)
        self._tell(ended)

    def _tell(self, report: Report) -> None:
        self._reports.append(report)
        if not self.reactor.inside():
            self.reactor.post(lambda: None)

    # --- with the lock held: hosts ---------------------------------------------------------------------------------

    def _seek(self, name: str) -> _Host | None:
        """Whatever else is named so there is no host of this log."""
        named = parsed_name(name)
        if named is None or named.cluster != self._cluster:
            return None
        fence = Fence(named.lease, self._margin, self._opened_at)
        host = self._hosts[name] = _Host(name, named, "sought", fence, self._clock())
        host.earlier = True
        return host

    def _pump(self, host: _Host) -> None:
        """Make the calls to a host that are to be made and are not on their way."""
        if not self._connected or host.state == "dead":
            return
        if not host.greeted:
            if host.asked_at is None:
                host.asked_at = self._clock()
            self._call(host, "hello", Hello(self._epoch, self._service))
            return
        stamp = host.fence.grant()
        if stamp is None:
            return
        if host.orders:
            self._call(host, "give", Give(self._epoch, self._service, stamp, host.first, tuple(host.orders)))
        seconds = 0.0 if host.state == "silent" else host.lease / _WATCHES
        self._call(host, "watch", Watch(self._epoch, self._service, stamp, host.after, seconds))

    def _call(self, host: _Host, method: Literal["hello", "give", "watch"], payload: Any) -> None:
        if method not in host.calls:
            number = next(self._numbers)
            host.calls[method] = (number, self._clock())
            self._calls[number] = (host, method)
            self.link.send(Call(number, host.name, method, pack(payload)))

    def _call_again(self, host: _Host, patience: float) -> None:
        """Of what was not answered in time. Answers that are late count, too: a slow network is no lost host."""
        now = self._clock()
        astray = [(method, number) for method, (number, since) in host.calls.items() if now - since > patience]
        for method, number in astray:
            del host.calls[method]
            host.late.append(number)
        while len(host.late) > _LATE:
            self._calls.pop(host.late.popleft(), None)
        if astray:
            self._pump(host)

    def _forget_call(self, number: int) -> tuple[_Host, str] | None:
        found = self._calls.pop(number, None)
        if found is not None and found[0].calls.get(found[1], (0, 0.0))[0] == number:
            del found[0].calls[found[1]]
        return found

    def _on_answer(self, report: Answer) -> None:
        found = self._forget_call(report.number)
        if found is None or self._hosts.get(found[0].name) is not found[0]:
            return
        host, method = found
        kind = {"hello": Greeting, "give": Given, "watch": Told}[method]
        try:
            answer = unpacked_answer(report.payload, kind)
        except (msgspec.MsgspecError, RecursionError):
            logger.exception("host_not_understood", host=host.name)
            self._is_dead(host)
            self.link.send(Kill(host.name))
            return
        now = self._clock()
        host.heard_at = now
        host.fence.heard(answer.stamp, now)
        self._placement.trust(host.node)
        if host.state == "silent":
            host.state = "outdated" if host.outdated else "ready"
            self._capacity_touched = True
        match answer:
            case Refused(why="epoch"):
                self._is_replaced(host, answer.epoch)
                return
            case Greeting():
                if not host.greeted:
                    self._on_greeting(host, answer)
            case Given():
                while host.orders and host.first <= answer.carried_out:
                    host.orders.popleft()
                    host.first += 1
            case Told():
                self._on_told(host, answer)
        touched = {one.name: one for one in (host, *self._hand_out())}
        for one in touched.values():
            self._pump(one)

    def _on_greeting(self, host: _Host, greeting: Greeting) -> None:
        host.greeted = True
        host.node = greeting.node
        taken = any(
            other.slot == host.slot and other is not host and other.state in ("ready", "silent")
            for other in self._hosts.values()
        )
        is_ours = host.slot < self._slots and greeting.settings == fingerprint(self._settings)
        host.outdated = taken or not is_ours or bool(greeting.trouble)
        if greeting.trouble:
            self._make_at = self._clock() + _MAKE_AGAIN_AFTER
            self._set_trouble(f"Node {self._name_of(host.node)}: {greeting.trouble}")
        host.state = "outdated" if host.outdated else "ready"
        for one in greeting.attempts:
            key = (one.task_id, one.attempt)
            if not host.earlier or key in self._attempts or key in self._waiting:
                logger.warning("attempt_not_believed", host=host.name, attempt=key)
                continue  # a host made here has none yet, and no attempt has two
            if not one.is_over:
                self._attempts[key] = host
                host.held[key] = None
                node = self._placement.name_of(host.node)
                self._tell(AttemptFound(*key, one.granted, self._offer_of(host), node))
            else:
                self._attempts[key] = host  # its end is among what the host tells next
                host.held[key] = None
        if self._closing:
            host.orders.append(EndAll("the executor was closed"))
        self._capacity_touched = True

    def _on_told(self, host: _Host, told: Told) -> None:
        for number, report in told.reports:
            if number > host.after:
                self._pass_on(host, report)
        host.after = max(host.after, told.last)
        if told.node is not None:
            host.use, host.used_at = told.node, self._clock() - LOOKED_AT_EVERY
        host.memory = {(task_id, attempt): used for task_id, attempt, used in told.memory}
        if not host.caught_up:
            host.caught_up = True
            self._perhaps_all_found()
        if host.outdated and not (host.held or host.unsettled or host.orders):
            self._drop(host)

    def _pass_on(self, host: _Host, report: HostReport) -> None:
        if isinstance(report, WorkerGone):
            self._tell(report)
        elif self._attempts.get((report.task_id, report.attempt)) is not host:
            return
        elif isinstance(report, AttemptEnded):
            self._end(report)
        else:
            self._tell(report)

    def _perhaps_all_found(self) -> None:
        """Nothing is started before each host of an earlier service was heard out, or has surely ended what it ran."""
        if self._all_found or any(host.earlier and not host.caught_up for host in self._hosts.values()):
            return
        if self._listed and (self._is_known or self._fence.is_passed(self._clock())):
            self._all_found = True
            self._tell(AllFound())
            self._claim_roster()
            for host in self._hand_out():
                self._pump(host)

    def _is_dead(self, host: _Host) -> None:
        """Its process is gone, or of no use. What it ran is killed there, at the latest when its lease is over."""
        if host.state != "dead":
            logger.warning("host_is_dead", host=host.name, attempts=len(host.held))
            host.state = "dead"
            self._placement.shun(
                host.node, self._clock() + _SHUNNED
            )  # perhaps all of it is gone; if not, the others there say so
            self._capacity_touched = True
            if not host.held and (host.caught_up or not host.earlier):
                self._drop(host)

    def _drop(self, host: _Host) -> None:
        """Nothing is left there."""
        del self._hosts[host.name]
        for number in (*host.late, *(number for number, _ in host.calls.values())):
            self._calls.pop(number, None)
        self._have_ended(host.name)
        self._capacity_touched = True

    def _have_ended(self, name: str) -> None:
        """It stays in the list meanwhile: whoever is not in it must not live."""
        self._ending[name] = self._clock()
        self.link.send(Kill(name))

    def _is_replaced(self, host: _Host, epoch: int) -> None:
        """A later service has taken the host over. So this one is none any more; the log will tell it so.

        Unless it was restored from a backup, which knows nothing of that service. Only a person can tell.
        """
        if not self._replaced:
            logger.error("service_was_replaced", host=host.name, epoch=epoch, own=self._epoch)
        self._replaced = True
        trouble = "A later service has taken over the workers"
        if epoch > self._epoch:
            trouble += (
                f": they obey epoch {epoch}, and this one has {self._epoch}. If that service is gone, because this log "
                "was restored from a backup, end what it has left with `ray stop` on each node, and start again"
            )
        self._set_trouble(trouble)
        host.state = "silent"
        self._capacity_touched = True

    def _set_trouble(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble:
                logger.warning("cluster_trouble", trouble=trouble)

    def _name_of(self, node: str) -> str:
        return self._placement.name_of(node) or "unknown"

    def _claim_roster(self) -> None:
        """From here on the list names all hosts that may hold attempts, unless some may be unknown."""
        if self._epoch and (self._is_known or self._all_found) and self._roster_epoch != self._epoch:
            self._roster_epoch, self._roster_touched = self._epoch, True

    def _write_what_has_changed(self) -> None:
        """Once for all that a turn has brought. A host that must not be missing in it was written before."""
        with self.lock:
            if error := self._write_roster():
                logger.warning("hosts_not_written", error=error)
                self.reactor.at(_MAKE_AGAIN_AFTER, self._touch_roster)

    def _touch_roster(self) -> None:
        self._roster_touched = True

    def _write_roster(self) -> str:
        """Why that came to nothing, or nothing. Names too many do no harm."""
        self._roster_touched = False
        try:
            self._roster.write(self._roster_epoch, (*self._hosts, *self._ending))
        except OSError as error:
            return str(error)
        return ""

    # --- with the lock held: nodes ---------------------------------------------------------------------------------

    def _make_missing(self) -> None:
        """Make a host for each slot that has none."""
        too_early = self._clock() < self._make_at
        if not self._listed or not self._connected or self._closing or self._replaced or too_early:
            return
        held = {host.slot for host in self._hosts.values() if host.state in ("sought", "new", "ready", "silent")}
        missing = [slot for slot in range(self._slots) if slot not in held]
        made: list[_Host] = []
        trouble = "" if not missing and not any(host.state == "new" for host in self._hosts.values()) else self._trouble
        for slot in missing:
            now = self._clock()
            place = self._placement.choose(self._homes(), now) if now - self._nodes_seen < _NODES_HOLD else None
            if place is None:
                trouble = self._why_no_node(len(missing) - len(made))
                break
            node, gpus = place
            named = HostName(self._cluster, slot, self._lease, gpus)
            name = host_name(named)
            host = self._hosts[name] = _Host(name, named, "new", Fence(self._lease, self._margin, now), now, node.id)
            host.caught_up = True
            made.append(host)
        self._set_trouble(trouble)
        if made and (error := self._write_roster()):  # a host that the next service did not know of could not be fenced
            for host in made:
                del self._hosts[host.name]
            self._make_at = self._clock() + _MAKE_AGAIN_AFTER
            self._set_trouble(f"No worker can be made while their list cannot be written: {error}")
            return
        for host in made:
            needs = self._placement.needs
            resources = {**needs.resources, **({"GPU": float(host.gpus)} if host.gpus else {})}
            self.link.send(Create(host.name, self._settings, host.node, needs.cpus, needs.memory, resources))
            self._pump(host)

    def _homes(self) -> Iterator[Home]:
        for host in self._hosts.values():
            yield Home(host.node, host.gpus, host.made_at, host.state in ("new", "ready", "silent"))

    def _move_away(self) -> None:
        """Give up idle hosts on nodes that are being drained: others take their slots where there is room."""
        with self.lock:
            awaited = {run.node for run in self._waiting.values()}
            for host in [host for host in self._hosts.values() if host.state in ("new", "ready")]:
                if not self._placement.is_avoided(host.node) or self._placement.name_of(host.node) in awaited:
                    continue
                if not (host.held or host.unsettled or host.orders):
                    self._drop(host)
            self._make_missing()

    def _not_made(self, host: _Host, why: str) -> None:
        """Another one is made later: what is wrong there may stay so."""
        self._make_at = self._clock() + _MAKE_AGAIN_AFTER
        self._placement.shun(host.node, self._clock() + _SHUNNED)
        self._set_trouble(f"A worker could not be started on node {self._name_of(host.node)}: {why}")
        self._drop(host)

    def _why_no_node(self, missing: int) -> str:
        if (ago := self._clock() - self._nodes_seen) >= _NODES_HOLD:
            return f"{missing} of {self._slots} workers have no node: the cluster's head was last heard {ago:.0f} s ago"
        return self._placement.why_nowhere(missing, self._slots)

    # --- in the reactor's thread -----------------------------------------------------------------------------------

    def _connect(self) -> None:
        with self.lock:
            if self._closing:
                return
            self._epoch = self._ask_epoch()
            if not self._epoch:  # no host may be told anything
                self.reactor.at(_AGAIN_AFTER, self._connect)
                return
            self._is_known = self._is_known or self._roster_epoch == self._epoch - 1
            self._claim_roster()
            self._pulse_at = self._clock()
            self._has_gateway = True
            try:
                self.link.start(self._on_report, self._on_gone)
            except OSError as error:
                self._on_gone(str(error))

    def _on_report(self, report: GatewayReport) -> None:
        match report:
            case Pulse():
                self._on_pulse(report)
            case Found():
                self._on_found(report)
            case Answer():
                self._on_answer(report)
            case Broken():
                self._on_broken(report)
            case Gone():
                self._roster_touched |= self._ending.pop(report.host, None) is not None

    def _on_pulse(self, pulse: Pulse) -> None:
        self._pulse_at = self._clock()
        self._nodes_seen = self._clock() - pulse.seen
        if (seen := self._placement.told(pulse.nodes)) is not None or not self._connected:
            self._tell(NodesSeen(self._placement.seen() if seen is None else seen))
            self._capacity_touched = True  # the workers are told by the names of their nodes
        if not self._connected:
            self._connected = True
            self._restart_in = _RESTART
            self._capacity_touched = True
            logger.info("cluster_reached", nodes=len(pulse.nodes))
            for name in self._ending:
                self._have_ended(name)
            for host in list(self._hosts.values()):
                self._pump(host)
            for host in self._hand_out():
                self._pump(host)
        if not self._listed:  # also when the last question has come to nothing
            self.link.send(Find(f"{self._cluster}-"))
        self._make_missing()

    def _on_found(self, found: Found) -> None:
        """Who was not known is heard out, but not before the next service would know of it.

        When all others have surely ended what they ran, it is late: its attempts are recorded as interrupted.
        """
        strange = [name for name in found.names if name not in self._hosts and name not in self._ending]
        if self._all_found:
            for name in strange:
                if _is_of(name, self._cluster):
                    self._have_ended(name)
        else:
            sought = [host for name in strange if (host := self._seek(name)) is not None]
            if sought and (error := self._write_roster()):
                for host in sought:
                    del self._hosts[host.name]
                self._set_trouble(f"No worker can be used while their list cannot be written: {error}")
                return  # they are asked for again
            for host in sought:
                self._pump(host)
        self._listed = True
        self._perhaps_all_found()
        self._make_missing()

    def _on_broken(self, broken: Broken) -> None:
        if broken.number:
            call = self._forget_call(broken.number)
            host = call[0] if call else None
        else:
            host = self._hosts.get(broken.host)
        if host is None or self._hosts.get(host.name) is not host:
            return
        if host.state == "new" and (broken.is_dead or not broken.number):
            self._not_made(host, broken.why)
        elif broken.is_dead:
            logger.info("host_call_broken", host=host.name, why=broken.why)
            self._is_dead(host)
        else:
            self.reactor.at(_AGAIN_AFTER, lambda: self._try_again(host))

    def _try_again(self, host: _Host) -> None:
        with self.lock:
            self._pump(host)

    def _on_gone(self, why: str) -> None:
        """The gateway is gone. Attempts are not; only nobody is heard until the next gateway is there."""
        self._has_gateway = self._connected = self._listed = False
        self._capacity_touched = True
        for number in list(self._calls):
            self._forget_call(number)
        for host in self._hosts.values():
            host.asked_at = None
            host.late.clear()
        if not self._closing:
            self._set_trouble(f"The cluster cannot be reached: {why}. {_CONNECTING}")
            self.reactor.at(self._restart_in, self._connect)
            self._restart_in = min(_RESTART_MAX, self._restart_in * 2)

    def _look(self) -> None:
        """Every now and then: who is not heard of any more, and whose fence is passed."""
        shortest = min([self._lease, *(host.lease for host in list(self._hosts.values()))])
        self.reactor.at(shortest / _LOOKS, self._look)  # first: whatever breaks below, fences go on to be looked at
        with self.lock:
            now = self._clock()
            if now - self._looked_at > shortest / 4 + shortest / _LOOKS:  # all stood still here: they are asked first
                logger.warning("stood_still", seconds=now - self._looked_at)
                self._patient_until = now + max(shortest / 4, _BEATS_MISSED)
            self._looked_at = now
            patience = max(self._lease / 3, _BEATS_MISSED) if self._connected else _CONNECTS_WITHIN
            if self._has_gateway and now - self._pulse_at > patience and now >= self._patient_until:
                logger.error("gateway_is_silent")
                self._pulse_at = now
                self.link.kill()
            for host in list(self._hosts.values()):
                try:
                    self._look_at(host, now)
                except Exception:  # one host that breaks must not cost the others
                    logger.exception("look_failed", host=host.name)
            for name in [name for name, asked in self._ending.items() if now - asked > _MAKE_AGAIN_AFTER]:
                self._have_ended(name)
            self._perhaps_all_found()
            for host in self._hand_out():  # the end of a lost attempt has let the next one go
                self._pump(host)
            if self._closing:
                self._go_on_closing(now)
            elif self._placement.avoided:
                self._move_away()

    def _look_at(self, host: _Host, now: float) -> None:
        if host.state in ("ready", "outdated") and now - host.heard_at > host.lease / 2:
            host.state = "silent"
            self._capacity_touched = True
        self._call_again(host, host.lease * (_ASTRAY_SILENT if host.state == "silent" else _ASTRAY))
        if host.state == "new" and now - host.made_at > _MADE_WITHIN:
            self._not_made(host, f"it did not answer within {_MADE_WITHIN:g} s")
        elif host.fence.is_passed(now) and now >= self._patient_until and self._is_lost(host, now):
            self._give_up(host)

    def _is_lost(self, host: _Host, now: float) -> bool:
        """What an earlier service has left may keep ends. Nothing starts meanwhile, so they are waited for."""
        if self._replaced:
            return False
        if host.state == "sought":
            return host.asked_at is not None and now - host.asked_at > min(_ANSWERS_WITHIN, host.lease)
        return host.state in ("silent", "dead")

    def _give_up(self, host: _Host) -> None:
        """It has surely ended what it ran."""
        if host.state == "silent":
            self._placement.shun(host.node, self._clock() + _SHUNNED)
        node = self._name_of(host.node)
        for key in list(host.held):
            outcome: Literal["stopped", "lost"] = "stopped" if key in host.stopping else "lost"
            error = f"Its worker on node {node} was not heard of any more, and has ended it by now"
            self._end(AttemptEnded(*key, outcome, error=error, error_type=_LOST))
        self._drop(host)

    def _begin_to_close(self) -> None:
        with self.lock:
            self._closing = True
            for run in list(self._waiting.values()):
                self._end(unbegun(run))
            self._waiting.clear()
            for host in self._hosts.values():
                if host.held:
                    host.orders.append(EndAll("the executor was closed"))
                    self._pump(host)
            self._go_on_closing(self._clock())

    def _go_on_closing(self, now: float) -> None:
        if self._closed:
            return
        if self._replaced:  # they are another's now
            self._hosts.clear()
            self._ending.clear()
        at_work = any(host.held or host.state == "sought" for host in self._hosts.values())
        if (at_work or self._reports or self._reporting) and now < self._close_at:
            return
        for host in list(self._hosts.values()):
            if host.unsettled or host.state == "sought":
                continue  # an end that may not be recorded is told to the next service again
            if host.held:
                self.link.send(Kill(host.name))  # the next service waits for it
            else:
                self._drop(host)
        self._gone_at = self._gone_at or now + _GONE_WITHIN
        if self._ending and self._connected and now < self._gone_at:
            return
        self._closed = True
        try:
            if not self._replaced:
                self._write_roster()
            self.link.close()
        finally:
            self.reactor.finish()

    def _after_turn(self) -> None:
        if self._roster_touched and not (self._closing or self._replaced):
            self._write_what_has_changed()
        if self._capacity_touched:
            self._tell_capacity()
        with self.lock:
            if self._reports:
                self._reporting += 1
                self._to_report.put(self._reports)
                self._reports = []
        if self._closing:
            with self.lock:
                self._go_on_closing(self._clock())

    def _run_reactor(self) -> None:
        try:
            self.reactor.run()
        finally:
            self._to_report.put([])

    def _were_reported(self, reports: list[Report]) -> None:
        with self.lock:
            self._reporting -= 1
            ended = {(one.task_id, one.attempt) for one in reports if isinstance(one, AttemptEnded)}
            if ended:
                self._unreported -= ended
                for host in self._hand_out():
                    self._pump(host)

    # --- in the thread that reports --------------------------------------------------------------------------------

    def _keep_reporting(self) -> None:
        """Whoever listens may remove files on slow storage. No lease may wait for that."""
        while reports := self._to_report.get():
            try:
                self._report(reports)
            except Exception:  # a listener's fault must not end the thread that all ends go through
                logger.exception("executor_report_failed", reports=len(reports))
            self.reactor.post(partial(self._were_reported, reports))

    # --- in the reactor's thread -----------------------------------------------------------------------------------

    def _tell_capacity(self) -> None:
        self._capacity_touched = False
        with self.lock:
            usable = list(self._usable())
            offers = tuple(self._offer_of(host) for host in usable)
            nodes = tuple(self._placement.name_of(host.node) for host in usable)
            capacity = CapacityChanged(len(offers), offers if any(offers) else (), nodes)
            if capacity != self._told_capacity and not self._closing:
                self._told_capacity = capacity
                self._reports.append(capacity)
            self._make_missing()


def _is_of(name: str, cluster: str) -> bool:
    """Whether a host of this log is named so."""
    return (named := parsed_name(name)) is not None and named.cluster == cluster
