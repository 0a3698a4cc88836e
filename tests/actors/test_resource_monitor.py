"""Samples of a fake machine, and the actor that reports them."""

import queue
from pathlib import Path

import psutil
import pytest

from tasktrail.actors.core.messages import Sampled
from tasktrail.actors.core.resources import MachineSample
from tasktrail.actors.machine import ControlGroup, ControlGroups, Machine, nearest_existing
from tasktrail.actors.messages import PING, PONG
from tasktrail.actors.resource_monitor import SAMPLE_NOW, ResourceMonitor

KIB = 1024
MEMINFO = "MemTotal: 8000 kB\nMemFree: 1000 kB\nMemAvailable: 5000 kB\nBuffers: 10 kB\nCached: 20 kB\n"
MEMINFO += "Shmem: 1 kB\nActive: 1 kB\nInactive: 1 kB\nSReclaimable: 1 kB\nSlab: 1 kB\n"


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a fake /proc that psutil reads."""
    folder = tmp_path / "proc"
    folder.mkdir()
    (folder / "meminfo").write_text(MEMINFO)
    set_cpu(folder, busy=0, idle=0)
    monkeypatch.setattr(psutil, "PROCFS_PATH", str(folder))
    psutil.cpu_percent(interval=None)
    return folder


def set_cpu(proc: Path, *, busy: int, idle: int) -> None:
    line = f"cpu {busy} 0 0 {idle} 0 0 0 0 0 0"
    (proc / "stat").write_text(f"{line}\n{line.replace('cpu', 'cpu0')}\n")


def container(folder: Path, **files: str | int) -> ControlGroups:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(str(text))
    group = ControlGroup(2, (folder,))
    return ControlGroups(memory=group, cpu=group, cpu_usage=group)


def test_without_a_container_the_machines_own_numbers_are_told(proc: Path, tmp_path: Path) -> None:
    machine = Machine(tmp_path, groups=ControlGroups())
    set_cpu(proc, busy=300, idle=100)
    sample = machine.sample()
    assert (sample.memory_total, sample.memory_available) == (8000 * KIB, 5000 * KIB)
    assert sample.cpu_percent == 75.0
    assert sample.temp_free > 0


def test_a_container_with_less_memory_has_the_last_word(proc: Path, tmp_path: Path) -> None:
    assert proc.is_dir()
    groups = container(tmp_path / "box", memory__max=3000 * KIB, memory__current=1000 * KIB)
    sample = Machine(tmp_path, groups=groups).sample()
    assert (sample.memory_total, sample.memory_available) == (3000 * KIB, 2000 * KIB)


def test_a_container_with_room_does_not_hide_that_the_machine_is_full(proc: Path, tmp_path: Path) -> None:
    (proc / "meminfo").write_text(MEMINFO.replace("5000", "100"))
    groups = container(tmp_path / "box", memory__max=3000 * KIB, memory__current=1000 * KIB)
    assert Machine(tmp_path, groups=groups).sample().memory_available == 100 * KIB


def test_cpu_use_is_measured_against_the_containers_quota(proc: Path, tmp_path: Path) -> None:
    """Half a CPU is allowed and 0.4 of one was used: the machine is nearly idle, the container nearly at its limit."""
    set_cpu(proc, busy=10, idle=90)
    groups = container(tmp_path / "box", cpu__max="50000 100000", cpu__stat="usage_usec 1000000")
    moments = iter([10.0, 20.0])
    machine = Machine(tmp_path, groups=groups, monotonic=lambda: next(moments))
    assert machine.sample().cpu_percent == 10.0
    set_cpu(proc, busy=20, idle=180)
    container(tmp_path / "box", cpu__stat="usage_usec 5000000")
    assert machine.sample().cpu_percent == pytest.approx(80.0)


def test_cpu_use_never_exceeds_a_hundred_percent(proc: Path, tmp_path: Path) -> None:
    assert proc.is_dir()
    groups = container(tmp_path / "box", cpu__max="50000 100000", cpu__stat="usage_usec 0")
    moments = iter([10.0, 11.0])
    machine = Machine(tmp_path, groups=groups, monotonic=lambda: next(moments))
    machine.sample()
    container(tmp_path / "box", cpu__stat="usage_usec 9000000")
    assert machine.sample().cpu_percent == 100.0


def test_limits_say_whether_the_container_sets_them(proc: Path, tmp_path: Path) -> None:
    assert proc.is_dir()
    free = Machine(tmp_path, groups=ControlGroups()).limits()
    assert (free.memory, free.memory_is_limited, free.cpu_is_limited) == (8000 * KIB, False, False)
    bound = Machine(tmp_path, groups=container(tmp_path / "box", memory__max=4096, cpu__max="10000 100000")).limits()
    assert (bound.memory, bound.memory_is_limited) == (4096, True)
    assert (bound.cpus, bound.cpu_is_limited) == (0.1, True)


def test_a_temp_folder_that_is_not_there_yet_is_measured_at_its_parent(tmp_path: Path) -> None:
    assert nearest_existing(tmp_path / "a" / "b") == tmp_path
    assert Machine(tmp_path / "a" / "b").sample().temp_free > 0


@pytest.fixture
def samples() -> queue.Queue[Sampled]:
    return queue.Queue()


def test_the_monitor_samples_at_once_and_by_its_beat(tmp_path: Path, samples: queue.Queue[Sampled]) -> None:
    monitor = ResourceMonitor.start(
        machine=Machine(tmp_path), report=samples.put, is_busy=lambda: True, period=0.01, idle_period=3600.0
    )
    try:
        for _ in range(3):
            assert samples.get(timeout=10).sample.memory_total > 0
    finally:
        monitor.stop()


def test_somebody_in_a_hurry_gets_a_sample_between_beats(tmp_path: Path, samples: queue.Queue[Sampled]) -> None:
    monitor = ResourceMonitor.start(
        machine=Machine(tmp_path), report=samples.put, is_busy=lambda: False, idle_period=3600.0
    )
    try:
        samples.get(timeout=10)
        monitor.tell(SAMPLE_NOW)
        samples.get(timeout=10)
        assert monitor.ask(PING, timeout=10) == PONG
        assert samples.empty()
    finally:
        monitor.stop()


def test_what_attempts_use_is_measured_before_the_machine(tmp_path: Path, samples: queue.Queue[Sampled]) -> None:
    """Otherwise what an attempt takes in between would seem to be in use, and be among what is free, too."""
    order: list[str] = []

    class Watched(Machine):
        def sample(self) -> MachineSample:
            order.append("machine")
            return super().sample()

    def temp() -> dict[int, int]:
        order.append("temp")
        return {1: 7}

    def memory() -> dict[tuple[int, int], int] | None:
        order.append("memory")
        return {(1, 2): 9}

    monitor = ResourceMonitor.start(
        machine=Watched(tmp_path),
        report=samples.put,
        is_busy=lambda: False,
        idle_period=3600.0,
        temp_used=temp,
        memory_used=memory,
    )
    try:
        told = samples.get(timeout=10)
    finally:
        monitor.stop()
    assert (told.temp_used, told.memory_used) == ({1: 7}, {(1, 2): 9})
    assert order[-1] == "machine"


def test_the_beat_slows_down_while_nothing_runs(tmp_path: Path) -> None:
    busy = [True]
    monitor = ResourceMonitor(machine=Machine(tmp_path), report=lambda _: None, is_busy=lambda: busy[0])
    assert monitor.pause() == 1.0
    busy[0] = False
    assert monitor.pause() == 5.0


def test_an_attempt_that_records_nothing_is_watched_closely(tmp_path: Path) -> None:
    """What it frees at its end was noticed up to five seconds later, while others waited for it."""
    temp_used = {1: 0}
    monitor = ResourceMonitor(
        machine=Machine(tmp_path), report=lambda _: None, is_busy=lambda: False, temp_used=lambda: temp_used
    )
    monitor.receive(SAMPLE_NOW)
    assert monitor.pause() == 1.0
    temp_used.clear()
    monitor.receive(SAMPLE_NOW)
    assert monitor.pause() == 5.0


def test_a_sample_that_fails_does_not_end_the_monitor(tmp_path: Path, samples: queue.Queue[Sampled]) -> None:
    class Broken(Machine):
        fails = 1

        def sample(self) -> MachineSample:
            if self.fails:
                self.fails -= 1
                raise OSError("cannot be read")
            return super().sample()

    monitor = ResourceMonitor.start(machine=Broken(tmp_path), report=samples.put, is_busy=lambda: True, period=0.01)
    try:
        assert samples.get(timeout=10).sample.memory_total > 0
    finally:
        monitor.stop()
