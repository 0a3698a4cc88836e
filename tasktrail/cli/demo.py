"""`tasktrail demo`: the main job on real input."""

import click

from .base import Command


@click.command(
    "demo",
    cls=Command,
    examples=[("tasktrail demo", "needs about two minutes and writes into ./demo-output")],
)
def command() -> int:
    """Run every task type on real files, with a kill -9 in the middle of a transcode."""
    from ..demo import run

    code: int = run()
    return code
