"""Changes sealed logs in every possible way, and compares each with seals that were kept elsewhere.

A world is a log with views, seals of some of its lengths, and copies from when they were made. A mutation changes one
thing in a copy of its folder: rows with a SQLite shell; rows as an insider does, who makes the whole chain anew; bits,
pages and lengths of log.db and its write-ahead log; older and other files in their place; the seals; the views.
Mutations without a readable change are not counted. In some worlds a part is archived, and the archives are changed,
also by an insider who makes anew everything that names them; no reader may give records of such a file, unless an
insider has it named in the log. Every other mutation has to be found, and the first
reported position has to be right: not after the first record that differs, and not before the end of the last seal that
fits.

Clean logs, and those that a crash leaves (the write-ahead log cut anywhere after the sealed part), must not be
reported.

make mutations N=5000 SEED=1
"""

import argparse
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from archiving import archive
from forgery import forging
from histories import BEGIN, Journal, random_history
from sealed_logs import chained_anew

from tasktrail.events import TasktrailError
from tasktrail.events.log.archive_file import file_name, write_archive
from tasktrail.events.log.archives import archived_until, segment_of
from tasktrail.events.log.chain import GENESIS, checksum, link
from tasktrail.events.log.rows import COLUMNS
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.recorded import STUB
from tasktrail.events.system_events import SegmentArchived, ServiceStopped
from tasktrail.projections import rebuild_views
from tasktrail.projections.proof.merkle import GrowingRoot, leaf_hash
from tasktrail.projections.proof.notes import PrivateKey, PublicKey
from tasktrail.projections.proof.seals import SealCheck, checkpoint_of, make_seal, public_key, seal_files
from tasktrail.projections.proof.trees import Trees
from tasktrail.projections.verification import verify

RECORDS = 120
SEALS = 4
ARCHIVED = 0.3
"""The share of the worlds that have archives."""
EACH = 100
"""The number of mutations of one world."""
PATIENCE = 120
"""Seconds that a mutation may take. It takes some hundredths."""
PAGE = 4096

Rows: TypeAlias = list[list[Any]]


class Broken(Exception):
    """A promise was not kept."""


class Told(NamedTuple):
    """The report of a check."""

    found: bool
    positions: tuple[int, ...] = ()
    """The positions of the findings, without 0."""
    words: str = ""
    sealed: int = 0


class World:
    """A log as it was when it was sealed to its end. `seed` makes it, and decides whether log.db has all of it."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.kept, self.olds = folder / "data", folder / "kept", folder / "olds"
        self.folder.mkdir(parents=True)
        chance = random.Random(seed)
        self.open = chance.random() < 0.5
        """Whether the write-ahead log holds some of it."""
        self.sizes: list[int] = []
        self.path = self.folder / "log.db"
        log = SqliteEventLog(self.path, now=BEGIN)
        journal = Journal(log)
        for number in range(SEALS):
            while len(journal.records) < RECORDS * (number + 1) / SEALS:
                random_history(journal, chance.randrange(1, 15), seed=chance.randrange(1 << 30))
            over = [task_id for task_id in journal.over() if task_id not in journal.forgotten]
            if over and chance.random() < 0.3:
                journal.forget(*over[:5])
            with closing(SqliteLogReader(self.path)) as reader:
                seal, self.key = make_seal(reader, self.kept, folder / "seal-key", BEGIN + timedelta(hours=number))
            self.sizes.append(seal.checkpoint.size)
            self._keep(number)
            if chance.random() < 0.1:
                log.maintain()
        self.archives = _archive(journal, chance) if chance.random() < ARCHIVED else []
        """The archives, in order; none in most worlds."""
        self.private = PrivateKey((folder / "seal-key").read_text())
        if not self.open:
            log.close()
        with closing(SqliteLogReader(self.path)) as reader:
            rebuild_views(reader, self.folder / "views.db")
        found = [path for path in self.folder.rglob("*") if path.is_file() and not path.name.endswith("-shm")]
        self.files = {str(path.relative_to(self.folder)): path.read_bytes() for path in found}
        if self.open:
            log.close()
        self.copy_to(self.folder)

    def _keep(self, number: int) -> None:
        old = self.olds / str(number)
        old.mkdir(parents=True)
        for name in ("log.db", "log.db-wal"):
            with suppress(FileNotFoundError):
                shutil.copy(self.folder / name, old)

    def copy_to(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in self.files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)

    @cached_property
    def rows(self) -> Rows:
        if self.archives:
            with closing(SqliteLogReader(self.path)) as log:
                return [list(row) for row in log.rows(0, log.head().position)]
        return rows_of(self.path) or []


def _archive(journal: Journal, chance: random.Random) -> list[SegmentArchived]:
    """Archive two ranges, with some records deleted from the table and some still there."""
    head = len(journal.records)
    first = chance.randrange(2, head // 2)
    events = [archive(journal, first), archive(journal, chance.randrange(first + 1, head))]
    journal.record(0, ServiceStopped())
    return events


def rows_of(path: Path) -> Rows | None:
    """Return the records that can be read one after the other; None: the file cannot be opened."""
    names = ", ".join((*COLUMNS, "hash"))
    found: Rows = []
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as conn:
            conn.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
            try:
                found.extend(list(row) for row in conn.execute(f"SELECT {names} FROM events ORDER BY position"))
            except (sqlite3.Error, UnicodeDecodeError):  # the row before an unreadable one is lost with it
                next_one = f"SELECT {names} FROM events WHERE position = ?"
                while row := conn.execute(next_one, (len(found) + 1,)).fetchone():
                    found.append(list(row))
    except (sqlite3.Error, UnicodeDecodeError):
        return found or None
    return found


def found_by_position(path: Path, last: int) -> int:
    """Return how many of the first records are found by their positions, one after the other."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as conn:
        for position in range(1, last + 1):
            try:
                row = conn.execute("SELECT position FROM events WHERE position = ?", (position,)).fetchone()
            except sqlite3.Error:
                return position - 1
            if row != (position,):
                return position - 1
    return last


