"""Seals of a log: makes them, keeps them in a folder, and compares them with the log.

They write nothing to the log. The folder has a file `SIZE.note` for each seal, and `key`, the public key.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from ...events.counted import counted, plural
from ...events.errors import PUT_LOG_BACK
from ...events.existence import exists
from ...events.log.files import PRIVATE_FILE, PRIVATE_FOLDER, plain_file, read_small
from ...events.log.log_reader import LogReader
from ...events.recorded import Recorded, to_the_second
from ..errors import NotAsSealed, SealUnfit
from ..notices import log_id
from .merkle import GrowingRoot, Tree
from .notes import LONGEST_NOTE, SEALS_KEY, LogCheckpoint, PrivateKey, PublicKey, WitnessKey
from .trees import Trees

if TYPE_CHECKING:
    from .stamps import Authorities

_SEAL_FIRST = "Make one with `tasktrail seal`."
_NO_SEALS = f"{_SEAL_FIRST} If the log was sealed before, name the folder that has the seals, or put it back."
_KEY_AS_IT_WAS = (
    "Put that key back, from a copy: a backup has none. If it is lost, give the log another folder for its seals "
    "(`seals_dir` in tasktrail.toml) and tell auditors and witnesses the new key. Leave these seals as they are."
)
_MISNAMED = (
    "Keep the file as evidence, outside the folder, and compare the folder with a copy that was kept elsewhere: "
    "somebody may have put an older seal in the place of a newer one."
)
_UNREADABLE = (
    "Make it a file again that this user may read; if that was not its mode alone, leave it as evidence and put a copy "
    "that was kept elsewhere into its place."
)
_NO_FOLDER = "Move the file away and put the folder of the seals back, or name another folder (`seals_dir`)."
SUFFIX = ".note"
_STAMP = ".tsr"
KEY = "key"
"""The file with the public key, in the folder of the seals."""
_LOOKED_THROUGH = 20
"""The number of newest seals that are searched for the last one that a witness has signed."""
_SHOWN = 5
"""The number of seals that a message lists."""


class Seal(NamedTuple):
    """A signed seal."""

    path: Path
    checkpoint: LogCheckpoint
    note: str

    @property
    def stamp(self) -> Path:
        """The file for the stamp of a time authority, which may not exist."""
        return self.path.with_suffix(_STAMP)

    def description(self) -> dict[str, str | int]:
        """The description of the seal in a statement, with the note, so that others can check it."""
        checkpoint = self.checkpoint
        return {
            "size": checkpoint.size,
            "root": checkpoint.root.hex(),
            "sealed_at": checkpoint.sealed_at,
            "note": self.note,
        }

    def fits(self, records: GrowingRoot | Tree, tasks: Tree) -> bool:
        """Whether it is the seal of a log with these trees."""
        checkpoint = self.checkpoint
        sizes = (checkpoint.size, checkpoint.tasks) == (records.size, tasks.size)
        return sizes and (checkpoint.root, checkpoint.tasks_root) == (records.root(), tasks.root())


def make_seal(log: LogReader, folder: Path, key_file: Path, now: datetime) -> tuple[Seal, PublicKey]:
    """Seal the log as it is. If its end is sealed already, that seal is returned.

    Args:
        log: the log.
        folder: the folder of the seals; it is made.
        key_file: the private key; it is made, too, unless there are seals already.
        now: the time that the seal states.

    Raises:
        SealUnfit: the log is empty, the key is not that of this log or of its seals, the newest seal cannot be read
            or has another size than its name says, or a file is where the folder should be.
        NotAsSealed: the newest seal is of another log.
        OSError: a file cannot be written.
    """
    first = next(iter(log.read(limit=1)), None)
    if first is None:
        raise SealUnfit("The log is empty: there is nothing to seal", remedy="Submit a task first.")
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        message = f"The seals have no folder: {folder}, or what it should lie in, is a file"
        raise SealUnfit(message, field="seals_dir", remedy=_NO_FOLDER) from error
    key = private_key(key_file, name_of(first), seals=folder)
    trees = _as_sealed(log, folder, key.public, key_file)
    checkpoint = checkpoint_of(key.public.name, trees, now)
    path = folder / f"{checkpoint.size}{SUFFIX}"
    with alone(folder):
        if exists(path):
            return _as_named(read_seal(path, key.public)), key.public
        write_durably(folder / KEY, key.public.text + "\n")
        note = key.signed(checkpoint)
        write_durably(path, note)
    return Seal(path, checkpoint, note), key.public


def with_signature(seal: Seal, witness: WitnessKey, answer: str) -> Seal:
    """Keep the signature of a witness with a seal; returns the seal with it.

    Raises:
        SealUnfit: the answer has no signature of this witness for the seal.
        OSError: the file cannot be written.
    """
    with alone(seal.path.parent):
        found = read_small(seal.path).decode(errors="replace") if exists(seal.path) else seal.note
        note = witness.added(found, answer)  # another process may have added another witness's signature meanwhile
        write_durably(seal.path, note)
    return seal._replace(note=note)


def _as_sealed(log: LogReader, folder: Path, key: PublicKey, key_file: Path) -> Trees:
    """The trees of a log that matches its newest seal. Raises `NotAsSealed` for any other: that must not be sealed."""
    newest = None
    if files := seal_files(folder):
        try:
            newest = read_seal(files[-1], key)
        except SealUnfit as error:
            if _is_by_the_key_beside_it(files[-1]):
                message = f"{files[-1]} was signed with a key other than that in {key_file}"
                raise SealUnfit(message, field="seal_key", remedy=_KEY_AS_IT_WAS) from error
            raise
        _as_named(newest)
    trees = Trees()
    for record in log.hashes():
        try:
            trees.apply(*record)
        except IndexError as error:
            raise damaged(error) from error
        if newest and trees.records.size == newest.checkpoint.size:
            _refuse_others(newest, trees)
    if newest and trees.records.size < newest.checkpoint.size:
        _refuse_others(newest, trees)
    return trees


def _is_by_the_key_beside_it(seal: Path) -> bool:
    with suppress(SealUnfit):
        return bool(read_seal(seal, public_key(seal.parent)))
    return False


def damaged(error: IndexError) -> SealUnfit:
    """The error for a log over which no tree can be made."""
    return SealUnfit(
        f"The log is damaged, and can be neither sealed nor proven: {error}", remedy="Run `tasktrail verify`."
    )


def _refuse_others(seal: Seal, trees: Trees) -> None:
    if not seal.fits(trees.records, trees.tasks):
        raise not_as_sealed(
            seal,
            ", and is not sealed again",
            " If a backup was restored on purpose, give the restored log another folder for its seals: `seals_dir` in "
            "tasktrail.toml.",
        )


def not_as_sealed(seal: Seal, more: str = "", advice: str = "") -> NotAsSealed:
    """The error for a log that does not match a seal. The remedy never moves the seals, which are the evidence."""
    folder = seal.path.parent
    return NotAsSealed(
        f"The log is not as {seal.path} says{more}",
        remedy=f"Find out what differs: `tasktrail verify --seals {folder}`, or better with a copy of that folder "
        f"that was kept elsewhere. Leave the seals as they are: they are the evidence.{advice}",
    )


def checkpoint_of(origin: str, trees: Trees, now: datetime) -> LogCheckpoint:
    """The checkpoint of a log with these trees."""
    at = to_the_second(now).replace(" ", "T")
    return LogCheckpoint(origin, trees.records.size, trees.records.root(), trees.tasks.size, trees.tasks.root(), at)


def read_seal(path: Path, key: PublicKey) -> Seal:
    """The seal in a file. Raises `SealUnfit`."""
    try:
        with open(path, encoding="utf-8", newline="", opener=plain_file) as file:  # the signature covers each byte
            note = file.read(LONGEST_NOTE + 1)
        checkpoint = key.opened(note)
    except (OSError, UnicodeDecodeError) as error:
        raise SealUnfit(f"{path} cannot be read: {error}", remedy=_UNREADABLE) from error
    except SealUnfit as error:
        raise SealUnfit(f"{path}: {error.message}") from error
    return Seal(path, checkpoint, note)


def _size_in_name(path: Path) -> int:
    """The number of records that a seal has by its name; 0 for a name that is no number, such as a witness's copy."""
    return int(path.stem) if path.stem.isascii() and path.stem.isdecimal() else 0


