"""Damages logs: single bits of log.db, and its files and folder under a writer that works on them.

Flips: `verify` finds every bit that changes anything readable, and names the record. If it does not find a bit, every
row of every table, every index from end to end, schema and marks must be unchanged. Each twentieth log is opened as a
start does: it is refused with a typed error, or its index is rebuilt, or nothing was changed.

Swaps: a process appends, one commit each, and reports what was acknowledged. Its files are deleted, moved, replaced,
cut or written to at a random moment; then it continues until it notices, or is killed at once. Nothing begun after that
may be acknowledged, and the next start has every acknowledged record or refuses. Only bytes written into a file in the
same tick of the file system's clock as a write of the writer may go unnoticed: then the start has to report them. When
the whole folder is removed, nothing is left to start on: the writer has to notice before it dies.
"""

import argparse
import os
import random
import shutil
import signal
import sqlite3
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from histories import BEGIN, Journal, random_history

from tasktrail.backups.evidence import refuse_older_log
from tasktrail.events import Answer, Created, Fact
from tasktrail.events.errors import HistoryMissing, LogCorrupt, LogGone, TasktrailError
from tasktrail.events.log.files import refuse_rescued
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.paths import DataPaths
from tasktrail.projections.findings import Finding
from tasktrail.projections.verification import verify

PAGE = 4096
OPEN_EACH = 20
RECORDS = 150
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
PATIENCE = 20.0
"""Seconds that a writer gets to notice, on a busy machine."""
EVERY = 1000
LATE = 50
"""Records after which a writer that has not noticed is killed."""


class Broken(Exception):
    """A promise was not kept."""


# --- flips ----------------------------------------------------------------------------------------------------------


class Place(NamedTuple):
    """What a byte of the file belongs to."""

    what: str
    """The table or index, or nothing."""
    position: int
    """The record's position, where it belongs to one."""


def places(path: Path) -> dict[int, Place]:
    """Return every byte of the file except the free space in its pages."""
    content = path.read_bytes()
    with closing(sqlite3.connect(path)) as conn:
        roots = dict(conn.execute("SELECT rootpage, name FROM sqlite_schema WHERE rootpage"))
    found: dict[int, Place] = {}
    for root, name in {1: "sqlite_schema", **roots}.items():
        _tree(content, root, name, found)
    return found


def _tree(content: bytes, page: int, name: str, found: dict[int, Place]) -> None:
    base = (page - 1) * PAGE
    start = base + (100 if page == 1 else 0)
    kind = content[start]
    cells = struct.unpack(">H", content[start + 3 : start + 5])[0]
    pointers = start + (8 if kind in (10, 13) else 12)
    room = pointers + 2 * cells, base + (struct.unpack(">H", content[start + 5 : start + 7])[0] or 65536)
    for at in range(base, base + PAGE):
        if not room[0] <= at < room[1]:
            found[at] = Place(name, 0)
    for number in range(cells):
        cell = base + struct.unpack(">H", content[pointers + 2 * number : pointers + 2 * number + 2])[0]
        if kind in (2, 5):
            _tree(content, struct.unpack(">I", content[cell : cell + 4])[0], name, found)
        elif kind == 13 and name == "events":
            size, after = _varint(content, cell)
            position, body = _varint(content, after)
            for at in range(cell, body + size):
                found[at] = Place(name, position)
    if kind in (2, 5):
        _tree(content, struct.unpack(">I", content[start + 8 : start + 12])[0], name, found)


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = 0
    for number in range(9):
        byte = content[at + number]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            break
    return value, at + number + 1


