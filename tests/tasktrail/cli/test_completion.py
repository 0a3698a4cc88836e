"""The shell's offers beside commands and options, and what a user sees who takes a type's option for one of ours."""

import contextlib
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.shell_completion import CompletionItem, ShellComplete

from tasktrail.api.reader import type_infos
from tasktrail.cli.app import app
from tasktrail.cli.completion import Bash, Fish, Zsh, completion_items, options_of_type, values_of_option
from tasktrail.cli.session import Session
from tasktrail.events import Started
from tasktrail.events.reports import AttemptEnded
from tasktrail.handlers.registry import Registry
from tasktrail.projections.proof.seals import Witnessed
from tasktrail.projections.proof.witness_list import Witness


@pytest.fixture(autouse=True)
def _built_in_types(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    infos = type_infos(Registry.load())
    monkeypatch.setattr(environment, "types", lambda _session: (infos, []))


@pytest.fixture
def offer(environment: Any) -> Callable[[str], list[str]]:
    """Return what is offered after a line whose last word is incomplete."""

    def complete(line: str) -> list[str]:
        *words, last = line.split(" ")
        found = ShellComplete(app, {"obj": environment}, "tasktrail", "_X").get_completions(words, last)
        return [item.value for item in found]

    return complete


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("run video_c", ["video_convert"]),
        ("submit image_t", ["image_thumbnail"]),
        ("schedule add nightly model", ["model_preview"]),
        ("types document", ["document_convert", "document_preview"]),
        ("pause --type video_pr", ["video_preview"]),
        ("list --status f", ["failed"]),
        ("list --status failed,can", ["failed,cancelled"]),
        ("list --type image_convert,image_c", []),
        ("list --status=fa", ["failed"]),
        ("list --sort=pr", ["priority"]),
        ("list --sort pr", ["priority"]),
        ("retry --status c", ["completed", "cancelled"]),
        ("run image_thumbnail in out -o wid", ["width="]),
        ("run image_thumbnail -o fit=", ["fit=crop", "fit=fill", "fit=fit"]),
        ("run own_type -o wid", []),
        ("schedule add nightly noop --timezone Europe/Berl", ["Europe/Berlin"]),
        ("submit noop --notify-on comp", ["completed"]),
        ("submit noop --notify-on failed,re", ["failed,retried"]),
        ("submit noop --notify-on failed,f", []),
        ("submit noop --notify-targets a", []),
        ("submit noop --on-dependency-failure wait,w", ["wait,wait"]),
    ],
)
def test_types_statuses_options_and_their_values_are_offered(
    offer: Callable[[str], list[str]], line: str, offered: list[str]
) -> None:
    assert offer(line) == offered


@pytest.mark.parametrize("line", ["show ", "why ", "cancel 1 ", "watch ", "adjust ", "submit noop --parent "])
def test_ids_are_offered_newest_first(offer: Callable[[str], list[str]], tasks: Any, line: str) -> None:
    for _ in range(12):
        tasks.create_task(type="noop")
    assert offer(line)[:2] == ["12", "11"]
    assert offer(f"{line}1") == ["12", "11", "10", "1"]


def test_a_second_id_is_offered_after_a_comma(offer: Callable[[str], list[str]], tasks: Any) -> None:
    for _ in range(12):
        tasks.create_task(type="noop")
    assert offer("submit noop --depends-on 3,1") == ["3,12", "3,11", "3,10", "3,1"]
    assert offer("submit noop --depends-on 12,") == [f"12,{number}" for number in range(11, 0, -1)]
    assert offer("submit noop --depends-on x,1") == ["x,12", "x,11", "x,10", "x,1"]
    assert offer("submit noop --depends-on 1,x") == []


@pytest.mark.parametrize("line", ["show 1", "history 1"])
def test_ids_that_begin_so_are_offered_however_many_tasks_there_are(
    offer: Callable[[str], list[str]], tasks: Any, line: str
) -> None:
    for _ in range(120):
        tasks.create_task(type="noop")
    twenties = [str(number) for number in range(120, 99, -1)]
    assert offer(line) == [*twenties, *(str(number) for number in range(19, 9, -1)), "1"]
    assert offer("show 7") == [*(str(number) for number in range(79, 69, -1)), "7"]
    assert offer("show 13") == ["13"]
    assert offer("show 121") == []


