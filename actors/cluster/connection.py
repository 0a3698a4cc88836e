"""Calls hosts through the gateway: it knows the calls on their way, takes the answers, and watches the gateway.

It knows nothing of attempts. Calls may be lost, with a gateway or on the way, and are repeated. All of it is called
with the executor's lock held.
"""

import secrets
from collections.abc import Callable
from itertools import count
from typing import Any, Literal

import msgspec

from ..logger import get_logger
from .gateway_process import GatewayLink
from .known_hosts import Ending, KnownHost
from .lease import OWNED_FOR
from .wire import (
    Call,
    CallFailed,
    GatewayReport,
    Give,
    Greeting,
    Hello,
    HostAnswer,
    HostReports,
    Kill,
    OrdersTaken,
    Pulse,
    Refused,
    Watch,
    pack,
    unpacked_answer,
)

_WATCHES = 4
"""Watches within the time of a lease. Each renews it."""
_WATCH = 2.5
"""The most seconds of a watch, however long the lease is: what a host last told of its node may be that old."""
_LATE = 64
"""How many late answers of a host are still accepted after the calls were repeated; they are as good as others."""
_BEATS_MISSED = 3.0
"""Seconds of silence after which a gateway is replaced, or a third of the lease if that is longer."""
_CONNECTS_WITHIN = 60.0
"""Seconds that a gateway may take to reach the cluster."""
_HEAD_HEARD = 3.0
"""If the head of the cluster was heard within these seconds, a host that does not answer is at fault itself."""
_RESTART, _RESTART_MAX = 0.1, 5.0
"""Seconds until a gateway that is gone is replaced; they double while none connects."""

logger = get_logger(__name__)


