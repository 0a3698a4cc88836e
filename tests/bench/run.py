"""Measure tasktrail against peers and floors, in the same run.

    python tests/bench/run.py [--only A,B1] [--rounds 5] [--quick] [--json FILE]

The goals are those of the milestones; docs/reference/benchmarks.md has a run with its machine.
"""

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "support"))

import cluster
import drain
import live
import media
import million
import on_postgresql
import pages
import past
import queueing
import reading
import storage
import submit
import whole_films
from harness import machine, show
from postgresql_server import IS_INSTALLED

ON_RAY = (cluster,) if find_spec("ray") else ()
ON_POSTGRESQL = (on_postgresql,) if IS_INSTALLED else ()
SCRIPTS = (submit, drain, live, storage, reading, queueing, million, pages, past, *ON_POSTGRESQL, *ON_RAY)
FETCHING = (media, whole_films)
"""These fetch and make their inputs, so they run only on request."""


def _names_one(wanted: tuple[str, ...], axes: tuple[str, ...]) -> bool:
    return any(name.startswith(axes) for name in wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    only = "axes to run, by the beginning of their names: A,B1,D; R2 and R3, of hours, are run only by name"
    parser.add_argument("--only", default="", help=only)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one round: does it run at all?")
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    options = parser.parse_args()
    print(machine())
    wanted = tuple(name for name in options.only.split(",") if name)
    figures = []
    needed = [script for script in FETCHING if not wanted or _names_one(wanted, script.AXES)]
    for script in (*SCRIPTS, *needed):
        for table in script.tables(quick=options.quick):
            if (wanted and not table.axis.startswith(wanted)) or (table.seldom and table.axis not in wanted):
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
