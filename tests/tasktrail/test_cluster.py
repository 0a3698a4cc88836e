"""A service with the configuration of a cluster that it has not reached yet. Ray is not needed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tasktrail import Config, TaskService
from tasktrail.actors.cluster.roster import outlive_hosts
from tasktrail.actors.cluster.wire import HostSettings
from tasktrail.config.cluster import check_cluster
from tasktrail.config.load import load_config
from tasktrail.doctor.rules import examine
from tasktrail.events.errors import ConfigurationError, NotReady
from tasktrail.paths import DataPaths, close_to_others


def test_a_cluster_is_never_guessed(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no cluster is named.*It is never guessed"):
        TaskService.open(tmp_path, config=Config(executor="ray"))


def test_a_missing_ray_is_told_with_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasktrail.config.cluster.find_spec", lambda _name: None)
    with pytest.raises(ConfigurationError, match=r"Install tasktrail\[ray\]"):
        check_cluster(Config(executor="ray", ray_address="head:6379"))


@pytest.mark.parametrize("address", ["head", "ray://head:10001", "head:x"])
def test_an_address_without_a_port_or_with_a_scheme_is_refused(tmp_path: Path, address: str) -> None:
    (tmp_path / "tasktrail.toml").write_text(f'ray_address = "{address}"\n')
    with pytest.raises(ConfigurationError, match="ray_address"):
        load_config(tmp_path)


def test_doctor_says_what_is_in_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config(executor="ray", ray_address="head:6379", workers=3, ray_cpus=2.0)
    monkeypatch.setattr("tasktrail.config.cluster.find_spec", lambda _name: object())
    (found,) = [finding for finding in examine(tmp_path, config) if finding.name == "cluster"]
    assert found.level == "ok"
    assert "head:6379: 3 workers that book 2 CPUs each" in found.message

    monkeypatch.setattr("tasktrail.config.cluster.find_spec", lambda _name: None)
    (found,) = [finding for finding in examine(tmp_path, config) if finding.name == "cluster"]
    assert (found.level, "tasktrail[ray]" in found.remedy) == ("fail", True)
    assert not [finding for finding in examine(tmp_path, Config()) if finding.name == "cluster"]


def test_nodes_look_for_types_where_this_program_has_found_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "of_my_own.py").write_text("from tasktrail import task\n\n\n@task\ndef mine() -> int:\n    return 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("tasktrail.config.cluster.find_spec", lambda _name: object())
    config = Config(executor="ray", ray_address="127.0.0.1:1", handlers=("of_my_own",))
    with TaskService.open(tmp_path / "data", config=config) as service:
        executor = service._system._cluster_executor
        assert executor is not None
        assert msgspec.msgpack.decode(executor._settings, type=HostSettings).pythonpath == (str(tmp_path),)


def test_attempts_that_may_live_on_a_cluster_are_outlived_before_they_run_here(tmp_path: Path) -> None:
    waits: list[float] = []
    path = tmp_path / "hosts.json"
    path.write_text(json.dumps({"epoch": 3, "hosts": ["c-0-10000-aa", "c-1-60000-bb"]}))

    outlive_hosts(path, waits.append)

    assert waits == [pytest.approx(61.6)]
    assert not path.exists()
    path.write_text(json.dumps({"epoch": 3, "hosts": []}))
    outlive_hosts(path, waits.append)
    assert len(waits) == 1


def test_no_task_runs_here_while_it_is_not_known_what_lives_on_a_cluster(tmp_path: Path) -> None:
    with TaskService.open(tmp_path):
        pass
    (tmp_path / "hosts.json").write_text("[")
    with pytest.raises(NotReady, match=r"may still run on a cluster.*`ray_lease`"):
        TaskService.open(tmp_path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["pipe", "file without end"])
def test_hosts_are_read_from_no_pipe_and_no_file_without_end(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "hosts.json"
    os.mkfifo(path) if kind == "pipe" else path.symlink_to("/dev/zero")
    with pytest.raises(NotReady, match="may still run on a cluster"):
        outlive_hosts(path, lambda _seconds: None)


def test_nobody_else_may_read_which_hosts_there_are(tmp_path: Path) -> None:
    path = tmp_path / "hosts.json"
    path.write_text('{"epoch": 1, "hosts": []}')
    path.chmod(0o644)

    close_to_others(DataPaths(tmp_path, tmp_path / "tmp"))

    assert path.stat().st_mode & 0o777 == 0o600


def test_one_machine_loads_nothing_of_it(tmp_path: Path) -> None:
    program = (
        "import sys; from tasktrail import TaskService\n"
        f"with TaskService.open({str(tmp_path)!r}): pass\n"
        "print([name for name in sys.modules if name == 'ray' or name.startswith('tasktrail.actors.cluster')])"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
