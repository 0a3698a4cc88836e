"""A command that comes while the service is starting waits for it, says so, and gives up in time."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tasktrail import Client
from tasktrail.cli import watch
from tasktrail.cli.session import COMING_FOR, STARTING_FOR, Environment, Presence, Session
from tasktrail.cli.watch import Watch
from tasktrail.events.errors import ConfigurationError, ServiceUnreachable
from tasktrail.events.log.lock import DataLock, holder
from tasktrail.http.server import listen_unix


def appear(environment: Any, *steps: Presence) -> None:
    """Let the service go through these states, one for each look; the last one stays."""
    script = list(steps)
    service = environment.running
    environment.running = None

    def presence(_session: Session) -> Presence:
        now = script.pop(0) if len(script) > 1 else script[0]
        environment.running = service if now == "answers" else None
        return now

    environment.presence = presence


@pytest.mark.parametrize("line", ["submit noop", "cancel 1", "pause", "run noop"])
def test_a_service_that_has_taken_the_folder_is_waited_for(
    cli: Callable[..., Any], environment: Any, tasks: Any, line: str
) -> None:
    tasks.create_task(type="noop")
    tasks.script.append(lambda: tasks.cancel_task(1))
    appear(environment, "starting", "starting", "answers")
    shown = cli(*line.split())
    assert shown.code == 0 or line == "run noop"
    assert shown.err.count("a service is starting on") == 1
    assert environment.paused == pytest.approx(0.2)


def test_one_that_was_started_on_the_line_before_may_not_even_hold_the_folder_yet(
    cli: Callable[..., Any], environment: Any
) -> None:
    appear(environment, "absent", "absent", "starting", "answers")
    shown = cli("submit", "noop", "--json")
    assert (shown.code, shown.err) == (0, "")


def test_where_none_comes_it_is_told_soon(cli: Callable[..., Any], environment: Any) -> None:
    appear(environment, "absent")
    shown = cli("submit", "noop")
    assert shown.code == 3
    assert "`tasktrail serve`" in shown.err
    assert environment.paused == pytest.approx(COMING_FOR, abs=0.15)


def test_a_process_that_holds_the_folder_and_never_answers_is_told(cli: Callable[..., Any], environment: Any) -> None:
    appear(environment, "starting")
    shown = cli("submit", "noop")
    assert shown.code == 3
    told = " ".join(shown.err.split())
    assert "holds" in told
    assert "`tasktrail run` there has ended" in told
    assert environment.paused == pytest.approx(STARTING_FOR, abs=0.15)


def test_watch_waits_for_a_service_that_is_starting(cli: Callable[..., Any], environment: Any, tasks: Any) -> None:
    tasks.cancel_task(tasks.create_task(type="noop"))
    appear(environment, "starting", "starting", "answers")
    shown = cli("watch", "1")
    assert (shown.code, shown.out) == (1, "task 1 noop 0.0 % cancelled\n")
    assert shown.err.count("a service is starting on") == 1
    assert environment.paused == pytest.approx(0.2)


@pytest.mark.parametrize("steps", [["absent", "absent", "starting", "answers"], ["held"]])
def test_watch_follows_what_a_service_that_comes_or_another_program_does(
    cli: Callable[..., Any], environment: Any, tasks: Any, steps: list[Presence], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads the files, which whoever holds the folder writes."""
    environment.inside = tasks
    appear(environment, *steps)
    monkeypatch.setattr(watch, "LOOK_EVERY", 0.001)
    tasks.create_task(type="noop")
    tasks.script.append(lambda: tasks.cancel_task(1))
    look = Watch.look

    def stepping(self: Watch) -> bool:
        more = look(self)
        if more:
            tasks.script.pop()()
        return more

    monkeypatch.setattr(Watch, "look", stepping)
    shown = cli("watch", "1")
    assert shown.out.splitlines() == ["task 1 noop 0.0 % waiting", "task 1 noop 0.0 % cancelled"]


