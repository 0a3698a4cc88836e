"""Changes sealed logs on PostgreSQL by SQL, and compares each with seals that were kept elsewhere.

What `mutations.py` does to the rows of a file, as an insider who makes the whole chain anew and as somebody with a
shell, is done here to the tables of a database: also to those that only a database has, and to rows that an index does
not know. Every change has to be found, and the first reported position has to be right.

make mutations-postgresql N=2000 SEED=1
"""

import argparse
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, TypeAlias

from histories import BEGIN, Journal, random_history
from mutations import INSIDER, SEALS, Broken, Rows, any_row, first_other
from postgresql_server import connect, new_place

from tasktrail.events.errors import TasktrailError
from tasktrail.events.log.address import read_address
from tasktrail.events.log.chain import GENESIS, link
from tasktrail.events.log.opening import open_log, read_log
from tasktrail.events.log.rows import COLUMNS
from tasktrail.projections.proof.seals import SealCheck, make_seal
from tasktrail.projections.verification import verify

RECORDS = 60
EACH = 40
"""The number of mutations of one log."""
TABLES = ("events", "answers", "epochs", "owner", "migrations")
_NAMES = ", ".join((*COLUMNS, "hash"))
_FORGED = "SET session_replication_role = replica"
"""From here on this session's statements set off no trigger."""
_ANSWERED_TWICE = """
INSERT INTO tasktrail.answers SELECT command_id || 'y', digest, task_id, position, sum
FROM tasktrail.answers WHERE command_id = %s
"""


class World:
    """A sealed log in a database, and a copy of its tables, from which it is restored after each mutation."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.kept = place, place.parent / "kept"
        chance = random.Random(seed)
        self.sizes: list[int] = []
        with closing(open_log(place, now=BEGIN)) as log:
            journal = Journal(log)
            for number in range(SEALS):
                while len(journal.records) < RECORDS * (number + 1) / SEALS:
                    random_history(journal, chance.randrange(1, 15), seed=chance.randrange(1 << 30))
                over = [task_id for task_id in journal.over() if task_id not in journal.forgotten]
                if over and chance.random() < 0.3:
                    journal.forget(*over[:5])
                with closing(read_log(place)) as reader:
                    at = BEGIN + timedelta(hours=number)
                    seal, self.key = make_seal(reader, self.kept, place.parent / "seal-key", at)
                self.sizes.append(seal.checkpoint.size)
        with self.session() as conn:
            self.rows = rows_of(conn)
            conn.execute("DROP SCHEMA IF EXISTS kept CASCADE")
            conn.execute("CREATE SCHEMA kept")
            for table in TABLES:
                conn.execute(f"CREATE TABLE kept.{table} AS TABLE tasktrail.{table}")

    @contextmanager
    def session(self) -> Iterator[Any]:
        """Connect as the server's owner, whose statements no trigger refuses."""
        with connect(read_address(self.place).removeprefix("postgresql:///").partition("?")[0]) as conn:
            conn.execute(_FORGED)
            yield conn

    def restore(self, conn: Any) -> None:
        for table in TABLES:
            conn.execute(f"TRUNCATE tasktrail.{table}")
            conn.execute(f"INSERT INTO tasktrail.{table} SELECT * FROM kept.{table}")

    def differs(self, conn: Any) -> bool:
        """Whether a table holds other rows than before."""
        both = "(SELECT * FROM {0}.{2} EXCEPT ALL SELECT * FROM {1}.{2})"
        ways = [both.format(*way, table) for table in TABLES for way in (("kept", "tasktrail"), ("tasktrail", "kept"))]
        return any(conn.execute(f"SELECT count(*) FROM {way} AS others").fetchone()[0] for way in ways)


Mutation: TypeAlias = Callable[[World, Any, random.Random], None]


def rows_of(conn: Any) -> Rows:
    return [list(row) for row in conn.execute(f"SELECT {_NAMES} FROM tasktrail.events ORDER BY position")]


# --- mutations ---


