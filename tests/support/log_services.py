"""`tasktrail serve` as processes that share a log on PostgreSQL: a service, a standby, readers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

from postgresql_server import new_database

from tasktrail import Client
from tasktrail.events import Recorded
from tasktrail.events.log.address import NAME
from tasktrail.events.log.opening import read_log
from tasktrail.events.system_events import ServiceStarted

SUPPORT = Path(__file__).parent
LEASE = 5.0


class Served:
    """`tasktrail serve` on a data folder."""

    def __init__(self, data: Path, where: str, *arguments: str, before: Sequence[str] = ()) -> None:
        """`before` starts a program on another machine."""
        self.data, self.where = data, where
        self.errors = data.with_name(f"{data.name}.err")
        environment = {**os.environ, "PYTHONPATH": str(SUPPORT), "TASKTRAIL_LOG": where, "TASKTRAIL_WORKERS": "1"}
        environment["TASKTRAIL_HANDLERS"] = "sample_handlers"
        command = [*before, sys.executable, "-m", "tasktrail", "serve", "--data", str(data), "--port", "0", *arguments]
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(command, env=environment, stderr=errors)

    def until(self, said: str) -> None:
        wait_for(lambda: said in self.errors.read_text() or self.process.poll() is not None)
        assert said in self.errors.read_text()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
        self.process.wait()


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def pair(folder: Path) -> Iterator[tuple[Served, Served]]:
    """Start a service, with a completed task, and a standby that has seen all of it."""
    with ExitStack() as stack:
        where = stack.enter_context(new_database())
        leader = stack.enter_context(closing(Served(folder / "leader", where)))
        leader.until("ready")
        with Client.connect(leader.data) as client:
            assert client.wait(client.create_task(type="noop"), timeout=60).status == "completed"
        standby = stack.enter_context(closing(Served(folder / "standby", where, "--standby")))
        standby.until("standby: waits until no other service has the log")
        yield leader, standby


def records(data: Path) -> list[Recorded]:
    with closing(read_log(data / NAME)) as log:
        return list(log.read())


def starts(data: Path) -> list[Recorded]:
    return [record for record in records(data) if isinstance(record.event, ServiceStarted)]
