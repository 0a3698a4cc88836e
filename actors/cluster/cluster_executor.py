"""The executor that runs attempts on the nodes of a cluster, through hosts that have names and outlive this service.

Every decision is made here. The gateway only carries calls, so nothing is lost with it: orders are numbered and sent
again until a host has carried them out, and reports are requested again until they have come.

No end is reported while a process of the attempt may be alive. A host that is dead or silent has killed its attempts
when its lease is over. So they end as lost once the fence is passed, and not before.

The engine never queues: this executor chooses a node that has room now, and a host is made there. The engine never
retries either, and knows no priorities.
"""

import threading
import time
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
from ..executor import Capabilities, PendingOrders, Reporter
from ..logger import get_logger
from ..workers.reactor import Reactor
from .cluster_machine import UseThere
from .connection import Connection
from .gateway_process import GatewayLink
from .hand_out import HandOut
from .known_hosts import Ending, Key, KnownHost, KnownHosts
from .placement import GPU, Home, HostNeeds, Placement
from .roster import STOPS_WITHIN, HostName, Roster, host_name
from .wire import (
    LOOKED_AT_EVERY,
    CallFailed,
    Create,
    Find,
    GatewayReport,
    Greeting,
    HostAnswer,
    HostGone,
    HostReports,
    HostSettings,
    HostsFound,
    OrdersTaken,
    Pulse,
    Refused,
    fingerprint,
    pack,
)

_LOOKS = 20
"""Checks of hosts and fences within the time of a lease."""
_LOOK_WITHIN = 3.0
"""The most seconds between two checks."""
_ASTRAY, _ASTRAY_SILENT = 0.4, 0.1
"""Share of a lease after which a call is repeated; the second is for silent hosts."""
_ASTRAY_WITHIN = 30.0
"""The most seconds until a call is repeated: until then nothing newer is known of the node."""
_MADE_WITHIN = 30.0
"""Seconds that a new host may take until it answers."""
_AGAIN_AFTER = 0.2
"""Seconds until a failed call is repeated."""
_MAKE_AGAIN_AFTER = 5.0
"""Seconds until another host is made after one could not be made."""
_END_AGAIN_AFTER = 5.0
"""Seconds until a host that is not gone yet is ended again."""
_LISTED_WITHIN = 30.0
"""Seconds that a connected gateway may take to report which hosts there are."""
_SHUNNED = 60.0
"""Seconds for which other nodes are preferred to one whose worker fell silent; the engine may list it that long."""
_NODES_HOLD = 10.0
"""Seconds for which the list of nodes counts as current."""
_GONE_WITHIN = 2.0
"""Seconds for which a service that stops in good order waits for the news that its hosts are gone."""
_CONNECTING = "Run a node of the cluster on this machine, with the same token (RAY_AUTH_TOKEN_PATH)."

logger = get_logger(__name__)


def _look_every(lease: float) -> float:
    return min(_LOOK_WITHIN, lease / _LOOKS)