def _misnaming(seal: Seal) -> str:
    """How a seal differs from its name, in words, or "": the name decides which seal is the newest."""
    named, size = _size_in_name(seal.path), seal.checkpoint.size
    return f"{seal.path} is the seal of {counted(size, 'record')}, not of {named}" if named not in (0, size) else ""


def _as_named(seal: Seal) -> Seal:
    """The seal. Raises `SealUnfit` if its name says another size."""
    if fault := _misnaming(seal):
        raise SealUnfit(fault, field="seals", remedy=_MISNAMED)
    return seal


def newest_seal(folder: Path, key: PublicKey | None = None) -> Seal:
    """The seal with the most records in a folder. Without `key`, the key in the folder is used. Raises `SealUnfit`."""
    if files := seal_files(folder):
        return _as_named(read_seal(files[-1], key or public_key(folder)))
    raise SealUnfit(f"There is no seal in {folder}", remedy=_SEAL_FIRST)


def named_seal(folder: Path, name: str, key: PublicKey | None = None) -> Seal:
    """The seal in a folder with this number of records, or the seal in a file. Raises `SealUnfit`."""
    number = name.isascii() and name.isdecimal()
    path = folder / f"{name}{SUFFIX}" if number else Path(name)
    if number and not exists(path):
        sizes = ", ".join(path.stem for path in seal_files(folder)[-_SHOWN:])
        raise SealUnfit(
            f"There is no seal of {name} {plural(int(name), 'record')} in {folder}",
            remedy=f"The newest are {sizes}. Name one of these, or the file of a seal." if sizes else _SEAL_FIRST,
        )
    seal = read_seal(path, key or public_key(folder))
    return _as_named(seal) if number else seal


