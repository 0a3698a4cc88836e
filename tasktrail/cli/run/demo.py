"""`tasktrail demo`: the main job on real input."""

from pathlib import Path

import click

from ..base import Command


@click.command(
    "demo",
    cls=Command,
    examples=[("tasktrail demo", "takes under two minutes; its files stay in ./.demo")],
)
@click.option("--work", type=click.Path(path_type=Path, file_okay=False), metavar="DIR", help="Where. Default: ./.demo")
def command(work: Path | None) -> int:
    """Run every task type on real files, with a kill -9 in the middle of a transcode."""
    from ...handlers.contract import MEDIA, require_packages
    from ...handlers.registry import Registry

    for task_type in Registry.load():
        if task_type.packages.install == MEDIA:
            require_packages(task_type)
    from ...demo.story import run

    return run(work)
