"""Task types that print: a little, without end, garbage, by their children, and after their own end."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import msgspec

from tasktrail.handlers import TaskContext, Unusable, handler

ECHO = "import os, sys; print('a child says hello', flush=True); print('and complains', file=sys.stderr)"
STAY = "import sys, time; print('I stay', flush=True); time.sleep(3600)"


class How(msgspec.Struct, frozen=True, kw_only=True):
    """Options."""

    what: str = "text"
    count: int = 1


@handler("talker", options=How, needs_input=False, needs_output=False, limits=False)
def talker(context: TaskContext[How]) -> dict[str, Any] | None:
    """Print, and fail if asked to."""
    return WAYS[context.options.what](context)


def text(_context: TaskContext[How]) -> None:
    print("out of the handler")
    print("error of the handler", file=sys.stderr)
    subprocess.run([sys.executable, "-c", ECHO], check=True)


def much(context: TaskContext[How]) -> None:
    block = b"0123456789abcde\n" * 4096
    os.write(1, b"the first line\n")
    for _ in range(context.options.count):
        os.write(1, block)
    os.write(1, b"the last line\n")


def garbage(_context: TaskContext[How]) -> None:
    os.write(1, b"\x1b[31mred\x1b[0m \x07bell \xc2\x9b1m \xff\xfe \xe2\x80\xae turned\r\nend\n")


def wait(context: TaskContext[How]) -> None:
    print("before")
    while not context.should_stop():
        threading.Event().wait(0.01)
    print("after")


def fail(_context: TaskContext[How]) -> None:
    print("just before")
    _deep(3)


def judge(_context: TaskContext[How]) -> None:
    try:
        _deep(0)
    except ValueError as error:
        raise Unusable("the input is not for us") from error


def die(_context: TaskContext[How]) -> None:
    print("last words")
    os.abort()


def leave(_context: TaskContext[How]) -> None:
    print("I go")
    subprocess.Popen([sys.executable, "-c", STAY], start_new_session=True)


def home(context: TaskContext[How]) -> dict[str, Any]:
    return {"HOME": os.environ["HOME"], "TMPDIR": os.environ["TMPDIR"], "folder": str(context.work_dir)}


WAYS: dict[str, Callable[[TaskContext[How]], dict[str, Any] | None]] = {
    way.__name__: way for way in (text, much, garbage, wait, fail, judge, die, leave, home)
}


def _deep(level: int) -> None:
    if level:
        _deep(level - 1)
    secret = "local" + "-canary"
    raise ValueError(f"no luck at level {level} after {len(secret)}")
