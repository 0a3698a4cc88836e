"""Starting a keeper with its worker, and the pipes to both."""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from ...handlers.process import keeper
from .orphans import MARK

_PASSED = frozenset(("PATH", "HOME", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "LD_LIBRARY_PATH", "SSL_CERT_FILE"))
"""Variables of the service that a worker sees, beside PYTHON* and LC_*. Secrets of the service are not among them."""


class LaunchSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What all workers of an executor have in common."""

    lock: int | None
    """Descriptor that keepers hold until their tree is gone."""
    family: str
    """Beginning of every worker's mark."""
    environment: dict[str, str]
    """The worker's whole environment but for its mark."""
    nice: int = 0
    alone: bool = False
    """Whether each worker is to have a PID namespace of its own, where the system allows it."""
    keeps_output: bool = False
    """Whether the worker keeps what each attempt prints; else the keeper reads it, for the last words."""


class Launched(msgspec.Struct, frozen=True, kw_only=True):
    """A keeper with its worker, as the service holds them."""

    keeper: "subprocess.Popen[bytes]"
    mark: str
    job: int
    control: int
    report: int
    lifeline: int
    status: int


def worker_environment(pythonpath: Iterable[str], passed: Iterable[str], source: Mapping[str, str]) -> dict[str, str]:
    """The allow-listed part of `source`, with `pythonpath` in front of PYTHONPATH.

    What is relative in PYTHONPATH counts from the service's folder; workers run in another one.
    """
    names = _PASSED | set(passed)
    environment = {name: value for name, value in source.items() if name in names or name.startswith(("PYTHON", "LC_"))}
    inherited = environment.get("PYTHONPATH", "")
    path = [*pythonpath, *(str(Path(entry).absolute()) for entry in inherited.split(os.pathsep) if entry)]
    if path:
        environment["PYTHONPATH"] = os.pathsep.join(path)
    # glibc keeps an arena for each thread otherwise, and media libraries have many threads.
    environment["MALLOC_ARENA_MAX"] = "2"
    # It also raises by itself the size from which a block goes back to the system when it is freed, to 32 MB: a worker
    # then holds up to 40 MB of a picture that is long done, and the next attempt would be charged for it.
    environment["MALLOC_MMAP_THRESHOLD_"] = str(16 * 1024 * 1024)
    return environment


def launch(settings: LaunchSettings) -> Launched:
    """Start a keeper, which starts a worker. Both by exec: a fork would copy locks that other threads hold."""
    mark = f"{settings.family}{secrets.token_hex(8)}"
    job_end, job = os.pipe()
    control_end, control = os.pipe()
    report, report_end = os.pipe()
    lifeline_end, lifeline = os.pipe()
    status, status_end = os.pipe()
    lock = () if settings.lock is None else (settings.lock,)
    theirs = (job_end, control_end, report_end, lifeline_end, status_end)
    try:
        process = subprocess.Popen(
            _keeper_command(settings, lifeline_end, status_end, (job_end, control_end, report_end), lock),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={**settings.environment, MARK: mark},
            pass_fds=(*theirs, *lock),
            start_new_session=True,
        )
    except OSError:
        for fd in (job, control, report, lifeline, status):
            os.close(fd)
        raise
    finally:
        for fd in theirs:
            os.close(fd)
    return Launched(
        keeper=process, mark=mark, job=job, control=control, report=report, lifeline=lifeline, status=status
    )


def _keeper_command(
    settings: LaunchSettings, lifeline: int, status: int, pipes: tuple[int, int, int], lock: tuple[int, ...]
) -> list[str]:
    script = str(Path(keeper.__file__).resolve())
    numbers = [str(number) for number in pipes]
    return [
        *(sys.executable, "-I", "-S", script),
        *(str(number) for number in (os.getpid(), lifeline, status, settings.nice)),
        *(str(int(switch)) for switch in (settings.alone, settings.keeps_output)),
        *(",".join(numbers), ",".join(map(str, lock))),
        *(sys.executable, "-P", "-m", "tasktrail.handlers.process.worker", keeper.KEEPER_PID, *numbers, keeper.OUTPUT),
    ]
