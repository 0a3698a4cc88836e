"""The messages between the Scheduler and an executor about attempts: orders one way, reports the other.

The same Structs travel between an executor and its worker processes, as frames. Every message about an attempt
carries its number, so that a late message is recognised.
"""

from typing import Any, Literal, TypeAlias

import msgspec

from .task_events import Checkpoint, Estimated, Original, ReadInput

AttemptEnd: TypeAlias = Literal["completed", "failed", "rejected", "stopped", "interrupted", "lost", "outgrown"]


class Frame(msgspec.Struct, frozen=True, array_like=True, tag_field="frame", gc=False):
    """Encoded as an array that begins with its tag. Never in a reference cycle, so the garbage collector skips it."""


# --- orders: from the Scheduler to an executor, and on to the worker ---


class Run(Frame, frozen=True, tag="run"):
    """Run a handler. Answered by exactly one `AttemptEnded`."""

    task_id: int
    attempt: int
    type: str
    input_file: str
    output_file: str
    options: dict[str, Any]
    checkpoint: Checkpoint | None
    work_dir: str
    """The task's own folder; made when it is needed."""
    overwrite: bool = False
    grace: float = 0.5
    """Seconds between `Stop` and the kill."""
    estimate: Estimated = Estimated()
    """What was reserved for it, and how long it is expected to run."""
    probed: bool = False
    """Whether an earlier attempt has led to the estimate, by a probe or a kill; then the input is not probed again."""
    beat: float = 0.0
    """Seconds between two `AttemptBeat`; 0: none are wanted."""
    expected: float = 0.0
    """Seconds that the sender of the task expects it to take."""
    traceparent: str = ""
    """The trace (W3C) that the handler's own calls belong to."""
    depends_on: tuple[int, ...] = ()
    """The tasks that it has waited for."""
    dependency_names: dict[str, int] = {}
    """Their names in the graph that made them."""
    results: dict[int, dict[str, Any]] = {}
    """The results of the dependencies that have completed, by task. Filled in on the way to the executor."""
    no_results: str = ""
    """Why results are missing although there should be some; else empty."""
    offer: tuple[str, ...] = ()
    """All labels of the worker that it is to run on."""
    cores: int = 0
    """CPUs that it may keep busy beside the other attempts; 0: as many as if it ran alone."""
    original: Original = "keep"
    """What happens to the input once there is a result."""
    original_folder: str = ""
    """The folder to which the input is moved."""
    hash_input: bool = False
    """Whether its end is to report the SHA-256 of its input."""
    shared_workers: int = 0
    """For a short attempt: how many workers such attempts may keep busy now. One of them may run it after the attempts
    that it already has. 0: it has a worker to itself."""
    node: str = ""
    """The node of the worker that it is to run on; empty where there is only this machine."""
    input_url: str = ""
    """Where the input was fetched from, if it was; `input_file` is where it lies now. Set by the worker."""
    input_version: str = ""
    """SHA-256 of that input, in hex."""
    output_url: str = ""
    """Where the finished output is stored; `output_file` is where it is made. Set by the worker."""


class Stop(Frame, frozen=True, tag="stop"):
    """End the attempt. After its grace its whole process tree is killed."""

    task_id: int
    attempt: int


class Grant(Frame, frozen=True, tag="grant"):
    """The attempt is current: its output may be published now."""

    task_id: int
    attempt: int


class Saved(Frame, frozen=True, tag="saved"):
    """The checkpoint reported last is durable."""

    task_id: int
    attempt: int


class TellHeld(Frame, frozen=True, tag="tell_held"):
    """List the attempts in hand. Answered by one `AttemptsHeld` with the same number, after all earlier reports."""

    number: int


class Settled(Frame, frozen=True, tag="settled"):
    """The end of the attempt is recorded and is not asked for again. Sent where attempts outlive the service."""

    task_id: int
    attempt: int
    completed: bool = False
    """Whether it has completed its task, so that its temp files are not needed any more."""


class Avoid(Frame, frozen=True, tag="avoid"):
    """Only these nodes are being drained: keep no workers there except those that still run attempts."""

    nodes: tuple[str, ...]


WorkerBound: TypeAlias = Run | Stop | Grant | Saved


Order: TypeAlias = WorkerBound | TellHeld | Settled | Avoid


# --- reports: from a worker to its executor, and on to the Scheduler ---


class AttemptProgressed(Frame, frozen=True, tag="progressed"):
    """How far the attempt is, 0 to 100. At most two a second."""

    task_id: int
    attempt: int
    progress: float
    message: str = ""
    moved: int = 0
    """Bytes of a file elsewhere that were moved so far. They count as progress, but are not recorded."""


