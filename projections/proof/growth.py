"""The proof that a log has only grown since an earlier seal: a file that can be checked without the log.

It shows that the later seal begins with the records of the earlier one: none was changed, removed or inserted.
"""

import base64
from pathlib import Path

import msgspec

from ...events.counted import counted
from ...events.log.log_reader import LogReader
from ..errors import SealUnfit
from .merkle import Tree, leaf_hash
from .notes import PublicKey
from .seals import Seal, named_seal, newest_seal, not_as_sealed

_FORMAT = "tasktrail growth 1"


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """All that a check needs, except the key and the earlier seal, which the checker has kept."""

    format: str
    old: int
    """The number of records of the earlier seal."""
    seal: str
    """The signed note of the later one."""
    path: tuple[str, ...]
    """The hashes that prove that one root has grown into the other, in base64 (RFC 6962, 2.1.2)."""


def prove_growth(
    log: LogReader, folder: Path, old: str, new: str | None = None, key: PublicKey | None = None
) -> Growth:
    """The proof that one seal has grown out of another.

    Args:
        log: the log.
        folder: the seals.
        old: the earlier seal: the number of its records, or its file.
        new: the later seal; None: the newest in the folder.
        key: the key of the seals; None: the one that lies with them.

    Raises:
        SealUnfit: there is no such seal, or they are the wrong way round.
        NotAsSealed: one of them does not fit the log.
    """
    earlier = named_seal(folder, old, key)
    later = named_seal(folder, new, key) if new else newest_seal(folder, key)
    begin, end = earlier.checkpoint.size, later.checkpoint.size
    if begin > end:
        raise SealUnfit(
            f"{earlier.path} has seen {counted(begin, 'record')}, and {later.path} only {end}",
            field="from",
            remedy="Name the earlier seal with --from, the later one with --to.",
        )
    tree = tree_of(log, end)
    for seal in (earlier, later):
        _refuse_others(seal, tree)
    return Growth(
        format=_FORMAT,
        old=begin,
        seal=later.note,
        path=tuple(base64.b64encode(each).decode() for each in tree.consistency(begin, end)),
    )


def tree_of(log: LogReader, size: int) -> Tree:
    """The whole tree over the first records of a log."""
    return Tree(leaf_hash(digest) for *_, digest in log.hashes(limit=size))


def _refuse_others(seal: Seal, tree: Tree) -> None:
    size = seal.checkpoint.size
    if size > tree.size or tree.root(size) != seal.checkpoint.root:
        raise not_as_sealed(seal)