def everything(path: Path) -> list[Any]:
    """Return everything readable: schema, marks, rows with their types, indexes from end to end."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as conn:
        read = [conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall()]
        read += [conn.execute(f"PRAGMA {name}").fetchall() for name in ("user_version", "application_id", "encoding")]
        for table in ("events", "answers", "epochs", '"_sqlite_migrations"'):
            names = [row[1] for row in conn.execute(f"PRAGMA table_info({table})")]
            columns = ", ".join(f'"{name}", typeof("{name}")' for name in names)
            read.append(conn.execute(f"SELECT {columns} FROM {table} ORDER BY 1").fetchall())
        for index, columns, where in (
            ("one_version_once", "task_id, version", ""),
            ("one_end_a_life", "task_id, life", "WHERE terminal = 1"),
            ("adjustments", "1", "WHERE event = 'adjusted'"),
        ):
            select = f"SELECT {columns}, rowid FROM events INDEXED BY {index} {where}"
            read.append(conn.execute(select).fetchall())
        return read


def flips(folder: Path, number: int, chance: random.Random) -> Counter[str]:
    """Flip single bits, each in a copy of a sound log."""
    path = folder / "log.db"
    log = SqliteEventLog(path, now=BEGIN)
    journal = Journal(log)
    seed = chance.randrange(1 << 30)
    while len(journal.records) < RECORDS:
        random_history(journal, 40, seed=seed)
        seed += 1
    log.close()
    whole, content, of = everything(path), path.read_bytes(), places(path)
    bytes_used = sorted(of)
    counts: Counter[str] = Counter()
    print(f"{len(content) // PAGE} pages, {len(bytes_used):,} bytes of them used, {len(journal.records)} records")
    for done in range(1, number + 1):
        at, bit = chance.choice(bytes_used), chance.randrange(8)
        changed = bytearray(content)
        changed[at] ^= 1 << bit
        for part in ("-wal", "-shm"):
            Path(f"{path}{part}").unlink(missing_ok=True)
        path.write_bytes(changed)
        try:
            outcome = _flipped(path, of[at], whole)
            if done % OPEN_EACH == 0:
                counts["opened: " + _opened(path, outcome, whole)] += 1
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            outcome = "BROKEN"
            print(f"  byte {at} bit {bit} of {of[at]}: {type(error).__name__}: {error}", flush=True)
        counts[outcome] += 1
        counts[f"in {of[at].what}"] += 1
        if done % EVERY == 0:
            print(f"  {done:,} flips: {dict(counts)}", flush=True)
    return counts


def _flipped(path: Path, place: Place, whole: list[Any]) -> str:
    try:
        with closing(SqliteLogReader(path)) as reader:
            found = verify(reader)
    except TasktrailError:
        return "found"  # the file cannot even be opened
    if found.ok:
        if everything(path) != whole:
            raise Broken("verify found nothing, and something else is read")
        return "harmless"
    if place.position and not _names(found.findings, place.position):
        raise Broken(f"told at {[(one.position, one.code) for one in found.findings[:5]]}, not {place.position}")
    return "found"


def _names(findings: tuple[Finding, ...], position: int) -> bool:
    """Return whether the finding names the record; or its page cannot be read at all, from an earlier one on."""
    return any(one.position == position or (one.code == "unreadable" and one.position <= position) for one in findings)


def _opened(path: Path, outcome: str, whole: list[Any]) -> str:
    try:
        log = SqliteEventLog(path, now=NOW)
    except TasktrailError:
        if outcome != "found":
            raise Broken("a start refuses what verify finds sound") from None
        return "refused"
    rebuilt = bool(log.rebuilt)
    log.close()
    if outcome == "found" and not rebuilt:
        raise Broken("verify finds damage, and a start serves it")
    with closing(SqliteLogReader(path)) as reader:
        if not verify(reader).ok:
            raise Broken("what was opened is still damaged")
    if everything(path)[4] != whole[4]:
        raise Broken("what was opened has other records")
    return "rebuilt" if rebuilt else "sound"


# --- swaps ----------------------------------------------------------------------------------------------------------


class Hands:
    """What somebody does to the files of a running log. `older` is a slightly earlier copy of the folder."""

    def __init__(self, data: Path, older: Path, chance: random.Random) -> None:
        self.data, self.older, self.chance = data, older, chance
        self.moved = data.with_name("moved")

    def file(self, part: str) -> Path:
        """One of the log's files."""
        return self.data / f"log.db{part}"

    def delete(self, part: str) -> None:
        """rm"""
        self.file(part).unlink()

    def move(self, part: str) -> None:
        """mv to another name"""
        self.file(part).rename(self.data / "elsewhere")

    def swap(self, part: str) -> None:
        """mv of the older one into its place"""
        (self.older / f"log.db{part}").replace(self.file(part))

    def empty(self, part: str) -> None:
        """mv of an empty one into its place"""
        (self.data / "empty").write_bytes(b"")
        (self.data / "empty").replace(self.file(part))

    def cut(self, part: str) -> None:
        """truncate"""
        os.truncate(self.file(part), self.chance.randrange(self.file(part).stat().st_size))

    def overwrite(self, part: str) -> None:
        """cp of the older one over it"""
        with self.file(part).open("r+b") as file:
            file.write((self.older / f"log.db{part}").read_bytes())

    def delete_folder(self) -> None:
        """rm -r"""
        shutil.rmtree(self.data, ignore_errors=True)

    def move_folder(self) -> None:
        """mv of the folder"""
        self.data.rename(self.moved)

    def swap_folder(self) -> None:
        """mv of the folder, and of the older one into its place"""
        self.data.rename(self.moved)
        self.older.rename(self.data)


