"""Machines of a test are separate, are silent when they are cut off, and leave nothing."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest
from machines import Network, all_pids, command_of, why_no_machines

SUPPORT = Path(__file__).parent.parent / "support"
SERVER = "import socket; s = socket.create_server(('', 99)); print('there', flush=True)\nwhile s.accept(): pass"
ASK = "import socket; socket.create_connection(('one', 99), 1.0)"
HOLDER = """
import sys, time
from machines import Network
network = Network()
network.machine("one").start(["sleep", "12345"])
print(network.folder, flush=True)
time.sleep(60)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    if why := why_no_machines():
        pytest.skip(why)
    with Network() as made:
        yield made


def sleepers() -> list[int]:
    return [pid for pid in all_pids() if command_of(pid) == "sleep 12345"]


def wait_until(condition: Callable[[], object]) -> None:
    for _ in range(2000):
        if condition():
            return
        Event().wait(0.01)
    pytest.fail("not within 20 s")


def test_a_machine_that_is_cut_off_is_reached_again_when_the_cable_is_mended(network: Network) -> None:
    one, two = network.machine("one"), network.machine("two")
    output = network.folder / "output"
    server = one.start([sys.executable, "-c", SERVER], output=output)
    wait_until(lambda: b"there" in output.read_bytes())
    two.run([sys.executable, "-c", ASK])

    one.cut()
    with pytest.raises(OSError, match="timed out"):
        two.run([sys.executable, "-c", ASK])
    assert server.is_alive()

    one.plug()
    two.run([sys.executable, "-c", ASK])


def test_a_machine_has_its_own_name_processes_and_files(network: Network) -> None:
    one, two = network.machine("one"), network.machine("two")
    (mine := network.private / "mine").touch()

    assert one.run(["uname", "-n"]).strip() == "one"
    assert socket.gethostname() != "one"
    one.run(["touch", str(network.private / "its")])
    for machine, names in ((one, "its"), (two, "")):
        assert machine.run(["ls", str(network.private)]).strip() == names
    sleeper = one.start(["sleep", "60"])
    assert one.pids() == [sleeper.pid]
    assert two.pids() == []
    assert mine.exists()


def test_all_processes_of_a_machine_end_with_it(network: Network) -> None:
    one = network.machine("one")
    away = one.start([sys.executable, "-c", "import os, time; os.fork() or os.setsid(); time.sleep(60)"])
    wait_until(lambda: len(one.pids()) == 2)
    pids = one.pids()

    one.kill()

    assert not any(map(command_of, pids))
    assert not away.is_alive()
    assert network.machines == []


def test_an_orphan_vanishes_when_it_ends(network: Network) -> None:
    one = network.machine("one")
    one.run(["sh", "-c", "sleep 0.1 & exec true"])
    wait_until(lambda: not one.pids())  # a zombie would remain


@pytest.mark.usefixtures("network")
def test_nothing_is_left_of_a_network_whose_maker_is_killed() -> None:
    maker = subprocess.Popen(
        [sys.executable, "-c", HOLDER], env={**os.environ, "PYTHONPATH": str(SUPPORT)}, stdout=subprocess.PIPE
    )
    assert maker.stdout is not None
    folder = Path(maker.stdout.readline().decode().strip())
    wait_until(sleepers)  # a moment ago it was a copy of the machine's first process
    left = sleepers()

    maker.send_signal(signal.SIGKILL)
    maker.wait()
    maker.stdout.close()

    wait_until(lambda: not set(sleepers()) & set(left))
    shutil.rmtree(folder)
