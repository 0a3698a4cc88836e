"""The help teaches, and appears quickly."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest
from click.testing import CliRunner

from tasktrail import __version__
from tasktrail.cli.app import app
from tasktrail.cli.command import CliCommand
from tasktrail.cli.parameters import SecondsParam
from tasktrail.events import AdjustTask, CancelTask, CreateTask, RetryTask
from tasktrail.events.commands import AddSchedule, PauseQueue, ResumeQueue, SetLimits
from tasktrail.whatif.question import PolicyChange

HEAVY = {"litestar", "uvicorn", "rich", "av", "PIL", "pykka", "httpx", "sqlite3", "structlog", "psutil"}


def commands(group: click.Group = app, prefix: str = "") -> Iterator[tuple[str, CliCommand]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} ")
            continue
        assert isinstance(command, CliCommand)
        yield prefix + name, command


ALL = dict(commands())


def context_of(command: click.Command) -> click.Context:
    """Return its context below `tasktrail`: a command keeps the help option of its first one."""
    return click.Context(command, parent=click.Context(app, **app.context_settings))


@pytest.mark.parametrize("name", ALL)
def test_every_command_has_a_sentence_examples_and_explained_options(cli: Callable[..., Any], name: str) -> None:
    shown = cli(*name.split(), "--help")
    assert shown.code == 0
    assert re.match(rf"Usage: tasktrail {name} .*\n\n  [A-Z]", shown.out)
    assert "Examples:" in shown.out
    assert "docs/" not in shown.out, "a wheel has no such folder"
    assert "None" not in shown.out, "it means nothing to whoever does not know Python"
    command = ALL[name]
    assert 1 <= len(command.examples) <= 4
    assert all(f"tasktrail {name}" in line for line, _meaning in command.examples)
    assert [option.name for option in options_of(command) if not option.help] == []


@pytest.mark.parametrize(
    ("name", "line"), [(name, line) for name, command in ALL.items() for line, _meaning in command.examples]
)
def test_every_example_has_options_that_there_are(name: str, line: str) -> None:
    command = ALL[name]
    after = line.split(f"tasktrail {name}", 1)[1]
    own = shlex.split(re.split(r" [|>&]|\)", after)[0])  # without the shell's own syntax
    command.make_parser(context_of(command)).parse_args(own)


@pytest.mark.parametrize("name", ALL)
def test_what_a_help_text_tells_to_type_can_be_typed(name: str) -> None:
    """An option that takes a value is shown with one."""
    text = " ".join((ALL[name].help or "").split())
    for typed in re.findall(r"`tasktrail ([^`]+)`", text):
        words = shlex.split(typed)
        known = " ".join(words[:2]) if " ".join(words[:2]) in ALL else words[0]
        if known in ALL:
            command = ALL[known]
            command.make_parser(context_of(command)).parse_args(words[len(known.split()) :])


@pytest.mark.parametrize("name", ALL)
def test_an_option_is_named_as_it_is_typed_and_not_as_the_field_of_a_command(name: str) -> None:
    """The texts are those of the fields: `options` is -o on the command line."""
    told = {word for option in options_of(ALL[name]) for word in re.findall(r"`(\w+)`", option.help or "")}
    assert told & set(CreateTask.__struct_fields__) == set()


@pytest.mark.parametrize("name", ALL)
def test_a_wrong_number_is_not_called_a_wrong_range(name: str) -> None:
    """As click calls it: 'x' is not a valid integer range."""
    assert [param.name for param in ALL[name].params if param.type.name.endswith("range")] == []


def options_of(command: click.Command) -> list[click.Option]:
    return [param for param in command.params if isinstance(param, click.Option) and not param.hidden]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("submit", CreateTask),
        ("cancel", CancelTask),
        ("retry", RetryTask),
        ("adjust", AdjustTask),
        ("limits", SetLimits),
        ("pause", PauseQueue),
        ("resume", ResumeQueue),
        ("schedule add", AddSchedule),
        ("whatif", PolicyChange),
    ],
)
def test_every_field_that_a_command_explains_is_an_option_of_its_command_line(
    name: str, kind: type[msgspec.Struct]
) -> None:
    explained = {field.name for field in msgspec.structs.fields(kind) if "Meta(description=" in repr(field.type)}
    assert explained
    assert explained - {param.name for param in ALL[name].params} <= {"held"}  # `adjust` has --hold and --release


@pytest.mark.parametrize("name", ALL)
def test_every_option_that_takes_seconds_takes_a_unit(name: str) -> None:
    taking = [option for option in options_of(ALL[name]) if option.metavar == "SECONDS" or "econds" in str(option.help)]
    assert [option.name for option in taking if not isinstance(option.type, SecondsParam)] == []


@pytest.mark.parametrize("name", ALL)
def test_every_option_is_in_the_reference(name: str) -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "cli.md").read_text(encoding="utf-8")
    missing = [one.opts for one in options_of(ALL[name]) if not any(re.search(rf"{flag}\b", page) for flag in one.opts)]
    assert missing == []


def test_the_overview_names_every_command_with_a_whole_sentence(cli: Callable[..., Any]) -> None:
    shown = cli("--help")
    assert shown.code == 0
    names = {name.partition(" ")[0] for name in ALL}
    assert [name for name in names if not re.search(rf"^  {name} +[A-Z]", shown.out, flags=re.MULTILINE)] == []
    assert "..." not in shown.out.partition("Run and serve:")[2]


def test_no_arguments_at_all_are_answered_with_the_overview(cli: Callable[..., Any]) -> None:
    shown = cli()
    assert shown.code == 2
    assert "Usage: tasktrail" in shown.out + shown.err


def test_the_version_is_the_packages(cli: Callable[..., Any]) -> None:
    assert cli("--version") == (0, f"tasktrail {__version__}\n", "")


@pytest.mark.parametrize("line", ["--version", "--help", "run --help"])
def test_what_only_prints_text_loads_nothing_heavy(line: str) -> None:
    """Every call pays for the start-up."""
    program = (
        "import sys; from tasktrail.cli.app import run; run(sys.argv[1:]); "
        "print(*{name.partition('.')[0] for name in sys.modules}, file=sys.stderr)"
    )
    bare = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}  # it loads sqlite3
    command = [sys.executable, "-c", program, *line.split()]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, check=True)
    assert set(done.stderr.split()) & HEAVY == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_the_shells_script(cli: Callable[..., Any], shell: str) -> None:
    shown = cli("completion", shell)
    assert shown.code == 0
    assert f"_TASKTRAIL_COMPLETE={shell}_complete" in shown.out


def test_the_shell_is_told_commands_and_options() -> None:
    def complete(words: str, at: int) -> set[str]:
        environment = {"_TASKTRAIL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(at)}
        done = subprocess.run(
            [sys.executable, "-m", "tasktrail"], env=environment, capture_output=True, text=True, check=False
        )
        return {line.partition(",")[2] for line in done.stdout.splitlines()}

    assert complete("tasktrail s", 1) == {"serve", "submit", "start", "schedule", "source", "show", "stats", "seal"}
    assert "--force" in complete("tasktrail retry --f", 2)


def test_a_mistyped_command_is_answered_with_the_nearest(cli: Callable[..., Any]) -> None:
    shown = cli("wacth")
    assert shown.code == 2
    assert "Did you mean 'watch'?" in shown.err


def test_an_option_that_is_missing_is_explained(cli: Callable[..., Any]) -> None:
    """Whoever writes the folder of the outputs as an argument, as for `cp`, reads where it belongs."""
    shown = cli("batch", "photos", "small")
    assert shown.code == 2
    assert "Error: Missing option '--to'. The outputs: a folder, or" in " ".join(shown.err.split())


@pytest.mark.parametrize(
    ("word", "answer"),
    [
        ("stop", "`tasktrail cancel` stops a task; a service stops at Ctrl-C"),
        ("version", "`tasktrail --version`"),
        ("ps", "`tasktrail doctor` whether a service runs"),
        ("info", "`tasktrail show ID` shows a task"),
        ("remove", "`tasktrail cancel ID` stops a task; `tasktrail forget` drops"),
        ("kill", "`tasktrail cancel ID` stops a task"),
        ("create", "`tasktrail submit TYPE INPUT OUTPUT` makes a task."),
        ("noop", "Did you mean `run noop`?"),
    ],
)
def test_a_word_of_other_programs_or_a_type_is_answered_with_what_does_it(
    cli: Callable[..., Any], word: str, answer: str
) -> None:
    """`stop` was answered with "Did you mean 'top'?", and `remove` with 'prove'."""
    shown = cli(word, "a.jpg")
    assert shown.code == 2
    assert answer in " ".join(shown.err.split())


def test_options_for_every_command_go_before_and_after_it_and_the_last_word_wins(
    cli: Callable[..., Any], environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASKTRAIL_DATA", "from-environment")
    monkeypatch.setenv("TASKTRAIL_TOKEN", "secret")
    cli("stats")
    cli("--data", "before", "stats")
    cli("--data", "before", "stats", "--data", "after", "--url", "http://localhost:1")
    assert [str(session.data) for session in environment.sessions] == ["from-environment", "before", "after"]
    assert [session.token for session in environment.sessions] == ["secret"] * 3
    assert environment.sessions[-1].url == "http://localhost:1"


@pytest.mark.parametrize(
    ("line", "variables", "token", "file"),
    [
        ("--token-file a stats", {}, "", "a"),
        ("stats --token-file a", {"TASKTRAIL_TOKEN": "secret"}, "", "a"),
        ("--token x stats", {"TASKTRAIL_TOKEN_FILE": "a"}, "x", None),
        ("stats", {"TASKTRAIL_TOKEN": "secret", "TASKTRAIL_TOKEN_FILE": "a"}, "secret", None),
        ("--token-file a stats --token-file b", {"TASKTRAIL_TOKEN_FILE": "c"}, "", "b"),
    ],
)
def test_a_token_stands_in_a_file_and_what_is_typed_goes_before_the_environment(
    cli: Callable[..., Any],
    environment: Any,
    monkeypatch: pytest.MonkeyPatch,
    line: str,
    variables: dict[str, str],
    token: str,
    file: str | None,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cli(*line.split()).code == 0
    (session,) = environment.sessions
    assert (session.token, session.token_file) == (token, file and Path(file))


@pytest.mark.parametrize("line", ["--token x --token-file a stats", "--token x stats --token-file a"])
def test_a_token_and_a_file_with_one_contradict_each_other(cli: Callable[..., Any], line: str) -> None:
    shown = cli(*line.split())
    assert shown.code == 2
    assert "one of them is enough" in shown.err


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("list --as-of 1 --as-of 2", "--as-of"),
        ("show 1 --as-of 1 --as-of 1", "--as-of"),
        ("submit noop --priority 1 --priority 2", "--priority"),
        ("limits --fair-share --no-fair-share", "--fair-share"),
        ("schedule add n noop --every 3 --every 4", "--every"),
    ],
)
def test_an_option_given_twice_is_refused_and_not_half_heard(cli: Callable[..., Any], line: str, option: str) -> None:
    shown = cli(*line.split())
    assert (shown.code, shown.out) == (2, "")
    assert f"{option} is given more than once" in shown.err


@pytest.mark.parametrize("columns", [60, 80])
@pytest.mark.parametrize("name", ["", "schedule", *ALL])
def test_help_breaks_no_word_and_leaves_none_out(name: str, columns: int) -> None:
    narrow, whole = (
        CliRunner().invoke(app, [*name.split(), "--help"], terminal_width=width, max_content_width=width).output
        for width in (columns, 1000)
    )
    assert narrow.split() == whole.split()
    assert [line for line in narrow.splitlines() if len(line) > 80] == []
