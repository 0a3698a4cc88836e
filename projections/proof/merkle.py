"""The tree of RFC 6962 over hashes: its root, proofs that a leaf is in it, and proofs that it has only grown.

A tree of n leaves splits at the largest power of two below n. So everything to the left of the last leaves stays as it
is while the tree grows. Only complete subtrees are kept: level 0 has the leaves, level 1 their pairs, and so on.
"""

from collections.abc import Iterable
from hashlib import sha256

EMPTY = sha256(b"").digest()
"""The root of a tree without leaves."""
SIZE = 32
"""Bytes of a hash."""


def leaf_hash(content: bytes) -> bytes:
    """The hash of a leaf."""
    return sha256(b"\0" + content).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees together."""
    return sha256(b"\1" + left + right).digest()


class GrowingRoot:
    """The root of leaves that are added one by one. It keeps only a few hashes in memory."""

    def __init__(self) -> None:
        self.size = 0
        self._subtrees: list[bytes] = []
        """Complete subtrees, from the left; each is smaller than the one before."""

    def append(self, leaf: bytes) -> None:
        """Add a leaf by its hash."""
        number = self.size
        while number & 1:
            leaf = node_hash(self._subtrees.pop(), leaf)
            number >>= 1
        self._subtrees.append(leaf)
        self.size += 1

    def root(self) -> bytes:
        """The root of all leaves so far."""
        if not self._subtrees:
            return EMPTY
        *others, root = self._subtrees
        for subtree in reversed(others):
            root = node_hash(subtree, root)
        return root


class Tree:
    """All hashes of a tree whose leaves may be added and changed. It takes 64 bytes a leaf.

    Args:
        leaves: the hashes of the first leaves.
    """

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        self._levels = [bytearray(b"".join(leaves))]
        self._stale: set[int] = set()
        """Leaves that were changed since the levels above them were made."""
        self._made = 0
        """The number of leaves that the levels above cover."""

    @property
    def size(self) -> int:
        """The number of its leaves."""
        return len(self._levels[0]) // SIZE

    def put(self, index: int, leaf: bytes) -> None:
        """Change a leaf, or add the next one, by its hash."""
        if index > self.size:
            raise IndexError(f"leaf {index} of a tree of {self.size}")
        self._levels[0][index * SIZE : (index + 1) * SIZE] = leaf
        if index < self._made:
            self._stale.add(index)

    def root(self, size: int | None = None) -> bytes:
        """The root of the first `size` leaves; None: of all."""
        return self._subtree(0, self._checked(size))

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """The hashes that prove that a leaf is in the tree of the first `size` leaves, from the leaf upwards."""
        size = self._checked(size)
        if not 0 <= index < size:
            raise IndexError(f"leaf {index} of a tree of {size}")
        begin, end = 0, size
        hashes = []
        while end - begin > 1:
            middle = begin + _split(end - begin)
            if index < middle:
                hashes.append(self._subtree(middle, end))
                end = middle
            else:
                hashes.append(self._subtree(begin, middle))
                begin = middle
        return hashes[::-1]

    def consistency(self, old: int, size: int | None = None) -> list[bytes]:
        """The hashes that prove that the tree of the first `old` leaves begins that of the first `size` leaves."""
        size = self._checked(size)
        if not 0 <= old <= size:
            raise IndexError(f"a tree of {old} leaves within one of {size}")
        if not old:
            return []
        begin, end = 0, size
        hashes = []
        while end > old:
            middle = begin + _split(end - begin)
            if old <= middle:
                hashes.append(self._subtree(middle, end))
                end = middle
            else:
                hashes.append(self._subtree(begin, middle))
                begin = middle
        if begin:
            hashes.append(self._subtree(begin, end))
        return hashes[::-1]

    def _checked(self, size: int | None) -> int:
        self._make()
        size = self.size if size is None else size
        if not 0 <= size <= self.size:
            raise IndexError(f"a tree of {size} leaves within one of {self.size}")
        return size

    def _make(self) -> None:
        """Update the levels above the leaves where leaves are new or changed."""
        stale, made, size = self._stale, self._made, self.size
        for level, below in enumerate(self._levels):
            stale, made, size = {index >> 1 for index in stale}, made >> 1, size >> 1
            if not size:
                break
            if level + 1 == len(self._levels):
                self._levels.append(bytearray())
            above = self._levels[level + 1]
            del above[made * SIZE :]
            for index in (*(index for index in stale if index < made), *range(made, size)):
                pair = bytes(below[2 * index * SIZE : (2 * index + 2) * SIZE])
                above[index * SIZE : (index + 1) * SIZE] = sha256(b"\1" + pair).digest()
        self._stale, self._made = set(), self.size

    def _subtree(self, begin: int, end: int) -> bytes:
        if begin == end:
            return EMPTY
        root = b""
        while end > begin:  # complete subtrees from the right, the smallest first
            level = (end & -end).bit_length() - 1
            while end - (1 << level) < begin:
                level -= 1
            end -= 1 << level
            place = (end >> level) * SIZE
            part = bytes(self._levels[level][place : place + SIZE])
            root = node_hash(part, root) if root else part
        return root


def _split(size: int) -> int:
    """The largest power of two below `size`."""
    return 1 << (size - 1).bit_length() - 1
