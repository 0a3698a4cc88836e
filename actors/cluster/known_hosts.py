"""The known hosts: which there are, the state of each, and the list of them for the next service.

This module sends nothing; it only answers its caller. All of it is called with the executor's lock held.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

from ..logger import get_logger
from .lease import DRIFT, OWNED_FOR, Fence
from .roster import HostName, Roster, parsed_name

if TYPE_CHECKING:
    from ...events.reports import Run
    from .wire import HostOrder, NodeUse

_ANSWERS_WITHIN = 5.0
"""Seconds that a host of an earlier service has for its first answer, once the cluster is reached."""

Key: TypeAlias = tuple[int, int]
"""Task and number of an attempt."""
HostState: TypeAlias = Literal["sought", "new", "ready", "silent", "dead", "outdated"]
"""Sought: made by an earlier service, and not heard yet. Outdated: has other settings, for example, and gets no more
attempts."""

logger = get_logger(__name__)


class KnownHost:
    """The state of a host. It is guarded by the executor's lock."""

    def __init__(self, name: str, named: HostName, state: HostState, fence: Fence, now: float, node: str = "") -> None:
        self.name = name
        self.slot = named.slot
        self.gpus = named.gpus
        self.lease = named.lease
        self.state = state
        self.fence = fence
        self.node = node
        self.made_at = self.heard_at = now
        self.out_of_memory = False
        """Whether the engine has killed it, because memory was about to run out on its node."""
        self.earlier = False
        """Whether an earlier service has made it."""
        self.asked_at: float | None = None
        """When it was first greeted on this connection; None if it was not yet."""
        self.greeted = False
        self.outdated = False
        self.caught_up = False
        """Whether all its reports from before this service have come."""
        self.held: dict[Key, Run | None] = {}
        """Its attempts that have not ended → the run, or None if an earlier service gave it."""
        self.stopping: set[Key] = set()
        self.foreign: set[Key] = set()
        """Its attempts that do not belong to this log. They are stopped, and their ends are not reported."""
        self.unsettled: set[Key] = set()
        """Attempts that have ended there, and whose end may not be recorded yet."""
        self.orders: deque[HostOrder] = deque()
        """Orders that it has not carried out, as far as is known."""
        self.first = 1
        """The number of the first of these orders."""
        self.after = 0
        """The number of the last report that has come."""
        self.calls: dict[str, tuple[int, float]] = {}
        """Method → number of the call that is on its way, and when it was made."""
        self.late: deque[int] = deque()
        """Calls that were repeated and whose first answers may still come."""
        self.memory: dict[Key, int] = {}
        """The memory of its attempts that it last reported, also of those that have ended since."""
        self.measured_at = 0.0
        """When it had measured that, by its own clock; 0 if it did not say."""
        self.use: NodeUse | None = None
        """The last use of its node that it reported."""
        self.used_at = 0.0
        """The time of that report."""

    @property
    def is_free(self) -> bool:
        """Whether it has no attempts, ends or orders left."""
        return not (self.held or self.foreign or self.unsettled or self.orders)

    @property
    def is_lasting(self) -> bool:
        """Whether it is there or will be there, and goes on."""
        return self.state in ("new", "ready", "silent")

    @property
    def shares(self) -> bool:
        """Whether it runs short attempts."""
        return bool(self.held) and all(run is not None and run.shared_workers for run in self.held.values())


class Ending(NamedTuple):
    """The state of a host that is to be ended."""

    asked_at: float
    may_kill: bool
    """Whether it may be ended at the next try, even if it has not answered by then."""