def last_signed(folder: Path, key: PublicKey, witness: WitnessKey, up_to: int | None = None) -> "Witnessed":
    """How far a witness has signed, by the newest seals of a folder. Seals of more than `up_to` records do not count.

    Seals that are unreadable or have another size than their name says are skipped. Raises `SealUnfit` if the folder
    cannot be read.
    """
    for path in seal_files(folder)[: -_LOOKED_THROUGH - 1 : -1]:
        with suppress(SealUnfit):
            seal = _as_named(read_seal(path, key))
            size, at = seal.checkpoint.size, witness.signed_at(seal.note)
            if at and (up_to is None or size <= up_to):
                return Witnessed(witness=witness.name, position=size, at=at)
    return Witnessed(witness=witness.name)


def public_key(folder: Path) -> PublicKey:
    """The key beside the seals. Anyone who can write to the folder can replace it. Raises `SealUnfit`."""
    seal_files(folder)  # a missing folder is not told as a missing key
    return read_key(folder / KEY)


def read_key(path: Path) -> PublicKey:
    """The public key in a file. Raises `SealUnfit`."""
    text = key_text(path)
    try:
        return PublicKey(text)
    except SealUnfit as error:
        raise SealUnfit(f"{path}: {error.message}", field="key", remedy=error.advice) from error


def key_text(path: Path, remedy: str = SEALS_KEY) -> str:
    """The text in a file with a public key. Raises `SealUnfit`, with that remedy."""
    try:
        with open(path, encoding="utf-8", opener=plain_file) as file:
            return file.read(LONGEST_NOTE)
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or error
        raise SealUnfit(
            f"There is no public key in {path}: {why}",
            field="key",
            remedy=remedy,
        ) from error


def seal_files(folder: Path) -> list[Path]:
    """The files of the seals in a folder, by their names those with the fewest records first. Raises `SealUnfit`.

    Those whose name is no number come before all others.
    """
    try:
        files = [path for path in folder.iterdir() if path.suffix == SUFFIX]
    except OSError as error:
        remedy = _NO_SEALS if isinstance(error, FileNotFoundError) else ""
        if isinstance(error, NotADirectoryError):
            remedy = _NO_FOLDER
        message = f"The folder {folder} cannot be read: {error.strerror}"
        raise SealUnfit(message, field="seals", remedy=remedy) from error
    return sorted(files, key=lambda path: (_size_in_name(path), path.stem))


_NO_SEAL = "Name the folder that has the seals, best a copy that was kept elsewhere."
_NO_STAMP = (
    "See whether the folder has the stamps (`.tsr`) beside the seals, and whether the certificates are those of the "
    "authority that made them, up to its root. This alone does not mean that the log was changed."
)
_NOT_WITNESSED = (
    "See whether the folder has the newest seals, and whether the key is the one that the witness had then. This "
    "alone does not mean that the log was changed; the witness's operator can say what it has signed."
)
_LOST_END = f"Keep log and seals as evidence. {PUT_LOG_BACK}"


class SealFault(NamedTuple):
    """A mismatch between the log and its seals, witnesses or stamps."""

    position: int
    """The first position that can be wrong: the one after the last seal that fits."""
    message: str
    remedy: str = ""
    """Empty if the mismatch means that another log was sealed."""


