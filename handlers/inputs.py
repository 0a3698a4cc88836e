"""What is found out about any input before a library is asked."""

from pathlib import Path

from .contract import Unusable


def refuse_empty(path: Path) -> None:
    """Raise `Unusable` for a file of no bytes, which each library calls by another name; OSError for none at all."""
    if path.stat().st_size == 0:
        raise Unusable(f"{path.name} is empty")
