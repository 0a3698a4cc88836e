"""Where the command `tasktrail`, also `python -m tasktrail`, begins."""

import os
import signal
import sys
from contextlib import suppress
from types import FrameType

_INTERRUPTED = 130
_SOON = 0.01
"""Seconds after which a signal that fell into a callback comes again."""


def main() -> None:
    """Run the command line and leave with its exit code, or by the signal that has ended it."""
    _open_what_is_closed()
    came = _heed_like_ctrl_c()
    _repeat_what_is_dropped(came)
    try:
        from .cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # the command is still being loaded; later ones are caught in `run`
        code = _INTERRUPTED
    if came and code == _INTERRUPTED:
        _die_of(came[0])
    try:
        sys.stderr.flush()
    except OSError:  # nobody can be told; Python would try again at its end, and leave with 120 instead
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    sys.exit(code)


def _heed_like_ctrl_c() -> list[int]:
    """A kill and a terminal that is closed end a command in good order: else half a backup would stay for ever.

    What has come stands in the list.
    """
    came: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, end)
    return came


def _repeat_what_is_dropped(came: list[int]) -> None:
    """Python drops what is raised in `__del__` or in a callback of a weak reference, and every import has such ones.

    A service that starts would go on, and never hear that it was to stop.
    """
    before = sys.unraisablehook

    def unraisable(args: "sys.UnraisableHookArgs") -> None:
        if args.exc_type is KeyboardInterrupt:
            signal.setitimer(signal.ITIMER_REAL, _SOON)  # not at once: here it would be dropped, too
        else:
            before(args)

    signal.signal(signal.SIGALRM, lambda _number, _frame: signal.raise_signal(came[-1] if came else signal.SIGINT))
    sys.unraisablehook = unraisable


def _die_of(number: int) -> None:
    """Let whoever has sent it see that it was obeyed: systemd takes an exit code for a failure."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)


def _open_what_is_closed() -> None:
    """Lead standard streams that are closed (`2>&-`) nowhere. Else the next file that is opened gets their number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nowhere = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - open until the end
            os.set_inheritable(nowhere.fileno(), True)
            setattr(sys, name, nowhere)


if __name__ == "__main__":
    main()
