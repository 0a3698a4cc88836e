"""A service seals its log by itself once there is a key: what was left unsealed, then at intervals, and at its end."""

import errno
import os
import threading
from collections.abc import Callable, MutableMapping
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from clocks import SetBack
from pykka import ActorRef
from scripted_witness import ScriptedWitness
from structlog.testing import capture_logs

from tasktrail import TaskService
from tasktrail.actors.core.messages import Tick
from tasktrail.actors.sealer import Sealer
from tasktrail.actors.side_process import ProcessEnded
from tasktrail.config.settings import Config
from tasktrail.events.clock import Clock, SystemClock
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections.proof.notes import WitnessKey
from tasktrail.projections.proof.seals import SealCheck, make_seal, public_key, seal_files
from tasktrail.projections.proof.witness_list import add_witness
from tasktrail.projections.verification import verify

WITHIN = 30.0


def service(data: Path, **config: object) -> TaskService:
    return TaskService.open(data, config=Config(workers=1, handlers=("sample_handlers",), **config))  # type: ignore[arg-type]  # the test's keys


def sizes(folder: Path) -> list[int]:
    return [int(path.stem) for path in seal_files(folder)]


def head(data: Path) -> int:
    with closing(SqliteLogReader(data / "log.db")) as log:
        return log.head().position


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the data of a service that has run and was sealed by hand."""
    monkeypatch.setattr("tasktrail.actors.sealer._LAST_WITHIN", WITHIN)  # a busy machine may take longer than usual
    with service(tmp_path / "data") as tasks:
        tasks.create_task(type="noop", held=True)
    assert not (tmp_path / "data" / "seals").exists(), "nothing is sealed before there is a key"
    with closing(SqliteLogReader(tmp_path / "data" / "log.db")) as log:
        make_seal(log, tmp_path / "data" / "seals", tmp_path / "data" / "seal-key", SystemClock().now())
    return tmp_path / "data"


def test_a_service_seals_what_it_ends_with(data: Path) -> None:
    with service(data) as tasks:
        tasks.create_task(type="noop", held=True)
    assert sizes(data / "seals")[-1] == head(data)
    with closing(SqliteLogReader(data / "log.db")) as log:
        found = verify(log, seals=SealCheck(data / "seals", public_key(data / "seals")))
    assert (found.ok, found.sealed) == (True, head(data))


def test_seals_may_be_kept_elsewhere(data: Path, tmp_path: Path) -> None:
    before = sizes(data / "seals")
    with service(data, seals_dir=str(tmp_path / "kept")):
        pass
    assert sizes(tmp_path / "kept")[-1] == head(data)
    assert sizes(data / "seals") == before


class Told:
    """Counts starts of the process, which is not really started."""

    def __init__(self) -> None:
        self.started = threading.Semaphore(0)
        self.running = False
        self.runs = False
        """Whether a start succeeds."""
        self.end: ProcessEnded | None = None
        """How it ends while a stop waits."""

    def start(self, *_arguments: str) -> None:
        self.running = self.runs
        self.started.release()

    def wait(self, _seconds: float) -> ProcessEnded | None:
        return self.end

    def kill(self) -> None:
        """Kill nothing."""

    def forget(self) -> None:
        """Forget nothing."""


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Told:
    made = Told()
    monkeypatch.setattr("tasktrail.actors.sealer.SideProcess", lambda *_arguments: made)
    return made


def sealer_of(
    folder: Path,
    every: float,
    position: Callable[[], int],
    clock: Clock | None = None,
    on_trouble: Callable[[str], object] = lambda _: None,
) -> ActorRef[Sealer]:
    (folder / "seal-key").touch()
    return Sealer.start(
        log_path=folder / "log.db",
        folder=folder / "seals",
        key_file=folder / "seal-key",
        witnesses=folder / "witnesses.json",
        every=every,
        clock=clock or SystemClock(),
        position=position,
        on_trouble=on_trouble,
    )


def test_it_seals_again_by_the_clock_and_only_what_has_grown(told: Told, tmp_path: Path) -> None:
    position = 5
    sealer = sealer_of(tmp_path, 0.02, lambda: position)
    try:
        assert told.started.acquire(timeout=WITHIN)
        assert not told.started.acquire(timeout=0.2), "nothing was recorded"
        position = 6
        assert told.started.acquire(timeout=WITHIN)
    finally:
        sealer.stop()


def test_it_seals_again_although_the_wall_clock_was_put_back(told: Told, tmp_path: Path) -> None:
    position = 5
    sealer = sealer_of(tmp_path, 0.02, lambda: position, SetBack())
    try:
        assert told.started.acquire(timeout=WITHIN)
        position = 6
        assert told.started.acquire(timeout=WITHIN), "it would come when the clock has got there: in a year"
    finally:
        sealer.stop()


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (ProcessEnded(1, "", "Traceback\nLogCorrupt: the archive is missing\n"), "LogCorrupt: the archive is missing"),
        (ProcessEnded(-9, "", ""), "exit code -9"),
        (None, "it took more than 3 s; a start seals it"),
        (ProcessEnded(0, "", ""), ""),
    ],
)
def test_a_stop_that_leaves_no_seal_says_why(told: Told, tmp_path: Path, end: ProcessEnded | None, why: str) -> None:
    position = 5
    sealer = sealer_of(tmp_path, 0, lambda: position)
    assert told.started.acquire(timeout=WITHIN)
    position, told.runs, told.end = 6, True, end
    with capture_logs() as lines:
        sealer.stop()
    assert [line.get("error") or line.get("why") for line in lines if "sealed" in line["event"]] == [why] * bool(why)


@pytest.mark.parametrize(
    ("beyond", "witnesses", "event"),
    [
        (1, True, "the end of the log is not sealed"),
        (0, True, "the witnesses may not have signed the last seal"),
        (0, False, ""),
    ],
)
def test_a_stop_that_kept_the_seal_in_time_says_at_most_that_witnesses_are_missing(
    told: Told, data: Path, beyond: int, event: str, *, witnesses: bool
) -> None:
    """It said that the end is not sealed, although the seal was there."""
    position = 1
    if witnesses:
        (data / "witnesses.json").touch()
    sealer = sealer_of(data, 0, lambda: position)
    assert told.started.acquire(timeout=WITHIN)
    position, told.runs = head(data) + beyond, True
    with capture_logs() as lines:
        sealer.stop()
    assert [line["event"] for line in lines] == [event] * bool(event)


def test_a_log_that_was_changed_is_not_sealed_again_and_the_log_of_the_service_says_so(data: Path) -> None:
    newest = seal_files(data / "seals")[-1]
    newest.rename(newest.with_name("999999.note"))
    newest.with_name("999999.note").write_text("nonsense")
    with capture_logs() as lines, service(data) as tasks:
        for _ in range(300):
            if any("could not be sealed" in line["event"] for line in lines):
                break
            threading.Event().wait(0.1)
        tasks.create_task(type="noop", held=True)
        assert "SealUnfit" in degraded(tasks, "could not be sealed")[0]
    said = [line for line in lines if "could not be sealed" in line["event"]]
    assert said
    assert "SealUnfit" in said[0]["error"]
    assert len(sizes(data / "seals")) == 1


def said(lines: list[MutableMapping[str, Any]], words: str) -> MutableMapping[str, Any]:
    """Wait for the lines with these words in the service's log, and return them."""
    for _ in range(300):
        if found := [line for line in lines if words in line["event"]]:
            return found[0]
        threading.Event().wait(0.1)
    raise AssertionError(lines)


