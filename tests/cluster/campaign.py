"""Cut cables and kill machines of a Ray cluster under load, then check the log and the work itself.

.venv-ray/bin/python tests/cluster/campaign.py --times 20 --seed 7

Needs root: each machine is a set of namespaces of Linux, with a network of its own and a cable to a switch. There are a
head, on whose machine the service runs, and three nodes that share nine workers. Each round gives them 20 tasks, whose
work is a real program that stamps when it lives; some start further programs, in sessions of their own. While eight or
nine run there is one fault. When all tasks have ended, each must have been completed once, no two attempts of one task
may have lived at the same instant, and no process may be left.

Prints one line a round and a summary; a failure names the seed that repeats the choices.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from machines import Machine

    from tasktrail.events import Recorded

SUPPORT = Path(__file__).parent.parent / "support"
if str(SUPPORT) not in sys.path:
    sys.path.insert(0, str(SUPPORT))

from machines import Network, all_pids, command_of, why_no_machines  # noqa: E402 - the path comes first
from ray_machines import RayMachines, ServiceOnMachines  # noqa: E402
from stamps import Life, overlaps, read_stamps  # noqa: E402

from tasktrail.events import Completed, Failed, Progressed, Started  # noqa: E402
from tasktrail.events.system_events import ServiceStarted  # noqa: E402

NODES, CPUS, WORKERS = 3, 5, 9
"""The cluster: two nodes have room for all workers."""
TASKS, RUNNING = 20, 8
"""The tasks of a round, and how many of them must be running when the fault comes."""
RECORDED_WITHIN = 15.0
"""Seconds from a fault to the last failure that it leads to, in the log."""
DIES_WITHIN = 1.0
"""Seconds after its lease within which everything on a node that was cut off must be dead."""
WHOLE_WITHIN, SETTLED_WITHIN = 90.0, 180.0
"""Seconds until all workers are there again, and until all tasks of a round have ended."""
SHORT = (0.1, 0.5)
"""Shares of the lease for which a cut cable does no harm."""
_ROUNDING = 0.002
"""Seconds by which a time in the log may be too early."""
_LOOK_EVERY = 0.02


class Trouble(Exception):
    """The campaign cannot continue."""


class Rig:
    """The cluster, its service, and the findings."""

    def __init__(self, network: Network, lease: float, rng: random.Random) -> None:
        self.lease = lease
        self.rng = rng
        self.network = network
        self.cluster = RayMachines(network, [SUPPORT])
        self.service = ServiceOnMachines(
            self.cluster,
            f"workers = {WORKERS}",
            f"ray_lease = {lease}",
            'sandbox = "off"',
            'handlers = ["stamped_handlers"]',
        )
        with ThreadPoolExecutor(NODES) as threads:
            list(threads.map(lambda _: self.cluster.add_node(CPUS), range(NODES)))
        self.service.start()
        self.until_whole()

    def until_whole(self) -> float:
        """Wait until all workers are there; return the seconds that it took."""
        return until(lambda: self._slots() == WORKERS, WHOLE_WITHIN, self._why_not_whole)

    def _slots(self) -> int:
        return self.service.client.queue(1).resources.slots

    def _why_not_whole(self) -> str:
        return f"{WORKERS} workers, but {self._slots()}: {'; '.join(self.service.client.check_ready())}"

    def until_clean(self) -> float:
        """Wait until there are no more hosts than workers: an abandoned host books what others could have."""
        return until(lambda: self._hosts() == WORKERS, WHOLE_WITHIN, lambda: f"{WORKERS} hosts, but {self._hosts()}")

    def _hosts(self) -> int:
        pids = (pid for machine in self.network.machines for pid in machine.pids())
        return sum(command_of(pid).startswith("ray::Host") for pid in pids)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Stop the service at the end, and check that nothing of it is left on a node."""
        yield
        if not self.service.client.verify().ok:
            raise Trouble("`verify` finds the log unsound")
        self.service.stop()
        until(lambda: not list(self._left()), 10.0, lambda: f"nothing of the service is left, but {[*self._left()]}")
        if tracebacks := self.service.output.read_text(errors="replace").count("Traceback"):
            raise Trouble(f"{tracebacks} tracebacks in what the service said")

    def _left(self) -> Iterator[str]:
        """Return hosts, reapers, workers and their programs."""
        names = ("ray::Host", "reaper.py", "handlers.process.worker", "stamping.py", "cluster.gateway")
        for machine in self.network.machines:
            for pid in machine.pids():
                if any(name in (command := command_of(pid)) for name in names):
                    yield f"{machine.name}: {pid} {command[:120]}"


