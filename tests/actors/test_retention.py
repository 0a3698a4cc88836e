"""When the rules of retention are applied. Their effects are in tests/tasktrail/test_forget.py."""

import os
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


def parts(folder: Path, **some: Any) -> dict[str, Any]:
    return {
        "forgetter": None,
        "archiver": Idle(),
        "archive_after": lambda: None,
        "rules": lambda: ((), 0),
        "log_path": folder / "log.db",
        "views_path": folder / "views.db",
        "snapshots": folder,
        "folders": (),
        "pictures": folder,
        "rebuilding": threading.Lock(),
        "adopt_views": lambda: None,
        "take_snapshot": lambda: None,
        "settle": lambda: None,
        "cleared": Watermark(),
        "clock": SetBack(),
    } | some


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

    actor = Retention.start(**parts(tmp_path, archiver=archiver, rules=rules))
    try:
        for _ in range(3):
            assert looked.acquire(timeout=WITHIN)
    finally:
        actor.stop()
    assert "could not be archived" not in caplog.text  # no one has asked for that


def test_a_folder_in_the_place_of_a_snapshot_is_removed_with_what_was_forgotten(tmp_path: Path) -> None:
    taken: list[bool] = []
    (tmp_path / "scheduler" / "below").mkdir(parents=True)
    Retention(**parts(tmp_path, take_snapshot=lambda: taken.append(True)))._drop_snapshots(1)
    assert not (tmp_path / "scheduler").exists()
    assert taken == [True]


@pytest.mark.parametrize("what", ["file", "circle"])
def test_what_is_no_folder_in_the_place_of_the_pictures_holds_nothing_up(tmp_path: Path, what: str) -> None:
    pictures = tmp_path / "pictures"
    pictures.touch() if what == "file" else pictures.symlink_to(pictures.name)
    Retention(**parts(tmp_path, pictures=pictures))._drop_pictures()
    assert os.path.lexists(pictures)
