"""The database's machine, or its cable, is lost: everything acknowledged survives, or the service stops."""

import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
from cables import cable, needs_cables
from database_servers import DatabaseServer, primary_and_replica
from log_services import Served, wait_for
from postgresql_server import needs_postgresql

from tasktrail import Client
from tasktrail.events import Created
from tasktrail.events.errors import TasktrailError
from tasktrail.events.log.address import NAME
from tasktrail.events.log.opening import read_log
from tasktrail.intake.conversion import new_command_id

pytestmark = [needs_postgresql, pytest.mark.slow, pytest.mark.crash]
_CLIENTS = 4
_BEFORE, _AFTER = 60, 60
"""The numbers of commands that are acknowledged before and after the loss."""


def address_of(*servers: DatabaseServer) -> str:
    """Return an address with all of them. Trying one takes 2 s at most, so that the next one gets its turn."""
    hosts = ",".join(server.at for server in servers)
    return f"postgresql://postgres@{hosts}/postgres?connect_timeout=2&tcp_user_timeout=3000"


class Senders:
    """Send commands, one after the other, each until it is acknowledged under its id."""

    def __init__(self, data: Path) -> None:
        self._data = data
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.acknowledged: dict[str, tuple[int, float]] = {}
        """Command id → the task, and when it was acknowledged."""
        self._threads = [threading.Thread(target=self._send, daemon=True) for _ in range(_CLIENTS)]
        for one in self._threads:
            one.start()

    def _send(self) -> None:
        while not self._stopping.is_set():
            command_id = new_command_id()
            while not self._stopping.is_set():
                try:
                    with Client.connect(self._data) as client:
                        task_id = client.create_task(type="noop", command_id=command_id, held=True)
                except (TasktrailError, OSError):
                    self._stopping.wait(0.05)
                    continue
                with self._lock:
                    self.acknowledged[command_id] = task_id, time.monotonic()
                break

    def since(self, moment: float) -> list[float]:
        """Return when commands were acknowledged after a time."""
        with self._lock:
            return sorted(at for _, at in self.acknowledged.values() if at > moment)

    def close(self) -> None:
        self._stopping.set()
        for one in self._threads:
            one.join(60)


@contextmanager
def under_load(folder: Path, first: DatabaseServer, second: DatabaseServer) -> Iterator[tuple[Served, Senders]]:
    """Run a service with both servers in its address, and a steady stream of commands."""
    with ExitStack() as stack:
        served = stack.enter_context(closing(Served(folder / "data", address_of(first, second))))
        served.until("ready")
        senders = stack.enter_context(closing(Senders(served.data)))
        wait_for(lambda: len(senders.acknowledged) >= _BEFORE)
        yield served, senders


def lose(folder: Path, first: DatabaseServer, second: DatabaseServer, loss: Callable[[], object], how: str) -> None:
    """Lose one server: no acknowledged command is lost, and the service continues by itself with the other."""
    with under_load(folder, first, second) as (served, senders):
        loss()
        lost = time.monotonic()
        second.promote()
        wait_for(lambda: len(senders.since(lost + 0.5)) >= _AFTER)
        senders.close()
        waited = senders.since(lost + 0.5)[0] - lost
        print(f"primary lost by {how}: {len(senders.acknowledged)} acknowledged, the first again after {waited:.1f} s")
        assert served.process.poll() is None
        with closing(read_log(served.data / NAME)) as log:
            there = {record.command_id: record.task_id for record in log.read() if isinstance(record.event, Created)}
            assert list(log.faults()) == []
        acknowledged = {command_id: task_id for command_id, (task_id, _) in senders.acknowledged.items()}
        missing = acknowledged.items() - there.items()
        assert not missing, f"{len(missing)} of {len(acknowledged)} acknowledged are not there"
        with Client.connect(served.data) as client:
            assert client.verify().ok


def test_a_primary_that_is_killed_takes_nothing_with_it_that_a_synchronous_replica_has(tmp_path: Path) -> None:
    with primary_and_replica("127.0.0.1", "127.0.0.1", synchronous=True) as (first, second):
        lose(tmp_path, first, second, first.kill, "SIGKILL")


@needs_cables
def test_a_primary_that_is_cut_off_takes_nothing_with_it_that_a_synchronous_replica_has(tmp_path: Path) -> None:
    with cable(1) as line, ExitStack() as stack:
        pair = primary_and_replica(line.there, line.here, line.inside, synchronous=True)
        first, second = stack.enter_context(pair)
        lose(tmp_path, first, second, line.cut, "a cut cable")


def test_a_service_stops_when_the_replica_that_takes_over_had_fallen_behind(tmp_path: Path) -> None:
    with primary_and_replica("127.0.0.1", "127.0.0.1", synchronous=False) as (first, second):
        with under_load(tmp_path, first, second) as (served, senders):
            second.ask("ALTER SYSTEM SET primary_conninfo = ''")
            second.ask("SELECT pg_reload_conf()")
            wait_for(lambda: not second.ask("SELECT count(*) FROM pg_stat_wal_receiver"))
            cut = time.monotonic()
            wait_for(lambda: len(senders.since(cut)) >= _AFTER)
            senders.close()
            with closing(read_log(served.data / NAME)) as log:
                head = log.head().position
            first.kill()
            second.promote()
            assert served.process.wait(120) != 0
            assert "is a replica that had fallen behind" in served.errors.read_text()
        with closing(Served(tmp_path / "data", address_of(first, second))) as again:
            assert again.process.wait(120) != 0
            said = again.errors.read_text()
            print(said)
            assert re.search(rf"\b{head}\b", said), said
        assert second.ask("SELECT max(position) FROM tasktrail.events") < head


@needs_cables
def test_a_standby_takes_over_from_a_service_that_is_cut_off_and_that_one_appends_nothing_more(tmp_path: Path) -> None:
    with cable(2) as line, ExitStack() as stack:
        server = DatabaseServer(line.here)
        stack.callback(server.close)
        server.make()
        server.start()
        where = f"postgresql://postgres@{server.at}/postgres"
        leader = stack.enter_context(closing(Served(tmp_path / "leader", where, before=line.inside)))
        leader.until("ready")
        with Client.connect(leader.data) as client:
            assert client.wait(client.create_task(type="noop"), timeout=60).status == "completed"
        standby = stack.enter_context(closing(Served(tmp_path / "standby", where, "--standby")))
        standby.until("standby: waits until no other service has the log")
        line.cut()
        lost = time.monotonic()
        wait_for(lambda: server.ask("SELECT count(*) FROM tasktrail.events WHERE event = 'service_started'") == 2)
        print(f"first append {time.monotonic() - lost:.2f} s after the cable was cut")
        standby.until("ready")
        taken = server.ask("SELECT max(position) FROM tasktrail.events")
        line.join()
        assert leader.process.wait(120) != 0
        with Client.connect(standby.data) as client:
            again = client.create_task(type="noop")
            assert client.wait(again, timeout=60).status == "completed"
            assert client.verify().ok
        assert (
            server.ask(f"SELECT count(*) FROM tasktrail.events WHERE position > {taken} AND task_id NOT IN (0, 2)") == 0
        )
        assert server.ask("SELECT max(epoch) FROM tasktrail.epochs") == 2
        standby.process.send_signal(signal.SIGTERM)
        assert standby.process.wait(60) == 0
