"""The executor when gateways die, hosts are silent, and other services come before and after it."""

import json
import threading
import time
from collections.abc import Iterable, Iterator
from itertools import permutations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from cluster_executors import on_cluster
from in_process_cluster import InProcessCluster, InProcessLink
from inline_executor import Reports

from tasktrail.actors.cluster import placement
from tasktrail.actors.cluster.cluster_executor import ClusterExecutor
from tasktrail.actors.cluster.cluster_machine import ClusterMachine
from tasktrail.actors.cluster.host import Host, _Look
from tasktrail.actors.cluster.lease import OWNED_FOR
from tasktrail.actors.cluster.placement import HostNeeds, Placement
from tasktrail.actors.cluster.roster import Roster
from tasktrail.actors.cluster.wire import (
    LOOKED_AT_EVERY,
    Call,
    Find,
    Greeting,
    HeldAttempt,
    HostsFound,
    Node,
    NodeUse,
)
from tasktrail.actors.core.resources import MachineSample
from tasktrail.events.clock import boot_seconds
from tasktrail.events.reports import (
    AllFound,
    AttemptEnded,
    AttemptFound,
    AttemptProgressed,
    AttemptsHeld,
    Avoid,
    CapacityChanged,
    NodeSeen,
    NodesSeen,
    PublishWanted,
    Report,
    Run,
    Settled,
    Stop,
    TellHeld,
)
from tasktrail.handlers.registry import Registry

SUPPORT = Path(__file__).parents[2] / "support"
GIB = 1024**3
SHORT = 2.0
"""Seconds of a lease that a test waits for."""


@pytest.fixture
def cluster() -> Iterator[InProcessCluster]:
    made = InProcessCluster()
    yield made
    made.close()


class Services:
    """Services on one cluster, one after another, with the same name and roster."""

    def __init__(self, cluster: InProcessCluster, folder: Path) -> None:
        self._cluster = cluster
        self._registry = Registry()
        self._registry.add_home("sample_handlers")
        self.folder = folder
        self.epoch = 0
        self.open: list[ClusterExecutor] = []

    def start(self, *, cut_off: Iterable[str] = (), **given: Any) -> tuple[ClusterExecutor, Reports]:
        self.epoch += 1
        options: dict[str, Any] = {
            "cluster": "c",
            "roster": self.roster,
            "epoch": self.epoch,
            "margin": 0.3,
        } | given
        executor = on_cluster(self._cluster.link, self._registry, **options)
        self.open.append(executor)
        self._cluster.links[-1].cut_off.update(cut_off)
        return executor, Reports(executor, settle=False)

    @property
    def roster(self) -> Path:
        return self.folder / "hosts.json"

    def left(self, *names: str) -> None:
        """Write a roster as if the last service had left these hosts."""
        self.roster.write_text(json.dumps({"epoch": self.epoch, "hosts": names}))

    def listed(self) -> Any:
        return json.loads(self.roster.read_text())["hosts"]

    def kill(self) -> None:
        """Kill it as -9 does: it sends nothing more to anyone."""
        self._cluster.links[-1].close()
        executor = self.open[-1]
        executor._reports.clear()
        executor.reactor.post(executor.reactor.finish)

    def run(self, task_type: str, task_id: int = 1, attempt: int = 1, *, output: str = "", **options: Any) -> Run:
        return Run(task_id, attempt, task_type, "", output, options, None, str(self.folder / "work" / str(task_id)))


