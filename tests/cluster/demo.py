"""One machine, then a cluster, rehearsed on this one: a film over three nodes, a node lost, the service lost, all proven.

Machines are namespaces of Linux, which takes root: each with a network, processes and temp files of its own, joined by
cables. A database, Ray's head, two that may run the service, a reader, and three nodes. First one machine converts the
film alone. Then three nodes share it; one of them is killed at work, and after it the machine of the service. Each claim
is looked at, and printed with what was found; the exit code is 1 if one does not hold. `make cluster-demo` runs it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from machines import Machine, Process

SUPPORT = Path(__file__).parent.parent / "support"
if str(SUPPORT) not in sys.path:
    sys.path.insert(0, str(SUPPORT))

from database_servers import DatabaseServer  # noqa: E402 - the path comes first
from machines import Network, all_pids, command_of, why_no_machines  # noqa: E402
from ray_machines import RayMachines  # noqa: E402

from tasktrail import Client, TasktrailError  # noqa: E402
from tasktrail.api.spreading import SpreadFilm  # noqa: E402
from tasktrail.demo.samples import BUNNY, decode_video, fetch, repeat  # noqa: E402
from tasktrail.events import Checkpointed, Completed, Started  # noqa: E402
from tasktrail.events.system_events import ServiceStarted  # noqa: E402

NODES, CPUS = 3, 2
"""The nodes, and what each has to book: with one node less there is still room for all workers."""
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
    """The rehearsal cannot go on."""


class Database(DatabaseServer):
    """PostgreSQL from its wheel, on a machine of the network."""

    def __init__(self, machine: Machine) -> None:
        super().__init__(machine.name, machine.enter)
        self._machine = machine

    def ask(self, statement: str) -> Any:
        """The first value of the answer, asked on its machine: this process is not on that network."""
        import psycopg

        program = (
            "import psycopg, sys; conn = psycopg.connect(sys.argv[1], autocommit=True); "
            "cursor = conn.execute(sys.argv[2]); print(cursor.fetchone()[0])"
        )
        where = f"host={self.host} port={self.port} user=postgres dbname=postgres connect_timeout=5"
        try:
            return self._machine.run([sys.executable, "-c", program, where, statement]).strip()
        except OSError as error:
            raise psycopg.OperationalError(str(error)) from error


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
        """Start it; returns when it has said this."""
        self._process = self.machine.start(
            [sys.executable, "-m", "tasktrail", "--data", str(self.data), "serve", "--port", str(_PORT), *arguments],
            environment=self._cluster.environment,
            output=self.output,
        )
        self.until(until)

    def until(self, said: str) -> None:
        """Wait until it has said this."""
        process = self._process
        assert process is not None
        wait_until(
            lambda: said in self.output.read_text() or not process.is_alive(),
            lambda: f"{self.machine.name} did not say {said!r}:\n{self.output.read_text()[-2000:]}",
        )
        if said not in self.output.read_text():
            raise Trouble(f"{self.machine.name} has ended:\n{self.output.read_text()[-2000:]}")

    def stop(self) -> None:
        """In good order."""
        if self._process is not None and self._process.is_alive():
            self._process.send(signal.SIGTERM)
            self._process.wait(60.0)

    def command(self, *words: str) -> str:
        """What `tasktrail` says there."""
        return self.machine.run(
            [sys.executable, "-m", "tasktrail", "--data", str(self.data), *words],
            environment={**self._cluster.environment, "COLUMNS": "120"},
        )

    def ask(self, path: str) -> Any:
        """What its port answers on its own machine."""
        secret = (self.data / "http-token").read_text().strip()
        return json.loads(self.machine.run([sys.executable, "-c", _ASK, f"http://127.0.0.1:{_PORT}{path}", secret]))


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

    def run(self, *, keep: bool) -> int:
        """All of it; how many claims did not hold."""
        film, alone, plain = self._one_machine()
        with ExitStack() as stack:
            network = stack.enter_context(Network())
            self._step("A cluster", "eight machines: PostgreSQL, Ray's head, service-1 and -2, reader, node-1 to -3")
            first, second, reader, cluster = self._machines(network, stack)
            self._rehearse(film, alone, plain, first, second, reader, cluster)
            if keep:
                self._keep(second, reader)
            self._step("The end", "the service is stopped in good order, then all machines are switched off")
            second.stop()
            reader.stop()
            left = [f"{one.name}: {text}" for one in network.machines for text in ours_on(one)]
            self._claim(not left, "nothing of tasktrail runs on any machine", "; ".join(left) or "no process")
            pids = {pid: command_of(pid) for machine in network.machines for pid in machine.pids()}
            where = str(network.folder)
        alive = [f"{pid} {said}" for pid, said in pids.items() if said and command_of(pid) == said]
        alive += [f"{pid} {command_of(pid)}" for pid in all_pids() if where in command_of(pid)]
        self._claim(not alive, "no process is left", "; ".join(alive) or f"all {len(pids)} are gone")
        return self._wrong

    # --- the steps ------------------------------------------------------------------------------------------------

    def _one_machine(self) -> tuple[Path, Path, str]:
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
        return film, made, digest

    def _machines(self, network: Network, stack: ExitStack) -> tuple[Service, Service, Service, RayMachines]:
        with self._waiting("PostgreSQL, from its wheel"):
            database = stack.enter_context(closing(Database(network.machine("database"))))
            database.make()
            database.start()
        cluster = RayMachines(network)
        ones = [network.machine(name) for name in ("service-1", "service-2")]
        with self._waiting("Ray: head and nodes"), ThreadPoolExecutor(len(ones) + NODES) as threads:
            # The service has to be on a node, too. It gives no CPUs, so that no attempt comes there.
            joined = [threads.submit(cluster.start_node, one, 0) for one in ones]
            joined += [threads.submit(cluster.add_node, CPUS) for _ in range(NODES)]  # type: ignore[misc]
            for one in joined:
                one.result()
        shared = self.folder / "tmp"
        log = f'log = "postgresql://postgres@{database.at}/postgres"'
        same = (
            log,
            'executor = "ray"',
            f'ray_address = "{cluster.address}"',
            f"workers = {NODES}",
            f'temp_dir = "{shared}"',
        )
        first, second = (Service(cluster, one, self.folder / one.name, *same) for one in ones)
        reader = Service(cluster, network.machine("reader"), self.folder / "reader", log)
        with self._waiting("service, standby and reader"):
            first.start("ready")
            second.start("standby: waits", "--standby")
            reader.start("ready", "--read-only")
            with Client.connect(first.data) as tasks:
                wait_until(
                    lambda: tasks.queue(1).resources.slots == NODES,
                    lambda: f"{NODES} workers are there: {tasks.check_ready()}",
                )
        return first, second, reader, cluster

    def _rehearse(
        self,
        film: Path,
        alone: Path,
        plain: str,
        first: Service,
        second: Service,
        reader: Service,
        cluster: RayMachines,
    ) -> None:
        out = self.folder / "spread.mp4"
        begun = time.monotonic()
        with Client.connect(first.data) as tasks:
            self._step("Spread", f"the same film over {NODES} nodes: tasktrail run video_convert … --spread {NODES}")
            made = tasks.spread_film(
                {"input_file": film, "output_file": out, "options": OPTIONS, "retry_delay": 0.0}, NODES
            )
            self._watch(tasks, made, cluster, lambda: all(self._has_made(tasks, part) for part in made.parts))
            nodes = [self._where.get((part, 1), "") for part in made.parts]
            self._claim(sorted(nodes) == sorted(node.name for node in cluster.nodes), "each node makes a part", ", ".join(nodes))
            if not nodes[1]:
                raise Trouble("nobody was seen at work on part 2")

            victim, hit = nodes[1], made.parts[1]
            self._step("A node is lost", f"{victim}, with part 2 at work: all of its processes at once, as a power cut")
            cluster.kill_node(next(node for node in cluster.nodes if node.name == victim))
            lost = time.time()
            self._watch(tasks, made, cluster, lambda: self._has_made(tasks, hit, attempt=2))
            again = started_at(tasks, hit, 2)
            self._tell(f"part 2 began again after {again - lost:.1f} s, on {self._where.get((hit, 2), '?')}: its lease was over")
            before = {part: tasks.get_task(part).attempt for part in made.parts}
            position = max(record.position for record in tasks.events(hit))

        self._step("The service is lost", f"all of {first.machine.name}; part 2 is at work meanwhile, on its node")
        seen: list[Any] = []
        first.machine.kill()
        killed = time.time()
        while "ready " not in second.output.read_text():
            with suppress(OSError):  # noqa: PERF203 - what it was asked counts
                seen.append(reader.ask(f"/v1/tasks/{hit}?min_position={position}"))
            if time.time() - killed > _STARTS_WITHIN:
                raise Trouble(f"nobody took over:\n{second.output.read_text()[-2000:]}")
        ready = time.time() - killed
        with Client.connect(second.data) as tasks:
            starts = [one for one in tasks.log() if isinstance(one.event, ServiceStarted)]
            taken = starts[-1].recorded_at.timestamp() - killed
            self._claim(len(starts) == 2, "the standby took over", f"its first record after {taken:.1f} s; it took commands after {ready:.1f} s")  # fmt: skip
            self._claim(bool(seen), "a reader answered all the time", f"{len(seen)} answers about part 2 without any service")
            now = reader.ask(f"/v1/tasks/{hit}?min_position={starts[-1].position}")
            self._claim(now["id"] == hit, "it has what the standby has written since", f"asked with min_position={starts[-1].position}")
            self._watch(tasks, made, cluster, lambda: bool(tasks.get_task(made.task_id).completed_at))
            self._prove(tasks, second, made, hit, before, out, alone, plain)
            self._tell(f"from the first command to the film, losses included: {time.monotonic() - begun:.0f} s")

    def _prove(
        self,
        tasks: Client,
        service: Service,
        made: SpreadFilm,
        hit: int,
        before: dict[int, int],
        out: Path,
        alone: Path,
        plain: str,
    ) -> None:
        self._step("Proof", "from the log, the file and the processes")
        ids = (*made.parts, made.task_id)
        for number, part in enumerate(made.parts, start=1):
            by = self._segments(tasks, part)
            self._tell(f"part {number}: " + "; ".join(f"{node} made segments {', '.join(map(str, some))}" for node, some in by.items()))
        completed = [sum(isinstance(one.event, Completed) for one in tasks.events(task)) for task in ids]
        self._claim(completed == [1] * len(ids), "each task was completed once", f"{completed}")
        attempts = {part: tasks.get_task(part).attempt for part in made.parts}
        right = {part: 2 if part == hit else 1 for part in made.parts}
        self._claim(attempts == right, "only the part on the lost node ran again", f"attempts {[*attempts.values()]}")
        self._claim(attempts == before, "no attempt was lost with the service", "the same attempts, the same processes")
        saved = [one for part in made.parts for some in self._segments(tasks, part).values() for one in some]
        self._claim(len(saved) == len(set(saved)), "no finished segment was made twice", f"{len(saved)} segments")
        digest = digest_of(out) if out.exists() else "no file"
        self._claim(digest == plain, f"the film has the bytes of {alone.name}", f"sha256 {digest[:16]}…")
        with suppress(OSError):
            self._console.out(service.command("history", str(hit)).rstrip(), highlight=False)
        said = tasks.verify()
        self._claim(said.ok, "verify: the chain, the rules and the views", f"{said}"[:100])

    def _keep(self, service: Service, reader: Service) -> None:
        self._step("Kept", "until Ctrl-C; its commands:")
        for one in (service, reader):
            self._tell(f"{sys.executable} -m tasktrail --data {one.data} list   # on {one.machine.name}")
        with suppress(KeyboardInterrupt):
            signal.pause()

    # --- what is looked at ----------------------------------------------------------------------------------------

    def _watch(self, tasks: Client, made: SpreadFilm, cluster: RayMachines, done: Callable[[], bool]) -> None:
        """Progress of the parts and the film, and where they are at work, until `done`."""
        ids = {**{part: f"part {number}" for number, part in enumerate(made.parts, start=1)}, made.task_id: "film"}
        columns = (TextColumn("  {task.description:<7}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %"))
        deadline = time.monotonic() + _DONE_WITHIN
        with Progress(*columns, TextColumn("{task.fields[where]}"), TimeElapsedColumn(), console=self._console) as bars:
            rows = {task: bars.add_task(name, total=100, where="") for task, name in ids.items()}
            while True:
                over = done()
                for task in ids:
                    self._look(tasks, task, cluster, bars, rows)
                if over:
                    return
                if failed := [task for task in ids if tasks.get_task(task).status in ("failed", "cancelled")]:
                    raise Trouble(f"task {failed[0]}: {tasks.get_task(failed[0]).error}")
                if time.monotonic() > deadline:
                    raise Trouble(f"not within {_DONE_WITHIN:g} s")
                time.sleep(_LOOK_EVERY)

    def _look(self, tasks: Client, task: int, cluster: RayMachines, bars: Progress, rows: dict[int, Any]) -> None:
        now = tasks.get_task(task)
        where = ""
        if now.status == "running":
            if found := node_of(cluster.nodes, task):
                self._where[task, now.attempt] = found
            where = self._where.get((task, now.attempt), "")
        bars.update(rows[task], completed=now.progress, where=f"{now.status} {where}")

    @staticmethod
    def _has_made(tasks: Client, task: int, attempt: int = 1) -> bool:
        return any(record.attempt >= attempt and is_segment(record.event) for record in tasks.events(task))

    def _segments(self, tasks: Client, task: int) -> dict[str, list[int]]:
        """Node → the segments that it has made."""
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
    """Whether it says that a segment is finished."""
    return isinstance(event, Checkpointed) and "segment" in event.checkpoint.data["change"]


def started_at(tasks: Client, task: int, attempt: int) -> float:
    """When the attempt began, by the clock of the log."""
    return next(
        one.recorded_at.timestamp()
        for one in tasks.events(task)
        if isinstance(one.event, Started) and one.attempt == attempt
    )


def node_of(nodes: Sequence[Machine], task: int) -> str:
    """The node on which somebody works in the task's folder; empty: nobody does."""
    for node in nodes:
        for pid in node.pids():
            with suppress(OSError):
                if Path(f"/proc/{pid}/cwd").readlink().name == str(task):
                    return node.name
    return ""


def ours_on(machine: Machine) -> list[str]:
    """What runs there of tasktrail."""
    said = (command_of(pid) for pid in machine.pids())
    return [one[:120] for one in said if any(name in one for name in _OURS)]


def digest_of(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def wait_until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait for it. Raises Trouble."""
    deadline = time.monotonic() + _STARTS_WITHIN
    while not condition():
        if time.monotonic() > deadline:
            raise Trouble(f"not within {_STARTS_WITHIN:g} s: {what()}")
        time.sleep(_LOOK_EVERY)


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the cluster up at the end, until Ctrl-C")
    parser.add_argument("--work", type=Path, default=Path(".demo"), help="folder for films and data (%(default)s)")
    parser.add_argument("--repeats", type=int, default=8, help="times that the clip of 5 s is in the film (%(default)s)")
    asked = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
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
    console.print(f"\nFilms and data folders are in {rehearsal.folder}", highlight=False)
    console.print(f"{'All claims hold' if not wrong else f'{wrong} claims do not hold'}; it took {time.monotonic() - begun:.0f} s.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
