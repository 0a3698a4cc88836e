"""A host on its node: whom it obeys, what it keeps, and how it ends attempts that no service asks for any more."""

import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import msgspec
import pytest
from cluster_executors import host_settings

from tasktrail import __version__
from tasktrail.actors.cluster.host import _ROOM, LINGER, LINGER_WITH_ENDS, Host, _lock_path
from tasktrail.actors.cluster.wire import (
    Give,
    Greeting,
    Hello,
    HostReport,
    HostReports,
    OrdersTaken,
    Refused,
    Watch,
    pack,
    unpacked_answer,
)
from tasktrail.actors.executor import Capabilities
from tasktrail.events.clock import boot_seconds
from tasktrail.events.reports import (
    AttemptCheckpointed,
    AttemptEnded,
    AttemptProbed,
    AttemptProgressed,
    Grant,
    PublishWanted,
    Run,
    Saved,
    Settled,
    Stop,
    WorkerGone,
)
from tasktrail.events.task_events import Checkpoint, Estimated
from tasktrail.handlers.registry import Registry

SUPPORT = Path(__file__).parents[2] / "support"
LEASE = 60.0


class Clock:
    """The host's clock, which a test moves on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return boot_seconds() + self.ahead


class Service:
    """One service's end of the conversation."""

    def __init__(self, host: Host, epoch: int, name: str = "a") -> None:
        self.host = host
        self.epoch, self.name = epoch, name
        self.after = 0
        self.next = 1
        self.heard: list[HostReport] = []
        self.greeting = unpacked_answer(host.hello(pack(Hello(epoch, self.name))), Greeting)

    def give(self, *orders: Any, stamp: float | None = None, again: bool = False) -> Any:
        first = self.next - len(orders) if again else self.next
        self.next = first + len(orders)
        stamp = self.greeting.stamp if stamp is None else stamp
        return unpacked_answer(self.host.give(pack(Give(self.epoch, self.name, stamp, first, orders))), OrdersTaken)

    def watch(self, seconds: float = 5.0, stamp: float = 0.0) -> Any:
        answer = unpacked_answer(
            self.host.watch(pack(Watch(self.epoch, self.name, stamp, self.after, seconds))), HostReports
        )
        if isinstance(answer, HostReports):
            self.heard += [report for _, report in answer.reports]
            self.after = answer.last
        return answer

    def until(self, kind: type[HostReport]) -> Any:
        for _ in range(200):
            for report in self.heard:
                if isinstance(report, kind):
                    return report
            assert isinstance(self.watch(), HostReports)
        raise TimeoutError(self.heard)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, clock: Clock) -> Iterator[Host]:
    monkeypatch.syspath_prepend(str(SUPPORT))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    registry = Registry()
    registry.add_home("sample_handlers")
    made = Host("c-0-a", pack(host_settings(registry, cluster="c", lease=LEASE)), clock=clock)
    yield made
    made.close()


def test_a_folder_for_locks_that_somebody_else_has_prepared_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder, work = tmp_path / f"tasktrail-{os.getuid()}-c", tmp_path / "work"
    work.mkdir()
    (work / "poetry.lock").touch()
    os.utime(work / "poetry.lock", (1, 1))
    folder.symlink_to(work)  # into a folder of our own, where the locks would be cleared away

    with pytest.raises(PermissionError, match="another user"):
        _lock_path("c", "host")
    assert (work / "poetry.lock").exists()


def run(task_type: str, task_id: int = 1, *, folder: Path, output: str = "", **options: Any) -> Run:
    return Run(task_id, 1, task_type, "", output, options, None, str(folder / "work"))


