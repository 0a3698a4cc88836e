"""Kill a process that takes an incremental backup at each call that changes a file, and check what is left.

PYTHONPATH=tests/support python tests/crash/backup_campaign.py --most 1000 --seed 7 [--calls fsync,…] [--part 2/8]

Since the earlier backup tasks were forgotten, and records archived, some of them forgotten afterwards. After the kill
the log is as it was, the earlier backup can be restored as before, and the new one is there, whole, or no file has a
backup's name. Then it is taken once more: it has nothing of what was forgotten, and is restored and verified.
"""

import shutil
import sys
from contextlib import closing
from hashlib import sha256
from pathlib import Path

from call_by_call import CANARY, Begin, Campaign, complete_tasks, main, records_of

from tasktrail import TaskService
from tasktrail.actors.archiver import Archiver
from tasktrail.backups.backup import back_up
from tasktrail.backups.restore import restore
from tasktrail.config.settings import Config
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections.verification import verify

GONE = 6
SIZE = 16
CONFIG = Config(workers=1, handlers=("sample_handlers",), snapshot_every=20)


def prepare(data: Path) -> None:
    """Make a log with an earlier backup, and forget and archive since."""
    Archiver.size = SIZE
    with TaskService.open(data, config=CONFIG) as service:
        complete_tasks(service, GONE * (0, 7))
        (data / "backups").mkdir()
        service.backup(data / "backups" / "first.db")
        complete_tasks(service, [7])
        assert service.archive().archives
        assert service.forget(0, user_id=0).tasks == GONE
        complete_tasks(service, [7])


def take(data: Path, begin: Begin) -> None:
    """Do the child's work."""
    begin()
    taken = back_up(data, data / "backups" / "second.db", base=data / "backups" / "first.db")
    assert taken.base
    assert taken.archives_added
    print("taken", flush=True)


def check(data: Path, said: str) -> str:
    """Return whether it was taken, in words. Raises AssertionError."""
    origin, backups = data.parent / "origin", data / "backups"
    assert records_of(data) == records_of(origin)
    assert _digest(backups / "first.db") == _digest(origin / "backups" / "first.db")
    assert _restored(backups / "first.db")
    named = {path.name for path in backups.iterdir() if not path.name.startswith(".")} - {"first.db", "archive"}
    assert named <= {"second.db"}
    if named:
        assert _restored(backups / "second.db") == len(records_of(data))
    else:
        assert "taken" not in said, "what was acknowledged is lost"
        assert back_up(data, backups / "second.db", base=backups / "first.db").base
        assert not [path.name for path in backups.rglob("*.part")]
    assert _restored(backups / "second.db") == len(records_of(data))
    assert CANARY.encode() not in (backups / "second.db").read_bytes()
    return "taken" if named else "nothing taken"


def _restored(backup: Path) -> int:
    """Return how many records a backup has, after restoring it."""
    again = backup.parent.parent / "again"
    shutil.rmtree(again, ignore_errors=True)
    restore(backup, again)
    with closing(SqliteLogReader(again / "log.db")) as log:
        found = verify(log)
    assert found.findings == (), found.findings
    return found.records


def _digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    sys.exit(main(Campaign(prepare, take, check), __doc__))
