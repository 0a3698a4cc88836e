"""A bar for work that counts up to a known number, on standard error; silent where there is no terminal."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def counting(label: str) -> Iterator[Callable[[int, int], None]]:
    """A function to tell the number reached and the one to reach."""
    if not sys.stderr.isatty():
        yield lambda _reached, _goal: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task(label, total=None)
        yield lambda reached, goal: progress.update(bar, completed=reached, total=goal)