def test_an_earlier_service_is_refused_whatever_it_wants(host: Host, tmp_path: Path) -> None:
    old = Service(host, 1)
    old.give(run("patient", folder=tmp_path))
    old.until(AttemptProgressed)
    new = Service(host, 2)

    refused = old.give(Stop(1, 1)), old.watch(), unpacked_answer(host.hello(pack(Hello(1, "a"))), Greeting)

    assert [type(answer) for answer in refused] == [Refused, Refused, Refused]
    assert [(one.task_id, one.is_over) for one in new.greeting.attempts] == [(1, False)]
    new.give(Stop(1, 1))
    assert new.until(AttemptEnded).outcome == "stopped"


def test_of_two_services_with_one_epoch_the_last_to_greet_is_obeyed(host: Host, tmp_path: Path) -> None:
    """A copy of the log, or a backup, does not know what the other one has ordered."""
    old = Service(host, 3)
    old.give(run("noop", folder=tmp_path))
    old.until(AttemptEnded)
    new = Service(host, 3, "b")

    assert new.give(run("noop", 2, folder=tmp_path)).carried_out == 1
    refused = old.give(Settled(1, 1)), old.watch()

    assert [(type(answer), answer.epoch) for answer in refused] == [(Refused, 3), (Refused, 3)]
    while not any(isinstance(report, AttemptEnded) and report.task_id == 2 for report in new.heard):
        new.watch()


def test_an_order_is_carried_out_once_however_often_it_is_given(host: Host, tmp_path: Path) -> None:
    service = Service(host, 1)
    order = run("noop", folder=tmp_path)
    service.give(order)
    assert service.give(order, again=True).carried_out == 1  # its answer was lost
    service.until(AttemptEnded)
    service.give(run("noop", 2, folder=tmp_path))
    while len([report for report in service.heard if isinstance(report, AttemptEnded)]) < 2:
        service.watch()

    assert [report.task_id for report in service.heard if isinstance(report, AttemptEnded)] == [1, 2]


def test_what_is_not_settled_is_told_to_the_next_service(host: Host, tmp_path: Path) -> None:
    first = Service(host, 1)
    first.give(run("echo", folder=tmp_path, value=7))
    ended = first.until(AttemptEnded)
    second = Service(host, 2)
    assert [(one.task_id, one.is_over) for one in second.greeting.attempts] == [(1, True)]
    assert second.until(AttemptEnded) == ended

    second.give(Settled(1, 1))

    assert Service(host, 3).greeting.attempts == ()
    third = Service(host, 3)
    third.watch(0.0)
    assert third.heard == []


def test_a_checkpoint_is_told_again_until_it_is_saved(host: Host, tmp_path: Path) -> None:
    first = Service(host, 1)
    first.give(run("save", folder=tmp_path, count=1))
    saved = first.until(AttemptCheckpointed)
    second = Service(host, 2)
    assert second.until(AttemptCheckpointed) == saved

    second.give(Saved(1, 1))
    second.until(AttemptEnded)

    third = Service(host, 3)
    third.until(AttemptEnded)
    assert AttemptCheckpointed not in map(type, third.heard)


def test_the_next_service_learns_that_publishing_was_granted(host: Host, tmp_path: Path) -> None:
    first = Service(host, 1)
    first.give(run("write", folder=tmp_path, output=str(tmp_path / "out.txt"), value="x"))
    first.until(PublishWanted)
    assert not Service(host, 2).greeting.attempts[0].granted

    second = Service(host, 2)
    second.until(PublishWanted)
    second.give(Grant(1, 1))
    second.until(AttemptEnded)

    assert Service(host, 3).greeting.attempts[0].granted


def test_without_a_renewal_the_attempt_is_killed_when_the_lease_is_over(
    host: Host, clock: Clock, tmp_path: Path
) -> None:
    service = Service(host, 1)
    service.give(run("patient", folder=tmp_path), run("noop", 2, folder=tmp_path))
    service.until(AttemptProgressed)

    clock.ahead += LEASE

    while len([report for report in service.heard if isinstance(report, AttemptEnded)]) < 2:
        service.watch(stamp=service.greeting.stamp)  # late: its time is over, so it gives no lease
    ends = {report.task_id: report for report in service.heard if isinstance(report, AttemptEnded)}
    assert {end.outcome for end in ends.values()} == {"interrupted"}
    assert "No service was heard of for 60 s" in ends[1].error


