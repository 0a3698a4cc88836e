"""A program that a task starts, and that says when it lives: `stamping.py FOLDER TASK ATTEMPT SECONDS SHAPE`.

Each of its processes has a file of its own, `TASK-ATTEMPT-PID.stamps`, a line a stamp: a word and the seconds of
CLOCK_MONOTONIC, which all machines of a test share. It begins with `start` and the name of the machine, then `beat`
every 20 ms, and `stop` when it ends by itself. As long as it has code to run it holds a lock, and at its start it looks
whether a process of another attempt of its task holds one. Then it adds `overlap`, with the number of that attempt.

Shapes: `plain`, `session` (in a session of its own), `family` (that, and one more that it starts in another session).
"""

import fcntl
import os
import struct
import subprocess
import sys
import time

BEAT = 0.02
"""Seconds."""
_DYING = 0.25
"""Seconds that the kernel may take to forget the locks of a process that runs no code any more."""
_FLOCK = "hhqqi4x"


def main() -> None:
    folder, task, attempt, seconds, shape = sys.argv[1:]
    begun = time.monotonic()
    mine = os.open(f"{folder}/{task}-{attempt}.alive", os.O_RDWR | os.O_CREAT)
    fcntl.lockf(mine, fcntl.LOCK_SH)
    stamps = os.open(f"{folder}/{task}-{attempt}-{os.getpid()}.stamps", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def stamp(word: str, at: float, more: str = "") -> None:
        os.write(stamps, f"{word} {at:.6f} {more}\n".encode())

    stamp("start", begun, os.uname().nodename)
    others = [name for name in os.listdir(folder) if name.startswith(f"{task}-") and name.endswith(".alive")]  # noqa: PTH208 - starts fast
    for other in sorted(set(others) - {f"{task}-{attempt}.alive"}):
        if lives(f"{folder}/{other}"):
            stamp("overlap", time.monotonic(), other.removesuffix(".alive").partition("-")[2])
    more = None
    if shape == "family":
        command = [sys.executable, "-S", "-I", *sys.argv[:5], "session"]
        more = subprocess.Popen(command, start_new_session=True)
    while (now := time.monotonic()) < begun + float(seconds):
        stamp("beat", now)
        time.sleep(BEAT)
    if more is not None:
        more.wait()
    stamp("stop", time.monotonic())


def lives(path: str) -> bool:
    """Whether a process holds its lock, and not only because it is dying."""
    until = time.monotonic() + _DYING
    while time.monotonic() < until:
        fd = os.open(path, os.O_RDWR)
        wish = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        found = struct.unpack(_FLOCK, fcntl.fcntl(fd, fcntl.F_GETLK, wish))  # asks, and takes nothing
        os.close(fd)
        if found[0] == fcntl.F_UNLCK:
            return False
        time.sleep(0.005)
    return True


if __name__ == "__main__":
    main()