class AttemptBeat(Frame, frozen=True, tag="beat"):
    """The attempt's worker is alive. Sent every `Run.beat` seconds, whatever the handler does."""

    task_id: int
    attempt: int


class AttemptCheckpointed(Frame, frozen=True, tag="checkpointed"):
    """The attempt wants its resume data recorded and waits for `Saved`."""

    task_id: int
    attempt: int
    checkpoint: Checkpoint
    progress: float | None = None
    message: str = ""


class AttemptProbed(Frame, frozen=True, tag="probed"):
    """A probe of the input, before the handler was called, led to a better estimate."""

    task_id: int
    attempt: int
    estimate: Estimated


class PublishWanted(Frame, frozen=True, tag="publish"):
    """The output is complete under its hidden name; the attempt waits for `Grant`."""

    task_id: int
    attempt: int


class AttemptEnded(Frame, frozen=True, tag="ended"):
    """The attempt is over: its process tree is gone, or its worker is idle again and has no child left.

    `lost` means that the worker died by itself; `error` then says how. An attempt that was killed after `Stop` is
    `stopped`. One whose probe showed that it needs more than was reserved is `outgrown`. `interrupted` is not the
    attempt's fault: it was ended because no service was there for it.
    """

    task_id: int
    attempt: int
    outcome: AttemptEnd
    result: dict[str, Any] = {}
    message: str = ""
    error: str = ""
    error_type: str = ""
    memory_used: int = 0
    """Peak resident bytes. For a killed worker: of its own process only."""
    cpu_used: float = 0.0
    """CPU seconds, finished child processes included."""
    temp_used: int = 0
    """Peak bytes of temp files and unpublished output, as the worker sampled them."""
    time_used: float = 0.0
    """Seconds from the call of the handler to its end."""
    exit_code: int | None = None
    """Of the worker that died, or of the tool that the handler's exception names; negative: the signal."""
    memory_ran_out: bool | None = None
    """After SIGKILL: whether the kernel killed anything for lack of memory during the attempt; None: it counts none."""
    retry_on: str = ""
    """The error in the type's own `retry_on` that makes this failure retryable; empty if none does."""
    input_read: ReadInput | None = None
    tools: dict[str, str] = {}
    """Package → version, for the packages that the type names."""
    output_sha256: str = ""
    """In hex, as measured. Empty if the result says the same, or if it was not measured."""


class WorkerGone(Frame, frozen=True, tag="exited"):
    """A worker process is gone. For display only; the attempt it ran has a report of its own."""

    pid: int
    exit_code: int
    """Negative: the signal that killed it."""
    why: str


class CapacityChanged(Frame, frozen=True, tag="capacity"):
    """The number of attempts that can run at once has changed."""

    slots: int
    offers: tuple[tuple[str, ...], ...] = ()
    """The labels of each slot, if any has some."""
    nodes: tuple[str, ...] = ()
    """The node of each slot; empty where there is only this machine."""


class NodeSeen(Frame, frozen=True, kw_only=True, tag="node"):
    """A node that is present, and what it offers to all of its workers together."""

    node: str
    """Its name."""
    address: str = ""
    cpus: float = 0.0
    memory: int = 0
    """Bytes."""
    gpus: float = 0.0
    labels: dict[str, str] = {}


def node_names(name: str, address: str) -> frozenset[str]:
    """All names that a node may have: the address is appended while other nodes have the same name."""
    return frozenset((name, name.removesuffix(f"-{address}"), f"{name}-{address}")) if address else frozenset((name,))


class NodesSeen(Frame, frozen=True, tag="nodes"):
    """The nodes that are present. Sent once they are known and after each change; never where there are none."""

    nodes: tuple[NodeSeen, ...]


class AttemptsHeld(Frame, frozen=True, tag="held"):
    """The attempts that the executor held when it processed `TellHeld`: waiting, running, or being killed."""

    number: int
    attempts: tuple[tuple[int, int], ...]
    """Task and attempt."""


class AttemptFound(Frame, frozen=True, tag="found"):
    """An attempt that an earlier service started goes on. Its reports are passed on from here on."""

    task_id: int
    attempt: int
    publishing: bool
    """Whether it has been given its `Grant`."""
    offer: tuple[str, ...] = ()
    """The labels of its worker."""
    node: str = ""
    """The node of that worker."""


class AllFound(Frame, frozen=True, tag="all_found"):
    """All attempts of earlier services that are still alive have been reported."""


AttemptReport: TypeAlias = (
    AttemptProgressed | AttemptBeat | AttemptCheckpointed | AttemptProbed | PublishWanted | AttemptEnded
)
"""The reports of an attempt. `decide` takes them as they are, and refuses them when the attempt is over."""
Report: TypeAlias = AttemptReport | WorkerGone | CapacityChanged | NodesSeen | AttemptsHeld | AttemptFound | AllFound