class Round:
    """One load with one fault in it."""

    def __init__(self, rig: Rig, name: str) -> None:
        self.rig = rig
        self.folder = rig.network.folder / f"stamps-{time.monotonic_ns()}"
        self.folder.mkdir()
        self.figures: dict[str, float] = {}
        """The measurements, in seconds: the worst of this round."""
        self.found: list[str] = []
        """What was wrong."""
        self.name = name
        self.hit: set[str] = set()
        """Machines whose attempts may be lost."""
        self.outcomes: set[str] = set()
        """The allowed failures of an attempt."""
        self.at = 0.0
        """The time of the fault."""
        self.tasks = [self._task() for _ in range(TASKS)]

    def _task(self) -> int:
        rng = self.rig.rng
        options = {
            "folder": str(self.folder),
            "seconds": round(rng.uniform(0.4, 2.4 if self.name == "service-away" else 1.2) * self.rig.lease, 3),
            "shape": rng.choice(["plain", "session", "family"]),
        }
        return self.rig.service.client.create_task(type="stamped", options=options, retry_delay=0)

    def measure(self, name: str, seconds: float) -> None:
        """Note a figure."""
        self.figures[name] = max(self.figures.get(name, 0.0), seconds)

    def check(self, is_right: bool, what: str) -> None:  # noqa: FBT001 - reads as an assertion
        """Note a fault."""
        if not is_right:
            self.found.append(what)

    def alive(self) -> list[Life]:
        """Return processes that have begun and not ended, by their stamps."""
        now = time.monotonic()
        lives = (life for those in read_stamps(self.folder).values() for life in those)
        return [life for life in lives if not life.is_done and now - life.last < 1.0]

    def node_at_work(self) -> Machine:
        """Return a node on which attempts run."""
        names = {life.machine for life in self.alive()}
        return self.rig.rng.choice([node for node in self.rig.cluster.nodes if node.name in names])

    def run(self, fault: Callable[[Round], None]) -> None:
        """Run load and fault, and check the result."""
        until(lambda: self._running() >= RUNNING, 60.0, lambda: f"{RUNNING} tasks run")
        time.sleep(self.rig.rng.uniform(0, self.rig.lease / 2))
        fault(self)
        self.settle()
        self._judge()
        self.check("lost" in self.figures or self.name not in LOSSES, "nothing was lost, so nothing was tried")

    def _running(self) -> int:
        return sum(any(not life.is_done for life in those) for those in read_stamps(self.folder).values())

    def settle(self) -> None:
        """Wait until all tasks have ended."""
        deadline = time.monotonic() + SETTLED_WITHIN
        for task in self.tasks:
            self.rig.service.client.wait(task, timeout=max(1.0, deadline - time.monotonic()))

    def events(self, task: int) -> list[Recorded]:
        """Return the log's events of a task."""
        return list(self.rig.service.client.events(task))

    def _judge(self) -> None:
        left = [pid for pid in all_pids() if str(self.folder) in command_of(pid)]
        self.check(not left, f"processes are left: {left}")
        stamps = read_stamps(self.folder)
        self.found += overlaps(stamps)
        for task in self.tasks:
            self._judge_task(task, stamps.get(task, []))

    def _judge_task(self, task: int, lives: list[Life]) -> None:
        events = self.events(task)
        completed = sum(isinstance(record.event, Completed) for record in events)
        self.check(completed == 1, f"task {task} was completed {completed} times")
        where = {life.attempt: life.machine for life in lives}
        for record in events:
            if isinstance(record.event, Failed | Completed):
                at = monotonic(record)
                last = max((life.last for life in lives if life.attempt == record.attempt), default=0.0)
                self.check(
                    last <= at + _ROUNDING,
                    f"task {task}: attempt {record.attempt} stamped {last - at:.3f} s after its end was recorded",
                )
            if isinstance(record.event, Failed):
                self._judge_failure(record, record.event, where.get(record.attempt, ""))
                if last:
                    self.measure("dead after", last - self.at)
        for life in lives:
            if life.attempt > 1 and life.attempt == max(where):
                self.measure("runs again after", life.start - self.at)
        started = [record.attempt for record in events if isinstance(record.event, Started)]
        self.check(started == [*range(1, len(started) + 1)], f"task {task}: its attempts are {started}")
        self.check(len(started) <= 2, f"task {task} was started {len(started)} times")

    def _judge_failure(self, record: Recorded, event: Failed, machine: str) -> None:
        after = monotonic(record) - self.at
        said = f"task {record.task_id}: attempt {record.attempt} on {machine or 'a node'} failed ({event.outcome})"
        self.measure("recorded after", after)
        self.figures["lost"] = self.figures.get("lost", 0) + 1
        self.check(after > 0, f"{said} before the fault")
        self.check(after <= RECORDED_WITHIN or event.outcome != "lost", f"{said} only {after:.1f} s after the fault")
        self.check(event.outcome in self.outcomes, f"{said}: {event.error}")
        self.check(not machine or machine in self.hit, f"{said}, which was not hit")

    # --- what faults have in common --------------------------------------------------------------------------------

    def strikes(self, *machines: Machine, outcomes: tuple[str, ...] = ()) -> None:
        """Note that the fault comes now, and how attempts there may fail."""
        self.hit = {machine.name for machine in machines}
        self.outcomes = set(outcomes)
        self.at = time.monotonic()

    def replace(self, victim: Machine) -> None:
        """Check that a lost node's workers are made elsewhere; at the end another machine replaces it."""
        self.rig.until_whole()
        self.measure("all workers after", time.monotonic() - self.at)
        self.settle()
        self.rig.cluster.kill_node(victim)
        self.rig.cluster.add_node(CPUS)

    def dies_by_lease(self, of: set[str]) -> None:
        """Check that everything on these machines is dead a second after its lease is over, at the latest."""
        while (now := time.monotonic()) < self.at + self.rig.lease + DIES_WITHIN:
            time.sleep(min(_LOOK_EVERY, self.at + self.rig.lease + DIES_WITHIN - now))
        machines = [machine for machine in self.rig.network.machines if machine.name in of]
        commands = {pid: command_of(pid) for machine in machines for pid in machine.pids()}
        left = [command for command in commands.values() if str(self.folder) in command]
        self.check(not left, f"alive {DIES_WITHIN:g} s after the lease: {left}")


