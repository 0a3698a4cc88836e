"""Which hosts there are, what is known of each, and what the next service will know of them.

It never tells anybody anything: it answers what is to be told. All of it is called with the executor's lock held.
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
"""Seconds that a host of an earlier service is given for its first answer, once the cluster is reached."""

Key: TypeAlias = tuple[int, int]
"""Task and number of an attempt."""
HostState: TypeAlias = Literal["sought", "new", "ready", "silent", "dead", "outdated"]
"""Sought: of an earlier service, and not heard of yet. Outdated: of other settings; what it runs is its last."""

logger = get_logger(__name__)


class KnownHost:
    """What is known of a host. It is guarded by the executor's lock."""

    def __init__(self, name: str, named: HostName, state: HostState, fence: Fence, now: float, node: str = "") -> None:
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
        self.held: dict[Key, Run | None] = {}
        """Attempts that it has, and that have not ended. None: one that an earlier service gave it."""
        self.stopping: set[Key] = set()
        self.foreign: set[Key] = set()
        """Attempts that it has, and that are none of this log. They are stopped, and their ends are nobody's."""
        self.unsettled: set[Key] = set()
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
        self.memory: dict[Key, int] = {}
        self.use: NodeUse | None = None
        """What its node has, and …"""
        self.used_at = 0.0
        """… when it said so."""

    @property
    def is_free(self) -> bool:
        """Whether nothing is left to do with it."""
        return not (self.held or self.foreign or self.unsettled or self.orders)

    @property
    def is_lasting(self) -> bool:
        """Whether it is there, or will be."""
        return self.state in ("new", "ready", "silent")

    @property
    def shares(self) -> bool:
        """Whether it runs short attempts."""
        return bool(self.held) and all(run is not None and run.shared_workers for run in self.held.values())


class Ending(NamedTuple):
    """Of a host that is to be ended."""

    asked_at: float
    may_kill: bool
    """Whether it may be ended when it has not answered until then."""


class KnownHosts:
    """The hosts of one log, and the list of them that the next service finds.

    Args:
        roster: the list's file.
        cluster: names the log; part of every host's name.
        lease: seconds, of the hosts that this service makes.
        margin: seconds that a host may take to end what it runs once its lease is over.
        clock: seconds, monotonic.
        may_be_shared: whether an earlier service may live that does not know that it was replaced.
        restored: the log was put back to an earlier one, so what hosts have is not of it.
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
        """Whether the gateway has told which hosts there are; and whether no other one can have an attempt."""
        self.restored = restored
        self.opened_at = 0.0
        self.fence = Fence(lease, margin, 0.0)
        """When hosts have surely stopped of which nothing is known."""
        self._roster = roster
        self._roster_epoch = 0
        """The last service's, as long as only that one's list is known to be whole."""
        self._is_known = self._listed_late = False
        """Whether the last service has left a list of all hosts; and whether it was asked for them again when the fence
        was passed."""
        self._is_touched = False
        """Whether the list has to be written anew."""
        self._cluster = cluster
        self._lease, self._margin = lease, margin
        self._clock = clock
        self._may_be_shared = may_be_shared
        self._since = 0.0

    def open(self) -> None:
        """Read which hosts the last service has left."""
        self._roster_epoch, names = self._roster.read()
        for name in names:
            self.seek(name)
        self.count_from(self._clock())

    def count_from(self, now: float) -> None:
        """The log was taken now. Whoever does not know that he was replaced may grant leases for a while yet."""
        self.opened_at = now
        self._since = now + (OWNED_FOR * (1 + DRIFT) if self._may_be_shared else 0.0)
        self.fence = Fence(self._lease, self._margin, self._since)
        for host in self.by_name.values():
            host.fence = Fence(host.lease, self._margin, self._since)

    def new_fence(self) -> Fence:
        """Of a host that is made now."""
        return Fence(self._lease, self._margin, self._clock())

    # --- who is there -----------------------------------------------------------------------------------------------

    def usable(self) -> Iterator[KnownHost]:
        """Those that may be given something, if the cluster is reached."""
        return (host for host in self.by_name.values() if host.state == "ready" and self._roster.names(host.name))

    def seek(self, name: str) -> KnownHost | None:
        """Note that there is, or was, one of this name. Whatever else is named so there is no host of this log."""
        named = parsed_name(name)
        if named is None or named.cluster != self._cluster:
            return None
        fence = Fence(named.lease, self._margin, self._since)
        host = self.by_name[name] = KnownHost(name, named, "sought", fence, self._clock())
        host.earlier = True
        return host

    def strange(self, names: Iterable[str]) -> list[str]:
        """Those of the names that are of hosts of this log, and that nothing is known of."""
        new = (name for name in names if name not in self.by_name and name not in self.ending)
        return [name for name in new if (named := parsed_name(name)) is not None and named.cluster == self._cluster]

    def add(self, hosts: Iterable[KnownHost]) -> str:
        """Have them in the list before they are used; why that came to nothing, or nothing.

        A host that the next service did not know of could not be fenced.
        """
        hosts = list(hosts)
        self.by_name.update((host.name, host) for host in hosts)
        error = self.write() if hosts else ""
        if error:
            for host in hosts:
                del self.by_name[host.name]
        return error

    def is_lost(self, host: KnownHost) -> bool:
        """Whether nobody waits for it any more, once its fence is passed.

        What an earlier service has left may keep ends. Nothing starts meanwhile, so they are waited for.
        """
        if host.state == "sought":
            return host.asked_at is not None and self._clock() - host.asked_at > min(_ANSWERS_WITHIN, host.lease)
        return host.state in ("silent", "dead")

    def are_all_found(self) -> bool:
        """Whether each host of an earlier service was heard out, or has surely ended what it ran.

        Where no list is known to be whole, they are to be asked for once more when the fence is passed: the last
        service may have made one since that was asked. Then `listed` is false again.
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
        """This is the epoch of this service. The list is believed only if the one before has written it."""
        self._is_known = self._is_known or (self._roster_epoch == epoch - 1 and not self.restored)
        self.claim(epoch)

    def claim(self, epoch: int) -> None:
        """From here on the list names all hosts that may hold attempts, unless some may be unknown."""
        if epoch and (self._is_known or self.all_found) and self._roster_epoch != epoch:
            self._roster_epoch, self._is_touched = epoch, True

    def touch(self) -> None:
        """The list has to be written anew, in a while."""
        self._is_touched = True

    def write_if_touched(self) -> str:
        """Once for all that a turn has brought. A host that must not be missing in it was written before."""
        return self.write() if self._is_touched else ""

    def write(self) -> str:
        """Why that came to nothing, or nothing. Names too many do no harm."""
        self._is_touched = False
        try:
            self._roster.write(self._roster_epoch, (*self.by_name, *self.ending))
        except OSError as error:
            return str(error)
        return ""

    def is_gone(self, name: str) -> None:
        """The engine knows it no more. It stayed in the list so long: whoever is not in it must not hold an attempt."""
        if self.ending.pop(name, None) is not None:
            self._is_touched = True

    def is_ending(self, name: str, ending: Ending) -> None:
        """It is of no use any more."""
        self._is_touched |= name not in self.ending
        self.ending[name] = ending