def by_insider(how: Callable[[random.Random, Rows], None]) -> Mutation:
    """Rows are changed, and the whole chain is made anew."""

    def mutate(_world: World, conn: Any, chance: random.Random) -> None:
        rows = rows_of(conn)
        how(chance, rows)
        digest = GENESIS
        for position, row in enumerate(rows, 1):
            row[0] = position
            digest = row[-1] = link(digest, row[:-1])
        with conn.transaction():
            conn.execute("DELETE FROM tasktrail.events")
            marks = ", ".join(["%s"] * (len(COLUMNS) + 1))
            for row in rows:
                conn.execute(f"INSERT INTO tasktrail.events ({_NAMES}) VALUES ({marks})", row)

    return mutate


def with_a_shell(world: World, conn: Any, chance: random.Random) -> None:
    """A statement runs, and the chain stays as it is."""
    place, other = any_row(chance, world.rows), any_row(chance, world.rows)
    column = chance.choice(COLUMNS[1:])
    old = world.rows[place][COLUMNS.index(column)]
    new = old + 1 if isinstance(old, int) else f"{old}x"
    statement, values = chance.choice(
        (
            (f"UPDATE tasktrail.events SET {column} = %s WHERE position = %s", (new, place + 1)),
            ("UPDATE tasktrail.events SET hash = %s WHERE position = %s", (chance.randbytes(32), place + 1)),
            ("UPDATE tasktrail.events SET hash = %s WHERE position = %s", (world.rows[other][-1], place + 1)),
            ("DELETE FROM tasktrail.events WHERE position = %s", (place + 1,)),
            ("DELETE FROM tasktrail.events WHERE position >= %s", (place + 1,)),
            ("DELETE FROM tasktrail.events WHERE position <= %s", (place + 1,)),
            ("DELETE FROM tasktrail.events", ()),
            ("UPDATE tasktrail.events SET position = position + 100000 WHERE position = %s", (place + 1,)),
            ("UPDATE tasktrail.events SET position = position + 100000", ()),
        )
    )
    conn.execute(statement, values)


def two_rows_swapped(world: World, conn: Any, chance: random.Random) -> None:
    """Two records change places, and nothing else."""
    one, other = any_row(chance, world.rows) + 1, any_row(chance, world.rows) + 1
    swap = "UPDATE tasktrail.events SET position = %s WHERE position = %s"
    with conn.transaction():
        for new, old in ((2**40, one), (one, other), (other, 2**40)):
            conn.execute(swap, (new, old))


def behind_the_index(world: World, conn: Any, chance: random.Random) -> None:
    """A row changes, and the indexes go on with the old one."""
    hears = "UPDATE pg_index SET indislive = {0}, indisready = {0} WHERE indrelid = 'tasktrail.events'::regclass"
    place, other = any_row(chance, world.rows) + 1, any_row(chance, world.rows) + 1
    column, value = chance.choice((("position", other), ("position", place + 100_000), ("task_id", 7), ("version", 99)))
    conn.execute(hears.format("false"))
    conn.execute(f"UPDATE tasktrail.events SET {column} = %s WHERE position = %s", (value, place))
    conn.execute(hears.format("true"))


def answers_with_a_shell(world: World, conn: Any, chance: random.Random) -> None:
    place = any_row(chance, world.rows) + 1
    commands = sorted(row[0] for row in conn.execute("SELECT command_id FROM tasktrail.answers"))
    one = chance.choice(commands) if commands else ""
    statement, values = chance.choice(
        (
            ("UPDATE tasktrail.answers SET task_id = task_id + 1 WHERE position >= %s", (place,)),
            ("UPDATE tasktrail.answers SET position = position + 1 WHERE position >= %s", (place,)),
            ("UPDATE tasktrail.answers SET digest = %s WHERE command_id = %s", (chance.randbytes(32), one)),
            ("UPDATE tasktrail.answers SET sum = %s WHERE command_id = %s", (chance.randbytes(8), one)),
            ("UPDATE tasktrail.answers SET command_id = command_id || 'x' WHERE command_id = %s", (one,)),
            ("DELETE FROM tasktrail.answers WHERE command_id = %s", (one,)),
            ("DELETE FROM tasktrail.answers WHERE position >= %s", (place,)),
            ("DELETE FROM tasktrail.answers", ()),
            (_ANSWERED_TWICE, (one,)),
        )
    )
    conn.execute(statement, values)


