"""When the rules of retention are applied. Their effects are in tests/tasktrail/test_forget.py."""

import threading
from pathlib import Path
from typing import Any

import pytest
from clocks import SetBack

from tasktrail.actors import retention
from tasktrail.actors.feed import Watermark
from tasktrail.actors.retention import Retention
from tasktrail.events.errors import NotReady

WITHIN = 30.0


class Idle:
    """Has nothing to archive."""

    def finish(self) -> None:
        """Find nothing begun."""


class NotOpen:
    """Does not know yet whether something was begun."""

    def finish(self) -> None:
        """Fail, because the log waits for room."""
        raise NotReady("The log is not open yet")


@pytest.mark.parametrize("archiver", [Idle(), NotOpen()], ids=["log open", "log not open"])
def test_the_rules_are_applied_again_although_the_wall_clock_was_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, archiver: Idle | NotOpen
) -> None:
    monkeypatch.setattr(retention, "EVERY", 0.02)
    monkeypatch.setattr(Retention, "_clear", lambda _self: None)
    looked = threading.Semaphore(0)

    def rules() -> tuple[tuple[()], int]:
        looked.release()
        return (), 0

    made: dict[str, Any] = {
        "forgetter": None,
        "archiver": archiver,
        "archive_after": lambda: None,
        "rules": rules,
        "log_path": tmp_path / "log.db",
        "views_path": tmp_path / "views.db",
        "snapshots": tmp_path,
        "folders": (),
        "pictures": tmp_path,
        "rebuilding": threading.Lock(),
        "adopt_views": lambda: None,
        "take_snapshot": lambda: None,
        "settle": lambda: None,
        "cleared": Watermark(),
        "clock": SetBack(),
    }
    actor = Retention.start(**made)
    try:
        for _ in range(3):
            assert looked.acquire(timeout=WITHIN)
    finally:
        actor.stop()
    assert "could not be archived" not in caplog.text  # no one has asked for that
