"""The list of commands and the entry point: `run(arguments)` returns the exit code."""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from .. import __version__
from .command import CliCommand, everywhere, write_examples
from .failing import INTERRUPTED, complain, complain_unexpected, complain_usage

# Name → module. A module is loaded when its command is called or listed; the function has the name NAME_command.
SECTIONS: dict[str, dict[str, str]] = {
    "Run and serve": {"run": "run", "batch": "batch", "serve": "serve", "demo": "run"},
    "Send and change tasks": {"submit": "submit", "start": "change", "cancel": "change", "retry": "change"},
    "Operate the service": {
        "pause": "operate",
        "resume": "operate",
        "drain": "operate",
        "adjust": "operate",
        "limits": "operate",
        "schedule": "operate",
        "source": "source",
        "nodes": "nodes",
    },
    "Give access": {"token": "token", "open": "token"},
    "Notices": {"notices": "notices", "redeliver": "notices", "endpoints": "notices", "enable": "notices"},
    "Look at tasks, queue and log": {
        "list": "tasks",
        "show": "tasks",
        "watch": "watch",
        "batches": "batch",
        "why": "queue",
        "queue": "queue",
        "top": "queue",
        "history": "tasks",
        "attempts": "attempts",
        "output": "tasks",
        "log": "log",
        "diff": "tasks",
        "stats": "queue",
        "whatif": "whatif",
        "types": "reference",
    },
    "Check for faults": {"verify": "data_folder", "rebuild": "data_folder", "doctor": "data_folder"},
    "Seal and prove": {
        "seal": "proof",
        "witness": "witness",
        "anchor": "anchor",
        "prove": "proof",
        "provenance": "proof",
    },
    "Export": {"export": "export"},
    "Back up, move and delete data": {
        "backup": "data_folder",
        "restore": "data_folder",
        "migrate": "migrate",
        "archive": "archive",
        "forget": "forget",
        "erase": "erase",
    },
    "Set up": {"config": "reference", "completion": "app"},
}
EXAMPLES = (
    ("tasktrail run image_thumbnail photo.jpg small.jpg", "one task to its end, no service needed"),
    ("tasktrail serve --data ~/work &", "start a service for many tasks"),
    ("tasktrail --data ~/work submit video_convert in.mov out.mp4 --priority 5", "send it a task; prints its number"),
)


_WHAT_RUNS = "`tasktrail list` shows the tasks, `tasktrail top` what runs, `tasktrail doctor` whether a service runs."
_NO_LONGER = "`tasktrail cancel ID` stops a task; `tasktrail forget` drops the records of tasks that ended long ago."
_WORDS_OF_OTHERS = {
    "help": "`tasktrail --help` lists the commands.",
    "version": "`tasktrail --version` shows it.",
    "stop": "`tasktrail cancel` stops a task; a service stops at Ctrl-C, or when its process gets SIGTERM.",
    "restart": "`tasktrail retry` brings back a task; a service is stopped, and started by `tasktrail serve`.",
    "status": _WHAT_RUNS,
    "ps": _WHAT_RUNS,
    **dict.fromkeys(("info", "get", "inspect", "describe"), "`tasktrail show ID` shows a task, `history ID` its life."),
    **dict.fromkeys(("delete", "remove", "rm"), _NO_LONGER),
    "kill": "`tasktrail cancel ID` stops a task, whether it waits or runs.",
    **dict.fromkeys(("create", "new", "enqueue"), "`tasktrail submit TYPE INPUT OUTPUT` makes a task."),
}
"""What other programs call a command, and what does it here."""


class App(click.Group):
    """Finds commands by name without loading the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names of all commands, in the order of the sections."""
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Return the command of that name."""
        for section in SECTIONS.values():
            if module := section.get(cmd_name):
                command: click.Command = getattr(import_module(f".{module}", __package__), f"{cmd_name}_command")
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command as click does. For another name the error says what was probably meant."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            raise click.UsageError(f"{error.message}{self._meant_by(ctx, args[0])}", ctx) from error

    def _meant_by(self, ctx: click.Context, word: str) -> str:
        from difflib import get_close_matches

        from .completion import suggestions, type_names

        if word in _WORDS_OF_OTHERS:
            return f" {_WORDS_OF_OTHERS[word]}"
        if near := get_close_matches(word, self.list_commands(ctx), n=1):
            return f" Did you mean {near[0]!r}?"
        return f" Did you mean `run {word}`?" if word in dict(suggestions(ctx, type_names)) else ""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with a sentence for each, section by section."""
        for title, section in SECTIONS.items():
            rows = []
            for name in section:
                command = self.get_command(ctx, name)
                rows.append((name, command.get_short_help_str(200) if command else ""))
            with formatter.section(title):
                formatter.write_dl(rows, col_max=12)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Add the examples, and where to read on."""
        write_examples(EXAMPLES, formatter)
        formatter.write_paragraph()
        formatter.write_text("`tasktrail COMMAND --help` explains a command.")
        super().format_epilog(ctx, formatter)


@click.group(cls=App, params=everywhere(root=True), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tasktrail", message="%(prog)s %(version)s")
def app() -> None:
    """Run long tasks that survive crashes: create, schedule, watch, cancel, retry and resume them.

    What happens is kept in an event log in the data folder. The options below go before or after the command.
    """


SHELLS = ("bash", "zsh", "fish")


@click.command(
    "completion",
    cls=CliCommand,
    examples=[
        ('eval "$(tasktrail completion bash)"', "for this shell; put the line into ~/.bashrc for all"),
        ('eval "$(tasktrail completion zsh)"', "for zsh; in ~/.zshrc, below compinit"),
        ("tasktrail completion fish > ~/.config/fish/completions/tasktrail.fish", "for fish"),
    ],
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion_command(shell: str) -> None:
    """Print the script with which SHELL completes commands, options, types, their options and task ids."""
    from click.shell_completion import get_completion_class

    from .completion import register

    register()
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click knows no completion for {shell}.")
    click.echo(kind(app, {}, "tasktrail", "_TASKTRAIL_COMPLETE").source())


def run(arguments: Sequence[str], environment: Any = None) -> int:
    """Carry out one command line and return its exit code. Errors are printed on standard error."""
    as_json = "--json" in arguments
    from ..events.errors import TasktrailError

    if os.environ.get("_TASKTRAIL_COMPLETE", "").startswith("bash"):
        from .completion import register

        register()
    try:
        code = app.main(list(arguments), prog_name="tasktrail", standalone_mode=False, obj=environment)
    except TasktrailError as error:
        return complain(error, as_json=as_json)
    except click.ClickException as error:
        return complain_usage(error, as_json=as_json)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last line of defence against a traceback
        return complain_unexpected(error, as_json=as_json)
    return code if isinstance(code, int) else 0
