"""What the executor, its gateway and the hosts on the nodes say to each other.

Executor and gateway have a pipe each way, with frames as those of a worker. The gateway hands the payload of a `Call`
to a host and its answer back, and understands neither: so all that must survive it is in the executor.
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
    """All that a host has to know. Those of one service are alike, so that a later one sees whether its own are."""

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
    """Bytes that it may take where its type can choose; 0: unknown."""
    rules: SlotRules = SlotRules()
    sandbox: Sandbox = Sandbox()
    temp_root: str = ""
    """The temp folder, whose free space is looked at on the node."""
    output_root: str = ""
    max_output: int = 0
    hash_up_to: int = 0
    claims: Claims | None = None


class EndAll(Frame, frozen=True, tag="end_all"):
    """Kill all that runs, without a grace; it ends as stopped."""

    why: str


HostOrder: TypeAlias = Run | Stop | Grant | Saved | Settled | EndAll


class Hello(msgspec.Struct, frozen=True, array_like=True):
    """The first words of a service to a host. From here on the host obeys no earlier one."""

    epoch: int
    service: str
    """Tells services apart that have the same epoch, because one has a copy of the log. The last to greet is obeyed."""


class HeldAttempt(msgspec.Struct, frozen=True, array_like=True):
    """An attempt that a host has, over or not, whose end is not settled."""

    task_id: int
    attempt: int
    is_over: bool
    granted: bool


class Greeting(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `Hello`."""

    stamp: float
    settings: str
    """`fingerprint` of those that the host was made with."""
    node: str
    """The engine's name for where it is."""
    attempts: tuple[HeldAttempt, ...]
    trouble: str = ""
    """Why no attempt may run there; empty: they may."""


class Give(msgspec.Struct, frozen=True, array_like=True):
    """Orders in their order. A host carries out each number once, and none whose predecessor is missing."""

    epoch: int
    service: str
    stamp: float
    first: int
    """The number of the first."""
    orders: tuple[HostOrder, ...]


class Given(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `Give`."""

    stamp: float
    carried_out: int
    """The number of the last order that was carried out."""


class Watch(msgspec.Struct, frozen=True, array_like=True):
    """Asks for what was told after a number; answered as soon as there is something, or after some seconds."""

    epoch: int
    service: str
    stamp: float
    after: int
    seconds: float


HostReport: TypeAlias = (
    AttemptProgressed | AttemptBeat | AttemptCheckpointed | AttemptProbed | PublishWanted | AttemptEnded | WorkerGone
)


LOOKED_AT_EVERY = 1.0
"""Seconds between two looks of a host at its node: what it tells may be that old."""


class NodeUse(msgspec.Struct, frozen=True, array_like=True):
    """What a node has, as a host there sees it; not what is booked."""

    memory_total: int
    memory_available: int
    cpu_percent: float
    temp_total: int = UNLIMITED
    """Of the disk that the temp folder lies on there."""
    temp_free: int = UNLIMITED


class Told(msgspec.Struct, frozen=True, array_like=True):
    """The answer to `Watch`."""

    stamp: float
    last: int
    """The number of the last that was told so far. Not each number is still there."""
    reports: tuple[tuple[int, HostReport], ...]
    """Each with its number."""
    memory: tuple[tuple[int, int, int], ...] = ()
    """Task, attempt, and the bytes that its processes have in memory."""
    node: NodeUse | None = None
    """None: it has not been looked at yet."""


class Refused(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """The answer to a question of a service that is not obeyed, or to an order without a lease."""

    stamp: float
    why: Literal["epoch", "lease"]
    epoch: int
    """Of the service that is obeyed."""


class Answered(msgspec.Struct, frozen=True, array_like=True, tag=True):
    """Any other answer, encoded."""

    answer: msgspec.Raw


# --- between the executor and its gateway ---


class Find(Frame, frozen=True, tag="find"):
    """Say which hosts there are whose name begins so."""

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
    """Ask a host something."""

    number: int
    host: str
    method: Literal["hello", "give", "watch"]
    payload: bytes


class Kill(Frame, frozen=True, tag="kill"):
    """End the process of a host; all that it has started ends with it. Answered with `Gone`, or not at all."""

    host: str


GatewayOrder: TypeAlias = Find | Create | Call | Kill


class Node(msgspec.Struct, frozen=True, array_like=True):
    """A node of the cluster, as the engine sees it."""

    id: str
    name: str
    address: str
    total: dict[str, float]
    """`CPU`, `memory` in bytes, `GPU`, and what its operator has named."""
    free: dict[str, float]
    """Of these, what nothing has booked."""
    labels: dict[str, str] = {}


class Pulse(Frame, frozen=True, tag="pulse"):
    """The gateway lives. Said every second, and first when it is connected."""

    nodes: tuple[Node, ...]
    seen: float
    """Seconds ago, when the engine told so."""


class Found(Frame, frozen=True, tag="found_hosts"):
    """The answer to `Find`."""

    names: tuple[str, ...]


class Answer(Frame, frozen=True, tag="answer"):
    """What a host has answered."""

    number: int
    payload: bytes


class Broken(Frame, frozen=True, tag="broken"):
    """A call or a creation has come to nothing."""

    number: int
    """Of the call; 0: of a creation."""
    host: str
    is_dead: bool
    """Whether the host's process is surely gone, or never was. Otherwise it may have heard the call."""
    why: str


class Gone(Frame, frozen=True, tag="host_gone"):
    """The engine knows no host of this name any more, and none is being made. Behind a cut cable it may still live."""

    host: str


LAST_WORDS = "gateway: "
"""Before what the gateway says on standard error, where Ray and its crashes speak, too."""

GatewayReport: TypeAlias = Pulse | Found | Answer | Broken | Gone

gateway_order_decoder = msgspec.msgpack.Decoder(GatewayOrder)
gateway_report_decoder = msgspec.msgpack.Decoder(GatewayReport)
_encode = msgspec.msgpack.Encoder().encode


def pack(message: Any) -> bytes:
    """A payload."""
    return _encode(message)


def packed_answer(answer: Any) -> bytes:
    """The payload of an answer, refusals included."""
    return _encode(answer if isinstance(answer, Refused) else Answered(msgspec.Raw(_encode(answer))))


_answers = msgspec.msgpack.Decoder(Refused | Answered)


def unpacked_answer(payload: bytes, kind: Any) -> Any:
    """The answer: of this kind, or `Refused`. Raises `msgspec.MsgspecError`."""
    answer = _answers.decode(payload)
    return answer if isinstance(answer, Refused) else msgspec.msgpack.decode(answer.answer, type=kind)


def fingerprint(settings: bytes) -> str:
    """By which a service knows whether a host was made with the same settings."""
    return hashlib.sha256(settings).hexdigest()[:16]
