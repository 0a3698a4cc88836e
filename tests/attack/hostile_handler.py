"""Hostile handlers, and daemons that try to survive.

First a handler tries everything it can to reach the data folder, the service, other tasks, the network and the rest of
the machine; then handlers leave their processes as dirty as possible. All of that happens as root and as a plain user,
where the script may choose. Then reapers and services are killed with -9 at random moments while handlers start daemons
without a mark, a session or an environment of ours: none may exist 5 s later.

Every try is first proven able to succeed, without the sandbox; one that cannot, on this machine, shows nothing.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from hostile_handlers import SECRET

from tasktrail import TaskService
from tasktrail.actors.workers.local_executor import LocalExecutor
from tasktrail.actors.workers.slot import SlotRules
from tasktrail.actors.workers.worker_process import wait_for_orphans
from tasktrail.config.settings import Config
from tasktrail.events.reports import AttemptEnded, Report, Run
from tasktrail.handlers.process.sandbox import Sandbox, sandbox_support

KILLS = 1000
SURVIVE = 5.0
"""Seconds after which a daemon counts as a survivor."""
SUPPORT = Path(__file__).parent.parent / "support"
NOBODY = 54321
WITHIN = 120.0


@contextmanager
def planted(folder: Path) -> Iterator[dict[str, Any]]:
    """Plant the targets: files, folders, sockets."""
    outside, out = folder / "outside", folder / "out"
    for path in (outside, out, folder / "in"):
        path.mkdir(parents=True)
    (outside / "secret.txt").write_text(SECRET)
    (out / "others.txt").write_text(SECRET)
    (folder / "in" / "in.txt").write_text("harmless")
    (folder / "in" / "neighbour.txt").write_text(SECRET)
    port = socket.create_server(("127.0.0.1", 0))
    abstract = socket.socket(socket.AF_UNIX)
    name = f"tasktrail-attack-{os.getpid()}-{os.getuid()}"
    abstract.bind("\0" + name)
    abstract.listen()
    with port, abstract:
        yield {"port": port.getsockname()[1], "abstract": name}


def attack_files(folder: Path, *, sandbox: str) -> dict[str, Any]:
    """Run the hostile handler in a service of its own; return the results of its tries."""
    data = folder / "data"
    with planted(folder) as found:
        config = Config(workers=1, handlers=("hostile_handlers",), sandbox=sandbox, port=0)  # type: ignore[arg-type]
        os.environ["TASKTRAIL_TEST_PASSWORD"] = SECRET
        with TaskService.open(data, config=config) as service, _listener(data / "tasktrail.sock"):
            (data / "tasktrail.toml").write_text(f'webhook_secret = "{SECRET}"\n')
            (data / "http-token").write_text(SECRET)
            neighbour = data / "tmp" / "99999999"
            neighbour.mkdir(parents=True)
            (neighbour / "frame").write_text(SECRET)
            read = [data / name for name in ("log.db", "log.db-wal", "views.db", "tasktrail.toml", "http-token")]
            read += [folder / "outside" / "secret.txt", folder / "out" / "others.txt", folder / "in" / "neighbour.txt"]
            read += [neighbour / "frame", *([Path("/etc/shadow")] if os.getuid() == 0 else [])]
            write = [path for path in read if path.name in ("secret.txt", "others.txt", "frame", "http-token")]
            options = {
                "read": [str(path) for path in read],
                "write": [str(path) for path in write],
                "folders": [str(path) for path in (data, data / "tmp", neighbour, folder / "outside", folder / "out")],
                "service": os.getpid(),
                "gentle": sandbox == "off",
                "unix": str(data / "tasktrail.sock"),
                **found,
            }
            ids = [
                service.create_task(
                    type=kind,
                    input_file=str(folder / "in" / "in.txt"),
                    output_file=str(folder / "out" / f"{kind}.txt"),
                    options=options,
                    max_retries=0,
                )
                for kind in ("hostile", "honest")
            ]
            tasks = [service.wait(task_id, WITHIN) for task_id in ids]
    for task in tasks:
        if task.status != "completed":
            raise SystemExit(f"{task.type} ended as {task.status}: {task.error}")
        if (folder / "out" / f"{task.type}.txt").read_text() != "harmless":
            raise SystemExit(f"the output of {task.type} is not what it wrote")
    return tasks[0].result


@contextmanager
def _listener(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))
        made.listen()
        yield


def attack_state(folder: Path) -> list[str]:
    """Return what a later attempt finds of an earlier one's changes."""
    found = []
    with TaskService.open(folder / "state", config=Config(workers=1, handlers=("hostile_handlers",))) as service:

        def run(kind: str) -> dict[str, Any]:
            task = service.wait(service.create_task(type=kind, max_retries=0), WITHIN)
            if task.status != "completed":
                found.append(f"{kind} ended as {task.status}: {task.error}")
            return dict(task.result)

        clean = run("witness")
        for _ in range(5):
            run("polluter")
            if (seen := run("witness")) != clean:
                found.append(f"after a polluter: {seen} instead of {clean}")
        kept = run("kept_polluter")
        later = [run("kept_polluter") for _ in range(5)]
        found += [f"in a kept process: {seen} instead of {kept}" for seen in later if seen != kept]
    return found