def everything(path: Path) -> object:
    """Return everything readable of a database, to be compared."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)) as conn:
            conn.text_factory = bytes
            found = [conn.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY 1, 2").fetchall()]
            tables = [name.decode() for kind, name, _, _ in found[0] if kind == b"table"]
            rows = (conn.execute(f'SELECT * FROM "{name}"') for name in tables if not name.startswith("search"))
            found += [sorted(each, key=repr) for each in rows]
            if "search" in tables:  # the storage may differ: only which word finds which rows counts
                conn.execute("CREATE VIRTUAL TABLE temp.places USING fts5vocab (main, search, instance)")
                conn.execute("CREATE VIRTUAL TABLE temp.words USING fts5vocab (main, search, row)")
                found.append(conn.execute("SELECT term, doc, col, offset FROM temp.places").fetchall())
                words = dict.fromkeys(row[0] for row in found[-1])
                found.append(
                    [conn.execute("SELECT * FROM temp.words WHERE term = ?", (w.decode(),)).fetchall() for w in words]
                )
            return found
    except (sqlite3.Error, UnicodeDecodeError) as error:
        return str(error)


# --- mutations: each changes something in a copy of a world's folder ---


class Change(NamedTuple):
    """A world, the copy to be changed, and a source of randomness."""

    world: World
    folder: Path
    seals: Path
    chance: random.Random

    @property
    def log(self) -> Path:
        return self.folder / "log.db"

    @property
    def wal(self) -> Path:
        return self.folder / "log.db-wal"


Mutation: TypeAlias = Callable[[Change], None]


def any_row(chance: random.Random, rows: Rows) -> int:
    return chance.randrange(len(rows))


def another_value(chance: random.Random, rows: Rows) -> None:
    row, column = rows[any_row(chance, rows)], chance.randrange(1, len(COLUMNS))
    old = row[column]
    if isinstance(old, int):
        row[column] = old + chance.choice((1, -1, 7))
    else:
        place = chance.randrange(len(old) + 1)
        row[column] = old[:place] + chance.choice(("x", "7", " ", '"')) + old[place + chance.randrange(2) :]


def another_time(chance: random.Random, rows: Rows) -> None:
    row = rows[any_row(chance, rows)]
    at = COLUMNS.index("recorded_at")
    row[at] = row[at].replace("2026-", "2025-")


def one_removed(chance: random.Random, rows: Rows) -> None:
    del rows[any_row(chance, rows)]


def several_removed(chance: random.Random, rows: Rows) -> None:
    begin = any_row(chance, rows)
    del rows[begin : begin + chance.randrange(2, 20)]


def a_task_removed(chance: random.Random, rows: Rows) -> None:
    gone = chance.choice(rows)[1]
    rows[:] = [row for row in rows if row[1] != gone]


def last_records_of_a_task_removed(chance: random.Random, rows: Rows) -> None:
    at = rows[any_row(chance, rows)]
    rows[:] = [row for row in rows if row[1] != at[1] or row[0] < at[0]]


def one_put_in(chance: random.Random, rows: Rows) -> None:
    copied = list(chance.choice(rows))
    copied[1] = len({row[1] for row in rows}) + 1  # a task that did not exist
    copied[2] = 1
    rows.insert(any_row(chance, rows), copied)


def one_put_in_of_the_service(chance: random.Random, rows: Rows) -> None:
    of_service = [row for row in rows if row[1] == 0]
    if of_service:
        copied = list(chance.choice(of_service))
        copied[2] = max(row[2] for row in of_service) + 1
        rows.insert(any_row(chance, rows), copied)


def two_exchanged(chance: random.Random, rows: Rows) -> None:
    one, other = any_row(chance, rows), any_row(chance, rows)
    rows[one], rows[other] = rows[other], rows[one]


def end_cut(chance: random.Random, rows: Rows) -> None:
    del rows[any_row(chance, rows) :]


def end_rewritten(chance: random.Random, rows: Rows) -> None:
    at = any_row(chance, rows)
    for row in rows[at:]:
        row[COLUMNS.index("actor")] = "another"


def all_rewritten(_chance: random.Random, rows: Rows) -> None:
    for row in rows:
        row[COLUMNS.index("reason")] += "."


INSIDER = (
    *(another_value, another_time, one_removed, several_removed, a_task_removed, last_records_of_a_task_removed),
    *(one_put_in, one_put_in_of_the_service, two_exchanged, end_cut, end_rewritten, all_rewritten),
)


def by_insider(how: Callable[[random.Random, Rows], None]) -> Mutation:
    """Rows are changed, and the whole chain is made anew."""

    def mutate(change: Change) -> None:
        with suppress(sqlite3.IntegrityError):  # two unique indexes stop even the insider, half-way
            chained_anew(change.log, lambda rows: how(change.chance, rows))

    return mutate


def sealed_anew(change: Change) -> None:
    """An insider with the key makes the seals anew, too. The kept ones are elsewhere."""
    by_insider(change.chance.choice(INSIDER))(change)
    with closing(SqliteLogReader(change.log)) as log, suppress(TasktrailError):
        make_seal(log, change.folder / "seals", change.world.kept.parent / "seal-key", BEGIN)


def with_a_shell(change: Change) -> None:
    """A statement runs, and the chain stays as it is."""
    rows = change.world.rows
    position, other = any_row(change.chance, rows) + 1, any_row(change.chance, rows) + 1
    column = change.chance.choice(COLUMNS[1:])
    old = rows[position - 1][COLUMNS.index(column)]
    new = old + 1 if isinstance(old, int) else f"{old}x"
    statement, values = change.chance.choice(
        (
            (f"UPDATE events SET {column} = ? WHERE position = ?", (new, position)),
            ("UPDATE events SET hash = randomblob(32) WHERE position = ?", (position,)),
            (
                "UPDATE events SET hash = (SELECT hash FROM events WHERE position = ?) WHERE position = ?",
                (other, position),
            ),
            ("DELETE FROM events WHERE position = ?", (position,)),
            ("DELETE FROM events WHERE position >= ?", (position,)),
            ("UPDATE events SET position = position + 100000 WHERE position = ?", (position,)),
            ("UPDATE answers SET task_id = task_id + 1 WHERE position >= ?", (position,)),
            ("DELETE FROM answers WHERE position >= ?", (position,)),
        )
    )
    with forging(change.log) as conn, suppress(sqlite3.IntegrityError):
        conn.execute(statement, values)


def bits_of(name: str) -> Mutation:
    def mutate(change: Change) -> None:
        path = change.folder / name
        if path.exists() and path.stat().st_size:
            content = bytearray(path.read_bytes())
            for _ in range(change.chance.choice((1, 1, 1, 8))):
                content[change.chance.randrange(len(content))] ^= 1 << change.chance.randrange(8)
            path.write_bytes(content)

    return mutate


def a_page_of(name: str) -> Mutation:
    """A page is replaced by zeros, or by another page of the file."""

    def mutate(change: Change) -> None:
        path = change.folder / name
        if path.exists() and path.stat().st_size:
            content = bytearray(path.read_bytes())
            at, other = (change.chance.randrange(len(content)) // PAGE * PAGE for _ in range(2))
            page = bytes(content[other : other + PAGE]) if change.chance.random() < 0.5 else bytes(PAGE)
            content[at : at + len(page)] = page
            path.write_bytes(content)

    return mutate


def length_of(name: str) -> Mutation:
    def mutate(change: Change) -> None:
        path = change.folder / name
        if path.exists() and path.stat().st_size:
            with path.open("rb+") as file:
                file.truncate(change.chance.randrange(path.stat().st_size))

    return mutate


def wal_removed(change: Change) -> None:
    change.wal.unlink(missing_ok=True)


def older_copy(change: Change) -> None:
    """Copy the log alone, or with its write-ahead log."""
    old = change.world.olds / str(change.chance.randrange(SEALS))
    names = change.chance.choice((("log.db", "log.db-wal"), ("log.db",), ("log.db-wal",)))
    for name in names:
        (change.folder / name).unlink(missing_ok=True)
        with suppress(FileNotFoundError):
            shutil.copy(old / name, change.folder)


def another_log(change: Change) -> None:
    change.log.unlink()
    change.wal.unlink(missing_ok=True)
    log = SqliteEventLog(change.log, now=BEGIN)
    random_history(Journal(log), change.chance.randrange(5, 200), seed=change.chance.randrange(1 << 30))
    log.close()


def byte_of_a_seal(change: Change) -> None:
    path = change.chance.choice(seal_files(change.seals))
    content = bytearray(path.read_bytes())
    place = change.chance.randrange(len(content))
    content[place : place + change.chance.randrange(2)] = bytes([change.chance.randrange(256)])
    path.write_bytes(content)


def seal_cut(change: Change) -> None:
    path = change.chance.choice(seal_files(change.seals))
    path.write_bytes(path.read_bytes()[: change.chance.randrange(path.stat().st_size)])


def seal_of_another_key(change: Change) -> None:
    """The key is replaced, too, by somebody who can write to the folder."""
    forger = PrivateKey.made(change.world.key.name)
    path = change.chance.choice(seal_files(change.seals))
    path.write_text(forger.signed(change.world.key.opened(path.read_text())))
    (change.seals / "key").write_text(forger.public.text)


def seal_of_other_records(change: Change) -> None:
    """It has the right key, and is of a log that never existed."""
    trees = Trees()
    size = change.chance.randrange(1, len(change.world.rows) + 30)
    for position in range(1, size + 1):
        trees.apply(position, 1, position, change.chance.randbytes(32))
    (change.seals / f"{size}.note").write_text(
        change.world.private.signed(checkpoint_of(change.world.key.name, trees, BEGIN))
    )


GHOST = """
    INSERT INTO tasks SELECT id + 1000, status, type, user_id, document_id, parent_task_id, label, batch, priority,
        queue_key, updated_at, spec, state, spec_sum, state_sum FROM tasks WHERE id = ?