def deeds() -> list[tuple[str, Callable[[Hands], None], bool]]:
    """Return name, deed, and whether a kill right after it leaves any evidence in the folder."""
    found: list[tuple[str, Callable[[Hands], None], bool]] = []
    for part, names in (
        ("", ("delete", "move", "swap", "empty", "cut", "overwrite")),
        ("-wal", ("delete", "move", "swap", "empty", "cut", "overwrite")),
        ("-shm", ("delete", "move", "swap")),
    ):
        found += [(f"{name} log.db{part}", _deed(name, part), True) for name in names]
    found += [(name, _deed(name, None), False) for name in ("delete_folder", "move_folder", "swap_folder")]
    return found


def _deed(name: str, part: str | None) -> Callable[[Hands], None]:
    return lambda hands: getattr(hands, name)(*(() if part is None else (part,)))


def write_on(data: Path, out: int) -> None:
    """Append as the writer, and report each acknowledgement with the time it was begun. End as if killed."""
    log = SqliteEventLog(data / "log.db", now=NOW)
    maintained = position = 0
    try:
        while True:
            begun = time.monotonic_ns()
            fact = Fact(position + 1, 1, Created(type="noop"), NOW, command_id=f"c{position + 1}", life=1)
            log.append([fact], [Answer(f"c{position + 1}", b"d", position + 1, position + 1)], expected=position)
            position += 1
            os.write(out, struct.pack(">QQ", position, begun))
            if begun - maintained > 20_000_000:
                maintained = begun
                log.maintain()
    except TasktrailError as error:
        os.write(out, struct.pack(">QQ", 0, 0))
        os.write(out, str(error).encode()[:2000])


def swap_once(folder: Path, name: str, deed: Callable[[Hands], None], *, kill: bool, chance: random.Random) -> str:
    """Play one round; return its result. Raises `Broken`."""
    in_place = name.startswith("overwrite")
    data = folder / "data"
    data.mkdir(parents=True)
    ends = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(ends[0])
        try:
            write_on(data, ends[1])
        finally:
            os._exit(0)
    os.close(ends[1])
    acknowledged: list[tuple[int, int]] = []
    with open(ends[0], "rb", buffering=0) as said:  # noqa: PTH123 - a descriptor
        hands = Hands(data, folder / "older", chance)
        _read(said, acknowledged, chance.randint(3, 40))
        shutil.copytree(data, hands.older)
        _read(said, acknowledged, len(acknowledged) + chance.randint(1, 40))
        time.sleep(chance.random() / 500)
        deed(hands)
        done = time.monotonic_ns()
        if in_place and not kill:
            kill = not _read(said, acknowledged, len(acknowledged) + LATE)
        if kill:
            os.kill(pid, signal.SIGKILL)
        noticed = not kill and (in_place or _read(said, acknowledged, None))
        last_words = said.read(4000).decode(errors="replace") if noticed else ""
    _, status = os.waitpid(pid, 0)
    late = [position for position, begun in acknowledged if begun > done]
    if late and not in_place:
        raise Broken(f"{len(late)} acknowledged after the deed: {late[:5]}")
    if not kill and not noticed and os.WIFEXITED(status):
        raise Broken("the writer ended without a word")
    last = acknowledged[-1][0]
    if "It was moved" in last_words and hands.moved.exists() and hands.data.exists():  # noticed between the two moves
        if _ends(hands.moved / "log.db") < last:
            raise Broken("what was moved is not whole")
        return "noticed: said where it was moved, and whole there"
    if noticed and not hands.moved.exists() and not hands.data.exists():  # noticed while `rm -r` was still at work
        return "noticed: said so, and the rest of the folder was removed with what had been saved in it"
    return "unseen, " * bool(late) + _start_again(hands, last, killed=kill)


