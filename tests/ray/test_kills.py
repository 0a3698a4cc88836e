"""On a real Ray cluster, whichever process is killed, nothing is left, nothing is lost, and nothing runs twice."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_executors import SUPPORT, on_cluster, on_ray
from inline_executor import Reports

from tasktrail import Client, Task, TasktrailError
from tasktrail.actors.cluster.cluster_executor import ClusterExecutor
from tasktrail.actors.cluster.gateway_process import GatewayProcess
from tasktrail.actors.cluster.placement import HostNeeds
from tasktrail.events import Failed, Progressed
from tasktrail.events.reports import (
    AllFound,
    AttemptEnded,
    AttemptFound,
    AttemptProgressed,
    CapacityChanged,
    Run,
    Stop,
)
from tasktrail.handlers.registry import Registry

pytestmark = pytest.mark.ray
SHAPES = ["plain", "deaf", "session", "grandchild", "daemon", "bare"]
WITHIN = 30.0


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/statm").read_text().split()[0] != "0"
    except OSError:
        return False


def until(condition: Callable[[], Any], what: str) -> Any:
    deadline = time.monotonic() + WITHIN
    while not (found := condition()):
        if time.monotonic() > deadline:
            pytest.fail(f"not within {WITHIN} s: {what}")
        time.sleep(0.02)
    return found


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Registry:
    monkeypatch.syspath_prepend(str(SUPPORT))
    registry = Registry()
    registry.add_home("sample_handlers")
    return registry


@pytest.fixture
def executor(ray_gateway: Any, registry: Registry) -> Iterator[ClusterExecutor]:
    """An executor with one slot, through the gateway of all tests."""
    made = on_cluster(ray_gateway.link, registry, lease=5.0)
    yield made
    made.close(5.0)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Run]:
    def make(task_type: str, task_id: int = 1, **options: Any) -> Run:
        return Run(task_id, 1, task_type, "", "", options, None, str(tmp_path / str(task_id)), grace=0.2)

    return make


def pids_of(reports: Reports) -> list[int]:
    """Return the processes of the attempt: the worker, its reaper, and what it has started."""
    said = reports.until(lambda report: isinstance(report, AttemptProgressed))
    assert isinstance(said, AttemptProgressed)
    return [int(pid) for pid in json.loads(said.message)]


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_left_when_a_cancel_is_told(executor: ClusterExecutor, run: Callable[..., Run], shape: str) -> None:
    reports = Reports(executor)
    executor.do([run("parent", shape=shape)])
    tree = pids_of(reports)

    executor.do([Stop(1, 1)])

    assert reports.end(1).outcome == "stopped"
    assert [pid for pid in tree if is_alive(pid)] == []


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("victim", ["worker", "reaper"])
def test_nothing_is_left_when_worker_or_reaper_is_killed(
    executor: ClusterExecutor, run: Callable[..., Run], shape: str, victim: str
) -> None:
    if (shape, victim) == ("bare", "reaper"):
        pytest.skip("without a mark it is found by nobody, as on one machine")
    reports = Reports(executor)
    executor.do([run("parent", shape=shape)])
    tree = pids_of(reports)

    os.kill(tree[victim == "reaper"], signal.SIGKILL)

    assert reports.end(1).outcome == "lost"
    assert [pid for pid in tree if is_alive(pid)] == []
    executor.do([run("noop", 2)])
    assert reports.end(2).outcome == "completed"
    assert len([report for report in reports.of(1) if isinstance(report, AttemptEnded)]) == 1


@pytest.mark.parametrize("shape", ["grandchild", "daemon"])
def test_nothing_is_left_when_the_host_is_killed(
    executor: ClusterExecutor, run: Callable[..., Run], shape: str
) -> None:
    reports = Reports(executor)
    executor.do([run("parent", shape=shape)])
    tree = pids_of(reports)

    os.kill(parent_of(tree[1]), signal.SIGKILL)

    ended = reports.end(1)
    assert (ended.outcome, ended.error_type) == ("lost", "HostLost")
    assert [pid for pid in tree if is_alive(pid)] == []
    executor.do([run("noop", 2)])
    assert reports.end(2).outcome == "completed"


def test_attempts_go_on_while_a_killed_gateway_is_replaced(
    ray_address: str, registry: Registry, run: Callable[..., Run]
) -> None:
    executor = on_ray(ray_address, registry)
    reports = Reports(executor)
    executor.do([run("parent", shape="plain")])
    tree = pids_of(reports)
    assert isinstance(executor.link, GatewayProcess)
    assert executor.link.pid

    os.kill(executor.link.pid, signal.SIGKILL)
    until(lambda: reports.all[-1] == CapacityChanged(0), "the gateway is gone")
    until(lambda: executor.capacity() == 1, "another one is there")

    assert all(map(is_alive, tree))
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"
    executor.close(5.0)


def test_an_earlier_service_is_obeyed_no_more(
    ray_gateway: Any, executor: ClusterExecutor, registry: Registry, run: Callable[..., Run]
) -> None:
    reports = Reports(executor)
    executor.do([run("parent", shape="plain")])
    tree = pids_of(reports)
    later = on_cluster(ray_gateway.link, registry, lease=5.0, epoch=2, cluster=executor._cluster)
    found = Reports(later)
    attempt = found.until(lambda report: isinstance(report, AttemptFound))
    assert (attempt.task_id, attempt.attempt, attempt.publishing) == (1, 1, False)  # type: ignore[union-attr]
    found.until(lambda report: isinstance(report, AllFound))

    executor.do([Stop(1, 1)])
    until(lambda: "A later service" in executor.trouble, "the earlier one is told")

    assert all(map(is_alive, tree))
    assert not any(isinstance(report, AttemptEnded) for report in [*reports.all, *found.all])
    later.do([Stop(1, 1)])
    assert found.end(1).outcome == "stopped"
    later.close(5.0)


def test_a_worker_that_no_node_can_have_is_told(ray_gateway: Any, registry: Registry) -> None:
    executor = on_cluster(ray_gateway.link, registry, needs=HostNeeds(cpus=1000.0))
    reports = Reports(executor)
    reports.until(lambda report: isinstance(report, AllFound))
    until(lambda: "1000 CPU" in executor.trouble, "no node is large enough")
    executor.close(5.0)


def test_a_wrong_token_is_told(
    ray_address: str, registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("0" * 64)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "token"))
    executor = on_ray(ray_address, registry)
    Reports(executor)
    until(lambda: "Failed to connect" in executor.trouble, "the token is wrong")
    assert "the same token" in executor.trouble
    assert executor.capacity() == 0
    executor.close(5.0)


# --- a whole service ------------------------------------------------------------------------------------------------


class Service:
    """`tasktrail serve` on a data folder, to be killed and started again."""

    def __init__(self, data: Path, address: str, lease: float) -> None:
        self._data = data
        data.mkdir()
        (data / "tasktrail.toml").write_text(
            f'executor = "ray"\nray_address = "{address}"\nray_lease = {lease}\nworkers = 1\nsandbox = "off"\n'
            'handlers = ["sample_handlers"]\n'
        )
        self._environment = {**os.environ, "TASKTRAIL_DATA": str(data), "PYTHONPATH": str(SUPPORT)}
        self._process: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []

    def start(self) -> Client:
        with (self._data / "stderr").open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tasktrail", "serve"],
                env=self._environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        self._clients.append(until(self._client, "the service takes commands"))
        return self._clients[-1]

    def _client(self) -> Client | None:
        try:
            client = Client.connect(self._data)
        except TasktrailError:
            return None
        try:
            client.check_ready()
        except TasktrailError:
            client.close()
            return None
        return client

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.wait()

    def wait(self) -> None:
        assert self._process is not None
        self._process.wait()

    def stop(self) -> None:
        while self._clients:
            self._clients.pop().close()
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(20)


@pytest.fixture
def service(ray_address: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Service]:
    made = Service(tmp_path / "data", ray_address, getattr(request, "param", 20.0))
    yield made
    made.stop()


def task(client: Client, task_id: int) -> Task:
    return client.get_task(task_id)


def tree_of(client: Client, task_id: int) -> list[int]:
    said = until(lambda: task(client, task_id).message.startswith("[") and task(client, task_id), "it says its pids")
    return [int(pid) for pid in json.loads(said.message)]


def test_a_killed_service_goes_on_with_the_same_processes(service: Service) -> None:
    client = service.start()
    running = client.create_task(type="parent", options={"shape": "session"})
    tree = tree_of(client, running)
    assert "_raylet" not in Path(f"/proc/{service.pid}/maps").read_text()

    service.kill()
    assert all(map(is_alive, tree))
    client = service.start()

    until(lambda: client.check_ready() == [], "the worker is found")
    assert all(map(is_alive, tree))
    assert (task(client, running).status, task(client, running).attempt) == ("running", 1)
    client.cancel_task(running)
    until(lambda: not any(map(is_alive, tree)), "the processes are gone")
    assert task(client, running).status == "cancelled"
    waiting = client.create_task(type="echo", options={"value": 3})
    assert client.wait(waiting, timeout=WITHIN).result == {"value": 3, "frames": None}
    assert client.verify().ok
    service.stop()


@pytest.mark.parametrize("service", [4.0], indirect=True)
def test_a_service_that_is_back_too_late_runs_it_once_more(service: Service) -> None:
    client = service.start()
    running = client.create_task(type="parent", options={"shape": "session"})
    tree = tree_of(client, running)

    service.kill()
    until(lambda: not any(map(is_alive, tree)), "the lease is over")
    client = service.start()

    until(lambda: task(client, running).attempt == 2, "it runs again")
    history = [record.event for record in client.events(running) if not isinstance(record.event, Progressed)]
    assert [type(event).__name__ for event in history][:5] == ["Created", "Started", "Failed", "Retried", "Started"]
    assert isinstance(history[2], Failed)
    assert history[2].outcome == "interrupted"
    service.stop()
