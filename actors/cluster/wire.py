"""The messages between the executor, its gateway and the hosts on the nodes.

Executor and gateway have a pipe each way, with frames like those of a worker. The gateway passes the payload of a
`Call` to a host and the answer back, and understands neither. So everything that must survive it is in the executor.
"""

import hashlib
from typing import Any, Literal, TypeAlias

import msgspec

from ...events.reports import (
    AttemptBeat,
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProbed,
    AttemptProgressed,
    Frame,
    Grant,
    PublishWanted,
    Run,
    Saved,
    Settled,
    Stop,
    WorkerGone,
)
from ...handlers.manifests import Claims
from ...handlers.process.channel import IoRank
from ...handlers.process.sandbox import Sandbox
from ..core.limits import UNLIMITED
from ..workers.slot import SlotRules

# --- between the executor and a host: the payload of a call ---


class HostSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All that a host has to know. It is the same for all hosts of a service, so a later service can compare it."""

    version: str
    cluster: str
    """Names the service's log; part of every host's name."""
    lease: float
    homes: dict[str, str]
    pythonpath: tuple[str, ...] = ()
    pass_environment: tuple[str, ...] = ()
    nice: int = 0
    io: IoRank = "normal"
    cores: int = 1
    """CPUs that its attempt may keep busy."""
    memory: int = 0
    """Bytes that its attempt may take if the type can choose; 0 if unknown."""
    rules: SlotRules = SlotRules()
    sandbox: Sandbox = Sandbox()
    temp_root: str = ""
    """The temp folder, whose free space is measured on the node."""
    output_root: str = ""
    max_output: int = 0
    hash_up_to: int = 0
    claims: Claims | None = None


class EndAll(Frame, frozen=True, tag="end_all"):
    """Kill all running attempts, without a grace; they end as stopped."""

    why: str


HostOrder: TypeAlias = Run | Stop | Grant | Saved | Settled | EndAll


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The first message of a service to a host. From then on the host obeys no earlier service."""

    epoch: int
    service: str
    """Distinguishes services with the same epoch, of which one has a copy of the log. The last to greet is obeyed."""


class HeldAttempt(msgspec.Struct, frozen=True, array_like=True):
    """An attempt of a host whose end is not settled; it may be over."""

    task_id: int
    attempt: int
    is_over: bool
    granted: bool


