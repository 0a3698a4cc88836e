"""Folders that only an attempt would make."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def dig(top: Path, depth: int, name: str = "d") -> None:
    """Make folders in folders with a file at the bottom, deeper than a path can reach."""
    top.mkdir(parents=True)
    fd = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("payload" * 6, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


@contextmanager
def few_descriptors() -> Iterator[None]:
    """Within the context there are too few descriptors to keep one open for each level of such folders."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(1024, before[1]), before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
