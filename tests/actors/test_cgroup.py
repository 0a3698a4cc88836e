"""Control groups as files: fake trees of both versions, nested, partly visible, and odd."""

from pathlib import Path

import pytest

from tasktrail.actors.machine import ControlGroups, MemoryRoom, find_groups

MIB = 1024 * 1024


class Tree:
    """A fake /proc/self and a fake mount of control groups."""

    def __init__(self, root: Path) -> None:
        self.proc = root / "proc"
        self.mount = root / "cgroup"
        (self.proc / "self").mkdir(parents=True)
        self.mount.mkdir()
        self._mountinfo: list[str] = ["22 1 0:1 / /proc rw - proc proc rw"]
        self._memberships: list[str] = []

    def version_2(self, path: str, *, root: str = "/") -> None:
        self._mountinfo.append(f"30 22 0:29 {root} {self.mount} rw,nosuid - cgroup2 cgroup2 rw")
        self._memberships.append(f"0::{path}")

    def version_1(self, controllers: str, path: str, *, root: str = "/") -> None:
        self._mountinfo.append(f"30 22 0:29 {root} {self.mount / controllers} rw - cgroup cgroup rw,{controllers}")
        self._memberships.append(f"4:{controllers}:{path}")
        (self.mount / controllers).mkdir(exist_ok=True)

    def write(self, folder: str, **files: str | int) -> None:
        where = self.mount / folder
        where.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (where / name.replace("__", ".")).write_text(f"{text}\n")

    def groups(self) -> ControlGroups:
        (self.proc / "self" / "mountinfo").write_text("\n".join(self._mountinfo) + "\n")
        (self.proc / "self" / "cgroup").write_text("\n".join(self._memberships) + "\n")
        return find_groups(self.proc)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_version_2_gives_limit_and_what_is_left_without_droppable_cache(tree: Tree) -> None:
    tree.version_2("/")
    tree.write(
        "", memory__max=512 * MIB, memory__current=300 * MIB, memory__stat=f"anon 1\ninactive_file {100 * MIB}\nfile 2"
    )
    assert tree.groups().memory_room() == MemoryRoom(512 * MIB, 312 * MIB)