def degraded(tasks: TaskService, words: str) -> list[str]:
    """Wait for the service's problems with these words, and return them."""
    for _ in range(300):
        if found := [each for each in tasks.degraded if words in each]:
            return found
        threading.Event().wait(0.1)
    raise AssertionError(tasks.degraded)


def test_a_service_whose_key_is_gone_says_that_nothing_is_sealed(data: Path) -> None:
    (data / "seal-key").rename(data / "elsewhere")
    with service(data) as tasks:
        told = f"the log cannot be sealed: {data / 'seal-key'} is missing, although there are seals made with it"
        assert degraded(tasks, "sealed") == [told]


def test_a_service_that_was_never_sealed_says_nothing(tmp_path: Path) -> None:
    with capture_logs() as lines, service(tmp_path / "data") as tasks:
        tasks.create_task(type="noop", held=True)
    assert not [line for line in lines if line["log_level"] in ("warning", "error")]


def test_what_kept_a_log_from_being_sealed_is_over_with_the_next_seal(told: Told, tmp_path: Path) -> None:
    troubles: list[str] = []
    sealer = sealer_of(tmp_path, 0, lambda: 5, on_trouble=troubles.append)
    try:
        for code, error in ((1, "LogCorrupt: the archive is missing"), (0, "")):
            sealer.ask(ProcessEnded(code, "", error))
    finally:
        told.end = ProcessEnded(0, "", "")
        sealer.stop()
    assert troubles[:2] == ["the log could not be sealed: LogCorrupt: the archive is missing", ""]