def test_a_command_is_offered_only_tasks_that_it_can_take(offer: Callable[[str], list[str]], tasks: Any) -> None:
    waits, runs, failed, done = (tasks.create_task(type="noop") for _ in range(4))
    for task_id in (runs, failed, done):
        tasks.journal.record(task_id, Started(worker="w"))
    tasks.journal.send(AttemptEnded(task_id=failed, attempt=1, outcome="failed", error="no", error_type="ValueError"))
    tasks.journal.send(AttemptEnded(task_id=done, attempt=1, outcome="completed"))
    assert offer("retry ") == [str(failed)]
    assert offer("cancel ") == [str(runs), str(waits)]
    assert offer("start ") == offer("adjust ") == [str(waits)]
    assert offer(f"cancel {done}") == []
    assert offer("show ") == [str(done), str(failed), str(runs), str(waits)]


def test_schedules_are_offered_where_one_is_removed(offer: Callable[[str], list[str]], cli: Callable[..., Any]) -> None:
    assert cli("schedule", "add", "nightly", "noop", "--every", "60").code == 0
    assert offer("schedule remove n") == ["nightly"]


@pytest.mark.parametrize("line", ["batches f", "list --batch f", "cancel --batch f"])
def test_batches_are_offered(line: str, offer: Callable[[str], list[str]], tasks: Any) -> None:
    for name in ("films", "photos", "fonts"):
        tasks.create_task(type="noop", batch=name)
    assert offer(line) == ["fonts", "films"]


def test_witnesses_are_offered_where_one_is_removed(
    offer: Callable[[str], list[str]], environment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [(Witness(f"https://{name}.example", "key"), Witnessed(witness=name)) for name in ("w1", "w2", "x")]
    monkeypatch.setattr(environment, "witnesses", lambda _session: asked)
    assert offer("witness remove w") == ["w1", "w2"]


@pytest.mark.parametrize("line", ["show ", "run vid", "list --type x", "schedule remove ", "witness remove "])
def test_with_nobody_to_ask_nothing_is_offered_and_nothing_said(
    offer: Callable[[str], list[str]], environment: Any, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    def fail(*_arguments: Any) -> None:
        raise OSError("gone")

    for name in ("types", "service", "files"):
        monkeypatch.setattr(environment, name, fail)
    assert offer(line) == []


def test_every_option_with_a_list_of_values_has_them_offered(environment: Any) -> None:
    session = Session(environment=environment)
    for task_type in Registry.load():
        for name, option in options_of_type(session, task_type.name).items():
            listed = [branch for branch in (option, *option.get("anyOf", ())) if "enum" in branch]
            if listed:
                assert list(values_of_option(option)), (task_type.name, name)


_ASK_A_SERVICE = """
import sys
from types import SimpleNamespace
from tasktrail.cli.completion import type_names
from tasktrail.cli.session import Environment, Session
environment = Environment()
environment.service = lambda _session: SimpleNamespace(types=lambda: [], close=lambda: None)
list(type_names(Session(environment=environment)))
sys.exit("tasktrail.api.reader" in sys.modules)
"""


def test_the_types_of_a_service_are_offered_without_loading_what_reads_files() -> None:
    """A third of the time after each Tab went into that."""
    assert subprocess.run([sys.executable, "-c", _ASK_A_SERVICE], check=False, timeout=60).returncode == 0


@pytest.mark.parametrize(
    ("words", "at", "joined", "printed"),
    [
        ("tasktrail run image_thumbnail -o fit = co", 6, (["run", "image_thumbnail", "-o"], "fit=co"), "plain,cover"),
        ("tasktrail run image_thumbnail -o fit =", 5, (["run", "image_thumbnail", "-o"], "fit="), "plain,cover"),
        ("tasktrail list --status = fa", 4, (["list"], "--status=fa"), "plain,fit=cover"),
        ("tasktrail list --status =", 3, (["list"], "--status="), "plain,fit=cover"),
        (
            "tasktrail run image_thumbnail --option = fit = co",
            7,
            (["run", "image_thumbnail"], "--option=fit=co"),
            "plain,cover",
        ),
        ("tasktrail run image_thumbnail -o fi", 4, (["run", "image_thumbnail", "-o"], "fi"), "plain,fit=cover"),
        ("tasktrail enable fit : co", 4, (["enable"], "fit:co"), "plain,cover"),
        ("tasktrail enable fit :", 3, (["enable"], "fit:"), "plain,cover"),
        ("tasktrail enable fit", 2, (["enable"], "fit"), "plain,fit=cover"),
        ("tasktrail --url http : //[ :: 1] : 80 li", 9, (["--url", "http://[::1]:80"], "li"), "plain,fit=cover"),
        ("tasktrail list --search 'x:' --sta", 4, (["list", "--search", "x:"], "--sta"), "plain,fit=cover"),
    ],
)
def test_bash_breaks_words_at_equals_signs_and_colons_and_we_mend_them(
    monkeypatch: pytest.MonkeyPatch, words: str, at: int, joined: tuple[list[str], str], printed: str
) -> None:
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(at))
    bash = Bash(app, {}, "tasktrail", "_X")
    assert bash.get_completion_args() == joined
    assert bash.format_completion(CompletionItem("fit=cover")) == printed


def test_files_are_offered_for_input_and_output() -> None:
    environment = {
        **os.environ,
        "_TASKTRAIL_COMPLETE": "bash_complete",
        "COMP_WORDS": "tasktrail run image_thumbnail pho",
        "COMP_CWORD": "3",
    }
    command = [sys.executable, "-m", "tasktrail"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["file,pho"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("run image_thumbnail a.png b.jpg --width 3", "-o width=3"),
        ("submit image_thumbnail a.png b.jpg --width=3", "-o width=3"),
        ("submit video_convert a.mov b.mp4 --video-codec av1", "-o video_codec=av1"),
        ("submit image_thumbnail a.png b.jpg --width", "-o width=VALUE"),
    ],
)
def test_an_option_of_the_type_is_told_how_it_is_written(cli: Callable[..., Any], line: str, told: str) -> None:
    shown = cli(*line.split())
    assert shown.code == 2
    assert f"Did you mean `{told}`?" in shown.err


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("run image_thumbnail -dash.jpg small.jpg", "-dash.jpg"),
        ("submit image_thumbnail photo.jpg -xy.jpg", "-xy.jpg"),
        ("run image_thumbnail photo.jpg -out.jpg", "-out.jpg"),
        ("submit image_thumbnail photo.jpg --small.jpg", "--small.jpg"),
        ("batch -x.jpg --to small", "-x.jpg"),
        ("run image_thumbnail -hello.jpg small.jpg", "-hello.jpg"),  # -h among the letters
        ("run image_thumbnail -photo.jpg small.jpg", "-photo.jpg"),
        ("run image_thumbnail -owidth=320 -photo", "-photo"),
    ],
)
def test_a_file_whose_name_begins_with_a_dash_is_told_how_it_is_written(
    cli: Callable[..., Any], tasks: Any, line: str, file: str
) -> None:
    shown = cli(*line.split())
    assert shown.code == 2
    assert f"Did you mean the file `./{file}`?" in " ".join(shown.err.split())
    assert tasks.sent == []