def test_either_version_counts_the_processes_that_were_killed_for_memory(tmp_path: Path) -> None:
    first, second = Tree(tmp_path / "1"), Tree(tmp_path / "2")
    first.version_1("memory", "/box")
    first.write("memory/box", memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 2")
    second.version_2("/box")
    second.write("box", memory__events="low 0\noom 9\noom_kill 3\noom_group_kill 0")

    assert (first.groups().killed(), second.groups().killed(), ControlGroups().killed()) == (2, 3, None)


def test_a_group_may_not_count_the_processes_that_were_killed_for_memory(tree: Tree) -> None:
    """The group above all others does not, nor do old kernels."""
    tree.version_2("/")
    assert tree.groups().killed() is None


def test_the_groups_of_another_process_are_found_by_its_number(tree: Tree) -> None:
    tree.version_2("/ours")
    tree.groups()
    other = tree.proc / "77"
    other.mkdir()
    (other / "mountinfo").write_text((tree.proc / "self" / "mountinfo").read_text())
    (other / "cgroup").write_text("0::/service\n")
    tree.write("service", memory__max=MIB, memory__current=0)

    assert find_groups(tree.proc, 77).memory_room() == MemoryRoom(MIB, MIB)
    assert find_groups(tree.proc).memory_room() is None


def test_the_tightest_limit_of_all_parents_binds(tree: Tree) -> None:
    tree.version_2("/pod/box")
    tree.write("pod/box", memory__max=900 * MIB, memory__current=10 * MIB, cpu__max="max 100000")
    tree.write("pod", memory__max=600 * MIB, memory__current=550 * MIB, cpu__max="150000 100000")
    assert tree.groups().memory_room() == MemoryRoom(600 * MIB, 50 * MIB)
    assert tree.groups().cpu_quota() == 1.5


def test_max_means_no_limit(tree: Tree) -> None:
    tree.version_2("/")
    tree.write("", memory__max="max", memory__current=5, cpu__max="max 100000")
    groups = tree.groups()
    assert (groups.memory_room(), groups.cpu_quota()) == (None, None)


def test_version_1_gives_the_same_from_its_own_files(tree: Tree) -> None:
    for controller in ("memory", "cpu", "cpuacct"):
        tree.version_1(controller, "/box")
    tree.write(
        "memory/box",
        memory__limit_in_bytes=256 * MIB,
        memory__usage_in_bytes=200 * MIB,
        memory__stat=f"total_inactive_file {20 * MIB}",
    )
    tree.write("memory", memory__limit_in_bytes=9223372036854771712, memory__usage_in_bytes=1)
    tree.write("cpu/box", cpu__cfs_quota_us=50000, cpu__cfs_period_us=100000)
    tree.write("cpuacct/box", cpuacct__usage=2_500_000_000)
    groups = tree.groups()
    assert groups.memory_room() == MemoryRoom(256 * MIB, 76 * MIB)
    assert groups.cpu_quota() == 0.5
    assert groups.cpu_seconds() == 2.5


def test_controllers_mounted_together_are_both_found(tree: Tree) -> None:
    tree.version_1("cpu,cpuacct", "/")
    tree.write("cpu,cpuacct", cpu__cfs_quota_us=-1, cpu__cfs_period_us=100000, cpuacct__usage=1_000_000_000)
    groups = tree.groups()
    assert (groups.cpu_quota(), groups.cpu_seconds()) == (None, 1.0)


def test_a_controller_of_version_1_wins_where_both_versions_are_mounted(tree: Tree) -> None:
    tree.version_1("memory", "/")
    tree.version_2("/")
    tree.write("memory", memory__limit_in_bytes=64 * MIB, memory__usage_in_bytes=0)
    tree.write("", memory__max=99 * MIB, cpu__stat="usage_usec 3000000")
    groups = tree.groups()
    assert groups.memory_room() == MemoryRoom(64 * MIB, 64 * MIB)
    assert groups.cpu_seconds() == 3.0


def test_a_mount_that_shows_only_the_containers_part_is_understood(tree: Tree) -> None:
    tree.version_1("memory", "/docker/abc/inner", root="/docker/abc")
    tree.write("memory/inner", memory__limit_in_bytes=MIB, memory__usage_in_bytes=0)
    assert tree.groups().memory_room() == MemoryRoom(MIB, MIB)


@pytest.mark.parametrize("path", ["/docker/elsewhere", "/../other", "/docker/abc/gone"])
def test_a_path_outside_of_what_is_shown_falls_back_to_the_mount(tree: Tree, path: str) -> None:
    tree.version_2(path, root="/docker/abc")
    tree.write("", memory__max=MIB, memory__current=0)
    assert tree.groups().memory_room() == MemoryRoom(MIB, MIB)


def test_more_used_than_allowed_leaves_nothing(tree: Tree) -> None:
    tree.version_2("/")
    tree.write("", memory__max=MIB, memory__current=2 * MIB)
    assert tree.groups().memory_room() == MemoryRoom(MIB, 0)


@pytest.mark.parametrize("text", ["", "none", "0 100000", "100000", "100000 0"])
def test_a_quota_that_makes_no_sense_is_no_quota(tree: Tree, text: str) -> None:
    tree.version_2("/")
    tree.write("", cpu__max=text)
    assert tree.groups().cpu_quota() is None


def test_without_control_groups_there_are_no_limits(tmp_path: Path) -> None:
    groups = find_groups(tmp_path / "proc")
    assert (groups.memory_room(), groups.cpu_quota(), groups.cpu_seconds()) == (None, None, None)


def test_this_very_machine_can_be_read() -> None:
    room, quota = find_groups().memory_room(), find_groups().cpu_quota()
    assert room is None or 0 <= room.left <= room.limit
    assert quota is None or quota > 0
