"""Kill a process that erases a user at each system call that changes a file, and check what is left.

PYTHONPATH=tests/support python tests/crash/erase_campaign.py --most 1000 --seed 7 [--calls fsync,…] [--part 2/8]

The child erases one of two users. After the kill the log has to verify, with everything that was in it before;
everything acknowledged is in it. The next start has to finish what was promised: no file holds a word of the user, nor
the key nor the master key that opened the data; the tasks of the other user, log and views are as they were. If nothing
was promised, all data of the user is still there, and the user is erased then.
"""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

from call_by_call import WITHIN, Begin, Campaign, main, records_of

from tasktrail import TaskFilters, TaskService
from tasktrail.config.settings import Config
from tasktrail.events import Recorded
from tasktrail.events.log.keys import Keys
from tasktrail.events.system_events import ErasureFinished, UserErased

ADA, BOB = 7, 8
CONFIG = Config(
    workers=1,
    handlers=("telltale_handlers",),
    snapshot_every=5,
    personal_data="encrypted",
    allow_endpoints=("127.0.0.1:9",),
)
WORDS = ("printed", "told", "saved", "returned", "drawn")


def canary(user: int, place: str) -> str:
    """Return a unique word."""
    return f"qzxcanary{user}{place}"


def live(service: TaskService, folder: Path, user: int) -> None:
    """Create three tasks of a user that leave words in every possible place."""

    def word(place: str) -> str:
        return canary(user, place)

    source = folder / f"{word('input')}.txt"
    source.write_text("read")
    common: dict[str, Any] = {
        "type": "telltale",
        "input_file": str(source),
        "user_id": user,
        "actor": word("actor"),
        "label": word("label"),
        "batch": word("batch"),
        "notify_webhook": f"http://127.0.0.1:9/{word('webhook')}",
    }
    options = {place: word(place) for place in WORDS}
    done = service.create_task(**common, output_file=str(folder / f"{word('output')}.out"), options=options)
    assert service.wait(done, WITHIN).status == "completed"
    options["complained"] = word("complained")
    broken = service.create_task(**common, output_file=str(folder / f"{user}.broken"), options=options)
    assert service.wait(broken, WITHIN).status == "failed"
    held = service.create_task(**common, output_file=str(folder / f"{user}.held"), held=True, unique=word("unique"))
    service.cancel_task(held, reason=word("cancelled"), actor=word("actor"))


def prepare(data: Path) -> None:
    """Make the tasks of two users, the files they have read and written, and the keys of their data."""
    files = data.parent / "files"
    files.mkdir()
    with TaskService.open(data, config=CONFIG) as service:
        for user in (ADA, BOB):
            live(service, files, user)
            service.backup(data.parent / f"{user}.db")
    assert _holding(data, canary(ADA, "").encode())


def erase(data: Path, begin: Begin) -> None:
    """Do the child's work."""
    with TaskService.open(data, config=CONFIG, own_only=True) as service:
        begin()
        position = service.erase_user(ADA).position
        print("promised", flush=True)
        _wait_until_finished(service, position)
        print("finished", flush=True)


def _wait_until_finished(service: TaskService, position: int) -> None:
    for record in service.follow(after=position):
        if isinstance(record.event, ErasureFinished) and record.event.erasure == position:
            return


def check(data: Path, said: str) -> str:
    """Return how far it had come, in words, after a kill and the start after it. Raises AssertionError."""
    origin = data.parent / "origin"
    before = records_of(origin)
    records = records_of(data)
    promised = [record.position for record in records if isinstance(record.event, UserErased)]
    finished = any(isinstance(record.event, ErasureFinished) for record in records)
    outcome = "finished" if finished else "promised" if promised else "not promised"
    assert [record.hash for record in records[: len(before)]] == [record.hash for record in before]
    assert len(promised) <= 1
    assert promised or "promised" not in said, "what was acknowledged is lost"
    assert finished or "finished" not in said, "what was finished is lost"
    if finished:
        _nothing_left(data)
    with TaskService.open(data, config=CONFIG, own_only=True) as service:
        if not promised:
            assert service.list_tasks(TaskFilters(label=canary(ADA, "label")))[1] == 3
            promised = [service.erase_user(ADA).position]
        _wait_until_finished(service, promised[0])
        assert service.verify().findings == ()
        assert service.list_tasks(TaskFilters(user_id=ADA))[1] == 0
        tasks, total = service.list_tasks(TaskFilters(user_id=BOB))
        assert (total, {task.label for task in tasks}) == (3, {canary(BOB, "label")})
        assert canary(BOB, "printed") in str(service.output(tasks[-1].id))
        assert sum(isinstance(record.event, ErasureFinished) for record in service.log()) == 1
    _nothing_left(data)
    mine = [(one, other) for one, other in zip(before, records_of(data), strict=False) if _is_of(BOB, one)]
    assert mine
    assert all(one == other for one, other in mine)
    return outcome


def _is_of(user: int, record: Recorded) -> bool:
    return canary(user, "") in f"{record.event} {record.actor} {record.reason}"


def _nothing_left(data: Path) -> None:
    """Check that words, key and master key are in no file."""
    left = _holding(data, canary(ADA, "").encode())
    assert not left, left
    for secret in _secrets(data.parent / "origin"):
        assert not _holding(data, secret), "what opens the records is still there"
    keys = Keys(data / "log.db")
    assert keys.of_user(ADA) == ()
    assert len(keys.of_user(BOB)) == 1
    keys.close()


def _holding(data: Path, word: bytes) -> list[str]:
    """Return the files with a word in their content or name."""
    return [
        path.name
        for path in data.rglob("*")
        if path.is_file() and (word in path.read_bytes() or word in str(path).encode())
    ]


def _secrets(data: Path) -> list[bytes]:
    """Return the master key, as it is written, and the user's key as it was stored under it."""
    with closing(sqlite3.connect(data / "keys.db")) as conn:
        ((wrapped,),) = conn.execute("SELECT wrapped FROM keys WHERE user_id = ?", (ADA,))
    return [(data / "master-key").read_text().split()[1].encode(), wrapped]


if __name__ == "__main__":
    sys.exit(main(Campaign(prepare, erase, check), __doc__))