def _read(said: Any, acknowledged: list[tuple[int, int]], until: int | None) -> bool:
    """Read what was acknowledged, up to a number, or to the end; return whether the writer has noticed."""
    deadline = time.monotonic() + PATIENCE
    while until is None or len(acknowledged) < until:
        if time.monotonic() > deadline:
            raise Broken("the writer goes on as if nothing had happened")
        piece = said.read(16)
        if not piece:
            return False
        while len(piece) < 16:
            piece += said.read(16 - len(piece))
        position, begun = struct.unpack(">QQ", piece)
        if not position:
            return True
        acknowledged.append((position, begun))
    return False


def _start_again(hands: Hands, last: int, *, killed: bool) -> str:
    """Check the next start: it has all records up to `last`, or it refuses."""
    if not hands.data.exists():  # no service starts there; but the moved folder is whole
        hands.moved.rename(hands.data)
    paths = DataPaths(hands.data)
    try:
        refuse_rescued(paths.log)
        refuse_older_log(paths)
        log = SqliteEventLog(paths.log, now=NOW)
    except (HistoryMissing, LogGone, LogCorrupt) as error:
        rescued = hands.data / "log.db.rescued"
        if rescued.exists() and _ends(rescued) < last:
            raise Broken(f"what was saved ends at {_ends(rescued)}, acknowledged was {last}") from error
        return f"{'killed' if killed else 'noticed'}: {'saved beside, and ' * rescued.exists()}refused ({error.code})"
    try:
        if log.head().position < last:
            raise Broken(f"started without a word at {log.head().position}, acknowledged was {last}")
    finally:
        log.close()
    return f"{'killed' if killed else 'noticed'}: every record is there"


def _ends(path: Path) -> int:
    with closing(SqliteLogReader(path)) as reader:
        return reader.head().position if verify(reader).ok else -1


def swaps(folder: Path, number: int, chance: random.Random) -> Counter[str]:
    """Play rounds on the files of a running writer."""
    counts: Counter[str] = Counter()
    for done, (name, deed, tells) in zip(range(1, number + 1), _again(deeds()), strict=False):
        kill = tells and chance.random() < 0.4
        place = folder / str(done)
        try:
            counts[swap_once(place, name, deed, kill=kill, chance=chance)] += 1
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            counts["BROKEN"] += 1
            print(f"  round {done}, {name}, kill {kill}: {type(error).__name__}: {error}", flush=True)
        shutil.rmtree(place, ignore_errors=True)
        if done % 200 == 0:
            print(f"  {done:,} swaps: {dict(counts)}", flush=True)
    return counts


def _again(items: list[Any]) -> Iterator[Any]:
    while True:
        yield from items


def main() -> int:
    """Return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="300 flips, 42 swaps")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 30))
    parser.add_argument("--flips", type=int)
    parser.add_argument("--swaps", type=int)
    arguments = parser.parse_args()
    wanted = (300, 42) if arguments.short else (20_000, 1_000)
    print(f"seed {arguments.seed}")
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="tasktrail-damage-", dir=memory if memory.is_dir() else None) as place:
        number = wanted[0] if arguments.flips is None else arguments.flips
        flipped = flips(Path(place), number, random.Random(arguments.seed))
        number = wanted[1] if arguments.swaps is None else arguments.swaps
        swapped = swaps(Path(place) / "swaps", number, random.Random(arguments.seed))
    for name, counts in (("flips", flipped), ("swaps", swapped)):
        print(f"{name}: " + "; ".join(f"{what} {count:,}" for what, count in sorted(counts.items())))
    broken = flipped["BROKEN"] + swapped["BROKEN"]
    print(f"{'FAILED' if broken else 'clean'}: {broken} broken promises, seed {arguments.seed}")
    return min(broken, 1)


if __name__ == "__main__":
    sys.exit(main())
