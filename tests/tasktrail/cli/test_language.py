"""Output is English, but the seed's two messages are in its own words where the locale is Chinese."""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tasktrail
from tasktrail.events import Checkpoint, Started
from tasktrail.events.commands import AbortAttempt
from tasktrail.events.reports import AttemptCheckpointed
from tasktrail.events.state import RECOVERING, RESUMING

_IDEOGRAPHS = re.compile("[\u4e00-\u9fff]")
CHINESE = "zh_CN.UTF-8"


@pytest.fixture
def recovered(tasks: Any) -> None:
    """Two tasks after a crash; the second one has a checkpoint."""
    for task_id in (1, 2):
        tasks.create_task(type="noop", resumable=True)
        tasks.journal.record(task_id, Started(worker="w1"))
    point = Checkpoint(processed_frames=9)
    tasks.journal.send(AttemptCheckpointed(task_id=2, attempt=1, checkpoint=point, progress=40.0))
    for task_id in (1, 2):
        tasks.journal.send(AbortAttempt(task_id=task_id, outcome="interrupted", error="the service died"))


@pytest.fixture(autouse=True)
def _no_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("recovered")
@pytest.mark.parametrize(
    ("variables", "chinese"),
    [
        ({}, False),
        ({"LANG": "C.UTF-8"}, False),
        ({"LANG": CHINESE}, True),
        ({"LC_MESSAGES": CHINESE, "LANG": "de_DE.UTF-8"}, True),
        ({"LC_ALL": "en_GB.UTF-8", "LANG": CHINESE}, False),
    ],
)
def test_the_messages_of_recovery_follow_the_locale(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], *, chinese: bool
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    told = [cli("show", task_id).out for task_id in ("1", "2")]
    assert ("任务恢复中..." in told[0], RECOVERING in told[0]) == (chinese, not chinese)
    assert ("从断点恢复... 40 %" in told[1], f"{RESUMING} at 40 %" in told[1]) == (chinese, not chinese)
    assert bool(_IDEOGRAPHS.search(cli("list").out)) is chinese
    assert not _IDEOGRAPHS.search(cli("list", "--json").out)


def test_no_other_text_of_ours_is_in_another_language() -> None:
    """The seed's two messages stand in one place."""
    found = set()
    for folder, _folders, names in os.walk(Path(tasktrail.__file__).parent, followlinks=True):
        files = [Path(folder, name) for name in names if name.endswith(".py")]
        found |= {file.name for file in files if _IDEOGRAPHS.search(file.read_text(encoding="utf-8"))}
    assert found == {"terminal.py"}
