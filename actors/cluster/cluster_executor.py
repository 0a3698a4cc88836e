"""The executor that runs attempts on the nodes of a cluster, through hosts that are named and outlive this service.

Every decision is made here. The gateway only carries calls, so that nothing is lost with it: orders are numbered and
given again until a host has carried them out, and reports are asked for again until they have come.

No end is told while a process of the attempt may be alive. A host that is dead, or is not heard of, has killed what it
ran when its lease is over; so its attempts end as lost once the fence is passed, and not before.

The engine never queues: a host is made on a node that has room for it now, and the node is chosen here. It never tries
again either, and knows no priorities.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from queue import SimpleQueue

from ...events.counted import counted, plural
from ...events.reports import (
    AllFound,
    AttemptEnded,
    AttemptsHeld,
    Avoid,
    CapacityChanged,
    NodesSeen,
    Order,
    Report,
    Run,
    TellHeld,
)
from ..core.routing import Offer, offers_of
from ..executor import Capabilities, Reporter
from ..logger import get_logger
from ..workers.reactor import Reactor
from .connection import Connection
from .gateway_process import GatewayLink
from .hand_out import HandOut
from .known_hosts import Ending, Key, KnownHost, KnownHosts
from .placement import GPU, Home, HostNeeds, Placement
from .roster import STOPS_WITHIN, HostName, Roster, host_name
from .wire import (
    LOOKED_AT_EVERY,
    Answer,
    Broken,
    Create,
    Find,
    Found,
    GatewayReport,
    Given,
    Gone,
    Greeting,
    HostSettings,
    NodeUse,
    Pulse,
    Refused,
    Told,
    fingerprint,
    pack,
)

_LOOKS = 20
"""Looks at hosts and fences in the time of a lease."""
_ASTRAY, _ASTRAY_SILENT = 0.4, 0.1
"""Share of a lease after which a call is made once more; the second is for hosts that are not heard of."""
_MADE_WITHIN = 30.0
"""Seconds that a new host may take until it answers."""
_AGAIN_AFTER = 0.2
"""Seconds until a call is made again that has come to nothing."""
_MAKE_AGAIN_AFTER = 5.0
"""Seconds until a host is made again that could not be."""
_END_AGAIN_AFTER = 5.0
"""Seconds until a host is ended again that is not gone yet."""
_LISTED_WITHIN = 30.0
"""Seconds that a gateway which is connected may take to tell which hosts there are."""
_SHUNNED = 60.0
"""Seconds for which other nodes are preferred to one whose worker was not heard of; the engine may list it so long."""
_NODES_HOLD = 10.0
"""Seconds for which it is believed what nodes there are."""
_GONE_WITHIN = 2.0
"""Seconds for which a service that stops in good order waits to hear that its hosts are gone."""
_CONNECTING = "A node of it has to run on this machine, and both have to know the same token (RAY_AUTH_TOKEN_PATH)."

logger = get_logger(__name__)


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
        owned: asks how many seconds ago the log was surely this service's; None: nobody takes it while this one lives.
        restored: the log was put back to an earlier one, so what hosts have is not of it.
        clock: seconds, monotonic.
    """

    def __init__(
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
        owned: Callable[[], float] | None = None,
        restored: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.lock = threading.RLock()
        self.reactor = Reactor(self._after_turn, clock)
        self.link = link(self.reactor, self.lock)
        self._slots = slots
        self._settings = pack(settings)
        self._cluster = settings.cluster
        self._lease = settings.lease
        self._clock = clock
        self._ask_epoch = epoch
        self._offers = offers_of(labels or {}, slots) or ((),) * slots
        self._placement = Placement(needs or HostNeeds())
        self._hosts = KnownHosts(
            Roster(roster),
            cluster=settings.cluster,
            lease=settings.lease,
            margin=margin,
            clock=clock,
            may_be_shared=owned is not None,
            restored=restored,
        )
        self._connection = Connection(self.link, lease=settings.lease, owned=owned, clock=clock)
        self._work = HandOut(self._hosts, offer_of=self._offer_of, name_of=self._placement.name_of, tell=self._tell)
        self._is_owned = True
        """Whether the log was surely this service's at the last look."""
        self._make_at = 0.0
        self._unlisted_since: float | None = None
        """Since when a gateway that is connected has not told which hosts there are."""
        self._ordered: deque[Order] = deque()
        self._reports: list[Report] = []
        self._told_capacity = CapacityChanged(-1)
        self._capacity_touched = True
        self._trouble = "The cluster has not been reached yet"
        self._closing = self._closed = False
        self._close_at = self._gone_at = 0.0
        self._report: Reporter = lambda _: None
        self._to_report: SimpleQueue[list[Report]] = SimpleQueue()
        """What the thread that reports is to pass on; nothing in a list ends it."""
        self._reporting = 0
        """How many of these lists are not passed on yet."""
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
        self._connection.open()
        self._hosts.open()
        self.reactor.post(self._connect)
        self.reactor.at(self._lease / _LOOKS, self._look)
        self._thread.start()
        self._reporter.start()

    def capacity(self) -> int:
        """Slots whose host is ready and was heard of lately."""
        with self.lock:
            return sum(1 for _ in self._usable())

    def memory(self) -> dict[Key, int]:
        """See `Executor`."""
        with self.lock:
            hosts = self._hosts.by_name.values()
            return {key: used for host in hosts for key, used in host.memory.items() if key in host.held}

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
        touched = dict[str, KnownHost]()
        while self._ordered:
            order = self._ordered.popleft()
            try:
                for host in self._do(order):
                    touched[host.name] = host
            except Exception:  # one order that breaks must not cost the others; `TellHeld` finds what it has lost
                logger.exception("order_failed", order=type(order).__name__)
        for host in touched.values():
            self._connection.pump(host)

    def _do(self, order: Order) -> Iterable[KnownHost]:
        """Note the order; the hosts that have something to carry out now."""
        if isinstance(order, TellHeld):
            self._tell(AttemptsHeld(order.number, (*self._work.attempts, *self._work.waiting)))
            return ()
        if isinstance(order, Avoid):
            self._placement.avoided = frozenset(order.nodes)
            self.reactor.post(self._move_away)
            return ()
        if isinstance(order, Run):
            self._work.take(order, closing=self._closing)
            return self._newly_given()
        return self._work.pass_order(order)

    def _newly_given(self) -> list[KnownHost]:
        """Give what waits to hosts, where anything may begin; those that have got something."""
        of = self._connection
        if not self._hosts.all_found or self._closing or of.is_replaced or not of.owns():
            return []
        return self._work.hand_out() if of.is_connected else []

    def _hand_out(self) -> None:
        for host in self._newly_given():
            self._connection.pump(host)

    def let_go(self) -> None:
        """A later service has the log, and with it the hosts and what they run. From any thread, before `close`."""
        with self.lock:
            self._connection.is_replaced = True
            self._hosts.ending.clear()

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

    def _usable(self) -> Iterator[KnownHost]:
        of = self._connection
        return self._hosts.usable() if of.is_connected and not of.is_replaced else iter(())

    def _offer_of(self, host: KnownHost) -> Offer:
        """The labels of its worker."""
        labels = self._offers[host.slot] if host.slot < self._slots else ()
        return tuple(sorted({*labels, GPU})) if host.gpus else labels

    def uses(self) -> dict[str, tuple[NodeUse | None, float]]:
        """Of each node: what it has, where a host has looked, and how many seconds ago it was seen. From any thread."""
        with self.lock:
            now = self._clock()
            latest: dict[str, tuple[NodeUse | None, float]] = {
                node.node: (None, now - self._connection.nodes_seen) for node in self._placement.seen()
            }
            for host in self._usable():
                name, age = self._placement.name_of(host.node), now - host.used_at
                known = latest.get(name)
                if host.use is not None and (known is None or known[0] is None or age < known[1]):
                    latest[name] = (host.use, age)
            return latest

    def _tell(self, report: Report) -> None:
        self._reports.append(report)
        if not self.reactor.inside():
            self.reactor.post(lambda: None)

    # --- with the lock held: hosts ---------------------------------------------------------------------------------

    def _on_answer(self, report: Answer) -> None:
        answered = self._connection.answered(report)
        if answered is None or self._hosts.by_name.get(answered[0].name) is not answered[0]:
            return
        host, answer = answered
        if answer is None:  # what it runs ends with its lease; it is ended itself when that is surely so
            self._is_dead(host)
            return
        self._placement.trust(host.node)
        if host.state == "silent":
            host.state = "outdated" if host.outdated else "ready"
            self._capacity_touched = True
        match answer:
            case Refused(why="epoch"):
                host.state = "silent"
                self._is_replaced(host.name, answer.epoch)
                return
            case Greeting():
                if not host.greeted:
                    self._on_greeting(host, answer)
            case Given():
                self._work.carried_out(host, answer.carried_out)
            case Told():
                self._on_told(host, answer)
        touched = {one.name: one for one in (host, *self._newly_given())}
        for one in touched.values():
            self._connection.pump(one)

    def _on_greeting(self, host: KnownHost, greeting: Greeting) -> None:
        host.greeted = True
        host.node = greeting.node
        taken = any(
            other.slot == host.slot and other is not host and other.state in ("ready", "silent")
            for other in self._hosts.by_name.values()
        )
        is_ours = host.slot < self._slots and greeting.settings == fingerprint(self._settings)
        self._work.adopt(host, greeting)
        host.outdated = taken or not is_ours or bool(greeting.trouble or host.foreign)
        host.outdated |= self._hosts.restored and host.earlier
        if greeting.trouble:
            self._make_at = self._clock() + _MAKE_AGAIN_AFTER
            self._set_trouble(f"Node {self._name_of(host.node)}: {greeting.trouble}")
        host.state = "outdated" if host.outdated else "ready"
        if self._closing:
            self._work.end_all_of(host)
        self._capacity_touched = True

    def _on_told(self, host: KnownHost, told: Told) -> None:
        self._work.told(host, told.reports, told.last)
        if told.node is not None:
            host.use, host.used_at = told.node, self._clock() - LOOKED_AT_EVERY
        host.memory = {(task_id, attempt): used for task_id, attempt, used in told.memory}
        if not host.caught_up:
            host.caught_up = True
            self._perhaps_all_found()
        if host.outdated and host.is_free:
            self._drop(host)

    def _perhaps_all_found(self) -> None:
        """Nothing is started before each host of an earlier service was heard out, or has surely ended what it ran."""
        if self._hosts.all_found:
            return
        was_listed = self._hosts.listed
        if self._hosts.are_all_found():
            self._hosts.all_found = True
            self._tell(AllFound())
            self._hosts.claim(self._connection.epoch)
            self._hand_out()
        elif was_listed and not self._hosts.listed:
            self._find()

    def _is_dead(self, host: KnownHost) -> None:
        """Its process is gone, or of no use. What it ran is killed there, at the latest when its lease is over."""
        if host.state != "dead":
            logger.warning("host_is_dead", host=host.name, attempts=len(host.held))
            host.state = "dead"
            self._placement.shun(
                host.node, self._clock() + _SHUNNED
            )  # perhaps all of it is gone; if not, the others there say so
            self._capacity_touched = True
            if not (host.held or host.foreign) and (host.caught_up or not host.earlier):
                self._drop(host)

    def _drop(self, host: KnownHost) -> None:
        """Nothing is left there."""
        del self._hosts.by_name[host.name]
        self._connection.forget(host)
        self._have_ended(host.name, greet=host.state in ("sought", "silent"))
        self._capacity_touched = True

    def _have_ended(self, name: str, *, greet: bool) -> None:
        """Who was not heard of for long may obey a later service by now, so it is greeted first.

        It is ended once it has obeyed; or when it does not answer, though the head of the cluster does. Not while the
        log may be another's, and the host with it: a head that is heard may stand on this machine, behind no cable.
        """
        if self._connection.is_replaced:
            return
        if self._connection.owns():
            self._hosts.is_ending(name, self._connection.end(name, greet=greet))
        else:
            self._hosts.is_ending(name, Ending(self._clock(), may_kill=False))

    def _on_farewell(self, name: str, later: int | None) -> None:
        if name in self._hosts.ending:
            if later is not None:
                self._is_replaced(name, later)
            self._have_ended(name, greet=False)

    def _is_replaced(self, host: str, epoch: int) -> None:
        """A later service has taken the host over. So this one is none any more; the log will tell it so.

        Unless it was restored from a backup, which knows nothing of that service. Only a person can tell.
        """
        own = self._connection.epoch
        if not self._connection.is_replaced:
            logger.error("service_was_replaced", host=host, epoch=epoch, own=own)
        self._connection.is_replaced = True
        self._hosts.ending.clear()
        trouble = "A later service has taken over the workers"
        if epoch > own:
            trouble += (
                f": they obey epoch {epoch}, and this one has {own}. If that service is gone, because this log "
                "was restored from a backup, end what it has left with `ray stop` on each node, and start again"
            )
        self._set_trouble(trouble)
        self._capacity_touched = True

    def _set_trouble(self, trouble: str) -> None:
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble:
                logger.warning("cluster_trouble", trouble=trouble)

    def _name_of(self, node: str) -> str:
        return self._placement.name_of(node) or "unknown"

    def _write_what_has_changed(self) -> None:
        with self.lock:
            if error := self._hosts.write_if_touched():
                logger.warning("hosts_not_written", error=error)
                self.reactor.at(_MAKE_AGAIN_AFTER, self._hosts.touch)

    # --- with the lock held: nodes ---------------------------------------------------------------------------------

    def _make_missing(self) -> None:
        """Make a host for each slot that has none."""
        of = self._connection
        if not self._hosts.listed or not of.is_connected or self._closing or of.is_replaced or not of.owns():
            return
        if self._clock() < self._make_at:
            return
        hosts = self._hosts.by_name.values()
        held = {host.slot for host in hosts if host.is_lasting or host.state == "sought"}
        missing = [slot for slot in range(self._slots) if slot not in held]
        made: list[KnownHost] = []
        trouble = "" if not missing and not any(host.state == "new" for host in hosts) else self._trouble
        for slot in missing:
            now = self._clock()
            is_seen = now - of.nodes_seen < _NODES_HOLD
            place = self._placement.choose(self._homes(made), now) if is_seen else None
            if place is None:
                trouble = self._why_no_node(len(missing) - len(made))
                break
            node, gpus = place
            named = HostName(self._cluster, slot, self._lease, gpus)
            host = KnownHost(host_name(named), named, "new", self._hosts.new_fence(), now, node.id)
            host.caught_up = True
            made.append(host)
        self._set_trouble(trouble)
        if error := self._hosts.add(made):
            self._make_at = self._clock() + _MAKE_AGAIN_AFTER
            self._set_trouble(f"No worker can be made while their list cannot be written: {error}")
            return
        for host in made:
            needs = self._placement.needs
            resources = {**needs.resources, **({"GPU": float(host.gpus)} if host.gpus else {})}
            self.link.send(Create(host.name, self._settings, host.node, needs.cpus, needs.memory, resources))
            of.pump(host)

    def _homes(self, made: Iterable[KnownHost]) -> Iterator[Home]:
        for host in (*self._hosts.by_name.values(), *made):
            yield Home(host.node, host.gpus, host.made_at, host.is_lasting)

    def _move_away(self) -> None:
        """Give up idle hosts on nodes that are being drained: others take their slots where there is room."""
        with self.lock:
            awaited = {run.node for run in self._work.waiting.values()}
            for host in [host for host in self._hosts.by_name.values() if host.state in ("new", "ready")]:
                if not self._placement.is_avoided(host.node) or self._placement.name_of(host.node) in awaited:
                    continue
                if host.is_free:
                    self._drop(host)
            self._make_missing()

    def _not_made(self, host: KnownHost, why: str) -> None:
        """Another one is made later: what is wrong there may stay so."""
        self._make_at = self._clock() + _MAKE_AGAIN_AFTER
        self._placement.shun(host.node, self._clock() + _SHUNNED)
        self._set_trouble(f"A worker could not be started on node {self._name_of(host.node)}: {why}")
        self._drop(host)

    def _why_no_node(self, missing: int) -> str:
        if (ago := self._clock() - self._connection.nodes_seen) >= _NODES_HOLD:
            many = f"{missing} of {counted(self._slots, 'worker')} {plural(missing, 'has', 'have')} no node"
            return f"{many}: the cluster's head was last heard {ago:.0f} s ago"
        return self._placement.why_nowhere(missing, self._slots)

    # --- in the reactor's thread -----------------------------------------------------------------------------------

    def _connect(self) -> None:
        with self.lock:
            if self._closing:
                return
            before, epoch = self._connection.epoch, self._ask_epoch()
            self._connection.epoch = epoch
            if not epoch:  # no host may be told anything
                self.reactor.at(_AGAIN_AFTER, self._connect)
                return
            if not before:  # the log may have been taken only now
                self._hosts.count_from(self._clock())
            self._hosts.know(epoch)
            self._connection.starts()
            try:
                self.link.start(self._on_report, self._on_gone)
            except Exception as error:  # whatever it was, another one is tried
                logger.exception("gateway_not_started")
                self._on_gone(str(error))

    def _on_report(self, report: GatewayReport) -> None:
        if (farewell := self._connection.farewell(report)) is not None:
            self._on_farewell(*farewell)
            return
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
                self._hosts.is_gone(report.host)

    def _on_pulse(self, pulse: Pulse) -> None:
        is_new = self._connection.beats(pulse)
        if (seen := self._placement.told(pulse.nodes)) is not None or is_new:
            self._tell(NodesSeen(self._placement.seen() if seen is None else seen))
            self._capacity_touched = True  # the workers are told by the names of their nodes
        if is_new:
            logger.info("cluster_reached", nodes=len(pulse.nodes))
            for name in list(self._hosts.ending):
                self._have_ended(name, greet=True)
            for host in list(self._hosts.by_name.values()):
                self._connection.pump(host)
            self._hand_out()
        if not self._hosts.listed:  # also when the last question has come to nothing
            self._find()
        self._make_missing()

    def _find(self) -> None:
        now = self._clock()
        self._unlisted_since = now if self._unlisted_since is None else self._unlisted_since
        if now - self._unlisted_since > _LISTED_WITHIN:
            self._unlisted_since = None
            self._connection.replace(f"it has not told which workers there are for {_LISTED_WITHIN:g} s")
        else:
            self.link.send(Find(f"{self._cluster}-"))

    def _on_found(self, found: Found) -> None:
        """Who was not known is heard out, but not before the next service would know of it.

        When all others have surely ended what they ran, it is late: its attempts are recorded as interrupted.
        """
        self._unlisted_since = None
        strange = self._hosts.strange(found.names)
        if self._hosts.all_found:
            for name in strange:
                self._have_ended(name, greet=True)
        else:
            sought = [host for name in strange if (host := self._hosts.seek(name)) is not None]
            if error := self._hosts.add(sought):
                self._set_trouble(f"No worker can be used while their list cannot be written: {error}")
                return  # they are asked for again
            for host in sought:
                self._connection.pump(host)
        self._hosts.listed = True
        self._perhaps_all_found()
        self._make_missing()

    def _on_broken(self, broken: Broken) -> None:
        host = self._connection.broken(broken) if broken.number else self._hosts.by_name.get(broken.host)
        if host is None or self._hosts.by_name.get(host.name) is not host:
            return
        if host.state == "new" and (broken.is_dead or not broken.number):
            self._not_made(host, broken.why)
        elif broken.is_dead:
            logger.info("host_call_broken", host=host.name, why=broken.why)
            self._is_dead(host)
        else:
            self.reactor.at(_AGAIN_AFTER, lambda: self._try_again(host))

    def _try_again(self, host: KnownHost) -> None:
        with self.lock:
            self._connection.pump(host)

    def _on_gone(self, why: str) -> None:
        """The gateway is gone. Attempts are not; only nobody is heard until the next gateway is there."""
        why, restart_in = self._connection.is_gone(why)
        self._hosts.listed = False
        self._unlisted_since = None
        self._capacity_touched = True
        for host in self._hosts.by_name.values():
            host.asked_at = None
            host.late.clear()
        if not self._closing:
            self._set_trouble(f"The cluster cannot be reached: {why}. {_CONNECTING}")
            self.reactor.at(restart_in, self._connect)

    def _look(self) -> None:
        """Every now and then: who is not heard of any more, and whose fence is passed."""
        shortest = min([self._lease, *(host.lease for host in list(self._hosts.by_name.values()))])
        self.reactor.at(shortest / _LOOKS, self._look)  # first: whatever breaks below, fences go on to be looked at
        with self.lock:
            now = self._clock()
            self._connection.look(now, shortest, _LOOKS)
            self._look_whether_owned()
            for host in list(self._hosts.by_name.values()):
                try:
                    self._look_at(host, now)
                except Exception:  # one host that breaks must not cost the others
                    logger.exception("look_failed", host=host.name)
            for name, ending in list(self._hosts.ending.items()):
                if now - ending.asked_at > _END_AGAIN_AFTER:
                    self._have_ended(name, greet=not (ending.may_kill and self._connection.is_head_heard()))
            self._perhaps_all_found()
            self._hand_out()  # the end of a lost attempt has let the next one go
            if self._closing:
                self._go_on_closing(now)
            elif self._placement.avoided:
                self._move_away()

    def _look_whether_owned(self) -> None:
        owns, was_owned = self._connection.owns(), self._is_owned
        self._is_owned = owns
        if owns and not was_owned:
            logger.info("log_is_ours_again")
            for host in self._hosts.by_name.values():
                self._connection.call_again(host, 0.0)  # what is on its way bears an older stamp
                self._connection.pump(host)
        elif was_owned and not owns:
            logger.warning("log_may_be_taken", why="no lease is renewed until it is surely this service's again")

    def _look_at(self, host: KnownHost, now: float) -> None:
        if host.state in ("ready", "outdated") and now - host.heard_at > host.lease / 2:
            host.state = "silent"
            self._capacity_touched = True
        self._connection.call_again(host, host.lease * (_ASTRAY_SILENT if host.state == "silent" else _ASTRAY))
        if host.state == "new" and now - host.made_at > _MADE_WITHIN:
            self._not_made(host, f"it did not answer within {_MADE_WITHIN:g} s")
        elif host.fence.is_passed(now) and self._hosts.is_lost(host) and self._connection.may_give_up(now):
            self._give_up(host)

    def _give_up(self, host: KnownHost) -> None:
        """It has surely ended what it ran."""
        if host.state == "silent":
            self._placement.shun(host.node, self._clock() + _SHUNNED)
        self._work.give_up(host, self._name_of(host.node))
        self._drop(host)

    def _begin_to_close(self) -> None:
        with self.lock:
            self._closing = True
            self._work.unbegin_all()
            for host in self._hosts.by_name.values():
                if host.held:
                    self._work.end_all_of(host)
                    self._connection.pump(host)
            self._go_on_closing(self._clock())

    def _go_on_closing(self, now: float) -> None:
        if self._closed:
            return
        if self._connection.is_replaced:  # they are another's now
            self._hosts.by_name.clear()
            self._hosts.ending.clear()
        at_work = any(host.held or host.state == "sought" for host in self._hosts.by_name.values())
        if (at_work or self._reports or self._reporting) and now < self._close_at:
            return
        for host in list(self._hosts.by_name.values()):
            if host.held or host.unsettled or host.foreign or host.state == "sought":
                continue  # it ends with its lease, or keeps an end: the next service is told, or waits for it
            self._drop(host)
        self._gone_at = self._gone_at or now + _GONE_WITHIN
        if self._hosts.ending and self._connection.is_connected and now < self._gone_at:
            return
        self._closed = True
        try:
            if not self._connection.is_replaced:
                self._hosts.write()
            self.link.close()
        finally:
            self.reactor.finish()

    def _after_turn(self) -> None:
        if not (self._closing or self._connection.is_replaced):
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
            if ended := {(one.task_id, one.attempt) for one in reports if isinstance(one, AttemptEnded)}:
                self._work.were_reported(ended)
                self._hand_out()

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
