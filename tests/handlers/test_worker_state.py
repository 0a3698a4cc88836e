"""Each attempt finds its worker as the first one did."""

import gc
import locale
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tasktrail.handlers.process.worker_state import Baseline


@pytest.fixture
def baseline() -> Iterator[Baseline]:
    """The baseline of this process, which the test restores itself where the baseline fails to."""
    folder, mask, path = Path.cwd(), os.umask(0o022), list(sys.path)
    os.umask(mask)
    environment, recursion = dict(os.environ), sys.getrecursionlimit()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGALRM)}
    limit, place = resource.getrlimit(resource.RLIMIT_NOFILE), locale.setlocale(locale.LC_ALL)
    gc.collect()  # an open file of an earlier test would free a number that was seen before
    yield Baseline()
    os.chdir(folder)
    os.umask(mask)
    sys.path[:] = path
    sys.setrecursionlimit(recursion)
    os.environ.clear()
    os.environ.update(environment)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())
    for number, handler in handlers.items():
        signal.signal(number, handler)
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    locale.setlocale(locale.LC_ALL, place)
    gc.enable()


def current_mask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def signals_blocked() -> set[int]:
    return {int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())}


CHANGES: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "umask": (lambda: os.umask(0o777), current_mask),
    "path": (lambda: sys.path.insert(0, "/planted"), lambda: list(sys.path)),
    "recursion limit": (lambda: sys.setrecursionlimit(400), sys.getrecursionlimit),
    "new variable": (lambda: os.environ.update(PLANTED="1"), lambda: os.environ.get("PLANTED")),
    "removed variable": (lambda: os.environ.pop("PATH"), lambda: os.environ.get("PATH")),
    "signal handler": (lambda: signal.signal(signal.SIGUSR1, signal.SIG_IGN), lambda: signal.getsignal(signal.SIGUSR1)),
    "signal mask": (lambda: signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM}), signals_blocked),
    "soft limit": (
        lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (64, resource.getrlimit(resource.RLIMIT_NOFILE)[1])),
        lambda: resource.getrlimit(resource.RLIMIT_NOFILE),
    ),
    "locale": (
        lambda: locale.setlocale(locale.LC_ALL, "C" if locale.setlocale(locale.LC_ALL) != "C" else "C.UTF-8"),
        lambda: locale.setlocale(locale.LC_ALL),
    ),
    "collector": (gc.disable, gc.isenabled),
}


@pytest.mark.parametrize("name", CHANGES)
def test_what_an_attempt_changes_is_put_back(baseline: Baseline, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Services that other tests share open files meanwhile, in this same process.
    monkeypatch.setattr("tasktrail.handlers.process.worker_state._open_files", frozenset)
    change, look = CHANGES[name]
    before = look()
    baseline.enter("/")

    change()
    assert look() != before, "or this shows nothing"
    why = baseline.restore()

    assert (look(), why) == (before, "")


def test_an_attempt_begins_in_its_own_folder_and_the_next_does_not(baseline: Baseline, tmp_path: Path) -> None:
    baseline.enter(str(tmp_path))
    assert (Path.cwd(), os.environ["TMPDIR"]) == (tmp_path, str(tmp_path))

    baseline.restore()
    assert Path.cwd() == Path("/")

    baseline.enter(str(tmp_path / "not there"))
    assert Path.cwd() == Path("/")


@pytest.mark.parametrize(
    ("change", "look", "told"),
    [
        ("resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))", "''", "a hard limit was changed "),
        ("kept = open('/dev/null')", "clean.restore() and kept.close() or clean.restore()", "it left a file open "),
        ("signal.setitimer(signal.ITIMER_REAL, 1000)", "signal.getitimer(signal.ITIMER_REAL)[0]", " 0.0"),
    ],
)
def test_what_cannot_be_shown_in_this_process_is_tried_in_another(change: str, look: str, told: str) -> None:
    script = (
        "import resource, signal; from tasktrail.handlers.process.worker_state import Baseline\n"
        f"clean = Baseline(); clean.enter('/'); {change}\n"
        f"print(clean.restore(), {look})"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == f"{told}\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_right_after_the_fork_is_not_lost(number: signal.Signals) -> None:
    """`multiprocessing` then waited for ever for a process that it had started and terminated."""
    script = (
        "import os, signal\n"
        "from tasktrail.handlers.process.worker_state import let_forks_die, survive_signals\n"
        f"os.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), {int(number)}))\n"  # runs before ours
        "survive_signals(); let_forks_die()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
        "if not (pid := os.fork()): os._exit(0)\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), signal.pthread_sigmask(signal.SIG_BLOCK, ()))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stdout == f"{-number} {{{signal.SIGUSR1!r}}}\n"
