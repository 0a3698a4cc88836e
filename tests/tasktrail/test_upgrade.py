"""One version after another works on a data folder: forwards always, backwards where the older one knows enough."""

import gzip
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from golden_logs import FOLDER

from tasktrail import TaskFilters, TaskService, __version__
from tasktrail.backups.restore import restore
from tasktrail.doctor.rules import examine
from tasktrail.events.errors import LogTooNew
from tasktrail.events.forms import Forms, forms_fingerprint, known_forms
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.system_events import ServiceStarted
from tasktrail.projections.verification import verify

Opener = Callable[..., TaskService]


@pytest.fixture
def newer(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """From the call on, this code lacks an event and a field that the previous service knew."""
    before = known_forms()

    def less() -> None:
        forms: Forms = {tag: dict(fields) for tag, fields in before.items() if tag != "queue_drained"}
        del forms["completed"]["tools"], forms["completed"]["tools{}"]
        monkeypatch.setattr("tasktrail.events.log.writers.known_forms", lambda: forms)

    # The forms of the first version are never recorded; here it is assumed to have had almost none.
    monkeypatch.setattr("tasktrail.events.log.writers._first_forms", lambda: {"created": before["created"]})
    return less


def everything_in(folder: Path) -> dict[str, bytes]:
    """Return the content of all files except the lock and those that reading a database may leave empty."""
    files = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    return {
        path.relative_to(folder).as_posix(): content
        for path, content in files.items()
        if content and not path.name.endswith(("-shm", "lock"))
    }


def test_a_service_says_which_events_and_fields_it_knows(open_service: Opener) -> None:
    with open_service() as service:
        start = next(service.log()).event
    assert isinstance(start, ServiceStarted)
    assert (start.version, start.schema) == (__version__, forms_fingerprint())


def test_an_older_version_refuses_what_a_newer_one_has_worked_on_and_changes_nothing(
    open_service: Opener, newer: Callable[[], None]
) -> None:
    with open_service() as service:
        service.wait(service.create_task(type="echo"), timeout=20)
    data = service.paths.data
    newer()
    before = everything_in(data)
    with pytest.raises(LogTooNew, match=r"position 1: tasktrail .* `completed.tools`.* the event `queue_drained`"):
        open_service()
    assert everything_in(data) == before


def test_the_older_version_says_so_wherever_it_is_asked_and_does_not_call_it_damage(
    open_service: Opener, newer: Callable[[], None], tmp_path: Path
) -> None:
    with open_service() as service:
        service.wait(service.create_task(type="echo"), timeout=20)
    newer()
    with closing(SqliteLogReader(service.paths.log)) as log:
        (finding,) = verify(log).findings
    assert (finding.code, finding.position, finding.remedy) == ("newer", 1, LogTooNew.remedy)
    assert "osition" not in finding.message  # it is reported beside it
    with pytest.raises(LogTooNew):
        restore(service.paths.log, tmp_path / "other")
    (told,) = [one for one in examine(service.paths.data) if one.name == "log"]
    assert (told.level, told.remedy) == ("fail", LogTooNew.remedy)
    assert "`completed.tools`" in told.message
    assert "damaged" not in told.message


def test_the_same_version_goes_on(open_service: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasktrail.events.log.writers._first_forms", dict)
    for _start in range(3):
        open_service().close()


def test_this_version_goes_on_with_the_log_of_a_service_of_an_earlier_one(open_service: Opener, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "log.db").write_bytes(gzip.decompress((FOLDER / "0.1.0-service.db.gz").read_bytes()))
    with open_service() as service:
        known = service.list_tasks(TaskFilters(limit=1))[1]
        new = service.create_task(type="echo")
        assert new > known
        service.wait(new, timeout=20)
        assert service.list_tasks(TaskFilters(limit=1))[1] >= known + 1
        found = service.verify()
        assert found.findings == ()
        assert found.written_by[-1].schema == forms_fingerprint()
