"""Encrypts the personal data of records on their way into a log, and decrypts it on the way out.

Folds do not notice it, and the hash chain covers the stored form. Without its key a record has the fixed values of
`personal`. So data that a destroyed key has encrypted is gone from all copies of the log.
"""

import base64
import binascii
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, Self

import msgspec
from cryptography.exceptions import InvalidTag
from msgspec.structs import replace

from ..context import NOTHING_KNOWN, Belongings
from ..errors import ChangedMeanwhile, LogCorrupt
from ..recorded import EVENT_TAGS, Fact
from ..system_events import CommandRefused, ScheduleAdded, SourceAdded, UserErased
from ..task_events import Cancelled, Created
from .archives import Archives
from .event_log import Answer, Erasable
from .keys import Keys, decrypt, encrypt
from .personal import BEGINS, KEY_LENGTH, bound_to, box_of, divided, readable_row, stored
from .stubs import read_drops

Row = tuple[Any, ...]
_DIGEST = b"personal:"
_CREATED = EVENT_TAGS[Created]
_MOST_KNOWN = 100_000
_KEY_OF = f"""
    SELECT substr(data, {len(BEGINS) + 1}, {KEY_LENGTH}) FROM events
    WHERE task_id = ? AND version = 1 AND substr(data, 1, {len(BEGINS)}) = '{BEGINS}'
"""  # noqa: S608 - our own words
_NAMING = """
    SELECT position, task_id, version, event, data FROM events
    WHERE position > ? AND position <= ? AND event IN (SELECT value FROM json_each(?))
"""
_RECORDS_OF = f"""
    SELECT count(*) FROM events WHERE substr(data, 1, {len(BEGINS)}) = '{BEGINS}'
        AND substr(data, {len(BEGINS) + 1}, {KEY_LENGTH}) IN (SELECT value FROM json_each(?))
        AND position > ?
"""  # noqa: S608 - our own words
_ANY = f"SELECT 1 FROM events WHERE substr(data, 1, {len(BEGINS)}) = '{BEGINS}' LIMIT 1"  # noqa: S608 - our own words


def belongings(conn: sqlite3.Connection, keys: Keys, user_id: int, known: Belongings) -> Belongings:
    """The personal data of a user, up to the end of the log. It scans all records that name a user.

    `known`: what was found before, so that only later records are scanned. Raises `sqlite3.Error`,
    `ChangedMeanwhile` when something of that is gone, and `KeysUnreadable` as `collect_belongings` does.
    """
    head = int(conn.execute("SELECT coalesce(max(position), 0) FROM events").fetchone()[0])
    names = keys.of_user(user_id)  # a key exists before a record is encrypted with it
    if known.position:
        refuse_change(user_id, known, names, dropped=any(read_drops(conn, known.position)))
    # Records that are archived meanwhile are found in the archive, or twice.
    stored = conn.execute(_NAMING, (known.position, head, msgspec.json.encode([*NAMES_USER]).decode()))
    archives = Archives(conn)
    found = chain.from_iterable(archives.of_kind(event, known.position) for event in NAMES_USER)
    archived = ((*row[:4], row[13]) for row in found if row[0] <= head)
    return collect_belongings(chain(stored, archived), keys, names, user_id, known, head)


def refuse_change(user_id: int, known: Belongings, names: Sequence[str], *, dropped: bool) -> None:
    """Raise `ChangedMeanwhile` if something that was found before is gone. `dropped`: records were dropped since."""
    if dropped or not {*known.keys} <= {*names}:
        raise ChangedMeanwhile(f"Data of user {user_id} was erased or forgotten while it was searched for")


def collect_belongings(
    naming: Iterable[tuple[int, int, int, str, str]],
    keys: Keys,
    names: tuple[str, ...],
    user_id: int,
    known: Belongings,
    head: int,
) -> Belongings:
    """The data of a user up to `head`: `known`, and what later records add to it.

    Args:
        naming: the records that name a user, as position, task id, version, event and data.
        keys: the keys of all users.
        names: the names of this user's keys.
        user_id: the user.
        known: what was found before.
        head: the last position.

    Raises:
        KeysUnreadable: a key is kept under another user than the one whose tasks, schedules or sources it encrypts.
            To erase either user would destroy the wrong key.
    """
    tasks, plain, seen = set(known.tasks), set[int](), set[str]()
    for position, task_id, version, event, data in naming:
        if data.startswith(BEGINS):
            name = key_in(data)
            if name not in seen:
                seen.add(name)
                if is_under_another_user(keys, (position, task_id, version, event, *("",) * 9, data)):
                    raise keys.misplaced(name)
            if task_id and name in names:
                tasks.add(task_id)
        elif task_id and _user_in(data) == user_id:
            plain.add(task_id)
    return Belongings(names, tuple(sorted(tasks)), known.plain + len(plain), head)


