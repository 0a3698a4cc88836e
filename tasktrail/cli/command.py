"""The shared part of all commands: the options that each of them takes, help with examples, and their session."""

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import update_wrapper
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click
from click.core import ParameterSource

from ..config import DEFAULT_DATA
from .completion import WORDS
from .parameters import GivenPathParam
from .session import GIVEN, TOKEN, Session, session_of

P = ParamSpec("P")
R = TypeVar("R")

Example = tuple[str, str]


def everywhere(*, root: bool) -> list[click.Option]:
    """Return the options accepted before and after the command's name. Only the former look at the environment."""
    shared: dict[str, Any] = {"expose_value": False, "callback": _keep, "hidden": not root, "default": None}

    def option(flag: str, variable: str | None, text: str, **more: Any) -> click.Option:
        more.setdefault("show_envvar", variable is not None)
        return click.Option([flag], envvar=variable if root else None, help=text, **(shared | more))

    folder = GivenPathParam(file_okay=False, readable=False)  # `refuse_unusable` says more
    file = GivenPathParam(dir_okay=False, exists=True)
    return [
        option("--data", "TASKTRAIL_DATA", f"Data folder. Default: ./{DEFAULT_DATA}", type=folder, metavar="DIR"),
        option("--url", "TASKTRAIL_URL", "The service's address, instead of the socket in the data folder."),
        option(
            "--token",
            "TASKTRAIL_TOKEN",
            "The secret or token for --url. Others can see a command line; a file is safer.",
            callback=_keep_token,
        ),
        option(
            "--token-file",
            "TASKTRAIL_TOKEN_FILE",
            "The file that holds the token.",
            callback=_keep_token,
            type=GivenPathParam(dir_okay=False),
            metavar="FILE",
        ),
        option("--json", None, "Print JSON, as the HTTP routes answer; lists have one object per line.", is_flag=True),
        option("--wide", None, "Print full lines and complete times, as in a pipe.", is_flag=True),
        option(
            "--config",
            "TASKTRAIL_CONFIG",
            "The configuration, instead of DIR/tasktrail.toml.",
            type=file,
            metavar="FILE",
        ),
    ]


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is not None:
        ctx.meta.setdefault(GIVEN, {})[param.name] = value


def _keep_token(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep the token. A typed one goes before the environment's, which may have both; then a token before a file."""
    if value is not None:
        typed = ctx.get_parameter_source(param.name or "") is ParameterSource.COMMANDLINE
        kept = ctx.meta.setdefault(GIVEN, {}).setdefault(TOKEN, {})
        kept[typed, param.name] = value
        if {(True, "token"), (True, "token_file")} <= kept.keys():
            raise click.UsageError("--token and --token-file are both given: one of them is enough.", ctx)


def pass_session(function: Callable[Concatenate[Session, P], R]) -> Callable[P, R]:
    """Give the command its session as first argument."""

    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        session = session_of(click.get_current_context())
        session.refuse_unusable()
        return function(session, *args, **kwargs)

    return update_wrapper(wrapper, function)


class CliCommand(click.Command):
    """A command whose help ends with examples, and that takes the options of `everywhere` as well."""

    def __init__(self, *args: Any, examples: Sequence[Example] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self._once = [one for one in self.params if isinstance(one, click.Option) and not one.multiple]
        self.params.extend(everywhere(root=False))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does, but refuse an option that is given twice: click would silently keep the last one."""
        ctx.meta[WORDS] = tuple(args)
        try:
            asked = _asked(ctx, args)
        except click.NoSuchOption as error:
            raise _explained(error, ctx, args) from None
        if self.get_help_option(ctx) in asked and (file := _seen_as_help(ctx, args)):
            raise _no_such_option(file, file, ctx)
        for param in asked:
            if param in self._once and asked.count(param) > 1:
                raise click.BadOptionUsage(param.name or "", f"{param.opts[-1]} is given more than once.", ctx)
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as error:
            if not isinstance(error.param, click.Option):
                raise
            # click puts the text after "Missing option '--to'."
            raise click.MissingParameter(error.param.help, ctx=error.ctx, param=error.param) from None

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Add the examples, then a pointer to the options that all commands take."""
        write_examples(self.examples, formatter)
        formatter.write_paragraph()
        formatter.write_text("Also: --data, --url, --token-file, --json, --wide, --config; see `tasktrail --help`.")
        super().format_epilog(ctx, formatter)


def _explained(error: click.NoSuchOption, ctx: click.Context, args: Sequence[str]) -> click.UsageError:
    """Return the error. If the unknown option is a file's name or one of a task type, it shows how to write such."""
    if file := _file_like(error.option_name, ctx, args):
        return _no_such_option(error.option_name, file, ctx)
    name = error.option_name.lstrip("-").replace("-", "_")
    if all(param.name != "task_type" for param in ctx.command.params):
        return error
    from .completion import options_of_type, suggestions

    kinds = [word for word in args if not word.startswith("-")]
    owners = suggestions(ctx, lambda session: [(kind, "") for kind in kinds if name in options_of_type(session, kind)])
    if not owners:
        return error
    given = [word for word in args if word.partition("=")[0] == error.option_name]
    _, equals, value = given[0].partition("=") if given else ("", "", "")
    after = args[args.index(given[0]) + 1 :] if given and not equals else ()
    value = value or next((word for word in after if not word.startswith("-")), "VALUE")
    message = f"No such option: {error.option_name} (an option of {owners[0][0]}). Did you mean `-o {name}={value}`?"
    return click.UsageError(message, ctx)


def _no_such_option(option: str, file: str, ctx: click.Context) -> click.UsageError:
    return click.UsageError(f"No such option: {option}. Did you mean the file `./{file}`?", ctx)


def _asked(ctx: click.Context, args: Sequence[str]) -> Sequence[click.Parameter]:
    """Return the parameters that the words name, in their order."""
    return ctx.command.make_parser(ctx).parse_args(list(args))[2]


def _seen_as_help(ctx: click.Context, args: Sequence[str]) -> str:
    """Return the word, such as `-photo`, in which click sees `-h` among other letters; "" where help is wanted."""
    if not set(args).isdisjoint(ctx.help_option_names):
        return ""
    for word in _dashed(args):
        with suppress(click.UsageError):
            if ctx.command.get_help_option(ctx) in _asked(ctx, [word]):
                return word
    return ""


def _file_like(option: str, ctx: click.Context, args: Sequence[str]) -> str:
    """Return the word in which click has found this unknown option, if it looks like the name of a file."""
    for word in _dashed(args):
        try:
            _asked(ctx, [word])
        except click.NoSuchOption as error:
            if error.option_name == option and (Path(word).suffix[1:2].isalpha() or os.path.lexists(word)):
                return word
        except click.UsageError:  # an option without its value
            continue
    return ""


def _dashed(args: Sequence[str]) -> list[str]:
    return [word for word in args if word.startswith("-") and word not in ("-", "--")]


class CliGroup(click.Group):
    """Commands of one subject, each listed with its whole sentence."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with a sentence for each."""
        commands = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, command.get_short_help_str(200) if command else "") for name, command in commands]
            )


class CliCommandGroup(CliCommand, CliGroup):
    """A command that does something by itself and has subcommands."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, invoke_without_command=True, subcommand_metavar="[COMMAND [ARGS]…]", **kwargs)


def write_examples(examples: Sequence[Example], formatter: click.HelpFormatter) -> None:
    """Write a section of command lines, each under a sentence that explains it."""
    if not examples:
        return
    with formatter.section("Examples"):
        for line, meaning in examples:
            formatter.write_text(f"# {meaning}")
            formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
