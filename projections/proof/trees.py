"""The two trees of a log: over its records, and over its tasks.

A leaf of the first is a record's hash in the chain. A leaf of the second is a task's id, its version and the hash of
its last record. So no record can be left out of a task's history unnoticed, not even the last one.
"""

from .merkle import GrowingRoot, Tree, leaf_hash


class Trees:
    """Both trees, up to the last applied record."""

    def __init__(self) -> None:
        self.records = GrowingRoot()
        self.tasks = Tree()

    def apply(self, position: int, task_id: int, version: int, digest: bytes) -> None:
        """Add the next record. Raises `IndexError` if a record or a task before it is missing."""
        if position != self.records.size + 1:
            raise IndexError(f"position {position} comes right after position {self.records.size}")
        if task_id:
            self.tasks.put(task_id - 1, task_leaf(task_id, version, digest))
        self.records.append(leaf_hash(digest))


def task_leaf(task_id: int, version: int, digest: bytes) -> bytes:
    """The leaf of a task whose last record has this version and hash."""
    return leaf_hash(f"{task_id} {version} {digest.hex()}".encode())