"""


def views_with_a_shell(change: Change) -> None:
    statement = change.chance.choice(
        (
            "UPDATE tasks SET status = 'completed' WHERE id = ?",
            "UPDATE tasks SET user_id = user_id + 1 WHERE id = ?",
            "UPDATE tasks SET spec = replace(spec, '/in/', '/out/') WHERE id = ?",
            "UPDATE tasks SET state = replace(state, '1', '2') WHERE id = ?",
            "UPDATE tasks SET updated_at = updated_at - 1 WHERE id = ?",
            "DELETE FROM tasks WHERE id = ?",
            GHOST,
            "UPDATE counts SET number = number + 1 WHERE ? > 0",
            "UPDATE minutes SET created = created + 1 WHERE ? > 0",
            "DELETE FROM notes WHERE task_id = ?",
            "DELETE FROM notices WHERE task_id = ?",
        )
    )
    task = change.chance.randrange(1, 1 + max(row[1] for row in change.world.rows))
    with forging(change.folder / "views.db") as conn, suppress(sqlite3.Error):
        conn.execute(statement, (task,))


MUTATIONS: dict[str, Mutation] = {
    **{f"insider: {how.__name__.replace('_', ' ')}": by_insider(how) for how in INSIDER},
    "insider: sealed anew": sealed_anew,
    "shell": with_a_shell,
    "shell again": with_a_shell,
    "bits of log.db": bits_of("log.db"),
    "a page of log.db": a_page_of("log.db"),
    "length of log.db": length_of("log.db"),
    "bits of the write-ahead log": bits_of("log.db-wal"),
    "a page of the write-ahead log": a_page_of("log.db-wal"),
    "length of the write-ahead log": length_of("log.db-wal"),
    "write-ahead log removed": wal_removed,
    "older copy": older_copy,
    "another log": another_log,
    "byte of a seal": byte_of_a_seal,
    "seal cut": seal_cut,
    "seal of another key": seal_of_another_key,
    "seal of other records": seal_of_other_records,
    "views with a shell": views_with_a_shell,
    "bits of views.db": bits_of("views.db"),
    "a page of views.db": a_page_of("views.db"),
}
# --- mutations of archives: each says where the first position has to be that is told ---

Range: TypeAlias = tuple[int, int]


def any_archive(change: Change) -> tuple[SegmentArchived, Path]:
    event = change.chance.choice(change.world.archives)
    return event, change.folder / "archive" / segment_of(event).name


def archive_removed(change: Change) -> Range:
    event, path = any_archive(change)
    path.unlink()
    return event.first, event.first


def archive_cut(change: Change) -> Range:
    event, path = any_archive(change)
    path.write_bytes(path.read_bytes()[: change.chance.randrange(path.stat().st_size)])
    return event.first, event.first


def bits_of_an_archive(change: Change) -> Range:
    event, path = any_archive(change)
    content = bytearray(path.read_bytes())
    for _ in range(change.chance.choice((1, 1, 1, 8))):
        content[change.chance.randrange(len(content))] ^= 1 << change.chance.randrange(8)
    if bytes(content) == path.read_bytes():
        content[0] ^= 1
    path.write_bytes(content)
    return event.first, event.last


def archives_exchanged(change: Change) -> Range:
    one, other = (change.folder / "archive" / segment_of(event).name for event in change.world.archives)
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return 1, 1


def archive_of_another_log(change: Change) -> Range:
    event, path = any_archive(change)
    rows = [tuple(row) for row in change.world.rows[event.first - 1 : event.last]]
    write_archive(path, _anew(rows, change.chance.randbytes(32), "actor", "x"), change.chance.randbytes(32))
    return event.first, event.first


def archive_not_known(change: Change) -> Range:
    event, _path = any_archive(change)
    with forging(change.log) as conn:
        conn.execute("DELETE FROM archives WHERE first >= ?", (event.first,))
    return event.first, event.first


def contents_of_an_archive(change: Change) -> Range:
    """Its notes lead past some of its records, or to it for none."""
    event, _path = any_archive(change)
    table, column = change.chance.choice((("archived_kinds", "event"), ("archived_tasks", "task_id")))
    with forging(change.log) as conn:
        there = conn.execute(f"SELECT {column} FROM {table} WHERE first = ?", (event.first,)).fetchall()
        if change.chance.random() < 0.5:
            conn.execute(
                f"DELETE FROM {table} WHERE {column} = ? AND first = ?",
                (*change.chance.choice(there), event.first),
            )
        else:
            conn.execute(f"INSERT INTO {table} VALUES (?, ?)", (1_000_000, event.first))
    return event.first, event.first


def record_in_an_archive(change: Change) -> Range:
    """Only its line changes; the hashes of all others stay as they are.

    An archive keeps four digits of its hash: of 65,536 changes one leaves them as they are, and the next record reveals
    it.
    """
    event, path = any_archive(change)
    rows = [tuple(row) for row in change.world.rows[event.first - 1 : event.last]]
    place = change.chance.randrange(len(rows))
    stub = rows[place][3] == STUB  # its hash cannot show it, but that of the file does
    before, digest = rows[place - 1][14] if place else _before(change, event), rows[place][14]
    actor = f"{rows[place][5]}x"
    while not stub and link(before, (*rows[place][:5], actor, *rows[place][6:14]))[:2] == digest[:2]:
        actor += "x"
    rows[place] = (*rows[place][:5], actor, *rows[place][6:])
    write_archive(path, rows, _before(change, event))
    return event.first if stub else rows[place][0], rows[place][0]


def archive_by_insider(change: Change) -> Range:
    """A record is replaced, and all later hashes are made anew, with everything that names the file."""
    event, path = any_archive(change)
    rows = [tuple(row) for row in change.world.rows[event.first - 1 : event.last]]
    place = change.chance.randrange(len(rows))
    if all(row[3] == STUB for row in rows):
        return record_in_an_archive(change)
    while rows[place][3] == STUB:
        place = (place + 1) % len(rows)
    before = rows[place - 1][14] if place else _before(change, event)
    rows[place:] = _anew([(*rows[place][:5], "x", *rows[place][6:]), *rows[place + 1 :]], before)
    position = rows[place][0]
    if event is not change.world.archives[-1]:  # the hashes of the next one would have to be made anew as well
        write_archive(path, rows, _before(change, event))
        return event.first, position
    _named_anew(change, event, path, rows)
    fits = max((size for size in change.world.sizes if size < position), default=0)
    return fits + 1, position


def _named_anew(change: Change, event: SegmentArchived, path: Path, rows: list[tuple[Any, ...]]) -> None:
    made = write_archive(path, rows, _before(change, event))
    tree = GrowingRoot()
    for row in rows:
        tree.append(leaf_hash(row[14]))
    known = (made.newest_task, tree.root().hex(), made.sha256, made.size)
    path.rename(path.with_name(file_name(event.first, event.last, made.sha256)))
    with forging(change.log) as conn:
        total = checksum((event.first, event.last, *known))
        conn.execute("DELETE FROM archives WHERE first = ?", (event.first,))
        conn.execute("INSERT INTO archives VALUES (?, ?, ?, ?, ?, ?, ?)", (event.first, event.last, *known, total))
        digest = rows[-1][14]
        names = ", ".join((*COLUMNS, "hash"))
        for row in conn.execute(f"SELECT {names} FROM events ORDER BY position").fetchall():
            data = row[13].replace(event.root, known[1]).replace(event.sha256, made.sha256)
            data = data.replace(f'"size":{event.size}', f'"size":{made.size}')
            digest = row[14] if row[3] == STUB else link(digest, (*row[:13], data))
            conn.execute("UPDATE events SET data = ?, hash = ? WHERE position = ?", (data, digest, row[0]))


def _before(change: Change, event: SegmentArchived) -> bytes:
    return GENESIS if event.first == 1 else bytes(change.world.rows[event.first - 2][14])


def _anew(rows: list[tuple[Any, ...]], before: bytes, column: str = "", more: str = "") -> list[tuple[Any, ...]]:
    """Return the rows with hashes that follow another one."""
    made = []
    for row in rows:
        values = list(row[:14])
        if column:
            values[COLUMNS.index(column)] += more
        before = row[14] if row[3] == STUB else link(before, values)
        made.append((*values, before))
    return made


OF_ARCHIVES: dict[str, Callable[[Change], Range]] = {
    "archive: removed": archive_removed,
    "archive: cut": archive_cut,
    "archive: bits": bits_of_an_archive,
    "archive: exchanged": archives_exchanged,
    "archive: of another log": archive_of_another_log,
    "archive: not known": archive_not_known,
    "archive: what is in it": contents_of_an_archive,
    "archive: a record": record_in_an_archive,
    "archive: by an insider": archive_by_insider,
}
ABOUT_VIEWS = frozenset(name for name in MUTATIONS if "views" in name)
ABOUT_FILES = frozenset(name for name in MUTATIONS if name.startswith(("bits of", "a page of", "length of")))
ABOUT_SEALS = frozenset(name for name in MUTATIONS if name.startswith(("byte of a seal", "seal")))


# --- what is found ---


def told_of(folder: Path, seals: Path, key: PublicKey, *, views: bool, apart: tuple[str, ...] = ("views",)) -> Told:
    """Return the report of `tasktrail verify --seals`. `apart`: codes of findings whose positions are left out."""
    try:
        with closing(SqliteLogReader(folder / "log.db")) as log:
            found = verify(log, folder / "views.db" if views else None, seals=SealCheck(seals, key))
    except TasktrailError as error:
        return Told(found=True, words=error.message)
    placed = [one for one in found.findings if one.position and one.code not in apart] or found.findings
    words = "; ".join(f"{one.position} {one.code}: {one.message}" for one in placed[:4])
    positions = tuple(one.position for one in found.findings if one.position and one.code not in apart)
    return Told(not found.ok, positions, words, found.sealed or 0)


def contents(seals: Path) -> object:
    """Return the notes as they are: each is written in one way only."""
    return {path.name: path.read_bytes() for path in seal_files(seals)}


def first_that_differs(world: World, path: Path) -> int | None:
    """Return the first position at which another record stands, or none is found; None: they are the same."""
    rows = rows_of(path)
    if rows is None:
        return 1
    return first_other(world.rows, rows[: found_by_position(path, len(rows))])


def first_other(due: Rows, rows: Rows) -> int | None:
    """The same for records that can be read."""
    for position, (one, other) in enumerate(zip(due, rows, strict=False), 1):
        if one != other and not _is_left_of(one, other, rows[position - 2][-1] if position > 1 else GENESIS):
            return position
    return None if len(rows) == len(due) else min(len(rows), len(due)) + 1


def _is_left_of(stub: list[Any], record: list[Any], before: bytes) -> bool:
    """Return whether it is the stub of this very record, which an older copy still has."""
    kept = (0, 1, 2, 4, 14)
    if stub[3] != STUB or [stub[place] for place in kept] != [record[place] for place in kept]:
        return False
    return bool(link(before, record[:-1]) == record[-1])


def mutate_archive(world: World, name: str, scratch: Path, chance: random.Random) -> str:
    """Change an archive in a copy. Raises `Broken` if that is not found, or reported at a wrong position."""
    folder = scratch / "copy"
    world.copy_to(folder)
    least, most = OF_ARCHIVES[name](Change(world, folder, world.kept, chance))
    said = told_of(folder, world.kept, world.key, views=False, apart=("seal",))
    if not said.positions:  # what only a seal shows
        said = told_of(folder, world.kept, world.key, views=False)
    if not said.found:
        raise Broken(f"not found, and something is another at {least} to {most}")
    if said.positions and not least <= min(said.positions) <= most:
        raise Broken(f"it is at {least} to {most}, and it was told: {said.words}")
    _refuse_other_records(world, folder)
    return "found" if said.positions else "found, and the file cannot be read"


def _refuse_other_records(world: World, folder: Path) -> None:
    """Raise `Broken` if records are read from a file that is not the noted one."""
    with closing(SqliteLogReader(folder / "log.db")) as log, suppress(TasktrailError):
        noted = {segment.first: segment.name for segment in log.segments()}
        for event in world.archives:
            name = segment_of(event).name
            if noted.get(event.first) != name:  # everything that names it was made anew
                continue
            path = folder / "archive" / name
            sound = path.exists() and path.read_bytes() == world.files[f"archive/{name}"]
            with suppress(TasktrailError):
                found = [list(row) for row in log.rows(event.first - 1, event.last - event.first + 1)]
                if not sound or found != world.rows[event.first - 1 : event.last]:
                    raise Broken(f"records were read from an archive that is not the noted one: {name}")


def mutate(world: World, name: str, scratch: Path, chance: random.Random) -> str:
    """Change a copy, and return the result: found, or harmless. Raises `Broken`."""
    folder, seals, looked_at = scratch / "copy", scratch / "seals", scratch / "looked-at"
    world.copy_to(folder)
    shutil.rmtree(seals, ignore_errors=True)
    shutil.copytree(world.kept, seals)
    MUTATIONS[name](Change(world, folder, seals, chance))
    for path in folder.glob("*-shm"):
        path.unlink()
    shutil.rmtree(looked_at, ignore_errors=True)
    shutil.copytree(folder, looked_at)  # reading may change the files
    # A damaged file may also affect the answers and the indexes, which belong to other positions.
    apart = ("views", "answer", "index") if name in ABOUT_FILES else ("views",)
    said = told_of(folder, seals, world.key, views=name in ABOUT_VIEWS, apart=apart)
    if name in ABOUT_SEALS:
        changed = contents(seals) != contents(world.kept)
        first = None
    elif name in ABOUT_VIEWS:
        changed = everything(looked_at / "views.db") != everything(world.folder / "views.db")
        first = None
    else:
        first = first_that_differs(world, looked_at / "log.db")
        changed = first is not None or everything(looked_at / "log.db") != everything(world.path)
    if not said.found:
        if changed:
            raise Broken(f"not found, and {'the record at ' + str(first) if first else 'something'} is another")
        return "harmless"
    if first is not None and said.positions:
        fits = max((size for size in world.sizes if size < first), default=0)
        if not fits < min(said.positions) <= first:
            raise Broken(f"the first that differs is {first}, behind a seal of {fits}, and it was told: {said.words}")
        return "found"
    if first is not None:
        return "found, and the file cannot be read"
    return "found"


@contextmanager
def coming_to_an_end() -> Iterator[None]:
    """Raise `Broken` if that takes longer than anything should: reading a damaged file may never end."""

    def give_up(*_: object) -> None:
        raise Broken(f"it came to no end within {PATIENCE} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def mutations(number: int, seed: int, *, show: Callable[[str], None] = print) -> tuple[Counter[str], list[str]]:
    """Make that many mutations with an effect; return how many of each kind were found, and what was not."""
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    broken: list[str] = []
    done = drawn = 0
    world: World | None = None
    with tempfile.TemporaryDirectory() as scratch:
        while done < number:
            if world is None or drawn % EACH == 0:
                shutil.rmtree(Path(scratch) / "world", ignore_errors=True)
                world = World(Path(scratch) / "world", chance.randrange(1 << 30))
            drawn += 1
            name, own = chance.choice(list(OF_ARCHIVES if world.archives else MUTATIONS)), chance.randrange(1 << 30)
            try:
                how = mutate_archive if world.archives else mutate
                with coming_to_an_end():
                    outcome = how(world, name, Path(scratch), random.Random(own))
            except Exception as error:  # noqa: BLE001 - that is what is looked for
                outcome = "BROKEN"
                broken.append(f"{name} (drawn {drawn} of seed {seed}): {type(error).__name__}: {error}")
                show(f"  {broken[-1]}")
            counts[outcome] += 1
            if outcome != "harmless":
                counts[name] += 1
                done += 1
    return counts, broken


# --- what is clean ---


def clean(number: int, seed: int, *, show: Callable[[str], None] = print) -> tuple[Counter[str], list[str]]:
    """Check that many logs without a change, a quarter of them whole and the rest as a crash leaves them."""
    chance = random.Random(seed)
    counts: Counter[str] = Counter()
    alarms: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        while counts.total() < number:
            for name, folder, seals, size in images(Path(scratch), chance):
                said = told_of(folder, seals, public_key(seals), views=(folder / "views.db").exists())
                counts[name] += 1
                if said.found or said.sealed != size:
                    alarms.append(f"{name} ({counts.total()} of seed {seed}): {said}")
                    show(f"  {alarms[-1]}")
                if counts.total() == number:
                    break
    return counts, alarms


def images(scratch: Path, chance: random.Random) -> list[tuple[str, Path, Path, int]]:
    """Return a closed log, and its files as a power cut may leave an open one: what, where, seals, sealed size."""
    shutil.rmtree(scratch / "clean", ignore_errors=True)
    folder = scratch / "clean" / "data"
    folder.mkdir(parents=True)
    log = SqliteEventLog(folder / "log.db", now=BEGIN)
    journal = Journal(log)
    size = 0
    for number in range(chance.randrange(1, 4)):
        while len(journal.records) <= size:
            random_history(journal, chance.randrange(1, 80), seed=chance.randrange(1 << 30))
        if chance.random() < 0.5:
            log.maintain()
        if number and chance.random() < ARCHIVED:
            archive(journal, chance.randrange(archived_until(log._conn) + 1, len(journal.records)))
        with closing(SqliteLogReader(folder / "log.db")) as reader:
            at = BEGIN + timedelta(hours=number)
            size = make_seal(reader, folder / "seals", folder / "seal-key", at)[0].checkpoint.size
    if chance.random() < 0.5:
        with closing(SqliteLogReader(folder / "log.db")) as reader:
            rebuild_views(reader, folder / "views.db")
    durable = (folder / "log.db-wal").stat().st_size
    written = len(journal.records)
    while len(journal.records) == written:
        random_history(journal, chance.randrange(1, 40), seed=chance.randrange(1 << 30))
    found = []
    for number in range(3):
        image = scratch / "clean" / str(number)
        shutil.copytree(folder, image, ignore=shutil.ignore_patterns("*-shm"))
        wal = image / "log.db-wal"
        content = wal.read_bytes()
        cut = chance.randrange(durable, len(content) + 1)
        torn = chance.choice((b"", bytes(len(content) - cut), chance.randbytes(len(content) - cut)))
        wal.write_bytes(content[:cut] + torn)
        found.append(("as a crash leaves it", image, image / "seals", size))
    log.close()
    return [*found, ("whole", folder, folder / "seals", size)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mutations", type=int, default=5000, help="how many that change something")
    parser.add_argument("--clean", type=int, default=1000, help="how many logs without a fault")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    begun = time.monotonic()
    counts, broken = mutations(asked.mutations, asked.seed)
    for name in (*MUTATIONS, *OF_ARCHIVES):
        print(f"{counts.pop(name, 0):6,}  {name}")
    print(f"{asked.mutations:,} mutations, {len(broken)} not found or told at a wrong position: {dict(counts)}")
    looked_at, alarms = clean(asked.clean, asked.seed)
    print(f"{asked.clean:,} clean logs, {len(alarms)} alarms: {dict(looked_at)}")
    print(f"{time.monotonic() - begun:.0f} s")
    return 1 if broken or alarms else 0


if __name__ == "__main__":
    sys.exit(main())