class ClusterExecutor:
    """Keeps a host for each slot on any node with room, and one thread that talks to them through the gateway.

    Args:
        link: makes the link to the gateway from this executor's reactor and lock.
        slots: how many attempts run at once.
        settings: the settings of each host.
        needs: what each host books on its node.
        epoch: returns this service's epoch, which is higher than that of every earlier one; 0 until its log is open.
        labels: label → how many of the slots offer it.
        roster: file that names the hosts for the next service; None for no file.
        margin: seconds that a host may take to end its attempts once its lease is over.
        owned: returns how many seconds ago the log was surely this service's; None if no other service can take it.
        restored: the log was put back to an earlier state, so the hosts' attempts do not belong to it.
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
        """Whether the log was surely this service's at the last check."""
        self._make_at = 0.0
        self._unlisted_since: float | None = None
        """Since when a connected gateway has not reported which hosts there are."""
        self._orders = PendingOrders(self.lock, self.reactor.post, self._carry_out, self._pump_touched)
        self._touched: dict[str, KnownHost] = {}
        """The hosts that have got orders which are not sent yet, by name."""
        self._reports: list[Report] = []
        self._reported_capacity = CapacityChanged(-1)
        self._capacity_touched = True
        self._trouble = "The cluster has not been reached yet"
        self._closing = self._closed = False
        self._close_at = self._gone_at = 0.0
        self._report: Reporter = lambda _: None
        self._to_report: SimpleQueue[list[Report]] = SimpleQueue()
        """Lists of reports for the reporting thread to pass on; an empty list ends it."""
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
        """Start the thread. It connects, and first finds the hosts of earlier services. Returns at once."""
        self._report = report
        self._connection.open()
        self._hosts.open()
        self.reactor.post(self._connect)
        self.reactor.at(_look_every(self._lease), self._look)
        self._thread.start()
        self._reporter.start()

    def capacity(self) -> int:
        """How many slots have a host that is ready and not silent."""
        with self.lock:
            return sum(1 for _ in self._usable())

    def memory(self) -> dict[Key, int]:
        """See `Executor`."""
        with self.lock:
            hosts = self._hosts.by_name.values()
            return {key: used for host in hosts for key, used in host.memory.items() if key in host.held}

    def do(self, orders: Sequence[Order]) -> None:
        """See `Executor`. While the executor's thread is at work, that thread carries the orders out itself."""
        self._orders.add(orders)

    def _carry_out(self, order: Order) -> None:
        """Note the order, and the hosts that now have orders to carry out."""
        if isinstance(order, TellHeld):
            self._tell(AttemptsHeld(order.number, (*self._work.attempts, *self._work.waiting)))
        elif isinstance(order, Avoid):
            self._placement.avoided = frozenset(order.nodes)
            self.reactor.post(self._move_away)
        elif isinstance(order, Run):
            self._work.take(order, closing=self._closing)
            self._touch(self._newly_given())
        else:
            self._touch(self._work.pass_order(order))

    def _touch(self, hosts: Iterable[KnownHost]) -> None:
        for host in hosts:
            self._touched[host.name] = host

    def _pump_touched(self) -> None:
        touched, self._touched = self._touched, {}
        for host in touched.values():
            self._connection.pump(host)

    def _newly_given(self) -> list[KnownHost]:
        """Give waiting runs to hosts, if runs may begin now. Returns the hosts that have got some."""
        of = self._connection
        if not self._hosts.all_found or self._closing or of.is_replaced or not of.owns():
            return []
        return self._work.hand_out() if of.is_connected else []

    def _hand_out(self) -> None:
        for host in self._newly_given():
            self._connection.pump(host)

    def let_go(self) -> None:
        """Leave the hosts and their attempts to a later service, which has the log. Call it before `close`."""
        with self.lock:
            self._connection.is_replaced = True
            self._hosts.ending.clear()

    def close(self, timeout: float) -> None:
        """See `Executor`. A host that does not answer in time ends with its lease, for which the next service waits."""
        if not self._thread.is_alive():
            self.reactor.dispose()
            return
        self._close_at = self._clock() + timeout
        self.reactor.post(self._begin_to_close)
        if not self.reactor.inside():
            self._thread.join(timeout + _GONE_WITHIN + 5.0)
            self._reporter.join(1.0)  # no longer, as a listener may wait for a disk

    # --- with the lock held: what runs where -----------------------------------------------------------------------

    def _usable(self) -> Iterator[KnownHost]:
        of = self._connection
        return self._hosts.usable() if of.is_connected and not of.is_replaced else iter(())

    def _heard(self) -> Iterator[KnownHost]:
        """The hosts that report what they see, whether or not they get attempts."""
        of = self._connection
        hosts = self._hosts.by_name.values() if of.is_connected and not of.is_replaced else ()
        return (host for host in hosts if host.state in ("ready", "outdated"))

    def _offer_of(self, host: KnownHost) -> Offer:
        """The labels of the host's worker."""
        labels = self._offers[host.slot] if host.slot < self._slots else ()
        return tuple(sorted({*labels, GPU})) if host.gpus else labels

    def uses(self) -> dict[str, UseThere]:
        """Node → its use, and that of the attempts there. Any thread may call it.

        Of the hosts there, the one counts that looked last. So no attempt was measured after the node was, unless its
        host is silent or of an earlier version: what one had taken in between would be in use, and among what is free,
        too.
        """
        with self.lock:
            now = self._clock()
            found = {node.node: UseThere(None, now - self._connection.nodes_seen) for node in self._placement.seen()}
            memory: dict[str, dict[Key, int]] = {}
            for host in self._hosts.by_name.values():
                there = memory.setdefault(self._placement.name_of(host.node), {})
                there.update(dict.fromkeys(host.held, 0) if host.state == "dead" else host.memory)
            looked = [host for host in self._heard() if host.use is not None]
            for host in sorted(looked, key=lambda host: (host.measured_at, host.used_at)):
                name = self._placement.name_of(host.node)
                found[name] = UseThere(host.use, now - host.used_at, memory[name] if host.measured_at else None)
            return found

    def _tell(self, report: Report) -> None:
        self._reports.append(report)
        if not self.reactor.inside():
            self.reactor.post(lambda: None)

    # --- with the lock held: hosts ---------------------------------------------------------------------------------

    def _on_answer(self, report: HostAnswer) -> None:
        answered = self._connection.answered(report)
        if answered is None or self._hosts.by_name.get(answered[0].name) is not answered[0]:
            return
        host, answer = answered
        if answer is None:  # its attempts end with its lease; the host is ended when they surely have
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
            case OrdersTaken():
                self._work.carried_out(host, answer.carried_out)
            case HostReports():
                self._on_reports(host, answer)
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

    def _on_reports(self, host: KnownHost, reports: HostReports) -> None:
        self._work.take_reports(host, reports.reports, reports.last)
        if reports.node is not None:
            host.use, host.used_at = reports.node, self._clock() - LOOKED_AT_EVERY
        host.memory = {(task_id, attempt): used for task_id, attempt, used in reports.memory}
        host.measured_at = reports.measured_at
        if not host.caught_up:
            host.caught_up = True
            self._perhaps_all_found()
        if host.outdated and host.is_free:
            self._drop(host)

    def _perhaps_all_found(self) -> None:
        """Report `AllFound` once each host of earlier services was heard to the end, or surely ended its attempts.

        Nothing is started before that.
        """
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
        """Note that a host's process is gone or useless. Its attempts are killed at the latest with its lease."""
        if host.state != "dead":
            logger.warning("host_is_dead", host=host.name, attempts=len(host.held))
            host.state = "dead"
            self._placement.shun(
                host.node, self._clock() + _SHUNNED
            )  # perhaps the whole node is gone; if not, an answer of another host there shows it
            self._capacity_touched = True
            if not (host.held or host.foreign) and (host.caught_up or not host.earlier):
                self._drop(host)

    def _drop(self, host: KnownHost) -> None:
        """Forget a host that has nothing left, and have it ended."""
        del self._hosts.by_name[host.name]
        self._connection.forget(host)
        self._have_ended(host.name, greet=host.state in ("sought", "silent"))
        self._capacity_touched = True

    def _have_ended(self, name: str, *, greet: bool) -> None:
        """Have a host ended. One that was silent for long may obey a later service by now, so it is greeted first.

        It is ended once it has obeyed, or if it does not answer although the head of the cluster does. It is not ended
        while the log, and so the host, may belong to another service: a head that answers may be on this machine and
        proves nothing about the network.
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
        """Note that a later service has taken the host over. So this service is replaced; its log will show that, too.

        A log that was restored from a backup knows nothing of that service. Then only a person can decide.
        """
        own = self._connection.epoch
        if not self._connection.is_replaced:
            logger.error("service_was_replaced", host=host, epoch=epoch, own=own)
        self._connection.is_replaced = True
        self._hosts.ending.clear()
        trouble = "A later service has taken over the workers"
        if epoch > own:
            trouble += (
                f": they follow epoch {epoch}, and this one has {own}. If that service is gone, because this log was "
                "restored from a backup, run `ray stop` on each node, and start again"
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
        """Make a host for each slot without one."""
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
            self._set_trouble(f"No worker can be started, because the list of workers cannot be written: {error}")
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
        """Give up idle hosts on nodes that are being drained. New hosts on other nodes with room take their slots."""
        with self.lock:
            awaited = {run.node for run in self._work.waiting.values()}
            for host in [host for host in self._hosts.by_name.values() if host.state in ("new", "ready")]:
                if not self._placement.is_avoided(host.node) or self._placement.name_of(host.node) in awaited:
                    continue
                if host.is_free:
                    self._drop(host)
            self._make_missing()

    def _not_made(self, host: KnownHost, why: str) -> None:
        """Drop a host that could not be made. Another one is made later, as the fault may last."""
        self._make_at = self._clock() + _MAKE_AGAIN_AFTER
        self._placement.shun(host.node, self._clock() + _SHUNNED)
        self._set_trouble(f"A worker could not be started on node {self._name_of(host.node)}: {why}")
        self._drop(host)

    def _why_no_node(self, missing: int) -> str:
        if self._clock() - self._connection.nodes_seen >= _NODES_HOLD:
            many = f"{missing} of {counted(self._slots, 'worker')} {plural(missing, 'has', 'have')} no node"
            return f"{many}: the cluster's head has been silent for more than {_NODES_HOLD:.0f} s"
        return self._placement.why_nowhere(missing, self._slots)

    # --- in the reactor's thread -----------------------------------------------------------------------------------

    def _connect(self) -> None:
        with self.lock:
            if self._closing:
                return
            before, epoch = self._connection.epoch, self._ask_epoch()
            self._connection.epoch = epoch
            if not epoch:  # without an epoch no host may be called
                self.reactor.at(_AGAIN_AFTER, self._connect)
                return
            if not before:  # the log may have been taken only now
                self._hosts.count_from(self._clock())
            self._hosts.know(epoch)
            self._connection.starts()
            try:
                self.link.start(self._on_report, self._on_gone)
            except Exception as error:  # after any error another gateway is tried
                logger.exception("gateway_not_started")
                self._on_gone(str(error))

    def _on_report(self, report: GatewayReport) -> None:
        if (farewell := self._connection.farewell(report)) is not None:
            self._on_farewell(*farewell)
            return
        match report:
            case Pulse():
                self._on_pulse(report)
            case HostsFound():
                self._on_found(report)
            case HostAnswer():
                self._on_answer(report)
            case CallFailed():
                self._on_broken(report)
            case HostGone():
                self._hosts.is_gone(report.host)

    def _on_pulse(self, pulse: Pulse) -> None:
        is_new = self._connection.beats(pulse)
        if (seen := self._placement.set_nodes(pulse.nodes)) is not None or is_new:
            self._tell(NodesSeen(self._placement.seen() if seen is None else seen))
            self._capacity_touched = True  # workers are reported with the names of their nodes
        if is_new:
            logger.info("cluster_reached", nodes=len(pulse.nodes))
            for name in list(self._hosts.ending):
                self._have_ended(name, greet=True)
            for host in list(self._hosts.by_name.values()):
                self._connection.pump(host)
            self._hand_out()
        if not self._hosts.listed:  # also if the last request has failed
            self._find()
        self._make_missing()

    def _find(self) -> None:
        now = self._clock()
        self._unlisted_since = now if self._unlisted_since is None else self._unlisted_since
        if now - self._unlisted_since > _LISTED_WITHIN:
            self._unlisted_since = None
            self._connection.replace(f"it has not listed the workers for {_LISTED_WITHIN:g} s")
        else:
            self.link.send(Find(f"{self._cluster}-"))

    def _on_found(self, found: HostsFound) -> None:
        """Take the list of hosts. A new one is heard to the end, but only after the next service would know of it.

        If `AllFound` was already reported, it is too late: its attempts are recorded as interrupted, and it is ended.
        """
        self._unlisted_since = None
        strange = self._hosts.strange(found.names)
        if self._hosts.all_found:
            for name in strange:
                self._have_ended(name, greet=True)
        else:
            sought = [host for name in strange if (host := self._hosts.seek(name)) is not None]
            if error := self._hosts.add(sought):
                self._set_trouble(f"No worker can be used, because the list of workers cannot be written: {error}")
                return  # they are requested again
            for host in sought:
                self._connection.pump(host)
        self._hosts.listed = True
        self._perhaps_all_found()
        self._make_missing()

    def _on_broken(self, broken: CallFailed) -> None:
        host = self._connection.broken(broken) if broken.number else self._hosts.by_name.get(broken.host)
        if host is None or self._hosts.by_name.get(host.name) is not host:
            return
        if host.state == "new" and (broken.is_dead or not broken.number):
            self._not_made(host, broken.why)
        elif broken.is_dead:
            logger.info("host_call_broken", host=host.name, why=broken.why)
            host.out_of_memory |= broken.out_of_memory
            self._is_dead(host)
        else:
            self.reactor.at(_AGAIN_AFTER, lambda: self._try_again(host))

    def _try_again(self, host: KnownHost) -> None:
        with self.lock:
            self._connection.pump(host)

    def _on_gone(self, why: str) -> None:
        """Note that the gateway is gone. Attempts go on, but no host is heard until the next gateway is there."""
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
        """Check at intervals which hosts are silent, and whose fence is passed."""
        shortest = min([self._lease, *(host.lease for host in list(self._hosts.by_name.values()))])
        self.reactor.at(_look_every(shortest), self._look)  # comes first, so that errors below do not end the checks
        with self.lock:
            now = self._clock()
            self._connection.look(now, shortest, _LOOKS)
            self._look_whether_owned()
            for host in list(self._hosts.by_name.values()):
                try:
                    self._look_at(host, now)
                except Exception:  # a failure at one host must not affect the others
                    logger.exception("look_failed", host=host.name)
            for name, ending in list(self._hosts.ending.items()):
                if now - ending.asked_at > _END_AGAIN_AFTER:
                    self._have_ended(name, greet=not (ending.may_kill and self._connection.is_head_heard()))
            self._perhaps_all_found()
            self._hand_out()  # the end of a lost attempt may let the next one begin
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
                self._connection.call_again(host, 0.0)  # calls on their way bear an older stamp
                self._connection.pump(host)
        elif was_owned and not owns:
            logger.warning("log_may_be_taken", why="no lease is renewed until it is surely this service's again")

    def _look_at(self, host: KnownHost, now: float) -> None:
        if host.state in ("ready", "outdated") and now - host.heard_at > host.lease / 2:
            host.state = "silent"
            self._capacity_touched = True
        share = _ASTRAY_SILENT if host.state == "silent" else _ASTRAY
        self._connection.call_again(host, min(_ASTRAY_WITHIN, share * host.lease))
        if host.state == "new" and now - host.made_at > _MADE_WITHIN:
            self._not_made(host, f"it did not answer within {_MADE_WITHIN:g} s")
        elif host.fence.is_passed(now) and self._hosts.is_lost(host) and self._connection.may_give_up(now):
            self._give_up(host)

    def _give_up(self, host: KnownHost) -> None:
        """Give up a host that has surely ended its attempts."""
        if host.state == "silent":
            self._placement.shun(host.node, self._clock() + _SHUNNED)
        self._work.give_up(host, self._name_of(host.node))
        self._drop(host)

    def _begin_to_close(self) -> None:
        with self.lock:
            self._closing = True
            self._work.end_all_waiting()
            for host in self._hosts.by_name.values():
                if host.held:
                    self._work.end_all_of(host)
                    self._connection.pump(host)
            self._go_on_closing(self._clock())

    def _go_on_closing(self, now: float) -> None:
        if self._closed:
            return
        if self._connection.is_replaced:  # the hosts belong to another service now
            self._hosts.by_name.clear()
            self._hosts.ending.clear()
        at_work = any(host.held or host.state == "sought" for host in self._hosts.by_name.values())
        if (at_work or self._reports or self._reporting) and now < self._close_at:
            return
        for host in list(self._hosts.by_name.values()):
            if host.held or host.unsettled or host.foreign or host.state == "sought":
                continue  # it ends with its lease, or keeps an end for the next service
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
        """Pass reports on in this thread: a listener may remove files on slow storage, and no lease may wait for it."""
        while reports := self._to_report.get():
            try:
                self._report(reports)
            except Exception:  # a listener's fault must not end the thread that reports all ends
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
            if capacity != self._reported_capacity and not self._closing:
                self._reported_capacity = capacity
                self._reports.append(capacity)
            self._make_missing()
