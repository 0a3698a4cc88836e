"""From one machine to a cluster, rehearsed on this one: a film over three nodes, a node lost, the service lost.

Machines are namespaces of Linux, which needs root: each has a network, processes and temp files of its own, joined by
cables. There are a database, Ray's head, two that may run the service, a reader, and three nodes. First one machine
converts the film alone. Then three nodes share it; one of them is killed at work, and after it the machine of the
service. Each claim is checked, and printed with the finding; the exit code is 1 if one does not hold. `make
cluster-demo` runs it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from psycopg import OperationalError
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from machines import Machine, Process

    from tasktrail.api.spreading import SpreadFilm
    from tasktrail.events import Task

SUPPORT = Path(__file__).parent.parent / "support"
if str(SUPPORT) not in sys.path:
    sys.path.insert(0, str(SUPPORT))

from database_servers import DatabaseServer  # noqa: E402 - the path comes first
from machines import Network, all_pids, command_of, why_no_machines  # noqa: E402
from ray_machines import RayMachines  # noqa: E402

from tasktrail import Client, TasktrailError  # noqa: E402
from tasktrail.demo.samples import BUNNY, decode_video, fetch, repeat  # noqa: E402
from tasktrail.events import Checkpointed, Completed, Started  # noqa: E402
from tasktrail.events.system_events import ServiceStarted  # noqa: E402

NODES, CPUS = 3, 2
"""The nodes, and what each can book: with one node less there is still room for all workers."""
OPTIONS: dict[str, Any] = {"height": 360, "segment_seconds": 2}
_PORT = 8731
_STARTS_WITHIN, _DONE_WITHIN = 120.0, 300.0
_LOOK_EVERY = 0.1
_OURS = ("ray::Host", "reaper.py", "handlers.process.worker", "cluster.gateway", "-m tasktrail")
_ASK = """
import sys, urllib.request
asked = urllib.request.Request(sys.argv[1], headers={"Authorization": "Bearer " + sys.argv[2]})
print(urllib.request.urlopen(asked, timeout=20).read().decode())
"""


class Trouble(Exception):
    """The rehearsal cannot continue."""


class Database(DatabaseServer):
    """PostgreSQL from its wheel, on a machine of the network."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.name, machine.enter)
        self._machine = machine

    def ask(self, statement: str) -> Any:
        """Return the first value of the answer, asked on its machine: this process is not on that network."""
        program = (
            "import psycopg, sys; conn = psycopg.connect(sys.argv[1], autocommit=True); "
            "cursor = conn.execute(sys.argv[2]); print(cursor.fetchone()[0])"
        )
        where = f"host={self.host} port={self.port} user=postgres dbname=postgres connect_timeout=5"
        try:
            return self._machine.run([sys.executable, "-c", program, where, statement]).strip()
        except OSError as error:
            raise OperationalError(str(error)) from error


class Service:
    """`tasktrail serve` on a machine, with a data folder of its own."""

    def __init__(self, cluster: RayMachines, machine: Machine, data: Path, *settings: str) -> None:
        self._cluster = cluster
        self.machine, self.data = machine, data
        self.output = data.with_name(f"{data.name}.said")
        data.mkdir()
        (data / "tasktrail.toml").write_text("\n".join(settings) + "\n")
        self._process: Process | None = None

    def start(self, until: str, *arguments: str) -> None:
        """Start it; return when it has printed this."""
        self._process = self.machine.start(
            [sys.executable, "-m", "tasktrail", "--data", str(self.data), "serve", "--port", str(_PORT), *arguments],
            environment=self._cluster.environment,
            output=self.output,
        )
        self.until(until)

    def until(self, said: str) -> None:
        """Wait until it has printed this."""
        process = self._process
        assert process is not None
        wait_until(
            lambda: said in self.output.read_text() or not process.is_alive(),
            lambda: f"{self.machine.name} did not say {said!r}:\n{self.output.read_text()[-2000:]}",
        )
        if said not in self.output.read_text():
            raise Trouble(f"{self.machine.name} has ended:\n{self.output.read_text()[-2000:]}")

    def stop(self) -> None:
        """Stop it normally."""
        if self._process is not None and self._process.is_alive():
            self._process.send(signal.SIGTERM)
            self._process.wait(60.0)

    def command(self, *words: str) -> str:
        """Return the output of a `tasktrail` command there."""
        return self.machine.run(
            [sys.executable, "-m", "tasktrail", "--data", str(self.data), *words],
            environment={**self._cluster.environment, "COLUMNS": "120"},
        )

    def ask(self, path: str) -> Any:
        """Return its port's answer on its own machine."""
        secret = (self.data / "http-token").read_text().strip()
        return json.loads(self.machine.run([sys.executable, "-c", _ASK, f"http://127.0.0.1:{_PORT}{path}", secret]))


