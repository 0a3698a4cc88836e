"""`tasktrail source`: watched folders on the command line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tasktrail.events.commands import AddSource, FileTask, PauseSource, RemoveSource, ResumeSource

Cli = Callable[..., Any]
IN = str(Path.cwd())
ADDED = AddSource(source="inbox", inputs=(f"{IN}/in", f"{IN}/b/*.mov"), to=f"{IN}/out/{{stem}}.mp4", actor="me")


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("add inbox in b/*.mov --to out/{stem}.mp4 --actor me", ADDED),
        (
            "add inbox in b/*.mov --to out/{stem}.mp4 --preset web-720p --settle 2 --poll 9 --replace --actor me",
            replace(ADDED, task=FileTask(preset="web-720p"), settle=2.0, poll=9.0, replace=True),
        ),
        (
            "add inbox in b/*.mov --to out/{stem}.mp4 --type noop --priority 3 --actor me",
            replace(ADDED, task=FileTask(type="noop", priority=3)),
        ),
        ("pause inbox --reason why --actor me", PauseSource(source="inbox", reason="why", actor="me")),
        ("resume inbox --actor me", ResumeSource(source="inbox", actor="me")),
        ("remove inbox --actor me", RemoveSource(source="inbox", actor="me")),
    ],
)
def test_a_line_is_a_command(cli: Cli, tasks: Any, line: str, command: Any) -> None:
    cli("source", "add", "inbox", "x", "--to", "y/") if "add" not in line else None
    if "resume" in line:
        cli("source", "pause", "inbox")
    said = cli("source", *line.split())
    assert said.code == 0, said.err
    assert replace(tasks.sent[-1], command_id="") == command


def test_a_folder_that_is_not_there_is_watched_and_told(cli: Cli, tmp_path: Path) -> None:
    """A mistyped name looked like any other source, and only the service's log knew."""
    said = cli(
        "source", "add", "inbox", str(tmp_path), str(tmp_path / "inbxo"), str(tmp_path / "*.mov"), "--to", "out/"
    )
    assert (said.code, said.err) == (0, f"{tmp_path}/inbxo is not there yet; it is watched as soon as it is\n")


def test_the_list_says_what_each_does(cli: Cli) -> None:
    assert "There is no source." in cli("source", "list").out
    cli("source", "add", "inbox", "in", "--to", "out/", "--preset", "web-720p")
    cli("source", "add", "scans", "b", "--to", "out/")
    cli("source", "pause", "scans")
    said = cli("source", "list").out.splitlines()
    assert [line.split()[:3] for line in said[2:]] == [["inbox", "watching", "web-720p"], ["scans", "paused", "by"]]
    listed = [json.loads(line) for line in cli("source", "list", "--json").out.splitlines()]
    assert [(one["source"], one["paused"]) for one in listed] == [("inbox", False), ("scans", True)]


def test_wrong_use_is_told(cli: Cli) -> None:
    assert cli("source", "add", "inbox", "--to", "x").code == 2
    assert cli("source", "add", "inbox", "in").code == 2
    assert cli("source", "add", "a/b", "in", "--to", "x/").code == 1
    said = cli("source", "pause", "none")
    assert (said.code, "There is no source none" in said.err) == (1, True)