def test_a_dashed_file_without_a_suffix_is_known_by_being_there(
    cli: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    line = ("submit", "image_thumbnail", "-film", "small.jpg", "--json")
    assert "Did you mean" not in cli(*line).err
    (tmp_path / "-film").touch()
    assert json.loads(cli(*line).err)["remedy"].startswith("Did you mean the file `./-film`?")


@pytest.mark.parametrize("line", ["run x -h", "run image_thumbnail -photo --help"])
def test_help_on_its_own_is_help(cli: Callable[..., Any], line: str) -> None:
    shown = cli(*line.split())
    assert (shown.code, shown.out.startswith("Usage:")) == (0, True)


def test_a_number_behind_an_unknown_option_is_no_file(cli: Callable[..., Any]) -> None:
    assert "the file" not in cli("submit", "image_thumbnail", "a", "b", "-w3.5").err


def test_an_option_that_nobody_has_is_refused_as_before(cli: Callable[..., Any]) -> None:
    shown = cli("submit", "image_thumbnail", "a", "b", "--colour", "red")
    assert shown.code == 2
    assert "No such option" in shown.err
    assert "-o" not in shown.err.replace("--colour", "")


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
@pytest.mark.parametrize(
    "value",
    [
        *(
            "https://a.example/$(touch${IFS}pwned)",
            "`touch pwned`",
            "a;touch pwned",
            "a b",
            "a|b&c>d<e",
            "*",
            "?",
            "[1]",
        ),
        *("it's", 'a"b', "back\\slash", "~", "#x", "{a,b}", "!1", "$HOME", "fit=cover", "https://a.example:8443/x?a=1"),
    ],
)
def test_what_bash_completes_is_one_word_and_no_command(tmp_path: Path, value: str) -> None:
    """The address of a receiver is any text that the sender of a task has written."""
    bash = Bash(app, {}, "tasktrail", "_X")
    bash._cut = 0
    (tmp_path / "offers").write_text(bash.format_completion(CompletionItem(value)) + "\n")
    (tmp_path / "tasktrail").write_text("#!/bin/sh\ncat offers\n")
    (tmp_path / "tasktrail").chmod(0o700)
    script = (
        f"{bash.source()}\nCOMP_WORDS=(tasktrail enable ''); COMP_CWORD=2\n"
        '_tasktrail_completion ./tasktrail\neval "set -- ${COMPREPLY[0]}"\nprintf "%s\\n" "$#" "$1"\n'
    )
    shown = subprocess.run(["bash", "--norc", "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert shown.stdout == f"1\n{value}\n"
    assert not (tmp_path / "pwned").exists()


def fake_program(folder: Path, offers: str) -> dict[str, str]:
    """Write a program that completes anything to `offers`, and otherwise notes its arguments in `given`."""
    program = folder / "tasktrail"
    (folder / "offers").write_text(offers)
    program.write_text(
        f'#!/bin/sh\ncd {folder}\n[ -n "$_TASKTRAIL_COMPLETE" ] && exec cat offers\nprintf "%s\\n" "$@" > given\n'
    )
    program.chmod(0o700)
    return {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder), "ZDOTDIR": str(folder), "TERM": "dumb"}


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
@pytest.mark.parametrize(
    ("line", "offers", "given"),
    [
        ("list --status=fa", "plain\nfailed\n_\n", ["list", "--status=failed"]),
        ("list --batch=ho", "plain\nholiday\n3 tasks\n", ["list", "--batch=holiday"]),
        ("submit noop --option=fit=c", "plain\nfit=crop\n_\n", ["submit", "noop", "--option=fit=crop"]),
        ("list --status failed,ca", "plain\nfailed,cancelled\n_\n", ["list", "--status", "failed,cancelled"]),
        ("sub", "plain\nsubmit\nSend a new task\n", ["submit"]),
        ("run noop pho", "file\npho\n_\n", ["run", "noop", "photo.jpg"]),
        ("--data=fol", "dir\nfol\n_\n", ["--data=folder"]),
    ],
)
def test_zsh_completes_a_value_and_keeps_the_name_before_it(
    tmp_path: Path, line: str, offers: str, given: list[str]
) -> None:
    environment = fake_program(tmp_path, offers)
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / ".zshrc").write_text(
        f"autoload -Uz compinit\ncompinit -u -D\n{Zsh(app, {}, 'tasktrail', '_TASKTRAIL_COMPLETE').source()}"
    )
    ours, theirs = pty.openpty()
    os.write(ours, f"tasktrail {line}\t\nexit\n".encode())
    with subprocess.Popen(
        ["zsh", "-d", "-i"], cwd=tmp_path, env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    ):
        os.close(theirs)
        with contextlib.suppress(OSError):  # the terminal is gone once zsh has left
            while os.read(ours, 4096):
                pass
    os.close(ours)
    assert (tmp_path / "given").read_text().splitlines() == given


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
@pytest.mark.parametrize(
    ("line", "offers", "shown"),
    [
        ("list --status=fa", "plain,failed\n", "--status=failed"),
        ("list --status failed,ca", "plain,failed,cancelled\n", "failed,cancelled"),
        ("sub", "plain,submit\tSend a new task, durably\n", "submit\tSend a new task, durably"),
        ("run noop pho", "file,pho\n", "photo.jpg"),
        ("--data fol", "dir,fol\n", "folder/"),
        ("--data=fol", "dir,fol\n", "--data=folder/"),
    ],
)
def test_fish_completes_words_with_a_name_or_commas(tmp_path: Path, line: str, offers: str, shown: str) -> None:
    environment = fake_program(tmp_path, offers)
    (tmp_path / "photo.jpg").touch()
    (tmp_path / "folder").mkdir()
    script = f"{Fish(app, {}, 'tasktrail', '_TASKTRAIL_COMPLETE').source()}\ncomplete --do-complete 'tasktrail {line}'"
    done = subprocess.run(
        ["fish", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[0].removesuffix("\tDirectory") == shown


def test_no_offer_and_no_word_about_one_breaks_a_line() -> None:
    offers = [("7", "failed noop a\nplain\n$(id)\n.png"), ("a\nplain,b", ""), ("\x1b[2J", "")]
    assert [(item.value, item.help) for item in completion_items(offers, "")] == [
        ("7", "failed noop a\\nplain\\n$(id)\\n.png")
    ]
