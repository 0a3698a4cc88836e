"""The proof of one task's whole history: a file that can be checked without the log, and without tasktrail."""

import base64
from collections.abc import Iterable
from pathlib import Path

import msgspec

from ...events.counted import counted, plural
from ...events.errors import LogCorrupt, UnknownTask
from ...events.log.log_reader import LogReader
from ...events.log.stubs import forgotten
from ...events.recorded import STUB
from .merkle import Tree, leaf_hash
from .notes import PublicKey
from .seals import damaged, newest_seal, not_as_sealed
from .trees import task_leaf
from .unchanged import before_of_unchanged

_FORMAT = "tasktrail proof 1"


class ProvenRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A record, and the hashes from it to the root."""

    row: tuple[str | int, ...]
    """Its stored values, in the order of the columns."""
    after: str
    """The hash of the previous record, in hex."""
    path: tuple[int, ...]
    """Places in `hashes`."""


class ProvenTask(msgspec.Struct, frozen=True, kw_only=True):
    """A task, and the hashes from its leaf to the root of the tree over all tasks."""

    id: int
    path: tuple[int, ...]


class Proof(msgspec.Struct, frozen=True, kw_only=True):
    """All that a check needs, except the key, which has to come by another way."""

    format: str
    seal: str
    """The signed note."""
    task: ProvenTask
    records: tuple[ProvenRecord, ...]
    hashes: tuple[str, ...]
    """In base64. Paths share most of their hashes."""


class _Hashes:
    """Collects hashes, each once."""

    def __init__(self) -> None:
        self._places: dict[bytes, int] = {}

    def path(self, hashes: Iterable[bytes]) -> tuple[int, ...]:
        return tuple(self._places.setdefault(each, len(self._places)) for each in hashes)

    def texts(self) -> tuple[str, ...]:
        return tuple(base64.b64encode(each).decode() for each in self._places)


def prove(log: LogReader, folder: Path, task_id: int, key: PublicKey | None = None) -> Proof:
    """The proof of a task's history up to the newest seal in a folder.

    Args:
        log: the log.
        folder: the seals.
        task_id: the task.
        key: the key of the seals; None: the one that lies with them.

    Raises:
        UnknownTask: there is no such task, or it was created after the newest seal.
        SealUnfit: there is no seal.
        NotAsSealed: the newest seal does not fit the log, or a part of the task's history was removed or changed.
        TaskForgotten: the task was forgotten.
    """
    seal = newest_seal(folder, key)
    size = seal.checkpoint.size
    rows = log.rows_of(task_id, size)
    if not rows or task_id < 1:
        raise UnknownTask(
            f"Task {task_id} is not among the {counted(size, 'record')} that {plural(size, 'is', 'are')} sealed",
            field="task_id",
            remedy="Seal what came after them with `tasktrail seal`, if the task is newer.",
        )
    gone = [row[0] for row in rows if row[3] == STUB]
    if len(gone) == len(rows):
        raise forgotten(log, task_id) or UnknownTask(f"Task {task_id} does not exist", field="task_id")
    if gone:  # a task is forgotten as a whole
        raise not_as_sealed(seal, f": the record at {gone[0]}, of task {task_id}, was dropped")
    try:
        records, tasks, number = _trees(log, size, task_id)
    except IndexError as error:
        raise damaged(error) from error
    if not seal.fits(records, tasks):
        raise not_as_sealed(seal)
    if number > len(rows):  # they were searched for by indexes, which no seal covers
        raise not_as_sealed(seal, f": a search finds {len(rows)} of the {counted(number, 'record')} of task {task_id}")
    hashes = _Hashes()
    proven = []
    for row in rows:
        try:
            before = before_of_unchanged(log, row)
        except LogCorrupt as error:  # although its hash is the sealed one
            raise not_as_sealed(seal, f": {error.message}") from error
        path = hashes.path(records.inclusion(row[0] - 1))
        proven.append(ProvenRecord(row=row[:-1], after=before.hex(), path=path))
    return Proof(
        format=_FORMAT,
        seal=seal.note,
        task=ProvenTask(id=task_id, path=hashes.path(tasks.inclusion(task_id - 1))),
        records=tuple(proven),
        hashes=hashes.texts(),
    )


def _trees(log: LogReader, size: int, wanted: int) -> tuple[Tree, Tree, int]:
    """Whole trees over the records and the tasks of the first `size` records, and how many are of the wanted task."""
    tasks = Tree()
    number = 0

    def leaves() -> Iterable[bytes]:
        nonlocal number
        for _position, task_id, version, digest in log.hashes(limit=size):
            if task_id:
                tasks.put(task_id - 1, task_leaf(task_id, version, digest))
            number += task_id == wanted
            yield leaf_hash(digest)

    return Tree(leaves()), tasks, number
