"""The benchmark's month is one that a service could have had."""

from contextlib import closing
from pathlib import Path

import month

from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections.verification import verify


def test_a_made_month_is_sound(tmp_path: Path) -> None:
    month.write_log(tmp_path / "log.db", 3000)
    with closing(SqliteLogReader(tmp_path / "log.db")) as log:
        found = verify(log)
    assert (found.findings, found.position) == ((), 3001)
