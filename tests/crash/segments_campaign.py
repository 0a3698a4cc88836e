"""Segments side by side: the same bytes however many at once, and the cost of a kill.

python tests/crash/segments_campaign.py --kills 200 --at-once 4 --seed 7

A film of many segments is converted with 1, 2, 3 and 8 at once, by every encoder: the results must be the same file.
Then tasks with many at once are killed again and again, half of the times the worker and half the service, at random
moments. Before each kill the worker is stopped while its folder is listed. Files that lie there, or were reported as at
work, and are missing from the checkpoint with which the next attempt begins, have to be made again: that may be one
segment for each of those at once, and no more. Each result must be the file of a quiet run. The seed repeats the
moments.
"""

import argparse
import hashlib
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import av
import msgspec
import psutil

from tasktrail import Client, TasktrailError
from tasktrail.demo.story import ServiceProcess
from tasktrail.events import Checkpointed, Started, Task
from tasktrail.handlers.video.convert.checkpoint import Segment

AT_ONCE = (1, 2, 3, 8)
CODECS = ("h264", "h265", "vp9", "av1")
WITHIN = 300.0
SEGMENT = 2.0
"""Seconds of film in a segment."""
WORKER = "tasktrail.handlers.process.worker"


class Tally(msgspec.Struct):
    """The results of the kills."""

    kills: int = 0
    """The kills that ended an attempt."""
    met: int = 0
    """The number of these that came when something was at work."""
    redone: list[int] = []
    """The number of files that each of them cost."""
    tasks: int = 0
    problems: list[str] = []


