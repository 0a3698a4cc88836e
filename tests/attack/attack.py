"""Runs the attacks, one after the other: `make attack`, or `make attack ARGS=--short` for what CI has time for.

Each is a script of its own beside this one, with `--short` and `--seed`. It prints what it did and found, and exits
with 1 when a promise was broken. docs/explanation/faults.md says which attack checks which promise.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent
ATTACKS = sorted(path.stem for path in HERE.glob("*.py") if path.stem != Path(__file__).stem)


def main() -> int:
    """Return the number of attacks that found something, as far as an exit code can express it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="a small size of each")
    parser.add_argument("--seed", type=int, help="repeat the run of this seed")
    parser.add_argument("--only", metavar="NAMES", help=f"some of: {','.join(ATTACKS)}")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="of these the Kth of N parts")
    arguments = parser.parse_args()
    names = arguments.only.split(",") if arguments.only else ATTACKS
    if unknown := set(names) - set(ATTACKS):
        parser.error(f"no attack is called {', '.join(sorted(unknown))}; there are {', '.join(ATTACKS)}")
    part, parts = map(int, arguments.part.split("/"))
    names = names[part % parts :: parts]
    switches = ["--short"] * arguments.short + ([] if arguments.seed is None else ["--seed", str(arguments.seed)])
    failed = []
    for name in names:
        print(f"\n=== {name}", flush=True)
        begun = time.monotonic()
        done = subprocess.run([sys.executable, str(HERE / f"{name}.py"), *switches], check=False)
        print(
            f"=== {name}: {'FAILED' if done.returncode else 'clean'} after {time.monotonic() - begun:.0f} s", flush=True
        )
        if done.returncode:
            failed.append(name)
    print(
        f"\n{len(names) - len(failed)} of {len(names)} attacks clean"
        + (f"; FAILED: {', '.join(failed)}" * bool(failed))
    )
    return min(len(failed), 1)


if __name__ == "__main__":
    sys.exit(main())
