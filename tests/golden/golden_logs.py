"""Logs as each version wrote them, and the present forms of events.

`make golden` pins the forms, where they have only grown. `make golden ARGS=--log`, before a release, keeps two logs of
this version as well: one with nearly every event, and one with archives. `logs.json` has the expected result of each
log: its head, the hash of its states, the number of tasks of each status, and the kinds of its events. An existing log
is never written again.
"""

import gzip
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
from archiving import archive, forget
from histories import BEGIN, Journal, random_history
from msgspec import inspect

from tasktrail import __version__
from tasktrail.events import Created, Event, Recorded, TaskState
from tasktrail.events.forms import Forms, forms_fingerprint, known_forms, lacking
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.log.writers import added_forms
from tasktrail.events.system_events import SYSTEM_TAGS, SegmentArchived, ServiceStarted, TasksForgotten
from tasktrail.projections.views.fold import Tally, fold_batch

FOLDER = Path(__file__).parent
FORMS = FOLDER / "forms.json"
LOGS = FOLDER / "logs.json"
STEPS = 250
ARCHIVES = "archives"
"""The ending of the name of a log with archives. It is kept as a packed folder."""
BY_THEMSELVES = (TasksForgotten, SegmentArchived)
"""The events by which records leave the table. Their content has to be true."""


class Golden(msgspec.Struct, frozen=True, kw_only=True):
    """The expected result of an earlier version's log."""

    version: str
    written: str
    """The day."""
    head: str
    """The hash of its last record, in hex."""
    states: str
    """The hash of all states; see `hash_of`."""
    statuses: dict[str, int]
    events: tuple[str, ...]
    otherwise: str = ""
    """What that version itself folded differently, in words: the hash is that of today's fold."""


def hash_of(states: Iterable[TaskState]) -> str:
    """Return the same hash for equal states, whichever fields with defaults a task also has."""
    return sha256(b"\n".join(msgspec.json.encode(_told(state), order="deterministic") for state in states)).hexdigest()