def test_watch_says_that_a_standby_moves_nothing(
    cli: Callable[..., Any], environment: Any, tasks: Any, data: Path
) -> None:
    (data / "lock").write_text(f"pid {os.getppid()} on {socket.gethostname()} as standby\n")
    environment.inside = tasks
    appear(environment, "held")
    tasks.create_task(type="noop")
    assert cli("--data", str(data), "watch", "1").code == 3


def test_reading_commands_do_not_wait(cli: Callable[..., Any], environment: Any, tasks: Any) -> None:
    environment.inside = tasks
    appear(environment, "starting")
    assert cli("list").code == 0
    assert environment.paused == 0


@pytest.fixture(params=["data", "d" * 200])
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """Make a folder whose socket path is short enough for the system, and one whose path is too long."""
    monkeypatch.chdir(tmp_path)
    Path(request.param).mkdir()
    return Path(request.param)


def presence(data: Path) -> Presence:
    environment = Environment()
    return environment.presence(Session(environment=environment, data=data))


def test_the_presence_of_a_service_is_seen_from_outside_and_without_its_lock(data: Path) -> None:
    assert presence(data) == "absent"
    with DataLock(data / "lock"):
        assert holder(data / "lock") == os.getpid()
    assert holder(data / "lock") is None, "whoever has let go of the folder is named no more"
    (data / "lock").write_text(f"pid {os.getppid()} on {socket.gethostname()}\n")
    assert presence(data) == "starting"
    with listen_unix(data.absolute() / "tasktrail.sock"):
        assert presence(data) == "answers"
    (data / "lock").unlink()
    assert presence(data) == "absent", "a socket that a killed service has left is none"


def test_a_program_is_told_of_a_service_that_does_not_answer_yet(data: Path) -> None:
    """Right after `tasktrail serve &` there is one, and no program should start another."""
    with pytest.raises(ServiceUnreachable, match="No service runs on"):
        Client.connect(data)
    (data / "lock").write_text(f"pid {os.getppid()} on {socket.gethostname()} as serve\n")
    with pytest.raises(ServiceUnreachable) as refused:
        Client.connect(data)
    told = str(refused.value)
    assert f"(pid {os.getppid()}) does not answer: it is starting or stopping" in told
    assert "prints `ready`" in told
    assert "Start one" not in told


@pytest.mark.parametrize(("what", "who"), [("run", "`tasktrail run`"), ("program", "A program")])
def test_a_folder_held_by_what_takes_no_commands_is_told_at_once(
    cli: Callable[..., Any], environment: Any, data: Path, what: str, who: str
) -> None:
    (data / "lock").write_text(f"pid {os.getppid()} on {socket.gethostname()} as {what}\n")
    assert presence(data) == "held"
    with pytest.raises(ServiceUnreachable) as refused:
        Client.connect(data)
    for line in ("submit noop", "run noop"):
        appear(environment, "held")
        shown = cli("--data", str(data), *line.split())
        assert shown.code == 3
        for told in (" ".join(shown.err.split()), str(refused.value)):
            assert f"{who}" in told
            assert f"(pid {os.getppid()}) holds" in told
        assert "start `tasktrail serve`, which works for all" in " ".join(shown.err.split())
    assert environment.paused == 0


@pytest.mark.parametrize("line", ["", "pid", "pid x on here", f"pid {2**40} on {{host}}", "pid {pid} on elsewhere"])
def test_a_lock_file_that_names_nobody_here_says_nothing(data: Path, line: str) -> None:
    (data / "lock").write_text(line.format(pid=os.getpid(), host=socket.gethostname()))
    assert holder(data / "lock") is None


def test_a_service_inside_a_command_that_is_refused_leaves_no_data_folder(tmp_path: Path) -> None:
    config = tmp_path / "tasktrail.toml"
    config.write_text('executor = "ray"\n')
    session = Session(environment=Environment(), data=tmp_path / "far" / "data", config=config)
    with pytest.raises(ConfigurationError, match="no cluster is named"):
        session.environment.embedded(session)
    assert list(tmp_path.iterdir()) == [config]
