"""A user's own task types through the whole service: with `async def`, and without paths."""

import sys
import threading
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tasktrail import TaskService
from tasktrail.actors.messages import StateQuery
from tasktrail.events import Checkpointed, Created, Task
from tasktrail.events.errors import InvalidPath
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.projections.errors import SealUnfit
from tasktrail.projections.proof.provenance import made_by, makers_of

WITHIN = 30.0
Opener = Callable[..., TaskService]


@pytest.fixture(params=["auto", "off"])
def service(request: pytest.FixtureRequest, open_service: Opener) -> TaskService:
    """Run a service with a sandbox, and one without."""
    return open_service(handlers=("own_handlers",), workers=1, sandbox=request.param, grace_period=WITHIN)


def run(service: TaskService, kind: str, **fields: Any) -> Task:
    return service.wait(service.create_task(type=kind, max_retries=0, **fields), WITHIN)


@pytest.mark.parametrize("sandbox", ["auto", "off"])
def test_what_a_type_has_written_is_known_whatever_it_says(open_service: Opener, tmp_path: Path, sandbox: str) -> None:
    """The result of `plain` has no hash of its output."""
    size, outputs = len(b"written"), [tmp_path / "out.txt", tmp_path / "too large.txt"]
    for output, up_to in zip(outputs, (size, size - 1), strict=True):
        settings = {"handlers": ("own_handlers",), "workers": 1, "sandbox": sandbox, "hash_inputs_up_to": up_to}
        with open_service(**settings) as service:
            assert run(service, "plain", output_file=str(output)).status == "completed"
            assert run(service, "plain").status == "completed"
    with closing(SqliteLogReader(tmp_path / "data" / "log.db")) as log:
        assert made_by(log, 1).digest == sha256(outputs[0].read_bytes()).hexdigest()
        assert makers_of(log, outputs[0]).task_id == 1
        for task_id in (2, 3):
            with pytest.raises(SealUnfit, match="or none whose SHA-256 was recorded"):
                made_by(log, task_id)


@pytest.mark.parametrize("sandbox", ["auto", "off"])
def test_workers_find_the_module_where_the_program_has_found_it(
    open_service: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sandbox: str
) -> None:
    """Python puts a program's own folder on its path, but not into any environment variable."""
    folder = tmp_path / "program"
    (folder / "beside_it").mkdir(parents=True)
    (folder / "beside_it" / "__init__.py").write_text("TIMES = 3\n")
    module = f"of_a_program_{sandbox}"
    (folder / f"{module}.py").write_text(
        "from beside_it import TIMES\nfrom tasktrail import task\n\n@task\ndef more(n: int) -> int: return n * TIMES\n"
    )
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    for name in (module, "beside_it"):
        monkeypatch.delitem(sys.modules, name, raising=False)

    service = open_service(handlers=(module,), workers=1, sandbox=sandbox)

    done = run(service, "more", options={"n": 2})
    assert (done.error, done.result) == ("", {"value": 6})


@pytest.mark.parametrize("sandbox", ["auto", "off"])
def test_an_attempt_sees_the_variables_that_are_passed_on_and_no_others(
    open_service: Opener, monkeypatch: pytest.MonkeyPatch, sandbox: str
) -> None:
    monkeypatch.setenv("MINE_PASSED_ON", "1")
    monkeypatch.setenv("MINE_KEPT", "2")
    settings = {"handlers": ("own_handlers",), "workers": 1, "sandbox": sandbox}
    service = open_service(**settings, pass_environment=("MINE_PASSED_ON", "MINE_UNSET"))
    seen = run(service, "surrounded").result
    assert {name: value for name, value in seen.items() if name.startswith("MINE_")} == {"MINE_PASSED_ON": "1"}


def until_printed(service: TaskService, task_id: int, text: str) -> None:
    pause = threading.Event()
    assert any(service.output(task_id).text == text or pause.wait(0.02) for _ in range(1000))


def test_a_type_needs_no_paths_unless_it_says_so(service: TaskService) -> None:
    task = run(service, "plain")
    assert (task.status, task.result) == ("completed", {"input": ".", "output": "."})