@pytest.fixture
def services(cluster: InProcessCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.syspath_prepend(str(SUPPORT))
    made = Services(cluster, tmp_path)
    yield made
    for executor in made.open:
        executor.close(5.0)


def is_progress(report: Report) -> bool:
    return isinstance(report, AttemptProgressed)


def test_attempts_survive_the_gateway(services: Services, cluster: InProcessCluster) -> None:
    executor, reports = services.start()
    executor.do([services.run("patient")])
    reports.until(is_progress)
    pid = cluster.hosts[cluster.made[0].name]

    cluster.links[-1].kill()
    reports.capacities(CapacityChanged(1, nodes=("one",)), CapacityChanged(0), CapacityChanged(1, nodes=("one",)))
    assert not any(isinstance(report, AttemptEnded) for report in reports.all)
    executor.do([Stop(1, 1)])

    assert reports.end(1).outcome == "stopped"
    assert list(cluster.hosts.values()) == [pid]


def test_while_no_gateway_connects_it_is_said_why_and_orders_wait(
    services: Services, cluster: InProcessCluster
) -> None:
    cluster.is_up = False
    executor, reports = services.start()
    reports.until(lambda _: "nobody is there" in executor.trouble)
    executor.do([services.run("noop")])
    assert executor.capacity() == 0

    cluster.is_up = True

    assert reports.end(1).outcome == "completed"
    assert executor.trouble == ""


@pytest.mark.parametrize("method", ["find", "hello", "give", "watch"])
def test_a_lost_answer_costs_nothing(services: Services, cluster: InProcessCluster, method: str) -> None:
    cluster.swallowed.add(method)
    executor, reports = services.start()
    executor.do([services.run("echo", value=1), services.run("echo", 2, value=2)])

    assert [reports.end(1).result["value"], reports.end(2).result["value"]] == [1, 2]
    assert not cluster.swallowed
    assert [report.task_id for report in reports.all if isinstance(report, AttemptEnded)] == [1, 2]


def test_the_next_service_goes_on_with_what_runs(services: Services, cluster: InProcessCluster) -> None:
    executor, reports = services.start()
    executor.do([services.run("patient")])
    reports.until(is_progress)
    services.kill()

    executor, reports = services.start()
    found = reports.until(lambda report: isinstance(report, AllFound))

    assert reports.all[: reports.all.index(found)].count(AttemptFound(1, 1, publishing=False, node="one")) == 1
    assert len(cluster.made) == 1
    executor.do([TellHeld(3)])
    assert reports.until(lambda report: report == AttemptsHeld(3, ((1, 1),)))
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"


def test_an_end_that_no_service_has_recorded_is_told_before_all_are_found(services: Services) -> None:
    executor, reports = services.start()
    executor.do([services.run("echo", value=5), services.run("echo", 2, value=6)])
    reports.end(2)
    executor.do([Settled(1, 1)])
    executor.do([services.run("noop", 3)])
    reports.end(3)  # after the message that the first is settled
    services.kill()

    _, reports = services.start()
    reports.until(lambda report: isinstance(report, AllFound))

    told = [report for report in reports.all if isinstance(report, AttemptEnded | AllFound)]
    assert [getattr(report, "task_id", 0) for report in told] == [2, 3, 0]


def test_an_attempt_that_waits_for_its_grant_asks_the_next_service(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inline_executor._answers", lambda _report: [])
    executor, reports = services.start()
    executor.do([services.run("write", output=str(tmp_path / "out.txt"), value="x")])
    reports.until(lambda report: report == PublishWanted(1, 1))
    services.kill()
    monkeypatch.undo()

    monkeypatch.syspath_prepend(str(SUPPORT))
    _, reports = services.start()

    assert reports.end(1).outcome == "completed"
    assert (tmp_path / "out.txt").read_text() == "x"


@pytest.mark.slow
def test_a_service_that_is_back_later_than_the_lease_finds_the_attempt_interrupted(
    services: Services, cluster: InProcessCluster
) -> None:
    executor, reports = services.start(lease=SHORT)
    executor.do([services.run("patient")])
    reports.until(is_progress)
    (host,) = cluster.hosts.values()
    services.kill()
    with host._changed:
        assert host._changed.wait_for(lambda: any(isinstance(one, AttemptEnded) for one in host._kept.values()), 20)

    _, reports = services.start(lease=SHORT)

    assert reports.end(1).outcome == "interrupted"
    reports.until(lambda report: isinstance(report, AllFound))


@pytest.mark.slow
def test_a_kept_end_is_told_though_the_cluster_is_away_at_the_start_for_longer_than_the_lease(
    services: Services, cluster: InProcessCluster
) -> None:
    executor, reports = services.start(lease=1.0)
    executor.do([services.run("echo", value=5)])
    reports.end(1)
    services.kill()
    cluster.is_up = False
    executor, reports = services.start(lease=1.0)
    for host in executor._hosts.by_name.values():
        while not host.fence.is_passed(executor._clock()):
            again = threading.Event()
            executor.reactor.at(0.1, again.set)
            assert again.wait(10)

    cluster.is_up = True
    reports.until(lambda report: isinstance(report, AllFound))

    told = [report for report in reports.all if isinstance(report, AttemptEnded | AllFound)]
    assert [getattr(report, "outcome", "") for report in told] == ["completed", ""]


@pytest.mark.slow
def test_an_attempt_behind_a_cut_cable_is_lost_only_after_its_lease(
    services: Services, cluster: InProcessCluster
) -> None:
    executor, reports = services.start(lease=SHORT)
    executor.do([services.run("patient")])
    reports.until(is_progress)
    (host,) = cluster.hosts.values()
    cluster.cut.set()

    ended = reports.end(1)

    assert (ended.outcome, ended.error_type) == ("lost", "HostLost")
    assert all(known.is_over for known in host._attempts.values()), "its process was dead before its end was told"
    cluster.cut.clear()
    executor.do([services.run("noop", attempt=2)])
    assert reports.end(1, 2).outcome == "completed"
    assert [report.attempt for report in reports.all if isinstance(report, AttemptEnded)] == [1, 2]


@pytest.mark.slow
def test_a_cable_that_is_cut_for_less_than_the_lease_costs_nothing(
    services: Services, cluster: InProcessCluster
) -> None:
    executor, reports = services.start(lease=6.0)
    executor.do([services.run("patient")])
    reports.until(is_progress)
    cluster.cut.set()
    reports.until(lambda _: reports.all[-1] == CapacityChanged(0))

    cluster.cut.clear()
    reports.until(lambda _: reports.all[-1] == CapacityChanged(1, nodes=("one",)))
    executor.do([Stop(1, 1)])

    assert reports.end(1).outcome == "stopped"


@pytest.mark.slow
def test_whoever_listens_may_take_longer_than_a_lease(services: Services) -> None:
    """As when a folder is removed on slow storage. The next attempt writes there, so it begins after that."""
    executor, reports = services.start(lease=SHORT, slots=3)
    executor.do([services.run("patient")])
    reports.until(is_progress)
    report, order, is_removed = executor._report, list[str](), threading.Event()

    def slow(told: list[Report]) -> None:
        if any(isinstance(one, AttemptEnded) and one.task_id == 2 and one.attempt == 1 for one in told):
            executor.do([services.run("echo", 2, 2, value=1)])
            executor.reactor.at(SHORT * 1.6, is_removed.set)
            assert is_removed.wait(20)
            order.append("removed")
            assert (2, 2) in executor._work.waiting
        report(told)

    executor._report = slow
    executor.do([services.run("echo", 2, value=1)])

    assert reports.end(2, 2).outcome == "completed"
    assert order == ["removed"]
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"


@pytest.mark.slow
def test_a_slow_network_loses_no_host(
    services: Services, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each answer takes a fifth of the lease, so it comes after the same question was asked again."""
    executor, reports = services.start(lease=SHORT)
    executor.do([services.run("patient")])
    reports.until(is_progress)
    call, answers, enough = cluster.links[-1]._call, list[str](), threading.Event()

    def slow(order: Call) -> Any:
        answer = call(order)
        arrives = threading.Event()
        executor.reactor.at(SHORT * 0.2, arrives.set)
        arrives.wait(10)
        answers.append(order.method)
        if len(answers) > 12:
            enough.set()
        return answer

    monkeypatch.setattr(cluster.links[-1], "_call", slow)
    assert enough.wait(60)

    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"
    assert len(cluster.made) == 1


def test_whoever_stood_still_for_longer_than_a_lease_asks_before_it_gives_anything_up(
    services: Services, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The machine of service and node slept, just after an attempt had completed."""
    slept = [0.0]
    cluster.clock = lambda: boot_seconds() + slept[0]
    executor, reports = services.start(lease=4.0, clock=lambda: time.monotonic() + slept[0])
    reports.until(lambda _: executor.capacity() == 1)
    call, is_awake, has_ended = cluster.links[-1]._call, threading.Event(), threading.Event()

    def asleep(order: Call) -> Any:
        answer = call(order)
        return answer if order.method != "watch" or is_awake.is_set() else None

    (host,) = cluster.hosts.values()
    monkeypatch.setattr(cluster.links[-1], "_call", asleep)
    executor.do([services.run("echo", value=1)])
    with host._changed:
        assert host._changed.wait_for(lambda: any(isinstance(one, AttemptEnded) for one in host._kept.values()), 10)
    executor.reactor.at(0.3, has_ended.set)  # messages still on their way
    assert has_ended.wait(10)

    is_awake.set()
    slept[0] = 6.0
    executor.reactor.post(lambda: None)

    assert reports.end(1).outcome == "completed"


def test_a_lost_answer_is_asked_for_again_within_a_minute_however_long_the_lease_is(
    services: Services, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a lease of an hour, what was known of the node became 24 minutes old."""
    passed = [0.0]
    executor, reports = services.start(lease=3600.0, clock=lambda: time.monotonic() + passed[0])
    reports.until(lambda _: executor.capacity() == 1)
    call, is_lost = cluster.links[-1]._call, threading.Event()
    (host,) = cluster.hosts.values()

    def losing(order: Call) -> Any:
        answer = call(order)
        if order.method == "watch" and not is_lost.is_set():
            with host._changed:
                if any(isinstance(one, AttemptEnded) for one in host._kept.values()):
                    is_lost.set()
                    return None
        return answer

    monkeypatch.setattr(cluster.links[-1], "_call", losing)
    executor.do([services.run("echo", value=1)])
    assert is_lost.wait(10)

    passed[0] = 60.0
    executor.reactor.post(lambda: None)

    assert reports.end(1).outcome == "completed"


@pytest.mark.slow
def test_a_gateway_that_hangs_is_replaced_before_any_lease_is_over(
    services: Services, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor, reports = services.start(lease=9.0)
    executor.do([services.run("patient")])
    reports.until(is_progress)
    link = cluster.links[-1]
    hangs, tell, send = link._generation, link._tell, link.send
    monkeypatch.setattr(link, "_tell", lambda report: tell(report) if link._generation != hangs else None)
    monkeypatch.setattr(link, "send", lambda order: send(order) if link._generation != hangs else None)

    reports.capacities(CapacityChanged(1, nodes=("one",)), CapacityChanged(0), CapacityChanged(1, nodes=("one",)))
    executor.do([Stop(1, 1)])

    assert reports.end(1).outcome == "stopped"


@pytest.mark.slow
def test_a_host_that_dies_is_replaced_at_once_and_its_attempt_is_lost_after_the_lease(
    services: Services, cluster: InProcessCluster
) -> None:
    executor, reports = services.start(lease=SHORT)
    executor.do([services.run("patient")])
    reports.until(is_progress)

    cluster.lose(cluster.made[0].name)
    reports.until(lambda _: len(cluster.made) > 1)
    executor.do([services.run("noop", 2)])

    assert reports.end(2).outcome == "completed"
    assert reports.end(1).outcome == "lost"


def test_a_service_that_was_replaced_is_obeyed_no_more(services: Services) -> None:
    executor, reports = services.start()
    executor.do([services.run("patient")])
    reports.until(is_progress)
    old, old_reports = executor, reports

    executor, reports = services.start()
    reports.until(lambda report: isinstance(report, AllFound))
    old.do([Stop(1, 1)])
    old_reports.until(lambda _: "A later service" in old.trouble)

    assert not any(isinstance(report, AttemptEnded) for report in [*old_reports.all, *reports.all])
    with old.lock:  # a host that the later service has made, as the next gateway reports it
        old._on_found(HostsFound(("c-7-2000-aaaa",)))
    assert old._hosts.ending == {}
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"


@pytest.mark.slow
def test_a_service_that_knows_that_it_was_replaced_keeps_nothing_alive_where_the_later_one_does_not_reach(
    services: Services, two_nodes: InProcessCluster
) -> None:
    executor, reports = services.start(lease=SHORT, slots=2)
    reports.until(lambda _: executor.capacity() == 2)
    executor.do([msgspec.structs.replace(services.run("patient"), node="a")])
    reports.until(is_progress)
    old, host = executor, two_nodes.hosts[executor._work.attempts[1, 1].name]

    executor, reports = services.start(
        lease=SHORT, slots=2, roster=services.folder / "of-the-standby.json", cut_off=["a"]
    )
    reports.until(lambda report: isinstance(report, AllFound))

    assert all(known.is_over for known in host._attempts.values())
    assert "A later service" in old.trouble
    assert old.capacity() == 0


@pytest.mark.slow
def test_a_service_that_comes_back_from_behind_a_cut_cable_ends_no_host_of_the_later_one(
    services: Services, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has given its hosts up, and would end them. But a standby has them now, with their attempts."""
    monkeypatch.setattr("tasktrail.actors.cluster.cluster_executor._END_AGAIN_AFTER", 0.2)
    monkeypatch.setattr("tasktrail.actors.cluster.connection._HEAD_HEARD", 0.3)
    old, old_reports = services.start(lease=SHORT)
    old.do([services.run("patient")])
    old_reports.until(is_progress)
    cable = cluster.links[-1]
    cable.cut_off.add("n1")
    cable.is_head_heard = False
    executor, reports = services.start(lease=SHORT)
    reports.until(lambda report: isinstance(report, AttemptFound))
    assert old_reports.end(1).outcome == "lost"

    cable.is_head_heard = True
    cable.cut_off.clear()
    old_reports.until(lambda _: "A later service" in old.trouble)

    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"


@pytest.mark.slow
def test_a_service_whose_log_may_be_anothers_ends_no_host_though_it_hears_the_head(
    services: Services, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The head may be on its own machine: the later service may hear a host that is silent here."""
    monkeypatch.setattr("tasktrail.actors.cluster.cluster_executor._END_AGAIN_AFTER", 0.2)
    unsure = [0.0]
    old, old_reports = services.start(lease=SHORT, owned=lambda: unsure[0])
    old.do([services.run("patient")])
    old_reports.until(is_progress)
    cluster.links[-1].cut_off.add("n1")
    unsure[0] = OWNED_FOR
    executor, reports = services.start(lease=SHORT)
    reports.until(lambda report: isinstance(report, AttemptFound))
    assert old_reports.end(1).outcome == "lost"

    ((name, ending),) = old._hosts.ending.items()
    old_reports.until(lambda _: old._hosts.ending[name].asked_at > ending.asked_at + 0.5)

    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"


@pytest.mark.slow
def test_nothing_lives_longer_by_a_service_whose_log_may_be_anothers(services: Services) -> None:
    """Its database does not answer, and a standby may have taken the log. If none has, the service continues."""
    unsure = [0.0]
    executor, reports = services.start(lease=SHORT, owned=lambda: unsure[0])
    executor.do([services.run("patient")])
    reports.until(is_progress)
    assert executor._hosts.fence.at - executor._hosts.opened_at > SHORT + OWNED_FOR

    unsure[0] = OWNED_FOR
    executor.do([services.run("echo", 2, value=1)])

    assert reports.end(1).outcome == "interrupted"
    assert (2, 1) in executor._work.waiting
    unsure[0] = 0.0
    assert reports.end(2).outcome == "completed"


def test_a_service_that_ends_because_it_was_replaced_leaves_all_to_the_later_one(services: Services) -> None:
    executor, reports = services.start()
    executor.do([services.run("patient")])
    reports.until(is_progress)

    executor.let_go()
    executor.close(5.0)

    executor, reports = services.start()
    assert reports.until(lambda report: isinstance(report, AttemptFound))
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped"


def test_a_host_that_still_runs_something_at_the_stop_is_left_to_its_lease(
    services: Services, cluster: InProcessCluster
) -> None:
    """The engine would kill the reaper first, and processes that left its process group would survive."""
    executor, reports = services.start()
    executor.do([services.run("patient")])
    reports.until(is_progress)

    executor.close(0.0)

    assert services.listed() == list(cluster.hosts) != []


def test_an_attempt_that_is_none_of_this_log_is_ended_before_its_task_begins(
    services: Services, cluster: InProcessCluster
) -> None:
    """The log is an earlier backup, so it orders the same attempt once more."""
    executor, reports = services.start(slots=2)
    executor.do([services.run("patient")])
    reports.until(is_progress)
    host = cluster.hosts[executor._work.attempts[1, 1].name]
    services.kill()
    executor, reports = services.start(slots=2, epoch=0)
    executor.do([services.run("echo", value=5)])
    executor._ask_epoch = lambda: services.epoch

    assert reports.end(1).result["value"] == 5
    assert host._attempts == {}
    assert [report.outcome for report in reports.all if isinstance(report, AttemptEnded)] == ["completed"]


@pytest.mark.slow
def test_a_service_whose_log_was_put_back_believes_no_host(services: Services, cluster: InProcessCluster) -> None:
    executor, reports = services.start(lease=SHORT, slots=2)
    executor.do([services.run("echo", 2, value=1)])
    reports.end(2)
    executor.do([services.run("patient")])
    reports.until(is_progress)
    services.kill()
    before = set(cluster.hosts)

    executor, reports = services.start(lease=SHORT, slots=2, restored=True)
    executor.do([services.run("echo", value=5), services.run("echo", 2, value=6)])

    assert [reports.end(1).result["value"], reports.end(2).result["value"]] == [5, 6]
    told = [report for report in reports.all if isinstance(report, AttemptFound | AttemptEnded | AllFound)]
    assert isinstance(told[0], AllFound)
    assert len(told) == 3
    assert executor._clock() - executor._hosts.opened_at > SHORT
    assert not before & set(cluster.hosts)


def test_a_gateway_that_does_not_tell_the_hosts_is_replaced(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.actors.cluster.cluster_executor._LISTED_WITHIN", 0.2)
    send, is_deaf = InProcessLink.send, [True]
    monkeypatch.setattr(
        InProcessLink, "send", lambda link, order: None if is_deaf[0] and isinstance(order, Find) else send(link, order)
    )
    executor, reports = services.start()
    reports.until(lambda _: "has not listed the workers" in executor.trouble)

    is_deaf[0] = False

    reports.until(lambda _: executor.capacity() == 1)
    assert executor.trouble == ""


@pytest.mark.slow
def test_nothing_starts_before_each_host_of_the_last_service_is_found_or_surely_stopped(
    services: Services,
) -> None:
    """The cluster no longer lists a node that it has lost; its attempts may live until its own lease is over."""
    services.left("c-0-2000-aaaa")
    executor, reports = services.start(lease=1.0)
    reports.until(lambda _: executor.capacity() == 1)
    executor.do([services.run("noop")])

    assert reports.end(1).outcome == "completed"
    kinds = [type(report) for report in reports.all]
    assert kinds.index(AllFound) < kinds.index(AttemptEnded)
    assert executor._clock() - executor._hosts.opened_at >= SHORT
    reports.until(lambda _: "c-0-2000-aaaa" not in services.listed())


def test_a_service_that_stops_in_good_order_leaves_no_host(services: Services, cluster: InProcessCluster) -> None:
    executor, reports = services.start(slots=2)
    executor.do([services.run("patient"), services.run("patient", 2)])
    reports.until(lambda _: len([report for report in reports.all if is_progress(report)]) == 2)

    executor.do([Stop(1, 1), Stop(2, 1)])
    assert {reports.end(1).outcome, reports.end(2).outcome} == {"stopped"}
    executor.do([Settled(1, 1), Settled(2, 1)])

    executor.close(5.0)

    assert services.listed() == []
    assert cluster.hosts == {}


def test_an_end_that_could_not_be_recorded_before_the_stop_is_told_to_the_next_service(
    services: Services, cluster: InProcessCluster
) -> None:
    executor, reports = services.start()
    executor.do([services.run("echo", value=4), services.run("patient", 2)])
    reports.end(1)
    reports.until(is_progress)

    executor.close(5.0)

    assert reports.end(2).outcome == "stopped"
    assert services.listed() == list(cluster.hosts)
    _, reports = services.start()
    reports.until(lambda report: isinstance(report, AllFound))
    assert [reports.end(1).result["value"], reports.end(2).outcome] == [4, "stopped"]


def test_a_host_that_is_found_is_listed_before_it_is_used(services: Services, cluster: InProcessCluster) -> None:
    """Otherwise its service could neither end nor list it. If the cluster does not list it, only the list does."""
    executor, reports = services.start()
    reports.until(lambda _: executor.capacity() == 1)
    services.kill()
    services.left()  # as a service that did not know of it
    executor, reports = services.start()
    executor.do([services.run("patient")])
    reports.until(is_progress)
    assert len(cluster.made) == 1
    assert services.listed() == list(cluster.hosts)
    services.kill()
    (lost,) = cluster.hosts.values()
    cluster.hosts.clear()

    executor, reports = services.start()
    reports.until(lambda report: isinstance(report, AllFound))

    assert all(known.is_over for known in lost._attempts.values())
    lost.close()


def test_a_host_that_is_found_is_not_used_while_the_list_cannot_be_written(
    services: Services, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor, reports = services.start()
    reports.until(lambda _: executor.capacity() == 1)
    services.kill()
    services.left()
    tried = list[set[str]]()
    again = threading.Event()

    def full(_roster: Roster, _epoch: int, names: Iterable[str]) -> None:
        tried.append(set(names))
        if tried.count(set(cluster.hosts)) > 1:
            again.set()
        raise OSError("no space left")

    write = Roster.write
    monkeypatch.setattr(Roster, "write", full)
    executor, reports = services.start()
    assert again.wait(10)
    assert executor.capacity() == 0
    assert not executor._hosts.all_found

    monkeypatch.setattr(Roster, "write", write)

    reports.until(lambda report: report == CapacityChanged(1, nodes=("one",)))
    reports.until(lambda report: isinstance(report, AllFound))


def test_a_host_whose_end_is_not_seen_stays_in_the_list(services: Services, cluster: InProcessCluster) -> None:
    executor, reports = services.start()
    reports.until(lambda _: executor.capacity() == 1)
    cluster.is_up = False
    cluster.links[-1].kill()
    reports.until(lambda _: reports.all[-1] == CapacityChanged(0))

    executor.close(5.0)

    assert services.listed() == list(cluster.hosts)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["gateway", "cable"])
def test_a_host_that_was_given_up_is_ended_as_soon_as_it_can_be(
    services: Services, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Otherwise it would book its CPUs for days, because it keeps an end."""
    monkeypatch.setattr("tasktrail.actors.cluster.cluster_executor._END_AGAIN_AFTER", 0.5)
    executor, reports = services.start(lease=SHORT)
    executor.do([services.run("patient")])
    reports.until(is_progress)
    (first,) = cluster.hosts
    if how == "gateway":
        cluster.is_up = False
        cluster.links[-1].kill()
    else:
        cluster.cut.set()
    assert reports.end(1).outcome == "lost"
    assert first in services.listed()

    cluster.is_up = True
    cluster.cut.clear()

    executor.do([services.run("echo", 2, value=1)])
    assert reports.end(2).outcome == "completed"
    assert first not in cluster.hosts
    executor.close(5.0)
    assert first not in services.listed()


def test_what_is_found_when_all_others_are_over_is_ended(services: Services, cluster: InProcessCluster) -> None:
    """Such as a host that was still starting when its gateway died."""
    executor, reports = services.start()
    executor.do([services.run("echo", value=1)])
    reports.end(1)
    late = "c-7-2000-aaaa"
    cluster.hosts[late] = Host(late, executor._settings, "n1", cluster.clock, lambda _: None)

    cluster.links[-1].kill()
    reports.capacities(CapacityChanged(1, nodes=("one",)), CapacityChanged(0), CapacityChanged(1, nodes=("one",)))
    executor.do([services.run("echo", 2, value=1)])
    reports.end(2)

    executor.close(5.0)
    assert late not in cluster.hosts


def test_a_worker_that_fits_on_no_node_is_told_with_what_it_needs(services: Services) -> None:
    executor, reports = services.start(needs=HostNeeds(cpus=64, resources={"GPU": 1.0}))

    reports.until(lambda _: "No node of the cluster is large enough" in executor.trouble)

    assert "64 CPU, 1 GPU" in executor.trouble
    assert executor.capacity() == 0


def test_no_more_hosts_are_made_than_fit_now_and_more_when_there_is_room(
    services: Services, cluster: InProcessCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    # This cluster's nodes never count what hosts have booked, so the executor has to go on counting it.
    monkeypatch.setattr(placement, "_SETTLES_IN", 3600.0)
    executor, reports = services.start(slots=3, needs=HostNeeds(cpus=2.0))
    reports.until(lambda _: executor.capacity() == 2)
    assert executor.trouble == "1 of 3 workers has no node: none has 2 CPU free"

    cluster.nodes = (*cluster.nodes, Node("n2", "two", "127.0.0.2", {"CPU": 2.0}, {"CPU": 2.0}))
    reports.until(lambda _: executor.capacity() == 3)
    assert [one.node for one in cluster.made] == ["n1", "n1", "n2"]
    assert executor.trouble == ""


def test_a_silent_head_is_one_trouble_however_long_it_is_silent(services: Services, cluster: InProcessCluster) -> None:
    """Each new trouble is logged, so an age in it would be logged each second."""
    cluster.is_up = False
    executor, _ = services.start()
    first = executor._why_no_node(1)
    executor._connection.nodes_seen -= 100.0
    assert first == executor._why_no_node(1)
    assert "1 of 1 worker has no node: the cluster's head has been silent for more than" in first


@pytest.fixture
def two_nodes(cluster: InProcessCluster) -> InProcessCluster:
    """Make two nodes, of which one has more room."""
    cluster.nodes = tuple(Node(name, name, "", {"CPU": cpus}, {"CPU": cpus}) for name, cpus in (("a", 4.0), ("b", 2.0)))
    return cluster


def test_a_worker_that_has_died_is_made_on_another_node(services: Services, two_nodes: InProcessCluster) -> None:
    """The engine may report a dead worker of a lost node before it reports the node."""
    _, reports = services.start()
    reports.until(lambda _: reports.all[-1] == CapacityChanged(1, nodes=("a",)))

    two_nodes.lose(two_nodes.made[0].name)

    reports.capacities(CapacityChanged(1, nodes=("a",)), CapacityChanged(0), CapacityChanged(1, nodes=("b",)))
    assert [one.node for one in two_nodes.made] == ["a", "b"]


def test_an_attempt_whose_host_was_killed_as_memory_ran_out_ends_like_one_that_the_kernel_has_killed(
    services: Services, cluster: InProcessCluster
) -> None:
    """The engine watches the memory of its nodes, too, and kills hosts, with all that they run."""
    executor, reports = services.start(lease=SHORT)
    executor.do([services.run("patient")])
    reports.until(is_progress)
    for _ in range(1000):
        if executor.memory():
            break
        threading.Event().wait(0.02)  # nothing is reported about it

    cluster.out_of_memory = True
    cluster.lose(cluster.made[0].name)

    ended = reports.end(1)
    assert (ended.outcome, ended.error_type, ended.exit_code) == ("lost", "HostLost", -9)
    assert "killed the worker on node one, because memory was about to run out" in ended.error
    assert ended.memory_used > 1_000_000


def test_the_workers_of_a_node_that_is_cut_off_are_made_elsewhere(
    services: Services, two_nodes: InProcessCluster
) -> None:
    executor, reports = services.start(lease=1.0)
    reports.until(lambda _: reports.all[-1] == CapacityChanged(1, nodes=("a",)))

    two_nodes.cut_off.add("a")  # the engine still lists it, with more room than the other

    reports.capacities(CapacityChanged(1, nodes=("a",)), CapacityChanged(0), CapacityChanged(1, nodes=("b",)))
    assert [one.node for one in two_nodes.made] == ["a", "b"]
    assert executor.trouble == ""


@pytest.mark.slow
def test_hosts_of_other_settings_end_what_they_run_and_are_replaced(
    services: Services, cluster: InProcessCluster
) -> None:
    executor, reports = services.start(lease=30.0)
    executor.do([services.run("patient")])
    reports.until(is_progress)
    services.kill()

    executor, reports = services.start(lease=20.0)
    reports.until(lambda report: report == AttemptFound(1, 1, publishing=False, node="one"))
    executor.do([services.run("noop", 2)])
    assert reports.end(2).outcome == "completed"
    executor.do([Stop(1, 1)])

    assert reports.end(1).outcome == "stopped"
    executor.do([Settled(1, 1)])
    reports.until(lambda _: cluster.made[0].name not in cluster.hosts)
    assert len(cluster.hosts) == 1


def _shows(host: Host, free: int) -> None:
    """Let its node have that many GiB free, without change."""
    found = _Look((), NodeUse(8 * GIB, free * GIB, 10.0))
    host._look_at_use = lambda: setattr(host, "_look", found)  # type: ignore[method-assign]


def _nodes(*gpus: float, cpus: float = 1.0) -> tuple[Node, ...]:
    """Make a node for each number of GPUs."""
    return tuple(
        Node(
            f"n{n}", f"node{n}", f"10.0.0.{n}", {"CPU": cpus, "GPU": there}, {"CPU": cpus, "GPU": there}, {"rack": "r1"}
        )
        for n, there in enumerate(gpus)
    )


def test_the_nodes_are_told_once_and_again_when_they_change(services: Services, cluster: InProcessCluster) -> None:
    cluster.nodes = _nodes(0, 2)
    _, reports = services.start(slots=2)
    first = reports.until(lambda report: isinstance(report, NodesSeen))
    assert first == NodesSeen(
        (
            NodeSeen(node="node0", address="10.0.0.0", cpus=1.0, labels={"rack": "r1"}),
            NodeSeen(node="node1", address="10.0.0.1", cpus=1.0, gpus=2.0, labels={"rack": "r1"}),
        )
    )
    reports.until(lambda report: report == CapacityChanged(2, nodes=("node1", "node0")))
    kinds = [type(report) for report in reports.all if isinstance(report, NodesSeen | CapacityChanged)]
    assert kinds.index(NodesSeen) < kinds.index(CapacityChanged) or reports.all[0] == CapacityChanged(0)
    cluster.nodes = cluster.nodes[:1]
    reports.until(lambda report: isinstance(report, NodesSeen) and [one.node for one in report.nodes] == ["node0"])
    assert sum(isinstance(report, NodesSeen) for report in reports.all) == 2


def test_workers_are_told_anew_when_their_node_is_called_otherwise(
    services: Services, cluster: InProcessCluster
) -> None:
    """Otherwise they are on a node that no longer exists, and nothing starts any more."""
    alike = tuple(msgspec.structs.replace(node, name="box") for node in _nodes(0, 0))
    cluster.nodes = alike
    _, reports = services.start(slots=1)
    either = ("box-10.0.0.0", "box-10.0.0.1")
    told = reports.until(lambda report: report in [CapacityChanged(1, nodes=(name,)) for name in either])
    cluster.nodes = tuple(node for node in alike if told == CapacityChanged(1, nodes=(f"box-{node.address}",)))
    reports.until(lambda report: report == CapacityChanged(1, nodes=("box",)))


def test_an_attempt_runs_on_the_node_that_the_order_names(services: Services, cluster: InProcessCluster) -> None:
    cluster.nodes = _nodes(0, 0, 0)
    executor, reports = services.start(slots=3)
    reports.until(lambda _: executor.capacity() == 3)

    for task_id, node in ((1, "node2"), (2, "node0")):
        executor.do([msgspec.structs.replace(services.run("patient", task_id), node=node)])
        reports.until(lambda report, of=task_id: is_progress(report) and report.task_id == of)  # type: ignore[misc]  # it has one

    assert [executor._work.attempts[task_id, 1].node for task_id in (1, 2)] == ["n2", "n0"]


@pytest.mark.parametrize(
    ("node", "offer", "missing"), [("elsewhere", (), "worker"), ("node0", ("lab",), "worker with lab")]
)
def test_what_waits_for_a_worker_that_is_not_there_any_more_is_given_back(
    services: Services, cluster: InProcessCluster, node: str, offer: tuple[str, ...], missing: str
) -> None:
    """It has not begun, so that is not its fault: the Scheduler starts it elsewhere."""
    cluster.nodes = _nodes(0)
    executor, reports = services.start()
    reports.until(lambda _: executor.capacity() == 1)

    executor.do([msgspec.structs.replace(services.run("noop"), node=node, offer=offer)])

    ended = reports.end(1)
    assert (ended.outcome, ended.error) == (
        "interrupted",
        f"Node {node} had no {missing} left when the attempt was to begin there",
    )


def test_a_drained_node_keeps_no_idle_worker_and_another_one_is_made_elsewhere(
    services: Services, cluster: InProcessCluster
) -> None:
    cluster.nodes = _nodes(0, 0)
    executor, reports = services.start(slots=1)
    reports.until(lambda report: report == CapacityChanged(1, nodes=("node1",)))
    executor.do([services.run("patient")])
    reports.until(is_progress)

    executor.do([Avoid(("node1",))])
    executor.do([Stop(1, 1)])
    assert reports.end(1).outcome == "stopped", "what runs there goes on until it ends"
    executor.do([Settled(1, 1)])

    reports.until(lambda report: report == CapacityChanged(1, nodes=("node0",)))
    executor.do([Avoid(("node0", "node1"))])
    reports.until(lambda _: "all nodes are being drained" in executor.trouble)
    executor.do([Avoid(())])
    reports.until(lambda _: executor.capacity() == 1)


def test_a_worker_that_has_booked_gpus_offers_them(services: Services, cluster: InProcessCluster) -> None:
    cluster.nodes = _nodes(0, 1, cpus=2.0)
    executor, reports = services.start(slots=3, needs=HostNeeds(gpus=1))
    told = reports.until(lambda report: isinstance(report, CapacityChanged) and report.slots == 3)
    on = {made.node: made.resources for made in cluster.made if made.resources}
    assert on == {"n1": {"GPU": 1.0}}
    assert isinstance(told, CapacityChanged)
    assert max(zip(told.offers, told.nodes, strict=True)) == (("gpu",), "node1")
    executor.do([msgspec.structs.replace(services.run("patient"), node="node1", offer=("gpu",))])
    reports.until(is_progress)
    services.kill()

    _, reports = services.start(slots=3, needs=HostNeeds(gpus=1))
    reports.until(lambda report: report == AttemptFound(1, 1, publishing=False, offer=("gpu",), node="node1"))


@pytest.mark.parametrize("lease", [10.0, 3600.0])
def test_what_each_node_has_is_seen_there(services: Services, cluster: InProcessCluster, lease: float) -> None:
    """With a lease of an hour, idle workers reported it every quarter of an hour."""
    cluster.nodes = _nodes(0, 0)
    executor, reports = services.start(slots=2, lease=lease)
    reports.until(lambda _: executor.capacity() == 2)
    for made in cluster.made:
        _shows(cluster.hosts[made.name], {"n0": 2, "n1": 6}[made.node])
    for _ in range(1000):
        if {one.node and one.node.memory_available for one in executor.uses().values()} == {2 * GIB, 6 * GIB}:
            break
        threading.Event().wait(0.02)  # nothing is reported about it

    samples = ClusterMachine(executor.uses).nodes()

    assert samples["node1"].sample is not None
    assert samples["node1"].sample.memory_available == 6 * GIB
    assert LOOKED_AT_EVERY <= samples["node1"].age < 10.0, "it may be that old when it comes"
    assert samples["node1"].memory_used is None, "no host there says that it can measure it"
    assert ClusterMachine(executor.uses).sample() == MachineSample()
    assert reports.all


def test_of_the_hosts_on_a_node_the_one_counts_that_has_looked_last(services: Services) -> None:
    """An attempt that was measured after the node seemed to use what was among what is free, too."""
    executor, reports = services.start(slots=3)
    reports.until(lambda _: executor.capacity() == 3)
    with executor.lock:  # no report comes meanwhile
        for number, host in enumerate(executor._hosts.by_name.values(), start=1):
            host.use, host.used_at = NodeUse(8 * GIB, number * GIB, 10.0), 10.0 * number
            host.memory, host.measured_at = {(number, 1): number}, 5.0 - number
        ((there,), samples) = executor.uses().values(), ClusterMachine(executor.uses).nodes()
        host.state = "outdated"
        host.measured_at = 6.0
        (outdated,) = executor.uses().values()
        for host in executor._hosts.by_name.values():
            host.measured_at = 0.0
        (unmeasured,) = executor.uses().values()

    assert there.node == NodeUse(8 * GIB, GIB, 10.0), "reports of the others have come later"
    assert there.attempts == samples["one"].memory_used == {(1, 1): 1, (2, 1): 2, (3, 1): 3}
    assert (outdated.node, outdated.attempts) == (NodeUse(8 * GIB, 3 * GIB, 10.0), there.attempts)
    assert (unmeasured.node, unmeasured.attempts) == (NodeUse(8 * GIB, 3 * GIB, 10.0), None)


def _names(*nodes: Node) -> dict[str, str]:
    """Report nodes to a service one after another; return id → name."""
    placement = Placement(HostNeeds())
    for number in range(len(nodes)):
        placement.set_nodes(nodes[: number + 1])
    return {node.id: placement.name_of(node.id) for node in nodes}


def test_the_names_of_nodes_do_not_depend_on_who_came_first() -> None:
    """A drain belongs to the name: it must not move to another machine when the service restarts."""
    first, second, third = (
        Node(number * 20, name, f"10.0.0.{number}", {}, {})
        for number, name in (("7", "same"), ("3", "same"), ("5", "one"))
    )
    named = {first.id: "same-10.0.0.7", second.id: "same-10.0.0.3", third.id: "one"}
    for order in permutations((first, second, third)):
        assert _names(*order) == named


def test_a_node_that_came_back_has_its_name_while_it_is_listed_twice() -> None:
    placement = Placement(HostNeeds())
    before, after = (
        Node(f"{number}" * 20, "same", "10.0.0.1", {"CPU": 2.0}, {"CPU": 2.0}, {"rack": f"r{number}"})
        for number in (3, 7)
    )
    placement.set_nodes((before,))
    placement.avoided = frozenset({"same"})

    assert placement.set_nodes((before, after)) == (
        NodeSeen(node="same", address="10.0.0.1", cpus=2.0, labels={"rack": "r7"}),
    )
    assert placement.choose((), 0.0) is None
    placement.set_nodes((after,))
    assert placement.name_of(after.id) == "same"
    assert placement.is_avoided(after.id)


def test_a_drain_holds_when_another_node_is_called_alike_from_then_on() -> None:
    placement = Placement(HostNeeds())
    first, second = (
        Node(f"{number}" * 20, "same", f"10.0.0.{number}", {"CPU": 2.0}, {"CPU": 2.0}) for number in (7, 3)
    )
    placement.set_nodes((first,))
    placement.avoided = frozenset({"same"})

    placement.set_nodes((second, first))

    assert placement.is_avoided(first.id)
    assert placement.choose((), 0.0) is None


def test_nothing_is_told_to_hosts_before_the_log_is_open(services: Services) -> None:
    """Its disk may be full at the start. An epoch that is not known yet must not look like an old one."""
    executor, reports = services.start(epoch=0, lease=1.0)
    executor.do([services.run("noop")])
    reports.until(lambda _: bool(reports.all))
    assert executor.capacity() == 0

    executor._ask_epoch = lambda: 7

    assert reports.end(1).outcome == "completed"


def test_no_host_is_made_that_the_next_service_could_not_know_of(
    services: Services, cluster: InProcessCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasktrail.actors.cluster.cluster_executor._MAKE_AGAIN_AFTER", 0.1)
    executor, reports = services.start(roster=tmp_path / "full" / "hosts.json")
    reports.until(lambda _: "the list of workers cannot be written" in executor.trouble)
    assert cluster.made == []

    (tmp_path / "full").mkdir()

    reports.until(lambda report: report == CapacityChanged(1, nodes=("one",)))
    assert json.loads((tmp_path / "full" / "hosts.json").read_text())["hosts"] == [cluster.made[0].name]
    assert executor.trouble == ""


def test_a_look_that_breaks_is_followed_by_the_next(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    executor, reports = services.start(lease=1.0)
    reports.until(lambda _: executor.capacity() == 1)
    looks, again = list[float](), threading.Event()

    def broken(_host: object, now: float) -> None:
        looks.append(now)
        if len(looks) > 1:
            again.set()
        raise OSError("no room")

    monkeypatch.setattr(executor, "_look_at", broken)

    assert again.wait(10)


@pytest.mark.slow
@pytest.mark.parametrize("roster", ["", "[", '{"epoch": 3, "hosts": []}', '{"epoch": 4, "hosts": ["c-x"]}'])
def test_without_the_list_of_the_last_service_nothing_starts_before_all_leases_are_over(
    services: Services, roster: str
) -> None:
    services.epoch = 4
    if roster:
        services.roster.write_text(roster)
    executor, reports = services.start(lease=1.0)

    reports.until(lambda report: isinstance(report, AllFound))

    assert executor._clock() - executor._hosts.opened_at >= 1.3
    reports.until(lambda _: executor.capacity() == 1)
    assert json.loads(services.roster.read_text())["epoch"] == 5


def test_what_else_is_named_so_is_no_host(services: Services, cluster: InProcessCluster) -> None:
    cluster.hosts["c-x"] = SimpleNamespace(close=lambda: None)  # type: ignore[assignment]
    executor, reports = services.start()
    executor.do([services.run("noop")])

    assert reports.end(1).outcome == "completed"


def test_a_log_that_is_older_than_its_hosts_is_told(services: Services) -> None:
    executor, reports = services.start(epoch=7, lease=1.0)
    executor.do([services.run("patient")])
    reports.until(is_progress)
    services.kill()

    executor, reports = services.start(epoch=5, lease=1.0)

    reports.until(lambda _: "restored from a backup" in executor.trouble)
    assert "they follow epoch 7, and this one has 5" in executor.trouble


def test_a_restored_log_of_the_same_epoch_is_obeyed_from_its_first_order_on(services: Services) -> None:
    executor, reports = services.start()
    executor.do([services.run("noop")])
    reports.end(1)
    services.kill()
    services.epoch -= 1
    executor, reports = services.start(lease=10.0)
    reports.until(lambda _: executor.capacity() == 1)

    executor._hosts.all_found = True  # the list is not the last service's, so it waits for all leases
    executor.do([services.run("echo", 2, value=3)])

    assert reports.end(2).result["value"] == 3


def test_a_host_that_was_made_here_is_not_believed_to_have_attempts(services: Services) -> None:
    executor, reports = services.start()
    reports.until(lambda _: executor.capacity() == 1)

    with executor.lock:
        (host,) = executor._hosts.by_name.values()
        executor._on_greeting(host, Greeting(0.0, "", host.node, (HeldAttempt(9, 1, is_over=False, granted=True),)))

    assert (9, 1) not in executor._work.attempts


def test_an_attempt_waits_for_the_end_of_an_earlier_one_of_its_task(services: Services) -> None:
    """The log may have ended that one, by a cancel, before the last service could stop it."""
    executor, reports = services.start(slots=3)
    executor.do([services.run("patient")])
    reports.until(is_progress)
    services.kill()
    executor, reports = services.start(slots=3)
    reports.until(lambda _: executor.capacity() == 3)
    reports.until(lambda report: isinstance(report, AllFound))

    executor.do([services.run("noop", attempt=2), services.run("noop", 2)])
    reports.end(2)
    assert (1, 2) in executor._work.waiting
    executor.do([Stop(1, 1)])

    assert reports.end(1, 2).outcome == "completed"
    assert [report.attempt for report in reports.of(1) if isinstance(report, AttemptEnded)] == [1, 2]
