"""The keys of users, in `keys.db` beside the log: with its key the personal data of a user's records can be read.

Each key is stored encrypted under a master key, which lies in a file of its own. To destroy a key, all others are
encrypted anew under a new master key, in a new file that replaces the old one. So an older copy of `keys.db` is useless
without an older copy of the master key.
"""

import os
import secrets
import sqlite3
from collections.abc import Collection, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..errors import LOST_KEYS, KeysUnreadable
from ..existence import exists
from .files import NoFile, create_private, plain_file, read_small, refuse_non_files, sync
from .personal import KEY_LENGTH
from .schema import refuse_masked

NAME = "keys.db"
MASTER = "master-key"
_HALF_LOST = (
    f"{KeysUnreadable.remedy} If one of them is gone for good, move the other away: then "
    "`tasktrail serve --accept-lost-keys --reason TEXT` goes on without them."
)
_OUT_OF_REACH = (
    "This does not mean that keys are lost. See that `keys.db` and the master key are files, and belong to the "
    "user of the service, that neither is on a read-only file system, and that the disk has room and works (`dmesg`); "
    "then try again."
)
_NONCE = 12
_BYTES = 32
_TABLES = """
    CREATE TABLE keys (id TEXT PRIMARY KEY, user_id INTEGER NOT NULL, wrapped BLOB NOT NULL) STRICT;
    CREATE INDEX of_user ON keys (user_id);
    CREATE TABLE master (id TEXT NOT NULL, file TEXT NOT NULL) STRICT;
"""
_INSERT = "INSERT INTO keys VALUES (?, ?, ?)"
_NAMED = "SELECT id FROM keys WHERE id IN (SELECT value FROM json_each(?))"


def encrypt(cipher: AESGCM, plain: bytes, bound: bytes) -> bytes:
    """A random nonce, then the encrypted text, which only this key opens again, and only together with `bound`."""
    nonce = os.urandom(_NONCE)
    return nonce + cipher.encrypt(nonce, plain, bound)


def decrypt(cipher: AESGCM, box: bytes, bound: bytes) -> bytes:
    """The plain text. Raises `InvalidTag` if the box was altered, or was bound to something else."""
    return cipher.decrypt(box[:_NONCE], box[_NONCE:], bound)


