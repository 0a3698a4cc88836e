"""The demo's output fits a terminal, and says what it is about."""

import io
import re
import shlex
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tasktrail.demo import story
from tasktrail.demo.samples import Decoded
from tasktrail.demo.story import OTHERS, Demo, ServiceProcess, progress_bars


@pytest.mark.parametrize("width", [80, 120])
def test_every_row_has_its_percentage_however_long_name_and_message_are(width: int) -> None:
    """On 80 columns both the percentage and the bar were missing, because the name took all the room."""
    screen = io.StringIO()
    bars = progress_bars(Console(file=screen, width=width, force_terminal=True, color_system=None))
    for number, (task_type, sample, *_) in enumerate(OTHERS, 1):
        name = f"{number} {task_type} {sample.name}"
        bars.add_task(name, total=100, completed=10 * number, message="encoding segments 10, 11 of 12, 25 fps")
    rows = bars.console.render_lines(bars.get_renderable(), pad=False)
    lines = ["".join(segment.text for segment in row) for row in rows]
    assert len(lines) == len(OTHERS)
    for number, line in enumerate(lines, 1):
        assert f"{number} {OTHERS[number - 1][0]}" in line
        assert f" {10 * number} % encoding" in line
        assert re.search(r" \d:\d\d:\d\d$", line.rstrip())  # however slow the machine is
        assert "━" in line or "╸" in line


def test_a_film_that_failed_is_told_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It used to be shown as a missing file, without anything that the log knows of it."""
    screen = io.StringIO()
    demo = Demo(tmp_path, Console(file=screen, width=120))
    monkeypatch.setattr(demo, "_command", lambda *_: 0)
    film: Any = SimpleNamespace(
        id=1, type="video_convert", status="failed", attempt=2, error="no room", output_file=str(tmp_path / "no.mp4")
    )
    other: Any = SimpleNamespace(id=2, type="audio_convert", status="completed")

    kept = demo._verify([film, other], Decoded(frames=9, duration=1.0, width=2, height=2, codec="h264"), 38.0)

    assert not kept
    said = screen.getvalue()
    assert "task 1 video_convert is failed: no room" in said
    assert "task 2" not in said
    assert "NO  all tasks are completed" in said
    assert "NO  same number of frames as the source" in said
    assert f"Outputs and log are in {tmp_path}" in said


def test_the_command_for_the_page_is_one_that_a_shell_takes(tmp_path: Path) -> None:
    """In a home with a space in its name the shell read two words, and ran a wrong command."""
    screen = io.StringIO()
    home = tmp_path / "Ben Lee"
    home.mkdir()
    Demo(home, Console(file=screen, width=120)).show(keep=False)
    *_, data, verb = shlex.split(screen.getvalue().rpartition("this prints: ")[2])
    assert verb == "serve"
    assert Path(data).parent.parent == home


def test_the_demo_imports_nothing_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with a file of the name of a module, such as a download, that file was run."""
    (tmp_path / "json.py").write_text("raise SystemExit('this is not json')")
    monkeypatch.chdir(tmp_path)

    assert Demo(tmp_path, Console(file=io.StringIO()))._command("--version") == 0
    service = ServiceProcess(tmp_path / "data")
    service.stop()
    assert service._process.stderr is not None
    service._process.stderr.close()
    assert service.address


def test_what_is_left_after_a_ctrl_c_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def leave(_demo: Demo) -> bool:
        raise KeyboardInterrupt

    monkeypatch.setattr(Demo, "run", leave)
    with pytest.raises(KeyboardInterrupt):
        story.run(tmp_path)
    (folder,) = tmp_path.iterdir()
    assert f"Left. Outputs and log are in {folder}" in capsys.readouterr().out.replace("\n", "")


def test_a_ctrl_c_while_the_service_starts_leaves_no_service_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service has a session of its own, so nothing else would ever end it."""
    started: list[subprocess.Popen[str]] = []

    class Ready(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:  # noqa: ARG002 - as it is called
            raise KeyboardInterrupt

    def start(*command: Any, **more: Any) -> subprocess.Popen[str]:
        started.append(subprocess.Popen(*command, **more))
        return started[-1]

    monkeypatch.setattr(story, "threading", SimpleNamespace(Event=Ready, Thread=threading.Thread))
    monkeypatch.setattr(story, "subprocess", SimpleNamespace(**{**vars(subprocess), "Popen": start}))
    with pytest.raises(KeyboardInterrupt):
        ServiceProcess(tmp_path / "data")
    (service,) = started
    ended = service.returncode
    service.kill()
    service.wait()
    assert service.stderr is not None
    service.stderr.close()
    assert ended is not None
