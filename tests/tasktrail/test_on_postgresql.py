"""A service whose log is on PostgreSQL: everything works as with a file, or the refusal says what to do instead."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from log_services import wait_for
from msgspec.structs import replace
from postgresql_server import connect, needs_postgresql, new_database, own_server
from projector_processes import note_processes

from tasktrail import Config, TaskService
from tasktrail.actors.side_process import SideProcess, reader_environment
from tasktrail.actors.workers.worker_process import worker_environment
from tasktrail.api.reader import Reader
from tasktrail.api.reader_process import ReaderProcess, VerifyQuestion
from tasktrail.backups.backup import back_up
from tasktrail.backups.evidence import refuse_older_log
from tasktrail.cli.app import run as run_cli
from tasktrail.doctor.rules import examine
from tasktrail.events import CreateTask
from tasktrail.events.errors import (
    ConfigurationError,
    DataInUse,
    DataNotEmpty,
    HistoryMissing,
    LogUnreachable,
    OnlyInFiles,
)
from tasktrail.events.log.address import NAME, read_address, write_address
from tasktrail.events.log.lock import DataLock
from tasktrail.events.log.opening import read_log
from tasktrail.following.standby import Standby
from tasktrail.paths import DataPaths
from tasktrail.projections import TaskFilters

pytestmark = needs_postgresql
HANDLERS = ("sample_handlers",)
SUPPORT = Path(__file__).parent.parent / "support"


@pytest.fixture
def where() -> Iterator[str]:
    with new_database() as where:
        yield where


@pytest.fixture
def config(where: str, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))  # for workers
    return Config(log=where, workers=1, handlers=HANDLERS)


def run(where: str, statement: str) -> None:
    with connect(where.removeprefix("postgresql:///").partition("?")[0]) as conn:
        conn.execute(statement)


@pytest.mark.slow
def test_a_service_works_and_its_log_is_read_by_whoever_finds_the_data_folder(tmp_path: Path, config: Config) -> None:
    with TaskService.open(tmp_path, config=config) as service:
        done = service.create_task(type="noop", command_id="once")
        assert service.wait(done, timeout=60).status == "completed"
        assert service.create_task(type="noop", command_id="once") == done
        assert [task.id for task in service.list_tasks(TaskFilters())[0]] == [done]
        assert service.verify().ok
        assert (service.readings().log_bytes or 0) > 8192
        assert service.get_task(done, as_of=service.stats().position).status == "completed"
    assert read_address(tmp_path / NAME) == config.log
    assert not (tmp_path / "log.db").exists()
    with Reader(tmp_path) as reader:
        assert [record.name for record in reader.events(done)][-1] == "completed"
        assert reader.verify().ok
    with TaskService.open(tmp_path, config=Config(workers=1, handlers=HANDLERS)) as service:  # the folder knows where
        assert service.get_task(done).status == "completed"
        assert service.create_task(type="noop") == done + 1
    (tmp_path / "views.db").unlink()
    with Reader(tmp_path) as reader:
        assert len(reader.list_tasks(TaskFilters())[0]) == 2


def test_two_data_folders_have_one_service_on_one_log(tmp_path: Path, config: Config) -> None:
    with (
        TaskService.open(tmp_path / "one", config=config),
        pytest.raises(DataInUse, match="The service with pid"),
    ):
        TaskService.open(tmp_path / "two", config=config)


@pytest.mark.slow
def test_on_another_data_folder_it_is_not_said_that_no_service_runs(
    tmp_path: Path, config: Config, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    with TaskService.open(one, config=config) as service:
        runs, waits = service.create_task(type="patient"), service.create_task(type="patient")
        wait_for(lambda: service.get_task(runs).status == "running")
        other.mkdir()
        write_address(other / NAME, config.log)
        with Reader(other) as reader:
            board, why = reader.queue(), reader.why(waits)
        codes = [run_cli(["--data", str(other), *command]) for command in (["queue"], ["top", "--once"])]
        shown = capsys.readouterr().out
        with DataLock(DataPaths(other).lock, "standby"):
            codes.append(run_cli(["--data", str(other), "watch", str(waits)]))
        refused = capsys.readouterr().err
        for task in (waits, runs):
            service.cancel_task(task)

    assert [one.task_id for one in board.running] == [runs]
    assert why.remark.startswith("No service was asked: one on another machine may have the log.")
    assert codes == [0, 0, 3]
    assert shown.count("1 runs, 1 waits for room") == 2
    assert shown.count("No service was asked") == shown.count("no service answers here") == 1
    assert "A standby" in refused
    assert "o service runs" not in shown + refused


@pytest.mark.slow
def test_a_service_goes_on_when_the_server_has_ended_its_sessions(tmp_path: Path, config: Config, where: str) -> None:
    with TaskService.open(tmp_path, config=config) as service:
        first = service.create_task(type="noop")
        service.wait(first, timeout=60)
        run(
            where,
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid != pg_backend_pid()",
        )
        again = None
        while again is None:  # the first notices, and is repeated under its command id until it is accepted
            try:
                again = service.create_task(type="noop", command_id="again")
            except LogUnreachable:
                continue
        assert again == first + 1
        assert service.wait(again, timeout=60).status == "completed"
        assert service.verify().ok


def test_what_only_files_have_is_refused_with_what_to_do(tmp_path: Path, config: Config) -> None:
    with TaskService.open(tmp_path, config=config) as service:
        service.create_task(type="noop")
        for dry_run in (True, False):
            with pytest.raises(OnlyInFiles):
                service.archive(dry_run=dry_run)
    with pytest.raises(OnlyInFiles, match="tasktrail migrate"):
        back_up(tmp_path, tmp_path / "backups")
    with pytest.raises(ConfigurationError, match="archive_after"):
        TaskService.open(tmp_path, config=Config(log=config.log, archive_after="90d"))


def test_a_folder_with_a_log_of_its_own_is_refused(tmp_path: Path, config: Config) -> None:
    with TaskService.open(tmp_path, config=Config(workers=1)):
        pass
    with pytest.raises(DataNotEmpty, match=r"log\.db holds a log, and the configuration names another"):
        TaskService.open(tmp_path, config=config)
    with TaskService.open(tmp_path, config=Config(workers=1)):
        pass


def test_a_database_that_has_lost_the_log_is_not_begun_anew(tmp_path: Path, config: Config, where: str) -> None:
    with TaskService.open(tmp_path, config=config) as service:
        service.create_task(type="noop")
    run(where, "DROP SCHEMA tasktrail CASCADE")
    with pytest.raises(HistoryMissing, match=r"^postgresql:///") as refused:
        TaskService.open(tmp_path, config=config)
    assert "user=postgres" not in refused.value.message, "an address is shown without its parameters"


def test_another_database_is_not_kept_as_the_place_of_the_log_unless_it_holds_it(
    tmp_path: Path, config: Config, where: str
) -> None:
    with TaskService.open(tmp_path, config=config) as service:
        service.create_task(type="noop")
    with new_database() as other:
        with pytest.raises(HistoryMissing):
            TaskService.open(tmp_path, config=replace(config, log=other))
        assert read_address(tmp_path / NAME) == where
        with pytest.raises(HistoryMissing):
            Standby(DataPaths(tmp_path, None, other), replace(config, log=other))
        assert read_address(tmp_path / NAME) == where
    same = f"{where}&application_name=x"
    with TaskService.open(tmp_path, config=replace(config, log=same)):
        assert read_address(tmp_path / NAME) == same


def test_a_server_that_is_lost_while_it_is_read_is_not_taken_for_a_whole_or_a_damaged_log(
    tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    with TaskService.open(tmp_path, config=config) as service:
        service.create_task(type="noop")
    paths = DataPaths(tmp_path)

    def lost(*_: object) -> None:
        raise LogUnreachable("gone")

    with closing(read_log(paths.log)) as log:
        for question in ("_ask", "unanswered"):
            with monkeypatch.context() as patch:
                patch.setattr(log, question, lost)
                with pytest.raises(LogUnreachable):
                    list(log.faults())
    monkeypatch.setattr("tasktrail.events.log.postgresql.reader.PostgresqlLogReader.read", lost)
    with pytest.raises(LogUnreachable):
        refuse_older_log(paths)


def test_a_server_that_does_not_answer_is_told(tmp_path: Path) -> None:
    with pytest.raises(LogUnreachable):
        TaskService.open(tmp_path, config=Config(log=f"postgresql:///none?host={tmp_path}"))
    found = {finding.name: finding for finding in examine(tmp_path)}
    assert "does not answer" in found["log"].message or "cannot be reached" in found["log"].message


def test_a_password_in_the_address_is_not_repeated(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as refusal:
        TaskService.open(tmp_path, config=Config(log="postgresql://me:hush@host/db"))
    assert "hush" not in str(refusal.value)


@pytest.mark.slow
def test_processes_that_read_the_log_get_the_variables_of_its_client_and_workers_do_not(
    tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, parameters = where.removeprefix("postgresql:///").partition("?")
    host = parameters.partition("&")[0].removeprefix("host=")
    monkeypatch.setenv("PGHOST", host)
    monkeypatch.setenv("PGPASSWORD", "hush")
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))  # for workers
    config = Config(log=f"postgresql://postgres@/{name}", workers=1, handlers=HANDLERS)
    with TaskService.open(tmp_path, config=config) as service:
        service.create_task(type="noop")
        with closing(ReaderProcess(service.paths, reader_environment())) as lane:
            assert json.loads(lane.ask(VerifyQuestion()))["ok"]
        process = SideProcess("tasktrail.actors.snapshotter", lambda _: None)
        process.start(str(service.paths.log), str(tmp_path / "snapshots"))
        ended = process.wait(60)
        assert ended is not None
        assert ended.code == 0, ended.errors
    assert "PGPASSWORD" not in worker_environment((), (), os.environ)


@pytest.mark.slow
def test_a_process_folds_what_comes(tmp_path: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    processes = note_processes(monkeypatch)
    with TaskService.open(tmp_path, config=config) as service:
        for number in range(1, 4):
            service.send_many([CreateTask(type="noop", held=True)] * 50)
            assert service.list_tasks(TaskFilters(limit=1))[1] == 50 * number
        assert len(processes) == 1
        assert service.verify().ok


@pytest.mark.slow
@pytest.mark.crash
def test_a_service_goes_on_when_its_server_was_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(SUPPORT))  # for workers
    with own_server() as (server, address):
        config = Config(log=address, workers=1, handlers=HANDLERS)
        with TaskService.open(tmp_path, config=config) as service:
            before = [service.create_task(type="noop") for _ in range(20)]
            server.kill()
            with pytest.raises(LogUnreachable):
                service.create_task(type="noop", command_id="again")
            assert not service.ready
            server.start_again()
            again = None
            while again is None:
                try:
                    again = service.create_task(type="noop", command_id="again")
                except LogUnreachable:
                    continue
            assert again == len(before) + 1
            for task_id in (*before, again):
                assert service.wait(task_id, timeout=60).status == "completed"
            assert service.verify().ok


@pytest.mark.slow
@pytest.mark.crash
def test_a_killed_service_has_lost_nothing(tmp_path: Path, where: str) -> None:
    data = tmp_path / "data"
    environment = {**os.environ, "PYTHONPATH": str(SUPPORT), "TASKTRAIL_LOG": where, "TASKTRAIL_DATA": str(data)}
    environment["TASKTRAIL_HANDLERS"] = "sample_handlers"
    command = [sys.executable, "-m", "tasktrail"]
    accepted = list[int]()
    for _ in range(3):
        with subprocess.Popen([*command, "serve", "--port", "0"], env=environment, stderr=subprocess.PIPE) as service:
            assert service.stderr is not None
            next(line for line in service.stderr if b"ready" in line)
            for _ in range(5 if service.poll() is None else 0):
                told = subprocess.run(
                    [*command, "submit", "noop", "--json"], env=environment, capture_output=True, check=True
                )
                accepted.append(int(told.stdout.split(b'"task_id":')[1].split(b",")[0].strip(b" }\n")))
            service.send_signal(signal.SIGKILL)
    assert accepted == list(range(1, 16))
    with closing(read_log(data / NAME)) as log:
        assert {record.task_id for record in log.read() if record.name == "created"} == set(accepted)
        assert list(log.faults()) == []
