"""The gateway's handling of an engine's errors. The engine is a fake: Ray is not needed."""

import socket
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tasktrail.actors.cluster.gateway import Gateway, connect
from tasktrail.actors.cluster.gateway_process import ConnectingGateway, GatewayProcess
from tasktrail.actors.cluster.wire import Call, CallFailed, GatewayReport, HostGone, Kill
from tasktrail.actors.workers.reactor import Reactor
from tasktrail.actors.workers.worker_process import wait_for_orphans


class Died(Exception):
    """Stands for Ray's error."""


class OutOfMemory(Exception):
    """Stands for Ray's error after it has killed a worker for lack of memory."""


class Engine:
    """Has one host, `c-0`, which answers each call with an error."""

    exceptions = SimpleNamespace(ActorDiedError=Died, ActorUnschedulableError=Died, OutOfMemoryError=OutOfMemory)

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.util = SimpleNamespace(list_named_actors=self._names)

    def _names(self) -> list[str]:
        return ["c-0"]

    def get_actor(self, name: str, namespace: str) -> Any:
        if name != "c-0":
            raise ValueError(f"there is no actor {name} in {namespace}")
        return SimpleNamespace(hello=SimpleNamespace(remote=self._call))

    def _call(self, _payload: bytes) -> Any:
        future: Future[bytes] = Future()
        future.set_exception(self._error)
        return SimpleNamespace(future=lambda: future)


class Told:
    """Keeps the report of a gateway."""

    def __init__(self) -> None:
        self._came = threading.Event()
        self._report: GatewayReport | None = None

    def __call__(self, report: GatewayReport) -> None:
        self._report = report
        self._came.set()

    def broken(self) -> CallFailed:
        assert self._came.wait(10)
        assert isinstance(self._report, CallFailed)
        return self._report


@pytest.mark.parametrize(
    ("host", "error", "is_dead"),
    [
        ("c-1", ValueError("never asked"), True),
        ("c-0", ValueError("the host has raised it"), False),
        ("c-0", Died("gone"), True),
        ("c-0", OutOfMemory("gone as well"), True),
        ("c-0", OSError("not now"), False),
    ],
)
def test_only_who_never_was_or_has_died_is_dead(host: str, error: Exception, is_dead: bool) -> None:  # noqa: FBT001
    told = Told()
    gateway = Gateway(Engine(error), told)

    gateway.do(Call(1, host, "hello", b""))

    assert told.broken().is_dead is is_dead
    assert told.broken().out_of_memory is isinstance(error, OutOfMemory)
    gateway.finish()


class Death:
    """Stands for Ray's `ActorDeathCause`."""

    def __init__(self, context: str) -> None:
        self._context = context

    def HasField(self, name: str) -> bool:  # noqa: N802 - as Ray's has it
        return name == self._context


def test_a_gateway_learns_that_a_host_was_killed_for_memory_before_its_own_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The kill counted as a crash if the gateway was replaced before the next call."""
    dead = {
        "1": {"Name": "c-1", "DeathCause": Death("oom_context")},
        "2": {"Name": "c-2", "DeathCause": Death("actor_died_error_context")},
    }
    actors = {"DEAD": dead}
    monkeypatch.setitem(
        sys.modules, "ray._private.state", SimpleNamespace(actors=lambda *, actor_state_name: actors[actor_state_name])
    )
    killed = {}
    for host in ("c-1", "c-2", "c-3"):
        told = Told()
        gateway = Gateway(Engine(OSError()), told)
        gateway.do(Call(1, host, "watch", b""))
        assert told.broken().is_dead
        killed[host] = told.broken().out_of_memory
        gateway.finish()
    assert killed == {"c-1": True, "c-2": False, "c-3": False}


def test_a_host_whose_death_ray_cannot_explain_is_dead_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray's table of actors has no public interface, and may change."""
    monkeypatch.setitem(sys.modules, "ray._private.state", SimpleNamespace())
    told = Told()
    gateway = Gateway(Engine(OSError()), told)
    gateway.do(Call(1, "c-1", "watch", b""))
    assert (told.broken().is_dead, told.broken().out_of_memory) == (True, False)
    gateway.finish()