def is_under_another_user(keys: Keys, row: Row) -> bool:
    """Whether the key of an encrypted record, of a kind in `NAMES_USER`, is kept under another user than it names.

    The record is right: it is in the chain, and nothing protects the numbers of users in the file of keys. A record
    that cannot be read is left to other checks. Raises `KeysUnreadable` if the file cannot be used.
    """
    try:
        name, box = box_of(row)
        if not box or (kept := keys.kept(name)) is None:
            return False
        user_id, cipher = kept
        secret = decrypt(cipher, base64.b64decode(box, validate=True), bound_to(row))
        return NAMES_USER[row[3]](secret) != user_id
    except (InvalidTag, msgspec.MsgspecError, TypeError, ValueError):  # TypeError: a number of the row is none
        return False


class _UserField(msgspec.Struct):
    user_id: int = 0


class _Secret(msgspec.Struct):
    fields: _UserField


class _OfSchedule(msgspec.Struct):
    user_id: int = msgspec.field(default=0, name="task.user_id")


class _SecretOfSchedule(msgspec.Struct):
    fields: _OfSchedule


class _OfSource(msgspec.Struct):
    task: _UserField


class _SecretOfSource(msgspec.Struct):
    fields: _OfSource


_SECRET_USER = msgspec.json.Decoder(_Secret)
_SCHEDULE_USER = msgspec.json.Decoder(_SecretOfSchedule)
_SOURCE_USER = msgspec.json.Decoder(_SecretOfSource)
NAMES_USER: dict[str, Callable[[bytes], int]] = {
    _CREATED: lambda secret: _SECRET_USER.decode(secret).fields.user_id,
    EVENT_TAGS[ScheduleAdded]: lambda secret: _SCHEDULE_USER.decode(secret).fields.user_id,
    EVENT_TAGS[SourceAdded]: lambda secret: _SOURCE_USER.decode(secret).fields.task.user_id,
}
"""Tag of an event that names the user whose key it is encrypted with → the user in its decrypted part."""

_USER = msgspec.json.Decoder(_UserField)


def _user_in(data: str) -> int:
    try:
        return _USER.decode(data).user_id
    except (msgspec.MsgspecError, UnicodeError):  # other checks report it
        return 0


def key_in(data: str) -> str:
    """The name of the key with which a payload is encrypted; empty if it is not encrypted."""
    begins = len(BEGINS)
    return data[begins : begins + KEY_LENGTH] if data.startswith(BEGINS) else ""


def erasable(conn: sqlite3.Connection, keys: Keys, user_id: int) -> Erasable:
    """How much an erasure would take. It scans all records. Raises `sqlite3.Error`."""
    there = belongings(conn, keys, user_id, NOTHING_KNOWN)
    records = 0
    if there.keys:
        archives = Archives(conn)
        wanted = (msgspec.json.encode(there.keys).decode(), archives.until())
        records = int(conn.execute(_RECORDS_OF, wanted).fetchone()[0])
        records += sum(key_in(row[13]) in there.keys for row in archives.rows())
    return Erasable(user_id=user_id, tasks=len(there.tasks), records=records, plain=there.plain)


def key_of(conn: sqlite3.Connection, task_id: int) -> str:
    """The name of the key with which a task is encrypted; empty if it is not encrypted. Raises `sqlite3.Error`."""
    row = conn.execute(_KEY_OF, (task_id,)).fetchone()
    if row:
        return str(row[0])
    first = next(Archives(conn).of_task(task_id), None)
    return key_in(first[13]) if first is not None and first[2] == 1 else ""


def refuse_lost_keys(conn: sqlite3.Connection, keys: Keys) -> None:
    """Raise `KeysUnreadable` if a log has encrypted records but there is no file of keys."""
    if not keys.exist() and (conn.execute(_ANY).fetchone() or any(Archives(conn, any_file=True).encrypted())):
        raise keys.missing()


