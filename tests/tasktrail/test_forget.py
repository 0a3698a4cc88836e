"""Ended tasks are forgotten: gone from every file, while everything else stays as it was and can be proven."""

import itertools
import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from deep_folders import dig, few_descriptors
from from_outside import files_with
from owner import secret_file

from tasktrail import Client, TaskFilters, TaskService
from tasktrail.actors.archiver import Archiver
from tasktrail.actors.retention import Retention
from tasktrail.api import remote
from tasktrail.api.reader import Reader
from tasktrail.cli import batch
from tasktrail.cli.app import run
from tasktrail.errors import problem
from tasktrail.events import (
    AdjustTask,
    CancelTask,
    Checkpoint,
    Command,
    CreateGraph,
    CreateTask,
    GraphTask,
    RedeliverNotice,
    RetryTask,
    SaveCheckpoint,
    StartTask,
)
from tasktrail.events.clock import SystemClock
from tasktrail.events.errors import InvalidValue, NotReady, TaskForgotten, TasktrailError, UnknownType
from tasktrail.events.log import stubs
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.events.system_events import RetentionConfigured, RetentionRule, TasksForgotten
from tasktrail.exports import rows
from tasktrail.handlers.workspace import TempFiles
from tasktrail.http.server import HttpServer
from tasktrail.projections import Forgotten
from tasktrail.projections.proof.bundle import prove
from tasktrail.projections.proof.provenance import made_by, statement
from tasktrail.projections.proof.seals import SealCheck, make_seal, public_key
from tasktrail.projections.queries.forgettable import StillNeeded
from tasktrail.projections.verification import verify

Opener = Callable[..., TaskService]

CANARY = "qzxcanary"


def without(folder: Path, text: str) -> list[str]:
    """Return the files below that hold a text, once the service has had time to clean its log."""
    deadline = monotonic() + 30
    while (found := files_with(folder, text)) and monotonic() < deadline:
        threading.Event().wait(0.05)
    return found


def done(service: TaskService, number: int, **fields: object) -> list[int]:
    """Return a number of tasks that have completed."""
    ids = [service.create_task(type="echo", **fields) for _ in range(number)]  # type: ignore[arg-type]  # as given
    for task_id in ids:
        service.wait(task_id, 60)
    return ids


def test_what_was_forgotten_is_in_no_file_and_all_else_is_as_it_was(open_service: Opener) -> None:
    service = open_service()
    gone = done(service, 5, label=CANARY, options={"value": CANARY})
    kept = done(service, 3, user_id=7)
    waiting = service.create_task(type="echo", held=True)
    before = {task_id: service.get_task(task_id) for task_id in kept}
    assert files_with(service.paths.data, CANARY)
    assert service.forget(0, dry_run=True).tasks == 8
    forgotten = service.forget(0, user_id=0, reason="house rule", actor="ann")
    assert forgotten.tasks == 5
    assert {task_id: service.get_task(task_id) for task_id in kept} == before
    tasks, total = service.list_tasks(TaskFilters(limit=100))
    assert [task.id for task in tasks] == [waiting, *reversed(kept)]
    assert total == 4
    with pytest.raises(TaskForgotten, match=f"Task 1 was forgotten at position {forgotten.position}"):
        service.get_task(gone[0])
    assert service.verify().findings == ()
    assert service.verify().stubs == forgotten.records
    assert {record.name for record in service.events(gone[0])} == {"stub"}
    assert without(service.paths.data, CANARY) == []
    service.close()
    assert files_with(service.paths.data, CANARY) == []
    again = open_service()
    assert again.verify().findings == ()
    assert again.create_task(type="echo") == waiting + 1
    assert again.rebuild().differences == ()


def forgotten(service: TaskService, number: int) -> list[int]:
    """Return the tasks up to a number that were forgotten."""
    found = []
    for task_id in range(1, number + 1):
        try:
            service.get_task(task_id)
        except TaskForgotten:
            found.append(task_id)
    return found