class Greeting(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `Hello`."""

    stamp: float
    settings: str
    """`fingerprint` of the settings that the host was made with."""
    node: str
    """The engine's id of its node."""
    attempts: tuple[HeldAttempt, ...]
    trouble: str = ""
    """Why no attempt may run there; empty if they may."""


class Give(msgspec.Struct, frozen=True, array_like=True):
    """Orders in sequence. A host carries out each number once, and none whose predecessor is missing."""

    epoch: int
    service: str
    stamp: float
    first: int
    """The number of the first order."""
    orders: tuple[HostOrder, ...]


class OrdersTaken(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `Give`."""

    stamp: float
    carried_out: int
    """The number of the last order that was carried out."""


class Watch(msgspec.Struct, frozen=True, array_like=True):
    """Asks for reports after a number. Answered as soon as there is one, or after `seconds`."""

    epoch: int
    service: str
    stamp: float
    after: int
    seconds: float


HostReport: TypeAlias = (
    AttemptProgressed | AttemptBeat | AttemptCheckpointed | AttemptProbed | PublishWanted | AttemptEnded | WorkerGone
)


LOOKED_AT_EVERY = 1.0
"""Seconds between two samples that a host takes of its node: what it reports may be that old."""


class NodeUse(msgspec.Struct, frozen=True, array_like=True):
    """The resources of a node as a host there measures them, not as they are booked."""

    memory_total: int
    memory_available: int
    cpu_percent: float
    temp_total: int = UNLIMITED
    """Of the disk that holds the temp folder there."""
    temp_free: int = UNLIMITED


class HostReports(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `Watch`."""

    stamp: float
    last: int
    """The number of the last report so far. Some earlier numbers may be gone."""
    reports: tuple[tuple[int, HostReport], ...]
    """Each with its number."""
    memory: tuple[tuple[int, int, int], ...] = ()
    """Task, attempt, and the bytes that its processes have in memory."""
    node: NodeUse | None = None
    """None if it was not measured yet."""
    measured_at: float = 0.0
    """When it had measured the memory and went on to measure the node, by its clock, which all hosts there share.

    0 if it cannot measure the memory, or did not yet, or does not say so (an earlier version).
    """


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The answer to a service that is not obeyed, or to orders without a lease."""

    stamp: float
    why: Literal["epoch", "lease"]
    epoch: int
    """The epoch of the service that is obeyed."""


class Answered(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Any other answer, encoded."""

    answer: msgspec.Raw


# --- between the executor and its gateway ---


class Find(Frame, frozen=True, tag="find"):
    """List the hosts whose name begins with `prefix`."""

    prefix: str


class Create(Frame, frozen=True, tag="create"):
    """Make a host on a node, now or not at all."""

    name: str
    settings: bytes
    node: str
    cpus: float
    memory: int
    resources: dict[str, float]


class Call(Frame, frozen=True, tag="call"):
    """Call a method of a host."""

    number: int
    host: str
    method: Literal["hello", "give", "watch"]
    payload: bytes


class Kill(Frame, frozen=True, tag="kill"):
    """End the process of a host; all that it has started ends with it. Answered with `HostGone`, or not at all."""

    host: str


GatewayOrder: TypeAlias = Find | Create | Call | Kill


class Node(msgspec.Struct, frozen=True, array_like=True):
    """A node of the cluster, as the engine sees it."""

    id: str
    name: str
    address: str
    total: dict[str, float]
    """`CPU`, `memory` in bytes, `GPU`, and the resources that its operator has named."""
    free: dict[str, float]
    """The part of them that is not booked."""
    labels: dict[str, str] = {}


class Pulse(Frame, frozen=True, tag="pulse"):
    """The gateway is alive. Sent every second, from when it is connected."""

    nodes: tuple[Node, ...]
    seen: float
    """How many seconds ago the engine listed these nodes."""


class HostsFound(Frame, frozen=True, tag="found_hosts"):
    """The answer to `Find`."""

    names: tuple[str, ...]


class HostAnswer(Frame, frozen=True, tag="answer"):
    """The answer of a host."""

    number: int
    payload: bytes


class CallFailed(Frame, frozen=True, tag="broken"):
    """A call or a creation has failed."""

    number: int
    """The number of the call; 0 for a creation."""
    host: str
    is_dead: bool
    """Whether the host's process is surely gone, or never was. Otherwise it may have heard the call."""
    why: str
    out_of_memory: bool = False
    """Whether the engine has killed it, because memory was about to run out on its node."""


class HostGone(Frame, frozen=True, tag="host_gone"):
    """The engine knows no host of this name any more, and none is being made. On a node that is cut off it may live."""

    host: str


LAST_WORDS = "gateway: "
"""Prefix of the gateway's own lines on standard error, to which Ray and its crashes write, too."""

GatewayReport: TypeAlias = Pulse | HostsFound | HostAnswer | CallFailed | HostGone

gateway_order_decoder = msgspec.msgpack.Decoder(GatewayOrder)
gateway_report_decoder = msgspec.msgpack.Decoder(GatewayReport)
_encode = msgspec.msgpack.Encoder().encode


def pack(message: Any) -> bytes:
    """Encode a payload."""
    return _encode(message)


def packed_answer(answer: Any) -> bytes:
    """Encode the payload of an answer or a refusal."""
    return _encode(answer if isinstance(answer, Refused) else Answered(msgspec.Raw(_encode(answer))))


_answers = msgspec.msgpack.Decoder(Refused | Answered)


def unpacked_answer(payload: bytes, kind: Any) -> Any:
    """Decode an answer: one of this kind, or `Refused`. Raises `msgspec.MsgspecError`."""
    answer = _answers.decode(payload)
    return answer if isinstance(answer, Refused) else msgspec.msgpack.decode(answer.answer, type=kind)


def fingerprint(settings: bytes) -> str:
    """A hash by which a service sees whether a host was made with the same settings."""
    return hashlib.sha256(settings).hexdigest()[:16]