# --- faults -----------------------------------------------------------------------------------------------------------


def node_killed(this: Round) -> None:
    """Kill all processes of a node at once."""
    victim = this.node_at_work()
    this.strikes(victim, outcomes=("lost",))
    victim.kill()
    this.dies_by_lease({victim.name})
    this.replace(victim)


def ray_killed(this: Round) -> None:
    """Kill Ray's processes on a node, and nothing else; start them again later."""
    victim = this.node_at_work()
    this.strikes(victim, outcomes=("lost",))
    this.rig.cluster.kill_ray(victim)
    this.dies_by_lease({victim.name})
    this.rig.cluster.start_node(victim, CPUS)


def cut_for_good(this: Round) -> None:
    """Cut the cable of a node for good."""
    victim = this.node_at_work()
    this.strikes(victim, outcomes=("lost",))
    victim.cut()
    this.dies_by_lease({victim.name})
    this.replace(victim)


def cut_long(this: Round) -> None:
    """Cut the cable of a node for longer than the lease, then repair it."""
    victim = this.node_at_work()
    this.strikes(victim, outcomes=("lost", "interrupted"))  # a host heard at the last moment reports it by itself
    victim.cut()
    this.dies_by_lease({victim.name})
    time.sleep(this.rig.rng.uniform(0, this.rig.lease))
    victim.plug()


def cut_short(this: Round) -> None:
    """Cut the cable of a node for less than half of the lease. Nothing may be lost."""
    victim = this.node_at_work()
    before = {life[:2] for life in this.alive() if life.machine == victim.name}
    this.strikes()
    victim.cut()
    time.sleep(this.rig.rng.uniform(*SHORT) * this.rig.lease)
    victim.plug()
    plugged = time.monotonic()
    this.settle()
    lives = {(task, life.attempt) for task, those in read_stamps(this.folder).items() for life in those
             if life[:2] in before and life.machine == victim.name and life.last > plugged}  # fmt: skip
    for task, attempt in lives:
        heard = [monotonic(one) for one in this.events(task) if isinstance(one.event, Progressed | Completed)]
        this.measure("heard again after", min((at - plugged for at in heard if at > plugged), default=0.0))
        this.check(attempt == 1, f"task {task} was started again")


def service_killed(this: Round) -> None:
    """Kill the service and start it again, within the lease. Everything continues, with the same processes."""
    this.strikes()
    this.rig.service.kill()
    this.rig.service.start()
    this.rig.until_whole()
    whole = time.monotonic()
    this.measure("found again after", whole - this.at)
    last = max(monotonic(one) for one in this.rig.service.client.log() if isinstance(one.event, ServiceStarted))
    this.measure("of that once it runs", whole - last)


def service_away(this: Round) -> None:
    """Kill the service, and start it again when all leases are over."""
    alive = {(life.attempt, life.pid, life.machine) for life in this.alive()}
    this.strikes(*this.rig.cluster.nodes, outcomes=("interrupted",))
    this.rig.service.kill()
    this.dies_by_lease({node.name for node in this.rig.cluster.nodes})
    this.check(bool(alive), "nothing ran")
    time.sleep(this.rig.rng.uniform(0, this.rig.lease / 2))
    this.rig.service.start()


