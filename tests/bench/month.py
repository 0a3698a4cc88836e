"""Makes a month of a busy service, as events: for measurements of what its history costs.

Tasks come in, several run at once, and their records are interleaved, as in a real log. The same seed makes the same
month.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import islice
from pathlib import Path
from random import Random
from typing import TypeAlias

from msgspec.structs import replace

from tasktrail.events import (
    Answer,
    Checkpoint,
    Checkpointed,
    Completed,
    Created,
    Event,
    Fact,
    Progressed,
    Retried,
    Started,
)
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.system_events import DeliveryAttempted, ServiceStarted
from tasktrail.events.task_events import Failed, PriorityTerms

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
DAYS = 30
AT_ONCE = 16
"""Tasks that run at the same time."""
_FAILS = 0.1
"""How many of the tasks fail once."""
_TYPES = ("image_thumbnail", "video_convert", "document_preview", "audio_convert")
_WORDS = ("holiday", "meeting", "interview", "lecture", "concert", "garden", "product", "drone", "wedding", "archive")

_Step: TypeAlias = tuple[tuple[Event, str], ...]
"""Events of one append, with the actor of each."""


def facts(records: int, seed: int = 1) -> Iterator[Fact]:
    """Return that many events, in order of time."""
    chance = Random(seed)
    pace = DAYS * 86400 / records
    at, task_id, system, made = BEGIN, 0, 0, 0
    lives: list[tuple[float, int, Iterator[_Step], list[int]]] = []
    clock = 0.0
    while made < records:
        while len(lives) < AT_ONCE:
            task_id += 1
            heappush(lives, (clock, task_id, _life(chance, task_id), [0, 0]))
        clock, one, life, state = heappop(lives)
        step = next(life, None)
        if step is None:
            continue
        at += timedelta(microseconds=round(chance.expovariate(1.0) * pace * 1e6))
        for event, actor in step:
            made += 1
            if isinstance(event, DeliveryAttempted):
                system += 1
                yield Fact(0, system, event, at, actor)
            else:
                state[0] += 1
                state[1] += isinstance(event, Started)
                command = f"{chance.getrandbits(128):032x}" if isinstance(event, Created) else ""
                origin = f"command:{command}" if command else f"event:{max(1, made - chance.randrange(1, 60))}"
                yield Fact(one, state[0], event, at, actor, "", command, "", origin, state[1], 1)
        heappush(lives, (clock + chance.expovariate(1.0), one, life, state))


def _life(chance: Random, task_id: int) -> Iterator[_Step]:
    kind, user = chance.choice(_TYPES), chance.randrange(1, 200)
    name = f"{chance.choice(_WORDS)}-{chance.choice(_WORDS)}-{chance.randrange(10_000):04d}"
    folder = f"/srv/media/users/{user:04d}"
    output = f"{folder}/out/{name}.mp4"
    created = Created(
        type=kind,
        input_file=f"{folder}/in/{name}.mov",
        output_file=output,
        options={"height": chance.choice((480, 720, 1080)), "codec": "h264"},
        user_id=user,
        estimated_time=round(chance.uniform(1, 400), 3),
        estimated_memory=chance.choice((67_108_864, 268_435_456)),
        document_id=task_id % 1000,
    )
    yield ((created, "web"),)
    for fails in (True, False) if chance.random() < _FAILS else (False,):
        waited = round(chance.uniform(0, 3), 3)
        terms = PriorityTerms(base=5, wait=waited)
        started = Started(worker=f"w{chance.randrange(16)}", effective_priority=5 + waited, terms=terms)
        yield ((started, "scheduler"),)
        for step in range(chance.randrange(1, 6)):
            done = round(100 * (step + chance.random()) / 6, 1)
            yield ((Progressed(progress=done, message=f"frame {int(done * 60)} of 6000"), "worker"),)
            if kind == "video_convert":
                data = {"segment": step, "sha256": f"{chance.getrandbits(256):064x}"}
                saved = Checkpoint(processed_frames=int(done * 60), data=data)
                yield ((Checkpointed(checkpoint=saved, progress=done), "worker"),)
        if fails:
            error = f"cannot reach the storage: timeout after {chance.randrange(5, 60)} s"
            failed = Failed(outcome="failed", error=error, error_type="OSError", final=False)
            yield ((failed, "worker"), (Retried(cause="rule"), "scheduler"))
    result = {
        "output": output,
        "sha256": f"{chance.getrandbits(256):064x}",
        "size": chance.randrange(10**5, 10**8),
        "width": 1280,
        "height": 720,
    }
    completed = Completed(
        result=result,
        message="converted",
        memory_used=chance.randrange(10**7, 10**9),
        cpu_used=round(chance.uniform(0, 400), 6),
        time_used=round(chance.uniform(0, 400), 3),
    )
    yield ((completed, "worker"),)
    if task_id % 4 == 0:
        told = DeliveryAttempted(
            notice_id=f"{task_id}:9:webhook",
            task_id=task_id,
            channel="webhook",
            target="https://example.org/hook",
            ok=True,
        )
        yield ((told, "notifier"),)


def write_log(path: Path, records: int, kind: type[SqliteEventLog] = SqliteEventLog) -> None:
    """Write a log of such a month, with answers to its commands."""
    log = kind(path, now=BEGIN)
    begin = ServiceStarted(version="0", epoch=1, pid=1, host="here")
    position = len(log.append([Fact(0, 1, begin, BEGIN)], expected=0))
    of_month = facts(records)
    while batch := list(islice(of_month, 200)):
        batch = [fact if fact.task_id else replace(fact, version=fact.version + 1) for fact in batch]
        answers = [
            Answer(fact.command_id, b"0" * 32, fact.task_id, place)
            for place, fact in enumerate(batch, position + 1)
            if fact.command_id
        ]
        position = log.append(batch, answers, expected=position)[-1].position
    log.close()
