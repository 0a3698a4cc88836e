"""Possible configurations of a simulated service."""

from random import Random

from msgspec.structs import replace

from tasktrail.actors.core.limits import UNLIMITED, Limits

MAX_MEMORY = 10
RATES: tuple[dict[str, str], ...] = (
    *({},) * 9,
    {"type:plain": "2/m"},
    {"user:*": "3/10m", "user:0": "1/m"},
    {"label:red": "1/h", "type:*": "9/m"},
)

WINDOWS: list[dict[str, tuple[str, ...]]] = [
    *[{}] * 9,
    {"plain": tuple(f"{hour}-{hour}:30" for hour in range(24)), "other": ("sat-sun 0-24",)},
    {"*": ("2:15-1:30",), "seldom": ("mon-fri 8-17",)},
]


def some_limits(rng: Random) -> Limits:
    """Draw limits on everything, and now and then only on memory and slots."""
    low, more = rng.choice((0, 0, 5)), Random(str(rng.getstate()))
    return Limits(
        max_concurrent=rng.randint(1, 4),
        max_memory=rng.choice((5, MAX_MEMORY, 2 * MAX_MEMORY)),
        max_cpu=rng.choice((60.0, 100.0)),
        max_temp_size=UNLIMITED if low else MAX_MEMORY,
        temp_low=low,
        temp_high=2 * low,
        max_per_type=rng.choice((0, 0, 0, 1, 2)),
        max_per_user=rng.choice((0, 0, 0, 1, 2)),
        max_per_label=rng.choice((0, 0, 0, 1)),
        types=rng.choice(({}, {"plain": 3, "seldom": 1})),
        users=rng.choice(({}, {"0": 2})),
        labels=rng.choice(({}, {"red": 2})),
        rates=more.choice(RATES),
        windows=more.choice(WINDOWS),
        windows_timezone=more.choice(("UTC", "Europe/Berlin")),
        fair_share=rng.random() < 0.3,
    )


def of_a_cluster(limits: Limits) -> Limits:
    """Allow more in all, and half of the time nothing else: the nodes set the bounds."""
    if limits.max_concurrent > 2:
        return Limits(max_concurrent=8, fair_share=limits.fair_share)
    return replace(limits, max_concurrent=2 * limits.max_concurrent, max_memory=UNLIMITED, max_temp_size=UNLIMITED)
