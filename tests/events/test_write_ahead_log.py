"""The log's write-ahead file has its size from the start, and the way it gets that size leaves no trace."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from tasktrail.events import Created, Fact
from tasktrail.events.log.sqlite import SqliteEventLog

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _append(log: SqliteEventLog, task_id: int) -> None:
    log.append([Fact(task_id, 1, Created(type="noop"), NOW, life=1)], expected=task_id - 1)


def test_commits_do_not_make_the_file_grow(tmp_path: Path) -> None:
    log = SqliteEventLog(tmp_path / "log.db", now=NOW)
    before = (tmp_path / "log.db-wal").stat().st_size
    for task_id in range(1, 51):
        _append(log, task_id)
    assert (tmp_path / "log.db-wal").stat().st_size == before
    log.close()


def test_what_a_killed_service_leaves_is_read_whole_and_nothing_else_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "old").mkdir()
    log = SqliteEventLog(tmp_path / "old" / "log.db", now=NOW)
    _append(log, 1)
    _append(log, 2)
    for name in ("log.db", "log.db-wal"):
        (tmp_path / name).write_bytes((tmp_path / "old" / name).read_bytes())
    log.close()
    shutil.rmtree(tmp_path / "old")

    found = SqliteEventLog(tmp_path / "log.db", now=NOW)
    assert [record.task_id for record in found.read()] == [1, 2]
    assert found._conn.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert found._conn.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'room'").fetchone() == (0,)
    found.close()
