"""The command line as people meet it: in processes, with a real service and real signals."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tasktrail.events.clock import SystemClock
from tasktrail.events.log.sqlite import SqliteEventLog

SUPPORT = Path(__file__).parents[2] / "support"
WITHIN = 60.0

Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawn]:
    """Start `tasktrail` on a data folder of its own; processes still running at the end are killed."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "tasktrail.toml").write_text(
        'handlers = ["sample_handlers", "crash_handlers"]\nworkers = 2\ngrace_period = 20\n'
    )
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT), "TASKTRAIL_DATA": str(tmp_path / "data")}
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str, env: Mapping[str, str] | None = None, **more: Any) -> "subprocess.Popen[str]":
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        process = subprocess.Popen(
            [sys.executable, "-m", "tasktrail", *arguments],
            env={**environment, **(env or {})},
            cwd=tmp_path,
            text=True,
            **streams,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):  # bytes that the other side never read
                    stream.close()


@pytest.fixture
def call(spawn: Spawn) -> Callable[..., tuple[int, str, str]]:
    """Run a command to its end; return exit code, standard output, standard error."""

    def run(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        process = spawn(*arguments)
        out, err = process.communicate(stdin, timeout=WITHIN)
        return process.returncode, out, err

    return run


@pytest.fixture
def service(spawn: Spawn) -> "subprocess.Popen[str]":
    """A service that accepts commands."""
    process = spawn("serve")
    assert re.search(r"ready http://127\.0\.0\.1:\d+ /", line_with(process, "ready"))
    return process


def line_with(process: "subprocess.Popen[str]", pattern: str) -> str:
    """Return the first line on standard error that fits the pattern. If none comes, the test's time limit ends it."""
    assert process.stderr
    seen = []
    for line in process.stderr:
        seen.append(line)
        if re.search(pattern, line):
            return line
    pytest.fail(f"no {pattern!r} in {seen}")


def test_in_a_locale_that_knows_only_ascii_any_text_is_taken_and_shown(spawn: Spawn) -> None:
    """Python takes the locale C for UTF-8 by itself, unless it is told not to."""
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    told = spawn("list", "--label", "für", "--as-of", "für", env=ascii_only).communicate(timeout=WITHIN)
    assert told[1].startswith("Usage: ")
    assert "'für' is not a time" in told[1]


def test_what_the_encoding_of_the_output_lacks_is_written_as_its_number(spawn: Spawn) -> None:
    process = spawn("batch", "--help", env={"PYTHONIOENCODING": "latin-1"})
    assert "\\u2026" in process.communicate(timeout=WITHIN)[0]
    assert process.returncode == 0


@pytest.mark.slow
def test_in_a_locale_of_one_byte_a_letter_a_text_is_recorded_as_elsewhere(
    spawn: Spawn, call: Any, tmp_path: Path
) -> None:
    """Else the same bytes would mean another text, and another file, than to a service in UTF-8."""
    made = shutil.which("localedef")
    if (
        made is None
        or subprocess.run(
            [made, "-i", "en_US", "-f", "ISO-8859-1", str(tmp_path / "en_US")], check=False, capture_output=True
        ).returncode
    ):
        pytest.skip("no locale can be made here")
    latin_1 = {"LOCPATH": str(tmp_path), "LC_ALL": "en_US"}
    assert ended(spawn("run", "noop", "--label", "für", env=latin_1)) == 0
    assert json.loads(call("show", "1", "--json")[1])["label"] == "für"


def ended(process: "subprocess.Popen[str]") -> int:
    process.communicate(timeout=WITHIN)
    return process.returncode


@pytest.mark.slow
def test_serve_submit_watch_and_a_clean_stop(call: Any, service: "subprocess.Popen[str]", tmp_path: Path) -> None:
    assert call("submit", "echo", "-o", "value=[1,2]") == (0, "1\n", "")
    code, out, _err = call("watch", "1")
    assert (code, out.splitlines()[-1][:31]) == (0, "task 1 echo 100 % completed aft")
    assert json.loads(call("show", "1", "--json")[1])["result"]["value"] == [1, 2]
    code, out, _err = call("run", "noop")
    assert (code, out[:16]) == (0, "task 2 completed")
    assert call("serve")[0] == 1
    code, out, _err = call("rebuild")
    assert (code, out[:17]) == (0, "views built from ")
    assert call("verify")[0] == 0
    service.send_signal(signal.SIGTERM)
    assert ended(service) == 0
    assert not (tmp_path / "data" / "tasktrail.sock").exists()
    assert json.loads(call("log")[1].splitlines()[-1])["event"] == "service_stopped"
    assert call("submit", "echo")[0] == 3
    assert call("list")[0] == 0


@pytest.mark.slow
def test_a_stream_is_answered_line_by_line_and_only_what_is_durable(
    spawn: Spawn, call: Any, service: "subprocess.Popen[str]"
) -> None:
    sending = spawn("submit", "--from", "-")
    assert sending.stdin
    assert sending.stdout
    for number in (1, 2, 3):
        sending.stdin.write('{"command":"create_task","type":"noop","held":true}\n')
        sending.stdin.flush()
        answer = json.loads(sending.stdout.readline())
        assert answer["task_id"] == number
        record = json.loads(call("log", "--after", str(answer["position"] - 1), "--limit", "1")[1])
        assert (record["command_id"], record["event"]) == (answer["command_id"], "created")
    sending.stdin.write('{"command":"create_task","type":"nope"}\n')
    sending.stdin.flush()
    assert json.loads(sending.stdout.readline())["code"] == "unknown_type"
    service.kill()
    service.wait()
    sending.stdin.write('{"command":"create_task","type":"noop","command_id":"mine"}\n')
    sending.stdin.flush()
    lost = json.loads(sending.stdout.readline())
    assert lost["status"] == 503
    assert lost["command_id"] == "mine"
    sending.stdin.close()
    assert sending.wait(WITHIN) == 3


@pytest.mark.slow
@pytest.mark.parametrize("how", [(), ("--json",)])
def test_an_address_that_logs_a_browser_in_is_told_and_not_to_the_journal(
    spawn: Spawn, call: Any, how: tuple[str]
) -> None:
    for journal in ("", "8:12345"):
        process = spawn(*how, "serve", env={"JOURNAL_STREAM": journal})
        seen = line_with(process, "ready")
        assert call("stats")[0] == 0  # it has printed everything by then
        process.terminate()
        assert process.stderr
        seen += process.stderr.read()
        assert ("/login?code=" in seen) is not bool(journal)


@pytest.mark.slow
def test_thousands_of_lines_are_answered_in_order(call: Any, service: "subprocess.Popen[str]") -> None:
    lines = [f'{{"command":"create_task","type":"noop","held":true,"document_id":{n}}}' for n in range(3000)]
    code, out, _err = call("submit", "--from", "-", stdin="\n".join(lines))
    assert code == 0
    assert [json.loads(line)["task_id"] for line in out.splitlines()] == list(range(1, 3001))
    assert service.poll() is None


STEPS = ("run", "steps", "-o", "number=40", "-o", "seconds=0.05")


@pytest.mark.slow
def test_an_interrupted_run_goes_on_when_it_is_run_again(spawn: Spawn, call: Any) -> None:
    first = spawn(*STEPS)
    line_with(first, r"steps [1-4]\d\.\d %")
    first.send_signal(signal.SIGTERM)
    line_with(first, "the same command again goes on with it")
    assert first.wait(WITHIN) == 130
    code, out, err = call(*STEPS, "--json")
    task = json.loads(out)
    assert code == 0
    assert "going on with task 1 at " in err
    assert (task["id"], task["attempt"], task["result"]["done"]) == (1, 2, 40)
    assert task["result"]["here"] < 40
    events = [json.loads(line) for line in call("history", "1", "--json")[1].splitlines()]
    assert [event["data"]["outcome"] for event in events if event["event"] == "failed"] == ["interrupted"]


@pytest.mark.slow
def test_a_second_ctrl_c_cancels_the_run(spawn: Spawn, call: Any) -> None:
    running = spawn("run", "patient")
    line_with(running, "task 1 patient")  # it may be waiting or running already
    running.send_signal(signal.SIGINT)
    line_with(running, "Ctrl-C again cancels it")
    running.send_signal(signal.SIGINT)
    assert ended(running) == 1
    assert json.loads(call("show", "1", "--json")[1])["status"] == "cancelled"


@pytest.mark.slow
def test_a_second_signal_stops_the_service_at_once(call: Any, service: "subprocess.Popen[str]", tmp_path: Path) -> None:
    call("submit", "hang")
    for line in iter(lambda: call("show", "1", "--json")[1], ""):
        if json.loads(line)["status"] == "running":
            break
    service.send_signal(signal.SIGTERM)
    line_with(service, "stopping")
    service.send_signal(signal.SIGTERM)
    assert ended(service) == 130
    again = json.loads(call("log", "--limit", "1")[1])
    assert again["event"] == "service_started"
    assert (tmp_path / "data" / "log.db").exists()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """Systemd's end of a unit's socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.settimeout(WITHIN)
        yield receiver


@pytest.mark.slow
def test_a_reload_takes_what_can_change_and_names_what_waits(
    spawn: Spawn, call: Any, systemd: socket.socket, tmp_path: Path
) -> None:
    path = tmp_path / "data" / "tasktrail.toml"
    service = spawn("serve", env={"NOTIFY_SOCKET": str(tmp_path / "notify")})
    assert systemd.recv(1000).startswith(b"READY=1\nSTATUS=accepts commands at http://")

    path.write_text(path.read_text().replace("workers = 2", "workers = 3\nmax_concurrent = 1"))
    service.send_signal(signal.SIGHUP)

    assert re.fullmatch(rb"RELOADING=1\nMONOTONIC_USEC=\d+", systemd.recv(1000))
    assert "max_concurrent changed; the next start takes workers" in line_with(service, "read again")
    assert systemd.recv(1000) == b"READY=1"
    assert json.loads(call("limits", "--json")[1])["limits"]["max_concurrent"] == 1

    path.write_text("max_concurrent = -1\n")
    service.send_signal(signal.SIGHUP)

    assert "stays as it was" in line_with(service, "max_concurrent")
    assert json.loads(call("limits", "--json")[1])["limits"]["max_concurrent"] == 1
    service.send_signal(signal.SIGTERM)
    assert ended(service) == 0


@pytest.mark.slow
def test_a_reload_promises_no_key_that_an_option_of_this_service_overrides(spawn: Spawn, tmp_path: Path) -> None:
    """The unit of the docs has `--port`: a port in the configuration means nothing there, at no start."""
    path = tmp_path / "data" / "tasktrail.toml"
    service = spawn("serve", "--port", "0", "--host", "127.0.0.1")
    line_with(service, "ready")
    path.write_text(path.read_text().replace("workers = 2", 'workers = 3\nport = 8731\nhost = "::1"'))
    service.send_signal(signal.SIGHUP)
    assert line_with(service, "read again").strip().endswith("; the next start takes workers")


@pytest.mark.slow
def test_the_number_of_workers_is_an_option_as_well(spawn: Spawn, call: Any, tmp_path: Path) -> None:
    service = spawn("serve", "--workers", "3")
    line_with(service, "ready")
    assert json.loads(call("limits", "--json")[1])["limits"]["max_concurrent"] == 3
    path = tmp_path / "data" / "tasktrail.toml"
    path.write_text(path.read_text().replace("workers = 2", "workers = 4"))
    service.send_signal(signal.SIGHUP)
    assert "workers" not in line_with(service, "read again")


@pytest.mark.slow
def test_a_service_that_has_lost_its_log_ends_by_itself(
    call: Any, service: "subprocess.Popen[str]", tmp_path: Path
) -> None:
    """A newer service has taken the log over: the epoch in it has changed."""
    SqliteEventLog(tmp_path / "data" / "log.db", now=SystemClock().now()).close()
    assert call("submit", "noop")[0] in (1, 3)
    _out, err = service.communicate(timeout=WITHIN)
    assert service.returncode == 1
    assert "the service cannot go on: " in err
    assert "Traceback" not in err


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_reason_to_complain(spawn: Spawn, call: Any) -> None:
    assert call("run", "noop")[0] == 0
    reading, writing = os.pipe()
    os.close(reading)
    process = spawn("log", stdout=writing)
    os.close(writing)
    _out, err = process.communicate(timeout=WITHIN)
    assert (process.returncode, err) == (1, "")


def on_terminal(spawn: Spawn, *arguments: str) -> str:
    """Return a command's output when its standard error is a terminal."""
    ours, theirs = os.openpty()
    process = spawn(*arguments, stderr=theirs)
    os.close(theirs)
    shown = b""
    with suppress(OSError):  # how the kernel reports that the other side has closed
        while chunk := os.read(ours, 4096):
            shown += chunk
    os.close(ours)
    assert process.wait(WITHIN) == 0
    return shown.decode()


@pytest.mark.slow
def test_on_a_terminal_there_are_bars(spawn: Spawn) -> None:
    shown = on_terminal(spawn, "run", "chatter", "-o", "count=50")
    assert "━" in shown
    assert "100.0 %" in shown
    assert "checking" in on_terminal(spawn, "verify")


def test_a_target_that_nobody_has_configured_is_refused(
    call: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    with (tmp_path / "data" / "tasktrail.toml").open("a") as file:
        file.write('[apprise]\nteam = "json://canary-7.test"\n')
    code, out, err = call("run", "noop", "--notify-targets", "teem")
    assert (code, out) == (1, "")
    assert "There is no target 'teem'; did you mean 'team'?" in err
    assert "canary-7" not in err