def test_rules_are_applied_by_the_service_and_the_first_that_fits_decides(open_service: Opener) -> None:
    with open_service() as service:
        done(service, 2)
        done(service, 2, user_id=7)
        service.cancel_task(service.create_task(type="echo", held=True))
    service = open_service(retention=("user:7=never", "cancelled=1y", "*=0s"))
    deadline = monotonic() + 30
    while forgotten(service, 5) != [1, 2]:
        assert monotonic() < deadline
        threading.Event().wait(0.02)
    records = list(service.log())
    configured = next(one for one in records if isinstance(one.event, RetentionConfigured))
    applied = next(one for one in records if isinstance(one.event, TasksForgotten))
    assert (applied.actor, applied.causation_id) == ("retention", f"event:{configured.position}")
    assert isinstance(applied.event, TasksForgotten)
    assert applied.event.rule.words == "all that is over, older than 0 s"


@pytest.fixture
def shift(monkeypatch: pytest.MonkeyPatch) -> list[timedelta]:
    """Let the clock of the services opened here run ahead by this time. This process may have others."""
    ahead = [timedelta()]

    class AheadClock(SystemClock):
        def now(self) -> datetime:
            return super().now() + ahead[0]

    monkeypatch.setattr("tasktrail.system.SystemClock", AheadClock)
    return ahead


def test_a_clock_that_is_put_forward_drops_nothing_early(open_service: Opener, shift: list[timedelta]) -> None:
    service = open_service()
    done(service, 2)
    shift[0] = timedelta(days=400)
    done(service, 1)
    assert "clock_jumped" in {record.name for record in service.log()}
    assert service.forget(90 * 86400.0, dry_run=True).tasks == 0
    assert service.forget(90 * 86400.0).tasks == 0
    shift[0] = timedelta()
    assert service.forget(90 * 86400.0).tasks == 0


def test_what_ended_while_the_clock_was_far_ahead_can_be_forgotten_at_once(
    open_service: Opener, shift: list[timedelta]
) -> None:
    service = open_service()
    shift[0] = timedelta(days=400)
    done(service, 2)
    shift[0] = timedelta()
    done(service, 1)
    assert service.forget(86400.0).tasks == 0
    assert service.forget(0).tasks == 3
    assert service.verify().findings == ()


def test_it_tells_how_many_tasks_were_looked_at(open_service: Opener) -> None:
    told: list[tuple[int, int]] = []
    with open_service() as service:
        done(service, 3)
        assert service.forget(0, progress=lambda *reached: told.append(reached)).tasks == 3
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_what_others_refer_to_stays_until_these_go(open_service: Opener) -> None:
    service = open_service()
    first, second = done(service, 2)
    child = service.create_task(type="echo", parent_task_id=first, held=True)
    later = service.create_task(type="echo", depends_on=(second,), held=True)
    assert service.forget(0, dry_run=True).kept == StillNeeded(referred=2)
    assert service.forget(0) == Forgotten(tasks=0, records=0, kept=StillNeeded(referred=2))
    service.cancel_task(child)
    service.cancel_task(later)
    assert service.forget(0, status="completed").kept == StillNeeded(referred=2)
    assert service.forget(0, status="failed").kept == StillNeeded()
    done_now = service.forget(0)
    assert (done_now.tasks, done_now.kept) == (4, StillNeeded())


def test_a_task_cannot_refer_to_one_that_was_forgotten(open_service: Opener) -> None:
    service = open_service()
    (task_id,) = done(service, 1)
    service.forget(0)
    for ask in (
        lambda: service.create_task(type="echo", depends_on=(task_id,)),
        lambda: service.create_task(type="echo", parent_task_id=task_id),
        lambda: service.retry_task(task_id, force=True),
        lambda: service.cancel_task(task_id),
        lambda: service.attempts(task_id),
        lambda: service.get_task(task_id, as_of=3),
        lambda: service.output(task_id),
        lambda: service.why(task_id),
        lambda: service.notices(task_id),
    ):
        with pytest.raises(TaskForgotten):
            ask()
    assert service.ready