class Witnessed(msgspec.Struct, frozen=True, kw_only=True):
    """How far a witness has signed."""

    witness: str
    """The name of its key."""
    position: int = 0
    """The number of records of the largest seal that fits and that it has signed. 0: there is none."""
    at: str = ""
    """When it signed that one, by its own clock."""


class Stamped(msgspec.Struct, frozen=True, kw_only=True):
    """How far time authorities have stamped."""

    position: int = 0
    """The number of records of the largest seal that fits and is stamped. 0: there is none."""
    at: str = ""
    """When that was, by the authority's clock."""


class SealCheck:
    """Compares seals with a log whose records are given one by one.

    Args:
        folder: the seals.
        key: the key with which they have to be signed.
        witnesses: the keys of witnesses. A signature of theirs that does not belong to its seal is a fault.
        needed: whether each witness has to have signed a seal that fits.
        authorities: the trusted time authorities: each stamp has to hold, and one has to exist. None: stamps are not
            read.

    Raises:
        SealUnfit: the folder cannot be read.
    """

    def __init__(
        self,
        folder: Path,
        key: PublicKey,
        witnesses: Iterable[WitnessKey] = (),
        *,
        needed: bool = False,
        authorities: "Authorities | None" = None,
    ) -> None:
        self.sealed = 0
        """The number of records of the largest seal that fits."""
        self._witnesses = {witness: Witnessed(witness=witness.name) for witness in witnesses}
        self._needed = needed
        self._authorities = authorities
        self.stamped = Stamped() if authorities is not None else None
        """How far time authorities have stamped. None: stamps are not read."""
        self._trees = Trees()
        self._unbroken = True
        self._faults: list[SealFault] = []
        self._seals: list[Seal] = []
        files = seal_files(folder)
        if not files:
            self._faults.append(SealFault(0, f"there is no seal in {folder}", _NO_SEAL))
        for path in files:
            try:
                self._seals.append(read_seal(path, key))
            except SealUnfit as error:
                self._faults.append(SealFault(0, error.message, error.advice))
                continue
            if misnaming := _misnaming(self._seals[-1]):
                self._faults.append(SealFault(0, misnaming, _MISNAMED))
            for witness in self._witnesses:
                try:
                    witness.signed_at(self._seals[-1].note)
                except SealUnfit as error:
                    self._faults.append(SealFault(0, f"{path}: {error.message}", error.advice))
            try:
                self._stamped_at(self._seals[-1])
            except SealUnfit as error:
                self._faults.append(SealFault(0, f"{self._seals[-1].stamp}: {error.message}", error.advice))
        self._seals.sort(key=lambda seal: seal.checkpoint.size, reverse=True)
        self.seen = self._seals[0].checkpoint.size if self._seals else 0
        """The number of records of the largest seal, whether it fits or not."""

    def see(self, position: int, task_id: int, version: int, digest: bytes) -> None:
        """Take in the next record."""
        if not self._unbroken:
            return
        try:
            self._trees.apply(position, task_id, version, digest)
        except (AttributeError, IndexError, OverflowError, TypeError, ValueError):  # a damaged row may hold anything
            self._unbroken = False
            return
        while self._seals and self._seals[-1].checkpoint.size <= position:
            self._compare(self._seals.pop())

    def _compare(self, seal: Seal) -> None:
        checkpoint = seal.checkpoint
        if seal.fits(self._trees.records, self._trees.tasks):
            self.sealed = checkpoint.size
            self._note_witnesses(seal)
            with suppress(SealUnfit):  # reported already
                if at := self._stamped_at(seal):
                    self.stamped = Stamped(position=checkpoint.size, at=at)
            return
        self._faults.append(
            SealFault(
                self.sealed + 1,
                f"the seal of {checkpoint.sealed_at} has seen other records at {self.sealed + 1} to {checkpoint.size}",
            )
        )

    def _stamped_at(self, seal: Seal) -> str:
        """When the seal was stamped; empty if it was not, or if stamps are not read. Raises `SealUnfit`."""
        if self._authorities is None:
            return ""
        try:
            stamp = read_small(seal.stamp)
        except FileNotFoundError:
            return ""
        except OSError as error:
            raise SealUnfit(f"It cannot be read: {error.strerror}", remedy=_UNREADABLE) from error
        return self._authorities.stamped_at(seal.checkpoint.text(), stamp)

    def _note_witnesses(self, seal: Seal) -> None:
        for witness in self._witnesses:
            with suppress(SealUnfit):  # reported already
                if at := witness.signed_at(seal.note):
                    found = Witnessed(witness=witness.name, position=seal.checkpoint.size, at=at)
                    self._witnesses[witness] = found

    @property
    def witnessed(self) -> tuple[Witnessed, ...]:
        """How far each witness has signed."""
        return tuple(self._witnesses.values())

    def faults(self, position: int) -> Iterator[SealFault]:
        """All mismatches, once the log has ended at a position."""
        yield from self._faults
        if self.stamped is not None and not self.stamped.position:
            yield SealFault(0, "no matching seal is stamped by a trusted authority", _NO_STAMP)
        for found in self.witnessed if self._needed else ():
            if not found.position:
                yield SealFault(0, f"no matching seal is signed by the witness {found.witness}", _NOT_WITNESSED)
        missed = [seal.checkpoint for seal in reversed(self._seals) if seal.checkpoint.size <= position]
        if missed:
            which = f"the seal of {missed[0].sealed_at}"
            if len(missed) > 1:
                which = f"the {len(missed)} seals of {missed[0].sealed_at} to {missed[-1].sealed_at}"
            broken = self._trees.records.size + 1
            why = f"{which} cannot be compared: a record is missing, or cannot be read, at {broken}"
            if broken > self.sealed + 1:
                why += f"; no seal shows that those at {self.sealed + 1} to {broken - 1} are unchanged"
            yield SealFault(self.sealed + 1, why)
        for seal in reversed(self._seals):
            checkpoint = seal.checkpoint
            if checkpoint.size > position:
                seen = counted(checkpoint.size, "record")
                why = f"the log ends at {position}, and the seal of {checkpoint.sealed_at} has seen {seen}"
                yield SealFault(self.sealed + 1, why, _LOST_END)


