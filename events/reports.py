"""What the Scheduler and an executor say to each other about attempts: orders one way, reports the other.

The same Structs travel between an executor and its worker processes, as frames. Everything that is said about an
attempt carries its number, so that a late message can be told from a current one.
"""

from typing import Any, Literal, TypeAlias

import msgspec

from .task_events import Checkpoint, Estimated, Original, ReadInput

AttemptEnd: TypeAlias = Literal["completed", "failed", "rejected", "stopped", "interrupted", "lost", "outgrown"]


class Frame(msgspec.Struct, frozen=True, array_like=True, tag_field="frame", gc=False):
    """Encoded as an array behind its tag; never part of a reference cycle, so the collector need not look."""


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
    """Whether the estimate comes from a look into the input; then no other look is taken."""
    beat: float = 0.0
    """Seconds between two `AttemptBeat`; 0: none are wanted."""
    expected: float = 0.0
    """Seconds that the sender of the task expects it to take."""
    traceparent: str = ""
    """What the handler calls belongs into this trace (W3C)."""
    depends_on: tuple[int, ...] = ()
    """The tasks that it has waited for."""
    dependency_names: dict[str, int] = {}
    """Their names in the graph that made them."""
    results: dict[int, dict[str, Any]] = {}
    """What those that have completed recorded as their result. Put in on the way to the executor."""
    no_results: str = ""
    """Why there are none although there should be; empty otherwise."""
    offer: tuple[str, ...] = ()
    """The labels of the worker that it is to run on, all of them."""
    cores: int = 0
    """CPUs that it may keep busy beside what else runs; 0: as many as if it ran alone."""
    original: Original = "keep"
    """What becomes of the input once the result is there."""
    original_folder: str = ""
    """Where it is moved to."""
    hash_input: bool = False
    """Whether it says in its end what all the bytes of its input hash to."""
    shared_workers: int = 0
    """Of a short attempt: how many workers such attempts may keep busy now. It may be given to one of them, to be run
    after what is there. 0: it has a worker to itself."""
    node: str = ""
    """The node of the worker that it is to run on; empty where there is only this machine."""
    input_url: str = ""
    """Where the input was fetched from, once it was; `input_file` is where it lies now. Set by the worker."""
    input_version: str = ""
    """What all bytes of that input hash to (SHA-256, in hex)."""
    output_url: str = ""
    """Where the output is stored in the end; `output_file` is where it takes shape. Set by the worker."""


class Stop(Frame, frozen=True, tag="stop"):
    """Somebody wants the attempt to end. After the attempt's grace its whole process tree is killed."""

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
    """Say which attempts are in hand. Answered by one `AttemptsHeld` with the same number, behind all told before."""

    number: int


class Settled(Frame, frozen=True, tag="settled"):
    """The end of the attempt is recorded: nobody asks for it again. Said where attempts outlive the service."""

    task_id: int
    attempt: int
    completed: bool = False
    """Whether it has completed its task, so that nobody needs its temp files any more."""


class Avoid(Frame, frozen=True, tag="avoid"):
    """These nodes are being drained, and no others: keep no workers there beyond what still runs."""

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
    """Bytes of a file elsewhere that were moved so far. They are a step forward, and not recorded."""


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
    """A look into the input, before the handler was called, led to a better estimate."""

    task_id: int
    attempt: int
    estimate: Estimated


class PublishWanted(Frame, frozen=True, tag="publish"):
    """The output is complete under its hidden name; the attempt waits for `Grant`."""

    task_id: int
    attempt: int


class AttemptEnded(Frame, frozen=True, tag="ended"):
    """The attempt is over: its process tree is gone, or its worker is idle again and has no child left.

    `lost` means that the worker died by itself; `error` then tells how. An attempt that was killed after `Stop` is
    `stopped`, one that found its estimate to be more than was reserved is `outgrown`. `interrupted` is no fault of the
    attempt's: it was ended because no service was there for it.
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
    """Bytes of temp files and unpublished output, the most that was there when the worker looked."""
    time_used: float = 0.0
    """Seconds from the call of the handler to its end."""
    exit_code: int | None = None
    """Of the worker that died, or of the tool that the handler's exception speaks of; negative: the signal."""
    retry_on: str = ""
    """The error that the type itself says may be tried again after, where this is one."""
    input_read: ReadInput | None = None
    tools: dict[str, str] = {}
    """Package → version, of those that the type names."""
    output_sha256: str = ""
    """In hex, as it was found. Empty where the result says the same, and where nobody has looked."""


class WorkerGone(Frame, frozen=True, tag="exited"):
    """A worker process is gone. Only to be shown; the attempt it ran has a report of its own."""

    pid: int
    exit_code: int
    """Negative: the signal that killed it."""
    why: str


class CapacityChanged(Frame, frozen=True, tag="capacity"):
    """The number of attempts that can run at once has changed."""

    slots: int
    offers: tuple[tuple[str, ...], ...] = ()
    """The labels of each of them, where any has some."""
    nodes: tuple[str, ...] = ()
    """The node that each of them is on; empty where there is only this machine."""


class NodeSeen(Frame, frozen=True, kw_only=True, tag="node"):
    """A node that is there, and what it offers to all of its workers together."""

    node: str
    """Its name."""
    address: str = ""
    cpus: float = 0.0
    memory: int = 0
    """Bytes."""
    gpus: float = 0.0
    labels: dict[str, str] = {}


def also_called(name: str, address: str) -> frozenset[str]:
    """The names of a node while it is alone with its name, and while others have it, too: then with its address."""
    return frozenset((name, name.removesuffix(f"-{address}"), f"{name}-{address}")) if address else frozenset((name,))


class NodesSeen(Frame, frozen=True, tag="nodes"):
    """The nodes that are there: told once they are known, and then with each change. Never where there are none."""

    nodes: tuple[NodeSeen, ...]


class AttemptsHeld(Frame, frozen=True, tag="held"):
    """The attempts in the executor's hands when it came to `TellHeld`: waiting, running, or being killed."""

    number: int
    attempts: tuple[tuple[int, int], ...]
    """Task and attempt."""


class AttemptFound(Frame, frozen=True, tag="found"):
    """An attempt that an earlier service has started goes on, and all that it says is told from here on."""

    task_id: int
    attempt: int
    publishing: bool
    """Whether it was granted that its output appears."""
    offer: tuple[str, ...] = ()
    """The labels of its worker."""
    node: str = ""
    """Where that is."""


class AllFound(Frame, frozen=True, tag="all_found"):
    """Of earlier services no other attempt than those that were told lives any more."""


AttemptReport: TypeAlias = (
    AttemptProgressed | AttemptBeat | AttemptCheckpointed | AttemptProbed | PublishWanted | AttemptEnded
)
"""What an attempt says. `decide` takes it as it is, and refuses it when the attempt is over."""
Report: TypeAlias = AttemptReport | WorkerGone | CapacityChanged | NodesSeen | AttemptsHeld | AttemptFound | AllFound