@pytest.mark.parametrize("kind", ["plain", "pathless"])
def test_paths_that_are_given_all_the_same_work(service: TaskService, tmp_path: Path, kind: str) -> None:
    assert run(service, kind).status == "completed"
    for number in range(2):
        source, output = tmp_path / f"in{number}.txt", tmp_path / f"out{number}.txt"
        source.write_text(f"text {number}")
        task = run(service, kind, input_file=str(source), output_file=str(output))
        assert (task.error, task.status) == ("", "completed")
        assert task.result["read"] == f"text {number}"
        assert output.read_text() == "written"
    unwritten = run(service, kind, output_file=str(tmp_path / "out.dat"))
    assert unwritten.status == "completed"
    assert not (tmp_path / "out.dat").exists()
    assert run(service, kind).result == {"input": ".", "output": "."}
    with pytest.raises(InvalidPath, match="cannot be read"):
        service.create_task(type=kind, input_file=str(tmp_path / "missing"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "in0.txt", "in1.txt", "out0.txt", "out1.txt"]


def test_a_type_that_can_use_several_cpus_reserves_for_those_that_it_gets(open_service: Opener) -> None:
    service = open_service(handlers=("own_handlers",), workers=1, max_cores=3)
    task = run(service, "scalable")
    created = next(record.event for record in service.events(task.id) if isinstance(record.event, Created))
    assert created.estimated_memory == 30_000_000
    assert task.result["cores"] == 3
    assert task.result["memory"] == 30_000_000 * 1.25 + 16 * 1024 * 1024


def test_an_async_handler_runs_to_its_end(service: TaskService) -> None:
    task = run(service, "waiter")
    assert (task.error, task.status) == ("", "completed")
    assert task.result == {"numbers": [0, 1, 2], "child": 0}
    assert service.output(task.id).text == "begun\nfrom a child\n"
    assert run(service, "waiting_class").result == {"number": 4}


def test_the_error_of_an_async_handler_is_told_without_the_frames_of_the_loop(service: TaskService) -> None:
    task = run(service, "waiter", options={"how": "fail"})
    assert (task.status, task.error_type) == ("failed", "ValueError")
    text = service.output(task.id).text
    assert "ValueError: -1 is below zero" in text
    assert "in waiter" in text
    assert "asyncio" not in text
    assert "contract.py" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "printed"), [("for ever", "begun\ntidied up\n"), ("ask", "begun\nnot cancelled\n"), ("answer", "begun\n")]
)
def test_an_async_handler_is_cancelled_to_stop_it_unless_it_has_asked(
    service: TaskService, how: str, printed: str
) -> None:
    task_id = service.create_task(type="waiter", options={"how": how})
    until_printed(service, task_id, "begun\n")
    service.cancel_task(task_id)
    until_printed(service, task_id, printed)
    assert service.wait(task_id, WITHIN).status == "cancelled"


def test_what_is_no_handler_is_told(service: TaskService) -> None:
    task = run(service, "generating")
    assert (task.status, task.error_type) == ("failed", "BadAnswer")
    assert "async_generator" in task.error
    task = run(service, "waiter", options={"how": "cancelled by itself"})
    assert (task.status, task.error_type) == ("failed", "CancelledError")


def test_a_checkpoint_that_is_saved_on_the_way_out_is_kept_when_the_service_stops(
    service: TaskService, open_service: Opener
) -> None:
    task_id = service.create_task(type="waiter", options={"how": "answer"})
    until_printed(service, task_id, "begun\n")
    service.close()

    again = open_service(handlers=("own_handlers",), workers=1)
    saved = [record.event.checkpoint for record in again.events(task_id) if isinstance(record.event, Checkpointed)]
    assert [checkpoint.processed_frames for checkpoint in saved] == [7]


def test_the_scheduler_knows_which_types_look_into_the_input(open_service: Opener) -> None:
    service = open_service(handlers=("own_handlers", "limit_handlers"), workers=1)
    probing = service._system.scheduler.ask(StateQuery(lambda state: state.probing), timeout=WITHIN)
    assert {"looker", "plain"} & probing == {"looker"}