def gateway_killed(this: Round) -> None:
    """Kill the process that holds Ray's client. Nothing may be lost."""
    service, gateway = this.rig.service.process.pid, this.rig.service.gateway()
    if gateway is None:
        raise Trouble("there is no gateway")
    this.strikes()
    os.kill(gateway, signal.SIGKILL)
    until(lambda: this.rig.service.gateway() not in (None, gateway), 30.0, lambda: "there is another gateway")
    this.rig.until_whole()
    this.measure("found again after", time.monotonic() - this.at)
    this.check(this.rig.service.process.pid == service and this.rig.service.process.is_alive(), "the service is gone")


def head_killed(this: Round) -> None:
    """Kill Ray's head, and start it again without its state; the nodes have to join anew."""
    this.strikes(*this.rig.cluster.nodes, outcomes=("lost",))
    this.rig.cluster.kill_ray(this.rig.cluster.head)
    time.sleep(this.rig.rng.uniform(0, 2 * this.rig.lease))
    this.rig.cluster.start_head()
    for node in this.rig.cluster.nodes:
        this.rig.cluster.kill_ray(node)
    with ThreadPoolExecutor(NODES) as threads:
        list(threads.map(lambda node: this.rig.cluster.start_node(node, CPUS), this.rig.cluster.nodes))
    this.check(this.rig.service.process.is_alive(), "the service is gone")


FAULTS: dict[str, Callable[[Round], None]] = {
    "node-killed": node_killed,
    "ray-killed": ray_killed,
    "cut-for-good": cut_for_good,
    "cut-long": cut_long,
    "cut-short": cut_short,
    "service-killed": service_killed,
    "service-away": service_away,
    "gateway-killed": gateway_killed,
    "head-killed": head_killed,
}


LOSSES = {"node-killed", "ray-killed", "cut-for-good", "cut-long", "service-away"}
"""The faults that must cost an attempt."""


# --- all of it --------------------------------------------------------------------------------------------------------


def until(condition: Callable[[], Any], within: float, what: Callable[[], str]) -> float:
    """Wait for a condition; return the seconds that it took. Raises Trouble."""
    begun = time.monotonic()
    while not condition():
        if time.monotonic() - begun > within:
            raise Trouble(f"not within {within:g} s: {what()}")
        time.sleep(_LOOK_EVERY)
    return time.monotonic() - begun


def monotonic(record: Recorded) -> float:
    """Return when it was recorded, by the clock of the stamps."""
    return record.recorded_at.timestamp() - time.time() + time.monotonic()


def run(faults: list[str], times: int, *, lease: float, seed: int, say: Callable[[str], None] = print) -> list[str]:
    """Run a whole campaign; return what was wrong."""
    rng = random.Random(seed)
    rounds = faults * times
    rng.shuffle(rounds)
    found: list[str] = []
    worst = defaultdict[str, dict[str, list[float]]](lambda: defaultdict(list))
    with Network() as network:
        rig = Rig(network, lease, rng)
        try:
            with rig.closing():
                for number, name in enumerate(rounds, start=1):
                    this = Round(rig, name)
                    this.run(FAULTS[name])
                    this.measure("whole again after", rig.until_whole() + rig.until_clean())
                    say(_line(number, this))
                    found += [f"round {number}, {name}: {what}" for what in this.found]
                    for figure, value in this.figures.items():
                        worst[name][figure].append(value)
        except Trouble as error:
            found.append(str(error))
        except Exception as error:
            found.append(f"{type(error).__name__}: {error}")
            raise
        finally:
            if found:
                kept = network.folder.with_name(f"{network.folder.name}-service")
                kept.write_bytes(rig.service.output.read_bytes())
                say(f"seed {seed}; what the service said is in {kept}")
    for name, figures in worst.items():
        say(f"{name}: {len(figures['whole again after'])} rounds; " + "; ".join(_summary(figures)))
    return found


def _line(number: int, this: Round) -> str:
    figures = ", ".join(f"{name} {value:.2f}" for name, value in this.figures.items())
    return f"{number:3} {this.name}: {figures or 'nothing was lost'}; {len(this.found)} findings"


def _summary(figures: dict[str, list[float]]) -> Iterator[str]:
    for name, values in figures.items():
        yield f"{name} {min(values):.2f} to {max(values):.2f}"


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the folders go, too
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="rounds of each fault")
    parser.add_argument("--lease", type=float, default=10.0, help="`ray_lease`, in seconds")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--only", nargs="+", choices=list(FAULTS), default=list(FAULTS), help="these faults")
    options = parser.parse_args()
    if why := why_no_machines():
        sys.exit(why)
    print(json.dumps(vars(options)), flush=True)
    found = run(
        options.only, options.times, lease=options.lease, seed=options.seed, say=lambda line: print(line, flush=True)
    )
    print(f"{len(options.only) * options.times} rounds, {len(found)} findings")
    print(*found[:50], sep="\n")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