def test_a_task_whose_notice_is_still_to_be_sent_stays(open_service: Opener) -> None:
    service = open_service(allow_endpoints=("localhost:9",))
    done(service, 1, notify_webhook="http://localhost:9/")
    assert service.forget(0).kept == StillNeeded(notices=1)


def test_a_watched_folder_takes_no_file_twice_for_its_task_was_forgotten(open_service: Opener, tmp_path: Path) -> None:
    service = open_service()
    for name in ("there", "gone"):
        (tmp_path / name).write_text(name)
        done(service, 1, batch="inbox", input_file=str(tmp_path / name))
    done(service, 1, batch="other", input_file=str(tmp_path / "there"))
    service.add_source("inbox", [str(tmp_path / "elsewhere")], to=str(tmp_path / "out") + "/")
    (tmp_path / "gone").unlink()
    assert service.forget(0).kept == StillNeeded(files=1)
    assert forgotten(service, 3) == [2, 3]


def test_the_next_start_clears_up_what_a_kill_has_left(open_service: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retention, "_clear", lambda _self: None)
    with open_service(snapshot_every=1) as service:
        done(service, 3, label=CANARY)
        service._system.forgetter.forget((RetentionRule(older_than=0.0),), actor="ann")
        (service.paths.output / "1").mkdir(parents=True)
        (service.paths.output / "1" / "1.0").write_text(CANARY)
    assert files_with(service.paths.data, CANARY)
    with Reader(service.paths.data) as reader:
        assert reader.list_tasks()[1] == 0
    monkeypatch.undo()
    service = open_service(snapshot_every=1)
    assert service._system.cleared.wait(1, 60)
    assert without(service.paths.data, CANARY) == []
    assert service.verify().findings == ()


def test_what_an_attempt_has_left_goes_however_deep_and_with_the_notes_beside_it(
    open_service: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TempFiles, "clean_up", lambda _self: [])  # otherwise it would run within the hour
    service = open_service()
    task_id = service.create_task(type="echo", held=True)
    service.cancel_task(task_id)
    temp = service.paths.temp
    dig(temp / str(task_id), 1100)
    (temp / f"{task_id}.original").write_text(CANARY)
    (temp / f"{task_id}0.original").write_text("of another task")

    with few_descriptors():
        position = service.forget(0).position
        assert service._system.cleared.wait(position, 30)

    assert [path.name for path in temp.glob(f"{task_id}*")] == [f"{task_id}0.original"]


@pytest.fixture
def client(service: TaskService) -> Iterator[Client]:
    """Return a client of a service with two completed tasks."""
    done(service, 2)
    server = HttpServer(service, socket_path=service.paths.socket, secret_file=secret_file(service.paths.data))
    server.start()
    with Client.connect(service.paths.data) as connected:
        yield connected
    assert server.stop()


