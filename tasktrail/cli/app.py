"""The list of commands and the way in: `run(arguments)` answers the exit code."""

import os
from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from .. import __version__
from .base import everywhere, write_examples
from .failing import INTERRUPTED, complain, complain_unexpected, complain_usage

# Name → module and attribute. The module is loaded when the command is called or listed.
SECTIONS: dict[str, dict[str, str]] = {
    "Run and serve": {"run": "run.run:command", "serve": "run.serve:command", "demo": "run.demo:command"},
    "Send": {
        "submit": "send.submit:command",
        "start": "send.act:start",
        "cancel": "send.act:cancel",
        "retry": "send.act:retry",
    },
    "Operate": {
        "pause": "operate.pauses:pause",
        "resume": "operate.pauses:resume",
        "drain": "operate.pauses:drain",
        "adjust": "operate.pauses:adjust",
        "limits": "operate.limits:command",
        "schedule": "operate.schedule:command",
    },
    "Tell": {
        "notices": "operate.notices:notices",
        "redeliver": "operate.notices:redeliver",
        "endpoints": "operate.notices:endpoints",
        "enable": "operate.notices:enable",
    },
    "Look": {
        "list": "look.list_tasks:command",
        "show": "look.show:command",
        "watch": "look.watch:command",
        "why": "look.why:command",
        "queue": "look.queue:command",
        "top": "look.top:command",
        "history": "look.history:command",
        "output": "look.output:command",
        "log": "look.log:command",
        "stats": "look.stats:command",
        "whatif": "look.whatif:command",
        "types": "look.types:command",
    },
    "Check": {"verify": "check.verify:command", "rebuild": "check.rebuild:command", "doctor": "check.doctor:command"},
    "Keep": {"backup": "keep.backup:command", "restore": "keep.restore:command"},
    "Set up": {"config": "config:command", "completion": "completion:command"},
}
EXAMPLES = (
    ("tasktrail run image_thumbnail photo.jpg small.jpg", "one task to its end, no service needed"),
    ("tasktrail serve --data ~/work &", "a service for many tasks, then send it one"),
    ("tasktrail --data ~/work submit video_convert in.mov out.mp4 --priority 5", "answers the task's number"),
)


class App(click.Group):
    """Finds commands by name without loading the others."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """All that have help; in the order of the sections."""
        return [name for section in SECTIONS.values() for name in section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """The command of that name."""
        for section in SECTIONS.values():
            if home := section.get(cmd_name):
                module, _, attribute = home.partition(":")
                command: click.Command = getattr(import_module(f".{module}", __package__), attribute)
                return command
        return None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does; a mistyped name is answered with the nearest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self.list_commands(ctx), n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            raise click.UsageError(f"{error.message}{hint}", ctx) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A sentence for each, section by section."""
        for title, section in SECTIONS.items():
            rows = []
            for name in section:
                command = self.get_command(ctx, name)
                rows.append((name, command.get_short_help_str(200) if command else ""))
            with formatter.section(title):
                formatter.write_dl(rows, col_max=12)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, and where to read on."""
        write_examples(EXAMPLES, formatter)
        formatter.write_paragraph()
        formatter.write_text("`tasktrail COMMAND --help` explains a command.")
        super().format_epilog(ctx, formatter)


@click.group(cls=App, params=everywhere(root=True), context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tasktrail", message="%(prog)s %(version)s")
def app() -> None:
    """Run long tasks that survive crashes: created, scheduled, watched, cancelled, retried, resumed.

    What happens is kept in an event log in the data folder. The options below go before or after the command.
    """


def run(arguments: Sequence[str], doors: Any = None) -> int:
    """Carry out one command line and answer its exit code; errors have been told on standard error by then."""
    as_json = "--json" in arguments
    from ..events.errors import TasktrailError

    if os.environ.get("_TASKTRAIL_COMPLETE", "").startswith("bash"):
        from .known import register

        register()
    try:
        code = app.main(list(arguments), prog_name="tasktrail", standalone_mode=False, obj=doors)
    except TasktrailError as error:
        return complain(error, as_json=as_json)
    except click.ClickException as error:
        return complain_usage(error, as_json=as_json)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except Exception as error:  # noqa: BLE001 - the last line of defence against a traceback
        return complain_unexpected(error)
    return code if isinstance(code, int) else 0