class Keys:
    """The keys beside a log. There may be none. Nothing is opened or made before it is needed.

    Belongs to one thread at a time. Each `refresh` notices keys that another process has destroyed.
    """

    def __init__(self, log: Path) -> None:
        self.path = log.with_name(NAME)
        self._name = str(self.path)
        self._conn: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None
        self._master: AESGCM | None = None
        self._ciphers: dict[str, AESGCM] = {}
        self._of_user: dict[int, str] = {}

    def exist(self) -> bool:
        """Whether there is a file of keys."""
        return exists(self.path)

    def missing(self) -> KeysUnreadable:
        """The error for a log with encrypted data but without a file of keys."""
        return KeysUnreadable(f"The log holds encrypted personal data, and {self.path} is not there", remedy=LOST_KEYS)

    def check(self) -> None:
        """Raise `KeysUnreadable` if there is a file of keys that cannot be used."""
        conn = self._connected()
        if conn is not None:
            self._opened_master()
            for key in self._fetch(conn, "SELECT id FROM keys LIMIT 1"):
                self._plain(str(key[0]))

    def make(self, master: Path | None = None) -> None:
        """Make the files unless they exist, and move the master key if it is to lie elsewhere from now on.

        This also completes an interrupted destruction of keys. Raises `KeysUnreadable`.
        """
        new_place = "" if master is None else str(master)
        try:
            self.path.with_name(f"{NAME}.new").unlink(missing_ok=True)
            if not self.exist():
                self._begin(new_place)
            place, name = self._recorded_master()
            file = _behind_link(self._master_file(place))
            _clear_up(file)
            if place != new_place:
                self._move_master(name, file, new_place)
            elif len(masters := _masters_in(file)) > 1:
                _write_masters(file, {name: masters[name]})
        except (sqlite3.Error, OSError, ValueError, KeyError) as error:
            raise self._unreadable(error) from error

    def refresh(self) -> None:
        """Drop the cached keys if another process has destroyed a key."""
        if self._conn is not None:
            self._connected()

    def cipher(self, key: str) -> AESGCM | None:
        """The key of that name; None if it was destroyed or is not in the file. Raises `KeysUnreadable`."""
        if key not in self._ciphers:
            plain = self._plain(key)
            if plain is None:
                return None  # it may still come
            self._ciphers[key] = AESGCM(plain)
        return self._ciphers[key]

    def kept(self, key: str) -> tuple[int, AESGCM] | None:
        """The user that a key is kept under, and the key; None if it is not in the file. It is not cached.

        Raises `KeysUnreadable`.
        """
        row = self._row(key)
        return None if row is None else (int(row[0]), AESGCM(row[1]))

    def misplaced(self, key: str) -> KeysUnreadable:
        """The error for a key that is kept under another user than the one whose data it encrypts."""
        return self._unreadable(f"the key {key} is kept there under another user than the one whose data it encrypts")

    def can_open(self, key: str) -> bool:
        """Whether there is a usable key of that name. It is not cached, because very many may be asked for."""
        try:
            return self._plain(key) is not None
        except KeysUnreadable:
            return False

    def there(self, keys: Collection[str]) -> set[str]:
        """Those of these keys that can be used. They are asked for at once, because most may have been destroyed."""
        try:
            conn = self._connected()
            found = [] if conn is None else self._fetch(conn, _NAMED, (msgspec.json.encode(list(keys)).decode(),))
        except KeysUnreadable:
            return set()
        return {str(key) for (key,) in found if self.can_open(str(key))}

    def of_user(self, user_id: int) -> tuple[str, ...]:
        """The names of a user's keys."""
        conn = self._connected()
        if conn is None:
            return ()
        return tuple(str(row[0]) for row in self._fetch(conn, "SELECT id FROM keys WHERE user_id = ?", (user_id,)))

    def key_for(self, user_id: int, besides: Collection[str] = ()) -> str:
        """The name of a user's key that is not in `besides`. It is made if there is none; use it after `commit`."""
        conn = self._connected()
        assert conn is not None, "`make` comes first"
        if self._of_user.get(user_id, "") in (*besides, ""):
            found = [name for name in self.of_user(user_id) if name not in besides]
            self._of_user[user_id] = found[0] if found else self._new(user_id)
        return self._of_user[user_id]

    def commit(self) -> None:
        """Commit the new keys to the disk. Raises `KeysUnreadable`."""
        if self._conn is not None and self._conn.in_transaction:
            self._fetch(self._conn, "COMMIT")

    def destroy(self, keys: Collection[str]) -> None:
        """Destroy these keys for ever; keys that are gone already are skipped. Raises `KeysUnreadable`."""
        if not self.exist():
            return
        try:
            place, _ = self._recorded_master()
            rows = self._all()
            kept = [row for row in rows if row[0] not in keys]
            if len(kept) < len(rows):
                self._rewrap(kept, place)
        except (sqlite3.Error, OSError, ValueError, KeyError) as error:
            raise self._unreadable(error) from error

    def close(self) -> None:
        """Let go of the file."""
        if self._conn is not None:
            self._conn.close()
        self._conn, self._file, self._master = None, None, None
        self._ciphers, self._of_user = {}, {}

    # --- the file ---

    def _connected(self) -> sqlite3.Connection | None:
        """A connection to the present file: destroying a key replaces the file."""
        try:
            status = os.stat(self._name)  # noqa: PTH116 - for each look
        except FileNotFoundError:
            self.close()
            return None
        if (status.st_dev, status.st_ino) != self._file:
            self.close()
            try:
                self._conn = _connect(self.path)
            except (sqlite3.Error, UnicodeDecodeError) as error:
                raise self._unreadable(error) from error
            self._file = (status.st_dev, status.st_ino)
        return self._conn

    def _plain(self, key: str) -> bytes | None:
        row = self._row(key)
        return None if row is None else row[1]

    def _row(self, key: str) -> tuple[Any, bytes] | None:
        """The user that a key is kept under, and its bytes."""
        # Use the present file: with the old one open, SQLite would take the new one's journal for a leftover and delete
        # it.
        conn = self._connected()
        if conn is None:
            return None
        try:
            rows = self._fetch(conn, "SELECT user_id, wrapped FROM keys WHERE id = ?", (key,))
            return (rows[0][0], self._unwrapped(key, rows[0][1])) if rows else None
        except KeysUnreadable:
            if self._connected() is conn:
                raise
            return self._row(key)  # a key was destroyed meanwhile, so all others are under a new master key

    def _fetch(
        self, conn: sqlite3.Connection, select: str, parameters: tuple[object, ...] = ()
    ) -> list[tuple[object, ...]]:
        try:
            return conn.execute(select, parameters).fetchall()
        except sqlite3.Error as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: object) -> KeysUnreadable:
        remedy = _OUT_OF_REACH if exists(self.path) and _is_out_of_reach(error) else _HALF_LOST
        return KeysUnreadable(f"{self.path} cannot be used: {error}", remedy=remedy)

    def _new(self, user_id: int) -> str:
        assert self._conn is not None
        name, key = secrets.token_hex(KEY_LENGTH // 2), secrets.token_bytes(_BYTES)
        wrapped = encrypt(self._opened_master(), key, name.encode())
        if not self._conn.in_transaction:  # one transaction for all new users of a batch
            self._fetch(self._conn, "BEGIN IMMEDIATE")
        self._fetch(self._conn, _INSERT, (name, user_id, wrapped))
        return name

    def _all(self) -> list[tuple[str, int, bytes]]:
        """Name, user and key of each."""
        conn = self._connected()
        if conn is None:
            return []
        rows = self._fetch(conn, "SELECT id, user_id, wrapped FROM keys ORDER BY id")
        return [(str(name), int(str(user)), self._unwrapped(str(name), wrapped)) for name, user, wrapped in rows]

    def _unwrapped(self, name: str, wrapped: object) -> bytes:
        assert isinstance(wrapped, bytes)
        try:
            return decrypt(self._opened_master(), wrapped, name.encode())
        except (InvalidTag, ValueError) as error:  # ValueError: it is too short
            raise self._unreadable(f"the key {name} is not as it was written") from error

    # --- the master key ---

    def _recorded_master(self) -> tuple[str, str]:
        """The place of the master key, empty if it is beside the keys; and its name."""
        conn = self._connected()
        assert conn is not None
        ((name, place),) = self._fetch(conn, "SELECT id, file FROM master")
        return str(place), str(name)

    def _master_file(self, place: str) -> Path:
        return Path(place) if place else self.path.with_name(MASTER)

    def _opened_master(self) -> AESGCM:
        if self._master is None:
            try:
                place, name = self._recorded_master()
            except ValueError as error:
                raise self._unreadable("it does not say which master key it has") from error
            file = self._master_file(place)
            try:
                self._master = AESGCM(_masters_in(file)[name])
            except (OSError, ValueError, KeyError) as error:
                if _is_out_of_reach(error):
                    message = f"The master key of {self.path} cannot be read: {error}"
                    raise KeysUnreadable(message, remedy=_OUT_OF_REACH) from error
                raise KeysUnreadable(
                    f"The master key of {self.path} is not in {file}: {error}", remedy=_HALF_LOST
                ) from error
        return self._master

    def _rewrap(self, keys: Sequence[tuple[str, int, bytes]], place: str) -> None:
        """Replace the file by a new one with these keys, under a new master key.

        A kill at any moment leaves a file that has its master key: for a while both master keys are in theirs.
        """
        file = _behind_link(self._master_file(place))
        self._write(keys, file, place, _masters_in(file) if exists(file) else {})
        self.close()

    def _move_master(self, name: str, file: Path, place: str) -> None:
        """Put a new master key there, and wipe the old one: a copy of it may be in a backup of the folder.

        Until the keys are wrapped anew, the file there has the old one, too, as if an operator had moved it. By that a
        move is continued that a kill has cut short.
        """
        there = self._master_file(place)
        if not exists(there):
            _write_masters(there, {name: _masters_in(file)[name]})
        masters = _masters_in(there)
        if name not in masters:
            raise _may_be_another_folders(there)
        if exists(file) and not there.samefile(file):
            _wipe(file)
        self._master = AESGCM(masters[name])
        self._rewrap(self._all(), place)

    def _begin(self, place: str) -> None:
        file = self._master_file(place)
        if place and exists(file):
            raise _may_be_another_folders(file)
        if file.is_symlink():
            file.unlink()  # nothing says that what it leads to is ours
        self._write([], file, place, {})

    def _write(self, keys: Sequence[tuple[str, int, bytes]], file: Path, place: str, old: dict[str, bytes]) -> None:
        name, master = secrets.token_hex(KEY_LENGTH // 2), secrets.token_bytes(_BYTES)
        _write_masters(file, {**old, name: master})
        beside = self.path.with_name(f"{NAME}.new")
        beside.unlink(missing_ok=True)
        create_private(beside)
        with closing(_connect(beside)) as conn:
            conn.executescript(_TABLES)
            conn.execute("BEGIN")
            conn.execute("INSERT INTO master VALUES (?, ?)", (name, place))
            cipher = AESGCM(master)
            conn.executemany(_INSERT, ((key, user, encrypt(cipher, plain, key.encode())) for key, user, plain in keys))
            conn.execute("COMMIT")
        beside.replace(self.path)
        sync(self.path.parent)
        _write_masters(file, {name: master})


def _connect(path: Path) -> sqlite3.Connection:
    refuse_non_files(path)
    # Used by one thread at a time, but perhaps closed by another, when the first is gone.
    conn = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None, check_same_thread=False
    )
    try:
        refuse_masked(conn, ("keys", "master"))
        conn.execute("PRAGMA secure_delete = ON")
        conn.execute("PRAGMA synchronous = FULL")
    except BaseException:
        conn.close()
        raise
    return conn


def _may_be_another_folders(file: Path) -> KeysUnreadable:
    return KeysUnreadable(
        f"{file} is there already, and may hold the master key of other keys",
        remedy="Name another file in `master_key`; each data folder has one of its own. If those keys are gone for "
        "good, move this one away.",
    )


def _behind_link(file: Path) -> Path:
    """The file of master keys that a link leads to, such as one on another disk.

    Any other link is returned as it is: root may work in the folder of another user, who can lay a link to any file.
    """
    with suppress(OSError, ValueError):
        if file.is_symlink() and _masters_in(file):
            return file.resolve()
    return file


def _masters_in(file: Path) -> dict[str, bytes]:
    """Name and key of each line."""
    while True:
        seen, text = file.stat(), read_small(file).decode("ascii")
        if os.path.samestat(seen, file.stat()):  # otherwise it was replaced and overwritten
            break
    lines = (line.split() for line in text.splitlines())
    return {name: bytes.fromhex(key) for name, key in lines}


def _write_masters(file: Path, masters: dict[str, bytes]) -> None:
    """Replace the master keys in the file by these. Its old bytes are overwritten, which destroys the old keys."""
    _clear_up(file)
    beside, old = _beside(file)
    create_private(beside)
    with beside.open("r+b") as opened:
        opened.write(b"".join(b"%b %b\n" % (name.encode(), key.hex().encode()) for name, key in masters.items()))
        opened.flush()
        os.fsync(opened.fileno())
    with suppress(FileNotFoundError):
        os.link(file, old)
    beside.replace(file)
    sync(file.parent)
    _wipe(old)


def _beside(file: Path) -> tuple[Path, Path]:
    """Where the next version of a file of master keys is written, and where the old one is kept until it is wiped."""
    return file.with_name(f".{file.name}.new"), file.with_name(f".{file.name}.old")


def _clear_up(file: Path) -> None:
    """Destroy the files that a kill has left beside a file of master keys: each may hold a key to be destroyed."""
    beside, old = _beside(file)
    _wipe(beside)
    if exists(old) and exists(file) and old.samefile(file):  # the same file, still in use
        old.unlink()
    _wipe(old)


def _wipe(file: Path) -> None:
    """Overwrite and delete a file. Copies that the disk itself keeps elsewhere cannot be reached this way."""
    with suppress(FileNotFoundError):
        if not file.is_symlink():
            with os.fdopen(plain_file(str(file), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "r+b") as opened:
                opened.write(bytes(os.fstat(opened.fileno()).st_size))
                opened.flush()
                os.fsync(opened.fileno())
        file.unlink()


def _is_out_of_reach(error: object) -> bool:
    """Whether the error only means that a file cannot be reached. Its keys must not be given up as lost then."""
    if isinstance(error, OSError):
        return not isinstance(error, FileNotFoundError)
    if isinstance(error, NoFile):  # what stands there may hide them
        return True
    name = getattr(error, "sqlite_errorname", "")
    return name.startswith(
        ("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_PERM", "SQLITE_AUTH", "SQLITE_IOERR", "SQLITE_FULL")
    )
