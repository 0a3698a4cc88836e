"""Measure tasktrail against peers and floors, in the same run.

    python tests/bench/run.py [--only A,B1] [--rounds 5] [--quick] [--json FILE]

The goals are those of the milestones; docs/reference/benchmarks.md has a run with its machine.
"""

import argparse
import sys
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import drain
import media
import million
import pages
import queueing
import reading
import storage
import submit
from harness import machine, show


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="axes to run, by the beginning of their names: A,B1,D")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: does it run at all?")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    print(machine())
    wanted = tuple(name for name in options.only.split(",") if name)
    figures = []
    modules = [submit, drain, storage, reading, queueing, million, pages]
    if not wanted or any(name.startswith(media.AXES) for name in wanted):
        modules.append(media)  # it fetches and makes its inputs, so it is not asked without need
    for module in modules:
        for table in module.tables(quick=options.quick):
            if wanted and not table.axis.startswith(wanted):
                continue
            rows = table.run(1 if options.quick else options.rounds)
            show(table, rows)
            figures += rows
    print(machine())
    if options.json:
        options.json.write_bytes(msgspec.json.format(msgspec.json.encode(figures)))
    missed = [f"{row.axis} {row.name}" for row in figures if row.met is False]
    print("all goals met" if not missed else f"missed: {', '.join(missed)}")


if __name__ == "__main__":
    main()
