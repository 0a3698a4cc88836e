"""The Python in README and how-to runs as it is printed there."""

import base64
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import pytest

from tasktrail import TaskService
from tasktrail.actors.delivery.webhook import headers
from tasktrail.actors.secret import Secret
from tasktrail.events.errors import InvalidOptions

ROOT = Path(__file__).parent.parent.parent


def python_block(page: str) -> str:
    """Return the first Python example of a page."""
    found = re.search(r"^```python\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no Python example"
    return found[1]


def write_clip(path: Path) -> None:
    """Write half a second of a test picture."""
    with av.open("testsrc=size=160x120:rate=20:duration=0.5", format="lavfi") as source, av.open(path, "w") as target:
        stream = target.add_stream("mpeg4", rate=20)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for frame in source.decode(video=0):
            target.mux(stream.encode(frame.reformat(format="yuv420p")))
        target.mux(stream.encode())


def test_the_example_of_the_readme_converts_a_video(tmp_path: Path) -> None:
    write_clip(tmp_path / "holiday.mov")
    command = [sys.executable, "-c", python_block("README.md")]
    printed = subprocess.run(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True).stdout
    assert printed.splitlines()[-1] == f"completed {tmp_path / 'holiday.mp4'}"


def test_the_check_of_a_signature_in_the_how_to_takes_what_is_sent_and_nothing_else() -> None:
    names: dict[str, Any] = {}
    exec(compile(python_block("docs/how-to/notifications.md"), "notifications.md", "exec"), names)
    old, new = (f"whsec_{base64.b64encode(bytes([byte]) * 24).decode()}" for byte in (1, 2))
    sent = headers("notice-1", b"{}", Secret(f"{new} {old}"), datetime.now(UTC))
    assert names["is_genuine"](old, sent, b"{}")
    assert names["is_genuine"](new, sent, b"{}")
    assert not names["is_genuine"](new, sent, b"{ }")
    assert not names["is_genuine"](new, sent | {"webhook-id": "notice-2"}, b"{}")
    late = headers("notice-1", b"{}", Secret(new), datetime.now(UTC) - timedelta(minutes=6))
    assert not names["is_genuine"](new, late, b"{}")


def test_the_task_type_of_the_how_to_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, data = tmp_path / "my_package", tmp_path / "data"
    package.mkdir()
    data.mkdir()
    (package / "__init__.py").touch()
    (package / "shout.py").write_text(python_block("docs/how-to/add-a-task-type.md"))
    (data / "tasktrail.toml").write_text('handlers = ["my_package.shout"]\n')
    (tmp_path / "in.txt").write_text("hello")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    fields: dict[str, Any] = {"type": "shout", "input_file": tmp_path / "in.txt", "output_file": tmp_path / "out.txt"}
    with TaskService.open(data) as tasks:
        task = tasks.wait(tasks.create_task(**fields, options={"times": 2}), timeout=60)
        assert (task.status, task.result) == ("completed", {"lines": 2})
        assert task.checkpoint is not None
        assert task.checkpoint.processed_frames == 2
        assert (tmp_path / "out.txt").read_text() == "HELLO\nHELLO\n"
        with pytest.raises(InvalidOptions, match="times"):
            tasks.create_task(**fields, options={"times": 101})