class Film(NamedTuple):
    """The film, and the result of one machine."""

    source: Path
    alone: Path
    digest: str


class Rig(NamedTuple):
    """The machines."""

    cluster: RayMachines
    first: Service
    second: Service
    """The standby."""
    reader: Service


class Rehearsal:
    """One run, in a folder of its own."""

    def __init__(self, work: Path, console: Console, repeats: int) -> None:
        self._console = console
        self._repeats = repeats
        self._samples = work / "samples"
        self.folder = Path(tempfile.mkdtemp(prefix="cluster-", dir=work))
        self._wrong = 0
        self._where: dict[tuple[int, int], str] = {}
        """Task and attempt → the node on which it was seen at work."""
        self._begun = time.monotonic()
        self._killed = 0.0
        """When the service was lost."""

    def run(self, *, keep: bool) -> int:
        """Run everything; return how many claims did not hold."""
        film = self._one_machine()
        with ExitStack() as stack:
            network = stack.enter_context(Network())
            self._step("A cluster", "eight machines: PostgreSQL, Ray's head, service-1 and -2, reader, node-1 to -3")
            rig = self._machines(network, stack)
            self._rehearse(film, rig)
            if keep:
                self._keep(rig)
            self._step("The end", "the service is stopped in good order, then all machines are switched off")
            rig.second.stop()
            rig.reader.stop()
            left = [f"{one.name}: {text}" for one in network.machines for text in ours_on(one)]
            self._claim(not left, "nothing of tasktrail runs on any machine", "; ".join(left) or "no process")
            pids = {pid: command_of(pid) for machine in network.machines for pid in machine.pids()}
            folders = str(network.folder), str(self.folder)
        alive = [f"{pid} {said}" for pid, said in pids.items() if said and command_of(pid) == said]
        alive += [f"{pid} {said}" for pid in all_pids() if any(one in (said := command_of(pid)) for one in folders)]
        self._claim(not alive, "no process is left", "; ".join(alive) or f"all {len(pids)} are gone")
        return self._wrong

    # --- the steps ------------------------------------------------------------------------------------------------

    def _one_machine(self) -> Film:
        self._step("One machine", "a film, converted by one task, with its log in a file: what all has to be equal to")
        film, made = self.folder / "film.mp4", self.folder / "alone.mp4"
        repeat(fetch([BUNNY], self._samples)[BUNNY], film, self._repeats)
        source = decode_video(film)
        self._tell(f"{film.name}: {source.frames} frames, {source.duration:.0f} s, {source.width}x{source.height}")
        options = [word for name, value in OPTIONS.items() for word in ("-o", f"{name}={value}")]
        command = [sys.executable, "-m", "tasktrail", "--data", str(self.folder / "alone")]
        command += ["run", "video_convert", str(film), str(made), *options]
        begun = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_DONE_WITHIN)
        if done.returncode:
            raise Trouble(f"{' '.join(command)}: {done.stdout}{done.stderr}")
        digest = digest_of(made)
        self._tell(f"took {time.monotonic() - begun:.0f} s; sha256 {digest[:16]}…")
        return Film(film, made, digest)

    def _machines(self, network: Network, stack: ExitStack) -> Rig:
        with self._waiting("PostgreSQL, from its wheel"):
            database = stack.enter_context(closing(Database(network.machine("database"))))
            database.make()
            database.start()
        cluster = RayMachines(network)
        ones = [network.machine(name) for name in ("service-1", "service-2")]
        with self._waiting("Ray: head and nodes"), ThreadPoolExecutor(len(ones) + NODES) as threads:
            # The service must be on a node, too. It gives no CPUs, so that no attempt comes there.
            joining: list[Future[Any]] = [threads.submit(cluster.start_node, one, 0) for one in ones]
            joining += [threads.submit(cluster.add_node, CPUS) for _ in range(NODES)]
            try:
                for one_joins in joining:
                    one_joins.result()
            except BaseException:
                while network.machines:  # so that the threads need not be waited for
                    network.machines[-1].kill()
                raise
        shared = network.folder / "tmp"
        log = f'log = "postgresql://postgres@{database.at}/postgres"'
        same = (
            log,
            'executor = "ray"',
            f'ray_address = "{cluster.address}"',
            f"workers = {NODES}",
            f'temp_dir = "{shared}"',
        )
        first, second = (Service(cluster, one, network.folder / one.name, *same) for one in ones)
        reader = Service(cluster, network.machine("reader"), network.folder / "reader", log)
        with self._waiting("service, standby and reader"):
            first.start("ready")
            second.start("standby: waits", "--standby")
            reader.start("ready", "--read-only")
            with Client.connect(first.data) as tasks:
                wait_until(
                    lambda: tasks.queue(1).resources.slots == NODES,
                    lambda: f"{NODES} workers are there: {tasks.check_ready()}",
                )
        return Rig(cluster, first, second, reader)

    def _rehearse(self, film: Film, rig: Rig) -> None:
        out = self.folder / "spread.mp4"
        begun = time.monotonic()
        with Client.connect(rig.first.data) as tasks:
            self._step("Spread", f"the same film over {NODES} nodes: tasktrail run video_convert … --spread {NODES}")
            wanted = {"input_file": film.source, "output_file": out, "options": OPTIONS, "retry_delay": 0.0}
            made = tasks.spread_film(wanted, NODES)
            self._watch(tasks, made, rig, lambda: all(has_made(tasks, part) for part in made.parts))
            nodes = [self._where.get((part, 1), "") for part in made.parts]
            all_nodes = sorted(node.name for node in rig.cluster.nodes)
            self._claim(sorted(nodes) == all_nodes, "each node makes a part", ", ".join(nodes))
            before = self._lose_node(tasks, made, rig, nodes[1])
        self._lose_service(made, rig, before)
        with Client.connect(rig.second.data) as tasks:
            new = tasks.create_task("video_thumbnail", film.source, self.folder / "thumbnail.jpg")
            self._watch(tasks, made, rig, lambda: all(tasks.get_task(one).completed_at for one in (made.task_id, new)))
            waited = started_at(tasks, new, 1) - self._killed
            self._tell(
                f"a new task started {waited:.1f} s after it: a standby starts nothing within `ray_lease` and 4 s,"
            )
            self._tell("since it lacks the old service's list of workers. What ran went on all the time")
            self._prove(tasks, made, new, before)
            digest = digest_of(out) if out.exists() else "no file"
            self._claim(digest == film.digest, f"the film has the bytes of {film.alone.name}", f"sha256 {digest[:16]}…")
            self._console.out(rig.second.command("history", str(made.parts[1])).rstrip(), highlight=False)
            said = tasks.verify()
            self._claim(said.ok, "verify: the chain, the rules and the views", f"{said.records} records")
            took = time.monotonic() - begun
            self._tell(f"from the first command to the proof, with both losses: {took:.0f} s")

    def _lose_node(self, tasks: Client, made: SpreadFilm, rig: Rig, victim: str) -> dict[int, int]:
        """Return the parts' attempts afterwards."""
        hit = made.parts[1]
        self._step("A node is lost", f"{victim}, with part 2 at work: all of its processes at once, as a power cut")
        node = next((one for one in rig.cluster.nodes if one.name == victim), None)
        if node is None:
            raise Trouble("nobody was seen at work on part 2")
        rig.cluster.kill_node(node)
        lost = time.time()
        self._watch(tasks, made, rig, lambda: has_made(tasks, hit, attempt=2))
        after, where = started_at(tasks, hit, 2) - lost, self._where.get((hit, 2), "")
        self._claim(
            where not in ("", victim), "its part goes on elsewhere", f"on {where}, after {after:.1f} s: its lease"
        )
        return {part: tasks.get_task(part).attempt for part in made.parts}

    def _lose_service(self, made: SpreadFilm, rig: Rig, before: dict[int, int]) -> None:
        hit = made.parts[1]
        with Client.connect(rig.first.data) as tasks:
            position = tasks.events(hit)[-1].position
            at_work = [number for number, part in enumerate(made.parts, 1) if tasks.get_task(part).status == "running"]
        parts = " and ".join(map(str, at_work))
        self._step("The service is lost", f"all of {rig.first.machine.name} at once; the nodes work on")
        self._claim(bool(at_work), "an attempt is at work at this moment", f"part {parts}")
        rig.first.machine.kill()
        self._killed = time.time()
        seen: list[dict[str, Any]] = []
        while "ready " not in rig.second.output.read_text():
            with suppress(OSError):  # counts as no answer
                seen.append(rig.reader.ask(f"/v1/tasks/{hit}?min_position={position}"))
            if time.time() - self._killed > _STARTS_WITHIN:
                raise Trouble(f"nobody took over:\n{rig.second.output.read_text()[-2000:]}")
        ready = time.time() - self._killed
        with Client.connect(rig.second.data) as tasks:
            starts = [one for one in tasks.log() if isinstance(one.event, ServiceStarted)]
        taken = starts[-1].recorded_at.timestamp() - self._killed
        found = f"its first record after {taken:.1f} s, commands taken after {ready:.1f} s"
        self._claim(len(starts) == 2, "the standby took over", found)
        right = bool(seen) and all((one["id"], one["attempt"]) == (hit, before[hit]) for one in seen)
        self._claim(
            right, "a reader answered meanwhile", f"{len(seen)} times about part 2, with min_position={position}"
        )
        position = starts[-1].position
        now = rig.reader.ask(f"/v1/tasks/{hit}?min_position={position}")
        self._claim(now["id"] == hit, "it has what the standby wrote since", f"asked with min_position={position}")

    def _prove(self, tasks: Client, made: SpreadFilm, new: int, before: dict[int, int]) -> None:
        self._step("Proof", "from the log, the file and the processes")
        hit = made.parts[1]
        saved: list[int] = []
        for number, part in enumerate(made.parts, start=1):
            by = self._segments(tasks, part)
            saved += [one for some in by.values() for one in some]
            each = (f"{node} made segments {', '.join(map(str, some))}" for node, some in by.items())
            self._tell(f"part {number}: {'; '.join(each)}")
        ids = (*made.parts, made.task_id, new)
        completed = [sum(isinstance(one.event, Completed) for one in tasks.events(task)) for task in ids]
        self._claim(completed == [1] * len(ids), "each task was completed once", f"{completed}")
        attempts = {part: tasks.get_task(part).attempt for part in made.parts}
        right = {part: 2 if part == hit else 1 for part in made.parts}
        self._claim(attempts == right, "only the part on the lost node ran again", f"attempts {[*attempts.values()]}")
        self._claim(attempts == before, "no attempt was lost with the service", "the same as before")
        once = sorted(saved) == list(range(len(saved)))
        self._claim(once, "each segment was made once, none left out", f"{len(saved)} segments")

    def _keep(self, rig: Rig) -> None:
        self._step("Kept", "until Ctrl-C; these ask it:")
        for one in (rig.second, rig.reader):
            self._tell(f"{sys.executable} -m tasktrail --data {one.data} list   # on {one.machine.name}")
        with suppress(KeyboardInterrupt):
            signal.pause()

    # --- what is looked at ----------------------------------------------------------------------------------------

    def _watch(self, tasks: Client, made: SpreadFilm, rig: Rig, done: Callable[[], bool]) -> None:
        """Record the progress of the parts and the film, and where they are at work, until `done`."""
        ids = {**{part: f"part {number}" for number, part in enumerate(made.parts, start=1)}, made.task_id: "film"}
        columns = (TextColumn("  {task.description:<7}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        deadline = time.monotonic() + _DONE_WITHIN
        with Progress(*columns, TextColumn("{task.fields[where]}"), TimeElapsedColumn(), console=self._console) as bars:
            rows = {task: bars.add_task(name, total=100, where="") for task, name in ids.items()}
            while True:
                over = done()
                for task, row in rows.items():
                    now = tasks.get_task(task)
                    bars.update(row, completed=now.progress, where=f"{now.status} {self._place(now, rig)}")
                    if now.status in ("failed", "cancelled"):
                        raise Trouble(f"task {task}: {now.error}")
                if over:
                    return
                if time.monotonic() > deadline:
                    raise Trouble(f"not within {_DONE_WITHIN:g} s")
                time.sleep(_LOOK_EVERY)

    def _place(self, task: Task, rig: Rig) -> str:
        """Return the node that works on it."""
        if task.status != "running":
            return ""
        if found := node_of(rig.cluster.nodes, task.id):
            self._where[task.id, task.attempt] = found
        return self._where.get((task.id, task.attempt), "")

    def _segments(self, tasks: Client, task: int) -> dict[str, list[int]]:
        """Return node → the segments that it has made."""
        made = defaultdict[str, list[int]](list)
        for record in tasks.events(task):
            if isinstance(record.event, Checkpointed) and is_segment(record.event):
                node = self._where.get((task, record.attempt), "a node")
                made[node].append(record.event.checkpoint.data["change"]["segment"][0])
        return dict(made)

    # --- what is printed ------------------------------------------------------------------------------------------

    def _step(self, head: str, text: str) -> None:
        at = time.monotonic() - self._begun
        self._console.print(f"\n[bold]{head}[/bold]  {text}  [dim]{at:.0f} s", highlight=False, soft_wrap=True)

    def _tell(self, text: str) -> None:
        self._console.print(f"  {text}", highlight=False, soft_wrap=True, markup=False)

    def _claim(self, kept: bool, what: str, found: str) -> None:  # noqa: FBT001 - reads as an assertion
        self._wrong += not kept
        mark = "[green]yes[/]" if kept else "[red]NO [/]"
        self._console.print(f"  {mark} {what}  [dim]{found}", highlight=False, soft_wrap=True)

    @contextmanager
    def _waiting(self, what: str) -> Iterator[None]:
        begun = time.monotonic()
        with self._console.status(what):
            yield
        self._tell(f"{what}: {time.monotonic() - begun:.0f} s")


def is_segment(event: object) -> bool:
    """Return whether it says that a segment is finished."""
    return isinstance(event, Checkpointed) and "segment" in event.checkpoint.data["change"]


def has_made(tasks: Client, task: int, attempt: int = 1) -> bool:
    """Return whether this attempt, or a later one, has finished a segment."""
    return any(record.attempt >= attempt and is_segment(record.event) for record in tasks.events(task))


def started_at(tasks: Client, task: int, attempt: int) -> float:
    """Return when the attempt began, by the clock of the log."""
    return next(
        one.recorded_at.timestamp()
        for one in tasks.events(task)
        if isinstance(one.event, Started) and one.attempt == attempt
    )


def node_of(nodes: Sequence[Machine], task: int) -> str:
    """Return the node that works in the task's folder; empty: none does."""
    for node in nodes:
        for pid in node.pids():
            with suppress(OSError):
                if Path(f"/proc/{pid}/cwd").readlink().name == str(task):
                    return node.name
    return ""


def ours_on(machine: Machine) -> list[str]:
    """Return tasktrail's processes there."""
    said = (command_of(pid) for pid in machine.pids())
    return [one[:120] for one in said if any(name in one for name in _OURS)]


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wait_until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait for a condition. Raises Trouble."""
    deadline = time.monotonic() + _STARTS_WITHIN
    while not condition():
        if time.monotonic() > deadline:
            raise Trouble(f"not within {_STARTS_WITHIN:g} s: {what()}")
        time.sleep(_LOOK_EVERY)


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the cluster up at the end, until Ctrl-C")
    parser.add_argument("--work", type=Path, default=Path(".demo"), help="folder for films and data (%(default)s)")
    parser.add_argument(
        "--repeats", type=int, default=12, help="times that the clip of 5 s is in the film (%(default)s)"
    )
    asked = parser.parse_args()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    if why := why_no_machines():
        print(why, file=sys.stderr)
        return 1
    console = Console()
    work = asked.work.absolute()
    work.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    rehearsal = Rehearsal(work, console, asked.repeats)
    try:
        wrong = rehearsal.run(keep=asked.keep)
    except (Trouble, TasktrailError, RuntimeError, OSError) as error:
        console.print(f"{type(error).__name__}: {error}", style="red", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("Stopped; all machines are switched off.")
        return 130
    console.print(f"\nThe films are in {rehearsal.folder}", highlight=False)
    said = f"{wrong} claims do not hold" if wrong else "All claims hold"
    console.print(f"{said}; it took {time.monotonic() - begun:.0f} s.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