def owners_with_a_shell(_world: World, conn: Any, chance: random.Random) -> None:
    statement = chance.choice(
        (
            "UPDATE tasktrail.epochs SET pid = pid + 1",
            "UPDATE tasktrail.epochs SET host = host || 'x'",
            "UPDATE tasktrail.epochs SET epoch = epoch + 1",
            "DELETE FROM tasktrail.epochs",
            "DELETE FROM tasktrail.owner",
            "UPDATE tasktrail.owner SET epoch = epoch - 1",
            "DELETE FROM tasktrail.migrations",
            "UPDATE tasktrail.migrations SET name = name || 'x'",
        )
    )
    conn.execute(statement)


MUTATIONS: dict[str, Mutation] = {
    **{f"insider: {how.__name__.replace('_', ' ')}": by_insider(how) for how in INSIDER},
    "events": with_a_shell,
    "two rows swapped": two_rows_swapped,
    "behind the index": behind_the_index,
    "answers": answers_with_a_shell,
    "owners": owners_with_a_shell,
}


# --- what is found ---


def mutate(world: World, name: str, chance: random.Random) -> str:
    """Change the log, and restore it; return the result: found, or harmless. Raises `Broken`."""
    with world.session() as conn:
        try:
            try:
                MUTATIONS[name](world, conn, chance)
            except import_module("psycopg").errors.UniqueViolation:  # two unique indexes stop even the insider
                return "refused"
            differs, first = world.differs(conn), first_other(world.rows, rows_of(conn))
            positions, words = _told(world)
        finally:
            world.restore(conn)
    if not words:
        if differs:
            raise Broken(f"not found, and {f'the record at {first}' if first else 'something'} is another")
        return "harmless"
    if first is not None and positions:
        fits = max((size for size in world.sizes if size < first), default=0)
        if not fits < min(positions) <= first:
            raise Broken(f"the first that differs is {first}, behind a seal of {fits}, and it was told: {words}")
    return "found"


def _told(world: World) -> tuple[list[int], str]:
    """The positions of what `tasktrail verify --seals` finds, and its words; no words: nothing is found."""
    try:
        with closing(read_log(world.place)) as log:
            found = verify(log, seals=SealCheck(world.kept, world.key)).findings
    except TasktrailError as error:
        return [], error.message
    return [one.position for one in found if one.position], "; ".join(
        f"{one.position} {one.code}: {one.message}" for one in found[:4]
    )


def mutations(number: int, seed: int, folder: Path) -> tuple[Counter[str], list[str]]:
    """Make that many mutations with an effect; return how many of each kind were found, and what was not."""
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    broken: list[str] = []
    while counts.total() - counts["harmless"] - counts["refused"] < number:
        own = folder / str(counts.total())
        own.mkdir()
        with new_place(own) as place:
            world = World(place, chance.randrange(1 << 30))
            if words := _told(world)[1]:
                broken.append(f"nothing was changed, and it was told: {words}")
            for _mutation in range(EACH):
                name, seed_of_it = chance.choice(list(MUTATIONS)), chance.randrange(1 << 30)
                try:
                    outcome = mutate(world, name, random.Random(seed_of_it))
                except Exception as error:  # noqa: BLE001 - that is what is looked for
                    outcome = "BROKEN"
                    broken.append(f"{name} ({counts.total()} of seed {seed}): {type(error).__name__}: {error}")
                counts[outcome] += 1
    return counts, broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=2000, help="how many that change something")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts, broken = mutations(arguments.mutations, arguments.seed, Path(folder))
    print(f"{counts.total()} mutations in {time.monotonic() - begun:.0f} s: {dict(counts)}")
    print("\n".join(broken) or "nothing was missed")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