class Connection:
    """Calls hosts in the name of this service.

    Args:
        link: the link to the gateway.
        lease: the lease in seconds of the hosts that this service makes.
        owned: returns how many seconds ago the log was surely this service's; None if no other service can take it.
        clock: seconds, monotonic.
    """

    def __init__(
        self, link: GatewayLink, *, lease: float, owned: Callable[[], float] | None, clock: Callable[[], float]
    ) -> None:
        self.link = link
        self._lease = lease
        self._owned = owned
        self._clock = clock
        self.epoch = 0
        self._service = secrets.token_hex(8)
        """Distinguishes this service from one with the same epoch, which has a copy of the log or a backup."""
        self.is_replaced = False
        """Whether a later service has the hosts."""
        self.is_there = self.is_connected = False
        """Whether there is a gateway, and whether it has reached the cluster."""
        self.nodes_seen = 0.0
        self._pulse_at = self._looked_at = self._patient_until = 0.0
        self._restart_in = _RESTART
        self._fault = ""
        """Why the gateway was killed."""
        self._numbers = count(1)
        self._calls: dict[int, tuple[KnownHost, str]] = {}
        self._farewells: dict[int, str] = {}
        """Number of a call → the host that is greeted once more, before it is ended."""

    def owns(self) -> bool:
        """Whether the log was surely this service's within `OWNED_FOR`. Only then may it renew a lease."""
        return self._owned is None or self._owned() < OWNED_FOR

    # --- calls to a host --------------------------------------------------------------------------------------------

    def pump(self, host: KnownHost) -> None:
        """Make the calls to a host that are due and not on their way."""
        if self.is_replaced or not self.is_connected or host.state == "dead":
            return
        if not host.greeted:
            if host.asked_at is None:
                host.asked_at = self._clock()
            self._call(host, "hello", Hello(self.epoch, self._service))
            return
        owns = self.owns()
        stamp = host.fence.grant() if owns else host.fence.granted
        if stamp is None:
            return
        if host.orders and owns:
            self._call(host, "give", Give(self.epoch, self._service, stamp, host.first, tuple(host.orders)))
        seconds = 0.0 if host.state == "silent" else min(_WATCH, host.lease / _WATCHES)
        self._call(host, "watch", Watch(self.epoch, self._service, stamp, host.after, seconds))

    def _call(self, host: KnownHost, method: Literal["hello", "give", "watch"], payload: Any) -> None:
        if method not in host.calls:
            number = next(self._numbers)
            host.calls[method] = (number, self._clock())
            self._calls[number] = (host, method)
            self.link.send(Call(number, host.name, method, pack(payload)))

    def call_again(self, host: KnownHost, patience: float) -> None:
        """Repeat calls that were not answered in time. Late answers count, too: a slow network is not a lost host."""
        now = self._clock()
        astray = [(method, number) for method, (number, since) in host.calls.items() if now - since > patience]
        for method, number in astray:
            del host.calls[method]
            host.late.append(number)
        while len(host.late) > _LATE:
            self._calls.pop(host.late.popleft(), None)
        if astray:
            self.pump(host)

    def answered(self, report: HostAnswer) -> tuple[KnownHost, Any] | None:
        """The host that has answered, and its answer: `Greeting`, `OrdersTaken`, `HostReports` or `Refused`.

        The answer is None if it is not understood; otherwise the host counts as heard. Returns None if no answer is
        awaited any more.
        """
        call = self._forget_call(report.number)
        if call is None:
            return None
        host, method = call
        kind = {"hello": Greeting, "give": OrdersTaken, "watch": HostReports}[method]
        try:
            answer = unpacked_answer(report.payload, kind)
        except (msgspec.MsgspecError, RecursionError):
            logger.exception("host_not_understood", host=host.name)
            return host, None
        now = self._clock()
        host.heard_at = now
        host.fence.heard(answer.stamp, now)
        return host, answer

    def broken(self, report: CallFailed) -> KnownHost | None:
        """The host whose call has failed, if the answer was still awaited."""
        call = self._forget_call(report.number)
        return None if call is None else call[0]

    def _forget_call(self, number: int) -> tuple[KnownHost, str] | None:
        call = self._calls.pop(number, None)
        if call is not None and call[0].calls.get(call[1], (0, 0.0))[0] == number:
            del call[0].calls[call[1]]
        return call

    def forget(self, host: KnownHost) -> None:
        """Stop waiting for answers of this host."""
        for number in (*host.late, *(number for number, _ in host.calls.values())):
            self._calls.pop(number, None)

    # --- the end of a host ------------------------------------------------------------------------------------------

    def end(self, name: str, *, greet: bool) -> Ending:
        """Have a host ended. `greet`: first ask it whether it obeys a later service by now."""
        if greet:
            number = next(self._numbers)
            self._farewells[number] = name
            self.link.send(Call(number, name, "hello", pack(Hello(self.epoch, self._service))))
        else:
            self.link.send(Kill(name))
        return Ending(self._clock(), may_kill=not greet or self.is_head_heard())

    def farewell(self, report: GatewayReport) -> tuple[str, int | None] | None:
        """The host that was greeted before its end, if the report is about that greeting; otherwise None.

        With it comes the epoch of another service that the host obeys, or None.
        """
        if not isinstance(report, HostAnswer | CallFailed):
            return None
        name = self._farewells.pop(report.number, None)
        if name is None or (isinstance(report, CallFailed) and not report.is_dead):
            return None
        if isinstance(report, HostAnswer):
            try:
                answer = unpacked_answer(report.payload, Greeting)
            except (msgspec.MsgspecError, RecursionError):
                logger.exception("host_not_understood", host=name)
            else:
                if isinstance(answer, Refused):
                    return name, answer.epoch
        return name, None

    # --- the gateway ------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Start counting silence."""
        self._pulse_at = self._looked_at = self._clock()

    def starts(self) -> None:
        """Note that there is a gateway. It still has to reach the cluster."""
        self._pulse_at = self._clock()
        self.is_there = True

    def beats(self, pulse: Pulse) -> bool:
        """Note that the gateway is alive. Returns whether it has just reached the cluster."""
        self._pulse_at = self._clock()
        self.nodes_seen = self._clock() - pulse.seen
        is_new, self.is_connected = not self.is_connected, True
        self._restart_in = _RESTART
        return is_new

    def is_head_heard(self) -> bool:
        """Whether the head of the cluster was heard within `_HEAD_HEARD`."""
        return self.is_connected and self._clock() - self.nodes_seen < _HEAD_HEARD

    def replace(self, why: str) -> None:
        """Kill a gateway that is of no use, so that the next one is started."""
        logger.error("gateway_is_of_no_use", why=why)
        self._fault = why
        self.link.kill()

    def is_gone(self, why: str) -> tuple[str, float]:
        """Forget all calls, as the gateway is gone. Returns why, in words, and the seconds until the next start."""
        self.is_there = self.is_connected = False
        self._farewells.clear()
        for number in list(self._calls):
            self._forget_call(number)
        why, self._fault = self._fault or why, ""
        restart_in, self._restart_in = self._restart_in, min(_RESTART_MAX, self._restart_in * 2)
        return why, restart_in

    def look(self, now: float, shortest: float, looks: int) -> None:
        """Check whether the gateway is heard. If this process stood still, have no host given up before it was asked.

        Args:
            now: the time by the clock.
            shortest: seconds of the shortest lease.
            looks: how often it is called within that lease.
        """
        if now - self._looked_at > shortest / 4 + shortest / looks:
            logger.warning("stood_still", seconds=now - self._looked_at)
            self._patient_until = now + max(shortest / 4, _BEATS_MISSED)
        self._looked_at = now
        patience = max(self._lease / 3, _BEATS_MISSED) if self.is_connected else _CONNECTS_WITHIN
        if self.is_there and now - self._pulse_at > patience and now >= self._patient_until:
            self._pulse_at = now
            self.replace(f"the process with its client was silent for {patience:g} s")

    def may_give_up(self, now: float) -> bool:
        """Whether silent hosts may be given up: not before they were asked, nor if they are another service's."""
        return not self.is_replaced and now >= self._patient_until
