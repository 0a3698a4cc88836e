"""A day of very many tasks over many Schedulers, minute by minute: what breaks first, and what it takes.

python tests/simulation/partitions.py --tasks 1e9 --schedulers 64

A hash assigns tenants of very different size to virtual partitions, and those to Schedulers. Each Scheduler has a log,
a queue and a rate of its own, and shares nothing. A day has a night and a peak, at which one Scheduler is killed. `make
bench` has measured the cost of a task: the options name the rows.
"""

import argparse
import math
import sys
from collections.abc import Sequence
from hashlib import blake2b
from random import Random
from typing import NamedTuple

MINUTES = 24 * 60
VIRTUAL = 1024
"""The number of virtual partitions: each moves from one Scheduler to another as a whole."""
_TOP = 15 * 60
"""The busiest minute of the day."""


class Day(NamedTuple):
    """The results of a day."""

    busiest: float
    """Tasks a second that reach the busiest Scheduler at the peak."""
    over_mean: float
    """Its share, divided by the mean share."""
    giants: int
    """Tenants who are distributed by root task, because they would fill half of a Scheduler."""
    longest_wait: float
    """Seconds that a task waits for its Scheduler at the worst moment."""
    most_waiting: float
    """The most tasks of all Schedulers that wait for them at once."""


def curve(peak: float) -> list[float]:
    """Return each minute's share of a day's tasks, over the mean: a cosine, sharpened until its top is `peak`."""
    wave = [(1 + math.cos(2 * math.pi * (minute - _TOP) / MINUTES)) / 2 for minute in range(MINUTES)]
    low, high = 0.0, 64.0
    for _ in range(50):
        sharpness = (low + high) / 2
        shape = [part**sharpness for part in wave]
        if MINUTES / sum(shape) < peak:
            low = sharpness
        else:
            high = sharpness
    return [part * MINUTES / sum(shape) for part in shape]


def zipf(tenants: int, skew: float) -> list[float]:
    """Return each tenant's share of all tasks, the largest first."""
    weights = [1 / rank**skew for rank in range(1, tenants + 1)]
    total = sum(weights)
    return [weight / total for weight in weights]


def dealt(shares: Sequence[float], schedulers: int, giant: float, rng: Random) -> tuple[list[float], int]:
    """Return each Scheduler's share of all tasks, and the number of tenants above `giant`, spread over all."""
    giants = sum(share > giant for share in shares)
    parts = [sum(shares[:giants]) / VIRTUAL] * VIRTUAL
    for share in shares[giants:]:
        parts[int.from_bytes(blake2b(rng.randbytes(16), digest_size=8).digest()) % VIRTUAL] += share
    loads = [0.0] * schedulers
    for part in sorted(parts, reverse=True):  # the heaviest first, each to the Scheduler with least
        loads[loads.index(min(loads))] += part
    return loads, giants


def play(tasks: float, schedulers: int, shares: Sequence[float], peak: float, rate: float, rng: Random) -> Day:
    """Play a day. `rate`: tasks a second that one Scheduler can complete."""
    mean = tasks / 86_400
    loads, giants = dealt(shares, schedulers, rate / 2 / (mean * peak), rng)
    waiting, longest, most = [0.0] * schedulers, 0.0, 0.0
    for high in curve(peak):
        come = [rng.gauss(1, 0.02) * 60 * mean * high * load for load in loads]
        waiting = [max(0.0, there + new - 60 * rate) for there, new in zip(waiting, come, strict=True)]
        longest, most = max(longest, max(waiting) / rate), max(most, sum(waiting))
    busiest = max(loads)
    return Day(mean * peak * busiest, busiest * schedulers, giants, longest, most)


def in_short(number: float) -> str:
    """Format as three digits and a letter."""
    letter, size = next(
        ((one, size) for one, size in {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3}.items() if number >= size), ("", 1.0)
    )
    return f"{number / size:.3g} {letter}"


def main() -> int:
    """Print what a day takes; return 1 when the Schedulers do not keep up with it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=float, default=1e9, help="a day")
    parser.add_argument("--schedulers", type=int, default=64)
    parser.add_argument("--tenants", type=int, default=100_000)
    parser.add_argument(
        "--skew", type=float, default=1.0, help="of Zipf's law; 1: the largest of 100,000 has 8 %% of all"
    )
    parser.add_argument("--peak", type=float, default=3.0, help="the busiest minute, over the mean")
    parser.add_argument("--rate", type=float, default=1150, help="tasks a second of one Scheduler: a fourth of row B1")
    parser.add_argument("--events", type=int, default=10, help="of a task, with progress and checkpoints")
    parser.add_argument("--record", type=float, default=300, help="bytes of a record in the log: a third of row N6")
    parser.add_argument("--views", type=float, default=1464, help="bytes of a task in the views: row N6")
    parser.add_argument("--archived", type=float, default=50, help="bytes of an archived record: row D10")
    parser.add_argument("--replay", type=float, default=327_000, help="events a second: row D2")
    parser.add_argument(
        "--snapshot", type=float, default=60, help="seconds between what a successor has folded and the end"
    )
    parser.add_argument("--notice", type=float, default=1, help="seconds until a dead Scheduler is known to be dead")
    parser.add_argument("--memory", type=float, default=760, help="bytes of a waiting task: row H")
    parser.add_argument("--seconds", type=float, default=30, help="that an attempt takes")
    parser.add_argument("--slots", type=int, default=16, help="attempts at once on a node")
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    rng = Random(given.seed)
    shares = zipf(given.tenants, given.skew)
    day = play(given.tasks, given.schedulers, shares, given.peak, given.rate, rng)
    peak = given.tasks / 86_400 * given.peak
    away = given.notice + day.busiest * given.events * given.snapshot / given.replay
    spare = given.rate - day.busiest
    log = given.tasks * given.events * given.record
    slots = peak * given.seconds
    rows = {
        "tasks a second, mean and peak": f"{peak / given.peak:,.0f}, {peak:,.0f}",
        "durable events a second at the peak": f"{peak * given.events:,.0f}",
        "tasks a second of the busiest Scheduler at the peak": f"{day.busiest:,.0f} of {given.rate:,.0f}",
        "its share, over the mean of all": f"{day.over_mean:.2f}",
        "tenants that are dealt by root task": str(day.giants),
        "longest wait for a Scheduler": f"{day.longest_wait:,.1f} s",
        "memory of what waits for them": f"{in_short(day.most_waiting * given.memory)}B",
        "the busiest is killed at the peak: its successor takes over after": f"{away:.1f} s",
        "and has worked off what had come meanwhile after": f"{away * day.busiest / spare:.0f} s"
        if spare > 0
        else "never",
        "log of a day, all and of one Scheduler": f"{in_short(log)}B, {in_short(log / given.schedulers)}B",
        "views of a day": f"{in_short(given.tasks * given.views)}B",
        "the log of a day, archived": f"{in_short(given.tasks * given.events * given.archived)}B",
        f"slots at the peak, for attempts of {given.seconds:g} s": f"{slots:,.0f}",
        f"nodes of {given.slots} slots": f"{slots / given.slots:,.0f}",
    }
    width = max(map(len, rows))
    for name, value in rows.items():
        print(f"{name:{width}}  {value}")
    keeps_up = day.longest_wait == 0 and spare > 0
    print("the Schedulers keep up" if keeps_up else "the Schedulers do not keep up")
    return 0 if keeps_up else 1


if __name__ == "__main__":
    sys.exit(main())