class Decryption:
    """Restores records to their state before encryption."""

    def __init__(self, log: Path) -> None:
        self.keys = Keys(log)
        self._missing: set[str] = set()

    def anew(self) -> Self:
        """This object with the present keys, for the next read."""
        self.keys.refresh()
        return self

    def __call__(self, row: Row) -> Row:
        """The whole row. Raises `KeysUnreadable`, and `LogCorrupt` if its key has not encrypted it."""
        try:
            name, box = box_of(row)
            cipher = self.keys.cipher(name) if box else None
            if box and cipher is None:
                self._missing.add(name)
            secret = None if cipher is None else decrypt(cipher, base64.b64decode(box, validate=True), bound_to(row))
            return readable_row(row, secret)
        except (InvalidTag, binascii.Error, msgspec.MsgspecError, ValueError, KeyError) as error:
            raise LogCorrupt(f"Position {row[0]} holds personal data that cannot be read: {error!r}") from error

    def take_missing(self) -> set[str]:
        """The keys that were not there for records read since the last call, even if they came meanwhile."""
        missing, self._missing = self._missing, set()
        return missing

    def close(self) -> None:
        """Let go of the keys."""
        self.keys.close()


class Encryption:
    """Encrypts the records of a log, and the digests of commands that led to them.

    Args:
        key_of: the key that the first record of a task names in the log; empty if there is none.
        keys: the keys of the users; their file must exist.
        new: whether new tasks are encrypted. Later records of an encrypted task always are.
    """

    def __init__(self, key_of: Callable[[int], str], keys: Keys, *, new: bool) -> None:
        self._stored_key_of = key_of
        self._keys = keys
        self._new = new
        self._key_of: dict[int, str] = {}
        """Task → the name of its key; empty if the task is not encrypted."""
        self._doomed: set[str] = set()
        """Keys that will be destroyed: nothing new may be encrypted with them."""
        self._commands: dict[str, str] = {}
        """Command of this batch → the key of its records."""

    def begin(self) -> None:
        """Begin a batch."""
        self._keys.refresh()
        self._commands.clear()

    def stored(self, fact: Fact, row: Row) -> Row:
        """The row as it is to be stored."""
        name = self._key_for(fact)
        if not name:
            return row
        bare, secret = divided(row)
        if secret == b"{}":
            return row
        if fact.command_id and not isinstance(fact.event, Cancelled):
            self._commands[fact.command_id] = name
        cipher = self._keys.cipher(name)
        box = b"" if cipher is None else base64.b64encode(encrypt(cipher, secret, bound_to(row)))
        return stored(bare, name, box.decode())

    def _key_for(self, fact: Fact) -> str:
        match fact.event:
            case UserErased(keys=keys):
                self._doomed.update(keys)
                return ""
            case Created() as event:
                name = self._new_for(event.user_id)
                if len(self._key_of) > _MOST_KNOWN:
                    self._key_of.clear()
                self._key_of[fact.task_id] = name
                return name
            case ScheduleAdded() as event:
                return self._new_for(event.task.user_id)
            case SourceAdded() as event:
                user_id = event.task.get("user_id", 0)
                return self._new_for(user_id if isinstance(user_id, int) else 0)
            case CommandRefused(named_task=named):
                return self._cached_key_of(named or 0)
            case event:
                return self._cached_key_of(fact.task_id or getattr(event, "task_id", 0))

    def _new_for(self, user_id: int) -> str:
        """The key for a new task of a user; 0 stands for no user."""
        return self._keys.key_for(user_id, besides=self._doomed) if self._new and user_id else ""

    def _cached_key_of(self, task_id: int) -> str:
        if not task_id:
            return ""
        if task_id not in self._key_of:
            if len(self._key_of) > _MOST_KNOWN:
                self._key_of.clear()
            self._key_of[task_id] = self._stored_key_of(task_id)
        return self._key_of[task_id]

    def finish(self, answers: Sequence[Answer]) -> Sequence[Answer]:
        """End the batch: its new keys are on the disk. Returns its answers; digests of personal data are encrypted."""
        self._keys.commit()
        return [self._answer(answer) for answer in answers]

    def _answer(self, answer: Answer) -> Answer:
        name = self._commands.get(answer.command_id, "")
        cipher = self._keys.cipher(name) if name else None
        if cipher is None:
            return answer
        box = encrypt(cipher, answer.digest, answer.command_id.encode())
        return replace(answer, digest=b"%b%b%b" % (_DIGEST, name.encode(), box))


def opened_digest(digest: bytes, command_id: str, keys: Keys) -> bytes:
    """The digest of a command before encryption; empty, which matches no command, if its key was destroyed."""
    if not digest.startswith(_DIGEST):
        return digest
    name, box = digest[len(_DIGEST) :][:KEY_LENGTH].decode(), digest[len(_DIGEST) + KEY_LENGTH :]
    cipher = keys.cipher(name)
    return b"" if cipher is None else decrypt(cipher, box, command_id.encode())
