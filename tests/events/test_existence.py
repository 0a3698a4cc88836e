"""Only what is certainly not there counts as missing."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from tasktrail.events.existence import exists, is_dir, is_file

ASKED = (exists, is_file, is_dir)


def test_files_and_folders_are_told_apart_and_links_followed(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("file")
    assert [ask(tmp_path) for ask in ASKED] == [True, False, True]
    assert [ask(tmp_path / "file") for ask in ASKED] == [True, True, False]
    assert [ask(tmp_path / "link") for ask in ASKED] == [True, True, False]


def test_what_cannot_be_there_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "broken").symlink_to("none")
    for name in ("none", "file/below", "circle", "broken", "a\0b"):
        assert [ask(tmp_path / name) for ask in ASKED] == [False, False, False]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG])
def test_what_the_system_does_not_tell_is_no_answer(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Any, *_: Any, **_options: Any) -> os.stat_result:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "stat", refused)
    for ask in ASKED:
        with pytest.raises(OSError, match="log") as caught:
            ask(tmp_path / "log.db")
        assert caught.value.errno == number