def test_whoever_forgets_shows_at_each_step_that_it_goes_on(
    open_service: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise the forgetting actor seems to hang: `/readyz` would say that nothing is forgotten."""
    monkeypatch.setattr(Archiver, "size", 8)
    service = open_service()
    done(service, 4)
    archives = service.archive().archives
    assert archives > 1
    steps: list[int] = []
    service._system.forgetter.forget((RetentionRule(older_than=0.0),), actor="ann", on_progress=lambda: steps.append(1))
    assert len(steps) >= archives


def test_a_service_that_stops_keeps_nobody_waiting_for_the_views(open_service: Opener) -> None:
    """Its process would outlive the service, for minutes."""
    service = open_service()
    done(service, 1)
    told: list[TasktrailError] = []

    def forget() -> None:
        try:
            service.forget(0)
        except TasktrailError as error:
            told.append(error)

    waiting = threading.Thread(target=forget)
    with service.rebuilding():  # so that the views still have the task
        waiting.start()
        position = next(one.position for one in service.follow() if isinstance(one.event, TasksForgotten))
        service.close()
    waiting.join(20)
    assert not waiting.is_alive()
    assert [(type(one), "the service stops" in one.message) for one in told] == [(NotReady, True)]
    again = open_service()
    assert again._system.cleared.wait(position, 30)
    with pytest.raises(TaskForgotten):
        again.get_task(1)


def refusal(service: TaskService, command: Command, user_id: int) -> TasktrailError:
    """Return the error for a user who may see only the tasks of one user."""
    answered: Future[list[Any]] = Future()
    service.submit([command], answered.set_result, only_user=user_id)
    (answer,) = answered.result(60)
    assert isinstance(answer, TasktrailError)
    return answer


ABOUT: dict[str, Callable[[int], Command]] = {
    "start": lambda number: StartTask(task_id=number),
    "cancel": lambda number: CancelTask(task_id=number, children=True),
    "retry": lambda number: RetryTask(task_id=number, force=True),
    "adjust": lambda number: AdjustTask(task_id=number, priority=3),
    "checkpoint": lambda number: SaveCheckpoint(task_id=number, checkpoint=Checkpoint()),
    "redeliver": lambda number: RedeliverNotice(task_id=number, notice_id="1-1-1-webhook"),
    "dependency": lambda number: CreateTask(type="echo", user_id=8, depends_on=(number,)),
    "parent": lambda number: CreateTask(type="echo", user_id=8, parent_task_id=number),
    "graph": lambda number: CreateGraph(
        tasks=(GraphTask(name="a", type="echo", user_id=8, parent=number), GraphTask(name="b", type="echo", user_id=8))
    ),
}


def test_to_whoever_knows_one_users_tasks_alone_a_forgotten_one_of_others_never_was(open_service: Opener) -> None:
    service = open_service()
    (gone,) = done(service, 1, user_id=7)
    assert service.forget(0, user_id=7).tasks == 1
    for name, about in ABOUT.items():
        of_others, of_nobody = (refusal(service, about(number), user_id=8) for number in (gone, 900))
        assert type(of_others) is type(of_nobody), name
        told = {key: str(value).replace("900", str(gone)) for key, value in problem(of_nobody).items()}
        assert {key: str(value) for key, value in problem(of_others).items()} == told, name
    with pytest.raises(TaskForgotten, match="user 7"):
        service.cancel_task(gone)


def test_a_client_has_the_service_do_it(client: Client) -> None:
    records = len(client.events(1)) + len(client.events(2))
    assert client.forget(0, dry_run=True).tasks == 2
    assert client.forget(timedelta(days=1)).tasks == 0
    found = client.forget(0, status="completed", type="echo", user_id=0, reason="old", actor="ann")
    assert (found.tasks, found.records, found.kept) == (2, records, StillNeeded())
    assert client.list_tasks()[1] == 0
    with pytest.raises(TaskForgotten, match="older than 0 s"):
        client.get_task(1)
    record = next(one for one in client.log(found.position - 1, 1))
    assert (record.name, record.actor, record.reason) == ("tasks_forgotten", "ann", "old")


USERS = (8, 8, 9, 9, 9, 9, 9, 8, 8, 9, 9)


def exported(client: Client) -> list[int]:
    with rows.opened(client, "tasks", TaskFilters(status="cancelled")) as export:
        return [task.id for _reached, task in export.rows]


@pytest.mark.parametrize("at_page", [2, 3])
@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.find_ids(TaskFilters(status="cancelled")),
        exported,
        lambda client: [task.id for task in batch._tasks_of(client, "many")],
    ],
    ids=["find_ids", "export", "batch"],
)
def test_a_client_overlooks_no_task_where_others_are_forgotten_meanwhile(
    service: TaskService,
    client: Client,
    monkeypatch: pytest.MonkeyPatch,
    ask: Callable[[Client], list[int]],
    at_page: int,
) -> None:
    """The ones after them move up, also where the pages are of the past: the past no longer has them."""
    tasks = [(service.create_task(type="echo", held=True, batch="many", user_id=user), user) for user in USERS]
    for task_id, _user in tasks:
        service.cancel_task(task_id)
    gone, left = ([task_id for task_id, user in tasks if user == one] for one in (8, 9))
    for module, name in ((remote, "MAX_LIMIT"), (rows, "MAX_LIMIT"), (batch, "_PAGE")):
        monkeypatch.setattr(module, name, 3)
    asked, pages = remote.Remote._page, itertools.count()

    async def some_go(self: remote.Remote, filters: TaskFilters) -> Any:
        if next(pages) == at_page:
            assert service.forget(0, user_id=8).tasks == len(gone)
        return await asked(self, filters)

    monkeypatch.setattr(remote.Remote, "_page", some_go)
    found = ask(client)
    assert [task_id for task_id in found if task_id not in gone] == left
    assert found == sorted(set(found))


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({"older_than": -1}, "older_than"),
        ({"older_than": "90d"}, "older_than"),
        ({"older_than": 0, "status": "running"}, "status"),
        ({"older_than": 0, "type": ""}, "type"),
        ({"older_than": 0, "user_id": -1}, "user_id"),
    ],
)
def test_what_is_no_rule_is_refused_by_name(service: TaskService, asked: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        service.forget(**asked)
    assert refused.value.field == field


def test_a_mistyped_type_is_refused_with_the_nearest_one(
    open_service: Opener, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Otherwise it seems that no task of that type is left."""
    with open_service() as service:
        done(service, 1)
        for kind, dry_run in (("ecko", False), ("ecko", True), ("echo,shout", False)):
            with pytest.raises(UnknownType, match=kind):
                service.forget(0, type=kind, dry_run=dry_run)
    (tmp_path / "data" / "tasktrail.toml").write_text('handlers = ["sample_handlers"]\n')
    capsys.readouterr()
    called = ["--data", str(tmp_path / "data"), "forget", "--older-than", "0s", "--type", "ecko", "--dry-run"]
    assert run(called) == 1
    assert "echo" in capsys.readouterr().err


@pytest.mark.slow
def test_on_the_command_line_no_service_is_needed(
    open_service: Opener, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_service() as service:
        records = sum(len(service.events(task_id)) for task_id in done(service, 2, user_id=7))
        waiting = service.create_task(type="echo")  # it may wait: a command that forgets starts nothing
        service.wait(waiting, 60)
        held = service.create_task(type="echo", held=True)
    (tmp_path / "data" / "tasktrail.toml").write_text('handlers = ["sample_handlers"]\nworkers = 1\n')
    called = ["--data", str(tmp_path / "data"), "forget", "--older-than"]
    capsys.readouterr()
    assert run([*called, "90d"]) == 0
    assert run([*called, "0s", "--user-id", "7", "--dry-run"]) == 0
    assert run([*called, "0s", "--user-id", "7", "--reason", "house rule", "--json"]) == 0
    nothing, would, told = capsys.readouterr().out.splitlines()
    assert (nothing, would) == ("nothing to forget", f"would be forgotten: 2 tasks, {records} records")
    assert json.loads(told)["tasks"] == 2
    assert run([*called, "soon"]) == 2
    assert run([*called, "90"]) == 2, "days, hours or seconds?"
    assert run(["--data", str(tmp_path / "data"), "show", "1"]) == 1
    capsys.readouterr()
    assert run(["--data", str(tmp_path / "data"), "history", "1"]) == 0
    why, stubs_left = capsys.readouterr().out.splitlines()
    assert why.startswith("Task 1 was forgotten at position ")
    with Reader(tmp_path / "data") as reader:
        of_it = reader.events(1)
    assert stubs_left == f"{len(of_it)} stubs, from position {of_it[0].position} to {of_it[-1].position}, stand for it"
    assert run(["--data", str(tmp_path / "data"), "verify"]) == 0
    assert f"{records} stubs, 0 of them of the service, made by 1 record\n" in capsys.readouterr().out
    with Reader(tmp_path / "data") as reader:
        assert [task.id for task in reader.list_tasks()[0]] == [held, waiting]
        assert reader.verify().findings == ()


def test_a_dry_run_without_a_service_records_nothing_and_tells_nobody(
    open_service: Opener, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with open_service(allow_endpoints=("localhost:9",)) as service:
        records = len(service.events(*done(service, 1)))
        done(service, 1, notify_webhook="http://localhost:9/")
        (tmp_path / "there").touch()
        done(service, 1, batch="inbox", input_file=str(tmp_path / "there"))
        service.add_source("inbox", [str(tmp_path / "elsewhere")], to=str(tmp_path / "out") + "/")
    (tmp_path / "data" / "tasktrail.toml").write_text('handlers = ["sample_handlers"]\nretention = ["failed=1y"]\n')
    with closing(SqliteLogReader(tmp_path / "data" / "log.db")) as log:
        head = log.head()
    capsys.readouterr()
    assert run(["--data", str(tmp_path / "data"), "forget", "--older-than", "0s", "--dry-run"]) == 0
    would, kept = capsys.readouterr().out.splitlines()
    assert would == f"would be forgotten: 1 task, {records} records"
    assert kept == (
        "over, and kept: 1 task with a notice that is still to be sent, "
        "1 task without which a file would be taken a second time"
    )
    with closing(SqliteLogReader(tmp_path / "data" / "log.db")) as log:
        assert log.head() == head


def test_what_if_says_where_it_can_begin(open_service: Opener) -> None:
    service = open_service()
    done(service, 2)
    service.forget(0)
    with pytest.raises(InvalidValue, match="of some tasks were dropped") as refused:
        service.whatif(max_concurrent=1)
    assert refused.value.field == "from"
    (begin,) = re.findall(r"with `--from (\d+)`", refused.value.advice)
    done(service, 1)
    assert service.whatif(begin=service._system.cleared.position, max_concurrent=1)
    assert service.whatif(begin=int(begin), max_concurrent=1)


def test_answers_to_what_is_forgotten_are_found_by_their_commands(open_service: Opener) -> None:
    """There may be a million answers, and as many ranges of positions as tasks: the Scheduler stood still."""
    service = open_service()
    done(service, 2)
    with closing(sqlite3.connect(service.paths.log)) as log:
        plan = log.execute(f"EXPLAIN QUERY PLAN {stubs._ANSWER}", ("x", 1)).fetchall()
    assert [row[3] for row in plan] == ["SEARCH answers USING PRIMARY KEY (command_id=?)"]


def test_what_was_sealed_before_still_fits_and_other_tasks_are_still_proven(open_service: Opener) -> None:
    service = open_service()
    gone, kept = done(service, 2)
    seals, key = service.paths.seals, service.paths.seal_key
    with closing(SqliteLogReader(service.paths.log)) as log:
        make_seal(log, seals, key, datetime.now(UTC))
        before = prove(log, seals, kept)
        service.cancel_task(service.create_task(type="echo", held=True, user_id=9))
        service.forget(0, user_id=9)
        assert prove(log, seals, kept) == before
        make_seal(log, seals, key, datetime.now(UTC))
        assert verify(log, seals=SealCheck(seals, public_key(seals))).findings == ()
        service.forget(0, user_id=0)
        make_seal(log, seals, key, datetime.now(UTC))
        found = verify(log, seals=SealCheck(seals, public_key(seals)))
        assert (found.findings, found.sealed) == ((), found.position)
        with pytest.raises(TaskForgotten):
            prove(log, seals, gone)
        with pytest.raises(TaskForgotten):
            statement(log, made_by(log, gone), "here")
