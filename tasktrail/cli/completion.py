"""`tasktrail completion`: a script that teaches the shell our commands and options."""

import click

from .base import Command

SHELLS = ("bash", "zsh", "fish")


@click.command(
    "completion",
    cls=Command,
    examples=[
        ('eval "$(tasktrail completion bash)"', "for this shell; put the line into ~/.bashrc for all"),
        ("tasktrail completion fish > ~/.config/fish/completions/tasktrail.fish", "for fish"),
    ],
)
@click.argument("shell", type=click.Choice(SHELLS))
def command(shell: str) -> None:
    """Print the script that completes commands, options, types, their options, and task ids in SHELL."""
    from click.shell_completion import get_completion_class

    from .app import app

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click knows no completion for {shell}.")
    click.echo(kind(app, {}, "tasktrail", "_TASKTRAIL_COMPLETE").source())