def test_a_key_that_is_missing_is_no_trouble_once_the_seals_are_gone(told: Told, tmp_path: Path) -> None:
    """They may have been another log's, and left in its folder."""
    troubles: list[str] = []
    sealer = sealer_of(tmp_path, 0, count(1).__next__, on_trouble=troubles.append)
    assert told.started.acquire(timeout=WITHIN)
    try:
        (tmp_path / "seal-key").unlink()
        seal = tmp_path / "seals" / "7.note"
        seal.parent.mkdir()
        seal.touch()
        sealer.ask(Tick())
        seal.unlink()
        sealer.ask(Tick())
    finally:
        sealer.stop()
    assert "seal-key is missing" in troubles[0]
    assert troubles[1] == ""


def test_a_service_has_witnesses_sign_and_says_which_did_not(data: Path) -> None:
    with ScriptedWitness() as good, ScriptedWitness(lambda _: (422, b""), name="bad") as bad:
        for one in (good, bad):
            add_witness(data / "witnesses.json", one.named)
        with capture_logs() as lines, service(data) as tasks:
            told = said(lines, "has not signed")
            trouble = degraded(tasks, "witness")
            tasks.create_task(type="noop", held=True)
    assert (told["log_level"], told["witness"]) == ("error", "bad")
    assert "other records" in told["why"]
    assert trouble == [f"the witness bad does not sign: {told['why']}"]
    with closing(SqliteLogReader(data / "log.db")) as log:
        check = SealCheck(data / "seals", public_key(data / "seals"), [WitnessKey(good.named.key)])
        found = verify(log, seals=check)
    assert found.ok
    assert found.sealed == head(data), "the log is sealed, whoever signs along"
    assert found.witnessed[0].position > 0


@pytest.mark.slow
def test_a_running_service_asks_a_witness_that_was_added_from_its_next_seal_on(data: Path) -> None:
    answered = threading.Semaphore(0)

    def busy(_request: bytes) -> tuple[int, bytes]:
        answered.release()
        return 503, b""

    with ScriptedWitness(busy) as witness, service(data, seal_every=0.1) as tasks:
        tasks.create_task(type="noop", held=True)
        add_witness(data / "witnesses.json", witness.named)
        tasks.create_task(type="noop", held=True)
        assert answered.acquire(timeout=WITHIN)
    assert witness.asked[0].startswith(b"old 0\n")


@pytest.mark.slow
def test_a_damaged_list_of_witnesses_keeps_no_seal_from_being_made_and_is_told(data: Path) -> None:
    (data / "witnesses.json").write_text("{")
    with capture_logs() as lines, service(data) as tasks:
        told = said(lines, "no witness is asked")
        tasks.create_task(type="noop", held=True)
    assert str(data / "witnesses.json") in told["why"]
    assert "tasktrail witness add" in told["remedy"]
    assert sizes(data / "seals")[-1] == head(data)


@pytest.mark.parametrize(("call", "code"), [("fsync", errno.ENOSPC), ("open", errno.EROFS), ("replace", errno.EACCES)])
def test_what_keeps_a_seal_from_being_written_is_told_with_its_file_and_leaves_nothing(
    data: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    with service(data) as tasks:
        tasks.create_task(type="noop", held=True)
    for path in seal_files(data / "seals"):
        path.unlink()
    usual = getattr(os, call)

    def refused(what: object, *rest: object, **named: object) -> Any:
        if call == "open" and not str(what).endswith(".part"):
            return usual(what, *rest, **named)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, call, refused)
    with closing(SqliteLogReader(data / "log.db")) as log, pytest.raises(OSError, match=os.strerror(code)) as failed:
        make_seal(log, data / "seals", data / "seal-key", SystemClock().now())
    assert failed.value.filename == str(data / "seals" / "key")
    assert not (data / "seals" / ".key.part").exists()
