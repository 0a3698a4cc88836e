"""The metrics in the formats that Prometheus reads: text, or OpenMetrics if the client asks for it.

The values are kept elsewhere; this module names them by Prometheus' rules: base units, `_total` for counters.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .. import __version__
from ..actors.core.board import Resources
from ..actors.core.explanation import WaitReason
from ..actors.core.load import Load
from ..actors.core.node_board import NodeBoard
from .numbers import Distribution, ServiceNumbers
from .readings import Readings

_PERCENT = 100


class Exposition:
    """All metrics of one service, in a registry of their own.

    Args:
        numbers: the counts since the start; None where another process keeps them.
        look: takes a look at the service.
        more: further collectors.
        known: returns the type under which a task is counted; used only without `numbers`.
    """

    def __init__(
        self,
        numbers: ServiceNumbers | None,
        look: Callable[[], Readings],
        more: Iterable[Collector] = (),
        known: Callable[[str], str] = str,
    ) -> None:
        self._registry = CollectorRegistry()
        happened = () if numbers is None else (_CountsCollector(numbers),)
        for collector in (*happened, _StateCollector(look, known if numbers is None else numbers.known), *more):
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)

    def page(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics and their media type, chosen by the header `Accept`."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type


def counter(name: str, says: str, labels: tuple[str, ...], counts: Mapping[tuple[str, ...], float]) -> Metric:
    """Return a family of counters."""
    family = CounterMetricFamily(f"tasktrail_{name}", says, labels=labels)
    for values, number in sorted(counts.items()):
        family.add_metric(values, number)
    return family


def histogram(
    name: str, says: str, labels: tuple[str, ...], found: Mapping[tuple[str, ...], Distribution], unit: str = "seconds"
) -> Metric:
    """Return a family of histograms."""
    family = HistogramMetricFamily(f"tasktrail_{name}", says, labels=labels, unit=unit)
    for values, one in sorted(found.items()):
        bounds = (*(f"{float(bound)}" for bound in one.bounds), "+Inf")
        family.add_metric(values, list(zip(bounds, accumulate(one.counts), strict=True)), one.total)
    return family


def _gauge(name: str, says: str, value: float) -> Metric:
    return GaugeMetricFamily(f"tasktrail_{name}", says, value=value)


def _gauges(name: str, says: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(f"tasktrail_{name}", says, labels=(label,))
    for value, number in sorted(values.items()):
        family.add_metric((value,), number)
    return family


class _CountsCollector(Collector):
    """Collects the counts since the service started."""

    def __init__(self, numbers: ServiceNumbers) -> None:
        self._numbers = numbers

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        numbers = self._numbers
        numbers.count()
        yield counter("tasks_accepted", "Tasks that were created.", ("type",), numbers.created)
        yield counter("tasks_ended", "Lives of tasks that came to their end.", ("type", "status"), numbers.ended)
        yield counter("attempts_started", "Attempts that were given to a worker.", ("type",), numbers.started)
        yield counter(
            "attempts",
            "Attempts that are over; `lost` is one whose worker died.",
            ("type", "outcome"),
            numbers.attempts,
        )
        yield counter("retries", "Further attempts that were ordered, by what did.", ("type", "cause"), numbers.retries)
        yield histogram("task_wait", "Time in the queue before an attempt.", ("type",), numbers.waits)
        yield histogram("attempt", "Time that attempts took.", ("type", "outcome"), numbers.runs)
        yield counter("worker_deaths", "Worker processes that ended unexpectedly.", (), {(): numbers.deaths})
        yield counter("deliveries", "Tries to deliver a notice.", ("channel", "outcome"), numbers.deliveries)
        yield histogram("commit", "Time that commits to the log took.", (), {(): numbers.commits})
        yield counter("commit_records", "Records of all commits.", (), {(): numbers.records})
        yield counter("commit_bytes", "Size of the events of all commits, as JSON.", (), {(): numbers.bytes})


class _StateCollector(Collector):
    """Collects the current state of the service."""

    def __init__(self, look: Callable[[], Readings], known: Callable[[str], str]) -> None:
        self._look = look
        self._known = known

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        seen = self._look()
        build = InfoMetricFamily("tasktrail_build", "What runs.")
        build.add_metric((), {"version": __version__})
        yield build
        yield _gauge("ready", "Whether commands are accepted.", seen.ready)
        yield _gauge("degraded", "Things out of order although commands are accepted.", seen.degraded)
        yield _gauge("log_position", "The last position of the log.", seen.position)
        if seen.log_silent is not None:
            yield _gauge("log_silent_seconds", "Since the database of the log answered last.", seen.log_silent)
        if seen.log_bytes is not None:
            yield _gauge("log_size_bytes", "Size of the log's files.", seen.log_bytes)
        lag = {"views": seen.views_lag, "notices": seen.notices_lag}
        lags = {reader: number for reader, number in lag.items() if number is not None}
        yield _gauges("lag_records", "Records of the log that its reader does not have yet.", "reader", lags)
        if seen.notices_waiting is not None:
            yield _gauge("notices_waiting", "Notices neither delivered nor given up.", seen.notices_waiting)
        if seen.spans_sent is not None and seen.spans_dropped is not None:
            yield counter("spans_sent", "Spans that arrived.", (), {(): seen.spans_sent})
            yield counter("spans_dropped", "Spans that did not arrive or were left out.", (), {(): seen.spans_dropped})
        if seen.tasks is not None:
            yield self._tasks(seen.tasks)
        if seen.load is not None:
            yield from self._load(seen.load)

    def _tasks(self, numbers: Mapping[tuple[str, str], int]) -> Metric:
        counts: Counter[tuple[str, str]] = Counter()
        for (kind, status), number in numbers.items():
            counts[self._known(kind), status] += number
        family = GaugeMetricFamily(
            "tasktrail_tasks", "Tasks that there are, ended ones too.", labels=("type", "status")
        )
        for values, number in sorted(counts.items()):
            family.add_metric(values, number)
        return family

    def _load(self, load: Load) -> Iterator[Metric]:
        waiting = dict.fromkeys(map(str, WaitReason), 0) | load.waiting
        yield _gauges("queue_tasks", "Waiting tasks, each by one reason why it waits.", "reason", waiting)
        running: Counter[str] = Counter()
        for kind, number in load.running.items():
            running[self._known(kind)] += number
        yield _gauges("running_attempts", "Attempts that hold a slot.", "type", running)
        yield _gauge("paused", "Whether an operator has stopped all starts.", load.paused)
        yield from _resources(load.resources)
        yield from _nodes(load.nodes)


def _resources(resources: Resources) -> Iterator[Metric]:
    workers = {"busy": resources.held, "idle": max(0, resources.slots - resources.held)}
    yield _gauges("workers", "Worker processes that are ready, by what they do.", "state", workers)
    yield _gauge("concurrency_limit", "Attempts that may run at once.", resources.max_concurrent)
    sample = resources.sample
    for name, says, value in (
        ("memory_reserved_bytes", "Memory reserved for running attempts.", resources.reserved_memory),
        ("memory_limit_bytes", "Memory that may be reserved; absent without a limit.", resources.max_memory or None),
        ("memory_available_bytes", "Memory that the machine has free.", sample.memory_available),
        ("memory_machine_bytes", "Memory that the machine has.", sample.memory_total),
        ("temp_reserved_bytes", "Temp space reserved for running attempts.", resources.reserved_temp),
        (
            "temp_limit_bytes",
            "Temp space that may be reserved; absent without a limit.",
            resources.max_temp_size or None,
        ),
        ("temp_free_bytes", "Temp space that the disk has free.", sample.temp_free),
        ("temp_machine_bytes", "Size of the disk that temp files lie on.", sample.temp_total),
        ("temp_low", "Whether temp space has run low, so that nothing starts.", sample.disk_low),
        ("cpu_used_ratio", "CPU use of the whole machine.", _ratio(sample.cpu_percent)),
        ("cpu_limit_ratio", "CPU use above which nothing starts.", _ratio(resources.max_cpu)),
    ):
        if value is not None:
            yield _gauge(name, says, value)


def _nodes(nodes: tuple[NodeBoard, ...]) -> Iterator[Metric]:
    """Yield the gauges of each node. Lost nodes have only their running attempts and the time when last seen."""
    there = [node for node in nodes if node.state != "lost"]
    seen = {node.node: node.last_seen.timestamp() for node in nodes if node.last_seen is not None}
    for name, says, values in (
        ("node_workers", "Attempts that can run on the node at once.", {one.node: one.workers for one in there}),
        ("node_running_attempts", "Attempts that run on the node.", {one.node: one.running for one in nodes}),
        ("node_draining", "Whether nothing more starts on the node.", {one.node: bool(one.drain) for one in there}),
        ("node_cpus", "CPUs that the node has to give.", {one.node: one.cpus for one in there}),
        ("node_gpus", "GPUs that the node has to give.", {one.node: one.gpus for one in there}),
        ("node_memory_bytes", "Memory that the node has to give.", {one.node: one.memory for one in there}),
        ("node_memory_free_bytes", "Memory that the node has free.", {one.node: one.memory_free for one in there}),
        ("node_temp_free_bytes", "Temp space that the node has free.", {one.node: one.temp_free for one in there}),
        ("node_last_seen_seconds", "When the node was last seen, as Unix time.", seen),
    ):
        yield _gauges(name, says, "node", {node: value for node, value in values.items() if value is not None})


def _ratio(percent: float | None) -> float | None:
    return None if percent is None else percent / _PERCENT
