"""Plays many worlds, and says what broke in which, in as few steps as possible.

python tests/simulation/simulate.py --seed 7 --steps 100000
"""

import argparse
import sys
import time

from broken import BrokenInvariantError
from shrink import failure, shrink
from simulation import WORLD_STEPS, play
from story import Story

REPORT_EVERY = 2.0
"""Seconds between two lines of progress."""


def worlds(seed: int, steps: int) -> list[tuple[int, int]]:
    """Return the seeds to play and the steps of each: no world is longer than `WORLD_STEPS`."""
    full, rest = divmod(steps, WORLD_STEPS)
    sizes = [WORLD_STEPS] * full + ([rest] if rest else [])
    return list(enumerate(sizes, seed))


def repeat(seed: int, steps: int) -> str:
    """Return the command that plays one world again."""
    return f"make sim SEED={seed} STEPS={steps}"


def explain(seed: int, steps: int, error: Exception, seconds: float) -> None:
    """Say what broke, with the shortest story that can be found in this many seconds."""
    name = "a promise is broken" if isinstance(error, BrokenInvariantError) else type(error).__name__
    print(f"\nseed {seed}: {name}: {str(error)[:1000]}\nrepeat it: {repeat(seed, steps)}\nmaking it shorter …")
    kept = shrink(seed, steps, error, seconds)
    story = Story()
    last = failure(seed, kept, story)
    numbers = ",".join(map(str, kept))
    print(f"\n{len(kept)} of {steps} steps are enough; the last of them:\n\n{story}\n\n{str(last)[:1000]}")
    print(f"\nonly these: python tests/simulation/simulate.py --seed {seed} --only {numbers}")


def play_all(seed: int, steps: int, shrink_for: float) -> bool:
    """Play the worlds; return whether all held."""
    started, last_line = time.process_time(), time.perf_counter()
    done = most = 0
    for world_seed, size in worlds(seed, steps):
        try:
            most = max(most, play(world_seed, size).most_overtaken)
        except Exception as error:  # noqa: BLE001 - whatever breaks, the line to repeat it is what counts
            explain(world_seed, size, error, shrink_for)
            return False
        done += size
        now = time.perf_counter()
        if now - last_line > REPORT_EVERY or done == steps:
            last_line = now
            rate = done / (time.process_time() - started)
            print(f"seed {world_seed}: {done:,} of {steps:,} steps, {rate:,.0f} a second of one core", flush=True)
    print(f"no promise broken in {len(worlds(seed, steps))} worlds; nobody was overtaken more than {most} times")
    return True


def main() -> int:
    """Play as the command line says; return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="of the first world")
    parser.add_argument("--steps", type=int, default=100_000, help=f"in all; {WORLD_STEPS} to a world")
    parser.add_argument("--only", default="", help="play these steps of one world, and tell them: 12,40,41")
    parser.add_argument("--trace", action="store_true", help="print the hash of one world's trace, and nothing else")
    parser.add_argument("--shrink", type=float, default=20.0, help="seconds that making a failure shorter may take")
    options = parser.parse_args()
    if options.steps < 1:  # nothing played would pass as nothing broken
        parser.error(f"--steps: play at least one, not {options.steps}")
    if options.trace:
        print(play(options.seed, options.steps).trace.hexdigest())
        return 0
    if options.only:
        story = Story()
        error = failure(options.seed, [int(number) for number in options.only.split(",")], story)
        print(f"{story}\n\n{error or 'no promise is broken'}")
        return 1 if error else 0
    return 0 if play_all(options.seed, options.steps, options.shrink) else 1


if __name__ == "__main__":
    sys.exit(main())