def name_of(first: Recorded) -> str:
    """The name of a log in its seals, from its first record."""
    return f"tasktrail/{log_id(first)}"


def private_key(path: Path, name: str, *, seals: Path | None = None) -> PrivateKey:
    """The key with which a log is sealed; it is made if there are neither a key nor seals. Raises `SealUnfit`.

    If there are seals, the key was lost. With a new key of the same name, auditors could not link new seals to old.
    """
    with alone(path.parent):
        if not exists(path):
            if seals is not None and exists(seals) and seal_files(seals):
                message = f"The key that the seals in {seals} were signed with is missing: there is no {path}"
                raise SealUnfit(message, field="seal_key", remedy=_KEY_AS_IT_WAS)
            write_durably(path, PrivateKey.made(name).text + "\n", new=True)
    return kept_key(path, name)


def kept_key(path: Path, name: str) -> PrivateKey:
    """The key with which a log is sealed. Raises `SealUnfit`, also if there is none yet: it does not make one."""
    try:
        text = read_small(path).decode(errors="replace")[:LONGEST_NOTE]
    except FileNotFoundError as error:
        raise SealUnfit(
            "There is no key to sign with: this log was never sealed",
            field="seal_key",
            remedy="Whoever runs the service makes one with `tasktrail seal`.",
        ) from error
    except OSError as error:
        # Anyone who may see a task may ask, and must not learn where the folder is.
        message = f"The file {path.name} of the data folder cannot be read: {error.strerror or error}"
        raise SealUnfit(
            message, field="seal_key", remedy="Let the service read it, or put it back as it was."
        ) from error
    try:
        key = PrivateKey(text)
    except SealUnfit as error:
        message = f"The file {path.name} of the data folder: {error.message}"
        raise SealUnfit(message, field="seal_key", remedy=_KEY_AS_IT_WAS) from error
    if key.public.name != name:
        raise SealUnfit(
            f"The key in {path.name} of the data folder is for seals of {key.public.name}, and this log is {name}",
            field="seal_key",
            remedy="Move it away: a new one is made for this log.",
        )
    return key


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder, so that two processes change its files one after the other."""
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def write_durably(path: Path, content: str | bytes, *, new: bool = False) -> None:
    """Write a file durably and as a whole, while `alone` is held. `new`: only if the file does not exist."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.unlink(missing_ok=True)
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
            file.flush()
            os.fsync(file.fileno())
        if new:
            os.link(part, path)
            part.unlink()
        else:
            part.replace(path)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error  # the original names the part, or no file
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