def _told(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        given = {field.name: (getattr(value, field.name), field.default) for field in msgspec.structs.fields(value)}
        return {name: _told(found) for name, (found, default) in given.items() if found not in (default, {}, None)}
    return value


def unfit(before: Forms, after: Forms) -> str:
    """Return the changes of forms that make earlier records unreadable, and the remedy; empty if there are none."""
    wrong = [f"{lack} cannot be read any more" for lack in lacking(before, after)]
    for tag in before.keys() & after.keys():
        new = {path: form for path, form in after[tag].items() if path not in before[tag]}
        wrong += [f"`{tag}.{path}` is new and has no default" for path in new if _is_missed(path, new)]
    if not wrong:
        return ""
    return (
        f"Records that are in logs already could no longer be read as they were written: {'; '.join(wrong)}. Give a "
        "new field a default; instead of changing or removing one, make a new event (CONTRIBUTING.md, 'When an event "
        "changes')."
    )


def _is_missed(path: str, new: dict[str, str]) -> bool:
    """Return whether earlier records lack a required field that is neither content nor part of something new."""
    return " = " not in new[path] and not path.endswith(("[]", "{}")) and path.rpartition(".")[0] not in new


# --- a log with every event that there is ---


def write_log(path: Path) -> Golden:
    """Write a history that the rules allow, with every event and, once, every field of a created task."""
    with closing(SqliteEventLog(path, now=BEGIN)) as log:
        journal = Journal(log)
        journal.record(0, _start())
        journal._epoch = 1
        random_history(journal, STEPS, seed=7)
        journal.record(len(journal.states) + 1, _sample(Created))
        for event in SYSTEM_TAGS:
            if event not in BY_THEMSELVES and not any(type(record.event) is event for record in journal.records):
                journal.record(0, _sample(event, task_id=len(journal.states)))
        journal.forget(*journal.over()[-1:])  # for `tasks_forgotten`, and stubs
        log._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return golden_of(journal.records)


def write_archived_log(path: Path) -> Golden:
    """Write a history whose first records are in archives, one of which has replaced another since."""
    with closing(SqliteEventLog(path, now=BEGIN)) as log:
        journal = Journal(log)
        journal.record(0, _start())
        journal._epoch = 1
        for seed in range(3):
            random_history(journal, STEPS, seed=seed)
            archive(journal, log.head().position - 40)
        forget(journal, journal.over()[0])
        random_history(journal, 20, seed=4)
        log._archives.remove_strays()
        log._conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return golden_of(journal.records)


def unpack(name: str, folder: Path) -> None:
    """Unpack a kept log into an empty folder."""
    if name.endswith(ARCHIVES):
        with tarfile.open(FOLDER / f"{name}.tar.gz") as packed:
            packed.extractall(folder, filter="data")
    else:
        (folder / "log.db").write_bytes(gzip.decompress((FOLDER / f"{name}.db.gz").read_bytes()))


def _pack(name: str, folder: Path) -> Path:
    if not name.endswith(ARCHIVES):
        packed = FOLDER / f"{name}.db.gz"
        packed.write_bytes(gzip.compress((folder / "log.db").read_bytes(), mtime=0))
        return packed
    packed = FOLDER / f"{name}.tar.gz"
    with (
        packed.open("wb") as file,
        gzip.GzipFile("", "wb", fileobj=file, mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for path in (folder / "log.db", *sorted((folder / "archive").iterdir())):
            tar.add(path, path.relative_to(folder), filter=_of_nobody)
    return packed


def _of_nobody(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.mtime = info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info


def golden_of(records: list[Recorded]) -> Golden:
    """Return the result of these records."""
    folded = fold_batch(records, {}, Tally())
    states = [folded[task_id] for task_id in sorted(folded)]
    return Golden(
        version=__version__,
        written=f"{datetime.now(UTC):%Y-%m-%d}",
        head=records[-1].hash.hex(),
        states=hash_of(states),
        statuses=dict(Counter(state.status for state in states)),
        events=tuple(sorted({record.name for record in records})),
    )


def _start() -> ServiceStarted:
    return ServiceStarted(
        version=__version__, epoch=1, pid=1, host="here", schema=forms_fingerprint(), forms=added_forms()
    )


def _sample(event: type[Any], **given: object) -> Event:
    """Return the event with something in every field."""
    fields = inspect.type_info(event).fields  # type: ignore[attr-defined]  # an event is a Struct
    values = {field.name: given.get(field.name, _value(field.type, field.name)) for field in fields}
    return event(**values)  # type: ignore[no-any-return]  # built by its own fields


def _value(kind: inspect.Type, name: str) -> Any:
    match kind:
        case inspect.UnionType(types=types):
            return _value(next(one for one in types if not isinstance(one, inspect.NoneType)), name)
        case inspect.LiteralType(values=values):
            return values[0]
        case inspect.VarTupleType(item_type=item):
            return (_value(item, name),)
        case inspect.DictType(value_type=value):
            return {"a": _value(value, name)}
        case inspect.StructType(cls=cls):
            return _sample(cls)
        case inspect.BoolType():
            return True
        case inspect.IntType():
            return 1
        case inspect.FloatType():
            return 1.5
        case inspect.DateTimeType():
            return BEGIN
        case _:
            return name


def main(arguments: list[str]) -> int:
    """Pin the forms of this version; with `--log`, keep a log of it under the fingerprint of its forms."""
    pinned = msgspec.json.decode(FORMS.read_bytes(), type=Forms)
    if fault := unfit(pinned, known_forms()):
        sys.stderr.write(f"{fault}\n")
        return 1
    new = lacking(known_forms(), pinned)
    sys.stdout.write(f"new: {', '.join(new) or 'nothing'}\n")
    FORMS.write_bytes(msgspec.json.format(msgspec.json.encode(known_forms(), order="deterministic"), indent=1) + b"\n")
    logs = msgspec.json.decode(LOGS.read_bytes(), type=dict[str, Golden])
    name = f"{__version__}-{forms_fingerprint()}"
    for one, write in ((name, write_log), (f"{name}-{ARCHIVES}", write_archived_log)):
        if arguments == ["--log"] and one not in logs:
            logs[one] = _kept(one, write)
    LOGS.write_bytes(msgspec.json.format(msgspec.json.encode(logs, order="deterministic"), indent=1) + b"\n")
    return 0


def _kept(name: str, write: Callable[[Path], Golden]) -> Golden:
    with TemporaryDirectory() as folder:
        path = Path(folder, "log.db")
        golden = write(path)
        with closing(SqliteLogReader(path)) as log:
            assert log.head().hash.hex() == golden.head
        packed = _pack(name, path.parent)
        sys.stdout.write(f"{packed.name}: {packed.stat().st_size} bytes\n")
        return golden


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