class Killing(Engine):
    """Forgets the actors it has killed, as Ray does; the first time only after it has answered."""

    def __init__(self, *, slow: bool) -> None:
        super().__init__(OSError())
        self.killed = 0
        self._slow = slow

    def _names(self) -> list[str]:
        return [] if self.killed and not self._slow else ["c-0"]

    def get_actor(self, name: str, namespace: str) -> Any:
        if name not in self._names():
            raise ValueError(name)
        return super().get_actor(name, namespace)

    def kill(self, _host: Any, *, no_restart: bool) -> None:
        self.killed += no_restart


@pytest.mark.parametrize(("slow", "told"), [(False, [HostGone("c-0")]), (True, [])])
def test_a_host_is_gone_when_the_engine_knows_its_name_no_more(slow: bool, told: list[GatewayReport]) -> None:  # noqa: FBT001
    heard: list[GatewayReport] = []
    engine = Killing(slow=slow)
    gateway = Gateway(engine, heard.append)

    gateway.do(Kill("c-0"))
    gateway.finish()

    assert heard == told
    assert engine.killed


def test_who_could_not_be_looked_up_is_not_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray says that there is no such actor, also when the look-up was refused."""
    heard: list[GatewayReport] = []
    engine = Engine(OSError())

    def refused() -> list[str]:
        raise OSError("the token is another one")

    monkeypatch.setattr(engine.util, "list_named_actors", refused)
    gateway = Gateway(engine, heard.append)

    gateway.do(Call(1, "c-1", "hello", b""))
    gateway.do(Kill("c-1"))
    gateway.finish()

    assert [type(report) for report in heard] == [CallFailed]
    assert not heard[0].is_dead  # type: ignore[union-attr]


def test_a_client_that_is_stuck_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise its process would continue to send heartbeats, and nothing would replace it."""
    called, go_on = threading.Event(), threading.Event()

    def hangs(_payload: bytes) -> Any:
        called.set()
        go_on.wait(20)
        raise OSError("not now")

    monkeypatch.setattr("tasktrail.actors.cluster.gateway._ORDER_WITHIN", 0.0)
    engine = Engine(OSError())
    monkeypatch.setattr(engine, "_call", hangs)
    gateway = Gateway(engine, Told())
    gateway._hosts["c-0"] = engine.get_actor("c-0", "")
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"127.0.0.1:{head.getsockname()[1]}"
        assert gateway.why_stuck(address) == ""
        caller = threading.Thread(target=gateway.do, args=(Call(1, "c-0", "hello", b""),))
        caller.start()
        assert called.wait(10)
        assert "has not taken a call" in gateway.why_stuck(address)
        go_on.set()
        caller.join()
        assert gateway.why_stuck(address) == ""
        gateway._seen -= 100.0
        assert "though the head can be reached" in gateway.why_stuck(address)
    assert gateway.why_stuck(address) == "", "the head is away: a new client would reach nobody"
    gateway.finish()


def test_a_head_that_is_not_there_is_told_at_once() -> None:
    """Ray's client would wait for minutes, and might not notice a new head."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ConnectionError, match=f"Nothing answers at {address}"):
        connect(address)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("echo 'gateway: OSError: no cluster' >&2;", "OSError: no cluster"),
        ("", "the process with its client ended with exit code 6"),
    ],
)
def test_it_is_said_why_a_gateway_is_gone_and_not_where_it_has_crashed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, why: str
) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\n{words} echo '/lib/libc.so.6(+0x1107b8)' >&2; exit 6\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    reactor = Reactor(lambda: None)
    told: list[str] = []

    def gone(said: str) -> None:
        told.append(said)
        reactor.finish()

    link = GatewayProcess("nowhere:1", None, reactor, threading.RLock())
    reactor.post(lambda: link.start(lambda _: None, gone))
    reactor.run()
    assert told == [why]


def test_a_gateway_that_is_connecting_holds_up_nobody_before_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service starts it before it knows whether the data folder is its own."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\nexec cat\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    held = tmp_path / "workers.lock"
    ConnectingGateway("nowhere:1", held).close()

    connecting = ConnectingGateway("nowhere:1", held)
    assert wait_for_orphans(held, 0.0)
    process = connecting.take()
    connecting.close()
    assert process.poll() is None
    assert not wait_for_orphans(held, 0.0)
    process.kill()
    process.communicate()
    assert wait_for_orphans(held, 0.0)