def make_film(path: Path, seconds: int) -> Path:
    """Make a moving picture and a tone, with a keyframe each second."""
    pattern = f"testsrc2=size=320x180:rate=25:duration={seconds}"
    with av.open(pattern, format="lavfi") as source, av.open(str(path), "w") as target:
        stream = target.add_stream("libx264", rate=25, options={"g": "25", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = 320, 180, "yuv420p"
        for frame in source.decode(video=0):
            target.mux(stream.encode(frame.reformat(format="yuv420p")))
        target.mux(stream.encode())
    return path


def at_work(message: str) -> set[str]:
    """Return the names of the segments in a report of progress."""
    found = re.search(r"encoding segments? ([\d, ]+) of", message)
    return {f"segment-{int(number) - 1:05}" for number in found[1].split(",")} if found else set()


class Campaign:
    """A service, a film, and the kills."""

    def __init__(self, work: Path, film: Path, at_once: int, chance: random.Random) -> None:
        self._work = work
        self._film = film
        self._at_once = at_once
        self._chance = chance
        self._data = work / "data"
        self._data.mkdir()
        # One worker gets the whole machine, and only the end of the film ends a task.
        (self._data / "tasktrail.toml").write_text("workers = 1\nmax_crashes = 1000\n")
        self._service = ServiceProcess(self._data)
        self._usual = 1.0
        """Seconds of an undisturbed film."""
        self.tally = Tally()

    def close(self) -> None:
        """Stop the service."""
        self._service.stop()

    # --- the same bytes ---

    def same_bytes(self, codecs: tuple[str, ...]) -> None:
        """Convert with each codec and each number at once, and compare."""
        for codec in codecs:
            made = {}
            for at_once in AT_ONCE:
                task = self._quiet(f"{codec}-{at_once}.mkv", video_codec=codec, segments_at_once=at_once)
                made[at_once] = task.result.get("sha256", task.error)
            same = len(set(made.values())) == 1
            print(f"{codec}: {', '.join(map(str, AT_ONCE))} at once: {'same bytes' if same else made}", flush=True)
            if not same:
                self.tally.problems.append(f"{codec}: other bytes with another number at once: {made}")

    def _quiet(self, name: str, **options: Any) -> Task:
        began = time.monotonic()
        with Client.connect(self._data) as client:
            task_id = self._submit(client, name, options)
            task = client.wait(task_id, timeout=WITHIN)
        self._usual = time.monotonic() - began
        if task.status != "completed":
            self.tally.problems.append(f"{name}: {task.status}, {task.error}")
        return task

    def _submit(self, client: Client, name: str, options: dict[str, Any]) -> int:
        given = {"segment_seconds": SEGMENT, "preset": "veryfast", **options}
        output = self._work / name
        return client.create_task(type="video_convert", input_file=self._film, output_file=output, options=given)

    # --- kills ---

    def kill(self, wanted: int) -> None:
        """Kill until that many kills have ended an attempt."""
        # With this tune packets are written at once, so that a segment at work has a file.
        options = {"preset": "slower", "tune": "zerolatency", "segments_at_once": self._at_once}
        expected = self._quiet("quiet.mp4", **options).result["sha256"]
        while self.tally.kills < wanted and not self.tally.problems:
            name = f"killed-{self.tally.tasks}.mp4"
            with Client.connect(self._data) as client:
                task_id = self._submit(client, name, options)
            seen: list[set[str]] = []
            while self._disturbed(task_id, seen, wanted):
                continue
            with Client.connect(self._data) as client:
                task = client.wait(task_id, timeout=WITHIN)
            self._judge(task, seen, expected)
            (self._work / name).unlink(missing_ok=True)
            print(f"{self.tally.kills} kills, at most {max(self.tally.redone, default=0)} made again", flush=True)

    def _disturbed(self, task_id: int, seen: list[set[str]], wanted: int) -> bool:
        """Kill after a while; return False where the task was over before, or there were enough kills."""
        if self.tally.kills + len(seen) >= wanted:
            return False
        moment = time.monotonic() + self._chance.uniform(0.02, 0.5) * self._usual
        with Client.connect(self._data) as client:
            while time.monotonic() < moment:
                if client.get_task(task_id).completed_at is not None:
                    return False
                time.sleep(0.01)
            attempt = client.get_task(task_id).attempt
            workers = list(self._workers())
            for worker in workers:
                worker.suspend()
            if client.get_task(task_id).status != "running" or not workers:
                for worker in workers:
                    worker.resume()
                return client.get_task(task_id).completed_at is None
            message = client.get_task_progress(task_id)[1]
        seen.append(self._files(task_id) | at_work(message))
        if self._chance.random() < 0.5:
            for worker in workers:
                with suppress(psutil.NoSuchProcess):
                    worker.send_signal(signal.SIGKILL)
        else:
            self._service.kill()
            self._service = ServiceProcess(self._data)
        if self._again(task_id, attempt):
            return True
        with Client.connect(self._data) as client:
            if client.get_task(task_id).attempt == attempt:
                seen.pop()  # the attempt had reported its end when the kill came
        return False

    def _workers(self) -> Iterator[psutil.Process]:
        for process in psutil.Process(self._service.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if WORKER in process.cmdline() and process.ppid() != self._service.pid:
                    yield process

    def _again(self, task_id: int, attempt: int) -> bool:
        """Wait for the attempt after this one; return False if the task ended instead."""
        deadline = time.monotonic() + WITHIN
        with Client.connect(self._data) as client:
            while time.monotonic() < deadline:
                task = client.get_task(task_id)
                if task.completed_at is not None:
                    return False
                if task.attempt > attempt and task.status == "running":
                    return True
                if task.status == "retrying":  # after repeated crashes the wait grows
                    with suppress(TasktrailError):
                        client.start_task(task_id, actor="campaign")
                time.sleep(0.01)
        raise TimeoutError(f"task {task_id} was not taken up again in {WITHIN:.0f} s")

    def _files(self, task_id: int) -> set[str]:
        """Return segments and sound in the task's folder, finished or not; a `.part` under its final name."""
        paths = (self._data / "tmp" / str(task_id)).glob("s*-*")
        return {path.name.partition(".")[0] for path in paths}

    def _judge(self, task: Task, seen: list[set[str]], expected: str) -> None:
        """Determine the cost of each kill, by the checkpoints with which the next attempts began."""
        self.tally.tasks += 1
        digest = hashlib.sha256(Path(task.output_file).read_bytes()).hexdigest() if task.status == "completed" else ""
        if digest != expected:
            self.tally.problems.append(f"task {task.id}: {task.status}, {task.error or 'other bytes'}")
        saved = list(self._beginnings(task.id))
        if len(saved) != len(seen) + 1:
            self.tally.problems.append(f"task {task.id}: {len(saved)} attempts after {len(seen)} kills")
        for files, kept in zip(seen, saved[1:], strict=False):
            lost = files - kept
            self.tally.kills += 1
            self.tally.met += bool(lost)
            self.tally.redone.append(len(lost))
            if len(lost) > self._at_once:
                self.tally.problems.append(f"task {task.id}: a kill cost {len(lost)} files: {sorted(lost)}")

    def _beginnings(self, task_id: int) -> Iterator[set[str]]:
        """Return for each attempt the files that the checkpoints name, up to the one with which it began."""
        kept: set[str] = set()
        with Client.connect(self._data) as client:
            for record in client.events(task_id):
                if isinstance(record.event, Checkpointed):
                    kept = kept | _named(record.event.checkpoint.data["change"])
                elif isinstance(record.event, Started):
                    yield kept


def _named(change: dict[str, Any]) -> set[str]:
    """Return the file that a checkpoint has added, without its suffix."""
    if "segment" in change:
        return {Segment(*change["segment"]).name.partition(".")[0]}
    return {change["sound"]["name"].partition(".")[0]} if "sound" in change else set()


def main(arguments: list[str] | None = None) -> int:
    """Return 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--at-once", type=int, default=4, help="segments, while it is killed")
    parser.add_argument("--seconds", type=int, default=24, help="of film")
    parser.add_argument("--codecs", default=",".join(CODECS))
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args(arguments)
    print(f"seed {given.seed}", flush=True)
    work = Path(tempfile.mkdtemp(prefix="segments-"))
    film = make_film(work / "in.mp4", given.seconds)
    campaign = Campaign(work, film, given.at_once, random.Random(given.seed))
    try:
        campaign.same_bytes(tuple(given.codecs.split(",")))
        campaign.kill(given.kills)
    finally:
        campaign.close()
    tally = campaign.tally
    counts = {cost: tally.redone.count(cost) for cost in sorted(set(tally.redone))}
    print(f"{tally.kills} kills of {tally.tasks} tasks with {given.at_once} at once; {tally.met} met work")
    print(f"made again after a kill: {', '.join(f'{cost} files {count} times' for cost, count in counts.items())}")
    for problem in tally.problems:
        print(f"BROKEN: {problem}")
    if tally.problems:
        print(f"the files are in {work}")
    else:
        shutil.rmtree(work)
    return min(1, len(tally.problems))


if __name__ == "__main__":
    sys.exit(main())