class KnownHosts:
    """The hosts of one log, and the list of them that the next service finds.

    Args:
        roster: the list's file.
        cluster: names the log; part of every host's name.
        lease: the lease in seconds of the hosts that this service makes.
        margin: seconds that a host may take to end its attempts once its lease is over.
        clock: seconds, monotonic.
        may_be_shared: whether an earlier service may be alive that does not know that it was replaced.
        restored: the log was put back to an earlier state, so the hosts' attempts do not belong to it.
    """

    def __init__(
        self,
        roster: Roster,
        *,
        cluster: str,
        lease: float,
        margin: float,
        clock: Callable[[], float],
        may_be_shared: bool,
        restored: bool,
    ) -> None:
        self.by_name: dict[str, KnownHost] = {}
        self.ending: dict[str, Ending] = {}
        """Hosts that are of no use any more, until the engine says that they are gone."""
        self.listed = self.all_found = False
        """`listed`: the gateway has listed the hosts. `all_found`: no other host can have an attempt."""
        self.restored = restored
        self.opened_at = 0.0
        self.fence = Fence(lease, margin, 0.0)
        """Tells when unknown hosts have surely stopped."""
        self._roster = roster
        self._roster_epoch = 0
        """The epoch of the last service whose list is known to name all hosts."""
        self._is_known = self._listed_late = False
        """`_is_known`: the last service has left a list of all hosts. `_listed_late`: the hosts were requested again
        after the fence was passed."""
        self._is_touched = False
        """Whether the list has to be written anew."""
        self._cluster = cluster
        self._lease, self._margin = lease, margin
        self._clock = clock
        self._may_be_shared = may_be_shared
        self._since = 0.0

    def open(self) -> None:
        """Read the list of hosts that the last service has left."""
        self._roster_epoch, names = self._roster.read()
        for name in names:
            self.seek(name)
        self.count_from(self._clock())

    def count_from(self, now: float) -> None:
        """Start all fences: the log was taken now. A service unaware of that may still grant leases for a while."""
        self.opened_at = now
        self._since = now + (OWNED_FOR * (1 + DRIFT) if self._may_be_shared else 0.0)
        self.fence = Fence(self._lease, self._margin, self._since)
        for host in self.by_name.values():
            host.fence = Fence(host.lease, self._margin, self._since)

    def new_fence(self) -> Fence:
        """The fence of a host that is made now."""
        return Fence(self._lease, self._margin, self._clock())

    # --- who is there -----------------------------------------------------------------------------------------------

    def usable(self) -> Iterator[KnownHost]:
        """The hosts that may get attempts, if the cluster is reached."""
        return (host for host in self.by_name.values() if host.state == "ready" and self._roster.names(host.name))

    def seek(self, name: str) -> KnownHost | None:
        """Note that there is, or was, a host of this name. None if the name is not that of a host of this log."""
        named = parsed_name(name)
        if named is None or named.cluster != self._cluster:
            return None
        fence = Fence(named.lease, self._margin, self._since)
        host = self.by_name[name] = KnownHost(name, named, "sought", fence, self._clock())
        host.earlier = True
        return host

    def strange(self, names: Iterable[str]) -> list[str]:
        """The names of unknown hosts of this log."""
        new = (name for name in names if name not in self.by_name and name not in self.ending)
        return [name for name in new if (named := parsed_name(name)) is not None and named.cluster == self._cluster]

    def add(self, hosts: Iterable[KnownHost]) -> str:
        """Write hosts into the list before they are used. Returns the error, or "".

        Without that the next service would not know them, and could not fence them.
        """
        hosts = list(hosts)
        self.by_name.update((host.name, host) for host in hosts)
        error = self.write() if hosts else ""
        if error:
            for host in hosts:
                del self.by_name[host.name]
        return error

    def is_lost(self, host: KnownHost) -> bool:
        """Whether a host may be given up once its fence is passed.

        A host of an earlier service may keep ends. Nothing starts before these have come, so it gets time to answer.
        """
        if host.state == "sought":
            return host.asked_at is not None and self._clock() - host.asked_at > min(_ANSWERS_WITHIN, host.lease)
        return host.state in ("silent", "dead")

    def are_all_found(self) -> bool:
        """Whether each host of an earlier service was heard to the end, or has surely ended its attempts.

        If no complete list of the last service is known, the hosts must be listed once more after the fence is passed,
        because that service may have made one since the first listing. Then `listed` is set to False.
        """
        if not self.listed or any(host.earlier and not host.caught_up for host in self.by_name.values()):
            return False
        if self._is_known:
            return True
        if not self.fence.is_passed(self._clock()):
            return False
        if not self._listed_late:
            self.listed, self._listed_late = False, True
            return False
        return True

    # --- the list of the next service -------------------------------------------------------------------------------

    def know(self, epoch: int) -> None:
        """Take this service's epoch. The list counts as complete only if the service just before has written it."""
        self._is_known = self._is_known or (self._roster_epoch == epoch - 1 and not self.restored)
        self.claim(epoch)

    def claim(self, epoch: int) -> None:
        """Note that from now on the list names all hosts that may hold attempts, unless some may be unknown."""
        if epoch and (self._is_known or self.all_found) and self._roster_epoch != epoch:
            self._roster_epoch, self._is_touched = epoch, True

    def touch(self) -> None:
        """Note that the list has to be written anew soon."""
        self._is_touched = True

    def write_if_touched(self) -> str:
        """Write the list once for all changes of a turn. Hosts that must be in it were already written before."""
        return self.write() if self._is_touched else ""

    def write(self) -> str:
        """Write the list. Returns the error, or "". Surplus names do no harm."""
        self._is_touched = False
        try:
            self._roster.write(self._roster_epoch, (*self.by_name, *self.ending))
        except OSError as error:
            return str(error)
        return ""

    def is_gone(self, name: str) -> None:
        """Drop a host that the engine no longer knows. Until now it stayed in the list: others must hold no attempt."""
        if self.ending.pop(name, None) is not None:
            self._is_touched = True

    def is_ending(self, name: str, ending: Ending) -> None:
        """Note that a host is being ended."""
        self._is_touched |= name not in self.ending
        self.ending[name] = ending