def as_user(what: str, folder: Path, user: int) -> Any:
    """Run a part in a separate process, as a user; return its output."""
    folder.mkdir(parents=True)
    os.chown(folder, user, user)
    switch = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user != os.getuid() else []
    done = subprocess.run(
        [*switch, sys.executable, __file__, "--part", what, str(folder)],
        env={**os.environ, "PYTHONPATH": str(SUPPORT), "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    if done.returncode:
        raise SystemExit(f"{what} as user {user} failed:\n{done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def do_part(what: str, folder: Path) -> Any:
    """Run the part in that process."""
    match what:
        case "open" | "walled":
            return attack_files(folder, sandbox="off" if what == "open" else "auto")
        case "state":
            return attack_state(folder)
    return kept_service(folder, what)


# --- survivors -----------------------------------------------------------------------------------------------------


def kept_service(folder: Path, lifetime: str) -> None:
    """Run a service with handlers that start daemons, until it is killed."""
    executor = LocalExecutor(
        slots=2,
        homes={"daemons": "hostile_handlers:daemons"},
        lock_path=folder / "workers.lock",
        pythonpath=[str(SUPPORT)],
        rules=SlotRules(backoff=0.01, backoff_max=0.05),
        sandbox=Sandbox(mode="auto", protected=(str(folder),)),
    )
    numbers = itertools.count(1)

    def give(reports: list[Report]) -> None:
        for report in reports:
            if isinstance(report, AttemptEnded):
                executor.do([next_run()])

    def next_run() -> Run:
        number = next(numbers)
        return Run(number, 1, "daemons", "", "", {"lifetime": lifetime}, None, str(folder / f"t{number}"))

    if not wait_for_orphans(folder / "workers.lock", WITHIN):
        raise SystemExit("processes of an earlier service are left")
    executor.open(give)
    executor.do([next_run(), next_run()])
    threading.Event().wait()


def daemons_alive(lifetime: str) -> list[int]:
    """Return the processes with this campaign's argument, wherever they hide, without zombies."""
    needle, found = f"sleep\0{lifetime}\0".encode(), []
    for entry in Path("/proc").glob("[1-9]*"):
        try:
            if needle in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


class Campaign:
    """Kills reapers, services or both, and counts the survivors.

    Args:
        folder: for locks and task folders.
        rng: chooses moments and victims.
    """

    def __init__(self, folder: Path, rng: random.Random) -> None:
        self._folder = folder
        self._rng = rng
        self._lifetime = f"86400.{rng.randrange(10**9):09d}"
        self._service: subprocess.Popen[str] | None = None
        self.kills = {"reaper": 0, "service": 0, "both": 0}
        self.daemons = 0
        self.survivors: list[str] = []

    def run(self, kills: int) -> None:
        """Make that many kills."""
        for number in range(1, kills + 1):
            victim = self._rng.choices(["reaper", "service", "both"], [5, 3, 2])[0]
            self._kill(victim)
            if number % 50 == 0:
                print(f"{number} kills, {self.daemons} daemons, {len(self.survivors)} survivors", flush=True)
        if self._service is not None:
            self._service.kill()
            self._service.wait()
        for pid in daemons_alive(self._lifetime):
            os.kill(pid, signal.SIGKILL)

    def _kill(self, victim: str) -> None:
        service = self._running()
        reapers = [child.pid for child in psutil.Process(service.pid).children()]
        time.sleep(self._rng.uniform(0, 0.05))
        before = daemons_alive(self._lifetime)
        self.daemons += len(before)
        victims = {"reaper": reapers, "service": [service.pid], "both": [service.pid, *reapers]}[victim]
        self._rng.shuffle(victims)
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.kills[victim] += 1
        if victim != "reaper":
            service.wait()
            self._service = None
        deadline = time.monotonic() + SURVIVE
        while (left := sorted(set(daemons_alive(self._lifetime)) & set(before))) and time.monotonic() < deadline:
            time.sleep(0.01)
        if left:
            self.survivors.append(f"{left} after a kill of {victim}")
            for pid in left:
                os.kill(pid, signal.SIGKILL)

    def _running(self) -> "subprocess.Popen[str]":
        """Return the running service, with some daemons."""
        if self._service is None:
            self._service = subprocess.Popen(
                [sys.executable, __file__, "--part", self._lifetime, str(self._folder)],
                env={**os.environ, "PYTHONPATH": str(SUPPORT)},
                stdout=subprocess.PIPE,
                text=True,
            )
        deadline = time.monotonic() + WITHIN
        wanted = self._rng.randint(1, 4)
        while len(daemons_alive(self._lifetime)) < wanted:
            if time.monotonic() > deadline or self._service.poll() is not None:
                raise SystemExit("the service to be killed starts no daemons")
            time.sleep(0.005)
        return self._service


def main() -> int:
    """Return 1 when anything got out or survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="20 kills")
    parser.add_argument("--kills", type=int, default=KILLS)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--part", nargs=2, metavar=("WHAT", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.part:
        print(json.dumps(do_part(arguments.part[0], Path(arguments.part[1]))))
        return 0
    found = sandbox_support()
    print(f"seed {arguments.seed}; {found}")
    if not found.whole:
        print("this kernel has not all the means; nothing is promised here, and nothing shown")
        return 0
    broken: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="tasktrail-hostile-"))
    folder.chmod(0o755)
    try:
        for user in users():
            broken += _files(folder, user)
            dirt = as_user("state", folder / f"state-{user}", user)
            print(f"user {user}: {len(dirt)} traces of earlier attempts")
            broken += dirt
        campaign = Campaign(folder, random.Random(arguments.seed))
        campaign.run(20 if arguments.short else arguments.kills)
        broken += campaign.survivors
        print(f"kills {campaign.kills}, {campaign.daemons} daemons, {len(campaign.survivors)} survivors")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    for line in broken:
        print(f"BROKEN: {line}")
    print(f"{len(broken)} promises broken")
    return min(len(broken), 1)


def users() -> tuple[int, ...]:
    """Return the users of the parts: the present one, and if that is root, another one too."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        return (os.getuid(),)
    switch = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    if subprocess.run([*switch, "env", sys.executable, "-c", ""], capture_output=True, check=False, cwd="/").returncode:
        print(f"nobody else can run {sys.executable}, so nothing is tried as another user")
        return (0,)
    return (0, NOBODY)


def _files(folder: Path, user: int) -> list[str]:
    free = as_user("open", folder / f"open-{user}", user)
    walled = as_user("walled", folder / f"walled-{user}", user)
    print(
        f"user {user}: {walled['tries']} tries, {free['successes']} of {free['tries']} succeed without the sandbox, "
        f"{walled['successes']} with it"
    )
    return [f"user {user}: {name}: {got}" for name, got in walled["got"].items()]


if __name__ == "__main__":
    sys.exit(main())
