"""V. The same as B and C through a Ray cluster on this machine, beside local workers. Only where Ray is installed."""

from collections.abc import Callable
from typing import Any

from drain import drained, latency_of
from harness import SUPPORT, Goal, Table
from ray_head import RayHead


def tables(*, quick: bool) -> list[Table]:
    """Make tables of rate and start, each beside that of local workers in the same round."""
    number, tasks = (200, 50) if quick else (3000, 200)
    rate = Table("V1", "No-op tasks end to end through Ray, 2 workers", "tasks/s", yardstick="local workers")
    rate.add("local workers", lambda: drained(number, 2))
    rate.add("Ray", lambda: _on_ray(lambda **ray: drained(number, 2, **ray)), Goal(at_least=500))
    start = Table("V2", "Submit to the handler's first line on a warm worker, p50", "ms", yardstick="local workers")
    start.add("local workers", lambda: latency_of(tasks, 0.5))
    start.add("Ray", lambda: _on_ray(lambda **ray: latency_of(tasks, 0.5, **ray)), Goal(at_most=50))
    return [rate, start]


def _on_ray(measured: Callable[..., float]) -> float:
    head = RayHead(handlers=(SUPPORT,))
    try:
        ray: dict[str, Any] = {"executor": "ray", "ray_address": head.address}
        return measured(**ray)
    finally:
        head.close()