def test_an_order_without_a_lease_is_refused_and_carried_out_with_one(host: Host, clock: Clock, tmp_path: Path) -> None:
    service = Service(host, 1)
    clock.ahead += LEASE
    refused = service.give(run("noop", folder=tmp_path))
    assert isinstance(refused, Refused)
    assert refused.why == "lease"

    service.next = 1
    service.give(run("noop", folder=tmp_path), stamp=refused.stamp)

    assert service.until(AttemptEnded).outcome == "completed"


def test_a_renewal_keeps_the_attempt(host: Host, clock: Clock, tmp_path: Path) -> None:
    service = Service(host, 1)
    service.give(run("patient", folder=tmp_path))
    service.until(AttemptProgressed)
    stamp = service.greeting.stamp
    for _ in range(4):
        clock.ahead += LEASE / 2
        stamp = service.watch(0.0, stamp).stamp
    service.give(Stop(1, 1), stamp=stamp)

    assert service.until(AttemptEnded).outcome == "stopped"


def test_what_cannot_be_measured_keeps_no_attempt_alive(
    host: Host, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> NoReturn:
        raise OSError("no /proc")

    monkeypatch.setattr(host, "_look_at_use", broken)
    service = Service(host, 1)
    service.give(run("patient", folder=tmp_path))
    service.until(AttemptProgressed)

    clock.ahead += LEASE

    assert service.until(AttemptEnded).outcome == "interrupted"


def test_what_attempts_use_is_measured_before_the_node(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise what an attempt takes in between would seem to be in use, and be among what is free, too."""
    looked: list[str] = []

    def noted(what: str, look: Callable[[], Any]) -> Any:
        looked.append(what)
        return look()

    monkeypatch.setattr(host._executor, "memory", partial(noted, "attempts", host._executor.memory))
    monkeypatch.setattr(host._machine, "sample", partial(noted, "node", host._machine.sample))
    service = Service(host, 1)
    service.give(run("patient", folder=tmp_path))
    service.until(AttemptProgressed)

    before = boot_seconds()
    host._look_at_use()

    assert looked[-2:] == ["attempts", "node"]
    seen = service.watch(0.0)
    assert before <= seen.measured_at <= boot_seconds()
    ((task_id, attempt, resident),) = seen.memory
    assert (task_id, attempt) == (1, 1)
    assert 1_000_000 < resident < seen.node.memory_total


def test_a_host_that_cannot_measure_or_is_of_an_earlier_version_says_so(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        type(host._executor), "capabilities", Capabilities(hard_kill_tree="", kills_escaped=True, finds_orphans=True)
    )
    host._look_at_use()
    assert Service(host, 1).watch(0.0).measured_at == 0.0
    earlier = msgspec.msgpack.encode([1.0, 0, [], [[1, 1, 5]], None])
    assert msgspec.msgpack.decode(earlier, type=HostReports).measured_at == 0.0


def test_what_does_not_end_at_once_is_ended_again(
    host: Host, clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(host, 1)
    service.give(run("patient", folder=tmp_path))
    service.until(AttemptProgressed)
    end, asked = host._executor.end_attempts, list[str]()

    def deaf_at_first(why: str) -> None:
        asked.append(why)
        if len(asked) > 1:
            end(why)

    monkeypatch.setattr(host._executor, "end_attempts", deaf_at_first)
    clock.ahead += LEASE

    assert service.until(AttemptEnded).outcome == "interrupted"


def test_an_attempt_that_the_executor_has_lost_ends_as_lost(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that a host has run before, for a log of which this one is a backup."""
    do = host._executor.do
    monkeypatch.setattr(host._executor, "do", lambda orders: do([one for one in orders if not isinstance(one, Run)]))
    service = Service(host, 1)
    service.give(run("noop", folder=tmp_path))
    monkeypatch.undo()

    for _ in range(2):
        host._ask_what_is_held()

    ended = service.until(AttemptEnded)
    assert (ended.outcome, ended.error_type) == ("lost", "AttemptLost")


def test_what_the_executor_has_is_not_lost(host: Host, tmp_path: Path) -> None:
    service = Service(host, 1)
    service.give(run("patient", folder=tmp_path))
    service.until(AttemptProgressed)
    for _ in range(3):
        host._ask_what_is_held()
    service.give(Stop(1, 1))

    assert service.until(AttemptEnded).outcome == "stopped"


def test_workers_that_are_gone_fill_no_host(host: Host) -> None:
    """A worker that cannot start is tried again and again, also while no service asks."""
    for pid in range(_ROOM + 50):
        host._on_reports([WorkerGone(pid, 1, "it cannot start")])

    assert len(host._kept) <= _ROOM + 1


def test_a_host_stays_longer_while_it_keeps_an_end(host: Host, clock: Clock, tmp_path: Path) -> None:
    """The service may be away for a night."""
    left: list[int] = []
    host._leave = left.append
    service = Service(host, 1)
    service.give(run("echo", folder=tmp_path, value=7))
    service.until(AttemptEnded)
    clock.ahead += LEASE
    host._look_at_lease()
    clock.ahead += LINGER + 1
    host._look_at_lease()
    assert left == []
    assert Service(host, 2).until(AttemptEnded).result["value"] == 7

    clock.ahead += LINGER_WITH_ENDS
    host._look_at_lease()

    assert 0 in left


def test_of_looks_into_an_input_only_the_last_is_kept(host: Host) -> None:
    for seconds in range(500):
        host._on_reports([AttemptProbed(1, 1, Estimated(seconds=float(seconds)))])

    assert list(host._kept.values()) == [AttemptProbed(1, 1, Estimated(seconds=499.0))]


def test_an_earlier_checkpoint_is_not_told_after_the_latest(host: Host) -> None:
    """A checkpoint that was not saved, because a stop came, is followed by another."""
    for number in (1, 2):
        host._on_reports([AttemptCheckpointed(1, 1, Checkpoint(processed_frames=number))])

    assert list(host._kept.values()) == [AttemptCheckpointed(1, 1, Checkpoint(processed_frames=2))]


@pytest.mark.parametrize("completed", [True, False])
def test_temp_files_on_the_node_go_with_the_end_of_a_completed_task(
    host: Host, tmp_path: Path, *, completed: bool
) -> None:
    """The service removes them only on its own machine; those of a task that may be tried again stay."""
    work, other = tmp_path / "work", tmp_path / "other"
    for folder in (work, other):
        folder.mkdir()
        (folder / "segment").write_bytes(b"x")
    (tmp_path / "work.note").write_text("")
    service = Service(host, 1)
    service.give(run("noop", folder=tmp_path))
    service.until(AttemptEnded)

    service.give(Settled(1, 1, completed=completed))
    for thread in threading.enumerate():
        if thread.name == "clear":
            thread.join()

    assert [path.exists() for path in (work, tmp_path / "work.note", other)] == [not completed, not completed, True]


def test_a_node_with_another_version_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    settings = msgspec.structs.replace(host_settings(Registry(), cluster="c"), version="9.9")
    host = Host("c-0-b", pack(settings))

    assert f"it has tasktrail {__version__}, and the service has 9.9." in Service(host, 1).greeting.trouble

    host.close()


def test_a_node_with_the_same_version_has_no_trouble(host: Host) -> None:
    assert Service(host, 1).greeting.trouble == ""


def test_settings_of_another_form_are_refused() -> None:
    with pytest.raises(msgspec.MsgspecError):
        Host("c-0-a", b"no settings")
